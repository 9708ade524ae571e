"""Describing one layer of flax or equinox and checking the nodes against what the layer computed.

Shared by the tests of layers: the describer is called as the recorder calls it, on references to the layer's
real arrays, and the nodes are evaluated in float64.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from porting_check_jax.draft import Draft, Ref
from porting_check_jax.layers import LayerCall, describer, kind_of

from porting_check.neutral.trace import Record
from porting_check.testing.replay import check_record


def noise(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Seeded standard normal numbers."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


NARROW, WIDE = (1e-5, 3e-6), (1e-10, 1e-11)
"""Relative and absolute tolerance of layers run in float32 and in float64."""


def widened(tree: Any, wide: bool) -> Any:
    """The same nested arguments, arrays of float32 as float64 when asked for."""

    def widen(leaf: Any) -> Any:
        narrow = isinstance(leaf, (np.ndarray, jax.Array)) and leaf.dtype == np.float32
        return np.asarray(leaf, np.float64) if narrow and wide else leaf

    return jax.tree_util.tree_map(widen, tree)


def _random(path: str, array: Any, rng: np.random.Generator, wide: bool) -> Any:
    """Another value for a parameter: variances positive; zeros and ones would hide mistakes."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        return jnp.ones(array.shape, array.dtype)
    values = rng.standard_normal(array.shape) * 0.5
    return jnp.asarray(
        np.abs(values) + 0.5 if path.endswith("var") else values, np.float64 if wide else array.dtype
    )


class Desk:
    """Arrays of one call, by value key."""

    def __init__(self) -> None:
        self.values: dict[str, np.ndarray] = {}
        self._count = itertools.count()

    def ref(self, array: Any, key: str = "") -> Ref:
        """A reference to an array, which is kept."""
        key = key or f"input:{next(self._count)}"
        self.values[key] = np.asarray(array)
        return Ref(key, tuple(array.shape), np.dtype(array.dtype))

    def refs(self, tree: Any) -> Any:
        """The same tree with references for its arrays; one array has one reference."""
        known: dict[int, Ref] = {}

        def place(leaf: Any) -> Any:
            if not isinstance(leaf, (np.ndarray, jax.Array)):
                return leaf
            if id(leaf) not in known:
                known[id(leaf)] = self.ref(leaf)
            return known[id(leaf)]

        return jax.tree_util.tree_map(place, tree)


def describe(
    module: Any, parameters: Mapping[str, Any], output: Any, *args: Any, **kwargs: Any
) -> tuple[Record, dict[str, np.ndarray]]:
    """The record of a layer's call, and the arrays that its ports name."""
    desk, kind = Desk(), kind_of(module)
    found: Callable[[LayerCall, Draft], None] | None = describer(kind, module)
    assert found is not None, f"{kind} has no describer"
    held = {name: desk.ref(array, f"parameter:{name}") for name, array in parameters.items()}
    args, kwargs = desk.refs((args, kwargs))
    made = [desk.ref(leaf, f"layer:{i}") for i, leaf in enumerate(jax.tree_util.tree_leaves(output))]
    draft = Draft(made, kind)
    found(LayerCall(kind, module, args, kwargs, held), draft)
    finished = draft.finish()
    ports = (finished.inputs, finished.outputs, finished.parameters)
    return Record("layer", 0, kind, *ports, finished.nodes, finished.constants), desk.values


def _checked(run: Callable[..., tuple[Record, dict[str, np.ndarray]]]) -> Callable[..., Record]:
    """A function that runs a layer, in float64 unless told otherwise, and requires that its nodes give the same."""

    @functools.wraps(run)
    def check(
        layer: Any, *args: Any, wide: bool = True, tolerance: tuple[float, float] | None = None, **kwargs: Any
    ) -> Record:
        with jax.enable_x64(wide):
            record, values = run(layer, wide, *widened((args, kwargs), wide))
        check_record(record, values, *(tolerance or (WIDE if wide else NARROW)))
        return record

    return check


def _called(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The output of a compiled call: one compilation is far cheaper than one per operator."""
    arrays = jax.tree_util.tree_map(
        lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, (args, kwargs)
    )
    return eqx.filter_jit(lambda held: function(*held[0], **held[1]))(arrays)


@_checked
def linen(module: nn.Module, wide: bool, args: Any, kwargs: Any) -> Any:
    """Check a linen layer with random variables."""
    rng = np.random.default_rng(1)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    shapes = nn.meta.unbox(jax.eval_shape(lambda: module.init(keys, *args, **kwargs)))
    paths, tree = jax.tree_util.tree_flatten_with_path(shapes)
    names = ["/".join(str(part.key) for part in path[1:]) for path, _ in paths]
    leaves = [_random(name, leaf, rng, wide) for name, (_, leaf) in zip(names, paths, strict=True)]
    variables = jax.tree_util.tree_unflatten(tree, leaves)
    output = _called(module.apply, variables, *args, **kwargs)
    return describe(module.bind(variables), dict(zip(names, leaves, strict=True)), output, *args, **kwargs)


@_checked
def of_nnx(build: Callable[[nnx.Rngs], nnx.Module], wide: bool, args: Any, kwargs: Any) -> Any:
    """Check the nnx layer that a function builds, with random variables."""
    rng, parameters = np.random.default_rng(1), {}
    graph, state = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
    flat = dict(nnx.to_flat_state(state))
    for path, variable in flat.items():
        leaf = _random("/".join(map(str, path)), variable.get_value(), rng, wide)
        if not isinstance(variable, nnx.RngState):
            parameters["/".join(map(str, path))] = leaf
        flat[path] = variable.replace(leaf)
    state = nnx.from_flat_state(flat)
    output = _called(
        lambda held, *rest, **named: nnx.merge(graph, held)(*rest, **named), state, *args, **kwargs
    )
    return describe(nnx.merge(graph, state), parameters, output, *args, **kwargs)


@_checked
def equinox(build: Callable[[], eqx.Module], wide: bool, args: Any, kwargs: Any) -> Any:
    """Check the equinox layer that a function builds, with random arrays."""
    rng = np.random.default_rng(1)
    paths, tree = jax.tree_util.tree_flatten_with_path(eqx.filter_eval_shape(build))
    leaves, parameters = [], {}
    for path, leaf in paths:
        name = "/".join(str(getattr(part, "name", getattr(part, "idx", part))) for part in path)
        held = isinstance(leaf, jax.ShapeDtypeStruct)
        leaves.append(_random(name, leaf, rng, wide) if held else leaf)
        if held:
            parameters[name] = leaves[-1]
    module = jax.tree_util.tree_unflatten(tree, leaves)
    output = _called(lambda layer, *rest, **named: layer(*rest, **named), module, *args, **kwargs)
    return describe(module, parameters, output, *args, **kwargs)
