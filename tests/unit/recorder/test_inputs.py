from __future__ import annotations

import sys

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from porting_check.neutral.adapter import InputSpec
from porting_check.neutral.errors import InputError
from porting_check.recorder.inputs import fitting, load_inputs, named, probe, translate

IMAGE = InputSpec("0", (None, None, None, 3), "float32", "NHWC")


def test_noise_is_seeded_signed_and_never_square():
    first, again, other = (probe([IMAGE], seed)["0"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(set(first.shape)) == 4
    assert first.shape[1] % 2 == first.shape[2] % 2 == 0
    assert first.min() < -1 < 1 < first.max()
    assert first.dtype == np.float32


def test_noise_for_indices_stays_inside_the_table():
    made = probe([InputSpec("ids", (None, 12), "int32", "", limit=7)])["ids"]
    assert made.dtype == np.int32
    assert set(np.unique(made)) == set(range(7))


def test_two_inputs_share_their_batch():
    made = probe([IMAGE, InputSpec("1", (None, 5))])
    assert made["0"].shape[0] == made["1"].shape[0]


def test_an_unknown_shape_asks_for_inputs():
    with pytest.raises(InputError, match="give inputs"):
        probe([InputSpec("0")])
    with pytest.raises(InputError, match="give inputs"):
        probe([])


def test_files_of_every_kind_are_read(tmp_path):
    array = np.random.default_rng(0).standard_normal((2, 3)).astype("f4")
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", x=array, y=2 * array)
    safetensors.numpy.save_file({"z": array}, tmp_path / "a.safetensors")
    Image.fromarray(np.full((4, 6, 3), 255, np.uint8)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_inputs({"": str(tmp_path / "a.npy")})["0"], array)
    assert set(load_inputs({"": str(tmp_path / "a.npz")})) == {"x", "y"}
    np.testing.assert_array_equal(load_inputs({"in": str(tmp_path / "a.safetensors")})["in"], array)
    image = load_inputs({"": str(tmp_path / "a.png")})["0"]
    assert image.shape == (1, 4, 6, 3)
    assert image.max() == 1.0


def test_an_image_without_pillow_says_what_to_install(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InputError, match=r"a\.png' is an image; to read it, run: pip install pillow$"):
        load_inputs({"": str(tmp_path / "a.png")})


def test_python_objects_in_files_are_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        load_inputs({"": str(tmp_path / "a.npy")})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((2, 3)), r"shape \(2, 3\).*any, any, any, 3.*NHWC"),
        (np.zeros((2, 8, 8, 4)), "shape"),
        ({"image": np.zeros((1, 8, 8, 3)), "more": np.zeros(3)}, ""),
        ("text", "array of numbers"),
        (np.array(["a"]), "array of numbers"),
    ],
)
def test_wrong_inputs_say_what_was_found_and_expected(given, words):
    if not words:
        assert set(named(given, [IMAGE])) == {"image", "more"}
        return
    with pytest.raises(InputError, match=words):
        named(given, [IMAGE])


def test_a_float_where_indices_belong_and_an_index_beyond_the_table_are_refused():
    ids = InputSpec("0", (None, 3), "int32", "", limit=5)
    with pytest.raises(InputError, match="dtype"):
        named(np.zeros((1, 3)), [ids])
    with pytest.raises(InputError, match="5 rows"):
        named(np.array([[1, 2, 5]]), [ids])


def test_inputs_are_named_by_position_when_they_have_no_names():
    assert list(named((np.zeros(2), np.zeros(3)), [InputSpec("a"), InputSpec("b")])) == ["a", "b"]
    assert list(named({"x": np.zeros((1, 8, 8, 3))}, [IMAGE])) == ["0"]
    with pytest.raises(InputError, match="called"):
        named({"x": np.zeros(2)}, [InputSpec("a")])


def test_the_candidate_gets_the_same_numbers_in_its_own_layout():
    image = np.random.default_rng(0).standard_normal((2, 4, 5, 3)).astype("f4")
    made, layouts = translate({"0": image}, {"0": "NHWC"}, [InputSpec("x", None, "float32", "NCHW")])
    np.testing.assert_array_equal(made["x"], image.transpose(0, 3, 1, 2))
    assert layouts == {"x": "NCHW"}


def test_declared_layouts_win_and_unknown_ones_change_nothing():
    data = np.zeros((2, 4, 5, 3), "f4")
    assert translate({"0": data}, {"0": "NHWC"}, [InputSpec("0")], {"0": "NCHW"})[0]["0"].shape == (
        2,
        3,
        4,
        5,
    )
    assert (
        translate({"0": data}, {"0": ""}, [InputSpec("0", None, "float32", "NCHW")])[0]["0"].shape
        == data.shape
    )
    assert translate({"0": data}, {"0": "NHWC"}, [InputSpec("", None, "float32", "NCHW")])[0]["0"].shape == (
        2,
        3,
        4,
        5,
    )


def test_another_number_of_inputs_is_named():
    with pytest.raises(InputError, match="takes 1 inputs.*candidate 2"):
        translate({"0": np.zeros(2)}, {}, [InputSpec("a"), InputSpec("b")])


@pytest.mark.parametrize(
    ("layout", "words"), [("NQ!?", "is none"), ("NHHC", "is none"), ("NHC", "3 axes, the input has 4")]
)
def test_a_declared_layout_must_be_one_and_fit_its_input(layout, words):
    with pytest.raises(InputError, match=words):
        fitting({"0": layout}, {"0": np.zeros((1, 4, 5, 3))})
    with pytest.raises(InputError, match=words):
        translate({"0": np.zeros((1, 4, 5, 3))}, {"0": ""}, [], {"0": layout})


def test_a_guessed_table_bounds_the_noise_and_not_what_is_given():
    ids = InputSpec("0", (None, 3), "int32", "", limit=5, certain=False)
    assert probe([ids])["0"].max() < 5
    assert named(np.array([[36, 0, 1]]), [ids])["0"].max() == 36


def test_a_layout_that_a_model_is_believed_to_want_is_dropped_where_the_rank_is_another():
    latent = np.zeros((2, 16), np.float32)
    made, used = translate({"0": latent}, {"0": ""}, [InputSpec("0", None, "float32", "NHWC")])
    assert used == {"0": ""}
    assert made["0"] is latent
    image = np.zeros((1, 3, 4, 5), np.float32)
    made, used = translate({"0": image}, {"0": "NCHW"}, [InputSpec("0", None, "float32", "NHWC")])
    assert (made["0"].shape, used) == ((1, 4, 5, 3), {"0": "NHWC"})
