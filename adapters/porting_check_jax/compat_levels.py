"""Recording in a JAX whose core has levels (before 0.4.36): there a trace lies on a stack, and the top one is asked.

Values stay concrete as in :class:`~porting_check_jax.compat.RecordingTrace`. What is mapped by ``vmap`` belongs to a trace
above this one, and its primitives come here when its rules have made them into primitives of whole arrays.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator

from jax._src import core
from jax._src import pjit as _pjit

STACKLESS = hasattr(core, "eval_trace") and hasattr(core, "set_current_trace")
"""Whether this JAX has no levels."""

USABLE = hasattr(core, "new_main") and hasattr(core, "eval_context")
"""Whether this JAX has levels as they are known here."""


class LevelTrace(core.Trace):  # type: ignore[misc, name-defined, unused-ignore]
    """A trace on the stack whose values are concrete."""

    def __init__(self, main: Any, sublevel: Any, *, process: Callable[..., Any]) -> None:
        super().__init__(main, sublevel)
        self._process = process

    def pure(self, val: Any) -> Any:
        """Every value is at home here."""
        return val

    lift = sublift = pure

    def process_primitive(self, primitive: Any, tracers: Any, params: Any) -> Any:
        """Called for every primitive."""
        return self._process(primitive, list(tracers), params)

    def process_call(self, primitive: Any, f: Any, tracers: Any, params: Any) -> Any:
        """Final-style calls run their function here."""
        return f.call_wrapped(*tracers)

    process_map = process_call

    def process_custom_jvp_call(
        self, primitive: Any, fun: Any, jvp: Any, tracers: Any, **_options: Any
    ) -> Any:
        """A function with a derivative of its own computes as it is written."""
        with core.new_sublevel():
            return fun.call_wrapped(*tracers)

    def process_custom_vjp_call(
        self, primitive: Any, fun: Any, fwd: Any, bwd: Any, tracers: Any, **_options: Any
    ) -> Any:
        """A function with a derivative of its own computes as it is written."""
        with core.new_sublevel():
            return fun.call_wrapped(*tracers)


@contextlib.contextmanager
def recording(process: Callable[..., Any]) -> Iterator[Any]:
    """Let ``process`` run every primitive inside; gives the trace's place on the stack.

    A jitted function that was called once would be called past Python the next time, and be missed: that is off inside.
    """
    fast = getattr(_pjit, "_get_fastpath_data", None)
    if fast is not None:
        _pjit._get_fastpath_data = lambda *_args, **_named: None
    try:
        with core.new_main(LevelTrace, dynamic=True, process=process) as main:
            yield main
    finally:
        if fast is not None:
            _pjit._get_fastpath_data = fast


def current() -> Any:
    """The trace that a primitive without traced operands would be bound in now."""
    return core.thread_local_state.trace_state.trace_stack.dynamic


def evaluating() -> Any:
    """A context to compute in without being recorded."""
    return core.eval_context()
