"""Two recordings of one network that is larger than memory: a reference in NHWC and its port in NCHW.

Every layer is really computed, in float32, once as a matrix product (reference) and once channel by channel in the
opposite order (candidate), so that the two sides differ by honest round-off. Nothing but a few tensors is held at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from porting_check.neutral.node import Node
from porting_check.neutral.trace import Checks, Environment, Port, Record, parameter_key
from porting_check.neutral.tracefile import TraceWriter

Array = np.ndarray

CHANNELS = 8
CLASSES = 16
POOLED_EVERY = 4
LEAK = 0.125
"""Slope of the wrong activation."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large one side is: so many blocks of tensors of so many bytes.

    Example:
        >>> Size.of(3 * 2**30, 32 * 2**20).blocks
        18
    """

    height: int
    width: int
    blocks: int

    @classmethod
    def of(cls, side: int, tensor: int) -> Size:
        """The smallest network whose recording has ``side`` bytes in activations of ``tensor`` bytes and weights as large."""
        width = 512
        height = max(tensor // (4 * CHANNELS * width), 1)
        block = tensor * (
            5 + 1 / POOLED_EVERY
        )  # conv, relu, add, gate and its weight, and a pool now and then
        fixed = tensor * 3  # the input, and two dense weights
        return cls(height, width, max(int(-(-(side - fixed) // block)), 1))


@dataclass(slots=True)
class _Side:
    """One side while it is written."""

    sink: TraceWriter
    native: str
    framework: str
    rng: np.random.Generator
    wrong: str = ""

    def put(self, key: str, array: Array) -> None:
        """Store a value that is held here in NCHW (four axes) or as it is (two)."""
        moved = array.transpose(0, 2, 3, 1) if array.ndim == 4 and self.native == "NHWC" else array
        self.sink.value(key, np.ascontiguousarray(moved))

    def port(self, name: str, key: str, array: Array) -> Port:
        """How a node reads or makes a value."""
        return Port(name, key, self.native, "NCHW") if array.ndim == 4 else Port(name, key)

    def layer(
        self,
        name: str,
        nodes: Sequence[Node],
        weights: Mapping[str, Array],
        made: Array,
        read: Mapping[str, tuple[str, Array]],
    ) -> tuple[str, Array]:
        """Record one layer; gives the key and the array of what it made."""
        ports = []
        for role, array in weights.items():
            key = parameter_key(f"{name}.{role}")
            if role == "kernel":  # HWIO as TensorFlow has it, OIHW as PyTorch has it
                layouts = ("HWIO", "OIHW") if self.native == "NHWC" else ("OIHW", "OIHW")
                self.sink.value(
                    key, np.ascontiguousarray(array.transpose(2, 3, 1, 0)) if self.native == "NHWC" else array
                )
                ports.append(Port(role, key, *layouts))
            else:
                self.put(key, array)
                ports.append(self.port(role, key, array))
        made = np.ascontiguousarray(made)
        key = f"{name}:0"
        self.put(key, made)
        inputs = tuple(self.port(wire, source, array) for wire, (source, array) in read.items())
        self.sink.record(
            Record(
                name,
                0,
                f"{self.framework}.{nodes[0].op_type.lower()}",
                inputs,
                (self.port("y", key, made),),
                tuple(ports),
                tuple(nodes),
            )
        )
        return key, made


def write(path: str | Path, side: str, size: Size, *, seed: int = 0, wrong: str = "") -> None:
    """Record one side.

    Args:
        path: the folder to create.
        side: ``"reference"`` (NHWC, sums as matrix products) or ``"candidate"`` (NCHW, sums channel by channel).
        size: of the network.
        seed: of input and weights; the same one for both sides.
        wrong: name of a Relu (``"relu3"``) that leaks, so that this layer computes something else.
    """
    native, framework = ("NHWC", "tensorflow") if side == "reference" else ("NCHW", "torch")
    mix = _product if side == "reference" else _by_channel
    environment = Environment(framework, {framework: "0"})
    with TraceWriter(str(path), "large", environment) as sink:
        one = _Side(sink, native, framework, np.random.default_rng(seed), wrong)
        x = one.rng.standard_normal((1, CHANNELS, size.height, size.width), np.float32)
        one.put("input:0", x)
        sink.input(Port("0", "input:0", native))
        last = ("input:0", x)
        del x
        for number in range(size.blocks):
            last = _block(one, number, last, mix)
        last = _head(one, last, mix, 4 * CHANNELS * size.height * size.width)
        sink.output(Port("0", last[0]))
        sink.finish(Checks(0.0, 0.0))


def _block(
    side: _Side, number: int, last: tuple[str, Array], mix: Callable[[Array, Array], Array]
) -> tuple[str, Array]:
    """Conv 1x1, Relu, the sum with the block's input, a gate with a weight as large as the activation, now and then a pool."""
    kernel = (side.rng.standard_normal((CHANNELS, CHANNELS, 1, 1)) / np.sqrt(CHANNELS)).astype(np.float32)
    bias = side.rng.standard_normal(CHANNELS).astype(np.float32) * np.float32(0.1)
    x = last[1]
    made = mix(kernel[:, :, 0, 0], x.reshape(CHANNELS, -1)).reshape(x.shape) + bias[:, None, None]
    conv = side.layer(f"conv{number}", *_convolution(side, kernel, bias), made, {"x": last})
    leaky = side.wrong == f"relu{number}"
    made = np.maximum(conv[1], conv[1] * np.float32(LEAK) if leaky else np.float32(0))
    relu = side.layer(f"relu{number}", [_activation(side, leaky)], {}, made, {"x": conv})
    del conv
    node = Node("Add", ("x", "z"), ("y",))
    total = side.layer(f"add{number}", [node], {}, relu[1] + last[1], {"x": relu, "z": last})
    del relu, last, x
    gate = side.rng.random(total[1].shape, np.float32) * np.float32(0.3) + np.float32(0.5)
    node = Node("Mul", ("x", "gate"), ("y",))
    found = side.layer(f"gate{number}", [node], {"gate": gate}, total[1] * gate, {"x": total})
    if number % POOLED_EVERY == POOLED_EVERY - 1:
        node = Node("MaxPool", ("x",), ("y",), {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)})
        found = side.layer(f"pool{number}", [node], {}, _largest_of_nine(found[1]), {"x": found})
    return found


def _convolution(side: _Side, kernel: Array, bias: Array) -> tuple[list[Node], dict[str, Array]]:
    """The reference adds its bias in a node of its own, the port does not."""
    attributes = {"kernel_shape": (1, 1)}
    if side.framework == "torch":
        node = Node("Conv", ("x", "kernel", "bias"), ("y",), attributes)
        return [node], {"kernel": kernel, "bias": bias}
    nodes = [Node("Conv", ("x", "kernel"), ("c",), attributes), Node("Add", ("c", "bias"), ("y",))]
    return nodes, {"kernel": kernel, "bias": bias[None, :, None, None]}


def _activation(side: _Side, leaky: bool) -> Node:
    """The port's Relu is a leaky one of slope 0, so that the two sides are not one program."""
    if side.framework == "torch":
        return Node("LeakyRelu", ("x",), ("y",), {"alpha": LEAK if leaky else 0.0})
    return Node("Relu", ("x",), ("y",))


def _head(
    side: _Side, last: tuple[str, Array], mix: Callable[[Array, Array], Array], tensor: int
) -> tuple[str, Array]:
    """Mean over the places, and two dense layers whose weights have ``tensor`` bytes each."""
    found = last[1].mean((2, 3), keepdims=True)
    mean = side.layer("mean", [Node("GlobalAveragePool", ("x",), ("y",))], {}, found, {"x": last})
    node = Node("Flatten", ("x",), ("y",))
    last = side.layer("flatten", [node], {}, found.reshape(1, CHANNELS), {"x": mean})
    wide = max(tensor // (4 * CHANNELS), CLASSES)
    for name, rows in (("wide", wide), ("classes", CHANNELS)):
        columns = last[1].shape[1]
        weight = side.rng.standard_normal((rows, columns), np.float32) / np.float32(np.sqrt(columns))
        node = Node("Gemm", ("x", "weight"), ("y",), {"transB": 1})
        made = mix(last[1], weight.T) if columns <= CHANNELS else _dense(side, last[1], weight)
        last = side.layer(name, [node], {"weight": weight}, made, {"x": last})
    return last


def _dense(side: _Side, x: Array, weight: Array) -> Array:
    """A long product, on the candidate's side in pieces."""
    if side.framework == "tensorflow":
        return x @ weight.T
    parts = [x[:, i : i + 4096] @ weight[:, i : i + 4096].T for i in range(0, x.shape[1], 4096)]
    return np.sum(parts, axis=0, dtype=np.float32)


def _product(weight: Array, x: Array) -> Array:
    return weight @ x


def _by_channel(weight: Array, x: Array) -> Array:
    """The same sums, from the last channel to the first."""
    made = weight[:, -1:] * x[-1]
    for channel in reversed(range(x.shape[0] - 1)):
        made += weight[:, channel, None] * x[channel]
    return made


def _largest_of_nine(x: Array) -> Array:
    """Max pooling over 3 by 3 with a border that never wins."""
    for axis in (2, 3):
        made = x.copy()
        ahead, behind = _slices(axis)
        np.maximum(made[behind], x[ahead], out=made[behind])
        np.maximum(made[ahead], x[behind], out=made[ahead])
        x = made
    return x


def _slices(axis: int) -> Iterator[tuple[slice, ...]]:
    for part in (slice(1, None), slice(None, -1)):
        yield (*(slice(None),) * axis, part)
