"""What TorchScript's own operators mean in Python: numbers, lists, dicts, strings, properties of tensors.

Everything that computes with tensors is called by its own name in ``torch.ops``; only what has no Python
function, or what changes a list or a dict (which would be a copy over there), is written out here.
"""

from __future__ import annotations

import operator
import re
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch

from porting_check_torch.script_graph import Step

_GENERIC = re.compile(r"\bt(?:Val|1|2)?\b")

DTYPES = {
    number: getattr(torch, name)
    for number, name in enumerate(
        "uint8 int8 int16 int32 int64 float16 float32 float64 complex32 complex64 complex128 bool qint8 "
        "quint8 qint32 bfloat16".split()
    )
    if hasattr(torch, name)
}
"""c10::ScalarType by number: TorchScript handles dtypes as integers."""

LAYOUTS = {0: torch.strided, 1: torch.sparse_coo}
MEMORY = {0: torch.contiguous_format, 1: torch.preserve_format, 2: torch.channels_last}
NUMBERS = {value: number for table in (DTYPES, LAYOUTS) for number, value in table.items()}


def _sliced(items: Any, start: Any = None, end: Any = None, step: int = 1) -> Any:
    return items[slice(start, end, step)]


def _put(items: Any, key: Any, value: Any) -> Any:
    items[key] = value
    return items


def _removed(items: Any, key: Any) -> None:
    del items[key]


def _called(method: str) -> Callable[..., Any]:
    """A method of a list, a dict or a string."""
    return lambda items, *arguments: getattr(items, method)(*arguments)


def _extended(items: List[Any], *more: Any) -> List[Any]:
    items.append(*more)
    return items


PLAIN: Dict[str, Callable[..., Any]] = {
    **{f"aten::{name}": getattr(operator, name) for name in "eq ne lt le gt ge mul neg add sub".split()},
    "aten::add_": operator.iadd,
    "aten::floordiv": operator.floordiv,
    "aten::remainder": operator.mod,
    "aten::__not__": operator.not_,
    "aten::__and__": operator.and_,
    "aten::__or__": operator.or_,
    "aten::__xor__": operator.xor,
    "aten::Int": int,
    "aten::Float": float,
    "aten::Bool": bool,
    "aten::str": str,
    "aten::len": len,
    "aten::format": lambda text, *values: text.format(*values),
    "aten::__getitem__": lambda items, key: items[key],
    "aten::__contains__": lambda items, key: key in items,
    "aten::_set_item": _put,
    "aten::append": _extended,
    "aten::Delete": _removed,
    "aten::slice": _sliced,
    "aten::list": list,
    "aten::dict": dict,
    "aten::keys": lambda items: list(items.keys()),
    "aten::values": lambda items: list(items.values()),
    "aten::items": lambda items: list(items.items()),
    **{f"aten::{name}": _called(name) for name in "insert extend pop clear remove reverse copy get".split()},
    **{f"aten::{name}": _called(name) for name in "update setdefault popitem index count sort".split()},
    "aten::sorted": lambda items: sorted(items),
    "aten::__range_length": lambda low, high, step: len(range(low, high, step)),
    "aten::__derive_index": lambda index, start, step: start + index * step,
    "prim::min": min,
    "prim::max": max,
    "prim::abs": abs,
}
"""Operators whose first argument is no tensor itself (lists of tensors are welcome)."""

ANY: Dict[str, Callable[..., Any]] = {
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
    "aten::Int": lambda tensor: int(tensor.item()),
    "aten::IntImplicit": lambda tensor: int(tensor.item()),
    "aten::Float": lambda tensor: float(tensor.item()),
    "aten::FloatImplicit": lambda tensor: float(tensor.item()),
    "aten::ScalarImplicit": lambda tensor: tensor.item(),
    "aten::Bool": lambda tensor: bool(tensor.item()),
    "aten::warn": lambda *_: None,
    "aten::wait": lambda value: value,
    "prim::Print": lambda *_: None,
    "prim::Uninitialized": lambda: None,
    "prim::unchecked_cast": lambda value: value,
    "prim::unchecked_unwrap_optional": lambda value: value,
    "prim::TupleIndex": lambda items, place: items[place],
    "prim::ListConstruct": lambda *items: list(items),
    "prim::data": lambda tensor: tensor.data,
    "prim::device": lambda tensor: tensor.device,
    "prim::dtype": lambda tensor: NUMBERS.get(tensor.dtype, tensor.dtype),
    "prim::layout": lambda tensor: NUMBERS.get(tensor.layout, tensor.layout),
    "prim::requires_grad": lambda tensor: tensor.requires_grad,
    "prim::NumToTensor": lambda number: torch.scalar_tensor(number, dtype=_dtype_of(number)),
    **{
        f"prim::is_{name}": (lambda key: lambda tensor: getattr(tensor, key))(f"is_{name}")
        for name in "cuda cpu sparse quantized mkldnn nested meta xpu".split()
    },
}
"""Operators of one meaning, whatever their arguments are."""

UNPACKED = ("prim::TupleUnpack", "prim::ListUnpack")


def _dtype_of(number: Any) -> Any:
    if isinstance(number, bool):
        return torch.bool
    return torch.int64 if isinstance(number, int) else torch.float64


def tensor_from(data: Any, dtype: Optional[int] = None, device: Any = None, *_: Any) -> torch.Tensor:
    """``torch.tensor`` and ``torch.as_tensor`` of a number, a list or a tensor."""
    if isinstance(data, torch.Tensor):
        return data.to(
            device=device, dtype=DTYPES.get(dtype, data.dtype) if dtype is not None else data.dtype
        )
    return torch.tensor(data, dtype=None if dtype is None else DTYPES[dtype], device=device)


def plain_operator(step: Step, arguments: List[Any]) -> Optional[Callable[..., Any]]:
    """The Python meaning of a node for these arguments, or ``None``."""
    if step.kind in ("aten::tensor", "aten::as_tensor"):
        return tensor_from
    direct = bool(arguments) and isinstance(arguments[0], torch.Tensor)
    if step.kind in PLAIN and not direct:
        return PLAIN[step.kind]
    return ANY.get(step.kind)


class Native:
    """An operator of torch's own, with arguments turned into what its Python function takes.

    Args:
        step: a node with a schema.

    Raises:
        Uninterpreted: the operator has no Python function.
    """

    def __init__(self, step: Step) -> None:
        try:
            schema = torch._C.parse_schema(step.node.schema())
            namespace, _, name = step.kind.partition("::")
            packet = getattr(getattr(torch.ops, namespace), name)
        except (RuntimeError, AttributeError) as error:
            raise step.refuse("it has no Python function") from error
        self.function = getattr(packet, schema.overload_name or "default", packet)
        self._names = [argument.name for argument in schema.arguments]
        self._keyword = [bool(a.kwarg_only) or a.name == "alpha" for a in schema.arguments]
        self._tables = [_table(argument) for argument in schema.arguments]
        kinds = [str(argument.type) for argument in list(schema.arguments) + list(schema.returns)]
        self.scalar = not any("Tensor" in kind for kind in kinds)
        if any(_GENERIC.search(kind) for kind in kinds):
            raise step.refuse("it works on lists of any type, and has no Python function")

    def __call__(self, arguments: List[Any]) -> Any:
        """Call the operator with the node's inputs, which are all of its arguments in order."""
        given: List[Any] = []
        named: Dict[str, Any] = {}
        for place, value in enumerate(arguments):
            table = self._tables[place] if place < len(self._tables) else None
            if table is not None and isinstance(value, int) and not isinstance(value, bool):
                value = table.get(value, value)
            if place < len(self._keyword) and self._keyword[place]:
                named[self._names[place]] = value
            else:
                given.append(value)
        return self.function(*given, **named)


def _table(argument: Any) -> Optional[Dict[int, Any]]:
    """What integers stand for in an argument: dtypes, layouts, memory formats."""
    kind = str(getattr(argument, "real_type", argument.type))
    for word, table in (("ScalarType", DTYPES), ("Layout", LAYOUTS), ("MemoryFormat", MEMORY)):
        if word in kind:
            return table
    return DTYPES if argument.name == "dtype" and "int" in kind else None


def converted(value: Any, kind: str) -> Any:
    """An argument of a call from Python as the schema's type: numbers come as arrays without axes.

    Example:
        >>> converted(torch.tensor(16000), "int"), converted(3, "float")
        (16000, 3.0)
    """
    if isinstance(value, torch.Tensor) and kind in ("int", "float", "bool", "Scalar") and value.numel() == 1:
        value = value.item()
    if kind in ("int", "float", "bool") and isinstance(value, (int, float)):
        return {"int": int, "float": float, "bool": bool}[kind](value)
    if isinstance(value, list):
        return list(value)
    return dict(value) if isinstance(value, dict) else value


def bound(schema: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any], skip: int) -> List[Any]:
    """All arguments of a call in the schema's order, defaults filled in.

    Args:
        schema: of the method or function.
        args: positional ones, from Python.
        kwargs: keywords, from Python.
        skip: leading arguments that the caller does not give (``self``).

    Raises:
        TypeError: one is missing, or too many were given.
    """
    wanted = list(schema.arguments)[skip:]
    names = {argument.name for argument in wanted}
    strange = [name for name in kwargs if name not in names]
    if len(args) > len(wanted) or strange:
        raise TypeError(f"{schema.name}() takes {sorted(names)}, got {len(args)} positional and {strange}")
    values = []
    for place, argument in enumerate(wanted):
        if place < len(args):
            value = args[place]
        elif argument.name in kwargs:
            value = kwargs[argument.name]
        elif argument.has_default_value():
            value = argument.default_value
        else:
            raise TypeError(f"{schema.name}() is missing the argument {argument.name!r}")
        values.append(converted(value, str(argument.type)))
    return values


def python_arguments(
    model: Any, args: Sequence[Any], kwargs: Dict[str, Any]
) -> Tuple[List[Any], Dict[str, Any]]:
    """Arguments of a compiled model as its signature wants them: a number where an array without axes was given.

    Example:
        >>> net = torch.jit.script(torch.nn.ReLU())
        >>> python_arguments(net, [torch.ones(2)], {})[0]
        [tensor([1., 1.])]
    """
    wanted = [a for a in schema_of(model).arguments if a.name != "self"]
    kinds = {argument.name: str(argument.type) for argument in wanted}
    given = [converted(v, str(a.type)) for v, a in zip(args, wanted)] + list(args[len(wanted) :])
    return given, {name: converted(value, kinds.get(name, "")) for name, value in kwargs.items()}


def schema_of(model: Any) -> Any:
    """The signature of a compiled module's forward, or of a compiled function."""
    return model.schema if hasattr(model, "schema") else model.forward.schema
