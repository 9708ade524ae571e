"""Which value of the trace each living array is. JAX arrays never change, so each is stored once, when first used."""

from __future__ import annotations

import functools
import weakref
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from porting_check.neutral.trace import Sink, parameter_key
from porting_check_jax import compat, trees
from porting_check_jax.draft import SMALL, Ref
from porting_check_jax.gradients_tape import Tape

Recall = Callable[[], None]


class Entry:
    """A living array: its key in the trace, its small fixed value.

    ``code``: made from nothing but numbers in the code. ``postponed``: writes the record that made the array, which
    is put off until somebody needs it (see :meth:`Values.postpone`).
    """

    __slots__ = ("code", "fixed", "key", "postponed", "reference", "source", "stored")

    def __init__(self, reference: Any, key: str, stored: bool = False) -> None:
        self.reference = reference
        self.key = key
        self.stored = stored
        self.code = False
        self.fixed: Optional[np.ndarray] = None
        self.postponed: Optional[Recall] = None
        self.source: Optional[Tuple[Any, Ref]] = None


class Values:
    """The table of living arrays.

    Args:
        sink: where arrays go.
        parameters: the model's parameters by name; they are stored when first used.
        tape: is told which array each key stands for.
    """

    def __init__(self, sink: Sink, parameters: Mapping[str, Any], tape: Optional[Tape] = None) -> None:
        self._sink = sink
        self._tape = tape
        self._entries: Dict[int, Entry] = {}
        self._constants = 0
        self.notes: List[str] = []
        for name, array in parameters.items():
            if id(array) not in self._entries:
                self._enter(array, parameter_key(name))

    def _enter(self, array: Any, key: str) -> Entry:
        identity = id(array)
        if self._tape is not None and key:
            self._tape.name(key, array)

        def forget(reference: Any) -> None:
            entry = self._entries.get(identity)
            if entry is not None and entry.reference is reference:
                del self._entries[identity]

        try:
            reference: Callable[[], Any] = weakref.ref(array, forget)
        except TypeError:  # random keys cannot be referred to weakly: they are kept
            reference = functools.partial(_given_back, array)
        entry = self._entries[identity] = Entry(reference, key)
        return entry

    def find(self, array: Any) -> Optional[Entry]:
        """The entry of a known array."""
        entry = self._entries.get(id(array))
        return entry if entry is not None and entry.reference() is array else None

    def entry(self, array: Any) -> Entry:
        """The entry of an array; one that nothing recorded has made is a constant."""
        found = self.find(array)
        if found is None:
            found = self._enter(array, "")
            if int(np.prod(np.shape(array), dtype=np.int64)) <= SMALL and not compat.is_key(array):
                found.fixed = np.array(trees.to_array(array))
                found.code = found.fixed.size == 1
        return found

    def is_code(self, value: Any) -> bool:
        """Whether a value is a number in the code, or made from nothing but such."""
        return not _keeps_identity(value) or self.entry(value).code

    def made_by_code(self, array: Any) -> None:
        """Note that an array was made from nothing but numbers in the code."""
        entry = self.find(array) or self._enter(array, "")
        entry.code = True
        if int(np.prod(np.shape(array), dtype=np.int64)) <= SMALL and not compat.is_key(array):
            entry.fixed = np.array(trees.to_array(array))

    def ref(self, value: Any) -> Ref:
        """An array or number as an argument; a record that was put off is written now."""
        if not _keeps_identity(value):
            array = np.asarray(value, dtype=compat.dtype_of(value))
            return Ref(self._constant(), array.shape, array.dtype, array if array.size <= SMALL else None)
        entry = self.entry(value)
        if entry.postponed is not None:
            recall, entry.postponed = entry.postponed, None
            recall()
            entry = self.entry(value)
        return self._ref(value, entry)

    def _ref(self, value: Any, entry: Entry) -> Ref:
        if not entry.key:
            entry.key = self._constant()
        return Ref(entry.key, tuple(np.shape(value)), compat.dtype_of(value), entry.fixed)

    def _constant(self) -> str:
        self._constants += 1
        return f"constant:{self._constants - 1}"

    def source(self, value: Any) -> Optional[Tuple[Any, Ref]]:
        """What an array is a stretched copy of, while the record that stretches it is put off."""
        entry = self.find(value) if _keeps_identity(value) else None
        return None if entry is None or entry.postponed is None else entry.source

    def postpone(self, array: Any, source: Tuple[Any, Ref], recall: Recall) -> None:
        """Put off the record of an array which operators that stretch by themselves need not know of."""
        entry = self._enter(array, "")
        entry.source, entry.postponed = source, recall

    def weak(self, array: Any) -> Callable[[], Any]:
        """A hold on an array that does not keep it alive, where JAX allows that."""
        try:
            return weakref.ref(array)
        except TypeError:
            return lambda: array

    def use(self, value: Any, ref: Ref) -> None:
        """Store an argument that a record reads."""
        if not _keeps_identity(value):
            self._sink.value(ref.key, np.array(value, dtype=ref.dtype))
            return
        entry = self.entry(value)
        if entry.key == ref.key:
            self.store(value, entry)

    def store(self, value: Any, entry: Entry) -> None:
        """Hand the value to the sink, once."""
        if not entry.stored:
            entry.stored = True
            self._sink.value(entry.key, trees.to_array(value))

    def make(self, array: Any, key: str) -> Ref:
        """An array that is now known as the output of a record, or as an input."""
        entry = self._enter(array, key)
        self.store(array, entry)
        return self._ref(array, entry)

    def same(self, array: Any, source: Any) -> None:
        """Another array of the same value: it goes under the same key."""
        if array is source or not _keeps_identity(array):
            return
        if not _keeps_identity(source):
            self.made_by_code(array)
            return
        ref, origin = self.ref(source), self.entry(source)
        if not origin.code:
            self.store(source, origin)
        entry = self._enter(array, ref.key)
        entry.fixed, entry.code, entry.stored = origin.fixed, origin.code, origin.stored


def _keeps_identity(value: Any) -> bool:
    """Whether a value is an array object that stays itself; numbers and numpy's arrays in equations do not."""
    return trees.is_array(value) and not isinstance(value, (np.generic, np.ndarray))


def _given_back(array: Any) -> Any:
    return array
