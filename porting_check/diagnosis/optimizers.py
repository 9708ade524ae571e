"""Why two optimisers make other steps: the rules that were told from their steps, laid beside each other.

Each difference of the two rules is tried alone: the candidate's rule with that one number (or form) of the reference's.
What remains of the difference then says how much that cause explains; all of them together must explain everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from porting_check.numerics.optimizer_fit import FITS, Probe
from porting_check.numerics.optimizers import DECAYS, NAMES, WHERE, Rule, simulate

Array = np.ndarray

OTHER = 1e-3
"""Two fitted numbers are different ones when they differ by more than this share."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One difference of two rules.

    ``id`` is the catalogue's, or names the option where the catalogue has none. ``explains`` is the share of the largest
    difference that goes away when the candidate gets the reference's: 1 is all of it.
    """

    id: str
    option: str
    reference: str
    candidate: str
    explanation: str
    explains: float
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Aspect:
    """One thing in which two rules can differ: the catalogue's id, its fields, and how it is said."""

    id: str
    option: str
    fields: tuple[str, ...]
    differs: Callable[[Rule, Rule], bool]
    said: Callable[[Rule], str]
    why: str = ""


def _number(name: str) -> Callable[[Rule, Rule], bool]:
    def differs(one: Rule, other: Rule) -> bool:
        left, right = float(getattr(one, name)), float(getattr(other, name))
        if name.startswith("beta") or name == "momentum":
            left, right = 1 - left, 1 - right
        return abs(left - right) > OTHER * max(abs(left), abs(right))

    return differs


def _form(*names: str) -> Callable[[Rule, Rule], bool]:
    return lambda one, other: any(getattr(one, n) != getattr(other, n) for n in names)


def _decay_differs(one: Rule, other: Rule) -> bool:
    return one.decay != other.decay or _number("weight_decay")(one, other)


def _decay(rule: Rule) -> str:
    return f"{rule.weight_decay:.6g} {DECAYS[rule.decay]}" if rule.decay else "none"


def _rates(one: Rule, other: Rule) -> bool:
    steps = range(max(len(one.rates), len(other.rates)))
    return any(abs(one.rate(t) - other.rate(t)) > OTHER * one.rate(t) for t in steps)


def _placement(rule: Rule) -> str:
    return "epsilon " + WHERE[rule.placement, rule.corrected]


def _epsilon_id(reference: Rule) -> str:
    return {"rmsprop": "rmsprop-eps", "adam": "adam-eps-hat"}.get(reference.family, "epsilon-place")


ASPECTS: tuple[Aspect, ...] = (
    Aspect(
        "weight-decay-kind",
        "weight decay",
        ("decay", "weight_decay"),
        _decay_differs,
        _decay,
        "decay in the gradient passes through the momentum and the adaptive scaling, decoupled decay does not",
    ),
    Aspect(
        "epsilon-place",
        "place of epsilon",
        ("placement",),
        _form("placement"),
        _placement,
        "the same number then acts as another one: it matters for gradients that are not much larger than epsilon",
    ),
    Aspect(
        "epsilon",
        "epsilon",
        ("epsilon",),
        _number("epsilon"),
        lambda r: f"{r.epsilon:.3g}",
        "it matters for gradients that are not much larger than epsilon",
    ),
    Aspect(
        "bias-correction",
        "bias correction",
        ("corrected",),
        _form("corrected"),
        lambda r: "corrected" if r.corrected else "none",
        "without it the first steps are too small or too large",
    ),
    Aspect("learning-rate", "learning rate", ("rates",), _rates, lambda r: _rates_said(r)),
    Aspect(
        "momentum-lr-coupling",
        "what momentum accumulates",
        ("rate_inside",),
        _form("rate_inside"),
        lambda r: "learning rate times gradient" if r.rate_inside else "gradients",
        "the two are one function only as long as the learning rate stays",
    ),
    Aspect("momentum", "momentum", ("momentum",), _number("momentum"), lambda r: f"{r.momentum:.6g}"),
    Aspect(
        "nesterov",
        "Nesterov momentum",
        ("nesterov",),
        _form("nesterov"),
        lambda r: "yes" if r.nesterov else "no",
    ),
    Aspect("betas", "beta 1", ("beta_1",), _number("beta_1"), lambda r: f"{r.beta_1:.6g}"),
    Aspect("betas", "beta 2", ("beta_2",), _number("beta_2"), lambda r: f"{r.beta_2:.6g}"),
    Aspect(
        "amsgrad",
        "AMSGrad",
        ("amsgrad",),
        _form("amsgrad"),
        lambda r: {
            "": "no",
            "before": "yes, of the uncorrected moment",
            "after": "yes, of the corrected moment",
        }[r.amsgrad],
    ),
    Aspect("centered", "centred", ("centered",), _form("centered"), lambda r: "yes" if r.centered else "no"),
    Aspect(
        "accumulator", "first accumulator", ("initial",), _number("initial"), lambda r: f"{r.initial:.3g}"
    ),
    Aspect(
        "grad-clip-kind",
        "gradient clipping",
        ("clip", "clip_at"),
        _form("clip", "clip_at"),
        lambda r: f"{r.clip} at {r.clip_at:.6g}" if r.clip else "none",
        "by value, by each tensor's norm and by the norm of all of them are three functions",
    ),
)
"""What two rules can differ in. To add one: one row."""


def _rates_said(rule: Rule) -> str:
    return f"{rule.rates[0]:.6g}" if rule.constant_rate else ", ".join(f"{rate:.3g}" for rate in rule.rates)


def causes(given: Probe, reference: Rule, candidate: Rule) -> tuple[Cause, ...]:
    """The differences of two rules, the one that explains most first.

    Example:
        >>> from porting_check.numerics.optimizer_fit import probe
        >>> one = Rule(family="sgd", rates=(0.1,), momentum=0.9, nesterov=True)
        >>> [cause.id for cause in causes(probe(), one, Rule(family="sgd", rates=(0.1,), momentum=0.9))]
        ['nesterov']
    """
    if reference.family != candidate.family:
        said = f"the reference is {reference}; the candidate is {candidate}"
        names = NAMES[reference.family], NAMES[candidate.family]
        return (Cause("optimizer-kind", "optimiser", *names, said, 1.0, ("family",)),)
    found = []
    for aspect in ASPECTS:
        if aspect.differs(reference, candidate):
            explains = _explains(given, reference, candidate, aspect.fields)
            words = aspect.said(reference), aspect.said(candidate)
            name = _epsilon_id(reference) if aspect.id == "epsilon-place" else aspect.id
            why = f"; {aspect.why}" if aspect.why else ""
            text = f"{aspect.option}: {words[1]} in the candidate, {words[0]} in the reference{why}"
            found.append(Cause(name, aspect.option, *words, text, explains, aspect.fields))
    return tuple(sorted(found, key=lambda cause: -cause.explains))


def proven(given: Probe, reference: Rule, candidate: Rule, found: Sequence[Cause]) -> bool:
    """Whether the candidate's rule with all these changes makes the reference's steps."""
    names = [name for cause in found for name in cause.fields]
    if "family" in names:
        return False
    mended = replace(candidate, **{name: getattr(reference, name) for name in names})
    return bool(apart(given, reference, mended).max(initial=0.0) <= 10 * FITS)


def apart(given: Probe, one: Rule, other: Rule) -> Array:
    """The differences of two rules' steps, as shares of the way that each element went."""
    rows = [_path(given, rule) for rule in (one, other)]
    way = np.maximum(*(np.abs(np.diff(row, axis=0)).sum(axis=0) for row in rows))
    rest = np.abs(rows[0] - rows[1]).max(axis=0)
    return np.asarray(np.divide(rest, way, out=np.zeros_like(way), where=way > 0))


def _path(given: Probe, rule: Rule) -> Array:
    steps = [given.parameters, *simulate(rule, given.parameters, given.gradients)]
    return np.stack([np.concatenate([step[name].ravel() for name in given.parameters]) for step in steps])


def _explains(given: Probe, reference: Rule, candidate: Rule, fields: Sequence[str]) -> float:
    """The share of the difference that goes away with the reference's numbers in these fields alone."""
    before = apart(given, reference, candidate)
    mended = replace(candidate, **{name: getattr(reference, name) for name in fields})
    after = apart(given, reference, mended)
    total = float(np.sum(before))
    return 0.0 if total == 0 else max(0.0, 1 - float(np.sum(after)) / total)
