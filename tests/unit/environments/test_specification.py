"""What users write for an environment: what it means, and that whatever else they write is one clear sentence."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.environments.specification import (
    EnvironmentSpec,
    EnvironmentSpecError,
    parse,
    seconds,
    size,
)

NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=8).filter(lambda name: name != "python")
VERSIONS = st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,2}){0,2}", fullmatch=True)
CLAUSES = st.tuples(st.sampled_from(["==", ">=", "<=", "~=", "!=", "<", ">"]), VERSIONS).map("".join)


@st.composite
def requirements(draw: st.DrawFn) -> str:
    extras = draw(st.lists(NAMES, max_size=2))
    name = draw(NAMES) + (f"[{','.join(extras)}]" if extras else "")
    return name + ",".join(draw(st.lists(CLAUSES, min_size=1, max_size=3)))


@given(st.lists(requirements(), min_size=1, max_size=4), VERSIONS)
@settings(max_examples=60, deadline=None)
def test_requirements_come_back_as_they_were_written(written: list[str], version: str) -> None:
    spec = parse("venv:" + ",".join([*written, f"python=={version}"]))
    assert spec.requirements == tuple(written)
    assert spec.python == version
    assert spec.kind == "venv"


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_is_understood_or_refused_in_one_sentence(text: str) -> None:
    for head in ("", "venv:", "docker:", "python:"):
        found = understood(head + text)
        if isinstance(found, EnvironmentSpec):
            assert found.kind in ("local", "python", "venv", "docker")
            assert found.memory >= 0
            assert found.timeout >= 0
        else:
            assert found.exit_status == 2
            assert str(found)


def understood(text: str) -> EnvironmentSpec | EnvironmentSpecError:
    try:
        return parse(text)
    except EnvironmentSpecError as error:
        return error


def test_options_of_every_kind() -> None:
    spec = parse(
        "docker:registry.example:5000/tf:2.5.0,memory=8g,timeout=10m,files=weights,network=yes,"
        "python=/opt/conda/bin/python,env.TF_DETERMINISTIC_OPS=1,files=vocabulary.txt"
    )
    assert spec.image == "registry.example:5000/tf:2.5.0"
    assert (spec.memory, spec.timeout, spec.network) == (8 * 2**30, 600.0, True)
    assert spec.files == ("weights", "vocabulary.txt")
    assert spec.python == "/opt/conda/bin/python"
    assert spec.variables == {"TF_DETERMINISTIC_OPS": "1"}


def test_an_image_may_be_pinned_by_its_digest() -> None:
    digest = "tensorflow/tensorflow@sha256:" + "0" * 64
    assert parse(f"docker:{digest}").image == digest


def test_a_lock_belongs_to_a_virtual_environment_only() -> None:
    assert parse("venv:numpy,lock=tf25.txt").lock == "tf25.txt"
    with pytest.raises(EnvironmentSpecError, match="knows no option 'lock'"):
        parse("docker:tf,lock=tf25.txt")


def test_extras_keep_their_commas() -> None:
    assert parse("venv:jax[cpu,cuda]==0.4.20,flax<0.8").requirements == ("jax[cpu,cuda]==0.4.20", "flax<0.8")


def test_nothing_is_this_interpreter() -> None:
    assert parse("") == parse("local") == EnvironmentSpec()
    assert parse("").title == "this interpreter"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("conda:tf", "cannot be understood"),
        ("venv:", "cannot be understood"),
        ("docker: ", "cannot be understood"),
        ("venv:python==3.9", "names no package"),
        ("venv:tensorflow,python>=3.9", "one Python version"),
        ("venv:tensorflow=2.5.0", "two equals signs"),
        ("docker:one,two", "names 2 images: one, two"),
        ("python:one,two", "names 2 interpreters"),
        ("docker:one,network=perhaps", "expected yes or no"),
        ("docker:one,memory=lots", "'lots' is not a size like 8g"),
        ("docker:one,memory=0", "is not a size"),
        ("docker:one,timeout=-1", "is not a time"),
        ("docker:one,timeout=soon", "'soon' is not a time like 90, 10m or 2h"),
    ],
)
def test_mistakes_are_named(text: str, said: str) -> None:
    with pytest.raises(EnvironmentSpecError) as caught:
        parse(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "count"), [("1", 1), ("2k", 2048), ("1.5M", 1572864), ("8GiB", 2**33), ("1tb", 2**40)]
)
def test_sizes(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize(("text", "count"), [("90", 90.0), ("1.5s", 1.5), ("10m", 600.0), ("2H", 7200.0)])
def test_times(text: str, count: float) -> None:
    assert seconds(text) == count
