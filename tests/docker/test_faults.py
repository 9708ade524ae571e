"""Faults injected into real containers: each ends clean, with status 3 or the inside's own error, and with its reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from porting_check.environments.docker import DockerRunner
from porting_check.environments.runner import Task
from porting_check.environments.specification import parse
from porting_check.neutral.errors import ModelError, PortingError, RunError, TraceError
from porting_check.neutral.tracefile import load_trace
from tests.docker import image as images
from tests.docker.conftest import Record, containers, folder, plain_request

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def failing(action: Callable[[], object], kind: type[PortingError] = RunError) -> str:
    """The message of an error, which must be of that type."""
    with pytest.raises(kind) as caught:
        action()
    assert type(caught.value) is kind
    assert kind is not RunError or caught.value.exit_status == 3
    return str(caught.value)


SLEEP = """
import sys, time
def sleep():
    print("asleep", file=sys.stderr, flush=True)
    time.sleep(1000)
"""


def running(process: int = 0, seconds: float = 120) -> str:
    """The id of the container of a process, once it runs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for container in containers(process):
            if images.docker("inspect", "--format", "{{.State.Running}}", container, check=False) == "true":
                return container
        time.sleep(0.2)
    raise AssertionError("no container began to run")


def test_a_container_that_is_killed_while_it_records(record: Record, write: Callable[..., str]) -> None:
    killer = threading.Timer(0, lambda: images.docker("kill", running(), check=False))
    killer.start()
    message = failing(lambda: record(f"{write(SLEEP)}:sleep"))
    killer.join()
    assert "was killed from outside" in message and "net.py:sleep" in message


def test_a_container_that_is_removed_while_it_records(record: Record, write: Callable[..., str]) -> None:
    killer = threading.Timer(0, lambda: images.docker("rm", "--force", running(), check=False))
    killer.start()
    message = failing(lambda: record(f"{write(SLEEP)}:sleep"))
    killer.join()
    assert "removed from outside" in message or "killed from outside" in message


def test_more_memory_than_the_limit(record: Record, write: Callable[..., str]) -> None:
    model = write("\ndef greedy():\n    return [bytearray(b'x' * 2**24) for _ in range(10**4)]\n")
    message = failing(lambda: record(f"{model}:greedy", ",memory=200m"))
    assert "used more than 200 MB of memory" in message and "memory=" in message


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of one megabyte."""
    place = folder(tmp_path) / "made"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.getuid() != 0 or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(record: Record, write: Callable[..., str], full_disk: Path) -> None:
    model = write("\ndef large():\n    return build(64, 128)\n")
    with pytest.raises(RunError) as caught:
        record(f"{model}:large", "", plain_request())
    assert caught.value.exit_status == 3
    assert "No space left on device" in str(caught.value) or "disk is full" in str(caught.value)
    assert "/porting-check/made" not in str(caught.value)


def test_an_image_that_is_missing(write: Callable[..., str], tmp_path: Path, image: str) -> None:
    task = Task(model=f"{write()}:build", folder=folder(tmp_path), out="side.trace", request={})
    wrong = image.replace("test", "tost")
    runner = DockerRunner(parse(f"docker:{wrong}"))
    message = failing(lambda: runner.run(task, lambda stage, done, total: None))
    assert f"docker pull {wrong}" in message and image in message


def test_an_interpreter_that_is_not_in_the_image(record: Record, write: Callable[..., str]) -> None:
    message = failing(lambda: record(f"{write()}:build", ",python=/opt/none/bin/python"))
    assert (
        "no '/opt/none/bin/python' that could be run" in message and "python=/opt/conda/bin/python" in message
    )


def test_an_image_whose_python_has_no_numpy(
    bare_image: str, write: Callable[..., str], tmp_path: Path
) -> None:
    task = Task(model=f"{write()}:build", folder=folder(tmp_path), out="side.trace", request={})
    runner = DockerRunner(parse(f"docker:{bare_image}"))
    message = failing(lambda: runner.run(task, lambda stage, done, total: None))
    assert "has no numpy" in message and "Traceback" not in message


def test_an_image_whose_python_is_too_old(write: Callable[..., str], tmp_path: Path) -> None:
    tag = "porting-check/python:3.6-slim"
    if not images.present(tag):
        pytest.skip(f"there is no image {tag}; make it: python docker/stand_in.py 3.6")
    task = Task(model=f"{write()}:build", folder=folder(tmp_path), out="side.trace", request={})
    message = failing(lambda: DockerRunner(parse(f"docker:{tag}")).run(task, lambda stage, done, total: None))
    assert "older than Python 3.7" in message


def test_a_model_that_prints_binary_and_leaves_children(record: Record, write: Callable[..., str]) -> None:
    model = write("""
import os, subprocess, sys
def noisy():
    for stream in (1, 2):
        os.write(stream, bytes(range(256)) * 4096)
    os.write(2, b'{"stage": "' + b"x" * 10**6)
    sys.stdout.buffer.write(os.urandom(10**6)) if hasattr(sys.stdout, "buffer") else None
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        os.execvp("sleep", ["sleep", "1000"])
    return build()
""")
    made = record(f"{model}:noisy", "", plain_request())
    assert len(load_trace(str(made.result), verify=True).records) == 2


def test_a_model_that_writes_beside_itself(record: Record, write: Callable[..., str]) -> None:
    model = write("\ndef writes():\n    open(__file__ + '.cache', 'w')\n")
    message = failing(lambda: record(f"{model}:writes"), ModelError)
    assert "Read-only file system" in message and "/tmp can be written" in message
    assert f"{model}.cache" in message and os.listdir(os.path.dirname(model)) == ["net.py"]


def test_a_model_that_wants_the_network(record: Record, write: Callable[..., str]) -> None:
    model = write("""
import urllib.request
def loads():
    return urllib.request.urlopen("http://192.0.2.1/weights.h5", timeout=20)
""")
    message = failing(lambda: record(f"{model}:loads"), ModelError)
    assert "Network is unreachable" in message and "network=yes" in message


def test_a_model_that_hangs(record: Record, write: Callable[..., str]) -> None:
    message = failing(lambda: record(f"{write(SLEEP)}:sleep", ",timeout=12s"))
    assert "timed out after 12 seconds" in message and "asleep" in message


def test_a_run_that_is_cancelled(record: Record, write: Callable[..., str]) -> None:
    cancelled = threading.Event()
    waiting = threading.Thread(target=lambda: (running(), cancelled.set()))
    waiting.start()
    message = failing(lambda: record(f"{write(SLEEP)}:sleep", cancelled=cancelled))
    waiting.join()
    assert "was cancelled" in message


def test_a_request_that_never_comes_ends_the_container(record: Record, write: Callable[..., str]) -> None:
    request: Future[Any] = Future()
    waiting = threading.Thread(
        target=lambda: (running(), request.set_exception(ValueError("the other side")))
    )
    waiting.start()
    message = failing(lambda: record(f"{write()}:build", "", request))
    waiting.join()
    assert "was cancelled" in message


def test_a_model_that_crashes(record: Record, write: Callable[..., str]) -> None:
    model = write("\nimport os, signal\ndef crash():\n    os.kill(os.getpid(), signal.SIGSEGV)\n")
    assert "crashed (signal 11)" in failing(lambda: record(f"{model}:crash"))


def test_a_model_that_ends_the_process(record: Record, write: Callable[..., str]) -> None:
    model = write("\nimport os\ndef leaves():\n    os._exit(0)\n")
    assert "ended without leaving a result" in failing(lambda: record(f"{model}:leaves"))


def test_a_link_among_the_results_is_not_followed(
    record: Record, write: Callable[..., str], tmp_path: Path
) -> None:
    model = write("""
import os
def links():
    os.symlink("/etc/passwd", "/porting-check/made/announced.json")
    os.mkfifo("/porting-check/made/pipe")
    return build()
""")
    message = failing(lambda: record(f"{model}:links", "", plain_request()))
    assert "the symbolic link 'announced.json'" in message and "the pipe 'pipe'" in message
    left = folder(tmp_path) / "made"
    assert not any(path.is_symlink() or path.is_fifo() for path in left.rglob("*"))


def test_a_recording_that_is_changed_afterwards(record: Record, write: Callable[..., str]) -> None:
    made = record(f"{write()}:build", "", plain_request())
    shard = next(made.result.glob("values-*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    failing(lambda: load_trace(str(made.result), verify=True), TraceError)


PROGRAM = """
import sys
from pathlib import Path
from porting_check.environments.runners import record_side
record_side(sys.argv[1], sys.argv[2], Path(sys.argv[3]), {})
"""


@pytest.mark.parametrize("times", [1, 2])
def test_an_interruption_removes_the_container(
    times: int, write: Callable[..., str], tmp_path: Path, image: str
) -> None:
    words = [
        sys.executable,
        "-c",
        PROGRAM,
        f"docker:{image}",
        f"{write(SLEEP)}:sleep",
        str(tmp_path / "x.trace"),
    ]
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    try:
        running(process.pid)
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        process.communicate(timeout=120)
        assert process.returncode != 0
        assert containers(process.pid) == [] and not (tmp_path / "x.trace").exists()
    finally:
        process.kill()
        process.wait()
