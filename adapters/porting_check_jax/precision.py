"""The settings under which nodes are evaluated, undone afterwards."""

from __future__ import annotations

import contextlib
import functools
import importlib
from typing import Any, ContextManager, Iterator, List

import jax


def x64() -> ContextManager[Any]:
    """64-bit types inside a ``with`` block, in this thread only; the flag of the process stays as it is.

    Example:
        >>> with x64():
        ...     wide = jax.numpy.arange(3).dtype
        >>> wide, jax.config.jax_enable_x64
        (dtype('int64'), False)
    """
    enable: Any = getattr(jax, "enable_x64", None)
    if enable is None:
        enable = importlib.import_module("jax.experimental").enable_x64
    context: ContextManager[Any] = enable(True)
    return context


@functools.lru_cache(maxsize=None)
def _exact() -> str:
    """What full precision of products is called: ``float32`` before JAX 0.4.21."""
    try:
        with jax.default_matmul_precision("highest"):
            return "highest"
    except ValueError:
        return "float32"


def _settings() -> List[ContextManager[Any]]:
    """Contexts that make a result independent of how the caller configured JAX."""
    found: List[ContextManager[Any]] = [x64(), jax.default_matmul_precision(_exact())]
    for name, value in (
        ("numpy_dtype_promotion", "standard"),
        ("numpy_rank_promotion", "allow"),
        ("debug_nans", False),
        ("debug_infs", False),
        ("check_tracer_leaks", False),
        ("disable_jit", False),
    ):
        setting: Any = getattr(jax, name, None)
        if setting is not None:
            found.append(setting(value))
    try:
        found.append(jax.default_device(jax.local_devices(backend="cpu")[0]))
    except RuntimeError:
        pass  # the caller switched JAX's CPU off: the device it left is used
    return found


@contextlib.contextmanager
def evaluation() -> Iterator[None]:
    """64-bit types, full precision of products, the CPU: whatever the caller set, until the block ends."""
    with contextlib.ExitStack() as stack:
        for setting in _settings():
            stack.enter_context(setting)
        yield
