"""Running the recorder in a Docker image: nothing gets installed in it, and it can only read, compute and write a recording.

A container has no network, no capabilities, no way to new privileges, a root that is read-only, an ordinary user, limits of
memory and processes, and none of this machine's environment. It is created, started and followed, asked how it ended, and
removed, whatever happens; what a porting-check that was killed leaves behind carries the label ``porting-check``
(``docker rm -f $(docker ps -aq --filter label=porting-check)``). Images run by id: what was looked at is what runs.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import threading
import time
from collections.abc import Mapping
from dataclasses import replace

from porting_check.environments.docker_client import Client, Engine, Image, State, lines_of
from porting_check.environments.docker_files import (
    MADE,
    RECORDER,
    Inside,
    build,
    hand_over,
    inside,
    open_given,
    refuse_strange,
    request_of,
    take_back,
)
from porting_check.environments.local import LAUNCH
from porting_check.environments.process import Ended, follow, reason
from porting_check.environments.runner import Progress, Task, raise_again
from porting_check.environments.specification import EnvironmentSpec
from porting_check.neutral.errors import PortingError, RunError
from porting_check.recorder.__main__ import ANNOUNCED

LABEL = "porting-check"
NOBODY = 65534
"""Who runs inside where the caller is root."""

PROCESSES = 4096
"""Most processes and threads of a container: far above what frameworks start on a large machine, far below a fork bomb."""

SETTLING = 0.5
"""Seconds after which Docker knows why a container was killed."""

KILLED, NOT_EXECUTABLE, NOT_FOUND = 137, 126, 127

_BEGINNINGS = (
    (
        "future feature annotations is not defined",
        "{python} in the image is older than Python 3.7, which is needed; name another: docker:{image},python=/usr/bin/python3.9",
    ),
    (
        "No module named 'numpy'",
        "{python} in the image has no numpy; name the one that has the framework: docker:{image},python=/opt/conda/bin/python",
    ),
    (
        "exec format error",
        "the image is for {platform}, which this machine cannot run",
    ),
)
"""What the inside says when it cannot begin, and what that means."""

_HINTS = (
    (
        r"Name or service not known|[Nn]ame resolution|Network is unreachable|ConnectionError|getaddrinfo|URLError",
        "A container has no network; give what it would load by the option files=, or allow it: network=yes.",
    ),
    (
        r"Read-only file system",
        "In a container the model's files can only be read; /tmp can be written.",
    ),
    (
        r"Permission denied",
        "In a container an ordinary user reads the model's files; chmod -R a+rX their folder.",
    ),
    (
        r"No such file or directory|FileNotFoundError|NO_SUCHFILE|does not exist",
        "A container sees the model's folder only; name other files and folders by the option files=.",
    ),
)
"""What an error of the model may come from in a container."""


class DockerRunner:
    """Runs tasks in containers of one image.

    Example:
        >>> from porting_check.environments.specification import parse
        >>> DockerRunner(parse("docker:tensorflow/tensorflow:2.5.0,memory=8g")).title
        'docker:tensorflow/tensorflow:2.5.0,memory=8g'
    """

    def __init__(self, spec: EnvironmentSpec, client: Client | None = None) -> None:
        self.spec, self.title = spec, spec.title
        self._client = client or Client()
        self._engine = Engine()
        self._image: Image | None = None

    def prepare(
        self,
        progress: Progress = lambda stage, done, total: None,
        cancelled: threading.Event | None = None,
    ) -> None:
        """See that Docker answers and the image is here, once.

        Raises:
            RunError: not installed, not running, not allowed, no such image, or memory cannot be limited here.
        """
        if self._image is not None:
            return
        self._engine = self._client.engine()
        if self.spec.memory and not self._engine.limits:
            raise RunError(
                f"{self.title}: {self._engine.name} cannot limit memory on this machine (no cgroup controller for it); leave "
                "memory= out"
            )
        self._image = self._client.image(self.spec.image)

    def origin(self) -> Mapping[str, str]:
        """The image by name, id and (where it came from a registry) digest, its platform, and what ran it."""
        if self._image is None:
            self.prepare()
        image, engine = self._image, self._engine
        assert image is not None
        found = {"image": self.spec.image, "id": image.id, "digest": image.digest, "platform": image.platform}
        found[engine.name] = engine.version
        return {key: value for key, value in found.items() if value}

    def run(self, task: Task, progress: Progress) -> None:
        """Run one task in a container of its own.

        Raises:
            PortingError: what the inside raised, as its own type, with this machine's paths.
            RunError: the container could not be started, was killed, ran out of memory or time, was cancelled, or left
                something that is no recording.
        """
        self.prepare(progress)
        assert self._image is not None
        task.prepare()
        build(task)
        view = inside(self.spec, task, user=self._other)
        name = f"porting-check-{secrets.token_hex(6)}"
        hand_over(task, self._other)
        strange = ""
        try:
            self._create(name, task, view)
            ended, state = self._follow(name, task, view, progress)
        finally:
            self._client.remove(name)
            strange = take_back(task, self._other)
        if ended.status != 0 or ended.why or state.status > 0:
            self._raise(task, view, ended, state)
        if strange or not task.result.exists():
            what = f"left {strange} where only files may be" if strange else "ended without leaving a result"
            raise RunError(f"{_doing(task)} in {self.title} failed: it {what}.")

    def commands(self, task: Task) -> list[str]:
        """The lines of shell that do by hand what :meth:`run` does, with the recorder and what is given in place."""
        view = inside(self.spec, task, user=self._other)
        made = str(task.made.absolute())
        lines = [] if self._other is None else [shlex.join(["chown", f"{self._other}:{self._other}", made])]
        image = self._image.id if self._image else self.spec.image
        options = ["--rm", "--interactive", *self._options(view)]
        return [*lines, lines_of(self._client.command("run", *options, image, *_words(task, view)))]

    def _follow(self, name: str, task: Task, view: Inside, progress: Progress) -> tuple[Ended, State]:
        """Start the container and wait for its end."""

        def asked(request: Mapping[str, object]) -> Mapping[str, object]:
            if self._other is not None:
                open_given(task)
            return view.asked(request)

        def passed_on(stage: str, done: int, total: int) -> None:
            if stage == ANNOUNCED:
                refuse_strange(task)
            progress(stage, done, total)

        ended = follow(
            self._client.command("start", "--attach", "--interactive", name),
            environment=None,
            cwd=None,
            task=task,
            progress=passed_on,
            timeout=self.spec.timeout,
            stop=lambda: self._client.remove(name),
            asked=asked,
        )
        state = self._client.state(name)
        if state.status == KILLED and self.spec.memory and not state.out_of_memory:
            time.sleep(SETTLING)
            state = self._client.state(name)
        return ended, state

    @property
    def _other(self) -> int | None:
        """The user inside, where it is another than the caller: root does not run models."""
        return NOBODY if _uid() == 0 and not self._engine.rootless else None

    def _create(self, name: str, task: Task, view: Inside) -> None:
        """Make the container; it does not run yet."""
        assert self._image is not None
        error = str(MADE / task.failure.name)
        options = [
            f"--name={name}",
            f"--label={LABEL}={os.getpid()}",
            "--pull=never",
            "--interactive",
            "--init",
        ]
        options += ["--log-driver=none", *self._options(view)]
        self._client.call("create", *options, self._image.id, *_words(task, view), "--error", error)

    def _options(self, view: Inside) -> list[str]:
        """What a container sees and may do."""
        spec = self.spec
        made = ["--no-healthcheck", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        made += [
            f"--pids-limit={PROCESSES}",
            "--ulimit=core=0",
            "--tmpfs=/tmp:rw,exec,nosuid,nodev,mode=1777",
        ]
        made += [] if spec.network else ["--network=none"]
        made += [f"--memory={spec.memory}", f"--memory-swap={spec.memory}"] if spec.memory else []
        made += self._user()
        made += [mount.option for mount in view.mounts]
        made += [f"--env={key}={value}" for key, value in self._variables().items()]
        return [*made, f"--workdir={view.folder}", f"--entrypoint={spec.python or 'python3'}"]

    def _user(self) -> list[str]:
        """Who runs inside, such that what it writes belongs to the caller."""
        engine = self._engine
        made = []
        if engine.name == "podman":
            # Labels of SELinux would have to be changed on the user's own files.
            made += ["--security-opt=label=disable", "--http-proxy=false"]
            made += ["--userns=keep-id"] if engine.rootless else []
        elif engine.rootless:
            return ["--user=0:0"]  # root inside is the caller outside, and has no capabilities
        elif engine.remapped:
            made.append("--userns=host")
        other = self._other
        return [*made, f"--user={other}:{other}" if other is not None else f"--user={_uid()}:{_gid()}"]

    def _variables(self) -> dict[str, str]:
        """The whole environment, but for what the image sets."""
        made = dict.fromkeys(self._client.proxies(), "")
        made |= {"HOME": "/tmp", "USER": "porting-check", "LOGNAME": "porting-check"}  # noqa: S108 of the container
        return made | {"PYTHONDONTWRITEBYTECODE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", **self.spec.variables}

    def _raise(self, task: Task, view: Inside, ended: Ended, state: State) -> None:
        """Say why it ended.

        Raises:
            PortingError: always.
        """
        if state.known:
            ended = replace(ended, status=state.status if state.status > 0 else ended.status)
        if not ended.why:
            _raise_own(task, view, self.spec.network)
            if state.out_of_memory:
                ended = replace(ended, why="memory")
        tail = tuple(view.told(line) for line in ended.tail)
        text = self._cannot_begin(ended, state)
        if text:
            raise RunError(f"{_doing(task)} in {self.title} failed: {text}.")
        sentence = reason(
            replace(ended, tail=tail),
            self.title,
            _doing(task),
            timeout=self.spec.timeout,
            memory=self.spec.memory,
        )
        raise RunError(self._explained(sentence, ended, state))

    def _cannot_begin(self, ended: Ended, state: State) -> str:
        """Why the recorder did not even start; "" if it did."""
        said = "\n".join((*ended.tail, state.error))
        python = self.spec.python or "python3"
        words = {
            "python": repr(python),
            "image": self.spec.image,
            "platform": self._image.platform if self._image else "",
        }
        for sign, sentence in _BEGINNINGS:
            if sign in said:
                return sentence.format_map(words)
        if ended.status in (NOT_FOUND, NOT_EXECUTABLE) and not ended.why:
            return (
                f"there is no {python!r} that could be run in the image {self.spec.image!r}; name its interpreter: "
                f"docker:{self.spec.image},python=/opt/conda/bin/python"
            )
        return ""

    def _explained(self, sentence: str, ended: Ended, state: State) -> str:
        """What Docker knows and the process's end does not tell."""
        if ended.why == "memory" and not self.spec.memory:
            return sentence.replace(
                "used more than 0 bytes of memory", "was killed: the machine had no memory left"
            )
        if ended.why:
            return sentence
        if not state.known:
            return sentence.replace("failed: it", "failed: its container was removed from outside; it", 1)
        if ended.status == KILLED:
            return sentence.replace(
                "was killed (signal 9; often: out of memory)",
                "was killed from outside (docker kill, or the machine had no memory left)",
            )
        return _with_hint(
            sentence + (f" Docker says: {state.error}" if state.error else ""), self.spec.network
        )


def _raise_own(task: Task, view: Inside, network: bool) -> None:
    """Raise the error that the inside left, in terms of this machine."""
    try:
        raise_again(task)
    except PortingError as error:
        raise type(error)(_with_hint(view.told(str(error)), network)) from None


def _with_hint(message: str, network: bool) -> str:
    r"""A message of the inside, with what may cause it in a container.

    Example:
        >>> _with_hint("open: Read-only file system", network=False)
        "open: Read-only file system\nIn a container the model's files can only be read; /tmp can be written."
    """
    for pattern, hint in _HINTS[1 if network else 0 :]:
        if re.search(pattern, message):
            return f"{message}\n{hint}"
    return message


def _words(task: Task, view: Inside) -> list[str]:
    """The arguments of the interpreter."""
    words = ["-c", LAUNCH, str(RECORDER), task.module, view.model, "--out", str(MADE / task.out)]
    return [*words, "--request", request_of(task, view)]


def _doing(task: Task) -> str:
    return f"{'differentiating' if task.module.endswith('gradients') else 'recording'} {task.model!r}"


def _uid() -> int:
    return os.getuid() if hasattr(os, "getuid") else NOBODY


def _gid() -> int:
    return os.getgid() if hasattr(os, "getgid") else NOBODY
