"""Products with a kernel: Dense, Linear, DenseGeneral, LinearGeneral, Einsum, Embed."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from porting_check_jax.draft import Draft, Ref, axes
from porting_check_jax.layers import LayerCall
from porting_check_jax.layers_shared import argument, fed, optional, plain, promoted, required

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def product(
    d: Draft,
    x: str,
    ndim: int,
    weight: Ref,
    bias: Optional[Ref],
    dtype: np.dtype,
    layout: str,
    roles: Tuple[str, str] = ("weight", "bias"),
) -> str:
    """``x W + b`` over the last axis: ``Gemm`` for a matrix, ``MatMul`` and ``Add`` for anything else.

    Args:
        d: the draft.
        x: the input, in ``dtype``, of rank ``ndim``.
        ndim: its rank.
        weight: the kernel, a matrix.
        bias: one number per output, or ``None``.
        dtype: what the product is computed in.
        layout: how the library stores the kernel, ``"IO"`` (flax) or ``"OI"`` (equinox).
        roles: names of the parameters.
    """
    if ndim == 2:
        inputs = [x, fed(d, weight, roles[0], dtype, layout, "OI")]
        inputs += [] if bias is None else [fed(d, bias, roles[1], dtype)]
        return d.node("Gemm", *inputs, alpha=1.0, beta=1.0, transA=0, transB=1)
    y = d.node("MatMul", x, fed(d, weight, roles[0], dtype, layout, "IO"))
    return y if bias is None else d.node("Add", y, fed(d, bias, roles[1], dtype))


def dense(call: LayerCall, d: Draft) -> None:
    """``linen.Dense`` and ``nnx.Linear``."""
    plain(call, d)
    weight, bias = required(call, d, "kernel")[0], optional(call, "bias")
    dtype = promoted(d, (call.x, weight, bias), call.module.dtype)
    x = fed(d, call.x, "x", dtype)
    d.give_as(product(d, x, call.x.ndim, weight, bias, dtype, "IO"), dtype)


def equinox_linear(call: LayerCall, d: Draft) -> None:
    """``equinox.nn.Linear``: one sample, a vector; a scalar is a vector of one."""
    weight, bias = required(call, d, "weight")[0], optional(call, "bias")
    dtype = promoted(d, (call.x, weight, bias))
    x, ndim = fed(d, call.x, "x", dtype), call.x.ndim
    if call.module.in_features == "scalar":
        x, ndim = d.reshape(x, call.x.shape + (1,)), ndim + 1
    y = product(d, x, ndim, weight, bias, dtype, "OI")
    d.give_as(d.reshape(y, d.out.shape) if call.module.out_features == "scalar" else y, dtype)


def _tuple(value: Any) -> Tuple[int, ...]:
    return tuple(int(item) for item in value) if hasattr(value, "__iter__") else (int(value),)


def dense_general(call: LayerCall, d: Draft) -> None:
    """``linen.DenseGeneral`` and ``nnx.LinearGeneral``: several axes in, several out, some of them batch axes.

    Flax sorts the axes, and so takes the kernel's first axes to be in the order of the input's.
    """
    plain(call, d)
    module, ref = call.module, call.x
    weight, bias = required(call, d, "kernel")[0], optional(call, "bias")
    dtype = promoted(d, (ref, weight, bias), module.dtype)
    over = sorted(axes(_tuple(module.axis), ref.ndim))
    features = _tuple(module.features if call.kind.startswith("linen.") else module.out_features)
    batch = getattr(module, "batch_dims", None)
    batch = tuple(getattr(module, "batch_axis", ())) if batch is None else batch
    shared = sorted(axes(_tuple(batch), ref.ndim))
    if shared:
        _batched_general(d, ref, (weight, bias), (over, shared, features), dtype)
        return
    rest = [axis for axis in range(ref.ndim) if axis not in over]
    x = fed(d, ref, "x", dtype)
    if rest + over != list(range(ref.ndim)):
        x = d.node("Transpose", x, perm=rest + over)
    if len(over) == 1 and len(features) == 1:
        d.give_as(product(d, x, ref.ndim, weight, bias, dtype, "IO"), dtype)
        return
    lead, width = [ref.shape[axis] for axis in rest], int(np.prod([ref.shape[axis] for axis in over]))
    x = x if len(over) == 1 else d.reshape(x, lead + [width])
    kernel = d.reshape(fed(d, weight, "weight", dtype), (width, int(np.prod(features))))
    y = d.node("MatMul", x, kernel)
    y = y if len(features) == 1 else d.reshape(y, lead + list(features))
    d.give_as(y if bias is None else d.node("Add", y, fed(d, bias, "bias", dtype)), dtype)


def _batched_general(
    d: Draft,
    ref: Ref,
    parameters: Tuple[Ref, Optional[Ref]],
    roles: Tuple[List[int], List[int], Tuple[int, ...]],
    dtype: np.dtype,
) -> None:
    """With a kernel of its own for each place on the batch axes: an Einsum."""
    (weight, bias), (over, shared, features) = parameters, roles
    names = LETTERS[: ref.ndim]
    rest = [axis for axis in range(ref.ndim) if axis not in over + shared]
    made = LETTERS[ref.ndim : ref.ndim + len(features)]
    kernel = "".join(names[axis] for axis in shared + over) + made
    result = "".join(names[axis] for axis in shared + rest) + made
    inputs = fed(d, ref, "x", dtype), fed(d, weight, "weight", dtype)
    y = d.node("Einsum", *inputs, equation=f"{names},{kernel}->{result}")
    if bias is not None:
        spread = [ref.shape[axis] for axis in shared] + [1] * len(rest) + list(features)
        y = d.node("Add", y, d.reshape(fed(d, bias, "bias", dtype), spread))
    d.give_as(y, dtype)


def einsum(call: LayerCall, d: Draft) -> None:
    """``linen.Einsum`` and ``nnx.Einsum``: the equation of the layer or of the call."""
    plain(call, d)
    given = argument(call, "einsum_str", 1)
    equation = str(call.module.einsum_str if given is None else given).replace(" ", "")
    weight, bias = required(call, d, "kernel")[0], optional(call, "bias")
    dtype = promoted(d, (call.x, weight, bias), call.module.dtype)
    y = d.node("Einsum", fed(d, call.x, "x", dtype), fed(d, weight, "weight", dtype), equation=equation)
    if bias is not None:
        terms, _, result = equation.partition("->")
        if "." in equation:
            d.refuse("with an ellipsis and a bias is not described")
        kernel = terms.partition(",")[2]
        spread = [size if letter in kernel else 1 for letter, size in zip(result, d.out.shape)]
        y = d.node("Add", y, d.reshape(fed(d, bias, "bias", dtype), spread))
    d.give_as(y, dtype)


def embed(call: LayerCall, d: Draft) -> None:
    """``linen.Embed``, ``nnx.Embed`` and ``equinox.nn.Embedding``: rows of a table."""
    plain(call, d)
    table = required(call, d, "weight" if call.kind.startswith("equinox.") else "embedding")[0]
    if call.kind.startswith("nnx.") and table.shape[0] == 1 or getattr(call.module, "num_embeddings", 0) == 1:
        _lone_row(call, d, table)
        return
    indices = d.port(call.x, "indices") if isinstance(call.x, Ref) else d.integers(call.x, "indices")
    if isinstance(call.x, Ref) and call.x.dtype.name not in ("int32", "int64"):
        indices = d.cast(indices, call.x.dtype, np.dtype(np.int64))
    d.give_as(d.node("Gather", d.port(table, "weight"), indices, axis=0), table.dtype)


def _lone_row(call: LayerCall, d: Draft, table: Ref) -> None:
    """A table of one row answers every index with it (flax.linen.Embed)."""
    if not call.kind.startswith(("linen.", "nnx.")):
        d.refuse("with a single row is not described")
    shape: Sequence[int] = d.out.shape
    d.give_as(d.node("Expand", d.port(table, "weight"), d.integers(list(shape), "shape")), table.dtype)
