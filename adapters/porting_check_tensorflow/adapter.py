"""The adapter for TensorFlow: Keras models here, all else in :mod:`~porting_check_tensorflow.graph`.

TensorFlow is imported inside the methods: an adapter is asked whether it owns a model before its framework is
loaded.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from porting_check.neutral.adapter import Adapter, Inputs, InputSpec
from porting_check.neutral.errors import ModelError, RunError, Unsupported
from porting_check.neutral.node import Node
from porting_check.neutral.trace import Environment, Sink
from porting_check_tensorflow.flavours import backend, is_keras


class TensorFlowAdapter(Adapter):
    """Keras models (3 and older), ``tf.Module``, ``tf.function``, SavedModel, frozen graphs, TFLite.

    Example:
        >>> adapter = TensorFlowAdapter()
        >>> adapter.owns("no model")
        False
    """

    framework = "tensorflow"
    suffixes = (".keras", ".h5", ".hdf5", ".tflite", ".pb")

    def owns(self, model: Any) -> bool:
        """Whether this is a Keras layer or model on the TensorFlow backend, or an object of TensorFlow's."""
        if is_keras(model):
            return backend(model) == "tensorflow"
        if _is_lite(model):
            return True
        if "tensorflow" not in sys.modules:
            return False
        from porting_check_tensorflow import graph

        return graph.owns(model)

    def environment(self) -> Environment:
        """Versions, device, threads, and the modes that change numbers.

        These are oneDNN, TF32, XLA, and Keras' backend, floatx and policy.
        """
        from porting_check_tensorflow.environment import environment

        return environment()

    def load(self, path: str) -> Any:
        """A model from ``.keras``, ``.h5``, a SavedModel folder, a frozen graph (``.pb``) or ``.tflite``.

        Raises:
            ModelError: missing, damaged, of another kind, or with code inside that would have to be run
            (Lambda layers).
        """
        if not os.path.exists(path):
            raise ModelError(f"the model file {path!r} does not exist")
        suffix = os.path.splitext(path)[1].lower()
        if suffix in (".keras", ".h5", ".hdf5"):
            from porting_check_tensorflow.loading import load_keras

            return load_keras(path)
        if suffix == ".tflite":
            from porting_check_tensorflow import lite

            return lite.load(path)
        from porting_check_tensorflow import graph

        return graph.load(path)

    def inputs(self, model: Any) -> Tuple[InputSpec, ...]:
        """What is known of the inputs; empty for a subclassed model that was never built."""
        if _eager(model):
            from porting_check_tensorflow.specs import input_specs

            return input_specs(model)
        return _other(model).inputs(model)

    def predict(self, model: Any, inputs: Inputs) -> Dict[str, np.ndarray]:
        """One eager run in inference.

        Raises:
            RunError: the model raised.
        """
        if _eager(model):
            _require_tensorflow(model)
            from porting_check_tensorflow.calling import predict

            return predict(model, inputs)
        return _other(model).predict(model, inputs)

    def repeat(self, model: Any, inputs: Inputs) -> Tuple[Dict[str, np.ndarray], Dict[str, np.ndarray]]:
        """Two runs in a row; the second goes on from the random state that the first left.

        Raises:
            RunError: the model raised.
        """
        if _eager(model):
            _require_tensorflow(model)
            from porting_check_tensorflow.calling import repeat

            return repeat(model, inputs)
        return _other(model).repeat(model, inputs)

    def record(self, model: Any, inputs: Inputs, sink: Sink) -> None:
        """One eager run in inference, every layer and operator into the sink.

        Raises:
            RunError: the model raised, or Keras runs on another backend.
        """
        if _eager(model):
            _require_tensorflow(model)
            from porting_check_tensorflow.record import record

            self.notes = ()
            record(model, inputs, sink)
        else:
            self.notes = tuple(_other(model).record(model, inputs, sink) or ())

    def gradients(
        self, model: Any, inputs: Inputs, cotangents: Mapping[str, np.ndarray], *, float64: bool = False
    ) -> Dict[str, np.ndarray]:
        """Gradients of the sum of ``output * cotangent`` by the keys of a recording; graphs have them too.

        Raises:
            Unsupported: a TFLite file, or an operator that TensorFlow has no gradient for.
            RunError: the model raised.
            InputError: a cotangent that fits no floating output.
        """
        if _is_lite(model):
            raise Unsupported(
                "a TFLite model is made for inference and cannot be differentiated: give the model it was converted from"
            )
        if _eager(model):
            _require_tensorflow(model)
            from porting_check_tensorflow.gradients import gradients

            return gradients(model, inputs, cotangents, float64=float64)
        from porting_check_tensorflow import gradients_graph

        return gradients_graph.gradients(model, inputs, cotangents, float64=float64)

    def training(self, model: Any) -> Tuple[str, ...]:
        """Layers that run in training mode although the model does not.

        (``training=True`` in a functional Keras 2 model).
        """
        if _eager(model):
            from porting_check_tensorflow.specs import forced_training

            return forced_training(model)
        return tuple(_other(model).training(model))

    def run(
        self, node: Node, inputs: Sequence[Optional[np.ndarray]], *, float64: bool = False
    ) -> Tuple[np.ndarray, ...]:
        """Execute one neutral node with TensorFlow's public operator; canonical layouts in and out.

        Raises:
            UnsupportedNode: TensorFlow has no such operator, or it is not described yet.
        """
        from porting_check_tensorflow.run import run

        return run(node, inputs, float64=float64)

    def parameters(self, model: Any) -> Dict[str, np.ndarray]:
        """Every weight by its layer's path: ``conv1/kernel``.

        Raises:
            WeightsError: a model that was never built.
        """
        if _eager(model):
            from porting_check_tensorflow.weights import read_parameters

            return read_parameters(model)
        return _other(model).parameters(model)

    def assign(self, model: Any, parameters: Mapping[str, np.ndarray]) -> None:
        """Write weights by name; all or none.

        Raises:
            WeightsError: an unknown name or a wrong shape.
        """
        if _eager(model):
            from porting_check_tensorflow.weights import write_parameters

            write_parameters(model, parameters)
        else:
            _other(model).assign(model, parameters)

    def replay(
        self, model: Any, name: str, inputs: Sequence[np.ndarray], *, float64: bool = False
    ) -> Tuple[np.ndarray, ...]:
        """Run one layer of a Keras model alone; in float64, a copy rebuilt from its configuration.

        Raises:
            UnsupportedNode: no layer of that path, or it cannot be called alone.
        """
        if not _eager(model):
            return super().replay(model, name, inputs, float64=float64)
        _require_tensorflow(model)
        from porting_check_tensorflow.replay import replay

        return replay(model, name, inputs, float64=float64)

    def train_layer(
        self, model: Any, name: str, inputs: Sequence[np.ndarray]
    ) -> Tuple[Tuple[np.ndarray, ...], Dict[str, np.ndarray]]:
        """Call one layer of a Keras model with ``training=True``; weights and random state are as before.

        Raises:
            Unsupported: no layer of that name, or it cannot be called alone.
        """
        if not _eager(model):
            return super().train_layer(model, name, inputs)
        _require_tensorflow(model)
        from porting_check_tensorflow.training import train_layer

        return train_layer(model, name, inputs)

    def owns_optimizer(self, optimizer: Any) -> bool:
        """Whether this is a Keras optimiser (3, 2, or legacy) that computes with TensorFlow."""
        if "tensorflow" not in sys.modules:
            return False
        from porting_check_tensorflow.training import owns_optimizer

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
        from porting_check_tensorflow.training import optimizer_steps

        return optimizer_steps(optimizer, parameters, gradients, float64=float64)

    def float64_outputs(self, model: Any, inputs: Inputs) -> Dict[str, np.ndarray]:
        """Rebuild a Keras model in float64, or run a graph in double; ``notes`` name what stayed float32.

        Raises:
            Unsupported: a TFLite model, whose kernels are for float32 and integers only.
            RunError: the model raised in float64.
        """
        if _is_lite(model):
            raise Unsupported("TFLite has kernels for float32 and integers only, none for float64")
        if _eager(model):
            _require_tensorflow(model)
        from porting_check_tensorflow.float64 import float64_outputs

        outputs, notes = float64_outputs(model, inputs)
        self.notes = tuple(notes)
        return outputs


def _other(model: Any) -> Any:
    """The module that looks after what is no Keras model: a TFLite file, or a graph."""
    if _is_lite(model):
        from porting_check_tensorflow import lite

        return lite
    from porting_check_tensorflow import graph

    return graph


def _eager(model: Any) -> bool:
    """Whether this is a Keras model that runs eagerly; one of TensorFlow 1's sessions is a graph like any other."""
    if not is_keras(model) or backend(model) != "tensorflow":
        return is_keras(model)
    from porting_check_tensorflow.graph_session import in_session

    return not in_session(model)


def _is_lite(model: Any) -> bool:
    return type(model).__name__ == "LiteModel" and type(model).__module__ == "porting_check_tensorflow.lite"


def _require_tensorflow(model: Any) -> None:
    name = backend(model)
    if name != "tensorflow":
        raise RunError(
            f"Keras runs on the {name} backend here, and recording needs TensorFlow's: save the model, set "
            "KERAS_BACKEND=tensorflow in the environment (or in keras.json) and load the model again"
        )
