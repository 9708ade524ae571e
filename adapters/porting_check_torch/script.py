"""Running TorchScript node by node with torch's ordinary functions, so that each one can be observed."""

from __future__ import annotations

import collections
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import torch

from porting_check_torch.observe import unobserved
from porting_check_torch.scopes import LIBRARY, Scope, Scopes
from porting_check_torch.script_graph import Block, Step, Uninterpreted, called, class_of, fields_of
from porting_check_torch.script_operators import UNPACKED, Native, bound, plain_operator
from porting_check_torch.script_state import put

GRAD_MODES = ("torch.autograd.grad_mode.", "torch.no_grad", "torch.enable_grad")


class Owner(NamedTuple):
    """A compiled module (or object) and its path in the model."""

    module: Any
    path: str


class Context(NamedTuple):
    """An object of ``torch.no_grad`` or the like; recording runs without gradients anyway."""

    kind: str


Values = Dict[int, Any]


class Interpreter:
    """Interprets methods and functions of TorchScript.

    Args:
        scopes: is told which module is running.
        paths: of compiled modules.

    Example:
        >>> net = torch.jit.script(torch.nn.ReLU())
        >>> run = Interpreter(Scopes({}), {net._c: ""})
        >>> run.call(net.forward, (torch.tensor([-1.0, 2.0]),), {}, "")
        tensor([0., 2.])
    """

    def __init__(self, scopes: Scopes, paths: Dict[Any, str]) -> None:
        self._scopes, self._paths = scopes, paths
        self._bodies: Dict[Tuple[Any, str], Block] = {}
        self._containers: Dict[Tuple[Any, str], Any] = {}
        self._kept: List[Any] = []
        self._handlers: Dict[str, Callable[[Step, List[Any]], Any]] = {
            "prim::GetAttr": self._get,
            "prim::SetAttr": self._set,
            "prim::CallMethod": self._call_method,
            "prim::CreateObject": self._create,
            "prim::Enter": lambda step, given: given[0] if isinstance(given[0], Context) else _refuse(step),
            "prim::Exit": lambda step, given: None if isinstance(given[0], Context) else _refuse(step),
            "prim::RaiseException": _raise,
            "prim::TupleConstruct": _tuple,
            "prim::TupleSlice": lambda step, given: given[0][step.node.i("beg") : step.node.i("end")],
            "prim::DictConstruct": lambda step, given: dict(zip(given[::2], given[1::2])),
            "prim::fork": self._fork,
        }

    def call(self, function: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any], path: str) -> Any:
        """Run a compiled method or function that Python code calls.

        Args:
            function: a ``ScriptMethod`` or ``ScriptFunction``.
            args: what it is called with.
            kwargs: and by keyword.
            path: of the module that the call comes from, for functions.

        Raises:
            Uninterpreted: a node is not known.
        """
        owner = getattr(function, "owner", None)
        if owner is None:
            given = bound(function.schema, args, kwargs, 0)
            return self._pinned(Scope(path), lambda: self._run(Block(function.graph), given))
        try:
            known = Owner(owner, self._paths.get(owner, path))
            return self._method(known, str(function.name), bound(function.schema, args, kwargs, 1))
        finally:
            self._write_back()

    # Methods and state.

    def _method(self, owner: Owner, name: str, arguments: List[Any]) -> Any:
        key = owner.module, name
        if key not in self._bodies:
            self._bodies[key] = Block(owner.module._get_method(name).graph)
        return self._pinned(scope_of(owner), lambda: self._run(self._bodies[key], [owner] + arguments))

    def _pinned(self, scope: Scope, run: Callable[[], Any]) -> Any:
        """Run with a scope in force; after an error it stays known where that came up."""
        before = self._scopes.pinned
        self._scopes.pinned = scope
        try:
            return run()
        finally:
            self._scopes.pinned = before
            self._scopes.location = ""

    def _call_method(self, step: Step, given: List[Any]) -> Any:
        if isinstance(given[0], Context):
            return None
        if not isinstance(given[0], Owner):
            raise step.refuse(f"{step.name} of a {type(given[0]).__name__}")
        return self._method(given[0], step.name, given[1:])

    def _get(self, step: Step, given: List[Any]) -> Any:
        """An attribute: a module below, a parameter, or a state (lists and dicts live here while this runs)."""
        owner, name = given[0], step.name
        if not isinstance(owner, Owner):
            raise step.refuse(f"{name} of a {type(owner).__name__}")
        if (owner.module, name) in self._containers:
            return self._containers[owner.module, name]
        value = owner.module.getattr(name)
        if isinstance(value, torch._C.ScriptModule):
            return Owner(value, self._paths.get(value) or (f"{owner.path}.{name}" if owner.path else name))
        if isinstance(value, torch._C.ScriptObject):
            raise step.refuse(f"{name} is an object of class {class_of(value)}")
        if isinstance(value, (list, dict)):
            self._containers[owner.module, name] = value
        self._kept.append(value)  # a tensor is known by its Python object, which must not be made anew
        return value

    def _set(self, step: Step, given: List[Any]) -> None:
        owner, value = given
        if not isinstance(owner, Owner):
            raise step.refuse(f"{step.name} of a {type(owner).__name__}")
        self._kept.append(value)
        if isinstance(value, (list, dict)):
            self._containers[owner.module, step.name] = value
        owner.module.setattr(step.name, value)

    def _write_back(self) -> None:
        """Lists and dicts that the run has changed, into the modules that hold them."""
        for (module, name), value in self._containers.items():
            put(module, name, value)

    def _create(self, step: Step, given: List[Any]) -> Context:
        kind = str(step.node.output().type().annotation_str).replace("__torch__.", "")
        if not kind.startswith(GRAD_MODES):
            raise step.refuse(f"an object of class {kind}")
        return Context(kind)

    # Blocks.

    def _run(self, block: Block, arguments: List[Any], outer: Optional[Values] = None) -> Any:
        """Run a body; the result of a function or method is its one result."""
        results = self._block(block, arguments, {} if outer is None else outer)
        return results[0] if len(results) == 1 else tuple(results)

    def _block(self, block: Block, arguments: List[Any], values: Values) -> List[Any]:
        values.update(zip(block.parameters, arguments))
        for step in block.steps:
            self._step(step, values)
        return [values[place] for place in block.results]

    def _step(self, step: Step, values: Values) -> None:
        if step.kind == "prim::Constant":
            values[step.outputs[0]] = _constant(step)
            return
        given = [values[place] for place in step.inputs]
        if step.kind == "prim::If":
            results: Any = self._block(step.blocks[0 if given[0] else 1], [], values)
        elif step.kind == "prim::Loop":
            results = self._loop(step, given, values)
        elif step.kind == "prim::CallFunction":
            results = [self._call_function(step, given)]
        elif step.kind in UNPACKED:
            results = list(given[0])
        else:
            results = self._one(step, given)
            results = list(results) if len(step.outputs) > 1 else [results]
        values.update(zip(step.outputs, results))

    def _one(self, step: Step, given: List[Any]) -> Any:
        handler = self._handlers.get(step.kind)
        if handler is not None:
            return handler(step, given)
        plain = plain_operator(step, given)
        if plain is not None:
            return plain(*given)
        if step.known is None:
            step.known = Native(step), step.location
        native, self._scopes.location = step.known
        if native.scalar:
            with unobserved():
                return native(given)
        return native(given)

    def _loop(self, step: Step, given: List[Any], values: Values) -> List[Any]:
        """``for`` and ``while``: at most so many rounds, as long as the condition holds."""
        most, condition, carried = given[0], given[1], given[2:]
        count = 0
        while condition and count < most:
            condition, *carried = self._block(step.blocks[0], [count] + list(carried), values)
            count += 1
        return list(carried)

    def _call_function(self, step: Step, given: List[Any]) -> Any:
        if step.known is None:
            step.known = called(step, given[0])
        body, taken = step.known
        by_place = dict(zip(step.inputs, given))
        return self._run(body, [by_place[place] for place in taken])

    def _fork(self, step: Step, given: List[Any]) -> Any:
        """What another thread would compute, at once."""
        if step.known is None:
            step.known = Block(step.node.g("Subgraph"))
        return self._run(step.known, given)


def scope_of(owner: Owner) -> Scope:
    """The scope of a compiled module: the class that it was made from, and the tensors that it holds."""
    module, path = owner
    name = class_of(module)
    if not isinstance(module, torch._C.ScriptModule):
        return Scope(path)
    held = torch._C.ParameterDict(module).items() + torch._C.BufferDict(module).items()
    own = frozenset(id(tensor) for _, tensor in held if tensor is not None)
    leaf = not torch._C.ModuleDict(module).items()
    return Scope(path, name.rpartition(".")[2], name.startswith(LIBRARY), own, leaf)


def _constant(step: Step) -> Any:
    if step.known is None:
        value = step.node.output().toIValue()
        if value is None and step.node.hasAttribute("name") and "Function" in str(step.node):
            value = step  # a function; its body is found where it is called
        step.known = (value,)
    return step.known[0]


def _tuple(step: Step, given: List[Any]) -> Any:
    fields = fields_of(step)
    return collections.namedtuple("Output", fields)(*given) if fields else tuple(given)


def _raise(step: Step, given: List[Any]) -> None:
    kind = str(given[1]).rpartition(".")[2] if len(given) > 1 and given[1] else "Exception"
    raise torch.jit.Error(f"{kind}: {given[0]}")


def _refuse(step: Step) -> Any:
    raise step.refuse()


__all__ = ["Interpreter", "Owner", "Uninterpreted", "scope_of"]
