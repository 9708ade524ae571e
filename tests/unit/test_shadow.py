"""The second opinion: what follows from float64 outputs on both sides, with recordings made here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from porting_check.examination import examine
from porting_check.neutral.graph import Graph
from porting_check.neutral.node import Node
from porting_check.neutral.trace import Checks, Trace, float64_outputs
from porting_check.numerics.constants import constants, effects, explaining
from porting_check.numerics.gap import FLOAT32
from porting_check.numerics.program import Program
from porting_check.numerics.roundoff_units import UNIT
from porting_check.numerics.shrinking import RANK, Known, Measured, finding_of, float32_share
from porting_check.shadow import disagreement, shadow, warnings
from tests.unit.traces import conv, run_network

RNG = np.random.default_rng(7)
X = RNG.standard_normal((2, 3, 8, 8)).astype(np.float32)
W, B = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32), RNG.standard_normal(4).astype(np.float32)


def leaky(alpha):
    return Node("LeakyRelu", ("x",), ("y",), {"alpha": alpha})


def network(alpha=0.1, **options):
    return run_network(
        [("conv", [conv()], {"weight": W, "bias": B}), ("act", [leaky(alpha)], {})], X, **options
    )


def exactly(trace):
    """The network's output in float64, its constants in double: what a framework with double constants gives."""
    graph = Graph(trace)
    key = trace.outputs[0].value
    steps, _ = graph.between(key, ())
    return Program(graph).bounded(
        steps, {p.value: trace.values[p.value] for p in trace.inputs}, key, UNIT["float64"]
    )[0]


def with_float64(trace: Trace, output=None, notes=()) -> Trace:
    values = dict(trace.values)
    if output is not None:
        values["float64:0"] = output
    return replace(trace, values=values, checks=replace(trace.checks, float64=tuple(notes)))


def second(reference, candidate, ours, theirs, notes=((), ())):
    return shadow(examine(with_float64(reference, ours, notes[0]), with_float64(candidate, theirs, notes[1])))


NETWORK = network()
TRUTH = exactly(NETWORK)


def test_float64_values_are_outputs_and_nothing_else():
    wide = with_float64(NETWORK, TRUTH)
    assert list(float64_outputs(wide)) == ["0"]
    assert float64_outputs(NETWORK) == {}
    plain, more = examine(NETWORK, NETWORK), examine(wide, wide)
    assert [j.region for j in more.judged] == [j.region for j in plain.judged]
    assert [j.same for j in more.judged] == [j.same for j in plain.judged]


def test_without_float64_there_is_no_section():
    assert shadow(examine(NETWORK, NETWORK)) is None


def test_round_off_of_float64_is_the_same_function():
    noise = 1 + 1e-15 * RNG.standard_normal(TRUTH.shape)
    section = second(NETWORK, NETWORK, TRUTH, TRUTH * noise)
    assert section.id == "float64"
    assert section.verdict == ""
    assert [row["finding"] for row in section.rows] == ["same function"]
    assert "the same function" in section.answer
    assert section.notes == ()


def giving(trace, output):
    """The recording with this output, rounded to float32."""
    values = {**trace.values, trace.outputs[0].value: output.astype(np.float32)}
    return replace(trace, values=values)


def test_the_shrink_factor_is_that_of_the_differences():
    off = 2.0**-10 * RNG.standard_normal(TRUTH.shape)
    row = second(giving(NETWORK, TRUTH), giving(NETWORK, TRUTH + off), TRUTH, TRUTH + 2.0**-30 * off).rows[0]
    assert row["gap64"] == pytest.approx(2.0**-30 * np.abs(off).max(), rel=1e-3)
    assert row["shrink"] == pytest.approx(2.0**30, rel=1e-3)


def test_a_slope_that_one_side_holds_in_float32_is_found_and_named():
    other = network(alpha=float(np.float32(0.1)))
    section = second(NETWORK, other, TRUTH, exactly(other))
    row = section.rows[0]
    assert 1e-6 < row["units"] < 1
    assert row["finding"] == "float32 constant"
    assert "alpha of LeakyRelu (0.1)" in row["why"]
    assert not warnings(section)


def test_gelu_with_a_square_root_in_float32_is_found():
    plain = run_network([("act", [Node("Gelu", ("x",), ("y",), {"approximate": "none"})], {})], X)
    from scipy.special import erf

    x = X.astype(np.float64)
    exact, rounded = (
        0.5 * x * (1 + erf(x * root)) for root in (np.sqrt(0.5), float(np.float32(np.sqrt(0.5))))
    )
    assert second(plain, plain, exact, rounded).rows[0]["finding"] == "float32 constant"
    assert second(plain, plain, exact, rounded).rows[0]["units"] > 1e-3


def test_another_small_difference_is_no_float32_constant():
    section = second(NETWORK, NETWORK, TRUTH, TRUTH * (1 + 2e-9))
    assert section.rows[0]["finding"] == "below float32"
    assert "invisible" in section.answer
    assert section.verdict == ""
    assert len(warnings(section)) == 1


def test_an_island_lies_on_the_float32_grid():
    narrow = TRUTH.astype(np.float32).astype(np.float64)
    section = second(NETWORK, NETWORK, TRUTH, narrow)
    row = section.rows[0]
    assert row["finding"] == "float32 inside"
    assert row["candidate_grid"] == 1.0
    assert row["reference_grid"] < 0.02
    assert section.verdict == ""


def test_an_island_in_the_middle_is_known_from_the_adapters_note():
    apart = TRUTH + 3 * FLOAT32 * np.abs(TRUTH).max() * RNG.uniform(-1, 1, TRUTH.shape)
    note = "ResizeBilinear in up gives float32 also when it is given float64"
    sides = giving(NETWORK, TRUTH), giving(NETWORK, apart)
    section = second(*sides, TRUTH, apart, ((), (note,)))
    assert section.rows[0]["finding"] == "float32 inside"
    assert any(note in text and "candidate" in text for text in section.notes)
    told = second(*sides, TRUTH, apart, ((), ("ONNX Runtime has no kernels in float64 for Conv",)))
    assert told.rows[0]["finding"] == "different function", "who computed it excuses nothing"
    without = second(*sides, TRUTH, apart)
    assert without.rows[0]["finding"] == "different function"


def test_an_island_does_not_excuse_a_large_difference():
    note = ("ResizeBilinear gives float32 also when it is given float64",)
    assert (
        finding_of(Measured(1e-2, 1e-2, 1.0, (1e-7, 1e-7), (0.0, 0.0)), Known(note))[0]
        == "different function"
    )


def test_different_functions_that_the_pairs_see_too_are_no_disagreement():
    other = network(alpha=0.11)
    section = second(NETWORK, other, TRUTH, exactly(other))
    assert section.rows[0]["finding"] == "different function"
    assert section.verdict == ""
    assert not warnings(section)


def test_different_functions_that_no_pair_shows_make_the_report_inconclusive():
    """The recorded layers are the same; something after them, which nobody saw, is not."""
    other = giving(NETWORK, 1.001 * TRUTH)
    section = second(NETWORK, other, TRUTH, 1.001 * TRUTH)
    assert section.rows[0]["finding"] == "different function"
    assert section.verdict == "inconclusive"
    assert len(warnings(section)) == 1


def test_what_float32_hides_is_below_it():
    apart = TRUTH + 3 * FLOAT32 * np.abs(TRUTH).max() * RNG.uniform(-1, 1, TRUTH.shape)
    assert second(NETWORK, NETWORK, TRUTH, apart).rows[0]["finding"] == "below float32"


def test_divergent_pairs_with_equal_outputs_are_a_disagreement_that_decides_nothing():
    other = network(alpha=0.11)
    section = second(NETWORK, other, TRUTH, TRUTH)
    assert section.verdict == ""
    assert "pairs diverge" in warnings(section)[0]


def test_a_float64_run_that_departs_from_its_own_float32_run_proves_nothing():
    section = second(NETWORK, NETWORK, TRUTH, 1.5 * TRUTH)
    assert section.rows[0]["finding"] == "not compared"
    assert "the candidate's float64 run departs from its own float32 run" in section.rows[0]["why"]


@pytest.mark.parametrize(("ours", "theirs"), [(TRUTH, None), (None, TRUTH)])
def test_one_side_in_float64_proves_nothing(ours, theirs):
    reason = ("TFLite has kernels for float32 only",)
    notes = ((), reason) if theirs is None else (reason, ())
    section = second(NETWORK, NETWORK, ours, theirs, notes)
    assert "proves nothing" in section.answer
    assert reason[0] in section.answer
    assert ("the candidate (torch) was not" in section.answer) == (theirs is None)
    assert section.rows == ()
    assert section.verdict == ""


def test_a_side_that_was_not_asked_is_told():
    assert "holds no float64 outputs" in second(NETWORK, NETWORK, TRUTH, None).answer


def test_both_sides_without_float64_say_why():
    section = second(NETWORK, NETWORK, None, None, (("no kernels",), ("no copy",)))
    assert "Neither side" in section.answer
    assert "no kernels." in section.answer
    assert "no copy." in section.answer


def test_a_side_that_draws_random_numbers_is_not_compared():
    noisy = replace(NETWORK, checks=Checks(repeat_difference=0.1))
    section = second(noisy, NETWORK, TRUTH, TRUTH)
    assert "other outputs in every run" in section.answer
    assert section.rows == ()


@given(st.floats(1e-6, 1e-2), st.floats(0.5, 50))
def test_a_chaotic_network_amplifies_both_precisions_alike(error, several):
    """What float32's unit became is what float64's unit becomes, 2**29 times smaller."""
    measured = Measured(error, several * error * 2.0**-29, 1.0, (error, error / 2), (0.0, 0.0))
    assert finding_of(measured, Known())[0] == "same function"


@given(st.floats(1e-2, 1e3))
def test_a_real_difference_is_never_the_same_function(units):
    gap = units * FLOAT32
    found = finding_of(Measured(gap, gap, 1.0, (2 * FLOAT32, 2 * FLOAT32), (0.0, 0.0)), Known())[0]
    assert found == ("below float32" if gap <= FLOAT32 else "different function")


def test_weights_that_differ_by_rounding_explain_as_much_as_rounding_does():
    measured = Measured(3 * FLOAT32, 3 * FLOAT32, 1.0, (FLOAT32, FLOAT32), (0.0, 0.0))
    assert finding_of(measured, Known(rounded=True))[0] == "rounded weights"
    far = replace(measured, gap32=100 * FLOAT32, gap64=100 * FLOAT32)
    assert finding_of(far, Known(rounded=True))[0] == "different function"


def test_outputs_without_finite_numbers_are_not_compared():
    nothing = np.full(TRUTH.shape, np.nan)
    assert second(NETWORK, NETWORK, nothing, nothing).rows[0]["finding"] == "not compared"


def test_every_finding_has_its_words():
    for finding in RANK:
        assert isinstance(disagreement("same", finding), str)
    assert disagreement("same", "same function") == ""
    assert disagreement("undecided", "different function") == ""


def test_whole_numbers_that_differ_may_be_ties():
    pick = run_network([("pick", [Node("ArgMax", ("x",), ("y",), {"axis": 1, "keepdims": 1})], {})], X)
    found = pick.values[pick.outputs[0].value]
    assert second(pick, pick, found, found).rows[0]["finding"] == "same function"
    assert second(pick, pick, found, (found + 1) % 3).rows[0]["finding"] == "not compared"


def test_axes_of_the_candidate_are_turned():
    other = network(layout="NHWC")
    section = second(NETWORK, other, TRUTH, np.ascontiguousarray(TRUTH.transpose(0, 2, 3, 1)))
    assert section.rows[0]["finding"] == "same function"
    assert section.rows[0]["gap64"] == 0.0


def test_the_grid_counts_neither_zeros_nor_whole_numbers():
    assert float32_share(np.array([0.0, 1.0, 0.1])) == 0.0
    assert float32_share(np.array([0.0, 2.0])) == 0.0
    assert float32_share(np.float64(np.float32([0.1, 0.7, 1e-3]))) == 1.0


# Constants.


def test_constants_that_float32_holds_are_none():
    assert [c.name for c in constants(Graph(network(alpha=0.25)))] == []
    assert [c.name for c in constants(Graph(NETWORK))] == ["alpha of LeakyRelu (0.1)"]


def test_the_effect_of_a_constant_is_what_rounding_it_does():
    rounded = exactly(network(alpha=float(np.float32(0.1))))
    found = effects(Graph(NETWORK), NETWORK.outputs[0].value)["alpha of LeakyRelu (0.1)"]
    np.testing.assert_allclose(found, TRUTH - rounded, rtol=5e-3, atol=1e-15)


def test_only_the_constants_that_differ_explain():
    one, other = RNG.standard_normal((2, 5000)) * 1e-9
    known = {"one": one, "other": other}
    assert explaining(-other, known) == {"other": -1}
    assert explaining(one - other, known) == {"one": 1, "other": -1}
    assert explaining(2 * one, known) is None
    assert explaining(np.zeros(5000), known) is None
