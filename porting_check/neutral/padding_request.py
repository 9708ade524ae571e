"""The question put to :func:`~porting_check.neutral.padding_expression.expressible`, and its answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Optional, Sequence, Tuple

from porting_check.neutral.errors import PaddingError
from porting_check.neutral.layout import Layout
from porting_check.neutral.padding import Padding, Window, windows
from porting_check.neutral.padding_code import Dialect, dialect_of
from porting_check.neutral.padding_modes import MODES

IDENTITY = {"Conv": 0.0, "ConvTranspose": 0.0, "MaxPool": float("-inf"), "AveragePool": 0.0, "Pad": 0.0}
"""What each operator pads with by itself. Max pooling must not let a zero win over negative values."""


@dataclass(frozen=True)
class Expression:
    """How a framework says a padding: the operator's own argument, and code around it where it is not enough.

    Attributes:
        direct: the argument alone says it.
        argument: keyword arguments of the operator, as code: ``padding=(1, 1)``.
        call: the line that applies the operator, to be read, not run: ``y = conv(x, padding=(1, 1))``.
        before: lines that run before it, on its input ``x``.
        after: lines that run after it, on its output ``y``.
        reads: what the operator takes after ``before``: ``x``, or in ONNX another tensor.
        reason: why it is not direct; empty when it is.
        only_for_sizes: the input sizes for which alone this is right; ``None`` when it is right for all.
        imports: what the lines need.
    """

    direct: bool
    argument: str
    call: str
    before: Tuple[str, ...] = ()
    after: Tuple[str, ...] = ()
    reads: str = "x"
    reason: str = ""
    only_for_sizes: Optional[Tuple[int, ...]] = None
    imports: Tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """All lines in order, as a report shows them."""
        return "\n".join(filter(None, (*self.before, self.call, *self.after)))


@dataclass(frozen=True)
class Argument:
    """An operator's own argument, and the sizes for which alone it is right."""

    text: str
    only_for_sizes: Optional[Tuple[int, ...]] = None


@dataclass(frozen=True)
class Request:
    """What is asked, checked and with the defaults filled in."""

    dialect: Dialect
    operator: str
    padding: Padding
    mode: str
    value: float
    axes: Tuple[Window, ...]
    sizes: Optional[Tuple[int, ...]]
    layout: Layout
    ceil_mode: bool
    count_include_pad: bool

    @classmethod
    def of(cls, framework: str, operator: str, padding: Padding, mode: str, **options: Any) -> Request:
        """Check what a user asked; the options are those of ``expressible``.

        Raises:
            PaddingError: an unknown framework, operator or mode, or numbers or a layout for other axes.
        """
        dialect, sizes, value = dialect_of(framework), options["sizes"], options["value"]
        if operator not in IDENTITY:
            raise PaddingError(
                f"the padding of {operator!r} is not known here; expected one of {list(IDENTITY)}"
            )
        if mode not in MODES:
            raise PaddingError(f"pad mode {mode!r} is not known; expected one of {list(MODES)}")
        if padding.ndim not in dialect.layouts:
            raise PaddingError(f"padding {padding} is for {padding.ndim} spatial axes; expected 1 to 3")
        if sizes is not None and len(sizes) != padding.ndim:
            raise PaddingError(f"sizes {tuple(sizes)} are not those of the axes of padding {padding}")
        return cls(
            dialect,
            operator,
            padding,
            "constant" if padding.is_none else mode,
            IDENTITY[operator] if value is None or padding.is_none else float(value),
            windows(padding.ndim, options["kernel"], options["strides"], options["dilations"]),
            None if sizes is None else tuple(sizes),
            _layout_for(dialect, padding, options["layout"]),
            options["ceil_mode"],
            options["count_include_pad"],
        )

    @property
    def framework(self) -> str:
        """Whose way of writing is asked for."""
        return self.dialect.framework

    @property
    def implicit(self) -> bool:
        """Whether the operator by itself pads with this mode and value."""
        return self.mode == "constant" and self.value == IDENTITY[self.operator]

    @property
    def numbers(self) -> Tuple[Tuple[int, ...], Tuple[int, ...], Tuple[int, ...]]:
        """Kernel, strides and dilations, per axis."""
        axes = self.axes
        return tuple(w.kernel for w in axes), tuple(w.stride for w in axes), tuple(w.dilation for w in axes)

    @property
    def known_sizes(self) -> Tuple[int, ...]:
        """The input sizes.

        Raises:
            PaddingError: they were not given.
        """
        if self.sizes is None:
            raise PaddingError(
                f"the padding of {self.operator} in {self.framework} depends on the input: give sizes"
            )
        return self.sizes

    def answer(
        self,
        argument: Argument,
        before: Sequence[str] = (),
        after: Sequence[str] = (),
        reason: str = "",
        reads: str = "x",
    ) -> Expression:
        """The expression made of these parts."""
        lines = (*before, *after)
        known = dict.fromkeys((*self.dialect.imports, "import numpy as np"))
        used = [one for one in known if re.search(rf"\b{one.split()[-1]}\.", "\n".join(lines))]
        return Expression(
            direct=not lines,
            argument=argument.text,
            call=self.dialect.call(self.operator, reads, argument.text),
            before=tuple(before),
            after=tuple(after),
            reads=reads,
            reason=reason if lines else "",
            only_for_sizes=argument.only_for_sizes,
            imports=tuple(used),
        )


def _layout_for(dialect: Dialect, padding: Padding, layout: Optional[Layout | str]) -> Layout:
    """The layout of the activation: the one given, or the framework's habit."""
    habit = Layout(dialect.layouts[padding.ndim])
    found = habit if layout is None else Layout.of(layout)
    fixed = dialect.framework in ("torch", "onnx")
    if len(found.spatial) != padding.ndim or (fixed and found != habit):
        raise PaddingError(
            f"{dialect.framework} cannot pad an activation in layout {found} by {padding}; expected "
            + (f"{habit}" if fixed else f"{padding.ndim} spatial axes, as in {habit}")
        )
    return found
