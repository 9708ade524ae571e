"""Each line of the contract turns red when an adapter breaks it: the real adapter of torch, with one thing spoiled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from porting_check_torch import TorchAdapter

from porting_check.neutral.errors import UnsupportedNode
from porting_check.neutral.node import Node
from porting_check.neutral.trace import MemorySink, Sink
from porting_check.testing import AdapterContract, DescribeContract, Example, Layer, RunContract, cases
from porting_check.testing.agreement import Panel

X = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)


def linear():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 3), torch.nn.ReLU()).eval()


PLAIN = Example("linear", "plain", linear, {"0": X}, ("0", "1"))


class Spoiled(Sink):
    """Hands records and values on, changed."""

    def __init__(self, sink, record=lambda record: record, value=lambda array: array):
        self.sink, self.change, self.value_change = sink, record, value

    def value(self, key, array):
        self.sink.value(key, self.value_change(array))

    def record(self, record):
        self.sink.record(self.change(record))

    def input(self, port):
        self.sink.input(port)

    def output(self, port):
        self.sink.output(port)


class Spoiling(TorchAdapter):
    def __init__(self, **changes):
        super().__init__()
        self.changes = changes

    def record(self, model, inputs, sink):
        super().record(model, inputs, Spoiled(sink, **self.changes))


class Drawing(TorchAdapter):
    """Leaves the caller's random generator elsewhere."""

    def record(self, model, inputs, sink):
        super().record(model, inputs, sink)
        np.random.rand()


class Sharing(TorchAdapter):
    """Gives arrays that are the caller's own memory."""

    def predict(self, model, inputs):
        return {**super().predict(model, inputs), "0": inputs["0"]}


class Partly(TorchAdapter):
    """Writes what fits before it complains."""

    def assign(self, model, parameters):
        own = self.parameters(model)
        super().assign(model, {k: v for k, v in parameters.items() if k in own and own[k].shape == v.shape})
        super().assign(model, parameters)


def contract(adapter):
    class Held(AdapterContract):
        framework = "torch"

        def examples(self):
            return [PLAIN]

        def adapter(self):
            return adapter

    return Held()


def moved(record):
    """The record as the second call of its name."""
    return replace(record, call=record.call + 1)


def nameless(record):
    return replace(record, nodes=(), reason="")


def other(record):
    """The record with another slope of nothing: a sigmoid in the place of what was run."""
    return replace(record, nodes=(*record.nodes[:-1], replace(record.nodes[-1], op_type="Sigmoid", attributes={}))) \
        if record.nodes[-1].op_type == "Relu" else record  # fmt: skip


def implicit(record):
    return replace(
        record, nodes=tuple(replace(node, attributes={"auto_pad": "VALID"}) for node in record.nodes)
    )


BROKEN = {
    "random state": (Drawing(), "test_the_callers_things_are_as_before", "random state"),
    "memory": (Sharing(), "test_arrays_are_owned", ""),
    "calls": (Spoiling(record=moved), "test_order_and_repeated_calls_are_kept", "call 1 after 0"),
    "reason": (Spoiling(record=nameless), "test_what_could_not_be_recorded_is_named_with_its_reason", ""),
    "wiring": (Spoiling(record=nameless), "test_values_and_names_are_all_there", "without a reason"),
    "truth": (Spoiling(record=other), "test_described_records_give_what_was_recorded", "Sigmoid"),
    "padding": (Spoiling(record=implicit), "test_nodes_are_operators_of_the_standard", "explicit"),
    "observed": (Spoiling(value=lambda a: a + 1), "test_recorded_outputs_are_those_of_an_unrecorded_run", ""),
    "weights": (Partly(), "test_all_parameters_are_assigned_or_none", "parameter 0"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_adapter_is_found(name):
    adapter, test, words = BROKEN[name]
    getattr(contract(TorchAdapter()), test)(PLAIN)
    with pytest.raises(AssertionError, match=words):
        getattr(contract(adapter), test)(PLAIN)


def test_a_layer_that_is_described_wrongly_is_found():
    class Wrong(DescribeContract):
        framework = "torch"

    layer = Layer(linear, {"0": X}, "linear")
    assert Wrong().check(layer)
    Wrong.adapter = lambda self: Spoiling(record=other)
    with pytest.raises(AssertionError, match="the description is not what was run"):
        Wrong().check(layer)


class Rounding(TorchAdapter):
    """Computes everything with a last digit too few, and Relu in place."""

    def run(self, node, inputs, *, float64=False):
        if node.op_type == "Relu":
            np.maximum(inputs[0], 0, out=inputs[0])
            return (inputs[0],)
        results = super().run(node, inputs, float64=float64)
        return tuple(r.astype(np.float32).astype(r.dtype) if r.dtype == np.float64 else r for r in results)


def test_a_run_through_float32_or_in_place_is_found():
    class Held(RunContract):
        framework = "torch"

        def adapter(self):
            return Rounding()

    held = Held()
    with pytest.raises(AssertionError, match="from the truth"):
        held.test_float64_is_float64_all_the_way("Softsign")
    assert "test_relu" in cases.failures(held.run, cases.cases()["Relu"])
    with pytest.raises(AssertionError):
        held.test_operator_passes_all_cases_of_the_standard("Relu")


def test_a_panel_counts_what_was_refused_and_compares_what_was_not():
    node = Node("Softsign", ("x",))
    panel = Panel(("torch", "tensorflow"), {})
    panel.in_float64(node, [X])
    panel.check()
    panel.adapters["torch"] = Rounding()
    with pytest.raises(AssertionError, match="apart"):
        panel.in_float64(node, [X])

    class Refusing(TorchAdapter):
        def run(self, node, inputs, *, float64=False):
            raise UnsupportedNode("no kernel")

    panel = Panel(("torch", "tensorflow"), {})
    panel.adapters["torch"] = Refusing()
    panel.exactly(node, [X])
    with pytest.raises(AssertionError, match="nothing was compared"):
        panel.check()
    panel.compared = 1
    with pytest.raises(AssertionError, match="no kernel"):
        panel.check()


def test_an_example_of_no_known_kind_is_refused():
    with pytest.raises(ValueError, match="kinds: plain"):
        Example("x", "odd", MemorySink, {})
