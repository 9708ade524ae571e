"""Functions of torch that move elements: shapes, indices, padding, views that are written through."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.adapters.torch_recording import check, noise, reason_of, trace_of

X = noise(2, 3, 4, 5)

MOVES = {
    "flatten": lambda x: x.flatten(1),
    "flatten all": lambda x: torch.flatten(x),
    "flatten some": lambda x: x.flatten(1, 2),
    "unflatten": lambda x: x.unflatten(3, (5, 1)),
    "reshape": lambda x: x.reshape(2, -1),
    "view": lambda x: x.view(6, 20),
    "view_as": lambda x: x.view_as(torch.zeros(6, 20)),
    "ravel": lambda x: x.ravel(),
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "permute list": lambda x: torch.permute(x, (3, 0, -2, 1)),
    "transpose": lambda x: x.transpose(1, -1),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "T": lambda x: x[0, 0].T,
    "mT": lambda x: x.mT,
    "movedim": lambda x: torch.movedim(x, 1, -1),
    "movedim several": lambda x: torch.movedim(x, (0, 1), (2, 0)),
    "squeeze": lambda x: x[:1, :, :1].squeeze(),
    "squeeze dim": lambda x: x[:1].squeeze(0).squeeze(0),
    "squeeze dims": lambda x: torch.squeeze(x[:1, :, :1], (0, 2)),
    "unsqueeze": lambda x: x.unsqueeze(-1).unsqueeze(0),
    "expand": lambda x: x[:, :1].expand(2, 3, 4, 5),
    "expand more": lambda x: x.expand(7, -1, -1, -1, -1),
    "expand_as": lambda x: x[:, :1].expand_as(x),
    "broadcast_tensors": lambda x: torch.broadcast_tensors(x[:, :1], x),
    "repeat": lambda x: x.repeat(2, 1, 3, 1),
    "repeat more": lambda x: x.repeat(2, 1, 1, 1, 2),
    "tile": lambda x: torch.tile(x, (2, 3)),
    "repeat_interleave": lambda x: x.repeat_interleave(3, dim=2),
    "repeat_interleave flat": lambda x: torch.repeat_interleave(x, 2),
    "split": lambda x: x.split(3, dim=3),
    "split sizes": lambda x: torch.split(x, [1, 4], dim=-1),
    "chunk": lambda x: x.chunk(3, 3),
    "tensor_split": lambda x: torch.tensor_split(x, 2, dim=2),
    "unbind": lambda x: x.unbind(1),
    "iteration": lambda x: list(x),
    "narrow": lambda x: x.narrow(3, 1, 2),
    "select": lambda x: x.select(1, -1),
    "diagonal": lambda x: (x.diagonal(0, 2, 3), torch.diagonal(x, -2, 3, 1), x[0, 0].diagonal(1)),
    "roll": lambda x: x.roll(2, 3),
    "roll several": lambda x: torch.roll(x, (1, -1), (2, 3)),
    "roll flat": lambda x: torch.roll(x, 7),
    "flip": lambda x: x.flip(1, 3),
    "tril": lambda x: x.tril(),
    "triu": lambda x: torch.triu(x, diagonal=1),
    "index_select": lambda x: torch.index_select(x, 1, torch.tensor([2, 0])),
    "take_along_dim": lambda x: torch.take_along_dim(x, (x > 0).long(), dim=1),
    "fill": lambda x: x.clone().fill_(3) + x,
    "zero": lambda x: x.clone().zero_() + x,
    "contiguous": lambda x: x.permute(0, 3, 1, 2).contiguous() * 2,
    "clone": lambda x: x.clone() + x.detach(),
    "data": lambda x: x.data * 2,
    "created": lambda x: x + torch.zeros(5) + torch.arange(5) + torch.full((4, 5), 2.0) + torch.ones_like(x),
    "channel_shuffle": lambda x: F.channel_shuffle(x.repeat(1, 2, 1, 1), 3),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x[..., :4], 2),
}


@pytest.mark.parametrize("name", MOVES)
def test_movement(name):
    check(MOVES[name], X)


INDICES = {
    "integer": lambda x: x[1],
    "negative": lambda x: x[:, -1, ..., -2],
    "slices": lambda x: x[:, 1:, ::2, -3:],
    "none": lambda x: x[:, None, 0],
    "none last": lambda x: x[..., None],
    "everything": lambda x: x[None, 0, :, None, 1:2, None, ...],
    "tensor": lambda x: x[torch.tensor([1, 0, 1])],
    "tensor later": lambda x: x[:, 1:, torch.tensor([3, -1])],
    "tensor matrix": lambda x: x[:, :, torch.tensor([[0, 1], [2, 3]])],
    "tensor and integer": lambda x: x[0, :, torch.tensor([1, 2])],
    "list": lambda x: x[:, [2, 0]],
    "two tensors": lambda x: x[torch.tensor([0, 1]), torch.tensor([2, 0])],
    "two tensors inside": lambda x: x[:, torch.tensor([0, 1]), torch.tensor([2, 3])],
    "two tensors apart": lambda x: x[torch.tensor([0, 1]), :, torch.tensor([2, 3])],
    "two broadcast": lambda x: x[torch.tensor([[0], [1]]), torch.tensor([2, 0, 1])],
    "mask": lambda x: x[x > 0],
    "mask leading": lambda x: x[torch.tensor([True, False])],
}


@pytest.mark.parametrize("name", INDICES)
def test_index(name):
    check(INDICES[name], X)


def _write(*steps):
    def run(x):
        x = x.clone() * 1
        for step in steps:
            step(x)
        return x * 2

    return run


def _set(index, value):
    def step(x):
        x[index] = value

    return step


WRITES = {
    "number": _set((slice(None), 0), 7.0),
    "row": _set(1, torch.arange(5.0)),
    "region": _set((slice(None), slice(1, 3), slice(0, 2), slice(1, 4)), 9.0),
    "ellipsis": _set((..., -1), torch.tensor(3)),
    "steps": _set((..., slice(0, 5, 2)), torch.ones(4, 3)),
    "leading ones": _set((slice(None), 1), torch.ones(1, 1, 2, 4, 5) * 2),
    "everything": _set(slice(None), 1.5),
    "tensor rows": _set(torch.tensor([1]), torch.ones(3, 4, 5)),
}


@pytest.mark.parametrize("name", WRITES)
def test_assignment(name):
    records = check(_write(WRITES[name]), X)
    assert any(record.operator == "torch.Tensor.__setitem__" for record in records)


def test_assignment_under_a_mask():
    def run(x):
        x = x * 1
        x[x > 0.3] = -1
        return x + 1

    check(run, X)


VIEWS = {
    "slice": lambda x: x[:, 1:3].mul_(2),
    "integer": lambda x: x[..., 0].add_(1),
    "step": lambda x: x[..., ::2].neg_(),
    "flat": lambda x: x.view(-1).relu_(),
    "transposed": lambda x: x.permute(3, 2, 1, 0).mul_(torch.arange(5.0).view(5, 1, 1, 1)),
    "chunk": lambda x: x.chunk(2, dim=3)[0].sigmoid_(),
    "diagonal": lambda x: x[0, 0].diagonal().fill_(7),
    "transposed region": lambda x: x[0, 0, :4, :4].t()[1:3].zero_(),
    "data": lambda x: x.data.mul_(3),
    "chain": lambda x: x[0][1:][..., 2].exp_(),
    "setitem": lambda x: x[1].__setitem__((slice(None), 2), 5.0),
    "row of rows": lambda x: x.flatten(0, 1)[4].mul_(0.5),
}


@pytest.mark.parametrize("name", VIEWS)
def test_write_through_a_view_gives_the_base_a_new_value(name):
    def run(x):
        base = x * 1
        before = base.sum((2, 3))
        VIEWS[name](base)
        return base * 2, before

    records = check(run, X)
    assert any(record.name == "write_through_view" for record in records)


def test_write_into_the_base_gives_its_views_new_values():
    def run(x):
        base = x * 1
        part, flat = base[:, 1], base.view(-1)
        base.mul_(3)
        return part + 1, flat * 2

    names = [record.id for record in check(run, X)]
    assert names.count("write_through_view") == 1
    assert "write_through_view#1" in names


def test_several_writes_before_the_base_is_used_are_one_record():
    def run(x):
        base = x * 1
        for place in range(3):
            base[:, place].mul_(place + 2)
        base[:, 1:].add_(1)
        return base * 2

    assert [record.id for record in check(run, X)].count("write_through_view") == 1


def test_write_beside_another_view_leaves_it_alone():
    def run(x):
        first, second = (x * 1).chunk(2, dim=3)
        first.mul_(3)
        return first + 1, second + 1

    records = check(run, X)
    assert [record.name for record in records] == ["mul", "chunk", "mul", "add", "add"]


def test_overlapping_views_that_no_nodes_describe_are_opaque_and_right():
    def run(x):
        base = x.repeat(40, 40, 1, 1)
        low, high = base.view(-1)[:-3], base.view(-1)[3:]
        low.mul_(2)
        return high + 1

    trace = trace_of(run, noise(20, 3, 4, 5))
    opaque = [record for record in trace.records if record.opaque]
    assert [record.id for record in opaque] == ["write_through_view"]
    assert opaque[0].reason.startswith("a write through a view")
    expected = run(torch.from_numpy(noise(20, 3, 4, 5))).numpy()
    np.testing.assert_array_equal(trace.values[trace.outputs[0].value], expected)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_slices_read_and_write(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))

    def item(size):
        whole, one = st.slices(size).filter(lambda s: (s.step or 1) > 0), st.integers(-size, size - 1)
        return data.draw(st.one_of(whole, one))

    index = tuple(item(size) for size in shape[: data.draw(st.integers(1, len(shape)))])

    def run(x):
        taken = x[index]
        base = x * 1
        base[index] = 2.0
        view = base[index]
        view += 1
        return taken + 0.5, base * 2

    check(run, noise(*shape))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_padding(data):
    ndim = data.draw(st.integers(2, 5))
    mode = data.draw(
        st.sampled_from(["constant", "reflect", "replicate", "circular"] if ndim > 2 else ["constant"])
    )
    axes = data.draw(st.integers(1, ndim)) if mode == "constant" else ndim - 2
    low = -1 if mode == "constant" else 0
    amounts = data.draw(st.lists(st.integers(low, 2), min_size=2 * axes, max_size=2 * axes))
    options = {"value": 1.5} if mode == "constant" else {}
    check(lambda x: F.pad(x, amounts, mode=mode, **options), noise(*[3 + axis for axis in range(ndim)]))


def test_reshape_to_other_bits_is_opaque():
    assert "same bits" in reason_of(lambda x: x.view(torch.int32) + 1, X)


def test_empty_tensors():
    check(lambda x: torch.cat([x[:0], x]).reshape(-1)[:0].sum(), X)
