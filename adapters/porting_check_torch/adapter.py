"""The adapter: what the core asks of PyTorch."""

from __future__ import annotations

import copy
import inspect
import platform
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import nn

from porting_check.neutral.adapter import Adapter, Inputs, InputSpec
from porting_check.neutral.errors import PortingError, Unsupported, UnsupportedNode
from porting_check.neutral.node import Node
from porting_check.neutral.trace import Environment, Sink
from porting_check_torch import models, trees
from porting_check_torch.arrays import dtype_name, to_array, to_tensor
from porting_check_torch.keras_models import is_keras, keras_inputs
from porting_check_torch.loading import SUFFIXES, load_model
from porting_check_torch.record import call_model, record_model, run_error
from porting_check_torch.script_operators import schema_of

LAYOUTS = {
    "Conv1d": "NCL",
    "ConvTranspose1d": "NCL",
    "Conv2d": "NCHW",
    "ConvTranspose2d": "NCHW",
    "BatchNorm2d": "NCHW",
    "InstanceNorm2d": "NCHW",
    "Conv3d": "NCDHW",
    "ConvTranspose3d": "NCDHW",
    "BatchNorm3d": "NCDHW",
}
"""What a model eats when its first layer with parameters is one of these."""


FOREIGN = {"tensorflow", "keras", "tf_keras", "jax", "jaxlib", "flax", "equinox", "onnx", "onnxruntime"}
"""Where callables come from that are not torch's."""


class TorchAdapter(Adapter):
    """Records, runs and reads PyTorch models.

    Example:
        >>> from porting_check.neutral.trace import MemorySink
        >>> adapter, sink = TorchAdapter(), MemorySink()
        >>> adapter.record(nn.Sequential(nn.Conv2d(3, 4, 3)), {"0": np.zeros((1, 3, 8, 8), np.float32)}, sink)
        >>> print(sink.records[0].id, sink.records[0].nodes[0].op_type)
        0 Conv

    Attributes:
        notes: what the last recording must tell its reader, beside the trace.
    """

    framework = "torch"
    suffixes = SUFFIXES

    def __init__(self) -> None:
        self.notes: Tuple[str, ...] = ()
        self._device = torch.device("cpu")

    def owns(self, model: Any) -> bool:
        """Modules, TorchScript, exported programs; callables that no class marks as another framework's."""
        if isinstance(model, nn.Module) or models.is_script(model) or models.is_exported(model):
            return True
        if isinstance(getattr(model, "__self__", None), nn.Module):
            return True
        roots = {kind.__module__.split(".")[0] for kind in type(model).__mro__}
        return callable(model) and not isinstance(model, type) and not roots & FOREIGN

    def environment(self) -> Environment:
        """Versions, threads, the device of the model last run, and the modes that change numbers."""
        return Environment(
            "torch",
            {"torch": str(torch.__version__), "numpy": np.__version__},
            device=_device_name(self._device),
            threads=torch.get_num_threads(),
            python=platform.python_version(),
            platform=f"{platform.system()} {platform.machine()}",
            modes=_modes(),
        )

    def load(self, path: str) -> Any:
        """Load an exported program or TorchScript; pickles are refused.

        Raises:
            ModelError: missing, damaged, a pickle, or another kind of file.
        """
        return load_model(path)

    def inputs(self, model: Any) -> Tuple[InputSpec, ...]:
        """Required arguments by the signature of ``forward``; the first layer tells of the first one."""
        if models.is_exported(model):
            return _exported_inputs(model)
        if is_keras(model):
            return keras_inputs(model)
        root = models.root_of(model)
        first = None if root is None else next((m for m in root.modules() if _parametric(m)), None)
        specs = _required_specs(model)
        if first is not None and specs and specs[0].shape is None:
            specs[0] = _first_spec(specs[0].name, first)
        return tuple(specs)

    def predict(self, model: Any, inputs: Inputs) -> Dict[str, np.ndarray]:
        """Run the model as it is, unrecorded, without gradients; buffers and random state stay as they were.

        Raises:
            RunError: the model raised.
            InputError: inputs that cannot be tensors.
        """
        args, kwargs = self._arguments(model, inputs)
        with models.preserved(model):
            return _outputs(model, args, kwargs, inputs)

    def repeat(self, model: Any, inputs: Inputs) -> Tuple[Dict[str, np.ndarray], Dict[str, np.ndarray]]:
        """Two runs in a row; the second goes on from the random state that the first left.

        Raises:
            RunError: the model raised.
        """
        first, second = (
            self._arguments(model, inputs),
            self._arguments(model, inputs),
        )  # a run may write into its own
        with models.preserved(model):
            return _outputs(model, *first, inputs), _outputs(model, *second, inputs)

    def _arguments(self, model: Any, inputs: Inputs) -> Tuple[Any, Any]:
        self._device = models.device_of(model)
        return trees.arguments(inputs, self._device)

    def record(self, model: Any, inputs: Inputs, sink: Sink) -> None:
        """Run the model once and put every layer and operator into the sink.

        Raises:
            RunError: the model raised; the message names the layer.
            InputError: inputs that cannot be tensors.
        """
        self._device = models.device_of(model)
        self.notes = tuple(record_model(model, inputs, sink))

    def training(self, model: Any) -> Tuple[str, ...]:
        """Modules in training mode that would compute something else in inference."""
        root = models.root_of(model)
        if root is None:
            return ()
        return tuple(name for name, module in root.named_modules() if models.differs_in_training(module))

    def run(
        self, node: Node, inputs: Sequence[Optional[np.ndarray]], *, float64: bool = False
    ) -> Tuple[np.ndarray, ...]:
        """Execute one node with torch's own operators.

        Raises:
            UnsupportedNode: torch has no such operator.
        """
        from porting_check_torch.run import run

        return tuple(run(node, inputs, float64=float64))

    def parameters(self, model: Any) -> Dict[str, np.ndarray]:
        """Parameters and buffers by name, owned."""
        return models.read_parameters(model)

    def assign(self, model: Any, parameters: Mapping[str, np.ndarray]) -> None:
        """Copy arrays into the model's parameters and buffers, all or none.

        Raises:
            WeightsError: an unknown name, another shape or dtype.
        """
        models.write_parameters(model, parameters)

    def replay(
        self, model: Any, name: str, inputs: Sequence[np.ndarray], *, float64: bool = False
    ) -> Tuple[np.ndarray, ...]:
        """Call one submodule with positional inputs; in float64 a copy of it.

        Raises:
            UnsupportedNode: no submodule of that name.
            RunError: the submodule raised.
        """
        module = self._submodule(model, name)
        args = [to_tensor(np.asarray(array)).to(models.device_of(module)) for array in inputs]
        if float64:
            module = copy.deepcopy(module).double()
            args = [tensor.double() if tensor.is_floating_point() else tensor for tensor in args]
        with models.preserved(module):
            try:
                outputs = module(*args)
            except Exception as error:
                given = {str(place): np.asarray(array) for place, array in enumerate(inputs)}
                raise run_error(error, given, f" in layer {name}") from error
            return tuple(to_array(tensor) for tensor in trees.outputs_by_path(outputs).values())

    def float64_outputs(self, model: Any, inputs: Inputs) -> Dict[str, np.ndarray]:
        """Run a copy of the model in float64; ``notes`` name what in it computed in less all the same.

        Raises:
            Unsupported: a model that cannot be copied or cast.
            RunError: the model raised in float64.
        """
        from porting_check_torch.float64 import float64_outputs, wide_tensor

        try:
            outputs, notes = float64_outputs(model, inputs)
        except PortingError:
            raise
        except Exception as error:
            raise run_error(error, inputs, " in float64") from error
        self.notes = tuple(notes)
        return {path: to_array(wide_tensor(tensor)) for path, tensor in outputs.items()}

    def gradients(
        self, model: Any, inputs: Inputs, cotangents: Mapping[str, np.ndarray], *, float64: bool = False
    ) -> Dict[str, np.ndarray]:
        """Gradients by the keys of a recording, by autograd.

        Raises:
            Unsupported: tensors that autograd cannot follow.
            RunError: the model raised.
        """
        from porting_check_torch.gradients import gradients

        self._device = models.device_of(model)
        return gradients(model, inputs, cotangents, float64=float64)

    def train_layer(
        self, model: Any, name: str, inputs: Sequence[np.ndarray]
    ) -> Tuple[Tuple[np.ndarray, ...], Dict[str, np.ndarray]]:
        """Call one submodule in training mode; the model, its buffers and the random state are as before.

        Raises:
            Unsupported: no layer of that name, or it cannot be called alone.
        """
        from porting_check_torch.training import train_layer

        try:
            module = self._submodule(model, name)
        except UnsupportedNode as error:
            raise Unsupported(str(error)) from None
        return train_layer(model, name, module, inputs)

    def owns_optimizer(self, optimizer: Any) -> bool:
        """Whether this is a ``torch.optim.Optimizer``."""
        return isinstance(optimizer, torch.optim.Optimizer)

    def optimizer_steps(
        self,
        optimizer: Any,
        parameters: Mapping[str, np.ndarray],
        gradients: Sequence[Mapping[str, np.ndarray]],
        *,
        float64: bool = False,
    ) -> Tuple[Dict[str, np.ndarray], ...]:
        """Parameters after each step of a fresh copy of the optimiser; its own state stays as it is.

        Raises:
            Unsupported: the optimiser is of another framework, or makes no step from gradients alone.
        """
        if not self.owns_optimizer(optimizer):
            return super().optimizer_steps(optimizer, parameters, gradients, float64=float64)
        from porting_check_torch.training import optimizer_steps

        return optimizer_steps(optimizer, parameters, gradients, float64=float64)

    def _submodule(self, model: Any, name: str) -> nn.Module:
        known = {} if models.is_exported(model) else models.modules_by_path(model)
        name = name.split("#")[0]
        if not name or name not in known:
            raise UnsupportedNode(f"torch cannot run {name!r} alone: the model has no submodule of that name")
        return known[name]


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    return str(device)


def _modes() -> Dict[str, str]:
    """Settings that change what is computed, as far as this torch has them."""
    found: Dict[str, Any] = {"default_dtype": dtype_name(torch.get_default_dtype())}
    if hasattr(torch, "get_float32_matmul_precision"):
        found["float32_matmul_precision"] = torch.get_float32_matmul_precision()
    if hasattr(torch, "are_deterministic_algorithms_enabled"):
        found["deterministic_algorithms"] = torch.are_deterministic_algorithms_enabled()
    backends = torch.backends
    found["mkldnn"] = backends.mkldnn.is_available() and getattr(backends.mkldnn, "enabled", True)
    if hasattr(backends, "mha"):
        found["mha_fastpath"] = backends.mha.get_fastpath_enabled()
    if hasattr(backends, "cpu"):
        found["cpu_capability"] = backends.cpu.get_cpu_capability()
    if torch.cuda.is_available():
        found["cudnn_allow_tf32"] = backends.cudnn.allow_tf32
        found["matmul_allow_tf32"] = backends.cuda.matmul.allow_tf32
        found["cuda"], found["cudnn"] = torch.version.cuda, backends.cudnn.version()
    return {name: str(value) for name, value in found.items()}


def _parametric(module: nn.Module) -> bool:
    return any(tensor is not None for tensor in module._parameters.values())


def _first_spec(name: str, layer: nn.Module) -> InputSpec:
    """What the first layer says about the first input."""
    kinds = [str(getattr(layer, "original_name", ""))] + [kind.__name__ for kind in type(layer).__mro__]
    if "Embedding" in kinds or "EmbeddingBag" in kinds:
        return InputSpec(name, None, "int64", "", int(layer.num_embeddings))
    tensor = next(tensor for tensor in layer._parameters.values() if tensor is not None)
    layout = next((LAYOUTS[kind] for kind in kinds if kind in LAYOUTS), "")
    return InputSpec(name, None, dtype_name(tensor.dtype), layout)


NUMBERS = {"int": "int64", "float": "float64", "bool": "bool", "number": "float64", "Scalar": "float64"}
"""Dtypes of the arrays without axes that stand for the numbers a compiled model takes."""


def _required_specs(model: Any) -> List[InputSpec]:
    """The arguments that must be given; TorchScript says which of them are numbers."""
    if not models.is_script(model):
        return [InputSpec(name) for name in _required(model)]
    wanted = [a for a in schema_of(model).arguments if a.name != "self" and not a.has_default_value()]
    kinds = [NUMBERS.get(str(argument.type), "") for argument in wanted]
    return [
        InputSpec(str(place), () if kind else None, kind or "float32") for place, kind in enumerate(kinds)
    ]


def _required(model: Any) -> List[str]:
    """Names of the arguments that must be given: ``"0"``, ``"1"`` for positional ones."""
    model = models.unwrapped(model)
    called = model.forward if isinstance(model, nn.Module) else model
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):
        return ["0"]
    names: List[str] = []
    for parameter in signature.parameters.values():
        if parameter.default is not inspect.Parameter.empty:
            continue
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(str(len(names)))
        elif parameter.kind is parameter.KEYWORD_ONLY:
            names.append(parameter.name)
        elif parameter.kind is parameter.VAR_POSITIONAL and not names:
            names.append("0")
    return names


def _exported_inputs(model: Any) -> Tuple[InputSpec, ...]:
    """The user's inputs as the exported graph declares them."""
    wanted = {spec.arg.name for spec in model.graph_signature.input_specs if spec.kind.name == "USER_INPUT"}
    specs: List[InputSpec] = []
    for node in model.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and node.name in wanted and isinstance(value, torch.Tensor):
            shape = tuple(int(size) if isinstance(size, int) else None for size in value.shape)
            specs.append(InputSpec(str(len(specs)), shape, dtype_name(value.dtype)))
    return tuple(specs)


def _outputs(model: Any, args: Any, kwargs: Any, inputs: Inputs) -> Dict[str, np.ndarray]:
    """One plain run; outputs by path, owned."""
    try:
        outputs = call_model(model, args, kwargs)
    except PortingError:
        raise
    except Exception as error:
        raise run_error(error, inputs) from error
    return {path: to_array(tensor) for path, tensor in trees.outputs_by_path(outputs).items()}
