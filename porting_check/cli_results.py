"""Where a command's result goes: stdout, a folder of reports, a JUnit file."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from porting_check.cli_support import coloured, emit
from porting_check.neutral.errors import PortingError

if TYPE_CHECKING:
    from porting_check.neutral.trace import Trace
    from porting_check.report.result import Report

FORMS = ("report.html", "report.json", "report.md")
"""What ``--out`` writes."""


def prepare(out: Path | None, junit: Path | None) -> None:
    """Find out that results cannot be written before the models have run for an hour, not after.

    Raises:
        PortingError: a folder that cannot be made or written to.
    """
    folders = [out] if out is not None else []
    for folder in folders + ([junit.parent] if junit is not None else []):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PortingError(
                f"the folder {str(folder)!r} cannot be made: {error.strerror or error}"
            ) from None
        if not os.access(folder, os.W_OK):
            raise PortingError(f"the folder {str(folder)!r} is not writable; choose another one")


def write_all(report: Report, out: Path | None, junit: Path | None) -> list[Path]:
    """Write what was asked for; the paths that were written."""
    from porting_check.report.junit import dumps
    from porting_check.report.save import save, write

    written = [save(report, out / name) for name in FORMS] if out is not None else []
    return written + ([write(junit, dumps(report))] if junit is not None else [])


def with_command(report: Report, line: str) -> Report:
    """The report with the command line that made it."""
    return dataclasses.replace(report, settings={**report.settings, "command": line})


def show(report: Report, *, as_json: bool, quiet: bool, verbose: bool) -> None:
    """The report on stdout: as JSON, as the answer alone, or as the whole text."""
    from porting_check.report import console
    from porting_check.report.json import dumps

    if as_json:
        emit(dumps(report))
    elif quiet:
        emit(console.brief(report, color=coloured()))
    else:
        emit(console.render(report, color=coloured(), limit=None if verbose else 30, fold=not verbose))


def trace_facts(trace: Trace) -> dict[str, Any]:
    """A recording as plain data."""
    return {
        "model": trace.model,
        "records": len(trace.records),
        "opaque": [
            {"name": item.id, "operator": item.operator, "reason": item.reason}
            for item in trace.records
            if item.opaque
        ],
        "environment": trace.environment.to_json(),
        "checks": trace.checks.to_json(),
    }


def trace_text(trace: Trace, path: Path, verbose: bool) -> str:
    """A recording in words: how many records, what the recorder noticed, what has no description."""
    from porting_check.report.wording import clean, count, number

    opaque = [item for item in trace.records if item.opaque]
    lines = [f"recorded {count(len(trace.records), 'record')} of {clean(trace.model)} to {path}"]
    for label, value in (
        ("recording", trace.checks.observer_difference),
        ("a second run", trace.checks.repeat_difference),
    ):
        if value:
            lines.append(f"! {label} changed the output by {number(value)}")
    if trace.checks.training:
        lines.append(f"! in training mode: {', '.join(clean(name) for name in trace.checks.training)}")
    lines += [f"! {clean(note, 1000)}" for note in trace.checks.notes]
    if opaque:
        lines.append(
            f"{count(len(opaque), 'record')} without a description (compared only where they can be run):"
        )
        shown = opaque if verbose else opaque[:10]
        lines += [f"  {clean(item.id)}  {clean(item.operator)}: {clean(item.reason, 300)}" for item in shown]
        lines += [f"  … and {len(opaque) - len(shown)} more"] if len(shown) < len(opaque) else []
    return "\n".join(lines)
