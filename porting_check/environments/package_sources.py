"""Where packages are found: pip's settings, as pip has them and as uv understands them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Mapping

HOST_ONLY = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "__PYVENV_LAUNCHER__",
)
REDIRECTING = (
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_USER",
    "PIP_CONSTRAINT",
    "PIP_REQUIREMENT",
    "PIP_PYTHON",
)
"""Settings of the host that say where or what to install; where to find packages is kept."""


def host_variables() -> dict[str, str]:
    """This process's variables without those that would redirect another Python; proxies and certificates stay."""
    return {key: value for key, value in os.environ.items() if key not in HOST_ONLY} | {
        "PYTHONNOUSERSITE": "1"
    }


def pip_settings() -> dict[str, str]:
    """The settings of pip for ``install``, from its files and variables, by option; the strongest of each.

    Example:
        >>> pip_settings().get("index-url", "")              # doctest: +SKIP
        'https://pypi.company.example/simple'
    """
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode == 0:
        return settings_of(done.stdout)
    listed = {
        key[4:].lower().replace("_", "-"): value for key, value in os.environ.items() if key[:4] == "PIP_"
    }
    return {key: value for key, value in listed.items() if value}


def settings_of(listing: str) -> dict[str, str]:
    r"""What ``pip config list`` lists: variables before ``[install]`` before ``[global]``.

    Example:
        >>> settings_of("global.index-url='https://a'\ninstall.index-url='https://b'")
        {'index-url': 'https://b'}
    """
    by_section: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        found = re.match(r"^(:env:|global|install)\.([a-z-]+)=(.+)$", line)
        if found:
            section, key, value = found.groups()
            try:
                by_section[section][key] = str(ast.literal_eval(value))
            except (ValueError, SyntaxError):
                by_section[section][key] = value
    return {key: value for section in by_section.values() for key, value in section.items()}


def _absolute(place: str) -> str:
    """A relative folder of wheels is meant from here; uv runs elsewhere."""
    return os.path.abspath(place) if os.path.isdir(place) else place


def uv_variables(environment: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """Variables for uv that tell it where pip finds packages; what is already told to uv holds.

    Args:
        environment: of the host.
        settings: of pip, see :func:`pip_settings`.

    Example:
        >>> uv_variables({}, {"index-url": "https://pypi.company.example/simple"})["UV_DEFAULT_INDEX"]
        'https://pypi.company.example/simple'
    """
    several = {key: [_absolute(one) for one in value.split()] for key, value in settings.items()}
    made: dict[str, str] = {}
    told = {
        "UV_DEFAULT_INDEX": ("index-url", " ", ("UV_INDEX_URL",)),
        "UV_INDEX": ("extra-index-url", " ", ("UV_EXTRA_INDEX_URL",)),
        "UV_FIND_LINKS": ("find-links", ",", ()),
        "UV_INSECURE_HOST": ("trusted-host", " ", ()),
        "SSL_CERT_FILE": ("cert", " ", ()),
        "SSL_CLIENT_CERT": ("client-cert", " ", ()),
        "ALL_PROXY": ("proxy", " ", ("HTTPS_PROXY", "https_proxy", "all_proxy")),
        "UV_HTTP_TIMEOUT": ("default-timeout", " ", ("UV_REQUEST_TIMEOUT", "HTTP_TIMEOUT")),
    }
    for variable, (key, joint, others) in told.items():
        if key in several and not any(name in environment for name in (variable, *others)):
            made[variable] = joint.join(several[key])
    if "UV_INDEX" in made:
        # pip takes the best version of all indexes; uv would stop at the first index that has the name.
        made.setdefault("UV_INDEX_STRATEGY", environment.get("UV_INDEX_STRATEGY", "unsafe-best-match"))
    hidden = ("UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_PROJECT", "UV_WORKING_DIR")
    return {key: value for key, value in environment.items() if key not in hidden} | made
