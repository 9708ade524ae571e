"""Activation functions, fused into a layer or as layers of their own."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, Optional

import numpy as np

from porting_check_tensorflow.flavours import is_library
from porting_check_tensorflow.sketch import (
    ACTIVATIONS,
    LayerCall,
    NotDescribedError,
    Sketch,
    axis_in,
    dtype_of,
)

SELU_ALPHA, SELU_GAMMA = 1.6732632423543772, 1.0507009873554805
"""TensorFlow's constants in full: ONNX' own defaults are rounded to float32."""


class Place:
    """Where an activation is applied: what it needs to know of the tensor that it works on."""

    def __init__(self, tensor: Any, layout: str = "", canonical: str = "", keras: int = 3) -> None:
        self.rank, self.dtype = len(tensor.shape), dtype_of(tensor)
        self.layout, self.canonical, self.keras = layout, canonical, keras

    def axis(self, axis: int) -> int:
        """An axis of the native array as the nodes count it."""
        return axis_in(int(axis), self.layout, self.canonical, self.rank)


Writer = Callable[[Sketch, str, Place], str]


def _plain(op_type: str, **attributes: Any) -> Writer:
    return lambda sketch, x, place: str(sketch.add(op_type, x, **attributes))


def clip(sketch: Sketch, x: str, place: Place, low: Optional[float], high: Optional[float]) -> str:
    """``Clip`` with constant bounds; ``None`` where there is no bound."""
    names = [x, "", ""]
    for slot, (name, bound) in enumerate((("min", low), ("max", high)), 1):
        if bound is not None:
            names[slot] = sketch.constant(name, np.asarray(bound, place.dtype))
    return str(sketch.add("Clip", *(names if high is not None else names[:2])))


def scalar(sketch: Sketch, name: str, value: float, place: Place) -> str:
    """A constant of the activation's dtype."""
    return sketch.constant(name, np.asarray(value, place.dtype))


def relu(
    sketch: Sketch,
    x: str,
    place: Place,
    negative_slope: float = 0.0,
    max_value: Optional[float] = None,
    threshold: float = 0.0,
) -> str:
    """Keras' general ReLU.

    ``slope * (x - threshold)`` below the threshold, ``x`` above, at most ``max_value``.
    """
    if threshold == 0 and max_value is None:
        return str(
            sketch.add("LeakyRelu", x, alpha=negative_slope) if negative_slope else sketch.add("Relu", x)
        )
    if threshold == 0 and not negative_slope:
        return clip(sketch, x, place, 0.0, max_value)
    bound = scalar(sketch, "threshold", threshold, place)
    high = sketch.add("Where", sketch.add("Greater", x, bound), x, scalar(sketch, "zero", 0.0, place))
    if max_value is not None:
        high = clip(sketch, high, place, 0.0, max_value)
    if not negative_slope:
        return str(high)
    below = sketch.add("Relu", sketch.add("Sub", bound, x))
    return str(
        sketch.add("Sub", high, sketch.add("Mul", scalar(sketch, "slope", negative_slope, place), below))
    )


def softmax(sketch: Sketch, x: str, place: Place, axis: Any = -1) -> str:
    """``Softmax`` along the native axis."""
    return str(sketch.add("Softmax", x, axis=place.axis(_one_axis(axis))))


def log_softmax(sketch: Sketch, x: str, place: Place, axis: Any = -1) -> str:
    """``LogSoftmax`` along the native axis."""
    return str(sketch.add("LogSoftmax", x, axis=place.axis(_one_axis(axis))))


def _one_axis(axis: Any) -> int:
    if isinstance(axis, (list, tuple)):
        if len(axis) != 1:
            raise NotDescribedError(f"a softmax over several axes {tuple(axis)} is not described")
        axis = axis[0]
    if axis is None:
        raise NotDescribedError("a softmax over all axes is not described")
    return int(axis)


def leaky_relu(
    sketch: Sketch, x: str, place: Place, negative_slope: float = 0.2, alpha: Optional[float] = None
) -> str:
    """``LeakyRelu``; Keras' functions default to a slope of 0.2."""
    return str(sketch.add("LeakyRelu", x, alpha=float(negative_slope if alpha is None else alpha)))


def elu(sketch: Sketch, x: str, place: Place, alpha: float = 1.0) -> str:
    """``Elu``."""
    return str(sketch.add("Elu", x, alpha=float(alpha)))


def gelu(sketch: Sketch, x: str, place: Place, approximate: bool = False) -> str:
    """``Gelu``; ``approximate`` is the tanh formula."""
    return str(sketch.add("Gelu", x, approximate="tanh" if approximate else "none"))


def celu(sketch: Sketch, x: str, place: Place, alpha: float = 1.0) -> str:
    """``Celu``."""
    return str(sketch.add("Celu", x, alpha=float(alpha)))


def hard_sigmoid(sketch: Sketch, x: str, place: Place) -> str:
    """Keras 3: ``relu6(x + 3) / 6``; Keras 2: ``clip(0.2 x + 0.5)``."""
    return str(sketch.add("HardSigmoid", x, alpha=1.0 / 6.0 if place.keras >= 3 else 0.2, beta=0.5))


def log_sigmoid(sketch: Sketch, x: str, place: Place) -> str:
    """``-softplus(-x)``, as TensorFlow computes it."""
    return str(sketch.add("Neg", sketch.add("Softplus", sketch.add("Neg", x))))


def glu(sketch: Sketch, x: str, place: Place, axis: int = -1) -> str:
    """The first half times the sigmoid of the second."""
    first, second = sketch.add("Split", x, outputs=2, axis=place.axis(axis), num_outputs=2)
    return str(sketch.add("Mul", first, sketch.add("Sigmoid", second)))


def squareplus(sketch: Sketch, x: str, place: Place, b: float = 4) -> str:
    """``(x + sqrt(x^2 + b)) / 2``."""
    inner = sketch.add("Add", sketch.add("Mul", x, x), scalar(sketch, "b", b, place))
    total = sketch.add("Add", x, sketch.add("Sqrt", inner))
    return str(sketch.add("Div", total, scalar(sketch, "two", 2.0, place)))


def tanh_shrink(sketch: Sketch, x: str, place: Place) -> str:
    """``x - tanh(x)``."""
    return str(sketch.add("Sub", x, sketch.add("Tanh", x)))


def hard_shrink(sketch: Sketch, x: str, place: Place, threshold: float = 0.5) -> str:
    """``Shrink`` without bias."""
    return str(sketch.add("Shrink", x, lambd=float(threshold), bias=0.0))


def soft_shrink(sketch: Sketch, x: str, place: Place, threshold: float = 0.5) -> str:
    """``Shrink`` with the threshold as bias."""
    return str(sketch.add("Shrink", x, lambd=float(threshold), bias=float(threshold)))


def sparse_sigmoid(sketch: Sketch, x: str, place: Place) -> str:
    """``clip(x / 2 + 1 / 2)``."""
    return str(sketch.add("HardSigmoid", x, alpha=0.5, beta=0.5))


def sparse_plus(sketch: Sketch, x: str, place: Place) -> str:
    """0 up to -1, ``(x + 1)^2 / 4`` up to 1, then ``x``."""
    one = scalar(sketch, "one", 1.0, place)
    shifted = sketch.add("Relu", sketch.add("Add", x, one))
    bent = sketch.add("Mul", sketch.add("Mul", shifted, shifted), scalar(sketch, "quarter", 0.25, place))
    return str(sketch.add("Where", sketch.add("Less", x, one), bent, x))


def hard_tanh(sketch: Sketch, x: str, place: Place) -> str:
    """``Clip`` to -1 … 1."""
    return clip(sketch, x, place, -1.0, 1.0)


def relu6(sketch: Sketch, x: str, place: Place) -> str:
    """``Clip`` to 0 … 6."""
    return clip(sketch, x, place, 0.0, 6.0)


def _linear(sketch: Sketch, x: str, place: Place) -> str:
    return x


def _old_relu(sketch: Sketch, x: str, place: Place, alpha: float = 0.0, **options: Any) -> str:
    """Keras 2 calls the slope ``alpha``."""
    return relu(sketch, x, place, negative_slope=float(options.pop("negative_slope", alpha)), **options)


FUNCTIONS: Dict[str, Callable[..., str]] = {
    "linear": _linear,
    "relu": _old_relu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": _plain("Selu", alpha=SELU_ALPHA, gamma=SELU_GAMMA),
    "celu": celu,
    "gelu": gelu,
    "silu": _plain("Swish", alpha=1.0),
    "swish": _plain("Swish", alpha=1.0),
    "mish": _plain("Mish"),
    "hard_sigmoid": hard_sigmoid,
    "hard_silu": _plain("HardSwish"),
    "hard_swish": _plain("HardSwish"),
    "softplus": _plain("Softplus"),
    "softsign": _plain("Softsign"),
    "tanh": _plain("Tanh"),
    "sigmoid": _plain("Sigmoid"),
    "log_sigmoid": log_sigmoid,
    "exponential": _plain("Exp"),
    "softmax": softmax,
    "softmax_v2": softmax,
    "log_softmax": log_softmax,
    "log_softmax_v2": log_softmax,
    "glu": glu,
    "squareplus": squareplus,
    "hard_tanh": hard_tanh,
    "hard_shrink": hard_shrink,
    "soft_shrink": soft_shrink,
    "tanh_shrink": tanh_shrink,
    "sparse_plus": sparse_plus,
    "sparse_sigmoid": sparse_sigmoid,
}
"""How each activation function of Keras, by its name, is written in nodes."""

GELU_IS_TANH = ("keras.src.ops.", "keras.ops.")
"""Modules whose ``gelu`` is the tanh formula by default.

``keras.activations`` and ``tf.nn`` default to the erf.
"""


def is_known(function: Any) -> bool:
    """Whether an activation is one of Keras' or TensorFlow's own functions that can be described."""
    if function is None:
        return True
    module = str(getattr(function, "__module__", "") or "")
    own = is_library(module) or module.startswith("tensorflow.")
    return own and inspect.isroutine(function) and getattr(function, "__name__", "") in FUNCTIONS


def activate(sketch: Sketch, x: str, function: Any, place: Place) -> str:
    """Append the nodes of a fused activation; gives the name of the result.

    Raises:
        NotDescribedError: the function is a user's own, or has no nodes.
    """
    if function is None:
        return x
    if not is_known(function):
        raise NotDescribedError(
            f"the activation {getattr(function, '__name__', function)!r} is not described"
        )
    name, module = function.__name__, str(function.__module__)
    if name == "gelu" and module.startswith(GELU_IS_TANH):
        return gelu(sketch, x, place, approximate=True)
    return FUNCTIONS[name](sketch, x, place)


def _describe(write: Callable[[LayerCall, Sketch, str, Place], str]) -> Callable[[LayerCall, Sketch], None]:
    """A describer of an elementwise layer: one input and one output, as they are."""

    def describer(call: LayerCall, sketch: Sketch) -> None:
        x = sketch.input("x", call.x)
        sketch.output(write(call, sketch, x, Place(call.x, keras=call.keras)), call.y)

    return describer


def _softmax_layer(call: LayerCall, sketch: Sketch, x: str, place: Place) -> str:
    if call.mask("mask", call.x) is not None:
        raise NotDescribedError("a mask hides some positions")
    return softmax(sketch, x, place, call.layer.axis)


def _slope(layer: Any, *names: str) -> float:
    """A slope under the name that this version of Keras gives it."""
    value = next(getattr(layer, name) for name in names if hasattr(layer, name))
    return float(value if value is not None else 0.0)


def _relu_layer(call: LayerCall, sketch: Sketch, x: str, place: Place) -> str:
    layer = call.layer
    top = None if layer.max_value is None else float(layer.max_value)
    return relu(sketch, x, place, _slope(layer, "negative_slope"), top, _slope(layer, "threshold"))


def _thresholded_relu(call: LayerCall, sketch: Sketch, x: str, place: Place) -> str:
    return str(sketch.add("ThresholdedRelu", x, alpha=float(call.layer.theta)))


def prelu(call: LayerCall, sketch: Sketch) -> None:
    """``PRelu``: a slope per element, of size 1 along the shared axes (Keras layer PReLU).

    The shared axes tell where the channels are; where none or others are shared, the native axes stay.
    """
    shared = sorted(int(axis) for axis in call.layer.shared_axes or ())
    last, first = ACTIVATIONS.get(call.rank - 2, ("", ""))
    if last and shared == list(range(1, call.rank - 1)):
        layout, canonical = last, first
    elif first and shared == list(range(2, call.rank)):
        layout = canonical = first
    else:
        layout = canonical = ""
    x = sketch.input("x", call.x, layout, canonical)
    slope = sketch.parameter("slope", call.layer.alpha, layout[1:], canonical[1:])
    sketch.output(sketch.add("PRelu", x, slope), call.y, layout, canonical)


LAYERS: Dict[str, Callable[[LayerCall, Sketch], None]] = {
    "Activation": _describe(lambda call, sketch, x, place: activate(sketch, x, call.layer.activation, place)),
    "ReLU": _describe(_relu_layer),
    "LeakyReLU": _describe(
        lambda c, s, x, p: leaky_relu(s, x, p, _slope(c.layer, "negative_slope", "alpha"))
    ),
    "ELU": _describe(lambda c, s, x, p: elu(s, x, p, _slope(c.layer, "alpha"))),
    "ThresholdedReLU": _describe(_thresholded_relu),
    "Softmax": _describe(_softmax_layer),
    "PReLU": prelu,
}
