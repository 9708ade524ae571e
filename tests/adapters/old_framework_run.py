# ruff: noqa: UP006, UP035 - it runs on Python 3.7
"""Runs inside an old framework's interpreter: records one small network in several forms, runs nodes, writes what it found.

``python old_framework_run.py FRAMEWORK FOLDER``; FOLDER holds ``weights.npz``, ``nodes.json`` and ``nodes.npz`` (and
``net.onnx``). Python 3.7, numpy and the framework only; porting_check and the adapters come by PYTHONPATH.
Writes ``<form>.trace``, ``<form>.npz`` (what predict gave), ``ran.npz`` and ``said.json`` into FOLDER.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any, Callable, Dict, List, Mapping, Tuple

import numpy as np

from porting_check.neutral.errors import PortingError
from porting_check.neutral.node import Node
from porting_check.neutral.tracefile import TraceWriter
from porting_check.recorder.session import record_model

ADAPTERS = {
    "tensorflow": "TensorFlowAdapter",
    "torch": "TorchAdapter",
    "jax": "JaxAdapter",
    "onnxruntime": "OnnxRuntimeAdapter",
}
EPSILON = 1e-3
Forms = Dict[str, Callable[[], Any]]


def torch_forms(weights: Mapping[str, np.ndarray], folder: str) -> Tuple[Forms, bool]:
    """A module with layers and functions between them, and a plain function; channels first."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, stride=2)
            self.bn = nn.BatchNorm2d(8, eps=EPSILON)
            self.dense = nn.Linear(128, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.relu(self.bn(self.conv(F.pad(x, (0, 1, 0, 1)))))
            x = F.max_pool2d(x, 2).permute(0, 2, 3, 1)
            return torch.softmax(self.dense(x.flatten(1)) * 1.5 + 0.25, dim=-1)

    def module() -> Any:
        net = Net()
        state = {
            "conv.weight": weights["kernel"].transpose(3, 2, 0, 1),
            "conv.bias": weights["bias"],
            "bn.weight": weights["gamma"],
            "bn.bias": weights["beta"],
            "bn.running_mean": weights["mean"],
            "bn.running_var": weights["variance"],
            "dense.weight": weights["dense"].T,
            "dense.bias": weights["offset"],
        }
        made = {key: torch.from_numpy(np.array(value, order="C")) for key, value in state.items()}
        net.load_state_dict(made, strict=False)
        return net.eval()

    return {"module": module, "script": lambda: torch.jit.trace(module(), torch.zeros(2, 3, 16, 16))}, True


def network(tf: Any, x: Any, weights: Mapping[str, Any]) -> Any:
    """The network by TensorFlow's operators, channels last."""
    x = tf.nn.conv2d(x, weights["kernel"], strides=[1, 2, 2, 1], padding="SAME")
    x = tf.nn.bias_add(x, weights["bias"])
    moments = weights["mean"], weights["variance"]
    found = tf.compat.v1.nn.fused_batch_norm(
        x, weights["gamma"], weights["beta"], moments[0], moments[1], epsilon=EPSILON, is_training=False
    )
    x = tf.nn.max_pool2d(tf.nn.relu(found[0]), 2, 2, "VALID")
    x = tf.matmul(tf.reshape(x, [-1, 128]), weights["dense"]) + weights["offset"]
    return tf.nn.softmax(x * 1.5 + 0.25, name="probabilities")


def _session_graph(tf: Any, weights: Mapping[str, np.ndarray], variables: bool) -> Any:
    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder(tf.float32, [None, 16, 16, 3], name="image")
        held: Dict[str, Any] = dict(weights)
        if variables:
            made = tf.compat.v1.get_variable
            held = {name: made(name, initializer=tf.constant(value)) for name, value in weights.items()}
        return graph, x, network(tf, x, held)


def _frozen(tf: Any, weights: Mapping[str, np.ndarray], path: str) -> str:
    graph, _, y = _session_graph(tf, weights, True)
    with tf.compat.v1.Session(graph=graph) as session:
        with graph.as_default():
            session.run(tf.compat.v1.global_variables_initializer())
        freeze = tf.compat.v1.graph_util.convert_variables_to_constants
        with open(path, "wb") as file:
            file.write(freeze(session, graph.as_graph_def(), [y.op.name]).SerializeToString())
    return path


def _saved(tf: Any, weights: Mapping[str, np.ndarray], path: str) -> str:
    graph, x, y = _session_graph(tf, weights, True)
    with tf.compat.v1.Session(graph=graph) as session, graph.as_default():
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(session, path, {"image": x}, {"probabilities": y})
    return path


def _keras(tf: Any, weights: Mapping[str, np.ndarray]) -> Any:
    layers, names = tf.keras.layers, ("gamma", "beta", "mean", "variance")
    inputs = tf.keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="conv")(inputs)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(epsilon=EPSILON, name="bn")(x))
    x = layers.Dense(5, name="dense")(layers.Flatten()(layers.MaxPooling2D(2, name="pool")(x)))
    scaled = layers.Lambda(lambda t: t * 1.5 + 0.25, name="scale")(x)
    model = tf.keras.Model(inputs, layers.Softmax(name="probabilities")(scaled))
    model.get_layer("conv").set_weights([weights["kernel"], weights["bias"]])
    model.get_layer("bn").set_weights([weights[name] for name in names])
    model.get_layer("dense").set_weights([weights["dense"], weights["offset"]])
    return model


def tensorflow_forms(weights: Mapping[str, np.ndarray], folder: str) -> Tuple[Forms, bool]:
    """Frozen graph, SavedModel of a session, and what TensorFlow 2 has besides; channels last."""
    import tensorflow as tf

    adapter = _adapter("tensorflow")
    sessions: List[Any] = []

    def session() -> Any:
        graph, _, _ = _session_graph(tf, weights, True)
        sessions.append(tf.compat.v1.Session(graph=graph))
        with graph.as_default():
            sessions[-1].run(tf.compat.v1.global_variables_initializer())
        return sessions[-1]

    forms: Forms = {
        "session": session,
        "frozen": lambda: adapter.load(_frozen(tf, weights, os.path.join(folder, "frozen.pb"))),
        "saved": lambda: adapter.load(_saved(tf, weights, os.path.join(folder, "saved"))),
        "keras": lambda: _keras(tf, weights),
    }
    if tf.executing_eagerly():
        held = {name: tf.Variable(value, name=name) for name, value in weights.items()}
        forms["function"] = lambda: tf.function(lambda x: network(tf, x, held))
    return forms, False


def jax_forms(weights: Mapping[str, np.ndarray], folder: str) -> Tuple[Forms, bool]:
    """A function of jax.lax, and the same under jit; channels last."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    def net(x: Any) -> Any:
        w = {name: jnp.asarray(value) for name, value in weights.items()}
        axes = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(x, w["kernel"], (2, 2), "SAME", dimension_numbers=axes) + w["bias"]
        x = (x - w["mean"]) * lax.rsqrt(w["variance"] + EPSILON) * w["gamma"] + w["beta"]
        x = lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return jax.nn.softmax((x.reshape(x.shape[0], -1) @ w["dense"] + w["offset"]) * 1.5 + 0.25)

    forms: Forms = {"function": lambda: net, "jitted": lambda: jax.jit(net)}
    if importlib.util.find_spec("flax"):
        forms["linen"] = lambda: _linen(jax, weights)
    return forms, False


def _linen(jax: Any, weights: Mapping[str, np.ndarray]) -> Any:
    from flax import linen

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            x = linen.Conv(8, (3, 3), strides=2, name="conv")(x)
            x = linen.relu(linen.BatchNorm(use_running_average=True, epsilon=EPSILON, name="bn")(x))
            x = linen.max_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1)
            return linen.softmax(linen.Dense(5, name="dense")(x) * 1.5 + 0.25)

    scale = {"scale": weights["gamma"], "bias": weights["beta"]}
    layers = {
        "conv": {"kernel": weights["kernel"], "bias": weights["bias"]},
        "bn": scale,
        "dense": {"kernel": weights["dense"], "bias": weights["offset"]},
    }
    statistics = {"bn": {"mean": weights["mean"], "var": weights["variance"]}}
    return Net(), jax.tree_util.tree_map(jax.numpy.asarray, {"params": layers, "batch_stats": statistics})


def onnxruntime_forms(weights: Mapping[str, np.ndarray], folder: str) -> Tuple[Forms, bool]:
    """The file that the test made; channels first."""
    return {"file": lambda: _adapter("onnxruntime").load(os.path.join(folder, "net.onnx"))}, True


FORMS = {
    "torch": torch_forms,
    "tensorflow": tensorflow_forms,
    "jax": jax_forms,
    "onnxruntime": onnxruntime_forms,
}


def _adapter(framework: str) -> Any:
    return getattr(importlib.import_module(f"porting_check_{framework}"), ADAPTERS[framework])()


def record_form(
    adapter: Any, make: Callable[[], Any], image: np.ndarray, path: str, layout: str
) -> Dict[str, Any]:
    """Record one form of the network; what was seen, besides the trace."""
    model = make()
    specs = [spec.name for spec in adapter.inputs(model)]
    name = specs[0] if len(specs) == 1 and specs[0] else "0"
    inputs = {name: image}
    predicted = adapter.predict(model, inputs)
    np.savez(path + ".npz", output=list(predicted.values())[-1])
    with TraceWriter(path + ".trace", os.path.basename(path), adapter.environment()) as sink:
        checks = record_model(adapter, model, inputs, sink, layouts={name: layout}, float64=True)
        sink.finish(checks)
    before = adapter.parameters(model)
    said = {"checks": checks.to_json(), "inputs": specs, "owned": bool(adapter.owns(model)), "written": ""}
    said["parameters"] = sorted(before)
    try:
        adapter.assign(model, {key: value + 0 for key, value in before.items()})
        after = adapter.parameters(model)
        said["written"] = "same" if all((after[key] == before[key]).all() for key in before) else "changed"
    except PortingError as error:
        said["written"] = str(error)
    return said


def run_nodes(adapter: Any, folder: str) -> Dict[str, str]:
    """Run every node of ``nodes.json`` on its arrays of ``nodes.npz``; what refused, by case."""
    with open(os.path.join(folder, "nodes.json"), encoding="utf-8") as file:
        cases = json.load(file)
    arrays, found, refused = np.load(os.path.join(folder, "nodes.npz")), {}, {}
    for case, data in cases.items():
        node = Node.from_json(data)
        given = [arrays[f"{case}:{place}"] if name else None for place, name in enumerate(node.inputs)]
        try:
            for place, array in enumerate(adapter.run(node, given)):
                found[f"{case}:{place}"] = array
        except PortingError as error:
            refused[case] = f"{type(error).__name__}: {error}"
    np.savez(os.path.join(folder, "ran.npz"), **found)
    return refused


def main(framework: str, folder: str) -> int:
    """Do everything for one framework."""
    weights = dict(np.load(os.path.join(folder, "weights.npz")))
    image = weights.pop("image")
    forms, first = FORMS[framework](weights, folder)
    adapter = _adapter(framework)
    said: Dict[str, Any] = {"environment": adapter.environment().to_json(), "forms": {}}
    for form, make in forms.items():
        given = np.ascontiguousarray(image.transpose(0, 3, 1, 2)) if first else image
        layout = "NCHW" if first else "NHWC"
        try:
            said["forms"][form] = record_form(adapter, make, given, os.path.join(folder, form), layout)
        except PortingError as error:
            said["forms"][form] = {"error": f"{type(error).__name__}: {error}"}
    said["refused"] = run_nodes(adapter, folder)
    with open(os.path.join(folder, "said.json"), "w", encoding="utf-8") as file:
        json.dump(said, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
