"""``equivalent`` on real frameworks: the questions that people ask, and a wrong variant of each that must be different."""

from __future__ import annotations

import math

import numpy as np
import pytest

from porting_check.equivalence import equivalent
from porting_check.neutral.errors import PortingError

torch = pytest.importorskip("torch")
F = torch.nn.functional


def noise(*shape, seed=0):
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


# ---- einsum against conv2d: 16 images, 16 kernels, weights near 1e-5


def einsum(img, weight, bias):
    return torch.einsum("bchw,bchw->b", [img, weight]) + bias.squeeze(-1)


def grouped(img, weight, bias):
    return F.conv2d(img.reshape(48, 4, 4), weight, bias.squeeze(), groups=16).squeeze()


def one_by_one(img, weight, bias):
    return torch.stack([F.conv2d(i[None], w[None], b).squeeze() for i, w, b in zip(img, weight, bias)])


def images():
    rng = np.random.default_rng(1)
    weight, bias = (rng.normal(1e-5, 1e-6, shape).astype(np.float32) for shape in ((16, 3, 4, 4), (16, 1)))
    return noise(16, 3, 4, 4), weight, bias


@pytest.mark.parametrize("convolution", [grouped, one_by_one])
def test_einsum_and_conv2d_are_equivalent_and_equal_elements_are_named(convolution):
    result = equivalent(einsum, convolution, *images())
    assert (result.verdict, result.ok) == ("equivalent", True)
    assert all(order.exact for order in result.orders), str(result)
    assert result.terms == 49
    tensors = [torch.from_numpy(a) for a in images()]
    equal = (einsum(*tensors) == convolution(*tensors)).numpy()
    if result.kind == "round-off":
        assert result.luck == pytest.approx(equal.mean())
        assert list(result.lucky) == list(np.flatnonzero(equal))
    assert result.shrink is None or result.shrink > 1e6


def test_einsum_over_the_wrong_axes_is_different():
    def mistaken(img, weight, bias):
        return torch.einsum("bchw,bcwh->b", [img, weight * 1e3]) * 1e-3 + bias.squeeze(-1)

    result = equivalent(einsum, mistaken, *images())
    assert result.verdict == "different"
    assert result.experiments["float64|float64"].largest > 1e-7


# ---- unfold and matmul against Conv2d


def unfolded(image, weight):
    columns = F.unfold(image, kernel_size=7, padding=3, stride=2)
    size = math.floor((image.shape[-1] + 2 * 3 - 6 - 1) / 2) + 1
    return torch.matmul(weight.reshape(len(weight), -1), columns[0]).reshape(1, len(weight), size, size)


def convolved(image, weight):
    return F.conv2d(image, weight, stride=2, padding=3)


def test_unfold_and_conv2d_differ_by_the_order_and_float64_must_be_on_both_sides():
    image, weight = noise(1, 3, 64, 64), noise(16, 3, 7, 7)
    result = equivalent(convolved, unfolded, image, weight)
    assert (result.verdict, result.terms) == ("equivalent", 147)
    rows = result.experiments
    assert rows["float64|float64"].largest < 1e-6 * rows["float32|float32"].largest
    for mixed in ("float32|float64", "float64|float32"):
        assert rows[mixed].largest > 0.1 * rows["float32|float32"].largest
    assert "With float64 on one side only" in result.sentence
    assert all(order.exact for order in result.orders), str(result)
    assert result.orders[0].terms == 147


def test_a_module_has_its_parameters_revealed_and_restored():
    conv = torch.nn.Conv2d(3, 16, 7, stride=2, padding=3, bias=False)
    before = conv.weight.detach().clone()
    result = equivalent(conv, lambda x: unfolded(x, conv.weight), noise(1, 3, 64, 64))
    assert result.verdict == "equivalent"
    assert result.order("reference").exact
    assert result.order("reference").operand == "parameter:weight"
    assert "pass them as arguments" in result.order("candidate").reason
    assert torch.equal(conv.weight, before)


def test_a_transposed_kernel_is_different_also_to_the_integer_probe():
    def mistaken(image, weight):
        return unfolded(image, weight.transpose(2, 3).contiguous())

    result = equivalent(convolved, mistaken, noise(1, 3, 32, 32), noise(8, 3, 7, 7))
    assert result.verdict == "different"
    assert result.integers.startswith("different")
    assert "No order of summation" in result.why[0]


def test_an_output_size_by_true_division_is_different():
    def mistaken(image, weight):
        size = round((image.shape[-1] + 2 * 3 - 6 - 1) / 2 + 1)  # 31.5 rounds up to 32 for an even image
        made = unfolded(image, weight)
        return F.pad(made, (0, size - made.shape[-1], 0, size - made.shape[-2]))

    result = equivalent(convolved, mistaken, noise(1, 3, 62, 62), noise(4, 3, 7, 7))
    assert result.verdict == "different"
    assert "(1, 4, 31, 31) and (1, 4, 32, 32)" in result.sentence
    odd = equivalent(convolved, lambda x, w: unfolded(x, w)[..., :-1], noise(1, 3, 33, 33), noise(4, 3, 7, 7))
    assert odd.verdict == "different"
    assert "shapes" in odd.sentence


# ---- Linear against Conv1d with a kernel of one


class Pointwise(torch.nn.Module):
    """A Conv1d over the last axis of (batch, points, channels)."""

    def __init__(self, linear):
        super().__init__()
        self.conv = torch.nn.Conv1d(linear.in_features, linear.out_features, 1)
        with torch.no_grad():
            self.conv.weight.copy_(linear.weight[..., None])
            self.conv.bias.copy_(linear.bias)

    def forward(self, x):
        return self.conv(x.permute(0, 2, 1).contiguous()).permute(0, 2, 1)


def test_linear_and_conv1d_agree_with_the_gradients_of_their_weights():
    torch.manual_seed(0)
    linear = torch.nn.Linear(8, 32)
    points = noise(32, 64, 8)
    result = equivalent(linear, Pointwise(linear), points, gradients=True)
    assert (result.verdict, result.terms) == ("equivalent", 9)
    assert sum(result.histogram.counts) == 32 * 64 * 32
    found = {gradient.name: gradient for gradient in result.gradients}
    assert set(found) == {
        "argument 0", "parameter:weight / parameter:conv.weight", "parameter:bias / parameter:conv.bias",
    }  # fmt: skip
    assert all(gradient.verdict == "equivalent" for gradient in found.values())
    assert found["parameter:weight / parameter:conv.weight"].terms == 32 * 64
    assert all(gradient.largest64 <= 1e-6 * max(gradient.largest, 1e-6) for gradient in found.values())
    assert result.orders[0].key == result.orders[1].key or "different orders" in result.why[0]
    assert set(result.seconds) == {"reference", "candidate"}


def test_the_gradients_after_an_mse_loss_agree_too():
    def by_linear(x, w, b, target):
        return F.mse_loss(F.linear(x, w, b), target)

    def by_convolution(x, w, b, target):
        return F.mse_loss(F.conv1d(x.permute(0, 2, 1).contiguous(), w[..., None], b).permute(0, 2, 1), target)

    arrays = noise(16, 32, 8), noise(32, 8), noise(32), noise(16, 32, 32)
    result = equivalent(by_linear, by_convolution, *arrays, gradients=True)
    assert (result.verdict, len(result.gradients)) == ("equivalent", 4)


def test_a_gradient_that_is_cut_is_different_though_the_outputs_agree():
    def whole(x, w):
        return F.linear(x, w)

    def cut(x, w):
        return F.linear(x, w) * 0.5 + F.linear(x, w.detach()) * 0.5

    result = equivalent(whole, cut, noise(5, 12), noise(6, 12), gradients=True)
    assert result.verdict == "different"
    assert "gradients with respect to argument 1" in result.sentence


# ---- the formula against F.linear


def formula(x, weight, bias):
    return torch.matmul(x, weight.T) + bias


def test_why_the_formula_is_not_f_linear_is_answered_by_the_trees():
    arrays = noise(16, 700), noise(96, 700), noise(96)
    result = equivalent(formula, F.linear, *arrays)
    assert result.verdict == "equivalent"
    total = result.experiments["float32|float32"].total
    tensors = [torch.from_numpy(array) for array in arrays]
    assert total == pytest.approx(
        float((formula(*tensors).double() - F.linear(*tensors).double()).abs().sum())
    )
    assert all(order.exact for order in result.orders), str(result)
    assert "bias added" in result.orders[0].arithmetic
    assert "bit for bit" in result.why[0]


def test_a_function_that_names_no_framework_takes_that_of_its_arrays():
    x, w = (torch.from_numpy(a) for a in (noise(4, 20), noise(5, 20)))
    result = equivalent(lambda x, w: x @ w.T, F.linear, x, w)
    assert result.reference.endswith("(torch)")
    plain = equivalent(lambda x, w: x @ w.T, F.linear, x.numpy(), w.numpy())
    assert plain.reference.endswith("(numpy)")
    assert plain.verdict == "equivalent"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: device='cuda' cannot be tried")
def test_the_formula_on_the_gpu_against_the_cpu():
    arrays = noise(32, 2048), noise(512, 2048), noise(512)
    result = equivalent(F.linear, F.linear, *arrays, device=("cpu", "cuda"))
    assert result.verdict == "equivalent"
    assert result.candidate == "linear on cuda (torch)"
    assert equivalent(formula, F.linear, *arrays, device="cuda").verdict == "equivalent"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(PortingError, match=r"device='cuda' is not available to torch here"):
        equivalent(F.linear, F.linear, noise(2, 3), noise(4, 3), device="cuda")
    with pytest.raises(PortingError, match=r"device='cuda' is not available to torch here"):
        equivalent(torch.nn.Linear(3, 4), torch.nn.Linear(3, 4), noise(2, 3), device="cuda")


# ---- other frameworks


def test_a_same_convolution_of_tensorflow_equals_an_unevenly_padded_one_of_torch():
    tf = pytest.importorskip("tensorflow")

    def same(x, k):
        return tf.nn.conv2d(x, k, 2, "SAME")

    def padded(x, k, pads=(1, 2, 1, 2)):
        return F.conv2d(F.pad(x.permute(0, 3, 1, 2), pads), k.permute(3, 2, 0, 1), stride=2).permute(
            0, 2, 3, 1
        )

    arrays = noise(1, 12, 14, 6), noise(5, 5, 6, 16)
    result = equivalent(same, padded, *arrays)
    assert (result.verdict, result.terms) == ("equivalent", 150)
    assert result.reference.endswith("(tensorflow)")
    assert result.candidate.endswith("(torch)")
    wrong = equivalent(same, lambda x, k: padded(x, k, (2, 1, 2, 1)), *arrays, orders=False)
    assert wrong.verdict == "different"


def test_jax_and_torch_and_numpy_add_the_same_products():
    jnp = pytest.importorskip("jax.numpy")

    def jax_linear(x, w, b):
        return jnp.dot(x, w.T) + b

    arrays = noise(8, 96), noise(24, 96), noise(24)
    result = equivalent(F.linear, jax_linear, *arrays, gradients=True)
    assert result.verdict == "equivalent", str(result)
    assert result.experiments["float64|float64"].largest < 1e-12
    assert all(order.revealed for order in result.orders), str(result)
    assert len(result.gradients) == 3
    against = equivalent(lambda x, w, b: np.matmul(x, w.T) + b, jax_linear, *arrays)
    assert against.verdict == "equivalent"


def test_a_keras_layer_against_a_torch_module():
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras runs on another backend here")
    dense = keras.layers.Dense(7)
    dense.build((None, 20))
    linear = torch.nn.Linear(20, 7)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(np.array(dense.kernel).T))
        linear.bias.zero_()
    result = equivalent(dense, linear, noise(5, 20), orders=False)
    assert result.verdict == "equivalent"
    with torch.no_grad():
        linear.weight[2, 3] *= 1.01
    assert equivalent(dense, linear, noise(5, 20), orders=False).verdict == "different"


def test_the_two_forms_of_gelu_are_different():
    exact, approximate = torch.nn.GELU(), torch.nn.GELU(approximate="tanh")
    result = equivalent(exact, approximate, noise(40, 50))
    assert result.verdict == "different"
    assert (
        equivalent(exact, lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)), noise(40, 50)).verdict
        == "equivalent"
    )


def test_an_onnx_file_against_a_module(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    linear = torch.nn.Linear(20, 7)
    weight, bias = (t.detach().numpy() for t in (linear.weight, linear.bias))
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [5, 20])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [5, 7])],
        [onnx.numpy_helper.from_array(weight, "w"), onnx.numpy_helper.from_array(bias, "b")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 10
    onnx.save(model, str(tmp_path / "m.onnx"))
    result = equivalent(linear, str(tmp_path / "m.onnx"), noise(5, 20), orders=False)
    assert result.verdict == "equivalent", str(result)
    assert result.candidate == "m.onnx (onnxruntime)"


def test_parameters_in_another_layout_are_matched_by_their_values():
    nn = pytest.importorskip("flax.linen")
    import jax

    conv = nn.Conv(8, (3, 3), strides=1, padding="VALID")
    images = noise(2, 7, 9, 5)
    variables = conv.init(jax.random.PRNGKey(0), images)
    kernel = np.array(variables["params"]["kernel"])

    class Port(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(5, 8, 3)
            with torch.no_grad():
                self.conv.weight.copy_(torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
                self.conv.bias.zero_()

        def forward(self, x):
            return self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    result = equivalent((conv, variables), Port(), images, gradients=True)
    assert result.verdict == "equivalent", str(result)
    assert result.reference == "Conv (jax)"
    names = {gradient.name for gradient in result.gradients}
    assert "parameter:kernel / parameter:conv.weight" in {name.replace("params/", "") for name in names}
    assert "could not be matched" not in result.why[0]
    assert {order.terms for order in result.orders} == {45}
