"""Loading Keras files: good ones, damaged ones, and ones that hold code.

And owning models without loading TensorFlow.
"""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from porting_check.neutral.errors import ModelError
from tests.adapters.tensorflow_keras import ADAPTER, noise, randomise


@pytest.fixture
def model():
    return randomise(
        keras.Sequential([keras.Input((6, 5, 3)), layers.Conv2D(2, 3, name="conv"), layers.Flatten()])
    )


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_a_saved_model_predicts_the_same(tmp_path, model, suffix):
    path = str(tmp_path / f"model{suffix}")
    model.save(path)
    array = noise(2, 6, 5, 3)
    loaded = ADAPTER.load(path)
    np.testing.assert_array_equal(
        ADAPTER.predict(loaded, {"0": array})["0"], ADAPTER.predict(model, {"0": array})["0"]
    )


def test_a_missing_file_and_a_folder():
    with pytest.raises(ModelError, match="does not exist"):
        ADAPTER.load("nowhere.keras")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    "content", [b"", b"not a model at all", b"PK\x03\x04truncated", b"\x89HDF\r\n\x1a\ntruncated"]
)
def test_damaged_files_are_refused_with_their_name(tmp_path, suffix, content):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.(keras|h5)"):
        ADAPTER.load(str(path))


def test_a_truncated_archive_is_refused(tmp_path, model):
    path = tmp_path / "model.keras"
    model.save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError, match=r"no zip archive|not a zip archive|cannot load"):
        ADAPTER.load(str(path))


def test_python_code_inside_a_file_is_never_run(tmp_path):
    path = str(tmp_path / "lambda.keras")
    keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: x + 1)]).save(path)
    with pytest.raises(ModelError, match="Lambda layer"):
        ADAPTER.load(path)


def test_a_file_of_weights_only_says_so(tmp_path, model):
    path = tmp_path / "only.weights.h5"
    model.save_weights(path)
    with pytest.raises(ModelError, match=r"weights only|cannot load"):
        ADAPTER.load(str(path))


def test_a_class_of_the_users_own_is_explained(tmp_path):
    class Own(layers.Layer):
        def call(self, x):
            return x

    path = str(tmp_path / "own.keras")
    keras.Sequential([keras.Input((3,)), Own()]).save(path)
    with pytest.raises(ModelError, match="classes of its own"):
        ADAPTER.load(path)


def run(code: str, **environment: str) -> str:
    import os

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", **environment),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_asking_who_owns_a_model_imports_neither_tensorflow_nor_keras():
    code = (
        "import sys\nfrom porting_check_tensorflow import TensorFlowAdapter\n"
        "assert not TensorFlowAdapter().owns(object())\nprint({'tensorflow', 'keras'} & set(sys.modules))"
    )
    assert run(code, PYTHONPATH=":".join(sys.path)).strip() == "set()"


def test_keras_on_another_backend_is_left_to_that_backend_s_adapter():
    pytest.importorskip("jax")
    code = (
        "import keras, numpy as np\nfrom porting_check_tensorflow import TensorFlowAdapter\n"
        "from porting_check.neutral.errors import RunError\n"
        "from porting_check.neutral.trace import MemorySink\n"
        "adapter = TensorFlowAdapter()\n"
        "model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])\n"
        "assert not adapter.owns(model)\n"
        "try:\n"
        "    adapter.record(model, {'0': np.zeros((1, 3), 'f4')}, MemorySink())\n"
        "except RunError as error:\n"
        "    print(error)"
    )
    assert "jax backend" in run(code, KERAS_BACKEND="jax", PYTHONPATH=":".join(sys.path))
