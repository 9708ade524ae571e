"""The adapter for TensorFlow and Keras. Importing it imports neither."""

from __future__ import annotations

from porting_check_tensorflow.adapter import TensorFlowAdapter

__all__ = ["TensorFlowAdapter"]
