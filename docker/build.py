"""Build the images of ``matrix.toml`` and ask the recorder in each whether its framework loads.

    python docker/build.py                                   # all, on the public python:X.Y-slim
    python docker/build.py tensorflow-2.5 torch-1.10         # some
    python docker/build.py --stand-in torch-current          # on a base made here, where no registry can be reached

Run it with the Python that porting-check is installed in: the recorder and, for the image "compare", the package itself are
taken from there. With ``--stand-in``, what pip is configured with on this computer holds for the builds too. Exit status: 0 all
built and working, 1 an image does not work, 2 wrong usage, 3 one could not be built.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pip_access
import stand_in
from matrix import FOLDER, Image, chosen, images

CONTEXT = FOLDER / "context"
RECORDER = "porting-check-recorder.pyz"
TEMPORARY = "/tmp"  # noqa: S108 - inside a container


@dataclass(frozen=True)
class Outcome:
    """What became of an image: its size in bytes, the seconds it took, what the recorder says of it, or why there is none."""

    image: Image
    seconds: float
    size: int = 0
    info: str = ""
    error: str = ""
    works: bool = False


def main() -> int:
    """Build the images that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="images of matrix.toml (default: all that are built)")
    parser.add_argument(
        "--stand-in",
        action="store_true",
        help="make the base from Debian and an interpreter of this computer",
    )
    parser.add_argument(
        "--skip-missing",
        action="store_true",
        help="with --stand-in: leave out images whose Python is not on this computer, and say so",
    )
    parser.add_argument("--base", help="another base image, for all that are named")
    parser.add_argument("--jobs", type=int, default=2, help="how many at the same time (default %(default)s)")
    parser.add_argument("--no-cache", action="store_true", help="build every layer again")
    parser.add_argument(
        "--prune", action="store_true", help="remove the stages that only installed, when all is done"
    )
    parser.add_argument("--list", action="store_true", help="list the images and build nothing")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{each.name:20} {each.tag:30} {each.reason}" for each in images().values()))
        return 0
    try:
        wanted = chosen(options.names)
        if options.stand_in and options.skip_missing:
            wanted = [image for image in wanted if possible(image)]
        prepare(wanted)
        with (
            bases(wanted, options.stand_in, options.base or "") as base_of,
            ThreadPoolExecutor(options.jobs) as pool,
        ):
            outcomes = list(
                pool.map(
                    lambda image: told(
                        build(image, *base_of[image.name], options.stand_in, options.no_cache)
                    ),
                    wanted,
                )
            )
        if options.prune:
            stand_in.call(
                "docker", "image", "prune", "--force", "--filter", "label=porting-check.stage=build"
            )
    except ValueError as error:
        parser.error(str(error))
    except (stand_in.StandInError, OSError, subprocess.CalledProcessError) as error:
        print(f"build: {error}", file=sys.stderr)
        return 3
    return 3 if any(each.error for each in outcomes) else int(not all(each.works for each in outcomes))


def possible(image: Image) -> bool:
    """Whether there is a base for an image, or a CPython to make one of; says so where there is none."""
    try:
        return stand_in.exists(f"{stand_in.REPOSITORY}:{image.python}-slim") or bool(
            stand_in.find(image.python)
        )
    except stand_in.StandInError as error:
        print(f"left out {image.name}: {error}", flush=True)
        return False


@contextlib.contextmanager
def bases(wanted: Sequence[Image], local: bool, base: str) -> Iterator[dict[str, tuple[str, str]]]:
    """The base and the base for installing of each image, by name; while the block runs, local folders of pip are lent."""
    if not local:
        yield {image.name: (base or image.base, base or image.base) for image in wanted}
        return
    found = pip_access.settings()
    made = {
        python: base or stand_in.make(stand_in.find(python))
        for python in dict.fromkeys(each.python for each in wanted)
    }
    installing = {name: pip_access.build_base(name, found) for name in made.values()}
    with pip_access.serving(found.folders):
        yield {image.name: (made[image.python], installing[made[image.python]]) for image in wanted}


def prepare(wanted: Sequence[Image]) -> None:
    """Put into the build context what is of this checkout: the recorder, and the package where it is installed.

    Raises:
        StandInError: porting-check is not installed in this Python.
    """
    code = f"from porting_check.packing import build_recorder; build_recorder({str(CONTEXT / RECORDER)!r})"
    stand_in.call(sys.executable, "-c", code)
    _still(CONTEXT / RECORDER)
    if any(image.framework == "compare" for image in wanted):
        for earlier in CONTEXT.glob("*.whl"):
            earlier.unlink()
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "SOURCE_DATE_EPOCH": stand_in.EPOCH}
            command = [
                sys.executable,
                "-m",
                "pip",
                "wheel",
                "--quiet",
                "--no-deps",
                "--wheel-dir",
                folder,
                str(FOLDER.parent),
            ]
            subprocess.run(command, check=True, env=environment)
            for wheel in Path(folder).glob("*.whl"):
                (CONTEXT / wheel.name).write_bytes(wheel.read_bytes())
                _still(CONTEXT / wheel.name)


def _still(path: Path) -> None:
    """Give a file a time that does not change, so that docker sees equal content as equal."""
    path.chmod(0o644)
    os.utime(path, (int(stand_in.EPOCH),) * 2)


def build(image: Image, base: str, installing: str, local: bool, again: bool = False) -> Outcome:
    """Build one image and try it."""
    start = time.monotonic()
    arguments = {
        "BASE": base,
        "BUILD_BASE": installing,
        "LOCK": image.lock,
        "VERSION": image.version,
        "PYTHON": image.python,
    }
    arguments["INDEX"] = "" if local else image.index
    command = ["docker", "build", "--file", str(image.dockerfile), "--tag", image.tag]
    command += ["--network", "host"] if local else []
    command += ["--no-cache"] if again else []
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    try:
        stand_in.call(*command, str(FOLDER))
        size = int(stand_in.call("docker", "image", "inspect", "--format", "{{.Size}}", image.tag))
    except stand_in.StandInError as error:
        return Outcome(image, time.monotonic() - start, error=str(error))
    works, info = check(image)
    return Outcome(image, time.monotonic() - start, size, info, works=works)


def check(image: Image) -> tuple[bool, str]:
    """Run the image's own health check, shut in as porting-check shuts it in; whether it passes, and what it says."""
    form = "{{range $i, $word := .Config.Healthcheck.Test}}{{if $i}}{{println $word}}{{end}}{{end}}"
    words = stand_in.call("docker", "image", "inspect", "--format", form, image.tag).splitlines()
    command = ["docker", "run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL"]
    command += ["--security-opt", "no-new-privileges", "--tmpfs", TEMPORARY, image.tag, *words]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    return done.returncode == 0, (done.stdout + ("" if done.returncode == 0 else done.stderr)).strip()


def told(outcome: Outcome) -> Outcome:
    """Print a line of what became of an image, at once."""
    image = outcome.image
    if outcome.error:
        print(f"FAILED  {image.name}\n{outcome.error}", flush=True)
    else:
        word = "built " if outcome.works else "BROKEN"
        print(f"{word}  {image.tag:32} {outcome.size / 1e6:7.0f} MB  {outcome.seconds:4.0f} s", flush=True)
        print("\n".join(f"        {line}" for line in outcome.info.splitlines()), flush=True)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
