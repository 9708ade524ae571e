"""Packages of others that some cases need: fetched from PyPI without their dependencies, once, into pytest's cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
WHEELS = {"mtcnn": ["mtcnn==1.0.0"], "mtcnn_facenet": ["mtcnn==1.0.0", "facenet-pytorch==2.6.0"]}


@pytest.fixture(scope="session")
def fetched(request):
    """A function that fetches what a case needs; true when it could."""
    cache = Path(request.config.cache.mkdir("porting_check_cases"))
    done: dict[str, bool] = {}

    def fetch(case: str) -> bool:
        if case not in done:
            done[case] = (
                _efficientnet(cache) if case == "efficientnet" else _wheels(cache, WHEELS.get(case, []))
            )
        return done[case]

    return fetch


def _wheels(cache: Path, requirements: list[str]) -> bool:
    folder = cache / "packages"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--upgrade",
        "--target",
        str(folder),
        *requirements,
    ]
    if not requirements or subprocess.run(command, capture_output=True, timeout=600).returncode:
        return False
    sys.path.append(str(folder))
    return True


def _efficientnet(cache: Path) -> bool:
    folder = cache / "efficientnet"
    command = [sys.executable, str(FIXTURES / "efficientnet" / "fetch.py"), str(folder)]
    if subprocess.run(command, capture_output=True, timeout=600).returncode:
        return False
    for version in ("0.7.0", "0.7.1"):
        os.environ["PORTING_CHECK_EFFICIENTNET_" + version.replace(".", "_")] = str(folder / version)
    return True
