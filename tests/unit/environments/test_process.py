"""Real processes that do everything wrong: this side is never blocked, says what happened, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil
import pytest

from porting_check.environments import process
from porting_check.environments.process import Ended, amount, duration, follow, how, plain, reason
from porting_check.environments.runner import Task
from porting_check.neutral.errors import RunError

posix = pytest.mark.skipif(os.name != "posix", reason="signals and fork of POSIX")


def run(code: str, folder: Path, **options: Any) -> tuple[Ended, list[tuple[str, int, int]]]:
    """Run Python code; how it ended, and the progress that was reported."""
    seen: list[tuple[str, int, int]] = []
    task = options.pop("task", None) or Task(model="", folder=folder, out="", request={})
    seen_by = options.pop("progress", lambda *report: seen.append(report))
    command = [sys.executable, "-c", textwrap.dedent(code)]
    ended = follow(command, environment=None, cwd=folder, task=task, progress=seen_by, **options)
    return ended, seen


def alive(folder: Path, name: str = "pid") -> bool:
    """Whether the process whose number was left in a file still runs; one that was just killed may take a moment to go."""
    number = int((folder / name).read_text())
    end = time.monotonic() + 2
    while time.monotonic() < end:
        try:
            if psutil.Process(number).status() == psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            return False
        time.sleep(0.05)
    return True


def wait_for(path: Path) -> None:
    end = time.monotonic() + 20
    while not (path.is_file() and path.read_text()):
        assert time.monotonic() < end, f"{path.name} was not written"
        time.sleep(0.02)


def test_progress_and_last_words_are_told_apart(tmp_path: Path) -> None:
    code = """
        import json, sys
        for done in range(3):
            print(json.dumps({"stage": f"layer {done}", "done": done, "total": 3}), file=sys.stderr)
        print("to nobody")
        print("\\x1b[31mred\\x1b[0m alert", file=sys.stderr)
        print('{"stage": "no numbers"}', file=sys.stderr)
        sys.exit(5)
    """
    ended, seen = run(code, tmp_path)
    assert seen == [("layer 0", 0, 3), ("layer 1", 1, 3), ("layer 2", 2, 3)]
    assert ended == Ended(status=5, tail=("red alert", '{"stage": "no numbers"}'))


def test_progress_is_reported_in_the_calling_thread_before_the_end(tmp_path: Path) -> None:
    code = """
        import sys, pathlib, time
        print('{"stage": "half", "done": 1, "total": 2}', file=sys.stderr, flush=True)
        while not pathlib.Path("seen").exists():
            time.sleep(0.01)
    """

    def progress(stage: str, done: int, total: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        (tmp_path / "seen").touch()

    assert run(code, tmp_path, progress=progress, timeout=20)[0] == Ended(status=0)


def test_what_progress_raises_ends_the_process(tmp_path: Path) -> None:
    code = """
        import os, sys, time
        open("pid", "w").write(str(os.getpid()))
        print('{"stage": "half", "done": 1, "total": 2}', file=sys.stderr, flush=True)
        time.sleep(60)
    """

    def progress(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(code, tmp_path, progress=progress)
    assert not alive(tmp_path)


def test_binary_on_both_streams(tmp_path: Path) -> None:
    code = """
        import os
        for _ in range(50):
            os.write(1, bytes(range(256)) * 256)
            os.write(2, bytes(range(256)) * 256)
        os.write(2, b"\\nthe end \\xff")
    """
    ended, _ = run(code, tmp_path)
    assert ended.status == 0
    assert ended.tail[-1] == "the end \ufffd"
    assert len(ended.tail) <= process.TAIL
    assert not any(character < " " and character != "\t" for line in ended.tail for character in line)


def test_megabytes_on_one_line_are_cut(tmp_path: Path) -> None:
    code = """
        import sys
        for _ in range(64):
            sys.stderr.write("x" * 2**20)
        sys.stderr.write("\\nafter\\n")
    """
    before = psutil.Process().memory_info().rss
    ended, _ = run(code, tmp_path)
    assert psutil.Process().memory_info().rss - before < 32 * 2**20
    assert [len(line) for line in ended.tail] == [process.WIDTH + 2, 5]


def test_a_flood_of_progress_keeps_the_last_of_each_stage(tmp_path: Path) -> None:
    code = """
        import json, sys
        for stage in ("first", "second"):
            for done in range(20001):
                print(json.dumps({"stage": stage, "done": done, "total": 20000}), file=sys.stderr)
    """
    ended, seen = run(code, tmp_path)
    assert ended.status == 0
    last = {stage: done for stage, done, _ in seen}
    assert last == {"first": 20000, "second": 20000}


@posix
@pytest.mark.parametrize("leaves", ["", "os.setsid()\n    if os.fork(): os._exit(0)"])
def test_what_was_forked_is_ended_though_it_holds_the_pipe(tmp_path: Path, leaves: str) -> None:
    code = f"""
import os, sys, time
if os.fork() == 0:
    {leaves or "pass"}
    open("pid.new", "w").write(str(os.getpid()))
    os.rename("pid.new", "pid")
    time.sleep(60)
while not os.path.exists("pid"):
    time.sleep(0.01)
sys.stderr.write("done")
"""
    started = time.monotonic()
    ended, _ = run(code, tmp_path)
    assert ended == Ended(status=0, tail=("done",))
    assert time.monotonic() - started < 20
    assert not alive(tmp_path)


def test_a_hanging_process_times_out(tmp_path: Path) -> None:
    ended, _ = run("import time; time.sleep(60)", tmp_path, timeout=0.5)
    assert ended.why == "timeout"
    assert "timed out after 0.5 seconds" in reason(ended, "here", "recording 'x'", timeout=0.5)


@posix
def test_one_that_ignores_being_terminated_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE", 0.5)
    code = """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open("pid", "w").write(str(os.getpid()))
        time.sleep(60)
    """
    ended, _ = run(code, tmp_path, timeout=2)
    assert (ended.why, ended.status) == ("timeout", -signal.SIGKILL)
    assert not alive(tmp_path)


def test_memory_of_the_whole_tree_counts(tmp_path: Path) -> None:
    code = """
        import subprocess, sys
        subprocess.run([sys.executable, "-c", "import time; x = bytearray(400 * 2**20); x[::4096] = x[::4096]; time.sleep(60)"])
    """
    ended, _ = run(code, tmp_path, memory=200 * 2**20, timeout=60)
    assert ended.why == "memory"
    sentence = reason(ended, "here", "recording 'x'", memory=200 * 2**20)
    assert "used more than 200 MB of memory" in sentence


def test_a_modest_process_keeps_within_its_memory(tmp_path: Path) -> None:
    ended, _ = run("import time; time.sleep(0.4)", tmp_path, memory=2**31)
    assert ended == Ended(status=0)


def test_cancelled_from_another_thread(tmp_path: Path) -> None:
    task = Task(model="", folder=tmp_path, out="", request={})
    threading.Timer(0.3, task.cancelled.set).start()
    ended, _ = run("import time; time.sleep(60)", tmp_path, task=task)
    assert ended.why == "cancelled"
    assert "it was cancelled" in reason(ended, "here", "recording 'x'")


@posix
def test_killed_by_a_signal(tmp_path: Path) -> None:
    ended, _ = run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    assert (ended.why, ended.status) == ("", -9)
    assert "was killed (signal 9; often: out of memory)" in reason(ended, "here", "recording 'x'")


@posix
def test_one_that_closed_its_output_is_still_followed(tmp_path: Path) -> None:
    code = """
        import os, sys, time
        os.close(2)
        time.sleep(0.5)
        os._exit(7)
    """
    assert run(code, tmp_path)[0].status == 7


def test_the_request_follows_when_it_is_known(tmp_path: Path) -> None:
    future: Future[Any] = Future()
    task = Task(model="", folder=tmp_path, out="", request=future)
    request = {"inputs": {"x": "/host/x.npy"}, "text": "ü" * 200_000}
    threading.Timer(0.5, future.set_result, [request]).start()
    code = "import json, sys; json.dump(json.loads(sys.stdin.readline()), open('got.json', 'w'))"
    ended, _ = run(code, tmp_path, task=task, asked=lambda given: {**given, "inputs": {"x": "/inside/x.npy"}})
    assert ended.status == 0
    assert json.loads((tmp_path / "got.json").read_text()) == {**request, "inputs": {"x": "/inside/x.npy"}}


def test_a_request_that_nobody_reads_blocks_nobody(tmp_path: Path) -> None:
    future: Future[Any] = Future()
    future.set_result({"text": "x" * 2**20})
    task = Task(model="", folder=tmp_path, out="", request=future)
    assert run("import time; time.sleep(0.3)", tmp_path, task=task)[0].status == 0


@pytest.mark.parametrize("how_it_fails", ["raises", "is cancelled"])
def test_a_request_that_never_comes_ends_the_process(tmp_path: Path, how_it_fails: str) -> None:
    future: Future[Any] = Future()
    end = future.cancel if how_it_fails == "is cancelled" else lambda: future.set_exception(RunError("no"))
    threading.Timer(0.3, end).start()
    task = Task(model="", folder=tmp_path, out="", request=future)
    assert run("import sys; sys.stdin.readline()", tmp_path, task=task)[0].why == "cancelled"


def test_time_counts_from_the_request(tmp_path: Path) -> None:
    future: Future[Any] = Future()
    task = Task(model="", folder=tmp_path, out="", request=future)
    threading.Timer(1.5, future.set_result, [{}]).start()
    ended, _ = run("import sys; sys.stdin.readline()", tmp_path, task=task, timeout=1.2)
    assert ended == Ended(status=0)


def test_what_it_is_a_client_of_is_stopped_first_and_only_at_a_limit(tmp_path: Path) -> None:
    calls = []
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep({})"

    def stop() -> None:
        calls.append(alive(tmp_path))

    assert run(code.format(0), tmp_path, stop=stop)[0].why == ""
    assert calls == []
    assert run(code.format(60), tmp_path, stop=stop, timeout=1)[0].why == "timeout"
    assert calls == [True]


def test_what_stop_raises_does_not_leave_the_process(tmp_path: Path) -> None:
    def stop() -> None:
        raise RunError("the daemon is gone")

    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(RunError, match="daemon is gone"):
        run(code, tmp_path, stop=stop, timeout=1)
    assert not alive(tmp_path)


def test_only_the_given_variables_reach_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    task = Task(model="", folder=tmp_path, out="", request={})
    code = "import json, os; json.dump(dict(os.environ), open('variables', 'w'))"
    needed = {key: os.environ[key] for key in ("SYSTEMROOT",) if key in os.environ}
    follow(
        [sys.executable, "-c", code],
        environment={"GIVEN": "1", **needed},
        cwd=tmp_path,
        task=task,
        progress=lambda *report: None,
    )
    found = json.loads((tmp_path / "variables").read_text())
    assert set(found) - {"LC_CTYPE"} == {"GIVEN", process.MARK, *needed}


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    task = Task(model="", folder=tmp_path, out="", request={})
    with pytest.raises(RunError, match="'no-such-program' could not be started"):
        follow(["no-such-program"], environment=None, cwd=tmp_path, task=task, progress=print)


@posix
def test_an_interruption_of_this_side_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in a program that follows a process: the process has its own session, and ends with the program."""
    inner = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"""
        import sys
        from pathlib import Path
        from porting_check.environments.process import follow
        from porting_check.environments.runner import Task
        task = Task(model="", folder=Path("."), out="", request={{}})
        follow([sys.executable, "-c", {inner!r}], environment=None, cwd=None, task=task, progress=print)
    """
    import subprocess

    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    wait_for(tmp_path / "pid")
    program.send_signal(signal.SIGINT)
    assert program.wait(20) != 0
    assert not alive(tmp_path)


def test_no_thread_stays_behind(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    run("print(1)", tmp_path)
    run("import time; time.sleep(60)", tmp_path, timeout=0.3)
    assert [thread for thread in set(threading.enumerate()) - before if "reader" in thread.name] == []


def test_words_for_sizes_times_and_ends() -> None:
    assert [duration(x) for x in (1, 90, 600, 7200, 0.25)] == [
        "1 second",
        "90 seconds",
        "10 minutes",
        "2 hours",
        "0.25 seconds",
    ]
    assert [amount(x) for x in (100, 2**20, 8 * 2**30)] == ["100 bytes", "1 MB", "8 GB"]
    assert how(139) == "crashed (signal 11)"
    assert how(-64) == "was ended by signal 64"
    assert how(2) == "ended with status 2"
    assert plain("\x1b]0;title\x07 a\tb\x00\x9b") == "0;title a\tb"
    words = reason(Ended(status=1, tail=("one", "two")), "venv:x", "recording 'y'")
    assert words == "recording 'y' in venv:x failed: it ended with status 1. Its last words:\none\ntwo"
