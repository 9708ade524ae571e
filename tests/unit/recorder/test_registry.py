"""Which adapter a live model goes to."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest

from porting_check.neutral.errors import FrameworkMissing
from porting_check.recorder import registry

ONLY_ONNX = """
import sys
import onnx
from porting_check.recorder.registry import adapter_for
assert "onnxruntime" not in sys.modules
print(adapter_for(onnx.ModelProto()).framework)
"""


def test_a_model_proto_goes_to_onnxruntime_though_only_onnx_is_loaded():
    pytest.importorskip("onnxruntime")
    done = subprocess.run([sys.executable, "-c", ONLY_ONNX], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "onnxruntime", done.stderr


def test_other_objects_of_the_package_are_owned_by_nobody():
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    with pytest.raises(FrameworkMissing, match="NodeProto"):
        registry.adapter_for(onnx.NodeProto())


def test_an_object_that_nobody_knows_is_refused_with_what_is_expected():
    with pytest.raises(FrameworkMissing, match=r"onnx\.ModelProto"):
        registry.adapter_for(object())


def test_a_function_belongs_to_the_framework_that_it_holds_or_names():
    torch = pytest.importorskip("torch")
    jax = pytest.importorskip("jax")
    weight = torch.ones(3)
    array = jax.numpy.ones(3)

    def scaled(x):
        return x * array

    assert registry.adapter_for(lambda x: x * weight).framework == "torch"
    assert registry.adapter_for(scaled).framework == "jax"
    assert registry.adapter_for(jax.jit(scaled)).framework == "jax"
    assert (
        registry.adapter_for(functools.partial(torch.nn.functional.gelu, approximate="tanh")).framework
        == "torch"
    )
    with pytest.raises(FrameworkMissing, match=r"could belong to jax, .*torch"):
        registry.adapter_for(lambda x: x + 1)


WITHOUT = """
import sys
sys.modules[{missing!r}] = None
{before}
from porting_check.neutral.errors import PortingError
from porting_check.recorder.registry import adapter_for, load_adapter
try:
    print(({asked}).framework)
except PortingError as error:
    print(type(error).__name__, error)
"""


def _asked(missing, asked, before=""):
    """What a process says that lacks a package."""
    code = WITHOUT.format(missing=missing, asked=asked, before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_a_package_that_an_adapter_needs_is_named_when_it_is_missing():
    pytest.importorskip("onnxruntime")
    said = _asked("onnx", "load_adapter('onnxruntime')")
    assert said.startswith(
        "FrameworkMissing onnxruntime cannot be used here: its adapter also needs the package onnx,"
    )
    assert said.endswith("-m pip install onnx")


def test_a_missing_framework_names_the_extra():
    pytest.importorskip("torch")
    said = _asked("torch", "load_adapter('torch')")
    assert said.startswith("FrameworkMissing torch is not installed here (no module torch); run: pip install")


def test_an_adapter_that_cannot_be_used_keeps_no_model_from_its_own():
    pytest.importorskip("onnxruntime")
    torch = "import onnxruntime\nimport torch"
    pytest.importorskip("torch")
    assert _asked("onnx", "adapter_for(torch.nn.ReLU())", torch) == "torch"
    said = _asked("onnx", "adapter_for(onnxruntime.SessionOptions())", torch)
    assert said.startswith("FrameworkMissing no adapter owns an object of type")
    assert "needs the package onnx" in said


def test_a_damaged_installation_is_no_bare_import_error(monkeypatch):
    def broken():
        raise ImportError("libcudart.so.11.0: cannot open shared object file", name="torch._C")

    monkeypatch.setattr(registry, "installed", lambda: {"torch": broken})
    monkeypatch.setattr(registry, "_CACHE", {})
    with pytest.raises(
        FrameworkMissing, match=r"torch cannot be used here: libcudart\.so\.11\.0: cannot open"
    ):
        registry.load_adapter("torch")


def test_a_fault_of_an_adapter_itself_stays_an_import_error(monkeypatch):
    def broken():
        raise ModuleNotFoundError("no module", name="porting_check_torch.nowhere")

    monkeypatch.setattr(registry, "installed", lambda: {"torch": broken})
    monkeypatch.setattr(registry, "_CACHE", {})
    with pytest.raises(ModuleNotFoundError):
        registry.load_adapter("torch")
