"""The modules of flax and equinox: their parts and arrays by path, and how their calls are seen."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from porting_check_jax import trees

Observe = Callable[
    [str, Any, Tuple[Tuple[Any, ...], Dict[str, Any]], Mapping[str, Any], Callable[[], Any]], Any
]
"""Runs a layer: path, module, arguments, its own arrays, the call itself."""


class Slot(NamedTuple):
    """An array of a module, and how it is put there."""

    array: Any
    put: Callable[[Any], None]


def library(name: str) -> Any:
    """A library module when it is loaded, else ``None``: objects of a library that is not loaded cannot exist."""
    return sys.modules.get(name)


def is_linen(value: Any) -> bool:
    """Whether this is a flax linen module."""
    linen = library("flax.linen")
    return linen is not None and isinstance(value, linen.Module)


def is_nnx(value: Any) -> bool:
    """Whether this is a flax nnx module."""
    nnx = library("flax.nnx")
    return nnx is not None and isinstance(value, nnx.Module)


def is_equinox(value: Any) -> bool:
    """Whether this is an equinox module."""
    equinox = library("equinox")
    return equinox is not None and isinstance(value, equinox.Module)


def is_wrapper(value: Any) -> bool:
    """Whether this is what a transform of equinox made of a function (``filter_jit``, ``filter_vmap``)."""
    return (
        is_equinox(value) and type(value).__module__.startswith("equinox._") and hasattr(value, "__wrapped__")
    )


def holds_copy(value: Any) -> bool:
    """Whether ``equinox.filter_jit`` is among what wraps a module: it keeps the arrays apart from the module."""
    for _ in range(8):
        if not is_wrapper(value):
            return False
        if type(value).__name__ == "_JitWrapper":
            return True
        value = value.__wrapped__
    return False


def joined(path: Any) -> str:
    """A path as text.

    Example:
        >>> joined(("layers", 0, "kernel"))
        'layers/0/kernel'
    """
    return "/".join(map(str, path))


# flax linen.


def linen_arrays(variables: Mapping[str, Any]) -> Dict[str, Tuple[str, Tuple[str, ...]]]:
    """Names of the leaves of flax variables, and where each is: collection and path.

    A name is the path inside the collection (``"Conv_0/kernel"``); where two collections hold the same path, the
    name begins with the collection.

    Example:
        >>> import numpy as np
        >>> sorted(linen_arrays({"params": {"d": {"kernel": np.ones(1)}}, "batch_stats": {"d": {"mean": np.ones(1)}}}))
        ['d/kernel', 'd/mean']
    """
    found: Dict[str, List[Tuple[str, Tuple[str, ...]]]] = {}
    for collection, tree in variables.items():
        for name in trees.leaves_by_path(tree):
            found.setdefault(name, []).append((str(collection), tuple(name.split("/"))))
    return {
        name if len(places) == 1 else f"{collection}/{name}": (collection, path)
        for name, places in found.items()
        for collection, path in places
    }


def linen_own(module: Any) -> Dict[str, Any]:
    """The arrays of one linen layer by its own names; those of a module that it was given (a cell) below the field."""
    found: Dict[str, Any] = {}
    for tree in module.variables.values():
        for name, array in trees.leaves_by_path(tree).items():
            found.setdefault(name, array)
    for item in dataclasses.fields(module):
        part: Any = getattr(module, item.name, None)
        if item.name != "parent" and is_linen(part) and part.scope is not None:
            for name, array in linen_own(part).items():
                found.setdefault(f"{item.name}/{name}", array)
    return found


class LinenAlone(NamedTuple):
    """A linen layer without its parent, and its variables."""

    module: Any
    variables: Any


@contextlib.contextmanager
def observing_linen(observe: Observe) -> Iterator[None]:
    """Report every call of a linen module inside."""
    linen = library("flax.linen")
    if linen is None:
        yield
        return

    def intercept(following: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module, method = context.module, context.method_name
        if method == "setup" or module.scope is None:
            return following(*args, **kwargs)
        path = joined(module.path)
        if method != "__call__":
            return observe(path, None, (args, kwargs), {}, lambda: following(*args, **kwargs))
        own = linen_own(module)
        return observe(path, module, (args, kwargs), own, lambda: following(*args, **kwargs))

    with linen.intercept_methods(intercept):
        yield


# flax nnx.


def nnx_modules(module: Any) -> Dict[str, Any]:
    """All modules inside an nnx module by path; itself is ``""``."""
    return {joined(path): part for path, part in library("flax.nnx").iter_modules(module)}


def nnx_slots(module: Any) -> Dict[str, Slot]:
    """The arrays of an nnx module by path; the state of random generators is none."""
    nnx = library("flax.nnx")
    found: Dict[str, Slot] = {}
    for path, variable in nnx.iter_graph(module):
        if not isinstance(variable, nnx.Variable) or isinstance(variable, nnx.RngState):
            continue
        value = variable.get_value() if hasattr(variable, "get_value") else variable.value
        for inner, array in trees.leaves_by_path(value).items():
            bare = trees.is_array(value)
            found[joined(path) if bare else f"{joined(path)}/{inner}"] = Slot(array, _setter(variable, bare))
    return found


def _setter(variable: Any, bare: bool) -> Callable[[Any], None]:
    def put(array: Any) -> None:
        if not bare:
            raise TypeError("an nnx variable that holds a tree of arrays cannot be written to by part")
        if hasattr(variable, "set_value"):
            variable.set_value(array)
        else:
            variable.value = array

    return put


# equinox.


def equinox_parts(value: Any, path: str = "") -> Iterator[Tuple[str, Any, Optional[Callable[[Any], None]]]]:
    """Modules and arrays inside an equinox module by path, and how each array is put there."""
    if is_equinox(value):
        yield path, value, None
        for item in dataclasses.fields(value):
            if not item.metadata.get("static", False) and hasattr(value, item.name):
                yield from _part(value, item.name, getattr(value, item.name), object.__setattr__, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _part(value, key, item, type(value).__setitem__, path)
    elif isinstance(value, (list, tuple)):
        put = list.__setitem__ if isinstance(value, list) else None
        for place, item in enumerate(value):
            yield from _part(value, place, item, put, path)


def _part(owner: Any, key: Any, item: Any, put: Any, path: str) -> Iterator[Any]:
    below = f"{path}/{key}" if path else str(key)
    if trees.is_array(item):
        yield below, item, None if put is None else (lambda array: put(owner, key, array))
    else:
        yield from equinox_parts(item, below)


def _refuse(_array: Any) -> None:
    raise TypeError("an array that lies in a tuple cannot be exchanged")


def equinox_slots(module: Any) -> Dict[str, Slot]:
    """The arrays of an equinox module by path."""
    return {
        path: Slot(part, put or _refuse) for path, part, put in equinox_parts(module) if trees.is_array(part)
    }


def equinox_modules(module: Any) -> Dict[str, Any]:
    """All modules inside an equinox module by path; itself is ``""``."""
    return {path: part for path, part, _ in equinox_parts(module) if not trees.is_array(part)}


# Calls of nnx and equinox modules.


class Watched:
    """Which path a module has: by identity, or (after JAX has rebuilt it) by the arrays that it holds."""

    def __init__(self, modules: Mapping[str, Any], arrays: Callable[[Any], Dict[str, Slot]]) -> None:
        self._kept = list(modules.values())
        self._arrays = arrays
        self._paths: Dict[int, str] = {}
        self._rebuilt: Dict[Any, str] = {}
        for path, module in modules.items():
            self._paths.setdefault(id(module), path)
            mark = self._mark(module, arrays(module))
            if mark is not None:
                self._rebuilt.setdefault(mark, path)

    def classes(self) -> List[type]:
        """The classes that define how these modules are called."""
        found: Dict[type, None] = {}
        for module in self._kept:
            for cls in type(module).__mro__:
                if "__call__" in vars(cls):
                    found[cls] = None
                    break
        return list(found)

    def look_up(self, module: Any) -> Tuple[Optional[str], Dict[str, Any]]:
        """Path (``None`` for a module that is not known) and arrays of a module that is called."""
        slots = self._arrays(module)
        path = self._paths.get(id(module))
        if path is None:
            path = self._rebuilt.get(self._mark(module, slots))
        return path, {name: slot.array for name, slot in slots.items()}

    def _mark(self, module: Any, slots: Mapping[str, Slot]) -> Any:
        return (type(module), tuple(id(slot.array) for slot in slots.values())) if slots else None


@contextlib.contextmanager
def observing_calls(watched: Watched, observe: Observe) -> Iterator[None]:
    """Report every call of these modules' classes inside; the classes are changed for the time being."""
    originals = [(cls, vars(cls)["__call__"]) for cls in watched.classes()]
    running: List[int] = []

    def reporting(original: Any) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            bound = original.__get__(self, type(self)) if hasattr(original, "__get__") else original
            if running and running[-1] == id(self):  # super().__call__
                return bound(*args, **kwargs)
            path, arrays = watched.look_up(self)
            running.append(id(self))
            try:
                return observe(
                    type(self).__name__ if path is None else path,
                    self,
                    (args, kwargs),
                    arrays,
                    lambda: bound(*args, **kwargs),
                )
            finally:
                running.pop()

        call.__name__ = "__call__"
        return call

    try:
        for cls, original in originals:
            type.__setattr__(cls, "__call__", reporting(original))
        yield
    finally:
        for cls, original in originals:
            type.__setattr__(cls, "__call__", original)
