"""Random networks in two layouts: the unchanged port is always faithful, a planted mistake is always found, and nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from porting_check.examination import examine
from porting_check.neutral.node import Node
from porting_check.report.assemble import assemble
from tests.unit.traces import conv, run_network

RELU = Node("Relu", ("x",), ("y",))
SIGMOID = Node("Sigmoid", ("x",), ("y",))
POOL = Node(
    "MaxPool",
    ("x",),
    ("y",),
    {"kernel_shape": (3, 3), "strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "ceil_mode": 0},
)
NORM = Node("BatchNormalization", ("x", "scale", "bias", "mean", "var"), ("y",), {"epsilon": 1e-3})
ADD = Node("Add", ("x", "x2"), ("y",))
KINDS = ("conv", "relu", "sigmoid", "pool", "norm", "skip")


@st.composite
def networks(draw):
    """Layers of one width, so that any earlier value can be added again; a fixed seed draws the weights."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers = [_conv("layer0", rng, 3)]
    for number in range(1, draw(st.integers(2, 9))):
        kind = draw(st.sampled_from(KINDS))
        name = f"layer{number}"
        if kind == "skip":
            earlier = draw(st.sampled_from([layer[0] for layer in layers]))
            layers.append((name, [ADD], {}, (layers[-1][0], earlier)))
        elif kind == "conv":
            layers.append(_conv(name, rng, 4))
        elif kind == "norm":
            vectors = {role: rng.standard_normal(4).astype("f4") for role in ("scale", "bias", "mean")}
            layers.append((name, [NORM], {**vectors, "var": rng.uniform(0.5, 2, 4).astype("f4")}))
        else:
            layers.append((name, [{"relu": RELU, "sigmoid": SIGMOID, "pool": POOL}[kind]], {}))
    image = rng.standard_normal((2, 3, 7, 9)).astype("f4")
    return layers, image


def _conv(name, rng, channels):
    weight = rng.standard_normal((4, channels, 3, 3)).astype("f4") / 3
    return (name, [conv((1, 1, 1, 1))], {"weight": weight, "bias": rng.standard_normal(4).astype("f4")})


def _mistakes(layer):
    """Ways to get a layer wrong; each leaves the shapes as they are."""
    name, nodes, held, *sources = layer
    node = nodes[0]
    if node.op_type == "Conv":
        yield (name, [node.edit(pads=(0, 0, 2, 2))], held, *sources)
        yield (
            name,
            nodes,
            {**held, "weight": np.ascontiguousarray(held["weight"].transpose(0, 1, 3, 2))},
            *sources,
        )
        yield (name, nodes, {**held, "weight": held["weight"].astype("f2").astype("f4")}, *sources)
    elif node.op_type == "BatchNormalization":
        yield (name, [node.edit(epsilon=1e-5)], held, *sources)
    elif node.op_type in ("Relu", "Sigmoid"):
        yield (name, [Node("Tanh", ("x",), ("y",))], held, *sources)
    elif node.op_type == "MaxPool":
        yield (name, [node.edit(pads=(0, 0, 2, 2))], held, *sources)


def report_of(layers, candidate, image):
    reference = run_network(layers, image, layout="NHWC", framework="tensorflow")
    return assemble(examine(reference, run_network(candidate, image)), {}, lambda *_: None)


SETTINGS = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))


@SETTINGS
@given(networks())
def test_the_same_network_in_another_layout_is_faithful(network):
    layers, image = network
    report = report_of(layers, layers, image)
    assert report.verdict == "faithful", (
        report.reason,
        [p.explanation for p in report.pairs if p.verdict == "divergent"],
    )


@SETTINGS
@given(networks(), st.data())
def test_one_mistake_is_found_where_it_is_and_nowhere_else(network, data):
    layers, image = network
    places = [(i, wrong) for i, layer in enumerate(layers) for wrong in _mistakes(layer)]
    place, wrong = data.draw(st.sampled_from(places))
    candidate = [*layers[:place], wrong, *layers[place + 1 :]]
    report = report_of(layers, candidate, image)
    ours, theirs = (run_network(side, image).values[f"layer{place}:0"] for side in (layers, candidate))
    if np.array_equal(ours, theirs):
        return  # the mistake does nothing on this input (a pool over a constant, a symmetric kernel)
    assert report.verdict == "divergent", report.reason
    found = {name for finding in report.findings for name in finding.pair.candidate}
    assert f"layer{place}" in found, (place, found)
    assert len(report.findings) == 1, [f.pair.candidate for f in report.findings]
