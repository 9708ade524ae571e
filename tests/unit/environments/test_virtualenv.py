"""Virtual environments that are made, locked and cached: by uv and by pip, from a folder of small wheels, without a network."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from porting_check.environments import cache, virtualenv
from porting_check.environments.cache import cache_folder, label, locked, write_whole
from porting_check.environments.installing import (
    Installer,
    Pip,
    Uv,
    Work,
    find_installer,
    has_hashes,
    lock_of,
    locked_names,
)
from porting_check.environments.interpreters import Interpreter
from porting_check.environments.package_sources import pip_settings, settings_of, uv_variables
from porting_check.environments.runner import Task
from porting_check.environments.specification import EnvironmentSpecError, parse
from porting_check.environments.virtualenv import VirtualenvRunner, body, requirement_words
from porting_check.neutral.errors import FrameworkMissing, RunError

HERE = ".".join(map(str, sys.version_info[:2]))


def wheel(folder: Path, name: str, version: str, code: str = "", needs: Sequence[str] = ()) -> Path:
    """A pure wheel with one module; https://packaging.python.org/en/latest/specifications/binary-distribution-format/."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(
        f"Requires-Dist: {one}\n" for one in needs
    )
    files = {
        f"{name}.py": f"__version__ = {version!r}\n{textwrap.dedent(code)}",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{each},,\n" for each in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for each, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(each, text)
    return path


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of two packages (a small module takes numpy's name), a cache of its own, and no network."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel(folder, "numpy", "9.9")
    wheel(folder, "toy", "1.0", needs=["numpy"])
    for key in list(os.environ):
        if key.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(key)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("PORTING_CHECK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return folder


def uv() -> Uv:
    found = find_installer()
    if not isinstance(found, Uv):
        pytest.skip("uv is not installed")
    return found


class Counting:
    """An installer that counts, and may do something before it installs."""

    name = "uv"

    def __init__(self, inner: Installer) -> None:
        self.inner, self.installed, self.resolved = inner, 0, 0
        self.before = lambda: None

    def resolve(self, requirements: Sequence[str], python: Interpreter, target: Path, work: Work) -> str:
        self.resolved += 1
        return self.inner.resolve(requirements, python, target, work)

    def install(self, lock: str, python: Interpreter, target: Path, work: Work) -> None:
        self.installed += 1
        self.before()
        self.inner.install(lock, python, target, work)


def quiet(stage: str, done: int, total: int) -> None:
    pass


def made(text: str, installer: Installer | None = None) -> VirtualenvRunner:
    runner = VirtualenvRunner(parse(text), installer or uv())
    runner.prepare(quiet)
    return runner


def whole(folder: Path) -> list[str]:
    """Environments of a cache that have their name, and what is left of others."""
    return sorted(path.name for path in (folder / "environments").iterdir() if path.is_dir())


@pytest.mark.parametrize("kind", ["uv", pytest.param("pip", marks=pytest.mark.slow)])
def test_made_once_locked_with_hashes_and_used_again_without_the_packages(
    wheels: Path, tmp_path: Path, kind: str
) -> None:
    installer: Installer = uv() if kind == "uv" else Pip()
    stages: list[str] = []
    runner = VirtualenvRunner(parse(f"venv:toy,python=={HERE}"), installer)
    runner.prepare(lambda stage, done, total: stages.append(stage))
    assert stages[0] == f"making the environment venv:toy,python=={HERE}: resolving with {kind}"
    assert stages[-1].endswith("importing numpy")
    assert runner.interpreter().numpy == "9.9"
    assert runner.interpreter().minor == HERE
    assert locked_names(runner.lock) == {"toy": "1.0", "numpy": "9.9"}
    assert has_hashes(runner.lock)
    digest = hashlib.sha256((wheels / "toy-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    assert f"sha256:{digest}" in runner.lock
    assert runner.origin()["lock"] == "sha256:" + hashlib.sha256(body(runner.lock).encode()).hexdigest()
    shutil.rmtree(wheels)
    stages.clear()
    again = VirtualenvRunner(parse(f"venv:toy,python=={HERE}"), installer)
    again.prepare(lambda stage, done, total: stages.append(stage))
    assert (again.interpreter(), again.lock, stages) == (runner.interpreter(), runner.lock, [])
    assert len(whole(tmp_path / "cache")) == 1


def test_numpy_is_added_where_nothing_brings_it(wheels: Path) -> None:
    wheel(wheels, "alone", "2.0")
    runner = made("venv:alone==2.0")
    assert locked_names(runner.lock) == {"alone": "2.0", "numpy": "9.9"}
    assert runner.interpreter().numpy == "9.9"


def test_a_lock_is_written_and_then_holds(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made("venv:toy,lock=toy.txt")
    text = (tmp_path / "toy.txt").read_text()
    assert text == first.lock
    assert text.startswith(f"# Made by porting-check for toy with Python {HERE} on ")
    wheel(wheels, "numpy", "10.0")
    monkeypatch.setenv("PORTING_CHECK_CACHE", str(tmp_path / "other"))
    assert made("venv:toy,lock=toy.txt").interpreter().numpy == "9.9"
    assert (tmp_path / "toy.txt").read_text() == text
    assert made("venv:toy").interpreter().numpy == "10.0"
    assert len(whole(tmp_path / "other")) == 2


@pytest.mark.slow
def test_pip_adds_numpy_and_its_lock_is_good_for_uv(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(wheels, "alone", "2.0")
    made("venv:alone,lock=alone.txt", Pip())
    monkeypatch.setenv("PORTING_CHECK_CACHE", str(tmp_path / "other"))
    counting = Counting(uv())
    runner = made("venv:alone,lock=alone.txt", counting)
    assert locked_names(runner.lock) == {"alone": "2.0", "numpy": "9.9"}
    assert has_hashes(runner.lock)
    assert runner.interpreter().numpy == "9.9"
    assert (counting.resolved, counting.installed) == (0, 1)


def test_a_lock_and_its_cached_environment_are_the_same_one(wheels: Path, tmp_path: Path) -> None:
    counting = Counting(uv())
    made("venv:toy", counting)
    made("venv:toy,lock=toy.txt", counting)
    made("venv:toy,lock=toy.txt", counting)
    assert counting.installed == 1
    assert len(whole(tmp_path / "cache")) == 1


def test_a_file_that_is_not_the_locked_one_is_refused(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made("venv:toy,lock=toy.txt")
    wheel(wheels, "numpy", "9.9", code="evil = True")
    monkeypatch.setenv("PORTING_CHECK_CACHE", str(tmp_path / "other"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-other"))
    with pytest.raises(RunError, match="(?s)installing the packages failed.*[Hh]ash") as caught:
        made("venv:toy,lock=toy.txt")
    assert caught.value.exit_status == 3
    assert whole(tmp_path / "other") == []


def test_a_lock_of_other_requirements_is_refused(wheels: Path, tmp_path: Path) -> None:
    made("venv:toy,lock=toy.txt")
    with pytest.raises(
        EnvironmentSpecError, match=r"was made for toy with Python .*; asked for now is toy==1\.0 with"
    ):
        made("venv:toy==1.0,lock=toy.txt")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(EnvironmentSpecError, match="pins no package"):
        made("venv:toy,lock=empty.txt")
    (tmp_path / "own.txt").write_text("numpy==9.9\n")
    assert made("venv:toy,lock=own.txt").interpreter().numpy == "9.9"


def test_a_file_of_requirements_counts_by_its_content(wheels: Path, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("toy\n")
    assert locked_names(made("venv:requirements.txt").lock) == {"toy": "1.0", "numpy": "9.9"}
    wheel(wheels, "toy", "2.0", needs=["numpy"])
    assert locked_names(made("venv:requirements.txt").lock)["toy"] == "1.0"
    (tmp_path / "requirements.txt").write_text("toy>1\n")
    assert locked_names(made("venv:requirements.txt").lock)["toy"] == "2.0"


def test_a_package_that_is_not_there(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="(?s)resolving the requirements failed.*no-such-thing"):
        made("venv:no-such-thing==1.0")
    assert whole(tmp_path / "cache") == []


@pytest.mark.slow
def test_pip_names_a_package_that_is_not_there(wheels: Path) -> None:
    with pytest.raises(RunError, match="(?s)installing the packages failed.*no-such-thing"):
        made("venv:no-such-thing==1.0", Pip())


def test_a_framework_that_does_not_fit_is_found_out_when_it_is_installed(
    wheels: Path, tmp_path: Path
) -> None:
    wheel(wheels, "onnxruntime", "1.0", code="raise ImportError('compiled for numpy 8')", needs=["numpy"])
    with pytest.raises(RunError) as caught:
        made("venv:onnxruntime")
    assert "onnxruntime cannot be used: ImportError: compiled for numpy 8" in str(caught.value)
    assert "numpy 9.9, onnxruntime 1.0" in str(caught.value)
    assert whole(tmp_path / "cache") == []


def test_no_such_python(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no Python 3\.99 was found; found"):
        made("venv:toy,python==3.99")
    with pytest.raises(EnvironmentSpecError, match=r"Python 3\.6 is too old"):
        made("venv:toy,python==3.6")
    with pytest.raises(EnvironmentSpecError, match="does not exist"):
        made("venv:toy,python=/no/such/python")
    assert made(f"venv:toy,python={sys.executable}").interpreter().minor == HERE


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_one_whose_python_was_removed_is_made_again(wheels: Path) -> None:
    first = Path(made("venv:toy").interpreter().path)
    first.unlink()
    first.symlink_to("/no/such/python")
    counting = Counting(uv())
    assert made("venv:toy", counting).interpreter().path == str(first)
    assert (counting.resolved, counting.installed) == (0, 1)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupted_creation_is_never_taken_for_whole(wheels: Path, tmp_path: Path) -> None:
    """The program is killed after the packages were installed and before the environment got its name."""
    program = """
        import pathlib, time
        from porting_check.environments import virtualenv
        from porting_check.environments.specification import parse
        def late(*arguments):
            pathlib.Path("installed").touch()
            time.sleep(60)
        virtualenv._into_place = late
        virtualenv.VirtualenvRunner(parse("venv:toy")).prepare(lambda *report: None)
    """
    uv()
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path)
    while not (tmp_path / "installed").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [name[0] for name in whole(tmp_path / "cache")] == ["."]
    assert made("venv:toy").interpreter().numpy == "9.9"
    assert len(whole(tmp_path / "cache")) == 1
    assert whole(tmp_path / "cache")[0][0] != "."


@pytest.mark.parametrize("locks", [True, False])
def test_two_at_the_same_time_make_one(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    """Where the file system knows no locks, both make it, and the second one takes the first one's."""
    if not locks:
        monkeypatch.setattr(cache, "_try", lambda file: False)
    counting, meeting = Counting(uv()), threading.Barrier(2)
    if not locks:
        counting.before = lambda: [meeting.wait(60)]
    runners = [VirtualenvRunner(parse("venv:toy"), counting) for _ in range(2)]
    threads = [threading.Thread(target=runner.prepare, args=(quiet,)) for runner in runners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert runners[0].interpreter() == runners[1].interpreter()
    assert runners[0].interpreter().numpy == "9.9"
    assert counting.installed == (1 if locks else 2)
    assert len(whole(tmp_path / "cache")) == 1


def test_cancelled_while_another_one_makes_it_and_while_installing(wheels: Path, tmp_path: Path) -> None:
    cancelled, told = threading.Event(), []

    def waiting() -> None:
        told.append(1)
        cancelled.set()

    with locked(tmp_path / "x.lock", lambda: None, threading.Event()) as held:
        assert held
        second = locked(tmp_path / "x.lock", waiting, cancelled)
        with pytest.raises(RunError, match="was cancelled"):
            second.__enter__()
    assert told == [1]
    counting = Counting(uv())
    counting.before = cancelled.set
    cancelled.clear()
    with pytest.raises(RunError, match="was cancelled"):
        VirtualenvRunner(parse("venv:toy"), counting).prepare(quiet, cancelled)
    assert whole(tmp_path / "cache") == []


def test_a_cache_that_cannot_be_written(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PORTING_CHECK_CACHE", str(tmp_path / "file"))
    with pytest.raises(RunError, match="cannot be made: .*; name another one with PORTING_CHECK_CACHE"):
        made("venv:toy")


def test_a_full_disk_is_a_reason_and_leaves_nothing(wheels: Path, tmp_path: Path) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    counting = Counting(uv())
    counting.before = full
    with pytest.raises(RunError, match="cannot be made in .*: No space left on device"):
        made("venv:toy", counting)
    assert whole(tmp_path / "cache") == []


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PORTING_CHECK_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("PORTING_CHECK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform == "linux":
        assert cache_folder() == tmp_path / "xdg" / "porting-check"
    assert label("-r ../a b.txt") == "r-..-a-b.txt"
    write_whole(tmp_path / "new" / "file", "text\n")
    assert (tmp_path / "new" / "file").read_bytes() == b"text\n"


@pytest.mark.network
def test_with_the_real_numpy_the_recorder_says_that_there_is_no_framework(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTING_CHECK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text("import numpy\ndef build():\n    return numpy.zeros(1)\n")
    (tmp_path / "net.onnx").write_bytes(b"")
    runner = made("venv:numpy<2.4,lock=numpy.txt")
    assert has_hashes(runner.lock)
    assert runner.interpreter().numpy == locked_names(runner.lock)["numpy"]
    task = Task(model="net.onnx", folder=tmp_path / "task", out="side.trace", request={})
    with pytest.raises(FrameworkMissing, match="onnxruntime"):
        runner.run(task, quiet)


def test_the_commands_by_hand(wheels: Path, tmp_path: Path) -> None:
    task = Task(model="model.py:build", folder=tmp_path, out="side.trace", request={"seed": 1})
    runner = VirtualenvRunner(parse("venv:torch==1.10.0,python==3.9"), Pip())
    folder = tmp_path / "environment"
    clean = (
        f'env -i PATH={folder}/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 HOME="$(mktemp -d)" PYTHONNOUSERSITE=1 '
        f"PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={task.archive} TF_CPP_MIN_LOG_LEVEL=3 {folder}/bin/python -m "
        f"porting_check.recorder model.py:build --out {task.result} --request '{{\"seed\": 1}}'"
    )
    assert runner.commands(task) == [
        f"python3.9 -m venv {folder}",
        f"{folder}/bin/python -m pip install torch==1.10.0 numpy",
        clean,
    ]
    assert not (tmp_path / "cache").exists()
    (tmp_path / "lock.txt").write_text("numpy==9.9\n")
    by_uv = VirtualenvRunner(parse("venv:toy,python==3.9,lock=lock.txt"), uv()).commands(task)
    assert by_uv[:2] == [
        f"uv venv --python 3.9 {folder}",
        f"uv pip install --python {folder} --no-deps -r lock.txt",
    ]
    assert requirement_words(["tensorflow==2.5.0"]) == ["tensorflow==2.5.0"]


def test_settings_of_pip_are_told_to_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = (
        ":env:.find-links='/wheels https://example.org/more'\nglobal.cert='/etc/ca.pem'\n"
        "global.extra-index-url='https://one\\nhttps://two'\nglobal.index-url='https://weak'\n"
        "install.index-url='https://strong'\nglobal.trusted-host='one two'\nfreeze.user='true'\n"
    )
    settings = settings_of(listing)
    assert settings["index-url"] == "https://strong"
    assert "user" not in settings
    assert uv_variables({"HOME": "/h"}, settings) == {
        "HOME": "/h",
        "UV_DEFAULT_INDEX": "https://strong",
        "UV_INDEX": "https://one https://two",
        "UV_FIND_LINKS": "/wheels,https://example.org/more",
        "UV_INSECURE_HOST": "one two",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    own = {
        "UV_DEFAULT_INDEX": "https://own",
        "SSL_CERT_FILE": "/own.pem",
        "UV_EXTRA_INDEX_URL": "",
        "UV_PYTHON": "3.12",
    }
    told = uv_variables(own, settings)
    assert (told["UV_DEFAULT_INDEX"], told["SSL_CERT_FILE"]) == ("https://own", "/own.pem")
    assert "UV_INDEX" not in told
    assert "UV_PYTHON" not in told
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://from-a-file\n[install]\nno-index = true\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_PROXY", "http://proxy:3128")
    read = pip_settings()
    assert (read["index-url"], read["no-index"]) == ("https://from-a-file", "true")
    assert uv_variables({}, read)["ALL_PROXY"] == "http://proxy:3128"


def test_locks_are_read_and_reports_of_pip_become_locks() -> None:
    entry = {
        "metadata": {"name": "Toy_Package", "version": "1.0"},
        "download_info": {"url": "https://x/toy.whl", "archive_info": {"hash": "sha256=aa"}},
        "is_direct": False,
    }
    newer = {"url": "https://x/b.whl", "archive_info": {"hashes": {"sha256": "bb"}}}
    direct = {"metadata": {"name": "b", "version": "2"}, "download_info": newer, "is_direct": True}
    folder = {
        "metadata": {"name": "c", "version": "3"},
        "download_info": {"url": "file:///c", "dir_info": {}},
    }
    lock = lock_of({"install": [entry, direct]})
    assert lock == "b @ https://x/b.whl --hash=sha256:bb\nToy_Package==1.0 --hash=sha256:aa\n"
    assert locked_names(lock) == {"b": "https://x/b.whl", "toy-package": "1.0"}
    assert has_hashes(lock)
    assert not has_hashes(lock_of({"install": [entry, folder]}))
    assert not has_hashes("# only a comment\n")
    assert has_hashes("a==1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n# via b\n")
    assert json.loads(json.dumps(locked_names("a[x,y]==1 ; python_version < '3.9'"))) == {"a": "1"}


def test_installers_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / ("uv.exe" if os.name == "nt" else "uv")
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_installer()
    assert isinstance(found, Uv)
    assert found.program == str(program)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert isinstance(find_installer(), Pip)
    assert virtualenv.IMPORTS["tensorflow-cpu"] == "tensorflow"
