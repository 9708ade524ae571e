"""Verifying an export: a model against the ONNX graph that its own exporter made of it."""

from __future__ import annotations

import importlib.util
import io
import warnings
from pathlib import Path

import numpy as np
import pytest

import porting_check as pc

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
onnxruntime_model = pytest.importorskip("porting_check_onnxruntime.model")
nn = torch.nn

RESNET = Path(__file__).resolve().parents[2] / "fixtures" / "resnet50" / "build_torch.py"
EXPORTERS = ["dynamo", "torchscript"]
GOOD = {"identical", "round-off"}


def exported(module, x, exporter):
    """The module as a ModelProto by one of torch's two exporters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            pytest.importorskip("onnxscript")
            return torch.onnx.export(module, (x,), dynamo=True, verbose=False).model_proto
        file = io.BytesIO()
        torch.onnx.export(module, (x,), file, dynamo=False)
        return onnx.load_from_string(file.getvalue())


def names(report):
    """Pairs of record names: of the reference's first and the candidate's last record."""
    return {(pair.reference[0], pair.candidate[-1]) for pair in report.pairs}


def node_named(proto, part):
    """The first node whose name holds this."""
    return next(node for node in proto.graph.node if part in node.name)


def attribute(node, name):
    """An attribute of a node."""
    return next(found for found in node.attribute if found.name == name)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x))) + x


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.stage = nn.Sequential(Block(), Block())
        self.head = nn.Linear(4, 5)
        self.norm = nn.LayerNorm(5)

    def forward(self, x):
        return torch.softmax(self.norm(self.head(self.stage(self.stem(x)).mean((2, 3)))), -1)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 8)
        self.lstm = nn.LSTM(8, 6, batch_first=True, bidirectional=True)
        self.out = nn.Linear(12, 5)

    def forward(self, x):
        return torch.log_softmax(self.out(self.lstm(self.table(x))[0]), -1)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.after = nn.LayerNorm(16), nn.LayerNorm(16)
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16) for _ in range(4))
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x):
        y = self.before(x)
        n, t, e = y.shape
        q, k, v = (f(y).view(n, t, 4, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, e)
        x = x + self.o(mixed)
        return x + self.down(nn.functional.gelu(self.up(self.after(x)), approximate="tanh"))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.pool = nn.Conv2d(3, 8, 3, padding=1), nn.AvgPool2d(2)
        self.depth, self.norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.GroupNorm(2, 8)
        self.up = nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1, output_padding=1)
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        a = nn.functional.silu(self.down(x))
        y = torch.cat([a, self.up(self.norm(self.depth(self.pool(a))))], 1)
        y = nn.functional.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
        return torch.sigmoid(self.out(nn.functional.pad(y, (1, 0, 0, 1))))


def built(kind, seed=0):
    """A module in inference with random statistics, and an input."""
    torch.manual_seed(seed)
    module = kind().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    shapes = {Residual: (1, 3, 16, 16), Encoder: (2, 5, 16), Decoder: (2, 3, 16, 20)}
    return module, torch.randint(0, 50, (2, 7)) if kind is Tagger else torch.randn(shapes[kind])


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("kind", [Residual, Tagger, Encoder, Decoder])
def test_a_torch_module_and_its_export_are_faithful(kind, exporter):
    module, x = built(kind)
    report = pc.compare(module, exported(module, x, exporter), x.numpy())
    assert report.verdict == "faithful", str(report)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_layers_are_paired_under_their_module_paths(exporter):
    module, x = built(Residual)
    found = names(pc.compare(module, exported(module, x, exporter), x.numpy()))
    expected = {
        ("stem", "stem"),
        ("stage.0.conv", "stage.0.conv"),
        ("stage.1.conv", "stage.1.conv"),
        ("head", "head"),
        ("norm", "norm"),
    }
    assert expected <= found


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_an_export_is_a_reference_too(exporter):
    module, x = built(Residual)
    report = pc.compare(exported(module, x, exporter), module, x.numpy())
    assert report.verdict == "faithful", str(report)


@pytest.mark.parametrize("level", ["basic", "extended", "all"])
def test_every_level_of_optimisation_is_compared_as_it_runs(level):
    module, x = built(Residual)
    model = onnxruntime_model.OnnxModel(exported(module, x, "torchscript"), optimization=level)
    report = pc.compare(module, model, x.numpy())
    assert report.verdict == "faithful", str(report)
    assert report.candidate.checks.observer_difference == 0.0
    assert report.candidate.environment.modes["optimization"] == level


def wrong_pads(proto):
    node = next(n for n in proto.graph.node if n.op_type == "Conv" and 1 in attribute(n, "pads").ints)
    attribute(node, "pads").ints[:] = [0, 0, 2, 2]


def wrong_epsilon(proto):
    node = next(n for n in proto.graph.node if n.op_type == "LayerNormalization")
    attribute(node, "epsilon").f = 1e-2


def wrong_activation(proto):
    next(n for n in proto.graph.node if n.op_type == "Relu").op_type = "Sigmoid"


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(
    ("edit", "where", "said"),
    [
        (wrong_pads, "stage.0.conv", "pad"),
        (wrong_epsilon, "norm", "epsilon"),
        (wrong_activation, "stage.0/", ""),
    ],
)
def test_a_changed_node_is_located(exporter, edit, where, said):
    module, x = built(Residual)
    proto = exported(module, x, exporter)
    edit(proto)
    report = pc.compare(module, proto, x.numpy())
    assert report.verdict == "divergent", str(report)
    wrong = next(pair for pair in report.pairs if pair.verdict not in GOOD)
    assert any(name.startswith(where) for name in wrong.candidate), wrong.candidate
    assert any(said in f.explanation and f.proven for f in report.findings) or not said


@pytest.mark.slow
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_resnet50_and_its_exports_are_faithful(exporter):
    spec = importlib.util.spec_from_file_location("resnet50_for_export", RESNET)
    fixture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fixture)
    torch.manual_seed(0)
    module, x = fixture.ResNet50(classes=10).eval(), torch.randn(1, 3, 64, 64)
    report = pc.compare(module, exported(module, x, exporter), x.numpy())
    assert report.verdict == "faithful", str(report)


@pytest.fixture(scope="module")
def keras_and_export():
    """A Keras model and the graph that tf2onnx makes of it."""
    keras = pytest.importorskip("keras")
    convert = pytest.importorskip("tf2onnx.convert")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras runs on another backend here")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = x = keras.Input((16, 20, 3), name="image")
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="stem")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depth")(x)
    x = layers.BatchNormalization(name="norm", beta_initializer="random_normal")(x)
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Dense(6, activation="softmax", name="head")(layers.Flatten(name="flat")(x))
    model = keras.Model(image, x, name="small")
    proto, _ = convert.from_keras(model, opset=17)
    return model, proto


def test_a_keras_model_and_its_export_by_tf2onnx_are_faithful(keras_and_export):
    model, proto = keras_and_export
    x = np.random.default_rng(0).standard_normal((2, 16, 20, 3)).astype(np.float32)
    report = pc.compare(model, proto, x)
    assert report.verdict == "faithful", str(report)
    candidates = {name for pair in report.pairs for name in pair.candidate}
    assert {"stem", "depth", "pool", "head"} <= candidates | {
        name for p in report.pairs for name in p.reference
    }
    assert ("stem", "stem") in {(p.reference[0], p.candidate[-1]) for p in report.pairs}


def test_pads_changed_in_an_export_by_tf2onnx_are_located(keras_and_export):
    model, original = keras_and_export
    proto = onnx.ModelProto()
    proto.CopyFrom(original)
    attribute(next(n for n in proto.graph.node if n.op_type == "Conv"), "pads").ints[:] = [1, 1, 0, 0]
    x = np.random.default_rng(0).standard_normal((2, 16, 20, 3)).astype(np.float32)
    report = pc.compare(model, proto, x)
    assert report.verdict == "divergent"
    wrong = next(pair for pair in report.pairs if pair.verdict not in GOOD)
    assert "stem" in wrong.candidate
    assert any("pad" in finding.explanation and finding.proven for finding in report.findings)


def test_silero_vad_is_recorded_inside_its_branches_and_equals_the_file_without_them(package_folder):
    folder = package_folder("silero_vad", "data")
    rng = np.random.default_rng(0)
    inputs = {
        "input": rng.standard_normal((1, 576)).astype(np.float32) * np.float32(0.1),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000),
    }
    report = pc.compare(str(folder / "silero_vad.onnx"), str(folder / "silero_vad_op18_ifless.onnx"), inputs)
    assert report.verdict == "faithful", str(report)
    assert any("If_0/then_branch/" in name for pair in report.pairs for name in pair.reference)
