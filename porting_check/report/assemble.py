"""From an examination to a report: verdicts of pairs, findings, what was not compared, and the verdict of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from porting_check.diagnosis import parameters
from porting_check.diagnosis.hypothesis import Suspect
from porting_check.diagnosis.power import TRAINING_ONLY, power, unseen
from porting_check.diagnosis.search import diagnose
from porting_check.examination import Examination
from porting_check.judgement import Judgement, verdict_of
from porting_check.neutral.graph import Graph
from porting_check.report.result import Finding, NotCompared, PairResult, ParameterResult, Power, Report, Side
from porting_check.report.section import Section

Progress = Callable[[str, int, int], None]


def assemble(
    found: Examination, settings: Mapping[str, Any], progress: Progress, sections: Sequence[Section] = ()
) -> Report:
    """Build the report of an examination; diagnoses every divergent pair.

    Verdicts of further sections take part, unless a tolerance decides.

    Example:
        >>> assemble(examine(ours, theirs), {"seed": 0}, progress).verdict      # doctest: +SKIP
        'faithful'
    """
    pairs: list[PairResult] = []
    findings: list[Finding] = []
    wrong: set[str] = set()
    for number, judged in enumerate(found.judged):
        progress("verdicts", number, len(found.judged))
        inherited = any(cut.reference in wrong for cut in judged.region.boundary)
        pair = _pair(found, judged, number, inherited)
        pairs.append(pair)
        if pair.verdict == "divergent":
            findings.append(_finding(found, judged, pair))
        if pair.verdict == "divergent" or inherited:
            wrong.add(judged.region.target.reference)
    findings += _outputs(found, pairs)
    lacking = _not_compared(found)
    verdict, reason = _overall(found, pairs, lacking)
    verdict, reason = _with_sections(verdict, reason, sections)
    if settings.get("rtol") is not None:
        verdict, reason = _tolerated(found, verdict, float(settings["rtol"]), float(settings["atol"]))
    return Report(
        verdict=verdict,  # type: ignore[arg-type]
        reason=reason,
        reference=_side(found.reference),
        candidate=_side(found.candidate),
        pairs=tuple(pairs),
        findings=tuple(findings),
        not_compared=tuple(lacking),
        power=tuple(_power(found, sections)),
        warnings=tuple(_warnings(found, pairs)),
        outputs=tuple(p for p, j in zip(pairs, found.judged, strict=False) if j.region.target.output),
        settings=dict(settings),
        sections=tuple(sections),
    )


def _with_sections(verdict: str, reason: str, sections: Sequence[Section]) -> tuple[str, str]:
    """A divergent section makes the report divergent, an undecided one makes a faithful report inconclusive."""
    for section in sections:
        if section.verdict == "divergent":
            also = f"{reason}; {_title(section)}" if verdict == "divergent" else _title(section)
            verdict, reason = "divergent", also
    for section in sections:
        if section.verdict == "inconclusive" and verdict == "faithful":
            verdict, reason = "inconclusive", _title(section)
    return verdict, reason


def _title(section: Section) -> str:
    return f"{section.title}: {section.answer.rstrip('.')}"


def _power(found: Examination, sections: Sequence[Section]) -> list[Power]:
    """What the run could have seen, and last what no run in inference can, unless a training step was taken."""
    seen = [
        Power(cause=s.cause, revealed=s.revealed, hidden=s.hidden, reason=s.reason)
        for s in power(found.judge, found.judged)
    ]
    reason = "it shows in training only; nothing that runs in inference reveals it"
    operators = {r.operator for g in (found.reference, found.candidate) for r in g.trace.records}
    trained = any(section.id == "training" and section.rows for section in sections)
    for cause in TRAINING_ONLY:
        named = ("batchnorm", "batch_norm") if cause.startswith("bn-") else ("dropout",)
        where = sorted(o for o in operators if any(name in o.lower() for name in named))
        if where and not (trained and cause.startswith("bn-")):
            seen.append(Power(cause=cause, revealed=0, hidden=tuple(where), reason=reason))
    return seen


def _side(graph: Graph) -> Side:
    trace = graph.trace
    layouts = {port.name: graph.layouts.get(port.value, port.layout) for port in trace.inputs}
    return Side(
        model=trace.model,
        environment=trace.environment,
        layouts=layouts,
        checks=trace.checks,
        records=len(trace.records),
    )


def _pair(found: Examination, judged: Judgement, number: int, inherited: bool) -> PairResult:
    target = judged.region.target
    verdict, explanation = _verdict(found, judged)
    known = [error for error in judged.errors if error is not None]
    suspect = Suspect(found.judge, judged)
    return PairResult(
        index=number,
        reference=_names(found.reference, judged.region.reference),
        candidate=_names(found.candidate, judged.region.candidate),
        op=_operators(suspect),
        verdict=verdict,  # type: ignore[arg-type]
        explanation=explanation,
        difference=judged.difference,
        ratio=max(known) if judged.same and known else (judged.gap if judged.same is False else None),
        end_to_end=judged.end_to_end,
        reference_error=judged.errors[0],
        candidate_error=judged.errors[1],
        reference_shape=judged.shapes[0],
        candidate_shape=judged.shapes[1],
        layout=judged.axes.how if judged.axes else "",
        parameters=tuple(_parameters(suspect)),
        paired_by=target.evidence,
        inherited=inherited,
        reference_node=_program(found.reference, judged.region.reference),
        candidate_node=_program(found.candidate, judged.region.candidate),
    )


def _verdict(found: Examination, judged: Judgement) -> tuple[str, str]:
    """The verdict of a pair and its explanation; outputs that may not belong together prove no divergence."""
    verdict, explanation = verdict_of(judged)
    output = found.outputs.get(judged.region.target.output)
    if verdict != "divergent" or output is None:
        return verdict, explanation
    if output.doubt:
        return "undecided", f"ambiguous: {output.doubt}; as paired, {explanation}"
    if output.alike:
        explanation += (
            f"; the values of the candidate's output {output.alike!r} are those of {output.reference!r}"
        )
    return verdict, explanation


def _names(graph: Graph, steps: tuple[int, ...]) -> tuple[str, ...]:
    """Ids of the records that take part, in execution order."""
    return tuple(dict.fromkeys(graph.record_of(graph.steps[i]).id for i in steps))


def _operators(suspect: Suspect) -> str:
    """The reference's compute operators of a region, movement left out unless there is nothing else."""
    steps = suspect.reference or suspect.candidate
    names = [s.node.op_type if s.node else "opaque" for s in steps if not s.movement]
    names = names or [s.node.op_type if s.node else "opaque" for s in steps]
    return " + ".join(names[:6]) + (" + …" if len(names) > 6 else "") if names else "(passed on)"


def _program(graph: Graph, steps: tuple[int, ...], most: int = 8) -> str:
    """The nodes of a region in a row; the middle of a long one is left out."""
    said = [str(graph.steps[i].node or "opaque") for i in steps]
    if len(said) > most:
        said = [*said[: most - 2], f"… {len(said) - most + 1} more", said[-1]]
    return " → ".join(said)


def _parameters(suspect: Suspect) -> list[ParameterResult]:
    """Question 3 for every parameter of aligned operators."""
    made = []
    for ours, theirs in suspect.pairs():
        if ours.node is None or theirs.node is None or ours.node.op_type != theirs.node.op_type:
            continue
        for position, role, one, other in parameters.fixed_operands(suspect, ours, theirs):
            names = [s.inputs[position].key if position < len(s.inputs) else "" for s in (ours, theirs)]
            if not any(name.startswith("parameter:") for name in names) and (one is None or one.size < 2):
                continue
            equal, words = parameters.relation(one, other)
            shown = [name.removeprefix("parameter:") for name in names]
            made.append(
                ParameterResult(
                    role=role, reference=shown[0], candidate=shown[1], relation=words, equal=equal
                )
            )
    return made


def _finding(found: Examination, judged: Judgement, pair: PairResult) -> Finding:
    judged = found.judge.with_truth(judged)
    result = diagnose(Suspect(found.judge, judged))
    if result.best is None:
        why = (
            pair.explanation
            if judged.truth is None or judged.difference is None
            else "no known mistake explains it"
        )
        return Finding(
            pair=pair, cause="unknown", explanation=why, fix="", proven=False, evidence=result.evidence
        )
    best = result.best
    return Finding(
        pair=pair,
        cause=best.cause,
        explanation=best.explanation,
        fix=best.fix,
        proven=result.proven,
        evidence=result.evidence,
    )


def _outputs(found: Examination, pairs: list[PairResult]) -> list[Finding]:
    """Outputs that one side lacks are divergences of their own."""
    made = []
    for side, names in (("candidate", found.missing), ("reference", found.extra)):
        for name in names:
            pair = PairResult(
                index=len(pairs),
                reference=(f"output {name}",) if side == "candidate" else (),
                candidate=(f"output {name}",) if side == "reference" else (),
                op="output",
                verdict="divergent",
                explanation=f"the {side} has no output {name!r}",
            )
            pairs.append(pair)
            fix = f"return the output {name!r}" if side == "candidate" else f"remove the output {name!r}"
            made.append(
                Finding(pair=pair, cause="structure", explanation=pair.explanation, fix=fix, proven=True)
            )
    return made


def _not_compared(found: Examination) -> list[NotCompared]:
    """Records of which no step lies in a judged region, and regions that could not be judged."""
    made = []
    for side, graph, covered in (
        ("reference", found.reference, {i for j in found.judged for i in j.region.reference}),
        ("candidate", found.candidate, {i for j in found.judged for i in j.region.candidate}),
    ):
        reached = _reached(graph)
        for record in range(len(graph.trace.records)):
            steps = [s for s in graph.steps if s.record == record]
            if any(s.index in covered for s in steps) or all(s.movement for s in steps):
                continue
            used = any(s.index in reached for s in steps)
            why = "it has no counterpart on the other side" if used else "its result reaches no output"
            made.append(NotCompared(name=graph.trace.records[record].id, side=side, reason=why))  # type: ignore[arg-type]
    for judged in found.judged:
        if judged.same is None:
            names = _names(found.candidate, judged.region.candidate)
            made.append(
                NotCompared(
                    name=names[-1] if names else judged.region.target.candidate,
                    side="candidate",
                    reason=judged.reason,
                )
            )
    return made


def _reached(graph: Graph) -> set[int]:
    """Steps from which an output is reached."""
    return {i for port in graph.trace.outputs for i in graph.between(port.value, ())[0]}


def _overall(found: Examination, pairs: list[PairResult], lacking: list[NotCompared]) -> tuple[str, str]:
    """The verdict of the whole, and its reason in one sentence."""
    divergent = [p for p in pairs if p.verdict == "divergent"]
    if divergent:
        return "divergent", f"{len(divergent)} of {len(pairs)} pairs compute something else"
    if not pairs or not found.judge.candidate.trace.outputs:
        return (
            "inconclusive",
            "no comparison was made: the models have no operators between inputs and outputs",
        )
    doubtful = [
        found.outputs[output].doubt
        for output, p in ((j.region.target.output, p) for p, j in zip(pairs, found.judged, strict=False))
        if output and (found.outputs[output].contradicted or p.explanation.startswith("ambiguous"))
    ]
    if doubtful:
        return (
            "inconclusive",
            f"which output is which is ambiguous ({doubtful[0]}): give mapping={{name: name}}",
        )
    undecided = [p for p in pairs if p.verdict in ("undecided", "not-compared")]
    if undecided:
        return "inconclusive", f"{len(undecided)} of {len(pairs)} pairs could not be decided"
    if found.unfed:
        return "inconclusive", "the axes of an input could not be matched: declare layouts"
    if not all(np.isfinite(_recorded(found.reference, p.value)).all() for p in found.reference.trace.outputs):
        return (
            "inconclusive",
            "the reference's own outputs hold NaN or infinity: nothing can be concluded from them",
        )
    if any(n for n in lacking if "counterpart" in n.reason):
        return "inconclusive", "some records have no counterpart on the other side"
    subject = f"all {len(pairs)} pairs compute" if len(pairs) != 1 else "the one pair computes"
    return "faithful", f"{subject} the same in float64, from the inputs to every output"


def _tolerated(found: Examination, verdict: str, rtol: float, atol: float) -> tuple[str, str]:
    """The verdict under a tolerance that the user gave: every output, recorded against recorded, and nothing else."""
    said = (
        f"by the tolerance given (rtol={rtol:g}, atol={atol:g}) on the outputs alone; without it: {verdict}"
    )
    outputs = [j for j in found.judged if j.region.target.output]
    if found.missing or found.extra or not outputs:
        return "divergent" if found.missing or found.extra else "inconclusive", said
    for judged in outputs:
        target = judged.region.target
        ours, theirs = found.reference.array(target.reference), found.candidate.array(target.candidate)
        if (
            ours is None
            or theirs is None
            or judged.axes is None
            or judged.axes.of(ours.shape) != theirs.shape
        ):
            return "divergent", said
        left = np.asarray(ours.transpose(judged.axes.permutation), np.float64)
        with np.errstate(invalid="ignore"):
            within = np.abs(np.asarray(theirs, np.float64) - left) <= atol + rtol * np.abs(left)
        if not within.all():
            return "divergent", said
    return "faithful", said


def _recorded(graph: Graph, key: str) -> np.ndarray:
    array = graph.array(key)
    assert array is not None
    return np.asarray(array, np.float64) if array.dtype.kind in "fV" else np.zeros(1)


def _without_effect(found: Examination) -> list[str]:
    """Constants and activations that differ and still make no difference on this input."""
    said = []
    for judged in found.judged:
        if judged.same and judged.gap == 0.0 and judged.region.reference:
            suspect = Suspect(found.judge, judged)
            said += [
                f"{_names(found.candidate, judged.region.candidate)[-1]}: {words}"
                for words in unseen(suspect)
            ]
    return said[:20]


def _warnings(found: Examination, pairs: list[PairResult]) -> list[str]:
    said = []
    for side, graph in (("reference", found.reference), ("candidate", found.candidate)):
        checks = graph.trace.checks
        if checks.training:
            said.append(
                f"the {side} was in training mode in {', '.join(checks.training[:5])}: call eval() or pass training=False"
            )
        if checks.repeat_difference:
            said.append(
                f"the {side} is not deterministic: two runs on the same input differ by {checks.repeat_difference:.3g}"
            )
        if checks.observer_difference:
            said.append(
                f"recording changed the {side}'s output by {checks.observer_difference:.3g} (another kernel was chosen)"
            )
        said.extend(f"{side}: {note}" for note in checks.notes)
        unknown = [r.id for r in graph.trace.records if r.opaque]
        if unknown:
            said.append(f"{len(unknown)} records of the {side} are opaque: {', '.join(unknown[:5])}")
    said.extend(_without_effect(found))
    renamed = [p for p in found.outputs.values() if p.candidate != p.reference and p.how != "declared"]
    if renamed:
        shown = ", ".join(f"{p.reference!r} with {p.candidate!r} ({p.how})" for p in renamed[:5])
        said.append(f"outputs of different names were paired: {shown}")
    guessed = [p for p in pairs if any("guess" in why for why in p.paired_by)]
    if guessed:
        said.append(
            f"{len(guessed)} pairs were matched by position only (a guess): "
            f"{', '.join(p.candidate[-1] for p in guessed[:5] if p.candidate)}"
        )
    low = [p for p in pairs if p.verdict == "low-precision"]
    if low:
        said.append(
            f"{len(low)} pairs ran in reduced precision or by another algorithm: {', '.join(p.candidate[-1] for p in low[:5])}"
        )
    return said
