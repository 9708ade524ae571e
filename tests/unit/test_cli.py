"""The command line against stand-ins for our own verbs: arguments, exit statuses, streams, files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from porting_check.cli import main
from porting_check.cli_support import Verbs
from porting_check.neutral.errors import InputError, ModelError, RunError
from porting_check.neutral.trace import Checks, Environment, MemorySink, Port, Record, Trace
from porting_check.report.json import dumps, loads
from porting_check.report.result import Report
from tests.unit.report import examples

HEAVY = {
    "numpy",
    "scipy",
    "onnx",
    "ml_dtypes",
    "jinja2",
    "rich",
    "torch",
    "tensorflow",
    "keras",
    "jax",
    "onnxruntime",
}


class Called:
    """Verbs that note how they were called and give what they were told to give, or raise it."""

    def __init__(self, result: Any = None) -> None:
        self.result = examples.faithful() if result is None else result
        self.arguments: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.arguments, self.options = arguments, options
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def compare(arguments: list[str], result: Any = None) -> tuple[int, Called]:
    called = Called(result)
    return main(["compare", *arguments], verbs=Verbs(compare=called)), called


def trace() -> Trace:
    sink = MemorySink()
    sink.value("input:0", np.zeros((1, 3), np.float32))
    sink.value("fft:0", np.ones((1, 3), np.float32))
    sink.input(Port("0", "input:0"))
    inputs, outputs = (Port("x", "input:0"),), (Port("y", "fft:0"),)
    sink.record(
        Record("fft\x1b[31m", 0, "torch.fft.fft", inputs, outputs, reason="torch.fft.fft is not described")
    )
    sink.output(Port("0", "fft:0"))
    checks = Checks(0.0, 2e-7, ("drop",), ("a note",))
    return sink.trace("Net", Environment("torch", {"torch": "2.13.0"}), checks)


# ----------------------------------------------------------------------------------------------------
# Exit status and streams


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (examples.faithful(), 0),
        (examples.divergent(), 1),
        (examples.inconclusive(), 4),
        (InputError("input 'x' has shape (1, 3), expected (N, 4)"), 2),
        (ModelError("'net.keras' does not exist"), 2),
        (RunError("the model raised ValueError while recording layer conv1"), 3),
        (MemoryError(), 3),
        (ZeroDivisionError("division by zero"), 3),
        (BrokenPipeError(32, "Broken pipe"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"], ["--quiet"]])
def test_exit_status_and_streams(
    result: Any, status: int, form: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    found, _ = compare(["ref.keras", "port.py:build", *form], result)
    out, err = capfd.readouterr()
    assert found == status
    assert "Traceback" not in err
    if isinstance(result, Report):
        assert err == ""
        assert out
    elif "--json" not in form:
        assert out == ""
        assert len(err.strip().splitlines()) in (1, 2)
    if "--json" in form:
        data = json.loads(out)
        assert data["exit_status"] == status
        assert data["kind"] == (
            "porting-check report" if isinstance(result, Report) else "porting-check failure"
        )


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare"],
        ["compare", "only-one.keras"],
        ["compare", "a", "b", "--nonsense"],
        ["compare", "a", "b", "--seed", "many"],
        ["compare", "a", "b", "--seed", "-1"],
        ["compare", "a", "b", "--rtol", "1e-3"],
        ["compare", "a", "b", "--atol", "1e-3"],
        ["compare", "a", "b", "--rtol", "nan", "--atol", "0"],
        ["compare", "a", "b", "--rtol", "-1", "--atol", "0"],
        ["compare", "a", "b", "--layout", "NHWC"],
        ["compare", "a", "b", "--layout", "left=NHWC"],
        ["compare", "a", "b", "--layout", "reference=NHWC", "--layout", "reference:x=NCHW"],
        ["compare", "a", "b", "--map", "conv1"],
        ["compare", "a", "b", "--inputs", "x="],
        ["compare", "a", "b", "--inputs", "x=1.npy", "--inputs", "x=2.npy"],
        ["record"],
        ["report"],
        ["invent"],
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_wrong_usage_has_status_2_one_message_and_nothing_run(
    arguments: list[str], as_json: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    called = Called(AssertionError("must not be called"))
    given = [*arguments, "--json"] if as_json else arguments
    assert main(given, verbs=Verbs(compare=called, record=called, demo=called)) == 2
    out, err = capfd.readouterr()
    assert err.startswith("porting-check: ")
    assert "Traceback" not in err
    if as_json:
        data = json.loads(out)
        assert (data["exit_status"], data["error"]["type"]) == (2, "UsageError")
    else:
        assert out == ""


def test_an_error_of_the_user_is_one_line_as_it_was_written(capfd: pytest.CaptureFixture[str]) -> None:
    compare(["a", "b"], InputError("input 'x' has shape (1, 3), expected (N, 4)"))
    assert capfd.readouterr().err == "porting-check: input 'x' has shape (1, 3), expected (N, 4)\n"


def test_verbose_shows_the_traceback_of_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    compare(["a", "b", "-v"], InputError("bad"))
    err = capfd.readouterr().err
    assert "Traceback" in err
    assert err.endswith("porting-check: bad\n")


def test_an_unexpected_error_asks_for_a_report_and_hides_its_traceback(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PORTING_CHECK_DEBUG", raising=False)
    compare(["a", "b"], TypeError("unsupported operand\nsecond line"))
    err = capfd.readouterr().err
    assert "unexpected TypeError: unsupported operand" in err
    assert "Please report it" in err
    assert "PORTING_CHECK_DEBUG=1" in err
    assert "Traceback" not in err
    monkeypatch.setenv("PORTING_CHECK_DEBUG", "1")
    compare(["a", "b"], TypeError("unsupported operand"))
    assert "Traceback" in capfd.readouterr().err


def test_what_a_model_prints_never_reaches_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    def noisy(*arguments: Any, **options: Any) -> Report:
        print("layer built")
        os.write(1, b"from a C library\n")
        subprocess.run([sys.executable, "-c", "print('from a child process')"], check=True)
        return examples.faithful()

    assert main(["compare", "a", "b", "--json"], verbs=Verbs(compare=noisy)) == 0
    out, err = capfd.readouterr()
    assert loads(out).verdict == "faithful"
    for text in ("layer built", "from a C library", "from a child process"):
        assert text in err
    print("stdout is back")
    os.write(1, b"and its descriptor too\n")
    assert capfd.readouterr().out == "stdout is back\nand its descriptor too\n"


def test_progress_is_callable_and_silent_where_stderr_is_no_terminal(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def working(*arguments: Any, progress: Callable[[str, int, int], None], **options: Any) -> Report:
        for done in range(3):
            progress("recording", done, 0)
            progress("judging", done, 3)
        return examples.faithful()

    assert main(["compare", "a", "b"], verbs=Verbs(compare=working)) == 0
    assert capfd.readouterr().err == ""


TERMINAL = """
import sys, time
from porting_check.cli import main
from porting_check.cli_support import Verbs
from tests.unit.report import examples

def working(*arguments, progress, **options):
    progress("judging [layers]", 1, 2)
    time.sleep(0.3)
    return examples.faithful()

sys.exit(main(sys.argv[1:], verbs=Verbs(compare=working)))
"""


@pytest.mark.parametrize(("quiet", "shown"), [([], True), (["-q"], False)])
def test_progress_is_shown_on_a_terminal_unless_quiet(quiet: list[str], shown: bool) -> None:
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", TERMINAL, "compare", "a", "b", *quiet]
    run = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=slave, env=environment, timeout=60, check=False
    )
    os.close(slave)
    os.set_blocking(master, False)
    try:
        seen = os.read(master, 100_000).decode(errors="replace")
    except OSError:  # nothing was written
        seen = ""
    os.close(master)
    assert run.returncode == 0
    assert ("judging [layers]" in seen) is shown
    assert run.stdout.startswith(b"FAITHFUL")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    saved = examples.large().save(tmp_path / "r.json")
    command = f"{sys.executable} -m porting_check.cli report {saved} -v; echo status $? >&2"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    run = subprocess.run(
        ["bash", "-c", f"({command}) | head -1"], capture_output=True, text=True, env=environment, check=False
    )
    assert run.stdout.startswith("DIVERGENT")
    assert run.stderr == "status 0\n"


# ----------------------------------------------------------------------------------------------------
# compare


def test_compare_passes_what_was_asked_for(tmp_path: Path) -> None:
    image = tmp_path / "a=b.npy"
    image.write_bytes(b"")
    sides = ["ref.keras", "port.py:build", "-i", f"image={image}", "-i", "mask=m.npy"]
    layout = [
        "--layout",
        "reference=NHWC",
        "--layout",
        "candidate:image=NCHW",
        "--layout",
        "candidate:mask=NHW",
    ]
    names = ["--map", "conv1=features.0", "--map", "fc=head"]
    rest = ["--rtol", "1e-3", "--atol", "0", "--seed", "7", "--transfer"]
    status, called = compare([*sides, *layout, *names, *rest])
    progress = called.options.pop("progress")
    assert callable(progress)
    assert status == 0
    assert called.arguments == ("ref.keras", "port.py:build", {"image": str(image), "mask": "m.npy"})
    assert called.options == {
        "layouts": {"reference": "NHWC", "candidate": {"image": "NCHW", "mask": "NHW"}},
        "mapping": {"conv1": "features.0", "fc": "head"},
        "seed": 7,
        "rtol": 1e-3,
        "atol": 0.0,
        "transfer": True,
    }


def test_compare_without_options_leaves_everything_to_be_inferred() -> None:
    _, called = compare(["ref.keras", "port.py:build"])
    called.options.pop("progress")
    assert called.arguments[2] is None
    assert called.options == {
        "layouts": None, "mapping": None, "seed": 0, "rtol": None, "atol": None, "transfer": False
    }  # fmt: skip


def test_a_file_whose_name_has_an_equals_sign_is_still_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run=3.npy"
    path.write_bytes(b"")
    assert compare(["a", "b", "-i", str(path)])[1].arguments[2] == {"": str(path)}


def test_several_files_without_names_are_numbered() -> None:
    assert compare(["a", "b", "-i", "x.npy", "-i", "y.npy"])[1].arguments[2] == {"0": "x.npy", "1": "y.npy"}


def test_compare_prints_the_console_report_in_the_width_of_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    compare(["ref.keras", "port.py:build"], examples.divergent())
    out = capfd.readouterr().out
    assert out.startswith("DIVERGENT: 2 of 8 pairs differ")
    assert "\x1b" not in out
    assert "porting-check compare ref.keras port.py:build --seed 0" in out


def test_force_color_and_no_color(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    compare(["a", "b"])
    assert "\x1b[1;32mFAITHFUL" in capfd.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    compare(["a", "b"])
    assert "\x1b" not in capfd.readouterr().out


def test_quiet_prints_only_the_answer_and_verbose_every_pair(capfd: pytest.CaptureFixture[str]) -> None:
    compare(["a", "b", "-q"], examples.large())
    quiet = capfd.readouterr().out
    compare(["a", "b"], examples.large())
    normal = capfd.readouterr().out
    compare(["a", "b", "-v"], examples.large())
    verbose = capfd.readouterr().out
    assert len(quiet.splitlines()) == 6
    assert normal.startswith(quiet)
    assert len(normal.splitlines()) < 100 < 400 < len(verbose.splitlines())


def test_out_and_junit_write_every_file_whole(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder, junit = tmp_path / "new" / "folder", tmp_path / "ci" / "results.xml"
    status, _ = compare(
        ["r", "c d", "--out", str(folder), "--junit", str(junit), "--json"], examples.divergent()
    )
    out, err = capfd.readouterr()
    assert status == 1
    assert sorted(os.listdir(folder)) == ["report.html", "report.json", "report.md"]
    assert (folder / "report.json").read_text() == out
    assert loads(out).settings["command"] == "porting-check compare r 'c d' --seed 0"
    assert junit.read_text().startswith("<?xml")
    assert len(err.splitlines()) == 4


def test_the_command_in_the_report_repeats_every_option_that_matters(
    capfd: pytest.CaptureFixture[str],
) -> None:
    given = ["--seed", "3", "--inputs", "x=1.npy", "--layout", "reference=NHWC", "--map", "a=b", "--transfer"]
    compare(["r.keras", "c.py:f", *given, "--rtol", "0.001", "--atol", "1e-06", "--json"])
    line = loads(capfd.readouterr().out).settings["command"]
    assert line == "porting-check compare r.keras c.py:f " + " ".join(given) + " --rtol 0.001 --atol 1e-06"


def test_a_folder_that_cannot_be_written_is_found_before_anything_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    for option in (["--out", str(tmp_path / "file" / "sub")], ["--junit", str(tmp_path / "file" / "r.xml")]):
        status, called = compare(["a", "b", *option], AssertionError("must not run"))
        assert status == 2
        assert called.arguments == ()
        assert "cannot be made" in capfd.readouterr().err


# ----------------------------------------------------------------------------------------------------
# record, report, demo, help


def test_record_names_the_recording_and_tells_what_it_lacks(capfd: pytest.CaptureFixture[str]) -> None:
    called = Called(trace())
    assert (
        main(["record", "nets/port.py:build", "-i", "x.npy", "--seed", "2"], verbs=Verbs(record=called)) == 0
    )
    called.options.pop("progress")
    assert called.arguments == ("nets/port.py:build", {"": "x.npy"})
    assert called.options == {"path": "build.trace", "seed": 2}
    out = capfd.readouterr().out
    assert out.splitlines()[0] == "recorded 1 record of Net to build.trace"
    for text in (
        "a second run changed the output by 2.0e-07",
        "in training mode: drop",
        "a note",
        "is not described",
    ):
        assert text in out
    assert "\x1b" not in out


def test_record_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["record", "m.keras", "--out", "here.trace", "--layout", "NHWC", "--json"]
    called = Called(trace())
    assert main(arguments, verbs=Verbs(record=called)) == 0
    data = json.loads(capfd.readouterr().out)
    assert called.options["layouts"] == "NHWC"
    assert (data["kind"], data["path"], data["records"]) == ("porting-check recording", "here.trace", 1)
    assert data["opaque"][0]["reason"] == "torch.fft.fft is not described"
    assert data["environment"]["versions"] == {"torch": "2.13.0"}


def test_report_shows_a_saved_report_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    saved = examples.divergent().save(tmp_path / "r.json")
    assert main(["report", str(saved)]) == 0
    assert capfd.readouterr().out.startswith("DIVERGENT:")
    assert main(["report", str(saved), "--json"]) == 0
    assert capfd.readouterr().out == dumps(examples.divergent()) + "\n"


def test_report_writes_other_forms(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    saved = examples.divergent().save(tmp_path / "r.json")
    targets = [str(tmp_path / f"again.{suffix}") for suffix in ("html", "md", "csv", "xml")]
    assert main(["report", str(saved), *targets]) == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [f"wrote {target}" for target in targets]
    assert all(Path(target).stat().st_size > 500 for target in targets)


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"\xff"])
def test_report_refuses_what_is_no_report(
    tmp_path: Path, content: bytes | None, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    if content is not None:
        path.write_bytes(content)
    assert main(["report", str(path), "--json"]) == 2
    out, err = capfd.readouterr()
    assert json.loads(out)["exit_status"] == 2
    assert "Traceback" not in err


def test_report_refuses_an_unknown_target_before_it_writes_any(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    saved = examples.faithful().save(tmp_path / "r.json")
    assert main(["report", str(saved), str(tmp_path / "a.md"), str(tmp_path / "a.pdf")]) == 2
    assert "'.pdf'" in capfd.readouterr().err
    assert os.listdir(tmp_path) == ["r.json"]


def test_demo_returns_the_status_of_the_demo_and_leaves_it_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    def run(folder: Path, progress: Callable[[str, int, int], None]) -> int:
        progress("pnet", 1, 3)
        print("verified", folder)
        return 1

    assert main(["demo", "--out", "somewhere"], verbs=Verbs(demo=run)) == 1
    assert capfd.readouterr().out == "verified somewhere\n"


@pytest.mark.parametrize("command", [[], ["compare"], ["record"], ["report"], ["doctor"], ["demo"]])
def test_help_tells_the_exit_status_and_every_command_an_example(
    command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--help"]) == 0
    out = capfd.readouterr().out
    assert "Exit status: 0" in out
    assert not command or f"Example: porting-check {command[0]}" in out


def test_no_argument_at_all_gives_help_and_version_gives_the_version(
    capfd: pytest.CaptureFixture[str],
) -> None:
    import porting_check

    assert main([]) == 0
    assert "Usage: porting-check" in capfd.readouterr().out
    assert main(["--version"]) == 0
    assert capfd.readouterr().out == f"porting-check {porting_check.__version__}\n"


def loaded_by(arguments: str) -> set[str]:
    """Heavy packages that a command leaves in memory."""
    code = (
        "import sys; from porting_check.cli import main; main(sys.argv[1:]); "
        "print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", code, *arguments.split()]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return set(run.stderr.split()) & HEAVY


def test_help_and_version_import_nothing_heavy() -> None:
    assert loaded_by("--help") == set()
    assert loaded_by("compare --help") == set()
    assert loaded_by("--version") == set()


def test_doctor_imports_no_framework_into_this_process() -> None:
    assert loaded_by("doctor --quick --json") == set()


def test_the_check_for_heavy_imports_can_fail(tmp_path: Path) -> None:
    saved = examples.faithful().save(tmp_path / "r.json")
    assert "numpy" in loaded_by(f"report {saved}")
