"""Gradients of two sides: cotangents, judgement in isolation, cuts, kinks and what both do alike. No framework takes part."""

from __future__ import annotations

import numpy as np
import pytest

from porting_check.examination import examine
from porting_check.gradients import compare_gradients, cotangents
from porting_check.neutral.errors import Unsupported
from porting_check.neutral.graph import Graph
from porting_check.neutral.node import Node, chain
from porting_check.numerics.adjoint import vjp
from porting_check.numerics.adjoint_chain import SideGradients, to_native
from porting_check.numerics.own import SideTruth
from porting_check.numerics.program import to_canonical
from porting_check.report.assemble import assemble
from tests.unit.traces import conv, run_network

rng = np.random.default_rng(5)
X = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
W1, B1 = (rng.standard_normal(s).astype(np.float32) for s in ((4, 3, 3, 3), (4,)))
W2, B2 = (rng.standard_normal(s).astype(np.float32) for s in ((5, 4, 3, 3), (5,)))
TANH = [Node("Tanh", ("x",))]
RELU = [Node("Relu", ("x",))]


def network(activation=TANH, fused=False, w2=W2, **options):
    second = [conv()] if not fused else list(chain([conv(), Node("Relu", ("x",))]))
    layers = [
        ("conv1", [conv()], {"weight": W1, "bias": B1}),
        ("act", activation, {}),
        ("conv2", second, {"weight": w2, "bias": B2}),
    ]
    return run_network(layers, X, **options)


def backward(trace, made):
    """Gradients of a whole trace in float64, rounded to float32 at every value, as a framework would give them."""
    graph = Graph(trace)
    side, total = SideTruth(graph), {}
    for port in trace.outputs:
        total[port.value] = total.get(port.value, 0) + made[port.name].astype(np.float64)
    for step in reversed(graph.steps):
        g = [
            None if o.key not in total else to_canonical(np.float64(total[o.key]), o.layout, o.canonical)
            for o in step.outputs
        ]
        inputs = [to_canonical(np.float64(side.value(o.key)), o.layout, o.canonical) for o in step.inputs]
        outputs = [to_canonical(np.float64(side.value(o.key)), o.layout, o.canonical) for o in step.outputs]
        for position, found in vjp(step.node, inputs, outputs, g).items():
            key = step.inputs[position].key
            total[key] = total.get(key, 0) + to_native(graph, found, step.inputs[position])
            total[key] = np.float64(np.float32(total[key]))
    return {key: np.float32(array) for key, array in total.items() if key in trace.values}


def compared(ours, theirs, change=lambda side, gradients: gradients):
    found = examine(ours, theirs)
    ask = tuple(lambda made, i=i, t=t: change(i, backward(t, made)) for i, t in enumerate((ours, theirs)))
    return found, compare_gradients(found, ask, 0, lambda *_: None)


def row(section, candidate):
    return next(r for r in section.rows if r["candidate"] == candidate)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("fused", [False, True])
def test_the_same_function_in_another_layout_is_faithful(layout, fused):
    found, section = compared(
        network(fused=fused), network(fused=fused, layout=layout, framework="tensorflow")
    )
    assert section.verdict == "faithful", section.rows
    assert section.answer.startswith(
        "All 8 gradients are what the layers' own functions give; the largest error is 0."
    )
    kinds = [r["kind"] for r in section.rows]
    assert (kinds.count("parameter"), kinds.count("layer output"), kinds.count("input")) == (4, 3, 1)
    assert all(r["end_to_end"] < 1e-5 for r in section.rows)
    assert assemble(found, {"seed": 0}, lambda *_: None, [section]).verdict == "faithful"


def test_cotangents_follow_the_axes_and_the_seed():
    found = examine(network(), network(layout="NHWC"))
    ours, theirs = cotangents(found, 3)
    assert ours["0"].dtype == theirs["0"].dtype == np.float32
    np.testing.assert_array_equal(ours["0"].transpose(0, 2, 3, 1), theirs["0"])
    assert not np.array_equal(cotangents(found, 4)[0]["0"], ours["0"])
    np.testing.assert_array_equal(cotangents(found, 3)[0]["0"], ours["0"])


@pytest.mark.parametrize("side", [0, 1])
def test_a_gradient_that_stops_is_found_where_it_stops(side):
    def cut(number, gradients):
        gone = ("act:0", "conv1:0", "input:0", "parameter:conv1.weight", "parameter:conv1.bias")
        return {k: g for k, g in gradients.items() if number != side or k not in gone}

    found, section = compared(network(), network(layout="NHWC"), cut)
    assert section.verdict == "divergent"
    assert [r["candidate"] for r in section.rows if r["verdict"] == "divergent"] == ["act"]
    assert section.rows[0]["cause"] == "stop-gradient-missing"
    assert ("reference", "candidate")[side] in section.rows[0]["explanation"]
    assert "no gradient arrives" in row(section, "conv1.weight")["explanation"]
    report = assemble(found, {"seed": 0}, lambda *_: None, [section])
    assert report.verdict == "divergent" and "layer output act" in report.reason
    assert report.section("gradients") is section


def test_a_wrong_gradient_is_found_at_its_layer_alone_and_is_nobody_elses_fault():
    def halved(number, gradients):
        if number == 1:
            for key in ("act:0", "conv1:0", "input:0", "parameter:conv1.weight", "parameter:conv1.bias"):
                gradients[key] = gradients[key] * np.float32(0.5)
        return gradients

    section = compared(network(), network(), halved)[1]
    assert [(r["candidate"], r["verdict"]) for r in section.rows if r["verdict"] == "divergent"] == [
        ("act", "divergent")
    ]
    assert row(section, "act")["candidate_ratio"] > 1e3 > 1 > row(section, "act")["reference_ratio"]
    assert row(section, "conv1")["end_to_end"] == pytest.approx(0.5, abs=1e-4)
    assert row(section, "conv1")["candidate_ratio"] <= 1


def test_what_both_sides_do_to_their_gradient_in_the_same_way_is_no_divergence():
    def both(number, gradients):
        for key in ("act:0", "conv1:0", "input:0", "parameter:conv1.weight", "parameter:conv1.bias"):
            gradients[key] = gradients[key] * np.float32(0.5)
        return gradients

    section = compared(network(), network(layout="NHWC"), both)[1]
    assert section.verdict == "faithful"
    assert row(section, "act")["verdict"] == "alike"
    assert "1 are changed by both models in the same way" in section.answer


def test_a_parameter_that_gets_no_gradient_in_one_side_only():
    def frozen(number, gradients):
        return {k: g for k, g in gradients.items() if number == 0 or k != "parameter:conv2.weight"}

    section = compared(network(), network(), frozen)[1]
    assert section.verdict == "divergent"
    assert section.rows[0]["candidate"] == "conv2.weight"
    assert "no gradient arrives in the candidate, on the other side one does" in section.answer


def test_a_gradient_that_nobody_watched_is_carried_through():
    section = compared(
        network(), network(), lambda i, g: {k: a for k, a in g.items() if i == 0 or k != "act:0"}
    )[1]
    assert section.verdict == "faithful"
    assert row(section, "act")["end_to_end"] is None


def dead(trace):
    """The trace with exact zeros before the activation, as after padding or another relu."""
    trace.values["conv1:0"][:, 0] = 0
    trace.values["act:0"][:, 0] = 0
    return trace


def test_kinks_are_left_out_and_reported_where_the_sides_differ():
    def convention(number, gradients):
        if number == 1:
            gradients["conv1:0"][:, 0] = gradients["act:0"][:, 0]
        return gradients

    ours, theirs = dead(network(RELU)), dead(network(RELU))
    graph, made = Graph(theirs), cotangents(examine(ours, theirs), 0)[1]
    found = SideGradients(
        SideTruth(graph), convention(1, backward(theirs, made)), {"conv2:0": made["0"]}
    ).judge()
    kink = found["conv1:0"].kinks[0]
    assert (kink.op_type, kink.count, kink.share) == ("Relu", 72, 1.0)
    assert found["conv1:0"].ratio <= 1
    section = compared(ours, theirs, convention)[1]
    assert row(section, "conv1")["verdict"] == "kink"
    assert row(section, "conv1")["cause"] == "grad-kinks"
    assert "the reference passes 0, the candidate passes the gradient on" in section.notes[-1]


def test_a_fused_relu_whose_input_was_not_recorded_is_judged_through():
    section = compared(network(fused=True), network(fused=True))[1]
    assert section.verdict == "faithful"

    def wrong(number, gradients):
        if number == 1:
            gradients["act:0"] = gradients["act:0"] * np.float32(1.3)
        return gradients

    section = compared(network(fused=True), network(fused=True), wrong)[1]
    assert row(section, "act")["verdict"] == "divergent"


def test_opaque_layers_are_named_and_make_the_answer_inconclusive():
    hidden = {"opaque": ("act",)}
    section = _with_opaque(hidden)[1]
    assert section.verdict == "inconclusive"
    assert "act is opaque" in section.answer


def _with_opaque(hidden):
    ours, theirs = network(**hidden), network(**hidden)
    found, plain = examine(ours, theirs), network()
    ask = tuple(lambda made: backward(plain, made) for _ in (0, 1))
    return found, compare_gradients(found, ask, 0, lambda *_: None)


def test_recordings_and_models_that_cannot_be_differentiated():
    found = examine(network(), network())
    section = compare_gradients(found, (lambda made: {}, None), 0, lambda *_: None)
    assert section.verdict == "inconclusive" and "candidate is a recording" in section.answer

    def refuse(made):
        raise Unsupported("a frozen graph has no gradients")

    section = compare_gradients(found, (refuse, refuse), 0, lambda *_: None)
    assert section.verdict == "inconclusive"
    assert "the reference could not be differentiated: a frozen graph has no gradients" in section.answer
    assert assemble(found, {"seed": 0}, lambda *_: None, [section]).verdict == "inconclusive"


def test_layers_without_a_rule_are_checked_along_random_directions():
    hidden, seq = 4, rng.standard_normal((5, 2, 3)).astype(np.float32)
    weights = {
        "w": rng.standard_normal((1, 4 * hidden, 3)),
        "r": rng.standard_normal((1, 4 * hidden, hidden)),
    }
    weights = {k: v.astype(np.float32) for k, v in weights.items()}
    node = Node("LSTM", ("x", "w", "r"), ("y",), {"hidden_size": hidden})
    trace = run_network([("lstm", [node], weights), ("scale", [Node("Tanh", ("x",))], {})], seq)
    made = {"0": rng.standard_normal(trace.values["scale:0"].shape).astype(np.float32)}
    gradients = _numeric(trace, made)
    found = SideGradients(SideTruth(Graph(trace)), gradients, {"scale:0": made["0"]}).judge()
    assert found["parameter:lstm.w"].how == "checked along 8 random directions"
    assert all(f.ratio is not None and f.ratio <= 1 for f in found.values()), found
    gradients["parameter:lstm.r"][0, 1, 2] *= 1.5
    found = SideGradients(SideTruth(Graph(trace)), gradients, {"scale:0": made["0"]}).judge()
    assert [f.key for f in found.values() if f.ratio > 1] == ["parameter:lstm.r"]


def _numeric(trace, made):
    """Gradients by central differences of the whole network in float64."""
    graph = Graph(trace)
    program, steps, g = SideTruth(graph).program, range(len(graph.steps)), np.float64(made["0"])
    found = {}
    for key in ("input:0", "lstm:0", "parameter:lstm.w", "parameter:lstm.r"):
        x, gradient = np.float64(trace.values[key]), np.zeros(trace.values[key].size)
        after = [i for i in steps if key != "lstm:0" or i > 0]
        for place in range(x.size):
            both = []
            for h in (1e-5, -1e-5):
                moved = x.copy()
                moved.reshape(-1)[place] += h
                given = {"input:0": trace.values["input:0"], key: moved}
                both.append((g * program.evaluate(after, given, ["scale:0"])["scale:0"]).sum())
            gradient[place] = (both[0] - both[1]) / 2e-5
        found[key] = np.float32(gradient.reshape(x.shape))
    return {**found, "scale:0": made["0"]}
