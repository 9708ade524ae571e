"""Quantised operators. Those that only ONNX Runtime has are told as: dequantise, compute, quantise."""

from __future__ import annotations

from typing import Callable, Dict, Tuple

from porting_check_onnxruntime.draft import Draft


def quantize(d: Draft) -> None:
    attributes = {"axis": int(d.get("axis", 1)), "block_size": int(d.get("block_size", 0))}
    attributes.update((name, int(d.get(name, 0))) for name in ("output_dtype", "precision") if d.get(name))
    inputs = [d.port(0), d.port(1, "scale"), d.port(2, "zero_point")]
    d.give(d.node("QuantizeLinear", *inputs, saturate=int(d.get("saturate", 1)), **attributes))


def dequantize(d: Draft) -> None:
    role = "weight" if d.input(0).parameter else "x"
    attributes = {"axis": int(d.get("axis", 1)), "block_size": int(d.get("block_size", 0))}
    d.give(
        d.node("DequantizeLinear", d.port(0, role), d.port(1, "scale"), d.port(2, "zero_point"), **attributes)
    )


def _read(d: Draft, place: int, role: str = "x") -> str:
    """A quantised input and its scale and zero point, as the number that it stands for."""
    inputs = [
        d.port(place, role),
        d.port(place + 1, f"{role}_scale"),
        d.port(place + 2, f"{role}_zero_point"),
    ]
    return d.node("DequantizeLinear", *inputs, axis=1, block_size=0)


def _give(d: Draft, name: str, place: int) -> None:
    inputs = [name, d.port(place, "y_scale"), d.port(place + 1, "y_zero_point")]
    d.give(d.node("QuantizeLinear", *inputs, axis=1, block_size=0, saturate=1))


def _binary(op_type: str) -> Callable[[Draft], None]:
    def describe(d: Draft) -> None:
        _give(d, d.node(op_type, _read(d, 0), _read(d, 3, "other")), 6)

    return describe


def _unary(op_type: str, *names: Tuple[str, float]) -> Callable[[Draft], None]:
    def describe(d: Draft) -> None:
        attributes = {name: float(d.get(name, default)) for name, default in names}
        _give(d, d.node(op_type, _read(d, 0), **attributes), 3)

    return describe


def _global_average_pool(d: Draft) -> None:
    if d.get("channels_last", 0):
        d.refuse("with channels last is not described")
    _give(d, d.node("GlobalAveragePool", _read(d, 0)), 3)


OPERATORS: Dict[str, Callable[[Draft], None]] = {"QuantizeLinear": quantize, "DequantizeLinear": dequantize}

MICROSOFT: Dict[str, Callable[[Draft], None]] = {
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "QLinearAdd": _binary("Add"),
    "QLinearMul": _binary("Mul"),
    "QLinearSigmoid": _unary("Sigmoid"),
    "QLinearLeakyRelu": _unary("LeakyRelu", ("alpha", 0.01)),
    "QLinearGlobalAveragePool": _global_average_pool,
}
