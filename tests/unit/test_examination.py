from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from porting_check.diagnosis.hypothesis import Suspect
from porting_check.diagnosis.search import diagnose
from porting_check.examination import examine
from porting_check.neutral.node import Node, chain
from porting_check.report.assemble import assemble
from tests.unit.traces import constant, conv, run_network

RNG = np.random.default_rng(7)


def weights(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


X = weights(2, 3, 14, 18)
W1, B1 = weights(5, 3, 3, 3), weights(5)
W2, B2 = weights(6, 5, 3, 3), weights(6)
DENSE, DENSE_B = weights(4, 6 * 7 * 9), weights(4)
RELU = Node("Relu", ("x",), ("y",))
FLATTEN = Node("Flatten", ("x",), ("y",), {"axis": 1})
GEMM = Node("Gemm", ("x", "weight", "bias"), ("y",), {"transB": 1, "alpha": 1.0, "beta": 1.0})


def layers(**changes):
    base = {
        "conv1": ("conv1", [conv((1, 1, 1, 1))], {"weight": W1, "bias": B1}),
        "relu1": ("relu1", [RELU], {}),
        "conv2": ("conv2", [conv((0, 0, 1, 1), strides=(2, 2))], {"weight": W2, "bias": B2}),
        "relu2": ("relu2", [RELU], {}),
        "flatten": ("flatten", [FLATTEN], {}),
        "dense": ("dense", [GEMM], {"weight": DENSE, "bias": DENSE_B}),
    }
    base.update(changes)
    return [layer for layer in base.values() if layer is not None]


def channels_last_layers(**changes):
    """The same network as a channels-last framework has it: fused activations, flatten of NHWC, dense kernel permuted."""
    kernel = DENSE.reshape(4, 6, 7, 9).transpose(0, 2, 3, 1).reshape(4, -1)
    turn = Node("Transpose", ("x",), ("t",), {"perm": (0, 2, 3, 1)})
    fused = {
        "conv1": ("conv1", list(chain([conv((1, 1, 1, 1)), RELU])), {"weight": W1, "bias": B1}),
        "relu1": None,
        "conv2": (
            "conv2",
            list(chain([conv((0, 0, 1, 1), strides=(2, 2)), RELU])),
            {"weight": W2, "bias": B2},
        ),
        "relu2": None,
        "flatten": ("flatten", [turn, replace(FLATTEN, inputs=("t",))], {}),
        "dense": ("dense", [GEMM], {"weight": kernel, "bias": DENSE_B}),
    }
    fused.update(changes)
    return layers(**fused)


def report_of(reference, candidate):
    return assemble(examine(reference, candidate), {}, lambda *_: None)


def compared(candidate_layers, **options):
    reference = run_network(channels_last_layers(), X, layout="NHWC", framework="tensorflow")
    return report_of(reference, run_network(candidate_layers, X, **options))


def test_a_faithful_port_with_fused_activations_and_another_layout_is_faithful():
    report = compared(layers())
    assert report.verdict == "faithful", report.reason
    assert [p.verdict for p in report.pairs] and {p.verdict for p in report.pairs} <= {
        "identical",
        "round-off",
    }
    assert report.pairs[1].layout == "NHWC → NCHW"


@pytest.mark.parametrize(("begins", "verdict"), [((0, 0), "faithful"), ((1, 1), "divergent")])
def test_a_layer_that_makes_too_much_and_is_cropped_after_it_is_judged_with_the_crop(begins, verdict):
    ends = [begin + size for begin, size in zip(begins, X.shape[2:], strict=True)]
    crop = [
        constant("begins", np.array(begins, np.int64)),
        constant("ends", np.array(ends, np.int64)),
        constant("axes", np.array([2, 3], np.int64)),
        Node("Slice", ("x", "begins", "ends", "axes"), ("y",)),
    ]
    report = compared(
        layers(conv1=("conv1", [conv((1, 1, 2, 2))], {"weight": W1, "bias": B1}), relu1=("crop", crop, {}))[
            :2
        ]
        + layers(conv1=None)
    )
    assert report.verdict == verdict, report.reason
    if verdict == "divergent":
        assert report.first_divergence.candidate[0] == "conv1"


@pytest.mark.parametrize(
    ("changes", "layer", "cause"),
    [
        (
            {"conv2": ("conv2", [conv((1, 1, 1, 1), strides=(2, 2))], {"weight": W2, "bias": B2})},
            "conv2",
            "conv-same-stride-asym",
        ),
        (
            {"conv1": ("conv1", [conv((1, 1, 1, 1))], {"weight": W1.transpose(0, 1, 3, 2), "bias": B1})},
            "conv1",
            "kernel-hw-swap",
        ),
        (
            {"conv1": ("conv1", [conv((1, 1, 1, 1))], {"weight": W1[:, :, ::-1, ::-1], "bias": B1})},
            "conv1",
            "kernel-flip",
        ),
        (
            {"conv2": ("conv2", [conv((0, 0, 1, 1), strides=(2, 2))], {"weight": W2, "bias": 0 * B2})},
            "conv2",
            "missing-keys-strict-false",
        ),
        ({"relu2": None}, "dense", "activation-missing-or-double"),
        (
            {"relu1": ("relu1", [Node("LeakyRelu", ("x",), ("y",), {"alpha": 0.2})], {})},
            "relu1",
            "leaky-slope",
        ),
        (
            {
                "relu1": (
                    "relu1",
                    [
                        constant("low", np.float32(0)),
                        constant("high", np.float32(6)),
                        Node("Clip", ("x", "low", "high"), ("y",)),
                    ],
                    {},
                )
            },
            "relu1",
            "relu6-cap",
        ),
        (
            {
                "flatten": (
                    "flatten",
                    [
                        Node("Transpose", ("x",), ("t",), {"perm": (0, 2, 3, 1)}),
                        replace(FLATTEN, inputs=("t",)),
                    ],
                    {},
                )
            },
            "dense",
            "flatten-order",
        ),
    ],
)
def test_one_planted_mistake_is_located_and_its_cause_proven(changes, layer, cause):
    report = compared(layers(**changes))
    assert report.verdict == "divergent"
    assert layer in report.first_divergence.candidate
    assert len(report.findings) == 1, [f.explanation for f in report.findings]
    assert report.findings[0].cause == cause
    assert report.findings[0].proven


def test_two_mistakes_are_both_found_each_in_its_own_layer():
    wrong = layers(
        conv1=("conv1", [conv((1, 1, 1, 1))], {"weight": W1.transpose(0, 1, 3, 2), "bias": B1}),
        conv2=("conv2", [conv((1, 1, 1, 1), strides=(2, 2))], {"weight": W2, "bias": B2}),
    )
    report = compared(wrong)
    assert [f.cause for f in report.findings] == ["kernel-hw-swap", "conv-same-stride-asym"]
    assert all(f.proven for f in report.findings)
    assert report.pairs[-1].inherited


def test_a_batch_norm_folded_into_the_convolution_is_the_same_function():
    scale, shift, mean, var = (
        a.astype("f8") for a in (weights(5), weights(5), weights(5), np.abs(weights(5)) + 0.5)
    )
    norm = Node("BatchNormalization", ("x", "scale", "bias", "mean", "var"), ("y",), {"epsilon": 1e-3})
    apart = [
        ("conv1", [conv((1, 1, 1, 1))], {"weight": W1.astype("f8"), "bias": B1.astype("f8")}),
        ("bn", [norm], {"scale": scale, "bias": shift, "mean": mean, "var": var}),
        ("relu1", [RELU], {}),
    ]
    gain = scale / np.sqrt(var + np.float32(1e-3))
    folded = [
        (
            "conv1",
            [conv((1, 1, 1, 1))],
            {"weight": W1 * gain[:, None, None, None], "bias": (B1 - mean) * gain + shift},
        ),
        ("relu1", [RELU], {}),
    ]
    report = report_of(run_network(apart, X.astype("f8")), run_network(folded, X.astype("f8")))
    assert report.verdict == "faithful", report.reason
    rounded = [(name, nodes, {k: v.astype("f4") for k, v in held.items()}) for name, nodes, held in folded]
    report = report_of(run_network(apart, X), run_network(rounded, X))
    assert report.verdict == "faithful", report.findings
    assert "rounding" in report.pairs[0].explanation


def test_an_epsilon_that_hardly_shows_on_this_input_is_found_all_the_same():
    norm = Node("LayerNormalization", ("x", "scale"), ("y",), {"axis": -1, "epsilon": 1e-5})
    held = {"scale": np.ones(64, "f4")}
    data = 10 * weights(3, 64)
    reference = run_network([("norm", [norm], held)], data)
    report = report_of(reference, run_network([("norm", [norm.edit(epsilon=1e-12)], held)], data))
    assert report.pairs[0].difference.max_abs < 1e-6
    assert report.findings[0].cause == "ln-eps"
    assert report.findings[0].proven


def test_a_nan_candidate_is_divergent():
    broken = layers(dense=("dense", [GEMM], {"weight": DENSE * np.nan, "bias": DENSE_B}))
    assert compared(broken).verdict == "divergent"


def test_nan_on_both_sides_proves_nothing():
    reference = run_network(layers(dense=("dense", [GEMM], {"weight": DENSE * np.nan, "bias": DENSE_B})), X)
    assert report_of(reference, reference).verdict == "inconclusive"


def test_an_opaque_layer_is_undecided_and_named():
    report = compared(layers(), opaque=["relu2"])
    assert report.verdict == "inconclusive"
    assert any("relu2" in item.name or "relu2" in item.reason for item in report.not_compared)


def test_swapped_outputs_of_one_shape_are_divergent():
    heads = [
        ("conv1", [conv((1, 1, 1, 1))], {"weight": W1, "bias": B1}),
        ("left", [conv((1, 1, 1, 1))], {"weight": W2, "bias": B2}),
        ("right", [conv((1, 1, 1, 1))], {"weight": W2[::-1].copy(), "bias": B2}, ("conv1",)),
    ]
    reference = run_network(heads, X, outputs=["left", "right"])
    report = report_of(reference, run_network(heads, X, outputs=["right", "left"]))
    assert report.verdict == "divergent"
    assert report_of(reference, run_network(heads, X, outputs=["left"])).verdict == "divergent"
    assert report_of(run_network(heads, X, outputs=["left"]), reference).verdict == "divergent"


def test_heads_that_run_in_another_order_are_paired_by_weights():
    heads = [
        ("conv1", [conv((1, 1, 1, 1))], {"weight": W1, "bias": B1}),
        ("boxes", [conv((1, 1, 1, 1))], {"weight": W2, "bias": B2}),
        ("classes", [conv((1, 1, 1, 1))], {"weight": W2[:2] * 2, "bias": B2[:2]}, ("conv1",)),
    ]
    turned = [heads[0], (*heads[2][:3], ("conv1",)), (*heads[1][:3], ("conv1",))]
    reference = run_network(heads, X, outputs=["boxes", "classes"])
    report = report_of(reference, run_network(turned, X, outputs=["boxes", "classes"]))
    assert report.verdict == "faithful", report.reason


def test_the_diagnosis_says_what_differs_when_it_cannot_explain():
    wrong = layers(
        conv2=("conv2", [conv((0, 0, 1, 1), strides=(2, 2))], {"weight": W2 + weights(*W2.shape), "bias": B2})
    )
    found = examine(run_network(layers(), X), run_network(wrong, X))
    judged = next(j for j in found.judged if j.same is False)
    result = diagnose(Suspect(found.judge, judged))
    assert result.best.cause == "missing-keys-strict-false"
    assert any("weight of Conv: different values" in line for line in result.evidence)


def test_a_large_channel_does_not_hide_a_mistake_in_a_small_one():
    norm = Node("BatchNormalization", ("x", "scale", "bias", "mean", "var"), ("y",), {"epsilon": 1e-3})
    held = {"bias": np.zeros(3, "f4"), "mean": np.zeros(3, "f4"), "var": np.array([1e8, 1e8, 1.0], "f4")}
    held["scale"] = np.array([1e7, 1e7, 1e-1], "f4")
    reference = run_network([("norm", [norm], held)], X, layout="NHWC")
    wrong = run_network([("norm", [norm.edit(epsilon=1.00001e-3)], held)], X)
    report = report_of(reference, wrong)
    assert report.verdict == "divergent"
    assert report.findings[0].cause == "bn-eps"
