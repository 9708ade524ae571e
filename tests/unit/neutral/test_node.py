from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from porting_check.neutral.node import Node, chain, decode, encode

SCALARS = st.integers(-(2**62), 2**62) | st.floats() | st.text(max_size=5) | st.booleans()


@given(st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=6))
def test_attributes_survive_json(value):
    node = Node("Test", ("x",), ("y",), {"value": value})
    again = Node.from_json(json.loads(json.dumps(node.to_json())))
    assert repr(again) == repr(node)


@pytest.mark.parametrize("kind", ["f4", "f8", "i8", "?", "c8", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_arrays_survive_json_with_their_dtype(kind):
    array = np.array([[0, 1], [1, 0]]).astype(kind)
    again = decode(json.loads(json.dumps(encode(array))))
    assert again.dtype == array.dtype
    assert again.tobytes() == array.tobytes()
    assert decode(json.loads(json.dumps(encode(np.zeros((0, 3), kind))))).shape == (0, 3)


def test_an_edit_changes_one_attribute_and_removes_with_none():
    node = Node("Conv", ["x", "w"], ["y"], {"pads": [0, 0, 1, 1], "group": 1})
    assert node.edit(pads=(1, 1, 1, 1), group=None).attributes == {"pads": (1, 1, 1, 1)}
    assert node.attributes["pads"] == (0, 0, 1, 1)
    assert str(node) == "Conv(group=1, pads=[0,0,1,1])"


def test_a_chain_links_first_inputs_and_keeps_the_ends():
    linked = chain([Node("Conv", ("x", "w")), Node("Relu", ("x",)), Node("Clip", ("x", "low"), ("y", "z"))])
    assert [(n.inputs, n.outputs) for n in linked] == [
        (("x", "w"), ("_1",)),
        (("_1",), ("_2",)),
        (("_2", "low"), ("y", "z")),
    ]
