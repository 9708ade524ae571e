"""The table of a crosscheck: its verdict, and how it is shown."""

from __future__ import annotations

import json

import pytest

from porting_check.neutral.errors import PortingError
from porting_check.neutral.trace import Environment
from porting_check.report.crosstable import Cell, Crosstable, End, Layer, headline, markdown, render

GOOD, SAME = Cell("round-off", 1e-7, 0.2), Cell("identical")
BAD, REFUSED = Cell("divergent", 0.5, 4e5), Cell("refused", reason="no kernel for this")


def table(*rows: tuple[Cell, Cell], united: bool = False, **more: object) -> Crosstable:
    environments = {name: Environment(name, {name: "1.0"}) for name in ("torch", "jax")}
    layers = []
    for place, pair in enumerate(rows):
        cells = dict(zip(environments, pair, strict=True))
        odd = () if united else tuple(n for n, c in cells.items() if c.verdict == "divergent")
        layers.append(Layer(f"conv{place}", "Conv", "Conv(group=1)", (1, 2), cells, odd, united))
    return Crosstable("net", environments, tuple(layers), **more)


def test_agreement():
    found = table((GOOD, SAME), (SAME, SAME))
    assert (found.verdict, found.ok, found.exit_status, found.odd) == ("agree", True, 0, ())
    assert headline(found) == "AGREE: torch, jax compute all 2 layers within round-off"


def test_the_odd_one_out_and_where():
    found = table((GOOD, SAME), (SAME, BAD), (GOOD, BAD))
    assert (found.verdict, found.exit_status, found.odd) == ("differ", 1, ("jax",))
    assert found.first_divergence.name == "conv1"
    assert headline(found) == "DIFFER: 2 of 3 layers; first at conv1 (Conv): jax differs"
    assert "odd: jax" in render(found)


def test_frameworks_that_agree_with_each_other_only():
    found = table((BAD, BAD), united=True)
    assert "agree with each other, but not with the float64 evaluation" in headline(found)


@pytest.mark.parametrize(
    "found",
    [
        table((GOOD, REFUSED)),
        table((GOOD, GOOD), absent={"tensorflow": "it died"}),
        table((GOOD, GOOD), opaque=("fft",)),
        table((GOOD, Cell("low-precision", 1e-3, 5.0))),
        table(),
        Crosstable(
            "net", {"torch": Environment("torch", {})}, (Layer("a", "Relu", "Relu()", (1,), {"torch": SAME}),)
        ),
    ],
)
def test_what_was_not_compared_is_never_agreement(found):
    assert (found.verdict, found.exit_status) == ("inconclusive", 4)
    assert headline(found).startswith("INCONCLUSIVE")


def test_refusals_and_absences_are_shown_with_their_reasons():
    text = render(table((GOOD, REFUSED), absent={"tensorflow": "it died"}, opaque=("fft",)))
    assert "jax did not run Conv: no kernel for this" in text
    assert "tensorflow did not run: it died" in text
    assert "fft has no nodes" in text


def test_the_limit_hides_good_layers_only():
    found = table(*[(GOOD, GOOD)] * 50, (GOOD, BAD))
    text = render(found, limit=5)
    assert "conv50" in text
    assert "… and 46 layers within round-off" in text
    assert "conv45" not in text


def test_hostile_names_reach_no_terminal():
    layer = Layer("a\x1b[2J|b", "Relu", "Relu()", (1,), {"torch": SAME, "jax": SAME})
    found = Crosstable("net", {n: Environment(n, {}) for n in ("torch", "jax")}, (layer,))
    assert "\x1b[2J" not in render(found)
    assert "\\|" in markdown(found)


def test_json_is_json_and_files_are_whole(tmp_path):
    found = table(
        (GOOD, Cell("divergent", float("inf"), float("inf"))), ends=(End("0", "jax", None, None, "stopped"),)
    )
    path = found.save(tmp_path / "t.json")
    data = json.loads(path.read_text())
    assert (data["verdict"], data["exit_status"], data["layers"][0]["cells"]["jax"]["error"]) == (
        "differ",
        1,
        "Infinity",
    )
    assert found.save(tmp_path / "t.md").read_text().startswith("**DIFFER")
    assert "output 0  jax: not reached: stopped" in found.save(tmp_path / "t.txt").read_text()
    with pytest.raises(PortingError, match="one of .json .md .txt"):
        found.save(tmp_path / "t.html")
