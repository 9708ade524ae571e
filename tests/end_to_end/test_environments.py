"""A side runs where it must: another interpreter, at the same time as the other side, and nothing stays behind."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import psutil
import pytest

import porting_check as pc
from porting_check.neutral.errors import InputError, ModelError, RunError

pytestmark = pytest.mark.slow

MODELS = """
    import os, time
    import torch
    from torch import nn

    def build():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()

    class Waiting(nn.Module):
        "Runs on when the other side has begun."
        def __init__(self):
            super().__init__()
            self.net = build()
        def forward(self, x):
            end = time.monotonic() + 120
            while not os.path.exists(os.environ["PORT_BEGAN"]):
                if time.monotonic() > end:
                    raise TimeoutError("the other side never began")
                time.sleep(0.05)
            return self.net(x)

    def waits():
        return Waiting().eval()

    def begins():
        open(os.environ["PORT_BEGAN"], "w").close()
        return build()

    class Hanging(nn.Module):
        def forward(self, x):
            open(os.environ["PORT_BEGAN"], "w").close()
            time.sleep(600)

    def hangs():
        return Hanging().eval()

    def raises():
        raise ValueError("no weights here")

    def listening():
        "Says which of the host's variables reach it."
        if "SECRET_OF_THE_HOST" in os.environ:
            raise ValueError("the secret leaked: " + os.environ["SECRET_OF_THE_HOST"])
        if os.environ.get("WANTED") != "yes":
            raise ValueError("the variable that was asked for is missing")
        return build()
"""
OTHER = f"python:{sys.executable}"


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(textwrap.dedent(MODELS))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((1, 3, 9, 11)).astype("f4"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT_BEGAN", str(tmp_path / "began"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def run(*arguments, **options):
    command = [sys.executable, "-m", "porting_check.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def test_a_side_runs_in_another_interpreter_and_the_report_says_where(place):
    done = run("compare", "net.py:build", "net.py:build", "-i", "x.npy", "--candidate-env", OTHER)
    assert done.returncode == 0, done.stderr
    head = "\n".join(done.stdout.splitlines()[:5])
    assert "FAITHFUL" in head
    assert f"in {OTHER}"[:30] in head
    assert f"--candidate-env {OTHER}" in done.stdout


def test_nothing_of_the_hosts_environment_leaks_in_but_what_was_asked_for(place, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_HOST", "12345")
    trace = pc.record("net.py:listening", "x.npy", environment=f"{OTHER},env.WANTED=yes")
    assert trace.environment.origin["environment"].startswith("python:")
    assert trace.model == "net.py:listening"
    assert trace.environment.machine["cores"]
    with pytest.raises(ModelError, match="the variable that was asked for is missing"):
        pc.record("net.py:listening", "x.npy", environment=OTHER)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_both_sides_run_at_the_same_time(place):
    report = pc.compare("net.py:waits", "net.py:begins", "x.npy", layouts={"reference": "NCHW"})
    assert report.verdict == "faithful", str(report)


def test_the_error_of_either_side_ends_the_other_and_is_the_one_that_is_told(place):
    started = time.monotonic()
    with pytest.raises(ModelError, match="no weights here"):
        pc.compare("net.py:hangs", "net.py:raises", "x.npy", layouts={"reference": "NCHW"})
    with pytest.raises(ModelError, match="no weights here"):
        pc.compare("net.py:raises", "net.py:build", "x.npy")
    assert time.monotonic() - started < 120
    assert left_over(place) == []


def test_a_hanging_model_is_ended_at_its_limit_with_status_3(place):
    done = run("record", "net.py:hangs", "-i", "x.npy", "--env", f"{OTHER},timeout=10,env.PORT_BEGAN=began")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "10 s" in done.stderr
    assert len(done.stderr.strip().splitlines()) < 20
    assert not list(place.glob("*.trace"))
    assert left_over(place) == []


def test_an_interruption_leaves_nothing_behind(place):
    command = [sys.executable, "-m", "porting_check.cli", "compare", "net.py:hangs", "net.py:build"]
    process = subprocess.Popen([*command, "-i", "x.npy"], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not (place / "began").exists() and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 130, words
    assert "Traceback" not in words
    assert left_over(place) == []


def test_an_environment_for_what_cannot_be_taken_there_is_refused(place):
    import torch

    model = torch.nn.Linear(3, 2).eval()
    with pytest.raises(InputError, match=r"a live Linear.*file.py:function"):
        pc.compare(model, model, environments={"reference": OTHER})
    with pytest.raises(InputError, match="a live Linear"):
        pc.record(model, environment=OTHER)
    with pytest.raises(InputError, match="expected 'reference' and 'candidate'"):
        pc.compare("net.py:build", model, environments={"ref": OTHER})


def test_the_configuration_file_says_where_sides_run_and_the_option_comes_first(place):
    text = f"""
        [environments.other]
        python = "{sys.executable}"
        variables = {{ OMP_NUM_THREADS = "1" }}
        [environments.broken]
        python = "no/such/python"
        [compare]
        candidate-env = "broken"
    """
    (place / "porting-check.toml").write_text(textwrap.dedent(text))
    arguments = ["compare", "net.py:build", "net.py:build", "-i", "x.npy"]
    done = run(*arguments)
    assert done.returncode in (2, 3)
    assert "no/such/python" in done.stderr
    done = run(*arguments, "--candidate-env", "other", "--json")
    assert done.returncode == 0, done.stderr
    assert '"environment": "other"' in done.stdout


def test_the_printed_commands_do_by_hand_what_the_command_does(place):
    arguments = ["compare", "net.py:build", "net.py:build", "-i", "x.npy"]
    arguments += ["--candidate-env", OTHER, "--reference-env", f"{OTHER},env.OMP_NUM_THREADS=1"]
    done = run(*arguments, "--print-commands")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in place.iterdir()) == ["net.py", "x.npy"]
    tools = f'porting-check() {{ {shlex.quote(sys.executable)} -m porting_check.cli "$@"; }}\nset -e\n'
    by_hand = subprocess.run(["bash", "-c", tools + done.stdout], capture_output=True, text=True, timeout=300)
    assert by_hand.returncode == 0, done.stdout + by_hand.stdout + by_hand.stderr
    assert "FAITHFUL" in by_hand.stdout


def test_a_recording_by_hand_is_the_recording(place):
    done = run("record", "net.py:build", "-i", "x.npy", "--env", OTHER, "-o", "net.trace", "--print-commands")
    assert done.returncode == 0, done.stderr
    tools = f'porting-check() {{ {shlex.quote(sys.executable)} -m porting_check.cli "$@"; }}\nset -e\n'
    by_hand = subprocess.run(["bash", "-c", tools + done.stdout], capture_output=True, text=True, timeout=300)
    assert by_hand.returncode == 0, by_hand.stderr
    assert pc.load_trace("net.trace", verify=True).model == "net.py:build"


def test_printed_commands_cannot_show_what_goes_back_and_forth(place):
    done = run("compare", "net.py:build", "net.py:build", "--transfer", "--print-commands")
    assert done.returncode == 2
    assert "--transfer" in done.stderr


def test_a_side_that_dies_says_so(place):
    (place / "dies.py").write_text("import os\n\ndef build():\n    os.kill(os.getpid(), 9)\n")
    with pytest.raises(RunError, match="killed"):
        pc.compare("net.py:build", "dies.py:build", "x.npy")


def left_over(place):
    """Processes that still work on these models, and folders that were left beside them."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(str(place) in word for word in words) and process.pid != os.getpid():
            found.append(" ".join(words))
    return found + [path.name for path in place.iterdir() if path.name.startswith(".")]
