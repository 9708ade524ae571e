"""Where windows lie: TensorFlow's padding words resolved to explicit pads for the size seen."""

from __future__ import annotations

from typing import Any, Dict, Sequence, Tuple

from porting_check.neutral.padding import Padding, same_padding
from porting_check_tensorflow.operators.call import Call


class Windows:
    """The sliding window of a convolution or pool over a tensor of known spatial sizes, in ONNX's attributes.

    Example:
        >>> call = Call("MaxPool", {"strides": (1, 2, 2, 1), "padding": "SAME"}, [], [])
        >>> Windows(call, "NHWC", (32, 33), (3, 3)).attributes()["pads"]
        (0, 1, 1, 1)

    Args:
        call: has the attributes ``padding``, ``explicit_paddings``, ``strides``, ``dilations``.
        layout: order of the axes in these attributes.
        sizes: spatial sizes of the (forward) operator's input.
        kernel: spatial sizes of the kernel.
    """

    def __init__(self, call: Call, layout: str, sizes: Sequence[int], kernel: Sequence[int]) -> None:
        self._call, self._layout = call, layout
        self.sizes, self.kernel = tuple(sizes), tuple(kernel)
        whole = (1,) * len(layout)
        self.strides = spatial(call, layout, call.integers("strides") or whole)
        self.dilations = spatial(call, layout, call.integers("dilations") or whole)

    @property
    def padding(self) -> Padding:
        """Explicit pads."""
        word = self._call.text("padding", "VALID")
        if word == "SAME":
            self._require_common_start()
            return same_padding(self.sizes, self.kernel, self.strides, self.dilations)
        if word == "EXPLICIT":
            flat = self._call.integers("explicit_paddings")
            pairs = zip(zip(flat[::2], flat[1::2]), self._layout)
            return Padding.from_pairs(pair for pair, letter in pairs if letter not in "NC")
        return Padding.none(len(self.sizes))

    def _require_common_start(self) -> None:
        """Refuse where TensorFlow's CPU kernels for 3-D data do not do what SAME means.

        Where windows with a stride beyond the kernel leave two entries or more unread, Eigen's volume patches
        do not keep the padding from becoming negative and skip half of them in front of the first window.
        """
        if len(self.sizes) < 3:
            return
        for size, kernel, stride, dilation in zip(self.sizes, self.kernel, self.strides, self.dilations):
            read = (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1
            if size - read >= 2:
                self._call.refuse(
                    f"with SAME, kernel {kernel} and stride {stride} on size {size} starts elsewhere on a "
                    "CPU than TensorFlow's documentation says, so it is not described"
                )

    def attributes(self) -> Dict[str, Any]:
        """``kernel_shape strides dilations pads``, always explicit."""
        named = {"kernel_shape": self.kernel, "strides": self.strides, "dilations": self.dilations}
        return dict(named, pads=tuple(self.padding.to_onnx()))


def spatial(call: Call, layout: str, values: Sequence[int]) -> Tuple[int, ...]:
    """The entries of a per-axis list that belong to spatial axes; the others must be 1."""
    if any(value != 1 for value, letter in zip(values, layout) if letter in "NC"):
        call.refuse("with a window over the batch or channel axis is not described")
    return tuple(value for value, letter in zip(values, layout) if letter not in "NC")
