"""Which module is running: the stack of modules that have been entered, and how records inside are named."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Tuple

import torch
from torch import nn
from torch.nn.modules import module as hooks

LIBRARY = "torch.nn.modules"
_TORCH_FOLDER = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep


@dataclass(frozen=True)
class Scope:
    """A module that is running: its path, its class, the ids of the tensors that it holds itself."""

    path: str = ""
    kind: str = ""
    library: bool = False
    own: FrozenSet[int] = frozenset()
    leaf: bool = False

    def name(self, function: str, main: bool, arguments: Any) -> str:
        """The name of what a function does here.

        The module's path for what a layer of torch.nn is there for and for a function that uses a tensor
        which the module itself holds; ``path/function`` otherwise.
        """
        inside = f"{self.path}/{function}" if self.path else function
        if not self.path:
            return inside
        if self.library and self.own:
            return self.path if main else inside
        if self.library:
            return self.path if self.leaf else inside
        return self.path if any(id(tensor) in self.own for tensor in arguments) else inside


ROOT = Scope()


def scope_of(module: nn.Module, path: str) -> Scope:
    """The scope of a module under a path."""
    own = [t for t in list(module._parameters.values()) + list(module._buffers.values()) if t is not None]
    kind = type(module)
    if isinstance(module, torch.jit.ScriptModule):
        return Scope(path, kind.__name__, library=True, leaf=True)
    library = kind.__module__.startswith(LIBRARY) or _parametrized(kind)
    held = frozenset(id(tensor) for tensor in own)
    if not held and library and len(module._modules):  # the weights of a parametrised layer lie below it
        held = frozenset(id(tensor) for tensor in module.parameters()) if _parametrized(kind) else held
    return Scope(path, kind.__name__, library, held, not len(module._modules))


def _parametrized(kind: type) -> bool:
    """Whether a class is what torch.nn.utils.parametrize makes of a library layer."""
    made = kind.__module__.startswith("torch.nn.utils.parametrize")
    return made and any(
        base.__module__.startswith(LIBRARY) and base is not nn.Module for base in kind.__mro__[1:]
    )


class Scopes:
    """Keeps the stack through global hooks: modules are not touched, and those made on the way are seen.

    Example:
        >>> net = nn.Sequential(nn.ReLU())
        >>> with Scopes({id(net[0]): "0"}) as scopes:
        ...     _ = net(torch.zeros(1))
        >>> scopes.current.path
        ''
    """

    def __init__(self, paths: Dict[int, str]) -> None:
        self._paths = paths
        self._known: Dict[int, Tuple[nn.Module, Scope]] = {}
        self._stack: List[Tuple[Any, Scope]] = []
        self._thread = threading.get_ident()
        self._handles: List[Any] = []
        self.pinned: Any = None
        self.location = ""
        self.left: Optional[Callable[[nn.Module, Any, Any], None]] = None
        self.failure: Tuple[Any, str] = (None, "")

    @property
    def current(self) -> Scope:
        """The innermost scope."""
        if self.pinned is not None:
            pinned: Scope = self.pinned
            return pinned
        return self._stack[-1][1] if self._stack else ROOT

    @property
    def where(self) -> str:
        """File and line of the user's code that is running; of compiled code as it says of itself."""
        return self.location or caller()

    def __enter__(self) -> Scopes:
        self._handles.append(hooks.register_module_forward_pre_hook(self._enter))
        try:
            handle = hooks.register_module_forward_hook(self._leave, always_call=True)
        except (
            TypeError
        ):  # an older torch: after an exception the stack is cut back by the next module that leaves
            handle = hooks.register_module_forward_hook(self._leave)
        self._handles.append(handle)
        return self

    def __exit__(self, *exception: Any) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def scope(self, module: nn.Module) -> Scope:
        """The scope of a module, which gets a path from its surroundings when it is not part of the model."""
        known = self._known.get(id(module))
        if known is not None and known[0] is module:
            return known[1]
        path = self._paths.get(id(module))
        if path is None:
            above = self.current.path
            path = f"{above}/{type(module).__name__}" if above else type(module).__name__
        scope = scope_of(module, path)
        self._known[id(module)] = (module, scope)
        return scope

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        if threading.get_ident() == self._thread:
            self._stack.append((module, self.scope(module)))

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        error = sys.exc_info()[1]
        if error is not None and output is None and self.failure[0] is not error:
            self.failure = (error, self.scope(module).path)
        elif self.left is not None:
            self.left(module, inputs, output)
        while self._stack and self._stack.pop()[0] is not module:
            pass


def caller() -> str:
    """File and line of the user's code that is running: ``net.py:42``, ``""`` when it cannot be told."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_TORCH_FOLDER, _OWN_FOLDER, "<")):
            return f"{os.path.basename(file)}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return ""
