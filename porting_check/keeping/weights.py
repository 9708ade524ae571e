"""Parameters that a recording names by digest only: found again, bit for bit, in the other side's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from porting_check.alignment.fingerprint import weight_hash
from porting_check.keeping.notes import SAMPLES, digest, dtype_of, positions
from porting_check.neutral.errors import InputError
from porting_check.neutral.trace import Trace, parameter_name

Array = np.ndarray

MOST_AXES = 6
"""Orders of axes are tried up to here."""

GATES = (3, 4)
"""Recurrent kernels stack so many gates, in an order that is each framework's own."""


@dataclass(slots=True)
class Found:
    """Parameters that were dropped: the arrays of those that were found, and why there is none of the others.

    ``maps`` says how an array follows from the other side's.
    """

    arrays: dict[str, Array]
    maps: dict[str, str]
    lacking: dict[str, str]


def find_parameters(pruned: Trace, other: Trace) -> Found:
    """Find the dropped parameters of a recording among the parameters of the other side (and its own that were kept).

    Equal multisets of numbers propose; the digest of the bytes in the recording's own order of axes proves.
    """
    notes = {k: n for k, n in (pruned.kept or {"dropped": {}})["dropped"].items() if "digest" in n}
    found = Found({}, {}, {})
    if not notes:
        return found
    offered = {**_parameters(pruned), **_parameters(other)}
    sizes = {int(np.prod(note["shape"])) for note in notes.values()}
    hashes: dict[str, list[str]] = {}
    for key, array in offered.items():
        if array.size in sizes:
            hashes.setdefault(weight_hash(array), []).append(key)
    used: set[str] = set()
    for key, note in notes.items():
        same = hashes.get(note["hash"], [])
        for partner in same:
            made = _proven(offered[partner], note)
            if made is not None:
                used.add(partner)
                found.arrays[key], found.maps[key] = made[0], f"{parameter_name(partner)} {made[1]}".strip()
                break
        if key not in found.arrays:
            found.lacking[key] = ""
    free = {key: array for key, array in offered.items() if key not in used}
    for key in found.lacking:
        found.lacking[key] = _lacking(pruned, key, notes[key], free, hashes.get(notes[key]["hash"], []))
    return found


def require_weights(trace: Trace) -> None:
    """Refuse to move or use the weights of a recording that holds digests in place of some of them.

    Raises:
        InputError: parameters were kept by digest only.
    """
    notes = (trace.kept or {"dropped": {}})["dropped"]
    names = [parameter_name(key) for key, note in notes.items() if "digest" in note]
    if names:
        raise InputError(
            f"this golden recording does not hold all weights: {len(names)} parameters were kept by digest only "
            f"({', '.join(names[:3])}); use the full recording, or keep it with the policy 'boundaries'"
        )


def _parameters(trace: Trace) -> dict[str, Array]:
    keys = {port.value for record in trace.records for port in record.parameters}
    return {key: trace.values[key] for key in sorted(keys) if key in trace.values}


def _proven(array: Array, note: Mapping[str, Any]) -> tuple[Array, str] | None:
    """The array whose bytes have the note's digest, and how it follows from the given one."""
    wanted, dtype = tuple(note["shape"]), dtype_of(note)
    with np.errstate(all="ignore"):
        array = np.asarray(array) if array.dtype == dtype else np.asarray(array).astype(dtype)
    for made, how in _maps(array, wanted):
        if made.shape == wanted and digest(made) == note["digest"]:
            return made, how
    return None


def _maps(array: Array, wanted: tuple[int, ...]) -> Iterator[tuple[Array, str]]:
    """Arrays of the wanted shape with the same elements: orders of axes, split or merged axes, orders of gates."""
    if array.shape == wanted:
        yield array, ""
    if array.ndim <= MOST_AXES:
        for order in itertools.permutations(range(array.ndim)):
            moved = array.transpose(order)
            if moved.shape == wanted:
                yield moved, f"transposed {order}"
            else:
                yield moved.reshape(wanted), f"transposed {order}, reshaped"
    if len(wanted) <= MOST_AXES and array.ndim != len(wanted):
        for order in itertools.permutations(range(len(wanted))):
            back = np.argsort(order)
            yield array.reshape([wanted[a] for a in order]).transpose(back), f"reshaped, transposed {order}"
    yield from _gates(array, wanted)


def _gates(array: Array, wanted: tuple[int, ...]) -> Iterator[tuple[Array, str]]:
    """Blocks of gates in another order, along any axis that they fit, as it is or transposed."""
    if array.ndim > 3:
        return
    turned = [o for o in itertools.permutations(range(array.ndim)) if array.transpose(o).shape == wanted]
    for order, axis, count in itertools.product(turned, range(array.ndim), GATES):
        moved = array.transpose(order)
        if moved.shape[axis] % count or not moved.shape[axis]:
            continue
        blocks = np.split(moved, count, axis)
        for gates in itertools.permutations(range(count)):
            yield np.concatenate([blocks[g] for g in gates], axis), f"gates in the order {gates}"


def _lacking(
    pruned: Trace, key: str, note: Mapping[str, Any], offered: Mapping[str, Array], same: Sequence[str]
) -> str:
    """Why a parameter could not be had, with what the sample proves about the likeliest counterpart."""
    name = parameter_name(key)
    if same:
        return (
            f"the weights {name!r} were not kept; {parameter_name(same[0])!r} holds the same numbers in an order that no "
            "order of axes or gates explains"
        )
    said = f"the weights {name!r} were not kept and the port's are others"
    size = int(np.prod(note["shape"]))
    likely = [k for k, array in offered.items() if k not in pruned.values and array.size == size]
    proofs = [(_apart(pruned, key, note, k, offered[k]), k != key) for k in likely]
    proof = min(proofs, key=lambda entry: (entry[0][0], entry[1]), default=None)
    return said if proof is None else f"{said}: {proof[0][1]}"


def _apart(pruned: Trace, key: str, note: Mapping[str, Any], partner: str, array: Array) -> tuple[float, str]:
    """How many sampled elements differ under the order of axes that fits best, and one that does."""
    assert pruned.kept is not None
    wanted = tuple(note["shape"])
    at = positions(key, array.size, int(note["samples"]), int(pruned.kept["seed"]))
    ours = np.asarray(pruned.values[SAMPLES + key])
    best: tuple[int, Array] | None = None
    orders = (
        itertools.permutations(range(array.ndim)) if array.ndim <= MOST_AXES else iter([range(array.ndim)])
    )
    for order in orders:
        theirs = array.transpose(tuple(order)).reshape(wanted).reshape(-1)[at]
        count = int(np.count_nonzero(theirs != ours))
        if best is None or count < best[0]:
            best = (count, theirs)
    assert best is not None
    count, theirs = best
    if not count:
        return (
            0.0,
            f"{parameter_name(partner)!r} has the {len(at)} kept elements, and others where none was kept",
        )
    first = int(np.flatnonzero(theirs != ours)[0])
    place = tuple(int(i) for i in np.unravel_index(int(at[first]), wanted))
    return count / len(at), (
        f"of {parameter_name(partner)!r} {count} of {len(at)} kept elements differ, e.g. at {place} {ours[first]} "
        f"in the recording and {theirs[first]} in the port"
    )
