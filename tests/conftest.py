"""Shared by all tests: the same drawn examples on a continuous-integration machine, the order of the tests, JAX's cache."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

# A shell starts a background command with interruptions ignored, which every process below would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

LONGEST_FIRST = ("docker", "end_to_end", "cases", "adapters")
"""Folders, in the order in which their tests start; the many short ones of the others then fill what is left of each worker."""


def pytest_configure(config: pytest.Config) -> None:
    """Keep what JAX compiles, for both workers, for the processes that tests start, and for the next run."""
    if config.cache is not None:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("jax")))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with what takes longest, so that no worker ends alone with it."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)
