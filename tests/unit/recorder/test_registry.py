"""Which adapter a live model goes to."""

from __future__ import annotations

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
