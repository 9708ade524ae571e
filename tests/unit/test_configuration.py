from __future__ import annotations

import pytest

from porting_check.configuration import ConfigurationError, configuration, environment
from porting_check.environments.specification import EnvironmentSpec, EnvironmentSpecError

WHOLE = """
[environments.tf25]
venv = ["tensorflow==2.5.0", "more.txt"]
python = "3.9"
lock = "locks/tf25.txt"

[environments.torch110]
docker = "porting-check/torch:1.10"
memory = "8g"
timeout = 90
network = true
files = ["weights"]
variables = { OMP_NUM_THREADS = "1" }

[environments.old]
python = "env/bin/python"

[compare]
reference-env = "tf25"
candidate-env = "torch110"
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "porting-check.toml").write_text(WHOLE)
    (tmp_path / "more.txt").write_text("numpy\n")
    return tmp_path


def test_every_key_reaches_the_specification_and_paths_are_relative_to_the_file(project):
    below = project / "deep" / "folder"
    below.mkdir(parents=True)
    found = configuration(below)
    assert found.compare == {"reference-env": "tf25", "candidate-env": "torch110"}
    assert found.environments["tf25"] == EnvironmentSpec(
        kind="venv",
        text="tf25",
        requirements=("tensorflow==2.5.0", str(project / "more.txt")),
        python="3.9",
        lock=str(project / "locks/tf25.txt"),
    )
    assert found.environments["torch110"] == EnvironmentSpec(
        kind="docker",
        text="torch110",
        image="porting-check/torch:1.10",
        memory=8 * 2**30,
        timeout=90,
        network=True,
        files=(str(project / "weights"),),
        variables={"OMP_NUM_THREADS": "1"},
    )
    assert found.environments["old"].kind == "python"


def test_a_table_of_pyproject_serves_as_well(tmp_path):
    text = '[tool.porting-check.environments.jax]\ndocker = "jax"\n'
    (tmp_path / "pyproject.toml").write_text(text)
    assert configuration(tmp_path).environments["jax"].image == "jax"


def test_a_pyproject_of_something_else_is_passed_over(project):
    below = project / "sub"
    below.mkdir()
    (below / "pyproject.toml").write_text("[tool.ruff]\n")
    assert configuration(below).path.endswith("porting-check.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[environments.a]\nvenw = ['x']\n", "did you mean 'venv'"),
        ("[environments.a]\nvenv = ['x']\ndocker = 'y'\n", "needs one of"),
        ("[environments.a]\nmemory = '8g'\n", "needs one of"),
        ("[environments.a]\ndocker = 'y'\nmemory = 'much'\n", "not a size"),
        ("[environments.a]\ndocker = 3\n", "expected a text"),
        ("[environments.a]\ndocker = 'y'\nnetwork = 'no'\n", "true or false"),
        ("[environments.a]\nvenv = []\n", "expected a list"),
        ("[compare]\nreference = 'a'\n", "did you mean 'reference-env'"),
        ("environments = 3\n", "expected a table"),
        ("[environments\n", "cannot be read"),
    ],
)
def test_a_mistake_is_named_with_the_file_and_the_key(tmp_path, text, words):
    (tmp_path / "porting-check.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=words) as caught:
        configuration(tmp_path)
    assert "porting-check.toml" in str(caught.value)


def test_a_name_a_text_and_a_specification_are_environments(project, monkeypatch):
    monkeypatch.chdir(project)
    spec = environment("tf25")
    assert spec.kind == "venv"
    assert environment(spec) is spec
    assert environment("docker:a/b:1").image == "a/b:1"
    assert environment(None).kind == environment("local").kind == "local"


def test_an_unknown_name_says_the_nearest(project, monkeypatch):
    monkeypatch.chdir(project)
    with pytest.raises(EnvironmentSpecError, match="did you mean 'torch110'"):
        environment("torch11")
