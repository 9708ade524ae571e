"""A graph model left as it was found: its variables, and the generators of random seeds."""

from __future__ import annotations

import contextlib
import random
from typing import Any, Iterable, Iterator

import numpy as np
import tensorflow as tf


@contextlib.contextmanager
def left_alone(variables: Iterable[Any]) -> Iterator[None]:
    """Put back what the run inside wrote into these variables and took from the random generators.

    Args:
        variables: those that the run may write.
    """
    generator = _seeds()
    states = (random.getstate(), np.random.get_state(), generator.getstate())
    _forget_kernels()
    before = [(variable, np.array(variable.numpy())) for variable in variables]
    try:
        yield
    finally:
        for variable, array in before:
            variable.assign(array)
        random.setstate(states[0])
        np.random.set_state(states[1])
        generator.setstate(states[2])
        _forget_kernels()


@contextlib.contextmanager
def eagerly() -> Iterator[None]:
    """Run eagerly also where TensorFlow 1 does not."""
    from tensorflow.python.eager import context

    if tf.executing_eagerly():
        yield
    else:
        with context.eager_mode():
            yield


@contextlib.contextmanager
def unoptimised() -> Iterator[None]:
    """Run functions without Grappler, which fuses operators and so changes last digits."""
    options = tf.config.optimizer
    before = bool(options.get_experimental_options().get("disable_meta_optimizer", False))
    options.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        options.set_experimental_options({"disable_meta_optimizer": before})


def _seeds() -> random.Random:
    """Where eager TensorFlow draws the seeds of its operators from."""
    from tensorflow.python.eager import context

    found = getattr(context.context(), "_rng", None)
    return found if isinstance(found, random.Random) else random.Random()  # noqa: S311


def _forget_kernels() -> None:
    """Start the kernels of random operators anew: with a global seed each counts its draws."""
    from tensorflow.python.eager import context

    if context.global_seed() is not None and hasattr(context.context(), "clear_kernel_cache"):
        context.context().clear_kernel_cache()
