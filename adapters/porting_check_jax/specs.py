"""What is known of a model before it runs: its inputs, layers in training mode; and of the environment."""

from __future__ import annotations

import inspect
import os
import platform
import sys
from typing import Any, Dict, Iterator, List, Optional, Tuple

import jax
import numpy as np

from porting_check.neutral.adapter import InputSpec
from porting_check.neutral.trace import Environment
from porting_check_jax import modules
from porting_check_jax.models import LinenSubject, Subject, open_subject

LAST = {3: "NLC", 4: "NHWC", 5: "NDHWC"}
"""What a flax convolution with a kernel of this rank eats."""

FIRST = {3: "CL", 4: "CHW", 5: "CDHW"}
"""What an equinox convolution with a kernel of this rank eats: one sample."""


def environment() -> Environment:
    """Versions, device, and the modes that change numbers."""
    versions = {
        name: str(getattr(sys.modules[name], "__version__", "")) for name in _LIBRARIES if name in sys.modules
    }
    device = jax.devices()[0]
    name = "cpu" if device.platform == "cpu" else f"{device.platform}:{device.id} {device.device_kind}"
    return Environment(
        "jax",
        versions,
        device=name,
        threads=os.cpu_count() or 0,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        modes=_modes(),
    )


_LIBRARIES = ("jax", "jaxlib", "flax", "equinox", "keras", "numpy", "ml_dtypes")
_CONFIGURED = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_numpy_dtype_promotion",
)


def _modes() -> Dict[str, str]:
    """Settings that change what is computed."""
    found = {name: str(getattr(jax.config, name)) for name in _CONFIGURED if hasattr(jax.config, name)}
    found["platform"] = jax.default_backend()
    if os.environ.get("XLA_FLAGS"):
        found["XLA_FLAGS"] = os.environ["XLA_FLAGS"]
    return found


# Inputs.


def input_specs(model: Any) -> Tuple[InputSpec, ...]:
    """Required arguments by the signature; the first layer with weights tells of the first one.

    Args:
        model: what :func:`~porting_check_jax.models.open_subject` takes.
    """
    subject = open_subject(model)
    found = [InputSpec(name) for name in _required(subject)]
    hint = _hint(subject)
    if hint is not None and found:
        found[0] = InputSpec(found[0].name, None, *hint)
    return tuple(found)


def _required(subject: Subject) -> List[str]:
    """Names of the arguments that must be given: ``"0"``, ``"1"`` for positional ones."""
    called, skipped = subject.called()
    if modules.is_nnx(called) or modules.is_equinox(called):
        called, skipped = type(called).__call__, 1
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):
        return ["0"]
    names: List[str] = []
    for parameter in list(signature.parameters.values())[skipped:]:
        if parameter.default is not inspect.Parameter.empty:
            continue
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(str(len(names)))
        elif parameter.kind is parameter.KEYWORD_ONLY:
            names.append(parameter.name)
        elif parameter.kind is parameter.VAR_POSITIONAL and not names:
            names.append("0")
    return names


Hint = Tuple[str, str, Optional[int]]
"""Dtype, layout and limit of an input."""


def _hint(subject: Subject) -> Optional[Hint]:
    """What the weights say about the first input."""
    if isinstance(subject, LinenSubject):
        return _linen_hint(subject)
    # Functions that refer to a module may do anything to the input before it.
    direct = len(subject.roots) == 1 and subject.roots[0][1] is subject.function
    for module in _parts(subject) if direct else ():
        kind = type(module).__name__
        if modules.is_nnx(module):
            if kind in ("Conv", "ConvTranspose"):
                return "float32", LAST.get(np.ndim(module.kernel.get_value()), ""), None
            if kind == "Embed":
                return "int32", "", int(module.num_embeddings)
            if kind in ("Linear", "LinearGeneral"):
                return "float32", "", None
        elif kind == "Embedding" and type(module).__module__.startswith("equinox."):
            return "int32", "", int(module.num_embeddings)
        elif getattr(module, "num_spatial_dims", None) and hasattr(module, "weight"):
            return "float32", FIRST.get(int(module.num_spatial_dims) + 2, ""), None
        elif kind == "Linear":
            return "float32", "", None
    return None


def _linen_hint(subject: LinenSubject) -> Optional[Hint]:
    """Kernels of convolutions show their number of axes; a lone table of embeddings its size."""
    arrays = subject.parameters()
    tables = [array for name, array in arrays.items() if name.split("/")[-1] == "embedding"]
    ranks = {
        np.ndim(array)
        for name, array in arrays.items()
        if name.split("/")[-1] == "kernel" and np.ndim(array) > 2
    }
    named = {
        np.ndim(array)
        for name, array in arrays.items()
        if name.endswith("/kernel") and "conv" in name.split("/")[-2].lower() and np.ndim(array) in LAST
    }
    if len(tables) == 1 and not ranks:
        return "int32", "", int(tables[0].shape[0])
    if not tables and len(named or ranks & {4, 5}) == 1:
        return "float32", LAST[(named or ranks & {4, 5}).pop()], None
    return None


def _parts(subject: Subject) -> Iterator[Any]:
    """The modules of the model in the order of its attributes."""
    for _, root in subject.roots:
        if modules.is_nnx(root):
            yield from _nnx_parts(root, set())
        else:
            yield from modules.equinox_modules(root).values()


def _nnx_parts(value: Any, seen: Any) -> Iterator[Any]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if modules.is_nnx(value):
        yield value
    held = list(vars(value).values()) if hasattr(value, "__dict__") and modules.is_nnx(value) else []
    held += (
        list(value.values())
        if isinstance(value, dict)
        else list(value)
        if isinstance(value, (list, tuple))
        else []
    )
    for item in held:
        if modules.is_nnx(item) or isinstance(item, (dict, list, tuple)):
            yield from _nnx_parts(item, seen)


# Training mode.


def training(model: Any) -> Tuple[str, ...]:
    """Layers of nnx and equinox that say themselves that they are in training mode.

    Linen modules say it in the call; their batch statistics cannot change without ``mutable``, so that they raise.
    """
    subject = open_subject(model)
    found: List[str] = []
    for prefix, root in subject.roots:
        parts = modules.nnx_modules(root) if modules.is_nnx(root) else modules.equinox_modules(root)
        for path, module in parts.items():
            if _trains(module):
                found.append("/".join(part for part in (prefix, path) if part) or type(module).__name__)
    return tuple(sorted(found))


def _trains(module: Any) -> bool:
    kind = type(module).__name__
    if modules.is_nnx(module):
        if kind == "BatchNorm":
            return not module.use_running_average
        rate = getattr(module, "rate", getattr(module, "dropout_rate", 0))
        return getattr(module, "deterministic", None) is False and float(rate or 0) > 0
    if getattr(module, "inference", None) is not False:
        return False
    return kind == "BatchNorm" or float(getattr(module, "p", 1) or 0) > 0
