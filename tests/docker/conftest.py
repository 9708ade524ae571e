"""What the tests of containers share: skipped by name where no Docker daemon answers; none may leave a container behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from porting_check.environments.docker import LABEL, DockerRunner
from porting_check.environments.runner import Task
from porting_check.environments.specification import parse
from tests.docker import image as images

Record = Callable[..., Task]


@pytest.fixture(scope="session", autouse=True)
def daemon() -> None:
    """Skip by name where there is no daemon."""
    if not images.daemon():
        pytest.skip("no Docker daemon answers (docker version failed)")


@pytest.fixture(scope="session")
def image(daemon: None) -> str:
    """An image with ONNX Runtime."""
    return images.build()


@pytest.fixture(scope="session")
def bare_image(daemon: None) -> str:
    """An image with Python only."""
    return images.base()


@pytest.fixture(autouse=True)
def nothing_left(daemon: None) -> Iterator[None]:
    """Whatever happened, no container of this process is left."""
    yield
    assert containers() == []


def containers(process: int = 0) -> list[str]:
    """Ids of the containers of a process."""
    label = f"label={LABEL}={process or os.getpid()}"
    return images.docker("ps", "--all", "--quiet", "--filter", label).split()


@pytest.fixture
def record(tmp_path: Path, image: str) -> Record:
    """Run a task in the image: ``record(model, options, request, progress)``; returns the task."""

    def run(
        model: str,
        options: str = "",
        request: Any = None,
        progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
        **more: Any,
    ) -> Task:
        runner = DockerRunner(parse(f"docker:{image}{options}"))
        task = Task(model=model, folder=folder(tmp_path), out="side.trace", request=request or {}, **more)
        task.prepare()
        runner.run(task, progress)
        return task

    return run


def folder(tmp_path: Path) -> Path:
    """The folder of a task."""
    made = tmp_path / "task"
    made.mkdir(exist_ok=True)
    return made


NET = """
import numpy as np
from onnx import TensorProto, helper, numpy_helper

def build(channels=4, size=8):
    w = np.random.default_rng(0).normal(size=(channels, 3, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1])]
    nodes.append(helper.make_node("Relu", ["c"], ["y"], name="relu"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, size, size])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", [x], [y], [numpy_helper.from_array(w, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
"""
"""A convolution and a ReLU in ONNX, built in code."""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """``write(text)``: a Python file in a folder of its own with that text after :data:`NET`; its path."""

    def make(text: str = "", name: str = "net.py") -> str:
        path = tmp_path / "model" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(NET + text, encoding="utf-8")
        return str(path)

    return make


def plain_request(**more: Any) -> Mapping[str, Any]:
    """A request without the unrecorded runs."""
    return {"check": False, **more}
