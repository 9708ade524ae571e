"""``porting-check sweep``: one command, real frameworks in processes of their own, every form of the result."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

TWO = ("-f", "torch,onnxruntime")


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "porting_check.cli", "sweep", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    folder = tmp_path_factory.mktemp("sweep")
    saved = [
        part
        for suffix in ("json", "html", "svg", "csv", "md", "txt")
        for part in ("--save", str(folder / f"s.{suffix}"))
    ]
    layer = "Conv(filters=4, padding=same)"
    return command(layer, "--vary", "kernel=1,3,5", "--shape", "1,3,12,12", *TWO, *saved), folder


def test_it_prints_the_answer_the_growth_the_numbers_and_a_drawing(done):
    run, _ = done
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[0].startswith(
        "AGREE: torch, onnxruntime compute Conv(filters=4, padding=same) within round-off"
    )
    assert "grows as kernel to the power of: torch" in run.stdout
    assert [line.split()[:2] for line in lines if line.strip()[:2] in ("1 ", "3 ", "5 ")][:3] == [
        ["1", "4"], ["3", "28"], ["5", "76"],
    ]  # fmt: skip
    assert "░" in run.stdout
    assert "● torch   ■ onnxruntime" in run.stdout


def test_every_form_says_the_same(done):
    _, folder = done
    data = json.loads((folder / "s.json").read_text())
    assert (data["verdict"], data["exit_status"], data["quantity"]) == ("agree", 0, "kernel")
    rows = list(csv.DictReader((folder / "s.csv").open()))
    errors = [float(row["rms"]) for row in rows if row["name"] == "torch" and not row["against"]]
    assert errors == [point["measures"]["torch"]["rms"] for point in data["points"]]
    circles = [e for e in ET.parse(folder / "s.svg").iter() if e.tag.endswith("circle")]
    assert len(circles) == 3 + 1  # one mark of the first framework per point, and one in the legend
    assert (folder / "s.md").read_text().startswith("**AGREE")
    assert "Content-Security-Policy" in (folder / "s.html").read_text()


def test_json_is_one_document_on_stdout():
    run = command("Gemm()", "--vary", "dimension=8..32", *TWO, "--json", "--seed", "3")
    assert run.returncode == 0, run.stderr
    data = json.loads(run.stdout)
    assert [point["value"] for point in data["points"]] == [8, 16, 32]
    assert set(data["environments"]) == {"torch", "onnxruntime"}


def test_what_float32_cannot_hold_is_a_difference(tmp_path):
    run = command("MatMul()", "--vary", "weights=1,3e38", *TWO, "--save", str(tmp_path / "s.svg"))
    assert run.returncode == 1, run.stdout
    assert run.stdout.startswith(
        "DIFFER: 1 of 2 points of MatMul(); first at weights 3e+38: torch, onnxruntime"
    )
    assert "not finite" in (tmp_path / "s.svg").read_text()


def test_what_a_framework_cannot_compute_is_no_agreement():
    run = command("Conv(filters=2)", "--vary", "kernel=1,3", *TWO, "--float64")
    assert run.returncode == 4, run.stdout
    assert run.stdout.startswith("INCONCLUSIVE")
    assert "onnxruntime at kernel 1: refused" in run.stdout


def test_a_framework_that_does_not_start_leaves_it_undecided():
    run = command(
        "Relu()", "--vary", "size=4,8", "-f", "jax", "-f", "torch", "--quiet", JAX_PLATFORMS="nonsense"
    )
    assert run.returncode == 4, run.stderr
    assert run.stdout.startswith("INCONCLUSIVE")
    assert len(run.stdout.splitlines()) == 1


def test_when_none_starts_the_status_says_not_run(tmp_path):
    for name in ("torch", "onnxruntime"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name} is broken here')\n")
    run = command("Relu()", "--vary", "size=4,8", *TWO, PYTHONPATH=str(tmp_path))
    assert run.returncode == 3, run.stdout
    assert "no framework could be run" in run.stderr
    assert all(f"{name} is broken here" in run.stderr for name in ("torch", "onnxruntime"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("Conv()", "--vary", "kernl=1,3"), "did you mean 'kernel'"),
        (("Konv()", "--vary", "kernel=1,3"), "did you mean Conv"),
        (("model.onnx", "--vary", "kernel=1,3"), "is not a layer"),
        (("Conv()", "--vary", "kernel"), "write what to vary and its values"),
        (("Conv()", "--vary", "kernel=one"), "is no number"),
        (("Conv()", "--vary", "kernel=8..1"), "a range doubles"),
        (("Conv()", "--vary", "kernel=1e-300..1e300"), "at most 64"),
        (("Conv()",), "--vary"),
        (("Conv()", "--vary", "kernel=1", "-f", "torch"), "needs two or more"),
        (("Conv()", "--vary", "kernel=1", "-f", "torch,caffe"), "no adapter for 'caffe'"),
        (("Conv()", "--vary", "kernel=1", "--shape", "a,b"), "is not a shape"),
        (("Conv()", "--vary", "kernel=1", "--data", "norml"), "did you mean 'normal'"),
        (("Conv()", "--vary", "channels=50000000"), "the limit is 2 GiB"),
        (("Conv()", "--vary", "kernel=1", "--save", "plot.pdf"), "a sweep is saved as one of"),
        (("Conv()", "--vary", "kernel=99", *TWO), "does not fit"),
    ],
)
def test_wrong_usage_is_explained(arguments, said):
    run = command(*arguments)
    assert run.returncode == 2
    assert said in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""
