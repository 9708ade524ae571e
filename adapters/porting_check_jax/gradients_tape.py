"""What ran, kept so that it can be differentiated backwards from the outputs.

The recorder sees every primitive with concrete values, so each array that is to be differentiated is one array object.
Going backwards, each primitive is differentiated alone by ``jax.vjp``, which knows the rules; a function with a rule of
its own counts as one primitive, whatever ran inside.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

import jax
import jax.numpy as jnp
import numpy as np

from porting_check.neutral.errors import PortingError, Unsupported
from porting_check_jax import compat

FLAT = frozenset("stop_gradient floor ceil round sign nextafter".split())
"""Primitives through which no gradient flows, although their results are of a floating type."""

LOOP = "; with PORTING_CHECK_UNROLL=1 its steps run one by one, which can be differentiated"


class Step(NamedTuple):
    """Something that ran: how it is run again, on what it ran, and what it made."""

    name: str
    call: Callable[..., Any]
    args: List[Any]
    outputs: List[Any]


class Tape:
    """The steps of one run.

    Attributes:
        named: the first array of each key of the recording.

    Example:
        >>> tape, x = Tape(), jnp.array([3.0])
        >>> tape.name("input:0", x)
        >>> y = tape.ran(jax.lax.neg_p, [x], {}, -x)
        >>> tape.backward([(y, jnp.ones(1))])["input:0"]
        Array([-1.], dtype=float32)
    """

    def __init__(self) -> None:
        self.named: Dict[str, Any] = {}
        self._steps: List[Step] = []
        self._active: Dict[int, Any] = {}

    def name(self, key: str, array: Any) -> None:
        """Note that an array is the value ``key``; inputs and parameters are differentiated from now on."""
        if self.named.setdefault(key, array) is array and key.startswith(("input:", "parameter:")):
            self._activate(array)

    def ran(self, primitive: Any, args: Sequence[Any], params: Dict[str, Any], made: Any) -> Any:
        """Note a primitive; what it made, with new arrays for those that it only handed on."""
        outputs = list(made) if primitive.multiple_results else [made]
        if str(primitive.name) in FLAT:
            _separate(args, outputs)
        else:
            call = functools.partial(compat.bound, primitive, params)
            outputs, _ = self._note(str(primitive.name), call, args, outputs)
        return outputs if primitive.multiple_results else outputs[0]

    def whole(
        self, args: Sequence[Any], run: Callable[[], Sequence[Any]], rule: compat.Rule
    ) -> Tuple[List[Any], List[Tuple[Any, Any]]]:
        """Run a function with a derivative of its own; what runs inside counts as one step.

        Returns:
            What the function returned, and ``(argument, copy)`` for each argument that it handed on.
        """
        before = len(self._steps)
        outputs = list(run())
        del self._steps[before:]
        return self._note("a function with a derivative of its own", rule, args, outputs)

    def _note(
        self, name: str, call: Callable[..., Any], args: Sequence[Any], outputs: List[Any]
    ) -> Tuple[List[Any], List[Tuple[Any, Any]]]:
        if not any(map(self._is_active, args)):
            return outputs, []
        copies = _separate(args, outputs)
        for array in outputs:
            self._activate(array)
        self._steps.append(Step(name, call, list(args), outputs))
        return outputs, copies

    def _activate(self, array: Any) -> None:
        if is_inexact(array):
            self._active[id(array)] = array

    def _is_active(self, array: Any) -> bool:
        return self._active.get(id(array)) is array and array is not None

    def backward(self, seeds: Sequence[Tuple[Any, Any]]) -> Dict[str, Any]:
        """Gradients by key, from ``(output, cotangent)``; without the keys that none flows to.

        Raises:
            Unsupported: JAX cannot differentiate a step.
        """
        flowing: Dict[int, Any] = {}
        for array, cotangent in seeds:
            _accumulate(flowing, array, cotangent)
        for step in reversed(self._steps):
            wanted = [place for place, array in enumerate(step.outputs) if id(array) in flowing]
            if wanted:
                self._pull(step, wanted, flowing)
        return {key: flowing[id(array)] for key, array in self.named.items() if id(array) in flowing}

    def _pull(self, step: Step, wanted: List[int], flowing: Dict[int, Any]) -> None:
        places = [place for place, array in enumerate(step.args) if self._is_active(array)]

        def function(*chosen: Any) -> List[Any]:
            args = list(step.args)
            for place, value in zip(places, chosen):
                args[place] = value
            made = step.call(*args)
            outputs = list(made) if isinstance(made, (list, tuple)) else [made]
            return [outputs[place] for place in wanted]

        given = [flowing[id(step.outputs[place])] for place in wanted]
        try:
            found = jax.vjp(function, *[step.args[place] for place in places])[1](given)
        except PortingError:
            raise
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
            raise Unsupported(
                f"JAX cannot differentiate {step.name}: {first}{LOOP if step.name == 'while' else ''}"
            ) from error
        for place, gradient in zip(places, found):
            _accumulate(flowing, step.args[place], gradient)


def _separate(args: Sequence[Any], outputs: List[Any]) -> List[Tuple[Any, Any]]:
    """Put copies in the place of outputs that are arguments: ``(argument, copy)`` for each."""
    copies: List[Tuple[Any, Any]] = []
    for place, array in enumerate(outputs):
        if is_inexact(array) and any(array is argument for argument in args):
            with compat.evaluating():
                outputs[place] = jnp.array(array, copy=True)
            copies.append((array, outputs[place]))
    return copies


def is_inexact(value: Any) -> bool:
    """Whether a value is an array of JAX that can be differentiated: floating or complex."""
    dtype = getattr(value, "dtype", None)
    return isinstance(value, jax.Array) and dtype is not None and bool(jnp.issubdtype(dtype, jnp.inexact))


def _accumulate(flowing: Dict[int, Any], array: Any, gradient: Any) -> None:
    if np.dtype(gradient.dtype) == jax.dtypes.float0:
        return
    known = flowing.get(id(array))
    flowing[id(array)] = gradient if known is None else known + gradient
