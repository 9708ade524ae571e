"""``pc.compare_optimizers``: do two optimisers make the same steps; if not, in what do they differ?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from porting_check.diagnosis.optimizer_fixes import fix
from porting_check.diagnosis.optimizers import Cause, causes, proven
from porting_check.neutral.adapter import Adapter
from porting_check.neutral.errors import InputError, Unsupported
from porting_check.numerics.optimizer_fit import Fit, Probe, fit, probe
from porting_check.numerics.optimizers import Rule
from porting_check.recorder.registry import installed, load_adapter
from porting_check.report.optimizer_result import (
    OptimizerCause,
    OptimizerComparison,
    OptimizerSide,
    OptimizerVerdict,
)

Array = np.ndarray
Steps = Sequence[dict[str, Array]]

UNKNOWN_SHARE = 1e-4
"""What rounding a hyper-parameter to float32 may do to a movement when the rule is not known."""

FLOAT32_LIMIT = 16.0
"""Units per step that float32 may cost: about ten roundings of the movement and one of the parameter, and the
cancellation in ``1 - beta_2 ** t``, which is counted in the unit."""


@dataclass(frozen=True, slots=True)
class _Side:
    """One optimiser and what it did."""

    optimizer: Any
    adapter: Adapter
    double: Steps
    single: Steps
    fit: Fit | None

    @property
    def rule(self) -> Rule | None:
        return self.fit.rule if self.fit else None


def compare_optimizers(
    reference: Any, candidate: Any, *, steps: int = 5, seed: int = 0
) -> OptimizerComparison:
    """Let two optimisers step from the same parameters on the same gradients, and say in what they differ.

    Gradients reach from 1e-10 to 100, so that epsilon shows; some parameters get none, so that weight decay shows. Both
    run in float64, which decides, and in float32. The optimisers are left as they are: fresh copies make the steps.

    Args:
        reference: a configured ``torch.optim.Optimizer``, Keras optimiser (TensorFlow backend), or optax transformation.
        candidate: another one, of any of these frameworks.
        steps: how many; at least three are needed to recognise a rule.
        seed: of the gradients.

    Raises:
        InputError: ``steps`` is less than 1.
        Unsupported: an object that is no optimiser of an installed adapter's framework, or that makes no steps from
            gradients alone.

    Example:
        >>> print(compare_optimizers(keras.optimizers.Adam(1e-3), torch.optim.Adam(parameters)))    # doctest: +SKIP
    """
    if steps < 1:
        raise InputError(f"steps={steps}: at least one step is needed, and three to recognise a rule")
    given = probe(steps, seed)
    ours, theirs = _run(reference, given, "reference"), _run(candidate, given, "candidate")
    step = _first_difference(given, ours, theirs)
    found, sure = _causes(given, ours, theirs) if step is not None else ((), False)
    units = [_float32_units(given, side) for side in (ours, theirs)]
    verdict = _verdict(step, units, steps)
    return OptimizerComparison(
        verdict=verdict,
        reference=_described(ours, units[0]),
        candidate=_described(theirs, units[1]),
        explanation=_explanation(verdict, step, ours, theirs, found, units),
        step=step,
        cause=found[0].id if found else ("" if step is None else "unknown"),
        fix=next((c.fix for c in found if c.fix), ""),
        proven=sure,
        causes=found,
        rows=tuple(_rows(given, ours, theirs)),
        notes=tuple(_notes(ours, theirs)),
        steps=steps,
        settings={"steps": steps, "seed": seed},
    )


def _run(optimizer: Any, given: Probe, side: str) -> _Side:
    adapter = _owner(optimizer, side)
    rows = [
        adapter.optimizer_steps(optimizer, given.parameters, given.gradients, float64=wide)
        for wide in (True, False)
    ]
    return _Side(optimizer, adapter, rows[0], rows[1], fit(given, rows[0]))


def _owner(optimizer: Any, side: str) -> Adapter:
    """The adapter whose framework an optimiser belongs to; only frameworks that are loaded are asked.

    Raises:
        Unsupported: none does.
    """
    known = sorted(installed())
    owners = [a for a in (load_adapter(n) for n in known if n in sys.modules) if a.owns_optimizer(optimizer)]
    if owners:
        return owners[0]
    kind = f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"
    raise Unsupported(
        f"the {side} is a {kind}, which no adapter knows as an optimiser. Expected a configured torch.optim.Optimizer, a "
        f"Keras optimiser on the TensorFlow backend, or an optax transformation; installed adapters: {', '.join(known)}"
    )


def _joined(arrays: dict[str, Array]) -> Array:
    return np.concatenate([np.asarray(a, np.float64).ravel() for a in arrays.values()])


def _path(given: Probe, steps: Steps) -> Array:
    """All parameters in rows: before the first step, and after each."""
    return np.stack([_joined(given.parameters), *(_joined(dict(step)) for step in steps)])


def _way(path: Array) -> Array:
    """How far each element has gone, up to and after each step."""
    return np.cumsum(np.abs(np.diff(path, axis=0)), axis=0)


def _share(*sides: _Side) -> float:
    """What keeping hyper-parameters in float32 may change of a movement.

    ``1 - beta`` loses as many digits as beta is close to 1.
    """
    rules = [side.rule for side in sides]
    if any(rule is None for rule in rules):
        return UNKNOWN_SHARE
    return 2.0**-24 * max(
        4 + sum(1 / (1 - b) for b in (r.beta_1, r.beta_2, r.momentum) if 0 < b < 1) for r in rules if r
    )


def _first_difference(given: Probe, ours: _Side, theirs: _Side) -> int | None:
    """The first step after which the parameters differ in float64 by more than float32 hyper-parameters explain."""
    paths = _path(given, ours.double), _path(given, theirs.double)
    with np.errstate(invalid="ignore"):
        way = np.maximum(_way(paths[0]), _way(paths[1]))
        apart = np.abs(paths[0] - paths[1])[1:]
        steps = np.arange(1, len(way) + 1)[:, None]
        allowed = _share(ours, theirs) * way + 8 * steps * 2.0**-53 * np.abs(paths[0][1:])
        differs = ~(apart <= allowed) & ~(np.isnan(paths[0]) & np.isnan(paths[1]))[1:]
    where = np.flatnonzero(differs.any(axis=1))
    return int(where[0]) + 1 if where.size else None


def _float32_units(given: Probe, side: _Side) -> float:
    """The largest distance of the float32 steps from the float64 ones, in units of float32.

    The unit is half a place of the parameter, and of the way it went the share of a rounding and of :func:`_share`.
    """
    wide, narrow = _path(given, side.double), _path(given, side.single)
    if not np.isfinite(wide).all() or not np.isfinite(narrow).all():
        return 0.0 if np.array_equal(np.isfinite(wide), np.isfinite(narrow)) else float("inf")
    places = np.spacing(np.abs(wide[1:]).max(axis=0).astype(np.float32)).astype(np.float64) / 2
    unit = places + (2.0**-24 + _share(side)) * _way(wide)
    return float((np.abs(wide - narrow)[1:] / unit).max())


def _verdict(step: int | None, units: Sequence[float], steps: int) -> OptimizerVerdict:
    if step is not None:
        return "divergent"
    return "inconclusive" if max(units) > FLOAT32_LIMIT * steps else "equivalent"


def _causes(given: Probe, ours: _Side, theirs: _Side) -> tuple[tuple[OptimizerCause, ...], bool]:
    if ours.rule is None or theirs.rule is None:
        return (), False
    found = causes(given, ours.rule, theirs.rule)
    said = tuple(_cause(c, ours.rule, theirs) for c in found)
    spared = _spared(given, ours, theirs)
    return said + spared, bool(found) and not spared and proven(given, ours.rule, theirs.rule, found)


def _spared(given: Probe, ours: _Side, theirs: _Side) -> tuple[OptimizerCause, ...]:
    """A decay that one side keeps from parameters of one axis (biases, scales of normalisations) and the other does not."""
    spares = [
        bool(side.rule and side.rule.decay and (side.double[0]["bias"] == given.parameters["bias"]).all())
        for side in (ours, theirs)
    ]
    decays = all(side.rule and side.rule.decay for side in (ours, theirs))
    if not decays or spares[0] == spares[1]:
        return ()
    which, words = ("reference", "candidate")[spares[1]], ("all parameters", "not those of one axis")
    said = (
        f"the {which} does not decay parameters of one axis, or of the name 'bias'; the other side decays all"
    )
    pair = words[spares[0]], words[spares[1]]
    return (
        OptimizerCause(
            id="weight-decay-kind",
            option="what decays",
            reference=pair[0],
            candidate=pair[1],
            explanation=said,
            explains=0.0,
        ),
    )


def _cause(cause: Cause, reference: Rule, theirs: _Side) -> OptimizerCause:
    return OptimizerCause(
        id=cause.id,
        option=cause.option,
        reference=cause.reference,
        candidate=cause.candidate,
        explanation=cause.explanation,
        explains=cause.explains,
        fix=fix(cause.id, theirs.adapter.framework, reference),
    )


def _described(side: _Side, units: float) -> OptimizerSide:
    return OptimizerSide(
        name=f"{type(side.optimizer).__module__.split('.')[0]}.{type(side.optimizer).__name__}",
        framework=side.adapter.framework,
        rule=str(side.rule) if side.rule else "",
        float32_units=units,
    )


def _explanation(
    verdict: str,
    step: int | None,
    ours: _Side,
    theirs: _Side,
    found: Sequence[OptimizerCause],
    units: Sequence[float],
) -> str:
    if verdict == "equivalent":
        return "Both make the same steps: in float64 they agree, and in float32 they differ by round-off."
    if verdict == "inconclusive":
        return (
            f"In float64 both make the same steps, but in float32 one is {max(units):.2g} units from its own float64 steps: "
            "it keeps something in less than float32."
        )
    if found:
        more = f" {len(found) - 1} more below." if len(found) > 1 else ""
        return f"The steps differ from step {step} on. {found[0].explanation[0].upper()}{found[0].explanation[1:]}.{more}"
    unknown = [w for w, side in (("reference", ours), ("candidate", theirs)) if side.rule is None]
    why = (
        f"the {' and the '.join(unknown)} follows no rule that is known here (SGD, Adam, RMSprop, Adagrad)"
        if unknown
        else "both follow the same rule by their recorded steps, yet not to the last digit"
    )
    return f"The steps differ from step {step} on; {why}."


def _rows(given: Probe, ours: _Side, theirs: _Side) -> list[dict[str, Any]]:
    """How far both moved by the size of the gradient, at parameters that began at zero."""
    rows = []
    sizes = given.magnitudes.ravel()
    ways = [
        _way(np.stack([given.parameters["ladder"].ravel(), *(s["ladder"].ravel() for s in side.double)]))[-1]
        for side in (ours, theirs)
    ]
    for place in range(0, sizes.size, 4):
        one, other = float(ways[0][place]), float(ways[1][place])
        ratio = other / one if one else None
        rows.append({"gradient": float(sizes[place]), "reference": one, "candidate": other, "ratio": ratio})
    return rows


def _notes(ours: _Side, theirs: _Side) -> list[str]:
    """What these steps cannot show, and what to know of them."""
    said = ["given gradients: losses, regularisers and clipping outside of the optimiser take no part"]
    rules = [side.rule for side in (ours, theirs)]
    inside = {side.adapter.framework == "tensorflow" for side in (ours, theirs)}
    plain = all(
        rule and rule.family in ("sgd", "rmsprop") and rule.momentum and rule.constant_rate for rule in rules
    )
    if plain and len(inside) == 2:
        said.append(
            "momentum-lr-coupling: Keras accumulates learning rate times gradient, torch and optax accumulate gradients; the "
            "same steps as long as the learning rate stays, others for some steps after each change of a schedule"
        )
    return said
