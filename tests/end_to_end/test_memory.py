"""Recordings that are larger than memory are compared in little of it: the whole pipeline, in a fresh process.

The large pair takes a minute or two and six gigabytes of disk.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.benchmarks.large_pair import Size
from tests.benchmarks.memory import COMPARE, measured, write_pair

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc here to read the peak from"),
]

GIGABYTE = 10**9
TENSOR = 32 * 2**20


def room(folder: Path, needed: int) -> None:
    """Skip, by name, where the disk has no room."""
    if shutil.disk_usage(folder).free < 1.2 * needed:
        pytest.skip(f"needs {needed / 2**30:.1f} GiB of disk")


def test_a_pair_of_six_gigabytes_is_compared_in_less_than_one(tmp_path):
    room(tmp_path, 7 * 2**30)
    paths = write_pair(tmp_path, Size.of(3 * 2**30, TENSOR))
    assert sum(file.stat().st_size for path in paths for file in Path(path).iterdir()) > 6 * 2**30
    found = measured(COMPARE, *paths)
    shutil.rmtree(tmp_path, ignore_errors=True)
    assert found["verdict"] == "faithful"
    assert len(found["pairs"]) > 70
    assert found["peak"] < GIGABYTE


def test_a_wrong_layer_of_large_tensors_is_found_in_less_than_one_gigabyte(tmp_path):
    room(tmp_path, 2 * 2**30)
    paths = write_pair(tmp_path, Size.of(2**29, TENSOR), wrong="relu1")
    found = measured(COMPARE, *paths)
    shutil.rmtree(tmp_path, ignore_errors=True)
    assert found["verdict"] == "divergent"
    assert found["found"] == ["relu1"]
    assert found["pairs"].count("divergent") == 1
    assert found["peak"] < GIGABYTE
