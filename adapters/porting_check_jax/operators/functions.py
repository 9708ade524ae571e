"""Functions of JAX and flax that are recorded as one: known by name, checked by where they are defined."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from porting_check_jax import compat
from porting_check_jax.draft import Draft, Ref
from porting_check_jax.operators.elementwise import operands
from porting_check_jax.operators.table import Describer, number, real

SELU_ALPHA, SELU_GAMMA = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
"""jax._src.nn.functions.selu."""

PLAIN: Dict[str, Tuple[str, Dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "silu": ("Swish", {"alpha": 1.0}),
    "softplus": ("Softplus", {}),
    "soft_sign": ("Softsign", {}),
    "selu": ("Selu", {"alpha": SELU_ALPHA, "gamma": SELU_GAMMA}),
    "mish": ("Mish", {}),
    "hard_silu": ("HardSwish", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
}
"""Functions of ``jax.nn`` that are one ONNX node."""

ALPHAS = {"elu": ("Elu", 1.0), "celu": ("Celu", 1.0), "leaky_relu": ("LeakyRelu", 0.01)}
"""Functions of ``jax.nn`` whose second argument is a slope, and its default; where that is used no argument may arrive."""

LIMITS = {"relu6": (0.0, 6.0), "hard_tanh": (-1.0, 1.0)}

Known = Tuple[str, Describer, str]
"""Name of the record, describer, and the function as a person writes it."""


def library_function(primitive: str, params: Mapping[str, Any]) -> Optional[Known]:
    """What a jit call computes, when it is one of JAX' own functions that have a describer.

    Args:
        primitive: the primitive's name.
        params: its parameters.
    """
    if primitive not in ("jit", "pjit"):
        return None
    file, name = compat.function_home(dict(params))
    describer = _HOMES.get(next((home for home in _HOMES if file.endswith(home)), ""), {}).get(name)
    if describer is None:
        return None
    spoken = _SPOKEN[next(home for home in _HOMES if file.endswith(home))]
    return name.strip("_"), describer, f"{spoken}.{name.strip('_')}"


def _plain(op_type: str, attributes: Mapping[str, Any]) -> Describer:
    def describe(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
        _floating(d, args)
        d.give(d.node(op_type, *operands(d, args[:1]), **attributes))

    return describe


def _alpha(op_type: str, default: float) -> Describer:
    def describe(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
        _floating(d, args[:1])
        slope = default
        if len(args) > 1:
            if args[1].fixed is None or args[1].numel != 1:
                d.refuse("with a computed slope is not described")
            slope = float(str(np.float32(args[1].fixed.reshape(()))))
        d.give(d.node(op_type, *operands(d, args[:1]), alpha=slope))

    return describe


def _limited(low: float, high: float) -> Describer:
    def describe(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
        _floating(d, args)
        x = operands(d, args)[0]
        d.give(d.node("Clip", x, number(d, low, args[0], "min"), number(d, high, args[0], "max")))

    return describe


def _floating(d: Draft, args: Sequence[Ref]) -> None:
    real(d, *args)
    if not args[0].floating or args[0].dtype != d.out.dtype:
        d.refuse("of integers is not described")


def log_sigmoid(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """``-softplus(-x)``."""
    _floating(d, args)
    d.give(d.node("Neg", d.node("Softplus", d.node("Neg", *operands(d, args)))))


def clip(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """``Clip`` for two numbers; minimum and maximum else."""
    names = operands(d, args)
    if len(args) == 3 and all(ref.ndim == 0 for ref in args[1:]) and len({ref.dtype for ref in args}) == 1:
        d.give(d.node("Clip", *names))
    else:
        d.refuse("with limits that are arrays is not described")


def where(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """``x`` where the condition holds, else ``y``."""
    condition, x, y = args
    real(d, *args)
    chosen = d.operand(condition, "condition", np.dtype(bool))
    d.give(
        d.node(
            "Where", chosen, *[d.operand(ref, role, d.out.dtype) for ref, role in ((x, "x"), (y, "other"))]
        )
    )


def mean(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """``ReduceMean``; the axes are those that the function inside sums over."""
    _floating(d, args[:1])
    over = _axes(params, "reduce_sum")
    if len(args) != 1 or over is None:
        d.refuse("of chosen elements is not described")
    kept = int(d.out.ndim == args[0].ndim and bool(over))
    d.give(
        d.node("ReduceMean", d.port(args[0]), d.integers(over), keepdims=kept) if over else d.port(args[0])
    )


def log_softmax(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """``LogSoftmax`` over one axis."""
    _floating(d, args[:1])
    over = _axes(params, "reduce_max")
    if len(args) != 1 or over is None or len(over) != 1:
        d.refuse("over chosen elements or several axes is not described")
    d.give(d.node("LogSoftmax", d.port(args[0]), axis=_from_end(over[0], args[0].ndim)))


def _from_end(axis: int, ndim: int) -> int:
    """The last axis as -1, so that any rank reads alike; others from the front."""
    return -1 if axis % ndim == ndim - 1 else axis % ndim


def _axes(params: Mapping[str, Any], reduction: str) -> Optional[List[int]]:
    """The axes of the only reduction of a kind inside a call."""
    found = _reductions(getattr(params["jaxpr"], "jaxpr", params["jaxpr"]), reduction)
    return [int(axis) for axis in found[0]] if len(found) == 1 else None


def _reductions(jaxpr: Any, reduction: str) -> List[Any]:
    found: List[Any] = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == reduction:
            found.append(equation.params["axes"])
        inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        if inner is not None:
            found += _reductions(getattr(inner, "jaxpr", inner), reduction)
    return found


_NN: Dict[str, Describer] = {name: _plain(*entry) for name, entry in PLAIN.items()}
_NN.update({name: _alpha(*form) for name, form in ALPHAS.items()})
_NN.update({name: _limited(*limits) for name, limits in LIMITS.items()})
_NN.update({"log_sigmoid": log_sigmoid, "log_softmax": log_softmax})

_HOMES: Dict[str, Dict[str, Describer]] = {
    "jax/_src/nn/functions.py": _NN,
    "jax/_src/numpy/reductions.py": {"_mean": mean},
    "jax/_src/numpy/util.py": {"_where": where},
    "jax/_src/numpy/lax_numpy.py": {"clip": clip},
}
_SPOKEN = {
    "jax/_src/nn/functions.py": "jax.nn",
    "jax/_src/numpy/reductions.py": "jax.numpy",
    "jax/_src/numpy/util.py": "jax.numpy",
    "jax/_src/numpy/lax_numpy.py": "jax.numpy",
}
