"""Question 3, and hypotheses from parameters: are they the same bits, and if not, which rearrangement makes them so?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from porting_check.diagnosis.hypothesis import Hypothesis, Suspect, nodes
from porting_check.neutral.graph import Step
from porting_check.numerics.program import Edits, to_double

Array = np.ndarray

ROLES: dict[str, tuple[str, ...]] = {
    "Conv": ("", "weight", "bias"),
    "ConvTranspose": ("", "weight", "bias"),
    "Gemm": ("", "weight", "bias"),
    "MatMul": ("", "weight"),
    "BatchNormalization": ("", "scale", "bias", "mean", "var"),
    "LayerNormalization": ("", "scale", "bias"),
    "GroupNormalization": ("", "scale", "bias"),
    "InstanceNormalization": ("", "scale", "bias"),
    "RMSNormalization": ("", "scale"),
    "PRelu": ("", "slope"),
    "LSTM": ("", "W", "R", "B", "", "initial_h", "initial_c", "P"),
    "GRU": ("", "W", "R", "B", "", "initial_h"),
    "RNN": ("", "W", "R", "B", "", "initial_h"),
    "Gather": ("table", ""),
    "Add": ("term", "term"),
    "Mul": ("factor", "factor"),
}
"""What each input position of an operator is called; "" is data."""


def fixed_operands(
    suspect: Suspect, ours: Step, theirs: Step
) -> Iterator[tuple[int, str, Array | None, Array | None]]:
    """Positions at which either side reads something fixed, with the role's name and both arrays (canonical)."""
    op = nodes(ours).op_type
    for position in range(max(len(ours.inputs), len(theirs.inputs))):
        one, other = suspect.operand(0, ours, position), suspect.operand(1, theirs, position)
        if op == "LSTM" and position == 3 and one is not None and other is not None:
            one, other = one_bias(one), one_bias(other)
        if one is not None or other is not None:
            names = ROLES.get(op, ())
            role = names[position] if position < len(names) and names[position] else f"input {position}"
            yield position, role, one, other


def one_bias(both: Array) -> Array:
    """The two biases of an LSTM as their sum and zeros: only the sum counts, and frameworks with one bias differ in which.

    Example:
        >>> one_bias(np.array([[0.0, 0.0, 3.0, 4.0]]))
        array([[3., 4., 0., 0.]])
    """
    first, second = np.split(both, 2, axis=-1)
    return np.concatenate([first + second, np.zeros_like(second)], axis=-1)


def relation(one: Array | None, other: Array | None) -> tuple[bool, str]:
    """How the candidate's array stands to the reference's: whether they count as equal, and in words.

    Example:
        >>> relation(np.float32([1.5]), np.float64([1.5]))
        (True, 'identical')
    """
    if one is None or other is None:
        held = one if one is not None else other
        neutral = held is not None and held.size > 0 and (not np.any(held) or bool(np.all(held == 1)))
        return neutral, "absent in the " + ("candidate" if other is None else "reference")
    if one.shape != other.shape:
        return False, f"shapes differ: {one.shape} and {other.shape}"
    if one.dtype == other.dtype and one.tobytes() == other.tobytes():
        return True, "identical"
    left, right = to_double(one), to_double(other)
    if np.array_equal(left, right, equal_nan=left.dtype.kind == "f"):
        return True, "identical"
    for name in ("float32", "bfloat16", "float16"):
        if _equal_rounded(left, right, name):
            return name == "float32", f"equal when rounded to {name}"
    return False, "different values"


def _equal_rounded(left: Array, right: Array, name: str) -> bool:
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, name) if name == "bfloat16" else name)
    if left.dtype.kind != "f":
        return False
    with np.errstate(over="ignore"):
        return bool(
            np.array_equal(left.astype(kind).astype(np.float64), right.astype(kind).astype(np.float64))
        )


def rearrangements_found(suspect: Suspect) -> Iterator[Hypothesis]:
    """Rearrangements of differing parameters that give the reference's bits."""
    for ours, theirs, found in _differing(suspect):
        yield from _vectors(ours, theirs, found)
        for position, role, one, other in found:
            if one is not None and other is not None:
                yield from _rearranged(suspect, ours, theirs, position, role, one, other)


def replacement(suspect: Suspect) -> Iterator[Hypothesis]:
    """All the reference's parameters in place of the candidate's: the values themselves are other ones."""
    everything: dict[tuple[int, int], Array] = {}
    words: list[str] = []
    for _, theirs, found in _differing(suspect):
        for position, role, one, other in found:
            if one is not None:
                everything[theirs.index, position] = one
                words.append(f"{role} of {nodes(theirs).op_type}: {relation(one, other)[1]}")
    if everything:
        yield _replaced(everything, words)


Found = list[tuple[int, str, Array | None, Array | None]]


def _differing(suspect: Suspect) -> Iterator[tuple[Step, Step, Found]]:
    """Aligned steps of one operator with their fixed operands that are not equal."""
    for ours, theirs in suspect.pairs():
        if nodes(ours).op_type == nodes(theirs).op_type:
            yield (
                ours,
                theirs,
                [f for f in fixed_operands(suspect, ours, theirs) if not relation(f[2], f[3])[0]],
            )


def _replaced(everything: dict[tuple[int, int], Array], words: list[str]) -> Hypothesis:
    cause = "missing-keys-strict-false"
    if all("rounded" in word for word in words):
        cause = "partial-load"
    elif all("bias" in word and "absent in the candidate" in word for word in words):
        cause = "conv-bias-missing"
    return Hypothesis(
        cause=cause,
        explanation="parameters differ: " + "; ".join(words),
        fix="load these parameters from the reference: porting_check.transfer_weights(reference, candidate)",
        edits=Edits(operands=everything),
    )


def _rearranged(
    suspect: Suspect, ours: Step, theirs: Step, position: int, role: str, one: Array, other: Array
) -> Iterator[Hypothesis]:
    """Each rearrangement of the candidate's array that gives exactly the reference's bits."""
    op = nodes(ours).op_type
    native = _native_name(suspect, theirs, position)
    for cause, words, array in rearrangements(op, other, int(nodes(ours).attributes.get("group", 1))):
        if array.shape == one.shape and relation(one, array)[0]:
            yield Hypothesis(
                cause=cause,
                explanation=f"{role} of {op} equals the reference's only after {words}",
                fix=f"apply to {native} when loading: {words}",
                edits=Edits(operands={(theirs.index, position): array}),
            )


def _native_name(suspect: Suspect, step: Step, position: int) -> str:
    key = step.inputs[position].key if position < len(step.inputs) else ""
    return key.removeprefix("parameter:") or "the parameter"


def rearrangements(op: str, array: Array, group: int = 1) -> Iterator[tuple[str, str, Array]]:
    """Every wrong order known for a parameter of this operator: (cause, words, array put right).

    Example:
        >>> [cause for cause, _, _ in rearrangements("Conv", np.zeros((4, 4, 3, 3)))]
        ['kernel-hw-swap', 'kernel-flip', 'kernel-io-swap', 'kernel-hw-swap']
    """
    if op in ("Conv", "ConvTranspose") and array.ndim >= 3:
        yield from _kernels(op, array, group)
    if op in ("Gemm", "MatMul") and array.ndim == 2:
        yield "linear-transposed-square", "transposing it", array.T
    if op in ("LSTM", "GRU", "RNN"):
        yield from _gates(op, array)


def _kernels(op: str, array: Array, group: int) -> Iterator[tuple[str, str, Array]]:
    spatial = tuple(range(2, array.ndim))
    if len(spatial) > 1:
        swapped = array.transpose(0, 1, *reversed(spatial))
        yield "kernel-hw-swap", "swapping its spatial axes", swapped
    flip = "conv-transpose-kernel-flip" if op == "ConvTranspose" else "kernel-flip"
    yield flip, "flipping its spatial axes", np.flip(array, spatial)
    exchanged = "conv-transpose-io-swap" if op == "ConvTranspose" else "kernel-io-swap"
    if array.shape[0] == array.shape[1]:
        turned = array.swapaxes(0, 1)
        yield exchanged, "swapping its input and output axes", turned
        if len(spatial) > 1:
            yield "kernel-hw-swap", "reversing all its axes", turned.transpose(0, 1, *reversed(spatial))
    if group > 1 and array.shape[0] % group == 0 and array.shape[0] > group:
        multiplier = array.shape[0] // group
        order = np.arange(array.shape[0]).reshape(multiplier, group).T.reshape(-1)
        cause = "depthwise-order" if array.shape[1] == 1 else "grouped-conv-order"
        yield (
            cause,
            f"reordering its output channels from (multiplier {multiplier}, channel {group}) to (channel, multiplier)",
            array[order],
        )


def _gates(op: str, array: Array) -> Iterator[tuple[str, str, Array]]:
    """Blocks of gates in another order; ONNX has i,o,f,c for LSTM and z,r,h for GRU."""
    count = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    axis = 1
    if array.ndim < 2 or array.shape[axis] % count or count == 1:
        return
    parts = 2 if array.ndim == 2 else 1
    blocks = np.split(array, count * parts, axis=axis)
    names = "iofc" if op == "LSTM" else "zrh"
    for order in itertools.permutations(range(count)):
        if order != tuple(range(count)):
            chosen = [blocks[part * count + i] for part in range(parts) for i in order]
            words = f"reordering its gates to {','.join(names[i] for i in order)} (of {','.join(names)})"
            yield f"{op.lower()}-gate-order", words, np.concatenate(chosen, axis=axis)


def _vectors(ours: Step, theirs: Step, found: Found) -> Iterator[Hypothesis]:
    """Batch norm's four vectors, or the gates of all recurrent parameters, exchanged together."""
    op = nodes(ours).op_type
    arrays = {
        p: (one, other)
        for p, _, one, other in found
        if one is not None and other is not None and one.shape == other.shape
    }
    if op == "BatchNormalization" and len(arrays) > 1:
        for order in itertools.permutations(arrays):
            moved = dict(zip(arrays, order, strict=True))
            if all(relation(arrays[p][0], arrays[q][1])[0] for p, q in moved.items()):
                names = {p: ROLES[op][p] for p in arrays}
                words = ", ".join(
                    f"{names[p]} holds the reference's {names[q]}" for q, p in moved.items() if p != q
                )
                operands = {(theirs.index, p): arrays[q][1] for p, q in moved.items()}
                yield Hypothesis(
                    cause="bn-param-permuted",
                    explanation=f"the vectors of BatchNormalization are exchanged: {words}",
                    fix="load scale (gamma), bias (beta), mean and variance each into its own place",
                    edits=Edits(operands=operands),
                )
    if op in ("LSTM", "GRU") and arrays:
        yield from _all_gates(op, theirs, arrays)


def _all_gates(op: str, theirs: Step, arrays: dict[int, tuple[Array, Array]]) -> Iterator[Hypothesis]:
    options = {p: {words: array for _, words, array in _gates(op, pair[1])} for p, pair in arrays.items()}
    for words in next(iter(options.values())):
        if all(words in o and relation(arrays[p][0], o[words])[0] for p, o in options.items()):
            yield Hypothesis(
                cause=f"{op.lower()}-gate-order",
                explanation=f"the gates of {op} stand in another order: the parameters agree after {words}",
                fix=f"when loading the {op} weights and biases: {words}",
                edits=Edits(operands={(theirs.index, p): o[words] for p, o in options.items()}),
            )
