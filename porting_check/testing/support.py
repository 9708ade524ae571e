"""The table of support: which operator of inference each framework's adapter runs.

It is read off what the adapters declare (``supported()``, ``GAPS`` and ``FLOAT32_ONLY`` of their module ``run``), and the
tests hold that true, strictly and both ways: an operator without a gap passes every case of the standard, one with a gap
fails some (:class:`~porting_check.testing.run_contract.RunContract`). ``python -m porting_check.testing.support`` writes it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from porting_check.recorder.registry import load_adapter
from porting_check.testing.cases import NOT_DESCRIBED, NOT_INFERENCE, WITHOUT_CASES, cases
from porting_check.testing.operators import IMPOSSIBLE, Operators, operators_of

FRAMEWORKS = ("torch", "tensorflow", "jax", "onnxruntime")
BEGIN, END = "<!-- support: written by python -m porting_check.testing.support -->", "<!-- /support -->"
MARKS = {"supported": "✓", "not yet": "not yet", "impossible": "✗"}


def operators() -> tuple[str, ...]:
    """Every operator of inference, in alphabetical order.

    Example:
        >>> operators()[:2]
        ('Abs', 'Acos')
    """
    return tuple(sorted(cases().keys() | WITHOUT_CASES.keys()))


def status(known: Operators, op_type: str) -> str:
    """``supported``, ``not yet`` or ``impossible``.

    Example:
        >>> status(Operators(frozenset({"Relu"})), "Relu")
        'supported'
    """
    reason = known.gaps.get(op_type, "")
    if not reason:
        return "supported" if op_type in known.supported else "not yet"
    return "impossible" if reason.startswith(IMPOSSIBLE) else "not yet"


def table(known: Mapping[str, Operators]) -> str:
    """The table and its notes, in Markdown.

    Args:
        known: what each adapter declares, by framework, in the order of the columns.
    """
    numbers: dict[str, int] = {}
    rows = [_row(op_type, known, numbers) for op_type in operators()]
    counts = [sum(status(of, op_type) == "supported" for op_type in operators()) for of in known.values()]
    head = [
        "| operator | " + " | ".join(known) + " |",
        "|---|" + ":-:|" * len(known),
        f"| **all forms of {len(rows)}** | " + " | ".join(f"**{count}**" for count in counts) + " |",
    ]
    notes = [f"{number}. {reason}" for reason, number in numbers.items()]
    return "\n".join([*head, *rows, "", *notes])


def _row(op_type: str, known: Mapping[str, Operators], numbers: dict[str, int]) -> str:
    """One operator; reasons become notes, numbered as they come."""
    cells = []
    for framework, of in known.items():
        reasons = [of.gaps[op_type]] if op_type in of.gaps else []
        if op_type in of.float32_only and not reasons:
            reasons.append(f"not in float64: {of.float32_only[op_type]}")
        marks = [str(numbers.setdefault(f"{framework}: {why}", len(numbers) + 1)) for why in reasons]
        cells.append(" ".join([MARKS[status(of, op_type)], *(f"<sup>{mark}</sup>" for mark in marks)]))
    return f"| {op_type} | " + " | ".join(cells) + " |"


def page(frameworks: Sequence[str] = FRAMEWORKS) -> str:
    """What stands between the markers: the table, and what is no operator of inference."""
    known = {name: operators_of(load_adapter(name)) for name in frameworks}
    left = {**NOT_INFERENCE, **NOT_DESCRIBED}
    kinds = sorted(set(left.values()))
    outside = [
        f"- {kind}: {', '.join(sorted(n for n, why in left.items() if why == kind))}" for kind in kinds
    ]
    return "\n".join([table(known), "", "Operators of the standard that no adapter runs:", "", *outside])


def rewritten(text: str, made: str) -> str:
    """A document with the part between the markers replaced.

    Raises:
        ValueError: the markers are not there.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"the document has no lines {BEGIN!r} and {END!r} to write between")
    before, rest = text.split(BEGIN, 1)
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{rest.split(END, 1)[1]}"


def main() -> None:
    """Write the table into a document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("file", nargs="?", default="adapters/README.md", help="document with the markers")
    file = Path(parser.parse_args().file)
    file.write_text(rewritten(file.read_text(encoding="utf-8"), page()), encoding="utf-8")


if __name__ == "__main__":
    main()
