"""Loops of TensorFlow 1: their operators make no sense one by one, so each loop becomes one operation.

A loop's operations are those inside a frame, from ``Enter`` to ``Exit`` (Yu et al., Dynamic Control Flow in
Large-Scale Machine Learning, 2018). They run whole, as a function made of just them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, List, Sequence, Set, Tuple

import tensorflow as tf

from porting_check_tensorflow.graph_parts import Operation, Ref

ENTRIES = ("Enter", "RefEnter")
EXITS = ("Exit", "RefExit")


@dataclass
class Loop(Operation):
    """A whole loop as one operation: it reads what enters and makes what leaves.

    Attributes:
        inner: the operations of the loop.
        made: which of their outputs are the outputs of the whole.
    """

    inner: List[Operation] = field(default_factory=list)
    made: Tuple[Ref, ...] = ()

    def run(self, tensors: Sequence[Any], functions: Iterable[Any]) -> List[Any]:
        """Run the loop on the values of its inputs.

        Args:
            tensors: one for each input.
            functions: FunctionDefs that its operations may call.
        """
        graph_def = tf.compat.v1.GraphDef()
        graph_def.library.function.extend(functions)
        outside = {ref: f"outside/{number}" for number, ref in enumerate(self.inputs)}
        for ref, tensor in zip(self.inputs, tensors):
            node = graph_def.node.add(name=outside[ref], op="Placeholder")
            node.attr["dtype"].type = tensor.dtype.as_datatype_enum
        names = {operation.name for operation in self.inner}
        for operation in self.inner:
            node = graph_def.node.add()
            node.CopyFrom(operation.node)
            if "_class" in node.attr:  # where to be placed: beside operations that are not here
                del node.attr["_class"]
            del node.input[:]
            node.input.extend(outside.get(ref) or f"{ref.name}:{ref.index}" for ref in operation.inputs)
            node.input.extend(f"^{name}" for name in operation.controls if name in names)
        wanted = [f"{ref.name}:{ref.index}" for ref in self.made]

        def whole(*arguments: Any) -> Any:
            given = dict(zip(outside.values(), arguments))
            return tf.import_graph_def(graph_def, input_map=given, return_elements=wanted, name="")

        signature = [tf.TensorSpec(None, tensor.dtype) for tensor in tensors]
        return list(tf.compat.v1.wrap_function(whole, signature)(*tensors))


def contracted(
    operations: Sequence[Operation], results: Sequence[Ref]
) -> Tuple[List[Operation], Tuple[Ref, ...]]:
    """The operations with each loop in the place of its parts, and the results in its terms.

    Args:
        operations: in an order in which they can run, but for the back edges of loops.
        results: what is wanted of them.
    """
    depths = _depths(operations)
    if not depths:
        return list(operations), tuple(results)
    if any(map(_of_array, operations)):
        bridges = _bridges(_groups(depths, operations), operations)
        depths.update((name, (1, 1)) for name in bridges if name not in depths)
    loops = [_loop(group, depths, operations, results) for group in _groups(depths, operations)]
    renamed = {ref: Ref(loop.name, index) for loop in loops for index, ref in enumerate(loop.made)}
    owner = {operation.name: loop.name for loop in loops for operation in loop.inner}
    kept = [operation for operation in operations if operation.name not in owner] + loops
    entering = [operation for loop in loops for operation in loop.inner if operation.op_type in ENTRIES]
    for operation in kept + entering:
        own = owner.get(operation.name)
        operation.inputs = tuple(
            ref if owner.get(ref.name) == own else renamed.get(ref, ref) for ref in operation.inputs
        )
    for operation in kept:
        before = (owner.get(name, name) for name in operation.controls)
        operation.controls = tuple(name for name in dict.fromkeys(before) if name != operation.name)
    return kept, tuple(renamed.get(ref, ref) for ref in results)


def _depths(operations: Sequence[Operation]) -> Dict[str, Tuple[int, int]]:
    """In how many frames each operation runs, and in how many its outputs are; only those inside a frame."""
    left: Dict[str, int] = {}
    found = {}
    for operation in operations:
        depth = max((left.get(name, 0) for name in operation.before), default=0)
        if operation.op_type in ENTRIES:
            depth += 1
        left[operation.name] = depth - 1 if operation.op_type in EXITS else depth
        if depth:
            found[operation.name] = (depth, left[operation.name])
        elif _of_array(operation):  # its array lives for one run only
            found[operation.name] = (1, 1)
    return found


def _of_array(operation: Operation) -> bool:
    """Whether an operation makes, fills or reads a TensorArray."""
    return operation.op_type.startswith("TensorArray")


def _bridges(groups: Sequence[Sequence[Operation]], operations: Sequence[Operation]) -> List[str]:
    """What lies between the parts of a loop with TensorArrays (the range of indices that are read), by name.

    The loop cannot run in one piece without that.
    """
    made = {operation.name: operation for operation in operations}
    readers: Dict[str, List[str]] = {}
    for operation in operations:
        for name in operation.before:
            readers.setdefault(name, []).append(operation.name)
    found: Dict[str, None] = {}
    for group in groups:
        names = [operation.name for operation in group]
        if any(_of_array(operation) for operation in group):
            after = _reached(names, lambda name: readers.get(name, []))
            before = _reached(names, lambda name: made[name].before if name in made else ())
            found.update(dict.fromkeys(name for name in made if name in after and name in before))
    return list(found)


def _reached(names: Sequence[str], following: Callable[[str], Iterable[str]]) -> Set[str]:
    """What is reached from these operations, themselves not included."""
    seen, waiting = set(names), list(names)
    while waiting:
        for name in following(waiting.pop()):
            if name not in seen:
                seen.add(name)
                waiting.append(name)
    return seen.difference(names)


def _groups(depths: Dict[str, Tuple[int, int]], operations: Sequence[Operation]) -> List[List[Operation]]:
    """Operations that are connected within frames: one group per outermost loop.

    What leaves all frames does not connect: one loop may read what another one made.
    """
    root = {name: name for name in depths}

    def find(name: str) -> str:
        while root[name] != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    inside = [operation for operation in operations if operation.name in depths]
    for operation in inside:
        for name in operation.before:
            if name in depths and (depths[name][1] or _of_array(operation)):
                root[find(name)] = find(operation.name)
    groups: Dict[str, List[Operation]] = {}
    for operation in inside:
        groups.setdefault(find(operation.name), []).append(operation)
    return list(groups.values())


def _loop(
    group: List[Operation],
    depths: Dict[str, Tuple[int, int]],
    operations: Sequence[Operation],
    results: Sequence[Ref],
) -> Loop:
    """One group as one operation."""
    names = {operation.name for operation in group}
    read = [ref for operation in group for ref in operation.inputs if ref.name not in names]
    outside = [ref for operation in operations if operation.name not in names for ref in operation.inputs]
    made = [ref for ref in dict.fromkeys(outside + list(results)) if ref.name in names]
    controls = [name for operation in group for name in operation.controls if name not in names]
    leaving = next((operation.name for operation in group if not depths[operation.name][1]), group[0].name)
    name = leaving.rsplit("/", 1)[0] if "/" in leaving else leaving
    node = tf.compat.v1.NodeDef(name=name, op="Loop")
    inputs = tuple(dict.fromkeys(read))
    return Loop(name, "Loop", inputs, tuple(dict.fromkeys(controls)), node, len(made), group, tuple(made))
