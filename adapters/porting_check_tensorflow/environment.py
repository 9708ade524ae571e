"""Where TensorFlow runs, and the modes that change its numbers."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any, Dict

import numpy as np
import tensorflow as tf

from porting_check.neutral.trace import Environment


def environment() -> Environment:
    """Versions of TensorFlow, Keras and numpy, device, threads and modes.

    Example:
        >>> environment().framework
        'tensorflow'
    """
    versions = {"tensorflow": tf.__version__, "numpy": np.__version__}
    for name in ("keras", "tf_keras"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if version:
            versions[name] = str(version)
    threading = tf.config.threading
    return Environment(
        "tensorflow",
        versions,
        device=_device(),
        threads=threading.get_intra_op_parallelism_threads() or os.cpu_count() or 0,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        modes=_modes(),
    )


def _device() -> str:
    if not _config("list_logical_devices")("GPU"):
        return "cpu"
    physical = _config("list_physical_devices")("GPU")
    describe = getattr(tf.config.experimental, "get_device_details", None)  # since TensorFlow 2.3
    details = describe(physical[0]) if physical and describe is not None else {}
    return f"gpu ({details.get('device_name', 'unknown')})"


def _config(name: str) -> Any:
    """A function of ``tf.config``; TensorFlow 1 and 2.0 have it among the experimental ones."""
    return getattr(tf.config, name, None) or getattr(tf.config.experimental, name)


def _modes() -> Dict[str, str]:
    """What changes rounding: oneDNN, TF32, XLA, determinism, and Keras' dtypes."""
    modes = {
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        "tf32": str(_call(getattr(tf.config.experimental, "tensor_float_32_execution_enabled", None))),
        "xla_jit": str(_call(getattr(tf.config.optimizer, "get_jit", None)) or "off"),
        "xla_flags": os.environ.get("TF_XLA_FLAGS", ""),
        "functions_run_eagerly": str(_call(getattr(tf.config, "functions_run_eagerly", None))),
    }
    keras = sys.modules.get("keras")
    if keras is not None:
        modes["keras_backend"] = str(_call(getattr(getattr(keras, "backend", None), "backend", None)))
        modes["keras_floatx"] = str(_call(getattr(getattr(keras, "backend", None), "floatx", None)))
        policy = _call(getattr(getattr(keras, "config", None), "dtype_policy", None))
        modes["keras_dtype_policy"] = str(getattr(policy, "name", policy))
        modes["keras_image_data_format"] = str(
            _call(getattr(getattr(keras, "backend", None), "image_data_format", None))
        )
    return {name: value for name, value in modes.items() if value}


def _call(function: Any) -> Any:
    """What a query of this version says; empty where the version lacks it."""
    return function() if callable(function) else ""
