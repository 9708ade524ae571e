"""Make a stand-in for ``python:X.Y-slim`` where no image registry can be reached.

    python docker/stand_in.py 3.9 3.11                        # porting-check/python:3.9-slim and :3.11-slim
    python docker/stand_in.py 3.9 --python ~/cpython/bin/python3.9 --tag my/python:3.9

What the image holds: Debian's packages that CPython links to (debootstrap, one image shared by all versions) and a CPython
of this computer in ``/usr/local``, as in the public image: standard library, headers and pip, nothing else; what was
installed beside it stays behind. Needs Linux, docker, debootstrap and the rights of root. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = "porting-check/python"
SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
LIBRARIES = [
    "ca-certificates",
    "netbase",
    "tzdata",
    "libbz2-1.0",
    "libdb5.3",
    "libexpat1",
    "libffi8",
    "libgdbm6",
    "libgdbm-compat4",
    "liblzma5",
    "libncursesw6",
    "libnsl2",
    "libreadline8",
    "libsqlite3-0",
    "libssl3",
    "libuuid1",
    "zlib1g",
]
"""Packages of Debian that a CPython's own modules link to, and what the public slim image has besides."""

LEFT_OUT = ("test", "tests", "idlelib", "idle_test", "tkinter", "turtledemo", "site-packages", "__pycache__")
MODULES = "ssl ctypes sqlite3 lzma bz2 zlib hashlib uuid multiprocessing venv"
DEBIAN_LEFT_OUT = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "var/lib/apt/lists",
    "var/cache/apt",
    "var/cache/debconf",
    "var/log",
]
EPOCH = "1577836800"
"""The time of every file of the Debian image (2020-01-01)."""


@dataclass(frozen=True)
class Interpreter:
    """A CPython of this computer: its version (``3.9.18``) and the folder that it was installed into."""

    version: str
    prefix: Path

    @property
    def short(self) -> str:
        """``3.9``."""
        return ".".join(self.version.split(".")[:2])


def main() -> int:
    """Make the images that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "versions", nargs="*", help="Python versions, such as 3.9, looked up on PATH, in pyenv and in uv"
    )
    parser.add_argument("--python", action="append", default=[], help="path of an interpreter to use")
    parser.add_argument(
        "--tag", help=f"name of the image, if only one is made (default {REPOSITORY}:X.Y-slim)"
    )
    parser.add_argument("--suite", default=SUITE, help="the Debian release (default %(default)s)")
    parser.add_argument(
        "--mirror", default=MIRROR, help="where Debian's packages come from (default %(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="make images again that exist")
    options = parser.parse_args()
    try:
        interpreters = [find(version) for version in options.versions]
        interpreters += [_asked(Path(path)) for path in options.python]
        if not interpreters or (options.tag and len(interpreters) > 1):
            parser.error("name one Python version or more; --tag goes with exactly one")
        for interpreter in interpreters:
            print(make(interpreter, options.tag or "", options.suite, options.mirror, options.force))
        return 0
    except StandInError as error:
        print(f"stand_in: {error}", file=sys.stderr)
        return 3


class StandInError(Exception):
    """What is missing on this computer, in a sentence."""


def make(
    interpreter: Interpreter, tag: str = "", suite: str = SUITE, mirror: str = MIRROR, force: bool = False
) -> str:
    """Make the image of one interpreter, and the Debian image below it; returns the image's name."""
    tag = tag or f"{REPOSITORY}:{interpreter.short}-slim"
    if exists(tag) and not force:
        return tag
    debian = debian_image(suite, mirror)
    with tempfile.TemporaryDirectory(prefix="stand-in-") as folder:
        copy_interpreter(interpreter, Path(folder, "prefix"))
        Path(folder, "Dockerfile").write_text(dockerfile(interpreter, debian))
        call("docker", "build", "--quiet", "--network", "none", "--tag", tag, folder)
    return tag


def dockerfile(interpreter: Interpreter, debian: str) -> str:
    """The image's Dockerfile: CPython in ``/usr/local``, pip from the standard library's own copy, and a check."""
    short = interpreter.short
    return f"""\
FROM {debian}
ENV LANG=C.UTF-8 PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin PYTHON_VERSION={interpreter.version}
COPY prefix /usr/local
RUN ldconfig \\
 && ln -s python{short} /usr/local/bin/python3 && ln -s python3 /usr/local/bin/python \\
 && python -B -m ensurepip --default-pip >/dev/null \\
 && for module in {MODULES}; do python -B -c "import $module" || exit 1; done \\
 && test "$(python -B -c 'import sys; print(sys.prefix)')" = /usr/local \\
 && find /usr/local -name __pycache__ -prune -exec rm -r {{}} + && rm -rf "$HOME/.cache" && find "$(dirname "$(mktemp -u)")" -mindepth 1 -delete
LABEL org.opencontainers.image.title="stand-in for python:{short}-slim" \\
      org.opencontainers.image.version="{interpreter.version}"
CMD ["python3"]
"""


def find(version: str) -> Interpreter:
    """The newest CPython of a version (``3.9`` or ``3.9.18``) that can be copied.

    Raises:
        StandInError: there is none; names the places that were searched.
    """
    found = []
    for path in candidates(version):
        interpreter = ask(path)
        if (
            interpreter
            and (interpreter.version + ".").startswith(version + ".")
            and not _of_the_system(interpreter)
        ):
            found.append(interpreter)
    if not found:
        raise StandInError(
            f"no CPython {version} that can be copied was found on PATH, in pyenv or in uv (one in /usr belongs to the system "
            f"and is no use); install one (pyenv install {version}) or name one with --python PATH"
        )
    return max(found, key=lambda each: [int(part) for part in each.version.split(".")])


def candidates(version: str) -> Iterator[Path]:
    """Interpreters that may have this version: on PATH, of pyenv, of uv."""
    short = ".".join(version.split(".")[:2])
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if Path(folder, f"python{short}").exists():
            yield Path(folder, f"python{short}")
    roots = [
        os.environ.get("PYENV_ROOT"),
        os.path.expanduser("~/.pyenv"),
        os.path.expanduser("~/.local/share/uv"),
    ]
    for root in dict.fromkeys(root for root in roots if root):
        for folder in ("versions", "python"):
            yield from sorted(Path(root, folder).glob(f"*{short}*/bin/python{short}"))


def ask(path: Path) -> Interpreter | None:
    """What an interpreter says of itself; None if it does not run (a shim of a version manager, another machine's)."""
    code = "import sys; print('%d.%d.%d' % sys.version_info[:3]); print(sys.base_prefix)"
    try:
        done = subprocess.run([path, "-I", "-c", code], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.splitlines()
    return Interpreter(lines[0], Path(lines[1])) if done.returncode == 0 and len(lines) == 2 else None


def _asked(path: Path) -> Interpreter:
    interpreter = ask(path)
    if interpreter is None:
        raise StandInError(f"{path} does not run; expected the path of a CPython 3 interpreter")
    if _of_the_system(interpreter):
        raise StandInError(
            f"{path} belongs to the system ({interpreter.prefix}); a CPython with a folder of its own is needed"
        )
    return interpreter


def _of_the_system(interpreter: Interpreter) -> bool:
    """Whether its folder is shared with other programs, and its library patched by the distribution."""
    return interpreter.prefix in (Path("/usr"), Path("/"))


def copy_interpreter(interpreter: Interpreter, target: Path) -> None:
    """Copy interpreter, shared library, standard library and headers; text that names the old folder names /usr/local."""
    short, prefix = interpreter.short, interpreter.prefix
    (target / "bin").mkdir(parents=True)
    binary = (prefix / "bin" / f"python{short}").resolve()
    shutil.copy2(binary, target / "bin" / f"python{short}")
    library = next(path for path in (prefix / "lib").iterdir() if path.name == f"python{short}")
    shutil.copytree(library, target / "lib" / library.name, symlinks=True, ignore=_left_out)
    (target / "lib" / library.name / "site-packages").mkdir()
    for shared in (prefix / "lib").glob(f"libpython{short}*.so*"):
        shutil.copy2(shared, target / "lib" / shared.name, follow_symlinks=False)
    for headers in (prefix / "include").glob(f"python{short}*"):
        shutil.copytree(headers, target / "include" / headers.name)
    for path in target.rglob("*"):
        if path.suffix in (".py", ".pc", ".json") or path.name == "Makefile":
            content = path.read_bytes()
            if os.fsencode(prefix) in content:
                path.write_bytes(content.replace(os.fsencode(prefix), b"/usr/local"))


def _left_out(folder: str, names: list[str]) -> set[str]:
    """Tests, graphical programs, static libraries and whatever was installed into the interpreter."""
    return {name for name in names if name in LEFT_OUT or name.endswith(".a")}


def debian_image(suite: str = SUITE, mirror: str = MIRROR) -> str:
    """The image of Debian that all stand-ins share; made once."""
    tag = f"porting-check/debian:{suite}"
    if exists(tag):
        return tag
    if not shutil.which("debootstrap"):
        raise StandInError("debootstrap is missing; run: apt-get install debootstrap")
    if os.geteuid() != 0:
        raise StandInError("debootstrap needs the rights of root; run this with sudo")
    print(f"{tag}: Debian {suite} from {mirror}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="debian-") as folder:
        tree = Path(folder, "tree")
        call("debootstrap", "--variant=minbase", f"--include={','.join(LIBRARIES)}", suite, str(tree), mirror)
        for left_out in DEBIAN_LEFT_OUT:
            for path in (tree / left_out).glob("*"):
                _remove(path)
        _import(tree, tag)
    return tag


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _import(tree: Path, tag: str) -> None:
    """Make an image of a folder: sorted names, fixed times."""
    packing = ["tar", "--sort=name", f"--mtime=@{EPOCH}", "--numeric-owner", "-C", str(tree), "-c", "."]
    with subprocess.Popen(packing, stdout=subprocess.PIPE) as tar:
        call("docker", "import", "-", tag, stdin=tar.stdout)
    if tar.returncode:
        raise StandInError(f"tar failed with status {tar.returncode} on {tree}")


def exists(tag: str) -> bool:
    """Whether docker has an image of this name.

    Raises:
        StandInError: docker cannot be asked.
    """
    done = _run(["docker", "image", "inspect", "--format", "{{.Id}}", tag])
    if done.returncode and "no such image" not in done.stderr.lower():
        raise StandInError(f"docker cannot be asked: {done.stderr.strip()}")
    return done.returncode == 0


def call(*command: str, stdin: object = None) -> str:
    """Run a command and return what it printed.

    Raises:
        StandInError: it failed; with the last lines of what it said.
    """
    done = _run(list(command), stdin)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise StandInError(f"this failed with status {done.returncode}: {' '.join(command)}\n{last}")
    return done.stdout.strip()


def _run(command: list[str], stdin: object = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, stdin=stdin, capture_output=True, text=True, errors="replace")  # type: ignore[call-overload, no-any-return]
    except FileNotFoundError:
        raise StandInError(f"{command[0]} is missing; install it first") from None


if __name__ == "__main__":
    sys.exit(main())
