"""Pad modes: what each framework calls them, and which have no twin elsewhere."""

from __future__ import annotations

from typing import Dict, Optional

from porting_check.neutral.errors import PaddingError

FRAMEWORKS = {
    "torch": "torch",
    "tensorflow": "tensorflow",
    "keras": "keras",
    "tf_keras": "keras",
    "jax": "jax",
    "flax": "jax",
    "onnx": "onnx",
    "onnxruntime": "onnx",
}
"""Frameworks by import name, and whose way of writing padding each follows."""

MODES: Dict[str, Dict[str, str]] = {
    "constant": {
        "torch": "constant",
        "tensorflow": "CONSTANT",
        "keras": "constant",
        "jax": "constant",
        "onnx": "constant",
    },
    "reflect": {
        "torch": "reflect",
        "tensorflow": "REFLECT",
        "keras": "reflect",
        "jax": "reflect",
        "onnx": "reflect",
    },
    "symmetric": {"tensorflow": "SYMMETRIC", "keras": "symmetric", "jax": "symmetric"},
    "edge": {"torch": "replicate", "jax": "edge", "onnx": "edge"},
    "wrap": {"torch": "circular", "jax": "wrap", "onnx": "wrap"},
}
"""Pad modes by their neutral name, and what frameworks call them.

The names are those of the ONNX operator Pad; ``symmetric``, which ONNX lacks, is numpy's.

``reflect`` does not repeat the edge element (``cb|abc|ba``), ``symmetric`` does (``ba|abc|cb``), ``edge``
repeats only that one, ``wrap`` goes round. Sources: torch.nn.functional.pad, tf.pad, keras.ops.pad,
numpy.pad, ONNX operator Pad.
"""


def neutral_mode(framework: str, mode: str) -> str:
    """The neutral name of a framework's pad mode; torch's layers also say ``zeros``.

    Example:
        >>> neutral_mode("torch", "replicate"), neutral_mode("tensorflow", "SYMMETRIC")
        ('edge', 'symmetric')

    Raises:
        PaddingError: the framework has no such mode.
    """
    names = {name: neutral for neutral in MODES for name in (native_mode(framework, neutral),) if name}
    names.update({"zeros": "constant"} if whose(framework) == "torch" else {})
    found = names.get(mode.upper() if whose(framework) == "tensorflow" else mode)
    if found is None:
        raise PaddingError(f"{framework} has no pad mode {mode!r}; it has {sorted(names)}")
    return found


def native_mode(framework: str, mode: str) -> Optional[str]:
    """What a framework's pad operator calls a neutral mode, or ``None`` where it has no twin.

    Example:
        >>> native_mode("torch", "edge"), native_mode("torch", "symmetric"), native_mode("onnx", "wrap")
        ('replicate', None, 'wrap')

    Raises:
        PaddingError: no such framework or neutral mode.
    """
    if mode not in MODES:
        raise PaddingError(f"pad mode {mode!r} is not known; expected one of {list(MODES)}")
    return MODES[mode].get(whose(framework))


def whose(framework: str) -> str:
    """Whose way of writing padding a framework follows (``onnxruntime`` that of ``onnx``).

    Raises:
        PaddingError: a framework that is not known here.
    """
    if framework not in FRAMEWORKS:
        raise PaddingError(f"framework {framework!r} is not known; expected one of {sorted(FRAMEWORKS)}")
    return FRAMEWORKS[framework]
