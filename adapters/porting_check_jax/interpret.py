"""Running primitives one by one: calls are entered, branches taken, loops unrolled on request."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import jax.numpy as jnp
from jax import lax

from porting_check_jax import compat
from porting_check_jax.draft import Draft
from porting_check_jax.events import Describe, Event, is_library, surroundings
from porting_check_jax.gradients_tape import Tape
from porting_check_jax.operators import PASS_THROUGH, STRETCHING, TABLE
from porting_check_jax.operators.functions import library_function
from porting_check_jax.operators.python_functions import Group, python_functions

CALLS = frozenset(
    "jit pjit closed_call core_call core_closed_call custom_jvp_call custom_vjp_call custom_vjp_call_jaxpr remat "
    "remat2 checkpoint custom_lin xla_call run_state".split()
)
"""Primitives that do nothing but run a jaxpr."""

CUSTOM = frozenset(("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"))
"""Those of them that have a derivative of their own."""

LOOPS = frozenset(("scan", "while"))

UNROLL = "is a loop that runs as one; record with unroll (PORTING_CHECK_UNROLL=1) to see its steps"

Here = Callable[[], Tuple[str, Tuple[str, ...], str]]
"""The innermost layer's path, the scope names below it, and what the layer is."""


class Place(NamedTuple):
    """Where something happens: layer, scope names below it, what the layer is, line of the user's code."""

    path: str
    scope: Tuple[str, ...]
    kind: str
    location: str

    def below(self, *names: str) -> Place:
        """The same layer, further inside."""
        return self._replace(scope=self.scope + names)

    def inside(self, equation: Any) -> Place:
        """The place of an equation of a jaxpr that runs here: its own scope names and line, where it has them."""
        names = compat.scope_names(equation.source_info.name_stack)
        return self._replace(scope=self.scope + names) if names else self


class Interpreter:
    """Evaluates what JAX is asked to compute and says what happened.

    Args:
        add: takes each event.
        here: tells where Python is.
        unroll: enter ``scan`` and ``while`` too.
        tape: is told what is to be differentiated.
    """

    def __init__(
        self, add: Callable[[Event], None], here: Here, unroll: bool, tape: Optional[Tape] = None
    ) -> None:
        self._tape = tape
        self._add = add
        self._here = here
        self._unroll = unroll
        self._functions = python_functions()
        self._group: Optional[Group] = None

    def inline(self, function: Any) -> bool:
        """Whether a jitted function is somebody's own, and runs as plain Python so that its layers are seen."""
        code = getattr(inspect.unwrap(getattr(function, "func", function)), "__code__", None)
        file = getattr(code, "co_filename", "")
        return not is_library(file) or "/jax/" not in file.replace("\\", "/")

    def process(self, primitive: Any, args: Sequence[Any], params: Dict[str, Any]) -> Any:
        """Run a primitive that Python code has called."""
        path, scope, kind = self._here()
        location, frame = surroundings(self._functions)
        if self._group is not None and self._group.frame is not frame:
            self.settle()
        if frame is not None and self._group is None:
            self._group = Group(self._functions[frame.f_code], frame)
        return self._step(primitive, args, params, Place(path, scope, kind, location))

    def custom(self, args: Sequence[Any], run: Callable[[], Any], rule: compat.Rule) -> Any:
        """Run a function with a derivative of its own as it is written; the tape goes by its rule.

        An output that is an argument becomes an array of its own (of the same value): the rule may make its gradient another.
        """
        if self._tape is None:
            return run()
        outputs, copies = self._tape.whole(args, run, rule)
        path, scope, kind = self._here()
        for source, copy in copies:
            self._emit(Event("custom", "", None, [source], [copy], {}, path, scope, kind, ""))
        return outputs

    def settle(self) -> None:
        """Say what happened in a Python function that is recorded as one, now that it has ended."""
        group, self._group = self._group, None
        whole = None if group is None or not group.events else group.whole()
        for event in [whole] if whole is not None else group.events if group is not None else []:
            self._add(event)

    def _emit(self, event: Event) -> None:
        if self._group is None:
            self._add(event)
        else:
            self._group.events.append(event)

    def _step(self, primitive: Any, args: Sequence[Any], params: Dict[str, Any], place: Place) -> Any:
        name = str(primitive.name)
        function = library_function(name, params)
        if name in CALLS and function is None:
            if name in CUSTOM and self._tape is not None:
                rule = functools.partial(compat.bound, primitive, params)
                return self.custom(args, lambda: self._call(args, params, place), rule)
            return self._call(args, params, place)
        if name == "cond":
            return self._closed(params["branches"][int(args[0])], args[1:], place)
        if name in LOOPS and self._unroll:
            return self._loop(name, args, params, place)
        made = compat.evaluate(primitive, args, params)
        if self._tape is not None:
            made = self._tape.ran(primitive, args, params, made)
        outputs = list(made) if primitive.multiple_results else [made]
        describe: Optional[Describe] = _opaque_loop if name in LOOPS else TABLE.get(name)
        operator = "" if _unchanged(name, args, outputs) else f"jax.lax.{name}"
        if function is not None:
            name, describe, operator = function
        event = Event(
            name, operator, describe, list(args), outputs, params, place.path, place.scope, place.kind,
            place.location, name in STRETCHING,
        )  # fmt: skip
        self._emit(event)
        return made

    # Jaxprs.

    def _call(self, args: Sequence[Any], params: Dict[str, Any], place: Place) -> Any:
        inner = params.get("jaxpr")
        if inner is None:
            inner = params.get("call_jaxpr", params.get("fun_jaxpr"))
        return self._closed(inner, args, place)

    def _closed(self, closed: Any, args: Sequence[Any], place: Place) -> List[Any]:
        jaxpr = getattr(closed, "jaxpr", closed)
        return self._jaxpr(jaxpr, list(getattr(closed, "consts", ())), args, place)

    def _jaxpr(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Any], place: Place) -> List[Any]:
        known: Dict[Any, Any] = dict(zip(jaxpr.constvars, consts))
        known.update(zip(jaxpr.invars, args))

        def read(variable: Any) -> Any:
            return variable.val if compat.is_literal(variable) else known[variable]

        last = last_uses(jaxpr)
        for number, equation in enumerate(jaxpr.eqns):
            values = [read(variable) for variable in equation.invars]
            with compat.equation_context(equation):
                made = self._step(equation.primitive, values, equation.params, place.inside(equation))
            outputs = made if equation.primitive.multiple_results else [made]
            known.update(zip(equation.outvars, outputs))
            for variable in last.get(number, ()):
                known.pop(variable, None)
        return [read(variable) for variable in jaxpr.outvars]

    # Loops.

    def _loop(self, name: str, args: Sequence[Any], params: Dict[str, Any], place: Place) -> List[Any]:
        return self._scan(args, params, place) if name == "scan" else self._while(args, params, place)

    def _while(self, args: Sequence[Any], params: Dict[str, Any], place: Place) -> List[Any]:
        first, second = int(params["cond_nconsts"]), int(params["body_nconsts"])
        asked, fixed, state = args[:first], args[first : first + second], list(args[first + second :])
        step = 0
        while True:
            inside = place.below("while", str(step))
            if not bool(
                self._closed(params["cond_jaxpr"], list(asked) + state, inside.below("condition"))[0]
            ):
                return state
            state = self._closed(params["body_jaxpr"], list(fixed) + state, inside)
            step += 1

    def _scan(self, args: Sequence[Any], params: Dict[str, Any], place: Place) -> List[Any]:
        fixed, carried = int(params["num_consts"]), int(params["num_carry"])
        consts, state, rows = args[:fixed], list(args[fixed : fixed + carried]), args[fixed + carried :]
        length = int(params["length"])
        steps = range(length)[::-1] if params["reverse"] else range(length)
        columns: Dict[int, List[Any]] = {}
        for step in steps:
            inside = place.below("scan", str(step))
            taken = [self._bound(functools.partial(_row, row, step), inside) for row in rows]
            made = self._closed(params["jaxpr"], list(consts) + state + taken, inside)
            state, columns[step] = made[:carried], made[carried:]
        if not length:
            return state + [
                jnp.zeros((0,) + tuple(v.aval.shape), v.aval.dtype) for v in _stacked(params, carried)
            ]
        width = len(columns[0])
        in_order = [[columns[step][at] for step in range(length)] for at in range(width)]
        stacked = [
            self._bound(functools.partial(jnp.stack, column), place.below("scan")) for column in in_order
        ]
        return state + stacked

    def _bound(self, make: Callable[[], Any], place: Place) -> Any:
        """What ``make`` computes with public functions, recorded at a place."""
        with compat.recording(lambda p, a, q: self._step(p, a, q, place), lambda function: False):
            return make()


def _row(rows: Any, place: int) -> Any:
    return lax.index_in_dim(rows, place, 0, False)


def _opaque_loop(d: Draft, args: Sequence[Any], params: Any) -> None:
    d.refuse(UNROLL)


def _unchanged(name: str, args: Sequence[Any], outputs: Sequence[Any]) -> bool:
    """Whether output i is argument i: placement, barriers, a cast that only strengthens a weak dtype."""
    if name == "convert_element_type":
        return bool(compat.dtype_of(args[0]) == compat.dtype_of(outputs[0]))
    return name in PASS_THROUGH and len(args) == len(outputs)


def _stacked(params: Dict[str, Any], carried: int) -> Sequence[Any]:
    jaxpr = params["jaxpr"].jaxpr
    return list(jaxpr.outvars[carried:])


def last_uses(jaxpr: Any) -> Dict[int, List[Any]]:
    """Which variables are read for the last time by each equation, so that their values can be let go."""
    last: Dict[Any, int] = {}
    for number, equation in enumerate(jaxpr.eqns):
        for variable in equation.invars:
            if not compat.is_literal(variable):
                last[variable] = number
    for variable in jaxpr.outvars:
        if not compat.is_literal(variable):
            last.pop(variable, None)
    found: Dict[int, List[Any]] = {}
    for variable, number in last.items():
        found.setdefault(number, []).append(variable)
    return found
