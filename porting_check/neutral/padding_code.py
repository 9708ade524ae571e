"""How each framework writes a pad operator, a crop and an average: text that runs, for the fixes in reports.

The lines work on named variables: ``x``, the input of an operator, and ``y``, its output. ONNX is the
exception: its lines make nodes, so each gives its result a new name.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

from porting_check.neutral.errors import PaddingError
from porting_check.neutral.layout import Layout
from porting_check.neutral.padding import Padding
from porting_check.neutral.padding_forms import to_pad_width, to_torch_pad
from porting_check.neutral.padding_modes import native_mode, whose

CHANNELS_FIRST = {1: "NCL", 2: "NCHW", 3: "NCDHW"}
CHANNELS_LAST = {1: "NLC", 2: "NHWC", 3: "NDHWC"}


class Dialect:
    """One framework's way of writing: templates, and the methods that fill them in.

    ``pad_with`` and ``fill`` are the pad operator and its keyword for the value, ``pick`` and ``mean``
    templates of an expression that picks elements along an axis and of one that averages unpadded windows.
    """

    framework = ""
    imports: Tuple[str, ...] = ()
    layouts: Dict[int, str] = CHANNELS_LAST
    nothing, pad_with, fill, ones_like, pick, mean = "", "", "constant_values", "", "", ""

    def unpadded(self, ndim: int) -> str:
        """The operator's own argument for no padding."""
        return self.nothing

    def amounts(self, padding: Padding, layout: Layout) -> str:
        """The pad operator's amounts: a pair for every axis."""
        return str(tuple(to_pad_width(padding, layout)))

    def pad(
        self, name: str, padding: Padding, mode: str, value: float, layout: Layout
    ) -> Tuple[List[str], str]:
        """Lines that pad the variable ``name``, and the name of their result; negative amounts crop.

        Raises:
            PaddingError: a negative amount with another mode than ``constant``.
        """
        if mode == "constant":
            lines = self.constant(name, padding.grown, value, layout)
            return lines + self.crop(name, padding.cropped, layout), name
        if padding.crops:
            raise PaddingError(f"pad mode {mode!r} with a negative amount {padding} is ambiguous: crop first")
        native = self.native(mode, padding)
        if native is None:
            return self.gathered(name, padding, mode, layout), name
        return [f'{name} = {self.pad_with}({name}, {self.amounts(padding, layout)}, mode="{native}")'], name

    def native(self, mode: str, padding: Padding) -> Optional[str]:
        """The framework's name of the mode, or of one that is the same thing for amounts of 0 and 1."""
        twin = {"symmetric": "edge", "edge": "symmetric"}.get(mode)
        found = native_mode(self.framework, mode)
        if found is None and twin and max(padding.to_onnx()) <= 1:
            found = native_mode(self.framework, twin)
        return found

    def constant(self, name: str, padding: Padding, value: float, layout: Layout) -> List[str]:
        """Lines that pad with a value."""
        extra = f", {self.fill}={number(value)}" if value else ""
        line = f"{name} = {self.pad_with}({name}, {self.amounts(padding, layout)}{extra})"
        return [] if padding.is_none else [line]

    def gathered(self, name: str, padding: Padding, mode: str, layout: Layout) -> List[str]:
        """Lines that pad by a mode which the framework lacks: numpy makes indices of the elements to pick."""
        lines = []
        for axis, pair in enumerate(to_pad_width(padding, layout)):
            index = f'np.pad(np.arange({name}.shape[{axis}]), {pair}, mode="{mode}")'
            picked = self.pick.format(name=name, index=index, axis=axis, before=":, " * axis)
            lines += [f"{name} = {picked}"] * any(pair)
        return lines

    def crop(self, name: str, crop: Padding, layout: Layout) -> List[str]:
        """Lines that remove elements; all amounts are 0 or more."""
        if crop.is_none:
            return []
        parts = [f"{begin or ''}:{-end or ''}" for begin, end in to_pad_width(crop, layout)]
        while parts[-1] == ":":
            parts.pop()
        return [f"{name} = {name}[{', '.join(parts)}]"]

    def average(self, name: str, kernel: Sequence[int], strides: Sequence[int], layout: Layout) -> str:
        """An expression that averages unpadded windows."""
        ndim = len(kernel)
        extra = "" if layout.text == self.layouts[ndim] else f', data_format="{self.data_format(layout)}"'
        return self.mean.format(
            name=name, ndim=ndim, kernel=tuple(kernel), strides=tuple(strides), extra=extra
        )

    def data_format(self, layout: Layout) -> str:
        """What the framework calls a layout that is not its habit."""
        return layout.text

    def call(self, operator: str, reads: str, argument: str) -> str:
        """The line that applies the operator, to be read."""
        word = {"ConvTranspose": "conv_transpose", "MaxPool": "max_pool", "AveragePool": "avg_pool"}
        return f"y = {word.get(operator, operator.lower())}({reads}, {argument})"


class Torch(Dialect):
    """PyTorch: the list of ``F.pad`` starts with the last axis, and a negative amount crops."""

    framework, layouts, nothing = "torch", CHANNELS_FIRST, "padding=0"
    imports = ("import torch", "import torch.nn.functional as F")
    pad_with, fill, ones_like, pick = "F.pad", "value", "torch.ones_like", "{name}[{before}{index}]"
    mean = "F.avg_pool{ndim}d({name}, {kernel}, {strides})"

    def amounts(self, padding: Padding, layout: Layout) -> str:
        """Only the spatial axes, the last one first."""
        return str(to_torch_pad(padding))

    def pad(
        self, name: str, padding: Padding, mode: str, value: float, layout: Layout
    ) -> Tuple[List[str], str]:
        """As for every dialect, but one line pads and crops."""
        if mode == "constant":
            return self.constant(name, padding, value, layout), name
        return super().pad(name, padding, mode, value, layout)


class TensorFlow(Dialect):
    """TensorFlow: ``tf.pad``, never negative."""

    framework, nothing, imports = "tensorflow", 'padding="VALID"', ("import tensorflow as tf",)
    pad_with, ones_like, pick = "tf.pad", "tf.ones_like", "tf.gather({name}, {index}, axis={axis})"
    mean = 'tf.nn.avg_pool{ndim}d({name}, {kernel}, {strides}, padding="VALID"{extra})'

    def amounts(self, padding: Padding, layout: Layout) -> str:
        """Lists in a list, as TensorFlow users write them."""
        return listing(to_pad_width(padding, layout))

    def data_format(self, layout: Layout) -> str:
        """In 1-D, ``NWC`` and ``NCW``."""
        return layout.text.replace("L", "W")


class Keras(Dialect):
    """Keras: layers for zeros and crops, ``keras.ops`` for the rest."""

    framework, nothing, imports = "keras", 'padding="valid"', ("import keras",)
    pad_with, ones_like, pick = (
        "keras.ops.pad",
        "keras.ops.ones_like",
        "keras.ops.take({name}, {index}, axis={axis})",
    )
    mean = 'keras.ops.average_pool({name}, {kernel}, {strides}, padding="valid"{extra})'

    def constant(self, name: str, padding: Padding, value: float, layout: Layout) -> List[str]:
        """Zeros by a layer."""
        layer = self.layer("ZeroPadding", name, padding, layout)
        return layer if layer and not value else super().constant(name, padding, value, layout)

    def crop(self, name: str, crop: Padding, layout: Layout) -> List[str]:
        """Crops by a layer."""
        return self.layer("Cropping", name, crop, layout) or super().crop(name, crop, layout)

    def layer(self, kind: str, name: str, padding: Padding, layout: Layout) -> List[str]:
        """The line with a padding or cropping layer; none where no layer knows the layout."""
        first = layout.text == CHANNELS_FIRST[padding.ndim]
        # The 1-D layers have no data_format in Keras 2 and early Keras 3.
        if padding.is_none or not (
            layout.text == CHANNELS_LAST[padding.ndim] or (first and padding.ndim > 1)
        ):
            return []
        amounts = padding.pairs if padding.ndim > 1 else padding.pairs[0]
        extra = f', data_format="{self.data_format(layout)}"' if first else ""
        return [f"{name} = keras.layers.{kind}{padding.ndim}D({amounts}{extra})({name})"]

    def data_format(self, layout: Layout) -> str:
        """Keras has words."""
        return "channels_first"


class Jax(Dialect):
    """JAX with Flax: ``jnp.pad`` knows all of numpy's modes."""

    framework, nothing, imports = (
        "jax",
        'padding="VALID"',
        ("import flax.linen as nn", "import jax.numpy as jnp"),
    )
    pad_with, ones_like, mean = (
        "jnp.pad",
        "jnp.ones_like",
        'nn.avg_pool({name}, {kernel}, {strides}, padding="VALID")',
    )


class Onnx(Dialect):
    """ONNX: nodes, made with ``onnx.helper``; Pad crops where an amount is negative."""

    framework, layouts, imports = "onnx", CHANNELS_FIRST, ("import numpy as np", "import onnx")

    def unpadded(self, ndim: int) -> str:
        """The pads, all of them 0."""
        return f"pads={[0] * 2 * ndim}"

    def pad(
        self, name: str, padding: Padding, mode: str, value: float, layout: Layout
    ) -> Tuple[List[str], str]:
        """A Pad node with its constant inputs; batch and channels stay as they are.

        Raises:
            PaddingError: a mode that ONNX lacks, or a negative amount with another mode than ``constant``.
        """
        if padding.is_none:
            return [], name
        native = self.native(mode, padding)
        if native is None or (mode != "constant" and padding.crops):
            raise PaddingError(
                f"ONNX has no Pad of mode {mode!r} by {padding}: crop first, and Gather along each axis by "
                f'np.pad(np.arange(size), (begin, end), mode="{mode}")'
            )
        result, make = f"{name}_padded", "onnx.numpy_helper.from_array(np.array({}, dtype=np.{}), {!r})"
        pads = Padding((0, 0, *padding.begins), (0, 0, *padding.ends)).to_onnx()
        names = [name, f"{result}_by"]
        lines = [f"{names[1]} = " + make.format(pads, "int64", names[1])]
        if value:
            names.append(f"{result}_with")
            lines.append(f"{names[2]} = " + make.format(number(value), "float32", names[2]))
        return [
            *lines,
            f'{result} = onnx.helper.make_node("Pad", {names}, [{result!r}], mode="{native}")',
        ], result

    def call(self, operator: str, reads: str, argument: str) -> str:
        """The line that makes the operator's node, to be read."""
        return f'y = onnx.helper.make_node("{operator}", [{reads!r}, …], ["y"], {argument})'


DIALECTS: Dict[str, Dialect] = {
    dialect.framework: dialect for dialect in (Torch(), TensorFlow(), Keras(), Jax(), Onnx())
}


def dialect_of(framework: str) -> Dialect:
    """The dialect of a framework by import name.

    Raises:
        PaddingError: a framework that is not known here.
    """
    return DIALECTS[whose(framework)]


def number(value: float) -> str:
    """A number as Python code; infinities have no literal.

    Example:
        >>> number(0.5), number(float("-inf"))
        ('0.5', 'float("-inf")')
    """
    return repr(value) if abs(value) < float("inf") else f'float("{value}")'


def listing(pairs: Sequence[Sequence[int]]) -> str:
    """Pairs as lists in a list."""
    return str([list(pair) for pair in pairs])
