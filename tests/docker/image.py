"""A small image with numpy, ONNX and ONNX Runtime for the tests of containers: a slim Python and this interpreter's own packages.

Nothing is downloaded where the slim Python is here already; it is the public image, or the stand-in of ``docker/stand_in.py``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHORT = f"{sys.version_info[0]}.{sys.version_info[1]}"
PACKAGES = ("numpy", "onnx", "onnxruntime", "protobuf", "flatbuffers", "ml_dtypes", "typing_extensions")
TAG = f"porting-check/test:{SHORT}-onnxruntime-{metadata.version('onnxruntime')}"
FOLDER = "/opt/packages"


def docker(*words: str, timeout: float = 300, check: bool = True) -> str:
    """Run a command of docker; its output."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=timeout)
    if check and done.returncode:
        raise RuntimeError(f"docker {' '.join(words[:3])}: {done.stderr.strip()}")
    return done.stdout.strip() if done.returncode == 0 else ""


def daemon() -> bool:
    """Whether a Docker daemon answers."""
    try:
        done = subprocess.run(["docker", "version"], capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def present(tag: str) -> bool:
    """Whether an image is here."""
    return bool(docker("image", "inspect", "--format", "{{.Id}}", tag, check=False))


def base() -> str:
    """A slim Python of this version: one that is here, else the public one, else a stand-in that is made now."""
    names = (f"porting-check/python:{SHORT}-slim", f"python:{SHORT}-slim")
    for name in names:
        if present(name):
            return name
    if docker("pull", "--quiet", names[1], check=False):
        return names[1]
    script = [sys.executable, str(ROOT / "docker" / "stand_in.py"), SHORT]
    done = subprocess.run(script, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise RuntimeError(f"no image of Python {SHORT} can be had: {done.stderr.strip()}")
    return names[0]


def build() -> str:
    """Make the image, once; its name."""
    if not present(TAG):
        with tempfile.TemporaryDirectory(prefix="porting-check-image-") as context:
            folder = Path(context)
            for package in PACKAGES:
                copy(package, folder / "packages")
            lines = [f"FROM {base()}", f"COPY packages {FOLDER}", f"ENV PYTHONPATH={FOLDER}"]
            lines.append(
                f"RUN python3 -m compileall -q -j 0 {FOLDER} /usr/local/lib/python{SHORT}"
            )  # a root is read-only
            (folder / "Dockerfile").write_text("\n".join(lines))
            docker("build", "--quiet", "--network", "none", "--tag", TAG, context)
    return TAG


def copy(package: str, target: Path) -> None:
    """Copy the files of an installed distribution."""
    for file in metadata.files(package) or ():
        if ".." in file.parts or "test" in file.parts or "tests" in file.parts or file.suffix == ".pyc":
            continue
        path = target / Path(*file.parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(file.locate()), path)
