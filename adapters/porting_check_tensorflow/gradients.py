"""Gradients of a Keras model with respect to everything that its recording names.

The model runs once under the recorder inside a ``tf.GradientTape``, so that each tensor has the key that it has in a
recording; then one backward pass asks for them all.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
import tensorflow as tf

from porting_check.neutral.adapter import Inputs
from porting_check.neutral.errors import InputError, PortingError, Unsupported
from porting_check.neutral.trace import Port, Record, Sink
from porting_check_tensorflow.calling import predict
from porting_check_tensorflow.float64 import rebuilt, wide_array
from porting_check_tensorflow.graph_errors import headline
from porting_check_tensorflow.record import Recorder
from porting_check_tensorflow.trees import array_of, flatten
from porting_check_tensorflow.values import Values
from porting_check_tensorflow.weights import layers_by_path, preserved

FLOATING = (tf.float16, tf.bfloat16, tf.float32, tf.float64)
"""The types that TensorFlow differentiates and that a recording can compare."""

DETACHING = ("StopGradient", "PreventGradient")
"""Operators that hand their input on, but no gradient back."""


class Keys(Sink):
    """Remembers which values a recording names, and forgets their arrays."""

    def __init__(self) -> None:
        self.keys: Dict[str, None] = {}

    def value(self, key: str, array: np.ndarray) -> None:
        """Note the key."""
        self.keys[key] = None

    def record(self, record: Record) -> None:
        """Nothing to note."""

    def input(self, port: Port) -> None:
        """Nothing to note."""

    def output(self, port: Port) -> None:
        """Nothing to note."""


class Kept:
    """The tensors behind each key, in the order in which they were made; they live until the gradients are there.

    Args:
        tape: watches inputs and parameters.
    """

    def __init__(self, tape: Any) -> None:
        self._tape = tape
        self._roots: List[Tuple[str, Any]] = []
        self._made: List[Tuple[str, Any]] = []

    def apart(self) -> Any:
        """What is computed inside this ``with`` block is not differentiated."""
        return self._tape.stop_recording()

    def add(self, key: str, tensor: Any) -> None:
        """A tensor that was computed is the value ``key``, or hands it on."""
        if not key.startswith(("constant:", "parameter:")) and tensor.dtype in FLOATING:
            self._made.append((key, tensor))

    def watch(self, key: str, tensor: Any) -> None:
        """A tensor or variable that nothing has computed is the value ``key``."""
        inner = getattr(tensor, "_value", tensor)
        if tf.as_dtype(inner.dtype) in FLOATING:
            self._tape.watch(inner)
            self._roots.append((key, inner))

    def gradients(
        self, outputs: Mapping[str, Any], cotangents: Mapping[str, np.ndarray], keys: Mapping[str, None]
    ) -> Dict[str, np.ndarray]:
        """Gradients by key, of those that a recording names.

        A parameter that was read as several tensors has the sum of their gradients. Of the tensors that were computed the
        first one counts that a gradient reaches: the others were made of it, unless a function with a gradient of its own
        lies between.

        Raises:
            Unsupported: TensorFlow has no gradient for an operator of the model.
            InputError: a cotangent of another shape than its output, or of no floating output.
        """
        targets, weights = seeds(outputs, cotangents)
        roots = [(key, tensor) for key, tensor in self._roots if key in keys]
        pairs = roots + [(key, tensor) for key, tensor in self._made if key in keys]
        if not targets or not pairs:
            return {}
        try:
            found = self._tape.gradient(targets, [tensor for _, tensor in pairs], output_gradients=weights)
        except Exception as error:
            if isinstance(error, PortingError):
                raise
            raise Unsupported(
                f"TensorFlow cannot differentiate the model: {type(error).__name__}: {headline(error)}"
            ) from error
        made: Dict[str, np.ndarray] = {}
        for place, ((key, _), gradient) in enumerate(zip(pairs, found)):
            if gradient is not None and (place < len(roots) or key not in made):
                array = np.array(array_of(tf.convert_to_tensor(gradient)))
                made[key] = array if key not in made else made[key] + array
        return made


def seeds(outputs: Mapping[str, Any], cotangents: Mapping[str, np.ndarray]) -> Tuple[List[Any], List[Any]]:
    """Outputs, and the cotangent of each in the output's own type.

    Raises:
        InputError: a cotangent of another shape than its output, or of no floating output.
    """
    floating = {path: tensor for path, tensor in outputs.items() if tensor.dtype in FLOATING}
    weights = []
    for path, given in cotangents.items():
        if path not in floating:
            raise InputError(
                f"a cotangent was given for {path!r}; the floating outputs are {sorted(floating)}"
            )
        array, tensor = np.asarray(given), floating[path]
        if array.shape != tuple(tensor.shape):
            raise InputError(
                f"the cotangent of output {path!r} has shape {array.shape}; the output has {tuple(tensor.shape)}"
            )
        weights.append(tf.constant(array.astype(tensor.dtype.as_numpy_dtype)))
    return [floating[path] for path in cotangents], weights


class _Values(Values):
    """The table of tensors, which also keeps those that can be differentiated."""

    def __init__(self, model: Any, sink: Sink, kept: Kept) -> None:
        super().__init__(model, sink)
        self._kept = kept

    def make(self, tensor: Any, key: str) -> str:
        """As before, and kept; inputs are watched."""
        if key.startswith("input:"):
            self._kept.watch(key, tensor)
        else:
            self._kept.add(key, tensor)
        return super().make(tensor, key)

    def same(self, tensor: Any, source: Any, op_type: str) -> None:
        """As before, and kept where a gradient comes back."""
        super().same(tensor, source, op_type)
        key = self.find(tensor)
        if key is not None and op_type not in DETACHING:
            self._kept.add(key, tensor)


def gradients(
    model: Any, inputs: Inputs, cotangents: Mapping[str, np.ndarray], *, float64: bool = False
) -> Dict[str, np.ndarray]:
    """Gradients of the sum over outputs of ``output * cotangent`` by the keys of a recording.

    Weights are differentiated whether they are trainable or not. A model that was never run makes its weights first.

    Args:
        model: a Keras model or layer on the TensorFlow backend.
        inputs: by name.
        cotangents: by the path of an output; one that is missing counts as zero.
        float64: on a copy of the model in float64, and 64-bit inputs.

    Raises:
        Unsupported: TensorFlow has no gradient for an operator, or the model cannot be widened.
        RunError: the model raised; the message names the layer.
        InputError: a cotangent that fits no floating output.
    """
    if float64:
        model, inputs = _rebuilt(model, inputs), {name: wide_array(array) for name, array in inputs.items()}
    _build(model, inputs)
    with preserved(model):
        tape, sink = tf.GradientTape(watch_accessed_variables=False), Keys()
        with tape:
            kept = Kept(tape)
            values = _Values(model, sink, kept)
            for key, variable in values.variables().items():
                kept.watch(key, variable)
            outputs = Recorder(model, sink, values).run(inputs, "being differentiated")
        return kept.gradients(flatten(outputs), cotangents, sink.keys)


def _build(model: Any, inputs: Inputs) -> None:
    """Let a model that was never run make its weights, which must be watched before they are read."""
    if not all(getattr(layer, "built", True) for layer in layers_by_path(model).values()):
        predict(model, inputs)


def _rebuilt(model: Any, inputs: Inputs) -> Any:
    """A copy of the model in float64.

    Raises:
        Unsupported: its configuration does not make an equal model.
    """
    with preserved(model):
        try:
            return rebuilt(model, inputs)
        except Exception as error:  # Keras raises anything where a configuration does not make a model
            raise Unsupported(
                f"model {model.name!r} cannot be rebuilt in float64 from its configuration: "
                f"{type(error).__name__}: {headline(error)}"
            ) from error
