"""Recording: one run of a model, every layer and operator, into a sink."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from porting_check.neutral.adapter import Inputs
from porting_check.neutral.errors import PortingError, RunError
from porting_check.neutral.trace import Port, Sink
from porting_check_jax import compat, layers, trees
from porting_check_jax.draft import Draft, Ref
from porting_check_jax.events import Event, Layer
from porting_check_jax.gradients_tape import Tape
from porting_check_jax.interpret import Interpreter
from porting_check_jax.layers import LayerCall
from porting_check_jax.models import Subject, open_subject
from porting_check_jax.values import Values
from porting_check_jax.writing import Writer, described

RANDOM = (
    "; random numbers inside a model cannot be recorded: make it deterministic (dropout off), or give a function "
    "that passes its own rngs"
)


def record_model(
    model: Any, inputs: Inputs, sink: Sink, *, unroll: bool = False
) -> Tuple[List[str], Dict[str, Any]]:
    """Run a model once and record it.

    Args:
        model: see :func:`~porting_check_jax.models.open_subject`.
        inputs: by name; ``"0"``, ``"1"`` positional.
        sink: where everything goes.
        unroll: record every step of ``scan`` and ``while`` loops.

    Returns:
        Notes for the reader of the trace, and the layers that can be called alone, by path.

    Raises:
        RunError: the model raised; the message names the layer.
        InputError: inputs that cannot be arrays of JAX.
    """
    compat.require()
    subject = open_subject(model)
    recorder = Recorder(sink, subject.parameters(), unroll)
    observe(recorder, subject, inputs, "recording")
    return list(dict.fromkeys(recorder.notes + recorder.values.notes)), recorder.alone


def observe(recorder: Recorder, subject: Subject, inputs: Inputs, purpose: str) -> Dict[str, Any]:
    """Run a model under a recorder; its outputs by path.

    Args:
        recorder: a fresh one.
        subject: the model.
        inputs: by name.
        purpose: what is being done, for the error of a model that raises.

    Raises:
        RunError: the model raised; the message names the layer.
        InputError: inputs that cannot be arrays of JAX.
    """
    args, kwargs = trees.arguments(inputs)
    recorder.notes += trees.narrowed(inputs)
    try:
        return recorder.run(subject, args, kwargs)
    except PortingError:
        raise
    except Exception as error:
        if recorder.broken is not None:
            raise recorder.broken from error
        where = f" while {purpose}{recorder.place(error)}"
        raise run_error(error, inputs, where) from error


def run_error(error: Exception, inputs: Inputs, where: str = "") -> RunError:
    """The error for a model that raised: its own first line, and what it was given."""
    first = (str(error).strip().splitlines() or [""])[0]
    given = ", ".join(f"{name}: {tuple(array.shape)} {array.dtype.name}" for name, array in inputs.items())
    hint = RANDOM if type(error).__name__ == "InvalidRngError" else ""
    return RunError(
        f"the model raised {type(error).__name__}{where}: {first}{hint} (inputs: {given or 'none'})"
    )


class Recorder:
    """One run under observation; what is to be differentiated goes onto a tape."""

    def __init__(
        self, sink: Sink, parameters: Mapping[str, Any], unroll: bool, tape: Optional[Tape] = None
    ) -> None:
        self.sink = sink
        self._kept = dict(parameters)
        self.values = Values(sink, self._kept, tape)
        self.writer = Writer(sink, self.values)
        self.interpreter = Interpreter(self.add, self._here, unroll, tape)
        self.notes: List[str] = []
        self.alone: Dict[str, Any] = {}
        self.broken: Optional[Exception] = None
        self._trace: Any = None
        self._layers: List[Layer] = []
        self._held: List[List[Any]] = []
        self._failed: Tuple[Optional[BaseException], str] = (None, "")

    def run(self, subject: Subject, args: List[Any], kwargs: Dict[str, Any]) -> Dict[str, Any]:
        """Declare the inputs, run, declare the outputs; these by path."""
        named = {str(place): array for place, array in enumerate(args)}
        named.update(kwargs)
        for name, array in named.items():
            self.values.make(array, f"input:{name}")
            self.sink.input(Port(name, f"input:{name}"))
        watched = (self.interpreter.process, self.interpreter.inline, self.interpreter.custom)
        with compat.recording(*watched) as trace:
            self._trace = trace
            with subject.observed(self.layer):
                outputs = subject.call(args, kwargs)
            self.interpreter.settle()
        found = trees.outputs_by_path(outputs)
        for path, value in found.items():
            ref = self.values.ref(value)
            self.values.use(value, ref)
            self.sink.output(Port(path, ref.key))
        return found

    def place(self, error: BaseException) -> str:
        """The layer in which an error came up: `` layer conv1``, or nothing when that is unknown."""
        return f" layer {self._failed[1]}" if self._failed[0] is error and self._failed[1] else ""

    def _here(self) -> Tuple[str, Tuple[str, ...], str]:
        """The innermost layer, the scope names below it, and what it is."""
        names = compat.current_scope()
        if not self._layers:
            return "", names, ""
        layer = self._layers[-1]
        names = names[layer.depth :]
        while layer.kind.startswith("equinox.") and names and names[0].startswith("eqx."):
            names = names[1:]  # equinox names the layers themselves
        return layer.path, names, layer.kind

    # Layers.

    def layer(
        self,
        path: str,
        module: Any,
        arguments: Tuple[Tuple[Any, ...], Dict[str, Any]],
        parameters: Mapping[str, Any],
        call: Callable[[], Any],
    ) -> Any:
        """Run one layer; what happens inside belongs to it.

        Args:
            path: its place in the model; ``""`` for the model itself.
            module: the layer.
            arguments: what it is called with.
            parameters: its own arrays by its own names.
            call: runs it.
        """
        trace, mapped = compat.current_trace(), False
        if trace is not self._trace:
            if compat.parent_trace(trace) is not self._trace:
                return call()
            mapped = True
        kind = layers.kind_of(module)
        layer = Layer(path, kind, module, layers.describer(kind, module), arguments, parameters)
        usable = layer.describer is not None and layer.unmap(trace, mapped)
        if layer.batched and not layers.maps(kind):
            usable = False
        if not usable:
            layer.describer = None
        return self._inside(layer, mapped, call)

    def _inside(self, layer: Layer, mapped: bool, call: Callable[[], Any]) -> Any:
        held = layer.describer is not None
        self.interpreter.settle()
        self._layers.append(layer)
        if held:
            self._held.append(layer.children)
        try:
            outputs = call()
            self.interpreter.settle()
        except Exception as error:
            if self._failed[0] is not error:
                self._failed = (error, layer.path)
            raise
        finally:
            self._layers.pop()
            if held:
                self._held.pop()
        if held:
            if not layer.leave(outputs, mapped):
                layer.describer = None
            self.add(layer)
        return outputs

    # What happened.

    def add(self, happened: Any) -> None:
        """Record an event or a layer now, or when the layer around it has ended."""
        if self._held:
            self._held[-1].append(happened)
            return
        try:
            with compat.evaluating():
                self._flush(happened)
        except Exception as error:
            self.broken = error
            raise

    def _flush(self, happened: Any) -> None:
        if isinstance(happened, Event):
            self._note(happened)
        elif not self._note_layer(happened):
            for child in happened.children:
                self._flush(child)

    def _note_layer(self, layer: Layer) -> bool:
        """Record a layer as a whole; whether it has a description."""
        if layer.describer is None:
            return False
        describer, given = layer.describer, []

        def seen(array: Any) -> Ref:
            ref = self.values.ref(array)
            given.append((array, ref))
            return ref

        args, kwargs = trees.contents(tuple(layer.args), seen), trees.contents(layer.kwargs, seen)
        known = {name: seen(array) for name, array in layer.parameters.items()}
        call = LayerCall(layer.kind, layer.module, args, kwargs, known, layer.batched)
        name = layer.path or layer.kind.partition(".")[2]
        head = self.writer.begin(name)
        made = self.writer.future(head, layer.outputs)
        refs = [ref for _, ref in given]
        what, reason = described(lambda d: describer(call, d), layer.kind, Draft(made, layer.kind), refs)
        if reason:
            self.writer.withdraw(head)
            return False
        self.writer.write(head, spoken(layer.kind), what, "", layer.location, given, layer.outputs)
        self.alone[layer.path] = layer.forget()
        return True

    def _note(self, event: Event) -> None:
        """Record a primitive."""
        if not event.outputs:
            return
        if all(map(self.values.is_code, event.args)):
            for array in event.outputs:
                self.values.made_by_code(array)
            return
        if event.operator == "":
            for output, array in zip(event.outputs, event.args):
                self.values.same(output, array)
            return
        if self._postpone(event):
            return
        self._write(event, event.args, event.outputs)

    def _write(self, event: Event, args: Sequence[Any], outputs: Sequence[Any]) -> None:
        given = self._operands(event, args, outputs)
        refs = [ref for _, ref in given]
        head = self.writer.begin(event.record_name)
        made = self.writer.future(head, outputs)
        describe = event.describe

        def nodes(d: Draft) -> None:
            if describe is None:
                d.refuse("is not described")
            else:
                describe(d, refs, event.params)

        what, reason = described(nodes, event.operator, Draft(made, event.kind), refs)
        self.writer.write(head, event.operator, what, reason, event.location, given, outputs)

    def _operands(self, event: Event, args: Sequence[Any], outputs: Sequence[Any]) -> List[Tuple[Any, Ref]]:
        """The operands; those that were only stretched stand for themselves where the nodes stretch."""
        sources = [self.values.source(array) for array in args]
        if event.stretches and any(sources):
            shapes = [np.shape(array if pair is None else pair[0]) for pair, array in zip(sources, args)]
            if np.broadcast(*[np.empty(shape, np.bool_) for shape in shapes]).shape == np.shape(outputs[0]):
                return [pair or (array, self.values.ref(array)) for pair, array in zip(sources, args)]
        return [(array, self.values.ref(array)) for array in args]

    def _postpone(self, event: Event) -> bool:
        """Put off a broadcast that operators which stretch by themselves make needless."""
        if len(event.args) != 1 or not _stretches_in_front(event) or self.values.is_code(event.args[0]):
            return False
        array, output = event.args[0], event.outputs[0]
        source = self.values.ref(array)
        # The postponed record holds its operands, but only a weak hold on what it made: that would never die.
        late = event._replace(outputs=[])
        reference = self.values.weak(output)

        def recall() -> None:
            living = reference()
            if living is not None:
                self._write(late, [array], [living])

        self.values.postpone(output, (array, source), recall)
        return True


def _stretches_in_front(event: Event) -> bool:
    """Whether the output is the operand with axes in front, or repeated: what ONNX' broadcasting does by itself."""
    found, wanted = tuple(event.args[0].shape), tuple(event.outputs[0].shape)
    if event.name == "reshape":
        return len(wanted) > len(found) > 0 and wanted == (1,) * (len(wanted) - len(found)) + found
    places = tuple(range(len(wanted) - len(found), len(wanted)))
    return event.name == "broadcast_in_dim" and tuple(event.params["broadcast_dimensions"]) == places


def spoken(kind: str) -> str:
    """A layer's class as a person writes it.

    Example:
        >>> spoken("linen.Conv"), spoken("equinox.Linear")
        ('flax.linen.Conv', 'equinox.nn.Linear')
    """
    library, _, name = kind.partition(".")
    return f"equinox.nn.{name}" if library == "equinox" else f"flax.{library}.{name}"
