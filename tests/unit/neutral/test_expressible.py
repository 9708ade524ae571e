"""What ``expressible`` says, word for word; ``test_padding_expression`` runs such answers."""

from __future__ import annotations

import pytest

from porting_check.neutral.errors import PaddingError
from porting_check.neutral.padding import Padding, same_padding
from porting_check.neutral.padding_expression import expressible

SAME = Padding((0, 0), (1, 1))
ONE = Padding((1, 1), (1, 1))
TWICE = {"strides": 2}
EVEN = {"strides": 2, "sizes": (22, 24)}

DIRECT = [
    ("torch", "Conv", {"padding": Padding((1, 2), (1, 2))}, "padding=(1, 2)"),
    ("torch", "Conv", {"padding": Padding((1, 1), (2, 2)), "kernel": 4}, 'padding="same"'),
    ("torch", "Conv", {"padding": ONE, "mode": "edge"}, 'padding=(1, 1), padding_mode="replicate"'),
    ("torch", "Conv", {"padding": ONE, "mode": "symmetric"}, 'padding=(1, 1), padding_mode="replicate"'),
    ("torch", "Conv", {"padding": Padding.none(2)}, "padding=0"),
    ("torch", "MaxPool", {"padding": ONE, **TWICE}, "padding=(1, 1)"),
    ("torch", "MaxPool", EVEN, "padding=(0, 0), ceil_mode=True"),
    ("torch", "AveragePool", EVEN, "padding=(0, 0), ceil_mode=True"),
    ("torch", "AveragePool", {"padding": ONE}, "padding=(1, 1), count_include_pad=False"),
    ("tensorflow", "Conv", EVEN, 'padding="SAME"'),
    ("tensorflow", "Conv", TWICE, "padding=[[0, 0], [0, 1], [0, 1], [0, 0]]"),
    ("tensorflow", "Conv", {"layout": "NCHW", **TWICE}, "padding=[[0, 0], [0, 0], [0, 1], [0, 1]]"),
    ("tensorflow", "Conv", {"padding": Padding.none(3)}, 'padding="VALID"'),
    ("tensorflow", "MaxPool", TWICE, "padding=[[0, 0], [0, 1], [0, 1], [0, 0]]"),
    ("tensorflow", "AveragePool", EVEN, 'padding="SAME"'),
    ("keras", "Conv", {"padding": Padding((4,), (0,)), "dilations": 2}, 'padding="causal"'),
    ("keras", "Conv", {"padding": ONE}, 'padding="same"'),
    ("tf_keras", "MaxPool", EVEN, 'padding="same"'),
    ("jax", "Conv", {"padding": Padding((0, -1), (1, 2))}, "padding=((0, 1), (-1, 2))"),
    ("flax", "AveragePool", {}, "padding=((0, 1), (0, 1)), count_include_pad=False"),
    ("onnx", "Conv", {}, "pads=[0, 0, 1, 1]"),
    ("onnxruntime", "MaxPool", {"ceil_mode": True}, "pads=[0, 0, 1, 1], ceil_mode=1"),
    ("onnx", "AveragePool", {"count_include_pad": True}, "pads=[0, 0, 1, 1], count_include_pad=1"),
    ("torch", "ConvTranspose", {"padding": ONE, **TWICE}, "padding=(1, 1)"),
    (
        "torch",
        "ConvTranspose",
        {"padding": Padding((1, 1), (0, 1)), **TWICE},
        "padding=(1, 1), output_padding=(1, 0)",
    ),
    ("keras", "ConvTranspose", TWICE, 'padding="same"'),
    ("keras", "ConvTranspose", {"padding": ONE, **TWICE}, 'padding="same", output_padding=(0, 0)'),
    (
        "onnx",
        "ConvTranspose",
        {"padding": Padding((0,), (-1,)), **TWICE},
        "pads=[0, 0], output_padding=[1]",
    ),
    ("jax", "ConvTranspose", TWICE, "padding=((2, 1), (2, 1))"),
    (
        "tensorflow",
        "ConvTranspose",
        {"sizes": (4, 5), **TWICE},
        'output_shape=[x.shape[0], 8, 10, kernel.shape[-2]], padding="SAME"',
    ),
]

CODE = [
    ("torch", "Conv", TWICE, ["x = F.pad(x, (0, 1, 0, 1))", "y = conv(x, padding=0)"]),
    (
        "torch",
        "MaxPool",
        TWICE,
        ['x = F.pad(x, (0, 1, 0, 1), value=float("-inf"))', "y = max_pool(x, padding=0)"],
    ),
    (
        "torch",
        "MaxPool",
        {"padding": Padding((1, 1), (0, 0)), "sizes": (5, 5)},  # padding=1 would make a fifth window
        ['x = F.pad(x, (1, 0, 1, 0), value=float("-inf"))', "y = max_pool(x, padding=0)"],
    ),
    ("torch", "MaxPool", {"value": 0.0}, ["x = F.pad(x, (0, 1, 0, 1))", "y = max_pool(x, padding=0)"]),
    (
        "torch",
        "AveragePool",
        {"count_include_pad": True},
        ["x = F.pad(x, (0, 1, 0, 1))", "y = avg_pool(x, padding=0)"],
    ),
    (
        "torch",
        "AveragePool",
        TWICE,
        [
            "w = torch.ones_like(x)",
            "w = F.pad(w, (0, 1, 0, 1))",
            "x = F.pad(x, (0, 1, 0, 1))",
            "y = avg_pool(x, padding=0)",
            "y = y / F.avg_pool2d(w, (3, 3), (2, 2))",
        ],
    ),
    (
        "keras",
        "Conv",
        TWICE,
        ["x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)))(x)", 'y = conv(x, padding="valid")'],
    ),
    (
        "keras",
        "Conv",
        {"padding": Padding((1,), (2,))},
        ["x = keras.layers.ZeroPadding1D((1, 2))(x)", 'y = conv(x, padding="valid")'],
    ),
    (
        "keras",
        "MaxPool",
        TWICE,
        [
            'x = keras.ops.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=float("-inf"))',
            'y = max_pool(x, padding="valid")',
        ],
    ),
    (
        "tensorflow",
        "AveragePool",
        {"count_include_pad": True, **TWICE},
        ["x = tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]])", 'y = avg_pool(x, padding="VALID")'],
    ),
    (
        "tensorflow",
        "Conv",
        {"mode": "reflect"},
        ['x = tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]], mode="REFLECT")', 'y = conv(x, padding="VALID")'],
    ),
    (
        "torch",
        "Conv",
        {"mode": "symmetric", "padding": Padding((0, 0), (2, 0))},
        [
            'x = x[:, :, np.pad(np.arange(x.shape[2]), (0, 2), mode="symmetric")]',
            "y = conv(x, padding=0)",
        ],
    ),
    ("torch", "ConvTranspose", TWICE, ["y = conv_transpose(x, padding=0)", "y = y[:, :, :-1, :-1]"]),
    (
        "keras",
        "ConvTranspose",
        {"padding": Padding((1, 1), (0, 0)), **TWICE},
        [
            'y = conv_transpose(x, padding="valid", output_padding=(0, 0))',
            "y = keras.layers.Cropping2D(((1, 0), (1, 0)))(y)",
        ],
    ),
]

REFUSED = [
    ({"framework": "paddle"}, "'paddle'"),
    ({"operator": "Gemm"}, "'Gemm'"),
    ({"mode": "zeros"}, "'zeros'"),
    ({"padding": Padding.none(4)}, "4 spatial axes"),
    ({"sizes": (4,)}, "sizes (4,)"),
    ({"layout": "NHWC"}, "expected NCHW"),
    ({"framework": "jax", "layout": "NLC"}, "2 spatial axes"),
    ({"kernel": (3, 3, 3)}, "kernel"),
    ({"padding": Padding((-1, 0), (0, 1)), "mode": "reflect"}, "crop first"),
    ({"framework": "jax", "operator": "MaxPool", "ceil_mode": True}, "give sizes"),
    ({"operator": "AveragePool", "kernel": 1, "strides": 2}, "padding alone"),
    ({"framework": "onnx", "mode": "symmetric", "padding": ONE + ONE}, "Gather"),
    ({"operator": "ConvTranspose", "mode": "reflect"}, "no pad mode"),
    ({"operator": "ConvTranspose", "padding": Padding((0, 0), (0, -1))}, "no pads"),
    ({"framework": "tensorflow", "operator": "ConvTranspose"}, "give sizes"),
]


def ask(framework: str, operator: str, options: dict):
    return expressible(framework, operator, **{"padding": SAME, "kernel": 3, **options})


@pytest.mark.parametrize(("framework", "operator", "options", "argument"), DIRECT)
def test_operator_says_it_by_itself(framework, operator, options, argument):
    answer = ask(framework, operator, options)
    assert (answer.argument, answer.direct, answer.reason) == (argument, True, "")
    assert (answer.before, answer.after, answer.reads, answer.imports) == ((), (), "x", ())


@pytest.mark.parametrize(("framework", "operator", "options", "lines"), CODE)
def test_lines_around_the_operator(framework, operator, options, lines):
    answer = ask(framework, operator, options)
    assert answer.code.splitlines() == lines
    assert not answer.direct
    assert framework in answer.reason.lower() or "tf.nn" in answer.reason


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_what_is_refused_says_why(options, words):
    asked = {"framework": "torch", "operator": "Conv", "padding": SAME, "kernel": 3, **options}
    with pytest.raises(PaddingError) as caught:
        expressible(**asked)
    assert words in str(caught.value)


def test_answers_that_depend_on_the_input_say_so():
    bound = ask("tensorflow", "Conv", {"strides": 2, "sizes": (32, 30)})
    free = ask("tensorflow", "Conv", {"padding": ONE, "sizes": (32, 30)})
    assert (bound.only_for_sizes, free.only_for_sizes) == ((32, 30), None)
    assert ask("torch", "MaxPool", EVEN).only_for_sizes == (22, 24)
    assert ask("keras", "MaxPool", {**EVEN, "padding": Padding.none(2), "ceil_mode": True}).only_for_sizes


def test_same_is_not_offered_where_tensorflow_would_crop_on_a_cpu():
    padding = Padding((0, 0, 0), (1, 0, 0))
    options = {"padding": padding, "kernel": (2, 1, 1), "strides": (1, 3, 1), "sizes": (4, 6, 4)}
    assert same_padding((4, 6, 4), (2, 1, 1), (1, 3, 1)) == padding
    assert "tf.pad" in ask("tensorflow", "Conv", options).code
    assert ask("tensorflow", "Conv", {**options, "sizes": (4, 5, 4)}).argument == 'padding="SAME"'


def test_imports_are_those_that_the_lines_use():
    picked = ask("torch", "Pad", {"padding": Padding((2,), (2,)), "mode": "symmetric"})
    assert (picked.imports, picked.direct) == (("import numpy as np",), False)
    assert ask("torch", "Conv", TWICE).imports == ("import torch.nn.functional as F",)
    assert ask("onnx", "Pad", {}).imports == ("import numpy as np", "import onnx")
    assert ask("jax", "Conv", {"mode": "reflect"}).imports == ("import jax.numpy as jnp",)
