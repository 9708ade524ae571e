"""Plain Python functions of JAX and flax that are recorded as one: known by the Python frame they run in.

``jax.nn.gelu``, ``jax.nn.softmax`` and flax' ``avg_pool`` are no jit calls, so that JAX itself does not show them.
While they run, their frame is on Python's stack; nothing is patched.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import jax
from jax import lax

from porting_check_jax import compat
from porting_check_jax.draft import Draft, Ref
from porting_check_jax.operators.elementwise import operands
from porting_check_jax.operators.pooling import pooled
from porting_check_jax.operators.table import Describer, real


@dataclass(frozen=True)
class PythonFunction:
    """A function that is recorded as one.

    ``array``: the name of the argument that is the input. ``options``: turns the arguments into what the describer
    gets as parameters, ``None`` for a form of call that is not described. ``elementwise``: axes do not matter.
    """

    name: str
    operator: str
    array: str
    options: Callable[[Mapping[str, Any], bool], Optional[Dict[str, Any]]]
    describe: Describer
    elementwise: bool = False


class Group:
    """What happens inside one call of such a function."""

    def __init__(self, function: PythonFunction, frame: Any) -> None:
        self.function = function
        self.frame = frame
        self.events: List[Any] = []
        given = dict(frame.f_locals)
        self._array, axis = compat.unmapped(given.get(function.array), None)
        mapped = 0 if axis is None else 1
        while function.elementwise and compat.is_tracer(self._array) and mapped < 8:
            self._array, axis, mapped = compat.unmapped(self._array, None)[0], 0, mapped + 1
        known = isinstance(self._array, jax.Array) and not compat.is_tracer(self._array) and axis in (0, None)
        self.options = function.options(given, bool(mapped)) if known else None

    def whole(self) -> Any:
        """The call as one event; ``None`` when it must be recorded operator by operator."""
        last = self.events[-1]
        function = self.function
        if self.options is None or len(last.outputs) != 1:
            return None
        if function.elementwise and last.outputs[0].shape != self._array.shape:
            return None
        return last._replace(
            name=function.name,
            operator=function.operator,
            describe=function.describe,
            args=[self._array],
            params=self.options,
            stretches=False,
        )


def python_functions() -> Dict[Any, PythonFunction]:
    """The functions by their code."""
    found = {_code(jax.nn.gelu): GELU, _code(jax.nn.softmax): SOFTMAX}
    linen = sys.modules.get("flax.linen")
    if linen is not None:
        found[_code(linen.avg_pool)] = AVERAGE
    return found


def _code(function: Any) -> Any:
    return inspect.unwrap(function).__code__


def _gelu_options(given: Mapping[str, Any], mapped: bool) -> Optional[Dict[str, Any]]:
    return {"approximate": "tanh" if given.get("approximate", True) else "none"}


def _gelu(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    _floating(d, args[0])
    d.give(d.node("Gelu", *operands(d, args), approximate=params["approximate"]))


def _softmax_options(given: Mapping[str, Any], mapped: bool) -> Optional[Dict[str, Any]]:
    axis = given.get("axis", -1)
    if not isinstance(axis, int) or given.get("where") is not None:
        return None
    return {"axis": axis + 1 if mapped and axis >= 0 else axis}


def _softmax(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    _floating(d, args[0])
    axis = params["axis"] % args[0].ndim
    d.give(d.node("Softmax", d.port(args[0]), axis=-1 if axis == args[0].ndim - 1 else axis))


def _average_options(given: Mapping[str, Any], mapped: bool) -> Optional[Dict[str, Any]]:
    names = ("window_shape", "strides", "padding", "count_include_pad")
    return None if mapped else {name: given.get(name) for name in names}


def _average(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    ref = args[0]
    _floating(d, ref)
    window = tuple(int(n) for n in params["window_shape"])
    batch = ref.ndim - len(window) - 1
    if batch < 0:
        d.refuse("of fewer axes than the window has is not described")
    sizes = (1,) * batch + window + (1,)
    strides = (1,) * batch + tuple(int(n) for n in params["strides"] or (1,) * len(window)) + (1,)
    padding = params["padding"]
    if isinstance(padding, str):
        pads = [
            (int(low), int(high)) for low, high in lax.padtype_to_pads(ref.shape, sizes, strides, padding)
        ]
    else:
        pads = [(0, 0)] * batch + [(int(low), int(high)) for low, high in padding] + [(0, 0)]
    kind = "mean" if params["count_include_pad"] else "mean of present"
    pooled(d, ref, kind, sizes, strides, (1,) * ref.ndim, pads)


def _floating(d: Draft, ref: Ref) -> None:
    real(d, ref)
    if not ref.floating or ref.dtype != d.out.dtype:
        d.refuse("of integers is not described")


GELU = PythonFunction("gelu", "jax.nn.gelu", "x", _gelu_options, _gelu, True)
SOFTMAX = PythonFunction("softmax", "jax.nn.softmax", "x", _softmax_options, _softmax)
AVERAGE = PythonFunction("avg_pool", "flax.linen.avg_pool", "inputs", _average_options, _average)
