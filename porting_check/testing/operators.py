"""Which operators an adapter runs, and what it says of those it does not run in every form."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field

from porting_check.neutral.adapter import Adapter

IMPOSSIBLE = "impossible: "
"""How the reason of a gap begins that no work on the adapter can close."""


@dataclass(frozen=True)
class Operators:
    """What the module ``run`` of an adapter's package declares.

    Attributes:
        supported: names of the operators that are run, in one form at least.
        gaps: operators of which some case of the standard fails, or which are not run at all, and why.
        float32_only: operators that have no float64 evaluation in the framework for some floating case, and why.
    """

    supported: frozenset[str]
    gaps: Mapping[str, str] = field(default_factory=dict)
    float32_only: Mapping[str, str] = field(default_factory=dict)


def operators_of(adapter: Adapter) -> Operators:
    """What an adapter declares in its package's module ``run``: ``supported()``, ``GAPS`` and ``FLOAT32_ONLY``.

    The two tables may be left out when they are empty.

    Raises:
        LookupError: neither the adapter's package nor that of a class it derives from has such a module.

    Example:
        >>> from porting_check.recorder.registry import load_adapter
        >>> "Conv" in operators_of(load_adapter("torch")).supported
        True
    """
    homes = [kind.__module__.rpartition(".")[0] for kind in type(adapter).__mro__]
    found = next((home for home in homes if home and importlib.util.find_spec(home + ".run")), None)
    if found is None:
        raise LookupError(f"no package of {type(adapter).__qualname__} has a module 'run'; looked in {homes}")
    run = importlib.import_module(found + ".run")
    return Operators(
        frozenset(run.supported()), dict(getattr(run, "GAPS", {})), dict(getattr(run, "FLOAT32_ONLY", {}))
    )
