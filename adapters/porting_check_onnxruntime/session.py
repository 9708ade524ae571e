"""Sessions of ONNX Runtime, what is fed to them, and their errors in the project's words."""

from __future__ import annotations

import ctypes
import re
from typing import Any, Dict, Mapping, Optional, Sequence

import numpy as np
import onnxruntime
from onnx import TensorProto
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from porting_check.neutral.errors import ModelError, PortingError, RunError
from porting_check_onnxruntime.compat import embedded

PROVIDERS = ["CPUExecutionProvider"]
"""The provider whose kernels every installation has; what is recorded must be the same everywhere."""

REFUSED = (
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NotImplemented,
    errors.NoSuchFile,
    errors.RuntimeException,
    errors.EPFail,
    ValueError,
    RuntimeError,
    TypeError,
)
"""What ONNX Runtime raises."""

BLOCKED = "NchwcTransformer"
"""The optimiser that stores activations in blocks of channels, in no order of axes that an array could have."""


def _number(name: str) -> int:
    """A type's number in ONNX; 0 where this onnx is older than the type, and then no model can have it."""
    return int(getattr(TensorProto, name, 0))


NUMPY = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "bool": "bool",
}
"""Types of tensors that go in and out as arrays, with the name of their dtype."""

NARROW = {
    "bfloat16": ("bfloat16", TensorProto.BFLOAT16, TensorProto.FLOAT),
    "float8e4m3fn": ("float8_e4m3fn", _number("FLOAT8E4M3FN"), TensorProto.FLOAT),
    "float8e4m3fnuz": ("float8_e4m3fnuz", _number("FLOAT8E4M3FNUZ"), TensorProto.FLOAT),
    "float8e5m2": ("float8_e5m2", _number("FLOAT8E5M2"), TensorProto.FLOAT),
    "float8e5m2fnuz": ("float8_e5m2fnuz", _number("FLOAT8E5M2FNUZ"), TensorProto.FLOAT),
    "int4": ("int4", _number("INT4"), TensorProto.INT8),
    "uint4": ("uint4", _number("UINT4"), TensorProto.UINT8),
    "int2": ("int2", _number("INT2"), TensorProto.INT8),
    "uint2": ("uint2", _number("UINT2"), TensorProto.UINT8),
}
"""Types that numpy lacks: dtype of ml_dtypes, number in ONNX, and the wider type through which they pass exactly."""


def element_type(kind: str) -> str:
    """``float`` of ``tensor(float)``; ``""`` for what is no tensor."""
    found = re.fullmatch(r"tensor\((\w+)\)", kind)
    return found.group(1) if found else ""


def dtype_of(kind: str) -> str:
    """Name of the dtype of a tensor type of ONNX Runtime; ``""`` where arrays have none."""
    element = element_type(kind)
    return NUMPY.get(element) or (NARROW[element][0] if element in NARROW else "")


def narrow_dtype(name: str) -> Any:
    """A dtype by name, those of ml_dtypes included."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


class Session:
    """A model opened by ONNX Runtime on the CPU.

    Args:
        proto: the model, with heavy tensors as stubs.
        heavy: arrays of the stubs.
        folder: where external data lie.
        level: of graph optimisation.
        save: file for the optimised graph.

    Raises:
        ModelError: ONNX Runtime refuses the model.
    """

    def __init__(
        self,
        proto: Any,
        heavy: Optional[Mapping[str, np.ndarray]] = None,
        folder: str = "",
        level: str = "disabled",
        save: str = "",
    ) -> None:
        stubs = {tensor.name for tensor in proto.graph.initializer} & set(heavy or ())
        # the session reads these arrays while it lives
        self._held = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy((heavy or {})[name]) for name in sorted(stubs)
        }
        options = _options(level)
        if self._held and not hasattr(options, "add_external_initializers"):  # before ONNX Runtime 1.12
            proto, self._held = embedded(proto, heavy or {}), {}
        if self._held:
            options.add_external_initializers(list(self._held), list(self._held.values()))
        if folder:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        if save:
            options.optimized_model_filepath = save
        skipped = [BLOCKED] if level == "all" else []
        try:
            self.native = onnxruntime.InferenceSession(
                proto.SerializeToString(), options, providers=PROVIDERS, disabled_optimizers=skipped
            )
        except REFUSED as error:
            raise refusal(error) from error
        self.inputs = {value.name: value for value in self.native.get_inputs()}
        self.outputs = {value.name: value.type for value in self.native.get_outputs()}

    def run(self, names: Sequence[str], feeds: Mapping[str, np.ndarray]) -> Dict[str, Any]:
        """Outputs by name; what is no tensor comes as ONNX Runtime gives it.

        Raises:
            RunError: a kernel failed.
        """
        given = {name: array for name, array in feeds.items() if name in self.inputs}
        kinds = [self.inputs[name].type for name in given] + [self.outputs.get(name, "") for name in names]
        narrow = any(element_type(kind) in NARROW for kind in kinds)
        try:
            if narrow:
                values = {name: _ort_value(array, self.inputs[name].type) for name, array in given.items()}
                found = self.native.run_with_ort_values(list(names), values)
                return {name: _array(value) for name, value in zip(names, found)}
            return dict(zip(names, self.native.run(list(names), given)))
        except REFUSED as error:
            raise run_error(error) from error


def _options(level: str) -> Any:
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = {
        "disabled": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "all": levels.ORT_ENABLE_ALL,
    }[level]
    return options


def _ort_value(array: np.ndarray, kind: str) -> Any:
    element = element_type(kind)
    if element in NARROW:
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, NARROW[element][1])
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _array(value: Any) -> Any:
    """The array of a tensor; one of a type that numpy lacks is read byte by byte."""
    element = element_type(value.data_type())
    if element not in NARROW:
        return value.numpy()
    dtype, count = narrow_dtype(NARROW[element][0]), int(np.prod(value.shape(), dtype=np.int64))
    raw = np.frombuffer(ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes()), np.uint8)
    bits = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2}.get(element)
    if bits:  # several to a byte, the first in the lowest bits
        parts = [raw >> shift & ((1 << bits) - 1) for shift in range(0, 8, bits)]
        raw = np.stack(parts, axis=-1).reshape(-1)[:count]
        return raw.view(dtype).reshape(value.shape()).copy()
    return raw.view(dtype).reshape(value.shape()).copy()


def first_line(error: BaseException) -> str:
    """What ONNX Runtime says, without its file names and numbers."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error).strip())
    text = re.sub(r"\S*/onnxruntime\S*:\d+ .*?\) (?=[A-Z])", "", text.splitlines()[0] if text else "")
    return text.strip() or type(error).__name__


def refusal(error: BaseException) -> PortingError:
    """Why ONNX Runtime does not open a model, and what to do."""
    line, version = first_line(error), onnxruntime.__version__
    newest = re.search(r"Opset (\d+) is under development.*?till opset (\d+)", str(error), re.DOTALL)
    if newest:
        return ModelError(
            f"the model uses opset {newest.group(1)}; onnxruntime {version} runs opsets up to {newest.group(2)}: export with "
            f"opset_version={newest.group(2)}, or convert with onnx.version_converter"
        )
    if "Unsupported model IR version" in str(error):
        found = re.search(r"IR version: (\d+), max supported IR version: (\d+)", str(error))
        numbers = found.groups() if found else ("?", "?")
        return ModelError(
            f"the model has IR version {numbers[0]}; onnxruntime {version} reads up to {numbers[1]}: set model.ir_version"
        )
    if isinstance(error, errors.NotImplemented):
        return ModelError(
            f"onnxruntime {version} cannot run the model: {line}. There is no kernel for these types or this operator version on "
            "the CPU; opsets before 7 need onnx.version_converter first"
        )
    return ModelError(f"onnxruntime {version} refuses the model: {line}")


def run_error(error: BaseException, doing: str = "") -> RunError:
    """A run that failed."""
    return RunError(
        f"onnxruntime {onnxruntime.__version__} raised {type(error).__name__}{doing}: {first_line(error)}"
    )


def is_tensor(value: Any) -> bool:
    """Whether an output is an array of numbers."""
    return isinstance(value, np.ndarray) and value.dtype.kind not in "OUS"
