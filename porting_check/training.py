"""One training step of every batch normalisation: what inference cannot show and fine-tuning will.

Both layers of a pair are called alone, in training mode, on positions of the *reference's* recorded input. Their outputs
are held against the batch-normalised truth; their running statistics before and after give the momentum and the variance
that each of them stores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from porting_check.examination import Examination
from porting_check.neutral.errors import PortingError, Unsupported
from porting_check.neutral.graph import Graph, Step
from porting_check.neutral.layout import convert
from porting_check.neutral.trace import Trace, parameter_name
from porting_check.numerics.batch_norm import (
    Statistics,
    Update,
    arranged,
    batch_statistics,
    fed,
    normalized_by,
    positions_of,
    solve,
)
from porting_check.recorder.registry import adapter_for
from porting_check.report.section import Section, SectionVerdict
from porting_check.training_words import Lesson, answer, lesson, notes

Array = np.ndarray

COLUMNS: Mapping[str, str] = {
    "reference": "reference",
    "candidate": "candidate",
    "reference_keeps": "ref. keeps",
    "candidate_keeps": "cand. keeps",
    "reference_variance": "ref. variance",
    "candidate_variance": "cand. variance",
    "verdict": "in training",
    "cause": "cause",
}
BROKEN = (ValueError, IndexError, TypeError)
"""What arrays of other shapes than a batch normalisation's raise."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What one side's layer did in one training step.

    ``mode`` is ``batch`` (it normalised by the batch), ``running`` (by its running statistics, as in inference), ``moved``
    (by those after their update) or ``other``; ``ratio`` is the output's error in units of what float32 may cost.
    """

    mode: str
    ratio: float
    update: Update


def training_step(
    found: Examination, reference: Any, candidate: Any, *, decide: bool = False, seed: int = 0
) -> Section:
    """Let the batch normalisations of two models train for one step each, and compare what they do.

    Args:
        found: the two models' examination; says which layers belong together, and has their inputs.
        reference: the live model (a path or a trace cannot train: the section says so).
        candidate: the other one. Both are left as they are.
        decide: whether a difference decides: the section's verdict is then ``divergent``, ``inconclusive`` where a layer
            could not be trained, or ``faithful``. A biased against an unbiased variance never decides.
        seed: of the noise that fills up inputs with too few positions.

    Example:
        >>> section = training_step(examine(ours, theirs), keras_model, torch_model)       # doctest: +SKIP
        >>> section.rows[0]["cause"], section.rows[0]["fix"]                               # doctest: +SKIP
        ('bn-momentum', 'model.get_submodule("bn1").momentum = 0.01')
    """
    rows: list[dict[str, Any]] = []
    for ours, theirs in _pairs(found):
        if ours is None or theirs is None:
            rows.append(_alone(found, ours, theirs))
            continue
        try:
            rows.append(_row(found, (reference, candidate), (ours, theirs), seed))
        except (PortingError, *BROKEN) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            rows.append(_untrained(found, ours, theirs, first))
    verdict: SectionVerdict = ""
    if decide and rows:
        verdict = _decided(rows)
    return Section(
        id="training",
        title="One training step of batch normalisation",
        answer=answer(rows),
        verdict=verdict,
        columns=COLUMNS,
        rows=tuple(rows),
        notes=notes(rows, decide),
    )


def _decided(rows: list[dict[str, Any]]) -> SectionVerdict:
    if any(row["decides"] for row in rows):
        return "divergent"
    return "inconclusive" if any(row["verdict"] == "not trained" for row in rows) else "faithful"


def _pairs(found: Examination) -> Iterator[tuple[Step | None, Step | None]]:
    """Batch normalisations that belong together: those of one region, in order; each once."""
    seen: tuple[set[int], set[int]] = (set(), set())
    for judged in found.judged:
        ours = [s for s in _norms(found.reference, judged.region.reference) if s.index not in seen[0]]
        theirs = [s for s in _norms(found.candidate, judged.region.candidate) if s.index not in seen[1]]
        seen[0].update(s.index for s in ours)
        seen[1].update(s.index for s in theirs)
        if len(ours) == len(theirs):
            yield from zip(ours, theirs, strict=True)
        else:
            yield from ((s, None) for s in ours)
            yield from ((None, s) for s in theirs)


def _norms(graph: Graph, steps: tuple[int, ...]) -> list[Step]:
    return [
        s
        for s in (graph.steps[i] for i in steps)
        if s.node is not None and s.node.op_type == "BatchNormalization"
    ]


def _names(found: Examination, ours: Step | None, theirs: Step | None) -> dict[str, str]:
    return {
        "reference": found.reference.record_of(ours).id if ours else "",
        "candidate": found.candidate.record_of(theirs).id if theirs else "",
    }


def _alone(found: Examination, ours: Step | None, theirs: Step | None) -> dict[str, Any]:
    """A batch normalisation that the other side does not have: folded into a convolution, or spelt out."""
    lacking = "candidate" if ours else "reference"
    why = (
        f"the {lacking} has no batch normalisation of its own here (folded into another layer, or spelt out)"
    )
    return {**_names(found, ours, theirs), **_blank("not trained", why)}


def _untrained(found: Examination, ours: Step, theirs: Step, why: str) -> dict[str, Any]:
    return {**_names(found, ours, theirs), **_blank("not trained", why)}


def _blank(verdict: str, explanation: str) -> dict[str, Any]:
    sides = ("reference", "candidate")
    empty = {f"{side}_{what}": None for side in sides for what in ("keeps", "variance", "mode", "error")}
    return {**empty, "verdict": verdict, "cause": "", "explanation": explanation, "fix": "", "decides": False}


def _row(found: Examination, models: tuple[Any, Any], pair: tuple[Step, Step], seed: int) -> dict[str, Any]:
    """Both layers trained for one step on the reference's input."""
    graphs = found.reference, found.candidate
    x = _canonical(graphs[0], pair[0])
    running = _statistics(graphs[0], pair[0])
    positions, remarks = fed(x, running, seed)
    sides = [_train(g, m, s, positions) for g, m, s in zip(graphs, models, pair, strict=True)]
    size = int(np.prod(x.shape)) // x.shape[1]
    told = lesson(
        sides[0], sides[1], graphs[1].record_of(pair[1]), graphs[1].trace.environment.framework, size
    )
    return {**_names(found, *pair), **_told(sides, told), "positions": size, "remarks": list(remarks)}


def _told(sides: list[Trained], told: Lesson) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for which, side in zip(("reference", "candidate"), sides, strict=True):
        row[f"{which}_keeps"] = side.update.keep
        row[f"{which}_variance"] = side.update.variance or "nothing"
        row[f"{which}_mode"] = side.mode
        row[f"{which}_error"] = side.ratio
    same = not told.cause
    return {
        **row,
        "verdict": "the same" if same else "divergent in training",
        "cause": told.cause,
        "explanation": told.explanation,
        "fix": told.fix,
        "decides": told.decides,
        "larger_by": told.larger_by,
    }


def _canonical(graph: Graph, step: Step) -> Array:
    """The recorded input of a layer, channels first.

    Raises:
        Unsupported: it was not recorded.
    """
    operand = step.inputs[0]
    array = graph.array(operand.key)
    if array is None:
        raise Unsupported("its input was not recorded: it is computed inside of a layer")
    array = np.asarray(array)
    return np.asarray(
        convert(array, operand.layout, operand.canonical) if operand.layout else array, np.float64
    )


def _statistics(graph: Graph, step: Step) -> Statistics:
    return Statistics(_operand(graph, step, 3), _operand(graph, step, 4))


def _operand(graph: Graph, step: Step, place: int) -> Array:
    array = graph.array(step.inputs[place].key)
    if array is None:
        raise Unsupported("its statistics were not recorded: they are computed inside of the layer")
    return np.asarray(array, np.float64).ravel()


def _train(graph: Graph, model: Any, step: Step, positions: Array) -> Trained:
    """One side's layer, alone.

    Raises:
        Unsupported: the model is not live here, or the layer cannot be called alone.
    """
    if isinstance(model, (str, Path, Trace)):
        raise Unsupported(
            "a training step needs the live model; this side was given as a file, a name or a recording"
        )
    operand, record = step.inputs[0], graph.record_of(step)
    recorded = graph.array(operand.key)
    if recorded is None or step.node is None:
        raise Unsupported("its input was not recorded: it is computed inside of a layer")
    x = arranged(positions, np.ndim(recorded))
    native = convert(x, operand.canonical, operand.layout) if operand.layout else x
    before = _statistics(graph, step)
    keys = [step.inputs[place].key for place in (3, 4)]
    held = all(key.startswith("parameter:") for key in keys)
    given = [np.asarray(native, np.asarray(recorded).dtype)]
    given += [] if held else [np.asarray(graph.array(key)) for key in keys]
    outputs, state = adapter_for(model).train_layer(model, record.name, given)
    names = [parameter_name(key) for key in keys] if held else ["1", "2"]
    missing = [name for name in names if name not in state]
    if missing:
        raise Unsupported(f"its state after the step lacks {', '.join(missing)}")
    after = Statistics(*(np.asarray(state[name], np.float64).ravel() for name in names))
    layout = step.outputs[0].layout or operand.layout
    made = convert(np.asarray(outputs[0], np.float64), layout, operand.canonical) if layout else outputs[0]
    return _judged(graph, step, positions, positions_of(np.asarray(made, np.float64)), before, after)


def _judged(
    graph: Graph, step: Step, x: Array, made: Array, before: Statistics, after: Statistics
) -> Trained:
    """What the layer normalised by, and how its statistics moved."""
    assert step.node is not None
    epsilon: Any = step.node.attributes.get("epsilon", 1e-5)
    affine = _operand(graph, step, 1), _operand(graph, step, 2)
    batch = batch_statistics(x)
    errors = {}
    for mode, by in (("batch", batch), ("running", before), ("moved", after)):
        truth, limit = normalized_by(x, by, *affine, float(epsilon))
        with np.errstate(divide="ignore", invalid="ignore"):
            errors[mode] = float(np.nan_to_num(np.abs(made - truth) / limit, nan=0.0, posinf=1e30).max())
    mode = min(errors, key=lambda name: errors[name])
    mode = mode if errors[mode] < 1e3 else "other"
    return Trained(mode, errors.get(mode, errors["batch"]), solve(before, after, batch, len(x)))
