"""What changed from one recording to another, whose weights they had, and what identifies a recording."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.cli_matrix import names
from porting_check.comparison import compare
from porting_check.environments.runners import runner_for
from porting_check.environments.specification import parse
from porting_check.neutral.errors import InputError, ModelError, RunError
from porting_check.neutral.node import Node
from porting_check.neutral.trace import Environment, Trace
from porting_check.versions import matrix
from porting_check.versions.changes import change_between, change_of
from porting_check.versions.identity import content, identity, model_content, store
from porting_check.versions.images import images_of
from porting_check.versions.jobs import Job, record_environment
from porting_check.versions.weights import moved_weights
from tests.unit.traces import run_network

RANDOM = np.random.default_rng(5)
IMAGE = RANDOM.standard_normal((2, 3, 8, 8)).astype(np.float32)
KERNEL = RANDOM.standard_normal((4, 3, 3, 3)).astype(np.float32) / 5
DENSE = RANDOM.standard_normal((4, 6)).astype(np.float32)


def network(pads: tuple[int, ...] = (0, 0, 1, 1), kernel: np.ndarray = KERNEL, layout: str = "NCHW") -> Trace:
    conv = Node("Conv", ("x", "w"), ("y",), {"kernel_shape": (3, 3), "strides": (2, 2), "pads": pads})
    layers = [
        ("conv", [conv], {"w": kernel}),
        ("relu", [Node("Relu", ("x",), ("y",))], {}),
        ("pool", [Node("ReduceMean", ("x",), ("y",), {"axes": (2, 3), "keepdims": 0})], {}),
        ("dense", [Node("MatMul", ("x", "w"), ("y",))], {"w": DENSE}),
    ]
    return run_network(layers, IMAGE, layout=layout)


def nudged(trace: Trace, key: str) -> Trace:
    """The same run with every value under a key one unit in the last place larger."""
    values = {name: np.array(trace.values[name]) for name in trace.values}
    values[key] = np.nextafter(values[key], np.float32(np.inf))
    return replace(trace, values=values)


def test_the_same_bits_are_no_change():
    change = change_between(network(), network(), ("old", "new"))
    assert (change.reference, change.candidate, change.verdict) == ("old", "new", "identical")
    assert (change.same_outputs, change.changed, change.first) == (True, 0, None)
    assert change.layers >= 3
    assert (change.largest, change.relative) == (0.0, 0.0)


def test_the_first_layer_whose_bits_changed_is_named_in_units_of_round_off():
    change = change_between(network(), nudged(network(), "pool:0"))
    assert (change.verdict, change.same_outputs, change.changed) == ("round-off", True, 1)
    assert change.first.layer == "pool"
    assert change.first.op == "ReduceMean"
    assert 0 < change.first.ratio <= 1
    assert change.first.after > change.first.before
    assert 0 < change.first.largest < 1e-6
    assert change.worst.ratio >= change.first.ratio


def test_another_function_is_a_divergence_with_its_cause():
    change = change_between(network(), network((1, 1, 0, 0)))
    assert (change.verdict, change.same_outputs) == ("divergent", False)
    assert change.divergence.layer == "conv"
    assert change.divergence.ratio > 1000
    assert change.cause.startswith("conv-")
    assert change.largest > 1e-3


def test_recordings_of_other_inputs_are_undecided_and_say_why():
    other = run_network([("relu", [Node("Relu", ("x",), ("y",))], {})], IMAGE + 1)
    change = change_between(network(), other)
    assert change.verdict == "undecided"
    assert "different inputs" in change.reason


# Whose weights.


def framework(trace: Trace, name: str) -> Trace:
    return replace(trace, environment=Environment(name, {name: "1"}))


def test_the_same_bits_need_no_transfer():
    moved = moved_weights(network(), network(), None, same_model=True)
    assert (moved.words, moved.values) == ("the same bits", None)


def test_other_weights_of_the_same_names_are_put_in_by_name():
    other = network(kernel=KERNEL * 2)
    moved = moved_weights(network(), other, None, same_model=True)
    assert moved.words == "the baseline's, put in by name"
    np.testing.assert_array_equal(moved.values["conv.w"], KERNEL)
    assert set(moved.values) == {"conv.w", "dense.w"}


def test_other_weights_under_other_names_are_put_in_by_layer():
    base, other = network(), network(kernel=KERNEL * 2)
    renamed = {key.replace("conv.w", "features.weight"): other.values[key] for key in other.values}
    records = tuple(
        replace(
            r,
            parameters=tuple(
                replace(p, value=p.value.replace("conv.w", "features.weight")) for p in r.parameters
            ),
        )
        for r in other.records
    )
    moved = moved_weights(base, replace(other, values=renamed, records=records), None, same_model=True)
    assert moved.words == "the baseline's, put in by layer"
    np.testing.assert_array_equal(moved.values["features.weight"], KERNEL)


def test_another_framework_keeps_its_weights_unless_asked():
    other = framework(network(kernel=KERNEL * 2), "tensorflow")
    assert moved_weights(network(), other, None, same_model=True).words == "its own"
    assert moved_weights(network(), other, None, same_model=True).values is None
    assert moved_weights(network(), other, True, same_model=True).values is not None
    assert moved_weights(network(), network(kernel=KERNEL * 2), False, same_model=True).values is None


def test_weights_that_do_not_fit_are_told():
    conv = Node("Conv", ("x", "w"), ("y",), {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (0, 0, 1, 1)})
    other = run_network([("conv", [conv], {"w": np.ones((5, 3, 3, 3), np.float32)})], IMAGE)
    moved = moved_weights(network(), other, None, same_model=True)
    assert moved.words.startswith("its own; the baseline's do not fit:")
    assert moved.values is None


# What identifies a recording.


def job(folder: Path, model: str, **changes) -> Job:
    environment = parse(changes.pop("environment", ""))
    request = changes.pop("request", {"seed": 0})
    return Job(
        environment=environment, model=model, folder=str(folder), token="t", request=request, **changes
    )


def identified(made: Job) -> dict:
    return identity(made.environment, runner_for(made.environment).origin(), made.model, made.request)


def test_a_job_travels_as_plain_data(tmp_path):
    made = job(tmp_path, "net.onnx", environment="docker:old,memory=1g,env.A=b")
    assert pickle.loads(pickle.dumps(made)) == made
    assert pickle.loads(pickle.dumps(record_environment)) is record_environment


def test_an_identity_changes_with_what_the_recording_is_made_of(tmp_path):
    model = tmp_path / "net.onnx"
    model.write_bytes(b"one")

    def found(**changes):
        made = job(tmp_path, str(model), **changes)
        return identified(made)

    first = found()
    assert found() == first
    assert found(request={"seed": 1}) != first
    assert found(again=True) == first
    model.write_bytes(b"two")
    assert found() != first
    assert "packages" in first
    assert len(first["recorder"]) == 64


def test_the_text_of_an_environment_does_not_count_but_its_variables_do(tmp_path):
    import sys

    texts = [
        f"python:{sys.executable},env.A=1",
        f"python:{sys.executable}, env.A=1,timeout=10m,memory=4g",
        f"python:{sys.executable},env.A=2",
    ]
    made = [job(tmp_path, "json:loads", environment=text) for text in texts]
    one, same, other = (identified(m) for m in made)
    assert one == same
    assert one != other


def test_external_data_and_modules_beside_a_model_count(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"graph")
    (tmp_path / "net.py").write_text("x = 1")
    before = model_content(str(tmp_path / "net.onnx")), model_content(f"{tmp_path / 'net.py'}:build")
    (tmp_path / "unrelated.txt").write_text("hello")
    assert before == (
        model_content(str(tmp_path / "net.onnx")),
        model_content(f"{tmp_path / 'net.py'}:build"),
    )
    (tmp_path / "net.onnx.data").write_bytes(b"weights")
    (tmp_path / "layers.py").write_text("y = 2")
    after = model_content(str(tmp_path / "net.onnx")), model_content(f"{tmp_path / 'net.py'}:build")
    assert before[0] != after[0]
    assert before[1] != after[1]
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "data").write_bytes(b"1")
    first = content(folder)
    (folder / "variables" / "data").write_bytes(b"2")
    assert content(folder) != first


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(st.text("abc/.", min_size=1, max_size=4), st.integers(0, 3), max_size=3))
def test_stored_arrays_have_a_name_of_their_own(tmp_path_factory, sizes):
    folder = tmp_path_factory.mktemp("store")
    arrays = {name: np.full(size, 7, np.float32) for name, size in sizes.items()}
    name = store(folder, arrays)
    assert store(folder, dict(reversed(list(arrays.items())))) == name
    other = {**arrays, "more": np.zeros(1, np.float32)}
    assert store(folder, other) != name
    assert store(folder, {n: a.astype(np.float64) for n, a in arrays.items()}) != name or not arrays
    with np.load(folder / name) as archive:
        assert set(archive.files) == set(arrays)


# Arguments.


def test_commas_part_names_and_belong_to_what_has_a_colon():
    assert names(["a, b", "venv:torch==1.10.0,python==3.9", "local"]) == [
        "a", "b", "venv:torch==1.10.0,python==3.9", "local",
    ]  # fmt: skip


def test_wrong_arguments_are_told_before_anything_runs(tmp_path):
    net = tmp_path / "net.onnx"
    net.touch()
    for environments in ([], ["local"], "local", ["local", "local"]):
        with pytest.raises(InputError, match="two environments or more, each named once"):
            matrix(net, environments)
    pair = {"one": "local", "two": "local"}
    with pytest.raises(InputError, match="the baseline 'three' is not among the environments: one, two"):
        matrix(net, pair, baseline="three")
    with pytest.raises(InputError, match="models names 'three'"):
        matrix(net, pair, models={"three": "x.onnx"})
    with pytest.raises(InputError, match=r"weights are a file .npz or .safetensors"):
        matrix(net, pair, weights="w.pickle")
    (tmp_path / "net.trace").mkdir()
    (tmp_path / "net.trace" / "index.jsonl").touch()
    for name, said in (
        ("missing.onnx", "does not exist"),
        ("net.trace", "is a recording; here a model is needed"),
    ):
        with pytest.raises(ModelError, match=said):
            matrix(tmp_path / name, pair)
        with pytest.raises(ModelError, match=said):
            matrix(net, pair, models={"two": str(tmp_path / name)})


def test_a_file_lists_images(tmp_path):
    listed = tmp_path / "matrix.toml"
    rows = [
        "name = 'torch-1.10'\nframework = 'torch'\nversion = '1.10.0'",
        "name = 'torch-1.13'\nframework = 'torch'\nversion = '1.13.1'\nbuilt = false",
        "name = 'own'\nframework = 'torch'\nversion = '2.4.1'\nimage = 'registry/torch:new'",
        "name = 'jax'\nframework = 'jax'\nversion = '0.4.20'",
    ]
    listed.write_text("\n".join(f"[[image]]\n{row}" for row in rows))
    assert images_of(listed, ["torch"]) == {
        "torch-1.10": "docker:porting-check/torch:1.10",
        "own": "docker:registry/torch:new",
    }
    with pytest.raises(InputError, match="no image of paddle that can be built; it has jax, torch"):
        images_of(listed, ["paddle"])
    listed.write_text("image = 3")
    with pytest.raises(InputError, match="is no list of images"):
        images_of(listed, ["torch"])
    with pytest.raises(InputError, match="cannot be read"):
        images_of(tmp_path / "none.toml", ["torch"])


def test_the_images_of_this_repository_are_such_a_list():
    listed = Path(__file__).resolve().parents[3] / "docker" / "matrix.toml"
    found = images_of(listed, ["onnxruntime"])
    assert found["onnxruntime-1.10"] == "docker:porting-check/onnxruntime:1.10"
    assert len(found) >= 2


class Lost(Executor):
    """An executor whose workers are gone."""

    def __init__(self, late: bool) -> None:
        self.late = late

    def submit(self, fn, /, *args, **kwargs):
        if not self.late:
            raise RuntimeError("cannot schedule new futures after shutdown")
        made: Future = Future()
        made.set_exception(multiprocessing.ProcessError("worker 7 was lost"))
        return made


@pytest.mark.parametrize(("late", "said"), [(True, "worker 7 was lost"), (False, "after shutdown")])
def test_an_executor_without_workers_is_a_sentence(tmp_path, late, said):
    (tmp_path / "net.onnx").touch()
    with pytest.raises(RunError, match=f"the baseline 'one' could not be recorded.*{said}"):
        matrix(tmp_path / "net.onnx", {"one": "local", "two": "local"}, executor=Lost(late))


def test_a_value_inside_a_fused_layer_that_one_side_did_not_record_is_no_change():
    report = compare(network(), network(), shadow=False)
    inner = replace(report.pairs[0], end_to_end=None)
    assert len(report.pairs) > 1
    change = change_of(replace(report, pairs=(inner, *report.pairs[1:])), ("old", "new"))
    assert (change.verdict, change.changed, change.first) == ("identical", 0, None)
    assert "recorded on one side only" in change.reason
