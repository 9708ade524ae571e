"""The answer to "are these two computations equivalent, and if so, why do they differ?", as plain frozen data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from porting_check.neutral.errors import INCONCLUSIVE
from porting_check.report.plain import plain
from porting_check.report.save import form_of, write

SCHEMA = 1
EquivalenceVerdict = Literal["equivalent", "different", "undecided"]
Kind = Literal["identical", "round-off", "low-precision", ""]
_EXIT: Mapping[str, int] = {"equivalent": 0, "different": 1, "undecided": INCONCLUSIVE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One run of both sides, each in one precision, and how far apart they came out.

    ``largest``, ``mean`` and ``total`` are of the absolute differences (``total`` is their sum), ``equal`` is the share of
    elements with equal bits (equal values where the precisions differ), ``index`` where the largest is. ``missing`` says why
    the experiment could not be run.
    """

    name: str
    reference: str
    candidate: str
    largest: float | None = None
    mean: float | None = None
    total: float | None = None
    equal: float | None = None
    index: tuple[int, ...] = ()
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The order in which one side adds up the products of one output, or why it could not be revealed.

    ``key`` names the tree: equal keys on both sides mean the same terms in the same order, where both number them by the
    same array (``operand``). ``arithmetic`` says how each addition rounds and where the bias goes. ``reproduced`` is the
    share of ``samples`` outputs that the tree gave bit for bit. ``drawing`` shows the tree.
    """

    side: Literal["reference", "candidate"]
    name: str
    reason: str = ""
    operand: str = ""
    terms: int = 0
    phrase: str = ""
    arithmetic: str = ""
    height: int = 0
    kappa: float = 0.0
    key: str = ""
    alike: float = 0.0
    reproduced: float = 0.0
    samples: int = 0
    deviation: float = 0.0
    calls: int = 0
    drawing: str = ""

    @property
    def revealed(self) -> bool:
        """Whether the tree is known."""
        return not self.reason

    @property
    def exact(self) -> bool:
        """Whether the tree gave every sampled output bit for bit."""
        return self.revealed and self.samples > 0 and self.reproduced == 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradient:
    """A gradient of both sides with respect to one array or parameter, judged like an output."""

    name: str
    verdict: EquivalenceVerdict
    kind: Kind = ""
    largest: float | None = None
    largest64: float | None = None
    ratio: float | None = None
    terms: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How the differences ``candidate - reference`` in float32 spread: ``counts[i]`` lie in ``edges[i] … edges[i + 1]``."""

    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Whether two computations are equivalent, how far apart they are in which precision, and why.

    Attributes:
        verdict: ``equivalent``, ``different`` or ``undecided``.
        kind: of an equivalence: ``identical``, ``round-off`` or ``low-precision``.
        sentence: the answer for a person.
        reference, candidate: names of the two, with their frameworks.
        experiments: float32 and float64 on each side, in all four combinations, by name (``"float32|float32"``).
        ratio: the float32 difference in units of what float32 allows; above 1 is more than round-off.
        terms: how many products each output adds up, where that is what it does.
        shrink: how many times smaller the difference is with float64 on both sides; infinite if it vanishes.
        histogram: of the float32 differences.
        orders: the order of summation of each side.
        why: what the orders say about the difference, in sentences.
        lucky: flat indices (the first 64) of elements that are equal although the orders differ; ``luck`` is their share.
        integers: the integer probe: ``bit-equal``, ``different``, or ``void`` with the reason.
        gradients: of a fixed cotangent, where asked for.
        where: of a real difference: the index, the two values, and what the difference looks like.
        notes: what else the reader must know.
        seconds: of one float32 run of each side.

    Example:
        >>> result = pc.equivalent(np.matmul, lambda a, b: np.einsum("ij,jk->ik", a, b), a, b)      # doctest: +SKIP
        >>> result.verdict, result.kind, result.experiments["float64|float64"].largest        # doctest: +SKIP
        ('equivalent', 'round-off', 7.1e-15)
    """

    verdict: EquivalenceVerdict
    sentence: str
    reference: str
    candidate: str
    kind: Kind = ""
    experiments: Mapping[str, Experiment] = field(default_factory=dict)
    ratio: float | None = None
    terms: int = 0
    shrink: float | None = None
    histogram: Histogram = field(default_factory=Histogram)
    orders: tuple[Order, ...] = ()
    why: tuple[str, ...] = ()
    luck: float | None = None
    lucky: tuple[int, ...] = ()
    integers: str = ""
    gradients: tuple[Gradient, ...] = ()
    where: str = ""
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the two are equivalent; undecided is not."""
        return self.verdict == "equivalent"

    @property
    def exit_status(self) -> int:
        """0 equivalent, 1 different, 4 undecided."""
        return _EXIT[self.verdict]

    def __bool__(self) -> bool:
        """A result is not a truth value: use ``result.ok``."""
        raise TypeError("an equivalence has three verdicts; use result.ok or result.verdict")

    def order(self, side: str) -> Order | None:
        """The order of ``"reference"`` or ``"candidate"``, ``None`` when it was not asked for."""
        return next((order for order in self.orders if order.side == side), None)

    def __str__(self) -> str:
        from porting_check.report.equivalence_console import render

        return render(self)

    def to_json(self) -> str:
        """The whole result as one JSON document; numbers that JSON lacks are text."""
        head = {
            "kind_of_document": "porting-check equivalence",
            "schema": SCHEMA,
            "exit_status": self.exit_status,
        }
        return json.dumps(plain({**head, **asdict(self)}), indent=2, allow_nan=False)

    def save(self, path: str | Path) -> Path:
        """Write ``.json``, ``.md`` or ``.txt``, whole or not at all.

        Raises:
            PortingError: another suffix, or the file cannot be written.
        """
        from porting_check.report.equivalence_console import markdown, render

        target = Path(path)
        forms: Mapping[str, Callable[[Equivalence], str]] = {
            ".json": lambda made: made.to_json() + "\n",
            ".md": markdown,
            ".txt": lambda made: render(made, width=120) + "\n",
        }
        return write(target, form_of(target, forms, "an equivalence")(self))
