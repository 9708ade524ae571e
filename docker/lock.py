"""Write the locks of the images: every package that is installed, its version and the hashes of its files.

    python docker/lock.py                 # all
    python docker/lock.py torch-current   # one

Needs uv (``pip install uv``), which reads metadata only; nothing is downloaded whole. CPU builds that PyPI does not have are
entered with the hash that ``matrix.toml`` gives, and the CUDA packages that PyPI's build asks for are left out.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator

from matrix import FOLDER, Image, chosen, images

CUDA = re.compile(r"(nvidia|cuda|triton)\b")
PLATFORM = "x86_64-manylinux_2_28"
PYPI = "https://pypi.org/simple"


def main() -> int:
    """Write the locks that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="images of matrix.toml (default: all)")
    names = parser.parse_args().names or list(images())
    try:
        for image in chosen(names):
            text = locked(image)
            (FOLDER / image.lock).write_text(text, encoding="utf-8")
            print(f"{image.lock}: {len(re.findall('^[a-z0-9]', text, re.MULTILINE))} packages")
        return 0
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        print(f"lock: {error}", file=sys.stderr)
        return 3


def locked(image: Image) -> str:
    """The lock of an image.

    Raises:
        RuntimeError: uv finds no set of versions; with its words.
        FileNotFoundError: uv is missing.
    """
    command = [
        "uv",
        "pip",
        "compile",
        "-",
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
        "--no-config",
        "--quiet",
    ]
    command += ["--python-version", image.python, "--python-platform", PLATFORM, "--default-index", PYPI]
    if image.constraints:
        command += ["--constraint", str(FOLDER.parent / "constraints.txt")]
    done = subprocess.run(command, input="\n".join(image.requirements), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{image.name}: uv: {done.stderr.strip()}")
    header = [
        f"# {image.name}: Python {image.python}, Linux x86-64. Written by docker/lock.py from docker/matrix.toml.",
        *(f"# {name} is the CPU build of {image.index}" for name in image.cpu),
    ]
    entries = [
        _entry(image, entry) for entry in _entries(done.stdout) if not (image.cpu and CUDA.match(entry))
    ]
    return "\n".join([*header, *entries]) + "\n"


def _entries(text: str) -> Iterator[str]:
    """Each package with its hashes."""
    yield from re.findall(r"^[A-Za-z0-9].*(?:\n[ ]+--hash.*)*", text, re.MULTILINE)


def _entry(image: Image, entry: str) -> str:
    """The entry, or that of the CPU build in its place."""
    name = entry.partition("==")[0]
    if name not in image.cpu:
        return entry
    version = re.split(r"[\s\\;]", entry.partition("==")[2])[0]
    return f"{name}=={version}+cpu \\\n    --hash=sha256:{image.cpu[name]}"


if __name__ == "__main__":
    sys.exit(main())
