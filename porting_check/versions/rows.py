"""From recordings to the rows of a table: labels, and the changes from the baseline and from the one before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from porting_check.neutral.trace import Trace
from porting_check.report.version_table import Change, VersionRow
from porting_check.versions.changes import change_between
from porting_check.versions.runs import Place, Ran

Progress = Callable[[str, int, int], None]


def compared(
    places: Sequence[Place], first: Place, outcomes: Mapping[str, Ran], progress: Progress
) -> list[VersionRow]:
    """Rows in the order given, each with its changes."""
    labels = _labels(places, outcomes)
    base = outcomes[first.key].trace
    assert base is not None
    rows: list[VersionRow] = []
    previous: tuple[str, Trace] | None = None
    for place in places:
        ran, label = outcomes[place.key], labels[place.key]
        row = VersionRow(
            label=label,
            title=place.environment.title,
            model=place.model,
            environment=ran.trace.environment if ran.trace is not None else None,
            weights=ran.weights,
            kept=ran.outcome.kept,
            seconds=ran.outcome.seconds,
            error=ran.outcome.error,
        )
        if ran.trace is not None:
            from_base = (
                _change(base, ran.trace, (labels[first.key], label), progress) if place is not first else None
            )
            from_last = _since(previous, ran.trace, label, from_base, progress)
            row = replace(row, against_baseline=from_base, against_previous=from_last)
            previous = (label, ran.trace)
        rows.append(row)
    return rows


def _since(
    previous: tuple[str, Trace] | None, trace: Trace, label: str, from_base: Change | None, progress: Progress
) -> Change | None:
    """The change from the environment before; not computed twice where that is the baseline."""
    if previous is None:
        return None
    if from_base is not None and from_base.reference == previous[0]:
        return from_base
    return _change(previous[1], trace, (previous[0], label), progress)


def _change(reference: Trace, candidate: Trace, labels: tuple[str, str], progress: Progress) -> Change:
    return change_between(
        reference,
        candidate,
        labels,
        lambda stage, done, total: progress(f"{labels[1]}: {stage}", done, total),
    )


def _labels(places: Sequence[Place], outcomes: Mapping[str, Ran]) -> dict[str, str]:
    """Short and unique: the user's name, else framework and version, numbered where two have the same."""
    made: dict[str, str] = {}
    for place in places:
        trace = outcomes[place.key].trace
        if place.name or trace is None:
            made[place.key] = place.key
            continue
        found = trace.environment
        version = found.versions.get(found.framework, "").partition("+")[0]
        made[place.key] = f"{found.framework} {version}".strip()
    labels = list(made.values())
    return {
        key: f"{label} #{list(made).index(key) + 1}" if labels.count(label) > 1 else label
        for key, label in made.items()
    }


def notes_of(rows: Sequence[VersionRow]) -> tuple[str, ...]:
    """What must be said of the whole."""
    found = [row.environment for row in rows if row.environment is not None]
    machines = {
        (one.platform, one.machine.get("processor", ""), one.machine.get("instructions", "")) for one in found
    }
    if len(machines) > 1:
        return (
            f"recorded on {len(machines)} different machines: a change may come from these, not from the version",
        )
    return ()
