"""Shared by all tests: the same drawn examples every time on a continuous-integration machine, and the order of the tests."""

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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with what takes longest, so that no worker ends alone with it."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)
