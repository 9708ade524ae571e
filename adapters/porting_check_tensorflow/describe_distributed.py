"""``TimeDistributed``: the inner layer on all time steps at once, the steps folded into the batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, List

import tensorflow as tf

from porting_check.neutral.layout import Layout
from porting_check_tensorflow.sketch import LayerCall, Link, NotDescribedError, Sketch
from porting_check_tensorflow.trees import array_of


def time_distributed(inner: Callable[[LayerCall, Sketch], None]) -> Callable[[LayerCall, Sketch], None]:
    """A describer of ``TimeDistributed`` around a layer that has one."""

    def describe(call: LayerCall, sketch: Sketch) -> None:
        if call.mask("mask", call.x) is not None:
            raise NotDescribedError("a mask hides some time steps")
        x, y = call.x, call.y
        folded = LayerCall(call.layer.layer, [_folded(x)], {}, _folded(y))
        part = Sketch()
        inner(folded, part)
        if len(part.inputs) != 1 or len(part.outputs) != 1:
            raise NotDescribedError(
                f"{type(call.layer.layer).__name__} with several inputs or outputs is not described"
            )
        _wrap(part, sketch, x, y)

    return describe


def _folded(tensor: Any) -> Any:
    """A tensor of the folded shape (batch * time, …).

    Values do not matter for a description, so memory is shared.
    """
    array = array_of(tensor)
    return tf.convert_to_tensor(array.reshape((array.shape[0] * array.shape[1],) + array.shape[2:]))


def _wrap(part: Sketch, sketch: Sketch, x: Any, y: Any) -> None:
    """The inner nodes between two reshapes, and the transposes that the core makes for ports."""
    sketch.parameters, sketch.constants = part.parameters, part.constants
    came, went = part.inputs[0], part.outputs[0]
    shape = sketch.integers("folded", [-1] + [int(size) for size in x.shape[2:]])
    value = sketch.add("Reshape", sketch.input("sequence", x), shape, allowzero=0)
    value = _moved(sketch, value, came, back=False)
    inside = {came.name: value, went.name: "inside"}
    for node in part.nodes:
        inputs = tuple(_inner(name, inside) for name in node.inputs)
        outputs = tuple(_inner(name, inside) for name in node.outputs)
        sketch.nodes.append(replace(node, inputs=inputs, outputs=outputs))
    value = _moved(sketch, "inside", went, back=True)
    steps = [int(y.shape[0]), int(y.shape[1])] + [int(size) for size in y.shape[2:]]
    sketch.output(sketch.add("Reshape", value, sketch.integers("unfolded", steps), allowzero=0), y)


def _inner(name: str, inside: Any) -> str:
    """Names of the inner description, kept apart from those given out here."""
    if name in inside:
        return str(inside[name])
    return f"inner{name}" if name.startswith("_") else name


def _moved(sketch: Sketch, value: str, link: Link, back: bool) -> str:
    """A value between its native and its canonical layout."""
    if link.layout == link.canonical:
        return value
    start, goal = (link.canonical, link.layout) if back else (link.layout, link.canonical)
    perm: List[int] = list(Layout(start).permutation(goal))
    return str(sketch.add("Transpose", value, perm=perm))
