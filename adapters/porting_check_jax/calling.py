"""Running a model as its user does, unrecorded."""

from __future__ import annotations

import contextlib
import random
from typing import Any, Callable, Dict, Iterator, Tuple

import numpy as np

from porting_check.neutral.adapter import Inputs
from porting_check.neutral.errors import PortingError
from porting_check_jax import trees
from porting_check_jax.models import open_subject
from porting_check_jax.record import run_error

Outputs = Dict[str, np.ndarray]


def predict(model: Any, inputs: Inputs) -> Outputs:
    """Outputs by path, owned.

    Raises:
        RunError: the model raised.
    """
    subject = open_subject(model)
    with preserved():
        return _outputs(subject.session(), inputs)


def repeat(model: Any, inputs: Inputs) -> Tuple[Outputs, Outputs]:
    """Two runs in a row, of one copy where the model keeps a state.

    Raises:
        RunError: the model raised.
    """
    run = open_subject(model).session()
    with preserved():
        return _outputs(run, inputs), _outputs(run, inputs)


def _outputs(run: Callable[..., Any], inputs: Inputs) -> Outputs:
    args, kwargs = trees.arguments(inputs)
    try:
        outputs = run(args, kwargs)
    except PortingError:
        raise
    except Exception as error:
        raise run_error(error, inputs) from error
    return {path: trees.owned(value) for path, value in trees.outputs_by_path(outputs).items()}


@contextlib.contextmanager
def preserved() -> Iterator[None]:
    """Leave the random generators outside of JAX as they were."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
