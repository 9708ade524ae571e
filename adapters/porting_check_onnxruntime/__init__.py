"""The ONNX Runtime adapter of porting-check."""

from __future__ import annotations

from porting_check_onnxruntime.adapter import OnnxRuntimeAdapter

__all__ = ["OnnxRuntimeAdapter"]
