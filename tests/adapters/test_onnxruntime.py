"""ONNX Runtime under the conformance suite."""

from __future__ import annotations

from porting_check.testing import RunContract


class TestRun(RunContract):
    framework = "onnxruntime"
    refuses = "it has kernels for few types, and no dilation with auto_pad"
    narrow_gaps = {  # noqa: RUF012
        "int8": frozenset({"CumSum", "MatMul"}),
        "int16": frozenset({"ArgMax", "CumSum", "MatMul", "Max"}),
        "uint8": frozenset({"CumSum", "MatMul"}),
        "uint16": frozenset({"ArgMax", "CumSum", "MatMul", "Max"}),
        "uint32": frozenset({"ArgMax", "CumSum"}),
        "uint64": frozenset({"ArgMax", "CumSum"}),
    }
