"""Which value of the trace each living tensor is; values are stored once, before they can be overwritten."""

from __future__ import annotations

import weakref
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

import numpy as np
import torch

from porting_check.neutral.trace import Sink, parameter_key
from porting_check_torch.arrays import dtype_name, shape_of, to_array
from porting_check_torch.describe.draft import SMALL, Ref


class Entry:
    """A living tensor: its key in the trace, its version when that was last true, its small fixed value.

    ``pending``: writes into its memory through other tensors since its key was given.
    """

    __slots__ = ("fixed", "key", "pending", "reference", "storage", "stored", "version")

    def __init__(self, reference: Any, key: str, version: int, storage: int, stored: bool) -> None:
        self.reference = reference
        self.key = key
        self.version = version
        self.storage = storage
        self.stored = stored
        self.fixed: Optional[np.ndarray] = None
        self.pending: List[Write] = []


class Write(NamedTuple):
    """A tensor that was written to: the value it then had, where (modules, line) and by what function."""

    written: Ref
    path: str
    location: str
    function: str


def version_of(tensor: torch.Tensor) -> int:
    """How often a tensor was written to; 0 for inference tensors, which do not count."""
    try:
        return int(tensor._version)
    except RuntimeError:
        return 0


def storage_of(tensor: torch.Tensor) -> int:
    """The address of a tensor's memory; 0 where it has none of its own (sparse, empty)."""
    try:
        storage = tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor.storage()
        return int(storage.data_ptr())
    except (RuntimeError, NotImplementedError):
        return 0


class Values:
    """The table of living tensors.

    Args:
        sink: where arrays go.
        parameters: the model's parameters and buffers by name; they are stored when first used.
        settle: records the pending writes of a tensor, when it is used again; it ends with :meth:`make`.
    """

    def __init__(
        self,
        sink: Sink,
        parameters: Mapping[str, torch.Tensor],
        settle: Callable[[torch.Tensor, Entry], None],
    ) -> None:
        self._sink = sink
        self._settle = settle
        self._entries: Dict[int, Entry] = {}
        self._sharing: Dict[int, List[int]] = {}
        self._constants = 0
        self.notes: List[str] = []
        for name, tensor in parameters.items():
            self._enter(tensor, parameter_key(name), stored=False)

    def _enter(self, tensor: torch.Tensor, key: str, stored: bool) -> Entry:
        identity, storage = id(tensor), storage_of(tensor)
        reference = weakref.ref(tensor, self._forgetter(identity, storage))
        entry = Entry(reference, key, version_of(tensor), storage, stored)
        self._entries[identity] = entry
        sharing = self._sharing.setdefault(storage, [])
        if identity not in sharing:
            sharing.append(identity)
        return entry

    def _forgetter(self, identity: int, storage: int) -> Callable[[Any], None]:
        def forget(reference: Any) -> None:
            entry = self._entries.get(identity)
            if entry is not None and entry.reference is reference:
                del self._entries[identity]
                sharing = self._sharing.get(storage, [])
                if identity in sharing:
                    sharing.remove(identity)
                    if not sharing:
                        del self._sharing[storage]

        return forget

    def find(self, tensor: torch.Tensor) -> Optional[Entry]:
        """The entry of a tensor that is known and unchanged since."""
        entry = self._entries.get(id(tensor))
        if entry is None or entry.reference() is not tensor:
            return None
        if entry.version != version_of(tensor):
            self.notes.append(
                f"{entry.key} was changed by something that was not observed; it goes on as a constant"
            )
            return None
        if entry.pending:
            self._settle(tensor, entry)
            return self._entries[id(tensor)]
        return entry

    def entry(self, tensor: torch.Tensor) -> Entry:
        """The entry of a tensor; one that nothing recorded has made is a constant."""
        found = self.find(tensor)
        if found is None:
            found = self._enter(tensor, f"constant:{self._constants}", stored=False)
            self._constants += 1
            if tensor.numel() <= SMALL and tensor.layout == torch.strided:
                found.fixed = to_array(tensor)
        return found

    def ref(self, tensor: torch.Tensor, snapshot: bool) -> Ref:
        """A tensor as an argument, its value stored now, before the call can write over it.

        Small fixed tensors mostly become constants of a record and wait, unless ``snapshot`` says that the
        call writes.
        """
        entry = self.entry(tensor)
        if snapshot or entry.fixed is None:
            self.store(tensor, entry)
        return Ref(tensor, entry.key, shape_of(tensor), tensor.dtype, entry.fixed)

    def store(self, tensor: torch.Tensor, entry: Entry) -> None:
        """Hand the value to the sink, once."""
        if not entry.stored:
            entry.stored = True
            array = to_array(tensor) if entry.fixed is None else entry.fixed
            found, kept = dtype_name(tensor.dtype), dtype_name(array.dtype)
            if found != kept:
                self.notes.append(f"values of dtype {found} are recorded as {kept}")
            self._sink.value(entry.key, array)

    def use(self, ref: Ref) -> None:
        """Store an argument that a record reads."""
        entry = self._entries.get(id(ref.tensor))
        if entry is not None and entry.key == ref.key:
            self.store(ref.tensor, entry)

    def make(self, tensor: torch.Tensor, key: str) -> Ref:
        """A tensor that now holds a new value: the output of a record, or an argument that was written to."""
        self._drop(tensor)
        self.store(tensor, self._enter(tensor, key, stored=False))
        return Ref(tensor, key, shape_of(tensor), tensor.dtype)

    def same(self, tensor: torch.Tensor, source: torch.Tensor) -> None:
        """Another tensor of the same value: it goes under the same key."""
        origin = self.entry(source)
        if tensor is not source:
            self.store(source, origin)
            entry = self._enter(tensor, origin.key, stored=True)
            entry.fixed = origin.fixed

    def _drop(self, tensor: torch.Tensor) -> None:
        entry = self._entries.pop(id(tensor), None)
        if entry is not None and id(tensor) in self._sharing.get(entry.storage, []):
            self._sharing[entry.storage].remove(id(tensor))

    def sharing(self, tensor: torch.Tensor) -> List[torch.Tensor]:
        """Other living tensors that are known and lie in the same memory."""
        found = []
        for identity in list(self._sharing.get(storage_of(tensor), [])):
            entry = self._entries.get(identity)
            other = None if entry is None else entry.reference()
            if other is not None and other is not tensor:
                if hasattr(other, "_fix_weakref"):  # it may have been held by C++ alone
                    other._fix_weakref()
                found.append(other)
        return found

    def written(self, tensor: torch.Tensor, write: Optional[Write]) -> None:
        """Note that a tensor's memory was written to through another; ``None``: beside its own elements."""
        entry = self._entries[id(tensor)]
        entry.version = version_of(tensor)
        if write is None:
            return
        if entry.stored or entry.fixed is not None:
            entry.pending.append(write)
        else:  # never used before, so that its old value is lost
            self.notes.append(f"{entry.key} was changed through another tensor before it was used")
            self._drop(tensor)
