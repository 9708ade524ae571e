"""Packages of others that some cases need: fetched from PyPI without their dependencies, once, into pytest's cache."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
WHEELS = {
    "mtcnn": ["mtcnn==1.0.0"],
    "mtcnn_facenet": ["mtcnn==1.0.0", "facenet-pytorch==2.6.0"],
    "basic_pitch": ["basic-pitch==0.4.0"],
    "silero_vad": ["silero-vad==6.2.3"],
}


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


@pytest.fixture(scope="session")
def package_folder(fetched):
    """A function that gives a folder of a package, whose code is not imported; the package is fetched when it is missing."""

    def folder(package: str, below: str) -> Path:
        if importlib.util.find_spec(package) is None:
            fetched(package)
            importlib.invalidate_caches()
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            pytest.skip(f"{package} is neither installed nor could it be fetched from PyPI")
        return Path(next(iter(spec.submodule_search_locations))) / below

    return folder


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
