"""Gradients of a model with respect to everything that its recording names."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List, Mapping, Set, Tuple

import jax.numpy as jnp
import numpy as np

from porting_check.neutral.adapter import Inputs
from porting_check.neutral.errors import InputError
from porting_check.neutral.trace import Port, Record, Sink
from porting_check_jax import compat, trees
from porting_check_jax.calling import preserved
from porting_check_jax.float64 import wide_array, wide_subject
from porting_check_jax.gradients_tape import Tape, is_inexact
from porting_check_jax.models import open_subject
from porting_check_jax.precision import x64
from porting_check_jax.record import Recorder, observe


class Keys(Sink):
    """Remembers which values a recording names, and forgets their arrays."""

    def __init__(self) -> None:
        self.keys: Set[str] = set()

    def value(self, key: str, array: np.ndarray) -> None:
        """Note the key."""
        self.keys.add(key)

    def record(self, record: Record) -> None:
        """Nothing to note."""

    def input(self, port: Port) -> None:
        """Nothing to note."""

    def output(self, port: Port) -> None:
        """Nothing to note."""


def gradients(
    model: Any,
    inputs: Inputs,
    cotangents: Mapping[str, np.ndarray],
    *,
    float64: bool = False,
    unroll: bool = False,
) -> Dict[str, np.ndarray]:
    """Gradients of the sum over outputs of ``output * cotangent`` by the keys of a recording.

    Args:
        model: see :func:`~porting_check_jax.models.open_subject`.
        inputs: by name.
        cotangents: by the path of an output; one that is missing counts as zero.
        float64: on a copy of the model with 64-bit parameters, and 64-bit inputs.
        unroll: enter ``scan`` and ``while`` loops, as the recording would.

    Raises:
        Unsupported: JAX cannot differentiate something in the model, or the model cannot be widened.
        RunError: the model raised; the message names the layer.
        InputError: a cotangent of another shape than its output, or of no floating output.
    """
    compat.require_derivatives()
    with contextlib.ExitStack() as stack:
        stack.enter_context(preserved())
        subject = open_subject(model)
        if float64:
            inputs = {name: wide_array(array) for name, array in inputs.items()}
            stack.enter_context(x64())
            subject = stack.enter_context(wide_subject(subject))
        tape, sink = Tape(), Keys()
        recorder = Recorder(sink, subject.parameters(), unroll, tape)
        outputs = observe(recorder, subject, inputs, "being differentiated")
        found = tape.backward(seeds(outputs, cotangents))
        return {
            key: trees.owned(found[key]) for key in found if key in sink.keys and _reported(key, found[key])
        }


def seeds(outputs: Mapping[str, Any], cotangents: Mapping[str, np.ndarray]) -> List[Tuple[Any, Any]]:
    """Each output with its cotangent, in the output's own type.

    Raises:
        InputError: a cotangent of another shape than its output, or of no floating output.
    """
    found = []
    for path, given in cotangents.items():
        array, cotangent = outputs.get(path), np.asarray(given)
        if array is None or not jnp.issubdtype(compat.dtype_of(array), jnp.floating):
            raise InputError(
                f"a cotangent was given for {path!r}; the floating outputs are {_floating(outputs)}"
            )
        if tuple(np.shape(array)) != cotangent.shape:
            raise InputError(
                f"the cotangent of output {path!r} has shape {cotangent.shape}; the output has {tuple(np.shape(array))}"
            )
        if is_inexact(array):
            found.append((array, jnp.asarray(cotangent, dtype=array.dtype)))
    return found


def _floating(outputs: Mapping[str, Any]) -> List[str]:
    return sorted(
        path for path, array in outputs.items() if jnp.issubdtype(compat.dtype_of(array), jnp.floating)
    )


def _reported(key: str, gradient: Any) -> bool:
    """Whether this is a value of the model, and real: frameworks disagree on what a complex gradient is."""
    return not key.startswith("constant:") and bool(jnp.issubdtype(gradient.dtype, jnp.floating))
