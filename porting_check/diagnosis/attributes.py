"""Hypotheses from attributes: the two nodes are the same operator, and one attribute differs.

A new mistake of this kind is one row of :data:`CAUSES`.
"""

from __future__ import annotations

from collections.abc import Iterator

from porting_check.diagnosis.hypothesis import Hypothesis, Suspect, attribute_differences, nodes
from porting_check.neutral.graph import Step
from porting_check.neutral.node import show
from porting_check.numerics.program import Edits

CAUSES: dict[tuple[str, str], str] = {
    ("BatchNormalization", "epsilon"): "bn-eps",
    ("LayerNormalization", "epsilon"): "ln-eps",
    ("GroupNormalization", "epsilon"): "gn-eps",
    ("InstanceNormalization", "epsilon"): "gn-eps",
    ("RMSNormalization", "epsilon"): "rms-eps",
    ("LayerNormalization", "axis"): "ln-axes",
    ("RMSNormalization", "axis"): "ln-axes",
    ("GroupNormalization", "num_groups"): "gn-group-order",
    ("LRN", "alpha"): "lrn-alpha",
    ("LRN", "size"): "lrn-alpha",
    ("Gelu", "approximate"): "gelu-tanh",
    ("LeakyRelu", "alpha"): "leaky-slope",
    ("HardSigmoid", "alpha"): "hard-sigmoid-slope",
    ("Elu", "alpha"): "elu-selu-celu-alpha",
    ("Celu", "alpha"): "elu-selu-celu-alpha",
    ("Selu", "alpha"): "elu-selu-celu-alpha",
    ("Swish", "alpha"): "gelu-quick",
    ("Softmax", "axis"): "softmax-axis",
    ("LogSoftmax", "axis"): "softmax-axis",
    ("AveragePool", "count_include_pad"): "avgpool-count-pad",
    ("AveragePool", "ceil_mode"): "pool-ceil-mode",
    ("MaxPool", "ceil_mode"): "pool-ceil-mode",
    ("AdaptiveAveragePool", "output_size"): "adaptive-pool-bins",
    ("LpPool", "p"): "lp-pool-l2",
    ("Resize", "coordinate_transformation_mode"): "resize-align-corners",
    ("Resize", "nearest_mode"): "resize-nearest-rule",
    ("Resize", "cubic_coeff_a"): "resize-bicubic-a",
    ("Resize", "antialias"): "resize-antialias",
    ("Resize", "exclude_outside"): "resize-bicubic-border",
    ("GridSample", "align_corners"): "grid-sample-align",
    ("GRU", "linear_before_reset"): "gru-reset-after",
    ("LSTM", "activations"): "rnn-recurrent-activation",
    ("GRU", "activations"): "rnn-recurrent-activation",
    ("LSTM", "direction"): "rnn-go-backwards",
    ("GRU", "direction"): "rnn-go-backwards",
    ("Attention", "scale"): "attn-scale",
    ("Attention", "is_causal"): "causal-alignment",
    ("Attention", "softcap"): "attn-softcap-softmax-dtype",
    ("Einsum", "equation"): "einsum-subscripts",
    ("Conv", "strides"): "resnet-stride-placement",
    ("Conv", "dilations"): "conv-same-dilated",
    ("Conv", "group"): "grouped-conv-order",
    ("ConvTranspose", "pads"): "conv-transpose-crop",
    ("ConvTranspose", "output_padding"): "conv-transpose-crop",
}
"""Catalogue id by operator and attribute."""

PADDED = frozenset({"Conv", "MaxPool", "AveragePool", "LpPool"})
"""Operators whose pads are the business of :mod:`padding`."""

_SPELLING = {
    ("torch", "epsilon"): "eps",
    ("tensorflow", "epsilon"): "epsilon",
    ("jax", "epsilon"): "epsilon",
    ("torch", "approximate"): "approximate",
    ("torch", "strides"): "stride",
    ("torch", "dilations"): "dilation",
    ("torch", "group"): "groups",
    ("torch", "axis"): "dim",
    ("torch", "num_groups"): "num_groups",
}


def hypotheses(suspect: Suspect) -> Iterator[Hypothesis]:
    """One hypothesis per differing attribute, then one with all of them together."""
    for ours, theirs in suspect.pairs():
        if nodes(ours).op_type != nodes(theirs).op_type:
            continue
        found = attribute_differences(nodes(ours), nodes(theirs))
        for name, (wanted, present) in found.items():
            if not (name == "pads" and nodes(ours).op_type in PADDED):
                yield _one(suspect, ours, theirs, name, wanted, present)
        if len(found) > 1:
            yield _all(suspect, theirs, found)
        if nodes(ours).op_type in _ALONG:
            yield from _other_axes(suspect, theirs)


def _one(
    suspect: Suspect, ours: Step, theirs: Step, name: str, wanted: object, present: object
) -> Hypothesis:
    op = nodes(ours).op_type
    return Hypothesis(
        cause=CAUSES.get((op, name), "unknown"),
        explanation=f"{op}: {name} is {told(present)}, the reference has {told(wanted)}",
        fix=fix(suspect.framework, op, name, wanted),
        edits=Edits(nodes={theirs.index: (nodes(theirs).edit(**{name: wanted}),)}),
    )


def _all(suspect: Suspect, theirs: Step, found: dict[str, tuple[object, object]]) -> Hypothesis:
    op = nodes(theirs).op_type
    said = "; ".join(
        f"{name} is {told(present)}, the reference has {told(wanted)}"
        for name, (wanted, present) in found.items()
    )
    causes = [CAUSES[op, name] for name in found if (op, name) in CAUSES]
    wanted_all = {name: pair[0] for name, pair in found.items()}
    return Hypothesis(
        cause=causes[0] if causes else "unknown",
        explanation=f"{op}: {said}",
        fix="; ".join(fix(suspect.framework, op, name, value) for name, value in wanted_all.items()),
        edits=Edits(nodes={theirs.index: (nodes(theirs).edit(**wanted_all),)}),
    )


_ALONG = frozenset({"Softmax", "LogSoftmax", "Hardmax", "CumSum", "LpNormalization"})
"""Operators along one axis, whose number means another axis in another layout."""


def _other_axes(suspect: Suspect, theirs: Step) -> Iterator[Hypothesis]:
    """The candidate's operator along each other axis of its tensor."""
    node = nodes(theirs)
    assert suspect.judged.truth is not None
    rank = suspect.judged.truth.ndim
    present = int(node.attributes.get("axis", -1)) % rank if rank else 0
    for axis in range(rank):
        if axis != present:
            yield Hypothesis(
                cause=CAUSES.get((node.op_type, "axis"), "unknown"),
                explanation=(
                    f"{node.op_type} runs along axis {present} of the candidate's tensor; the reference's axis is "
                    f"{axis} there"
                ),
                fix=fix(suspect.framework, node.op_type, "axis", axis),
                edits=Edits(nodes={theirs.index: (node.edit(axis=axis),)}),
            )


def told(value: object) -> str:
    """An attribute's value in words."""
    return "not set" if value is None else show(value)


def fix(framework: str, op: str, name: str, wanted: object) -> str:
    """The change as an argument of the candidate's framework: ``eps=0.001``."""
    spelled = _SPELLING.get((framework, name), name)
    value = list(wanted) if isinstance(wanted, tuple) else wanted
    if isinstance(value, float):
        return f"{spelled}={value:.7g}"
    if framework == "torch" and name in ("strides", "dilations") and isinstance(wanted, tuple):
        return f"{spelled}={tuple(wanted)}"
    if op == "Resize" and name == "coordinate_transformation_mode" and framework == "torch":
        return f"align_corners={wanted == 'align_corners'}"
    return f"{spelled}={value!r}"
