"""Model-local functions, put in place of the nodes that call them."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import onnx

from porting_check.neutral.errors import ModelError
from porting_check_onnxruntime.compat import metadata_of

DEEPEST = 50
"""Functions that call one another more deeply than this call themselves."""

Key = Tuple[str, str]


def inline_functions(nodes: List[Any], source: Any, target: Any) -> List[Any]:
    """The nodes with every call of a function replaced by the function's own; names keep the call's as scope.

    Args:
        nodes: of the main graph.
        source: the model that holds the functions.
        target: the model that is being made; it gets the operator sets that the functions import.

    Raises:
        ModelError: a function of another operator set version, or one that calls itself.
    """
    functions = {(_domain(f.domain), f.name): f for f in source.functions}
    if not functions:
        return nodes
    _merge_opsets(functions.values(), target)
    return _expanded(nodes, functions, 0)


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _merge_opsets(functions: Any, target: Any) -> None:
    known = {_domain(entry.domain): entry.version for entry in target.opset_import}
    for function in functions:
        for entry in function.opset_import:
            domain = _domain(entry.domain)
            if known.setdefault(domain, entry.version) != entry.version:
                raise ModelError(
                    f"function {function.name!r} uses opset {entry.version} of {domain or 'ai.onnx'!r}, the model "
                    f"{known[domain]}: bring them together with "
                    "onnx.inliner.inline_local_functions(model, convert_version=True)"
                )
    present = {_domain(entry.domain) for entry in target.opset_import}
    target.opset_import.extend(
        onnx.helper.make_opsetid(domain, version)
        for domain, version in known.items()
        if domain not in present
    )


def _expanded(nodes: List[Any], functions: Dict[Key, Any], depth: int) -> List[Any]:
    if depth > DEEPEST:
        raise ModelError(f"the model's functions call one another {DEEPEST} deep: one of them calls itself")
    result: List[Any] = []
    for place, node in enumerate(nodes):
        function = functions.get((_domain(node.domain), node.op_type))
        if function is None:
            result.append(_inside(node, functions, depth))
        else:
            result.extend(_expanded(_body(node, place, function), functions, depth + 1))
    return result


def _inside(node: Any, functions: Dict[Key, Any], depth: int) -> Any:
    """The node with calls in its graphs replaced."""
    for attribute in node.attribute:
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            inner = onnx.GraphProto()
            inner.node.extend(_expanded(list(graph.node), functions, depth))
            del graph.node[:]
            graph.node.extend(inner.node)
    return node


def _body(call: Any, place: int, function: Any) -> List[Any]:
    """The function's nodes, in terms of the caller's values."""
    scope = call.name or f"{call.op_type}_{place}"
    names = dict.fromkeys(function.input, "")
    names.update(zip(function.input, call.input))
    names.update(dict.fromkeys(function.output, ""))
    names.update(zip(function.output, call.output))
    given = {attribute.name: attribute for attribute in function.attribute_proto}
    given.update((attribute.name, attribute) for attribute in call.attribute)
    body = []
    through = [name for name in function.output if name in set(function.input) and names[name]]
    for number, original in enumerate(function.node):
        node = onnx.NodeProto()
        node.CopyFrom(original)
        node.name = f"{scope}/{node.name.lstrip('/') or f'{node.op_type}_{number}'}"
        _rename(node, scope, names)
        _bind(node, given)
        if metadata_of(call) and not metadata_of(node):
            node.metadata_props.extend(call.metadata_props)
        body.append(node)
    for name in through:
        actual = call.input[list(function.input).index(name)]
        body.append(onnx.helper.make_node("Identity", [actual], [names[name]], name=f"{scope}/Identity"))
    return body


def _rename(node: Any, scope: str, names: Dict[str, str]) -> None:
    """Formal names become the caller's; everything else is the call's own."""
    for values in (node.input, node.output):
        for index, name in enumerate(values):
            if name:
                values[index] = names.get(name) if name in names else f"{scope}/{name}"
    for attribute in node.attribute:
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            for item in list(graph.input) + list(graph.initializer) + list(graph.output):
                item.name = names.get(item.name, f"{scope}/{item.name}")
            del graph.value_info[:]
            for inner in graph.node:
                _rename(inner, scope, names)


def _bind(node: Any, given: Dict[str, Any]) -> None:
    """Attributes that refer to the function's take the call's values, or go where it has none."""
    bound = []
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            bound.append(attribute)
        elif attribute.ref_attr_name in given:
            value = onnx.AttributeProto()
            value.CopyFrom(given[attribute.ref_attr_name])
            value.name = attribute.name
            bound.append(value)
    for attribute in bound:
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            for inner in graph.node:
                _bind(inner, given)
    kept = onnx.NodeProto()
    kept.attribute.extend(bound)
    del node.attribute[:]
    node.attribute.extend(kept.attribute)
