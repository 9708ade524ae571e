"""The contract of recording: what a run of a torch model leaves behind, in the trace and in the model."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from porting_check_torch.record import record_model
from torch import nn

from porting_check.neutral.errors import InputError, RecordingError, RunError
from porting_check.neutral.trace import MemorySink
from porting_check.testing.replay import check_trace
from tests.adapters.torch_recording import ADAPTER, check, noise, randomise, trace_of, whole


class Tricky(nn.Module):
    """Everything that breaks recorders: reuse, control flow, views, writes in place, direct calls."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(8, 8)
        self.gru = nn.GRU(8, 8, batch_first=True)
        self.mha = nn.MultiheadAttention(8, 2, batch_first=True)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        h = self.lin(x)
        if h.mean() > -9:
            h = self.lin(h)
        e = torch.einsum("bij,bkj->bik", h, x)
        g, _ = self.gru(h)
        c = torch.cat([g, x], -1)
        c[..., 0].mul_(2)
        c = self.act(c)
        y = c[..., :8]
        a, _ = self.mha(y, y, y)
        a += y
        return {"a": self.lin.forward(a), "e": e}


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1, self.bn1 = (
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.conv2, self.bn2 = (
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


def cnn():
    """A small residual network with in-place operators."""
    layers = OrderedDict(
        stem=nn.Conv2d(3, 8, 3, stride=2), pool=nn.MaxPool2d(2), layer1=nn.Sequential(Block(8), Block(8))
    )
    return randomise(
        nn.Sequential(
            OrderedDict(**layers, gap=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(8, 4))
        )
    )


def test_tricky_module_is_recorded_whole_and_unchanged():
    torch.manual_seed(0)
    model, x = randomise(Tricky()), noise(2, 5, 8)
    records = check(model, x, atol=1e-5)
    names = [record.id for record in records]
    assert names == [
        "lin", "mean", "gt", "lin#1", "einsum", "gru", "cat", "getitem", "mul", "write_through_view", "act",
        "getitem#1", "mha", "add", "linear",
    ]  # fmt: skip
    trace = trace_of(model, x)
    assert [port.name for port in trace.outputs] == ["a", "e"]
    assert trace.outputs[0].value == "linear:0"
    assert trace.outputs[1].value == "einsum:0"
    assert [port.value for port in trace.records[3].parameters] == [
        "parameter:lin.weight",
        "parameter:lin.bias",
    ]


def test_residual_network_edges_names_and_values():
    model, x = cnn(), noise(2, 3, 30, 32)
    records = check(model, x)
    by_id = {record.id: record for record in records}
    assert [record.name for record in records][:9] == [
        "stem", "pool", "layer1.0.conv1", "layer1.0.bn1", "layer1.0.relu", "layer1.0.conv2", "layer1.0.bn2",
        "layer1.0/add", "layer1.0.relu",
    ]  # fmt: skip
    added = by_id["layer1.0/add"]
    assert [port.value for port in added.inputs] == ["layer1.0.bn2:0", "pool:0"]
    assert [port.value for port in by_id["layer1.0.relu#1"].inputs] == ["layer1.0/add:0"]
    assert [port.value for port in by_id["layer1.1.conv1"].inputs] == ["layer1.0.relu#1:0"]
    assert added.location.startswith("test_torch_recording.py:")


def test_recording_changes_neither_output_nor_model_nor_random_numbers():
    model, x = cnn(), noise(2, 3, 30, 32)
    given, before = x.copy(), {name: t.clone() for name, t in model.state_dict().items()}
    identity = {name: id(t) for name, t in model.named_parameters()}
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    expected = torch.rand(3).tolist(), random.random(), np.random.rand()
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    outputs = ADAPTER.predict(model, {"0": x})
    trace = trace_of(model, x)
    assert (torch.rand(3).tolist(), random.random(), np.random.rand()) == expected
    np.testing.assert_array_equal(outputs["0"], trace.values[trace.outputs[0].value])
    np.testing.assert_array_equal(x, given)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert identity == {name: id(t) for name, t in model.named_parameters()}
    assert all(parameter.requires_grad for parameter in model.parameters())


def _hooks(model):
    from torch.nn.modules import module as hooks

    each = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    return each, len(hooks._global_forward_hooks), len(hooks._global_forward_pre_hooks)


@pytest.mark.parametrize("fails", [False, True])
def test_model_in_training_mode_is_left_as_it_was(fails):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn, self.drop, self.mha = nn.BatchNorm1d(4), nn.Dropout(0.5), nn.MultiheadAttention(4, 2)
            self.register_buffer("steps", torch.zeros(1))

        def forward(self, x):
            self.steps += 1
            self.steps = self.steps + 1
            x = self.drop(self.bn(x))
            x, _ = self.mha(x, x, x)
            self.eval()
            return x + torch.ones(5 if fails else 1)

    model, x = Net().train(), noise(6, 4)
    steps, hooks = model.steps, _hooks(model)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for run in (ADAPTER.predict, lambda m, i: ADAPTER.record(m, i, MemorySink())):
        with pytest.raises(RunError) if fails else contextlib.nullcontext():
            run(model, {"0": x})
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
        assert model.steps is steps
        assert all(module.training for module in model.modules())
        assert torch.equal(torch.get_rng_state(), state)
        assert _hooks(model) == hooks
        assert torch.is_grad_enabled()
    assert torch.overrides._get_current_function_mode() is None


def test_random_models_draw_the_same_numbers_recorded_and_unrecorded():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).train()
    trace, outputs = trace_of(model, noise(3, 4)), ADAPTER.predict(model, {"0": noise(3, 4)})
    np.testing.assert_array_equal(outputs["0"], trace.values[trace.outputs[0].value])
    assert "training mode" in trace.records[-1].reason


def test_arrays_are_owned_and_keep_their_values_when_the_model_is_trained():
    model, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)), noise(3, 4)
    trace, outputs = trace_of(model, x), ADAPTER.predict(model, {"0": x})
    copies = {key: np.array(array) for key, array in trace.values.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    x += 1
    assert all(array.flags.owndata for array in [*trace.values.values(), *outputs.values()])
    assert all(np.array_equal(copies[key], array) for key, array in trace.values.items())


def test_input_written_in_place_is_the_callers_no_more():
    x = noise(3, 4)
    given = x.copy()
    trace = trace_of(lambda x: x.mul_(2).add_(1), x)
    np.testing.assert_array_equal(x, given)
    np.testing.assert_array_equal(trace.values["input:0"], given)
    assert [record.inputs[0].value for record in trace.records] == ["input:0", "mul:0"]


def test_repeated_calls_and_shared_layers_are_counted_from_zero():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = self.again = nn.Linear(4, 4)

        def forward(self, x):
            return self.again(F.relu(self.first(x)))

    assert [(r.id, r.call) for r in check(Twice(), noise(2, 4))] == [
        ("first", 0),
        ("relu", 0),
        ("first#1", 1),
    ]


def test_tied_weights_are_stored_once_under_their_first_name():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, i):
            return self.head(self.embed(i))

    trace = trace_of(Tied(), whole(2, 3, low=0, high=7))
    assert [p.value for r in trace.records for p in r.parameters] == ["parameter:embed.weight"] * 2
    assert list(ADAPTER.parameters(Tied())) == ["embed.weight"]


def test_functions_on_own_parameters_bear_the_modules_path():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain, self.free = nn.Parameter(torch.ones(4) * 2), torch.ones(100, 4)

        def forward(self, x):
            return (x * self.gain).sum(0) + self.free

    records = check(nn.Sequential(OrderedDict(scale=Scale())), noise(3, 4))
    assert [record.name for record in records] == ["scale", "scale/sum", "scale/add"]
    assert [port.value for port in records[2].inputs] == ["scale/sum:0", "constant:0"]


def test_small_captured_tensors_are_constants_of_the_record():
    mean = torch.tensor([0.1, 0.2])
    (record,) = check(lambda x: x - mean, noise(3, 2))
    np.testing.assert_array_equal(record.constants["other"], mean.numpy())


def test_a_captured_tensor_that_is_written_to_keeps_its_first_value():
    state = torch.zeros(3, 4)

    def run(x):
        state.zero_()
        before = x + state
        state.add_(x)
        return before + state

    records = check(run, noise(3, 4))
    assert [record.name for record in records] == ["zero", "add", "add", "add"]


@dataclass
class Detection:
    boxes: list
    score: torch.Tensor
    label: str = "cat"


def test_nested_outputs_are_named_by_path():
    def run(x):
        return {
            "logits": x + 1,
            "deep": (x * 2, {"count": 3}, None),
            "found": Detection([x - 1, x - 2], x.sum()),
        }

    expected = ["logits", "deep/0", "deep/1/count", "found/boxes/0", "found/boxes/1", "found/score"]
    assert [port.name for port in trace_of(run, noise(2)).outputs] == expected
    assert list(ADAPTER.predict(run, {"0": noise(2)})) == expected


def test_inputs_by_position_and_by_name():
    class Two(nn.Module):
        def forward(self, x, y, *, scale, shift=0):
            return x * scale + y + shift

    inputs = {"0": noise(3), "1": noise(3, seed=1), "scale": noise(3, seed=2)}
    sink = MemorySink()
    ADAPTER.record(Two(), inputs, sink)
    assert [(port.name, port.value) for port in sink.inputs] == [
        ("0", "input:0"),
        ("1", "input:1"),
        ("scale", "input:scale"),
    ]
    assert [spec.name for spec in ADAPTER.inputs(Two())] == ["0", "1", "scale"]
    with pytest.raises(InputError, match="without a gap"):
        ADAPTER.predict(Two(), {"0": noise(3), "2": noise(3)})


def test_output_that_is_the_input_or_a_constant():
    trace = trace_of(lambda x: (x, torch.ones(2), x.detach()), noise(3))
    assert [port.value for port in trace.outputs] == ["input:0", "constant:0", "input:0"]


def test_identity_layers_make_a_value_of_their_own():
    trace = trace_of(nn.Sequential(nn.Identity(), nn.Dropout(0.1), nn.ReLU()).eval(), noise(3))
    assert [(r.id, r.inputs[0].value, r.nodes[0].op_type) for r in trace.records] == [
        ("0", "input:0", "Identity"), ("1", "0:0", "Identity"), ("2", "1:0", "Relu"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float64", "int32", "uint8", "bool", "complex64", "float8_e4m3fn"]
)
def test_dtypes_survive(dtype):
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    x = whole(2, 3, low=0, high=5).astype(kind)
    trace = trace_of(lambda x: (x.reshape(3, 2), x[0]), x)
    for port in trace.outputs:
        assert trace.values[port.value].dtype == kind
    np.testing.assert_array_equal(trace.values["input:0"].astype(np.complex64), x.astype(np.complex64))
    outputs = ADAPTER.predict(lambda x: x.reshape(3, 2), {"0": x})
    np.testing.assert_array_equal(outputs["0"].astype(np.complex64), x.reshape(3, 2).astype(np.complex64))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_values_that_numpy_cannot_hold_are_widened_and_noted():
    trace = trace_of(lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), noise(3, 40))
    assert trace.records[0].opaque
    np.testing.assert_allclose(trace.values[trace.outputs[0].value], noise(3, 40), atol=0.051)
    assert "values of dtype qint8 are recorded as float32" in ADAPTER.notes
    trace = trace_of(lambda x: x.to_sparse().to_dense() + 1, noise(3, 40))
    np.testing.assert_array_equal(trace.values[trace.outputs[0].value], noise(3, 40) + 1)


def test_scalars_and_empty_tensors_are_recorded():
    check(lambda x: (x.sum(), x[:0] * 2), noise(2, 3))


def test_control_flow_follows_the_values():
    def run(x):
        return x + 1 if x.sum() > 0 else x - 1

    assert [r.name for r in trace_of(run, np.ones(3, np.float32)).records] == ["sum", "gt", "add"]
    assert [r.name for r in trace_of(run, -np.ones(3, np.float32)).records] == ["sum", "gt", "sub"]


def test_values_that_leave_torch_are_noted():
    trace_of(lambda x: torch.from_numpy(x.numpy() * 2) + 1, noise(3))
    assert any("takes values out of torch" in note for note in ADAPTER.notes)


def test_transforms_are_noted():
    trace = trace_of(lambda x: torch.vmap(lambda row: row * 2 + row.sum())(x * 3) + 1, noise(20, 4))
    assert [record.name for record in trace.records] == ["mul", "add"]
    assert any("inside a transform" in note for note in ADAPTER.notes)


def test_functions_with_gradients_of_their_own_and_checkpoints_are_seen():
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone() * 2

    records = check(
        lambda x: torch.utils.checkpoint.checkpoint(Doubled.apply, x + 1, use_reentrant=False), noise(3, 4)
    )
    assert [record.name for record in records] == ["add", "mul"]


def test_inference_mode_inside_the_model_does_not_hide_writes():
    @torch.inference_mode()
    def run(x):
        base = x * 2
        F.relu(base[:, 1], inplace=True)
        base[:, 0] += 1
        return base * 3

    found = [record.id for record in check(run, noise(3, 4)) if "view" in record.name]
    assert found == ["write_through_view", "write_through_view#1"]


def test_a_buffer_that_shares_memory_is_never_recorded_with_a_wrong_value():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("whole", torch.ones(100))
            self.register_buffer("part", self.whole[10:90])

        def forward(self, x):
            self.part.mul_(3)
            return x * self.whole

    model, x = Shared(), noise(100)
    trace, outputs = trace_of(model, x), ADAPTER.predict(model, {"0": x})
    assert check_trace(trace) == []
    np.testing.assert_array_equal(outputs["0"], trace.values[trace.outputs[0].value])
    assert any("was changed through another tensor" in note for note in ADAPTER.notes)
    assert torch.equal(model.whole, torch.ones(100))


def test_unseen_writes_are_noted_and_never_silently_wrong():
    held = torch.ones(100)

    def run(x):
        y = x + held
        with torch._C.DisableTorchFunction():
            held.add_(1)
        return y * held

    trace = trace_of(run, noise(100))
    assert check_trace(trace) == []
    assert any("was changed by something that was not observed" in note for note in ADAPTER.notes)


def test_fused_fast_path_that_recording_disables_is_noted():
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)).eval()
    trace = trace_of(model, noise(2, 5, 8))
    assert any("fast path" in note for note in ADAPTER.notes)
    outputs = ADAPTER.predict(model, {"0": noise(2, 5, 8)})
    np.testing.assert_allclose(outputs["0"], trace.values[trace.outputs[0].value], atol=1e-5)
    trace_of(nn.Sequential(nn.Linear(8, 8)), noise(2, 8))
    assert ADAPTER.notes == ()


def test_multi_head_attention_keeps_its_fast_path():
    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.MultiheadAttention(64, 8, batch_first=True)

        def forward(self, x):
            return self.inner(x, x, x)

    model, x = randomise(Attend()), noise(4, 40, 64)
    seen = []
    native = torch._native_multi_head_attention
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch, "_native_multi_head_attention", lambda *a, **k: seen.append(1) or native(*a, **k)
        )
        trace, outputs = trace_of(model, x), ADAPTER.predict(model, {"0": x})
    assert len(seen) == 2, "both the recorded and the unrecorded run take the fused kernel"
    np.testing.assert_array_equal(outputs["0"], trace.values[trace.outputs[0].value])


def test_error_in_a_layer_names_it():
    model = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 4, 3), conv2=nn.Conv2d(5, 4, 3)))
    with pytest.raises(RunError, match="RuntimeError while recording layer conv2: Given groups=1") as caught:
        trace_of(model, noise(1, 3, 8, 8))
    assert "(1, 3, 8, 8) float32" in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(RunError, match="the model raised RuntimeError: Given groups=1"):
        ADAPTER.predict(model, {"0": noise(1, 3, 8, 8)})


def test_error_in_python_code_names_the_innermost_layer():
    class Broken(nn.Module):
        def forward(self, x):
            raise KeyError("nothing here")

    model = nn.Sequential(OrderedDict(outer=nn.Sequential(OrderedDict(inner=Broken()))))
    with pytest.raises(RunError, match=r"KeyError while recording layer outer\.inner: 'nothing here'"):
        trace_of(model, noise(3))


def test_errors_that_the_model_handles_do_not_disturb():
    class Careful(nn.Module):
        def __init__(self):
            super().__init__()
            self.bad, self.good = nn.Linear(5, 5), nn.Linear(4, 4)

        def forward(self, x):
            try:
                return self.bad(x)
            except RuntimeError:
                return F.relu(self.good(x))

    assert [record.name for record in check(Careful(), noise(2, 4))] == ["good", "relu"]


def test_a_sink_that_fails_is_not_blamed_on_the_model():
    class Full(MemorySink):
        def value(self, key, array):
            if key == "1:0":
                raise RecordingError("the disk is full")
            super().value(key, array)

    class Swallows(nn.Sequential):
        def forward(self, x):
            with contextlib.suppress(Exception):
                x = super().forward(x)
            return x

    for kind in (nn.Sequential, Swallows):
        with pytest.raises(RecordingError, match="disk is full"):
            ADAPTER.record(kind(nn.Linear(4, 4), nn.ReLU()), {"0": noise(2, 4)}, Full())


def test_modules_outside_of_the_model_are_named_by_their_surroundings():
    hidden = [nn.Linear(4, 4)]

    class Outer(nn.Module):
        def forward(self, x):
            return hidden[0](x)

    records = check(nn.Sequential(OrderedDict(outer=Outer())), noise(2, 4))
    assert [record.name for record in records] == ["outer/Linear"]


def test_the_subclass_for_old_torch_sees_the_same_records():
    model, x = randomise(Tricky()), noise(2, 5, 8)
    sink = MemorySink()
    notes = record_model(model, {"0": x}, sink, by_mode=False)
    trace, usual = sink.trace("tricky", ADAPTER.environment()), trace_of(model, x)
    assert [record.id for record in trace.records] == [record.id for record in usual.records]
    assert check_trace(trace, atol=1e-5) == []
    assert notes == []
    for port, other in zip(trace.outputs, usual.outputs, strict=True):
        np.testing.assert_array_equal(trace.values[port.value], usual.values[other.value])


def test_the_subclass_for_old_torch_records_a_network():
    model, x = cnn(), noise(2, 3, 30, 32)
    sink = MemorySink()
    record_model(model, {"0": x}, sink, by_mode=False)
    assert [r.id for r in sink.records] == [r.id for r in trace_of(model, x).records]
    assert check_trace(sink.trace("cnn", ADAPTER.environment())) == []


def test_importing_the_adapter_imports_no_other_framework():
    others = "('tensorflow', 'jax', 'keras', 'onnx')"
    code = f"import sys, porting_check_torch; print([m for m in {others} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
