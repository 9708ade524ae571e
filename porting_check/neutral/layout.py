"""Layouts: the order of a tensor's axes, written down, and the map from one order to another.

A layout is a word with one letter per axis of the array: ``NHWC``, ``OIHW``. Two more signs: ``(CM)`` is
*one* array axis that holds several axes, the last of them fastest (row-major), and ``1`` is an axis of size
one without a meaning. So every change of layout between frameworks is one call of :func:`convert`, and the
same call undoes it:

=========================  ============  =============  ============================================
parameter                  native        neutral        remark
=========================  ============  =============  ============================================
Keras Conv2D kernel        ``HWIO``      ``OIHW``       also grouped: ``I`` is then channels per group
Keras DepthwiseConv2D      ``HWCM``      ``(CM)1HW``    channel ``c*M + m``, a Conv with ``group=C``
Flax depthwise kernel      ``HW1(CM)``   ``(CM)1HW``
Keras Conv2DTranspose      ``HWOI``      ``IOHW``       what torch and ONNX ConvTranspose store
Keras, Flax Dense kernel   ``IO``        ``OI``
Keras LSTM/GRU kernel      ``I(GO)``     ``(GO)I``      the *order* of the gates is not a layout
Keras attention, query     ``EHD``       ``(HD)E``      torch packs three of them: ``(PHD)E``
Flatten of NHWC            ``N(HWC)``    ``N(CHW)``     the permutation of a Dense kernel after it
=========================  ============  =============  ============================================

The letters are those of :data:`AXIS_LETTERS`. Kernel conventions: torch.nn.Conv2d, torch.nn.ConvTranspose2d,
keras.layers.Conv2D, keras.layers.DepthwiseConv2D, ONNX operators Conv and ConvTranspose.
"""

from __future__ import annotations

import functools
import operator
import re
from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from porting_check.neutral.errors import LayoutError

AXIS_LETTERS = {
    "N": "batch",
    "C": "channels of an activation, or input channels of a depthwise kernel",
    "L": "length, the spatial axis of 1-D data",
    "D": "depth; head size where nothing is spatial",
    "H": "height; heads where nothing is spatial",
    "W": "width",
    "T": "time steps, or positions of a sequence",
    "S": "positions of a second sequence (attention keys)",
    "I": "input channels of a kernel (per group)",
    "O": "output channels of a kernel, or units",
    "M": "depth multiplier of a depthwise kernel",
    "G": "gates of a recurrent kernel, or groups of channels",
    "B": "directions of a bidirectional recurrent layer",
    "P": "packed projections (query, key, value)",
    "E": "width of an embedding (model dimension)",
    "F": "features that have no further structure",
    "V": "entries of a vocabulary",
    "X": "row within a block (depth to space)",
    "Y": "column within a block (depth to space)",
    "Z": "slice within a block (depth to space, 3-D)",
}
"""What each letter of a layout means; ``1`` (size one) and parentheses (axes in one) are not letters."""

_WORD = re.compile(r"\(([A-Z]{2,})\)|([A-Z1])")


@dataclass(frozen=True, repr=False)
class Layout:
    """The order of an array's axes: a value, hashable and printable, equal when its text is equal.

    Example:
        >>> layout = Layout("NHWC")
        >>> layout.ndim, layout.spatial, layout.channel_axis, layout.canonical
        (4, ('H', 'W'), 3, Layout('NCHW'))
        >>> layout.permutation("NCHW")
        (0, 3, 1, 2)
        >>> Layout("(CM)1HW").groups
        ('CM', '', 'H', 'W')

    Attributes:
        text: the layout as written.
        groups: the letters of each array axis; ``""`` for an axis of size one.

    Raises:
        LayoutError: an unknown letter, a letter twice, or parentheses that do not hold two letters or more.
    """

    text: str
    groups: Tuple[str, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", _parse(self.text))

    @classmethod
    def of(cls, layout: Layout | str) -> Layout:
        """``layout`` itself, or the layout that the text means."""
        return layout if isinstance(layout, Layout) else cls(layout)

    def __repr__(self) -> str:
        return f"Layout({self.text!r})"

    def __str__(self) -> str:
        return self.text

    @property
    def ndim(self) -> int:
        """Number of array axes; a group counts once, and so does a ``1``."""
        return len(self.groups)

    @property
    def axes(self) -> Tuple[str, ...]:
        """All letters in order, groups opened, without the ``1``."""
        return tuple("".join(self.groups))

    @property
    def spatial(self) -> Tuple[str, ...]:
        """The spatial letters in order; ``H`` and ``D`` are heads unless one of ``W C I O M`` is there."""
        letters = "DHWL" if set(self.axes) & set("WCIOM") else "L"
        return tuple(letter for letter in self.axes if letter in letters)

    @property
    def channel_axis(self) -> Optional[int]:
        """The array axis of the features: ``C``, else ``E``, else ``F``; ``None`` where none stands alone."""
        return next((self.groups.index(letter) for letter in "CEF" if letter in self.groups), None)

    def axis(self, letter: str) -> int:
        """The array axis that is ``letter`` and nothing else.

        Raises:
            LayoutError: the layout has no such axis of its own.
        """
        if letter not in self.groups or not letter:
            raise LayoutError(f"layout {self} has no axis {letter!r} of its own, only {list(self.groups)}")
        return self.groups.index(letter)

    @property
    def canonical(self) -> Layout:
        """The neutral layout of this activation: channels before the spatial axes, these as ``DHW`` or ``L``.

        A layout without a spatial axis (``NC``, ``NTE``) is its own.

        Example:
            >>> [str(Layout(text).canonical) for text in ("NLC", "NDHWC", "HWC", "NTE")]
            ['NCL', 'NCDHW', 'CHW', 'NTE']

        Raises:
            LayoutError: a kernel, or an activation whose spatial axes are grouped.
        """
        if not self.spatial or "E" in self.axes:
            return self
        leading = [letter for letter in self.groups if letter not in self.spatial and letter != "C"]
        if set(self.axes) & set("IOM") or any(letter not in self.groups for letter in self.axes):
            raise LayoutError(f"layout {self} is a kernel's or has groups: no canonical activation layout")
        spatial = "".join(sorted(self.spatial, key="LDHW".index))
        return Layout("".join(letter or "1" for letter in leading) + "C" * ("C" in self.axes) + spatial)

    def reachable(self, to: Layout | str) -> bool:
        """Whether :func:`convert` can lead to ``to``: the same letters, whatever their order and groups."""
        return set(self.axes) == set(Layout.of(to).axes)

    def permutation(self, to: Layout | str) -> Tuple[int, ...]:
        """The argument of ``numpy.transpose`` that leads to ``to``, where a transposition is enough.

        Example:
            >>> Layout("HWIO").permutation("OIHW")
            (3, 2, 0, 1)

        Raises:
            LayoutError: other letters, or a change that splits or merges axes (use :func:`convert`).
        """
        goal = Layout.of(to)
        _require_same_letters(self, goal)
        if sorted(self.groups) != sorted(goal.groups):
            raise LayoutError(f"{self} to {goal} also splits, merges or drops axes: use convert")
        ones = iter([axis for axis, letters in enumerate(self.groups) if not letters])
        return tuple(self.groups.index(letters) if letters else next(ones) for letters in goal.groups)


def convert(
    array: np.ndarray,
    from_layout: Layout | str,
    to_layout: Layout | str,
    sizes: Optional[Mapping[str, int]] = None,
) -> np.ndarray:
    """Bring an array from one layout to another: a bijection of its elements, with nothing computed.

    Example:
        >>> kernel = np.zeros((3, 3, 8, 2))                               # Keras depthwise, multiplier 2
        >>> convert(kernel, "HWCM", "(CM)1HW").shape
        (16, 1, 3, 3)
        >>> convert(np.zeros((16, 1, 3, 3)), "(CM)1HW", "HWCM", sizes={"M": 2}).shape
        (3, 3, 8, 2)

    Args:
        array: any dtype; its rank is that of ``from_layout``.
        from_layout: the order of the array's axes.
        to_layout: the order wanted.
        sizes: sizes by letter, needed only where a group is split; one of its parts may be left out.

    Returns:
        A view of ``array`` where numpy can make one (always when no group is formed), a copy otherwise.

    Raises:
        LayoutError: another rank, letters that only one side has, or sizes that are missing or do not fit.
    """
    array = np.asarray(array)
    start, goal = Layout.of(from_layout), Layout.of(to_layout)
    lengths = _atom_lengths(array.shape, start, goal, sizes)
    before = _atoms(start, goal)
    order = [before.index(atom) for atom in _atoms(goal, start)]
    split = array.reshape([lengths[atom] for atom in before])
    return split.transpose(order).reshape(_merged_shape(start, goal, lengths))


def convert_shape(
    shape: Sequence[int],
    from_layout: Layout | str,
    to_layout: Layout | str,
    sizes: Optional[Mapping[str, int]] = None,
) -> Tuple[int, ...]:
    """The shape that :func:`convert` gives to an array of ``shape``; arguments and errors as there.

    Example:
        >>> convert_shape((8, 32, 48, 3), "NHWC", "NCHW")
        (8, 3, 32, 48)
    """
    start, goal = Layout.of(from_layout), Layout.of(to_layout)
    return _merged_shape(start, goal, _atom_lengths(shape, start, goal, sizes))


def _parse(text: str) -> Tuple[str, ...]:
    """The letters of each array axis of a layout's text."""
    if not isinstance(text, str):
        raise LayoutError(f"a layout is text such as 'NHWC', not {text!r}")
    groups, position = [], 0
    while position < len(text):
        match = _WORD.match(text, position)
        if match is None:
            raise LayoutError(
                f"layout {text!r} is not understood from {text[position:]!r}: expected capital letters, "
                "'1' for an axis of size one, and parentheses around two letters or more that share one axis"
            )
        groups.append(match.group(1) or match.group(2).replace("1", ""))
        position = match.end()
    letters = "".join(groups)
    unknown = sorted(set(letters) - set(AXIS_LETTERS))
    if unknown:
        raise LayoutError(f"layout {text!r} has unknown letters {unknown}; known: {''.join(AXIS_LETTERS)}")
    twice = sorted({letter for letter in letters if letters.count(letter) > 1})
    if twice:
        raise LayoutError(f"layout {text!r} names the axes {twice} more than once")
    return tuple(groups)


def _require_same_letters(start: Layout, goal: Layout) -> None:
    only_start, only_goal = sorted(set(start.axes) - set(goal.axes)), sorted(set(goal.axes) - set(start.axes))
    if only_start or only_goal:
        sides = ((start, only_start), (goal, only_goal))
        facts = " and ".join(f"only {side} has {letters}" for side, letters in sides if letters)
        raise LayoutError(f"layout {start} cannot become {goal}: {facts}")


def _atoms(layout: Layout, other: Layout) -> List[str]:
    """The runs of letters, in order, that stay side by side within one axis in both layouts."""
    neighbours = {pair for letters in other.groups for pair in zip(letters, letters[1:])}
    atoms: List[str] = []
    for letters in layout.groups:
        for place, letter in enumerate(letters):
            if place and (letters[place - 1], letter) in neighbours:
                atoms[-1] += letter
            else:
                atoms.append(letter)
    return atoms


def _atom_lengths(
    shape: Sequence[int], start: Layout, goal: Layout, sizes: Optional[Mapping[str, int]]
) -> Dict[str, int]:
    """The length of each atom of ``start``, after every check that can be made."""
    _require_same_letters(start, goal)
    sizes = dict(sizes or {})
    if len(shape) != start.ndim:
        raise LayoutError(f"layout {start} has {start.ndim} axes, but the array has shape {tuple(shape)}")
    strangers = sorted(set(sizes) - set(start.axes))
    if strangers:
        raise LayoutError(f"sizes are given for {strangers}, which layout {start} does not have")
    atoms = _atoms(start, goal)
    lengths: Dict[str, int] = {}
    for letters, length in zip(start.groups, shape):
        members = [atom for atom in atoms if atom[0] in letters]
        lengths.update(_split(letters, int(length), members, sizes, start))
    return lengths


def _split(
    letters: str, length: int, members: List[str], sizes: Mapping[str, int], layout: Layout
) -> Dict[str, int]:
    """Divide one array axis among its atoms, of which at most one may be unknown."""
    known = {atom: _product(sizes[x] for x in atom) for atom in members if all(x in sizes for x in atom)}
    unknown = [atom for atom in members if atom not in known]
    name = "axis {} of layout {}".format(f"({letters})" if len(letters) > 1 else letters or "1", layout)
    if len(unknown) > 1:
        raise LayoutError(
            f"{name} must be split into {members}, but its length {length} does not say how: "
            f"give sizes for all but one of them, for example sizes={{{unknown[0][0]!r}: …}}"
        )
    rest = _product(known.values())
    if unknown and (rest == 0 or length % rest):
        raise LayoutError(f"{name} has length {length}, which {known} does not divide")
    if not unknown and rest != length:
        raise LayoutError(
            f"{name} has length {length}, expected {rest}" + f" from sizes {known}" * bool(known)
        )
    known.update(dict.fromkeys(unknown, length // max(rest, 1)))
    return known


def _merged_shape(start: Layout, goal: Layout, lengths: Mapping[str, int]) -> Tuple[int, ...]:
    atoms = _atoms(goal, start)
    return tuple(_product(lengths[atom] for atom in atoms if atom[0] in letters) for letters in goal.groups)


def _product(numbers: Iterable[int]) -> int:
    return functools.reduce(operator.mul, numbers, 1)
