"""TorchScript, recorded inside: each operator, by the path of its module, bit for bit as the module itself runs."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from porting_check.neutral.errors import RunError
from porting_check.neutral.trace import MemorySink
from porting_check.recorder.session import record_model
from tests.adapters.torch_recording import ADAPTER, check, named, noise, randomise, reason_of, trace_of, whole


def ids(records):
    return [record.id for record in records]


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)) + x)


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(Residual(), nn.MaxPool2d(2), Residual())
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        x = self.body(x)
        return torch.log_softmax(self.head(x.mean((2, 3))), dim=-1)


@pytest.mark.parametrize("compiled", ["script", "trace", "saved"])
def test_layers_are_recorded_under_their_paths(compiled, tmp_path):
    net, image = randomise(Pooled()), noise(2, 3, 10, 12)
    script = torch.jit.trace(net, torch.from_numpy(image)) if compiled == "trace" else torch.jit.script(net)
    if compiled == "saved":
        torch.jit.save(script, str(tmp_path / "net.pt"))
        script = ADAPTER.load(str(tmp_path / "net.pt"))
    records = check(script, image)
    layers = [name for name in ids(records) if name.split("/")[0] in dict(net.named_modules())]
    assert [name for name in layers if "/" not in name] == [
        "body.0.conv", "body.0.bn", "body.1", "body.2.conv", "body.2.bn", "head",
    ]  # fmt: skip
    python = check(net, image)
    assert [[n.op_type for n in r.nodes] for r in records] == [[n.op_type for n in r.nodes] for r in python]
    used = {port.value for record in records for port in record.parameters}
    wanted = {"parameter:" + name for name in net.state_dict() if "num_batches" not in name}
    assert used == wanted
    assert set(ADAPTER.parameters(script)) == set(net.state_dict())


LAYERS = {
    "conv_same": (nn.Conv2d(3, 4, 3, padding="same"), (noise(2, 3, 7, 8),)),
    "conv_reflect": (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (noise(2, 3, 7, 8),)),
    "conv_grouped": (nn.Conv1d(4, 6, 3, stride=2, groups=2, dilation=2), (noise(2, 4, 17),)),
    "conv_transposed": (nn.ConvTranspose2d(3, 4, 3, stride=2, output_padding=1), (noise(1, 3, 5, 6),)),
    "batch_norm": (nn.BatchNorm1d(5), (noise(4, 5),)),
    "layer_norm": (nn.LayerNorm((4, 5)), (noise(3, 4, 5),)),
    "group_norm": (nn.GroupNorm(2, 6), (noise(2, 6, 5, 4),)),
    "instance_norm": (nn.InstanceNorm2d(3, affine=True), (noise(2, 3, 6, 7),)),
    "lstm": (nn.LSTM(4, 5, batch_first=True, bidirectional=True), (noise(2, 6, 4),)),
    "gru": (nn.GRU(4, 5, num_layers=2), (noise(6, 2, 4),)),
    "lstm_cell": (nn.LSTMCell(4, 5), (noise(2, 4),)),
    "embedding": (nn.Embedding(9, 4), (whole(2, 5, low=0, high=9),)),
    "linear": (nn.Linear(4, 6), (noise(2, 3, 4),)),
    "bilinear": (nn.Bilinear(3, 4, 5), (noise(2, 3), noise(2, 4))),
    "prelu": (nn.PReLU(3), (noise(2, 3, 4, 4),)),
    "gelu": (nn.GELU(approximate="tanh"), (noise(2, 9),)),
    "softmax": (nn.Softmax(dim=1), (noise(2, 5, 3),)),
    "max_pool": (nn.MaxPool2d(3, 2, 1, ceil_mode=True), (noise(1, 2, 8, 9),)),
    "avg_pool": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (noise(1, 2, 8, 9),)),
    "adaptive": (nn.AdaptiveAvgPool2d((2, 3)), (noise(1, 2, 7, 8),)),
    "upsample": (nn.Upsample(scale_factor=2.0, mode="bilinear"), (noise(1, 2, 4, 5),)),
    "nearest": (nn.Upsample(size=(7, 9)), (noise(1, 2, 4, 5),)),
    "pad": (nn.ZeroPad2d((1, 2, 0, 3)), (noise(1, 2, 4, 5),)),
    "shuffle": (nn.PixelShuffle(2), (noise(1, 8, 3, 4),)),
    "dropout": (nn.Dropout(0.5), (noise(3, 4),)),
    "flatten": (nn.Flatten(), (noise(2, 3, 4),)),
    "hardswish": (nn.Hardswish(), (noise(3, 4),)),
    "clip": (nn.ReLU6(), (noise(3, 4) * 5,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_compiled_layer_computes_what_its_records_say(name):
    layer, arrays = LAYERS[name]
    net = randomise(nn.Sequential(layer)) if len(arrays) == 1 else randomise(layer)
    compiled = check(torch.jit.script(net), *arrays)
    if len(arrays) == 1 and "cell" not in name:
        assert all(record.name.split("/")[0] == "0" for record in compiled), ids(compiled)


@pytest.mark.parametrize(
    "name", ["conv_same", "batch_norm", "linear", "lstm", "max_pool", "upsample", "embedding"]
)
def test_a_traced_layer_computes_what_its_records_say(name):
    layer, arrays = LAYERS[name]
    check(torch.jit.trace(randomise(layer), tuple(map(torch.from_numpy, arrays))), *arrays)


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.big = nn.Linear(4, 4)
        self.small = nn.Linear(4, 4)

    def forward(self, x, rounds: int = 2):
        if bool(x.abs().max() > 3):
            x = self.big(x)
        else:
            x = self.small(x)
        count = 0
        while float(x.sum()) < 50.0 and count < rounds:
            x = x * 2 + 1
            count += 1
        for i in range(rounds):
            if i == 1:
                continue
            x = x + float(i) / 2
        return x


def test_only_the_branch_that_was_taken_is_recorded():
    script = torch.jit.script(randomise(Branches()))
    small, big = check(script, noise(2, 4)), check(script, noise(2, 4) * 9)
    assert "small" in ids(small) and "big" not in ids(small)
    assert "big" in ids(big) and "small" not in ids(big)
    more = check(script, noise(2, 4), rounds=np.array(5))
    assert len(more) > len(small)


class Containers(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        self.named = nn.ModuleDict({"a": nn.Tanh(), "b": nn.ReLU()})

    def forward(
        self, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        kept: list[torch.Tensor] = []
        for layer in self.layers:
            x = layer(x)
            kept.append(x)
        if bias is not None:
            kept.insert(0, bias)
        first, second = kept[0], kept[-1]
        found: dict[str, torch.Tensor] = {}
        for name, layer in self.named.items():
            found[name] = layer(first)
        found["cut"] = second[:, 1:]
        if "a" in found and len(kept) > 1:
            found["a"] = found["a"] + math.pi
        pair = (torch.stack(kept[:2]), [x.size(0), x.shape[-1]])
        found["shaped"] = pair[0].view(-1, pair[1][1]).to(torch.float64)
        return torch.cat(kept, dim=1), found


@pytest.mark.parametrize("with_bias", [False, True])
def test_lists_dicts_tuples_and_optionals(with_bias):
    arrays = (noise(2, 3), noise(2, 3, seed=3)) if with_bias else (noise(2, 3),)
    net = randomise(Containers())
    check(torch.jit.script(net), *arrays)
    expected = ADAPTER.predict(net, named(*arrays))
    found = ADAPTER.predict(torch.jit.script(net), named(*arrays))
    assert expected.keys() == found.keys()


class Stateful(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(3, 4)
        self.steps = 0
        self.history = [0]
        self.reset_states()

    @torch.jit.export
    def reset_states(self):
        self.h = torch.zeros(1, 4)
        self.c = torch.zeros(1, 4)
        self.steps = 0

    def forward(self, x):
        self.h, self.c = self.cell(x, (self.h, self.c))
        self.steps += 1
        self.history.append(self.steps)
        self.c.mul_(0.5)
        return self.h * self.steps


def test_state_goes_on_in_the_model_and_is_as_before_after_a_recording():
    net = torch.jit.script(randomise(Stateful()))
    net.reset_states()
    python = randomise(Stateful())
    for step in range(4):
        chunk = noise(1, 3, seed=step)
        before = net.h.clone(), net.c.clone(), net.steps, [int(n) for n in net.history]
        trace = trace_of(net, chunk)
        for found, expected in zip((net.h, net.c), before[:2]):
            assert torch.equal(found, expected)
        assert (net.steps, [int(n) for n in net.history]) == before[2:]
        with torch.no_grad():
            plain, wanted = net(torch.from_numpy(chunk)), python(torch.from_numpy(chunk))
        assert net.steps == step + 1
        np.testing.assert_array_equal(trace.values[trace.outputs[0].value], plain.numpy())
        np.testing.assert_allclose(plain.numpy(), wanted.numpy(), rtol=1e-6, atol=1e-7)


def test_the_observer_check_finds_no_difference_and_two_runs_in_a_row_differ_by_the_state():
    net = torch.jit.script(randomise(Stateful()))
    checks = record_model(ADAPTER, net, named(noise(1, 3)), MemorySink())
    assert checks.observer_difference == 0.0
    assert checks.repeat_difference > 0


class Point(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


class Pointing(nn.Module):
    def forward(self, x) -> Point:
        return Point(x.sin(), x.cos())


class Calling(nn.Module):
    """A Python module around compiled ones."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.inner = torch.jit.script(randomise(Pooled()))
        self.point = torch.jit.script(Pointing())
        self.double = torch.jit.script(twice)

    def forward(self, x):
        point = self.point(self.first(x))
        return self.inner(self.double(point.x + point.y))


def twice(x):
    return x * 2


def test_compiled_modules_inside_python_are_recorded_inside():
    records = check(randomise(Calling()), noise(1, 3, 6, 4))
    names = ids(records)
    assert names[0] == "first"
    assert "inner.body.0.conv" in names and "inner.head" in names
    assert [name for name in names if name.startswith("point")] == ["point/sin", "point/cos"]
    assert records[-1].operator.startswith("torch.ops.aten.")


def test_a_compiled_function_is_a_model():
    def net(x, w: torch.Tensor, steps: int):
        for _ in range(steps):
            x = torch.tanh(x @ w)
        return x

    records = check(torch.jit.script(net), noise(2, 3), noise(3, 3), np.array(3))
    assert [record.operator for record in records].count("torch.ops.aten.tanh") == 3


def test_number_arguments_are_fed_as_numbers():
    class Rated(nn.Module):
        def forward(self, x, rate: int, gain: float, loud: bool):
            return x * (rate // 8000) * gain if loud else x

    script = torch.jit.script(Rated())
    specs = ADAPTER.inputs(script)
    assert [(s.name, s.shape, s.dtype) for s in specs[1:]] == [
        ("1", (), "int64"), ("2", (), "float64"), ("3", (), "bool"),
    ]  # fmt: skip
    inputs = named(noise(2, 3), np.array(16000), np.array(0.5), np.array(True))
    np.testing.assert_array_equal(ADAPTER.predict(script, inputs)["0"], noise(2, 3))
    trace = trace_of(script, *inputs.values())
    assert [port.name for port in trace.inputs] == ["0", "1", "2", "3"]
    np.testing.assert_array_equal(trace.values[trace.outputs[0].value], noise(2, 3))


def test_records_say_where_in_the_source_they_come_from():
    records = check(torch.jit.script(randomise(Pooled())), noise(2, 3, 10, 12))
    assert all(record.location.partition(":")[0].endswith(".py") for record in records)
    assert any(record.location.startswith("test_torch_script.py:") for record in records)


class Raising(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        x = self.layer(x)
        if x.dim() != 2:
            raise ValueError(f"expected rows, found {x.dim()} axes")
        return x


def test_an_error_of_the_model_is_told_as_one_line_with_its_layer():
    script = torch.jit.script(Raising())
    with pytest.raises(RunError, match="expected rows, found 3 axes"):
        trace_of(script, noise(2, 3, 4))
    with pytest.raises(RunError, match="layer layer"):
        trace_of(script, noise(2, 5))
    with pytest.raises(RunError, match="mat1 and mat2 shapes cannot be multiplied"):
        ADAPTER.predict(script, named(noise(2, 5)))


@torch.jit.script
class Holder:
    def __init__(self, x: torch.Tensor):
        self.x = x


class WithObject(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        self.count.add_(1)
        x.mul_(2)
        return self.layer(Holder(self.layer(x)).x) * self.count


def test_what_cannot_be_interpreted_is_opaque_and_its_node_named():
    script = torch.jit.script(randomise(WithObject()))
    assert "prim::CreateObject (test_torch_script.py:" in reason_of(script, noise(2, 4))
    count = float(script.count)
    trace = trace_of(script, noise(2, 4))
    np.testing.assert_array_equal(
        trace.values[trace.outputs[0].value], ADAPTER.predict(script, named(noise(2, 4)))["0"]
    )
    assert float(script.count) == count


def test_parallel_branches_run_one_after_the_other():
    class Forked(nn.Module):
        def forward(self, x):
            first = torch.jit.fork(torch.sin, x)
            return torch.jit.wait(first) + torch.cos(x)

    names = ids(check(torch.jit.script(Forked()), noise(2, 3)))
    assert names == ["sin", "cos", "add"]


def test_writing_in_place_is_followed():
    class Writing(nn.Module):
        def forward(self, x):
            y = x.clone()
            y[:, 0] = 7.0
            y += x
            y[0].mul_(2)
            return y.relu_()

    check(torch.jit.script(Writing()), noise(2, 3))
