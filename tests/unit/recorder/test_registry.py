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
