"""The whole model in float64: its arrays cast, 64-bit types switched on inside the call only."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, Iterator, List, Tuple

import jax
import jax.numpy as jnp
import numpy as np

from porting_check.neutral.adapter import Inputs
from porting_check.neutral.errors import PortingError, Unsupported
from porting_check_jax import compat, modules, trees
from porting_check_jax.calling import preserved
from porting_check_jax.keras_models import KerasSubject
from porting_check_jax.models import LinenSubject, NnxSubject, Subject, open_subject
from porting_check_jax.precision import x64
from porting_check_jax.record import run_error

KERAS = (
    "Keras on the JAX backend casts its inputs by the dtype policy that its layers were made with; "
    "run it with KERAS_BACKEND=tensorflow to have it in float64"
)

CLOSED = (
    "the model closes over float32 arrays, which jax.lax does not mix with float64: give (function, params)"
)


def float64_outputs(model: Any, inputs: Inputs) -> Tuple[Dict[str, np.ndarray], List[str]]:
    """Outputs of one run in float64 by path, and what computed in less all the same.

    Raises:
        Unsupported: a model whose arrays cannot be cast.
        RunError: the model raised in float64.
    """
    with x64(), preserved(), wide_subject(open_subject(model)) as subject:
        run = subject.session()
        args, kwargs = trees.arguments({name: wide_array(array) for name, array in inputs.items()})
        try:
            outputs = run(args, kwargs)
        except PortingError:
            raise
        except TypeError as error:
            if "same dtypes" not in str(error):
                raise run_error(error, inputs, " in float64") from error
            raise Unsupported(f"{CLOSED} ({str(error).splitlines()[0]})") from error
        except Exception as error:
            raise run_error(error, inputs, " in float64") from error
        found = {
            path: wide_array(trees.owned(value)) for path, value in trees.outputs_by_path(outputs).items()
        }
        return found, _islands(run, args, kwargs)


def wide_array(array: Any) -> np.ndarray:
    """An array of real numbers in float64, anything else as it is."""
    array = np.asarray(array)
    return array.astype(np.float64) if array.dtype.kind in "fV" else array


def wide(leaf: Any) -> Any:
    """An array of JAX or numpy in double precision with the same values; integers and random keys as they are."""
    if compat.is_key(leaf):
        return leaf
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.asarray(leaf, dtype=jnp.float64)
    return jnp.asarray(leaf, dtype=jnp.complex128) if leaf.dtype == np.complex64 else leaf


@contextlib.contextmanager
def wide_subject(subject: Subject) -> Iterator[Subject]:
    """The same model with float64 arrays; modules that a function refers to are put back afterwards.

    Raises:
        Unsupported: Keras models, and modules whose arrays cannot be exchanged.
    """
    if isinstance(subject, KerasSubject):
        raise Unsupported(KERAS)
    if isinstance(subject, LinenSubject):
        yield LinenSubject(subject.module, trees.exchange(subject.tree, wide), subject._options)
    elif isinstance(subject, NnxSubject):
        copy = NnxSubject(modules.library("flax.nnx").clone(subject.function))
        with _exchanged(copy):
            yield copy
    elif subject._given:
        yield Subject(subject.function, trees.exchange(subject.tree, wide), True)
    elif modules.is_equinox(subject.function):
        yield Subject(trees.exchange(subject.function, wide))
    else:
        with _exchanged(subject):
            yield subject


@contextlib.contextmanager
def _exchanged(subject: Subject) -> Iterator[None]:
    """Float64 in the place of every array that the modules of a subject hold."""
    slots = subject.slots()
    done: List[str] = []
    try:
        for name, slot in slots.items():
            slot.put(wide(slot.array))
            done.append(name)
        yield
    except TypeError as error:
        if len(done) == len(slots):
            raise
        raise Unsupported(f"{name!r} of the model cannot be cast to float64: {error}") from error
    finally:
        for name in done:
            slots[name].put(slots[name].array)


def _islands(run: Callable[..., Any], args: List[Any], kwargs: Dict[str, Any]) -> List[str]:
    """What makes a narrower float of float64 in the program that JAX traces the model to (``dtype=float32`` in a layer).

    A model that cannot be traced (it looks at values) is not looked into.
    """
    try:
        closed = jax.make_jaxpr(lambda given, named: trees.arrays(run(given, named)))(args, kwargs)
    except Exception:
        return []
    found: Dict[str, None] = {}
    for equation in _equations(closed.jaxpr):
        kinds = [getattr(value.aval, "dtype", None) for value in equation.invars]
        made = {getattr(value.aval, "dtype", None) for value in equation.outvars}
        narrow = sorted(str(kind) for kind in made if kind in NARROW)
        if narrow and np.dtype(np.float64) in kinds:
            place = "/".join(compat.scope_names(equation.source_info.name_stack))
            where = f" in {place}" if place else ""
            found[f"{equation.primitive.name}{where} gives {narrow[0]} also when it is given float64"] = None
    return list(found)


NARROW = (np.dtype(np.float32), np.dtype(np.float16), jnp.dtype(jnp.bfloat16))


def _equations(jaxpr: Any) -> Iterator[Any]:
    """The equations of a program that are no calls, those inside of calls and loops too."""
    for equation in jaxpr.eqns:
        inner = [
            getattr(part, "jaxpr", part)
            for value in equation.params.values()
            for part in (value if isinstance(value, (list, tuple)) else [value])
            if hasattr(part, "eqns") or hasattr(getattr(part, "jaxpr", None), "eqns")
        ]
        if not inner:
            yield equation
        for part in inner:
            yield from _equations(part)
