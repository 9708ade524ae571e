"""Whether two recordings of one model have the same weights, and if not, the first one's as the second one's parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from porting_check.alignment.fingerprint import weight_hash
from porting_check.neutral.errors import WeightsError
from porting_check.neutral.trace import Trace, parameter_name
from porting_check.transfer import moved_parameters

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Moved:
    """Whose weights a model ran with, in words; ``values`` are to be put into it first, by its own names."""

    words: str
    values: Mapping[str, Array] | None = None


def moved_weights(base: Trace, other: Trace, transfer: bool | None, *, same_model: bool) -> Moved:
    """Decide whether the baseline's weights must go into another environment's model.

    Args:
        base: the baseline's recording.
        other: the other environment's, made with the weights that its model was built with.
        transfer: as the user said; ``None``: only where the framework is the same.
        same_model: whether both were built by the same code or file.

    Example:
        >>> moved_weights(trace, trace, None, same_model=True)                      # doctest: +SKIP
        Moved(words='the same bits', values=None)
    """
    ours, theirs = _keys(base), _keys(other)
    by_name = {_bare(name): name for name in theirs}
    named = {_bare(name) for name in ours} == set(by_name) and len(by_name) == len(theirs)
    pairs = {by_name[_bare(name)]: key for name, key in ours.items()} if named else {}
    fits = named and all(
        np.shape(other.values[theirs[name]]) == np.shape(base.values[key]) for name, key in pairs.items()
    )
    if fits and all(_same(base.values[key], other.values[theirs[name]]) for name, key in pairs.items()):
        return Moved("the same bits" if theirs else "none")
    if not fits and _hashes(base, ours) == _hashes(other, theirs):
        return Moved("the same numbers")
    wanted = base.environment.framework == other.environment.framework if transfer is None else transfer
    if not wanted:
        return Moved("its own")
    if fits and same_model:
        values = {name: np.asarray(base.values[key]) for name, key in pairs.items()}
        return Moved("the baseline's, put in by name", values)
    return _followed(base, other, theirs)


def _followed(base: Trace, other: Trace, theirs: Mapping[str, str]) -> Moved:
    """The baseline's weights by the layers that they belong to, where names do not say it."""
    try:
        values = moved_parameters(base, other)[1]
    except WeightsError as error:
        return Moved(f"its own; the baseline's do not fit: {error}")
    if all(_same(values[name], other.values[key]) for name, key in theirs.items()):
        return Moved("the same numbers")
    return Moved("the baseline's, put in by layer", values)


def _keys(trace: Trace) -> dict[str, str]:
    """The key of each parameter that a record used, by native name."""
    keys = {port.value for record in trace.records for port in record.parameters}
    return {parameter_name(key): key for key in sorted(keys)}


def _bare(name: str) -> str:
    """A name without the number of an output, which TensorFlow dropped from the names of variables."""
    return name[:-2] if name.endswith(":0") else name


def _same(one: Array, other: Array) -> bool:
    """The same bits; dtypes count."""
    first, second = np.ascontiguousarray(one), np.ascontiguousarray(other)
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()


def _hashes(trace: Trace, keys: Mapping[str, str]) -> Counter[str]:
    return Counter(weight_hash(np.asarray(trace.values[key])) for key in keys.values())
