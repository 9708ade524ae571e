"""The benchmark of the rule, in small and on data that stay the same: what it promises holds for real frameworks."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks import verdict


@pytest.fixture(scope="module")
def outcome():
    return verdict.measured(20261122, 130, frameworks=("torch", "onnxruntime"), each=3)


def test_correct_outputs_raise_no_alarm(outcome):
    assert outcome.plain.count >= 130
    assert outcome.plain.verdicts["divergent"] == outcome.structured.verdicts["divergent"] == 0, (
        outcome.plain.odd
    )
    assert outcome.plain.verdicts["undecided"] <= 0.02 * outcome.plain.count
    assert outcome.plain.alarms["np.allclose"] > 5  # a fixed tolerance does, on the same outputs


def test_visible_mistakes_are_flagged_and_formats_named(outcome):
    assert len(outcome.visible) > 20
    assert all(not found.settled.good for found in outcome.visible)
    narrow = [found for found in outcome.visible if found.named is not None]
    assert len(narrow) > 8
    assert all(found.named for found in narrow)


def test_the_ten_that_pass_a_loose_tolerance_do_not_pass(outcome):
    assert {row["id"] for row in outcome.ten} >= {
        "ln-eps",
        "gelu-tanh",
        "bn-eps",
        "gn-eps",
        "lrn-alpha",
        "tf32",
    }
    assert [row["id"] for row in outcome.ten if not row["flagged"]] == []
    decoy = outcome.ten[-1]
    assert (decoy["id"], decoy["verdict"], decoy["named"]) == ("tf32", "low-precision", True)


def test_the_tables_show_it_all(outcome, capsys):
    verdict.show(outcome)
    said = capsys.readouterr().out
    for name in (*verdict.PEERS, *verdict.MISTAKES, *verdict.NARROW, "this rule", "median"):
        assert name in said
    data = json.loads(json.dumps(verdict.to_json(outcome), default=str))
    assert data["seed"] == 20261122
    assert len(data["mistakes"]) == len(outcome.mistakes)
    # Times are never asserted: of the targets only those that do not measure any.
    assert all(held for text, held in outcome.targets().items() if "cost" not in text)
