"""What happens while a model runs: primitives and layers, kept until it is known how they are recorded."""

from __future__ import annotations

import os
import sys
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from porting_check_jax import compat, modules, trees
from porting_check_jax.draft import Draft, Ref
from porting_check_jax.layers import LayerDescriber

Describe = Callable[[Draft, Sequence[Ref], Mapping[str, Any]], None]
"""Puts a primitive into nodes: draft, operands in order, the primitive's parameters."""

LIBRARIES = (
    "jax",
    "jaxlib",
    "flax",
    "equinox",
    "jaxtyping",
    "numpy",
    "optax",
    "orbax",
    "contextlib",
    "functools",
)
"""Whose frames are not the user's."""

_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep


GIVEN = object()
"""Stands for an array among remembered arguments."""


class Event(NamedTuple):
    """One primitive, or one function of JAX that is known by name, as it ran.

    ``operator``: as a person writes it (``jax.lax.add``). ``path``: the layer around it. ``scope``: the
    ``jax.named_scope`` names below that layer. ``kind``: what the layer around it is.
    ``stretches``: its nodes broadcast their operands as ONNX does.
    """

    name: str
    operator: str
    describe: Optional[Describe]
    args: List[Any]
    outputs: List[Any]
    params: Dict[str, Any]
    path: str
    scope: Tuple[str, ...]
    kind: str
    location: str
    stretches: bool = False

    @property
    def record_name(self) -> str:
        """``path/scope/name``."""
        return "/".join(part for part in (self.path,) + self.scope + (self.name,) if part)


class Layer:
    """A layer that runs: where it is, what it was called with, and what happened inside.

    Attributes:
        depth: how many scope names there are outside of the layer.
        children: what happened inside, kept only for layers that may be described as a whole.
    """

    def __init__(
        self,
        path: str,
        kind: str,
        module: Any,
        describer: Optional[LayerDescriber],
        arguments: Tuple[Tuple[Any, ...], Dict[str, Any]],
        parameters: Mapping[str, Any],
    ) -> None:
        self.path = path
        self.kind = kind
        self.module = module
        self.describer = describer
        self.args, self.kwargs = arguments
        self.parameters = parameters
        self.depth = len(compat.current_scope())
        self.location = caller()
        self.batched = 0
        self.outputs: List[Any] = []
        self.children: List[Any] = []

    def unmap(self, trace: Any, mapped: bool) -> bool:
        """Take the arrays of a call inside ``vmap`` out of it; whether that was possible.

        ``mapped``: whether the layer runs inside ``vmap`` at all.
        """
        if not mapped:
            known = trees.arrays((list(self.args), self.kwargs, dict(self.parameters)))
            return not any(map(compat.is_tracer, known))
        found: List[Optional[int]] = []

        def take(value: Any) -> Any:
            whole, axis = compat.unmapped(value, trace)
            found.append(axis if not compat.is_tracer(whole) else -1)
            return whole

        self.parameters = {name: take(value) for name, value in self.parameters.items()}
        if any(axis is not None for axis in found):
            return False
        self.args, self.kwargs = trees.contents(tuple(self.args), take), trees.contents(self.kwargs, take)
        self.batched = int(any(axis == 0 for axis in found))
        return all(axis in (0, None) for axis in found)

    def leave(self, outputs: Any, mapped: bool) -> bool:
        """Note what the layer returned; whether it can be described."""
        found = []
        for array in trees.arrays(outputs):
            whole, axis = compat.unmapped(array, None) if mapped else (array, None)
            if compat.is_tracer(whole) or axis not in ((0, None) if self.batched else (None,)):
                return False
            found.append(whole)
        self.outputs = list({id(array): array for array in found}.values())
        return bool(self.outputs)

    def forget(self) -> Layer:
        """Let all arrays go; what is left can run the layer again (see replay)."""
        if modules.is_linen(self.module):
            self.module = modules.LinenAlone(self.module.clone(parent=None, name=None), self.module.variables)
        self.args = trees.contents(tuple(self.args), lambda array: GIVEN)
        self.kwargs = trees.contents(self.kwargs, lambda array: GIVEN)
        self.parameters, self.outputs, self.children = {}, [], []
        return self


def caller() -> str:
    """File and line of the user's code that is running: ``net.py:42``, ``""`` when it cannot be told."""
    return surroundings({})[0]


def surroundings(wanted: Mapping[Any, Any]) -> Tuple[str, Any]:
    """The line of the user's code that is running, and the outermost library frame between with a wanted code."""
    frame: Any = sys._getframe(1)
    found = None
    while frame is not None:
        file = frame.f_code.co_filename
        if frame.f_code in wanted:
            found = frame
        elif not file.startswith((_OWN_FOLDER, "<")) and not is_library(file):
            return f"{os.path.basename(file)}:{frame.f_lineno}", found
        frame = frame.f_back
    return "", found


def is_library(file: str) -> bool:
    """Whether a file belongs to JAX or to a library built on it."""
    known = _KNOWN.get(file)
    if known is None:
        known = _KNOWN[file] = file.startswith(tuple(_homes()))
    return known


_KNOWN: Dict[str, bool] = {}


def _homes() -> List[str]:
    """Where the libraries that are loaded lie: a folder for a package, the file of a module."""
    found = []
    for name in LIBRARIES:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file:
            package = os.path.basename(file).startswith("__init__")
            found.append(
                os.path.dirname(os.path.abspath(file)) + os.sep if package else os.path.abspath(file)
            )
    return found
