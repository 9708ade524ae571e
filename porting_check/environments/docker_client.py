"""The ``docker`` command (or ``podman``): calling it, and saying in a sentence why it could not do what was asked.

The plain command and no library: a running container has to be followed while it runs (progress on standard error, a
request that comes late on standard input, limits, Ctrl-C), which :func:`porting_check.environments.process.follow` does for
every kind of environment alike; ``--print-commands`` shows the very same command; and what goes by command line works with
Podman, with contexts and with rootless daemons without a line of our own.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from porting_check.environments.process import plain
from porting_check.neutral.errors import RunError

PROGRAM = "PORTING_CHECK_DOCKER"
"""Environment variable that names the command: ``podman``, or the path of ``docker``."""

PATIENCE = 120.0
"""Seconds that a command of the client may take, where it does not run a container."""

_REASONS = (
    (
        r"permission denied while trying to connect|dial unix \S+ connect: permission denied",
        "you may not use the Docker daemon; join its group (sudo usermod -aG docker $USER) or use PORTING_CHECK_DOCKER=podman",
    ),
    (
        r"cannot connect to the docker daemon|is the docker daemon running|error during connect|connection refused",
        "the Docker daemon is not running; start it (sudo systemctl start docker, or Docker Desktop)",
    ),
    (
        r"bind source path does not exist|mounts denied",
        "the Docker daemon does not see this machine's files (it runs elsewhere, or Docker Desktop does not share the folder)",
    ),
    (
        r"docker-init|catatonit",
        "Docker lacks its small init process; install the package docker-init or tini",
    ),
    (r"no space left on device", "the disk is full where Docker keeps its containers"),
)
"""What the client says, and what that means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What runs the containers.

    Attributes:
        name: ``docker`` or ``podman``.
        version: of the daemon (Podman: of the program).
        rootless: whether root inside is the ordinary user outside.
        remapped: whether users inside are others outside (``userns-remap`` of a Docker daemon).
        limits: whether memory can be limited.
    """

    name: str = "docker"
    version: str = ""
    rootless: bool = False
    remapped: bool = False
    limits: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that is here.

    Attributes:
        id: ``sha256:…`` of its configuration; the same content has the same id everywhere.
        digest: ``name@sha256:…`` in the registry it came from; "" if it was built here.
        platform: ``linux/amd64``.
    """

    id: str
    digest: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How a container ended. ``status`` is -1 and ``known`` False if it is not there any more."""

    known: bool = False
    status: int = -1
    out_of_memory: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Client:
    """The command, as found on ``PATH``.

    Example:
        >>> Client("docker").command("ps")
        ['docker', 'ps']
    """

    program: str = field(default_factory=lambda: os.environ.get(PROGRAM) or "docker")

    def command(self, *arguments: str) -> list[str]:
        """A command line."""
        return [self.program, *arguments]

    def call(self, *arguments: str) -> str:
        """Run it and return what it printed.

        Raises:
            RunError: it is not installed, or failed; with the reason.
        """
        done = self._run(arguments)
        if done.returncode:
            raise RunError(reason_of(done.stderr, f"{self.program} {arguments[0]}"))
        return done.stdout

    def _run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        if shutil.which(self.program) is None:
            raise RunError(
                f"the command {self.program!r} is not installed; install Docker (https://docs.docker.com/engine/install), or "
                f"Podman and set {PROGRAM}=podman"
            )
        try:
            return subprocess.run(  # noqa: S603 a list of arguments, no shell
                self.command(*arguments),
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=PATIENCE,
                check=False,
                start_new_session=True,  # Ctrl-C reaches this side only, which then removes the container
            )
        except subprocess.TimeoutExpired:
            raise RunError(
                f"{self.program} {arguments[0]} did not answer within {PATIENCE:g} seconds; is the daemon well?"
            ) from None
        except OSError as error:
            raise RunError(f"{self.program!r} could not be started: {error.strerror or error}") from None

    def engine(self) -> Engine:
        """What answers.

        Raises:
            RunError: nothing does, with the reason.
        """
        data = _json(self.call("info", "--format", "{{json .}}"))
        if "host" in data:  # Podman
            security = data["host"].get("security", {})
            controllers = data["host"].get("cgroupControllers") or []
            version = str(data.get("version", {}).get("Version", ""))
            limits = "memory" in controllers
            return Engine(
                name="podman", version=version, rootless=bool(security.get("rootless")), limits=limits
            )
        if data.get("ServerErrors") or not data.get("ServerVersion"):
            raise RunError(reason_of(" ".join(data.get("ServerErrors") or []), f"{self.program} info"))
        options = " ".join(data.get("SecurityOptions") or [])
        return Engine(
            version=str(data["ServerVersion"]),
            rootless="name=rootless" in options,
            remapped="name=userns" in options,
            limits=bool(data.get("MemoryLimit", True)),
        )

    def image(self, name: str) -> Image:
        """An image of this machine; nothing is downloaded.

        Raises:
            RunError: it is not here; with how to get it and names like it that are here.
        """
        done = self._run(["image", "inspect", name])
        if done.returncode:
            if re.search(r"no such image|not known|not found", done.stderr, re.IGNORECASE):
                raise RunError(self._missing(name))
            raise RunError(reason_of(done.stderr, f"{self.program} image inspect"))
        data = _json(done.stdout)[0]
        return Image(
            id=str(data["Id"]) if str(data["Id"]).startswith("sha256:") else f"sha256:{data['Id']}",
            digest=str(next(iter(data.get("RepoDigests") or []), "")),
            platform=f"{data.get('Os', '')}/{data.get('Architecture', '')}",
        )

    def _missing(self, name: str) -> str:
        """The sentence for an image that is not here."""
        here = [line for line in self.images() if "<none>" not in line]
        near = [image for image in here if _bare(image) == _bare(name)]
        near += difflib.get_close_matches(name, here, 3, 0.6)
        near = list(dict.fromkeys(near))
        hint = f" There are images with names like it: {', '.join(near[:3])}." if near else ""
        return (
            f"there is no image {name!r} on this machine, and porting-check downloads none by itself; run: {self.program} pull "
            f"{name} (or build it: {self.program} build --tag {name} FOLDER).{hint}"
        )

    def images(self) -> list[str]:
        """``name:tag`` of the images that are here."""
        done = self._run(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"])
        return done.stdout.split() if done.returncode == 0 else []

    def state(self, container: str) -> State:
        """How a container ended."""
        done = self._run(["container", "inspect", "--format", "{{json .State}}", container])
        if done.returncode:
            return State()
        data = _json(done.stdout)
        return State(
            known=True,
            status=int(data.get("ExitCode", -1)),
            out_of_memory=bool(data.get("OOMKilled")),
            error=plain(" ".join(str(data.get("Error") or "").split())),
        )

    def remove(self, container: str) -> None:
        """End a container and remove it with its volumes; one that is not there is no error."""
        self._run(["rm", "--force", "--volumes", container])

    def proxies(self) -> list[str]:
        """Variables that the client would put into every container by itself, from its own configuration file."""
        folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
        try:
            data = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
            found = data.get("proxies") if isinstance(data, dict) else None
        except (OSError, ValueError):
            return []
        names = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY") if found else ()
        return [form for name in names for form in (name, name.lower())]


def _bare(image: str) -> str:
    """``tensorflow`` of ``registry:5000/tensorflow/tensorflow:2.5``."""
    return image.rpartition("/")[2].partition(":")[0]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise RunError(f"docker answered what is no JSON: {plain(text)[:200]!r}") from None


def reason_of(said: str, doing: str) -> str:
    """One sentence for what the client said on standard error.

    Example:
        >>> reason_of("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", "docker info")[:40]
        'the Docker daemon is not running; start '
    """
    text = plain(" ".join(said.split()))
    for pattern, reason in _REASONS:
        if re.search(pattern, text, re.IGNORECASE):
            return f"{reason}. {doing} said: {text[:300]}"
    return f"{doing} failed: {text[:600] or 'it said nothing'}"


def lines_of(command: Sequence[str]) -> str:
    r"""A command for the shell, one option a line; options are single words (``--name=x``).

    Example:
        >>> print(lines_of(["docker", "run", "--rm", "--name=a b", "image", "-m", "module"]))
        docker run \
          --rm \
          '--name=a b' \
          image -m module
    """
    rest, made = list(command[2:]), [shlex.join(command[:2])]
    while rest and rest[0].startswith("--"):
        made.append(shlex.quote(rest.pop(0)))
    return " \\\n  ".join([*made, shlex.join(rest)])
