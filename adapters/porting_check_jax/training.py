"""What inference cannot show: one layer in training mode, and the steps of an optimiser."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

import jax
import jax.numpy as jnp
import numpy as np

from porting_check.neutral.errors import PortingError, Unsupported
from porting_check_jax import modules, precision, trees
from porting_check_jax.calling import preserved
from porting_check_jax.events import GIVEN, Layer
from porting_check_jax.keras_models import is_keras, layer_paths, named_variables
from porting_check_jax.models import open_subject

Trained = Tuple[Tuple[np.ndarray, ...], Dict[str, np.ndarray]]

SWITCHES = {
    "use_running_average": False,
    "deterministic": False,
    "inference": False,
    "train": True,
    "training": True,
    "is_training": True,
}
"""Arguments and fields by which modules are told to train."""


def train_layer(model: Any, known: Mapping[str, Layer], name: str, inputs: Sequence[np.ndarray]) -> Trained:
    """Call one layer in training mode on copies of its arrays: outputs, and its arrays after the call.

    Args:
        model: the model.
        known: the layers of its last recording by path; linen layers are found there.
        name: the layer's path.
        inputs: its positional array arguments.

    Raises:
        Unsupported: no such layer, or it cannot be called alone.
    """
    path = name.split("#")[0]
    try:
        with preserved():
            return _trained(model, known, path, [jnp.array(np.asarray(array)) for array in inputs])
    except PortingError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise Unsupported(f"layer {path!r} cannot train alone: {type(error).__name__}: {first}") from error


def _trained(model: Any, known: Mapping[str, Layer], path: str, arrays: List[Any]) -> Trained:
    if is_keras(model):
        return _keras(model, path, arrays)
    layer = known.get(path)
    if layer is not None and isinstance(layer.module, modules.LinenAlone):
        return _linen(model, layer, path, arrays)
    for prefix, root in open_subject(model).roots:
        parts = modules.nnx_modules(root) if modules.is_nnx(root) else modules.equinox_modules(root)
        own = path[len(prefix) + 1 :] if prefix and path.startswith(prefix + "/") else path
        if own in parts and callable(parts[own]) and (own != path or not prefix):
            if modules.is_nnx(root):
                return _nnx(parts[own], path, {} if layer is None else _rest(layer), arrays)
            return _equinox(parts[own], path, arrays)
    raise Unsupported(
        f"jax cannot train {path!r} alone: the model has no layer of that name, or it was not recorded before"
    )


def _rest(layer: Layer) -> Dict[str, Any]:
    """Keyword arguments of the recorded call that are no arrays, told to train."""
    return {name: SWITCHES.get(name, value) for name, value in layer.kwargs.items() if value is not GIVEN}


def _outputs(found: Any) -> Tuple[np.ndarray, ...]:
    return tuple(trees.owned(value) for value in trees.outputs_by_path(found).values())


def _linen(model: Any, layer: Layer, path: str, arrays: List[Any]) -> Trained:
    """A linen layer without its parent; a field that was set is unset where the call can say it."""
    module, variables = layer.module
    accepted = inspect.signature(type(module).__call__).parameters
    switched = {name: value for name, value in SWITCHES.items() if name in accepted}
    fields = {f: None if f in switched else SWITCHES[f] for f in SWITCHES if hasattr(module, f)}
    module = module.clone(**fields) if fields else module
    keys = {stream: jax.random.PRNGKey(0) for stream in ("dropout", "params", "default")}
    rest = iter(arrays)
    args = [next(rest) if value is GIVEN else value for value in layer.args]
    places = [p for p in accepted if p != "self"]
    args = [switched.pop(place, value) for place, value in zip(places, args)] + args[len(places) :]
    options = dict(_rest(layer), **switched)
    made, changed = module.apply(variables, *args, rngs=keys, mutable=True, **options)
    now = {collection: trees.leaves_by_path(tree) for collection, tree in changed.items()}
    before = {collection: trees.leaves_by_path(tree) for collection, tree in variables.items()}
    state = {}
    for key, (collection, place) in modules.linen_arrays(_variables(model)).items():
        full = "/".join(place)
        if path and not full.startswith(path + "/"):
            continue
        own = full[len(path) + 1 :] if path else full
        found = now.get(collection, {}).get(own, before.get(collection, {}).get(own))
        if found is not None:
            state[key] = trees.owned(found)
    return _outputs(made), state


def _variables(model: Any) -> Any:
    return open_subject(model).tree


def _nnx(part: Any, path: str, rest: Dict[str, Any], arrays: List[Any]) -> Trained:
    """A copy of an nnx module, told to train."""
    copy = modules.library("flax.nnx").clone(part)
    copy.train()
    made = copy(*arrays, **rest)
    state = {_below(path, name): trees.owned(slot.array) for name, slot in modules.nnx_slots(copy).items()}
    return _outputs(made), state


def _equinox(part: Any, path: str, arrays: List[Any]) -> Trained:
    """``equinox.nn.BatchNorm`` of mode "ema" on a batch, its running mean and variance after the input.

    Its statistics are no part of the module but of a state that the model is called with, so the recording gives them
    as inputs.

    Raises:
        Unsupported: another module, or statistics that were not given.
    """
    equinox = modules.library("equinox")
    index = getattr(part, "ema_state_index", None)
    if type(part).__name__ != "BatchNorm" or index is None or len(arrays) < 3:
        raise Unsupported(
            f"jax cannot train {path!r} alone: of equinox, only BatchNorm(mode='ema') with its mean and variance as "
            "second and third input can be"
        )
    fresh, state = equinox.nn.make_with_state(equinox.nn.BatchNorm)(
        part.input_size, part.axis_name, part.eps, part.channelwise_affine, part.momentum, mode="ema"
    )
    fresh = equinox.tree_at(lambda m: (m.weight, m.bias), fresh, (part.weight, part.bias), is_leaf=_none)
    state = state.set(fresh.ema_first_time_index, jnp.array(False))
    state = state.set(fresh.ema_state_index, (arrays[1], arrays[2]))
    call = jax.vmap(fresh, axis_name=part.axis_name, in_axes=(0, None), out_axes=(0, None))
    made, state = call(arrays[0], state)
    mean, var = state.get(fresh.ema_state_index)
    own = {name: slot.array for name, slot in modules.equinox_slots(part).items()}
    found = {_below(path, name): trees.owned(array) for name, array in own.items()}
    return _outputs(made), dict(found, **{"1": trees.owned(mean), "2": trees.owned(var)})


def _none(value: Any) -> bool:
    return value is None


def _keras(model: Any, path: str, arrays: List[Any]) -> Trained:
    """A Keras layer called without a side effect; it hands its new statistics back."""
    layers = layer_paths(model)
    if path not in layers:
        raise Unsupported(f"model {model.name!r} has no layer {path!r} to train alone")
    layer = layers[path]
    fixed = [variable.value for variable in layer.trainable_variables]
    moving = [variable.value for variable in layer.non_trainable_variables]
    made, after = layer.stateless_call(fixed, moving, *arrays, training=True)
    now = {id(variable): value for variable, value in zip(layer.non_trainable_variables, after)}
    now.update({id(variable): value for variable, value in zip(layer.trainable_variables, fixed)})
    named = named_variables(model)
    return _outputs(made), {key: trees.owned(now[id(v)]) for key, v in named.items() if id(v) in now}


def _below(prefix: str, name: str) -> str:
    return f"{prefix}/{name}" if prefix else name


def owns_optimizer(optimizer: Any) -> bool:
    """Whether this is a gradient transformation of optax, or what holds one (``nnx.Optimizer``, ``TrainState``)."""
    optax = modules.library("optax")
    return optax is not None and isinstance(_transformation(optimizer), optax.GradientTransformation)


def _transformation(optimizer: Any) -> Any:
    """What flax keeps a transformation in has it as ``tx``."""
    return getattr(optimizer, "tx", optimizer)


def optimizer_steps(
    optimizer: Any,
    parameters: Mapping[str, np.ndarray],
    gradients: Sequence[Mapping[str, np.ndarray]],
    *,
    float64: bool = False,
) -> Tuple[Dict[str, np.ndarray], ...]:
    """Parameters after each step, from the transformation's own fresh state.

    Raises:
        Unsupported: the transformation wants parameters of another structure, or more than gradients.
    """
    change = _transformation(optimizer)
    with _precision(float64), preserved():
        now = _arrays(parameters, float64)
        steps: List[Dict[str, np.ndarray]] = []
        try:
            state = change.init(now)
            for given in gradients:
                updates, state = change.update(_arrays(given, float64), state, now)
                now = {name: (now[name] + updates[name]).astype(now[name].dtype) for name in now}
                steps.append({name: trees.owned(array) for name, array in now.items()})
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            raise Unsupported(
                f"the optax transformation makes no step from gradients alone: {type(error).__name__}: {first}"
            ) from error
    return tuple(steps)


@contextlib.contextmanager
def _precision(float64: bool) -> Iterator[None]:
    with precision.x64() if float64 else contextlib.nullcontext():
        yield


def _arrays(given: Mapping[str, np.ndarray], float64: bool) -> Dict[str, Any]:
    dtype = jnp.float64 if float64 else jnp.float32
    return {name: jnp.asarray(np.asarray(array), dtype) for name, array in given.items()}
