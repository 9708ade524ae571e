"""A Keras model and its ports, right in inference, of which some would train otherwise: found in one training step."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")

from porting_check.examination import examine  # noqa: E402
from porting_check.recording import record  # noqa: E402
from porting_check.training import training_step  # noqa: E402

IMAGE = np.random.default_rng(0).standard_normal((2, 12, 14, 3)).astype(np.float32)


def reference(frozen=False):
    """Two convolutions with batch normalisation, and one after a pooling that leaves one position per image."""
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((12, 14, 3)),
            layers.Conv2D(4, 3, name="conv1"),
            layers.BatchNormalization(name="bn1"),
            layers.ReLU(),
            layers.Conv2D(5, 3, strides=2, name="conv2"),
            layers.BatchNormalization(name="bn2"),
            layers.GlobalAveragePooling2D(),
            layers.BatchNormalization(name="bn3"),
        ]
    )
    rng = np.random.default_rng(1)
    model.set_weights(
        [0.2 + np.abs(rng.standard_normal(w.shape)).astype(np.float32) for w in model.get_weights()]
    )
    model.get_layer("bn2").trainable = not frozen
    return model


class Port(torch.nn.Module):
    def __init__(self, weights, momentum):
        super().__init__()
        kept = {"eps": 1e-3, "momentum": momentum}
        self.conv1, self.bn1 = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4, **kept)
        self.conv2, self.bn2 = torch.nn.Conv2d(4, 5, 3, stride=2), torch.nn.BatchNorm2d(5, **kept)
        self.bn3 = torch.nn.BatchNorm1d(5, **kept)
        rows = iter(torch.from_numpy(w) for w in weights)
        with torch.no_grad():
            for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (None, self.bn3)):
                if conv is not None:
                    conv.weight.copy_(next(rows).permute(3, 2, 0, 1))
                    conv.bias.copy_(next(rows))
                for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                    tensor.copy_(next(rows))

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.bn3(self.bn2(self.conv2(x)).mean((2, 3)))


def trained(momentum, *, frozen=False, decide=False):
    ours = reference(frozen)
    theirs = Port([w.copy() for w in ours.get_weights()], momentum).eval()
    before = {k: v.clone() for k, v in theirs.state_dict().items()}, [w.copy() for w in ours.get_weights()]
    found = examine(record(ours, IMAGE), record(theirs, np.ascontiguousarray(IMAGE.transpose(0, 3, 1, 2))))
    assert all(judged.same for judged in found.judged)
    section = training_step(found, ours, theirs, decide=decide)
    assert all(torch.equal(before[0][k], v) for k, v in theirs.state_dict().items())
    assert not any(module.training for module in theirs.modules())
    assert all((a == b).all() for a, b in zip(before[1], ours.get_weights(), strict=True))
    return section


def test_keras_momentum_passed_to_torch_is_found_in_every_layer():
    section = trained(0.99)
    assert section.verdict == ""
    assert [(r["reference"], r["candidate"]) for r in section.rows] == [
        ("bn1", "bn1"),
        ("bn2", "bn2"),
        ("bn3", "bn3"),
    ]
    assert {r["cause"] for r in section.rows} == {"bn-momentum"}
    assert [(r["reference_keeps"], r["candidate_keeps"]) for r in section.rows] == [(0.99, 0.01)] * 3
    assert section.rows[0]["fix"] == 'model.get_submodule("bn1").momentum = 0.01'
    assert "bn-momentum" in section.answer
    assert trained(0.99, decide=True).verdict == "divergent"


def test_the_right_port_differs_by_the_stored_variance_only():
    section = trained(0.01, decide=True)
    assert section.verdict == "faithful"
    assert {r["cause"] for r in section.rows} == {"bn-unbiased-var"}
    assert {(r["reference_variance"], r["candidate_variance"]) for r in section.rows} == {
        ("biased", "unbiased")
    }
    assert [r["positions"] for r in section.rows] == [2 * 10 * 12, 2 * 4 * 5, 2]
    assert [r["larger_by"] for r in section.rows] == pytest.approx([1 / 239, 1 / 39, 1.0])
    assert all(max(r["reference_error"], r["candidate_error"]) <= 1 for r in section.rows)


def test_a_frozen_layer_of_the_reference_is_found():
    section = trained(0.01, frozen=True, decide=True)
    assert section.verdict == "divergent"
    assert [r["cause"] for r in section.rows] == ["bn-unbiased-var", "bn-train-mode", "bn-unbiased-var"]
    assert section.rows[1]["fix"].startswith('model.get_submodule("bn2").eval()')


def test_a_recording_cannot_train_and_says_so():
    ours = reference()
    recorded = record(ours, IMAGE)
    section = training_step(examine(recorded, recorded), recorded, recorded, decide=True)
    assert section.verdict == "inconclusive"
    assert {r["verdict"] for r in section.rows} == {"not trained"}
    assert "live model" in section.rows[0]["explanation"]
