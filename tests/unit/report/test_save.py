"""Saving: the suffix chooses, and a file is there whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from porting_check.neutral.errors import PortingError
from porting_check.report import save as saving
from porting_check.report.json import loads
from tests.unit.report import examples


@pytest.mark.parametrize(
    ("suffix", "start"),
    [
        (".html", "<!doctype html>"),
        (".json", '{\n  "kind"'),
        (".md", "## ✅"),
        (".xml", "<?xml"),
        (".csv", "pair,"),
    ],
)
def test_the_suffix_chooses_the_form(tmp_path: Path, suffix: str, start: str) -> None:
    path = examples.faithful().save(tmp_path / f"report{suffix}")
    assert path == tmp_path / f"report{suffix}"
    assert path.read_text(encoding="utf-8").startswith(start)
    assert os.listdir(tmp_path) == [path.name]


def test_a_suffix_in_capitals_is_the_same_suffix(tmp_path: Path) -> None:
    assert loads(examples.faithful().save(str(tmp_path / "R.JSON")).read_bytes()) == examples.faithful()


@pytest.mark.parametrize("name", ["report.pdf", "report", ".html.bak"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(PortingError, match=r"\.html \.json \.md \.xml \.csv") as caught:
        examples.faithful().save(tmp_path / name)
    assert caught.value.exit_status == 2
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(PortingError, match=r"absent.*No such file.*choose a folder that exists") as caught:
        examples.faithful().save(tmp_path / "absent" / "r.html")
    assert caught.value.exit_status == 2


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PortingError, match="cannot be written"):
        examples.faithful().save(tmp_path / "file" / "r.html")


def test_a_target_that_is_a_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "r.html").mkdir()
    with pytest.raises(PortingError, match="it is a folder"):
        examples.faithful().save(tmp_path / "r.html")
    assert os.listdir(tmp_path) == ["r.html"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PortingError, match="Permission denied"):
        examples.faithful().save(tmp_path / "r.html")


def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.json"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(saving.os, "fsync", full)
    with pytest.raises(PortingError, match="No space left"):
        examples.faithful().save(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["r.json"]


def test_a_saved_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    saved = examples.faithful().save(tmp_path / "r.md")
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_lone_surrogate_in_a_name_does_not_stop_saving(tmp_path: Path) -> None:
    for suffix in saving.FORMS:
        assert examples.named("a\ud800b").save(tmp_path / f"r{suffix}").stat().st_size > 0
