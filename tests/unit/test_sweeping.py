"""Sweeps without a framework: points, theory against emulated orders of summation, two functions of arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.neutral.errors import InputError, ModelError, RunError
from porting_check.neutral.graph import Graph
from porting_check.neutral.node import Node
from porting_check.numerics.truth import evaluate
from porting_check.sweep_measures import chained_bands, gaps, measures, rms, rms_error, theory
from porting_check.sweep_points import DATA, drawn, estimate, with_word
from porting_check.sweeping import sweep

DENSE = Node("Gemm", ("x", "w"), attributes={"transB": 1})


def shapes(points) -> list[tuple[int, ...]]:
    return [points.inputs[name].shape for name in points.network.inputs]


# ----------------------------------------------------------------------------------------------------
# Points


@pytest.mark.parametrize(
    ("text", "quantity", "values", "wanted"),
    [
        ("Conv(filters=2)", "channels", (1, 5), [(1, 1, 32, 32), (1, 5, 32, 32)]),
        ("Conv(filters=2)", "size", (8, 9), [(1, 3, 8, 8), (1, 3, 9, 9)]),
        ("Conv(filters=2)", "batch", (1, 4), [(1, 3, 32, 32), (4, 3, 32, 32)]),
        ("Gemm()", "features", (7, 9), [(4, 7), (4, 9)]),
        ("Gemm()", "dimension", (7, 9), [(4, 7), (4, 9)]),
        ("LSTM()", "time", (3, 4), [(3, 2, 8), (4, 2, 8)]),
        ("LSTM()", "batch", (3, 4), [(7, 3, 8), (7, 4, 8)]),
        ("Softmax()", "features", (5, 50), [(1, 3, 32, 5), (1, 3, 32, 50)]),
        ("Conv(filters=2)", "kernel", (1, 3), [(1, 3, 32, 32)] * 2),
    ],
)
def test_a_word_of_shape_changes_its_axes(text, quantity, values, wanted):
    assert shapes(drawn(text, quantity, values)) == wanted


@pytest.mark.parametrize(
    ("text", "quantity", "values", "attribute", "wanted"),
    [
        ("Conv(filters=2)", "kernel", (1, 5), "kernel_shape", [(1, 1), (5, 5)]),
        ("Conv(kernel=2)", "stride", (1, 3), "strides", [(1, 1), (3, 3)]),
        ("LRN(size=3)", "size", (3, 5), "size", [3, 5]),
        ("LayerNormalization()", "eps", (0.5, 0.25), "epsilon", [0.5, 0.25]),
    ],
)
def test_a_word_of_the_layer_changes_its_node(text, quantity, values, attribute, wanted):
    assert [node.attributes[attribute] for node in drawn(text, quantity, values).network.nodes] == wanted


def test_units_follow_the_dimension():
    points = drawn("Gemm(units=3)", "dimension", (5, 6))
    assert [points.network.parameters[f"B_{n}"].shape for n in (0, 1)] == [(5, 5), (6, 6)]


def test_points_are_independent_nodes_with_the_same_noise():
    points = drawn("Conv(filters=2)", "magnitude", (1, 100))
    first, second = (points.inputs[name] for name in points.network.inputs)
    np.testing.assert_array_equal(second, first * np.float32(100))
    np.testing.assert_array_equal(points.network.parameters["W_0"], points.network.parameters["W_1"])
    assert len({name for node in points.network.nodes for name in (*node.inputs, *node.outputs)}) == 8


def test_numbers_can_be_shifted_and_weights_scaled():
    means = drawn("Conv(filters=2)", "mean", (0, 100))
    one, two = (means.inputs[name].mean() for name in means.network.inputs)
    assert two - one == pytest.approx(100, abs=1e-3)
    heavy = drawn("Conv(filters=2)", "weights", (1, 1e-5)).network.parameters
    np.testing.assert_allclose(heavy["W_1"], heavy["W_0"] * 1e-5, rtol=1e-6)
    np.testing.assert_array_equal(heavy["B_1"], heavy["B_0"])


@pytest.mark.parametrize("data", DATA)
def test_kinds_of_data_are_what_they_are_called(data):
    points = drawn("Gemm()", "features", (256,), data=data)
    x, w = points.inputs["x_0"], points.network.parameters["B_0"]
    facts = {
        "normal": (x < 0).any() and abs(x.std() - 1) < 0.2,
        "relu": (x >= 0).all() and x.max() > 1,
        "uniform": (x >= 0).all() and (x < 1).all() and (w >= 0).all() and w.max() > 0.9,
        "heavy": np.abs(x).max() > 10,
        "tiny": (x >= 0).all() and 0.5e-5 < w.std() < 2e-5,
    }
    assert facts[data]
    assert x.dtype == w.dtype == np.float32


def test_depth_makes_one_chain_of_layers_with_weights_of_their_own():
    points = drawn("Conv(filters=4, padding=same)", "depth", (1, 3), shape=(1, 2, 6, 6))
    nodes = points.network.nodes
    assert points.steps == (0, 2)
    assert [node.inputs[0] for node in nodes] == ["x_0", nodes[0].outputs[0], nodes[1].outputs[0]]
    assert [points.network.parameters[f"W_{n}"].shape[1] for n in range(3)] == [2, 4, 4]
    assert not np.array_equal(points.network.parameters["W_1"], points.network.parameters["W_2"])
    assert points.network.outputs == tuple(node.outputs[0] for node in nodes)


def test_the_note_is_kept_only_where_it_holds_for_all():
    assert (
        drawn("Conv(padding=same)", "channels", (1, 2)).note
        == "SAME on (32, 32) means pads ((1, 1), (1, 1)) here."
    )
    assert drawn("Conv(padding=same)", "kernel", (3, 5)).note == ""


@settings(deadline=None, max_examples=30)
@given(word=st.sampled_from(["kernel", "filters", "stride"]), value=st.integers(1, 10**6))
def test_setting_a_word_twice_is_setting_it_once(word, value):
    text = with_word("Conv(filters=8, kernel=3, padding=same)", word, value)
    assert with_word(text, word, value) == text
    assert f"{word}={value}" in text


@pytest.mark.parametrize(
    ("text", "quantity", "values", "options", "said"),
    [
        ("Conv()", "kernl", (1,), {}, "did you mean 'kernel'"),
        ("Conv()", "channel", (1,), {}, "did you mean 'channels'"),
        ("Gemm()", "seed", (1,), {}, "known: batch, channels"),
        ("Conv()", "kernel", (), {}, "has no values"),
        ("Conv()", "kernel", ("3",), {}, "is no number"),
        ("Conv()", "kernel", (True,), {}, "is no number"),
        ("Conv()", "magnitude", (float("inf"),), {}, "is no number"),
        ("Conv()", "kernel", (3, 3), {}, "given twice"),
        ("Conv()", "channels", (0,), {}, "whole number of 1 or more"),
        ("Conv()", "size", (2.5,), {}, "whole number of 1 or more"),
        ("LSTM()", "channels", (3,), {}, "has no channels; it has batch, features, time"),
        ("Conv()", "kernel", (3,), {"data": "normall"}, "did you mean 'normal'"),
        ("Conv()", "channels", (8, 10**7), {}, "the limit is 2 GiB"),
        ("Gemm()", "dimension", (16, 60000), {}, "at dimension=60000"),
        ("Conv(kernel=5)", "depth", (1, 9), {}, "layer 8 of the chain cannot read"),
        ("LSTM()", "depth", (2,), {}, "layer 2 of the chain cannot read"),
    ],
)
def test_what_cannot_be_varied_is_explained(text, quantity, values, options, said):
    with pytest.raises(InputError, match=said):
        drawn(text, quantity, values, **options)


def test_a_wrong_layer_is_explained_as_by_a_crosscheck():
    with pytest.raises(ModelError, match="did you mean Conv"):
        drawn("Konv()", "kernel", (1,))
    with pytest.raises(ModelError, match="is not a layer"):
        drawn("model.onnx", "kernel", (1,))


def test_the_estimate_covers_what_is_allocated():
    for text, shape in (("Conv(filters=16, kernel=5)", (2, 8, 40, 40)), ("Gemm(units=300)", (64, 200))):
        points = drawn(text, "batch", (shape[0],), shape=shape)
        words = {"filters": 16, "kernel": 5, "units": 300}
        held = sum(a.nbytes for a in [*points.inputs.values(), *points.network.parameters.values()])
        output = evaluate(points.network.nodes, {**points.inputs, **points.network.parameters})["y_0"]
        found = estimate(points.network.nodes[0].op_type, words, shape, 4)
        assert held + 3 * output.nbytes < found < 20 * (held + output.nbytes)


# ----------------------------------------------------------------------------------------------------
# Theory


def term_by_term(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    total = np.zeros((len(x), len(w)), np.float32)
    for k in range(x.shape[1]):
        total += x[:, None, k] * w[None, :, k]
    return total


def pairwise(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    terms = x[:, None, :] * w[None, :, :]
    while terms.shape[-1] > 1:
        terms = terms[..., ::2] + terms[..., 1::2]
    return terms[..., 0]


def operands(n: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    make = {"normal": rng.standard_normal, "uniform": rng.random}[kind]
    return make((16, n)).astype(np.float32), make((24, n)).astype(np.float32)


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("n", [64, 512, 4096])
def test_the_band_is_what_emulated_orders_of_summation_make(n, kind):
    x, w = operands(n, kind)
    found = theory(DENSE, [x, w])
    band = found.band
    sequential, tree = (rms(order(x, w) - found.truth) for order in (term_by_term, pairwise))
    assert 0.7 < sequential / band.expected < 1.3
    assert 0.7 < tree / band.low < 1.3
    assert sequential < band.limit
    assert found.terms == n + 1


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_sums_of_absolute_differences_are_predicted(kind):
    """Worst order on both sides: the two sums must be independent, so the second one runs backwards."""
    x, w = operands(1024, kind)
    found = theory(DENSE, [x, w])
    made = {"forwards": term_by_term(x, w), "backwards": term_by_term(x[:, ::-1], w[:, ::-1])}
    (gap,) = gaps(made, found)
    assert 0.5 < gap.sum_abs / gap.predicted < 1.3
    assert gap.sum_abs == pytest.approx(np.abs(made["forwards"].astype(float) - made["backwards"]).sum())
    assert gap.blocked < gap.predicted


def test_an_order_of_summation_is_round_off_and_coarse_operands_are_not():
    x, w = operands(1024, "normal")
    found = theory(DENSE, [x, w])
    short = x.view(np.uint32) & np.uint32(0xFFFF0000)
    made = {
        "sequential": [term_by_term(x, w)],
        "rounded": [found.truth.astype(np.float32)],
        "bfloat16": [(short.view(np.float32).astype(float) @ w.T.astype(float)).astype(np.float32)],
        "shape": [np.zeros((3, 3), np.float32)],
        "refused": "no such operator",
    }
    cells, apart = measures(found, made)
    assert {name: cell.verdict for name, cell in cells.items()} == {
        "sequential": "round-off",
        "rounded": "identical",
        "bfloat16": "low-precision",
        "shape": "divergent",
        "refused": "refused",
    }
    assert cells["shape"].reason == "shape (3, 3), expected (16, 24)"
    assert cells["refused"].reason == "no such operator"
    assert [gap.names for gap in apart] == [
        ("sequential", "rounded"), ("sequential", "bfloat16"), ("rounded", "bfloat16"),
    ]  # fmt: skip


def test_an_operator_that_is_no_sum_has_a_limit_alone():
    x = np.linspace(-5, 5, 100, dtype=np.float32).reshape(4, 25)
    found = theory(Node("Tanh", ("x",)), [x])
    assert (found.band.low, found.band.expected, found.terms) == (None, None, None)
    assert 0 < found.band.limit < 1e-5
    assert measures(found, {"numpy": [np.tanh(x)]})[0]["numpy"].verdict in ("identical", "round-off")


def test_errors_that_are_passed_on_grow_along_a_chain():
    points = drawn("Gemm(units=64)", "depth", (1, 16), shape=(32, 64))
    graph = Graph(points.network.trace(points.inputs))
    truths, own = [], []
    x = points.inputs["x_0"].astype(np.float64)
    for node in points.network.nodes:
        own.append(theory(node, [x, *(points.network.parameters[name] for name in node.inputs[1:])]))
        truths.append(own[-1].truth)
        x = own[-1].truth
    bands = chained_bands(graph, own, truths)
    emulated, grown = points.inputs["x_0"], []
    for node, truth in zip(points.network.nodes, truths):
        weights, bias = (points.network.parameters[name] for name in node.inputs[1:])
        emulated = term_by_term(emulated, weights) + bias
        grown.append(rms_error(emulated, truth))
    assert all(0.5 < error / band.expected < 1.6 for error, band in zip(grown, bands))
    assert bands[15].expected > 2 * bands[0].expected
    assert bands[15].low < bands[15].expected


def test_not_a_number_on_both_sides_is_no_error_and_on_one_is_infinite():
    both = np.array([np.nan, np.inf, 1.0])
    assert rms_error(both, both) == 0.0
    assert rms_error(np.array([np.nan, np.inf, 2.0]), np.array([1.0, np.inf, 2.0])) == np.inf


# ----------------------------------------------------------------------------------------------------
# Two functions of arrays


def make(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    return rng.standard_normal((8, n)), rng.standard_normal((n, n))


def by_terms(x, w):
    return term_by_term(x, w)


def by_pairs(x, w):
    return pairwise(x, w)


def test_growth_of_two_orders_is_measured_beside_the_prediction():
    found = sweep((by_terms, by_pairs), "dimension", (16, 64, 256), make=make, computes=DENSE)
    assert found.verdict == "agree"
    assert found.names == ("by_terms", "by_pairs")
    assert found.points[0].measures["by_terms"].verdict in ("round-off", "identical")
    ratio = found.exponents["by_terms"] / found.predicted_exponents["expected"]
    assert 0.7 < ratio < 1.3
    assert abs(found.exponents["by_pairs"]) < 0.2
    assert found.sum_exponents["by_terms, by_pairs"] == pytest.approx(
        found.sum_exponents["predicted"], abs=0.4
    )
    assert found.points[2].gaps[0].sum_abs < found.points[2].gaps[0].predicted


def test_the_operator_can_be_written_out():
    found = sweep(
        (by_terms, by_pairs), "n", (16, 64), make=make, computes="Gemm(transB=1)", names=("one", "two")
    )
    assert found.names == ("one", "two")
    assert found.points[1].terms == 65
    assert found.subject == "one against two"


def test_a_wrong_function_differs_at_every_point():
    found = sweep((lambda x, w: x @ w.T, lambda x, w: x @ w), "n", (8, 32), make=make, computes=DENSE)
    assert (found.verdict, found.exit_status) == ("differ", 1)
    assert found.names == ("f", "g")
    assert [point.measures["g"].verdict for point in found.points] == ["divergent"] * 2
    assert [point.measures["f"].verdict for point in found.points] != ["divergent"] * 2


def test_without_an_operator_the_float64_experiment_decides():
    def one(x, w):
        return np.tanh(x @ w.T).sum(axis=0)

    def two(x, w):
        return np.tanh(x @ w.T)[::-1].sum(axis=0)

    def three(x, w):
        return np.tanh(x @ w.T * (1 + 1e-4)).sum(axis=0)

    same = sweep((one, two), "n", (32, 128), make=make)
    assert same.verdict == "agree"
    assert same.points[0].band.limit is None
    assert sweep((one, three), "n", (32, 128), make=make).verdict == "differ"
    assert {
        m.verdict for p in sweep((one, one), "n", (32,), make=make).points for m in p.measures.values()
    } == {"identical"}


def test_functions_that_hold_float32_are_not_decided():
    def one(x, w):
        return x.astype(np.float32) @ w.T.astype(np.float32)

    def two(x, w):
        return x[:, ::-1].astype(np.float32) @ w.T[::-1].astype(np.float32)

    found = sweep((one, two), "n", (512,), make=make)
    assert found.verdict == "inconclusive"
    assert {m.verdict for p in found.points for m in p.measures.values()} == {"undecided"}


@pytest.mark.parametrize(
    ("subject", "options", "said"),
    [
        ((by_terms,), {"make": make}, "or two functions; found function"),
        ((by_terms, 3), {"make": make}, "found function, int"),
        (by_terms, {"make": make}, "found function"),
        ((by_terms, by_pairs), {}, "need make="),
        ((by_terms, by_pairs), {"make": lambda n: np.zeros(n)}, "expected a tuple of arrays"),
        ((by_terms, by_pairs), {"make": lambda n: ("a", "b")}, "expected numbers"),
        ((by_terms, by_pairs), {"make": make, "names": ("one",)}, "expected two names"),
        ((by_terms, by_pairs), {"make": make, "computes": "Gemm"}, "expected a node, or an operator"),
        (
            (by_terms, by_pairs),
            {"make": make, "computes": "Gemm()", "shape": (1, 2)},
            "describe the input of a layer",
        ),
        ((by_terms, by_pairs), {"make": make, "computes": Node("Transpose", ("x",), ("y",))}, "gives shape"),
        ((by_terms, lambda x, w: x[:3]), {"make": make}, "never brought together"),
        ((by_terms, by_pairs), {"make": make, "frameworks": ("numpy",) * 3}, "one for each"),
        ("Conv()", {"make": make}, "belongs to a sweep of two functions"),
        ("Conv()", {"frameworks": ["torch"]}, "needs two or more, found torch"),
        ("Conv()", {"frameworks": []}, "needs two or more, found none"),
    ],
)
def test_wrong_usage_is_explained(subject, options, said):
    with pytest.raises(InputError, match=said):
        sweep(subject, "kernel" if subject == "Conv()" else "n", (16, 64), **options)


def test_a_function_that_fails_is_named():
    def broken(x, w):
        raise ValueError("no luck")

    with pytest.raises(RunError, match="broken raised ValueError: no luck"):
        sweep((by_terms, broken), "n", (16,), make=make)
