"""Recording: one run of a model, every layer and operator, into a sink."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from torch import nn

from porting_check.neutral.adapter import Inputs
from porting_check.neutral.errors import PortingError, RunError
from porting_check.neutral.trace import Port, Sink
from porting_check_torch import aliasing, layers, trees
from porting_check_torch.arrays import shape_of
from porting_check_torch.describe import Draft, Function, Ref, Undescribed, function_of
from porting_check_torch.keras_models import is_keras, keras_arguments
from porting_check_torch.models import (
    device_of,
    is_exported,
    is_script,
    modules_by_path,
    named_tensors,
    preserved,
    root_of,
    saved,
    unwrapped,
)
from porting_check_torch.observe import in_transform, observing, script_calls, unobserved
from porting_check_torch.scopes import Scope, Scopes
from porting_check_torch.script import Interpreter, Uninterpreted
from porting_check_torch.script_operators import python_arguments
from porting_check_torch.values import Entry, Values, Write, version_of
from porting_check_torch.writing import Writer, contains, described, distinct, opaque, plain_name

SCRIPT = "is TorchScript that cannot be interpreted: "


def record_model(model: Any, inputs: Inputs, sink: Sink, *, by_mode: Optional[bool] = None) -> List[str]:
    """Run a model once and record it.

    Args:
        model: a module, a function of tensors, TorchScript, or an exported program.
        inputs: by name; ``"0"``, ``"1"`` positional.
        sink: where everything goes.
        by_mode: how to observe (see :func:`observing`).

    Returns:
        Notes: what the reader of the trace must know.

    Raises:
        RunError: the model raised; the message names the layer.
        InputError: inputs that cannot be tensors.
    """
    recorder = Recorder(model, sink)
    args, kwargs = trees.arguments(inputs, device_of(model))
    with preserved(model):
        try:
            recorder.run(args, kwargs, by_mode)
        except PortingError:
            raise
        except Exception as error:
            if recorder.broken is not None:
                raise recorder.broken from error
            raise run_error(error, inputs, f" while recording{recorder.place(error)}") from error
        if recorder.broken is not None:  # the model swallowed an error of the recording
            raise recorder.broken
    return recorder.notes


def run_error(error: Exception, inputs: Inputs, where: str = "") -> RunError:
    """The error for a model that raised: its own first line, and what it was given."""
    lines = str(error).strip().splitlines() or [""]
    first = (
        lines[-1] if lines[0].startswith("The following operation failed in the TorchScript") else lines[0]
    )
    given = ", ".join(f"{name}: {tuple(array.shape)} {array.dtype.name}" for name, array in inputs.items())
    return RunError(f"the model raised {type(error).__name__}{where}: {first} (inputs: {given or 'none'})")


def call_model(model: Any, args: Sequence[Any], kwargs: Dict[str, Any]) -> Any:
    """Run a model as its user does."""
    run: Any = root_of(model) if is_exported(model) else model
    args, kwargs = own_arguments(model, args, kwargs)
    return run(*args, **kwargs)


def own_arguments(
    model: Any, args: Sequence[Any], kwargs: Dict[str, Any]
) -> Tuple[Sequence[Any], Dict[str, Any]]:
    """Inputs as the kind of model takes them: numbers for TorchScript, nested inputs for Keras."""
    if is_script(model):
        return python_arguments(model, args, kwargs)
    return keras_arguments(model, args, kwargs) if is_keras(model) else (args, kwargs)


class Recorder:
    """One run under observation."""

    def __init__(self, model: Any, sink: Sink) -> None:
        self.model = model
        self.sink = sink
        self.root = root_of(model)
        self.values = Values(sink, named_tensors(model), self._settle)
        self.writer = Writer(sink, self.values)
        modules = list(modules_by_path(model).items())
        self.scopes = Scopes({id(module): path for path, module in modules})
        self.scopes.left = self._left
        compiled = {module._c: path for path, module in modules if isinstance(module, torch.jit.ScriptModule)}
        self._interpreter = Interpreter(self.scopes, compiled)
        self.broken: Optional[Exception] = None
        self._place: Tuple[Optional[BaseException], str] = (None, "")
        self._notes: List[str] = []
        self._quiet = 0

    @property
    def notes(self) -> List[str]:
        """What the reader must know, each once."""
        return list(dict.fromkeys(self._notes + self.values.notes))

    def place(self, error: BaseException) -> str:
        """The layer in which an error came up: `` layer conv1``, or nothing when that is unknown."""
        for seen, path in (self._place, self.scopes.failure):
            if seen is error and path:
                return f" layer {path}"
        return ""

    # Running.

    def run(
        self, args: Sequence[torch.Tensor], kwargs: Dict[str, torch.Tensor], by_mode: Optional[bool] = None
    ) -> None:
        """Declare the inputs, run, declare the outputs."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.scopes)
            stack.enter_context(self._whole_layers())
            stack.enter_context(script_calls(self._observe_script))
            wrap = stack.enter_context(observing(self.observe, by_mode))
            given = [wrap(tensor) for tensor in args], {name: wrap(tensor) for name, tensor in kwargs.items()}
            with unobserved():
                self._declare(*given)
            outputs = self._execute(*given)
            with unobserved():
                self._finish(outputs)

    def _execute(self, args: Sequence[torch.Tensor], kwargs: Dict[str, torch.Tensor]) -> Any:
        if is_exported(self.model):
            return layers.run_exported(self.root, args, kwargs, self.scopes)
        args, kwargs = own_arguments(self.model, args, kwargs)
        model = unwrapped(self.model)
        if model is not self.model:
            self._notes.append(
                "the model is compiled (torch.compile); it was recorded as the Python module inside"
            )
        return model(*args, **kwargs)

    def _declare(self, args: Sequence[torch.Tensor], kwargs: Dict[str, torch.Tensor]) -> List[Ref]:
        named = {str(place): tensor for place, tensor in enumerate(args)}
        named.update(kwargs)
        refs = []
        for name, tensor in named.items():
            refs.append(self.values.make(tensor, f"input:{name}"))
            self.sink.input(Port(name, f"input:{name}"))
        return refs

    def _finish(self, outputs: Any) -> None:
        for path, tensor in trees.outputs_by_path(outputs).items():
            entry = self.values.entry(tensor)
            self.values.store(tensor, entry)
            self.sink.output(Port(path, entry.key))

    # Functions.

    def observe(
        self, func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any], call: Callable[[], Any]
    ) -> Any:
        """Run one torch function and record it."""
        function = function_of(func)
        if self._quiet or self.broken is not None or function.kind in ("bookkeeping", "creation"):
            return call()
        if in_transform():
            self._notes.append(
                f"{function.spoken} runs inside a transform (vmap, grad) unobserved; the result is a constant"
            )
            return call()
        return self._observe(function, args, kwargs, call)

    def _observe_script(
        self, func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any], call: Callable[[], Any]
    ) -> Any:
        """Interpret a call of TorchScript; where that is not possible, run it whole and say why."""
        if self._quiet or self.broken is not None:
            return call()
        path, given = self.scopes.current.path, trees.tensors((args, kwargs))
        restore, copies = saved(self.model), [tensor.clone() for tensor in given]
        try:
            return self._interpreter.call(func, args, kwargs, path)
        except Uninterpreted as reason:
            refusal = SCRIPT + str(reason)
        with unobserved():
            restore()
            for tensor, copy in zip(given, copies):
                if not torch.equal(tensor, copy):
                    tensor.copy_(copy)
            return self._observe(
                Function("jit", "script", _refusing(refusal), True, "main"), args, kwargs, call
            )

    def _observe(
        self, function: Function, args: Tuple[Any, ...], kwargs: Dict[str, Any], call: Callable[[], Any]
    ) -> Any:
        scope = self.scopes.current
        try:
            given = trees.tensors((args, kwargs))
            versions = [version_of(tensor) for tensor in given]
            refs = {id(t): self.values.ref(t, function.writes) for t in given}
            arguments = trees.replace((args, kwargs), lambda tensor: refs[id(tensor)])
        except Exception as error:
            self.broken = error
            raise
        try:
            result = call()
        except Exception as error:
            self._place = (error, scope.path)
            raise
        try:
            changed = [t for t, version in zip(given, versions) if version_of(t) != version]
            self._note(function, scope, arguments, list(refs.values()), changed, result)
        except Exception as error:
            self.broken = error
            raise
        return result

    def _note(
        self,
        function: Function,
        scope: Scope,
        arguments: Tuple[Any, Any],
        refs: List[Ref],
        changed: List[torch.Tensor],
        result: Any,
    ) -> None:
        """Record a call that has been made."""
        outputs, given = distinct(trees.tensors(result)), [ref.tensor for ref in refs]
        if function.name in ("__setitem__", "data.__set__"):
            outputs = changed = [refs[0].tensor]
        if function.name == "numpy" and not outputs:
            where = scope.path or "the model"
            self._notes.append(f"{where} takes values out of torch (numpy); what comes back is a constant")
        if self._unchanged(function, refs, outputs, changed):
            return
        outputs += [
            t for t in distinct(changed) if not contains(outputs, t) and not self._aliased(t, outputs)
        ]
        if not outputs:
            return
        changed = changed + [t for t in outputs if _uncounted(t) and contains(given, t)]
        main = function.kind == "main"
        head, made = self.writer.begin(scope.name(plain_name(function.name), main, given), outputs)
        draft = Draft(made, scope.kind)
        description, reason = described(function, draft, arguments, refs)
        self.writer.write(head, function.spoken, description, reason, self.scopes.where, refs)
        for ref in [ref for ref in made if contains(changed, ref.tensor)]:
            self._through_views(scope, function, ref, outputs)

    def _unchanged(
        self, function: Function, refs: List[Ref], outputs: List[torch.Tensor], changed: List[torch.Tensor]
    ) -> bool:
        """Whether a call made no new value: a copy of the same dtype and shape, or an argument given back."""
        if changed:
            return False
        if function.kind == "unchanged" and len(outputs) == 1 and refs:
            source, output = refs[0], outputs[0]
            if output.dtype == source.dtype and shape_of(output) == source.shape:
                self.values.same(output, source.tensor)
                return True
        inputs = [ref.tensor for ref in refs]
        return function.describer is None and all(contains(inputs, tensor) for tensor in outputs)

    def _aliased(self, tensor: torch.Tensor, outputs: List[torch.Tensor]) -> bool:
        return any(contains(self.values.sharing(output), tensor) for output in outputs)

    def _through_views(
        self, scope: Scope, function: Function, written: Ref, outputs: List[torch.Tensor]
    ) -> None:
        """Note for the other tensors that lie where one was written that they hold a new value."""
        others = [t for t in self.values.sharing(written.tensor) if not contains(outputs, t)]
        frozen = replace(written, tensor=written.tensor.detach()) if others else written
        for other in others:
            if aliasing.overlap(other, written.tensor):
                self.values.written(other, Write(frozen, scope.path, self.scopes.where, function.spoken))
            else:
                self.values.written(other, None)

    def _settle(self, tensor: torch.Tensor, entry: Entry) -> None:
        """Record what became of a tensor that was written to through others, now that it is used."""
        writes, entry.pending = entry.pending, []
        old = Ref(tensor, entry.key, shape_of(tensor), tensor.dtype)
        self.values.store(tensor, entry)
        first, inside = writes[0], "write_through_view"
        head, made = self.writer.begin(f"{first.path}/{inside}" if first.path else inside, [tensor])
        draft, read = Draft(made), [old] + [write.written for write in writes]
        try:
            aliasing.describe_writes(draft, old, read[1:])
            description, reason = draft.finish(), ""
        except Undescribed as refusal:
            description, reason = opaque(read, made), f"a write through a view {refusal}"
        self.writer.write(head, f"{first.function} (through a view)", description, reason, first.location, ())

    # Layers that are recorded as a whole.

    @contextlib.contextmanager
    def _whole_layers(self) -> Iterator[None]:
        """Watch the layers of torch.nn whose inside is described as one."""
        handles: List[Any] = []
        try:
            for path, module in [] if self.root is None else list(self.root.named_modules()):
                if layers.is_attention(module):
                    handles += layers.watch(module, self._enter_layer, self._leave_layer)
                if layers.has_fast_path(module):
                    self._notes.append(
                        f"{path or 'the model'} can take a fused fast path; it was recorded without"
                    )
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter_layer(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """What must be known before the layer runs; inside nothing is observed, so that it runs as ever."""
        guard = unobserved()
        guard.__enter__()
        self._quiet += 1
        given = distinct(trees.tensors((args, kwargs)) + list(module.parameters()))
        refs = {id(t): self.values.ref(t, True) for t in given}
        return guard, refs

    def _leave_layer(
        self, module: nn.Module, state: Any, args: Any, kwargs: Any, output: Any, failed: bool
    ) -> None:
        guard, refs = state
        try:
            if not failed and self.broken is None:
                self._note_layer(module, refs, args, kwargs, output)
        except Exception as error:
            self.broken = error
            raise
        finally:
            self._quiet -= 1
            guard.__exit__(None, None, None)

    def _note_layer(
        self, module: nn.Module, refs: Dict[int, Ref], args: Any, kwargs: Any, output: Any
    ) -> None:
        scope = self.scopes.scope(module)
        outputs = distinct(trees.tensors(output))
        head, made = self.writer.begin(scope.path or type(module).__name__, outputs)
        function = Function("nn", type(module).__name__, layers.attention(module, refs))
        exchanged = trees.replace((args, kwargs), lambda tensor: refs[id(tensor)])
        read = list(refs.values())
        description, reason = described(function, Draft(made, scope.kind), exchanged, read)
        self.writer.write(head, function.spoken, description, reason, self.scopes.where, read)

    def _left(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """``nn.Identity`` calls no function; it is recorded here, so that a layer is not missing."""
        if type(module) is not nn.Identity or self._quiet or not isinstance(output, torch.Tensor):
            return
        with unobserved():
            source = self.values.ref(output, True)
            head, made = self.writer.begin(self.scopes.scope(module).path or "Identity", [output])
            draft = Draft(made)
            draft.give(draft.port(source))
            self.writer.write(head, "torch.nn.Identity", draft.finish(), "", "", (source,))


def _uncounted(tensor: torch.Tensor) -> bool:
    """Whether torch does not count the writes to a tensor (those made in inference mode)."""
    return bool(getattr(tensor, "is_inference", bool)())


def _refusing(reason: str) -> Callable[..., None]:
    """A describer of what cannot be described."""

    def refuse(d: Draft, *_args: Any, **_named: Any) -> None:
        d.refuse(reason)

    return refuse
