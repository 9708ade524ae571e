"""Every kind of answer of ``expressible`` is executed and compared with windows that numpy cuts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.neutral.errors import PaddingError
from porting_check.neutral.layout import convert
from porting_check.neutral.padding import Padding
from porting_check.neutral.padding_code import CHANNELS_FIRST, CHANNELS_LAST
from porting_check.neutral.padding_expression import expressible
from porting_check.neutral.padding_forms import to_pad_width
from porting_check.neutral.padding_modes import MODES
from porting_check.neutral.padding_request import Expression
from porting_check.neutral.pooling_padding import pool_output_sizes
from porting_check.neutral.transposed_padding import keras_crop

FRAMEWORKS = ("torch", "tensorflow", "keras", "jax", "onnx")
SPATIAL = {1: "L", 2: "HW", 3: "DHW"}
EXAMPLES = {"jax": 20}  # it compiles each of them


@dataclass(frozen=True)
class Question:
    """One call of ``expressible``, and the data to try it on."""

    operator: str
    sizes: tuple[int, ...]
    padding: Padding
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    mode: str = "constant"
    value: float | None = None
    ceil_mode: bool = False
    count_include_pad: bool = False
    sizes_told: bool = True
    seed: int = 0

    @property
    def ndim(self) -> int:
        return len(self.sizes)

    @property
    def extents(self) -> tuple[int, ...]:
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations))

    @property
    def implicit(self) -> bool:
        own = -np.inf if self.operator == "MaxPool" else 0.0
        return self.mode == "constant" and self.value in (None, own)

    @property
    def x(self) -> np.ndarray:
        """Input, channels first: integers, mostly negative so that a zero in a maximum shows."""
        shape = (2, 2, *self.sizes)
        return np.random.default_rng(self.seed).integers(-9, 4, shape).astype(np.float32)

    @property
    def weight(self) -> np.ndarray:
        """A kernel with out and in channels first."""
        shape = (3, 2, *self.kernel)
        return np.random.default_rng(self.seed + 1).integers(-8, 9, shape).astype(np.float32)

    def ask(self, framework: str) -> Expression:
        return expressible(
            framework, self.operator, self.padding, self.mode, kernel=self.kernel, strides=self.strides,
            dilations=self.dilations, sizes=self.sizes if self.sizes_told else None, value=self.value,
            ceil_mode=self.ceil_mode, count_include_pad=self.count_include_pad,
        )  # fmt: skip

    def truth(self) -> np.ndarray:
        """What the operator computes, window by window."""
        padding = self.padding
        counts = np.ones(self.sizes)
        x = self.x.astype(np.float64)
        for axis, pair in enumerate(padding.cropped.pairs):
            keep = slice(pair[0], self.sizes[axis] - pair[1])
            x, counts = (
                np.take(x, range(*keep.indices(self.sizes[axis])), axis + 2),
                counts.take(range(*keep.indices(self.sizes[axis])), axis),
            )
        fill = -np.inf if self.operator == "MaxPool" else 0.0
        how = (
            {"constant_values": fill if self.value is None else self.value} if self.mode == "constant" else {}
        )
        x = np.pad(x, to_pad_width(padding.grown, CHANNELS_FIRST[self.ndim]), mode=self.mode, **how)
        counted = 1.0 if self.count_include_pad or not self.implicit else 0.0
        counts = np.pad(counts, padding.grown.pairs, constant_values=counted)
        sizes = pool_output_sizes(
            self.sizes, padding, self.kernel, self.strides, self.dilations, ceil_mode=self.ceil_mode
        )
        out = np.zeros((2, 3 if self.operator == "Conv" else 2, *sizes))
        for place in itertools.product(*map(range, sizes)):
            taps = [
                [t for t in range(p * s, p * s + k * d, d) if t < n]
                for p, s, k, d, n in zip(place, self.strides, self.kernel, self.dilations, counts.shape)
            ]
            at = (slice(None), slice(None), *place)
            window = x[(slice(None), slice(None), *np.ix_(*taps))]
            axes = tuple(range(2, window.ndim))
            if self.operator == "Conv":
                out[at] = np.tensordot(window, self.weight.astype(np.float64), ((1, *axes),) * 2)
            elif self.operator == "MaxPool":
                out[at] = window.max(axis=axes)
            else:
                out[at] = window.sum(axis=axes) / counts[np.ix_(*taps)].sum()
        return out


def execute(lines, **names) -> dict:
    exec("\n".join(lines), names)
    return names


def arguments(answer: Expression, **names) -> dict:
    return eval(f"dict({answer.argument})", names)


def run_torch(question: Question, answer: Expression) -> np.ndarray:
    torch = pytest.importorskip("torch")
    names = {"np": np, "torch": torch, "F": torch.nn.functional}
    scope = execute(answer.before, x=torch.from_numpy(question.x), **names)
    with torch.no_grad():
        scope["y"] = torch_operator(torch, question, arguments(answer))(scope["x"])
    return execute(answer.after, **scope)["y"].numpy()


def torch_operator(torch, question: Question, told: dict):
    ndim, axes = question.ndim, {"stride": question.strides}
    if question.operator == "MaxPool":
        layer = getattr(torch.nn, f"MaxPool{ndim}d")
        return layer(question.kernel, dilation=question.dilations, **axes, **told)
    if question.operator == "AveragePool":
        return getattr(torch.nn, f"AvgPool{ndim}d")(question.kernel, **axes, **told)
    transposed = question.operator == "ConvTranspose"
    layer = getattr(torch.nn, f"ConvTranspose{ndim}d" if transposed else f"Conv{ndim}d")(
        2, 3, question.kernel, dilation=question.dilations, **axes, **told
    )
    weight = question.weight.swapaxes(0, 1) if transposed else question.weight
    layer.weight.copy_(torch.from_numpy(weight.copy()))
    layer.bias.fill_(5.0)
    return layer


def channels_last(question: Question) -> np.ndarray:
    return convert(question.x, CHANNELS_FIRST[question.ndim], CHANNELS_LAST[question.ndim]).copy()


def channels_first(y, ndim: int) -> np.ndarray:
    return convert(np.asarray(y), CHANNELS_LAST[ndim], CHANNELS_FIRST[ndim])


def native_kernel(question: Question) -> np.ndarray:
    spatial = SPATIAL[question.ndim]
    order = "OI" if question.operator == "ConvTranspose" else "IO"
    return convert(question.weight, "OI" + spatial, spatial + order).copy()


def run_tensorflow(question: Question, answer: Expression) -> np.ndarray:
    tf = pytest.importorskip("tensorflow")
    kernel = tf.constant(native_kernel(question))
    names = {"np": np, "tf": tf, "kernel": kernel}
    scope = execute(answer.before, x=tf.constant(channels_last(question)), **names)
    told, ndim, x = arguments(answer, x=scope["x"], **names), question.ndim, scope["x"]
    if question.operator in ("MaxPool", "AveragePool"):
        function = getattr(tf.nn, f"{'max' if question.operator == 'MaxPool' else 'avg'}_pool{ndim}d")
        scope["y"] = function(x, question.kernel, question.strides, **told)
    elif question.operator == "ConvTranspose":
        function = getattr(tf.nn, f"conv{ndim}d_transpose")
        scope["y"] = function(x, kernel, strides=list(question.strides), **told) + 5.0
    else:
        wrap = (lambda numbers: [1, *numbers, 1]) if ndim == 3 else list
        function = (tf.nn.conv1d, tf.nn.conv2d, tf.nn.conv3d)[ndim - 1]
        scope["y"] = (
            function(x, kernel, wrap(question.strides), dilations=wrap(question.dilations), **told) + 5.0
        )
    return channels_first(execute(answer.after, **scope)["y"], ndim)


def run_keras(question: Question, answer: Expression) -> np.ndarray:
    keras = pytest.importorskip("keras")
    names = {"np": np, "keras": keras}
    scope = execute(answer.before, x=keras.ops.convert_to_tensor(channels_last(question)), **names)
    told, ndim, axes = arguments(answer), question.ndim, {"strides": question.strides}
    if question.operator in ("MaxPool", "AveragePool"):
        name = "MaxPooling" if question.operator == "MaxPool" else "AveragePooling"
        layer = getattr(keras.layers, f"{name}{ndim}D")(question.kernel, **axes, **told)
    else:
        name = f"Conv{ndim}D" + "Transpose" * (question.operator == "ConvTranspose")
        layer = getattr(keras.layers, name)(
            3, question.kernel, dilation_rate=question.dilations, **axes, **told
        )
        layer.build(scope["x"].shape)
        layer.set_weights([native_kernel(question), np.full(3, 5.0, np.float32)])
    scope["y"] = layer(scope["x"])
    return channels_first(execute(answer.after, **scope)["y"], ndim)


def run_jax(question: Question, answer: Expression) -> np.ndarray:
    nn, jnp = pytest.importorskip("flax.linen"), pytest.importorskip("jax.numpy")
    scope = execute(answer.before, x=jnp.asarray(channels_last(question)), np=np, nn=nn, jnp=jnp)
    told, x = arguments(answer), scope["x"]
    if question.operator in ("MaxPool", "AveragePool"):
        function = nn.max_pool if question.operator == "MaxPool" else nn.avg_pool
        scope["y"] = function(x, question.kernel, question.strides, **told)
    else:
        transposed = question.operator == "ConvTranspose"
        more = {"transpose_kernel": True} if transposed else {}
        layer = (nn.ConvTranspose if transposed else nn.Conv)(
            3, question.kernel, strides=question.strides, kernel_dilation=question.dilations, **more, **told
        )
        scope["y"] = layer.apply({"params": {"kernel": native_kernel(question), "bias": np.full(3, 5.0)}}, x)
    return channels_first(execute(answer.after, **scope)["y"], question.ndim)


def run_onnx(question: Question, answer: Expression) -> np.ndarray:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    assert not answer.after
    made = list(execute(answer.before, np=np, onnx=onnx).values())
    nodes = [value for value in made if isinstance(value, onnx.NodeProto)]
    constants = [value for value in made if isinstance(value, onnx.TensorProto)]
    told = {**arguments(answer), "kernel_shape": question.kernel, "strides": question.strides}
    reads = [answer.reads]
    if question.operator != "AveragePool":
        told["dilations"] = question.dilations
    if question.operator.startswith("Conv"):
        weight = question.weight.swapaxes(0, 1) if question.operator == "ConvTranspose" else question.weight
        for name, value in (("w", weight), ("b", np.full(3, 5.0, np.float32))):
            constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
            reads.append(name)
    nodes.append(onnx.helper.make_node(question.operator, reads, ["y"], **told))
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "g", [info("x", 1, question.x.shape)], [info("y", 1, None)], constants
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10)
    options = runtime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    # By default ONNX Runtime 1.31 fuses a Pad of zeros into the MaxPool after it, which then pads with -inf.
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": question.x})[0]


RUN = {"torch": run_torch, "tensorflow": run_tensorflow, "keras": run_keras, "jax": run_jax, "onnx": run_onnx}


def numbers(draw, count: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(draw(st.lists(st.integers(low, high), min_size=count, max_size=count)))


def restricted(framework: str, question: Question) -> Question:
    """The same question without what the framework's operator cannot do for reasons other than padding."""
    ones = (1,) * question.ndim
    if question.operator == "AveragePool" or (
        question.operator == "MaxPool" and framework not in ("torch", "onnx")
    ):
        question = replace(question, dilations=ones)
    if question.operator == "Conv" and framework == "tensorflow" and question.ndim == 3:
        question = replace(question, dilations=ones)
    if framework == "keras" and max(question.dilations) > 1:
        question = replace(question, strides=ones)
        if question.ndim == 3:
            question = replace(question, dilations=ones)
    return question


@st.composite
def questions(draw, framework: str) -> Question:
    """Pooling or convolution with any padding, often one that the framework has a word for."""
    operator = draw(st.sampled_from(["Conv", "MaxPool", "AveragePool"]))
    ndim = draw(st.sampled_from([1, 2, 2, 3]))
    sizes, kernel = numbers(draw, ndim, 3, (9, 7, 5)[ndim - 1]), numbers(draw, ndim, 1, 3)
    strides, dilations = numbers(draw, ndim, 1, 3), numbers(draw, ndim, 1, 2)
    mode = draw(st.sampled_from(["constant"] * 4 + sorted(MODES)))
    low = draw(st.sampled_from([0, 0, 0, -1])) if mode == "constant" else 0
    begins = numbers(draw, ndim, low, 2)
    kind = draw(st.sampled_from(["any", "symmetric", "one more after", "none after"]))
    ends = {
        "any": numbers(draw, ndim, low, 2),
        "symmetric": begins,
        "one more after": tuple(begin + 1 for begin in begins),
        "none after": (0,) * ndim,
    }[kind]
    question = Question(operator, sizes, Padding(begins, ends), kernel, strides, dilations, mode)
    pool = operator != "Conv"
    return restricted(
        framework,
        replace(
            question,
            value=draw(st.sampled_from([None, None, None, 0.0, 2.0])) if mode == "constant" else None,
            ceil_mode=pool and not question.padding.crops and draw(st.booleans()),
            count_include_pad=operator == "AveragePool" and draw(st.booleans()),
            sizes_told=draw(st.booleans()),
            seed=draw(st.integers(0, 99)),
        ),
    )


def fits(question: Question) -> bool:
    """Whether a window fits, also into what a crop leaves, and mirrored amounts stay within the input."""
    left = [n - sum(crop) for n, crop in zip(question.sizes, question.padding.cropped.pairs)]
    grown = question.padding.grown
    if any(n + t < e for n, t, e in zip(left, grown.totals, question.extents)) or min(left) < 1:
        return False
    room = 1 if question.mode == "reflect" else 0
    return question.mode == "constant" or all(max(p) <= n - room for p, n in zip(grown.pairs, left))


def excused(framework: str, question: Question) -> bool:
    """Whether ``expressible`` may refuse: the documented cases, one by one."""
    average = question.operator == "AveragePool"
    uncounted = average and question.implicit and not question.count_include_pad
    alone = any(max(pair) >= extent for pair, extent in zip(question.padding.pairs, question.extents))
    return (
        (question.ceil_mode and not question.sizes_told)
        or (uncounted and alone)
        or (framework == "onnx" and question.mode == "symmetric" and max(question.padding.to_onnx()) > 1)
        or (framework == "onnx" and average and (question.ceil_mode or question.padding.crops or alone))
    )


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_random_answers_compute_what_was_asked(framework):
    direct = []

    @settings(deadline=None, max_examples=EXAMPLES.get(framework, 50))
    @given(questions(framework))
    def check(question):
        if not fits(question):
            return
        try:
            answer = question.ask(framework)
        except PaddingError:
            if not excused(framework, question):
                raise
            return
        if answer.only_for_sizes is not None:
            assert question.sizes_told
        assert answer.direct == (not answer.before and not answer.after) == (not answer.reason)
        truth = question.truth()
        direct.append(answer.direct)
        if question.operator == "Conv":
            truth = truth + 5.0
        result = RUN[framework](question, answer)
        if question.operator == "AveragePool":
            np.testing.assert_allclose(result, truth, rtol=1e-5, atol=1e-5, err_msg=answer.code)
        else:
            # A maximum over padding alone is -inf, or the lowest number, as each framework likes.
            lowest = np.finfo(np.float32).min
            result, truth = np.maximum(result, lowest), np.maximum(truth, lowest)
            np.testing.assert_array_equal(result, truth, err_msg=answer.code)

    check()
    assert True in direct
    assert False in direct


@st.composite
def crops(draw, framework: str) -> Question:
    """Transposed convolutions with crops as the frameworks make them, and others."""
    ndim = draw(st.sampled_from([1, 2, 2, 3]))
    sizes, kernel, strides = numbers(draw, ndim, 1, 4), numbers(draw, ndim, 1, 5), numbers(draw, ndim, 1, 4)
    plain = framework in ("tensorflow", "keras")  # TensorFlow has no dilation here on a CPU
    dilations = (1,) * ndim if plain else numbers(draw, ndim, 1, 2)
    way = draw(st.sampled_from(["same", "valid", "extra", "any"]))
    if way in ("same", "valid"):
        crop = keras_crop(way, None, kernel, strides, dilations)
    elif way == "extra":
        extra = tuple(draw(st.integers(0, stride - 1)) for stride in strides)
        crop = keras_crop(draw(st.sampled_from(["same", "valid"])), extra, kernel, strides, dilations)
    else:
        extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
        begins = tuple(draw(st.integers(0, extent - 1)) for extent in extents)
        crop = Padding(begins, tuple(draw(st.integers(1 - s, e - 1)) for s, e in zip(strides, extents)))
    return Question("ConvTranspose", sizes, crop, kernel, strides, dilations, seed=draw(st.integers(0, 99)))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_random_crops_of_transposed_convolutions(framework):
    torch = pytest.importorskip("torch")
    direct = []

    @settings(deadline=None, max_examples=EXAMPLES.get(framework, 50))
    @given(crops(framework))
    def check(question):
        full = [(n - 1) * s + e for n, s, e in zip(question.sizes, question.strides, question.extents)]
        if any(n - total < 1 for n, total in zip(full, question.padding.totals)):
            return
        answer = question.ask(framework)
        direct.append(answer.direct)
        weight = torch.from_numpy(question.weight.swapaxes(0, 1).copy())
        function = getattr(torch.nn.functional, f"conv_transpose{question.ndim}d")
        whole = function(
            torch.from_numpy(question.x), weight, stride=question.strides, dilation=question.dilations
        )
        begins_last = [amount for pair in reversed((-question.padding).pairs) for amount in pair]
        truth = torch.nn.functional.pad(whole, begins_last).numpy() + 5.0
        np.testing.assert_array_equal(RUN[framework](question, answer), truth, err_msg=answer.code)

    check()
    assert True in direct
    if framework in ("torch", "tensorflow", "keras"):
        assert False in direct


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("mode", sorted(MODES))
def test_pad_operator_in_every_mode(framework, mode):
    for ndim, amounts in (
        (1, (1, 0)),
        (1, (2, 1)),
        (2, (1, 0, 0, 1)),
        (2, (0, 2, 1, 2)),
        (3, (1, 2, 0, 0, 1, 2)),
    ):
        question = Question(
            "Pad", (4, 5, 6)[:ndim], Padding.from_onnx(amounts), (1,) * ndim, (1,) * ndim, (1,) * ndim
        )
        try:
            answer = expressible(framework, "Pad", question.padding, mode)
        except PaddingError:
            if (framework, mode) != ("onnx", "symmetric") or max(amounts) == 1:
                raise
            continue
        truth = np.pad(question.x, to_pad_width(question.padding, CHANNELS_FIRST[ndim]), mode=mode)
        np.testing.assert_array_equal(run_pad(framework, question, answer), truth, err_msg=answer.code)
        assert answer.direct == ("np.arange" not in answer.code)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_pad_operator_that_also_crops(framework):
    question = Question("Pad", (5, 6), Padding((-1, 2), (1, -3)), (1, 1), (1, 1), (1, 1))
    answer = expressible(framework, "Pad", question.padding, value=7.0)
    truth = np.full((2, 2, 5, 5), 7.0)
    truth[:, :, :4, 2:] = question.x[:, :, 1:, :3]
    np.testing.assert_array_equal(run_pad(framework, question, answer), truth)


@pytest.mark.parametrize("framework", ["tensorflow", "keras", "jax"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_pad_operator_with_channels_first(framework, ndim):
    padding = Padding((1, -1, 0)[:ndim], (2, 1, 1)[:ndim])
    question = Question("Pad", (4, 5, 6)[:ndim], padding, (1,) * ndim, (1,) * ndim, (1,) * ndim)
    layout = CHANNELS_FIRST[ndim]
    answer = expressible(framework, "Pad", padding, layout=layout)
    kept = question.x[(slice(None), slice(None), *(slice(b, None) for b in padding.cropped.begins))]
    truth = np.pad(kept, to_pad_width(padding.grown, layout))
    result = run_pad(framework, question, answer, as_is=True)
    np.testing.assert_array_equal(result, truth, err_msg=answer.code)


def run_pad(framework: str, question: Question, answer: Expression, as_is: bool = False) -> np.ndarray:
    """Only the lines before; ONNX needs an operator after them that changes nothing."""
    if framework == "onnx":
        return run_onnx(
            replace(question, operator="MaxPool"),
            replace(answer, argument=f"pads={[0] * 2 * question.ndim}"),
        )
    modules = {
        "torch": ("torch", "torch.nn.functional"),
        "tensorflow": ("tensorflow",),
        "keras": ("keras",),
    }.get(framework, ("jax.numpy",))
    first, *more = [pytest.importorskip(name) for name in modules]
    names = {"np": np, "tf": first, "torch": first, "keras": first, "jnp": first, "F": (more or [None])[0]}
    if framework == "torch":
        return execute(answer.before, x=first.from_numpy(question.x), **names)["x"].numpy()
    if as_is:
        return np.asarray(execute(answer.before, x=question.x, **names)["x"])
    return channels_first(execute(answer.before, x=channels_last(question), **names)["x"], question.ndim)
