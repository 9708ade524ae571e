"""A matrix of versions as one self-contained HTML page, as inert as a report: everything escaped, no script, no request."""

from __future__ import annotations

from porting_check.report import version_console as console
from porting_check.report import wording
from porting_check.report.version_table import VersionTable
from porting_check.report.webpage import asset, date, digest, environment, markup


def dumps(table: VersionTable) -> str:
    """A complete page: the answer, both tables, what else is to be known, where everything ran.

    The same table gives the same bytes; a date appears only where ``SOURCE_DATE_EPOCH`` is set.

    Example:
        >>> dumps(table).splitlines()[0]                       # doctest: +SKIP
        '<!doctype html>'
    """
    style = asset("report.css") + "\n" + asset("sweep.css")
    return (
        environment()
        .get_template("versions.html.j2")
        .render(
            table=table,
            answer=console.headline(table),
            head=console.HEAD,
            legend=console.LEGEND,
            tables=[
                (title, [(console.row_cells(label, change), change) for label, change in rows])
                for title, rows in console.tables(table)
                if rows
            ],
            remarks=console.remarks(table),
            places=[(row.label, console.surroundings(row)) for row in table.rows],
            modes=console.differing_modes(table),
            tone=console.TONES[table.verdict],
            w=wording,
            style=markup(style),
            policy=f"default-src 'none'; style-src '{digest(style)}'; base-uri 'none'; form-action 'none'",
            date=date(),
        )
    )
