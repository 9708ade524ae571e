"""One layer run alone, natively."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

import jax
import jax.numpy as jnp
import numpy as np

from porting_check.neutral.errors import PortingError, UnsupportedNode
from porting_check_jax import modules, precision, trees
from porting_check_jax.calling import preserved
from porting_check_jax.events import GIVEN, Layer
from porting_check_jax.models import open_subject
from porting_check_jax.record import run_error


def replay(
    model: Any, known: Mapping[str, Layer], name: str, inputs: Sequence[np.ndarray], *, float64: bool
) -> Tuple[np.ndarray, ...]:
    """Run one layer on these inputs, with the other arguments that it was recorded with.

    Args:
        model: the model.
        known: the layers of its last recording by path; the parts of nnx and equinox models are found without.
        name: the layer's path.
        inputs: its positional array arguments.
        float64: compute in float64 on copies of the weights.

    Raises:
        UnsupportedNode: no such layer.
        RunError: the layer raised.
    """
    path = name.split("#")[0]
    given = {str(place): np.asarray(array) for place, array in enumerate(inputs)}
    with _precision(float64), preserved():
        arrays = [_in_precision(array, float64) for array in given.values()]
        try:
            outputs = _call(model, known, path, arrays, float64)
        except PortingError:
            raise
        except Exception as error:
            raise run_error(error, given, f" in layer {path}") from error
        return tuple(trees.owned(value) for value in trees.outputs_by_path(outputs).values())


@contextlib.contextmanager
def _precision(float64: bool) -> Iterator[None]:
    """64-bit numbers for the time being, where they are asked for."""
    if not float64:
        yield
        return
    with precision.x64():
        yield


def _in_precision(array: Any, float64: bool) -> Any:
    found = jnp.array(array)
    return found.astype(jnp.float64) if float64 and jnp.issubdtype(found.dtype, jnp.floating) else found


def _call(model: Any, known: Mapping[str, Layer], path: str, arrays: List[Any], float64: bool) -> Any:
    layer = known.get(path)
    if layer is not None and isinstance(layer.module, modules.LinenAlone):
        return _linen(layer, arrays, float64)
    found: Dict[str, Any] = {}
    for prefix, root in open_subject(model).roots:
        parts = modules.nnx_modules(root) if modules.is_nnx(root) else modules.equinox_modules(root)
        found.update(
            {"/".join(part for part in (prefix, own) if part): module for own, module in parts.items()}
        )
    if path not in found or not callable(found[path]):
        raise UnsupportedNode(
            f"jax cannot run {path!r} alone: the model has no layer of that name, or it was not recorded before"
        )
    module = found[path]
    rest = {} if layer is None else _keywords(layer)
    if modules.is_nnx(module):
        nnx = modules.library("flax.nnx")
        graph, state = nnx.split(module)
        state = jax.tree_util.tree_map(lambda leaf: _widened(leaf, float64), state)
        return nnx.merge(graph, state)(*arrays, **rest)
    module = jax.tree_util.tree_map(lambda leaf: _widened(leaf, float64), module)
    call = jax.vmap(lambda *own: module(*own, **rest)) if layer is not None and layer.batched else module
    return call(*arrays) if call is not module else module(*arrays, **rest)


def _widened(leaf: Any, float64: bool) -> Any:
    plain = trees.is_array(leaf) and float64 and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return _in_precision(leaf, True) if plain else leaf


def _keywords(layer: Layer) -> Dict[str, Any]:
    """Keyword arguments of the recorded call that are no arrays."""
    return {name: value for name, value in layer.kwargs.items() if value is not GIVEN}


def _linen(layer: Layer, arrays: List[Any], float64: bool) -> Any:
    """A linen layer by itself: a copy without a parent, applied to its own variables."""
    module, variables = layer.module
    variables = trees.exchange(variables, lambda leaf: _in_precision(leaf, float64))
    rest = iter(arrays)
    args = [next(rest) if value is GIVEN else value for value in layer.args]
    return module.apply(variables, *args, **_keywords(layer))
