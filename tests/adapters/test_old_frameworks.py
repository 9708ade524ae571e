"""Old frameworks in interpreters of their own: what they record is compared with current ports of the same network.

Each test runs ``old_framework_run.py`` from source in the interpreter that an environment variable names, and is
skipped without it. What each needs installed is in :data:`NEEDS`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import porting_check as pc
from porting_check.neutral.node import Node
from porting_check.numerics.program import to_double
from porting_check.numerics.truth import evaluate_node

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).resolve().parents[2]
NEEDS = {
    "TF1": ("tensorflow", "tensorflow==1.15.5 'protobuf<3.21' on Python 3.7"),
    "TF2": ("tensorflow", "tensorflow==2.5.0 'numpy~=1.19.2' 'protobuf<3.21' on Python 3.9"),
    "TORCH": ("torch", "torch==1.10.0 'numpy<2' on Python 3.9"),
    "ONNXRUNTIME": (
        "onnxruntime",
        "onnxruntime==1.10.0 onnx==1.11.0 'protobuf<3.21' 'numpy<1.24' on Python 3.9",
    ),
    "JAX": ("jax", "jax==0.4.20 jaxlib==0.4.20 flax==0.7.5 'numpy<2' 'scipy<1.13' on Python 3.10"),
}
"""The framework of each environment variable ``PORTING_CHECK_PYTHON_<key>``, and what its interpreter needs."""

FORMS = {
    "TF1": ("session", "frozen", "saved", "keras"),
    "TF2": ("session", "frozen", "saved", "keras", "function"),
    "TORCH": ("module", "script"),
    "ONNXRUNTIME": ("file",),
    "JAX": ("function", "jitted", "linen"),
}
EPSILON = 1e-3
PADDINGS = {"conv-same-stride-asym", "conv-explicit-pad-layer"}
"""Catalogue ids of a padding of (1, 1) where (0, 1) is right: in the layer itself, or in a pad before it."""


def weights() -> dict[str, np.ndarray]:
    """Weights of the network, an image, in TensorFlow's layouts."""
    random = np.random.default_rng(7)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    return {
        "image": normal(2, 16, 16, 3),
        "kernel": normal(3, 3, 3, 8) / 3,
        "bias": normal(8) / 4,
        "gamma": 1 + normal(8) / 5,
        "beta": normal(8) / 4,
        "mean": normal(8) / 4,
        "variance": random.uniform(0.5, 2, 8).astype(np.float32),
        "dense": normal(128, 5) / 8,
        "offset": normal(5) / 4,
    }


class Port(nn.Module):
    """The network in the current torch; ``symmetric`` pads (1, 1) where TensorFlow pads (0, 1)."""

    def __init__(self, given: dict[str, np.ndarray], symmetric: bool = False) -> None:
        super().__init__()
        self.pad = 1 if symmetric else 0
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=self.pad)
        self.bn = nn.BatchNorm2d(8, eps=EPSILON)
        self.dense = nn.Linear(128, 5)
        pairs = {
            self.conv.weight: given["kernel"].transpose(3, 2, 0, 1),
            self.conv.bias: given["bias"],
            self.bn.weight: given["gamma"],
            self.bn.bias: given["beta"],
            self.bn.running_mean: given["mean"],
            self.bn.running_var: given["variance"],
            self.dense.weight: given["dense"].T,
            self.dense.bias: given["offset"],
        }
        with torch.no_grad():
            for tensor, array in pairs.items():
                tensor.copy_(torch.from_numpy(np.array(array, order="C")))
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x if self.pad else F.pad(x, (0, 1, 0, 1))
        x = F.max_pool2d(F.relu(self.bn(self.conv(x))), 2).permute(0, 2, 3, 1)
        return torch.softmax(self.dense(x.flatten(1)) * 1.5 + 0.25, dim=-1)


def nodes() -> dict[str, tuple[Node, list[np.ndarray]]]:
    """Operators that every adapter runs, with inputs."""
    random = np.random.default_rng(11)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    conv = {
        "kernel_shape": (3, 3),
        "strides": (2, 2),
        "pads": (0, 0, 1, 1),
        "dilations": (1, 1),
        "group": 1,
    }
    pool = {"kernel_shape": (2, 2), "strides": (2, 2), "pads": (0, 0, 0, 0), "ceil_mode": 0}
    gates = [normal(5, 2, 3), normal(1, 16, 3), normal(1, 16, 4), normal(1, 32)]
    lstm = Node("LSTM", ("x", "w", "r", "b"), ("y", "h", "c"), {"hidden_size": 4, "direction": "forward"})
    norm = Node("LayerNormalization", ("x", "s", "b"), ("y",), {"axis": -1, "epsilon": 1e-5})
    statistics = [normal(6), normal(6), normal(6), random.uniform(0.5, 2, 6).astype(np.float32)]
    batch = Node("BatchNormalization", ("x", "s", "b", "m", "v"), ("y",), {"epsilon": 1e-3})
    resize = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    sizes = np.array([1, 1, 2, 2], np.float32)
    return {
        "conv": (Node("Conv", ("x", "w", "b"), ("y",), conv), [normal(2, 3, 8, 8), normal(4, 3, 3, 3), normal(4)]),
        "gemm": (Node("Gemm", ("a", "b", "c"), ("y",), {"transB": 1}), [normal(3, 6), normal(4, 6), normal(4)]),
        "pool": (Node("MaxPool", ("x",), ("y",), pool), [normal(2, 3, 8, 8)]),
        "softmax": (Node("Softmax", ("x",), ("y",), {"axis": -1}), [normal(2, 3, 7)]),
        "norm": (norm, [normal(2, 3, 6), normal(6), normal(6)]),
        "batch": (batch, [normal(2, 6, 4, 4), *statistics]),
        "lstm": (lstm, gates),
        "gelu": (Node("Gelu", ("x",), ("y",), {"approximate": "tanh"}), [normal(3, 5)]),
        "einsum": (Node("Einsum", ("a", "b"), ("y",), {"equation": "bij,bjk->bik"}), [normal(2, 3, 4), normal(2, 4, 5)]),
        "resize": (Node("Resize", ("x", "", "s"), ("y",), resize), [normal(1, 2, 4, 4), None, sizes]),
    }  # fmt: skip


class Old:
    """What one old interpreter wrote."""

    def __init__(self, key: str, folder: Path) -> None:
        self.key, self.folder, self.weights, self.nodes = key, folder, weights(), nodes()
        np.savez(folder / "weights.npz", **self.weights)
        arrays = {
            f"{case}:{place}": array
            for case, (_, given) in self.nodes.items()
            for place, array in enumerate(given)
            if array is not None
        }
        np.savez(folder / "nodes.npz", **arrays)
        cases = {case: node.to_json() for case, (node, _) in self.nodes.items()}
        (folder / "nodes.json").write_text(json.dumps(cases), encoding="utf-8")
        if key == "ONNXRUNTIME":
            write_onnx(folder / "net.onnx", self.weights)
        self._run()
        self.said: dict[str, Any] = json.loads((folder / "said.json").read_text(encoding="utf-8"))
        self.ran = np.load(folder / "ran.npz")

    def _run(self) -> None:
        interpreter = os.environ[f"PORTING_CHECK_PYTHON_{self.key}"]
        script = Path(__file__).with_name("old_framework_run.py")
        path = os.pathsep.join([str(ROOT), str(ROOT / "adapters")])
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = {**kept, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [interpreter, str(script), NEEDS[self.key][0], str(self.folder)],
            env={**environment, "PYTHONDONTWRITEBYTECODE": "1", "JAX_PLATFORMS": "cpu"},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == 0, done.stderr[-4000:]

    def form(self, name: str) -> dict[str, Any]:
        said: dict[str, Any] = self.said["forms"][name]
        assert "error" not in said, said["error"]
        return said

    def trace(self, name: str) -> pc.Trace:
        self.form(name)
        return pc.load_trace(str(self.folder / f"{name}.trace"))


def write_onnx(path: Path, given: dict[str, np.ndarray]) -> None:
    """The network as a file that an old runtime reads (opset 13)."""
    from onnx import TensorProto, helper, numpy_helper, save

    arrays = {
        "kernel": given["kernel"].transpose(3, 2, 0, 1),
        **{name: given[name] for name in ("bias", "gamma", "beta", "mean", "variance", "dense", "offset")},
        "scale": np.array(1.5, np.float32),
        "shift": np.array(0.25, np.float32),
    }
    make = helper.make_node
    graph = [
        make("Conv", ["x", "kernel", "bias"], ["c"], "conv", auto_pad="SAME_UPPER", strides=[2, 2]),
        make("BatchNormalization", ["c", "gamma", "beta", "mean", "variance"], ["n"], "bn", epsilon=EPSILON),
        make("Relu", ["n"], ["r"], "relu"),
        make("MaxPool", ["r"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        make("Transpose", ["p"], ["t"], "transpose", perm=[0, 2, 3, 1]),
        make("Flatten", ["t"], ["f"], "flatten"),
        make("Gemm", ["f", "dense", "offset"], ["d"], "dense"),
        make("Mul", ["d", "scale"], ["m"], "mul"),
        make("Add", ["m", "shift"], ["a"], "add"),
        make("Softmax", ["a"], ["y"], "softmax", axis=-1),
    ]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
        for n, s in (("x", [2, 3, 16, 16]), ("y", [2, 5]))
    ]
    held = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()]
    made = helper.make_graph(graph, "net", ends[:1], ends[1:], held)
    save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), str(path))


@pytest.fixture(scope="module", params=list(NEEDS))
def old(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Old:
    key: str = request.param
    variable = f"PORTING_CHECK_PYTHON_{key}"
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no interpreter with {NEEDS[key][1]}")
    return Old(key, tmp_path_factory.mktemp(key))


def each_form(old: Old) -> list[str]:
    return list(FORMS[old.key])


def test_a_recording_of_the_old_framework_proves_the_current_port_faithful(old: Old) -> None:
    for form in each_form(old):
        report = pc.compare(old.trace(form), Port(old.weights), None)
        assert report.verdict == "faithful", f"{form}:\n{report}"
        described = " ".join(str(pair.op) for pair in report.pairs)
        for operator in ("Conv", "MaxPool"):
            assert operator in described, f"{form}: {described}"


def test_a_planted_padding_is_found_and_named(old: Old) -> None:
    for form in each_form(old):
        report = pc.compare(old.trace(form), Port(old.weights, symmetric=True), None)
        assert report.verdict == "divergent", f"{form}:\n{report}"
        causes = [finding.cause for finding in report.findings]
        assert PADDINGS.intersection(causes), f"{form}: {causes}\n{report}"


def test_no_layer_stays_opaque_and_observing_changed_nothing(old: Old) -> None:
    for form in each_form(old):
        said, trace = old.form(form), old.trace(form)
        assert [(record.id, record.reason) for record in trace.records if record.opaque] == [], form
        assert said["checks"]["repeat_difference"] == 0.0, form
        fused = 1e-6 if form == "jitted" else 0.0  # XLA fuses what is recorded operator by operator
        assert said["checks"]["observer_difference"] <= fused, form
        assert said["owned"], form


def test_predict_gives_what_the_recording_ends_in(old: Old) -> None:
    for form in each_form(old):
        trace = old.trace(form)
        predicted = np.load(old.folder / f"{form}.npz")["output"]
        found = trace.values[trace.outputs[-1].value]
        np.testing.assert_allclose(
            found, predicted, rtol=0, atol=1e-6 if form == "jitted" else 0, err_msg=form
        )


def test_parameters_are_listed_and_written_or_refused_with_a_reason(old: Old) -> None:
    for form in each_form(old):
        said = old.form(form)
        weightless = (old.key == "JAX" and form != "linen") or form == "function"
        assert weightless or len(said["parameters"]) >= 8, (form, said["parameters"])
        fixed = form == "frozen" or (old.key, form) == ("TF1", "saved")  # TensorFlow 1's reference variables
        assert said["written"] == "same" or (fixed and "cannot be written" in said["written"]), form


@pytest.mark.parametrize("case", list(nodes()))
def test_nodes_run_in_the_old_framework(old: Old, case: str) -> None:
    reason = old.said["refused"].get(case)
    assert reason is None or (old.key, case) in REFUSED, reason
    if reason is not None:
        assert REFUSED[old.key, case] in reason
        return
    node, given = old.nodes[case]
    wide = [None if array is None else to_double(array) for array in given]
    for place, truth in enumerate(evaluate_node(dataclasses.replace(node), wide)):
        found = old.ran[f"{case}:{place}"]
        assert found.shape == truth.shape
        np.testing.assert_allclose(found, truth, rtol=2e-5, atol=2e-6)


REFUSED = {
    ("TORCH", "gelu"): "approximate",
    ("TF1", "gelu"): "no attribute 'gelu'",
    ("ONNXRUNTIME", "gelu"): "not described",
}
"""Nodes that an old framework has no operator for, with words of the reason."""


def test_a_loop_of_tensorflow_1_that_fills_an_array_runs_whole() -> None:
    import tensorflow as tf
    from porting_check_tensorflow import TensorFlowAdapter

    from porting_check.neutral.trace import MemorySink

    v1 = tf.compat.v1
    v1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default() as built:
            x = v1.placeholder(tf.float32, [4, 2], name="x")
            rows = tf.TensorArray(tf.float32, 4, name="rows").unstack(x)
            start = (0, tf.zeros([2]), tf.TensorArray(tf.float32, 4, clear_after_read=False))

            def step(i: Any, total: Any, made: Any) -> Any:
                total = total + rows.read(i)
                return i + 1, total, made.write(i, total)

            made = v1.while_loop(lambda i, total, made: i < 4, step, start)[2]
            tf.add(made.read(made.size() - 1), made.stack(), name="y")
    finally:
        v1.enable_control_flow_v2()
    assert any(node.op == "TensorArrayGatherV3" for node in built.as_graph_def().node)
    adapter, sink = TensorFlowAdapter(), MemorySink()
    array = np.arange(8, dtype=np.float32).reshape(4, 2)
    adapter.record(built, {"x": array}, sink)
    sums = np.cumsum(array, 0)
    made = {port.name: sink.values[port.value] for port in sink.outputs}
    np.testing.assert_array_equal(made["y"], sums + sums[-1])
    opaque = [record.reason for record in sink.records if record.opaque]
    assert len(opaque) == 1
    assert "runs whole" in opaque[0]
