"""What the torch adapter knows of models: kinds, files, parameters, inputs, modes, layers run alone."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from porting_check.neutral.errors import ModelError, RunError, UnsupportedNode, WeightsError
from porting_check.neutral.node import Node
from porting_check.testing.replay import check_trace
from tests.adapters.torch_recording import ADAPTER, check, noise, randomise, trace_of, whole


class Net(nn.Module):
    """A little of everything that torch.export writes in its own way."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LayerNorm(4)
        self.block = nn.Sequential(OrderedDict(fc=nn.Linear(4, 6), act=nn.GELU(), drop=nn.Dropout(0.3)))
        self.rnn, self.embed = nn.LSTM(6, 3, batch_first=True), nn.Embedding(9, 4)
        self.register_buffer("gain", torch.tensor([1.0, 2.0, 3.0, 4.0]))

    def forward(self, x, i):
        x = F.relu(self.bn(self.conv(x)), inplace=True)
        x = F.max_pool2d(F.interpolate(x, scale_factor=2, mode="bilinear"), 2) * self.gain.view(1, 4, 1, 1)
        x = F.adaptive_avg_pool2d(F.pad(x, (1, 0, 0, 1)), 1).flatten(1)
        x = self.block(self.norm(x + self.embed(i).mean(1)))
        y, _ = self.rnn(x[:, None])
        return {"y": y.squeeze(1), "p": x.softmax(-1)[:, :3], "m": torch.cat([x, x**2], 1).amax(1)}


@pytest.fixture(scope="module")
def net():
    """The network with random weights and statistics."""
    return randomise(Net())


@pytest.fixture(scope="module")
def arrays():
    """Its inputs."""
    return noise(2, 3, 9, 10), whole(2, 5, low=0, high=9)


@pytest.fixture(scope="module")
def exported(net, arrays):
    """The network through torch.export."""
    return torch.export.export(net, tuple(torch.from_numpy(a) for a in arrays))


def test_exported_program_is_recorded_layer_by_layer(exported, net, arrays):
    records = check(exported, *arrays)
    plain = check(net, *arrays)
    wanted = [record.id for record in plain if record.parameters]
    assert [record.id for record in records if record.parameters] == wanted
    assert wanted == ["conv", "bn", "view", "embed", "norm", "block.fc", "rnn"]
    ours, theirs = ({p.value for r in rs for p in r.parameters} for rs in (records, plain))
    assert ours == theirs
    assert {r.location.partition(":")[0] for r in records if r.location} == {"test_torch_models.py"}
    found, usual = (
        ADAPTER.predict(exported, dict(enumerate_names(arrays))),
        ADAPTER.predict(net, dict(enumerate_names(arrays))),
    )
    assert list(found) == list(usual) == ["y", "p", "m"]
    for path in found:
        np.testing.assert_array_equal(found[path], usual[path])


def enumerate_names(arrays):
    """Inputs by number."""
    return ((str(place), array) for place, array in enumerate(arrays))


def test_decomposed_export_is_described(exported, arrays):
    records = check(exported.run_decompositions(), *arrays)
    names = {node.op_type for record in records for node in record.nodes}
    assert {"Conv", "BatchNormalization", "LayerNormalization", "Gemm", "Softmax"} <= names


def test_exported_program_knows_its_inputs_and_parameters(exported, net):
    specs = ADAPTER.inputs(exported)
    assert [(spec.name, spec.shape, spec.dtype) for spec in specs] == [
        ("0", (2, 3, 9, 10), "float32"),
        ("1", (2, 5), "int64"),
    ]
    assert ADAPTER.parameters(exported).keys() == ADAPTER.parameters(net).keys()


def test_saved_program_is_loaded_and_runs(tmp_path, exported, arrays):
    path = tmp_path / "net.pt2"
    torch.export.save(exported, path)
    inputs = dict(enumerate_names(arrays))
    loaded = ADAPTER.load(str(path))
    assert ADAPTER.owns(loaded)
    for name, array in ADAPTER.predict(loaded, inputs).items():
        np.testing.assert_array_equal(array, ADAPTER.predict(exported, inputs)[name])
    weights = ADAPTER.parameters(loaded)
    ADAPTER.assign(loaded, {"block.fc.bias": weights["block.fc.bias"] + 1})
    assert not np.array_equal(ADAPTER.predict(loaded, inputs)["p"], ADAPTER.predict(exported, inputs)["p"])


class Danger:
    """What a hostile pickle does."""

    def __reduce__(self):
        return (open, ("harm.txt", "w"))


def test_saved_program_with_a_hostile_pickle_is_refused(tmp_path, exported, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.export.save(exported, "net.pt2")
    buffer = io.BytesIO()
    torch.save(((Danger(),), {}), buffer)
    with zipfile.ZipFile("net.pt2") as source, zipfile.ZipFile("bad.pt2", "w") as target:
        for name in source.namelist():
            target.writestr(
                name, buffer.getvalue() if name.endswith("sample_inputs/model.pt") else source.read(name)
            )
    with pytest.raises(ModelError, match="exported program that cannot be loaded"):
        ADAPTER.load("bad.pt2")
    assert not (tmp_path / "harm.txt").exists()
    assert torch.load.__module__ == "torch.serialization"


def test_traced_torchscript_is_recorded_layer_by_layer(tmp_path, net, arrays):
    path, inputs = tmp_path / "net.pt", dict(enumerate_names(arrays))
    script = torch.jit.trace(net, tuple(torch.from_numpy(a) for a in arrays), strict=False)
    torch.jit.save(script, path)
    loaded = ADAPTER.load(str(path))
    assert ADAPTER.owns(loaded)
    trace, outputs = trace_of(loaded, *arrays), ADAPTER.predict(loaded, inputs)
    assert not [record.reason for record in trace.records if record.opaque]
    read = {port.value for record in trace.records for port in record.inputs}
    assert {"input:0", "input:1"} <= read
    layers = {r.name for r in trace_of(net, *arrays).records if r.parameters}
    assert layers == {record.name for record in trace.records if record.parameters}
    assert sorted(port.name for port in trace.outputs) == sorted(outputs) == ["m", "p", "y"]
    for port in trace.outputs:
        np.testing.assert_array_equal(trace.values[port.value], outputs[port.name])
    assert set(ADAPTER.parameters(loaded)) >= set(dict(net.named_parameters()))


def test_torchscript_inside_a_model_is_recorded_inside():
    script = torch.jit.script(nn.Linear(4, 4))
    double = torch.jit.script(lambda_free_double)

    class Mixed(nn.Sequential):
        def forward(self, x):
            return double(super().forward(x)) + 1

    trace = trace_of(Mixed(nn.ReLU(), script, nn.Tanh()), noise(2, 4))
    assert [(record.name, record.opaque) for record in trace.records] == [
        ("0", False), ("1", False), ("2", False), ("mul", False), ("add", False),
    ]  # fmt: skip
    for before, after in zip(trace.records, trace.records[1:], strict=False):
        assert after.inputs[0].value == before.outputs[0].value
    assert trace.records[1].parameters[0].value == "parameter:1.weight"
    assert torch._C.ScriptFunction.__call__.__qualname__ != "script_calls.<locals>.reporting.<locals>.call"


def lambda_free_double(x):
    """Something for TorchScript to compile."""
    return x * 2


@pytest.mark.parametrize("kind", ["weights", "module", "old", "zip", "cut", "text", "missing", "folder"])
def test_files_that_cannot_be_loaded_say_what_to_give_instead(tmp_path, kind):
    path = tmp_path / "model.pt"
    if kind == "weights":
        torch.save(nn.Linear(2, 2).state_dict(), path)
    elif kind == "module":
        torch.save(nn.Linear(2, 2), path)
    elif kind == "old":
        torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "nothing")
    elif kind == "cut":
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
        path.write_bytes(path.read_bytes()[:-300])
    elif kind == "text":
        path.write_text("hello")
    elif kind == "folder":
        path.mkdir()
    words = {
        "weights": "is a pickle",
        "module": "is a pickle",
        "old": "is a pickle",
        "zip": "neither",
        "cut": "damaged",
    }
    with pytest.raises(
        ModelError, match=words.get(kind, "damaged" if kind == "text" else "does not exist")
    ) as caught:
        ADAPTER.load(str(path))
    if kind not in ("missing", "folder"):
        assert "file.py:function" in str(caught.value)


def test_a_bare_pickle_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Danger()))
    with pytest.raises(ModelError, match="is a pickle"):
        ADAPTER.load("model.pt")
    assert not (tmp_path / "harm.txt").exists()


def test_parameters_are_owned_and_complete(net):
    found = ADAPTER.parameters(net)
    assert list(found)[-4:] == ["gain", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"]
    assert set(found) == {n for n, _ in net.named_parameters()} | {n for n, _ in net.named_buffers()}
    assert all(array.flags.owndata for array in found.values())
    found["gain"] += 1
    assert net.gain[0] == ADAPTER.parameters(net)["gain"][0]


def test_assign_writes_into_the_models_own_tensors():
    model = nn.Linear(3, 2)
    weight = model.weight
    ADAPTER.assign(model, {"weight": noise(2, 3), "bias": noise(2)})
    assert model.weight is weight
    assert weight.requires_grad
    assert weight.grad_fn is None
    np.testing.assert_array_equal(weight.detach().numpy(), noise(2, 3))


def test_assign_knows_the_second_name_of_tied_weights():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    ADAPTER.assign(model, {"1.weight": noise(3, 3)})
    np.testing.assert_array_equal(model[0].weight.detach().numpy(), noise(3, 3))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"wieght": noise(2, 3)}, "no parameter or buffer 'wieght'"),
        ({"weight": noise(3, 2)}, r"shape \(2, 3\), the array \(3, 2\)"),
        ({"weight": noise(2, 3).astype(np.float64)}, "dtype float32, the array float64"),
    ],
)
def test_assign_writes_all_or_nothing(wrong, words):
    model = nn.Linear(3, 2)
    before = ADAPTER.parameters(model)
    with pytest.raises(WeightsError, match=words):
        ADAPTER.assign(model, {"bias": noise(2), **wrong})
    after = ADAPTER.parameters(model)
    assert all(np.array_equal(before[name], after[name]) for name in before)


FIRST = [
    (nn.Conv2d(3, 4, 3), "NCHW", "float32"), (nn.Conv1d(3, 4, 3), "NCL", "float32"),
    (nn.Conv3d(3, 4, 3), "NCDHW", "float32"), (nn.BatchNorm2d(3), "NCHW", "float32"),
    (nn.Linear(3, 4), "", "float32"), (nn.Linear(3, 4).double(), "", "float64"),
    (nn.ConvTranspose2d(3, 4, 3), "NCHW", "float32"), (nn.Embedding(7, 4), "", "int64"),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "layout", "dtype"), FIRST, ids=[str(entry[0]) for entry in FIRST])
def test_inputs_are_guessed_from_the_first_layer(layer, layout, dtype):
    (spec,) = ADAPTER.inputs(nn.Sequential(nn.Identity(), layer, nn.Linear(2, 2)))
    assert (spec.name, spec.shape, spec.layout, spec.dtype) == ("0", None, layout, dtype)
    assert spec.limit == (7 if dtype == "int64" else None)


def test_inputs_of_functions_and_of_models_without_parameters():
    assert [spec.name for spec in ADAPTER.inputs(lambda x, y, scale=1: x)] == ["0", "1"]
    assert [spec.name for spec in ADAPTER.inputs(nn.ReLU())] == ["0"]


class Custom(nn.Module):
    """Drops whole paths in training mode, as DropPath does."""

    def forward(self, x):
        return x * 0 if self.training else x


MODES = [
    (nn.BatchNorm1d(3), True), (nn.BatchNorm1d(3, track_running_stats=False), False),
    (nn.Dropout(0.1), True), (nn.Dropout(0), False), (nn.RReLU(), True), (nn.InstanceNorm1d(3), False),
    (nn.InstanceNorm1d(3, track_running_stats=True), True), (nn.ReLU(), False),
    (nn.LSTM(2, 2, 2, dropout=0.1), True), (nn.LSTM(2, 2), False),
    (nn.MultiheadAttention(4, 2, dropout=0.1), True), (nn.Linear(2, 2), False), (nn.AlphaDropout(), True),
    (Custom(), True),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "differs"), MODES, ids=[f"{entry[0]} {entry[1]}" for entry in MODES])
@pytest.mark.filterwarnings("ignore:dropout option")
def test_layers_in_training_mode_are_named(layer, differs):
    model = nn.Sequential(OrderedDict(inner=nn.Sequential(layer))).train()
    assert ADAPTER.training(model) == (("inner.0",) if differs else ())
    assert ADAPTER.training(model.eval()) == ()


def test_environment_tells_what_changes_numbers():
    environment = ADAPTER.environment()
    assert environment.framework == "torch"
    assert environment.versions["torch"] == str(torch.__version__)
    assert environment.threads == torch.get_num_threads()
    assert environment.device == "cpu"
    assert {"float32_matmul_precision", "deterministic_algorithms", "mkldnn", "mha_fastpath"} <= set(
        environment.modes
    )
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert ADAPTER.environment().modes["float32_matmul_precision"] == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_one_layer_alone_in_both_precisions(net):
    x = noise(2, 4, 5, 6)
    (single,), (double,) = (ADAPTER.replay(net, "bn", [x], float64=wide) for wide in (False, True))
    assert single.dtype == np.float32
    assert double.dtype == np.float64
    np.testing.assert_allclose(single, double, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(single, net.bn(torch.from_numpy(x)).detach().numpy())
    assert net.bn.weight.dtype == torch.float32
    assert len(ADAPTER.replay(net, "rnn", [noise(2, 3, 6)])) == 3
    with pytest.raises(UnsupportedNode, match="no submodule of that name"):
        ADAPTER.replay(net, "block/relu", [x])
    with pytest.raises(RunError, match="in layer conv: Given groups"):
        ADAPTER.replay(net, "conv", [x])


def test_run_is_delegated():
    (found,) = ADAPTER.run(Node("Relu", ("x",)), [noise(2, 3)])
    np.testing.assert_array_equal(found, np.maximum(noise(2, 3), 0))


class Affine:
    """A callable object, no module."""

    def __call__(self, x):
        return x * 2 + 1


def test_callable_objects_are_models():
    import functools

    assert ADAPTER.owns(Affine())
    assert [record.name for record in check(Affine(), noise(2, 3))] == ["mul", "add"]
    check(functools.partial(F.leaky_relu, negative_slope=0.3), noise(2, 3))


def test_who_owns_what():
    import keras

    assert not ADAPTER.owns(keras.Sequential())
    assert not ADAPTER.owns(nn.ReLU)
    assert ADAPTER.owns(nn.ReLU())
    assert ADAPTER.owns(lambda x: x)
    assert ADAPTER.owns(torch.relu)
    assert ADAPTER.owns(nn.Linear(2, 2).forward)
    assert not ADAPTER.owns("model.pt")
    assert not ADAPTER.owns(np.zeros(3))
    assert not ADAPTER.owns(None)


def test_bound_method_of_a_module_has_its_parameters():
    model = randomise(nn.Sequential(OrderedDict(fc=nn.Linear(4, 3))))
    trace = trace_of(model.forward, noise(2, 4))
    assert [p.value for p in trace.records[0].parameters] == ["parameter:fc.weight", "parameter:fc.bias"]
    assert check_trace(trace) == []


def test_compiled_module_is_recorded_as_the_module_inside():
    model = nn.Sequential(OrderedDict(fc=nn.Linear(4, 3)))
    trace = trace_of(torch.compile(model, backend="eager"), noise(2, 4))
    assert [record.name for record in trace.records] == ["fc"]
    assert any("torch.compile" in note for note in ADAPTER.notes)
