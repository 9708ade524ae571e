"""What counts as a JAX model: how it is called, its arrays by name, and its layers."""

from __future__ import annotations

import contextlib
import functools
import inspect
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import jax
import jax.numpy as jnp
import numpy as np

from porting_check.neutral.errors import ModelError, WeightsError
from porting_check_jax import modules, trees
from porting_check_jax.modules import Observe, Slot

FOREIGN = {"torch", "tensorflow", "keras", "tf_keras", "onnx", "onnxruntime", "sklearn", "numpy"}
"""Where callables come from that are not JAX's."""

LINEN_ALONE = (
    "a flax linen module holds no weights: give it together with its variables, as a tuple (module, variables), "
    "where variables is what module.init returned or what was restored"
)


class Subject:
    """A model that can be run. A plain function is one, and all others go back to it.

    Example:
        >>> open_subject((lambda params, x: x * params["w"], {"w": jnp.ones(2)})).parameters()
        {'w': Array([1., 1.], dtype=float32)}
    """

    def __init__(self, function: Callable[..., Any], tree: Any = None, given: bool = False) -> None:
        self.function = function
        self.tree = tree
        self._given = given
        self._arrays: Any = trees.exchange(tree, _on_device) if given else None
        self.roots = [] if given else module_roots(function)

    def parameters(self) -> Dict[str, Any]:
        """The arrays by name, as the call will see them."""
        if self._given:
            return trees.leaves_by_path(self._arrays)
        return {name: slot.array for name, slot in self.slots().items()}

    def slots(self) -> Dict[str, Slot]:
        """The arrays that can be exchanged."""
        if self._given:
            return tree_slots(self.tree)
        found: Dict[str, Slot] = {}
        for prefix, root in self.roots:
            slots = modules.nnx_slots(root) if modules.is_nnx(root) else modules.equinox_slots(root)
            found.update({_below(prefix, name): slot for name, slot in slots.items()})
        if modules.holds_copy(self.function):
            put = functools.partial(_frozen, "copy inside equinox.filter_jit")
            return {name: Slot(slot.array, put) for name, slot in found.items()}
        return found

    def session(self) -> Callable[[List[Any], Dict[str, Any]], Any]:
        """A way to run the model as its user does, with a state of its own."""
        return self.call

    def call(self, args: List[Any], kwargs: Dict[str, Any]) -> Any:
        """Run once."""
        return self.function(*([self._arrays] if self._given else []), *args, **kwargs)

    @contextlib.contextmanager
    def observed(self, observe: Observe) -> Iterator[None]:
        """Report the layers that run inside."""
        parts: Dict[bool, Dict[str, Any]] = {True: {}, False: {}}
        for prefix, root in self.roots:
            own = modules.nnx_modules(root) if modules.is_nnx(root) else modules.equinox_modules(root)
            parts[modules.is_nnx(root)].update({_below(prefix, path): part for path, part in own.items()})
        with contextlib.ExitStack() as stack:
            stack.enter_context(modules.observing_linen(observe))
            for is_nnx, found in parts.items():
                if found:
                    arrays = modules.nnx_slots if is_nnx else modules.equinox_slots
                    stack.enter_context(modules.observing_calls(modules.Watched(found, arrays), observe))
            yield

    def called(self) -> Any:
        """What has the signature of the model, and how many leading arguments are not inputs."""
        return self.function, int(self._given)


class LinenSubject(Subject):
    """A flax linen module with its variables."""

    def __init__(self, module: Any, variables: Any, options: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__(module.apply, variables, True)
        self.module = module
        self._options = dict(options or {})

    def parameters(self) -> Dict[str, Any]:
        """The arrays by their path, without the collection where that is not needed."""
        places = modules.linen_arrays(self._arrays)
        leaves = {collection: trees.leaves_by_path(tree) for collection, tree in self._arrays.items()}
        return {name: leaves[collection]["/".join(path)] for name, (collection, path) in places.items()}

    def slots(self) -> Dict[str, Slot]:
        """The leaves of the variables."""
        leaves = tree_slots(self.tree)
        return {
            name: leaves["/".join((collection,) + path)]
            for name, (collection, path) in modules.linen_arrays(self.tree).items()
        }

    def call(self, args: List[Any], kwargs: Dict[str, Any]) -> Any:
        """Apply the module."""
        return self.function(self._arrays, *args, **dict(self._options, **kwargs))

    def called(self) -> Any:
        """The module's own signature."""
        return type(self.module).__call__, 1


class NnxSubject(Subject):
    """A flax nnx module; what runs is a copy, whose state (random counts, statistics) may change."""

    def __init__(self, module: Any) -> None:
        super().__init__(module)
        self.roots = [("", module)]
        self._copy: Any = None

    def session(self) -> Callable[[List[Any], Dict[str, Any]], Any]:
        """Run a fresh copy, again and again."""
        copy = modules.library("flax.nnx").clone(self.function)
        return lambda args, kwargs: copy(*args, **kwargs)

    def call(self, args: List[Any], kwargs: Dict[str, Any]) -> Any:
        """Run the copy that is observed, or a fresh one."""
        if self._copy is None:
            return self.session()(args, kwargs)
        return self._copy(*args, **kwargs)

    @contextlib.contextmanager
    def observed(self, observe: Observe) -> Iterator[None]:
        """Report the layers of a copy that is made here, where JAX lets it change."""
        original = self.function
        self._copy = modules.library("flax.nnx").clone(original)
        self.roots = [("", self._copy)]
        try:
            with super().observed(observe):
                yield
        finally:
            self._copy, self.roots = None, [("", original)]

    def called(self) -> Any:
        """The module's own signature."""
        return type(self.function).__call__, 1


def open_subject(model: Any) -> Subject:
    """How to run a model.

    Args:
        model: ``(flax.linen.Module, variables)``, ``flax.nnx.Module``, ``equinox.Module``, a function of arrays
            (jitted, ``vmap``-ped, partial or bound), or ``(function, params)``, which is called as
            ``function(params, *inputs)``.

    Raises:
        ModelError: a linen module without variables, or nothing that can be called.
    """
    from porting_check_jax.keras_models import KerasSubject, is_keras  # circular: it builds on Subject

    if is_keras(model):
        return KerasSubject(model)
    if isinstance(model, tuple) and len(model) == 2:
        return _pair(*model)
    if modules.is_linen(model):
        if model.scope is not None:
            return LinenSubject(model.clone(), model.variables)
        raise ModelError(f"{type(model).__name__}: {LINEN_ALONE}")
    if modules.is_nnx(model):
        return NnxSubject(model)
    applied = linen_of(model)
    if applied is not None:
        raise ModelError(f"{type(applied).__name__}.apply: {LINEN_ALONE}")
    if isinstance(model, functools.partial) and trees.arrays(model.args):
        return _partial(model)
    if not callable(model):
        raise ModelError(
            f"a {type(model).__name__} is no model of JAX; expected (flax.linen.Module, variables), flax.nnx.Module, "
            "equinox.Module, a function of arrays, or (function, params)"
        )
    return Subject(model)


def _pair(first: Any, tree: Any) -> Subject:
    if modules.is_linen(first):
        return LinenSubject(first, tree)
    applied = linen_of(first)
    if applied is not None:
        return LinenSubject(applied, tree)
    if not callable(first):
        raise ModelError(
            f"the first of the pair is a {type(first).__name__}; expected (flax.linen.Module, variables) "
            "or (function, params)"
        )
    return Subject(first, tree, True)


def _partial(model: Any) -> Subject:
    """A function with its parameters (or a linen ``apply`` with its variables) already given."""
    applied = linen_of(model.func)
    if applied is not None and len(model.args) == 1:
        return LinenSubject(applied, model.args[0], model.keywords)
    function, keywords = model.func, model.keywords
    if len(model.args) == 1:
        return Subject(functools.partial(function, **keywords), model.args[0], True)
    return Subject(
        lambda tree, *args, **rest: function(*tree, *args, **dict(keywords, **rest)), model.args, True
    )


def linen_of(function: Any) -> Any:
    """The module whose ``apply`` this is, bound and maybe jitted; ``None`` for any other function."""
    for _ in range(8):
        owner = getattr(function, "__self__", None)
        if modules.is_linen(owner):
            return owner if getattr(function, "__name__", "") == "apply" else None
        function = getattr(function, "__wrapped__", None)
    return None


def module_roots(function: Any) -> List[Tuple[str, Any]]:
    """The nnx and equinox modules that a function is made of or refers to, with a prefix where there are several."""
    found: Dict[int, Tuple[str, Any]] = {}
    for name, value in _referred(function, 0):
        if (modules.is_nnx(value) or modules.is_equinox(value)) and id(value) not in found:
            found[id(value)] = (name, value)
    return list(found.values()) if len(found) > 1 else [("", value) for _, value in found.values()]


def _referred(function: Any, depth: int) -> Iterator[Tuple[str, Any]]:
    """Values by name that a function holds: what it wraps, what it is bound to, its closure and its globals."""
    if modules.is_nnx(function) or (modules.is_equinox(function) and not modules.is_wrapper(function)):
        yield "model", function
        return
    for attribute in ("__wrapped__", "func", "__self__"):
        inner = getattr(function, attribute, None)
        if inner is not None and depth < 8 and not inspect.ismodule(inner):
            yield from _referred(inner, depth + 1)
    code = getattr(function, "__code__", None)
    if code is None:
        return
    for name, cell in zip(code.co_freevars, function.__closure__ or ()):
        with contextlib.suppress(ValueError):  # a cell that is still empty
            value = cell.cell_contents
            yield name, value
            if callable(value) and depth < 2:
                yield from _referred(value, depth + 1)
    known = function.__globals__
    yield from ((name, known[name]) for name in code.co_names if name in known)


def tree_slots(tree: Any) -> Dict[str, Slot]:
    """The arrays in nested dicts and lists, and how each is exchanged in place."""
    found: Dict[str, Slot] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, (dict, list)):
            for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
                below = _below(path, str(key))
                if trees.is_array(item):
                    found[below] = Slot(item, functools.partial(value.__setitem__, key))
                else:
                    walk(item, below)
        else:
            for name, leaf in trees.leaves_by_path(value).items():
                below = path if trees.is_array(value) else _below(path, name)
                found[below or name] = Slot(leaf, functools.partial(_frozen, type(value).__name__))

    walk(tree, "")
    return found


def _frozen(kind: str, _array: Any) -> None:
    raise TypeError(f"it lies in a {kind}, which cannot be changed in place")


def write_parameters(subject: Subject, parameters: Mapping[str, np.ndarray]) -> None:
    """Put arrays into the caller's model; all of them, or none when one does not fit.

    Raises:
        WeightsError: an unknown name, another shape or dtype, or a container that cannot be changed.
    """
    slots = subject.slots()
    problems = [
        text for name, array in parameters.items() for text in _misfit(name, np.asarray(array), slots)
    ]
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise WeightsError(f"nothing was written: {'; '.join(problems[:5])}{more}")
    done: List[str] = []
    try:
        for name, array in parameters.items():
            old = slots[name].array
            slots[name].put(
                np.array(array) if isinstance(old, np.ndarray) else jnp.array(array, dtype=old.dtype)
            )
            done.append(name)
    except TypeError as error:
        for name in done:
            slots[name].put(slots[name].array)
        raise WeightsError(
            f"nothing was written: {name!r} cannot be changed: {error}; give the weights in plain dicts and lists "
            "(flax.core.unfreeze(variables) for a FrozenDict)"
        ) from error


def _misfit(name: str, array: np.ndarray, slots: Mapping[str, Slot]) -> List[str]:
    if name not in slots:
        return [f"the model has no parameter {name!r}"]
    held = slots[name].array
    if tuple(array.shape) != tuple(held.shape):
        return [f"{name!r} has shape {tuple(held.shape)}, the array {tuple(array.shape)}"]
    if array.dtype.name != np.dtype(held.dtype).name:
        return [f"{name!r} has dtype {np.dtype(held.dtype).name}, the array {array.dtype.name}"]
    return []


def _on_device(array: Any) -> Any:
    """An array of JAX, so that it stays itself wherever it goes."""
    return array if isinstance(array, jax.Array) else jnp.asarray(array)


def _below(prefix: str, name: str) -> str:
    return f"{prefix}/{name}" if prefix and name else prefix or name


def read_parameters(subject: Subject) -> Dict[str, np.ndarray]:
    """Every parameter as an owned array."""
    return {name: trees.owned(array) for name, array in subject.parameters().items()}
