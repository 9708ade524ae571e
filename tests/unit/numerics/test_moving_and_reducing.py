"""Shapes, padding, indexing, reductions and arithmetic: what the conformance data of ONNX leaves out."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from porting_check.neutral.node import Node
from porting_check.numerics.operators import moves_data, supported
from porting_check.numerics.truth import evaluate_node
from tests.unit.numerics.close import FEW, run

torch = pytest.importorskip("torch")
seeds = st.integers(0, 2**31)
DTYPES = [
    np.float32,
    np.float16,
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    np.int64,
    np.uint8,
    bool,
    np.complex64,
]

INDEX = np.array([1, 0])
MOVES = {
    "Transpose": ([], {"perm": (1, 0)}),
    "Reshape": ([np.array([3, -1])], {}),
    "Flatten": ([], {}),
    "Squeeze": ([], {}),
    "Unsqueeze": ([np.array([1])], {}),
    "Split": ([], {"num_outputs": 2}),
    "Slice": ([np.array([-1]), np.array([-99]), np.array([1]), np.array([-1])], {}),
    "Pad": ([np.array([0, 1, 1, 0])], {}),
    "Expand": ([np.array([2, 1, 1])], {}),
    "Tile": ([np.array([2, 1])], {}),
    "Gather": ([INDEX], {"axis": 1}),
    "GatherElements": ([np.array([[1, 0, 1]])], {}),
    "GatherND": ([np.array([[1, 2]])], {}),
    "Identity": ([], {}),
    "Dropout": ([], {}),
    "Trilu": ([], {}),
    "Compress": ([np.array([True, False])], {"axis": 0}),
    "ReverseSequence": ([np.array([1, 2, 2])], {}),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("op_type", sorted(MOVES))
def test_movement_keeps_any_dtype_and_every_bit(op_type: str, dtype: type) -> None:
    assert moves_data(op_type)
    rest, attributes = MOVES[op_type]
    numbers = np.array([[0, 1, 1], [1, 0, 1]])
    node = Node(op_type, ("x",) + ("i",) * len(rest), ("y",), attributes)
    (found,) = evaluate_node(node, [numbers.astype(dtype), *rest])
    (expected,) = evaluate_node(node, [numbers, *rest])
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected.astype(dtype))


def test_nan_payloads_and_negative_zeros_are_moved_as_they_are() -> None:
    bits = np.array([0x7FC00001, 0xFFC12345, 0x80000000, 0x7F800001], np.uint32)
    (found,) = run("Concat", [bits.view(np.float32)[:2], bits.view(np.float32)[2:]], axis=0)
    np.testing.assert_array_equal(found.view(np.uint32), bits)


@FEW
@given(seeds, st.sampled_from(["constant", "reflect", "edge", "wrap", "symmetric"]))
def test_pad_is_that_of_numpy_and_negative_amounts_crop(seed: int, mode: str) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4, 5, 6))
    begins, ends = rng.integers(-1, 4, 3), rng.integers(-1, 4, 3)
    (found,) = run("Pad", [x, np.concatenate([begins, ends])], mode=mode)
    kept = x[tuple(slice(max(-b, 0), n - max(-e, 0)) for n, b, e in zip(x.shape, begins, ends))]
    np.testing.assert_array_equal(found, np.pad(kept, np.maximum(np.stack([begins, ends], 1), 0), mode=mode))


def test_symmetric_padding_is_that_of_tensorflow() -> None:
    found = run("Pad", [np.array([1.0, 2, 3]), np.array([2, 3])], mode="symmetric")[0]
    np.testing.assert_array_equal(found, [2, 1, 1, 2, 3, 3, 2, 1])
    with pytest.raises(ValueError, match="mode"):
        run("Pad", [np.zeros(3), np.array([1, 1])], mode="mirror")


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_space_to_depth_undoes_depth_to_space(mode: str) -> None:
    x = np.arange(2.0 * 12 * 3 * 5).reshape(2, 12, 3, 5)
    (wide,) = run("DepthToSpace", [x], blocksize=2, mode=mode)
    np.testing.assert_array_equal(run("SpaceToDepth", [wide], blocksize=2, mode=mode)[0], x)
    if mode == "CRD":
        np.testing.assert_array_equal(wide, torch.pixel_shuffle(torch.from_numpy(x), 2))


@FEW
@given(seeds, st.sampled_from(["none", "add", "mul", "max", "min"]), st.integers(-3, 2))
def test_scatter_elements_is_that_of_torch(seed: int, reduction: str, axis: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((3, 4, 5))
    sizes = [3, 4, 5]
    sizes[axis] = 3
    indices = np.argsort(rng.random([*sizes[:axis], x.shape[axis], *sizes[axis:][1:]]), axis)  # no duplicates
    indices = np.take(indices, np.arange(3), axis)
    updates = rng.standard_normal(indices.shape)
    (found,) = run("ScatterElements", [x, indices, updates], axis=axis, reduction=reduction)
    names = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
    arguments = (torch.from_numpy(x), axis, torch.from_numpy(indices), torch.from_numpy(updates))
    expected = (
        torch.scatter(*arguments)
        if reduction == "none"
        else torch.scatter_reduce(*arguments, names[reduction])
    )
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-15)


@pytest.mark.parametrize("op_type", ["Gather", "GatherElements", "GatherND", "ScatterND"])
def test_an_index_out_of_range_has_no_truth(op_type: str) -> None:
    shape = (1, 1) if op_type.endswith("ND") else (1,)
    inputs = [np.zeros(3), np.full(shape, 3)] + ([np.zeros(1)] if op_type == "ScatterND" else [])
    with pytest.raises(ValueError, match="outside"):
        run(op_type, inputs)


@FEW
@given(
    seeds,
    st.sampled_from(["ReduceLogSumExp", "ReduceL2", "ReduceMean", "ReduceMax", "ReduceProd"]),
    st.booleans(),
)
def test_reductions_are_those_of_torch(seed: int, op_type: str, keep: bool) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 3, 4)) * 300
    axes = tuple(int(axis) for axis in rng.choice(3, rng.integers(1, 3), replace=False))
    (found,) = run(op_type, [x, np.array(axes)], keepdims=int(keep))
    t = torch.from_numpy(x)
    expected = {
        "ReduceLogSumExp": lambda: torch.logsumexp(t, axes, keep),
        "ReduceL2": lambda: torch.linalg.vector_norm(t, 2, axes, keep),
        "ReduceMean": lambda: t.mean(axes, keep),
        "ReduceMax": lambda: t.amax(axes, keep),
        "ReduceProd": lambda: torch.from_numpy(x.prod(axes, keepdims=keep)),
    }[op_type]()
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-13)


def test_no_axes_means_all_of_them_or_none() -> None:
    x = np.arange(6.0).reshape(2, 3)
    assert run("ReduceSum", [x])[0].tolist() == [[15.0]]
    np.testing.assert_array_equal(run("ReduceSum", [x, np.array([], int)], noop_with_empty_axes=1)[0], x)
    np.testing.assert_array_equal(run("ReduceSum", [x], axes=(1,), keepdims=0)[0], [3, 12])


def test_division_of_integers_truncates_and_mod_knows_both_signs() -> None:
    a, b = np.array([-7, 7, -7, 7, 6]), np.array([3, -3, -3, 3, -3])
    np.testing.assert_array_equal(run("Div", [a, b])[0], [-2, -2, 2, 2, -2])
    np.testing.assert_array_equal(
        run("Mod", [a, b])[0], torch.remainder(torch.from_numpy(a), torch.from_numpy(b))
    )
    np.testing.assert_array_equal(
        run("Mod", [a, b], fmod=1)[0], torch.fmod(torch.from_numpy(a), torch.from_numpy(b))
    )
    floats = np.array([-7.5, 7.5]), np.array([2.0, -2.0])
    np.testing.assert_array_equal(
        run("Mod", list(floats))[0], torch.remainder(*map(torch.from_numpy, floats))
    )


def test_rounding_is_half_to_even() -> None:
    np.testing.assert_array_equal(run("Round", [np.array([0.5, 1.5, 2.5, -0.5, -1.5])])[0], [0, 2, 2, 0, -2])


@FEW
@given(
    seeds,
    st.sampled_from(
        ["ij,jk->ik", "bij,bkj->bik", "bhqd,bhkd->bhqk", "...ij,j->...i", "ii->i", "ij->", "abc,cd,de->abe"]
    ),
)
def test_einsum_is_that_of_torch(seed: int, equation: str) -> None:
    rng = np.random.default_rng(seed)
    sizes = {letter: int(rng.integers(1, 5)) for letter in "abcdehijkq"}
    lead = (2, 3) if "..." in equation else ()
    operands = []
    for term in equation.split("->")[0].split(","):
        shape = lead if term.startswith("...") else ()
        operands.append(
            rng.standard_normal(shape + tuple(sizes[letter] for letter in term.replace("...", "")))
        )
    expected = torch.einsum(equation, *map(torch.from_numpy, operands)).numpy()
    np.testing.assert_allclose(
        run("Einsum", operands, equation=equation)[0], expected, rtol=1e-12, atol=1e-12
    )


def test_gemm_scales_transposes_and_broadcasts() -> None:
    rng = np.random.default_rng(0)
    a, b, c = rng.standard_normal((4, 2)), rng.standard_normal((3, 4)), rng.standard_normal(3)
    (found,) = run("Gemm", [a, b, c], transA=1, transB=1, alpha=0.5, beta=2.0)
    np.testing.assert_allclose(found, 0.5 * a.T @ b.T + 2 * c, rtol=1e-14)
    with pytest.raises(ValueError, match="matrices"):
        run("Gemm", [a[None], b])


def test_dropout_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="training"):
        run("Dropout", [np.ones(3), np.array(0.5), np.array(True)])


def test_the_operators_the_project_promises_are_all_here() -> None:
    promised = """
    Conv ConvTranspose MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool
    AdaptiveAveragePool AdaptiveMaxPool Gemm MatMul Einsum BatchNormalization LayerNormalization
    GroupNormalization InstanceNormalization RMSNormalization LRN LpNormalization
    MeanVarianceNormalization Relu LeakyRelu PRelu Elu Selu Celu Gelu HardSigmoid HardSwish Sigmoid
    Softplus Softsign Swish Mish Tanh ThresholdedRelu Softmax LogSoftmax Hardmax Shrink Clip Erf Add Sub
    Mul Div Pow Mod Max Min Mean Sum Abs Neg Exp Log Sqrt Reciprocal Floor Ceil Round Sign Sin Cos Tan
    Asin Acos Atan Sinh Cosh Asinh Acosh Atanh And Or Not Xor Equal Less LessOrEqual Greater
    GreaterOrEqual Where Cast IsNaN IsInf ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1
    ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare ArgMax ArgMin TopK CumSum Identity Dropout
    Reshape Flatten Transpose Squeeze Unsqueeze Concat Split Slice Pad Expand Tile Shape Size Gather
    GatherElements GatherND ScatterND ScatterElements Constant ConstantOfShape Range OneHot DepthToSpace
    SpaceToDepth Trilu EyeLike NonZero Resize Upsample GridSample LSTM GRU RNN Attention RotaryEmbedding
    """
    assert set(promised.split()) <= supported()
