"""How a Keras model wants its inputs, and running it eagerly in inference."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import tensorflow as tf

from porting_check.neutral.adapter import Inputs
from porting_check.neutral.errors import InputError, PortingError, RunError
from porting_check_tensorflow.flavours import library, major
from porting_check_tensorflow.trees import arguments, array_of, flatten, is_numeric
from porting_check_tensorflow.weights import preserved


def structure(model: Any) -> Any:
    """The nested symbolic inputs of a functional or sequential model.

    ``None`` where the model does not say.
    """
    # Not ``model.input``: of a model inside another one that is what the outer one gives it.
    inner = getattr(model, "_functional", None) or model
    for name in ("_inputs_struct", "_nested_inputs"):
        if getattr(inner, name, None) is not None:
            return getattr(inner, name)
    inputs = getattr(model, "inputs", None)
    return (inputs[0] if len(inputs) == 1 else list(inputs)) if isinstance(inputs, (list, tuple)) else None


def leaves(nested: Any, path: str = "") -> Dict[str, Any]:
    """Symbolic inputs by path, in order.

    ``"0"`` for a single one, ``"image"`` of a dict, ``"0"``, ``"1"`` of a list.
    """
    if isinstance(nested, dict):
        pairs = [(str(key), value) for key, value in nested.items()]
    elif isinstance(nested, (list, tuple)):
        pairs = [(str(index), value) for index, value in enumerate(nested)]
    else:
        return {path or "0": nested}
    found: Dict[str, Any] = {}
    for key, value in pairs:
        found.update(leaves(value, f"{path}/{key}" if path else key))
    return found


def _filled(nested: Any, values: Mapping[str, Any], path: str = "") -> Any:
    """The nested structure with the values in the place of the symbolic inputs."""
    if isinstance(nested, dict):
        return {k: _filled(v, values, f"{path}/{k}" if path else str(k)) for k, v in nested.items()}
    if isinstance(nested, (list, tuple)):
        items = [_filled(v, values, f"{path}/{i}" if path else str(i)) for i, v in enumerate(nested)]
        return items if isinstance(nested, list) else tuple(items)
    return values[path or "0"]


def model_arguments(model: Any, fed: Mapping[str, Any]) -> Tuple[List[Any], Dict[str, Any]]:
    """Positional and keyword arguments of a call of the model with these inputs.

    Names are paths in the model's input structure, names of its input layers, names of ``call``'s arguments,
    or positions.

    Raises:
        InputError: the names are not those of the model's inputs.
    """
    nested = structure(model)
    if nested is not None:
        return [_filled(nested, _by_path(model, leaves(nested), fed))], {}
    positional, named = arguments(fed)
    parameters = _call_parameters(model)
    if named and not set(named) <= set(parameters):
        if positional:
            raise InputError(
                f"inputs {sorted(named)} are no arguments of {type(model).__name__}.call{tuple(parameters)}"
            )
        return [named], {}
    if len(positional) > 1 and len(parameters) < len(positional) + len(named):
        positional = [positional]
    return positional, named


def _by_path(model: Any, symbolic: Mapping[str, Any], fed: Mapping[str, Any]) -> Dict[str, Any]:
    own = {str(tensor.name).split(":")[0]: path for path, tensor in symbolic.items()}
    found = {name if name in symbolic else own.get(name, name): value for name, value in fed.items()}
    if set(found) != set(symbolic) and len(found) == len(symbolic) and all(name.isdigit() for name in found):
        found = {path: found[name] for path, name in zip(symbolic, sorted(found, key=int))}
    if set(found) != set(symbolic):
        raise InputError(
            f"the inputs are called {sorted(fed)}; model {model.name!r} has the inputs {sorted(symbolic)}"
            + (f" (also called {sorted(own)})" if set(own) != set(symbolic) else "")
        )
    return found


def _call_parameters(model: Any) -> List[str]:
    """Names of the arguments of ``call`` that can be inputs."""
    kinds = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    )
    parameters = inspect.signature(model.call).parameters.values()
    return [p.name for p in parameters if p.kind in kinds and p.name not in ("self", "training", "mask")]


def call_model(model: Any, fed: Mapping[str, Any]) -> Any:
    """Call the model eagerly with ``training=False``; errors keep their own message."""
    positional, named = model_arguments(model, fed)
    if major(model) >= 3 or getattr(model, "_expects_training_arg", True):
        named["training"] = False
    with _plain_errors(model):
        return model(*positional, **named)


@contextlib.contextmanager
def _plain_errors(model: Any) -> Iterator[None]:
    """Keep Keras from rewriting errors: their first line is what the user reads."""
    config = getattr(library(model), "config", None)
    switches = [
        (
            config,
            "is_traceback_filtering_enabled",
            "disable_traceback_filtering",
            "enable_traceback_filtering",
        ),
        (
            tf.debugging,
            "is_traceback_filtering_enabled",
            "disable_traceback_filtering",
            "enable_traceback_filtering",
        ),
    ]
    undo = []
    for where, asks, off, on in switches:
        if where is not None and hasattr(where, asks) and getattr(where, asks)():
            getattr(where, off)()
            undo.append(getattr(where, on))
    try:
        yield
    finally:
        for enable in undo:
            enable()


def predict(model: Any, inputs: Inputs) -> Dict[str, Any]:
    """Outputs of an unrecorded run by path, owned.

    Raises:
        RunError: the model raised; with the first line of its own error.
    """
    return _runs(model, inputs, 1)[0]


def repeat(model: Any, inputs: Inputs) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Outputs of two runs in a row; random state goes on between them and is restored after.

    Raises:
        RunError: the model raised.
    """
    first, second = _runs(model, inputs, 2)
    return first, second


def _runs(model: Any, inputs: Inputs, count: int) -> List[Dict[str, Any]]:
    fed = {name: tf.convert_to_tensor(array) for name, array in inputs.items()}
    try:
        with preserved(model):
            made = [flatten(call_model(model, fed)) for _ in range(count)]
    except PortingError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise RunError(f"model {model.name!r} raised {type(error).__name__}: {first}") from error
    return [{path: array_of(t).copy() for path, t in outputs.items() if is_numeric(t)} for outputs in made]
