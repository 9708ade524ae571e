"""Networks that others trained and published in several formats: they agree, and each pair must be found faithful."""

from __future__ import annotations

import numpy as np
import pytest

import porting_check as pc
from porting_check.neutral.trace import MemorySink
from porting_check.recorder.registry import load_adapter
from porting_check.recorder.session import record_model

CHUNKS = 8
SILERO = [
    "silero_vad.onnx", "silero_vad_16k_op15.onnx", "silero_vad_op18_ifless.onnx", "silero_vad_openvino_16k.onnx",
]  # fmt: skip


def said(report):
    wrong = [p for p in report.pairs if p.verdict not in ("identical", "round-off")]
    return report.reason, [(p.op, p.verdict, p.explanation) for p in wrong][:5], report.not_compared[:5]


# basic-pitch: note and onset have one shape, and each format lists the outputs in another order.


@pytest.fixture(scope="module")
def pitch(package_folder):
    pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    return package_folder("basic_pitch", "saved_models/icassp_2022")


@pytest.fixture(scope="module")
def sound():
    t = np.arange(43844) / 22050
    x = 0.4 * np.sin(2 * np.pi * 440 * t) + 0.3 * np.sin(2 * np.pi * 660 * t) * (t > 1)
    return (x + 0.01 * np.random.default_rng(0).normal(size=t.size)).astype(np.float32)[None, :, None]


@pytest.mark.slow
def test_basic_pitch_as_tflite_is_faithful_to_its_saved_model(pitch, sound):
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    report = pc.compare(str(pitch / "nmp"), str(pitch / "nmp.tflite"), {"input_2": sound})
    assert report.verdict == "faithful", said(report)
    assert sorted(pair.paired_by[0] for pair in report.outputs) == [
        "model output 'contour'", "model output 'note'", "model output 'onset'",
    ]  # fmt: skip


@pytest.mark.slow
def test_basic_pitch_as_onnx_is_faithful_although_the_names_of_its_outputs_are_lost(pitch, sound):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    report = pc.compare(str(pitch / "nmp"), str(pitch / "nmp.onnx"), {"input_2": sound})
    assert report.verdict == "faithful", said(report)
    shown = " ".join(pair.paired_by[0] for pair in report.outputs)
    for ours, theirs in (("contour", 0), ("note", 1), ("onset", 2)):
        assert f"{ours!r}, which is 'StatefulPartitionedCall:{theirs}' in the candidate" in shown
    assert all("same values" in pair.paired_by[1] for pair in report.outputs)


# silero-vad: recurrent, with its state inside (TorchScript) or fed (ONNX).


@pytest.fixture(scope="module")
def silero(package_folder):
    pytest.importorskip("torch", reason="torch is not installed")
    return package_folder("silero_vad", "data")


@pytest.fixture(scope="module")
def chunks():
    t = np.arange(512 * CHUNKS) / 16000
    x = 0.3 * np.sin(2 * np.pi * 180 * t) * (1 + 0.5 * np.sin(2 * np.pi * 4 * t))
    x = (x + 0.02 * np.random.default_rng(0).normal(size=t.size)).astype(np.float32)
    return x.reshape(CHUNKS, 1, 512)


def test_silero_vad_is_recorded_inside_over_a_sequence_with_its_state_in_the_module(silero, chunks):
    import torch

    adapter = load_adapter("torch")
    model = adapter.load(str(silero / "silero_vad.jit"))
    model.reset_states()
    probabilities = []
    for chunk in chunks:
        sink = MemorySink()
        checks = record_model(adapter, model, {"0": chunk, "1": np.array(16000)}, sink)
        trace = sink.trace("silero", adapter.environment(), checks)
        assert checks.observer_difference == 0.0
        with torch.no_grad():
            expected = model(torch.from_numpy(chunk), 16000).numpy()  # goes on to the next chunk
        np.testing.assert_array_equal(trace.values[trace.outputs[0].value], expected)
        probabilities.append(expected.item())
        opaque = {record.id: record.reason for record in trace.records if record.opaque}
        assert set(opaque) <= {"_model.stft/atan2"}, opaque  # the phase, which nothing uses
    assert "_model.decoder.rnn" in {record.name for record in trace.records}
    assert len(set(probabilities)) == CHUNKS
    used = set(trace.parameters())
    assert used == {name for name in adapter.parameters(model) if name.startswith("_model.")}


def fed_module(silero):
    """The compiled network with frame and state as arguments, as the ONNX files have it."""
    import torch

    class Fed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.jit = torch.jit.load(str(silero / "silero_vad.jit"), map_location="cpu").eval()

        def forward(self, **given):
            output, state = self.jit._model(given["input"], given["state"])
            return {"output": output, "stateN": state}

    return Fed().eval()


@pytest.mark.parametrize("file", SILERO)
@pytest.mark.slow
def test_silero_vad_as_onnx_is_faithful_over_a_sequence_with_its_state_carried(silero, chunks, file):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = onnxruntime.InferenceSession(str(silero / file))
    names = [node.name for node in session.get_inputs()]
    reference = fed_module(silero)
    state, context = np.zeros((2, 1, 128), np.float32), np.zeros((1, 64), np.float32)
    verdicts = []
    for chunk in chunks:
        frame = np.concatenate([context, chunk], 1)
        feeds = {"input": frame, "state": state, "sr": np.array(16000)}
        inputs = {name: feeds[name] for name in names}
        report = pc.compare(reference, _model(silero / file), inputs)
        verdicts.append(report.verdict)
        assert report.verdict == "faithful", (len(verdicts), *said(report))
        state, context = session.run(None, inputs)[1], frame[:, -64:]
    assert verdicts == ["faithful"] * CHUNKS


def _model(path):
    return load_adapter("onnxruntime").load(str(path))
