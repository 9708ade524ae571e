"""Golden files: what a pruned recording keeps, what it can still show, and that it never claims more."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.examination import examine
from porting_check.keeping import keep, require_weights, restored, withheld
from porting_check.keeping.budget import parse_size, size_of
from porting_check.keeping.cuts import Place, in_order
from porting_check.keeping.notes import SAMPLES, digest, measures, positions
from porting_check.keeping.restoring import RestoredValues
from porting_check.keeping.weights import find_parameters
from porting_check.neutral.errors import InputError, TraceError
from porting_check.neutral.node import Node
from porting_check.neutral.trace import Trace
from porting_check.neutral.tracefile import StoredValues, TraceWriter, load_trace
from porting_check.report.assemble import assemble
from tests.unit.traces import conv, run_network

POLICIES = ("all", "boundaries", "sampled")
DEPTH = 7
WIDTH = 8


def weights(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    kernel = rng.standard_normal((WIDTH, WIDTH, 3, 3)) / 8
    return {"weight": kernel.astype(np.float32), "bias": rng.standard_normal(WIDTH).astype(np.float32)}


def relu_after(node: Node) -> list[Node]:
    return [replace(node, outputs=("z",)), Node("Relu", ("z",), ("y",), {})]


def network(
    layout: str = "NCHW", *, wrong: str = "", opaque: tuple[str, ...] = (), seeds=range(DEPTH)
) -> Trace:
    """Seven convolutions and a head; ``wrong`` names a layer that pads on the other side."""
    layers = []
    for number, seed in zip(range(DEPTH), seeds, strict=True):
        name = f"block{number // 2}.conv{number}"
        pads = (2, 2, 0, 0) if name == wrong else (1, 1, 1, 1)
        layers.append((name, relu_after(conv(pads)), weights(seed)))
    layers.append(("head", [Node("GlobalAveragePool", ("x",), ("y",), {})], {}))
    image = np.random.default_rng(99).standard_normal((2, WIDTH, 10, 12)).astype(np.float32)
    framework = "tensorflow" if layout == "NHWC" else "torch"
    return run_network(layers, image, layout=layout, framework=framework, opaque=opaque)


def judged(reference: Trace, candidate: Trace):
    """The report of a comparison as :func:`porting_check.compare` makes it, and the section."""
    ours, section = restored(reference, candidate)
    theirs, other = restored(candidate, ours, "candidate")
    found = withheld(examine(ours, theirs))
    sections = [s for s in (section, other) if s is not None]
    return assemble(found, {}, lambda stage, done, total: None, sections), section


@pytest.fixture(autouse=True)
def few_elements(monkeypatch):
    """Fewer elements than a small network's tensors have, so that these are dropped."""
    monkeypatch.setattr("porting_check.keeping.pruning.ELEMENTS", {"boundaries": 16, "sampled": 64})


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A full recording on disk, channels last."""
    trace = network("NHWC")
    path = tmp_path_factory.mktemp("full") / "full.trace"
    return write(trace, path)


def write(trace: Trace, path) -> Trace:
    with TraceWriter(str(path), trace.model, trace.environment) as writer:
        for key in trace.values:
            writer.value(key, trace.values[key])
        for record in trace.records:
            writer.record(record)
        for port in trace.inputs:
            writer.input(port)
        for port in trace.outputs:
            writer.output(port)
        writer.finish(trace.checks, trace.kept)
    return load_trace(str(path))


def edited(golden: Trace, path, change) -> Trace:
    """A recording with changed arrays, otherwise the same."""
    values = {key: np.array(golden.values[key]) for key in golden.values}
    change(values)
    return write(replace(golden, values=values), path)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_faithful_port_is_faithful_with_every_policy(full, tmp_path, policy):
    golden = keep(full, tmp_path / "g.trace", policy)
    report, section = judged(golden, network("NCHW"))
    assert report.verdict == "faithful", (report.reason, section)
    assert len(report.pairs) == len(judged(full, network("NCHW"))[0].pairs)
    assert section.id == "kept" and policy in section.answer


@pytest.mark.parametrize("policy", POLICIES)
def test_a_wrong_padding_is_found_with_its_cause_with_every_policy(full, tmp_path, policy):
    golden = keep(full, tmp_path / "g.trace", policy)
    wrong = "block1.conv3"
    expected = [f.cause for f in judged(full, network(wrong=wrong))[0].findings]
    report, _ = judged(golden, network(wrong=wrong))
    assert report.verdict == "divergent"
    assert [p.candidate for p in report.pairs if p.verdict == "divergent"] == [(wrong,)]
    assert [f.cause for f in report.findings] == expected and report.findings[0].proven


def test_smaller_policies_are_smaller(full, tmp_path):
    sizes = [size_of(keep(full, tmp_path / f"{policy}.trace", policy)) for policy in POLICIES]
    assert sizes[0] > 1.3 * max(sizes[1:])
    assert sizes[0] == pytest.approx(size_of(full), rel=0.02)


def test_everything_but_what_was_dropped_survives(full, tmp_path):
    golden = keep(full, tmp_path / "g.trace", "boundaries")
    assert golden.records == full.records or [r.to_json() for r in golden.records] == [
        r.to_json() for r in full.records
    ]
    dropped = golden.kept["dropped"]
    for key in full.values:
        if key in dropped:
            assert dropped[key]["shape"] == list(full.values[key].shape) and key not in golden.values
        else:
            assert golden.values[key].tobytes() == full.values[key].tobytes()
    outside = {port.value for port in full.inputs + full.outputs}
    assert outside <= set(golden.values)
    assert dropped and not any(key.startswith("parameter:") for key in dropped)
    for key, note in dropped.items():
        at = positions(key, full.values[key].size, note["samples"], 0)
        assert np.array_equal(golden.values[SAMPLES + key], full.values[key].reshape(-1)[at])


def test_restored_values_are_the_recorded_ones_within_round_off(full, tmp_path):
    golden = keep(full, tmp_path / "g.trace", "sampled")
    trace, _ = restored(golden, network("NCHW"))
    assert isinstance(trace.values, RestoredValues) and trace.values.made
    for key in trace.values.made:
        recorded = np.asarray(full.values[key])
        assert trace.values[key].dtype == recorded.dtype
        assert np.abs(trace.values[key] - recorded).max() < 1e-5 * np.abs(recorded).max()
    for key in full.values:
        if key.startswith("parameter:"):
            assert trace.values[key].tobytes() == full.values[key].tobytes()


def test_numbers_that_only_recorded_values_carry_are_withheld(full, tmp_path):
    golden = keep(full, tmp_path / "g.trace", "sampled")
    candidate = network("NCHW")
    whole, _ = judged(full, candidate)
    assert any(pair.verdict == "identical" for pair in judged(full, full)[0].pairs)
    report, _ = judged(golden, candidate)
    inner = [pair for pair in report.pairs if "head" not in pair.reference]
    assert all(pair.end_to_end is None and pair.reference_error is None for pair in inner)
    assert all(pair.candidate_error is not None for pair in report.pairs)
    assert not any(pair.verdict == "identical" for pair in judged(golden, full)[0].pairs[:-1])
    assert report.pairs[-1].end_to_end == whole.pairs[-1].end_to_end
    assert report.pairs[-1].reference_error is None


def test_restored_values_may_lie_on_disk(full, tmp_path, monkeypatch):
    golden = keep(full, tmp_path / "g.trace", "sampled")
    held = restored(golden, network("NCHW"))[0].values
    monkeypatch.setattr("porting_check.keeping.restoring.IN_MEMORY", 0)
    stored = restored(golden, network("NCHW"))[0].values
    assert isinstance(stored.made, StoredValues) and set(stored.made) == set(held.made)
    assert all(np.array_equal(stored[key], held[key]) for key in held)


@pytest.mark.parametrize("policy", ["boundaries", "sampled"])
@pytest.mark.parametrize("share", [0.9, 0.7, 0.5])
def test_a_budget_is_respected(full, tmp_path, policy, share):
    allowed = int(share * size_of(full))
    golden = keep(full, tmp_path / "g.trace", policy, allowed)
    assert size_of(golden) <= allowed
    assert golden.kept["budget"] == allowed
    assert judged(golden, network("NCHW"))[0].verdict == "faithful"


def test_a_larger_budget_keeps_more_cuts(full, tmp_path):
    counts = []
    for share in (0.55, 0.7, 0.85):
        golden = keep(full, tmp_path / f"{share}.trace", "boundaries", int(share * size_of(full)))
        counts.append(sum(key.startswith("block") for key in golden.values))
    assert counts == sorted(counts) and counts[0] < counts[-1]


@pytest.mark.parametrize("policy", POLICIES)
def test_too_small_a_budget_says_the_smallest_possible(full, tmp_path, policy):
    with pytest.raises(InputError, match="at least") as error:
        keep(full, tmp_path / "g.trace", policy, 2000)
    least = int(str(error.value).split("at least ")[1].split()[0])
    golden = keep(full, tmp_path / "g.trace", policy, least)
    assert 0.5 * least < size_of(golden) <= least
    with pytest.raises(InputError, match="at least"):
        keep(full, tmp_path / "h.trace", policy, least - 2000)


@pytest.mark.parametrize("text", ["", "many", "-3", "0", "12 parsecs", "1e3"])
def test_a_budget_that_is_no_size_is_refused(full, tmp_path, text):
    with pytest.raises(InputError, match="no size"):
        keep(full, tmp_path / "g.trace", "sampled", text)


def test_sizes_are_read():
    assert [parse_size(t) for t in ("20MB", "1.5 GiB", "300", "2k", 77)] == [
        20_000_000,
        3 * 2**29,
        300,
        2000,
        77,
    ]


def test_wrong_uses_are_refused(full, tmp_path):
    with pytest.raises(InputError, match="unknown"):
        keep(full, tmp_path / "g.trace", "some")
    with pytest.raises(InputError, match="itself"):
        keep(full, full.values.path, "sampled")
    golden = keep(full, tmp_path / "g.trace", "sampled")
    with pytest.raises(InputError, match="pruned already"):
        keep(golden, tmp_path / "h.trace", "boundaries")


# A recording that is not what it says.


@pytest.mark.parametrize("policy", ["boundaries", "sampled"])
def test_a_tampered_sample_is_found_and_named(full, tmp_path, policy):
    golden = keep(full, tmp_path / "g.trace", policy)
    key = next(iter(k for k in golden.kept["dropped"] if not k.startswith("parameter:")))

    def change(values):
        elements = values[SAMPLES + key]
        elements[7] += np.float32(3e-3) * np.abs(elements).max()

    report, section = judged(edited(golden, tmp_path / "t.trace", change), network("NCHW"))
    assert report.verdict == "inconclusive" and section.verdict == "inconclusive"
    assert key in section.answer and "contradicts" in "".join(section.notes)


def test_a_tampered_output_is_found(full, tmp_path):
    golden = keep(full, tmp_path / "g.trace", "sampled")

    def change(values):
        values["head:0"].reshape(-1)[3] += np.float32(0.001) * values["head:0"].max()

    report, section = judged(edited(golden, tmp_path / "t.trace", change), network("NCHW"))
    assert report.verdict != "faithful" and "head:0" in section.answer


def test_numbers_of_a_note_are_held_against_the_nodes(full, tmp_path):
    golden = keep(full, tmp_path / "g.trace", "sampled")
    kept = json.loads(json.dumps(golden.kept))
    key = next(k for k in kept["dropped"] if not k.startswith("parameter:"))
    kept["dropped"][key]["rms"] *= 1.001
    report, section = judged(write(replace(golden, kept=kept), tmp_path / "t.trace"), network("NCHW"))
    assert report.verdict == "inconclusive" and "rms" in "".join(section.notes)


def test_a_value_that_its_nodes_do_not_give_is_kept_whole_with_what_it_was_made_from(tmp_path):
    trace = network("NHWC")
    values = dict(trace.values)
    key = "block1.conv2:0"
    values[key] = values[key] * np.float32(1.001)
    lying = write(replace(trace, values=values), tmp_path / "full.trace")
    whole = judged(lying, network("NCHW"))[0]
    for policy in ("boundaries", "sampled"):
        golden = keep(lying, tmp_path / f"{policy}.trace", policy)
        assert key in golden.values and "block0.conv1:0" in golden.values and key in golden.kept["not_given"]
        report, _ = judged(golden, network("NCHW"))
        assert report.verdict == whole.verdict == "inconclusive"
        pairs = [next(p for p in r.pairs if "block1.conv2" in p.reference) for r in (report, whole)]
        assert pairs[0].explanation == pairs[1].explanation


def test_a_missing_sample_is_damage(full, tmp_path):
    golden = keep(full, tmp_path / "g.trace", "sampled")
    key = next(k for k in golden.kept["dropped"] if not k.startswith("parameter:"))
    with pytest.raises(TraceError, match="no such sample"):
        restored(edited(golden, tmp_path / "t.trace", lambda values: values.pop(SAMPLES + key)), network())


def test_a_recording_without_its_statement_is_refused(full, tmp_path):
    golden = keep(full, tmp_path / "g.trace", "sampled")
    with pytest.raises(TraceError, match="not stored"):
        write(replace(golden, kept=None), tmp_path / "t.trace")
    few = {**golden.kept, "dropped": dict(list(golden.kept["dropped"].items())[1:])}
    with pytest.raises(TraceError, match="not stored"):
        write(replace(golden, kept=few), tmp_path / "u.trace")


@pytest.mark.parametrize(
    "note",
    [
        {"shape": [-1], "dtype": "float32"},
        {"shape": [2**50], "dtype": "float32"},
        {"shape": [2], "dtype": "O"},
        {},
    ],
)
def test_a_statement_that_does_not_hold_is_refused(full, tmp_path, note):
    golden = keep(full, tmp_path / "g.trace", "sampled")
    kept = {**golden.kept, "dropped": {**golden.kept["dropped"], "more": note}}
    with pytest.raises(TraceError):
        write(replace(golden, kept=kept), tmp_path / "t.trace")


# What nothing can compute again.


def test_what_an_opaque_layer_made_is_kept_and_is_never_a_pass(tmp_path):
    hidden = ("block1.conv3",)
    trace = write(network("NHWC", opaque=hidden), tmp_path / "full.trace")
    for policy in ("boundaries", "sampled"):
        golden = keep(trace, tmp_path / f"{policy}.trace", policy)
        assert "block1.conv3:0" in golden.values
        report, _ = judged(golden, network("NCHW"))
        assert report.verdict == "inconclusive"
        pairs = {name: p.verdict for p in report.pairs for name in p.reference}
        assert pairs["block1.conv3"] == "undecided"
        others = [verdict for name, verdict in pairs.items() if name not in hidden]
        assert set(others) <= {"round-off", "identical"}, pairs


def test_weights_that_the_port_does_not_hold_are_not_compared(full, tmp_path):
    golden = keep(full, tmp_path / "g.trace", "sampled")
    other = network("NCHW", seeds=[0, 1, 2, 77, 4, 5, 6])
    report, section = judged(golden, other)
    assert report.verdict == "inconclusive" and section.verdict == "inconclusive"
    stuck = [p for p in report.pairs if p.verdict == "undecided"]
    assert "were not kept and the port's are others" in stuck[0].explanation
    assert "block1.conv3.weight" in stuck[0].explanation and "kept elements differ" in stuck[0].explanation
    assert {p.verdict for p in report.pairs if p.reference[0] in ("block0.conv0", "block0.conv1")} == {
        "round-off"
    }
    assert "of 'block1.conv3.weight' 64 of 64" in stuck[0].explanation and len(stuck) == 1
    behind = [p for p in report.pairs if p.reference[0] in ("block2.conv4", "block2.conv5", "block3.conv6")]
    assert len(behind) == 3 and all(p.verdict == "round-off" and "on noise" in p.explanation for p in behind)
    assert "3 more were evaluated on noise" in section.answer
    wrong = network("NCHW", seeds=[0, 1, 2, 77, 4, 5, 6], wrong="block2.conv5")
    report, _ = judged(golden, wrong)
    assert report.verdict == "divergent" and report.findings[0].pair.candidate == ("block2.conv5",)


def test_a_network_that_was_never_run_is_no_recording(full, tmp_path):
    never = replace(full, values={})
    with pytest.raises(InputError, match=r"no recording of a run: it has no values of .*; record the model"):
        keep(never, tmp_path / "n.trace", "boundaries")


def test_weights_that_were_not_kept_cannot_be_moved(full, tmp_path):
    require_weights(full)
    require_weights(keep(full, tmp_path / "b.trace", "boundaries"))
    with pytest.raises(InputError, match="kept by digest"):
        require_weights(keep(full, tmp_path / "s.trace", "sampled"))


def test_weights_that_were_kept_are_compared(full, tmp_path):
    golden = keep(full, tmp_path / "g.trace", "boundaries")
    report, _ = judged(golden, network("NCHW", seeds=[0, 1, 2, 77, 4, 5, 6]))
    assert (
        report.verdict == "divergent"
        and report.findings[0].cause
        == judged(full, network("NCHW", seeds=[0, 1, 2, 77, 4, 5, 6]))[0].findings[0].cause
    )


def test_a_kernel_that_the_port_holds_transposed_is_proven_and_the_port_divergent(full, tmp_path):
    golden = keep(full, tmp_path / "g.trace", "sampled")
    candidate = network("NCHW")
    swapped = {**weights(3), "weight": np.ascontiguousarray(weights(3)["weight"].transpose(0, 1, 3, 2))}
    layers = [
        (f"block{n // 2}.conv{n}", relu_after(conv((1, 1, 1, 1))), swapped if n == 3 else weights(n))
        for n in range(DEPTH)
    ]
    layers.append(("head", [Node("GlobalAveragePool", ("x",), ("y",), {})], {}))
    wrong = run_network(layers, np.asarray(candidate.values["input:0"]))
    report, _ = judged(golden, wrong)
    assert report.verdict == "divergent"
    assert [f.cause for f in report.findings] == [f.cause for f in judged(full, wrong)[0].findings]


def test_a_pruned_candidate_is_restored_too(full, tmp_path):
    candidate = write(network("NCHW"), tmp_path / "c.trace")
    golden = keep(candidate, tmp_path / "g.trace", "boundaries")
    report, _ = judged(full, golden)
    assert report.verdict == "faithful"
    assert all(p.candidate_error is None for p in report.pairs if p.end_to_end is None)
    assert report.section("kept-candidate").answer.startswith("The candidate")


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.transpose(2, 3, 1, 0),
        lambda w: w.transpose(2, 3, 1, 0).reshape(3, 3, 48),
        lambda w: np.ascontiguousarray(w.transpose(3, 1, 0, 2)).reshape(18, 24),
    ],
)
def test_a_layout_map_is_proven_by_bytes(full, tmp_path, change):
    array = np.random.default_rng(5).standard_normal((6, 8, 3, 3)).astype(np.float32)
    trace = network()
    record = trace.records[0]
    key = record.parameters[0].value
    note = {"shape": [6, 8, 3, 3], "dtype": "float32", "digest": digest(array), "samples": 0}
    from porting_check.alignment.fingerprint import weight_hash

    note["hash"] = weight_hash(array)
    values = {k: v for k, v in trace.values.items() if k != key}
    pruned = replace(trace, values=values, kept={"dropped": {key: note}, "seed": 0})
    other = replace(trace, values={**trace.values, key: np.ascontiguousarray(change(array))})
    found = find_parameters(pruned, other)
    assert np.array_equal(found.arrays[key], array) and not found.lacking


def test_gates_in_another_order_are_proven_by_bytes():
    array = np.random.default_rng(5).standard_normal((5, 12)).astype(np.float32)
    z, r, h = np.split(array, 3, axis=1)
    from porting_check.keeping.weights import _proven

    note = {"shape": [5, 12], "dtype": "float32", "digest": digest(array)}
    made = _proven(np.ascontiguousarray(np.concatenate([r, z, h], axis=1).T), note)
    assert made is not None and np.array_equal(made[0], array) and "gates" in made[1]
    assert _proven(array[:, ::-1], note) is None


# Parts.


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 10**9), st.integers(1, 300), st.integers(0, 5), st.text(max_size=8))
def test_positions_are_distinct_ascending_and_inside(size, count, seed, key):
    at = positions(key, size, count, seed)
    assert len(at) == min(size, count) and at[0] >= 0 and at[-1] < size
    assert (np.diff(at) > 0).all()


def test_positions_never_change():
    """They are not stored: another result would make every golden file unreadable."""
    assert positions("conv1:0", 1000, 5, 0).tolist() == POSITIONS
    assert positions("conv1:0", 1000, 5, 1).tolist() != POSITIONS


POSITIONS = [118, 331, 538, 703, 871]


def test_measures_leave_out_what_is_not_finite():
    assert measures(np.array([3.0, -4.0, np.nan, np.inf])) == {
        "min": -4.0,
        "max": 3.0,
        "rms": pytest.approx(np.sqrt(12.5)),
        "nonfinite": 2,
    }
    assert measures(np.zeros(0))["min"] is None


def test_cuts_halve_the_longest_stretch_and_prefer_narrow_places():
    chain = [Place(str(n), n, True, False, 4) for n in range(1, 16)]
    assert [p.key for p in in_order(chain, 16, [])][:3] == ["7", "11", "3"]
    wide = [Place(str(n), n, n == 6, False, 4) for n in range(1, 16)]
    assert next(in_order(wide, 16, [])).key == "6"
    small = [Place(str(n), n, True, False, 1 if n == 9 else 4) for n in range(1, 16)]
    assert next(in_order(small, 16, [])).key == "9"
    assert sorted(p.key for p in in_order(wide, 16, [])) == sorted(p.key for p in wide)
