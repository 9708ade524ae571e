"""What a model is here: a ModelProto, where its external data lies, and how far ONNX Runtime may optimise it."""

from __future__ import annotations

import os
from typing import Any

import onnx

from porting_check.neutral.errors import ModelError

LEVELS = ("disabled", "basic", "extended", "all")
"""Levels of graph optimisation, by the names of ``onnxruntime.GraphOptimizationLevel``."""

VARIABLE = "PORTING_CHECK_ORT_OPTIMIZATION"
"""Environment variable that sets the level of models given on the command line or as a bare ModelProto."""


def default_level() -> str:
    """The level that the environment asks for; nothing is optimised without one.

    Raises:
        ModelError: the variable holds another word.
    """
    return checked_level(os.environ.get(VARIABLE, "") or LEVELS[0], f"the environment variable {VARIABLE}")


def checked_level(level: str, where: str = "optimization") -> str:
    """The level, if it is one.

    Raises:
        ModelError: it is none.
    """
    if level not in LEVELS:
        raise ModelError(f"{where} is {level!r}; expected one of {', '.join(LEVELS)}")
    return level


class OnnxModel:
    """An ONNX model with the folder of its external data and a level of graph optimisation.

    With a level other than ``disabled``, the graph that ONNX Runtime makes of the model is the one that is
    recorded: it is saved by the session and then run node by node as it stands.

    Example:
        >>> from onnx import helper
        >>> graph = helper.make_graph([], "empty", [], [])
        >>> OnnxModel(helper.make_model(graph), optimization="extended").optimization
        'extended'

    Args:
        proto: the model; tensors stored outside of it are not loaded.
        folder: where its external data lies; ``""`` when there is none.
        optimization: ``"disabled"``, ``"basic"``, ``"extended"`` or ``"all"``; ``None`` asks the environment.

    Raises:
        ModelError: another level.
    """

    def __init__(self, proto: Any, folder: str = "", optimization: str | None = None) -> None:
        self.proto = proto
        self.folder = folder
        self.optimization = default_level() if optimization is None else checked_level(optimization)

    def __repr__(self) -> str:
        return f"OnnxModel({self.proto.graph.name!r}, optimization={self.optimization!r})"


def as_model(model: Any) -> OnnxModel:
    """A ModelProto or an OnnxModel as the latter.

    Raises:
        ModelError: something else.
    """
    if isinstance(model, OnnxModel):
        return model
    if isinstance(model, onnx.ModelProto):
        return OnnxModel(model)
    raise ModelError(
        f"a model for ONNX Runtime is an onnx.ModelProto or an OnnxModel, not {type(model).__name__}"
    )
