"""Private TensorFlow in one place: seeing every operator that runs eagerly, and opening tf.functions.

``op_callbacks`` has been in TensorFlow since 1.15, under the same name; it is what
``tf.debugging.experimental`` is built on. Where it is missing, layers are still recorded and a note says that
operators between them are not.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator, Sequence

import tensorflow as tf

try:
    from tensorflow.python.framework import op_callbacks as _callbacks
except ImportError:  # a later TensorFlow may move it
    _callbacks = None

Seen = Callable[[str, Sequence[Any], Any, Sequence[Any]], None]
"""``seen(op_type, inputs, attributes, outputs)``.

Attributes as TensorFlow's flat tuple of names and values.
"""


def available() -> bool:
    """Whether operators that run eagerly can be seen."""
    return _callbacks is not None and hasattr(_callbacks, "add_op_callback")


class Watch:
    """Calls ``seen`` after every operator that runs eagerly in this thread, except while it is paused.

    Pausing takes the callback away: operators then run as fast as unobserved.
    """

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._on = False

    def _callback(
        self, op_type: Any, inputs: Any, attrs: Any, outputs: Any, op_name: Any = None, graph: Any = None
    ) -> None:
        if graph is None:
            name = op_type.decode() if isinstance(op_type, bytes) else str(op_type)
            self._seen(name, inputs, attrs, outputs)

    def start(self) -> None:
        """Listen from now on; does nothing where TensorFlow has no callbacks."""
        if available() and not self._on:
            # One bound method for adding and removing: TensorFlow finds it by equality.
            _callbacks.add_op_callback(self._callback)
            self._on = True

    def stop(self) -> None:
        """Listen no longer."""
        if self._on:
            _callbacks.remove_op_callback(self._callback)
            self._on = False


@contextlib.contextmanager
def operators(seen: Seen) -> Iterator[Watch]:
    """Call ``seen`` after every operator that runs eagerly in this thread."""
    watch = Watch(seen)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


@contextlib.contextmanager
def opened_functions(applies: Callable[[], bool]) -> Iterator[None]:
    """While active, a user's ``tf.function`` runs as the Python it was made from: its operators are seen.

    Functions of TensorFlow's and Keras' own code stay compiled: some work only so (grouped convolution on a
    CPU).
    """
    kind = type(tf.function(lambda: None))
    original = kind.__call__

    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        plain = getattr(function, "python_function", None)
        if plain is None or _is_library(plain) or not applies():
            return original(function, *args, **kwargs)
        return plain(*args, **kwargs)

    kind.__call__ = call
    try:
        yield
    finally:
        kind.__call__ = original


def _is_library(function: Any) -> bool:
    """Whether a function was written in TensorFlow or Keras, rather than in a user's model."""
    function = getattr(function, "func", function)
    module = getattr(function, "__module__", None) or ""
    return module.split(".")[0] in ("tensorflow", "keras", "tf_keras")
