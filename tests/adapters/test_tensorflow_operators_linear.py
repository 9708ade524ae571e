"""Matrix products and reductions: nodes in float64 give what TensorFlow gives in float64."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from porting_check_tensorflow.described import Described
from porting_check_tensorflow.operators import describe_operator
from tensorflow.python.eager import context, execute

from porting_check.testing.replay import check_record
from tests.adapters.tensorflow_operators import ROUNDED, as_record, check, describe, operand

few = settings(max_examples=20, deadline=None)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("parameters", [(), (0,), (1,)], ids=str)
def test_matmul_with_and_without_a_parameter(left, right, parameters):
    a, b = noise(3, 2) if left else noise(2, 3), noise(4, 3) if right else noise(3, 4)
    found = check("MatMul", parameters, a=a, b=b, transpose_a=left, transpose_b=right)
    if parameters == (1,) and not left:
        assert str(found.nodes[0]) == "Gemm(alpha=1, beta=1, transA=0, transB=1)"
        assert (found.inputs[1].name, found.inputs[1].layout) == ("weight", "OI" if right else "IO")
    else:
        assert found.nodes[-1].op_type == "MatMul"


@pytest.mark.parametrize("op_type", ["BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("right", [False, True])
def test_batched_products_broadcast(op_type, left, right):
    lead = (2, 1) if op_type == "BatchMatMul" else (5, 2, 1)
    a, b = noise(*lead, *((3, 2) if left else (2, 3))), noise(2, 1, *((4, 3) if right else (3, 4)))
    kinds = {"Tout": tf.float64} if op_type == "BatchMatMulV3" else {}
    check(op_type, x=a, y=b, adj_x=left, adj_y=right, **kinds)


@pytest.mark.parametrize("right", [False, True])
def test_a_batched_product_with_a_weight_of_rank_two_presents_it_as_io(right):
    found = check(
        "BatchMatMulV2", (1,), x=noise(2, 5, 3), y=noise(4, 3) if right else noise(3, 4), adj_y=right
    )
    assert [node.op_type for node in found.nodes] == ["MatMul"]
    assert (found.inputs[1].layout, found.inputs[1].canonical) == ("OI" if right else "IO", "IO")


EQUATIONS = [
    ("ij,jk->ik", [(2, 3), (3, 4)]),
    ("bij,jk->bik", [(2, 3, 4), (4, 5)]),
    ("...ij,...jk->...ik", [(2, 1, 3, 4), (5, 4, 2)]),
]
EQUATIONS += [("bqhd,bkhd->bhqk", [(2, 3, 2, 4), (2, 5, 2, 4)]), ("ij->ji", [(2, 3)]), ("ii->i", [(3, 3)])]


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS, ids=[equation for equation, _ in EQUATIONS])
def test_einsum_keeps_its_equation(equation, shapes):
    found = check("Einsum", inputs=[noise(*shape) for shape in shapes], equation=equation)
    assert found.nodes[0].attributes["equation"] == equation


@pytest.mark.parametrize("fused", [("BiasAdd",), ("BiasAdd", "Relu"), ("BiasAdd", "Tanh")], ids="+".join)
@pytest.mark.parametrize("turned", [False, True])
def test_a_fused_product_is_taken_apart(fused, turned):
    arrays = [
        noise(2, 3).astype(np.float32),
        noise(*((4, 3) if turned else (3, 4))).astype(np.float32),
        noise(4).astype(np.float32),
    ]
    attributes = {"transpose_a": False, "transpose_b": turned, "fused_ops": list(fused), "num_args": 1}
    flat = tuple(item for pair in dict(attributes, T=1).items() for item in pair)
    result = execute.execute(
        b"_FusedMatMul", 1, [tf.constant(array) for array in arrays], flat, context.context()
    )[0]
    operands = [operand(tf.constant(array), place > 0) for place, array in enumerate(arrays)]
    found = describe_operator("_FusedMatMul", attributes, operands, [operand(result, False)])
    assert isinstance(found, Described), found
    check_record(*as_record("_FusedMatMul", found, arrays, [result.numpy()]), **ROUNDED)


@pytest.mark.parametrize("approximate", [False, True])
def test_a_gelu_fused_into_a_product_says_which_one(approximate):
    """TensorFlow has this fusion with oneDNN or a GPU only, so its parts give the expected value."""
    arrays = [noise(2, 3).astype(np.float32), noise(3, 4).astype(np.float32), noise(4).astype(np.float32)]
    expected = tf.nn.gelu(arrays[0] @ arrays[1] + arrays[2], approximate=approximate)
    attributes = {"fused_ops": ["BiasAdd", "GeluApproximate" if approximate else "GeluExact"]}
    operands = [operand(tf.constant(array), place > 0) for place, array in enumerate(arrays)]
    found = describe_operator("_FusedMatMul", attributes, operands, [operand(expected, False)])
    assert isinstance(found, Described), found
    check_record(*as_record("_FusedMatMul", found, arrays, [expected.numpy()]), **ROUNDED)


AXES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)


@pytest.mark.parametrize("op_type", ["Mean", "Sum", "Prod", "Max", "Min", "EuclideanNorm", "All", "Any"])
@few
@given(st.data(), AXES, st.booleans())
def test_reductions_over_any_axes(op_type, data, shape, keep):
    rank = len(shape)
    axes = data.draw(
        st.lists(st.integers(-rank, rank - 1), max_size=rank, unique_by=lambda axis: axis % rank)
    )
    x = noise(*shape)
    check(
        op_type,
        input=x > 0 if op_type in ("All", "Any") else x,
        axis=np.array(axes, np.int32),
        keep_dims=keep,
    )


def test_a_reduction_over_one_axis_given_as_a_scalar():
    found = check("Mean", input=noise(2, 3, 4), axis=-1)
    assert found.constants["axes"].tolist() == [2]


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("kind", [tf.int32, tf.int64])
@few
@given(st.data(), AXES)
def test_positions_of_extremes_take_the_first_of_equals(op_type, kind, data, shape):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    check(op_type, input=np.round(noise(*shape)), dimension=axis, output_type=kind)


@few
@given(st.data(), AXES, st.booleans(), st.booleans())
def test_running_sums(data, shape, exclusive, reverse):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    check("Cumsum", x=noise(*shape), axis=axis, exclusive=exclusive, reverse=reverse)


@few
@given(st.integers(1, 5))
def test_the_largest_keep_the_order_of_equals(k):
    found = check("TopKV2", input=np.round(noise(2, 3, 5)), k=k)
    assert [spec.name for spec in found.outputs] == ["y0", "y1"]


def test_axes_that_a_model_computes_are_read_all_the_same():
    found, _, _ = describe("Sum", input=noise(2, 3), axis=np.array(1))
    assert isinstance(found, Described)
    assert len(found.inputs) == 1
