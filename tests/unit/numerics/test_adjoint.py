"""Every gradient rule against central differences of the float64 forward, and the bounds that go with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.neutral.node import Node
from porting_check.numerics import adjoint
from porting_check.numerics.adjoint import NoAdjoint, bounded, carried, vjp
from porting_check.numerics.truth import evaluate_node

UNIT = 2.0**-24


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal numbers that keep away from kinks at whole and half numbers."""
    made = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return np.where(np.abs(made * 2 - np.rint(made * 2)) < 1e-2, made + 0.03, made)


def differences(node: Node, inputs: list[Any], g: np.ndarray, position: int) -> np.ndarray:
    """The gradient of ``<g, f>`` by central differences, extrapolated (Richardson): about 1e-10 of the scale."""
    x = inputs[position]
    made = np.zeros(x.size)

    def moved(place: int, step: float) -> Any:
        changed = x.copy().reshape(-1)
        changed[place] += step
        return evaluate_node(node, [*inputs[:position], changed.reshape(x.shape), *inputs[position + 1 :]])[0]

    for place in range(x.size):
        h = 1e-3
        wide = (g * (moved(place, h) - moved(place, -h))).sum() / (2 * h)
        narrow = (g * (moved(place, h / 2) - moved(place, -h / 2))).sum() / h
        made[place] = (4 * narrow - wide) / 3
    return made.reshape(x.shape)


def check(
    node: Node, *inputs: Any, positions: tuple[int, ...] | None = None, tolerance: float = 1e-6
) -> None:
    """All gradients of a node, their bounds, and that what is not real has none."""
    arrays = [None if item is None else np.asarray(item) for item in inputs]
    outputs = evaluate_node(node, arrays)
    g = noise(*outputs[0].shape, seed=7)
    cotangents: list[Any] = [g] + [None] * (len(outputs) - 1)
    found = vjp(node, arrays, outputs, cotangents)
    limits = bounded(node, arrays, outputs, cotangents, UNIT)
    sizes: list[Any] = [np.abs(g)] + [None] * (len(outputs) - 1)
    magnitudes = carried(node, arrays, outputs, sizes)
    real = [i for i, a in enumerate(arrays) if a is not None and a.dtype.kind == "f"]
    assert set(found) == set(real if positions is None else positions)
    for position, gradient in found.items():
        expected = differences(node, arrays, g, position)
        assert gradient.shape == arrays[position].shape
        np.testing.assert_allclose(
            gradient, expected, rtol=tolerance, atol=tolerance * max(1.0, np.abs(expected).max())
        )
        assert (magnitudes[position] >= np.abs(gradient) * (1 - 1e-9)).all()
        assert (limits[position][1] >= 0).all()
        assert limits[position][1].max() < 1e-3 * max(1.0, magnitudes[position].max())


UNARY = [
    ("Relu", {}), ("LeakyRelu", {"alpha": 0.2}), ("ThresholdedRelu", {"alpha": 0.7}), ("HardSigmoid", {"alpha": 0.3}),
    ("Shrink", {"lambd": 0.3, "bias": 0.1}), ("Abs", {}), ("Neg", {}), ("Round", {}), ("Floor", {}), ("Elu", {"alpha": 0.7}),
    ("Selu", {}), ("Celu", {"alpha": 1.7}), ("Sigmoid", {}), ("Tanh", {}), ("Erf", {}), ("Softplus", {}), ("Softsign", {}),
    ("Mish", {}), ("Gelu", {}), ("Gelu", {"approximate": "tanh"}), ("HardSwish", {}), ("Swish", {"alpha": 1.3}), ("Sin", {}),
    ("Cos", {}), ("Atan", {}), ("Exp", {}), ("Sinh", {}), ("Cosh", {}), ("Asinh", {}), ("Identity", {}), ("Dropout", {}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "attributes"), UNARY, ids=str)
def test_derivative_of_a_function(op, attributes):
    check(Node(op, ("x",), ("y",), attributes), noise(3, 5) * (1 if op == "Round" else 2))


@pytest.mark.parametrize("op", ["Log", "Sqrt", "Reciprocal", "Acosh"])
def test_derivative_of_a_function_of_positive_numbers(op):
    check(Node(op, ("x",)), np.abs(noise(4, 4)) + 1.5, tolerance=1e-5)


@pytest.mark.parametrize("op", ["Asin", "Acos", "Atanh", "Tan"])
def test_derivative_of_a_function_of_small_numbers(op):
    check(Node(op, ("x",)), np.tanh(noise(4, 4)) * 0.7, tolerance=1e-5)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum"])
@pytest.mark.parametrize("shapes", [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (3, 1)), ((1, 4), (2, 3, 1))])
def test_arithmetic_with_broadcasting(op, shapes):
    left, right = noise(*shapes[0]), noise(*shapes[1], seed=2)
    right = np.sign(right) * (np.abs(right) + 0.8) if op == "Div" else right * 3.7  # far from ties
    check(Node(op, ("a", "b")), left, right, tolerance=1e-5)


def test_powers_where_prelu_and_clip():
    check(Node("Pow", ("x", "p")), np.abs(noise(3, 4)) + 0.5, noise(4), tolerance=1e-5)
    x, cubes = noise(3, 4), Node("Pow", ("x", "p"))
    np.testing.assert_allclose(vjp(cubes, [x, np.float64(3)], [x**3], [np.ones((3, 4))])[0], 3 * x**2)
    check(Node("Where", ("c", "a", "b")), noise(3, 4) > 0, noise(3, 4), noise(4))
    check(Node("PRelu", ("x", "slope")), noise(2, 3, 4), noise(3, 1))
    check(Node("PRelu", ("x", "slope")), noise(2, 3, 4, 4), noise(3))
    check(Node("Clip", ("x", "low", "high")), noise(3, 6), np.float64(-0.5), np.float64(0.76))
    check(Node("Clip", ("x",), ("y",), {"min": 0.0, "max": 1.0}), noise(3, 6))


@settings(max_examples=25, deadline=None)
@given(
    data=st.data(),
    group=st.sampled_from([1, 2]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
)
def test_convolution_of_any_geometry(data, group, kernel, strides, dilations, pads):
    inputs, outputs = 2, data.draw(st.sampled_from([2, 4]))
    attributes = {
        "group": group,
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
    }
    node = Node("Conv", ("x", "w", "b"), ("y",), attributes)
    x, w = noise(2, inputs, 6, 7), noise(outputs, inputs // group, *kernel)
    check_directions(node, [x, w, noise(outputs)])


@settings(max_examples=25, deadline=None)
@given(
    group=st.sampled_from([1, 2]),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
)
def test_transposed_convolution_of_any_geometry(group, strides, dilations, pads):
    extra = [s - 1 for s in strides]
    attributes = {
        "group": group,
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
        "output_padding": extra,
    }
    node = Node("ConvTranspose", ("x", "w", "b"), ("y",), attributes)
    check_directions(node, [noise(2, 2, 4, 5), noise(2, 3, 3, 3), noise(3 * group)])


def check_directions(node: Node, inputs: list[Any]) -> None:
    """``<J^T g, v> = <g, J v>``, where ``J v`` of an operator that is linear in each operand is a difference."""
    y = evaluate_node(node, inputs)[0]
    g = noise(*y.shape, seed=5)
    found = bounded(node, inputs, [y], [g], UNIT)
    assert set(found) == set(range(len(inputs)))
    for position, (gradient, limit) in found.items():
        assert gradient.shape == inputs[position].shape
        v = noise(*gradient.shape, seed=9)
        moved = [*inputs[:position], inputs[position] + v, *inputs[position + 1 :]]
        along = (g * (evaluate_node(node, moved)[0] - y)).sum()
        np.testing.assert_allclose((gradient * v).sum(), along, rtol=1e-9, atol=1e-9)
        assert (limit > 0).any() or not gradient.any()


def test_depthwise_three_dimensional_and_same_padded_convolution():
    check(
        Node("Conv", ("x", "w"), ("y",), {"group": 3, "strides": (2, 2)}),
        noise(1, 3, 5, 5),
        noise(6, 1, 2, 2),
    )
    check(
        Node("Conv", ("x", "w"), ("y",), {"auto_pad": "SAME_UPPER", "strides": (2,)}),
        noise(1, 2, 7),
        noise(2, 2, 3),
    )
    check(Node("Conv", ("x", "w"), ("y",), {"pads": (1,) * 6}), noise(1, 2, 3, 3, 2), noise(2, 2, 2, 2, 2))


@pytest.mark.parametrize(("left", "right"), [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((4,), (4, 5)), ((2, 3, 4), (4,)),
                                             ((4,), (4,)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (2, 4, 3))])  # fmt: skip
def test_matrix_products_of_any_rank(left, right):
    check(Node("MatMul", ("a", "b")), noise(*left), noise(*right))


@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm_with_factors(turned):
    node = Node(
        "Gemm",
        ("a", "b", "c"),
        ("y",),
        {"transA": turned[0], "transB": turned[1], "alpha": -0.5, "beta": 2.0},
    )
    check(
        node, noise(*((4, 3) if turned[0] else (3, 4))), noise(*((5, 4) if turned[1] else (4, 5))), noise(5)
    )


@pytest.mark.parametrize(("equation", "shapes"), [("bij,bjk->bik", ((2, 3, 4), (2, 4, 2))), ("ij,kj->ik", ((3, 4), (2, 4))),
                                                  ("ij->i", ((3, 4),)), ("i,j->ij", ((3,), (2,)))])  # fmt: skip
def test_einsum(equation, shapes):
    names = tuple(f"x{i}" for i in range(len(shapes)))
    check(
        Node("Einsum", names, ("y",), {"equation": equation}),
        *[noise(*s, seed=i) for i, s in enumerate(shapes)],
    )


def test_averages_and_resampling():
    pool = {"kernel_shape": (3, 2), "strides": (2, 1), "pads": (1, 0, 1, 1)}
    for counted in (0, 1):
        check(Node("AveragePool", ("x",), ("y",), {**pool, "count_include_pad": counted}), noise(1, 2, 5, 6))
    check(
        Node("AveragePool", ("x",), ("y",), {"kernel_shape": (2, 2), "strides": (2, 2), "ceil_mode": 1}),
        noise(1, 2, 5, 5),
    )
    check(Node("GlobalAveragePool", ("x",)), noise(2, 3, 4, 2))
    check(
        Node("AdaptiveAveragePool", ("x",), ("y",), {"output_size": (3, 2)}, "porting_check"),
        noise(1, 2, 5, 5),
    )
    for mode in ("nearest", "linear", "cubic"):
        node = Node("Resize", ("x", "", "scales"), ("y",), {"mode": mode})
        check(node, noise(1, 2, 3, 4), None, np.float32([1, 1, 2, 1.5]), positions=(0,))
        node = Node(
            "Resize",
            ("x", "", "", "sizes"),
            ("y",),
            {"mode": mode, "coordinate_transformation_mode": "align_corners"},
        )
        check(node, noise(1, 2, 3, 4), None, None, np.int64([1, 2, 5, 7]))


def test_maxima():
    check(
        Node("MaxPool", ("x",), ("y",), {"kernel_shape": (3, 2), "strides": (1, 2), "pads": (1, 0, 1, 0)}),
        noise(1, 2, 5, 6),
    )
    check(Node("GlobalMaxPool", ("x",)), noise(2, 3, 3, 3))
    check(
        Node("AdaptiveMaxPool", ("x",), ("y",), {"output_size": (3, 2)}, "porting_check"), noise(1, 2, 5, 5)
    )
    check(
        Node("LpPool", ("x",), ("y",), {"kernel_shape": (2, 2), "strides": (2, 2), "p": 2}),
        noise(1, 2, 4, 4),
        tolerance=1e-5,
    )
    check(Node("GlobalLpPool", ("x",), ("y",), {"p": 3}), noise(1, 2, 4, 4), tolerance=1e-5)
    check(Node("TopK", ("x", "k"), ("v", "i")), noise(3, 7), np.int64([3]))


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare",
                                "ReduceLogSumExp"])  # fmt: skip
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions(op, keep):
    check(
        Node(op, ("x", "axes"), ("y",), {"keepdims": keep}), noise(2, 3, 4), np.int64([0, -1]), tolerance=1e-5
    )
    check(Node(op, ("x",), ("y",), {"keepdims": keep}), noise(2, 5), tolerance=1e-5)


def test_cumulative_sums():
    for attributes in ({}, {"reverse": 1}, {"exclusive": 1}, {"exclusive": 1, "reverse": 1}):
        check(Node("CumSum", ("x", "axis"), ("y",), attributes), noise(2, 5), np.int64(1))


def test_normalisations():
    gain, bias = noise(4) + 2, noise(4)
    mean, var = noise(4), np.abs(noise(4)) + 0.5
    check(Node("BatchNormalization", ("x", "g", "b", "m", "v")), noise(2, 4, 3, 2), gain, bias, mean, var)
    check(Node("LayerNormalization", ("x", "g", "b")), noise(3, 5, 4), gain, bias)
    check(Node("LayerNormalization", ("x", "g"), ("y",), {"axis": 1}), noise(3, 5, 4), noise(5, 4))
    check(Node("RMSNormalization", ("x", "g")), noise(3, 5, 4), gain)
    check(Node("InstanceNormalization", ("x", "g", "b")), noise(2, 4, 3, 3), gain, bias)
    check(
        Node("GroupNormalization", ("x", "g", "b"), ("y",), {"num_groups": 2}), noise(2, 4, 3, 3), gain, bias
    )
    for p in (1, 2):
        check(Node("LpNormalization", ("x",), ("y",), {"p": p, "axis": 1}), noise(2, 5, 3), tolerance=1e-5)


def test_softmaxes():
    for op in ("Softmax", "LogSoftmax"):
        check(Node(op, ("x",), ("y",), {"axis": 1}), noise(2, 5, 3) * 3)


MOVES = [
    (Node("Reshape", ("x", "s")), (np.int64([6, 4]),)), (Node("Transpose", ("x",), ("y",), {"perm": (2, 0, 1)}), ()),
    (Node("Slice", ("x", "a", "b", "c", "d")), (np.int64([1]), np.int64([4]), np.int64([2]), np.int64([2]))),
    (Node("Pad", ("x", "p"), ("y",), {"mode": "reflect"}), (np.int64([0, 1, 1, 0, 1, 2]),)),
    (Node("Pad", ("x", "p")), (np.int64([0, 1, 1, 0, 1, 2]),)), (Node("Expand", ("x", "s")), (np.int64([2, 2, 3, 4]),)),
    (Node("Tile", ("x", "r")), (np.int64([1, 2, 3]),)), (Node("Gather", ("x", "i"), ("y",), {"axis": 2}), (np.int64([1, 1, 3]),)),
    (Node("Trilu", ("x",)), ()), (Node("Flatten", ("x",)), ()), (Node("Squeeze", ("x",)), ()),
    (Node("Cast", ("x",), ("y",), {"to": 1}), ()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("node", "more"), MOVES, ids=lambda item: item.op_type if isinstance(item, Node) else ""
)
def test_moves(node, more):
    check(node, noise(2, 3, 4), *more)


def test_moves_of_several_operands_and_outputs():
    check(Node("Concat", ("a", "b"), ("y",), {"axis": 1}), noise(2, 3), noise(2, 2))
    check(Node("ScatterND", ("x", "i", "u")), noise(4, 3), np.int64([[1], [3]]), noise(2, 3))
    x = noise(4, 3)
    node = Node("Split", ("x",), ("a", "b"), {"axis": 0, "num_outputs": 2})
    outputs = evaluate_node(node, [x])
    ours, theirs = noise(2, 3, seed=3), noise(2, 3, seed=4)
    np.testing.assert_array_equal(vjp(node, [x], outputs, [ours, theirs])[0], np.concatenate([ours, theirs]))
    np.testing.assert_array_equal(vjp(node, [x], outputs, [None, theirs])[0][:2], 0)


def test_repeated_picks_add_up_and_are_counted():
    table, places = noise(5, 2), np.int64([3, 3, 3, 0])
    node = Node("Gather", ("table", "places"))
    g = np.ones((4, 2))
    gradient, limit = bounded(node, [table, places], [table[places]], [g], UNIT)[0]
    np.testing.assert_array_equal(gradient[:, 0], [1, 0, 0, 3, 0])
    assert limit[3, 0] > limit[0, 0] > 0


def test_what_has_no_rule_says_so():
    for node in (Node("LSTM", ("x", "w", "r")), Node("Relu", ("x",), ("y",), {}, "somebody.else")):
        with pytest.raises(NoAdjoint):
            vjp(node, [noise(2)], [noise(2)], [noise(2)])
    node = Node("BatchNormalization", ("x", "g", "b", "m", "v"), ("y",), {"training_mode": 1})
    with pytest.raises(NoAdjoint, match="training"):
        vjp(node, [noise(2, 3)] + [noise(3)] * 4, [noise(2, 3)], [noise(2, 3)])
    with pytest.raises(NoAdjoint, match="complex"):
        vjp(Node("Neg", ("x",)), [noise(2) + 0j], [noise(2) + 0j], [noise(2)])
    assert {"Conv", "Relu", "MaxPool", "Concat", "Softmax", "ReduceMean"} <= adjoint.supported()


def test_limit_covers_a_float32_evaluation_and_not_a_mistake():
    x, w, g = noise(64, 200), noise(200, 30), noise(64, 30)
    gradient, limit = bounded(Node("MatMul", ("x", "w")), [x, w], [x @ w], [g], UNIT)[1]
    rounded = x.astype(np.float32).T @ g.astype(np.float32)
    exact = vjp(
        Node("MatMul", ("x", "w")), [np.float64(np.float32(x)), w], [x @ w], [np.float64(np.float32(g))]
    )[1]
    assert (np.abs(rounded - exact) < limit).all()
    assert (np.abs(gradient * 1.001 - gradient) > limit).mean() > 0.5
