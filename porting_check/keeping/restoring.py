"""A pruned recording made whole for a comparison: what was dropped is computed again, and checked against what was kept."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from porting_check.keeping.notes import SAMPLES, dtype_of, measures, positions, stand_in
from porting_check.keeping.section import Restoration, section_of
from porting_check.keeping.walking import REFUTED, Recomputed, Walk, ratio
from porting_check.keeping.weights import find_parameters
from porting_check.neutral.errors import TraceError
from porting_check.neutral.trace import Checks, Trace
from porting_check.neutral.tracefile import TraceWriter, load_trace
from porting_check.report.section import Section

Array = np.ndarray

IN_MEMORY = 256 * 2**20
"""Restored values are held in memory up to so many bytes, beyond in a temporary recording."""


class RestoredValues(Mapping[str, Array]):
    """The values of a pruned recording together with those that were computed again.

    Attributes:
        real: what was recorded, with the parameters that were found bit for bit.
        made: what was computed again.
        lacking: values that could not be had, and why.
        standing: values in ``made`` that are noise in place of those, or follow from it.
    """

    def __init__(
        self,
        real: Mapping[str, Array],
        made: Mapping[str, Array],
        lacking: Mapping[str, str],
        standing: frozenset[str] = frozenset(),
        owner: object = None,
    ) -> None:
        self.real, self.made, self.lacking, self.standing = real, made, lacking, standing
        self._owner = owner  # a temporary folder lives as long as the values that lie in it

    def __getitem__(self, key: str) -> Array:
        return self.real[key] if key in self.real else self.made[key]

    def __contains__(self, key: object) -> bool:
        return key in self.real or key in self.made

    def __iter__(self) -> Iterator[str]:
        yield from self.real
        yield from self.made

    def __len__(self) -> int:
        return len(self.real) + len(self.made)


def restored(ours: Trace, theirs: Trace, side: str = "reference") -> tuple[Trace, Section | None]:
    """A pruned recording with its dropped values computed again; a full one as it is.

    Parameters that were kept by digest only are taken from ``theirs`` where the digest proves that they are the same bits.
    Every other value is its nodes in float64 on the values before it, rounded to its own type, and is checked against the
    kept elements and numbers. What cannot be had is left out: its region is then not compared.

    Args:
        ours: the recording, of the reference or of the candidate.
        theirs: the other side's.
        side: whose recording ``ours`` is, for the words.

    Returns:
        The trace, whose values are :class:`RestoredValues`, and the section ``kept`` (``kept-candidate``), ``None`` for a
        recording that was never pruned. Examine the trace and then call :func:`withheld`: numbers that only a recorded
        value can carry are not to be reported of restored ones.

    Raises:
        TraceError: a sample that the recording's statement names is not there, or has another size.

    Example:
        >>> trace, section = restored(load_trace("golden.trace"), candidate)       # doctest: +SKIP
        >>> section.answer                                                         # doctest: +SKIP
        'The reference is a golden recording of 3.1 MB (sampled): 57 of 57 layers were evaluated again from their nodes …'
    """
    if ours.kept is None:
        return ours, None
    found = find_parameters(ours, theirs)
    real = {key: ours.values[key] for key in ours.values if not key.startswith(SAMPLES)}
    real.update(found.arrays)
    state = Restoration(ours, side, found)
    store = _Store(ours)
    dropped = ours.kept["dropped"]
    trace = replace(ours, values=real)
    walk = Walk(
        trace, set(real), found.lacking, lambda key: stand_in(key, dropped[key]) if key in dropped else None
    )
    for item in walk if dropped else ():
        if item.key in dropped:
            _restore(ours, item, dropped[item.key], state, store)
        elif item.key in real:
            _hold_against(real[item.key], item, state)
    made, owner = store.finished()
    state.lacking.update(found.lacking)
    for key in dropped:
        if key not in made and key not in real:
            state.lacking.setdefault(key, "nothing in the recording makes it")
    values = RestoredValues(real, made, state.lacking, frozenset(state.standing), owner)
    return replace(ours, values=values, restored=frozenset(made)), section_of(state)


@dataclass(slots=True)
class _Store:
    """Where restored values go: memory, or a temporary recording when they are large."""

    trace: Trace
    held: dict[str, Array] = field(default_factory=dict)
    folder: tempfile.TemporaryDirectory[str] | None = None
    writer: TraceWriter | None = None

    def __post_init__(self) -> None:
        assert self.trace.kept is not None
        notes = self.trace.kept["dropped"].values()
        total = sum(int(np.prod(n["shape"])) * dtype_of(n).itemsize for n in notes if "digest" not in n)
        if total > IN_MEMORY:
            self.folder = tempfile.TemporaryDirectory(prefix="porting-check-kept-")
            path = str(Path(self.folder.name) / "restored.trace")
            self.writer = TraceWriter(path, self.trace.model, self.trace.environment).__enter__()

    def add(self, key: str, array: Array) -> None:
        """Take one value."""
        if self.writer is not None:
            self.writer.value(key, array)
        else:
            self.held[key] = array

    def finished(self) -> tuple[Mapping[str, Array], object]:
        """The values, and what must live as long as they do."""
        if self.writer is None or self.folder is None:
            return self.held, None
        self.writer.finish(Checks())
        self.writer.__exit__(None, None, None)
        return load_trace(self.writer.path).values, self.folder


def _restore(
    trace: Trace, item: Recomputed, note: Mapping[str, Any], state: Restoration, store: _Store
) -> None:
    """Keep a recomputed value in the type in which it was recorded, if it is what the note says."""
    if item.reason:
        state.lacking[item.key] = item.reason
    if item.truth is None:
        return
    if tuple(note["shape"]) != item.truth.shape:
        state.refuted[item.key] = (
            f"recorded with shape {tuple(note['shape'])}, its nodes give {item.truth.shape}"
        )
        state.lacking[item.key] = state.refuted[item.key]
        return
    dtype = dtype_of(note)
    with np.errstate(all="ignore"):
        array = item.truth.astype(dtype)
    store.add(item.key, array)
    if item.standing:
        state.standing.add(item.key)
        state.behind.add(item.record)
        return
    state.restored.add(item.key)
    state.records.add(item.record)
    _check(trace, item, note, state)


def _check(trace: Trace, item: Recomputed, note: Mapping[str, Any], state: Restoration) -> None:
    """Hold the kept elements and numbers of a dropped value against the recomputed one."""
    assert trace.kept is not None and item.truth is not None
    count = int(note["samples"])
    if count:
        elements = _sample(trace, item.key, count)
        at = positions(item.key, item.truth.size, count, int(trace.kept["seed"]))
        worst = ratio(elements, item, at)
        if worst > REFUTED:
            state.refuted[item.key] = _where(elements, item, at, worst)
            return
        state.checked[item.key] = (len(at), worst)
    found = measures(item.truth)
    unlike = [name for name in ("min", "max", "rms") if _unlike(note[name], found[name], item)]
    if note["nonfinite"] != found["nonfinite"] and np.isfinite(item.carried):
        unlike.append("count of values that are not finite")
    if unlike:
        state.refuted[item.key] = (
            f"its {unlike[0]} was {note.get(unlike[0], note['nonfinite'])}, its nodes give another"
        )


def _unlike(one: Any, other: Any, item: Recomputed) -> bool:
    if one is None or other is None:
        return (one is None) != (other is None) and np.isfinite(item.carried)
    slack = REFUTED * item.carried + 1e-12 * abs(float(one))
    return abs(float(one) - float(other)) > slack


def _sample(trace: Trace, key: str, count: int) -> Array:
    name = SAMPLES + key
    if name not in trace.values or trace.values[name].shape != (count,):
        raise TraceError(
            f"the recording says that {count} elements of {key!r} were kept, but holds no such sample; it is damaged"
        )
    return np.asarray(trace.values[name])


def _where(elements: Array, item: Recomputed, at: Array, worst: float) -> str:
    """Where a kept element is farthest from what the nodes give."""
    assert item.truth is not None
    truth = item.truth.reshape(-1)[at]
    with np.errstate(all="ignore"):
        apart = (
            np.abs(np.asarray(elements).astype(truth.dtype) - truth)
            if truth.dtype.kind in "fc"
            else elements != truth
        )
    index = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
    place = tuple(int(i) for i in np.unravel_index(int(at[index]), item.truth.shape))
    return (
        f"at {place} {elements[index]} was recorded, its nodes give {truth[index]:.9g}: {worst:.2g} times what round-off "
        "since the last whole values makes"
    )


def _hold_against(array: Array, item: Recomputed, state: Restoration) -> None:
    """A value that was kept whole against its nodes, unless the examination of pairs does that on whole values."""
    if item.truth is None or item.direct or item.standing:
        state.direct += item.direct
        return
    state.records.add(item.record)
    worst = ratio(array, item) if item.truth.shape == array.shape else float("inf")
    if worst > REFUTED:
        at = np.arange(array.size)
        if item.truth.shape == array.shape:
            state.refuted[item.key] = _where(np.asarray(array).reshape(-1), item, at, worst)
        else:
            state.refuted[item.key] = f"recorded with shape {array.shape}, its nodes give {item.truth.shape}"
        return
    state.checked[item.key] = (array.size, worst)
