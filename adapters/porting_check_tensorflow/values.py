"""Keys of tensors by identity, and each value handed to the sink once."""

from __future__ import annotations

import weakref
from typing import Any, Dict, Optional, Set, Tuple

import numpy as np

from porting_check.neutral.trace import Sink, parameter_key
from porting_check_tensorflow.trees import array_of, is_numeric, is_tensor
from porting_check_tensorflow.weights import distinct, handle_of, short_name, variables_by_name


class Values:
    """Which value a tensor is. Tensors are not kept alive: a key is forgotten with its tensor.

    Args:
        model: whose weights have names.
        sink: where values go.
    """

    def __init__(self, model: Any, sink: Sink) -> None:
        self._model, self._sink = model, sink
        self._keys: Dict[int, Tuple[Any, str]] = {}
        self._parameters: Dict[str, Any] = {}
        self._names: Dict[int, str] = {}
        self._handles: Dict[int, str] = {}
        self._stored: Set[str] = set()
        self._constants = 0
        self._known = -1
        self._written: Dict[str, Optional[Any]] = {}
        self.refresh()
        self._initial = frozenset(self._parameters)

    def refresh(self) -> None:
        """Learn the names of the model's weights: a model that was never run makes them while it runs."""
        count = len(getattr(self._model, "weights", ()))
        if count == self._known:
            return
        self._known = count
        for name, variable in variables_by_name(self._model).items():
            self._learn(name, variable)

    def _learn(self, name: str, variable: Any) -> None:
        if id(variable) not in self._names:
            self._names[id(variable)] = distinct(name, self._parameters)
            self._parameters[self._names[id(variable)]] = variable
        handle = handle_of(variable)
        if handle is not None:
            self._handles[id(handle)] = self._names[id(variable)]

    def bind(self, tensor: Any, key: str) -> None:
        """From now on this tensor is the value ``key``."""
        number = id(tensor)

        def forget(_: Any, number: int = number) -> None:
            self._keys.pop(number, None)

        self._keys[number] = (weakref.ref(tensor, forget), key)

    def find(self, tensor: Any) -> Optional[str]:
        """The key of a tensor that the model's inputs, parameters or records made; ``None`` for others."""
        entry = self._keys.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def make(self, tensor: Any, key: str) -> str:
        """Bind a tensor that was just computed, and store its value."""
        self.bind(tensor, key)
        self.store(key, array_of(tensor))
        return key

    def store(self, key: str, array: np.ndarray) -> None:
        """Hand a value to the sink, the first time."""
        if key not in self._stored:
            self._stored.add(key)
            self._sink.value(key, array)

    def use(self, tensor: Any) -> str:
        """The key of a tensor that is read: known, or a constant of the run that is stored now."""
        key = self.find(tensor)
        if key is None:
            key = f"constant:{self._constants}"
            self._constants += 1
            if is_tensor(tensor):
                self.bind(tensor, key)
        if key not in self._stored:
            variable = self.parameter_of(key)
            self.store(key, array_of(tensor if variable is None else variable))
        return key

    def same(self, tensor: Any, source: Any, op_type: str) -> None:
        """A tensor that an operator only handed on: it goes under the same key.

        Args:
            tensor: what came out.
            source: what went in.
            op_type: the operator.
        """
        self.bind(tensor, self.use(source))

    def variables(self) -> Dict[str, Any]:
        """The variables that have names, by key."""
        return {parameter_key(name): variable for name, variable in self._parameters.items()}

    def variable(self, variable: Any) -> str:
        """The key of a variable's value, stored now."""
        if id(variable) not in self._names:
            self.refresh()
            self._learn(short_name(variable), variable)
        written = self.written(variable)
        if written is not None:
            return self.use(written)
        key = parameter_key(self._names[id(variable)])
        self.store(key, array_of(variable))
        return key

    def write(self, variable: Any, tensor: Optional[Any]) -> None:
        """From now on the variable holds this tensor, ``None`` when nothing tells what.

        A variable that was made during the run is only given its first value.
        """
        name = self._names[id(variable)]
        if name in self._initial:
            self._written[name] = tensor

    def written(self, variable: Any) -> Optional[Any]:
        """What the run wrote into a variable, ``None`` if it did not, or nothing tells what."""
        return self._written.get(self._names.get(id(variable), ""))

    def is_changed(self, variable: Any) -> bool:
        """Whether the run wrote into a variable what nothing tells."""
        name = self._names.get(id(variable), "")
        return name in self._written and self._written[name] is None

    def of_handle(self, handle: Any) -> Optional[Any]:
        """The variable behind a resource tensor, if it is one of the model's."""
        if id(handle) not in self._handles:
            self.refresh()
        name = self._handles.get(id(handle))
        return None if name is None else self._parameters[name]

    def key_of(self, variable: Any) -> str:
        """The key of a variable that the model has, without storing it."""
        return parameter_key(self._names[id(variable)])

    def parameter_of(self, key: str) -> Optional[Any]:
        """The variable whose value has this key, or ``None``."""
        prefix = parameter_key("")
        return self._parameters.get(key[len(prefix) :]) if key.startswith(prefix) else None

    def is_traceable(self, tensor: Any) -> bool:
        """Whether a tensor came from the model's inputs, parameters or records."""
        key = self.find(tensor)
        return key is not None and not key.startswith("constant:") and is_numeric(tensor)
