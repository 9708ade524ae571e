"""Everything that the adapter takes from inside JAX (``jax._src``), so that another version is met in one place.

Written for the "stackless" core of JAX (since 0.4.36), in which every ``bind`` asks the current trace; met with
jax 0.10. Older ones, met with 0.4.20, are recorded by :mod:`~porting_check_jax.compat_levels`.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import jax
import numpy as np
from jax._src import core, source_info_util
from jax._src import pjit as _pjit

from porting_check.neutral.errors import RunError, Unsupported
from porting_check_jax import compat_levels
from porting_check_jax.compat_levels import STACKLESS

OLDEST = "0.4.36"
"""The first JAX whose core is stackless."""

Process = Callable[[Any, Sequence[Any], Dict[str, Any]], Any]
"""Runs a primitive on concrete values: the value it makes, or a list where it makes several."""


Rule = Callable[..., Any]
"""A function with a derivative of its own, on other values: under the trace that is current, which asks for the derivative."""

Custom = Callable[[Sequence[Any], Callable[[], Any], Rule], Any]
"""Runs a function with a derivative of its own: its arguments, how it is run as it is written, its rule."""


class Inlined(NamedTuple):
    """A jitted function that is to run as plain Python: what it returned."""

    outputs: Any


class RecordingTrace(core.Trace):  # type: ignore[misc, name-defined, unused-ignore]
    """A trace whose values are concrete: Python code that looks at a value runs as it does without."""

    __slots__ = ("_custom", "_process")

    def __init__(self, process: Process, custom: Optional[Custom] = None) -> None:
        super().__init__()
        self._process = process
        self._custom = custom

    def stage_value(self, val: Any) -> Any:
        """Lift a value into the trace; every value is at home in it."""
        return core.eval_trace.stage_value(val)

    def process_primitive(self, primitive: Any, tracers: Any, params: Dict[str, Any], *_more: Any) -> Any:
        """Called for every primitive; JAX has made the evaluating trace the current one."""
        return self._process(primitive, list(tracers), params)

    def process_call(self, call_primitive: Any, f: Any, tracers: Any, params: Any, *_more: Any) -> Any:
        """Final-style calls run their function here."""
        with core.set_current_trace(self):
            return f.call_wrapped(*tracers)

    def process_custom_jvp_call(
        self, primitive: Any, fun: Any, jvp: Any, tracers: Any, *more: Any, **options: Any
    ) -> Any:
        """A function with a derivative of its own computes as it is written."""

        def rule(*values: Any) -> Any:
            return current_trace().process_custom_jvp_call(primitive, fun, jvp, values, *more, **options)

        return self._as_written(fun, tracers, rule)

    def process_custom_vjp_call(
        self, primitive: Any, fun: Any, fwd: Any, bwd: Any, tracers: Any, *more: Any, **options: Any
    ) -> Any:
        """A function with a derivative of its own computes as it is written."""

        def rule(*values: Any) -> Any:
            return current_trace().process_custom_vjp_call(primitive, fun, fwd, bwd, values, *more, **options)

        return self._as_written(fun, tracers, rule)

    def _as_written(self, fun: Any, tracers: Sequence[Any], rule: Rule) -> Any:
        def run() -> Any:
            with core.set_current_trace(self):
                return fun.call_wrapped(*tracers)

        return run() if self._custom is None else self._custom(tracers, run, rule)

    def cur_qdd(self, x: Any) -> Any:
        """What JAX knows of mutable values."""
        return x.cur_qdd()


def require() -> None:
    """Say so when this JAX is too old to be recorded.

    Raises:
        RunError: its core is neither of those that are known.
    """
    if not STACKLESS and not compat_levels.USABLE:
        raise RunError(
            f"JAX {jax.__version__} has a core that is not known here and cannot be recorded; expected 0.4.20 or newer"
        )


def require_derivatives() -> None:
    """Say so when this JAX is too old for the gradients of every layer in one run.

    Raises:
        Unsupported: older than 0.4.36.
    """
    if not STACKLESS:
        raise Unsupported(
            f"JAX {jax.__version__} is too old for gradients layer by layer; expected {OLDEST} or newer: update jax"
        )


@contextlib.contextmanager
def recording(
    process: Process, inline: Callable[[Any], bool], custom: Optional[Custom] = None
) -> Iterator[Any]:
    """Let ``process`` run every primitive inside.

    Args:
        process: called instead of JAX's own evaluation.
        inline: tells of a jitted function whether it is to run as plain Python.
        custom: called for functions with a derivative of their own; without it they run as they are written.

    Example:
        >>> names = []
        >>> def process(primitive, values, params):
        ...     names.append(primitive.name)
        ...     return evaluate(primitive, values, params)
        >>> with recording(process, lambda function: False):
        ...     _ = jax.lax.add(1.0, 2.0)
        >>> names
        ['add']
    """
    require()
    if not STACKLESS:
        with compat_levels.recording(process) as main:
            yield main
        return
    trace = RecordingTrace(process, custom)
    original = getattr(_pjit, "_run_python_pjit", None)

    def run(p: Any, args_flat: Any, fun: Any, args: Any, kwargs: Any) -> Any:
        if current_trace() is not trace or not inline(fun):
            return original(p, args_flat, fun, args, kwargs)  # type: ignore[misc]
        outputs = fun(*args, **kwargs)
        flat, tree = jax.tree_util.tree_flatten(outputs)
        return outputs, flat, tree, args_flat, p.params["jaxpr"], None, None, []

    if original is not None:
        _pjit._run_python_pjit = run
    try:
        with core.set_current_trace(trace):
            yield trace
    finally:
        if original is not None:
            _pjit._run_python_pjit = original


def current_trace() -> Any:
    """The trace that a primitive would be bound in now."""
    return core.trace_ctx.trace if STACKLESS else compat_levels.current()


@contextlib.contextmanager
def evaluating() -> Iterator[None]:
    """Compute inside without being recorded."""
    with core.set_current_trace(core.eval_trace) if STACKLESS else compat_levels.evaluating():
        yield


def evaluate(primitive: Any, values: Sequence[Any], params: Dict[str, Any]) -> Any:
    """Run a primitive as JAX does when nobody looks."""
    with evaluating():
        return bound(primitive, params, *values)


def bound(primitive: Any, params: Dict[str, Any], *values: Any) -> Any:
    """Run a primitive under the trace that is current (one that differentiates)."""
    functions, rest = bind_parameters(primitive, params)
    return primitive.bind(*functions, *values, **rest)


def bind_parameters(primitive: Any, params: Dict[str, Any]) -> Tuple[List[Any], Dict[str, Any]]:
    """An equation's parameters as ``bind`` wants them (a pair in older versions)."""
    found = primitive.get_bind_params(params)
    return (list(found[0]), found[1]) if isinstance(found, tuple) else ([], found)


def unmapped(value: Any, trace: Any) -> Tuple[Any, Optional[int]]:
    """A value inside ``vmap`` as the whole array and the axis that is mapped; itself and None elsewhere."""
    if type(value).__name__ == "BatchTracer" and isinstance(
        getattr(value, "batch_dim", None), (int, type(None))
    ):
        return value.val, value.batch_dim
    return value, None


def is_tracer(value: Any) -> bool:
    """Whether a value stands for one that is not known yet."""
    return isinstance(value, core.Tracer)


def parent_trace(trace: Any) -> Any:
    """The trace around a ``vmap``; None around any other."""
    return getattr(trace, "parent_trace", None) if type(trace).__name__ == "BatchTrace" else None


def is_literal(variable: Any) -> bool:
    """Whether an equation's operand is a number in the code."""
    return isinstance(variable, core.Literal)


def dtype_of(value: Any) -> np.dtype:
    """The numpy dtype of a value; that of the bits for random keys."""
    dtype = core.typeof(value).dtype if hasattr(core, "typeof") else core.get_aval(value).dtype
    return np.dtype(dtype) if isinstance(dtype, np.dtype) else np.dtype(np.uint32)


def is_key(value: Any) -> bool:
    """Whether a value is an array of random keys, which holds no numbers."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and not isinstance(dtype, (np.dtype, type))


def scope_names(stack: Any) -> Tuple[str, ...]:
    """The ``jax.named_scope`` names in a name stack; transforms (``vmap``, ``jvp``) are left out."""
    return tuple(str(part.name) for part in getattr(stack, "stack", ()) if type(part).__name__ == "Scope")


def current_scope() -> Tuple[str, ...]:
    """The ``jax.named_scope`` names that Python is inside now."""
    return scope_names(source_info_util.current_name_stack())


def function_home(params: Dict[str, Any]) -> Tuple[str, str]:
    """File and name of the function that a jit call was made from; empty where JAX does not tell."""
    closed = params.get("jaxpr") or params.get("call_jaxpr")
    info = getattr(getattr(closed, "jaxpr", closed), "debug_info", None)
    text = str(getattr(info, "func_src_info", "") or "")
    name, _, place = text.partition(" at ")
    return place.rpartition(":")[0].replace("\\", "/"), name or str(params.get("name", ""))


def equation_context(equation: Any) -> Any:
    """What must hold while an equation is evaluated."""
    manager = getattr(getattr(equation, "ctx", None), "manager", None)
    return contextlib.nullcontext() if manager is None else manager
