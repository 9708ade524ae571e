"""One call of a Keras layer, and its description while it is being put together."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from porting_check.neutral.node import Node
from porting_check_tensorflow.flavours import major
from porting_check_tensorflow.trees import is_tensor, tensors

ACTIVATIONS = {1: ("NLC", "NCL"), 2: ("NHWC", "NCHW"), 3: ("NDHWC", "NCDHW")}
"""Channels-last and channels-first (canonical) layouts of activations, by number of spatial axes."""


class NotDescribedError(Exception):
    """Why one call of a layer cannot be put into nodes; becomes the reason of an opaque record."""


@dataclass(frozen=True)
class Link:
    """A tensor or variable that the nodes call ``name``, with its native and canonical layout."""

    name: str
    value: Any
    layout: str = ""
    canonical: str = ""


class LayerCall:
    """One call of one layer: what went in and what came out.

    Attributes:
        layer: the Keras layer.
        arguments: what ``call`` was given, by its own argument names.
        inputs: all tensors among the arguments, in order.
        outputs: all tensors that came out, in order.
        keras: 2 or 3.
    """

    def __init__(self, layer: Any, args: Sequence[Any], kwargs: Dict[str, Any], output: Any) -> None:
        self.layer = layer
        self.keras = major(layer)
        self.arguments = bind(layer, args, kwargs)
        self.inputs = tensors(list(self.arguments.values()))
        self.outputs = tensors(output)

    @property
    def x(self) -> Any:
        """The first argument, which must be one tensor.

        Raises:
            NotDescribedError: it is something else.
        """
        first = next(iter(self.arguments.values()), None)
        if not is_tensor(first):
            raise NotDescribedError(f"its input is a {type(first).__name__}, not one dense tensor")
        return first

    @property
    def many(self) -> List[Any]:
        """The first argument as a list of tensors, as merging layers take it."""
        first = next(iter(self.arguments.values()), None)
        items = list(first) if isinstance(first, (list, tuple)) else [first]
        if not all(is_tensor(item) for item in items):
            raise NotDescribedError("one of its inputs is not a dense tensor")
        return items

    @property
    def y(self) -> Any:
        """The first tensor that came out."""
        if not self.outputs:
            raise NotDescribedError("it returned no dense tensor")
        return self.outputs[0]

    @property
    def rank(self) -> int:
        """Number of axes of the first input."""
        return len(self.x.shape)

    def argument(self, name: str) -> Any:
        """An argument of ``call``, or ``None``."""
        return self.arguments.get(name)

    def mask(self, name: str = "mask", tensor: Any = None) -> Any:
        """The mask that the layer saw: the argument, or what the tensor carries.

        ``None`` when it hides nothing.
        """
        found = self.arguments.get(name)
        if found is None and self.keras < 3 and tensor is not None:
            found = getattr(tensor, "_keras_mask", None)
        if found is None or (is_tensor(found) and bool(np.all(found.numpy()))):
            return None
        return found


def bind(layer: Any, args: Sequence[Any], kwargs: Dict[str, Any]) -> Dict[str, Any]:
    """Arguments of ``layer.call`` by name, those that were given."""
    try:
        bound = _signature(type(layer).call).bind(layer, *args, **kwargs)
    except TypeError:
        return dict({str(index): value for index, value in enumerate(args)}, **kwargs)
    return dict(list(bound.arguments.items())[1:])


_signature = functools.lru_cache(maxsize=None)(inspect.signature)
"""Signatures are slow to make and asked for at every call."""


class Sketch:
    """A description in the making: ports, nodes in order, constants; inner names are given out here.

    Example:
        >>> sketch = Sketch()
        >>> x = sketch.constant("x", np.zeros(3, np.float32))
        >>> sketch.add("Relu", x)
        '_1'
        >>> str(sketch.nodes[0])
        'Relu()'
    """

    def __init__(self) -> None:
        self.inputs: List[Link] = []
        self.parameters: List[Link] = []
        self.outputs: List[Link] = []
        self.nodes: List[Node] = []
        self.constants: Dict[str, np.ndarray] = {}
        self._count = 0

    def input(self, name: str, tensor: Any, layout: str = "", canonical: str = "") -> str:
        """Declare an input port; gives the name back."""
        self.inputs.append(Link(name, tensor, layout, canonical))
        return name

    def parameter(self, role: str, variable: Any, layout: str = "", canonical: str = "") -> str:
        """Declare a parameter port; gives the role back."""
        self.parameters.append(Link(role, variable, layout, canonical))
        return role

    def constant(self, name: str, value: Any) -> str:
        """Add a constant under this name, or with a number where another constant has it."""
        array = np.asarray(value)
        number, free = 2, name
        while free in self.constants:
            if np.array_equal(self.constants[free], array) and self.constants[free].dtype == array.dtype:
                return free
            free, number = f"{name}{number}", number + 1
        self.constants[free] = array
        return free

    def integers(self, name: str, values: Any) -> str:
        """Add a constant of int64, as ONNX wants shapes, axes and pads."""
        return self.constant(name, np.asarray(values, np.int64))

    def add(self, op_type: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
        """Append a node; gives the name of its output, or a tuple of names when it has several."""
        names = []
        for _ in range(outputs):
            self._count += 1
            names.append(f"_{self._count}")
        self.nodes.append(Node(op_type, inputs, tuple(names), attributes, domain))
        return names[0] if outputs == 1 else tuple(names)

    def output(self, inner: str, tensor: Any, layout: str = "", canonical: str = "", name: str = "y") -> None:
        """Declare that an inner value (or an input) is an output, and name it."""
        if not inner.startswith("_"):
            inner = self.add("Identity", inner)
        for index, node in enumerate(self.nodes):
            if inner in node.inputs or inner in node.outputs:
                inputs = tuple(name if value == inner else value for value in node.inputs)
                outputs = tuple(name if value == inner else value for value in node.outputs)
                self.nodes[index] = replace(node, inputs=inputs, outputs=outputs)
        self.outputs.append(Link(name, tensor, layout, canonical))


def spatial(call: LayerCall, ndim: int, tensor: Any = None) -> Tuple[str, str, List[int]]:
    """Native layout, canonical layout and spatial sizes of a tensor of a layer with ``data_format``.

    Raises:
        NotDescribedError: the tensor has another rank.
    """
    tensor = call.x if tensor is None else tensor
    shape = [int(size) for size in tensor.shape]
    if len(shape) != ndim + 2:
        raise NotDescribedError(f"an input of rank {len(shape)} instead of {ndim + 2} is not described")
    last, first = ACTIVATIONS[ndim]
    if channels_first(call.layer):
        return first, first, shape[2:]
    return last, first, shape[1:-1]


def channels_first(layer: Any) -> bool:
    """Whether the layer works on channels-first data."""
    return str(getattr(layer, "data_format", "channels_last")) == "channels_first"


def numbers(value: Any, ndim: int) -> Tuple[int, ...]:
    """An integer or a sequence as one integer per axis.

    Example:
        >>> numbers(2, 3), numbers([1, 2], 2)
        ((2, 2, 2), (1, 2))
    """
    if isinstance(value, (int, np.integer)):
        return (int(value),) * ndim
    items = tuple(int(item) for item in value)
    return items if len(items) == ndim else items * ndim


def axis_in(axis: int, layout: str, canonical: str, rank: int) -> int:
    """An axis of the native array as an axis of the canonical one.

    Example:
        >>> axis_in(-1, "NHWC", "NCHW", 4)
        1
    """
    axis = axis % rank
    return canonical.index(layout[axis]) if layout else axis


def dtype_of(tensor: Any) -> np.dtype:
    """Numpy's dtype of a tensor."""
    return np.dtype(tensor.dtype.as_numpy_dtype)


def weight(layer: Any, *names: str) -> Optional[Any]:
    """The first of these attributes that is there: they changed their names over the versions."""
    return next((getattr(layer, name) for name in names if getattr(layer, name, None) is not None), None)
