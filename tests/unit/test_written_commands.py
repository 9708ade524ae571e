"""Every command line in the documents is one that the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from porting_check.cli import app

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docker").glob("*.md"), *(ROOT / "fixtures").rglob("*.md")]
    if path.name != "CHANGELOG.md"
]


def written() -> list[tuple[str, list[str]]]:
    """The words of each command in a shell block, after ``porting-check``, with the document's name."""
    found = []
    for path in sorted(DOCUMENTS):
        for block in re.findall(r"```(?:bash|sh)\n(.*?)```", path.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(r"\s*porting-check\b", line):
                    found.append((path.name, shlex.split(line, comments=True)[1:]))
    return found


@pytest.mark.parametrize(
    ("document", "words"), written(), ids=lambda value: "" if isinstance(value, str) else " ".join(value)[:60]
)
def test_the_program_takes_it(document, words):
    command, words = get_command(app), list(words)
    while hasattr(command, "commands"):
        assert words[:1] and words[0] in command.commands, f"{document}: no such command"
        command = command.commands[words.pop(0)]
    command.make_context(" ".join(words), words).close()


def test_there_are_some():
    assert len(written()) > 20
