"""docker/: the matrix, its locks and the Dockerfiles agree, and the scripts read what they claim to read. No daemon needed."""

from __future__ import annotations

import importlib
import os
import re
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "docker"
SHA = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")
MUST = {
    "torch": ["1.10", "1.13", "2.1", "2.13"],
    "tensorflow": ["1.15", "2.5", "2.15", "2.21"],
    "jax": ["0.4", "0.5", "0.10"],
    "onnxruntime": ["1.10", "1.31"],
    "compare": ["0.1"],
}


@pytest.fixture(scope="module")
def scripts() -> dict[str, ModuleType]:
    """The scripts of docker/, imported as they import each other, and taken away again: one is called "build"."""
    names = ("matrix", "stand_in", "pip_access", "build", "lock")
    earlier = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(FOLDER))
    try:
        found = {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(FOLDER))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(earlier)
    return found


@pytest.fixture(scope="module")
def images(scripts: dict[str, ModuleType]) -> dict[str, Any]:
    return scripts["matrix"].images()


def entries(lock: str) -> dict[str, str]:
    """Version by package, as the lock pins them."""
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ \\;]+)", (FOLDER / lock).read_text(), re.MULTILINE))


def test_the_matrix_holds_the_promised_versions(images: dict[str, Any]) -> None:
    found: dict[str, list[str]] = {}
    for image in images.values():
        found.setdefault(image.framework, []).append(image.short)
    assert found.keys() == MUST.keys()
    assert all(set(versions) <= set(found[framework]) for framework, versions in MUST.items())


def test_names_tags_and_locks_are_unique(images: dict[str, Any]) -> None:
    assert len({image.tag for image in images.values()}) == len(images)
    assert len({image.lock for image in images.values()}) == len(images)


def test_every_image_has_its_dockerfile_and_lock_and_no_others_lie_about(images: dict[str, Any]) -> None:
    assert {image.dockerfile.name for image in images.values()} == {
        path.name for path in FOLDER.glob("*.Dockerfile")
    }
    assert {image.lock for image in images.values()} == {
        f"locks/{path.name}" for path in FOLDER.glob("locks/*")
    }


def test_every_locked_package_has_hashes_and_nothing_is_unpinned(images: dict[str, Any]) -> None:
    for image in images.values():
        text = (FOLDER / image.lock).read_text()
        blocks = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip())
        for block in blocks:
            assert re.match(r"[a-z0-9.-]+==\S+", block), (image.name, block)
            assert SHA.search(block), (image.name, block)


def test_a_lock_holds_the_framework_and_the_requirements_of_the_matrix(images: dict[str, Any]) -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    for image in images.values():
        locked = entries(image.lock)
        for text in image.requirements:
            requirement = Requirement(text)
            version = locked[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), (image.name, text, version)
        if image.framework != "compare":
            names = {image.framework, f"{image.framework}-cpu"} & locked.keys()
            assert [locked[name].partition("+")[0] for name in names] == [image.version], image.name


def test_current_images_have_the_versions_that_the_project_is_tested_with(images: dict[str, Any]) -> None:
    text = (FOLDER.parent / "constraints.txt").read_text()
    tested = {
        re.sub(r"[._]", "-", name.lower()): version
        for name, version in re.findall(r"^([^#=\n]+)==(\S+)", text, re.MULTILINE)
    }
    for image in images.values():
        if image.constraints:
            locked = {re.sub(r"[._]", "-", name): version for name, version in entries(image.lock).items()}
            shared = locked.keys() & tested.keys()
            assert len(shared) > 4, image.name
            assert {name: locked[name].partition("+")[0] for name in shared} == {
                name: tested[name] for name in shared
            }


def test_no_lock_asks_for_a_cuda_package_but_of_torch_between_1_10_and_the_current_one(
    images: dict[str, Any],
) -> None:
    for image in images.values():
        if image.name in ("torch-1.13", "torch-2.1"):  # PyPI has no other builds of these
            continue
        assert not [name for name in entries(image.lock) if re.match("nvidia|cuda|triton", name)], image.name


def test_an_image_that_is_not_built_says_why(images: dict[str, Any]) -> None:
    assert all(image.built or len(image.reason) > 20 for image in images.values())
    assert all(
        image.built for image in images.values() if image.short in ("2.5", "1.31", "2.13", "2.21", "0.10")
    )


def test_a_dockerfile_builds_the_current_image_of_its_framework_by_default(images: dict[str, Any]) -> None:
    for framework in MUST:
        current = [image for image in images.values() if image.framework == framework][-1]
        text = current.dockerfile.read_text()
        assert f"ARG BASE={current.base}\n" in text
        assert text.count(f"ARG LOCK={current.lock}\n") == 2


@pytest.mark.parametrize("framework", sorted(MUST))
def test_a_dockerfile_keeps_the_rules(framework: str) -> None:
    text = (FOLDER / f"{framework}.Dockerfile").read_text()
    kept = text[text.rindex("\nFROM ") :]
    assert kept.startswith("\nFROM ${BASE}\n")
    assert "ARG BUILD_BASE=${BASE}\n\nFROM ${BUILD_BASE} AS build" in text
    assert "--require-hashes -r /lock.txt" in text
    assert re.search(r"^USER 10001:10001$", kept, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", kept, re.MULTILINE)
    assert "pip" not in kept.replace("porting", "")
    assert "--mount" not in text, "the builder of Docker 20.10 has no mounts"


def test_a_name_that_is_not_in_the_matrix_is_answered_with_those_that_are(
    scripts: dict[str, ModuleType],
) -> None:
    with pytest.raises(ValueError, match=r"no image torch-9; it has tensorflow-1\.15, "):
        scripts["matrix"].chosen(["torch-9"])


def test_all_that_can_be_built_are_built_by_default(
    scripts: dict[str, ModuleType], images: dict[str, Any]
) -> None:
    names = [image.name for image in scripts["matrix"].chosen([])]
    assert names == [image.name for image in images.values() if image.built]


def test_an_interpreter_is_found_in_pyenv_where_path_has_only_the_systems(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    home = tmp_path / "own" / "versions" / f"{version}.99"
    _interpreter(home / "bin" / f"python{version}", f"{version}.99", str(home))
    _interpreter(tmp_path / "path" / f"python{version}", f"{version}.100", "/usr")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "own"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:{os.environ['PATH'].split(':')[-1]}")
    found = scripts["stand_in"].find(version)
    assert (found.version, found.prefix) == (f"{version}.99", home)


def test_a_version_that_is_nowhere_is_said_with_the_places(scripts: dict[str, ModuleType]) -> None:
    with pytest.raises(scripts["stand_in"].StandInError, match=r"no CPython 3\.99 .*pyenv install 3\.99"):
        scripts["stand_in"].find("3.99")


def _interpreter(path: Path, version: str, prefix: str) -> None:
    """A program that answers as an interpreter would."""
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho {version}\necho {prefix}\n")
    path.chmod(0o755)


def test_what_is_copied_of_an_interpreter(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    prefix = tmp_path / "python"
    library = prefix / "lib" / "python3.9"
    for name in (
        "os.py",
        "site-packages/numpy.py",
        "test/x.py",
        "config/libpython3.9.a",
        "__pycache__/os.pyc",
    ):
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_text("")
    (library / "_sysconfigdata.py").write_text(f"prefix = '{prefix}'")
    (prefix / "include" / "python3.9").mkdir(parents=True)
    (prefix / "lib" / "libpython3.9.so.1.0").write_text("")
    _interpreter(prefix / "bin" / "python3.9", "3.9.1", str(prefix))
    stand_in = scripts["stand_in"]
    stand_in.copy_interpreter(stand_in.Interpreter("3.9.1", prefix), tmp_path / "copy")
    copied = {
        path.relative_to(tmp_path / "copy").as_posix()
        for path in (tmp_path / "copy").rglob("*")
        if path.is_file()
    }
    assert copied == {
        "bin/python3.9",
        "lib/libpython3.9.so.1.0",
        "lib/python3.9/os.py",
        "lib/python3.9/_sysconfigdata.py",
    }
    assert (tmp_path / "copy/lib/python3.9/_sysconfigdata.py").read_text() == "prefix = '/usr/local'"


def test_pips_settings_are_translated_for_the_build(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels, index, bundle = tmp_path / "my wheels", tmp_path / "mirror" / "simple", tmp_path / "ca.crt"
    wheels.mkdir()
    index.mkdir(parents=True)
    bundle.write_text("")
    file = tmp_path / "pip.conf"
    file.write_text(f"[global]\nextra-index-url = {index.as_uri()} https://example.org/simple\ntimeout = 7\n")
    for name in [each for each in os.environ if each.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIP_FIND_LINKS", wheels.as_uri())
    monkeypatch.setenv("PIP_CERT", str(bundle))
    access = scripts["pip_access"]
    found = access.settings()
    lent = f"http://127.0.0.1:{access.PORT}{tmp_path}"
    assert found.options["extra-index-url"] == [f"{lent}/mirror/simple/", "https://example.org/simple"]
    assert found.options["find-links"] == [f"{lent}/my%20wheels/"]
    assert found.options["timeout"] == ["7"]
    assert found.certificates == bundle
    assert set(found.folders) == {wheels, index.parent}
    assert f"    {lent}/mirror/simple/\n    https://example.org/simple\n" in access.configuration(found)


def test_only_distributions_below_the_named_folders_are_lent(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "a-1-py3-none-any.whl").write_text("a wheel")
    (tmp_path / "wheels" / "id_rsa").write_text("a secret")
    (tmp_path / "b-1-py3-none-any.whl").write_text("not lent")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    at = f"http://127.0.0.1:{port}{tmp_path}"
    with scripts["pip_access"].serving((tmp_path / "wheels",), port):
        assert b"a-1-py3-none-any.whl" in _read(f"{at}/wheels/")
        assert _read(f"{at}/wheels/a-1-py3-none-any.whl") == b"a wheel"
        for hidden in ("wheels/id_rsa", "b-1-py3-none-any.whl", "wheels/../b-1-py3-none-any.whl", ""):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                _read(f"{at}/{hidden}")


def _read(address: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=10) as answer:
        content: bytes = answer.read()
        return content
