"""Names of records: the exporter's own marks where there are any, else the node's name.

torch's exporters say which module a node came from (the newer one in ``metadata_props``, the older one in the
node's name), tf2onnx keeps TensorFlow's scopes. The node that does a module's work is called like the module, the
others ``module/operator``.
"""

from __future__ import annotations

import ast
import collections
import os
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from porting_check.neutral.graph import MOVEMENT
from porting_check_onnxruntime.compat import metadata_of

SCOPES, CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"
STACK, RULE = "pkg.torch.onnx.stack_trace", "pkg.onnxscript.rewriter.rule_name"
CALLS = re.compile(r"^(Stateful)?PartitionedCall(_\d+)?$")


@dataclass(frozen=True)
class Place:
    """Where a node comes from: a module's path, what happens there, and whether the module is a library's own."""

    path: str
    action: str
    library: Optional[bool] = None


def record_names(
    nodes: Sequence[Any], weights: Sequence[str], marks: Mapping[str, Any], tensorflow: bool
) -> List[str]:
    """The name of the record of each node.

    Args:
        nodes: in execution order.
        weights: name of the first weight that each node reads, ``""`` for none.
        marks: nodes of the model as it was exported, by name, for graphs that lost the exporter's marks.
        tensorflow: whether tf2onnx made the model.
    """
    places = [_torch_place(_marked(node, marks), weight) for node, weight in zip(nodes, weights)]
    if not any(places):
        scripted = sum(node.name.startswith("/") for node in nodes)
        if scripted:
            places = _called_again([_script_place(node.name) for node in nodes], weights)
        elif tensorflow:
            places = _tensorflow_places(nodes)
    named = _named(nodes, weights, places)
    return [
        name or node.name or f"{node.op_type}_{index}" for index, (name, node) in enumerate(zip(named, nodes))
    ]


def location(node: Any, marks: Mapping[str, Any]) -> str:
    """File and line of the user's code where the exporter noted them, else the node's own name."""
    stack = _metadata(_marked(node, marks)).get(STACK, "")
    lines = re.findall(r'File "([^"]+)", line (\d+)', stack)
    own = [(file, line) for file, line in lines if f"{os.sep}torch{os.sep}" not in file]
    if own:
        return f"{os.path.basename(own[-1][0])}:{own[-1][1]}"
    return f"node {node.name}" if node.name else ""


def _marked(node: Any, marks: Mapping[str, Any]) -> Any:
    return node if metadata_of(node) or node.name not in marks else marks[node.name]


def _metadata(node: Any) -> Dict[str, str]:
    return {entry.key: entry.value for entry in metadata_of(node)}


def _torch_place(node: Any, weight: str) -> Optional[Place]:
    """From the marks of torch's exporter."""
    found = _metadata(node)
    scopes, classes = _listed(found.get(SCOPES, "")), _listed(found.get(CLASSES, ""))
    if not scopes:
        return None
    path = scopes[-2] if len(scopes) > 1 else ""
    action = (
        re.sub(r"^_+", "", classes[-1].split(".")[1]) if classes and classes[-1].count(".") else node.op_type
    )
    kind = classes[-2] if len(classes) == len(scopes) and len(classes) > 1 else ""
    if "BatchNorm" in found.get(RULE, "") and "." in weight:
        # the exporter folded a normalisation into the layer before it; that layer's weight tells its name
        return Place(weight.rpartition(".")[0], node.op_type, True)
    container = kind.startswith("torch.nn.modules.container.")
    return Place(path, action, kind.startswith("torch.nn.modules.") and not container)


def _listed(text: str) -> List[str]:
    try:
        found = ast.literal_eval(text) if text else []
    except (ValueError, SyntaxError):
        return []
    return [str(item) for item in found] if isinstance(found, (list, tuple)) else []


def _script_place(name: str) -> Optional[Place]:
    """From ``/layer1/layer1.0/conv1/Conv_1``: a module inside a sequence repeats the sequence's name."""
    if not name.startswith("/"):
        return None
    parts = name[1:].split("/")
    path: List[str] = []
    before = ""
    for part in parts[:-1]:
        path.append(part[len(before) + 1 :] if before and part.startswith(before + ".") else part)
        before = part
    return Place(".".join(path), re.sub(r"_\d+$", "", parts[-1]))


def _called_again(places: Sequence[Optional[Place]], weights: Sequence[str]) -> List[Optional[Place]]:
    """A module's second call is ``relu_1`` there: it is ``relu`` if there is one that reads the same weights."""
    read: Dict[str, Set[str]] = collections.defaultdict(set)
    for place, weight in zip(places, weights):
        if place is not None:
            read[place.path].update([weight] if weight else [])
    result: List[Optional[Place]] = []
    for place in places:
        first = "" if place is None else re.sub(r"_\d+$", "", place.path)
        again = (
            place is not None and first != place.path and first in read and read[first] == read[place.path]
        )
        result.append(Place(first, place.action) if again and place is not None else place)
    return result


def _tensorflow_places(nodes: Sequence[Any]) -> List[Optional[Place]]:
    """From TensorFlow's scopes, without calls of functions, the model's own name and what tf2onnx appends."""
    split = [[part for part in node.name.split("/") if part and not CALLS.match(part)] for node in nodes]
    scoped = [parts for parts in split if len(parts) > 1]
    while scoped and len({parts[0] for parts in scoped}) == 1 and all(len(parts) > 2 for parts in scoped):
        scoped = [parts[1:] for parts in scoped]
        split = [parts[1:] if len(parts) > 1 else parts for parts in split]
    endings = {re.sub(r"^.*?(_\d+)?$", r"\1", parts[0]) for parts in scoped}
    ending = endings.pop() if len(endings) == 1 else ""
    places: List[Optional[Place]] = []
    for parts in split:
        path = list(parts[:-1])
        if path and ending:
            path[0] = path[0][: -len(ending)]
        last = re.sub(r"(__\d+)+$", "", parts[-1]) if parts else ""
        places.append(Place("/".join(path), last) if path else Place("", last) if last else None)
    return places


def _named(nodes: Sequence[Any], weights: Sequence[str], places: Sequence[Optional[Place]]) -> List[str]:
    groups: Dict[str, List[int]] = collections.defaultdict(list)
    for index, place in enumerate(places):
        if place is not None:
            groups[place.path].append(index)
    outer = _with_inner(groups)
    names = [""] * len(nodes)
    for path, members in groups.items():
        whole = _worker(nodes, weights, places, members) if path and path not in outer else set()
        for index in members:
            place = places[index]
            assert place is not None
            action = nodes[index].op_type if place.library else place.action
            names[index] = path if index in whole else "/".join(part for part in (path, action) if part)
    return names


def _with_inner(paths: Mapping[str, Any]) -> Set[str]:
    """Paths inside of which there are others."""
    found: Set[str] = set()
    for path in paths:
        found.update(path[: match.start()] for match in re.finditer(r"[./]", path))
    return found


def _worker(
    nodes: Sequence[Any], weights: Sequence[str], places: Sequence[Optional[Place]], members: Sequence[int]
) -> Set[int]:
    """The node that does the module's work, once per call: it reads the weights, or is the only one that computes."""
    if any(place is not None and place.library is False for place in (places[index] for index in members)):
        return set()
    computing = [index for index in members if nodes[index].op_type not in MOVEMENT] or list(members)
    kinds: List[Tuple[str, str]] = [(nodes[index].op_type, weights[index]) for index in computing]
    reading = [kind for kind in kinds if kind[1]]
    if reading:
        return {index for index, kind in zip(computing, kinds) if kind == reading[0]}
    return set(computing) if len({op_type for op_type, _ in kinds}) == 1 else set()
