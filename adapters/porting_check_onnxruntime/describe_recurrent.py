"""Recurrent layers: every default written out."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import numpy as np

from porting_check_onnxruntime.draft import Draft

ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
"""Of one direction, where none are named."""

PLAIN = frozenset(("Sigmoid", "Tanh", "Relu"))
"""Activations without parameters."""

ROLES = ("x", "weight_w", "weight_r", "bias", "sequence_lens", "initial_h", "initial_c", "weight_p")


def recurrent(d: Draft) -> None:
    """LSTM, GRU and RNN. Lengths that are all those of the whole sequence are left away."""
    direction = d.get("direction", "forward")
    both = 2 if direction == "bidirectional" else 1
    attributes: Dict[str, Any] = {
        "hidden_size": int(d.get("hidden_size") or d.input(2).shape[-1]),
        "direction": direction,
        "activations": tuple(d.get("activations") or ACTIVATIONS[d.op_type] * both),
        "layout": int(d.get("layout", 0)),
    }
    if d.op_type == "GRU":
        attributes["linear_before_reset"] = int(d.get("linear_before_reset", 0))
    if d.op_type == "LSTM":
        attributes["input_forget"] = int(d.get("input_forget", 0))
    if set(attributes["activations"]) <= PLAIN:
        zeros = (0.0,) * len(attributes["activations"])
        attributes["activation_alpha"] = attributes["activation_beta"] = zeros
    for name in ("clip", "activation_alpha", "activation_beta"):
        if d.get(name):
            attributes[name] = d.get(name)
    inputs: List[str] = [d.port(index, ROLES[index]) for index in range(len(d.inputs))]
    if len(inputs) > 4 and inputs[4] and _whole(d, int(attributes["layout"])):
        inputs[4] = ""
    for index, name in enumerate(d.nodes(len(d.outputs), d.op_type, *inputs, **attributes)):
        d.give(name, index=index)


def _whole(d: Draft, layout: int) -> bool:
    """Whether the lengths given are all those of the sequence."""
    operand = d.input(4)
    if not (operand.fixed or operand.parameter):
        return False
    return bool(np.all(np.asarray(operand.value) == d.input(0).shape[layout]))


OPERATORS: Dict[str, Callable[[Draft], None]] = dict.fromkeys(ACTIVATIONS, recurrent)
