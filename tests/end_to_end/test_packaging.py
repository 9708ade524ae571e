"""sdist to wheel, installed in a clean environment: every entry point loads, nothing leaks to the top level."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.network]

CHECK = """
import importlib.metadata as m, importlib.util as u, subprocess, sys
entries = {e.name: e.value for e in m.entry_points(group="porting_check.adapters")}
assert entries["torch"] == "porting_check_torch:TorchAdapter", entries
assert entries["tensorflow"] == "porting_check_tensorflow:TensorFlowAdapter", entries
assert u.find_spec("porting_check_torch") and u.find_spec("porting_check_tensorflow")
assert not u.find_spec("adapters") and not u.find_spec("tests") and not u.find_spec("fixtures")
import porting_check
assert "site-packages" in porting_check.__file__
from porting_check.demo import _fixtures
assert (_fixtures() / "mtcnn" / "case.toml").is_file()
assert (_fixtures() / "loading.py").is_file()
from porting_check.recorder.registry import load_adapter
from porting_check.neutral.errors import FrameworkMissing
for name in entries:
    try:
        load_adapter(name)
        raise SystemExit(name + " must not load without its framework")
    except FrameworkMissing as error:
        assert f"porting-check[{name}]" in str(error), error
print("FINE")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_package_its_adapters_and_the_demo(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if "dist-info" not in name}
    adapters = {f"porting_check_{name}" for name in ("torch", "tensorflow", "jax", "onnxruntime")}
    assert tops == {"porting_check", *adapters}
    assert "porting_check/py.typed" in names
    assert "porting_check/fixtures/mtcnn/build_torch.py" in names
    assert any(name.endswith("report.html.j2") for name in names)


def test_it_works_installed_in_a_clean_environment(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    done = subprocess.run(
        [str(python), "-c", CHECK], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert done.stdout.strip().endswith("FINE"), done.stdout + done.stderr
    done = subprocess.run(
        [str(tmp_path / "env" / "bin" / "porting-check"), "doctor"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "torch" in done.stdout
