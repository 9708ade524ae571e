"""The power of a run: which known mistakes, had they been made, it would have revealed, and which it could not have seen.

"No difference" says nothing about a mistake that makes none on this input: an odd size pads evenly, values that are never
negative hide a slope. Each row of :data:`MISTAKES` looks at the reference's own operands and says whether its mistake
would have shown there. A new row is all that another mistake needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from porting_check.alignment.families import family
from porting_check.diagnosis.attributes import told
from porting_check.diagnosis.hypothesis import Suspect, attribute_differences, nodes
from porting_check.diagnosis.structure import described
from porting_check.judgement import Judgement
from porting_check.neutral.graph import Step
from porting_check.numerics.truth import evaluate_node
from porting_check.verdict import Judge

Array = np.ndarray

INVISIBLE = 1e-10
"""A change of less than this share of the largest value is far below what float32 resolves."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One row: the catalogue's id, the operators it concerns, when it cannot show, and what to do about it.

    ``hidden`` takes the suspect, the reference's step and its first operand as recorded; ``None`` means that the mistake
    does not apply to this step.
    """

    cause: str
    operators: frozenset[str]
    hidden: Callable[[Suspect, Step, Array], bool | None]
    reason: str


@dataclass(frozen=True, slots=True)
class Seen:
    """Where one mistake would have shown, and where not."""

    cause: str
    revealed: int
    hidden: tuple[str, ...]
    reason: str


def power(judge: Judge, judged: Iterable[Judgement]) -> list[Seen]:
    """For each mistake that applies somewhere, at how many places it would have shown and where it could not.

    Example:
        >>> [s.cause for s in power(judge, judged) if s.hidden]        # doctest: +SKIP
        ['relu6-cap']
    """
    shown: dict[str, int] = {}
    hidden: dict[str, list[str]] = {}
    for item in judged:
        if not item.same:
            continue
        suspect = Suspect(judge, item)
        for step in suspect.reference:
            for mistake, invisible in _applied(suspect, step):
                name = judge.reference.record_of(step).id
                shown.setdefault(mistake.cause, 0)
                if invisible:
                    hidden.setdefault(mistake.cause, []).append(name)
                else:
                    shown[mistake.cause] += 1
    reasons = {mistake.cause: mistake.reason for mistake in MISTAKES}
    return [Seen(c, n, tuple(dict.fromkeys(hidden.get(c, ()))), reasons[c]) for c, n in shown.items()]


def _applied(suspect: Suspect, step: Step) -> Iterable[tuple[Mistake, bool]]:
    if step.node is None or not step.inputs:
        return
    operand = suspect.judge.reference.array(step.inputs[0].key)
    if operand is None or operand.size == 0 or operand.dtype.kind != "f":
        return
    for mistake in MISTAKES:
        if step.node.op_type in mistake.operators:
            verdict = mistake.hidden(suspect, step, operand)
            if verdict is not None:
                yield mistake, verdict


def unseen(suspect: Suspect) -> list[str]:
    """What differs between two aligned operators of a region that nevertheless gave equal results."""
    said = []
    steps = (*suspect.reference, *suspect.candidate)
    padded = any(s.node is not None and s.node.op_type in ("Pad", "Slice") for s in steps)
    for ours, theirs in suspect.pairs():
        one, other = nodes(ours), nodes(theirs)
        if one.op_type == other.op_type:
            for name, (wanted, present) in attribute_differences(one, other).items():
                if name in ("axis", "axes", "perm") or (name in ("pads", "auto_pad") and padded):
                    continue  # the order of axes, or a layer that pads or crops, makes up for it
                said.append(
                    f"{one.op_type}: {name} is {told(present)}, the reference has {told(wanted)}; no difference on this input"
                )
        elif family(ours) == family(theirs) == "activation":
            names = described(suspect, 1, theirs), described(suspect, 0, ours)
            said.append(f"{names[0]} where the reference has {names[1]}; no difference on this input")
    return said


def _evenly_padded(suspect: Suspect, step: Step, operand: Array) -> bool | None:
    attributes = nodes(step).attributes
    pads, strides = attributes.get("pads", ()), attributes.get("strides", ())
    if not pads or max(strides, default=1) == 1 or max(attributes.get("kernel_shape", (1,))) == 1:
        return None
    half = len(pads) // 2
    return bool(any(pads) and pads[:half] == pads[half:])


def _symmetric_kernel(suspect: Suspect, step: Step, operand: Array) -> bool | None:
    weight = suspect.operand(0, step, 1)
    if weight is None or weight.ndim != 4 or max(weight.shape[2:]) == 1 or weight.shape[2] != weight.shape[3]:
        return None
    return bool(np.array_equal(weight, weight.transpose(0, 1, 3, 2)))


def _never_negative(suspect: Suspect, step: Step, operand: Array) -> bool | None:
    return bool(operand.min() >= 0)


def _padded_and_never_negative(suspect: Suspect, step: Step, operand: Array) -> bool | None:
    return bool(operand.min() >= 0) if any(nodes(step).attributes.get("pads", ())) else None


def _below_six(suspect: Suspect, step: Step, operand: Array) -> bool | None:
    if nodes(step).op_type == "Clip":
        high = suspect.operand(0, step, 2)
        if high is None or float(high.reshape(-1)[0]) != 6:
            return None
    return bool(operand.max() <= 6)


def _forms_agree(suspect: Suspect, step: Step, operand: Array) -> bool | None:
    wide = operand.reshape(-1)[:: max(1, operand.size // 65536)].astype(np.float64)
    one, other = (evaluate_node(nodes(step).edit(approximate=form), [wide])[0] for form in ("none", "tanh"))
    return bool(np.abs(one - other).max() <= INVISIBLE * max(np.abs(one).max(), 1e-300))


def _epsilon_lost(suspect: Suspect, step: Step, operand: Array) -> bool | None:
    """Whether ten times the epsilon changes the normalised values by less than anything that can be seen."""
    if nodes(step).op_type == "BatchNormalization":
        variance = suspect.operand(0, step, 4)
        smallest = None if variance is None else float(np.min(variance))
    else:
        smallest = float(np.asarray(operand, np.float64).var())
    if smallest is None:
        return None
    epsilon = float(nodes(step).attributes.get("epsilon", 1e-5))
    return bool(9 * epsilon / (2 * (smallest + epsilon)) <= INVISIBLE)


def _no_padding(suspect: Suspect, step: Step, operand: Array) -> bool | None:
    attributes = nodes(step).attributes
    return not any(attributes.get("pads", ())) if "count_include_pad" in attributes else None


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "conv-same-stride-asym",
        frozenset({"Conv"}),
        _evenly_padded,
        "at this input size SAME pads evenly; run once more with a size that is one larger",
    ),
    Mistake(
        "maxpool-same-asym",
        frozenset({"MaxPool", "AveragePool"}),
        _evenly_padded,
        "at this input size SAME pads evenly; run once more with a size that is one larger",
    ),
    Mistake(
        "kernel-hw-swap",
        frozenset({"Conv", "ConvTranspose"}),
        _symmetric_kernel,
        "the kernel equals its own transpose",
    ),
    Mistake(
        "maxpool-pad-value",
        frozenset({"MaxPool"}),
        _padded_and_never_negative,
        "nothing negative arrives, so padding with zero is as good as with minus infinity",
    ),
    Mistake(
        "relu6-cap",
        frozenset({"Relu", "Clip"}),
        _below_six,
        "no value exceeds 6; run once more with larger inputs",
    ),
    Mistake(
        "leaky-slope",
        frozenset({"LeakyRelu", "PRelu", "Elu", "Selu", "Celu"}),
        _never_negative,
        "nothing negative arrives, so the slope below zero is not used",
    ),
    Mistake("gelu-tanh", frozenset({"Gelu"}), _forms_agree, "the values are so small that both forms agree"),
    Mistake(
        "bn-eps",
        frozenset({"BatchNormalization"}),
        _epsilon_lost,
        "the variances are so large that epsilon is lost",
    ),
    Mistake(
        "ln-eps",
        frozenset({"LayerNormalization", "RMSNormalization"}),
        _epsilon_lost,
        "the variance is so large that epsilon is lost; run once more with smaller inputs",
    ),
    Mistake(
        "avgpool-count-pad", frozenset({"AveragePool"}), _no_padding, "nothing is padded at this input size"
    ),
)
"""Mistakes whose visibility depends on the input or the weights."""

TRAINING_ONLY = ("bn-momentum", "bn-unbiased-var", "dropout-semantics")
"""Mistakes that no run in inference can reveal."""
