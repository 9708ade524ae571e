"""Optimisers as data: the rule by which parameters follow from gradients, and its steps in float64.

The rules are those that the frameworks document. SGD: ``b = momentum * b + g; p -= rate * b`` (torch, optax) or
``v = momentum * v + rate * g; p -= v`` (Keras), which are one function as long as the rate stays. Adam: Kingma and Ba,
algorithm 1; ``hat`` is the efficient form of their section 2, where epsilon is added before the second moment is corrected
(Keras, TensorFlow). RMSprop: epsilon outside of the root (torch) or inside (TensorFlow, Keras, optax). Weight decay: added
to the gradient (``coupled``, L2) or taken off the parameter by ``rate * decay * p`` (``decoupled``, Loshchilov and Hutter).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Array = np.ndarray
Arrays = Mapping[str, Array]
Family = Literal["sgd", "adam", "rmsprop", "adagrad"]
Placement = Literal["outside", "hat", "inside"]
Decay = Literal["", "coupled", "decoupled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How parameters follow from gradients.

    ``rates`` is the learning rate of each step, or one for all. ``placement`` says where epsilon stands: ``outside``
    (``sqrt(v) + eps``, after the bias correction where there is one), ``hat`` (``sqrt(v) + eps`` before it), ``inside``
    (``sqrt(v + eps)``). ``corrected``: whether the moments are corrected for their start at zero. ``amsgrad``: ``""``, the
    largest second moment ``before`` or ``after`` the correction. ``rate_inside``: momentum accumulates rate times gradient.
    ``initial``: what an accumulator of squares begins with. ``clip``: ``""``, ``value``, ``norm`` (of each tensor),
    ``global norm``, to ``clip_at``.

    Example:
        >>> rule = Rule(family="sgd", rates=(0.1,), momentum=0.9)
        >>> [float(p["w"][0]) for p in simulate(rule, {"w": np.ones(1)}, [{"w": np.ones(1)}] * 2)]
        [0.9, 0.71]
    """

    family: Family
    rates: tuple[float, ...]
    momentum: float = 0.0
    nesterov: bool = False
    rate_inside: bool = False
    beta_1: float = 0.0
    beta_2: float = 0.0
    epsilon: float = 0.0
    placement: Placement = "outside"
    corrected: bool = False
    amsgrad: str = ""
    centered: bool = False
    initial: float = 0.0
    decay: Decay = ""
    weight_decay: float = 0.0
    clip: str = ""
    clip_at: float = 0.0

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self.rates[min(step, len(self.rates) - 1)]

    @property
    def constant_rate(self) -> bool:
        """Whether every step has the same learning rate."""
        return max(self.rates) - min(self.rates) <= 1e-4 * max(self.rates)

    def __str__(self) -> str:
        said = [
            f"learning rate {self.rates[0]:.6g}"
            + ("" if self.constant_rate else " at first, then other ones")
        ]
        if self.momentum:
            said.append(f"{'Nesterov ' if self.nesterov else ''}momentum {self.momentum:.6g}")
        if self.family == "adam":
            said.append(f"betas {self.beta_1:.6g} and {self.beta_2:.6g}")
        if self.family == "rmsprop":
            said.append(f"decay of squares {self.beta_2:.6g}{', centered' if self.centered else ''}")
        if self.family != "sgd":
            said.append(f"epsilon {self.epsilon:.3g} {WHERE[self.placement, self.corrected]}")
        if self.family == "adam" and not self.corrected:
            said.append("no bias correction")
        said += ["AMSGrad"] if self.amsgrad else []
        said += [f"accumulator from {self.initial:.3g}"] if self.initial else []
        said += [f"weight decay {self.weight_decay:.6g} {DECAYS[self.decay]}"] if self.decay else []
        said += [f"gradients clipped by {self.clip} at {self.clip_at:.6g}"] if self.clip else []
        return f"{NAMES[self.family]} with " + ", ".join(said)


NAMES = {"sgd": "SGD", "adam": "Adam", "rmsprop": "RMSprop", "adagrad": "Adagrad"}
DECAYS = {"coupled": "in the gradient (L2)", "decoupled": "decoupled from the gradient"}
"""Where weight decay acts."""

WHERE = {
    ("outside", True): "added after the bias correction",
    ("hat", True): 'added before the bias correction ("epsilon hat")',
    ("inside", True): "inside the root",
    ("outside", False): "outside the root",
    ("inside", False): "inside the root",
    ("hat", False): "outside the root",
}
"""Where epsilon stands, by placement and whether there is a bias correction."""


@dataclass(slots=True)
class State:
    """What an optimiser remembers between steps, for all parameters at once in one row."""

    first: Array
    second: Array
    mean: Array
    velocity: Array
    largest: Array
    step: int = 0

    @classmethod
    def fresh(cls, rule: Rule, size: int) -> State:
        """Before the first step."""
        first, mean, velocity, largest = np.zeros((4, size))
        return cls(first, np.full(size, rule.initial), mean, velocity, largest)


def movement(rule: Rule, state: State, parameter: Array, gradient: Array) -> Array:
    """What one step takes off the parameters; the state goes on.

    Args:
        rule: the rule.
        state: as the last step left it.
        parameter: all parameters in one row, before the step.
        gradient: of the same shape, already clipped.
    """
    rate, coupled = rule.rate(state.step), rule.decay == "coupled"
    gradient = gradient + rule.weight_decay * parameter if coupled else gradient
    state.step += 1
    moved = (
        _sgd(rule, state, gradient, rate) if rule.family == "sgd" else _adaptive(rule, state, gradient, rate)
    )
    return moved + rate * rule.weight_decay * parameter if rule.decay == "decoupled" else moved


def _sgd(rule: Rule, state: State, gradient: Array, rate: float) -> Array:
    if rule.momentum == 0:
        return rate * gradient
    scale, after = (rate, 1.0) if rule.rate_inside else (1.0, rate)
    state.velocity = rule.momentum * state.velocity + scale * gradient
    ahead = rule.momentum * state.velocity + scale * gradient if rule.nesterov else state.velocity
    return np.asarray(after * ahead)


def _adaptive(rule: Rule, state: State, gradient: Array, rate: float) -> Array:
    """Adam, RMSprop and Adagrad: a first moment over the root of a second one."""
    squared = np.square(gradient)
    if rule.family == "adagrad":
        state.second = state.second + squared
    else:
        state.second = rule.beta_2 * state.second + (1 - rule.beta_2) * squared
    state.first = rule.beta_1 * state.first + (1 - rule.beta_1) * gradient
    first, second, epsilon = state.first, state.second, rule.epsilon
    if rule.centered:
        state.mean = rule.beta_2 * state.mean + (1 - rule.beta_2) * gradient
        second = np.maximum(second - np.square(state.mean), 0.0)
    if rule.amsgrad == "before":
        state.largest = second = np.maximum(state.largest, second)
    if rule.corrected:
        first = first / (1 - rule.beta_1**state.step)
        correction = 1 - rule.beta_2**state.step
        second = second / correction
        epsilon = epsilon / np.sqrt(correction) if rule.placement == "hat" else epsilon
    if rule.amsgrad == "after":
        state.largest = second = np.maximum(state.largest, second)
    root = np.sqrt(second + epsilon) if rule.placement == "inside" else np.sqrt(second) + epsilon
    direction = np.divide(first, root, out=np.zeros_like(first), where=root > 0)
    if rule.momentum == 0:
        return rate * direction
    state.velocity = rule.momentum * state.velocity + direction
    ahead = rule.momentum * state.velocity + direction if rule.nesterov else state.velocity
    return rate * ahead


def clipped(rule: Rule, gradients: Arrays) -> dict[str, Array]:
    """The gradients of one step as the rule clips them."""
    given = {name: np.asarray(array, np.float64) for name, array in gradients.items()}
    if rule.clip == "value":
        return {name: np.clip(array, -rule.clip_at, rule.clip_at) for name, array in given.items()}
    norms = {name: float(np.linalg.norm(array)) for name, array in given.items()}
    if rule.clip == "global norm":
        norms = dict.fromkeys(given, float(np.linalg.norm(list(norms.values()))))
    if rule.clip in ("norm", "global norm"):
        return {
            name: array * min(1.0, rule.clip_at / max(norms[name], 1e-300)) for name, array in given.items()
        }
    return given


def simulate(rule: Rule, parameters: Arrays, gradients: Sequence[Arrays]) -> list[dict[str, Array]]:
    """Parameters after each step, in float64.

    Args:
        rule: the rule.
        parameters: to start from, by name.
        gradients: one mapping per step.

    Example:
        >>> rule = Rule(family="adam", rates=(0.1,), beta_1=0.9, beta_2=0.999, epsilon=1e-8, corrected=True)
        >>> simulate(rule, {"w": np.ones(1)}, [{"w": np.full(1, 3.0)}])[0]["w"].round(6)
        array([0.9])
    """
    names = list(parameters)
    now = flat(parameters, names)
    state, made = State.fresh(rule, now.size), []
    for given in gradients:
        now = now - movement(rule, state, now, flat(clipped(rule, given), names))
        made.append(unflat(now, parameters))
    return made


def flat(arrays: Arrays, names: Sequence[str]) -> Array:
    """All arrays in one float64 row, in the order of the names."""
    return np.concatenate([np.asarray(arrays[name], np.float64).ravel() for name in names])


def unflat(row: Array, like: Arrays) -> dict[str, Array]:
    """The inverse of :func:`flat`."""
    made, start = {}, 0
    for name, array in like.items():
        shape = np.shape(array)
        size = int(np.prod(shape))
        made[name] = row[start : start + size].reshape(shape)
        start += size
    return made
