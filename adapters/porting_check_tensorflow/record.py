"""Recording a live Keras model: layers through ``Layer.__call__``, operators between them through callbacks.

The topmost layer of a known, unmodified library class becomes one record, and what runs inside it is not
recorded. All other layers (models, a user's own, library layers without a description) are entered: the
operators that they run become records under the layer's path.
"""

from __future__ import annotations

import collections
import contextlib
import re
import threading
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

import numpy as np
import tensorflow as tf

from porting_check.neutral.adapter import Inputs
from porting_check.neutral.errors import PortingError, RunError
from porting_check.neutral.trace import Port, Sink
from porting_check_tensorflow import callbacks, describe
from porting_check_tensorflow.calling import call_model
from porting_check_tensorflow.emit import Emitter
from porting_check_tensorflow.flavours import layer_classes
from porting_check_tensorflow.operator_records import OperatorRecorder
from porting_check_tensorflow.sketch import LayerCall, Link, NotDescribedError, Sketch
from porting_check_tensorflow.trees import (
    flatten,
    inside_function,
    is_eager,
    is_numeric,
    is_tensor,
    replace,
    tensors,
)
from porting_check_tensorflow.values import Values
from porting_check_tensorflow.weights import (
    distinct,
    is_model,
    join,
    layers_by_path,
    preserved,
    short_name,
)


def record(model: Any, inputs: Inputs, sink: Sink) -> None:
    """Run a Keras model once in inference and put what it does into the sink.

    The model, its random state and Keras' classes are as before afterwards, also when the model raises.

    Raises:
        RunError: the model raised; the message names the layer and carries the first line of the error.
    """
    recorder = Recorder(model, sink)
    with preserved(model):
        outputs = recorder.run(inputs, "recording")
    recorder.finish(outputs)


class Recorder:
    """One recording under way.

    Attributes:
        scopes: paths of the layers that are being called, outermost first.
        emitter: where records go.
    """

    def __init__(self, model: Any, sink: Sink, values: Optional[Values] = None) -> None:
        self.model, self.sink = model, sink
        self.values = Values(model, sink) if values is None else values
        self.scopes: List[str] = []
        self.emitter = Emitter(self.values, sink)
        self._operators = OperatorRecorder(
            self.values, self.emitter, lambda: join(*self.scopes[-1:]), __name__
        )
        self._muted = 0
        self._watch = callbacks.Watch(self._operator_ran)
        self._thread = threading.get_ident()
        self._owners: Dict[str, List[Any]] = collections.defaultdict(list)
        self._structure: Dict[int, str] = {}
        self._failed_in: Optional[str] = None

    # Before and after

    def feed(self, inputs: Inputs) -> Dict[str, Any]:
        """The model's inputs as tensors, stored and known."""
        fed = {}
        for name, array in inputs.items():
            fed[name] = tf.convert_to_tensor(np.array(array))
            key = f"input:{name}"
            if is_numeric(fed[name]):
                self.values.make(fed[name], key)
                self.sink.input(Port(name, key))
        return fed

    def run(self, inputs: Inputs, purpose: str) -> Any:
        """Call the model under observation; what it returned.

        Args:
            inputs: by name.
            purpose: what is being done, for the error of a model that raises.

        Raises:
            RunError: the model raised; the message names the layer.
        """
        fed = self.feed(inputs)
        try:
            with self.watching():
                return call_model(self.model, fed)
        except Exception as error:
            if self.emitter.error is not None:
                raise self.emitter.error from None
            if isinstance(error, PortingError):
                raise
            raise RunError(self.message(error, purpose)) from error

    def finish(self, outputs: Any) -> None:
        """Declare the model's outputs."""
        for path, tensor in flatten(outputs).items():
            if is_numeric(tensor):
                self.sink.output(Port(path, self.values.use(tensor)))

    def message(self, error: Exception, purpose: str) -> str:
        """What the user reads when the model raised."""
        first = (str(error).strip().splitlines() or [""])[0]
        place = f" layer {self._failed_in}" if self._failed_in else ""
        return f"the model raised {type(error).__name__} while {purpose}{place}: {first}"

    # Watching

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Wrap the call methods of every Keras that is loaded, and see the operators, for the duration."""
        with contextlib.ExitStack() as stack:
            for layer, operation in layer_classes(self.model):
                stack.enter_context(
                    _wrapped(layer, self._layer_called if operation else self._old_layer_called)
                )
                if operation is not None:
                    stack.enter_context(_wrapped(operation, self._operation_called))
            stack.enter_context(callbacks.opened_functions(lambda: self._listens()))
            self._watch = stack.enter_context(callbacks.operators(self._operator_ran))
            yield

    def _listens(self, *structures: Any) -> bool:
        """Whether a call is part of the run.

        This thread, eager, not inside a described layer, no symbolic tensors.
        """
        if self._muted or threading.get_ident() != self._thread or inside_function():
            return False
        return _live(structures)

    @contextlib.contextmanager
    def _scope(self, path: str) -> Iterator[None]:
        self.scopes.append(path)
        try:
            yield
        except Exception:
            if self._failed_in is None:
                self._failed_in = path
            raise
        finally:
            self.scopes.pop()

    def _path(self, layer: Any) -> str:
        """The path of a layer that is called here; other layers of the same path get ``~2``, ``~3``, …."""
        if not self.scopes and is_model(layer):
            return ""
        path = join(*self.scopes[-1:], str(layer.name))
        known = self._known_path(layer)
        if re.sub(r"~\d+$", "", known) == path:
            return known
        owners = self._owners[path]
        if not any(owner is layer for owner in owners):
            owners.append(layer)
        number = next(index for index, owner in enumerate(owners) if owner is layer)
        return path if number == 0 else f"{path}~{number + 1}"

    def _known_path(self, layer: Any) -> str:
        """Where the model holds a layer: parameters are named so.

        Looked up again for layers made while the model runs.
        """
        if id(layer) not in self._structure:
            found = {id(inner): path for path, inner in layers_by_path(self.model).items()}
            self._structure.update(found)
            self._structure.setdefault(id(layer), "")
        return self._structure[id(layer)]

    def _layer_called(self, original: Callable[..., Any], layer: Any, *args: Any, **kwargs: Any) -> Any:
        """Keras 3: ``Layer.__call__`` gives the path.

        The arguments are final only in ``Operation.__call__``.
        """
        if not self._listens(args, kwargs):
            return original(layer, *args, **kwargs)
        muted = self._muted
        try:
            with self._scope(self._path(layer)):
                return original(layer, *args, **kwargs)
        finally:
            self._muted = muted

    def _operation_called(
        self, original: Callable[..., Any], operation: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Keras 3: what every layer and every ``keras.ops`` node of a functional model goes through."""
        if not self._listens(args, kwargs):
            return original(operation, *args, **kwargs)
        if not hasattr(operation, "weights"):
            with self._scope(self._path(operation)):
                return original(operation, *args, **kwargs)
        output = self._described(original, operation, args, kwargs)
        if getattr(operation, "activity_regularizer", None) is not None:
            # Until ``Layer.__call__`` ends: it computes a loss, which is not part of the inference.
            self._muted += 1
        return output

    def _old_layer_called(self, original: Callable[..., Any], layer: Any, *args: Any, **kwargs: Any) -> Any:
        """Keras 2: ``Layer.__call__`` does it all."""
        if not self._listens(args, kwargs):
            return original(layer, *args, **kwargs)
        with self._scope(self._path(layer)):
            return self._described(original, layer, args, kwargs)

    # Layers

    def _described(self, original: Callable[..., Any], layer: Any, args: Any, kwargs: Any) -> Any:
        """Run a layer; if its class is known, as one record."""
        describer = describe.describer(layer)
        if describer is None:
            return original(layer, *args, **kwargs)
        with self._silence():
            output = self._separate(original(layer, *args, **kwargs))
            read = tensors(args, kwargs)
            # A layer with weights is recorded also when it reads only constants: an embedding of positions.
            if any(self.values.is_traceable(tensor) for tensor in read) or layer.weights:
                self._record_layer(describer, layer, args, kwargs, output)
        return output

    @contextlib.contextmanager
    def _silence(self) -> Iterator[None]:
        """What runs in here is part of a described layer, or of the recorder."""
        self._muted += 1
        self._watch.stop()
        try:
            yield
        finally:
            self._muted -= 1
            self._watch.start()

    def _separate(self, output: Any) -> Any:
        """Outputs that are known tensors (dropout returns its input) as new tensors with the same memory."""
        known = [tensor for tensor in tensors(output) if self.values.find(tensor) is not None]
        return replace(output, {id(tensor): _twin(tensor) for tensor in known})

    def _record_layer(self, describer: Any, layer: Any, args: Any, kwargs: Any, output: Any) -> None:
        call = LayerCall(layer, args, kwargs, output)
        sketch, reason = Sketch(), ""
        try:
            describer(call, sketch)
        except NotDescribedError as error:
            reason = f"{type(layer).__name__}: {error}"
        except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
            # A describer that does not know this version of Keras must not stop the recording.
            reason = f"{type(layer).__name__} could not be described: {type(error).__name__}: {error}"
        if reason:
            sketch = _opaque(call)
        name = self.scopes[-1] if self.scopes else str(layer.name)
        self.emitter.emit(name, _native_name(layer), sketch, reason)

    # Operators

    def _operator_ran(
        self, op_type: str, inputs: Sequence[Any], attributes: Any, outputs: Sequence[Any]
    ) -> None:
        if not self._muted and threading.get_ident() == self._thread:
            self._operators.ran(op_type, inputs, attributes, outputs)


@contextlib.contextmanager
def _wrapped(kind: Any, around: Callable[..., Any]) -> Iterator[None]:
    """Replace ``kind.__call__`` by ``around(original, self, …)`` for the duration."""
    original: Any = kind.__call__

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return around(original, self, *args, **kwargs)

    kind.__call__ = call
    try:
        yield
    finally:
        kind.__call__ = original


def _live(value: Any) -> bool:
    """Whether nothing in the arguments is symbolic.

    A graph's tensor, or a ``KerasTensor`` of a model being built.
    """
    if isinstance(value, (list, tuple)):
        return all(map(_live, value))
    if isinstance(value, dict):
        return all(map(_live, value.values()))
    return is_eager(value) if is_tensor(value) else type(value).__name__ != "KerasTensor"


def _twin(tensor: Any) -> Any:
    """Another tensor with the same memory, and Keras' mask with it."""
    twin = tf.identity(tensor)
    mask = getattr(tensor, "_keras_mask", None)
    if mask is not None:
        twin._keras_mask = mask
    return twin


def _opaque(call: LayerCall) -> Sketch:
    """Only what went in and what came out, and the weights: they help to find the layer's counterpart."""
    sketch = Sketch()
    sketch.inputs = [Link(f"x{i}", t) for i, t in enumerate(call.inputs) if is_numeric(t)]
    sketch.outputs = [Link(f"y{i}", t) for i, t in enumerate(call.outputs) if is_numeric(t)]
    roles: Dict[str, Any] = {}
    for variable in call.layer.weights:
        roles[distinct(short_name(variable), roles)] = variable
    sketch.parameters = [Link(role, variable) for role, variable in roles.items()]
    return sketch


def _native_name(layer: Any) -> str:
    return f"{type(layer).__module__.split('.')[0]}.layers.{type(layer).__name__}"
