"""What several frameworks make of one network, layer by layer: the data, and the table as text, Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from porting_check.neutral.errors import INCONCLUSIVE
from porting_check.neutral.trace import Environment
from porting_check.report import wording
from porting_check.report.page import Page, cells, fit, pad, painter
from porting_check.report.plain import plain
from porting_check.report.save import form_of, write

GOOD = ("identical", "round-off")
SCHEMA = 1
_STYLES = {
    "identical": "good",
    "round-off": "good",
    "low-precision": "doubt",
    "undecided": "doubt",
    "divergent": "bad",
    "refused": "doubt",
}
_EXIT = {"agree": 0, "differ": 1, "inconclusive": INCONCLUSIVE}


@dataclass(frozen=True, slots=True)
class Cell:
    """What one framework made of one layer, beside the layer's float64 truth on the same input.

    ``error`` is the largest absolute error, ``ratio`` that of the rule: the worst of its conditions over its limit. ``verdict``
    is ``identical`` (the truth, rounded), ``round-off``, ``low-precision`` (coarser arithmetic, proven by computing again with
    it), ``undecided`` (more than sums of such terms usually show, less than an unlucky order could make), ``divergent``, or
    ``refused``: the framework did not run it. ``reason`` says why, in words.
    """

    verdict: str
    error: float = 0.0
    ratio: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """One node in all frameworks.

    ``odd`` are those that differ from the truth while others do not. ``united``: they agree with each other, but not with
    the truth; then the truth, or the standard, is the odd one.
    """

    name: str
    op: str
    node: str
    shape: tuple[int, ...]
    cells: Mapping[str, Cell]
    odd: tuple[str, ...] = ()
    united: bool = False

    @property
    def good(self) -> bool:
        """Whether every framework computed the layer within round-off."""
        return all(cell.verdict in GOOD for cell in self.cells.values())


@dataclass(frozen=True, slots=True)
class End:
    """An output of the whole network, each framework on its own values throughout: largest error, and its share of the scale.

    ``error`` is ``None`` where the framework did not come so far, for ``reason``.
    """

    output: str
    framework: str
    error: float | None
    relative: float | None
    reason: str = ""


@dataclass(frozen=True)
class Crosstable:
    """One network, identical weights and inputs, through several frameworks.

    Attributes:
        network: its name.
        environments: of each framework that ran.
        layers: in execution order.
        ends: the network's outputs when each framework goes its own way.
        absent: frameworks that could not be run at all, and why.
        opaque: layers that have no nodes; what they made was taken from the recording.
        seconds: of each framework: ``import``, ``alone`` (every layer by itself), ``in a row``.

    Example:
        >>> table = crosscheck("model.onnx")             # doctest: +SKIP
        >>> table.verdict, table.odd                     # doctest: +SKIP
        ('differ', ('tensorflow',))
    """

    network: str
    environments: Mapping[str, Environment]
    layers: tuple[Layer, ...]
    ends: tuple[End, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    opaque: tuple[str, ...] = ()
    seconds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    note: str = ""

    @property
    def frameworks(self) -> tuple[str, ...]:
        """Those that ran."""
        return tuple(self.environments)

    @property
    def divergent(self) -> tuple[Layer, ...]:
        """Layers that some framework computes differently."""
        return tuple(x for x in self.layers if any(c.verdict == "divergent" for c in x.cells.values()))

    @property
    def first_divergence(self) -> Layer | None:
        """The first of them."""
        return next(iter(self.divergent), None)

    @property
    def odd(self) -> tuple[str, ...]:
        """Frameworks that are the odd one out in some layer."""
        return tuple(name for name in self.frameworks if any(name in layer.odd for layer in self.divergent))

    @property
    def verdict(self) -> str:
        """``differ``, ``agree``, or ``inconclusive``: something was not computed by all, or by two at least."""
        if self.divergent:
            return "differ"
        whole = self.layers and len(self.frameworks) > 1 and not self.absent and not self.opaque
        return "agree" if whole and all(layer.good for layer in self.layers) else "inconclusive"

    @property
    def ok(self) -> bool:
        """Whether all frameworks agree on every layer."""
        return self.verdict == "agree"

    @property
    def exit_status(self) -> int:
        """0 agree, 1 differ, 4 inconclusive."""
        return _EXIT[self.verdict]

    def __str__(self) -> str:
        return render(self)

    def to_json(self) -> dict[str, Any]:
        """Plain data; numbers that JSON lacks are text."""
        data = asdict(self)
        data["environments"] = {name: env.to_json() for name, env in self.environments.items()}
        head = {"kind": "porting-check crosscheck", "schema": SCHEMA, "verdict": self.verdict}
        made: dict[str, Any] = plain({**head, "exit_status": self.exit_status, "odd": self.odd, **data})
        return made

    def save(self, path: str | Path) -> Path:
        """Write ``.json``, ``.md`` or ``.txt``, whole or not at all.

        Raises:
            PortingError: another suffix, or the file cannot be written.
        """
        target = Path(path)
        forms: Mapping[str, Callable[[Crosstable], str]] = {
            ".json": lambda table: json.dumps(table.to_json(), indent=2) + "\n",
            ".md": markdown,
            ".txt": lambda table: render(table, width=120, limit=None) + "\n",
        }
        return write(target, form_of(target, forms, "a crosscheck")(self))


def headline(table: Crosstable) -> str:
    """The answer in one sentence."""
    count, names = wording.count(len(table.layers), "layer"), ", ".join(table.frameworks)
    first = table.first_divergence
    if first is not None:
        who = f"{', '.join(first.odd)} differs" if first.odd else "the frameworks differ"
        if first.united:
            who = "the frameworks agree with each other, but not with the float64 evaluation of the standard"
        return f"DIFFER: {len(table.divergent)} of {count}; first at {wording.clean(first.name)} ({first.op}): {who}"
    if table.ok:
        every = f"all {count}" if len(table.layers) > 1 else "the layer"
        return f"AGREE: {names} compute {every} within round-off"
    doubt = sum(not layer.good for layer in table.layers)
    why = (
        f"{doubt} of {count} not computed by all, or not as precisely"
        if doubt
        else "not everything was compared"
    )
    return f"INCONCLUSIVE: {why}"


def entry(cell: Cell) -> str:
    """A cell as text: the error and its share of what round-off allows."""
    if cell.verdict == "refused":
        return "not run"
    mark = "" if cell.verdict in GOOD else f" {wording.SYMBOLS[cell.verdict]}"
    return "0" if cell.error == 0 else f"{cell.error:.1e} ({cell.ratio:.2g}){mark}"


def render(table: Crosstable, *, width: int = 110, color: bool = False, limit: int | None = 40) -> str:
    """The table as text: the answer, the layers, the whole network, what was not run."""
    paint = painter(color)
    page = Page(width, paint, limit)
    style = {"agree": "good head", "differ": "bad head", "inconclusive": "doubt head"}[table.verdict]
    page.lines.append(paint(headline(table), style))
    if table.note:
        page.text(table.note, 0)
    page.section(
        "Each layer on the same input: largest error to the float64 truth (share of what round-off allows)"
    )
    _layers(page, table)
    _ends(page, table)
    _remarks(page, table)
    return "\n".join(line.rstrip() for line in page.lines)


def _layers(page: Page, table: Crosstable) -> None:
    """The layers, with all that are not good; good ones up to the limit."""
    wanted = [x for x in table.layers if not x.good]
    shown = list(table.layers)
    if page.limit is not None and len(shown) > page.limit:
        room = max(page.limit - len(wanted), 0)
        keep = {id(x) for x in [*wanted, *[x for x in shown if x.good][:room]]}
        shown = [x for x in shown if id(x) in keep]
    columns = [max([len(n), *(len(entry(x.cells[n])) for x in shown)]) for n in table.frameworks]
    name = max([5, *(cells(wording.clean(x.name)) for x in shown)])
    name = min(name, max(16, page.width - sum(columns) - 3 * len(columns) - 22))
    head = "  ".join(pad(n, w, right=True) for n, w in zip(table.frameworks, columns, strict=True))
    page.lines.append(f"  {pad('layer', name)}  {pad('operator', 16)}  {head}")
    for layer in shown:
        row = f"  {pad(fit(wording.clean(layer.name), name), name)}  {pad(fit(layer.op, 16), 16)}"
        for framework, column in zip(table.frameworks, columns, strict=True):
            cell = layer.cells[framework]
            row += "  " + page.paint(pad(entry(cell), column, right=True), _STYLES[cell.verdict])
        page.lines.append(row + (f"  odd: {', '.join(layer.odd)}" if layer.odd else ""))
    if len(shown) < len(table.layers):
        page.text(f"… and {wording.count(len(table.layers) - len(shown), 'layer')} within round-off")
    first = table.first_divergence
    if first is not None:
        page.text(f"{wording.clean(first.name)} is {wording.clean(first.node, 400)}", 2, 4)


def _ends(page: Page, table: Crosstable) -> None:
    if not table.ends:
        return
    page.section(
        "The whole network, each framework going its own way: largest error, and its share of the output's scale"
    )
    for end in table.ends:
        found = "not reached" if end.error is None else f"{end.error:.1e} ({end.relative:.1e})"
        reason = f": {wording.clean(end.reason, 200)}" if end.reason else ""
        page.text(f"output {wording.clean(end.output)}  {end.framework}: {found}{reason}", 2, 6)


def _remarks(page: Page, table: Crosstable) -> None:
    """What was not run, and where everything ran."""
    reasons = {
        f"{name} did not run {layer.op}: {wording.clean(cell.reason, 200)}": None
        for layer in table.layers
        for name, cell in layer.cells.items()
        if cell.verdict == "refused"
    }
    reasons.update(
        {f"{name} did not run: {wording.clean(why, 300)}": None for name, why in table.absent.items()}
    )
    opaque = [
        f"{wording.clean(name)} has no nodes; what it made was taken from the recording"
        for name in table.opaque
    ]
    coarse = [
        f"{wording.clean(layer.name)} ({layer.op}) in {name}: {cell.verdict}; {wording.clean(cell.reason, 300)}"
        for layer in table.layers
        for name, cell in layer.cells.items()
        if cell.verdict in ("low-precision", "undecided") and cell.reason
    ]
    if coarse:
        page.section("More than round-off, and not divergent")
        page.capped(coarse, "item")
    if reasons or opaque:
        page.section("Not compared")
        page.capped([*reasons, *opaque], "item")
    page.section("Environments")
    for name, env in table.environments.items():
        versions = ", ".join(f"{key} {value}" for key, value in env.versions.items())
        page.text(f"{name}: {versions}; {env.device}", 2, 6)


def markdown(table: Crosstable) -> str:
    """The table for an issue or a pull request."""
    lines = [f"**{headline(table)}**", "", table.note, ""] if table.note else [f"**{headline(table)}**", ""]
    lines += ["| layer | operator | " + " | ".join(table.frameworks) + " | odd one out |"]
    lines += ["|" + "---|" * (len(table.frameworks) + 3)]
    for layer in table.layers:
        row = [wording.clean(layer.name), layer.op, *(entry(layer.cells[n]) for n in table.frameworks)]
        lines.append(
            "| " + " | ".join(text.replace("|", "\\|") for text in [*row, ", ".join(layer.odd)]) + " |"
        )
    return "\n".join(lines) + "\n"
