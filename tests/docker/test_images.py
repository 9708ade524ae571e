"""The images of docker/: what is in them, what is not, and a port verified across them by compose."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from porting_check.packing import build_recorder
from tests.docker.image import docker, present

FOLDER = Path(__file__).parents[2] / "docker"
ROWS = {row["name"]: row for row in tomllib.loads((FOLDER / "matrix.toml").read_text())["image"]}
SHORT = {name: ".".join(row["version"].split(".")[:2]) for name, row in ROWS.items()}
NAMES = [*ROWS]
BUILT_BY_CI = (FOLDER / "ci-images.txt").read_text().split()
SHUT_IN = [
    "--rm",
    "--network",
    "none",
    "--read-only",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
    "--tmpfs",
    "/tmp",
]

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def tag(name: str) -> str:
    return f"porting-check/{ROWS[name]['framework']}:{SHORT[name]}"


def here(name: str) -> str:
    """The image, or a skip that says how to have it."""
    if not present(tag(name)):
        pytest.skip(f"{tag(name)} is not built here: python docker/build.py {name}")
    return tag(name)


def inside(image: str, code: str, *options: str) -> str:
    return docker("run", *SHUT_IN, *options, image, "python", "-c", code, timeout=600)


def config(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("image", "inspect", image))[0]["Config"]
    return found


def test_ci_builds_old_and_current_images_that_exist() -> None:
    assert set(BUILT_BY_CI) <= set(NAMES)
    assert {"tensorflow-2.5", "torch-1.10", "compare", "torch-current", "tensorflow-current"} <= set(
        BUILT_BY_CI
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_unprivileged_and_labelled(name: str) -> None:
    image = here(name)
    found = config(image)
    assert found["User"] == "10001:10001"
    assert found["Labels"]["org.opencontainers.image.version"] == ROWS[name]["version"]
    assert found["Labels"]["porting-check.python"] == ROWS[name]["python"]
    assert found["Labels"]["porting-check.lock"].endswith(f"{ROWS[name]['framework']}-{SHORT[name]}.txt")
    code = (
        "import os\nprint(os.getuid(), os.getgid())\n"
        "for path in ('/x', '/opt/venv/x', '/usr/local/x'):\n"
        "    try: open(path, 'w')\n"
        "    except OSError: print('denied')"
    )
    writable = [word for word in SHUT_IN if word != "--read-only"]
    said = docker("run", *writable, image, "python", "-c", code)
    assert said.split() == ["10001", "10001", "denied", "denied", "denied"]


@pytest.mark.parametrize("name", NAMES)
def test_an_image_passes_its_own_health_check(name: str) -> None:
    image = here(name)
    command = config(image)["Healthcheck"]["Test"]
    assert command[0] == "CMD"
    said = docker("run", *SHUT_IN, image, *command[1:], timeout=600)
    if name == "compare":
        assert "adapters: jax, onnxruntime, tensorflow, torch" in said
    else:
        assert re.search(rf"{ROWS[name]['framework']} +loads; .*{re.escape(ROWS[name]['version'])}", said)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_holds_exactly_what_its_lock_says(name: str) -> None:
    image = here(name)
    lock = (FOLDER / "locks" / f"{ROWS[name]['framework']}-{SHORT[name]}.txt").read_text()
    wanted = dict(re.findall(r"^([a-z0-9.-]+)==([^ \\;]+)", lock, re.MULTILINE))
    code = (
        "import json, glob, os\n"
        "found = {}\n"
        "for path in glob.glob('/opt/venv/lib/python3*/site-packages/*.*-info'):\n"
        "    text = open(os.path.join(path, 'METADATA' if path.endswith('dist-info') else 'PKG-INFO'), encoding='utf-8').read()\n"
        "    head = dict(line.split(': ', 1) for line in text.split('\\n\\n')[0].splitlines() if ': ' in line[:20])\n"
        "    found[head['Name']] = head['Version']\n"
        "print(json.dumps(found))"
    )
    found = {
        re.sub("[._]", "-", each.lower()): version
        for each, version in json.loads(inside(image, code)).items()
    }
    found.pop("porting-check", None)
    assert found == {re.sub("[._]", "-", each): version for each, version in wanted.items()}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_the_build_needed_is_in_an_image(name: str) -> None:
    image = here(name)
    found = config(image)
    assert not [entry for entry in found["Env"] if entry.startswith("PIP_") or "CERT" in entry]
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    assert "127.0.0.1" not in history
    assert "pip.conf" not in history
    search = (
        r"find / -xdev \( -name pip.conf -o -name 'pip-cert*' -o -name '*.whl' -o -name lock.txt -o -name .cache \)"
        " -not -path '*/ensurepip/*' -not -path '/proc/*'; ls /opt/venv/bin | grep -x pip || true"
    )
    shell = [word for word in SHUT_IN if word not in ("--cap-drop", "ALL")]
    assert docker("run", *shell, "--user", "0:0", image, "sh", "-c", search) == ""


def test_certificates_in_an_image_are_those_of_its_base() -> None:
    image, base = here("torch-1.10"), f"porting-check/python:{ROWS['torch-1.10']['python']}-slim"
    if not present(base):
        pytest.skip(f"{base} is not here: the images are built on the public one")
    code = (
        "import hashlib, os\n"
        "path = '/etc/ssl/certs/ca-certificates.crt'\n"
        "print(hashlib.sha256(open(path, 'rb').read()).hexdigest() if os.path.exists(path) else 'none')"
    )
    assert inside(image, code) == inside(base, code)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "compare"])
def test_a_network_recorded_in_an_image_is_faithfully_ported_to_onnx_here(name: str, tmp_path: Path) -> None:
    image, framework = here(name), ROWS[name]["framework"]
    layout = "NCHW" if framework in ("torch", "onnxruntime") else "NHWC"
    tmp_path.chmod(0o755)  # the user of the container reads it
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o777)
    build_recorder(tmp_path / "recorder.pyz").path.chmod(0o644)
    shutil.copy(FOLDER / "demo" / "small.py", tmp_path)
    save = (
        "import small, numpy as np; x = small.image(); np.save('NHWC.npy', x); "
        "np.save('NCHW.npy', x.transpose(0, 3, 1, 2).copy())"
    )
    subprocess.run([sys.executable, "-c", save], cwd=tmp_path, check=True)
    record = f"python recorder.pyz record small.py:{framework}_model --layout {layout} --inputs {layout}.npy --out out/here.trace"
    mounts = ["-v", f"{tmp_path}:/work:ro", "-v", f"{tmp_path / 'out'}:/work/out", "-w", "/work"]
    said = docker("run", *SHUT_IN, *mounts, image, *record.split(), timeout=600)
    assert ROWS[name]["version"] in said
    assert "takes values out of torch" not in said  # torch 1.13 saw the recorder's own look at tensors
    compare = [
        sys.executable,
        "-c",
        "from porting_check.cli import main; main()",
        "compare",
        "out/here.trace",
    ]
    done = subprocess.run(
        [*compare, "small.py:onnxruntime_model", "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("FAITHFUL")


class Compose:
    """One run of docker/docker-compose.yml in a project of its own, with its own volume."""

    def __init__(self, **variables: str) -> None:
        self.project = f"porting-check-test-{uuid.uuid4().hex[:8]}"
        self.environment = {**os.environ, "COMPOSE_PROJECT_NAME": self.project, **variables}

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [*PROGRAM, "-f", str(FOLDER / "docker-compose.yml"), *words]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=900)

    def verdict(self) -> tuple[int, dict[str, Any], str]:
        """Run everything; status of the comparison, its report, and what all services said."""
        done = self("up", "--no-build", "compare")
        said = done.stdout + done.stderr
        container = docker("ps", "-aq", "--filter", f"name={self.project}.compare")
        assert container, said
        status = int(docker("inspect", "--format", "{{.State.ExitCode}}", container))
        volume = f"{self.project}_recordings:/recordings:ro"
        report = inside(
            "porting-check/compare:0.1", "print(open('/recordings/report/report.json').read())", "-v", volume
        )
        return status, json.loads(report), said


def program() -> list[str]:
    """Compose version 2 if docker has it, else docker-compose; empty if neither is here."""
    if (
        shutil.which("docker")
        and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    ):
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else []


PROGRAM = program()
OLD = {"TENSORFLOW": "2.5", "TORCH": "1.10"}
NEW = {"TENSORFLOW": SHORT["tensorflow-current"], "TORCH": SHORT["torch-current"]}


@pytest.fixture
def compose(request: pytest.FixtureRequest) -> Iterator[Compose]:
    if not PROGRAM:
        pytest.skip("neither docker compose nor docker-compose is installed")
    variables: dict[str, str] = request.param
    for name in ROWS:
        if variables.get(ROWS[name]["framework"].upper()) == SHORT[name] or name == "compare":
            here(name)
    recorder = FOLDER / "context" / "porting-check-recorder.pyz"
    if not recorder.exists():
        build_recorder(recorder)
    made = Compose(**variables)
    yield made
    made("down", "--volumes", "--timeout", "1")


PNET = {"REFERENCE": "pnet", "CANDIDATE": "pnet"}
RIGHT = [OLD, NEW, {**OLD, "CANDIDATE": "conv_float32"}, {**OLD, **PNET}, {**NEW, **PNET}]


@pytest.mark.parametrize("compose", RIGHT, indirect=True, ids=str)
def test_the_founding_question_and_a_trained_network_are_faithful_across_images(compose: Compose) -> None:
    status, report, said = compose.verdict()
    assert status == 0, said
    assert report["verdict"] == "faithful"
    assert compose.environment["TENSORFLOW"] in json.dumps(report)


WRONG = [{**OLD, "CANDIDATE": "conv_wrong_padding"}, {**OLD, **PNET, "CANDIDATE": "pnet_wrong_padding"}]


@pytest.mark.parametrize("compose", WRONG, indirect=True, ids=str)
def test_a_planted_mistake_is_found_and_named_across_images(compose: Compose) -> None:
    status, report, said = compose.verdict()
    assert status == 1, said
    assert report["verdict"] == "divergent"
    assert re.search("conv-same-stride-asym|conv-pad-wrong-side|maxpool-same-asym", json.dumps(report))
