"""``porting-check keep``: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from porting_check.cli_keep import keep
from porting_check.neutral.errors import InputError
from porting_check.neutral.tracefile import TraceWriter, load_trace
from tests.unit.traces import conv, run_network

app = typer.Typer()
app.command()(keep)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    rng = np.random.default_rng(0)
    weights = {
        "weight": rng.standard_normal((8, 8, 3, 3)).astype("f4"),
        "bias": rng.standard_normal(8).astype("f4"),
    }
    layers = [(f"conv{n}", [conv((1, 1, 1, 1))], weights) for n in range(4)]
    trace = run_network(layers, rng.standard_normal((1, 8, 32, 40)).astype("f4"))
    path = tmp_path_factory.mktemp("full") / "model.trace"
    with TraceWriter(str(path), trace.model, trace.environment) as writer:
        for key in trace.values:
            writer.value(key, trace.values[key])
        for record in trace.records:
            writer.record(record)
        writer.input(trace.inputs[0])
        writer.output(trace.outputs[0])
        writer.finish(trace.checks)
    return path


def invoke(*arguments: str):
    return CliRunner().invoke(app, [str(a) for a in arguments], standalone_mode=False)


def test_the_small_recording_is_written_beside_the_full_one(recording):
    result = invoke(recording, "--as", "sampled")
    golden = recording.with_name("model.golden.trace")
    assert result.return_value == 0 and str(golden) in result.output
    assert load_trace(str(golden)).kept["policy"] == "sampled"
    assert "3 values were dropped; up to 4096 elements" in result.output


def test_json_carries_the_facts(recording, tmp_path):
    result = invoke(recording, "--out", tmp_path / "g.trace", "--budget", "150KB", "--json")
    facts = json.loads(result.output)
    assert facts["policy"] == "boundaries" and facts["budget"] == 150_000 and facts["bytes"] <= 150_000
    assert facts["full_bytes"] > facts["bytes"] and facts["dropped_values"]
    assert facts["dropped_parameters"] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--as", "some"), "unknown"), (("--budget", "1KB"), "at least"), (("--budget", "lots"), "no size")],
)
def test_wrong_usage_is_an_error_of_the_user(recording, tmp_path, options, said):
    result = invoke(recording, "--out", tmp_path / "g.trace", *options)
    assert isinstance(result.exception, InputError) and said in str(result.exception)
    assert result.exception.exit_status == 2 and not (tmp_path / "g.trace").exists()
