"""Whole models in float64, in every framework."""

from __future__ import annotations

import io
import warnings

import equinox as eqx
import flax.linen as linen
import jax
import jax.numpy as jnp
import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
import torch
from flax import nnx
from onnx import TensorProto, helper
from porting_check_onnxruntime.float64 import _conv
from torch import nn

from porting_check.neutral.errors import RunError
from porting_check.recorder.registry import load_adapter
from porting_check.testing.float64_contract import Float64Contract, Wide


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


IMAGE = noise(2, 3, 10, 12)
LAST = np.ascontiguousarray(IMAGE.transpose(0, 2, 3, 1))
TOKENS = np.array([[1, 2, 3], [4, 0, 6]], np.int64)


# torch.


def torch_net():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.GELU(), nn.Flatten(), nn.Linear(960, 5)]
    return nn.Sequential(*layers).eval()


class Tokens(nn.Module):
    """Reads integers, gives one back, and holds a tensor that is neither parameter nor buffer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.scale = nn.Embedding(8, 6), torch.linspace(0.1, 0.7, 6)

    def forward(self, tokens):
        found = self.table(tokens)
        return {"values": (found * self.scale) @ torch.full((6, 4), 0.3), "next": tokens + 1}


class Casting(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(12, 4)

    def forward(self, x):
        return torch.softmax(self.inner(x).float(), -1)


def closure():
    torch.manual_seed(0)
    inner, weight = nn.Linear(12, 4), torch.randn(12, 4)
    return lambda x: inner(x) + x @ weight


def compiled():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(torch_net())


class TestTorch(Float64Contract):
    framework = "torch"

    def state(self):
        return torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.is_grad_enabled()

    def models(self):
        exported = lambda: torch.export.export(torch_net(), (torch.from_numpy(IMAGE),))  # noqa: E731
        return [
            Wide("network", torch_net, {"0": IMAGE}),
            Wide("tokens", Tokens, {"0": TOKENS}),
            Wide("closure", closure, {"0": IMAGE}),
            Wide("bound method", lambda: torch_net().forward, {"0": IMAGE}),
            Wide("TorchScript", compiled, {"0": IMAGE}),
            Wide("exported", exported, {"0": IMAGE}),
            Wide("casts", Casting, {"0": IMAGE}, inside="to_copy.* gives float32"),
            Wide(
                "script function",
                lambda: torch.jit.script(_doubled),
                {"0": IMAGE},
                unsupported="compiled function",
            ),
        ]


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def test_an_explicit_cast_in_torch_is_named_with_its_layer():
    class Inside(nn.Module):
        def forward(self, x):
            return x.half()

    adapter = load_adapter("torch")
    adapter.float64_outputs(nn.Sequential(nn.Flatten(), Inside()), {"0": IMAGE})
    assert adapter.notes == ("to_copy in 1 gives float16 also when it is given float64",)


# TensorFlow and Keras.


def keras_net():
    keras.utils.set_random_seed(0)
    L = keras.layers
    layers = [
        L.Conv2D(8, 3, padding="same"),
        L.BatchNormalization(),
        L.ReLU(),
        L.LayerNormalization(),
        L.Flatten(),
    ]
    return keras.Sequential([keras.Input((10, 12, 3)), *layers, L.Dense(5)])


class Nested(keras.Model):
    """Made from layers that it is given: no configuration makes it again."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        for layer in self.inner:
            x = layer(x)
        return x


def subclassed(*more):
    keras.utils.set_random_seed(0)
    model = Nested([keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(), *more])
    model(LAST)
    return model


def upsampling():
    return keras.layers.UpSampling2D(2, interpolation="bilinear")


def keras_gelu():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((12,)), keras.layers.Dense(6, activation="gelu")])


def keras_tokens():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((3,), dtype="int32"), keras.layers.Embedding(8, 6), keras.layers.LSTM(4)]
    )


class Module(tf.Module):
    def __init__(self):
        self.kernel = tf.Variable(noise(3, 3, 3, 4))
        self.ones = tf.Variable(np.full(4, 1.1, np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, 10, 12, 3), name="x")])
    def __call__(self, x):
        y = tf.nn.conv2d(x, self.kernel, 1, "SAME")
        moments = {"mean": self.ones, "variance": self.ones}
        y = tf.compat.v1.nn.fused_batch_norm(y, self.ones, self.ones, **moments, is_training=False)[0]
        return {"y": tf.nn.relu(y) + 0.3, "count": tf.size(x)}


@tf.function
def resizing(x):
    return tf.image.resize(x, (15, 17))


def lite():
    converter = tf.lite.TFLiteConverter.from_keras_model(keras_gelu())
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.tflite"
        path.write_bytes(converter.convert())
        return load_adapter("tensorflow").load(str(path))


class TestTensorFlow(Float64Contract):
    framework = "tensorflow"

    def state(self):
        return (
            keras.config.dtype_policy().name,
            keras.config.floatx(),
            tf.config.optimizer.get_experimental_options(),
        )

    def models(self):
        flat = {"0": IMAGE[0, 0]}
        return [
            Wide("keras", keras_net, {"0": LAST}),
            Wide("tokens", keras_tokens, {"0": TOKENS.astype(np.int32)}),
            Wide("gelu", keras_gelu, flat, inside="constant 0.7071.* was rounded to float32"),
            Wide("subclassed", subclassed, {"0": LAST}, inside="graph that it is traced to"),
            Wide(
                "upsampling", lambda: subclassed(upsampling()), {"0": LAST}, inside="ResizeBilinear .*float32"
            ),
            Wide("module", Module, {"x": LAST}, inside="stores its constants"),
            Wide("function", lambda: resizing, {"0": LAST}, inside="ResizeBilinear .*float32"),
            Wide("TFLite", lite, {"0": IMAGE[0, 0]}, unsupported="kernels for float32 and integers only"),
        ]


def test_a_layer_of_keras_that_stays_float32_is_named():
    adapter = load_adapter("tensorflow")
    model = keras.Sequential(
        [keras.Input((10, 12, 3)), keras.layers.UpSampling2D(interpolation="bilinear", name="up")]
    )
    found = adapter.float64_outputs(model, {"0": LAST})["0"]
    assert adapter.notes == ("ResizeBilinear in up gives float32 also when it is given float64",)
    assert np.mean(found == found.astype(np.float32)) == 1.0


def test_a_graph_in_float64_agrees_with_keras_own_float64():
    adapter, model = load_adapter("tensorflow"), keras_net()
    native = adapter.float64_outputs(model, {"0": LAST})["0"]
    assert adapter.notes == ()
    graph = adapter.float64_outputs(tf.function(lambda x: model(x, training=False)), {"0": LAST})["0"]
    assert 0 < np.abs(native - graph).max() < 1e-7 * np.abs(native).max()  # epsilon is a float32 in the graph


# JAX.


class Linen(linen.Module):
    dtype: object = None

    @linen.compact
    def __call__(self, x):
        x = linen.gelu(linen.LayerNorm()(linen.Conv(8, (3, 3))(x)), approximate=False)
        return linen.Dense(5, dtype=self.dtype)(x.reshape(x.shape[0], -1))


def linen_net(dtype=None):
    net = Linen(dtype)
    return net, net.init(jax.random.key(0), LAST)


def nnx_net():
    return nnx.Sequential(nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)), nnx.LayerNorm(4, rngs=nnx.Rngs(0)))


def jax_kernel():
    kernel = jnp.asarray(noise(3, 3, 3, 4))
    return lambda x: jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


class TestJax(Float64Contract):
    framework = "jax"

    def state(self):
        return jax.config.jax_enable_x64

    def models(self):
        weights = {"w": jnp.asarray(noise(6, 4)), "table": jnp.asarray(noise(8, 6))}
        network = eqx.nn.MLP(12, 4, 8, 2, key=jax.random.key(0))
        return [
            Wide("linen", linen_net, {"0": LAST}),
            Wide("jitted", lambda: (jax.jit(linen_net()[0].apply), linen_net()[1]), {"0": LAST}),
            Wide("nnx", nnx_net, {"0": LAST}),
            Wide("equinox", lambda: network, {"0": IMAGE[0, 0, 0]}),
            Wide("closure over a module", lambda: jax.vmap(network), {"0": IMAGE[0, 0]}),
            Wide(
                "tokens",
                lambda: (lambda p, t: (p["table"][t] @ p["w"], t + 1), weights),
                {"0": TOKENS.astype(np.int32)},
            ),
            Wide("fixed dtype", lambda: linen_net(jnp.float32), {"0": LAST}, inside="Dense_0 gives float32"),
            Wide("closed over", jax_kernel, {"0": LAST}, unsupported="closes over float32"),
        ]


# ONNX.


def exported(network, x):
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.from_numpy(x),), buffer, dynamo=False, input_names=["x"], opset_version=18
        )
    return onnx.load_from_string(buffer.getvalue())


def resampling():
    torch.manual_seed(0)
    layers = [
        nn.ConvTranspose2d(3, 3, 3, dilation=2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.AvgPool2d(2),
    ]
    return exported(nn.Sequential(*layers).eval(), IMAGE)


def one_node(op_type, kind=TensorProto.FLOAT, **attributes):
    ends = [helper.make_tensor_value_info(name, kind, None) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node(op_type, ["x"], ["y"], **attributes)], "g", ends[:1], ends[1:]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def fused():
    """An operator of ONNX Runtime's own, which has a kernel for float32 only."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    node = helper.make_node("FusedConv", ["x", "w"], ["y"], domain="com.microsoft", activation="Relu")
    weight = onnx.numpy_helper.from_array(noise(4, 3, 3, 3), "w")
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weight])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


class TestOnnxRuntime(Float64Contract):
    framework = "onnxruntime"

    def models(self):
        return [
            Wide(
                "network",
                lambda: exported(torch_net(), IMAGE),
                {"x": IMAGE},
                inside="no kernels in float64 for Conv",
            ),
            Wide("resampling", resampling, {"x": IMAGE}, inside="no kernels in float64 for .*Resize"),
            Wide("softmax", lambda: one_node("Softmax", axis=-1), {"x": IMAGE}),
            Wide("integers", lambda: one_node("Neg", TensorProto.INT64), {"x": TOKENS}),
            Wide("elu", lambda: one_node("Elu", alpha=0.7), {"x": IMAGE}, inside="stores real attributes"),
            Wide(
                "hard swish",
                lambda: one_node("HardSwish"),
                {"x": IMAGE},
                inside="HardSwish .*1/6 as a float32",
            ),
            Wide("foreign", fused, {"x": IMAGE}, unsupported="nothing here computes FusedConv"),
        ]


@pytest.mark.parametrize(
    ("groups", "strides", "dilations"), [(1, (1, 1), (1, 1)), (2, (2, 1), (1, 2)), (4, (1, 3), (2, 2))]
)
def test_the_convolution_of_the_onnx_adapter_is_torchs(groups, strides, dilations):
    x, w, b = noise(2, 4, 9, 11).astype("f8"), noise(8, 4 // groups, 3, 2).astype("f8"), noise(8).astype("f8")
    attributes = {"group": groups, "strides": strides, "dilations": dilations, "pads": (1, 0, 2, 3)}
    padded = nn.functional.pad(torch.from_numpy(x), (0, 3, 1, 2))
    expected = nn.functional.conv2d(padded, *map(torch.from_numpy, (w, b)), strides, 0, dilations, groups)
    np.testing.assert_allclose(_conv([x, w, b], attributes), expected.numpy(), rtol=1e-12, atol=1e-12)


def test_a_model_that_raises_in_float64_says_so():
    class Fixed(nn.Module):
        def forward(self, x):
            if x.dtype != torch.float32:
                raise TypeError("only float32 here")
            return x * 2

    with pytest.raises(RunError, match="in float64.*only float32 here"):
        load_adapter("torch").float64_outputs(Fixed(), {"0": IMAGE})
