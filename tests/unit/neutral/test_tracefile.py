from __future__ import annotations

import errno
import hashlib
import json
import os
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from porting_check.neutral import tensorfile, tracefile
from porting_check.neutral.errors import RecordingError, TraceError
from porting_check.neutral.node import Node
from porting_check.neutral.trace import Checks, Environment, MemorySink, Port, Record
from porting_check.neutral.tracefile import TraceWriter, digest_of, load_trace

ENVIRONMENT = Environment("numpy", {"numpy": np.__version__}, modes={"x64": "off"})
NODE = Node(
    "Relu",
    ("x",),
    ("y",),
    {"alpha": 0.1, "axes": (1, 2), "value": np.arange(3), "mode": "a", "nan": float("nan")},
)
DTYPES = ["bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
DTYPES += ["float16", "float32", "float64", "complex64", "complex128"]


def fill(sink, arrays):
    sink.value("input:0", np.ones((1, 2), np.float32))
    sink.input(Port("0", "input:0"))
    for index, array in enumerate(arrays):
        sink.value(f"layer{index}:0", array)
        ports = (Port("x", "input:0", "NC", "NC"),), (Port("y", f"layer{index}:0"),)
        constants = {"shape": np.array([1, -1]), "empty": np.zeros((0, 2))}
        sink.record(Record(f"layer{index}", index % 2, "test", *ports, nodes=(NODE,), constants=constants))
    sink.output(Port("logits", f"layer{len(arrays) - 1}:0"))


def write(path, arrays, **options):
    with TraceWriter(str(path), "model", ENVIRONMENT, **options) as sink:
        fill(sink, arrays)
        sink.finish(Checks(0.0, float("inf"), ("bn",), ("a note",)))
    return path


def lines_of(path):
    return (path / "index.jsonl").read_text().splitlines(keepends=True)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_tensor_comes_back_bit_for_bit(tmp_path_factory, data):
    dtype = data.draw(st.sampled_from(DTYPES))
    arrays = data.draw(
        st.lists(
            hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)), min_size=1, max_size=3
        )
    )
    path = write(tmp_path_factory.mktemp("t") / "a.trace", arrays, shard_bytes=16)
    trace = load_trace(str(path), verify=True)
    for index, array in enumerate(arrays):
        found = trace.values[f"layer{index}:0"]
        assert found.dtype == array.dtype
        assert found.shape == array.shape
        assert found.tobytes() == array.tobytes()


@pytest.mark.parametrize("kind", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_small_floats_come_back(tmp_path, kind):
    array = np.array([[1.5, -2.0, 0.0], [np.nan, 0.25, 3.0]], kind)
    trace = load_trace(str(write(tmp_path / "a.trace", [array])))
    assert trace.values["layer0:0"].dtype == array.dtype
    assert trace.values["layer0:0"].tobytes() == array.tobytes()


def test_the_records_come_back(tmp_path):
    trace = load_trace(str(write(tmp_path / "a.trace", [np.zeros(2), np.ones((2, 3))])))
    sink = MemorySink()
    fill(sink, [np.zeros(2), np.ones((2, 3))])
    expected = sink.trace("model", ENVIRONMENT)
    assert [r.id for r in trace.records] == ["layer0", "layer1#1"]
    for found, wanted in zip(trace.records, expected.records):
        assert (found.name, found.inputs, found.outputs, str(found.nodes[0])) == (
            wanted.name,
            wanted.inputs,
            wanted.outputs,
            str(NODE),
        )
        assert found.nodes[0].attributes["axes"] == (1, 2)
        np.testing.assert_array_equal(found.nodes[0].attributes["value"], np.arange(3))
        assert found.constants["empty"].shape == (0, 2)
    assert trace.environment == ENVIRONMENT
    assert trace.outputs == (Port("logits", "layer1:0"),)
    assert trace.checks == Checks(0.0, float("inf"), ("bn",), ("a note",))


def test_other_tools_read_the_shards(tmp_path):
    array = np.random.default_rng(0).standard_normal((3, 4)).astype("f4")
    path = write(tmp_path / "a.trace", [array])
    found = safetensors.numpy.load_file(path / "values-00000.safetensors")
    np.testing.assert_array_equal(found["layer0:0"], array)


def test_the_writer_holds_no_more_than_a_shard(tmp_path):
    path = write(tmp_path / "a.trace", [np.zeros(1000) for _ in range(20)], shard_bytes=16000)
    assert len(list(path.glob("values-*.safetensors"))) >= 10


def test_a_recording_cut_short_is_recognised(tmp_path):
    with TraceWriter(str(tmp_path / "a.trace"), "model", ENVIRONMENT) as sink:
        fill(sink, [np.zeros(2)])
    with pytest.raises(TraceError, match="cut short"):
        load_trace(str(tmp_path / "a.trace"))
    with pytest.raises(TraceError, match="cut short"):
        load_trace(str(tmp_path / "a.trace.partial"))


@pytest.mark.parametrize("cut", [1, 2, 3, 10])
def test_a_truncated_index_is_recognised(tmp_path, cut):
    path = write(tmp_path / "a.trace", [np.zeros(2), np.ones(3)])
    text = (path / "index.jsonl").read_bytes()
    (path / "index.jsonl").write_bytes(text[: -cut * 7])
    with pytest.raises(TraceError, match="cut short"):
        load_trace(str(path))


def test_a_truncated_shard_is_recognised(tmp_path):
    path = write(tmp_path / "a.trace", [np.arange(100.0)])
    shard = path / "values-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-8])
    with pytest.raises(TraceError, match="cut short"):
        load_trace(str(path))


def test_a_changed_tensor_is_found_when_asked(tmp_path):
    path = write(tmp_path / "a.trace", [np.arange(100.0)])
    shard = path / "values-00000.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(bytes(content))
    load_trace(str(path))
    with pytest.raises(TraceError, match="changed since"):
        load_trace(str(path), verify=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"layer1"', '"layer7"', 1),
        lambda text: text.replace('"test"', '"torch.relu"', 1),
        lambda text: text.replace('"NC","NC"', '"CN","NC"', 1),
        lambda text: text.replace('"x64":"off"', '"x64":"on"', 1),
    ],
)
def test_a_changed_index_is_always_found(tmp_path, change):
    path = write(tmp_path / "a.trace", [np.arange(4.0), np.arange(3.0)])
    text = (path / "index.jsonl").read_text()
    assert change(text) != text
    (path / "index.jsonl").write_text(change(text))
    with pytest.raises(TraceError, match=r"index\.jsonl: changed since it was recorded"):
        load_trace(str(path))


def test_nothing_may_follow_the_tail(tmp_path):
    path = write(tmp_path / "a.trace", [np.arange(4.0)])
    with (path / "index.jsonl").open("a") as file:
        file.write(lines_of(path)[-1])
    with pytest.raises(TraceError, match="goes on after its tail"):
        load_trace(str(path))


def test_a_recording_from_before_the_index_had_a_digest_is_read(tmp_path):
    path = write(tmp_path / "a.trace", [np.arange(4.0)])
    *lines, last = lines_of(path)
    tail = json.loads(last)
    assert len(tail["tail"].pop("index")) == 64
    (path / "index.jsonl").write_text("".join([*lines, json.dumps(tail) + "\n"]))
    assert len(load_trace(str(path), verify=True).records) == 1


def test_a_shard_without_a_digest_does_not_pass_for_verified(tmp_path):
    path = write(tmp_path / "a.trace", [np.arange(4.0)])
    *lines, last = lines_of(path)
    tail = json.loads(last)
    tail["tail"]["shards"] = {}
    (path / "index.jsonl").write_text("".join([*lines, json.dumps(tail) + "\n"]))
    with pytest.raises(TraceError, match="notes no digest of it"):
        load_trace(str(path), verify=True)


def test_the_digest_names_what_was_recorded(tmp_path):
    one, same, other = (
        write(tmp_path / f"{name}.trace", [np.arange(4.0) + more])
        for name, more in (("one", 0), ("same", 0), ("other", 1e-16 + 1))
    )
    assert digest_of(str(one)) == digest_of(str(same)) != digest_of(str(other))
    assert digest_of(str(one)) == hashlib.sha256((one / "index.jsonl").read_bytes()).hexdigest()
    with pytest.raises(TraceError, match="is not a recording"):
        digest_of(str(tmp_path))


def rewrite(path, change):
    lines = [change(json.loads(line)) for line in lines_of(path)]
    (path / "index.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "values-00000.safetensors/../x", "index.jsonl"]
)
def test_a_path_outside_the_folder_is_refused(tmp_path, name):
    path = write(tmp_path / "a.trace", [np.zeros(2)])
    rewrite(path, lambda line: {**line, "shard": name} if "shard" in line else line)
    with pytest.raises(TraceError, match="refused"):
        load_trace(str(path))


def test_a_link_in_place_of_a_shard_is_refused(tmp_path):
    path = write(tmp_path / "a.trace", [np.zeros(2)])
    shard = path / "values-00000.safetensors"
    shard.rename(tmp_path / "elsewhere")
    shard.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TraceError, match="plain file"):
        load_trace(str(path))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-1, 2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 10**15]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]},
        ["not", "an", "entry"],
    ],
)
def test_hostile_headers_are_refused(tmp_path, entry):
    text = json.dumps({"a": entry}).encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 8)
    with pytest.raises(TraceError):
        tensorfile.read_header(str(file))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 3) + b"{x}",
    ],
)
def test_files_that_are_no_safetensors_are_refused(tmp_path, content):
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    with pytest.raises(TraceError):
        tensorfile.read_header(str(file))


@pytest.mark.parametrize(
    "line",
    [
        "[1, 2]\n",
        "{nonsense\n",
        '"text"\n',
        '{"record": 3}\n',
        '{"record": {"name": 1}}\n',
        "[" * 100000 + "\n",
    ],
)
def test_lines_of_another_form_are_refused(tmp_path, line):
    path = write(tmp_path / "a.trace", [np.zeros(2)])
    lines = lines_of(path)
    (path / "index.jsonl").write_text("".join([lines[0], line, *lines[1:]]))
    with pytest.raises(TraceError):
        load_trace(str(path))


def test_another_schema_is_refused(tmp_path):
    path = write(tmp_path / "a.trace", [np.zeros(2)])
    rewrite(path, lambda line: {"head": {**line["head"], "schema": 99}} if "head" in line else line)
    with pytest.raises(TraceError, match="schema 99"):
        load_trace(str(path))


def test_a_folder_that_is_no_recording_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("text")
    with pytest.raises(RecordingError, match="left alone"):
        write(tmp_path, [np.zeros(2)])
    assert (tmp_path / "precious").read_text() == "text"
    with pytest.raises(RecordingError, match="left alone"):
        write(tmp_path / "precious", [np.zeros(2)])


def test_a_recording_replaces_a_recording(tmp_path):
    write(tmp_path / "a.trace", [np.zeros(2)])
    path = write(tmp_path / "a.trace", [np.ones(3)])
    np.testing.assert_array_equal(load_trace(str(path)).values["layer0:0"], np.ones(3))


def test_a_full_disk_is_explained_and_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    def full(path, tensors):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tracefile, "write_tensors", full)
    with pytest.raises(RecordingError, match="disk is full"):
        write(tmp_path / "a.trace", [np.zeros(2)])
    assert not (tmp_path / "a.trace").exists()
    with pytest.raises(TraceError):
        load_trace(str(tmp_path / "a.trace.partial"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_really_full_device_is_explained():
    with pytest.raises(OSError):
        tensorfile.write_tensors("/dev/full", {"a": np.zeros(10)})


def test_a_folder_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="could not be written"):
        write(tmp_path / "file" / "a.trace", [np.zeros(2)])


def test_an_unknown_dtype_is_named(tmp_path):
    with pytest.raises(TraceError, match="datetime64"):
        write(tmp_path / "a.trace", [np.zeros(2, "datetime64[s]")])


def test_a_port_without_a_value_is_refused():
    sink = MemorySink()
    sink.output(Port("0", "nowhere"))
    with pytest.raises(TraceError, match="nowhere"):
        sink.trace("model", ENVIRONMENT)
