"""Layers of flax and equinox that are described as a whole; the describers live one file per library."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from porting_check_jax.draft import Draft, Ref

FILES = {"linen": "layers_linen", "nnx": "layers_nnx", "equinox": "layers_equinox"}
"""Modules of this package with a table ``LAYERS``, by the library they describe."""

HOMES = {"linen": "flax.linen", "nnx": "flax.nnx", "equinox": "equinox"}
"""Where the classes of each library live."""


@dataclass(frozen=True)
class LayerCall:
    """One call of a library layer.

    ``kind``: library and class, ``"linen.Conv"``. ``args`` and ``kwargs`` are those of ``__call__``, arrays
    replaced by :class:`Ref`, the rest as it is. ``parameters``: the layer's own, by its own names
    (``"kernel"``, ``"mean"``, ``"i/kernel"``). The outputs are in the draft, flattened, each array once.
    ``batched``: 1 when the layer ran inside ``jax.vmap``: then the arrays that are mapped (those of ``args`` and the
    outputs, never parameters) have the mapped axis in front. Only describers of the kinds that their file names in
    ``BATCHED`` are asked then.

    Example:
        >>> import numpy as np
        >>> x = Ref("input:0", (1, 3), np.dtype(np.float32))
        >>> LayerCall("linen.Dense", None, (x,), {}, {"kernel": Ref("parameter:d/kernel", (3, 4), x.dtype)}).x.ndim
        2
    """

    kind: str
    module: Any
    args: Tuple[Any, ...]
    kwargs: Dict[str, Any]
    parameters: Mapping[str, Ref]
    batched: int = 0

    @property
    def x(self) -> Ref:
        """The first positional argument."""
        found: Ref = self.args[0]
        return found


LayerDescriber = Callable[[LayerCall, Draft], None]


def kind_of(module: Any) -> str:
    """Library and class of a module: ``"nnx.Conv"``; ``""`` for a class that is no library's own.

    Example:
        >>> kind_of(object())
        ''
    """
    cls = type(module)
    for library, home in HOMES.items():
        if cls.__module__ == home or cls.__module__.startswith(home + "."):
            return f"{library}.{cls.__name__}"
    return ""


def describer(kind: str, module: Any) -> Optional[LayerDescriber]:
    """The describer of a layer, when its class is the library's own and its ``__call__`` is not overridden.

    Args:
        kind: as :func:`kind_of` gives it, or any other text, which has no describer.
        module: the layer.
    """
    library = kind.partition(".")[0]
    if not kind or kind_of(module) != kind or "__call__" in getattr(module, "__dict__", {}):
        return None
    return table(library).get(kind)


def maps(kind: str) -> bool:
    """Whether the describer of this kind knows what to do inside ``jax.vmap``."""
    library = kind.partition(".")[0]
    return bool(table(library)) and kind in getattr(
        sys.modules[f"porting_check_jax.{FILES[library]}"], "BATCHED", ()
    )


def table(library: str) -> Dict[str, LayerDescriber]:
    """The describers of a library's layers by kind; empty when the library is not loaded."""
    if library not in FILES or HOMES[library].partition(".")[0] not in sys.modules:
        return {}
    if library not in _TABLES:
        module = importlib.import_module(f"porting_check_jax.{FILES[library]}")
        _TABLES[library] = dict(module.LAYERS)
    return _TABLES[library]


_TABLES: Dict[str, Dict[str, LayerDescriber]] = {}
