"""What keeps a comparison's memory small changes nothing that it finds."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from porting_check import verdict
from porting_check.diagnosis.hypothesis import Suspect
from porting_check.diagnosis.search import diagnose
from porting_check.examination import examine
from porting_check.neutral.node import Node, chain
from porting_check.numerics import gap, own
from porting_check.numerics.rule import judge_rounding
from tests.unit.traces import conv, run_network

RNG = np.random.default_rng(11)
X = RNG.standard_normal((2, 3, 12, 16)).astype(np.float32)
WEIGHTS = {
    "weight": RNG.standard_normal((5, 3, 3, 3)).astype(np.float32),
    "bias": RNG.standard_normal(5).astype(np.float32),
}
RELU = Node("Relu", ("x",), ("y",))


def network(pads, layout="NCHW", fused=False):
    nodes = list(chain([conv(pads, strides=(2, 2)), RELU])) if fused else [conv(pads, strides=(2, 2))]
    layers = [("conv", nodes, WEIGHTS)]
    return run_network(layers if fused else [*layers, ("relu", [RELU], {})], X, layout=layout)


def test_truths_that_were_not_kept_are_evaluated_again_for_diagnosis(monkeypatch):
    right, wrong = network((0, 0, 1, 1), "NHWC"), network((1, 1, 0, 0))
    kept = examine(right, wrong)
    assert [j.truth is not None for j in kept.judged] == [True, False]
    monkeypatch.setattr(verdict, "KEPT_BYTES", 0)
    found = examine(right, wrong)
    assert [j.truth for j in found.judged] == [None, None]
    again = found.judge.with_truth(found.judged[0])
    np.testing.assert_array_equal(again.truth, kept.judged[0].truth)
    diagnosed = diagnose(Suspect(found.judge, again))
    assert diagnosed.proven
    assert diagnosed.best.cause == "conv-same-stride-asym"
    assert found.judge.with_truth(found.judged[1]).truth is None


def test_inner_values_are_kept_up_to_a_size_and_evaluated_again_beyond(monkeypatch):
    sides = network((0, 0, 1, 1), "NHWC", fused=True), network((0, 0, 1, 1), fused=False)
    before = [(j.same, j.roundings) for j in examine(*sides).judged]
    monkeypatch.setattr(own.SideTruth, "KEPT_BYTES", 0)
    after = examine(*sides)
    assert [(j.same, j.roundings) for j in after.judged] == before
    assert all(len(side._inner) <= 1 for side in after.judge.sides)


@pytest.mark.parametrize("channel", [0, 1, 3])
@pytest.mark.parametrize("slab", [1, 100, 10**6])
def test_the_gap_by_channel_is_the_same_in_slabs_of_any_size(monkeypatch, channel, slab):
    truth = RNG.standard_normal((3, 4, 25, 6)) * 10.0 ** RNG.integers(-3, 3, (3, 4, 1, 6))
    other = truth + 1e-9 * RNG.standard_normal(truth.shape)
    truth[0, 0, 3, 1], truth[1, 2, 0, 0] = np.nan, np.inf
    axes = tuple(axis for axis in range(4) if axis != channel)
    finite = np.isfinite(truth)
    with np.errstate(invalid="ignore"):
        apart = np.where(finite, np.abs(other - truth), 0).max(axes)
    scale = np.where(finite, np.abs(truth), 0).max(axes)
    expected = (apart / np.maximum(scale, 1e-4 * scale.max())).max() / gap.FLOAT32
    monkeypatch.setattr(gap, "SLAB", slab)
    assert gap.units_apart_by_channel(truth, other, channel) == expected


def test_a_vector_has_a_gap_by_channel_too():
    assert gap.units_apart_by_channel(np.array([1.0, 1e3]), np.array([1.0 + gap.FLOAT32, 1e3]), 0) == 1.0


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 1, 0, 2)])
def test_the_rule_does_not_depend_on_the_order_in_memory(order):
    shape = (2, 17, 9, 11)
    error, tau, result = RNG.normal(0, 0.4, shape), RNG.uniform(0.5, 2, shape), RNG.normal(0, 9, shape)
    limit = np.full(shape, 50.0)
    wanted = judge_rounding(error, limit, tau, result=result, channel=1)
    back = np.argsort(order)

    def laid(array):
        return np.ascontiguousarray(array.transpose(order)).transpose(back)

    found = judge_rounding(laid(error), laid(limit), laid(tau), result=result, channel=1)
    assert found.verdict == wanted.verdict == "round-off"
    assert found.condition == wanted.condition
    assert found.ratio == pytest.approx(wanted.ratio, rel=1e-12)
    assert found.slope == pytest.approx(wanted.slope, rel=1e-9)
    loud = error.copy()
    loud[:, 3] = 3.5 * np.sign(error[:, 3]) * tau[:, 3]
    assert judge_rounding(laid(loud), laid(limit), laid(tau), channel=1).condition == "rms error of a channel"


def test_judging_holds_no_arrays_of_the_regions_before():
    """Sixteen layers of a megabyte take no more than four of them."""
    image = RNG.standard_normal((1, 4, 256, 256)).astype(np.float32)
    scale = [RNG.uniform(0.5, 1.5, (1, 4, 256, 256)).astype(np.float32) for _ in range(16)]
    peaks = []
    for count in (4, 16):
        layers = [(f"mul{i}", [Node("Mul", ("x", "s"), ("y",))], {"s": scale[i]}) for i in range(count)]
        sides = run_network(layers, image), run_network(layers, image)
        tracemalloc.start()
        found = examine(*sides)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert [j.same for j in found.judged] == [True] * count
    assert peaks[1] < peaks[0] + image.nbytes
