"""TorchScript graphs read once into steps: nodes, the values that they read and make, and their inner blocks."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Optional, Tuple

import torch

MANGLED = re.compile(r"___torch_mangle_\d+\.")
_FIELDS = re.compile(r"(\w+) : ")
_PLACE = re.compile(r'File "([^"]*)", line (\d+)')


class Uninterpreted(Exception):  # noqa: N818 a way out, not a failure
    """A node that the interpreter does not know; the text says which one."""


class Step:
    """One node: its kind, numbers of the values that it reads and makes, and its inner blocks.

    ``known`` keeps what the interpreter has found out about the node (a constant, an operator, a function).
    """

    __slots__ = ("blocks", "inputs", "kind", "known", "node", "outputs")

    def __init__(self, node: Any) -> None:
        self.node = node
        self.kind: str = node.kind()
        self.inputs: Tuple[int, ...] = tuple(value.unique() for value in node.inputs())
        self.outputs: Tuple[int, ...] = tuple(value.unique() for value in node.outputs())
        self.blocks: Tuple[Block, ...] = tuple(Block(block) for block in node.blocks())
        self.known: Any = None

    @property
    def name(self) -> str:
        """The attribute ``name``: of a method, an attribute, a function."""
        return str(self.node.s("name"))

    @property
    def location(self) -> str:
        """File and line of the code that the node was compiled from: ``net.py:42``, ``""`` when unknown."""
        found = _PLACE.search(str(self.node.sourceRange()))
        return f"{os.path.basename(found.group(1))}:{found.group(2)}" if found else ""

    def refuse(self, why: str = "") -> Uninterpreted:
        """The exception that names this node."""
        where = f" ({self.location})" if self.location else ""
        return Uninterpreted(f"{self.kind}{where}" + (f": {why}" if why else ""))


class Block:
    """Steps in a row, with the values that come in and those that are the result."""

    __slots__ = ("owner", "parameters", "results", "steps")

    def __init__(self, block: Any) -> None:
        self.owner = block  # nodes live as long as their graph
        self.parameters: Tuple[int, ...] = tuple(value.unique() for value in block.inputs())
        self.results: Tuple[int, ...] = tuple(value.unique() for value in block.outputs())
        self.steps: List[Step] = [Step(node) for node in block.nodes()]


def called(step: Step, constant: Step) -> Tuple[Block, Tuple[int, ...]]:
    """The body of a function that a ``prim::CallFunction`` calls, and which of the call's inputs it takes.

    torch gives no way from the constant to its graph; inlined into a graph of its own, the call becomes it.
    """
    graph = torch._C.Graph()
    made: Dict[int, Any] = {}
    copy = graph.createClone(constant.node, lambda value: value)
    graph.insertNode(copy)
    made[constant.outputs[0]] = copy.output()
    taken: List[int] = []
    for value in list(step.node.inputs())[1:]:
        if value.unique() not in made:
            made[value.unique()] = graph.addInput()
            made[value.unique()].setType(value.type())
            taken.append(value.unique())
    call = graph.createClone(step.node, lambda value: made[value.unique()])
    graph.insertNode(call)
    for output in call.outputs():
        graph.registerOutput(output)
    torch._C._jit_pass_inline(graph)
    return Block(graph), tuple(taken)


def class_of(module: Any) -> str:
    """The Python class that a compiled module or object was made from: ``torch.nn.modules.conv.Conv2d``."""
    name = MANGLED.sub("", str(module._type().qualified_name()))
    return name[len("__torch__.") :] if name.startswith("__torch__.") else name


def fields_of(step: Step) -> Optional[List[str]]:
    """Field names of the named tuple that a ``prim::TupleConstruct`` makes; ``None`` for a plain tuple."""
    kind = str(step.node.output().type().str())
    return _FIELDS.findall(kind) if kind.startswith("NamedTuple(") else None


def methods_of(module: Any) -> List[Any]:
    """Graphs of all methods of a compiled module."""
    graphs = []
    for name in module._method_names():
        try:
            graphs.append(module._get_method(name).graph)
        except RuntimeError:  # a declaration without a body
            continue
    return graphs
