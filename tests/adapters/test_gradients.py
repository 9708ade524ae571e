"""Gradients of torch, TensorFlow and JAX under one contract, and against each other."""

from __future__ import annotations

from typing import Any

import jax
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from onnx import TensorProto, helper
from porting_check_jax import JaxAdapter
from porting_check_tensorflow.lite import LiteModel

from porting_check.neutral.errors import Unsupported
from porting_check.recorder.registry import load_adapter
from porting_check.testing.gradient_contract import GradientContract
from tests.adapters import gradient_jax, gradient_tensorflow, gradient_torch


class TestTorch(GradientContract):
    framework = "torch"

    def examples(self):
        return gradient_torch.examples()

    def state(self, model: Any) -> Any:
        flags = [(name, p.requires_grad, p.grad is None) for name, p in model.named_parameters()]
        hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
        return flags, hooks, torch.is_grad_enabled(), torch.random.get_rng_state().tolist()


class TestTensorFlow(GradientContract):
    framework = "tensorflow"

    def examples(self):
        return gradient_tensorflow.examples()

    def state(self, model: Any) -> Any:
        flags = [(v.name, v.trainable) for v in getattr(model, "variables", ())]
        generator = tf.random.get_global_generator().state.numpy().tolist()
        return (
            flags,
            generator,
            keras.config.floatx(),
            keras.config.dtype_policy().name,
            tf.executing_eagerly(),
        )


class TestJax(GradientContract):
    framework = "jax"
    lacks = {  # noqa: RUF012
        "in-place": "arrays of JAX cannot be written into",
        "frozen": "nothing marks a parameter as frozen: what is trained is what is differentiated",
    }

    def examples(self):
        return gradient_jax.examples()

    def state(self, model: Any) -> Any:
        return jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision


def test_models_made_for_inference_have_no_gradients() -> None:
    """ONNX files and TFLite files: the message says what to give instead."""
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    ones = np.ones(3, np.float32)
    with pytest.raises(Unsupported, match="exported from"):
        load_adapter("onnxruntime").gradients(model, {"x": ones}, {"y": ones})
    function = tf.function(lambda x: x * 2.0, input_signature=[tf.TensorSpec((3,))])
    data = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()]).convert()
    with pytest.raises(Unsupported, match="converted from"):
        load_adapter("tensorflow").gradients(LiteModel(data), {"0": ones}, {"0": ones})


def test_a_parameter_that_is_read_by_rows_is_differentiated_in_float64() -> None:
    """The kernel that reads rows of a variable ends the process when it is asked for another type than the variable's."""
    table = tf.Variable(np.arange(12, dtype=np.float32).reshape(4, 3) / 7)
    rows = tf.function(lambda i, x: tf.gather(table, i) * x)
    inputs = {"0": np.array([2, 0, 2]), "1": np.full((3, 3), 0.1, np.float32)}
    found = load_adapter("tensorflow").gradients(rows, inputs, {"0": np.ones((3, 3))}, float64=True)
    (key,) = [key for key in found if key.startswith("parameter:")]
    expected = np.zeros((4, 3))
    np.add.at(expected, inputs["0"], inputs["1"].astype(np.float64))
    np.testing.assert_array_equal(found[key], expected)


def test_loops_of_a_graph_are_differentiated_step_by_step() -> None:
    """As Python would have run them."""
    kernel = tf.Variable(0.5)

    def steps(x: Any) -> Any:
        for _ in tf.range(3):
            x = tf.sin(x) * kernel
        return x

    x, adapter = np.array([0.3, -2.0], np.float32), load_adapter("tensorflow")
    with tf.GradientTape() as tape:
        y = tf.constant(x)
        tape.watch(y)
        z = y
        for _ in range(3):
            z = tf.sin(z) * kernel
    to_input, to_kernel = tape.gradient(z, [y, kernel])
    for float64 in (False, True):
        found = adapter.gradients(
            tf.function(steps), {"0": x}, {"0": np.ones(2, np.float32)}, float64=float64
        )
        np.testing.assert_allclose(found["input:0"], to_input, rtol=1e-6)
        (key,) = [key for key in found if key.startswith("parameter:")]
        np.testing.assert_allclose(found[key], to_kernel, rtol=1e-6)


def test_loops_of_jax_are_differentiated_when_they_are_recorded_step_by_step() -> None:
    """``while`` has no gradient as one operator."""
    adapter = JaxAdapter()
    adapter.unroll = True
    x = np.array([0.5, 1.5], np.float32)
    found = adapter.gradients(gradient_jax.whiled, {"0": x}, {"0": np.ones(2, np.float32)})
    y, slope = x.astype(np.float64), np.ones(2)
    while y.sum() < 100:
        slope, y = slope * 2 * y, y * y + 1
    np.testing.assert_allclose(found["input:0"], slope, rtol=1e-5)
    assert {"while/0/mul:0", "while/1/mul:0"} <= found.keys()
