"""Recording: one run of a model, every layer and operator, into a sink."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from torch import nn

from porting_check.neutral.adapter import Inputs
from porting_check.neutral.errors import PortingError, RunError
from porting_check.neutral.trace import Port, Record, Sink
from porting_check_torch import aliasing, layers, trees
from porting_check_torch.arrays import shape_of
from porting_check_torch.describe import Description, Draft, Function, Ref, Undescribed, function_of
from porting_check_torch.models import (
    device_of,
    is_exported,
    is_script,
    named_tensors,
    preserved,
    root_of,
    unwrapped,
)
from porting_check_torch.observe import observing, unobserved
from porting_check_torch.scopes import Scope, Scopes, caller
from porting_check_torch.values import Entry, Values, Write, version_of

SCRIPT = "is TorchScript: the operators inside cannot be observed; record the Python module instead"


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
    first = (str(error).strip().splitlines() or [""])[0]
    given = ", ".join(f"{name}: {tuple(array.shape)} {array.dtype.name}" for name, array in inputs.items())
    return RunError(f"the model raised {type(error).__name__}{where}: {first} (inputs: {given or 'none'})")


def call_model(model: Any, args: Sequence[Any], kwargs: Dict[str, Any]) -> Any:
    """Run a model as its user does."""
    root = root_of(model) if is_exported(model) else model
    return root(*args, **kwargs)


class Recorder:
    """One run under observation."""

    def __init__(self, model: Any, sink: Sink) -> None:
        self.model = model
        self.sink = sink
        self.root = root_of(model)
        self.values = Values(sink, named_tensors(model), self._settle)
        modules = [] if self.root is None else list(self.root.named_modules())
        self.scopes = Scopes({id(module): path for path, module in modules})
        self.scopes.left = self._left
        self.broken: Optional[Exception] = None
        self._calls: Dict[str, int] = Counter()
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
        if is_script(self.model):
            self._run_script(args, kwargs)
            return
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.scopes)
            stack.enter_context(self._whole_layers())
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

    def _run_script(self, args: Sequence[torch.Tensor], kwargs: Dict[str, torch.Tensor]) -> None:
        refs = self._declare(args, kwargs)
        outputs = self.model(*args, **kwargs)
        made = [tensor for tensor in _distinct(trees.tensors(outputs)) if self.values.find(tensor) is None]
        name, call = self._next("forward")
        results = [
            self.values.make(tensor, f"{_id(name, call)}:{place}") for place, tensor in enumerate(made)
        ]
        self._emit(name, call, "torch.jit.ScriptModule", opaque(refs, results), f"the model {SCRIPT}", "")
        self._finish(outputs)

    # Functions.

    def observe(
        self, func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any], call: Callable[[], Any]
    ) -> Any:
        """Run one torch function and record it."""
        function = function_of(func)
        if self._quiet or self.broken is not None or function.kind in ("bookkeeping", "creation"):
            return call()
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
        outputs = _distinct(trees.tensors(result))
        if function.name in ("__setitem__", "data.__set__"):
            outputs = changed = [refs[0].tensor]
        if function.name == "numpy" and not outputs:
            self._notes.append(
                f"{scope.path or 'the model'} takes values out of torch (numpy()); what comes back is a constant"
            )
        if self._unchanged(function, refs, outputs, changed):
            return
        outputs += [
            t for t in _distinct(changed) if not _contains(outputs, t) and not self._aliased(t, outputs)
        ]
        if not outputs:
            return
        name, call = self._next(
            scope.name(_plain(function.name), function.kind == "main", [ref.tensor for ref in refs])
        )
        made = [
            self.values.make(tensor, f"{_id(name, call)}:{place}") for place, tensor in enumerate(outputs)
        ]
        draft = Draft(made, scope.kind)
        description, reason = described(function, draft, arguments)
        self._use(description or opaque(refs, made), refs)
        self._emit(name, call, function.spoken, description or opaque(refs, made), reason, caller())
        for ref in [ref for ref in made if _contains(changed, ref.tensor)]:
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
        given = [ref.tensor for ref in refs]
        return function.describer is None and all(_contains(given, tensor) for tensor in outputs)

    def _aliased(self, tensor: torch.Tensor, outputs: List[torch.Tensor]) -> bool:
        return any(_contains(self.values.sharing(output), tensor) for output in outputs)

    def _through_views(
        self, scope: Scope, function: Function, written: Ref, outputs: List[torch.Tensor]
    ) -> None:
        """Note for the other tensors that lie where one was written that they hold a new value."""
        others = [t for t in self.values.sharing(written.tensor) if not _contains(outputs, t)]
        frozen = replace(written, tensor=written.tensor.detach()) if others else written
        for other in others:
            if aliasing.overlap(other, written.tensor):
                self.values.written(other, Write(frozen, scope.path, caller(), function.spoken))
            else:
                self.values.written(other, None)

    def _settle(self, tensor: torch.Tensor, entry: Entry) -> None:
        """Record what became of a tensor that was written to through others, now that it is used."""
        writes, entry.pending = entry.pending, []
        old = Ref(tensor, entry.key, shape_of(tensor), tensor.dtype)
        first, inside = writes[0], "write_through_view"
        name, call = self._next(f"{first.path}/{inside}" if first.path else inside)
        made = self.values.make(tensor, f"{_id(name, call)}:0")
        draft = Draft([made])
        try:
            aliasing.describe_writes(draft, old, [write.written for write in writes])
            description, reason = draft.finish(), ""
        except Undescribed as refusal:
            read = [old] + [write.written for write in writes]
            description, reason = opaque(read, [made]), f"a write through a view {refusal}"
        self._emit(name, call, f"{first.function} (through a view)", description, reason, first.location)

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
                    self._notes.append(f"{path or 'the model'} can take a fused fast path; it was recorded without")
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter_layer(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """What must be known before the layer runs; inside, nothing is observed, so that it runs as it always does."""
        guard = unobserved()
        guard.__enter__()
        self._quiet += 1
        given = _distinct(trees.tensors((args, kwargs)) + list(module.parameters()))
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
        name, call = self._next(scope.path or type(module).__name__)
        outputs = _distinct(trees.tensors(output))
        made = [
            self.values.make(tensor, f"{_id(name, call)}:{place}") for place, tensor in enumerate(outputs)
        ]
        function = Function("nn", type(module).__name__, layers.attention(module, refs))
        exchanged = trees.replace((args, kwargs), lambda tensor: refs[id(tensor)])
        description, reason = described(function, Draft(made, scope.kind), exchanged)
        read = list(refs.values())
        self._use(description or opaque(read, made), read)
        self._emit(name, call, function.spoken, description or opaque(read, made), reason, caller())

    def _left(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """``nn.Identity`` calls no function; it is recorded here, so that a layer is not missing."""
        if type(module) is not nn.Identity or self._quiet or not isinstance(output, torch.Tensor):
            return
        with unobserved():
            source = self.values.ref(output, True)
            name, call = self._next(self.scopes.scope(module).path or "Identity")
            draft = Draft([self.values.make(output, f"{_id(name, call)}:0")])
            draft.give(draft.port(source))
            self._emit(name, call, "torch.nn.Identity", draft.finish(), "", "")

    # Writing records.

    def _next(self, name: str) -> Tuple[str, int]:
        """The name and which call of it this is."""
        call = self._calls[name]
        self._calls[name] += 1
        return name, call

    def _use(self, description: Description, refs: Sequence[Ref]) -> None:
        """Store the arguments that a record reads."""
        read = {port.value for port in description.inputs + description.parameters}
        for ref in refs:
            if ref.key in read:
                self.values.use(ref)

    def _emit(
        self, name: str, call: int, operator: str, what: Description, reason: str, location: str
    ) -> None:
        ports = (what.inputs, what.outputs, what.parameters)
        self.sink.record(Record(name, call, operator, *ports, what.nodes, what.constants, reason, location))


def described(
    function: Function, draft: Draft, arguments: Tuple[Any, Any]
) -> Tuple[Optional[Description], str]:
    """The description of a call, or ``None`` and the reason why there is none."""
    try:
        function.describe(draft, *arguments)
        return draft.finish(), ""
    except Undescribed as refusal:
        return None, f"{function.spoken} {refusal}"
    except Exception as error:  # a form of call that the describer does not know must not end the recording
        return None, f"{function.spoken} could not be described: {type(error).__name__}: {error}"


def opaque(refs: Sequence[Ref], made: Sequence[Ref]) -> Description:
    """Only what went in and came out."""
    distinct = list({ref.key: ref for ref in refs}.values())
    ports = [Port(f"x{place}", ref.key) for place, ref in enumerate(distinct)]
    outputs = tuple(Port(f"y{place}" if len(made) > 1 else "y", ref.key) for place, ref in enumerate(made))
    parameters = tuple(port for port in ports if port.value.startswith("parameter:"))
    return Description(tuple(port for port in ports if port not in parameters), outputs, parameters, ())


def _id(name: str, call: int) -> str:
    return name if call == 0 else f"{name}#{call}"


def _plain(name: str) -> str:
    """A function's name without dunders and the underscore of in-place variants."""
    return name.replace(".__get__", "").replace(".__set__", "").strip("_")


def _contains(tensors: Sequence[torch.Tensor], tensor: torch.Tensor) -> bool:
    return any(item is tensor for item in tensors)


def _distinct(tensors: Sequence[torch.Tensor]) -> List[torch.Tensor]:
    return list({id(tensor): tensor for tensor in tensors}.values())
