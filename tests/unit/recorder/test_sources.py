from __future__ import annotations

import pytest

from porting_check.neutral.errors import FrameworkMissing, ModelError
from porting_check.recorder import registry
from porting_check.recorder.sources import call_function, framework_of, is_trace, open_model


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "my_models.py"
    path.write_text(
        "import helper\nVALUE = 3\n\ndef build():\n    return helper.made\n\ndef fails():\n    return [][1]\n\n"
        "def leaves():\n    raise SystemExit(4)\n"
    )
    (tmp_path / "helper.py").write_text("made = 'a model'\n")
    (tmp_path / "broken.py").write_text("def build(:\n")
    (tmp_path / "lacking.py").write_text("import a_module_that_is_nowhere\n")
    return path


def test_a_function_in_a_file_is_called_and_may_import_its_neighbours(module):
    assert call_function(f"{module}:build") == "a model"
    assert call_function(f"{module}:VALUE") == 3


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{}:biuld", "did you mean 'build'"),
        ("{}:something_else", "it has: build"),
        ("{}:fails", r"fails\(\) raised IndexError \(my_models.py, line 8\)"),
        ("{}:leaves", "SystemExit"),
        ("{folder}/broken.py:build", "SyntaxError"),
        ("{folder}/lacking.py:build", "a_module_that_is_nowhere"),
        ("{folder}/nowhere.py:build", "does not exist"),
    ],
)
def test_what_goes_wrong_is_one_sentence_with_the_place(module, spec, words):
    with pytest.raises(ModelError, match=words):
        call_function(spec.format(module, folder=module.parent))


@pytest.mark.parametrize(
    ("name", "framework"),
    [("m.keras", "tensorflow"), ("m.h5", "tensorflow"), ("m.pt2", "torch"), ("M.ONNX", "onnxruntime")],
)
def test_the_suffix_tells_the_framework_without_importing_it(tmp_path, name, framework):
    (tmp_path / name).write_bytes(b"")
    assert framework_of(str(tmp_path / name)) == framework


def test_what_is_no_model_is_said(tmp_path):
    (tmp_path / "a.txt").write_text("")
    for spec, words in (
        (tmp_path / "a.txt", "suffix"),
        (tmp_path, "neither a SavedModel"),
        (tmp_path / "b.keras", "not exist"),
    ):
        with pytest.raises(ModelError, match=words):
            framework_of(str(spec))
    assert framework_of("package.module:function") == ""


def test_a_recording_where_a_model_is_needed_is_called_a_recording(tmp_path):
    for name in ("net.trace", "net"):
        spec = tmp_path / name
        spec.mkdir()
        (spec / "index.jsonl").write_text("")
        with pytest.raises(
            ModelError, match=r"is a recording; here a model is needed .*file\.py:function or package"
        ):
            framework_of(str(spec))
    with pytest.raises(ModelError, match="does not exist"):
        framework_of(str(tmp_path / "missing.trace"))


def test_a_framework_that_has_no_adapter_is_named(tmp_path, monkeypatch):
    known = registry.installed()
    monkeypatch.setattr(registry, "installed", lambda: {k: v for k, v in known.items() if k != "onnxruntime"})
    monkeypatch.setattr(registry, "_CACHE", {})
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(FrameworkMissing, match="onnxruntime"):
        open_model(str(tmp_path / "m.onnx"))


def test_a_framework_that_is_not_installed_names_the_extra(monkeypatch):
    def absent():
        raise ModuleNotFoundError("No module named 'mindspore'", name="mindspore")

    monkeypatch.setattr(registry, "installed", lambda: {"mindspore": absent})
    with pytest.raises(FrameworkMissing, match=r"pip install 'porting-check\[mindspore\]'"):
        registry.load_adapter("mindspore")


def test_another_failing_import_inside_an_adapter_is_not_blamed_on_the_framework(monkeypatch):
    def broken():
        raise ModuleNotFoundError("No module named 'its_own_bug'", name="its_own_bug")

    monkeypatch.setattr(registry, "installed", lambda: {"mindspore": broken})
    with pytest.raises(FrameworkMissing, match="adapter also needs the package its_own_bug") as caught:
        registry.load_adapter("mindspore")
    assert "mindspore is not installed" not in str(caught.value)


def test_an_object_that_no_adapter_owns_is_named_by_its_type():
    with pytest.raises(FrameworkMissing, match="builtins.dict"):
        registry.adapter_for({})


def test_recordings_are_told_from_models(tmp_path):
    assert is_trace("run.trace")
    assert not is_trace(str(tmp_path))
    (tmp_path / "index.jsonl").write_text("")
    assert is_trace(str(tmp_path))
