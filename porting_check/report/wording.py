"""Words, numbers and facts that every rendering shares, so that no two of them tell a different story."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from porting_check.report.result import PairResult

SYMBOLS: Mapping[str, str] = {
    "identical": "=",
    "round-off": "≈",
    "low-precision": "~",
    "divergent": "✗",
    "undecided": "?",
    "not-compared": "-",
    "faithful": "✓",
    "inconclusive": "?",
}
"""A mark beside each verdict's word, so that colour is never the only carrier."""

GOOD = frozenset({"identical", "round-off"})
"""Verdicts of pairs that need no attention and may be folded together."""

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("pair", "a layer of the reference and the layer or layers of the candidate that compute the same thing"),
    (
        "isolated error",
        "both functions in float64 on the reference's input: no error made upstream takes part in it",
    ),
    ("ratio", "the error in units of what round-off allows for this operator, its weights and its input"),
    (
        "end to end",
        "recorded output against recorded output: what has accumulated so far; it decides nothing",
    ),
    ("identical", "both compute the same, and the recorded outputs are the same bits"),
    ("round-off", "any difference is one that floating-point arithmetic can legitimately make"),
    ("low-precision", "both compute the same; one side's arithmetic was coarser than float32, as with TF32"),
    ("divergent", "the difference cannot be round-off: the two layers compute different things"),
    ("undecided", "compared, but without enough evidence for a verdict"),
    ("not compared", "no comparison covers it; never counted as a pass"),
    ("inherited", "the layer is right; its recorded output differs only because its input already did"),
    (
        "proven",
        "with that one change the candidate's layer, evaluated again, reproduces the reference in float64",
    ),
)

METHOD: tuple[str, ...] = (
    "Both models ran on the same input, and every layer's inputs, outputs and parameters were recorded.",
    "Layers were paired by their weights, activations and order; by position alone counts as a guess.",
    (
        "Each pair was judged on the reference's input: the reference's function against the candidate's, "
        "both in float64, so an error inherited from upstream is told from an error made here."
    ),
    "Parameters were compared bit for bit after bringing both to one layout.",
    (
        "A cause is called proven only after the layer was evaluated again with that one change and the "
        "difference fell to round-off."
    ),
    "What is allowed follows from the operator, weights and input; a tolerance given by hand is shown.",
)

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"})
_NAME_LIMIT = 400


def clean(text: str, limit: int = _NAME_LIMIT) -> str:
    r"""One line that is safe to print: control, bidirectional and invisible characters become escapes.

    Names of layers come from models, and models are hostile input: no escape sequence reaches a terminal.

    Example:
        >>> clean("conv\x1b[31m\u202e1")
        'conv\\x1b[31m\\u202e1'
    """
    if not text.isprintable():
        text = "".join(_visible(c) if unicodedata.category(c) in _INVISIBLE else c for c in text)
    return shorten(text, limit)


def block(text: str) -> str:
    r"""Several lines (code, evidence) made safe line by line; tabs become four spaces.

    Example:
        >>> block("x = 1\n\ty\x07")
        'x = 1\n    y\\x07'
    """
    return "\n".join(clean(line, 4000) for line in text.expandtabs(4).splitlines())


def _visible(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shorten(text: str, limit: int) -> str:
    """Cut in the middle, because names of layers differ at their ends.

    Example:
        >>> shorten("layer1.0.conv1", 9)
        'laye…onv1'
    """
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return text[: limit - 1 - tail] + "…" + (text[-tail:] if tail else "")


def number(value: float | None) -> str:
    """A number with two or three digits that matter; ``-`` when there is none.

    Example:
        >>> [number(v) for v in (None, 0.0, 1.234e-7, 0.8317, 1612.4, 3.2e9, float("nan"))]
        ['-', '0', '1.2e-07', '0.832', '1612', '3.2e+09', 'NaN']
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    if 0.001 <= abs(value) < 999.5:
        return f"{value:.3g}"
    return f"{value:.0f}" if 999.5 <= abs(value) < 99999.5 else f"{value:.1e}"


def times(ratio: float | None) -> str:
    """A ratio in words.

    Example:
        >>> times(0.31), times(2100.0)
        ('0.31 of what round-off allows', '2,100 times what round-off allows')
    """
    if ratio is None:
        return "not measured against round-off"
    if not math.isfinite(ratio):
        return "far beyond anything round-off allows"
    if ratio <= 1:
        return f"{number(ratio)} of what round-off allows"
    return (f"{ratio:,.0f}" if 10 <= ratio < 1e7 else number(ratio)) + " times what round-off allows"


def names(ids: Iterable[str]) -> str:
    """Ids of records as one text: ``conv1 + relu``; ``(nothing)`` when there are none."""
    return " + ".join(clean(name) for name in abridged(tuple(ids))) or "(nothing)"


def pair_name(pair: PairResult) -> str:
    """``reference ↔ candidate``."""
    return f"{names(pair.reference)} ↔ {names(pair.candidate)}"


def count(amount: int, noun: str) -> str:
    """``1 pair``, ``2 pairs``."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def shape(sizes: tuple[int, ...]) -> str:
    """``1x3x32x32``; ``scalar`` without axes."""
    return "x".join(str(size) for size in sizes) or "scalar"


def abridged(ids: Sequence[str], most: int = 6) -> tuple[str, ...]:
    """The names of a long run of layers, its middle left out.

    Example:
        >>> abridged([f"layer{n}" for n in range(9)], most=4)
        ('layer0', 'layer1', '… 6 more', 'layer8')
    """
    if len(ids) <= most:
        return tuple(ids)
    first = tuple(ids[: most - 2])
    return (*first, f"… {len(ids) - most + 1} more", ids[-1])
