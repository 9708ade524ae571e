"""What a container sees of this machine's files, where, and what it may leave behind.

Everything lies below ``/porting-check``: the recorder, what is given, what is made, and the model's files in ``work``, where
they lie to each other as they do outside, so that relative paths work. Only what is made can be written.
"""

from __future__ import annotations

import glob
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from porting_check.environments.runner import Task, relocated
from porting_check.environments.specification import EnvironmentSpec
from porting_check.neutral.errors import ModelError, RunError
from porting_check.packing import recorder_bytes
from porting_check.recorder.sources import framework_of

ROOT = PurePosixPath("/porting-check")
WORK, GIVEN, MADE, RECORDER = ROOT / "work", ROOT / "given", ROOT / "made", ROOT / "recorder.pyz"
"""Where a container finds the model's files, what is given to it, where it writes, and the recorder."""

SYSTEM = re.compile(r"/(bin|boot|dev|etc|lib\w*|proc|run|sbin|sys|usr)(/.*)?|/tmp|/var")
"""Folders of an image; nothing of the user's is put over them or into them."""

MOST = 200
"""Files that are handed in one by one, at most, where a folder can be entered by root alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A file or folder of this machine at a place in the container.

    Example:
        >>> Mount(source=Path("/a,b"), target=PurePosixPath("/porting-check/work")).option
        '--mount=type=bind,"source=/a,b",target=/porting-check/work,readonly'
    """

    source: Path
    target: PurePosixPath
    writable: bool = False

    @property
    def option(self) -> str:
        """Of ``docker run``; fields are those of a line of CSV."""
        fields = ["type=bind", f"source={self.source}", f"target={self.target}"]
        fields += [] if self.writable else ["readonly"]
        return "--mount=" + ",".join(_csv(field) for field in fields)


def _csv(field: str) -> str:
    return '"' + field.replace('"', '""') + '"' if set(field) & set(',"\n') else field


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """A task as it is inside.

    Attributes:
        name: what the user calls the model.
        model: what the recorder opens.
        folder: the working folder.
        mounts: the files, those that hold others first.
        names: by place inside, the path outside.
    """

    name: str
    model: str
    folder: PurePosixPath
    mounts: tuple[Mount, ...]
    names: Mapping[str, str]

    def asked(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A request with the paths of the inside; the model keeps its name."""

        def move(path: str) -> str:
            whole = Path(os.path.abspath(path))
            for place in (GIVEN, MADE):
                outside = self.names[str(place)]
                if whole.is_relative_to(outside):
                    return str(place / whole.relative_to(outside).as_posix())
            raise RunError(f"{path!r} is not among the files that are given to the container")

        return {"name": self.name, **relocated(request, move)}

    def told(self, message: str) -> str:
        """A message of the inside with the paths of the outside."""
        for inside, outside in sorted(self.names.items(), key=lambda item: -len(item[0])):
            message = message.replace(inside, outside)
        return message


def inside(spec: EnvironmentSpec, task: Task, *, user: int | None = None) -> Inside:
    """Where everything lies in the container.

    Args:
        spec: for ``files``.
        task: the model, and the folders of what is given and made.
        user: who reads, where it is not the caller (who is root then): what only root may enter is handed in file by file.

    Raises:
        ModelError: the model or one of ``files`` is not there, or its folder is the home folder or the root of the file system.
    """
    folder, name, anchor = _model(task.model)
    files = [_existing(path, spec.title) for path in spec.files] + _linked(task.model)
    base = _base(anchor, files)

    def place(path: Path) -> PurePosixPath:
        return WORK / path.relative_to(base).as_posix()

    wanted: dict[PurePosixPath, Path] = {place(folder): folder} if folder is not None else {}
    for path in files:
        _refuse(path, f"files={path}")
        if path.is_relative_to(base):
            wanted[place(path)] = path
        if not SYSTEM.fullmatch(str(path)):
            wanted[PurePosixPath(path)] = path  # an absolute path in the model's code
        elif not path.is_relative_to(base):
            raise ModelError(
                f"{spec.title}: files={path} would hide a folder of the image; copy what the model reads beside the model"
            )
    mounts = [Mount(source=task.archive.absolute(), target=RECORDER)]
    mounts.append(Mount(source=task.given.absolute(), target=GIVEN))
    mounts.append(Mount(source=task.made.absolute(), target=MADE, writable=True))
    for target, source in sorted(wanted.items()):
        if not any(target != other and target.is_relative_to(other) for other in wanted):
            mounts += _readable(source, target, user)
    names = {str(mount.target): str(mount.source) for mount in mounts[1:3]}
    names |= {str(WORK): str(base), **{str(target): str(source) for target, source in wanted.items()}}
    model = name if folder is None or not name.startswith("/") else _renamed(name, place)
    return Inside(name=task.model, model=model, folder=place(anchor), mounts=tuple(mounts), names=names)


def _renamed(name: str, place: Any) -> str:
    """An absolute model specification as it is inside."""
    path, colon, function = name.partition(".py:")
    return str(place(Path(path + ".py" if colon else path))) + (":" + function if colon else "")


def _model(spec: str) -> tuple[Path | None, str, Path]:
    """The folder to hand in (None: the image has the package), the specification, absolute, and the working folder."""
    framework = framework_of(spec)
    here = Path.cwd()
    head, _, function = spec.rpartition(":")
    if not framework and not head.endswith(".py"):
        top = head.partition(".")[0]
        own = (here / top).is_dir() or (here / f"{top}.py").is_file()
        if own:
            _refuse(here, spec)
        return (here if own else None), spec, here
    path = Path(os.path.abspath(spec if framework else head))
    folder = path if path.is_dir() else path.parent
    _refuse(folder, spec)
    name = str(path) if framework else f"{path}:{function}"
    return folder, name, here if folder.is_relative_to(here) else folder


def _linked(spec: str) -> list[Path]:
    """Where a model's files lead to, if they are links out of its folder, as in the cache of a model hub."""
    path = Path(os.path.abspath(spec))
    if not path.exists():
        return []
    folder = path if path.is_dir() else path.parent
    beside = path.rglob("*") if path.is_dir() else folder.glob(glob.escape(path.stem) + "*")
    ends = {link.resolve() for link in beside if link.is_symlink() and link.is_file()}
    return sorted(end for end in ends if not end.is_relative_to(folder.resolve()))


def _base(anchor: Path, files: list[Path]) -> Path:
    """The folder that ``work`` stands for: the lowest that holds the working folder and the files, if it is not the root."""
    base = anchor
    for path in files:
        shared = Path(os.path.commonpath([base, path]))
        if shared != Path(shared.anchor):
            base = shared
    return base


def _existing(path: str, title: str) -> Path:
    found = Path(os.path.abspath(os.path.expanduser(path)))
    if not found.exists():
        raise ModelError(f"{title}: files={path} does not exist (looked for {found})")
    return found


def _refuse(folder: Path, what: str) -> None:
    """No home folder and nothing above one goes into a container.

    Raises:
        ModelError: it would.
    """
    home = Path(os.path.realpath(os.path.expanduser("~")))
    real = Path(os.path.realpath(folder))
    if real == Path(real.anchor) or home.is_relative_to(real):
        raise ModelError(
            f"{what!r} would put all of {str(folder)!r} into the container, with everything else that lies there; move the model "
            "and the files that it reads into a folder of their own"
        )


def _readable(source: Path, target: PurePosixPath, user: int | None) -> list[Mount]:
    """One mount, or one for every file where the one who reads may not enter the folder.

    Raises:
        ModelError: a file that root alone can read, or too many of them.
    """
    if user is None or _open_to(source, user):
        return [Mount(source=source, target=target)]
    made: list[Mount] = []
    for path, place in _entries(source, target, user):
        if len(made) >= MOST:
            raise ModelError(f"{str(source)!r} can be entered by root alone; run: chmod -R a+rX {source}")
        made.append(Mount(source=path, target=place))
    return made


def _entries(source: Path, target: PurePosixPath, user: int) -> Iterator[tuple[Path, PurePosixPath]]:
    """What lies in a folder that cannot be entered, and in those of its folders that cannot."""
    if not source.is_dir():
        raise ModelError(f"{str(source)!r} can be read by root alone; run: chmod a+r {source}")
    for path in sorted(source.iterdir()):
        place = target / path.name
        if path.is_file() or (path.is_dir() and _open_to(path, user)):
            yield path, place
        elif path.is_dir() and path.name != "__pycache__":
            yield from _entries(path, place, user)


def _open_to(path: Path, user: int) -> bool:
    """Whether someone who is not the owner may read a file, or list and enter a folder."""
    found = path.stat()
    needed = 0o5 if path.is_dir() else 0o4
    if found.st_uid == user:
        needed <<= 6
    return found.st_mode & needed == needed


def open_given(task: Task) -> None:
    """Let everyone read what is given: the one who reads may be another than the one who wrote."""
    for folder, _, files in os.walk(task.given):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o444)


def hand_over(task: Task, user: int | None) -> None:
    """Make ready for a run: nothing of an earlier one that would be taken for this one's, and the folder is the user's."""
    task.failure.unlink(missing_ok=True)
    if user is not None:
        open_given(task)
        for folder, _, files in os.walk(task.made):
            for path in (folder, *(os.path.join(folder, name) for name in files)):
                os.lchown(path, user, user)


def take_back(task: Task, user: int | None) -> str:
    """After a run: sane owners and permissions for what it left, and what is neither file nor folder removed.

    Nothing runs inside any more, so that nothing changes under our hands; links are never followed.

    Returns:
        What was removed, in words; "" if nothing was.
    """
    strange = []
    pending = [task.made]
    while pending:
        folder = pending.pop()
        _own(folder, 0o777 & ~_umask(), user)
        for entry in list(os.scandir(folder)):
            path, mode = Path(entry.path), entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                pending.append(path)
            elif stat.S_ISREG(mode):
                _own(path, 0o666 & ~_umask(), user)
            else:
                path.unlink()
                strange.append(f"{_kind(mode)} {str(path.relative_to(task.made))!r}")
    return ", ".join(sorted(strange)[:3])


def refuse_strange(task: Task) -> None:
    """Before something is read while the container runs.

    Raises:
        RunError: there is a link, or what is neither file nor folder.
    """
    for entry in os.scandir(task.made):
        mode = entry.stat(follow_symlinks=False).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise RunError(
                f"recording {task.model!r} failed: it left {_kind(mode)} {entry.name!r} where only files may be"
            )


def _own(path: Path, mode: int, user: int | None) -> None:
    if user is not None:
        os.lchown(path, os.getuid(), os.getgid())
    path.chmod(mode)


@cache
def _umask() -> int:
    """What this process takes away from what it creates; it can only be read by setting it."""
    now = os.umask(0o022)
    os.umask(now)
    return now


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISLNK, "the symbolic link"), (stat.S_ISFIFO, "the pipe"), (stat.S_ISSOCK, "the socket"))
    return next((words for test, words in kinds if test(mode)), "the device")


def request_of(task: Task, view: Inside) -> str:
    """``--request`` of the recorder: the request in JSON, or ``-`` where it comes later."""
    if not isinstance(task.request, Future):
        return json.dumps(view.asked(task.request))
    return "-"


def build(task: Task) -> None:
    """Put the recorder where the container finds it; it is built once in a process."""
    if not task.archive.is_file():
        task.archive.write_bytes(recorder_bytes())
        task.archive.chmod(0o644)
