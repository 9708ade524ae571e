"""What the doctor finds: versions without imports, adapters in processes of their own, known traps."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from porting_check import cli_traps
from porting_check.cli import main
from porting_check.cli_doctor import Examination, Framework, examine, text, try_adapter


def found(
    versions: dict[str, str], environment: dict[str, str] | None = None, folder: Path = Path("/")
) -> str:
    """All traps in one text; the torch build and the GPU of this machine take no part."""
    known = {"numpy": "2.4.6", **versions}
    traps = [
        trap
        for trap in cli_traps.traps(known, {"torch"}, environment or {}, folder)
        if "CUDA" not in trap.found
    ]
    assert all(trap.mend for trap in traps)
    return "\n".join(f"{trap.found} -> {trap.mend}" for trap in traps)


def test_a_healthy_environment_has_no_trap() -> None:
    assert (
        found({"torch": "2.13.0+cpu", "tensorflow": "2.21.0", "keras": "3.15.1", "onnxruntime": "1.31.1"})
        == ""
    )


def test_no_framework_at_all_names_the_extras() -> None:
    assert "pip install 'porting-check[torch,tensorflow]'" in found({})


def test_a_framework_without_any_registered_adapter_means_a_broken_install() -> None:
    traps = cli_traps.traps({"torch": "2.13.0"}, set(), {}, Path("/"))
    assert any("no adapter is registered" in trap.found for trap in traps)


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({"tensorflow": "2.21.0", "keras": "2.15.0"}, "pip install 'keras>=3'"),
        ({"tensorflow": "2.15.1", "keras": "3.1.0", "numpy": "1.26.4"}, "pip install 'keras<3'"),
        ({"torch": "2.2.1"}, "torch 2.2.1 needs numpy 1"),
        ({"tensorflow": "2.17.0", "keras": "3.4.0"}, "pip install 'numpy<2'"),
        ({"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}, "overwrite each other"),
        ({"tensorflow": "2.21.0", "tensorflow-cpu": "2.21.0"}, "pip uninstall tensorflow tensorflow-cpu"),
    ],
)
def test_versions_that_do_not_go_together(versions: dict[str, str], words: str) -> None:
    assert words in found(versions)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"KERAS_BACKEND": "jax"}, "unset KERAS_BACKEND"),
        ({"TF_USE_LEGACY_KERAS": "1"}, "pip install tf-keras"),
        ({"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"}, "changes how XLA compiles"),
        ({"NVIDIA_TF32_OVERRIDE": "1"}, "TF32"),
    ],
)
def test_environment_variables_that_change_numbers_or_backends(
    environment: dict[str, str], words: str
) -> None:
    versions = {"tensorflow": "2.21.0", "keras": "3.15.1"}
    assert words in found(versions, environment)
    assert found(versions) == ""


def test_a_file_that_hides_a_framework(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("")
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "__init__.py").write_text("")
    words = found({"torch": "2.13.0+cpu"}, folder=tmp_path)
    assert "torch.py in the current folder hides" in words
    assert f"{Path('keras', '__init__.py')} in the current folder hides" in words


def test_a_cuda_build_without_a_driver_is_a_waste_and_with_one_computes_in_tf32() -> None:
    versions = {"torch": "2.13.0"}
    waste = cli_traps.cuda(versions, "12.8", gpu=False)
    assert waste is not None
    assert "download.pytorch.org/whl/cpu" in waste.mend
    precision = cli_traps.cuda(versions, "12.8", gpu=True)
    assert precision is not None
    assert "TF32" in precision.found
    assert cli_traps.cuda(versions, "", gpu=False) is None
    assert cli_traps.cuda({}, "12.8", gpu=False) is None


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_the_cuda_version_of_torch_is_read_as_torch_itself_says_it() -> None:
    import torch

    assert cli_traps.torch_cuda() == (torch.version.cuda or "")


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (["loads", "not installed"], 0),
        (["loads", "fails"], 3),
        (["not installed", "no adapter"], 3),
        (["not tried"], 0),
    ],
)
def test_the_exit_status_tells_whether_work_can_begin(states: list[str], status: int) -> None:
    frameworks = tuple(Framework(name=str(i), versions={}, adapter=state) for i, state in enumerate(states))
    examined = Examination(version="1", python="3.11", platform="x", frameworks=frameworks, traps=())
    assert examined.exit_status == status


def test_an_adapter_that_does_not_exist_fails_with_its_reason() -> None:
    state, reason = try_adapter("nosuchframework")
    assert state == "fails"
    assert "no adapter for 'nosuchframework' is installed" in reason


def test_examining_without_loading_finds_versions_and_tries_nothing() -> None:
    examined = examine(load=False, progress=lambda stage, done, total: None)
    assert {item.adapter for item in examined.frameworks} <= {"not tried", "no adapter", "not installed"}
    assert {"torch", "tensorflow", "jax", "onnxruntime"} <= {item.name for item in examined.frameworks}
    shown = text(examined)
    assert shown.startswith("porting-check ")
    assert all(item.name in shown for item in examined.frameworks)


def test_doctor_as_json_agrees_with_its_exit_status(capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--quick", "--json"])
    data = json.loads(capfd.readouterr().out)
    assert data["exit_status"] == status
    assert all(set(trap) == {"found", "mend"} for trap in data["traps"])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_the_torch_adapter_loads_in_a_process_of_its_own() -> None:
    assert try_adapter("torch") == ("loads", "")
