"""A graph that is ready to run, and its inputs by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import numpy as np
import tensorflow as tf

from porting_check.neutral.errors import InputError
from porting_check_tensorflow.graph_body import Body, Library


@dataclass(frozen=True)
class Leaf:
    """One tensor input of a graph.

    Attributes:
        name: what the adapter calls it: a position, a keyword, a key of a dict.
        also: other names that it may be given by.
        spec: shape and dtype.
        argument: name of its placeholder in the graph.
        optional: whether the graph has a value of its own for it.
    """

    name: str
    also: Tuple[str, ...]
    spec: Any
    argument: str
    optional: bool = False


@dataclass
class Program:
    """A graph that is ready to run.

    Attributes:
        library: its functions.
        body: its operations.
        leaves: its inputs in order.
        captured: tensors (mostly handles of variables) that the body takes after the inputs.
        variables: by native name.
        paths: names of the body's results.
        plain: runs the graph the ordinary way: values by leaf name to outputs by path.
        held: values of TensorFlow 1 reference variables by name; they live inside the graph only.
    """

    library: Library
    body: Body
    leaves: Tuple[Leaf, ...]
    captured: Tuple[Any, ...]
    variables: Dict[str, Any]
    paths: Tuple[str, ...]
    plain: Callable[[Mapping[str, Any]], Dict[str, Any]]
    held: Dict[str, Any] = field(default_factory=dict)
    _writes: Optional[bool] = None

    @property
    def writes(self) -> bool:
        """Whether a run writes into variables."""
        if self._writes is None:
            self._writes = self.library.writes(self.body)
        return self._writes

    def fed(self, inputs: Mapping[str, Any]) -> Dict[str, Any]:
        """Tensors by leaf name, from arrays by any of their names.

        Raises:
            InputError: a name that no input has, an input that is missing, or another shape or dtype.
        """
        given: Dict[str, Any] = {}
        for name, array in inputs.items():
            leaf = self._leaf(name)
            if leaf is None or leaf.name in given:
                raise InputError(f"the model has no input {name!r}; it has {self._described()}")
            given[leaf.name] = _tensor(leaf, np.asarray(array))
        missing = [leaf.name for leaf in self.leaves if leaf.name not in given and not leaf.optional]
        if missing:
            raise InputError(f"the model's inputs {missing} were not given; it has {self._described()}")
        return given

    def _leaf(self, name: str) -> Optional[Leaf]:
        exact = [leaf for leaf in self.leaves if leaf.name == name]
        named = exact or [leaf for leaf in self.leaves if name in leaf.also]
        needed = [leaf for leaf in self.leaves if not leaf.optional]
        if not named and name.isdigit() and int(name) < len(needed):
            return needed[int(name)]
        return named[0] if named else None

    def _described(self) -> str:
        return (
            ", ".join(f"{leaf.name!r} {leaf.spec.dtype.name}{_shape_text(leaf.spec)}" for leaf in self.leaves)
            or "none"
        )


def _shape_text(spec: Any) -> str:
    shape = spec.shape
    return (
        ""
        if shape.rank is None
        else "(" + ", ".join("any" if n is None else str(n) for n in shape.as_list()) + ")"
    )


def _tensor(leaf: Leaf, array: np.ndarray) -> Any:
    """An owned tensor of the input's dtype; floats are brought to its precision, kinds are never changed."""
    wanted = leaf.spec.dtype
    if wanted.is_floating != (array.dtype.kind in "fV") or (
        wanted.is_integer and array.dtype.kind not in "iu"
    ):
        raise InputError(f"input {leaf.name!r} has dtype {array.dtype}; the model expects {wanted.name}")
    if not leaf.spec.shape.is_compatible_with(array.shape):
        raise InputError(
            f"input {leaf.name!r} has shape {array.shape}; the model expects {_shape_text(leaf.spec)}"
        )
    return tf.constant(array.astype(wanted.as_numpy_dtype))
