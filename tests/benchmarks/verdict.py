"""The rule of the verdict measured: false alarms, detection, names of low precision, and cost, beside fixed tolerances.

Run it as a script: ``python tests/benchmarks/verdict.py [--count 2000] [--quick] [--seed N] [--json FILE]``. Every run draws
fresh data (the seed is printed). Correct comparisons are single nodes of many operators, shapes and kinds of data, run by each
framework and judged against float64; the peers get the same outputs in pairs. Mistakes are hidden from the description, so that
the numbers alone must show them; their size is the effect in float64 in units of predicted round-off (0.42 tau). The ten that
pass a loose tolerance go through ``compare``. Exit status 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

import porting_check as pc
from porting_check.neutral.adapter import Adapter
from porting_check.neutral.errors import PortingError
from porting_check.numerics.excess import Settled, settled
from porting_check.numerics.normal import at_float32
from porting_check.numerics.rule import LAW
from porting_check.numerics.spread import Bounds, bounds_of
from porting_check.numerics.truth import evaluate_node
from porting_check.recorder.registry import installed, load_adapter
from tests.benchmarks.verdict_cases import Array, Case, cases, structured_cases
from tests.benchmarks.verdict_cost import costs
from tests.benchmarks.verdict_mistakes import MISTAKES, NARROW, Change, evil, recorded, victims
from tests.benchmarks.verdict_peers import PEERS

FRAMEWORKS = ("torch", "tensorflow", "jax", "onnxruntime")
VERDICTS = ("exact", "round-off", "undecided", "low-precision", "divergent")
UNIT = 2.0**-24
VISIBLE = 30.0
"""Effects above this many units of round-off must be flagged."""
UNDECIDED, NAMED, COST = 0.02, 0.95, 6.0
"""Targets: largest share of undecided, least share of formats named rightly, largest median cost."""


@dataclass
class Tally:
    """Verdicts over correct comparisons, the worst ratio of each operator, and how often each check raised an alarm."""

    verdicts: Counter[str] = field(default_factory=Counter)
    worst: dict[str, tuple[float, str]] = field(default_factory=dict)
    alarms: Counter[str] = field(default_factory=Counter)
    pairs: int = 0
    odd: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many comparisons."""
        return sum(self.verdicts.values())


@dataclass
class Found:
    """One hidden mistake: its effect in units of round-off, what the rule said, and which peers passed it."""

    name: str
    effect: float
    settled: Settled
    passed: dict[str, bool]
    named: bool | None = None


def wide(inputs: Sequence[Array | None]) -> list[Array | None]:
    """Floating arrays in float64."""
    return [x.astype(np.float64) if x is not None and x.dtype.kind == "f" else x for x in inputs]


def truth_of(case: Case) -> tuple[Array, Bounds]:
    """The first output in float64, and what round-off may do to it."""
    node, given = at_float32(case.node), wide(case.inputs)
    outputs = evaluate_node(node, given)
    return outputs[0], bounds_of(node, given, [None] * len(given), outputs, UNIT)[0]


def natives(case: Case, adapters: Sequence[Adapter]) -> Iterator[tuple[str, Array]]:
    """What each framework makes of a case; those that lack the operator are left out."""
    for adapter in adapters:
        try:
            yield adapter.framework, adapter.run(case.node, list(case.inputs))[0]
        except PortingError:
            continue


def compared(source: Iterator[Case], adapters: Sequence[Adapter], count: int) -> Tally:
    """Judge correct outputs until there are enough of them."""
    tally = Tally()
    while tally.count < count:
        case = next(source)
        truth, bounds = truth_of(case)
        made = dict(natives(case, adapters))
        judged = {
            name: settled(at_float32(case.node), case.inputs, y, truth, bounds) for name, y in made.items()
        }
        for name, found in judged.items():
            tally.verdicts[found.verdict] += 1
            ratio, where = found.rounding.ratio, f"{name}, {case.kind}"
            if ratio > tally.worst.get(case.label, (0.0, ""))[0]:
                tally.worst[case.label] = ratio, where
            if not found.good:
                tally.odd.append(f"{case.label} ({where}): {found.verdict}, {found.words}")
        for first, second in combinations(made, 2):
            tally.pairs += 1
            tally.alarms["this rule"] += "divergent" in (judged[first].verdict, judged[second].verdict)
            for peer, passes in PEERS.items():
                tally.alarms[peer] += not passes(made[first], made[second])
    return tally


def hidden(seed: int, adapters: Sequence[Adapter], each: int) -> list[Found]:
    """Every small mistake on some layers, computed by one framework and compared with the correct output of the next."""
    rng = np.random.default_rng(seed)
    found = []
    for number, case in enumerate(islice(victims(rng), each)):
        truth, bounds = truth_of(case)
        ours, theirs = (adapters[(number + step) % len(adapters)] for step in (0, 1))
        right = ours.run(case.node, list(case.inputs))[0]
        for name, change in [*((n, c) for n, (c, _) in NARROW.items()), *MISTAKES.items()]:
            one = _mistaken(name, change, case, rng, theirs, (truth, bounds, right))
            found += [] if one is None else [one]
    return found


def _mistaken(
    name: str, change: Change, case: Case, rng: Any, adapter: Adapter, known: tuple[Array, Bounds, Array]
) -> Found | None:
    """One mistake on one case; ``None`` where it does not apply or has no effect."""
    changed = change(case, rng)
    if changed is None:
        return None
    truth, bounds, right = known
    with np.errstate(over="ignore"):
        other = changed.after(evaluate_node(at_float32(changed.node), wide(changed.inputs))[0])
        made = changed.after(adapter.run(changed.node, changed.inputs)[0])
    if not np.isfinite(made).all() or not (other != truth).any():
        return None
    assert bounds.spread is not None
    effect = float((np.abs(other - truth) / (LAW * bounds.spread(True))).max())
    judged = settled(at_float32(case.node), case.inputs, made, truth, bounds)
    passed = {peer: passes(right, made) for peer, passes in PEERS.items()}
    named = bool(re.search(NARROW[name][1], judged.words)) if name in NARROW else None
    return Found(name, effect, judged, passed, named)


def ten(seed: int, adapters: Sequence[Adapter]) -> list[dict[str, Any]]:
    """The ten through ``compare``, on recordings of the first two frameworks."""
    rows = []
    for one in evil(np.random.default_rng(seed)):
        reference = recorded(adapters[:2], one.reference, one.x, one.parameters[0])
        candidate = recorded(adapters[1::-1], one.candidate, one.x, one.parameters[1], one.made)
        report = pc.compare(reference, candidate)
        verdicts = [pair.verdict for pair in report.pairs]
        flagged = "low-precision" in verdicts if one.words else "divergent" in verdicts
        first, second = reference.values["layer:0"], candidate.values["layer:0"]
        scale = float(np.sqrt(np.square(first, dtype=np.float64).mean()))
        row = {
            "id": one.id,
            "relative": float(np.sqrt(np.square(np.subtract(second, first, dtype=np.float64)).mean()))
            / scale,
            "verdict": ", ".join(verdicts),
            "cause": next((finding.cause for finding in report.findings), ""),
            "flagged": flagged,
            "named": any(re.search(one.words, pair.explanation) for pair in report.pairs)
            if one.words
            else None,
        }
        rows.append({**row, "passed": {peer: passes(first, second) for peer, passes in PEERS.items()}})
    return rows


@dataclass
class Outcome:
    """All that one run measured."""

    seed: int
    plain: Tally
    structured: Tally
    mistakes: list[Found]
    ten: list[dict[str, Any]]
    costs: dict[str, tuple[float, float]]
    seconds: float = 0.0

    @property
    def visible(self) -> list[Found]:
        """Mistakes large enough that they must be flagged."""
        return [found for found in self.mistakes if found.effect > VISIBLE]

    def targets(self) -> dict[str, bool]:
        """What the project promises, and whether this run held it."""
        plain, narrow = self.plain, [f for f in self.mistakes if f.named is not None]
        narrow = [f for f in narrow if f.effect > VISIBLE or not f.settled.good]
        alarms = plain.verdicts["divergent"] + self.structured.verdicts["divergent"]
        undecided = plain.verdicts["undecided"] / max(plain.count, 1)
        missed = sum(f.settled.good for f in self.visible)
        named = statistics.mean(bool(f.named) for f in narrow) if narrow else 0.0
        median = statistics.median(native for _, native in self.costs.values())
        lost = sum(not row["flagged"] or row["named"] is False for row in self.ten)
        return {
            f"false alarms of divergent: {alarms} of {plain.count + self.structured.count} (0)": alarms == 0,
            f"undecided on unstructured weights: {undecided:.2%} (at most {UNDECIDED:.0%})": undecided
            <= UNDECIDED,
            f"mistakes above {VISIBLE:.0f} x round-off missed: {missed} of {len(self.visible)} (0)": missed
            == 0,
            f"of the ten missed: {lost} (0)": lost == 0,
            f"low precision named rightly: {named:.1%} of {len(narrow)} (at least {NAMED:.0%})": named
            >= NAMED,
            f"median cost: {median:.1f} float32 evaluations by a framework (at most {COST:.0f})": median
            <= COST,
        }


def show(outcome: Outcome) -> None:
    """Print the tables."""
    print(f"seed {outcome.seed}, {outcome.seconds:.0f} s")
    print(f"\n{'correct comparisons':22}" + "".join(f"{name:>14}" for name in VERDICTS))
    for name, tally in (("unstructured", outcome.plain), ("structured weights", outcome.structured)):
        print(f"{name:22}" + "".join(f"{tally.verdicts[verdict]:14d}" for verdict in VERDICTS))
    for line in [*outcome.plain.odd, *outcome.structured.odd][:12]:
        print("  " + line)
    close = {label: found for label, found in outcome.plain.worst.items() if found[0] > 0.8}
    said = ", ".join(f"{label} {ratio:.2f} ({where})" for label, (ratio, where) in sorted(close.items()))
    print(f"{len(outcome.plain.worst)} forms of operators erred; above 0.8 of their limit: {said or 'none'}")
    _checks(outcome)
    _by_mistake(outcome)
    print(f"\n{'the ten':26}{'relative':>10}  {'verdict':16}{'cause':28}passed by")
    for row in outcome.ten:
        passed = ", ".join(peer for peer, passes in row["passed"].items() if passes) or "none"
        print(f"{row['id']:26}{row['relative']:10.1e}  {row['verdict']:16}{row['cause']:28}{passed}")
    print(f"\n{'cost of judging':26}{'own':>8}{'torch':>8}   float32 evaluations")
    for name, (own, native) in outcome.costs.items():
        print(f"{name:26}{own:8.1f}{native:8.1f}")
    medians = [statistics.median(column) for column in zip(*outcome.costs.values(), strict=True)]
    print(f"{'median':26}{medians[0]:8.1f}{medians[1]:8.1f}\n")
    for text, held in outcome.targets().items():
        print(f"{'held  ' if held else 'MISSED'}  {text}")


def _checks(outcome: Outcome) -> None:
    """The rule and its peers in one table."""
    pairs = outcome.plain.pairs + outcome.structured.pairs
    print(f"\n{'check':20}{'false alarms':>24}{'hidden mistakes missed':>26}{'of the ten missed':>20}")
    for name in ("this rule", *PEERS):
        alarms = outcome.plain.alarms[name] + outcome.structured.alarms[name]
        own = name == "this rule"
        missed = sum(f.settled.good if own else f.passed[name] for f in outcome.visible)
        lost = sum(not row["flagged"] if own else row["passed"][name] for row in outcome.ten)
        share = f"{alarms} of {pairs} ({alarms / max(pairs, 1):.1%})"
        print(
            f"{name:20}{share:>24}{f'{missed} of {len(outcome.visible)}':>26}{f'{lost} of {len(outcome.ten)}':>20}"
        )


def _by_mistake(outcome: Outcome) -> None:
    """Every hidden mistake: how many, how many large enough, and what became of them."""
    groups: dict[str, list[Found]] = defaultdict(list)
    for found in outcome.mistakes:
        groups[found.name].append(found)
    head = ("count", "> 30x", "flagged", "of all", "undecided", "named", "allclose")
    print(f"\n{'hidden mistake':26}" + "".join(f"{name:>10}" for name in head))
    for name, group in groups.items():
        large = [f for f in group if f.effect > VISIBLE]
        row = [
            len(group),
            len(large),
            sum(not f.settled.good for f in large),
            sum(not f.settled.good for f in group),
        ]
        row.append(sum(f.settled.verdict == "undecided" for f in group))
        named = str(sum(bool(f.named) for f in group)) if group[0].named is not None else "-"
        caught = sum(not f.passed["np.allclose"] for f in group)
        print(f"{name:26}" + "".join(f"{number:10d}" for number in row) + f"{named:>10}{caught:10d}")


def to_json(outcome: Outcome) -> dict[str, Any]:
    """Plain data."""
    tallies = {"unstructured": outcome.plain, "structured": outcome.structured}
    return {
        "seed": outcome.seed,
        "seconds": outcome.seconds,
        "targets": outcome.targets(),
        "correct": {
            name: {
                "verdicts": dict(t.verdicts),
                "worst": t.worst,
                "alarms": dict(t.alarms),
                "pairs": t.pairs,
                "odd": t.odd,
            }
            for name, t in tallies.items()
        },
        "mistakes": [
            {
                "name": f.name,
                "effect": f.effect,
                "verdict": f.settled.verdict,
                "words": f.settled.words,
                "named": f.named,
                "passed": f.passed,
            }
            for f in outcome.mistakes
        ],
        "ten": outcome.ten,
        "costs": outcome.costs,
    }


def measured(seed: int, count: int, *, frameworks: Sequence[str] = FRAMEWORKS, each: int = 0) -> Outcome:
    """One run.

    Args:
        seed: of all data.
        count: correct comparisons; an eighth as many again with structured weights.
        frameworks: who computes; those that are not installed are left out.
        each: layers on which every mistake is tried; 0: as many as fit the count.
    """
    began = time.perf_counter()
    adapters = [load_adapter(name) for name in frameworks if name in installed()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = compared(cases(np.random.default_rng(seed)), adapters, count)
        structured = compared(structured_cases(np.random.default_rng(seed + 1)), adapters, count // 8)
        mistakes = hidden(seed + 2, adapters, each or max(count // 48, 7))
        rows = ten(seed + 3, adapters)
        outcome = Outcome(seed, plain, structured, mistakes, rows, costs(adapters[0]))
    outcome.seconds = time.perf_counter() - began
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; exit status 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="correct comparisons")
    parser.add_argument("--quick", action="store_true", help="240 comparisons, for a first look")
    parser.add_argument("--seed", type=int, help="of all data; default: a fresh one")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    given = parser.parse_args(arguments)
    seed = given.seed if given.seed is not None else int(np.random.SeedSequence().entropy % 2**31)  # type: ignore[operator]
    outcome = measured(seed, 240 if given.quick else given.count)
    show(outcome)
    if given.json:
        given.json.write_text(json.dumps(to_json(outcome), indent=2, default=str) + "\n")
    return int(not all(outcome.targets().values()))


if __name__ == "__main__":
    sys.exit(main())
