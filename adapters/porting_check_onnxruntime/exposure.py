"""Every value of a graph made an output, without shape inference."""

from __future__ import annotations

import os
import tempfile
from typing import Any, Dict, Mapping, Sequence

import numpy as np
import onnx

from porting_check.neutral.errors import ModelError
from porting_check_onnxruntime.loading import byte_size
from porting_check_onnxruntime.model import OnnxModel
from porting_check_onnxruntime.prepared import Prepared, prepare
from porting_check_onnxruntime.session import NARROW, Session, dtype_of, element_type, narrow_dtype

WIDENED = "/widened by porting-check"


class Exposed:
    """A graph whose values can all be fetched.

    Args:
        proto: the graph; a copy is exposed.
        heavy: arrays of its stubs.
        folder: of its external data.
    """

    def __init__(self, proto: Any, heavy: Mapping[str, np.ndarray], folder: str) -> None:
        self.graph = proto.graph
        names = [name for node in proto.graph.node for name in node.output if name]
        names += [value.name for value in proto.graph.output if value.name not in set(names)]
        self.session = Session(_exposed(proto, names, {}), heavy, folder)
        self.types = {name: self.session.outputs[name] for name in names}
        narrow = {name: kind for name, kind in self.types.items() if element_type(kind) in NARROW}
        if narrow:
            self.session = Session(_exposed(proto, names, narrow), heavy, folder)
        self._narrow = narrow

    def run(self, feeds: Mapping[str, np.ndarray]) -> Dict[str, Any]:
        """Every tensor of numbers of one run, by name.

        Raises:
            RunError: a kernel failed.
        """
        wanted = [name for name, kind in self.types.items() if dtype_of(kind)]
        fetched = self.session.run([name + WIDENED * (name in self._narrow) for name in wanted], feeds)
        found = {}
        for name in wanted:
            value = fetched[name + WIDENED * (name in self._narrow)]
            found[name] = (
                value.astype(narrow_dtype(dtype_of(self.types[name]))) if name in self._narrow else value
            )
        return found


def _exposed(proto: Any, names: Sequence[str], narrow: Mapping[str, str]) -> Any:
    """A copy with these values as outputs; narrow ones through a Cast that keeps their values."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.output[:]
    for name in names:
        if name in narrow:
            wide = NARROW[element_type(narrow[name])][2]
            copy.graph.node.append(onnx.helper.make_node("Cast", [name], [name + WIDENED], to=wide))
        copy.graph.output.append(onnx.ValueInfoProto(name=name + WIDENED * (name in narrow)))
    return copy


LARGEST = 1 << 30
"""Bytes of weights up to which an optimised graph is written to disk and read back."""


def optimized(prepared: Prepared, level: str) -> Prepared:
    """The graph that ONNX Runtime makes of a model at a level, as a model of its own.

    Raises:
        ModelError: the model is refused, or too large for its optimised graph to be written.
    """
    graph = prepared.proto.graph
    stored = sum(byte_size(tensor) for tensor in graph.initializer)
    if stored > LARGEST:
        raise ModelError(
            f"the model has {stored >> 20} MB of weights: its optimised graph, which is written to disk to be read back, "
            "would be too large; record it with optimization='disabled'"
        )
    with tempfile.TemporaryDirectory(prefix="porting-check-") as folder:
        path = os.path.join(folder, "optimized.onnx")
        Session(prepared.proto, prepared.heavy, prepared.folder, level, path)
        return prepare(OnnxModel(onnx.load(path), "", "disabled"))
