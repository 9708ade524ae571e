"""The adapter: what the core asks of JAX."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from porting_check.neutral.adapter import Adapter, Inputs, InputSpec
from porting_check.neutral.errors import ModelError
from porting_check.neutral.node import Node
from porting_check.neutral.trace import Environment, Sink
from porting_check_jax import models, modules, specs
from porting_check_jax.calling import predict, repeat
from porting_check_jax.keras_models import is_keras, keras_inputs
from porting_check_jax.record import record_model
from porting_check_jax.replay import replay


class JaxAdapter(Adapter):
    """Records, runs and reads functions of JAX, flax linen, flax nnx and equinox models.

    Example:
        >>> from porting_check.neutral.trace import MemorySink
        >>> adapter, sink = JaxAdapter(), MemorySink()
        >>> adapter.record(lambda x: jax.nn.relu(x), {"0": np.ones((1, 3), np.float32)}, sink)
        >>> print(sink.records[0].id, sink.records[0].nodes[0].op_type)
        relu Relu

    Attributes:
        notes: what the last recording must tell its reader, beside the trace.
        unroll: record every step of ``scan`` and ``while`` loops instead of the loop as one opaque record; the
            environment variable ``PORTING_CHECK_UNROLL=1`` sets it.
    """

    framework = "jax"
    suffixes: Tuple[str, ...] = ()

    def __init__(self) -> None:
        self.notes: Tuple[str, ...] = ()
        self.unroll = os.environ.get("PORTING_CHECK_UNROLL", "") not in ("", "0")
        self._alone: List[Tuple[Any, Dict[str, Any]]] = []

    def owns(self, model: Any) -> bool:
        """Modules of flax and equinox, pairs with variables or parameters, functions that no class marks as another's."""
        if modules.is_linen(model) or modules.is_nnx(model) or modules.is_equinox(model) or is_keras(model):
            return True
        if isinstance(model, tuple) and len(model) == 2:
            return modules.is_linen(model[0]) or (_callable(model[0]) and not _callable(model[1]))
        return _callable(model)

    def environment(self) -> Environment:
        """Versions, device, and the modes that change numbers."""
        return specs.environment()

    def load(self, path: str) -> Any:
        """JAX has no model files of its own that hold a model with its weights.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            f"{path!r}: JAX has no file format for whole models; give a function that builds the model and restores its "
            "weights, as file.py:function"
        )

    def inputs(self, model: Any) -> Tuple[InputSpec, ...]:
        """Required arguments by the signature; layers tell of the first one."""
        return keras_inputs(model) if is_keras(model) else specs.input_specs(model)

    def predict(self, model: Any, inputs: Inputs) -> Dict[str, np.ndarray]:
        """Run the model as it is, unrecorded; its state stays as it was.

        Raises:
            RunError: the model raised.
            InputError: inputs that cannot be arrays of JAX.
        """
        return predict(model, inputs)

    def repeat(self, model: Any, inputs: Inputs) -> Tuple[Dict[str, np.ndarray], Dict[str, np.ndarray]]:
        """Two runs in a row; the second goes on from the state that the first left.

        Raises:
            RunError: the model raised.
        """
        return repeat(model, inputs)

    def record(self, model: Any, inputs: Inputs, sink: Sink) -> None:
        """Run the model once and put every layer and operator into the sink.

        Raises:
            RunError: the model raised; the message names the layer.
            InputError: inputs that cannot be arrays of JAX.
        """
        notes, alone = record_model(model, inputs, sink, unroll=self.unroll)
        self.notes = tuple(notes)
        others = [pair for pair in self._alone if pair[0] is not model]
        self._alone = [(model, alone)] + others[:1]

    def training(self, model: Any) -> Tuple[str, ...]:
        """Layers that say themselves that they are in training mode."""
        return specs.training(model)

    def run(
        self, node: Node, inputs: Sequence[Optional[np.ndarray]], *, float64: bool = False
    ) -> Tuple[np.ndarray, ...]:
        """Execute one node with JAX' own operators.

        Raises:
            UnsupportedNode: JAX has no such operator.
        """
        from porting_check_jax.run import run

        return tuple(run(node, inputs, float64=float64))

    def gradients(
        self, model: Any, inputs: Inputs, cotangents: Mapping[str, np.ndarray], *, float64: bool = False
    ) -> Dict[str, np.ndarray]:
        """Gradients of the sum of ``output * cotangent`` by the keys of a recording.

        Raises:
            Unsupported: a primitive without a rule, or a model that cannot be widened.
            RunError: the model raised.
            InputError: a cotangent that fits no floating output.
        """
        from porting_check_jax.gradients import gradients

        return gradients(model, inputs, cotangents, float64=float64, unroll=self.unroll)

    def parameters(self, model: Any) -> Dict[str, np.ndarray]:
        """Parameters by name, owned."""
        return models.read_parameters(models.open_subject(model))

    def assign(self, model: Any, parameters: Mapping[str, np.ndarray]) -> None:
        """Put arrays into the model's own dicts, variables or modules, all or none.

        Raises:
            WeightsError: an unknown name, another shape or dtype, or frozen containers.
        """
        models.write_parameters(models.open_subject(model), parameters)

    def replay(
        self, model: Any, name: str, inputs: Sequence[np.ndarray], *, float64: bool = False
    ) -> Tuple[np.ndarray, ...]:
        """Call one layer with positional inputs; a linen layer must have been recorded before.

        Raises:
            UnsupportedNode: no layer of that name.
            RunError: the layer raised.
        """
        return replay(model, self._known(model), name, inputs, float64=float64)

    def train_layer(
        self, model: Any, name: str, inputs: Sequence[np.ndarray]
    ) -> Tuple[Tuple[np.ndarray, ...], Dict[str, np.ndarray]]:
        """Call one layer in training mode on copies; a linen layer must have been recorded before.

        Raises:
            Unsupported: no layer of that name, or it cannot be called alone.
        """
        from porting_check_jax.training import train_layer

        return train_layer(model, self._known(model), name, inputs)

    def owns_optimizer(self, optimizer: Any) -> bool:
        """Whether this is a gradient transformation of optax, or holds one as ``tx``."""
        from porting_check_jax.training import owns_optimizer

        return owns_optimizer(optimizer)

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
        from porting_check_jax.training import optimizer_steps

        return optimizer_steps(optimizer, parameters, gradients, float64=float64)

    def _known(self, model: Any) -> Dict[str, Any]:
        """The layers of a model's last recording by path, of the last two models recorded."""
        return next((layers for known, layers in self._alone if known is model), {})

    def float64_outputs(self, model: Any, inputs: Inputs) -> Dict[str, np.ndarray]:
        """Run the model in float64, 64-bit types switched on for this call only; ``notes`` name what stayed float32.

        Raises:
            Unsupported: a model whose arrays cannot be cast.
            RunError: the model raised in float64.
        """
        from porting_check_jax.float64 import float64_outputs

        outputs, notes = float64_outputs(model, inputs)
        self.notes = tuple(notes)
        return outputs


def _callable(model: Any) -> bool:
    """Whether this is a callable object, no class, and of no other framework's making."""
    roots = {kind.__module__.split(".")[0] for kind in type(model).__mro__}
    return callable(model) and not isinstance(model, type) and not roots & models.FOREIGN
