"""From PyTorch to Keras as well as back: weights moved there and back again, and a PyTorch reference against a Keras port."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
from torch import nn

import porting_check as pc
from porting_check.neutral.errors import WeightsError

pytestmark = pytest.mark.slow


def keras_model():
    layers = keras.layers
    image = keras.Input((4, 6, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="conv")(image)
    x = layers.BatchNormalization(name="bn", epsilon=1e-3)(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="depthwise")(x)
    x = layers.Conv2DTranspose(5, 4, strides=2, padding="same", name="up")(x)
    x = layers.PReLU(shared_axes=[1, 2], name="prelu")(x)
    x = layers.Reshape((4 * 6, 5))(x)
    x = layers.LSTM(6, return_sequences=True, name="lstm")(x)
    x = layers.GRU(4, name="gru")(x)
    return keras.Model(image, layers.Dense(3, name="dense")(x))


class Port(nn.Module):
    """The same network; every choice of Keras made explicit."""

    def __init__(self, units=3, depthwise_bias=True):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.bn = nn.BatchNorm2d(8, eps=1e-3)
        self.depthwise = nn.Conv2d(8, 16, 3, padding=1, groups=8, bias=depthwise_bias)
        self.up = nn.ConvTranspose2d(16, 5, 4, stride=2, padding=1)
        self.prelu = nn.PReLU(5)
        self.lstm = nn.LSTM(5, 6, batch_first=True)
        self.gru = nn.GRU(6, 4, batch_first=True)
        self.dense = nn.Linear(4, units)

    def forward(self, image):
        x = self.bn(self.conv(nn.functional.pad(image, (0, 1, 0, 1))))
        x = self.prelu(self.up(self.depthwise(x)))
        x = x.permute(0, 2, 3, 1).flatten(1, 2)
        x, _ = self.lstm(x)
        x, _ = self.gru(x)
        return self.dense(x[:, -1])


def randomised(model, seed=0):
    """The same model with every weight drawn anew, variances positive."""
    rng = np.random.default_rng(seed)
    drawn = [rng.standard_normal(w.shape).astype("f4") * 0.3 for w in model.get_weights()]
    model.set_weights([np.abs(w) + 0.5 if "variance" in v.path else w for w, v in zip(drawn, model.weights)])
    return model


IMAGE = np.random.default_rng(1).standard_normal((2, 4, 6, 3)).astype("f4")


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    reference, candidate = randomised(keras_model()), Port().eval()
    pc.transfer_weights(reference, candidate)
    return reference, candidate


def test_weights_moved_to_torch_make_a_faithful_port(pair):
    report = pc.compare(*pair, IMAGE)
    assert report.verdict == "faithful", str(report)


def test_weights_moved_there_and_back_are_the_same_bits(pair):
    reference, candidate = pair
    again = randomised(keras_model(), seed=9)
    moved = pc.transfer_weights(candidate, again, inputs=IMAGE.transpose(0, 3, 1, 2))
    for one, other in zip(reference.weights, again.weights):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)
    assert moved.guesses == ()


def test_a_torch_reference_is_compared_with_a_keras_port(pair):
    reference, candidate = pair
    report = pc.compare(candidate, reference, IMAGE.transpose(0, 3, 1, 2))
    assert report.verdict == "faithful", str(report)


def test_a_torch_reference_without_inputs_takes_the_shape_that_the_keras_port_asks_for(pair):
    reference, candidate = pair
    assert pc.compare(candidate, reference).verdict == "faithful"


def test_a_recording_is_compared_like_the_live_model(pair, tmp_path):
    reference, candidate = pair
    pc.record(reference, IMAGE, path=tmp_path / "keras.trace")
    assert pc.compare(str(tmp_path / "keras.trace"), candidate).verdict == "faithful"
    theirs = pc.record(candidate, IMAGE.transpose(0, 3, 1, 2), layouts="NCHW")
    assert pc.compare(str(tmp_path / "keras.trace"), theirs).verdict == "faithful"


def test_assert_faithful_says_layer_and_cause_first(pair):
    reference, candidate = pair
    wrong = Port().eval()
    wrong.load_state_dict(candidate.state_dict())
    wrong.bn.eps = 1e-5
    with pytest.raises(pc.NotFaithful) as raised:
        pc.assert_faithful(reference, wrong, IMAGE)
    head = "\n".join(str(raised.value).splitlines()[:6])
    assert "bn" in head
    assert "bn-eps (proven)" in head
    assert "eps=0.001" in head


def test_weights_that_do_not_fit_are_named_and_nothing_is_changed(pair):
    wrong = Port(units=4).eval()
    before = {name: value.clone() for name, value in wrong.state_dict().items()}
    with pytest.raises(WeightsError, match="dense"):
        pc.transfer_weights(pair[0], wrong)
    assert all(torch.equal(before[name], value) for name, value in wrong.state_dict().items())


def test_a_bias_that_has_no_home_is_named(pair):
    with pytest.raises(WeightsError, match="depthwise"):
        pc.transfer_weights(pair[0], Port(depthwise_bias=False).eval())


def test_a_tolerance_is_an_explicit_override_and_is_shown(pair):
    reference, candidate = pair
    wrong = Port().eval()
    wrong.load_state_dict(candidate.state_dict())
    wrong.bn.eps = 1.01e-3
    assert pc.compare(reference, wrong, IMAGE).verdict == "divergent"
    report = pc.compare(reference, wrong, IMAGE, rtol=1e-1, atol=1e-1)
    assert report.verdict == "faithful"
    assert "rtol=0.1" in report.reason
    assert report.first_divergence is not None
