"""Models of torch whose gradients are tested."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from porting_check.testing.gradient_contract import Differentiable
from tests.adapters.gradient_models import (
    FIRST,
    FIRST_BIAS,
    IMAGE,
    INTEGERS,
    ROWS,
    SECOND,
    SECOND_BIAS,
    SOFT,
    reversed_gradient,
    two_layers,
)


class Net(nn.Module):
    """Parts by name and a function of them."""

    def __init__(self, forward: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self._forward = forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, *inputs: Any) -> Any:
        """The function."""
        return self._forward(self, *inputs)


def net(forward: Callable[..., Any], **parts: Callable[[], nn.Module]) -> Callable[[], Net]:
    """The same random net at every call, in inference."""

    def build() -> Net:
        state = torch.random.get_rng_state()
        torch.manual_seed(2)
        made = Net(forward, **{name: make() for name, make in parts.items()}).eval()
        torch.random.set_rng_state(state)
        return made

    return build


class Reversed(torch.autograd.Function):
    """Returns its argument; the gradient turns round."""

    @staticmethod
    def forward(context: Any, x: Any) -> Any:
        """The argument."""
        return x.clone()

    @staticmethod
    def backward(context: Any, gradient: Any) -> Any:
        """The negative."""
        return -gradient


def linear() -> Net:
    made = net(
        lambda s, x: s.second(s.first(x)), first=lambda: nn.Linear(6, 4), second=lambda: nn.Linear(4, 3)
    )()
    with torch.no_grad():
        for layer, kernel, bias in ((made.first, FIRST, FIRST_BIAS), (made.second, SECOND, SECOND_BIAS)):
            layer.weight.copy_(torch.tensor(kernel.T))
            layer.bias.copy_(torch.tensor(bias))
    return made


def frozen() -> Net:
    made = dense(lambda s, x: torch.tanh(s.fc(x)))()
    made.fc.weight.requires_grad_(False)
    return made


def unused() -> Net:
    return net(lambda s, x: torch.tanh(s.fc(x)), fc=lambda: nn.Linear(6, 3), spare=lambda: nn.Linear(2, 2))()


def inference() -> Net:
    with torch.inference_mode():
        return dense(lambda s, x: s.fc(x))()


def dense(forward: Callable[..., Any]) -> Callable[[], Net]:
    return net(forward, fc=lambda: nn.Linear(6, 6))


def in_place(s: Any, x: Any) -> Any:
    y = s.fc(x)
    y.mul_(2.0)
    y += x
    return torch.sin(y)


def branching(s: Any, x: Any) -> Any:
    y = s.fc(x)
    return torch.tanh(y) if y.sum() > -1e9 else y


def convolutions() -> Callable[[], Net]:
    return net(
        lambda s, x: s.fc(s.norm(torch.nn.functional.gelu(s.conv(x))).mean((2, 3))),
        conv=lambda: nn.Conv2d(3, 4, 3, 2, 1),
        norm=lambda: nn.GroupNorm(2, 4),
        fc=lambda: nn.Linear(4, 3),
    )


def integers() -> Callable[[], Net]:
    return net(
        lambda s, x, i: s.fc(x) + s.table(i).mean(1),
        fc=lambda: nn.Linear(6, 4),
        table=lambda: nn.Embedding(5, 4),
    )


def examples() -> list[Differentiable]:
    x, soft, first = {"0": ROWS}, {"0": SOFT}, {"0": np.ascontiguousarray(IMAGE.transpose(0, 3, 1, 2))}
    off = ("fc:0", "parameter:fc.bias", "parameter:fc.weight", "sin:0")
    names = ("first.weight", "first.bias", "second.weight", "second.bias")
    return [
        Differentiable("linear", "linear", linear, x, expected=two_layers(names, True)),
        Differentiable("smooth", "smooth", dense(lambda s, x: torch.tanh(s.fc(x)).softmax(-1)), soft),
        Differentiable("convolutions", "smooth", convolutions(), first),
        Differentiable("repeated", "repeated", dense(lambda s, x: s.fc(torch.sin(s.fc(x)))), soft),
        Differentiable(
            "two outputs", "two-outputs", dense(lambda s, x: {"a": s.fc(x).sin(), "b": s.fc(x)[:, :2]}), soft
        ),
        Differentiable("integers", "integers", integers(), {"0": SOFT, "1": INTEGERS}, present=("table:0",)),
        Differentiable("unused", "unused", unused, soft),
        Differentiable("frozen", "frozen", frozen, soft, present=("parameter:fc.weight",)),
        Differentiable("detached", "detached", dense(lambda s, x: x * s.fc(x).detach().sin()), soft, off),
        Differentiable("in-place", "in-place", dense(in_place), soft),
        Differentiable("branching", "branching", dense(branching), soft, ("sum:0",)),
        Differentiable(
            "dropout", "dropout", net(lambda s, x: s.drop(x).sin(), drop=lambda: nn.Dropout(0.5)), soft
        ),
        Differentiable(
            "reversed",
            "rule",
            dense(lambda s, x: 2 * x + Reversed.apply(3 * x)),
            x,
            expected=reversed_gradient,
        ),
        Differentiable("raises", "raises", dense(lambda s, x: s.fc(x[:, :3])), x, says="2x3 and 6x6"),
        Differentiable("inference mode", "unsupported", inference, x, says="inference mode"),
    ]
