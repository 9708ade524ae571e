"""Nodes as compiled programs: one compilation per kind of node instead of one per primitive."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Sequence, Tuple

import jax
import jax.numpy as jnp
import numpy as np

from porting_check.neutral.node import Node
from porting_check_jax.run_call import Call, Handler, Ragged, Result, Single, is_floating, to_tensor

Arrays = Sequence[Optional[np.ndarray]]
Program = Callable[[List[Any]], List[Any]]

LIMIT = 256
"""How many programs are kept; the least recently used goes first."""

EAGER = ("Constant",)
"""Operators that hold their result already: compiling it in would only cost."""

STEPWISE = {"xla_allow_excess_precision": False}
"""Narrow types are rounded after every operation, as they are when JAX runs one operation at a time."""

QUICK = {"xla_cpu_use_fusion_emitters": False}
"""The older code generator of XLA: it compiles in half the time and its code is no slower.

It makes NaN of a zero of the types float8_*fnuz (jaxlib 0.10), so that float8 goes without it.
"""

SMALL, UNOPTIMIZED = 1 << 16, {"xla_backend_optimization_level": 0}
"""Up to this many elements, compiling takes far longer than running ever will."""

CONCRETE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""What JAX raises while tracing a handler that looks at values."""


def uncompiled(tensors: List[Any]) -> List[Any]:
    """Stands for a program where there is none, because the handler looks at values while it runs."""
    raise NotImplementedError


class Programs:
    """Compiled programs by node, types and shapes, and by the inputs whose values decided a shape.

    XLA takes tens of milliseconds for one primitive of one shape and little more for a whole operator, so
    that compiling whole operators, once, is several times faster than running them primitive by primitive.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self._read: Dict[Any, FrozenSet[int]] = {}
        self._kept: "OrderedDict[Any, Program]" = OrderedDict()
        self._lock = threading.Lock()

    def execute(self, handler: Handler, node: Node, arrays: Arrays, float64: bool) -> List[Single]:
        """Run a handler on these inputs, compiled unless its control flow depends on values."""
        tensors = [None if array is None else to_tensor(array) for array in arrays]
        call = Call(node, tensors, arrays, float64)
        if node.op_type in EAGER:
            return _eager(handler, call)
        key = _key(node, arrays, float64)
        program = self._find(key, arrays)
        if program is None:
            program, read = _compiled(handler, call)
            self._keep(key, arrays, program, read)
        return _eager(handler, call) if program is uncompiled else program(tensors)

    def __len__(self) -> int:
        """How many programs are kept."""
        return len(self._kept)

    def clear(self) -> None:
        """Forget every program."""
        with self._lock:
            self._read.clear()
            self._kept.clear()

    def _find(self, key: Any, arrays: Arrays) -> Optional[Program]:
        """The program for these inputs, if it is kept."""
        with self._lock:
            whole = (key, _bytes(arrays, self._read.get(key, frozenset())))
            if whole in self._kept:
                self._kept.move_to_end(whole)
            return self._kept.get(whole)

    def _keep(self, key: Any, arrays: Arrays, program: Program, read: FrozenSet[int]) -> None:
        """Remember a program, and which inputs' values it holds for."""
        with self._lock:
            if len(self._read) >= 4 * self.limit:
                self._read.clear()
                self._kept.clear()
            # other values may take another branch and read more: a larger set is always safe
            self._read[key] = self._read.get(key, frozenset()) | read
            self._kept[(key, _bytes(arrays, self._read[key]))] = program
            while len(self._kept) > self.limit:
                self._kept.popitem(last=False)


def _eager(handler: Handler, call: Call) -> List[Single]:
    """Run a handler operation by operation."""
    return _listed(handler(_prepared(call, call.inputs)))


def _compiled(handler: Handler, call: Call) -> Tuple[Program, FrozenSet[int]]:
    """The program of a node, and the inputs that it took as numbers."""
    traced: List[Call] = []

    def execute(tensors: List[Any]) -> List[Single]:
        traced.append(_prepared(call, tensors))
        return _listed(handler(traced[-1]))

    try:
        lowered = jax.jit(execute).lower(call.inputs)
    except CONCRETE:
        return uncompiled, frozenset()
    return _built(lowered, call.arrays), frozenset(index for one in traced for index in one.read)


def _built(lowered: Any, arrays: Arrays) -> Program:
    """Machine code, by options that other versions of XLA may not know."""
    given = [array for array in arrays if array is not None]
    quick: Dict[str, Any] = dict(STEPWISE)
    if "f8E" not in lowered.as_text():
        quick.update(QUICK)
    if sum(array.size for array in given) <= SMALL:
        quick.update(UNOPTIMIZED)
    for options in (quick, STEPWISE):
        try:
            return lowered.compile(compiler_options=options)
        except RuntimeError as error:
            if "No such compile option" not in str(error):
                raise
    return lowered.compile()


def _prepared(call: Call, tensors: Sequence[Optional[jax.Array]]) -> Call:
    """The same call with these inputs, in float64 where that was asked for."""
    given = [_widened(tensor) if call.float64 else tensor for tensor in tensors]
    return Call(call.node, given, call.arrays, call.float64)


def _widened(tensor: Optional[jax.Array]) -> Optional[jax.Array]:
    """A floating input in float64."""
    return tensor if tensor is None or not is_floating(tensor) else tensor.astype(jnp.float64)


def _listed(result: Result) -> List[Single]:
    """A handler's result as a list."""
    several = isinstance(result, (list, tuple)) and not isinstance(result, Ragged)
    return list(result) if several else [result]


def _key(node: Node, arrays: Arrays, float64: bool) -> Any:
    """What a program depends on besides values."""
    attributes = tuple(sorted((name, _frozen(value)) for name, value in node.attributes.items()))
    kinds = tuple(None if array is None else (array.dtype.name, array.shape) for array in arrays)
    outputs = tuple(bool(name) for name in node.outputs)
    return node.domain, node.op_type, attributes, outputs, kinds, float64


def _frozen(value: Any) -> Any:
    """An attribute as something to compare: by what it is written as, so that 1, 1.0 and -0.0 differ."""
    if isinstance(value, np.ndarray):
        return value.dtype.name, value.shape, value.tobytes()
    return repr(value)


def _bytes(arrays: Arrays, indices: FrozenSet[int]) -> Tuple[bytes, ...]:
    """The values of these inputs."""
    return tuple(
        b"" if arrays[index] is None else np.asarray(arrays[index]).tobytes() for index in sorted(indices)
    )
