"""``pc.keep``: a full recording in a small form that the port can be verified against."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from porting_check.keeping import budget as sizes
from porting_check.keeping.cuts import in_order, places
from porting_check.keeping.notes import METHOD, SAMPLES, note_of, sample
from porting_check.keeping.walking import FLAGGED, Walk, ratio
from porting_check.neutral.errors import InputError
from porting_check.neutral.graph import Graph
from porting_check.neutral.trace import Trace
from porting_check.neutral.tracefile import StoredValues, TraceWriter, load_trace

POLICIES = ("all", "boundaries", "sampled")

ELEMENTS = {"boundaries": 64, "sampled": 4096}
"""Elements that are kept of each dropped value, where the budget allows."""

FEWEST = 4
"""Below so many elements a budget is refused."""

ROUNDS = 5
"""How often what is kept is verified at most; every round only adds to it."""

Progress = Callable[[str, int, int], None]


def keep(
    trace: Trace | str | Path,
    path: str | Path,
    keep: str = "boundaries",
    budget: int | str | None = None,
    seed: int = 0,
    progress: Progress = lambda stage, done, total: None,
) -> Trace:
    """Write a full recording in a small form: a golden file, against which a port is compared without the old framework.

    What is dropped is computed again from the recording's own nodes when it is compared. That it can be is verified here,
    against the full recording: a value that its nodes do not give within round-off is kept whole, whatever the policy.

    Args:
        trace: a full recording, or the folder of one.
        path: the folder to write.
        keep: ``"all"``; ``"boundaries"``: inputs, outputs, parameters, what opaque layers made, and values that cut the model
            evenly (a square root of their number without a budget, as many as it holds with one), 64 elements of every
            other value; ``"sampled"``: inputs, outputs and what opaque layers made, 4096 elements of everything else, and
            parameters by digest, so that they must be found, bit for bit, in the candidate, unless the budget holds them.
        budget: size of the folder in bytes, or as text (``"20MB"``).
        seed: of the sampled positions.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        The pruned recording, opened; ``trace.kept`` is its statement of what was dropped.

    Raises:
        InputError: an unknown policy, a budget that cannot hold what must be kept, a recording that was pruned already, a
            network that was never run.
        PortingError: no recording there, or it cannot be written.

    Example:
        >>> keep("full.trace", "golden.trace", keep="sampled", budget="5MB").kept["policy"]     # doctest: +SKIP
        'sampled'
    """
    if keep not in POLICIES:
        raise InputError(f"the policy {keep!r} is unknown; expected one of {', '.join(POLICIES)}")
    allowed = sizes.parse_size(budget)
    full = trace if isinstance(trace, Trace) else load_trace(str(trace), verify=True)
    _require_full(full)
    _not_onto_itself(full, str(path))
    margin = 0
    for _ in range(3):
        plan = _planned(full, keep, None if allowed is None else allowed - margin, allowed, progress)
        made = _written(full, str(path), plan, {"policy": keep, "budget": allowed, "seed": seed})
        over = 0 if allowed is None else sizes.size_of(made) - allowed
        if over <= 0:
            return made
        margin += over + 1024
    raise InputError(f"the recording takes {sizes.words(over)} more than the budget; allow that much more")


def _require_full(trace: Trace) -> None:
    if trace.kept is not None and trace.kept["dropped"]:
        raise InputError(
            f"this recording was pruned already (policy {trace.kept['policy']!r}); prune from the full recording"
        )
    missing = [port.value for port in trace.inputs + trace.outputs if port.value not in trace.values]
    if missing:
        raise InputError(
            f"this is no recording of a run: it has no values of {missing[0]!r}; record the model (porting_check.record)"
        )


@dataclass(slots=True)
class _Plan:
    """What is stored whole, how many elements of the rest, and which values the recording's nodes do not give."""

    whole: set[str]
    samples: int
    flagged: set[str] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)


class _Sizes:
    """What each value takes on disk, whole and as a note."""

    def __init__(self, trace: Trace) -> None:
        self.rank: dict[str, int] = {}
        self.item: dict[str, int] = {}
        self.elements: dict[str, int] = {}
        for key in trace.values:
            array = trace.values[key]
            self.rank[key], self.item[key], self.elements[key] = array.ndim, array.dtype.itemsize, array.size
        named = {p.value for r in trace.records for p in r.inputs + r.outputs + r.parameters}
        named |= {port.value for port in trace.inputs + trace.outputs}
        self.unnamed = sorted(set(self.rank) - named)
        self.fixed = sizes.fixed(trace)

    def whole(self, key: str) -> int:
        """Bytes of a value that is stored."""
        return sizes.stored(key, self.elements[key] * self.item[key])

    def dropped(self, key: str, samples: int) -> int:
        """Bytes of a note and a sample; nothing for what no record names."""
        if key in self.unnamed:
            return len(key) + 8
        return sizes.noted(key, self.rank[key], self.item[key], samples)

    def total(self, whole: Iterable[str], samples: int) -> int:
        """Bytes of a recording that stores these values."""
        chosen = set(whole)
        return self.fixed + sum(self.whole(k) if k in chosen else self.dropped(k, samples) for k in self.rank)


def _not_onto_itself(full: Trace, path: str) -> None:
    if isinstance(full.values, StoredValues) and os.path.realpath(full.values.path) == os.path.realpath(path):
        raise InputError(f"{path!r} is the full recording itself; write the pruned one to another folder")


def _planned(full: Trace, policy: str, allowed: int | None, asked: int | None, progress: Progress) -> _Plan:
    """What to keep: planned, verified by computing the rest again, planned again with what that does not give."""
    known, graph = _Sizes(full), Graph(full)
    if policy == "all":
        plan = _Plan(set(known.rank), 0)
        _refuse_small(known.total(plan.whole, 0), allowed, asked, "everything")
        return plan
    must, flagged = _indispensable(full, graph), set[str]()
    for _ in range(ROUNDS):
        chosen = _chosen(known, graph, policy, must, allowed)
        bare = chosen or _Plan(set(must), FEWEST)
        missed = _not_given(full, bare.whole, progress)
        flagged |= missed[0]
        if missed[0] | missed[1] <= must:
            break
        must |= missed[0] | missed[1]
    chosen = _chosen(known, graph, policy, must, allowed)
    if chosen is None:
        least = known.total(_small(known, must, FEWEST), FEWEST)
        _refuse_small(least, allowed, asked, "inputs, outputs and what nothing can compute again")
        raise AssertionError("a plan within the budget exists")
    chosen.flagged = flagged
    chosen.left_out = [key for key in known.unnamed if key not in chosen.whole]
    return chosen


def _refuse_small(least: int, allowed: int | None, asked: int | None, what: str) -> None:
    if allowed is not None and asked is not None and least > allowed:
        enough = least + (asked - allowed)
        raise InputError(
            f"the budget of {asked} bytes cannot hold {what}: at least {enough} bytes are needed; "
            f"allow {math.ceil(enough / 1000)}KB or more"
        )


def _indispensable(full: Trace, graph: Graph) -> set[str]:
    """Inputs, outputs, what opaque records made, and values that no record makes."""
    must = {port.value for port in full.inputs + full.outputs}
    must |= {port.value for record in full.records if record.opaque for port in record.outputs}
    read = {port.value for record in full.records for port in record.inputs}
    return must | {key for key in read if key not in graph.producer and not key.startswith("parameter:")}


def _small(known: _Sizes, must: set[str], samples: int) -> set[str]:
    """What must be kept, and what takes no more whole than as a note with a sample."""
    return must | {key for key in known.rank if known.whole(key) <= known.dropped(key, samples)}


def _chosen(known: _Sizes, graph: Graph, policy: str, must: set[str], allowed: int | None) -> _Plan | None:
    """A plan within the budget with as many elements as it allows; ``None`` when there is none."""
    samples = ELEMENTS[policy]
    while True:
        whole = _small(known, must, samples)
        left = math.inf if allowed is None else allowed - known.total(whole, samples)
        if left >= 0:
            break
        if samples <= FEWEST:
            return None
        samples //= 2
    parameters = [key for key in known.rank if key.startswith("parameter:")]
    wanted = parameters if policy == "boundaries" or allowed is not None else []
    for key in known.unnamed + sorted(wanted, key=lambda key: (known.elements[key], key)):
        more = known.whole(key) - known.dropped(key, samples)
        if key not in whole and more <= left:
            whole.add(key)
            left -= more
    if policy == "boundaries" and whole.issuperset(parameters):
        _cut(known, graph, whole, samples, left)
    return _Plan(whole, samples)


def _cut(known: _Sizes, graph: Graph, whole: set[str], samples: int, left: float) -> None:
    """Add the values that cut the model most evenly, as many as there is room for."""
    cost = {key: known.whole(key) - known.dropped(key, samples) for key in known.rank if key not in whole}
    found = places(graph, {k: c for k, c in cost.items() if not k.startswith("parameter:")}, whole)
    most = math.isqrt(len(found)) if left == math.inf else len(found)
    taken = [graph.producer[key] for key in whole if key in graph.producer and known.elements[key] > samples]
    for place in in_order(found, len(graph.steps), taken):
        if most <= 0:
            return
        if place.size <= left:
            whole.add(place.key)
            left, most = left - place.size, most - 1


def _not_given(full: Trace, whole: set[str], progress: Progress) -> tuple[set[str], set[str]]:
    """Values that the nodes do not give within round-off, and what their records read."""
    walk = Walk(full, set(whole))
    missed, around = set[str](), set[str]()
    for found in walk:
        progress("computing again", found.record, len(full.records))
        fits = found.truth is not None and tuple(found.truth.shape) == full.values[found.key].shape
        if fits and ratio(full.values[found.key], found) <= FLAGGED:
            continue
        if found.key not in whole:
            missed.add(found.key)
            walk.kept.add(found.key)
        if found.truth is not None and not found.direct:
            around |= {
                port.value
                for port in full.records[found.record].inputs
                if port.value in walk.graph.fed and port.value in walk.graph.producer
            }
    return missed, around


def _written(full: Trace, path: str, plan: _Plan, statement: dict[str, Any]) -> Trace:
    """Stream the recording to its new folder, one value at a time."""
    dropped: dict[str, Any] = {}
    with TraceWriter(path, full.model, full.environment) as writer:
        for key in full.values:
            array = np.asarray(full.values[key])
            if key in plan.whole:
                writer.value(key, array)
            elif key not in plan.left_out:
                dropped[key] = note_of(key, array, plan.samples)
                if array.size:
                    writer.value(SAMPLES + key, sample(array, key, plan.samples, statement["seed"]))
        for record in full.records:
            writer.record(record)
        for port in full.inputs:
            writer.input(port)
        for port in full.outputs:
            writer.output(port)
        kept = {**statement, "samples": plan.samples, "method": METHOD, "full_bytes": sizes.size_of(full)}
        kept.update(dropped=dropped, left_out=plan.left_out, not_given=sorted(plan.flagged))
        writer.finish(full.checks, kept)
    return load_trace(path)
