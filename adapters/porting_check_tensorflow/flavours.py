"""Which Keras a model belongs to, found from its classes so that no Keras is imported for it.

There are several: Keras 3 (``keras``), Keras 2 beside it (``tf_keras``), Keras 2 as ``keras`` (TensorFlow 2.6
to 2.15) and inside TensorFlow (``tensorflow.python.keras``, before). They share class names and most
attribute names.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, List, Optional, Tuple

ROOTS = ("keras.", "tf_keras.", "tensorflow.python.keras.", "tensorflow_core.python.keras.")


def is_library(module: str) -> bool:
    """Whether a module is Keras' own code."""
    return (module + ".").startswith(ROOTS)


def layer_class(model: Any) -> Optional[type]:
    """Keras' base class ``Layer`` of a layer or model, or ``None`` when it is no Keras object."""
    kind: Any = type(model)
    return _layer_class(kind)


@functools.lru_cache(maxsize=None)
def _layer_class(kind: Any) -> Optional[type]:
    for base in reversed(kind.__mro__):
        if base.__name__ == "Layer" and is_library(base.__module__):
            return base
    return None


def is_keras(model: Any) -> bool:
    """Whether an object is a Keras layer or model, of any Keras."""
    return layer_class(model) is not None


def library(model: Any) -> Any:
    """The Keras module (``keras``, ``tf_keras``) that a model was made with."""
    kind = layer_class(model)
    if kind is None:
        return None
    root = kind.__module__.split(".")[0]
    name = "tensorflow.keras" if root.startswith("tensorflow") else root
    return sys.modules.get(name) or sys.modules.get("tensorflow.python.keras")


def major(model: Any) -> int:
    """2 or 3: what a default or a constant means depends on it."""
    kind = layer_class(model)
    return 3 if kind is not None and operation_class(kind) is not None else 2


def backend(model: Any) -> str:
    """The backend that this Keras computes with: ``tensorflow``, ``jax``, ``torch``."""
    if major(model) < 3:
        return "tensorflow"
    return str(library(model).backend.backend())


@functools.lru_cache(maxsize=None)
def operation_class(layer: type) -> Optional[type]:
    """Keras 3's base class ``Operation`` of ``Layer``; Keras 2 has none."""
    for kind in layer.__mro__:
        if kind.__name__ == "Operation" and is_library(kind.__module__):
            return kind
    return None


def layer_classes(model: Any) -> List[Tuple[type, Optional[type]]]:
    """``(Layer, Operation)`` of every Keras loaded: a model of one may call layers of another."""
    found = {}
    for name in ("keras", "tf_keras"):
        kind = getattr(getattr(sys.modules.get(name), "layers", None), "Layer", None)
        if isinstance(kind, type):
            found[kind] = operation_class(kind)
    own = layer_class(model)
    if own is not None:
        found[own] = operation_class(own)
    return list(found.items())
