"""A sweep as one self-contained HTML page, as inert as a report: everything escaped, no script, no request."""

from __future__ import annotations

from porting_check.report import sweep_console as console
from porting_check.report import wording
from porting_check.report.sweep_plot import kinds, plot
from porting_check.report.sweep_result import GOOD, Sweep
from porting_check.report.webpage import asset, date, digest, environment, markup


def dumps(result: Sweep) -> str:
    """A complete page: the answer, the drawings, the numbers, where everything ran.

    The same sweep gives the same bytes; a date appears only where ``SOURCE_DATE_EPOCH`` is set.

    Example:
        >>> dumps(result).splitlines()[0]                      # doctest: +SKIP
        '<!doctype html>'
    """
    style = asset("report.css") + "\n" + asset("sweep.css")
    head, body = console.rows(result)
    drawings = [plot(result, kind) for kind in kinds(result)]
    return (
        environment()
        .get_template("sweep.html.j2")
        .render(
            sweep=result,
            answer=console.headline(result),
            sentences=[s for s in (result.note, console.growth(result), console.sums(result)) if s],
            plots=[made for made in drawings if made is not None],
            caption=console.title(result),
            head=head,
            rows=list(zip(body, result.points, strict=True)),
            doubts=_doubts(result),
            tone={"agree": "faithful", "differ": "divergent"}.get(result.verdict, "inconclusive"),
            w=wording,
            style=markup(style),
            policy=f"default-src 'none'; style-src '{digest(style)}'; base-uri 'none'; form-action 'none'",
            date=date(),
        )
    )


def _doubts(result: Sweep) -> list[tuple[str, str]]:
    """What is not within round-off, or was not computed."""
    found = [(name, why) for name, why in result.absent.items()]
    return found + [
        (f"{name} at {result.quantity} {point.value:g}", ": ".join(filter(None, (m.verdict, m.reason))))
        for point in result.points
        for name, m in point.measures.items()
        if m.verdict not in GOOD
    ]
