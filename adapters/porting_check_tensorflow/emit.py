"""From a sketch to a record: names counted, values stored, the record handed to the sink."""

from __future__ import annotations

import collections
import os
import sys
from typing import Any, Dict, Optional, Tuple

from porting_check.neutral.errors import PortingError
from porting_check.neutral.trace import Port, Record, Sink
from porting_check_tensorflow.flavours import is_library
from porting_check_tensorflow.sketch import Link, Sketch
from porting_check_tensorflow.values import Values


class Emitter:
    """Writes the records of one run.

    Attributes:
        error: what the sink raised (a full disk); Keras rewrites errors that pass through a layer.
    """

    def __init__(self, values: Values, sink: Sink) -> None:
        self.error: Optional[PortingError] = None
        self._values, self._sink = values, sink
        self._calls: Dict[str, int] = collections.defaultdict(int)

    def emit(self, name: str, operator: str, sketch: Sketch, reason: str = "", location: str = "") -> None:
        """Store the values of a record and append it.

        Args:
            name: path of the layer or operator; its calls are counted here.
            operator: the native type, ``keras.layers.Conv2D``.
            sketch: ports, nodes and constants.
            reason: why there are no nodes.
            location: file and line.
        """
        number = self._calls[name]
        self._calls[name] += 1
        try:
            self._write((name, number), operator, sketch, reason, location)
        except PortingError as error:
            self.error = error
            raise

    def _write(
        self, identity: Tuple[str, int], operator: str, sketch: Sketch, reason: str, location: str
    ) -> None:
        name, number = identity
        prefix = name if number == 0 else f"{name}#{number}"
        values = self._values
        inputs = [_port(link, values.use(link.value)) for link in sketch.inputs]
        parameters = [_port(link, values.variable(link.value)) for link in sketch.parameters]
        outputs = []
        for index, link in enumerate(sketch.outputs):
            outputs.append(_port(link, values.make(link.value, f"{prefix}:{index}")))
        made = Record(
            name,
            number,
            operator,
            tuple(inputs),
            tuple(outputs),
            tuple(parameters),
            tuple(sketch.nodes),
            sketch.constants,
            reason,
            location,
        )
        self._sink.record(made)


def _port(link: Link, key: str) -> Port:
    return Port(link.name, key, link.layout, link.canonical)


def location(entry: str) -> str:
    """File and line of the model's own code that runs now; empty where only Keras' code does.

    Args:
        entry: the module whose function ``record`` started the run; nothing further out is the model's.
    """
    frame: Any = sys._getframe(1)
    foreign = ("tensorflow", "porting_check_tensorflow", "contextlib")
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module == entry and frame.f_code.co_name == "record":
            return ""
        if not is_library(module) and module.split(".")[0] not in foreign:
            return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
