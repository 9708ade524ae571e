"""Command lines, mounts and reasons of containers, without a daemon: a program that answers as wanted takes its place."""

from __future__ import annotations

import json
import os
import shlex
import stat
from concurrent.futures import Future
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from porting_check.environments import docker
from porting_check.environments.docker import DockerRunner
from porting_check.environments.docker_client import Client, Engine, Image, State, lines_of, reason_of
from porting_check.environments.docker_files import Mount, hand_over, inside, request_of, take_back
from porting_check.environments.process import Ended
from porting_check.environments.runner import Task
from porting_check.environments.specification import EnvironmentSpec, parse
from porting_check.neutral.errors import ModelError, RunError

ID = "sha256:" + "5" * 64


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model file, a Python file and a SavedModel in folders of their own."""
    for path in ("nets/net.onnx", "nets/net.py", "saved/saved_model.pb", "package/module.py"):
        (tmp_path / "project" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / path).write_text("")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def job(tmp_path: Path, model: str, request: Any = None) -> Task:
    """A task with its folders."""
    task = Task(model=model, folder=tmp_path / "task", out="side.trace", request=request or {})
    task.prepare()
    return task


def options(runner: DockerRunner, task: Task) -> list[str]:
    """The words of the command that is printed."""
    return words_of(runner.commands(task)[-1])


def words_of(line: str) -> list[str]:
    """As a shell takes it apart; shlex does not know lines that go on."""
    return shlex.split(line.replace("\\\n", " "))


def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, tuple[int, str, str]]) -> Client:
    """A ``docker`` that answers a command (its first words) with a status, an output and an error."""
    path = tmp_path / "bin" / "docker"
    path.parent.mkdir()
    cases = "\n".join(
        f"  {shlex.quote(words)}*) printf %s {shlex.quote(out)}; printf %s {shlex.quote(said)} >&2; exit {status};;"
        for words, (status, out, said) in answers.items()
    )
    path.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}\nesac\nexit 99\n')
    path.chmod(0o755)
    return Client(str(path))


@pytest.mark.parametrize(
    ("model", "place", "mounted"),
    [
        ("nets/net.onnx", "/porting-check/work/nets/net.onnx", "nets"),
        ("nets/net.py:build", "/porting-check/work/nets/net.py:build", "nets"),
        ("saved", "/porting-check/work/saved", "saved"),
        ("package.module:build", "package.module:build", ""),
    ],
)
def test_a_model_lies_inside_as_it_does_outside(
    project: Path, tmp_path: Path, model: str, place: str, mounted: str
) -> None:
    view = inside(EnvironmentSpec(), job(tmp_path, model))
    assert view.model == place and view.folder == PurePosixPath("/porting-check/work")
    assert [mount.source for mount in view.mounts[3:]] == [project / mounted if mounted else project]
    assert all(mount.writable == (str(mount.target) == "/porting-check/made") for mount in view.mounts)


def test_a_model_outside_the_working_folder_has_its_own_folder_as_working_folder(
    project: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "net.onnx"
    other.parent.mkdir()
    other.write_text("")
    view = inside(EnvironmentSpec(), job(tmp_path, str(other)))
    assert view.model == "/porting-check/work/net.onnx"
    assert view.mounts[-1] == Mount(source=other.parent, target=PurePosixPath("/porting-check/work"))


def test_a_package_that_only_the_image_has_brings_no_folder(project: Path, tmp_path: Path) -> None:
    view = inside(EnvironmentSpec(), job(tmp_path, "torchvision.models:resnet18"))
    assert len(view.mounts) == 3 and view.model == "torchvision.models:resnet18"


def test_further_files_lie_as_outside_and_at_their_own_place(project: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    spec = EnvironmentSpec(files=("../weights", "saved"))
    view = inside(spec, job(tmp_path, "nets/net.py:build"))
    found = {str(mount.target): mount.source for mount in view.mounts[3:]}
    assert found == {
        "/porting-check/work/project/nets": project / "nets",
        "/porting-check/work/project/saved": project / "saved",
        "/porting-check/work/weights": tmp_path / "weights",
        str(tmp_path / "weights"): tmp_path / "weights",
        str(project / "saved"): project / "saved",
    }
    assert view.folder == PurePosixPath("/porting-check/work/project")


def test_links_out_of_a_models_folder_lead_to_the_same_file_inside(project: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "1"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for name, blob in (("net.onnx", "77"), ("net.onnx.data", "78"), ("other.onnx", "79")):
        (blobs / blob).write_text("")
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
    view = inside(EnvironmentSpec(), job(tmp_path, str(snapshot / "net.onnx")))
    found = {str(mount.target): mount.source for mount in view.mounts[3:]}
    work = "/porting-check/work"
    assert view.model == f"{work}/snapshots/1/net.onnx" and found[f"{work}/snapshots/1"] == snapshot
    assert found[f"{work}/blobs/77"] == blobs / "77" and found[f"{work}/blobs/78"] == blobs / "78"
    assert not any(target.endswith("79") for target in found)


def test_further_files_never_hide_the_system_of_the_image(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="files=/usr/share would hide a folder of the image; copy what"):
        inside(EnvironmentSpec(files=("/usr/share",)), job(tmp_path, "nets/net.py:build"))


def test_files_that_are_missing_are_named(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"files=weigths does not exist \(looked for /"):
        inside(EnvironmentSpec(files=("weigths",)), job(tmp_path, "nets/net.py:build"))


@pytest.mark.parametrize("home", ["nets", ".", "nets/deeper"])
def test_a_home_folder_never_goes_in(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.setenv("HOME", str(project / home))
    (project / "nets" / "deeper").mkdir()
    refused = home != "."
    if refused:
        with pytest.raises(ModelError, match="into a folder of their own"):
            inside(EnvironmentSpec(), job(tmp_path, "nets/net.onnx"))
    else:
        inside(EnvironmentSpec(), job(tmp_path, "nets/net.onnx"))
        with pytest.raises(ModelError, match="into a folder of their own"):
            inside(EnvironmentSpec(), job(tmp_path, "package.module:build"))
    with pytest.raises(ModelError, match="into a folder of their own"):
        inside(EnvironmentSpec(files=("/",)), job(tmp_path, "saved"))


def test_a_folder_that_root_alone_may_enter_is_handed_in_file_by_file(project: Path, tmp_path: Path) -> None:
    (project / "nets" / "weights").mkdir()
    (project / "nets" / "weights" / "w.npy").write_text("")
    (project / "nets" / "open").mkdir(mode=0o755)
    for closed in ("nets", "nets/weights"):
        (project / closed).chmod(0o700)
    (project / "nets" / "open").chmod(0o755)
    mounts = inside(EnvironmentSpec(), job(tmp_path, "nets/net.onnx"), user=54321).mounts[3:]
    work = PurePosixPath("/porting-check/work/nets")
    assert [m.target for m in mounts] == [work / n for n in ("net.onnx", "net.py", "open", "weights/w.npy")]


def test_paths_of_a_request_become_those_inside_and_back(project: Path, tmp_path: Path) -> None:
    task = job(tmp_path, "nets/net.onnx")
    view = inside(EnvironmentSpec(), task)
    asked = view.asked(
        {"inputs": {"x": str(task.given / "0-x.npy")}, "announce": str(task.made / "a"), "seed": 3}
    )
    assert asked == {
        "name": "nets/net.onnx",
        "inputs": {"x": "/porting-check/given/0-x.npy"},
        "announce": "/porting-check/made/a",
        "seed": 3,
    }
    assert view.told("/porting-check/work/nets/net.onnx: /porting-check/made/side.trace is full") == (
        f"{project}/nets/net.onnx: {task.made}/side.trace is full"
    )
    with pytest.raises(RunError, match="not among the files that are given"):
        view.asked({"weights": "/etc/passwd"})


def test_a_request_that_comes_later_is_read_from_standard_input(project: Path, tmp_path: Path) -> None:
    task = job(tmp_path, "nets/net.onnx", Future())
    assert request_of(task, inside(EnvironmentSpec(), task)) == "-"
    known = job(tmp_path, "saved", {"seed": 1})
    assert request_of(known, inside(EnvironmentSpec(), known)) == '{"name": "saved", "seed": 1}'


def test_a_container_may_do_nothing_but_read_compute_and_write_the_result(
    project: Path, tmp_path: Path
) -> None:
    text = "docker:old/tf:1.15,memory=2g,timeout=10m,env.TF_ENABLE_ONEDNN_OPTS=0,python=/opt/conda/bin/python"
    words = options(DockerRunner(parse(text)), job(tmp_path, "nets/net.py:build"))
    image = words.index("old/tf:1.15")
    assert words[:2] == ["docker", "run"]
    for option in (
        "--network=none",
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--pids-limit=4096",
        f"--memory={2**31}",
        f"--memory-swap={2**31}",
        "--entrypoint=/opt/conda/bin/python",
        "--env=HOME=/tmp",
        "--env=TF_ENABLE_ONEDNN_OPTS=0",
    ):
        assert option in words[:image]
    users = [word for word in words if word.startswith("--user=")]
    assert users == [f"--user={os.getuid()}:{os.getgid()}" if os.getuid() else "--user=65534:65534"]
    assert not any(word.startswith("--privileged") or "docker.sock" in word for word in words)
    writable = [w for w in words if w.startswith("--mount") and "readonly" not in w]
    assert writable == [f"--mount=type=bind,source={tmp_path / 'task' / 'made'},target=/porting-check/made"]
    assert words[image + 1 : image + 5] == [
        "-c",
        docker.LAUNCH,
        "/porting-check/recorder.pyz",
        "porting_check.recorder",
    ]


def test_the_network_is_there_where_it_is_allowed(project: Path, tmp_path: Path) -> None:
    task = job(tmp_path, "saved")
    assert "--network=none" not in options(DockerRunner(parse("docker:x,network=yes")), task)
    assert not any(word.startswith("--memory") for word in options(DockerRunner(parse("docker:x")), task))


@pytest.mark.parametrize(
    ("engine", "uid", "expected"),
    [
        (Engine(), 1000, ["--user=1000:1001"]),
        (Engine(), 0, ["--user=65534:65534"]),
        (Engine(rootless=True), 1000, ["--user=0:0"]),
        (Engine(remapped=True), 1000, ["--userns=host", "--user=1000:1001"]),
        (
            Engine(name="podman", rootless=True),
            1000,
            ["--security-opt=label=disable", "--http-proxy=false", "--userns=keep-id", "--user=1000:1001"],
        ),
    ],
)
def test_who_runs_inside_is_no_root_and_what_it_writes_is_the_callers(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, uid: int, expected: list[str]
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: uid)
    monkeypatch.setattr(os, "getgid", lambda: 1001)
    runner = DockerRunner(parse("docker:x"))
    runner._engine = engine
    assert runner._user() == expected


def test_proxies_of_the_clients_configuration_stay_outside(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    task = job(tmp_path, "saved")
    assert not any("PROXY" in word.upper() for word in options(DockerRunner(parse("docker:x")), task))
    config = {"proxies": {"default": {"httpProxy": "http://user:secret@proxy:3128"}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    words = options(DockerRunner(parse("docker:x,env.HTTP_PROXY=http://mine")), task)
    assert "--env=https_proxy=" in words and "--env=HTTP_PROXY=http://mine" in words


def test_printed_lines_are_one_command_of_one_option_a_line(project: Path, tmp_path: Path) -> None:
    (project / "with, comma 'quoted'").mkdir()
    (project / "with, comma 'quoted'" / "net.onnx").write_text("")
    lines = DockerRunner(parse("docker:x")).commands(job(tmp_path, "with, comma 'quoted'/net.onnx"))
    words = words_of(lines[-1])
    assert f"--mount=type=bind,\"source={project}/with, comma 'quoted'\"," in " ".join(words)
    assert lines_of(words) == lines[-1] and lines[-1].count("\\\n") > 15
    assert (os.getuid() == 0) == (len(lines) == 2)


IMAGE = json.dumps(
    [{"Id": ID, "RepoDigests": ["tf@sha256:77"], "Os": "linux", "Architecture": "amd64", "Config": {}}]
)
INFO = json.dumps({"ServerVersion": "29.1", "SecurityOptions": ["name=seccomp"], "MemoryLimit": True})


def test_an_environment_is_pinned_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = fake(tmp_path, monkeypatch, {"info": (0, INFO, ""), "image inspect tf:2.5": (0, IMAGE, "")})
    runner = DockerRunner(parse("docker:tf:2.5"), client)
    assert runner.origin() == {
        "image": "tf:2.5",
        "id": ID,
        "digest": "tf@sha256:77",
        "platform": "linux/amd64",
        "docker": "29.1",
    }
    assert runner._image == Image(id=ID, digest="tf@sha256:77", platform="linux/amd64")


def test_podman_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = {"security": {"rootless": True}, "cgroupControllers": ["memory"]}
    info = json.dumps({"host": host, "version": {"Version": "5.2"}})
    image = IMAGE.replace("sha256:5", "5")
    client = fake(tmp_path, monkeypatch, {"info": (0, info, ""), "image inspect": (0, image, "")})
    assert client.engine() == Engine(name="podman", version="5.2", rootless=True)
    assert client.image("tf:2.5").id == ID


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (
            {"info": (1, "", "Cannot connect to the Docker daemon at unix:///x.")},
            "the Docker daemon is not running; start",
        ),
        (
            {"info": (0, json.dumps({"ServerErrors": ["Cannot connect to the Docker daemon."]}), "")},
            "the Docker daemon is not running; start",
        ),
        (
            {"info": (1, "", "permission denied while trying to connect to the docker API")},
            "you may not use the Docker daemon; join its group",
        ),
        ({"info": (0, "not json", "")}, "answered what is no JSON"),
        ({"info": (0, INFO.replace("true", "false"), "")}, "cannot limit memory on this machine"),
        (
            {
                "info": (0, INFO, ""),
                "image inspect": (1, "", "Error: No such image: tf:2.5"),
                "image ls": (0, "tf:2.4\ntensorflow/tensorflow:2.5.0\n<none>:<none>\n", ""),
            },
            "docker pull tf:2.5 .*names like it: tf:2.4\\.",
        ),
    ],
)
def test_why_it_cannot_run_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, tuple[int, str, str]], words: str
) -> None:
    runner = DockerRunner(parse("docker:tf:2.5,memory=1g"), fake(tmp_path, monkeypatch, answers))
    with pytest.raises(RunError, match=words) as caught:
        runner.prepare()
    assert caught.value.exit_status == 3


def test_a_docker_that_is_not_installed_is_named() -> None:
    with pytest.raises(RunError, match="'no-such-docker' is not installed.*PORTING_CHECK_DOCKER=podman"):
        DockerRunner(parse("docker:x"), Client("no-such-docker")).prepare()


@pytest.mark.parametrize(
    ("ended", "state", "words"),
    [
        (Ended(status=1, why="timeout"), State(), "timed out after 1 minute"),
        (Ended(status=1, why="cancelled"), State(), "was cancelled"),
        (
            Ended(status=137),
            State(known=True, status=137, out_of_memory=True),
            "used more than 1 GB of memory",
        ),
        (Ended(status=137), State(known=True, status=137), "was killed from outside"),
        (Ended(status=137), State(), "its container was removed from outside"),
        (Ended(status=139), State(known=True, status=139), "crashed"),
        (Ended(status=127), State(known=True, status=127), "no 'python3' that could be run in the image 'x'"),
        (
            Ended(status=1, tail=("SyntaxError: future feature annotations is not defined",)),
            State(known=True, status=1),
            "'python3' in the image is older than Python 3.7",
        ),
        (
            Ended(status=1, tail=("ModuleNotFoundError: No module named 'numpy'",)),
            State(known=True, status=1),
            "has no numpy; name the one that has the framework: docker:x,python=",
        ),
        (Ended(status=255, tail=("exec format error",)), State(), "the image is for linux/arm64"),
        (
            Ended(status=3, tail=("OSError: /porting-check/made/side.trace: No space left on device",)),
            State(known=True, status=3),
            "ended with status 3.*\n.*/task/made/side.trace: No space left",
        ),
    ],
)
def test_how_a_container_ended_is_said_in_a_sentence(
    project: Path, tmp_path: Path, ended: Ended, state: State, words: str
) -> None:
    runner = DockerRunner(parse("docker:x,memory=1g,timeout=1m"))
    runner._image = Image(id=ID, platform="linux/arm64")
    task = job(tmp_path, "nets/net.onnx")
    with pytest.raises(RunError, match=words) as caught:
        runner._raise(task, inside(runner.spec, task), ended, state)
    assert str(caught.value).startswith("recording 'nets/net.onnx' in docker:x,memory=1g,timeout=1m failed: ")


def test_the_insides_own_error_comes_before_how_it_ended(project: Path, tmp_path: Path) -> None:
    runner, task = DockerRunner(parse("docker:x")), job(tmp_path, "nets/net.onnx")
    message = "/porting-check/work/nets/net.onnx: [Errno 30] Read-only file system"
    task.failure.write_text(json.dumps({"type": "ModelError", "message": message}))
    with pytest.raises(ModelError, match="can only be read") as caught:
        runner._raise(task, inside(runner.spec, task), Ended(status=2), State(known=True, status=2))
    assert str(project) in str(caught.value) and "/porting-check/work" not in str(caught.value)


def test_what_is_left_gets_sane_permissions_and_links_are_removed(project: Path, tmp_path: Path) -> None:
    task, secret = job(tmp_path, "saved"), tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    (task.made / "deep").mkdir()
    (task.made / "deep" / "program").write_text("")
    (task.made / "deep" / "program").chmod(0o6777)
    (task.made / "deep").chmod(0o000)
    (task.made / "link").symlink_to(secret)
    (task.made / "folder").symlink_to(tmp_path)
    os.mkfifo(task.made / "pipe")
    assert take_back(task, None) == "the pipe 'pipe', the symbolic link 'folder', the symbolic link 'link'"
    assert sorted(path.name for path in task.made.rglob("*")) == ["deep", "program"]
    assert stat.S_IMODE((task.made / "deep" / "program").stat().st_mode) & 0o7133 == 0
    assert secret.read_text() == "secret" and stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert take_back(task, None) == ""


def test_an_error_of_an_earlier_run_is_not_taken_for_this_ones(project: Path, tmp_path: Path) -> None:
    task = job(tmp_path, "saved")
    task.failure.write_text("{}")
    hand_over(task, None)
    assert not task.failure.exists()


def test_words_of_the_client_that_nobody_foresaw_are_passed_on_without_control_characters() -> None:
    assert (
        reason_of("\x1b[31mError:\x1b[0m odd\nthing\x07", "docker create")
        == "docker create failed: Error: odd thing"
    )
