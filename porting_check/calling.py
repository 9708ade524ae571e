"""Calling a computation in its own framework: a model of any kind, or a plain function of arrays.

A function that names or holds no framework is called with numpy arrays, unless the arrays given were another framework's.
No framework is imported here: all goes through adapters.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from porting_check.neutral.adapter import Adapter
from porting_check.neutral.errors import FrameworkMissing, InputError, PortingError, RunError, Unsupported
from porting_check.recorder import registry
from porting_check.recorder.sources import open_model

Array = np.ndarray
Arrays = Mapping[str, Array]

PARAMETER = "parameter:"
_PLAIN = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    functools.partial,
    np.ufunc,
)


@dataclass(frozen=True)
class Computation:
    """Something that turns arrays into arrays.

    Attributes:
        name: what the user would call it.
        framework: ``torch``, ``jax``, …; ``numpy`` for plain functions.
        model: what is called.
        adapter: of the framework; ``None`` for numpy.
    """

    name: str
    framework: str
    model: Any
    adapter: Adapter | None = None

    def outputs(self, inputs: Arrays, *, float64: bool = False) -> dict[str, Array]:
        """Outputs by path.

        Args:
            inputs: by name; ``"0"``, ``"1"``, … are positional.
            float64: compute in float64, parameters too.

        Raises:
            RunError: it raised.
            Unsupported: it cannot be computed in float64; the message says why.
        """
        if self.adapter is None:
            return _numpy_outputs(self.model, _wide(inputs) if float64 else inputs)
        if not float64:
            return self.adapter.predict(self.model, inputs)
        try:
            return self.adapter.float64_outputs(self.model, inputs)
        except Unsupported:
            if not isinstance(self.model, _PLAIN) or self.parameters():
                raise
        made = self.adapter.predict(self.model, _wide(inputs))
        narrow = [
            path for path, array in made.items() if array.dtype.kind == "f" and array.dtype.itemsize < 8
        ]
        if narrow:
            raise Unsupported(
                f"{self.framework} computed {made[narrow[0]].dtype} from float64 arrays; float64 may have to be enabled "
                "in the framework first"
            )
        return made

    def gradients(self, inputs: Arrays, cotangents: Arrays, *, float64: bool = False) -> dict[str, Array]:
        """Gradients by operand: inputs by name, parameters as ``parameter:<name>``.

        Raises:
            Unsupported: it cannot be differentiated.
            RunError: it raised.
        """
        if self.adapter is None:
            raise Unsupported("a function of numpy arrays cannot be differentiated; write it in a framework")
        found = self.adapter.gradients(self.model, inputs, cotangents, float64=float64)
        chosen = {name: found[f"input:{name}"] for name in inputs if f"input:{name}" in found}
        chosen.update({key: array for key, array in found.items() if key.startswith(PARAMETER)})
        return chosen

    def parameters(self) -> dict[str, Array]:
        """Floating-point parameters as operands; none for plain functions and where they cannot be read."""
        if self.adapter is None:
            return {}
        try:
            found = self.adapter.parameters(self.model)
        except PortingError:
            return {}
        return {PARAMETER + name: array for name, array in found.items() if array.dtype == np.float32}

    @contextmanager
    def replaceable(
        self, run: Callable[[Arrays], Array] | None = None
    ) -> Iterator[Callable[[Arrays], Array]]:
        """A function of operands (inputs and parameters by name); parameters are restored after.

        Args:
            run: what to do with the inputs once the parameters are in place; the first output when left out.

        Example:
            >>> with computation.replaceable() as call:       # doctest: +SKIP
            ...     call({"0": x, "parameter:weight": masks})
        """
        before = self.parameters()
        current = dict(before)

        def first_output(inputs: Arrays) -> Array:
            return next(iter(self.outputs(inputs).values()))

        def call(operands: Arrays) -> Array:
            self._assign(operands, current)
            inputs = {name: array for name, array in operands.items() if not name.startswith(PARAMETER)}
            return (run or first_output)(inputs)

        try:
            yield call
        finally:
            self._assign(before, current)

    def _assign(self, operands: Arrays, current: dict[str, Array]) -> None:
        """Write the parameters that are not there yet."""
        changed = {
            name: operands[name]
            for name in current
            if name in operands and operands[name] is not current[name]
        }
        if changed and self.adapter is not None:
            self.adapter.assign(self.model, {k[len(PARAMETER) :]: v for k, v in changed.items()})
            current.update(changed)


class Called:
    """A plain function as an object with a method ``__call__``, which is what TensorFlow's adapter traces."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arrays: Any) -> Any:
        """The function's result."""
        return self.function(*arrays)


def computation(
    model: Any, arrays: tuple[Any, ...] = (), *, framework: str = "", device: str = ""
) -> Computation:
    """Find out how something is called.

    Args:
        model: a model of any framework, a path, or a function.
        arrays: what it will be given; a function that names no framework is of theirs.
        framework: says so outright.
        device: where it runs, for torch: ``"cuda"``.

    Raises:
        FrameworkMissing: nothing owns it, or it could belong to several.
        Unsupported: this framework's computations cannot be moved to a device here.

    Example:
        >>> computation(np.matmul).framework
        'numpy'
    """
    if isinstance(model, (str, Path)):
        opened, adapter = open_model(str(model))
        return _placed(Computation(Path(model).name, adapter.framework, opened, adapter), device)
    chosen = framework or _framework(model, arrays)
    if chosen == "numpy":
        if not callable(model):
            raise InputError(
                f"expected a function or a model, found an object of type {type(model).__name__}"
            )
        return _placed(Computation(_name(model), "numpy", model), device)
    found = registry.load_adapter(chosen) if chosen else registry.adapter_for(model)
    plain = isinstance(model, _PLAIN) and found.framework == "tensorflow"
    return _placed(
        Computation(_name(model), found.framework, Called(model) if plain else model, found), device
    )


def _framework(model: Any, arrays: tuple[Any, ...]) -> str:
    """The framework of a plain function; "" for what an adapter owns by its class.

    Raises:
        FrameworkMissing: a function that names several frameworks.
    """
    roots = {_top(kind.__module__) for kind in type(model).__mro__}
    known = set(registry.installed())
    if not isinstance(model, _PLAIN) and (roots & known or not callable(model) or isinstance(model, tuple)):
        return ""
    if not isinstance(model, _PLAIN) and type(model).__module__.split(".")[0] in registry.MAKERS:
        return ""
    named = sorted(set(mentioned(model)) & known)
    if len(named) > 1:
        raise FrameworkMissing(
            f"{_name(model)} mentions {' and '.join(named)}: say which one calls it, as frameworks=({named[0]!r}, …)"
        )
    given = sorted({_top(type(array).__module__) for array in arrays} & known)
    return named[0] if named else given[0] if len(given) == 1 else "numpy"


def mentioned(function: Any) -> list[str]:
    """Frameworks that a function names or holds, also in the functions that it calls.

    Example:
        >>> "numpy" in mentioned(lambda x: np.sum(x))
        True
    """
    found: list[str] = []
    waiting, seen = [function], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        found += registry.mentioned(item)
        owner = getattr(item, "__self__", None)
        if owner is not None and not isinstance(owner, types.ModuleType):
            kind = owner if isinstance(owner, type) else type(owner)
            found += [_top(part.__module__) for part in kind.__mro__]
        scope = getattr(item, "__globals__", {})
        held = [scope[name] for code in _codes(item) for name in code.co_names if name in scope]
        found += [name for value in held for name in registry.origin(value)]
        waiting += [value for value in held if isinstance(value, types.FunctionType) and not _library(value)]
        waiting += [cell.cell_contents for cell in getattr(item, "__closure__", None) or () if _filled(cell)]
    return list(dict.fromkeys(found))


def _codes(item: Any) -> Iterator[types.CodeType]:
    """A function's code, and that of the functions and comprehensions written inside it."""
    waiting = [getattr(item, "__code__", None)]
    while waiting:
        code = waiting.pop()
        if isinstance(code, types.CodeType):
            yield code
            waiting += [const for const in code.co_consts if isinstance(const, types.CodeType)]


def _filled(cell: Any) -> bool:
    try:
        return isinstance(cell.cell_contents, types.FunctionType)
    except ValueError:
        return False


def _library(function: Any) -> bool:
    """Whether a function is a library's, whose own globals say nothing about the caller."""
    return _top(function.__module__ or "") in {"numpy", "scipy", *registry.installed(), *registry.PARTS}


def _top(module: str) -> str:
    top = str(module).split(".")[0]
    return registry.PARTS.get(top, top)


def _name(model: Any) -> str:
    if isinstance(model, tuple) and model:
        return _name(model[0])
    if isinstance(model, functools.partial):
        return _name(model.func)
    own = getattr(model, "__qualname__", None) or getattr(model, "__name__", None)
    return str(own).rpartition("<locals>.")[2] if isinstance(own, str) else type(model).__name__


def _wide(inputs: Arrays) -> dict[str, Array]:
    return {name: a.astype(np.float64) if a.dtype.kind == "f" else a for name, a in inputs.items()}


def _numpy_outputs(function: Callable[..., Any], inputs: Arrays) -> dict[str, Array]:
    """Call a plain function with arrays of its own."""
    positional = [inputs[name].copy() for name in sorted((n for n in inputs if n.isdigit()), key=int)]
    keywords = {name: array.copy() for name, array in inputs.items() if not name.isdigit()}
    try:
        made = function(*positional, **keywords)
    except PortingError:
        raise
    except Exception as error:  # the user's function raises anything at all
        shapes = ", ".join(f"{name}: {array.dtype}{array.shape}" for name, array in inputs.items())
        raise RunError(
            f"{_name(function)} raised {type(error).__name__}: {error} (called with {shapes})"
        ) from error
    parts = made if isinstance(made, (tuple, list)) else [made]
    items = made.items() if isinstance(made, Mapping) else enumerate(parts)
    return {str(path): _numbers(function, value) for path, value in items}


def _numbers(function: Callable[..., Any], value: Any) -> Array:
    """An owned array of what a function returned."""
    array = np.array(value)
    if array.dtype.kind not in "fiubc":
        raise RunError(f"{_name(function)} returned a {type(value).__name__}; expected arrays of numbers")
    return array


def _placed(made: Computation, device: str) -> Computation:
    """The computation on another device. Torch only: its tensors and modules are moved with their own ``to``.

    Raises:
        Unsupported: another framework.
    """
    if not device or device == "cpu":
        return made
    if made.framework != "torch":
        raise Unsupported(
            f"device={device!r}: {made.framework} chooses its device itself; set it in the framework (found "
            f"{made.name})"
        )
    if hasattr(made.model, "to") and hasattr(made.model, "state_dict"):
        try:
            moved = copy.deepcopy(made.model).to(device)
        except (
            Exception
        ) as error:  # torch raises AssertionError or RuntimeError where there is no such device
            raise Unsupported(f"device={device!r} is not available to torch here: {_line(error)}") from error
        return Computation(f"{made.name} on {device}", made.framework, moved, made.adapter)
    return Computation(f"{made.name} on {device}", made.framework, _moving(made.model, device), made.adapter)


def _moving(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """A function whose tensors are moved to a device before it is called."""

    @functools.wraps(function)
    def moved(*tensors: Any) -> Any:
        try:
            there = [tensor.to(device) for tensor in tensors]
        except Exception as error:
            raise Unsupported(f"device={device!r} is not available to torch here: {_line(error)}") from error
        return function(*there)

    return moved


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
