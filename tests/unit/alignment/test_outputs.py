"""Which output is which: names, positions, values, and honest doubt."""

from __future__ import annotations

import numpy as np
import pytest

from porting_check.alignment.outputs import apart, pair_outputs
from porting_check.neutral.trace import MemorySink, Port, Trace
from tests.unit.test_examination import B1, B2, DENSE, DENSE_B, GEMM, W1, W2, X, conv, report_of, run_network

NOISE = np.random.default_rng(0)
NOTE, ONSET = NOISE.standard_normal((1, 17, 8)), NOISE.standard_normal((1, 17, 8))
CONTOUR = NOISE.standard_normal((1, 17, 24))


def pairs(ours, theirs, mapping=None):
    return {p.reference: p.candidate for p in pair_outputs(ours, theirs, mapping)}


def near(array):
    return array + 1e-6 * np.random.default_rng(1).standard_normal(array.shape)


def test_lost_names_are_found_again_by_values_in_any_order():
    ours = {"note": NOTE, "contour": CONTOUR, "onset": ONSET}
    theirs = {"call:2": near(ONSET), "call:1": near(NOTE), "call:0": near(CONTOUR)}
    found = pair_outputs(ours, theirs)
    assert [(p.reference, p.candidate) for p in found] == [
        ("note", "call:1"), ("contour", "call:0"), ("onset", "call:2"),
    ]  # fmt: skip
    assert all("values" in p.how and not p.doubt for p in found)


def test_values_are_recognised_in_another_order_of_axes():
    image, mask = NOISE.standard_normal((2, 5, 7, 3)), NOISE.standard_normal((2, 5, 7, 3))
    theirs = {"0": near(mask).transpose(0, 3, 1, 2), "1": near(image).transpose(0, 3, 1, 2)}
    assert pairs({"image": image, "mask": mask}, theirs) == {"image": "1", "mask": "0"}


def test_equal_names_and_numbers_are_a_contract_even_where_values_say_otherwise():
    swapped = pair_outputs({"a": NOTE, "b": ONSET}, {"a": ONSET, "b": NOTE})
    assert [(p.reference, p.candidate, p.how, p.alike) for p in swapped] == [
        ("a", "a", "same name", "b"), ("b", "b", "same name", "a"),
    ]  # fmt: skip
    assert [p.how for p in pair_outputs({"0": NOTE, "1": ONSET}, {"0": ONSET, "1": NOTE})] == [
        "same position"
    ] * 2


def test_a_declared_pair_wins():
    theirs = {"x": NOTE, "y": ONSET}
    assert pairs({"a": NOTE, "b": ONSET}, theirs, {"a": "y"}) == {"a": "y", "b": "x"}


def test_a_unique_size_pairs_whatever_the_values_are():
    found = pair_outputs({"note": NOTE, "contour": CONTOUR}, {"p": CONTOUR * 0 - 9, "q": NOTE * 0 + 3})
    assert {p.reference: p.candidate for p in found} == {"note": "q", "contour": "p"}
    assert all(not p.doubt and "size" in p.how for p in found)


def test_position_alone_is_a_guess_with_its_reason():
    strangers = {"p": NOISE.standard_normal((1, 17, 8)), "q": NOISE.standard_normal((1, 17, 8))}
    found = pair_outputs({"note": NOTE, "onset": ONSET}, strangers)
    assert [(p.reference, p.candidate) for p in found] == [("note", "p"), ("onset", "q")]
    assert all("guess" in p.how and "'p', 'q'" in p.doubt for p in found)


def test_one_clear_pair_leaves_the_other_without_doubt():
    theirs = {"p": NOISE.standard_normal((1, 17, 8)), "q": near(NOTE)}
    found = pair_outputs({"note": NOTE, "onset": ONSET}, theirs)
    assert {p.reference: p.candidate for p in found} == {"note": "q", "onset": "p"}
    assert not any(p.doubt for p in found)


def test_a_name_that_belongs_to_another_output_contradicts():
    found = pair_outputs({"score": NOTE, "scores": ONSET}, {"scores": near(NOTE), "scores_2": near(ONSET)})
    assert {p.reference: p.candidate for p in found} == {"score": "scores", "scores": "scores_2"}
    assert all(p.contradicted and "names do not" in p.doubt for p in found)


def test_an_output_without_a_partner_is_in_no_pair():
    assert pairs({"a": NOTE, "b": ONSET}, {"x": near(ONSET)}) == {"b": "x"}
    assert pairs({"a": NOTE}, {"x": near(ONSET), "y": near(NOTE)}) == {"a": "y"}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_single_nothing_out(bad):
    broken = NOTE.copy()
    broken[0, 0, 0] = bad
    assert apart(broken, broken) > 1
    assert apart(np.zeros((0, 3)), np.zeros((0, 3))) == 0.0
    assert apart(np.ones(3), np.ones(3)) == 0.0
    assert apart(np.ones(3), np.ones((3, 1))) == float("inf")


# In a whole comparison.

HEADS = [
    ("conv1", [conv((1, 1, 1, 1))], {"weight": W1, "bias": B1}),
    ("left", [conv((1, 1, 1, 1))], {"weight": W2, "bias": B2}),
    ("right", [conv((1, 1, 1, 1))], {"weight": W2[::-1].copy(), "bias": B2}, ("conv1",)),
]


def renamed(trace: Trace, *names: str) -> Trace:
    """The same run, its outputs under these names."""
    sink = MemorySink()
    sink.values, sink.records, sink.inputs = dict(trace.values), list(trace.records), list(trace.inputs)
    sink.outputs = [Port(name, port.value) for name, port in zip(names, trace.outputs, strict=True)]
    return sink.trace(trace.model, trace.environment)


def test_outputs_in_another_order_without_names_are_faithful_and_the_pairing_is_shown():
    reference = renamed(run_network(HEADS, X, outputs=["left", "right"]), "left", "right")
    candidate = renamed(run_network(HEADS, X, outputs=["right", "left"]), "call:1", "call:0")
    report = report_of(reference, candidate)
    assert report.verdict == "faithful", report.reason
    assert [pair.paired_by[0] for pair in report.outputs] == [
        "model output 'left', which is 'call:0' in the candidate",
        "model output 'right', which is 'call:1' in the candidate",
    ]
    assert any(
        "outputs of different names were paired: 'left' with 'call:0' (same values" in w
        for w in report.warnings
    )


def test_where_only_the_position_speaks_a_difference_is_ambiguous_not_divergent():
    other = [HEADS[0], ("left", HEADS[1][1], {"weight": -W2[:, ::-1].copy(), "bias": B2}), *HEADS[2:]]
    other[2] = ("right", HEADS[2][1], {"weight": -W2[::-1, ::-1].copy(), "bias": B2}, ("conv1",))
    reference = renamed(run_network(HEADS, X, outputs=["left", "right"]), "left", "right")
    candidate = renamed(run_network(other, X, outputs=["left", "right"]), "call:1", "call:0")
    report = report_of(reference, candidate)
    assert report.verdict == "inconclusive"
    assert "ambiguous" in report.reason
    assert {pair.verdict for pair in report.outputs} == {"undecided"}
    named = report_of(reference, renamed(candidate, "left", "right"))
    assert named.verdict == "divergent"


def test_a_lone_output_of_another_name_diverges_when_it_differs():
    dense = [("dense", [GEMM], {"weight": DENSE, "bias": DENSE_B})]
    row = np.random.default_rng(3).standard_normal((4, DENSE.shape[1])).astype(np.float32)
    wrong = [("dense", [GEMM], {"weight": DENSE, "bias": DENSE_B + 1})]
    reference = renamed(run_network(dense, row), "logits")
    assert report_of(reference, renamed(run_network(wrong, row), "call:0")).verdict == "divergent"
    assert report_of(reference, renamed(run_network(dense, row), "call:0")).verdict == "faithful"


def test_swapped_outputs_under_the_same_names_are_divergent_and_said_to_be_swapped():
    reference = renamed(run_network(HEADS, X, outputs=["left", "right"]), "left", "right")
    candidate = renamed(run_network(HEADS, X, outputs=["right", "left"]), "left", "right")
    report = report_of(reference, candidate)
    assert report.verdict == "divergent"
    assert any(
        "the values of the candidate's output 'right' are those of 'left'" in p.explanation
        for p in report.outputs
    )
