"""An equivalence as text and as Markdown: the answer first, then the experiments, the histogram, the orders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from porting_check.report import wording
from porting_check.report.equivalence_result import Equivalence, Experiment, Gradient, Histogram, Order
from porting_check.report.page import Page, cells, pad, painter

BAR = 40
_STYLES = {"equivalent": "good head", "different": "bad head", "undecided": "doubt head"}
_HEADINGS = ("precision", "largest", "mean", "sum", "bit-equal", "what it shows")


def render(result: Equivalence, *, width: int = 110, color: bool = False) -> str:
    """The result as text."""
    page = Page(width, painter(color), 20)
    start = len(page.lines)
    page.text(result.sentence, 0)
    page.lines[start:] = [page.paint(line, _STYLES[result.verdict]) for line in page.lines[start:]]
    page.lines += ["", f"  reference: {wording.clean(result.reference)}"]
    page.lines += [f"  candidate: {wording.clean(result.candidate)}"]
    if result.experiments:
        page.section("Reference against candidate, absolute differences")
        page.lines += _columns(_experiment_rows(result))
    if result.histogram.counts:
        page.section("Candidate minus reference in float32")
        page.lines += _bars(result.histogram)
    if result.orders or result.why:
        page.section("Why: the order in which the products of one output are added")
        for sentence in result.why:
            page.text(sentence)
        for order in result.orders:
            _order(page, order)
    if result.gradients:
        page.section("Gradients of one fixed cotangent")
        page.lines += _columns([_GRADIENT_HEAD, *map(_gradient_row, result.gradients)])
    _remarks(page, result)
    return "\n".join(line.rstrip() for line in page.lines)


def markdown(result: Equivalence) -> str:
    """The result for an issue or a pull request."""
    lines = [f"**{result.sentence}**", "", f"reference: `{wording.clean(result.reference)}`  "]
    lines += [f"candidate: `{wording.clean(result.candidate)}`", ""]
    if result.experiments:
        lines += _table(_experiment_rows(result))
    lines += [*result.why, ""] if result.why else []
    for order in result.orders:
        title, detail = _order_lines(order)
        lines += [title, *detail[:1], ""]
        if order.drawing:
            lines += ["```", order.drawing, "```", ""]
    if result.gradients:
        lines += _table([_GRADIENT_HEAD, *map(_gradient_row, result.gradients)])
    lines += [f"- {note}" for note in _notes(result)]
    return "\n".join(lines).rstrip() + "\n"


def _experiment_rows(result: Equivalence) -> list[tuple[str, ...]]:
    return [_HEADINGS, *(_experiment_row(row, result) for row in result.experiments.values())]


def _experiment_row(row: Experiment, result: Equivalence) -> tuple[str, ...]:
    name = f"{row.reference} | {row.candidate}"
    if row.missing:
        return (name, "-", "-", "-", "-", f"not run: {wording.clean(row.missing, 200)}")
    share = "-" if row.equal is None else f"{100 * row.equal:.3g}%"
    numbers = tuple(wording.number(value) for value in (row.largest, row.mean, row.total))
    return (name, *numbers, share, meaning(row, result))


def meaning(row: Experiment, result: Equivalence) -> str:
    """What an experiment says, and what it does not."""
    if row.reference != row.candidate:
        if result.shrink is None or result.shrink < 10:
            return ""
        return "does not shrink: float32's own error"
    if row.reference == "float32":
        return "" if result.ratio is None else wording.times(result.ratio)
    if result.shrink is None:
        return ""
    if result.shrink == float("inf"):
        return "vanishes"
    return f"shrinks {wording.number(result.shrink)} times" if result.shrink > 10 else "does not shrink"


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as aligned columns; the first and the last to the left."""
    widths = [max(cells(row[column]) for row in rows) for column in range(len(rows[0]))]
    last = len(widths) - 1
    return [
        "  "
        + "  ".join(
            pad(text, 0 if column == last else width, right=0 < column < last)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    head, *body = [[text.replace("|", "\\|") for text in row] for row in rows]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in body), ""]


def _bars(histogram: Histogram) -> list[str]:
    """One bar per bin."""
    most = max(histogram.counts)
    bins = zip(histogram.edges, histogram.edges[1:], histogram.counts, strict=False)
    return [
        f"  {low:+.1e} … {high:+.1e} {pad('█' * max(round(BAR * count / most), int(count > 0)), BAR)} {count}"
        for low, high, count in bins
    ]


def _order_lines(order: Order) -> tuple[str, list[str]]:
    """A title, and what is known."""
    title = f"{order.side}, {wording.clean(order.name)}"
    if not order.revealed:
        return f"{title}: not revealed. {order.reason}", []
    detail = f"{title}: {order.phrase}; {order.arithmetic}"
    share = "all" if order.exact else f"{100 * order.reproduced:.3g}%"
    proof = f"evaluated in this order, {share} of {order.samples} sampled outputs are reproduced bit for bit"
    alike = (
        ""
        if order.alike == 1
        else f"; {100 * order.alike:.3g}% of the outputs were seen to add so, others otherwise"
    )
    return detail, [f"{proof}{alike} (tree {order.key}, {wording.count(order.calls, 'call')})"]


def _order(page: Page, order: Order) -> None:
    title, detail = _order_lines(order)
    page.lines.append("")
    page.text(title, 2, 4)
    for line in detail:
        page.text(line, 4)
    if order.drawing:
        page.code(order.drawing, 4)


_GRADIENT_HEAD = ("with respect to", "largest, float32", "largest, float64", "verdict", "")


def _gradient_row(gradient: Gradient) -> tuple[str, ...]:
    kind = f" ({gradient.kind})" if gradient.kind else ""
    told = wording.times(gradient.ratio) if gradient.ratio is not None else ""
    if gradient.terms and told:
        told += f" for sums of {gradient.terms}"
    return (
        wording.clean(gradient.name),
        wording.number(gradient.largest),
        wording.number(gradient.largest64),
        gradient.verdict + kind,
        "; ".join(part for part in (told, wording.clean(gradient.reason, 300)) if part),
    )


def _notes(result: Equivalence) -> Iterable[str]:
    """What remains to be said."""
    if result.luck is not None:
        listed = ", ".join(map(str, result.lucky[:12])) + (" …" if len(result.lucky) > 12 else "")
        some = (
            " (of those outputs that add as shown above)" if any(o.alike < 1 for o in result.orders) else ""
        )
        yield (
            f"{100 * result.luck:.3g}% of the elements are equal bits by luck{some}: the sums round to the same number "
            f"although they are not computed alike{f' (flat indices {listed})' if listed else ''}"
        )
    if result.where:
        yield result.where
    if result.integers:
        yield f"integer probe: {result.integers}"
    if result.seconds:
        listed = ", ".join(f"{name} {1000 * value:.3g} ms" for name, value in result.seconds.items())
        yield f"one float32 run took: {listed}"
    yield from result.notes


def _remarks(page: Page, result: Equivalence) -> None:
    notes = list(_notes(result))
    if notes:
        page.section("Remarks")
        page.capped(notes, "remark")
