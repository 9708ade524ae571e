"""The second opinion on real ports: the whole models in float64, each in its own framework."""

from __future__ import annotations

import io
import warnings as python_warnings

import jax.numpy as jnp
import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
import torch
from torch import nn

import porting_check as pc
from porting_check.examination import examine
from porting_check.neutral.trace import float64_outputs
from porting_check.shadow import shadow, warnings


def noise(*shape, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def second(reference, candidate, x, y=None):
    """The section for a reference on x and a candidate on the same input in its own layout."""
    sides = (
        pc.record(reference, x, float64=True),
        pc.record(candidate, x if y is None else y, float64=True),
    )
    return shadow(examine(*sides))


IMAGE = noise(2, 10, 12, 3)
FIRST = np.ascontiguousarray(IMAGE.transpose(0, 3, 1, 2))
KERNEL, BIAS, SCALE = noise(3, 3, 3, 8, seed=1), noise(8, seed=2), np.abs(noise(8, seed=3)) + 0.5


def keras_network(*more):
    """Convolution and batch normalization with fixed weights, and what is given after them."""
    conv = keras.layers.Conv2D(8, 3, padding="same")
    norm = keras.layers.BatchNormalization(epsilon=1e-3)
    model = keras.Sequential([keras.Input((10, 12, 3)), conv, norm, *more])
    conv.set_weights([KERNEL, BIAS])
    norm.set_weights([SCALE, BIAS, BIAS, SCALE])
    return model


def torch_network(*more, epsilon=1e-3):
    conv, norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8, eps=epsilon)
    state = {"weight": KERNEL.transpose(3, 2, 0, 1).copy(), "bias": BIAS}
    conv.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    moments = {"weight": SCALE, "bias": BIAS, "running_mean": BIAS, "running_var": SCALE}
    norm.load_state_dict({k: torch.from_numpy(v) for k, v in moments.items()}, strict=False)
    return nn.Sequential(conv, norm, *more).eval()


def finding(section):
    return [row["finding"] for row in section.rows]


def test_a_faithful_port_shrinks_by_more_than_a_million():
    section = second(keras_network(keras.layers.ReLU()), torch_network(nn.ReLU()), IMAGE, FIRST)
    assert finding(section) == ["same function"]
    assert section.rows[0]["shrink"] > 1e6
    assert section.verdict == ""
    assert not section.notes


def test_another_epsilon_does_not_shrink():
    section = second(keras_network(), torch_network(epsilon=1e-5), IMAGE, FIRST)
    assert finding(section) == ["different function"]
    assert section.rows[0]["shrink"] < 1.1
    assert not warnings(section), "the pairs see it too"


def test_gelu_of_tensorflow_holds_a_float32_constant():
    section = second(keras_network(keras.layers.Activation("gelu")), torch_network(nn.GELU()), IMAGE, FIRST)
    assert finding(section) == ["float32 constant"]
    assert "square root of 2 in Gelu" in section.rows[0]["why"]
    assert any("0.7071" in note for note in section.notes)
    assert 1e-6 < section.rows[0]["units"] < 1


def test_the_other_gelu_is_a_different_function():
    section = second(
        keras_network(keras.layers.Activation("gelu")), torch_network(nn.GELU("tanh")), IMAGE, FIRST
    )
    assert finding(section) == ["different function"]


def test_the_slope_of_leaky_relu_is_a_float32_in_tensorflow():
    section = second(
        keras_network(keras.layers.LeakyReLU(0.2)), torch_network(nn.LeakyReLU(0.2)), IMAGE, FIRST
    )
    assert finding(section) == ["float32 constant"]
    assert "alpha of LeakyRelu (0.2)" in section.rows[0]["why"]


def test_bilinear_upsampling_of_keras_is_an_island_of_float32():
    up = keras.Sequential([keras.Input((10, 12, 3)), keras.layers.UpSampling2D(2, interpolation="bilinear")])
    section = second(up, nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE, FIRST)
    assert finding(section) == ["float32 inside"]
    assert section.rows[0]["reference_grid"] == 1.0
    assert section.rows[0]["candidate_grid"] < 0.5  # a quarter of a float32 may well be one
    assert any("ResizeBilinear" in note for note in section.notes)


def test_an_island_in_the_middle_is_known_by_its_note():
    up = keras.layers.UpSampling2D(2, interpolation="bilinear")
    upsample = nn.Upsample(scale_factor=2, mode="bilinear")
    section = second(
        keras_network(up, keras.layers.Softmax()), torch_network(upsample, nn.Softmax(1)), IMAGE, FIRST
    )
    assert finding(section) == ["float32 inside"]
    assert section.rows[0]["reference_grid"] < 0.5
    assert section.verdict == ""


def test_an_epsilon_that_the_input_hides_is_real_but_invisible():
    """LayerNorm's epsilon against a variance of 100: 5e-9 of the output, a tenth of what float32 resolves."""
    x = noise(4, 64, scale=10)
    section = second(nn.LayerNorm(64, eps=1e-12).eval(), nn.LayerNorm(64, eps=1e-6).eval(), x)
    assert finding(section) == ["below float32"]
    assert 1e-3 < section.rows[0]["units"] < 1
    assert "invisible on this input" in section.answer
    assert not warnings(section), "the pairs see it too"


def test_a_chaotic_network_is_judged_by_what_it_amplifies():
    """Forty layers of tanh with gain 2: float32's error grows to a part in a hundred thousand, float64's likewise."""
    weights = [noise(32, 32, seed=i, scale=2.5 / 32**0.5) for i in range(40)]
    layers = [keras.layers.Dense(32, activation="tanh") for _ in weights]
    model = keras.Sequential([keras.Input((32,)), *layers])
    port: list[nn.Module] = []
    for layer, weight in zip(layers, weights, strict=True):
        layer.set_weights([weight, np.zeros(32, np.float32)])
        linear = nn.Linear(32, 32)
        linear.load_state_dict({"weight": torch.from_numpy(weight.T.copy()), "bias": torch.zeros(32)})
        port += [linear, nn.Tanh()]
    section = second(model, nn.Sequential(*port).eval(), noise(8, 32))
    row = section.rows[0]
    assert finding(section) == ["same function"]
    assert max(row["reference_error"], row["candidate_error"]) > 1e-5
    assert row["gap64"] > 1e-6 * 2.0**-24, "more than round-off of a single layer"


def test_tflite_cannot_and_says_that_one_side_proves_nothing(tmp_path):
    model = keras_network(keras.layers.ReLU())
    path = tmp_path / "m.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    sides = pc.record(model, IMAGE, float64=True), pc.record(str(path), IMAGE, float64=True)
    section = shadow(examine(*sides))
    assert "the candidate (tensorflow) was not: TFLite" in section.answer
    assert "proves nothing" in section.answer
    assert list(float64_outputs(sides[0])) == ["0"]
    assert float64_outputs(sides[1]) == {}


def test_an_exported_graph_with_folded_weights_is_explained():
    model = torch_network(nn.ReLU())
    buffer = io.BytesIO()
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        torch.onnx.export(model, (torch.from_numpy(FIRST),), buffer, dynamo=False, opset_version=18)
    section = second(model, onnx.load_from_string(buffer.getvalue()), FIRST)
    assert finding(section)[0] in ("rounded weights", "below float32", "same function")
    assert section.verdict == ""
    assert any("no kernels in float64 for Conv" in note for note in section.notes)


def test_jax_and_torch_agree():
    weight = jnp.asarray(noise(12, 5))
    linear = nn.Linear(12, 5, bias=False)
    linear.load_state_dict({"weight": torch.from_numpy(np.array(weight).T.copy())})
    port = nn.Sequential(linear, nn.Softmax(-1)).eval()
    x = noise(6, 12)
    section = second((lambda p, x: jnp.exp(x @ p) / jnp.exp(x @ p).sum(-1, keepdims=True), weight), port, x)
    assert finding(section) == ["same function"]


NAMED = """
import torch
def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Tanh()).eval()
"""


@pytest.mark.parametrize("kept", [False, True])
def test_a_model_by_name_is_run_in_float64_in_its_own_process(tmp_path, kept):
    (tmp_path / "named.py").write_text(NAMED)
    path = tmp_path / "named.trace" if kept else None
    trace = pc.record(f"{tmp_path / 'named.py'}:build", noise(3, 6), path=path, float64=True)
    torch.manual_seed(0)
    live = pc.record(nn.Sequential(nn.Linear(6, 4), nn.Tanh()).eval(), noise(3, 6), float64=True)
    golden = pc.load_trace(path) if kept else trace
    np.testing.assert_array_equal(float64_outputs(golden)["0"], float64_outputs(live)["0"])
    assert finding(shadow(examine(golden, live))) == ["same function"]
