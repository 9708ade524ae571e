"""Which rule an optimiser follows, told from its steps alone: the family, its hyper-parameters, where epsilon stands.

The gradients are ours, so they are made to tell: a *ladder* of magnitudes from 1e-10 to 100 at parameters of zero shows in
its first step how the movement depends on the gradient (proportional: SGD; ``g / (|g| + c)`` or ``g / sqrt(g² + c)``:
adaptive, with epsilon outside or inside the root); a *pulse*, one gradient and then none, shows what is remembered;
parameters that stand *still*, without any gradient, show weight decay. A least-squares fit on all steps gives the numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from porting_check.numerics.optimizers import Array, Arrays, Placement, Rule, State, clipped, flat, movement

FITS = 5e-5
"""Largest share of a movement that may stay unexplained. Keras rounds beta_2 to float32 in its bias correction, which
alone makes up to 1.3e-5 of a step at beta_2 = 0.999."""

CLIPS = (1.0, 0.5, 5.0, 10.0, 0.1, 0.01, 2.0)
"""Thresholds at which gradients are usually clipped; others are not looked for."""


BRIEFLY = 5
"""How many structures are tried with each way of clipping: the common ones."""

EVALUATIONS = (40, 120)
"""Of a rule, in a first and a second search from where the first ended; rules that fit need 20 to 60."""

HOPELESS = 0.05
"""What is left after the first search, as a share of the movements, beyond which there is no second one."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Parameters and gradients that tell rules apart."""

    parameters: dict[str, Array]
    gradients: tuple[dict[str, Array], ...]
    magnitudes: Array


def probe(steps: int = 5, seed: int = 0) -> Probe:
    """Parameters to start from and a gradient for each step; exact in float32.

    Example:
        >>> sorted(probe().parameters)
        ['bias', 'ladder', 'noise', 'pulse', 'still']
    """
    rng = np.random.default_rng(seed)
    magnitudes = np.logspace(-10, 2, 25).reshape(5, 5)
    parameters = {
        "ladder": np.zeros((5, 5)),
        "noise": rng.standard_normal((4, 6)),
        "pulse": 0.1 * rng.standard_normal((4, 3)),
        "still": 0.5 + rng.random((4, 3)),
        "bias": 0.5 + rng.random(6),
    }
    signs = rng.choice([-1.0, 1.0], (5, 5))
    gradients = []
    for step in range(steps):
        strength = np.ones((5, 5)) if step == 0 else rng.uniform(0.5, 1.5, (5, 5))
        gradients.append(
            {
                "ladder": signs * magnitudes * strength,
                "noise": rng.standard_normal((4, 6)),
                "pulse": rng.standard_normal((4, 3)) if step == 0 else np.zeros((4, 3)),
                "still": np.zeros((4, 3)),
                "bias": np.zeros(6),
            }
        )
    return Probe(_exact(parameters), tuple(map(_exact, gradients)), magnitudes)


def _exact(arrays: Arrays) -> dict[str, Array]:
    """Rounded to float32, so that both precisions begin at the same numbers."""
    return {name: array.astype(np.float32).astype(np.float64) for name, array in arrays.items()}


@dataclass(frozen=True, slots=True)
class Fit:
    """A rule and the largest share of any movement that it leaves unexplained."""

    rule: Rule
    residual: float


@dataclass(slots=True)
class Seen:
    """The steps of an optimiser in rows: gradients ``g[t]``, parameters ``p[t]`` before each step, movements ``u[t]``.

    Rules are held against the parameters that were really there before each step, so an error of one step does not grow.
    """

    given: Probe
    names: list[str]
    p: Array
    u: Array
    weight: Array

    @classmethod
    def of(cls, given: Probe, steps: Sequence[Arrays]) -> Seen:
        """From the parameters after each step."""
        names = [name for name in given.parameters if name != "bias"]
        rows = np.stack([flat(given.parameters, names), *(flat(step, names) for step in steps)])
        moved = rows[:-1] - rows[1:]
        # Rounding of the parameter itself is worth about 1e-16 of it: movements of less than a millionth of a
        # millionth of it say nothing.
        weight = 1 / (np.abs(moved).max(axis=0) + 1e-11 * np.abs(rows).max(axis=0) + 1e-300)
        return cls(given, names, rows[:-1], moved, weight)

    def gradients(self, rule: Rule) -> list[Array]:
        """What the rule takes in, step by step."""
        return [flat(clipped(rule, given), self.names) for given in self.given.gradients[: len(self.u)]]

    def directions(self, rule: Rule, rows: Sequence[Array]) -> Array:
        """The movements by the rule, on the parameters that were there."""
        state = State.fresh(rule, self.p.shape[1])
        return np.stack([movement(rule, state, p, g) for p, g in zip(self.p, rows, strict=True)])

    def misfit(self, rule: Rule, rows: Sequence[Array]) -> Array:
        """What the rule leaves unexplained, as shares of the largest movement of each element."""
        return np.asarray((self.u - self.directions(rule, rows)) * self.weight)

    def tensor(self, name: str, rows: Array) -> Array:
        """The part of some rows that belongs to one tensor."""
        start = sum(self.given.parameters[n].size for n in self.names[: self.names.index(name)])
        return rows[..., start : start + self.given.parameters[name].size]


def fit(given: Probe, steps: Sequence[Arrays]) -> Fit | None:
    """The simplest rule that explains the steps, or ``None`` when none does.

    Args:
        given: what the optimiser was given.
        steps: the parameters after each step, in float64; at least three.

    Example:
        >>> from porting_check.numerics.optimizers import simulate
        >>> made, rule = probe(), Rule(family="sgd", rates=(0.1,), momentum=0.9, nesterov=True)
        >>> print(fit(made, simulate(rule, made.parameters, made.gradients)).rule)
        SGD with learning rate 0.1, Nesterov momentum 0.9
    """
    if len(steps) < 3 or not all(np.isfinite(array).all() for step in steps for array in step.values()):
        return None
    seen = Seen.of(given, steps)
    best: Fit | None = None
    for rule in _structures(seen):
        found = _fitted(seen, rule)
        if found is not None and (best is None or found.residual < 0.2 * best.residual):
            best = found
        if best is not None and best.residual < FITS:
            return Fit(_rounded(best.rule), best.residual)
    return None


def _structures(seen: Seen) -> Iterator[Rule]:
    """Rules to try with numbers to begin at, simplest first; the ladder's first step says which kind it can be."""
    still = seen.tensor("still", seen.u)[0]
    decays: tuple[Any, ...] = ("decoupled", "coupled") if np.any(still != 0) else ("",)
    for clip, at in [("", 0.0), *((kind, at) for kind in ("global norm", "norm", "value") for at in CLIPS)]:
        base = Rule(family="sgd", rates=(1.0,), clip=clip, clip_at=at)
        kind, numbers = _first_step(seen, base)
        if clip and kind != "plain" and not numbers[1:2] > (0.0,):
            continue  # movements that do not depend on the gradient's size show no clipping
        for decay in decays if kind else ():
            made = _plain(numbers[0]) if kind == "plain" else _adaptive(kind, *numbers)
            for rule in itertools.islice(made, BRIEFLY if clip else None):
                rule = replace(rule, decay=decay, clip=clip, clip_at=at)
                yield replace(rule, weight_decay=_first_decay(seen, rule)) if decay else rule


def _first_step(seen: Seen, rule: Rule) -> tuple[str, tuple[float, ...]]:
    """How the first movement depends on the gradient: ``plain`` (rate), ``outside`` or ``inside`` (rate, constant)."""
    g = np.abs(seen.tensor("ladder", seen.gradients(rule)[0]))
    u = np.abs(seen.tensor("ladder", seen.u)[0])
    if not (u > 0).all():
        return "", ()
    inverse = g / u
    rest = inverse.max() / inverse.min() - 1
    if rest < FITS:
        return "plain", (float(1 / np.median(inverse)),)
    for kind, x, y in (("outside", g, inverse), ("inside", g * g, inverse * inverse)):
        line = np.stack([x, np.ones_like(x)], axis=1) / y[:, None]
        slope, constant = np.linalg.lstsq(line, np.ones_like(y), rcond=None)[0]
        share = np.abs(line @ np.array([slope, constant]) - 1).max()
        if slope > 0 and constant >= -1e-12 * y.max() and share < FITS:
            rate = 1 / slope if kind == "outside" else 1 / np.sqrt(slope)
            return kind, (float(rate), float(max(constant / slope, 0.0)))
    return "", ()


def _plain(rate: float) -> Iterator[Rule]:
    """SGD: without momentum, with it, with Nesterov's; last with a rate that changes."""
    base = Rule(family="sgd", rates=(rate,))
    yield base
    for rates in ((rate,), (rate, rate)):
        for momentum in (0.9, 0.5):
            for nesterov in (False, True):
                scale = 1 + momentum if nesterov else 1.0
                made = tuple(r / scale for r in rates)
                for inside in (False, True) if len(rates) > 1 else (False,):
                    yield replace(base, rates=made, momentum=momentum, nesterov=nesterov, rate_inside=inside)
        yield replace(base, rates=(rate, rate))


def _adaptive(kind: Any, rate: float, constant: float) -> Iterator[Rule]:
    """Adam, RMSprop and Adagrad with numbers that give this first step."""
    inside = kind == "inside"
    places: tuple[Placement, ...] = ("inside",) if inside else ("outside", "hat")
    yield Rule(
        family="adagrad",
        rates=(rate,),
        epsilon=0.0 if inside else constant,
        placement=kind,
        initial=constant if inside else 0.0,
    )
    for amsgrad in ("", "before", "after"):
        for placement in places:
            for beta in (0.999, 0.9):
                epsilon = constant * np.sqrt(1 - beta) if placement == "hat" else constant
                yield Rule(
                    family="adam",
                    rates=(rate,),
                    beta_1=0.9,
                    beta_2=beta,
                    epsilon=epsilon,
                    placement=placement,
                    corrected=True,
                    amsgrad=amsgrad,
                )
    for centered in (False, True):
        for momentum in (0.0, 0.9):
            for beta in (0.9, 0.99):
                share = beta * (1 - beta) if centered else 1 - beta
                scale = np.sqrt(share)
                epsilon = constant * share if inside else constant * scale
                yield Rule(
                    family="rmsprop",
                    rates=(rate * scale,),
                    beta_2=beta,
                    epsilon=epsilon,
                    placement=kind,
                    momentum=momentum,
                    centered=centered,
                )
    for beta in (0.999, 0.9):
        yield Rule(
            family="adam",
            rates=(rate * np.sqrt(1 - beta) / 0.1,),
            beta_1=0.9,
            beta_2=beta,
            epsilon=constant * (1 - beta if inside else np.sqrt(1 - beta)),
            placement=kind,
        )


def _first_decay(seen: Seen, rule: Rule) -> float:
    """A weight decay to begin at."""
    u, p = seen.tensor("still", seen.u)[0], seen.tensor("still", seen.p)[0]
    share = float(np.median(np.abs(u / p))) / rule.rates[0]
    return share if rule.decay == "decoupled" or rule.family == "sgd" else 0.01


@dataclass(frozen=True, slots=True)
class _Unknown:
    """One number to be found: ``log`` of it, or of its distance from 1, so that any step stays in range."""

    name: str
    from_one: bool = False

    def read(self, rule: Rule) -> float:
        value = float(getattr(rule, self.name))
        return float(np.log(max(1 - value if self.from_one else value, 1e-300)))

    def value(self, number: float) -> float:
        found = float(np.exp(np.clip(number, -690, 60)))
        return 1 - min(found, 1.0) if self.from_one else found


def _unknowns(rule: Rule) -> list[_Unknown]:
    found = []
    if rule.momentum:
        found.append(_Unknown("momentum", True))
    if rule.family == "adam":
        found.append(_Unknown("beta_1", True))
    if rule.family in ("adam", "rmsprop"):
        found.append(_Unknown("beta_2", True))
    found += [_Unknown(n) for n in ("epsilon", "initial", "weight_decay") if getattr(rule, n) > 0]
    return found


def _fitted(seen: Seen, start: Rule) -> Fit | None:
    """The numbers of a rule that explain the steps best, by least squares."""
    from scipy.optimize import least_squares

    unknowns, rows = _unknowns(start), seen.gradients(start)
    changing = len(start.rates) > 1
    first = [u.read(start) for u in unknowns] + [float(np.log(start.rates[0]))] * (
        len(seen.u) if changing else 1
    )

    def made(numbers: Array) -> Rule:
        values: Mapping[str, Any] = {u.name: u.value(x) for u, x in zip(unknowns, numbers, strict=False)}
        rates = tuple(float(np.exp(np.clip(x, -60, 60))) for x in numbers[len(unknowns) :])
        return replace(start, **values, rates=rates)

    def misfit(numbers: Array) -> Array:
        with np.errstate(all="ignore"):
            rest = seen.misfit(made(numbers), rows).ravel()
        return np.asarray(np.nan_to_num(np.clip(rest, -1e6, 1e6), nan=1e6))

    if np.abs(misfit(np.array(first))).max() < 1e-9:
        return Fit(start, float(np.abs(misfit(np.array(first))).max()))
    found = np.array(first)
    for evaluations in EVALUATIONS:
        found = least_squares(
            misfit, found, "2-point", method="lm", ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=evaluations
        ).x
        if np.sqrt(np.mean(np.square(misfit(found)))) > HOPELESS:
            return None
    return Fit(made(found), float(np.abs(misfit(found)).max()))


def _rounded(rule: Rule) -> Rule:
    """Numbers as a person wrote them: the shortest decimal within the precision of the fit."""
    values: dict[str, Any] = {
        name: short(getattr(rule, name), 1e-4) for name in ("epsilon", "initial", "weight_decay")
    }
    for name in ("momentum", "beta_1", "beta_2"):
        value = getattr(rule, name)
        values[name] = short(value, 2e-4 * (1 - value)) if value else 0.0
    return replace(rule, rates=tuple(short(rate, 2e-5) for rate in rule.rates), **values)


def short(value: float, share: float) -> float:
    """The shortest decimal within a share of a number.

    Example:
        >>> short(0.0009999993, 1e-5)
        0.001
    """
    for digits in range(1, 8):
        text = float(f"{value:.{digits - 1}e}")
        if abs(text - value) <= share * abs(value):
            return text
    return value
