"""Seeing every call of a torch function: by a mode, or by a subclass of Tensor where torch has no mode."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

import torch

try:
    from torch.overrides import TorchFunctionMode
except ImportError:  # torch before 1.13
    TorchFunctionMode = None

Observer = Callable[[Any, Tuple[Any, ...], Dict[str, Any], Callable[[], Any]], Any]
"""``observer(function, args, kwargs, call)`` runs ``call()`` once and returns its result."""


def has_mode() -> bool:
    """Whether this torch can observe functions by a mode."""
    return TorchFunctionMode is not None


class Traced(torch.Tensor):
    """A tensor that reports the functions called on it; results are of this class again."""

    observer: Optional[Observer] = None

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Hand the call to the observer; its own look at tensors must not come back here."""
        kwargs = kwargs or {}
        inner = super().__torch_function__

        def call() -> Any:
            return inner(func, types, args, kwargs)

        if cls.observer is None:
            return call()
        with torch._C.DisableTorchFunction():
            return cls.observer(func, args, kwargs, call)


def _mode(observer: Observer) -> Any:
    class Mode(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            return observer(func, args, kwargs, lambda: func(*args, **kwargs))

    return Mode()


@contextlib.contextmanager
def observing(
    observer: Observer, by_mode: Optional[bool] = None
) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
    """Report every torch function to ``observer``; gives what must be applied to the model's inputs first.

    Args:
        observer: is called instead of each function.
        by_mode: choose the mode or the subclass; by default what this torch can do.

    Example:
        >>> seen, x = [], torch.zeros(1)
        >>> with observing(lambda f, args, kwargs, call: seen.append(f.__name__) or call()) as wrap:
        ...     _ = torch.relu(wrap(x))
        >>> seen
        ['relu']
    """
    if has_mode() if by_mode is None else by_mode:
        with _mode(observer):
            yield lambda tensor: tensor
        return
    Traced.observer = staticmethod(observer)
    try:
        yield lambda tensor: tensor.as_subclass(Traced)
    finally:
        Traced.observer = None


@contextlib.contextmanager
def script_calls(observer: Observer) -> Iterator[None]:
    """Report calls of TorchScript, which no mode sees; its classes are changed for the time being."""
    kinds = [
        kind
        for kind in (getattr(torch._C, name, None) for name in ("ScriptFunction", "ScriptMethod"))
        if kind
    ]
    originals = [(kind, kind.__call__) for kind in kinds]

    def reporting(original: Any) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            return observer(self, args, kwargs, lambda: original(self, *args, **kwargs))

        return call

    for kind, original in originals:
        kind.__call__ = reporting(original)
    try:
        yield
    finally:
        for kind, original in originals:
            kind.__call__ = original


def in_transform() -> bool:
    """Whether a transform (vmap, grad) is at work, inside which tensors have no values of their own."""
    functorch = getattr(torch._C, "_functorch", None)
    peek = getattr(functorch, "peek_interpreter_stack", None)
    return peek is not None and peek() is not None


@contextlib.contextmanager
def _mode_aside() -> Iterator[None]:
    """In torch 1.13 alone, disabling functions leaves modes on: the innermost one is taken off."""
    if not has_mode() or hasattr(torch._C, "DisableTorchFunctionSubclass"):
        yield
        return
    from torch.overrides import _get_current_function_mode, _pop_mode_temporarily

    if _get_current_function_mode() is None:
        yield
        return
    with _pop_mode_temporarily():
        yield


@contextlib.contextmanager
def unobserved() -> Iterator[None]:
    """Functions called inside are not reported, and take the paths that they take without an observer."""
    with torch._C.DisableTorchFunction(), _mode_aside():
        yield
