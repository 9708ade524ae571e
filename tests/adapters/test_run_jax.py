"""What JAX makes of nodes beyond the contract of test_jax.py: places, types, kept programs, threads, settings."""

from __future__ import annotations

import concurrent.futures
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from porting_check_jax import run_program
from porting_check_jax.precision import x64
from porting_check_jax.run import PROGRAMS, run

from porting_check.neutral.errors import RunError, UnsupportedNode
from porting_check.neutral.node import Node


def test_what_cannot_be_run_is_refused_with_a_reason() -> None:
    x = np.ones((3, 2), np.float32)
    for op_type in ("Exp", "Softmax", "Sigmoid", "Gelu", "Det"):
        with pytest.raises(UnsupportedNode, match="input 0 is int32, a floating type is needed"):
            run(Node(op_type, ("x",)), [np.ones((2, 2), np.int32)])
    with pytest.raises(UnsupportedNode, match=r"jax.*datetime64"):
        run(Node("Identity", ("x",)), [np.zeros(2, "datetime64[s]")])
    with pytest.raises(RunError, match="do not add up"):
        run(Node("Split", ("x", "s"), ("y", "z")), [x, np.array([1, 1])])
    with pytest.raises(RunError, match="k is 3"):
        run(Node("TopK", ("x", "k"), ("y", "z")), [x, np.array([3])])
    with pytest.raises(UnsupportedNode, match="not of the same width"):
        run(Node("BitCast", ("x",), attributes={"to": 11}), [x])


@pytest.mark.parametrize(
    ("op_type", "indices", "attributes"),
    [
        ("Gather", [[0, 3]], {}),
        ("Gather", [[0, 2]], {"axis": -1}),
        ("GatherElements", [[0, -4]], {}),
        ("ScatterElements", [[3, 0]], {}),
        ("GatherND", [[2, 2]], {}),
        ("GatherND", [[1], [0], [-3]], {"batch_dims": 1}),
        ("ScatterND", [[-4, 1]], {}),
    ],
)
def test_indices_out_of_bounds_are_refused(op_type: str, indices: Any, attributes: dict[str, Any]) -> None:
    inputs = [np.ones((3, 2), np.float32), np.array(indices)]
    if op_type.startswith("Scatter"):
        inputs.append(np.ones(inputs[1].shape[: 2 if op_type == "ScatterElements" else 1], np.float32))
    node = Node(op_type, ("x", "i", "u")[: len(inputs)], attributes=attributes)
    run(node, [inputs[0], inputs[1] * 0, *inputs[2:]])
    with pytest.raises(RunError, match=rf"{op_type}.*index .* is out of bounds for data of shape \(3, 2\)"):
        run(node, inputs)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint8, np.uint16, np.uint32, np.uint64])
def test_integers_of_every_width_are_computed_in_their_type(dtype: Any) -> None:
    top = np.iinfo(dtype).max
    a, b = np.array([[7, top], [3, 100]], dtype), np.array([[2, 3], [5, 4]], dtype)
    with np.errstate(over="ignore"):
        wanted = {
            ("Add", "ab"): a + b,
            ("Mul", "ab"): a * b,
            ("Div", "ab"): a // b,
            ("Max", "ab"): np.maximum(a, b),
            ("Mod", "ab"): a % b,
            ("Pow", "ab"): a**b,
            ("MatMul", "ab"): a @ b,
            ("Sign", "a"): np.ones_like(a),
            ("ReduceSum", "a"): a.sum(dtype=dtype, keepdims=True),
            ("ReduceMax", "a"): a.max(keepdims=True),
        }
    for (op_type, names), result in wanted.items():
        (found,) = run(Node(op_type, tuple(names)), [a, b][: len(names)])
        assert (op_type, found.dtype, found.tolist()) == (op_type, dtype, result.tolist())
    (place,) = run(Node("ArgMax", ("a",), attributes={"keepdims": 0}), [a])
    assert (place.dtype, place.tolist()) == (np.int64, a.argmax(0).tolist())


def test_large_unsigned_and_big_endian_numbers_keep_their_values() -> None:
    (found,) = run(Node("Pow", ("a", "b")), [np.array([2**63], np.uint64), np.array([1], np.uint64)])
    assert found.tolist() == [2**63]
    (swapped,) = run(Node("Identity", ("x",)), [np.array([1, 2], ">i4")])
    assert (swapped.dtype, swapped.tolist()) == (np.int32, [1, 2])


@pytest.mark.parametrize("source", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("number", [17, 18, 19, 20, 23])
def test_casts_to_narrow_floats_round_to_the_nearest(source: Any, number: int) -> None:
    dtype = {
        17: ml_dtypes.float8_e4m3fn,
        18: ml_dtypes.float8_e4m3fnuz,
        19: ml_dtypes.float8_e5m2,
        20: ml_dtypes.float8_e5m2fnuz,
        23: ml_dtypes.float4_e2m1fn,
    }[number]
    rng, limit = np.random.default_rng(number), float(ml_dtypes.finfo(dtype).max)
    x = np.concatenate(
        [rng.normal(size=4000) * 2.0 ** rng.uniform(-12, 8, 4000), [0.0, 0.25, 0.75, 2.5, -5.0]]
    )
    x = np.clip(x, -limit, limit).astype(source)
    (found,) = run(Node("Cast", ("x",), attributes={"to": number}), [x])
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found.astype(np.float64), x.astype(dtype).astype(np.float64))


def test_division_by_one_number_rounds_once() -> None:
    x, y = np.random.default_rng(0).normal(size=2000).astype(np.float32), np.float32(0.0196)
    assert np.mean(x / y != x * (np.float32(1) / y)) > 0.1  # what XLA would make of it
    np.testing.assert_array_equal(run(Node("Div", ("x", "y")), [x, y])[0], x / y)
    (mean,) = run(Node("Mean", ("x", "x", "y")), [x, x, y])
    np.testing.assert_array_equal(mean, (x + x + y) / np.float32(3))


def test_results_are_owned_and_writable() -> None:
    x = np.ones((64, 64), np.float32)
    for op_type in ("Identity", "Relu", "Flatten", "Dropout"):
        (found,) = run(Node(op_type, ("x",)), [x])
        found[:] = 7
        assert (x == 1).all()
        (again,) = run(Node(op_type, ("x",)), [x])
        assert (again == 1).all()


def test_programs_are_kept_by_shapes_types_and_the_values_that_decide_shapes() -> None:
    x = np.arange(12, dtype=np.float32)
    for shape in ((3, 4), (2, 6), (3, 4)):
        assert run(Node("Reshape", ("x", "s")), [x, np.array(shape)])[0].shape == shape
    for slope in (1, 1.5, 0.0, -0.0):
        (found,) = run(Node("LeakyRelu", ("x",), attributes={"alpha": slope}), [-x])
        np.testing.assert_array_equal(np.copysign(1, found[1:]), np.full(11, np.copysign(1, -slope)))
    for data in ([0, 1, 1], [1, 1, 1], [0, 0, 0]):
        assert run(Node("NonZero", ("x",)), [np.array(data)])[0].tolist() == [np.flatnonzero(data).tolist()]
    programs = run_program.Programs(limit=2)
    for size in (1, 2, 3, 1):
        with x64():
            (result,) = programs.execute(lambda call: call.x + 1, Node("Add", ("x",)), [np.ones(size)], False)
        assert (result.shape, result.dtype) == ((size,), np.float64)
    assert len(programs) == 2


def test_threads_do_not_disturb_each_other() -> None:
    def add(size: int) -> np.ndarray:
        return run(Node("Add", ("x", "y")), [np.full(size, 2**40), np.arange(size)])[0]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for size, found in zip((3, 4, 5, 3, 4, 5), pool.map(add, (3, 4, 5, 3, 4, 5)), strict=True):
            np.testing.assert_array_equal(found, 2**40 + np.arange(size))


def test_nothing_of_the_process_is_changed() -> None:
    def state() -> tuple[Any, ...]:
        config = jax.config
        return (
            config.jax_enable_x64,
            config.jax_default_matmul_precision,
            config.jax_numpy_dtype_promotion,
            config.jax_default_device,
            config.jax_debug_nans,
            jnp.ones(2).dtype,
            jnp.arange(2).dtype,
        )

    before = state()
    assert before[5:] == (np.float32, np.int32)
    rng = np.random.default_rng(0)
    w, r = rng.normal(size=(1, 8, 3)), rng.normal(size=(1, 8, 2))
    run(Node("LSTM", ("x", "w", "r"), ("y",), {"hidden_size": 2}), [rng.normal(size=(4, 2, 3)), w, r])
    assert state() == before
    for refused, error in ((Node("Blur", ("x",)), UnsupportedNode), (Node("MatMul", ("x", "x")), RunError)):
        with pytest.raises(error):
            run(refused, [w] * len(refused.inputs))
        assert state() == before


def test_the_settings_of_the_caller_do_not_matter() -> None:
    x = np.array([[1.0, 0.0], [2.0, 3.0]], np.float32)
    settings = (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.debug_nans(True),
        jax.disable_jit(True),
        jax.default_matmul_precision("bfloat16"),
    )
    for setting in settings:
        PROGRAMS.clear()
        with setting:
            (found,) = run(Node("Div", ("x", "y")), [x, np.zeros(2, np.float32)])
            assert np.isnan(found[0, 1])
            (found,) = run(Node("Pow", ("x", "y")), [x, np.array(2)])
            np.testing.assert_array_equal(found, x**2)
            third = x / np.float32(3)
            np.testing.assert_allclose(
                run(Node("MatMul", ("x", "y")), [third, third])[0], third @ third, 1e-6
            )
