"""Gradients of a whole model, by the keys that a recording gives to its values.

The model runs once under the recorder's observer with gradients on, so that every value gets the key that it has in a
recording. Each value that autograd follows gets a hook at the moment when it is made: torch gives such a hook the gradient
with respect to the value *then*, also when the tensor is written over later. The backward pass runs outside the observer.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import torch
from torch import nn

from porting_check.neutral.adapter import Inputs
from porting_check.neutral.errors import PortingError, Unsupported
from porting_check.neutral.trace import Port, Record, Sink, parameter_key
from porting_check_torch import trees
from porting_check_torch.arrays import to_array, to_tensor
from porting_check_torch.describe import Ref
from porting_check_torch.float64 import wide_model
from porting_check_torch.models import device_of, named_tensors, preserved, root_of
from porting_check_torch.record import Recorder, run_error
from porting_check_torch.values import Values, Write
from porting_check_torch.writing import Writer

RUNNING = ("running_mean", "running_var")
"""Buffers of normalisations that torch does not differentiate."""


class _Nowhere(Sink):
    """A sink that keeps nothing: the values were recorded before."""

    def value(self, key: str, array: np.ndarray) -> None:
        """Dropped."""

    def record(self, record: Record) -> None:
        """Dropped."""

    def input(self, port: Port) -> None:
        """Dropped."""

    def output(self, port: Port) -> None:
        """Dropped."""


class _Hooked(Values):
    """The table of living tensors, which also asks for the gradient of every value.

    A value that is made where autograd is off (inside a custom function) is asked for when it is first read.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.collected: Dict[str, torch.Tensor] = {}
        self.handles: List[Any] = []
        self.shared: Set[str] = set()
        self._asked: Set[str] = set()
        self._written: Set[int] = set()

    def make(self, tensor: torch.Tensor, key: str) -> Ref:
        """As before, and a hook."""
        if id(tensor) in self._written:
            self._written.discard(id(tensor))
            self.shared.add(key)
        made = super().make(tensor, key)
        self.ask(tensor, key)
        return made

    def written(self, tensor: torch.Tensor, write: Optional[Write]) -> None:
        """As before; of two tensors in one memory autograd counts what is read of either to only one of them.

        So neither has a gradient that could be told apart, once one was written to through the other.
        """
        super().written(tensor, write)
        if write is not None:
            self._written.add(id(tensor))
            self.shared.add(write.written.key)

    def ref(self, tensor: torch.Tensor, snapshot: bool) -> Ref:
        """As before, and a hook where none could be set when the value was made."""
        read = super().ref(tensor, snapshot)
        self.ask(tensor, read.key)
        return read

    def ask(self, tensor: torch.Tensor, key: str) -> None:
        """Collect the gradient of this value, once per key."""
        if not tensor.requires_grad or key in self._asked or key.startswith(("parameter:", "constant:")):
            return
        self._asked.add(key)
        self.handles.append(tensor.register_hook(self._collector(key)))

    def _collector(self, key: str) -> Callable[[torch.Tensor], None]:
        def collect(gradient: torch.Tensor) -> None:
            self.collected[key] = gradient.detach().clone()

        return collect


class _Recorder(Recorder):
    """A run under observation of which only the gradients are kept."""

    def __init__(self, model: Any) -> None:
        super().__init__(model, _Nowhere())
        self.hooked = _Hooked(self.sink, named_tensors(model), self._settle)
        self.values = self.hooked
        self.writer = Writer(self.sink, self.values)
        self.outputs: Dict[str, torch.Tensor] = {}

    def _finish(self, outputs: Any) -> None:
        super()._finish(outputs)
        self.outputs = trees.outputs_by_path(outputs)
        for tensor in self.outputs.values():
            self.hooked.ask(tensor, self.values.entry(tensor).key)


def gradients(
    model: Any, inputs: Inputs, cotangents: Mapping[str, np.ndarray], *, float64: bool = False
) -> Dict[str, np.ndarray]:
    """Gradients of the sum over outputs of ``output * cotangent``, see :meth:`Adapter.gradients`.

    Buffers are differentiated like parameters where torch can (running statistics it cannot). Caller's flags, ``.grad``
    fields, modes, buffers and random state stay as they were.

    Raises:
        Unsupported: compiled code or tensors that autograd does not follow.
        RunError: the model raised.
    """
    if float64:
        model, inputs = (
            wide_model(model),
            {name: _double(np.asarray(array)) for name, array in inputs.items()},
        )
    with preserved(model), _eval_recurrent(model):
        try:
            return _differentiated(model, inputs, cotangents, buffers=True)
        except PortingError:
            raise
        except RuntimeError:  # a buffer that is written to, or an argument that has no derivative
            pass
    with preserved(model), _eval_recurrent(model):
        try:
            return _differentiated(model, inputs, cotangents, buffers=False)
        except PortingError:
            raise
        except Exception as error:
            raise run_error(error, inputs, " while it was differentiated") from error


def _differentiated(
    model: Any, inputs: Inputs, cotangents: Mapping[str, np.ndarray], *, buffers: bool
) -> Dict[str, np.ndarray]:
    leaves = _leaves(model, buffers)
    args, kwargs = trees.arguments(inputs, device_of(model))
    recorder = _Recorder(model)
    hooked = recorder.hooked
    try:
        with torch.enable_grad(), _differentiable(leaves):
            given, starts = _following(args, kwargs)
            recorder.run(*given)
            if recorder.broken is not None:
                raise recorder.broken
            wanted = starts + list(leaves.values())
            found = _backward(recorder.outputs, cotangents, wanted)
    finally:
        for handle in hooked.handles:
            handle.remove()
    made = {key: to_array(g) for key, g in hooked.collected.items() if key not in hooked.shared}
    for name, gradient in zip(leaves, found[len(starts) :]):
        if gradient is not None:
            made[parameter_key(name)] = to_array(gradient)
    return made


def _following(
    args: Sequence[torch.Tensor], kwargs: Mapping[str, torch.Tensor]
) -> Tuple[Tuple[List[torch.Tensor], Dict[str, torch.Tensor]], List[torch.Tensor]]:
    """Inputs that autograd follows and that may be written over (no leaves), and the leaves that they come from."""
    starts: List[torch.Tensor] = []

    def follow(tensor: torch.Tensor) -> torch.Tensor:
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return tensor
        leaf = tensor.detach().requires_grad_()
        starts.append(leaf)
        return leaf.clone()

    given = [follow(tensor) for tensor in args], {name: follow(tensor) for name, tensor in kwargs.items()}
    return given, starts


def _backward(
    outputs: Mapping[str, torch.Tensor],
    cotangents: Mapping[str, np.ndarray],
    wanted: Sequence[torch.Tensor],
) -> Sequence[Any]:
    """One backward pass from all outputs that have a cotangent and that autograd follows."""
    ends, weights = [], []
    for path, output in outputs.items():
        if path in cotangents and output.requires_grad:
            ends.append(output)
            weights.append(to_tensor(np.asarray(cotangents[path])).to(output.device, output.dtype))
    if not ends or not wanted:
        return [None] * len(wanted)
    return torch.autograd.grad(ends, list(wanted), weights, allow_unused=True)


def _leaves(model: Any, buffers: bool) -> Dict[str, torch.Tensor]:
    """Floating parameters and, if wanted, buffers by name, which all must be leaves."""
    root = root_of(model)
    if root is None:
        return {}
    own = {id(tensor) for tensor in root.parameters()}
    statistics = _statistics(root)
    found = {}
    for name, tensor in named_tensors(model).items():
        if not tensor.is_floating_point() and not tensor.is_complex():
            continue
        if id(tensor) not in own and (not buffers or id(tensor) in statistics):
            continue
        if getattr(tensor, "is_inference", bool)():
            raise Unsupported(
                f"{name} was made in inference mode; torch cannot differentiate with respect to it"
            )
        if tensor.is_leaf:
            found[name] = tensor
    return found


def _statistics(root: nn.Module) -> Any:
    return {
        id(tensor)
        for module in root.modules()
        for name, tensor in module._buffers.items()
        if tensor is not None and name in RUNNING
    }


@contextlib.contextmanager
def _differentiable(leaves: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Ask for gradients of all leaves, the frozen ones too; flags are put back."""
    flags = [(tensor, tensor.requires_grad) for tensor in leaves.values()]
    try:
        for tensor, _ in flags:
            tensor.requires_grad_(True)
        yield
    finally:
        for tensor, flag in flags:
            tensor.requires_grad_(flag)


@contextlib.contextmanager
def _eval_recurrent(model: Any) -> Iterator[None]:
    """Recurrent layers in inference on a GPU: cuDNN cannot differentiate them, torch's own kernels can."""
    root = root_of(model)
    if root is None or device_of(model).type != "cuda":
        yield
    elif any(isinstance(module, nn.RNNBase) and not module.training for module in root.modules()):
        with torch.backends.cudnn.flags(enabled=False):
            yield
    else:
        yield


def _double(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind in "fV" else array
