"""What pip is configured with on this computer, made usable inside ``docker build``, and nowhere else.

An index, an extra index, folders of wheels and a certificate bundle that pip uses here have to reach the stage that
installs, but never the image that is kept. ``build_base`` makes an image ``…-build`` on top of a base, with ``/etc/pip.conf``
and the certificates; a Dockerfile takes it as ``BUILD_BASE``. Folders of this computer (``find-links``, ``file:`` indexes) are
not copied: ``serving`` lends them over the loopback address for as long as the build runs (``docker build --network host``).
Standard library only.
"""

from __future__ import annotations

import ast
import contextlib
import http.server
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from stand_in import StandInError, call

PORT = 8437
"""Where folders are lent; always the same, because it is written into images that docker keeps."""

SINGLE = ("index-url", "timeout", "default-timeout", "proxy")
SEVERAL = ("extra-index-url", "find-links", "trusted-host")
LENT = (".whl", ".zip", ".gz", ".bz2", ".html", ".metadata")


@dataclass(frozen=True)
class Settings:
    """pip's settings by name, the certificate bundle, and the local folders among the settings."""

    options: dict[str, list[str]] = field(default_factory=dict)
    certificates: Path | None = None
    folders: tuple[Path, ...] = ()

    @property
    def ordinary(self) -> bool:
        """Whether pip works here with no settings at all, as in a public image."""
        return not self.options and self.certificates is None


def settings(python: str = sys.executable) -> Settings:
    """Ask pip for its configuration: files and environment, as it would use them itself."""
    done = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True)
    read: dict[str, str] = {}
    lines = sorted(
        done.stdout.splitlines(), key=lambda line: line.startswith(":env:")
    )  # the environment wins
    for line in lines:
        name, _, value = line.partition("=")
        with contextlib.suppress(ValueError, SyntaxError):
            read[name.split(".")[-1]] = str(ast.literal_eval(value))
    certificates = read.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    options, folders = {}, []
    for name in SINGLE + SEVERAL:
        values = read.get(name, "").split()
        local = [path for path in map(local_folder, values) if path]
        folders += [
            path.parent if "index" in name else path for path in local
        ]  # an index links to files beside it
        if values:
            options[name] = [lent_address(value) for value in values]
    bundle = Path(certificates) if certificates and Path(certificates).is_file() else None
    return Settings(options, bundle, tuple(dict.fromkeys(folders)))


def local_folder(value: str) -> Path | None:
    """The folder of this computer that a setting names, as a path or a ``file:`` address; None for any other address."""
    parts = urlsplit(value)
    path = Path(unquote(parts.path) if parts.scheme == "file" else value)
    return path.resolve() if parts.scheme in ("", "file") and path.is_dir() else None


def lent_address(value: str) -> str:
    """The address under which a local folder is lent; any other value as it is."""
    folder = local_folder(value)
    return f"http://127.0.0.1:{PORT}{quote(str(folder))}/" if folder else value


def configuration(found: Settings) -> str:
    """The text of ``pip.conf``."""
    lines = ["[global]"]
    for name, values in sorted(found.options.items()):
        lines.append(
            f"{name} = {values[0]}" if len(values) == 1 else f"{name} =\n    " + "\n    ".join(values)
        )
    return "\n".join(lines) + "\n"


def build_base(base: str, found: Settings) -> str:
    """Make the image that installs: the base, this computer's ``pip.conf`` and its certificates; returns its name."""
    if found.ordinary:
        return base
    tag = f"{base}-build"
    with tempfile.TemporaryDirectory(prefix="pip-access-") as folder:
        Path(folder, "pip.conf").write_text(configuration(found))
        lines = [f"FROM {base}", "COPY pip.conf /etc/pip.conf"]
        if found.certificates:
            Path(folder, "certificates.crt").write_bytes(found.certificates.read_bytes())
            lines += [
                "COPY certificates.crt /etc/pip-certificates.crt",
                "ENV PIP_CERT=/etc/pip-certificates.crt",
            ]
        Path(folder, "Dockerfile").write_text("\n".join(lines) + "\n")
        for name in os.listdir(folder):
            os.utime(Path(folder, name), (0, 0))
        call("docker", "build", "--quiet", "--network", "none", "--tag", tag, folder)
    return tag


@contextlib.contextmanager
def serving(folders: tuple[Path, ...], port: int = PORT) -> Iterator[None]:
    """Lend folders of wheels over the loopback address, read-only and only to this computer, while the block runs.

    Raises:
        StandInError: the port is taken, by another build for instance.
    """
    if not folders:
        yield
        return
    handler = type("Lender", (_Lender,), {"folders": folders})
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise StandInError(
            f"port {port} is taken, perhaps by another build; wait for its end ({error.strerror})"
        ) from None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Lender(http.server.SimpleHTTPRequestHandler):
    """Serves distributions and their lists below given folders; nothing else of the file system."""

    folders: tuple[Path, ...] = ()

    def translate_path(self, path: str) -> str:
        """The path of a request is the path of the file, if it is one that is lent."""
        wanted = Path(os.path.normpath(unquote(urlsplit(path).path)))
        inside = any(wanted.is_relative_to(folder) for folder in self.folders)
        lent = inside and (wanted.is_dir() or wanted.name.endswith(LENT))
        return (
            str(wanted) + ("/" if path.endswith("/") and wanted.is_dir() else "")
            if lent
            else os.devnull + "/none"
        )

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
