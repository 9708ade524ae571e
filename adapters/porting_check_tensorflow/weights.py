"""Variables of a Keras model by name, in both directions, and a model left as it was found."""

from __future__ import annotations

import contextlib
import random
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import numpy as np
import tensorflow as tf

from porting_check.neutral.errors import WeightsError
from porting_check_tensorflow.flavours import library
from porting_check_tensorflow.trees import array_of


def is_model(layer: Any) -> bool:
    """Whether a layer is a ``Model``: its own name does not appear in the paths of what it holds."""
    return any(kind.__name__ == "Model" for kind in type(layer).__mro__)


def root_path(model: Any) -> str:
    """What the paths of a model's layers begin with.

    Nothing for a ``Model``, its name for a layer used alone.
    """
    return "" if is_model(model) else str(model.name)


def join(*parts: str) -> str:
    """Path parts with slashes between, empty ones left out.

    Example:
        >>> join("", "block1", "conv")
        'block1/conv'
    """
    return "/".join(part for part in parts if part)


def layers_by_path(model: Any) -> Dict[str, Any]:
    """Every layer of a model by its path, owners first; the model itself is at its root path.

    A layer reached twice keeps its first path. Two layers of one path are told apart by ``~2``.
    """
    found: Dict[str, Any] = {}
    seen = set()
    waiting: List[Tuple[str, Any]] = [(root_path(model), model)]
    while waiting:
        path, layer = waiting.pop(0)
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        path = distinct(path, found)
        found[path] = layer
        waiting += [(join(path, str(inner.name)), inner) for inner in _held(layer)]
    return found


def _held(layer: Any) -> List[Any]:
    """The layers that a layer holds directly."""
    flatten = getattr(layer, "_flatten_layers", None)
    if flatten is None:
        return list(getattr(layer, "layers", []))
    return list(flatten(include_self=False, recursive=False))


def distinct(name: str, taken: Mapping[str, Any]) -> str:
    """The name, or with ``~2``, ``~3``, … where it is taken."""
    number, candidate = 2, name
    while candidate in taken:
        candidate, number = f"{name}~{number}", number + 1
    return candidate


def variables_by_name(model: Any) -> Dict[str, Any]:
    """Every weight by its layer's path and its own name: ``conv1/kernel``, ``lstm/lstm_cell/bias``.

    These are the paths of the recording, not Keras' ``variable.path``, which names the model where a layer
    was built first and is not unique. States of random generators are not weights.
    """
    wanted = {id(variable): variable for variable in getattr(model, "weights", [])}
    named: Dict[str, Any] = {}
    for path, layer in layers_by_path(model).items():
        for variable in _own(layer):
            if wanted.pop(id(variable), None) is not None:
                named[distinct(join(path, short_name(variable)), named)] = variable
    for variable in wanted.values():
        named[distinct(_path_of(variable, model), named)] = variable
    return named


def _own(layer: Any) -> List[Any]:
    """The variables that a layer holds itself; the attributes have other names in Keras 2 and 3."""
    lists = (
        "_trainable_variables",
        "_non_trainable_variables",
        "_trainable_weights",
        "_non_trainable_weights",
    )
    return [variable for name in lists for variable in getattr(layer, name, None) or []]


def short_name(variable: Any) -> str:
    """``kernel`` of ``conv1/kernel:0``."""
    return str(variable.name).split("/")[-1].split(":")[0]


def _path_of(variable: Any, model: Any) -> str:
    path = str(getattr(variable, "path", None) or variable.name).split(":")[0]
    prefix = f"{model.name}/"
    return path[len(prefix) :] if path.startswith(prefix) else path


def handle_of(variable: Any) -> Any:
    """The resource tensor of a variable, by which operators name it; ``None`` where there is none."""
    inner = getattr(variable, "_value", variable)
    return getattr(inner, "handle", None)


def read_parameters(model: Any) -> Dict[str, np.ndarray]:
    """Every weight by name, as an owned array.

    Raises:
        WeightsError: the model has no variables yet, because it was never built.
    """
    if getattr(model, "built", True) is False:
        raise WeightsError(
            f"model {model.name!r} is not built: run it once (or call build) so that it has weights"
        )
    return {name: np.array(array_of(variable)) for name, variable in variables_by_name(model).items()}


def write_parameters(model: Any, parameters: Mapping[str, np.ndarray]) -> None:
    """Write weights by name; nothing is written unless everything fits.

    Raises:
        WeightsError: an unknown name or a wrong shape.
    """
    named = variables_by_name(model)
    unknown = sorted(set(parameters) - set(named))
    if unknown:
        raise WeightsError(
            f"model {model.name!r} has no weights {unknown[:5]}; it has {sorted(named)[:8]}, …"
        )
    for name, array in parameters.items():
        expected = tuple(named[name].shape)
        if tuple(np.shape(array)) != expected:
            raise WeightsError(
                f"weight {name!r} has shape {expected} in the model, but {np.shape(array)} was given"
            )
    for name, array in parameters.items():
        named[name].assign(np.asarray(array))


@contextlib.contextmanager
def preserved(model: Any) -> Iterator[None]:
    """Put back whatever a run changed: states of layers and of random generators.

    TensorFlow never writes into a buffer that is referenced, so an unchanged address means an unchanged
    variable.
    """
    states = (random.getstate(), np.random.get_state(), _tensorflow_generator().getstate())
    _forget_kernels()
    before = [(variable, array_of(variable)) for variable in _everything(model)]
    try:
        yield
    finally:
        for variable, array in before:
            if array_of(variable).__array_interface__["data"] != array.__array_interface__["data"]:
                variable.assign(array)
        random.setstate(states[0])
        np.random.set_state(states[1])
        _tensorflow_generator().setstate(states[2])
        _forget_kernels()


def _everything(model: Any) -> List[Any]:
    """Weights, states, and the seeds of random generators, Keras' global one too."""
    found = {id(variable): variable for variable in getattr(model, "variables", [])}
    for layer in layers_by_path(model).values():
        if getattr(layer, "stateful", False):  # the states of a recurrent layer are in no list of variables
            found.update({id(state): state for state in tf.nest.flatten(getattr(layer, "states", None))})
    seeds = getattr(getattr(getattr(library(model), "src", None), "random", None), "seed_generator", None)
    maker = getattr(seeds, "global_seed_generator", None)
    if maker is not None:
        state = maker().state
        found[id(state)] = state
    return [variable for variable in found.values() if handle_of(variable) is not None]


def _tensorflow_generator() -> random.Random:
    """Where eager TensorFlow draws the seeds of its operators from."""
    from tensorflow.python.eager import context

    generator = getattr(context.context(), "_rng", None)
    return generator if isinstance(generator, random.Random) else random.Random()  # noqa: S311


def _forget_kernels() -> None:
    """Start the kernels of random operators anew.

    With a global seed each counts its draws, and is kept by its seed.
    """
    from tensorflow.python.eager import context

    if context.global_seed() is not None and hasattr(context.context(), "clear_kernel_cache"):
        context.context().clear_kernel_cache()
