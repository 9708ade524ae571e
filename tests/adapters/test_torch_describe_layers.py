"""Layers of torch.nn: nodes in float64 give what torch gave, and the record bears the layer's name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.adapters.torch_recording import check, check_layer, noise, randomise, reason_of, trace_of, whole

few = settings(max_examples=20, deadline=None)

ACTIVATIONS = [
    nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.3), nn.PReLU(), nn.PReLU(3), nn.RReLU(), nn.ELU(0.5), nn.SELU(),
    nn.CELU(0.7), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Hardswish(), nn.Hardsigmoid(),
    nn.Hardtanh(-2, 0.5), nn.Softplus(), nn.Softplus(2, 4), nn.Softsign(), nn.Tanh(), nn.Sigmoid(),
    nn.LogSigmoid(), nn.Softmax(1), nn.Softmax2d(), nn.LogSoftmax(-1), nn.Softmin(2), nn.Tanhshrink(),
    nn.Hardshrink(0.3), nn.Softshrink(0.2), nn.Threshold(0.1, 2.0), nn.GLU(2), nn.Dropout(0.5),
    nn.Dropout2d(), nn.AlphaDropout(), nn.FeatureAlphaDropout(), nn.Identity(),
]  # fmt: skip


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=str)
def test_activation_layer(layer):
    check_layer(layer, noise(2, 3, 4, 5) * 3)


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.Hardtanh(), nn.ELU(), nn.SiLU(), nn.Dropout(0.3)], ids=str)
def test_activation_in_place_keeps_what_was_recorded(layer):
    layer.inplace = True
    records = check(nn.Sequential(nn.Linear(5, 5), layer, nn.Linear(5, 2)).eval(), noise(3, 5))
    assert [record.name for record in records] == ["0", "1", "2"]
    assert records[1].inputs[0].value == "0:0"
    assert records[2].inputs[0].value == "1:0"


@few
@given(st.sampled_from([2, 3, 4, 5]), st.booleans(), st.floats(1e-6, 0.1))
def test_batch_norm(rank, affine, eps):
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[rank]
    record = check_layer(
        kind(3, eps=eps, affine=affine), noise(2, 3, 4, 5, 6)[(slice(None),) * rank + (0,) * (5 - rank)]
    )
    assert record.nodes[0].attributes == {"epsilon": eps}
    assert record.inputs[0].layout == {2: "NC", 3: "NCL", 4: "NCHW", 5: "NCDHW"}[rank]
    roles = ["scale", "bias", "mean", "var"] if affine else ["mean", "var"]
    assert [port.name for port in record.parameters] == roles


def test_batch_norm_in_training_mode_is_opaque():
    layer = nn.Sequential(nn.BatchNorm2d(3))
    trace = trace_of(layer, noise(2, 3, 4, 5))
    record = next(record for record in trace.records if record.name == "0")
    assert record.opaque
    assert "batch statistics (training mode)" in record.reason
    assert [port.value for port in record.parameters][:2] == [
        "parameter:0.running_mean",
        "parameter:0.running_var",
    ]
    np.testing.assert_array_equal(trace.values["parameter:0.running_mean"], np.zeros(3, np.float32))


NORMS = {
    "layer": (nn.LayerNorm(5), (2, 3, 5)),
    "layer two axes": (nn.LayerNorm((3, 5), eps=1e-3), (2, 3, 5)),
    "layer no bias": (nn.LayerNorm(5, bias=False), (2, 3, 5)),
    "layer plain": (nn.LayerNorm(5, elementwise_affine=False), (2, 3, 5)),
    "group": (nn.GroupNorm(3, 6, eps=1e-3), (2, 6, 4, 5)),
    "group 1d": (nn.GroupNorm(2, 6), (2, 6, 7)),
    "group plain": (nn.GroupNorm(2, 6, affine=False), (2, 6, 3)),
    "instance": (nn.InstanceNorm2d(3), (2, 3, 4, 5)),
    "instance affine": (nn.InstanceNorm1d(3, affine=True, eps=1e-3), (2, 3, 5)),
    "instance running": (nn.InstanceNorm2d(3, track_running_stats=True), (2, 3, 4, 5)),
    "instance 3d": (nn.InstanceNorm3d(3, affine=True), (2, 3, 4, 5, 2)),
    "rms": (nn.RMSNorm(5), (2, 3, 5)),
    "rms eps": (nn.RMSNorm((3, 5), eps=1e-2), (2, 3, 5)),
    "rms plain": (nn.RMSNorm(5, elementwise_affine=False), (2, 3, 5)),
    "response": (nn.LocalResponseNorm(3, 0.2), (2, 7, 4, 5)),
    "response even": (nn.LocalResponseNorm(4, 0.2), (2, 7, 4, 5)),
    "response 1d": (nn.LocalResponseNorm(2, 0.2), (2, 7, 4)),
}


@pytest.mark.parametrize("name", NORMS)
def test_normalization_layer(name):
    layer, shape = NORMS[name]
    check_layer(layer, noise(*shape))


def test_rms_norm_without_eps_takes_the_machine_epsilon():
    record = check_layer(nn.RMSNorm(5), noise(2, 5))
    assert record.nodes[0].attributes["epsilon"] == torch.finfo(torch.float32).eps


SHAPES = {
    "linear": (nn.Linear(5, 3), (2, 5)),
    "linear 3d": (nn.Linear(5, 3), (2, 4, 5)),
    "linear no bias": (nn.Linear(5, 3, bias=False), (2, 5)),
    "linear vector": (nn.Linear(5, 3), (5,)),
    "flatten": (nn.Flatten(), (2, 3, 4, 5)),
    "unflatten": (nn.Unflatten(1, (2, 3)), (2, 6)),
    "zero pad": (nn.ZeroPad2d((1, 2, 0, 3)), (1, 3, 4, 5)),
    "constant pad": (nn.ConstantPad1d((1, 2), 3.5), (1, 3, 4)),
    "reflection": (nn.ReflectionPad2d((1, 2, 0, 3)), (1, 3, 4, 5)),
    "replication": (nn.ReplicationPad3d(1), (1, 2, 3, 4, 5)),
    "circular": (nn.CircularPad2d(2), (1, 3, 4, 5)),
    "shuffle": (nn.PixelShuffle(2), (1, 8, 3, 4)),
    "unshuffle": (nn.PixelUnshuffle(2), (1, 2, 4, 6)),
    "channel shuffle": (nn.ChannelShuffle(2), (1, 6, 3, 4)),
    "upsample": (nn.Upsample(scale_factor=2), (1, 3, 4, 5)),
    "upsample bilinear": (nn.UpsamplingBilinear2d(size=(7, 9)), (1, 3, 4, 5)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shape_layer(name):
    layer, shape = SHAPES[name]
    check_layer(layer, noise(*shape))


def test_linear_forms():
    assert check_layer(nn.Linear(5, 3), noise(2, 5)).nodes[0].attributes["transB"] == 1
    record = check_layer(nn.Linear(5, 3), noise(2, 4, 5))
    assert [node.op_type for node in record.nodes] == ["MatMul", "Add"]
    assert (record.parameters[0].layout, record.parameters[0].canonical) == ("OI", "IO")


def test_bilinear():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Bilinear(4, 5, 3)

        def forward(self, x, y):
            return self.inner(x, y)

    assert check(randomise(Two()), noise(2, 6, 4), noise(2, 6, 5))[0].name == "inner"


def test_embedding_reads_the_padding_row_as_it_is():
    record = check_layer(nn.Embedding(7, 4, padding_idx=0), whole(2, 3, low=0, high=7))
    assert record.nodes[0].inputs[0] == "weight"
    assert record.nodes[0].attributes == {"axis": 0}
    assert "max_norm" in reason_of(nn.Embedding(7, 4, max_norm=0.1), whole(2, 3, low=0, high=7))


RESIZES = st.sampled_from(["nearest", "nearest-exact", "linear", "area", "cubic"])


@settings(max_examples=60, deadline=None)
@given(RESIZES, st.integers(1, 3), st.booleans(), st.data())
def test_interpolation_to_a_size(kind, ndim, align, data):
    mode = {"linear": ["linear", "bilinear", "trilinear"][ndim - 1], "cubic": "bicubic"}.get(kind, kind)
    if mode == "bicubic":
        ndim = 2
    sizes = data.draw(st.lists(st.integers(1, 11), min_size=ndim, max_size=ndim))
    options = {"align_corners": align} if kind in ("linear", "cubic") else {}
    x = noise(2, 3, *[4 + axis for axis in range(ndim)])
    check(lambda x: F.interpolate(x, size=sizes, mode=mode, **options), x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic", "nearest-exact"])
@pytest.mark.parametrize("factor", [2, 1.5, 1.3, 0.6])
@pytest.mark.parametrize("recompute", [None, True])
@pytest.mark.filterwarnings("ignore:The default behavior:UserWarning")
def test_interpolation_by_a_factor(mode, factor, recompute):
    x = noise(1, 2, 8, 11)
    options = {"scale_factor": factor, "mode": mode, "recompute_scale_factor": recompute}
    record = check(lambda x: F.interpolate(x, **options), x, rtol=1e-4, atol=1e-5)[0]
    if record.nodes[0].op_type == "Resize":
        assert ("scales" in record.constants) == (recompute is None and factor != 2)
    else:
        assert "nearest" in mode
        assert factor != 2


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("sizes", [(5, 4), (3, 20), (17, 6)])
def test_antialiased_interpolation(mode, sizes):
    check(
        lambda x: F.interpolate(x, size=sizes, mode=mode, antialias=True),
        noise(1, 2, 12, 15),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [True, False])
def test_grid_sample(mode, padding, align):
    x, grid = noise(2, 3, 6, 7), np.tanh(noise(2, 4, 5, 2)).astype(np.float32) * np.float32(1.2)
    options = {"mode": mode, "padding_mode": padding, "align_corners": align}
    check(lambda x, grid: F.grid_sample(x, grid, **options), x, grid, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("align", [True, False])
def test_affine_grid(align):
    check(lambda theta: F.affine_grid(theta, (2, 3, 5, 6), align_corners=align), noise(2, 2, 3))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["LSTM", "GRU", "tanh", "relu"]), st.data())
def test_recurrent_layer(kind, data):
    options = {
        "num_layers": data.draw(st.integers(1, 2)),
        "bidirectional": data.draw(st.booleans()),
        "batch_first": data.draw(st.booleans()),
        "bias": data.draw(st.booleans()),
    }
    make = getattr(nn, kind) if kind.isupper() else lambda *a, **k: nn.RNN(*a, nonlinearity=kind, **k)
    record = check_layer(make(4, 3, **options), noise(2, 5, 4))
    assert record.nodes[-1].op_type != "Identity"
    assert record.name == "0"
    assert len(record.outputs) == (3 if kind == "LSTM" else 2)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layer_with_initial_states(kind):
    class Stateful(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = kind(4, 3, 2, bidirectional=True)

        def forward(self, x, h):
            return self.rnn(x, (h, h * 2) if kind is nn.LSTM else h)

    records = check(randomise(Stateful()), noise(5, 2, 4), noise(4, 2, 3))
    assert records[-1].name == "rnn"


@pytest.mark.parametrize(
    "kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell, lambda *a: nn.RNNCell(*a, nonlinearity="relu")]
)
def test_recurrent_cell(kind):
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = kind(4, 3)

        def forward(self, x):
            state, outputs = None, []
            for step in x.unbind(1):
                state = self.cell(step, state)
                outputs.append(state[0] if isinstance(state, tuple) else state)
            return torch.stack(outputs, 1)

    records = check(randomise(Loop()), noise(2, 5, 4))
    assert [record.id for record in records if record.name == "cell"] == ["cell"] + [
        f"cell#{i}" for i in range(1, 5)
    ]


def test_recurrent_layer_without_a_batch():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(4, 3)

        def forward(self, x):
            return self.gru(x)[0]

    assert [r.name for r in check(randomise(Single()), noise(5, 4))] == [
        "gru/unsqueeze",
        "gru",
        "gru/squeeze",
        "gru/squeeze",
    ]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_what_is_not_described_of_recurrent_layers_says_so():
    assert "proj_size" in reason_of(nn.Sequential(nn.LSTM(4, 3, proj_size=2)), noise(5, 2, 4))
    model = nn.Sequential(nn.LSTM(4, 3, 2, dropout=0.5)).train()
    assert "training mode" in reason_of(model, noise(5, 2, 4))


class Attend(nn.Module):
    """Multi-head attention with its masks as further inputs."""

    def __init__(self, call, **options):
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, **options)
        self.call = call

    def forward(self, *args):
        return self.call(self.inner, *args)


MASK = whole(5, 5, low=0, high=2).astype(bool) & ~np.eye(5, dtype=bool)
PADDING = np.array([[False, False, True, False, True], [False] * 5])
CALLS = {
    "self": (lambda m, x: m(x, x, x), ()),
    "without weights": (lambda m, x: m(x, x, x, need_weights=False), ()),
    "weights per head": (lambda m, x: m(x, x, x, average_attn_weights=False), ()),
    "bool mask": (lambda m, x, mask: m(x, x, x, attn_mask=mask), (MASK,)),
    "float mask": (lambda m, x, mask: m(x, x, x, attn_mask=mask), (noise(5, 5),)),
    "mask without weights": (lambda m, x, mask: m(x, x, x, attn_mask=mask, need_weights=False), (MASK,)),
    "causal": (
        lambda m, x, mask: m(x, x, x, attn_mask=mask, is_causal=True, need_weights=False),
        (np.triu(np.ones((5, 5), bool), 1),),
    ),
    "padding": (lambda m, x, p: m(x, x, x, key_padding_mask=p), (PADDING,)),
    "both": (lambda m, x, p, mask: m(x, x, x, p, attn_mask=mask), (PADDING, MASK & False)),
    "three-d mask": (lambda m, x, mask: m(x, x, x, attn_mask=mask), (noise(4, 5, 5),)),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("bias", [True, False])
def test_multi_head_attention(name, bias):
    call, masks = CALLS[name]
    records = check(randomise(Attend(call, batch_first=True, bias=bias)), noise(2, 5, 8), *masks)
    assert [record.name for record in records] == ["inner"]


def test_multi_head_attention_with_length_first_and_other_keys():
    model = Attend(lambda m, q, k, v: m(q, k, v), kdim=6, vdim=7)
    (record,) = check(randomise(model), noise(4, 2, 8), noise(5, 2, 6), noise(5, 2, 7))
    assert [port.name for port in record.parameters][:3] == [
        "q_proj_weight",
        "k_proj_weight",
        "v_proj_weight",
    ]


def test_multi_head_attention_without_a_batch():
    check(randomise(Attend(lambda m, x: m(x, x, x))), noise(5, 8))


def test_multi_head_attention_with_added_keys_is_opaque():
    assert "bias_k" in reason_of(randomise(Attend(lambda m, x: m(x, x, x), add_bias_kv=True)), noise(5, 2, 8))


def test_multi_head_attention_of_a_subclass_is_described_by_what_it_calls():
    class Own(nn.MultiheadAttention):
        def forward(self, x):
            return super().forward(x, x, x)[0] * 2

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.own = Own(8, 2)

        def forward(self, x):
            return self.own(x)

    records = check(randomise(Holder()), noise(5, 2, 8))
    assert [record.operator for record in records] == [
        "torch.nn.functional.multi_head_attention_forward",
        "torch.Tensor.mul",
    ]


def test_transformer_encoder_layer():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    trace = trace_of(randomise(nn.Sequential(layer)), noise(2, 5, 8))
    from porting_check.testing.replay import check_trace

    assert check_trace(trace, atol=2e-6) == []
    names = [record.id for record in trace.records]
    assert names[:4] == ["0.norm1", "0.self_attn", "0.dropout1", "0/add"]


@pytest.mark.parametrize(
    "make",
    [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_computed_weights_are_ordinary_activations(make):
    layer = make(nn.Conv2d(3, 4, 3))
    trace = trace_of(nn.Sequential(layer).eval(), noise(1, 3, 6, 7))
    record = trace.records[-1]
    assert record.name == "0"
    assert record.operator == "torch.conv2d"
    weight = next(port for port in record.inputs if port.name == "weight")
    assert weight.layout == "OIHW"
    assert not weight.value.startswith(("parameter:", "constant:"))
