"""The recorder in one file: what is in it, that its bytes can be reproduced, what it refuses, and its command line."""

from __future__ import annotations

import argparse
import ast
import gc
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import time
import zipapp
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import pytest

from porting_check import __version__, packing
from porting_check.cli import main
from porting_check.neutral.errors import FrameworkMissing, InputError, ModelError, RecordingError, RunError
from porting_check.recorder import packed, packed_info, registry

ROOT = Path(__file__).resolve().parents[2]
BUILT_IN = {"torch", "tensorflow", "jax", "onnxruntime"}

ADAPTER = """
from __future__ import annotations
import toyframe
from porting_check.neutral.adapter import Adapter
from porting_check.neutral.trace import Environment


class ToyAdapter(Adapter):
    framework = "toyframe"

    def owns(self, model):
        return False

    def environment(self):
        return Environment("toyframe", {"toyframe": toyframe.__version__})

    def load(self, path): ...
    def inputs(self, model): ...
    def predict(self, model, inputs): ...
    def record(self, model, inputs, sink): ...
    def run(self, node, inputs, *, float64=False): ...
    def parameters(self, model): ...
    def assign(self, model, parameters): ...
    def training(self, model): ...
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> packing.Packed:
    return packing.build_recorder(tmp_path_factory.mktemp("packed") / "recorder.pyz")


def installed_elsewhere(folder: Path, value: str, name: str = "toyframe", dist: str = "toy-adapter") -> None:
    """Another distribution's entry point, as pip would leave it."""
    info = folder / f"{dist.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{name} = {value}\n")


def test_the_same_sources_give_the_same_bytes(built, tmp_path):
    again = packing.build_recorder(tmp_path / "again.pyz")
    assert again.path.read_bytes() == built.path.read_bytes()
    assert again.digest == built.digest == hashlib.sha256(built.path.read_bytes()).hexdigest()
    assert built.size == built.path.stat().st_size


def test_neither_order_nor_time_nor_compression_shows_in_the_bytes(built):
    with zipfile.ZipFile(built.path) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {packing.EPOCH}
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {(entry.create_system, entry.external_attr >> 16) for entry in entries} == {(3, 0o644)}
    assert packing.archive_bytes({"a": b"1"}) != packing.archive_bytes({"a": b"2"})


def test_it_is_a_zipapp_that_a_shell_can_start(built):
    assert zipapp.get_interpreter(built.path) == "/usr/bin/env python3"
    assert os.access(built.path, os.X_OK)


def test_it_holds_neutral_recorder_and_the_adapters_and_nothing_else(built):
    names = set(zipfile.ZipFile(built.path).namelist())
    expected = {"__main__.py", "porting_check/__init__.py", f"porting_check/recorder/{registry.TABLE}"}
    for folder in ("porting_check/neutral", "porting_check/recorder"):
        expected |= {p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob("*.py")}
    for framework in BUILT_IN:
        folder = ROOT / "adapters" / f"porting_check_{framework}"
        expected |= {p.relative_to(ROOT / "adapters").as_posix() for p in folder.rglob("*.py")}
    assert names == expected


def test_every_module_in_it_parses_as_python_3_7_and_the_first_one_on_any_python(built):
    with zipfile.ZipFile(built.path) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                ast.parse(archive.read(name), name, feature_version=(3, 7))
        first = archive.read("__main__.py").decode("ascii")
    assert not re.search(r"""\bf["']|->|\bprint\b|annotations|:=""", first)


def test_its_table_says_what_the_entry_points_say(built):
    with zipfile.ZipFile(built.path) as archive:
        table = json.loads(archive.read(f"porting_check/recorder/{registry.TABLE}"))
    entries = {entry.name: entry.value for entry in metadata.entry_points(group=registry.GROUP)}
    assert table == {"version": __version__, "adapters": {name: entries[name] for name in BUILT_IN}}
    assert dict(built.adapters) == table["adapters"]


def test_nothing_in_it_reads_files_that_lie_beside_its_source(built):
    """``__file__`` serves only to tell frames of adapters from frames of the user's code."""
    users = set()
    with zipfile.ZipFile(built.path) as archive:
        for name in archive.namelist():
            text = archive.read(name).decode()
            if "__file__" in text:
                users.add(name)
            assert "importlib.resources" not in text, name
    assert users <= {"porting_check_jax/events.py", "porting_check_torch/scopes.py"}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_an_adapter_of_another_package_is_packed_when_asked_for_and_works_there(elsewhere, tmp_path):
    installed_elsewhere(elsewhere, "toy_adapter.inner:ToyAdapter")
    (elsewhere / "toy_adapter").mkdir()
    (elsewhere / "toy_adapter" / "__init__.py").write_text("")
    (elsewhere / "toy_adapter" / "inner.py").write_text(ADAPTER)
    assert set(packing.build_recorder(tmp_path / "plain.pyz").adapters) == BUILT_IN
    made = packing.build_recorder(tmp_path / "more.pyz", ["toyframe"])
    assert made.adapters["toyframe"] == "toy_adapter.inner:ToyAdapter"
    (tmp_path / "framework").mkdir()
    (tmp_path / "framework" / "toyframe.py").write_text("__version__ = '4.2'\n")
    done = subprocess.run(
        [sys.executable, str(made.path), "info", "--framework", "toyframe", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "framework")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["frameworks"]["toyframe"]["environment"]["versions"] == {"toyframe": "4.2"}


def test_an_adapter_that_is_one_module_is_packed_as_one_file(elsewhere):
    installed_elsewhere(elsewhere, "toy_module:ToyAdapter")
    (elsewhere / "toy_module.py").write_text(ADAPTER)
    assert packing.members(packing.adapter_table(["toyframe"]))["toy_module.py"].decode() == ADAPTER


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("new.py", "if (n := 3): pass\n", r"cannot run on Python 3\.7: toy_new/new\.py, line 1"),
        ("fast.cpython-311-x86_64-linux-gnu.so", "", "which Python cannot load from an archive"),
    ],
)
def test_an_adapter_that_could_not_run_there_is_refused(elsewhere, tmp_path, file, content, message):
    installed_elsewhere(elsewhere, "toy_new:ToyAdapter")
    (elsewhere / "toy_new").mkdir()
    (elsewhere / "toy_new" / "__init__.py").write_text(ADAPTER)
    (elsewhere / "toy_new" / file).write_text(content)
    with pytest.raises(ModelError, match=message):
        packing.build_recorder(tmp_path / "refused.pyz", ["toyframe"])
    assert not (tmp_path / "refused.pyz").exists()


def test_an_adapter_whose_source_is_not_there_is_refused(elsewhere):
    installed_elsewhere(elsewhere, "toy_absent:ToyAdapter")
    with pytest.raises(ModelError, match="toy_absent"):
        packing.members(packing.adapter_table(["toyframe"]))


def test_an_unknown_adapter_and_one_that_two_packages_provide_are_refused(elsewhere):
    with pytest.raises(FrameworkMissing, match=r"no adapter for 'toyframe' is installed; installed: .*torch"):
        packing.adapter_table(["toyframe"])
    installed_elsewhere(elsewhere, "one:Adapter")
    installed_elsewhere(elsewhere, "other:Adapter", dist="another-adapter")
    with pytest.raises(FrameworkMissing, match="one:Adapter and other:Adapter"):
        packing.adapter_table(["toyframe"])


def test_an_earlier_file_is_replaced_and_a_folder_is_not(tmp_path):
    target = tmp_path / "deep" / "recorder.pyz"
    packing.build_recorder(target)
    target.write_bytes(b"an earlier one")
    assert zipfile.is_zipfile(packing.build_recorder(target).path)
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(RecordingError, match="is a folder"):
        packing.build_recorder(tmp_path)
    with pytest.raises(RecordingError, match="cannot be written"):
        packing.build_recorder(target / "below-a-file.pyz")


# ----------------------------------------------------------------------------------------------------
# porting-check recorder build


def test_the_command_prints_where_the_file_went_and_its_digest(tmp_path, capfd):
    target = tmp_path / "r.pyz"
    assert main(["recorder", "build", "--out", str(target)]) == 0
    said = capfd.readouterr().out
    assert said.startswith(f"wrote {target} (")
    assert said.splitlines()[-1] == f"sha256:{hashlib.sha256(target.read_bytes()).hexdigest()}"
    assert main(["recorder", "build", "--out", str(target), "--json"]) == 0
    data = json.loads(capfd.readouterr().out)
    assert (data["path"], data["bytes"]) == (str(target), target.stat().st_size)
    assert set(data["adapters"]) == BUILT_IN
    assert main(["recorder", "build", "--out", str(target), "-q"]) == 0
    assert capfd.readouterr().out == f"{target}\n"


def test_without_a_name_the_file_lies_here(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["recorder", "build"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["porting-check-recorder.pyz"]
    capfd.readouterr()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--adapter", "mindspore"], 2, "no adapter for 'mindspore' is installed"),
        (["--out", "."], 3, "is a folder"),
        (["--nonsense"], 2, "No such option: --nonsense"),
    ],
)
def test_the_command_refuses_in_one_message(arguments, status, said, capfd):
    assert main(["recorder", "build", *arguments]) == status
    captured = capfd.readouterr()
    assert said in captured.err
    assert captured.out == "" and "Traceback" not in captured.err


def test_help_tells_the_exit_status_and_an_example(capfd):
    for command in (["recorder", "--help"], ["recorder", "build", "--help"]):
        assert main(command) == 0
        out = capfd.readouterr().out
        assert "Exit status: 0" in out
        assert "Example: porting-check recorder build" in out


# ----------------------------------------------------------------------------------------------------
# The registry with a table


def test_with_a_table_adapters_come_from_it_alone(monkeypatch):
    table = {"torch": "porting_check_torch:TorchAdapter"}
    monkeypatch.setattr(registry, "packed_table", lambda: table)
    monkeypatch.setattr(registry, "_entry_points", lambda: pytest.fail("asked what is installed"))
    known = registry.installed()
    assert list(known) == ["torch"]
    pytest.importorskip("torch")
    assert known["torch"]().framework == "torch"


def test_an_absent_framework_is_not_to_be_installed_but_found(monkeypatch):
    monkeypatch.setattr(registry, "packed_table", lambda: {"mindspore": "nowhere.to_be_found:Adapter"})
    assert "pip" not in str(registry._absent("mindspore", "mindspore"))
    assert sys.executable in str(registry._absent("mindspore", "mindspore"))


def test_where_the_package_is_installed_there_is_no_table():
    registry.packed_table.cache_clear()
    assert registry.packed_table() == {}
    assert packed_info.archive() == ""
    assert packed_info.version_line() == f"porting-check-recorder {__version__}"


# ----------------------------------------------------------------------------------------------------
# The archive's own command line


def said_by(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    return packed.main(arguments, out), out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["record", "net.pt"], "--out"),
        (["record", "net.pt", "--out", "x", "--seed", "-1"], "'-1' is not a whole number"),
        (["run", "net.trace", "--out", "x"], "--framework"),
        (["record", "net.pt", "--out", "x", "--layout", "a=NHWC", "--layout", "NCHW"], "INPUT=LAYOUT"),
        (["record", "net.pt", "--out", "x", "--inputs", "a=1.npy", "-i", "a=2.npy"], "a second time"),
        (["record", "net.pt", "--out", "x", "--inputs", "a="], "names no file"),
        (["record", "net.trace", "--out", "x"], "called like"),
        (["record", "absent.pt", "--out", "x"], "does not exist"),
        (["info", "--framework", "mindspore"], "no adapter for 'mindspore'"),
    ],
)
def test_wrong_usage_is_status_2_and_one_line(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, out = said_by(*arguments)
    error = capsys.readouterr().err
    assert (status, out) == (2, "")
    assert said in error
    assert error.startswith("porting-check-recorder: ") and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_and_version_go_where_results_go(capsys):
    for arguments in ([], ["--help"], ["record", "--help"], ["run", "--help"], ["info", "--help"]):
        status, out = said_by(*arguments)
        assert status == 0 and out.startswith("usage: porting-check-recorder") and "Exit status: 0" in out
    assert said_by("--version") == (0, f"porting-check-recorder {__version__}\n")
    assert capsys.readouterr() == ("", "")


def test_options_of_inputs_are_read_as_in_the_main_program(tmp_path, monkeypatch):
    from porting_check.cli_arguments import named_files, own_layouts

    monkeypatch.chdir(tmp_path)
    Path("with=sign.npy").write_bytes(b"")
    for items in (["cat.npy"], ["ids=a.npy", "mask=b.npy"], ["a.npy", "b.npy"], ["with=sign.npy"]):
        assert packed.files(items) == named_files(items)
    assert packed.files([]) == {} and packed.layouts([]) == {}
    assert packed.layouts(["image=NHWC", "mask=NHW"]) == own_layouts(["image=NHWC", "mask=NHW"])
    assert packed.layouts(["NHWC"]) == {"": own_layouts(["NHWC"])}
    with pytest.raises(InputError, match="second time"):
        packed.files(["a=1.npy", "a=2.npy"])


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 3, "out of memory"),
        (SystemExit(7), 3, "the model ended the process itself (status 7)"),
        (OSError(28, "No space left on device", "x.trace"), 3, "x.trace: No space left on device"),
        (RunError("the model raised\nin two lines"), 3, "the model raised in two lines"),
        (InputError("no such input"), 2, "no such input"),
        (ZeroDivisionError("by zero"), 3, "unexpected ZeroDivisionError: by zero"),
    ],
)
def test_whatever_happens_becomes_a_status_and_one_line(raised, status, said, monkeypatch, capsys):
    monkeypatch.delenv("PORTING_CHECK_DEBUG", raising=False)

    def fails() -> int:
        raise raised

    assert packed._guarded(fails) == status
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and "Traceback" not in error


def test_the_traceback_is_shown_when_asked_for(monkeypatch, capsys):
    monkeypatch.setenv("PORTING_CHECK_DEBUG", "1")
    packed._guarded(lambda: 1 // 0)
    assert "Traceback" in capsys.readouterr().err


def test_results_of_run_replace_their_like_and_nothing_else(tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for path in (taken, tmp_path / "file"):
        with pytest.raises(RunError, match="left alone"):
            packed._refuse_foreign(str(path), "result.json")
    assert (taken / "thesis.txt").read_text() == "mine"
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "result.json").write_text("{}")
    packed._folder(str(tmp_path / "before"), "result.json")
    assert list((tmp_path / "before").iterdir()) == []


def test_info_fails_when_an_installed_framework_does(monkeypatch):
    def options() -> argparse.Namespace:
        return argparse.Namespace(here=False, framework=None, quick=True, json=True)

    for states, status in (
        (["installed", "not installed"], 0),
        (["not installed"], 3),
        (["loads", "fails"], 3),
    ):
        found = {str(number): {"state": state} for number, state in enumerate(states)}
        monkeypatch.setattr(packed_info, "_frameworks", lambda options, found=found: found)
        out = io.StringIO()
        assert packed_info.info(options(), out) == status
        assert json.loads(out.getvalue())["frameworks"] == found


@pytest.fixture
def frequent_collections():
    """Garbage is collected all the time, and another thread goes on meanwhile, as callbacks in Python make it."""

    def pause(phase: str, info: object) -> None:
        time.sleep(1e-4)

    threshold = gc.get_threshold()
    gc.callbacks.append(pause)
    gc.set_threshold(200)
    yield
    gc.set_threshold(*threshold)
    gc.callbacks.remove(pause)


@pytest.mark.usefixtures("frequent_collections")
def test_several_threads_build_at_once(elsewhere, tmp_path):
    # Many files, so that their parsing overlaps.
    installed_elsewhere(elsewhere, "porting_check_torch:TorchAdapter")

    def build(number: int) -> str:
        return packing.build_recorder(tmp_path / f"{number}.pyz", ["toyframe"]).digest

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(build, range(4)))) == 1


def test_what_is_carried_into_environments_is_the_recorder_that_is_built(built):
    assert packing.recorder_bytes() == built.path.read_bytes()
