"""Keras 3 on its JAX backend: layers, weights and inputs by Keras' own names; a run leaves the model as it was."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from porting_check.neutral.adapter import InputSpec
from porting_check.neutral.errors import InputError
from porting_check_jax.models import Subject
from porting_check_jax.modules import Observe, Slot

LAYOUTS = {3: ("NLC", "NCL"), 4: ("NHWC", "NCHW"), 5: ("NDHWC", "NCDHW")}
"""Channels-last and channels-first layouts by rank."""


def is_keras(model: Any) -> bool:
    """Whether this is a Keras layer or model that computes with JAX.

    Example:
        >>> is_keras(lambda x: x)
        False
    """
    keras = sys.modules.get("keras")
    found = any(
        base.__name__ == "Layer" and base.__module__.startswith("keras.") for base in type(model).__mro__
    )
    return found and keras is not None and str(keras.backend.backend()) == "jax"


class KerasSubject(Subject):
    """A Keras model. It runs without a trace: what layers assign (statistics, seeds) is forgotten afterwards."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.model, self.roots = model, []

    def parameters(self) -> Dict[str, Any]:
        """The arrays by name, as the call will see them."""
        return {name: variable.value for name, variable in named_variables(self.model).items()}

    def slots(self) -> Dict[str, Slot]:
        """The weights, and how each is exchanged."""
        return {
            name: Slot(variable.value, variable.assign)
            for name, variable in named_variables(self.model).items()
        }

    def call(self, args: List[Any], kwargs: Dict[str, Any]) -> Any:
        """Run once in inference.

        Raises:
            InputError: inputs of other names than the model's.
        """
        given, named = keras_arguments(self.model, args, kwargs)
        with sys.modules["keras"].StatelessScope():
            return self.model(*given, training=False, **named)

    @contextlib.contextmanager
    def observed(self, observe: Observe) -> Iterator[None]:
        """Report every call of a layer inside; methods of its class are exchanged for the time being.

        Layers name scopes of JAX after themselves, which would stand in the records' names a second time.
        """
        kind: Any = sys.modules["keras"].layers.Layer
        original, scope = kind.__call__, kind._open_name_scope
        stack: List[str] = []
        paths = {id(layer): path for path, layer in layer_paths(self.model).items()}

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            above = stack[-1] if stack else ""
            path = paths.get(id(layer))
            if path is None:  # made on the way
                path = f"{above}/{layer.name}" if above else str(layer.name)
            stack.append(path)
            try:
                return observe(path, layer, (args, kwargs), {}, lambda: original(layer, *args, **kwargs))
            finally:
                stack.pop()

        def unnamed(layer: Any) -> Any:
            return contextlib.nullcontext() if layer.built else scope(layer)

        kind.__call__, kind._open_name_scope = call, unnamed
        try:
            yield
        finally:
            kind.__call__, kind._open_name_scope = original, scope

    def called(self) -> Any:
        """What has the signature of the model."""
        return self.model.call, 0


def layer_paths(model: Any) -> Dict[str, Any]:
    """Layers by path, without the outermost model's own name: ``conv1``, ``block/conv1``."""
    return dict(_walk(model, "", ()))


def _walk(layer: Any, path: str, above: Tuple[int, ...]) -> Iterator[Tuple[str, Any]]:
    yield path, layer
    names: Dict[str, int] = {}
    for child in getattr(layer, "_layers", None) or []:
        if id(child) in above:
            continue
        name = str(child.name)
        names[name] = names.get(name, 0) + 1
        name = name if names[name] == 1 else f"{name}_{names[name]}"
        yield from _walk(child, f"{path}/{name}" if path else name, above + (id(layer),))


def named_variables(model: Any) -> Dict[str, Any]:
    """Variables by layer path and own name: ``conv1/kernel``; shared ones under the first of their names."""
    found: Dict[str, Any] = {}
    seen = set()
    for path, layer in layer_paths(model).items():
        own = list(getattr(layer, "_trainable_variables", ()))
        for variable in own + list(getattr(layer, "_non_trainable_variables", ())):
            if id(variable) not in seen:
                seen.add(id(variable))
                name = str(variable.name)
                found[f"{path}/{name}" if path else name] = variable
    return found


def keras_inputs(model: Any) -> Tuple[InputSpec, ...]:
    """The inputs of a functional or sequential model; empty for one made by subclassing."""
    nested = _structure(model)
    if nested is None:
        return ()
    specs = []
    for name, tensor in _leaves(nested).items():
        shape = tuple(None if size is None else int(size) for size in tensor.shape)
        specs.append(InputSpec(name, shape, str(tensor.dtype), _layout(model, len(shape))))
    return tuple(specs)


def keras_arguments(
    model: Any, args: List[Any], kwargs: Mapping[str, Any]
) -> Tuple[List[Any], Dict[str, Any]]:
    """Inputs as the model takes them: a functional model has one argument, of the structure that it was made with.

    Raises:
        InputError: inputs of other names than the model's.
    """
    nested = _structure(model)
    if nested is None:
        return list(args), dict(kwargs)
    wanted = _leaves(nested)
    given = {str(place): value for place, value in enumerate(args)}
    given.update(kwargs)
    own = {str(tensor.name): path for path, tensor in wanted.items()}
    given = {name if name in wanted else own.get(name, name): value for name, value in given.items()}
    if set(given) != set(wanted) and len(args) == len(wanted):
        given = dict(zip(wanted, args))
    if set(given) != set(wanted):
        raise InputError(
            f"the inputs are called {sorted(given)}; model {model.name!r} has the inputs {sorted(wanted)}"
        )
    return [_filled(nested, given)], {}


def _structure(model: Any) -> Optional[Any]:
    inner = getattr(model, "_functional", None) or model
    return getattr(inner, "_inputs_struct", None)


def _parts(nested: Any) -> List[Tuple[str, Any]]:
    if isinstance(nested, dict):
        return [(str(key), value) for key, value in nested.items()]
    return [(str(place), value) for place, value in enumerate(nested)]


def _leaves(nested: Any, path: str = "") -> Dict[str, Any]:
    if not isinstance(nested, (dict, list, tuple)):
        return {path or "0": nested}
    found: Dict[str, Any] = {}
    for key, value in _parts(nested):
        found.update(_leaves(value, f"{path}/{key}" if path else key))
    return found


def _filled(nested: Any, given: Mapping[str, Any], path: str = "") -> Any:
    if not isinstance(nested, (dict, list, tuple)):
        return given[path or "0"]
    items = {key: _filled(value, given, f"{path}/{key}" if path else key) for key, value in _parts(nested)}
    return items if isinstance(nested, dict) else type(nested)(items.values())


def _layout(model: Any, rank: int) -> str:
    """The layout that the first layer of this rank works on."""
    if rank not in LAYOUTS:
        return ""
    for layer in layer_paths(model).values():
        if f"{rank - 2}D" in type(layer).__name__ and hasattr(layer, "data_format"):
            return LAYOUTS[rank][layer.data_format == "channels_first"]
    return ""
