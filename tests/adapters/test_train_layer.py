"""One contract for all frameworks: a layer called alone in training mode, and nothing else touched."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import equinox
import flax.linen as linen
import jax
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import torch
from flax import nnx

from porting_check.examination import examine
from porting_check.neutral.errors import Unsupported
from porting_check.numerics.batch_norm import Statistics, batch_statistics, normalized_by, positions_of, solve
from porting_check.recorder.registry import load_adapter
from porting_check.recording import record
from porting_check.training import training_step

RNG = np.random.default_rng(0)
ROWS = (RNG.standard_normal((4, 3, 5, 6)) * 2 + 1).astype(np.float32)
"""A batch, channels first."""

MEAN, VAR = np.float32([0.5, -0.5, 2.0]), np.float32([0.7, 1.5, 3.0])
SCALE, SHIFT = np.float32([1.5, 0.5, -1.0]), np.float32([0.1, 0.0, -0.3])
N = 4 * 5 * 6


class TrainLayer:
    """What every adapter's ``train_layer`` must do; subclasses say how their framework writes the network."""

    framework: ClassVar[str]
    last: ClassVar[bool] = True
    norm: ClassVar[str] = "bn"
    drop: ClassVar[str] = "drop"
    names: ClassVar[tuple[str, str]]
    keep: ClassVar[float] = 0.9
    variance: ClassVar[str] = "biased"
    epsilon: ClassVar[float] = 1e-3

    def build(self) -> Any:
        """A network of a batch normalisation (the statistics above, epsilon 1e-3, keeps 0.9) and dropout of one half."""
        raise NotImplementedError

    def native(self) -> np.ndarray:
        return np.ascontiguousarray(np.moveaxis(ROWS, 1, -1)) if self.last else ROWS.copy()

    def random_state(self) -> Any:
        """Of the framework's own generator; compared with ``==``."""
        return None

    def given(self) -> list[np.ndarray]:
        """The inputs of the batch normalisation."""
        return [self.native()]

    def ready(self) -> tuple[Any, Any]:
        adapter, model = load_adapter(self.framework), self.build()
        record(model, self.native())
        return adapter, model

    def test_it_normalises_by_the_batch(self) -> None:
        adapter, model = self.ready()
        outputs, _ = adapter.train_layer(model, self.norm, self.given())
        made = np.moveaxis(outputs[0], -1, 1) if self.last else outputs[0]
        x = positions_of(ROWS)
        truth, limit = normalized_by(x, batch_statistics(x), SCALE, SHIFT, self.epsilon)
        assert (np.abs(positions_of(made) - truth) <= limit).all()

    def test_its_state_after_the_step_has_the_names_of_the_model(self) -> None:
        adapter, model = self.ready()
        _, state = adapter.train_layer(model, self.norm, self.given())
        after = Statistics(*(state[name].astype(np.float64) for name in self.names))
        before = Statistics(MEAN.astype(np.float64), VAR.astype(np.float64))
        update = solve(before, after, batch_statistics(positions_of(ROWS)), N)
        assert (update.keep, update.variance) == (self.keep, self.variance)
        known = {
            n: a for n, a in adapter.parameters(model).items() if n.split("/")[0].split(".")[0] == self.norm
        }
        assert set(known) <= set(state)
        assert all(isinstance(a, np.ndarray) and a.flags.owndata for a in state.values())

    def test_the_model_its_input_and_the_random_state_are_as_before(self) -> None:
        adapter, model = self.ready()
        x = self.native()
        for name, wrong in ((self.norm, False), (self.drop, False), (self.norm, True)):
            arrays = [(x[..., :1] if self.last else x[:, :1]).copy() if wrong else x]
            kept = [a.copy() for a in arrays]
            before = (
                adapter.parameters(model),
                adapter.training(model),
                self.random_state(),
                random.getstate(),
            )
            drawn = np.random.get_state()[1].copy()
            if wrong:
                with pytest.raises(Unsupported, match=self.norm):
                    adapter.train_layer(model, name, arrays)
            else:
                adapter.train_layer(model, name, arrays)
            after = adapter.parameters(model)
            assert {k: v.tobytes() for k, v in before[0].items()} == {
                k: v.tobytes() for k, v in after.items()
            }
            assert (adapter.training(model), self.random_state(), random.getstate()) == before[1:]
            assert (np.random.get_state()[1] == drawn).all()
            assert all((a == b).all() for a, b in zip(arrays, kept, strict=True))

    def test_dropout_drops_and_scales(self) -> None:
        adapter, model = self.ready()
        outputs, _ = adapter.train_layer(model, self.drop, [np.ones_like(self.native())])
        assert set(np.unique(outputs[0])) == {0.0, 2.0}

    def test_a_layer_that_is_not_there_is_refused_by_name(self) -> None:
        adapter, model = self.ready()
        with pytest.raises(Unsupported, match="nothing_here"):
            adapter.train_layer(model, "nothing_here", self.given())


class TorchNet(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = torch.nn.BatchNorm2d(3, eps=1e-3, momentum=0.1)
        self.drop = torch.nn.Dropout(0.5)
        for tensor, array in zip(
            (self.bn.weight, self.bn.bias, self.bn.running_mean, self.bn.running_var),
            (SCALE, SHIFT, MEAN, VAR),
            strict=True,
        ):
            tensor.data.copy_(torch.from_numpy(array))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.bn(x))


class TestTorch(TrainLayer):
    framework = "torch"
    last = False
    names = ("bn.running_mean", "bn.running_var")
    variance = "unbiased"

    def build(self) -> Any:
        return TorchNet().eval()

    def random_state(self) -> Any:
        return torch.get_rng_state().numpy().tobytes()

    def test_a_layer_in_training_mode_stays_in_it_and_counts_no_batch(self) -> None:
        model = TorchNet().train()
        load_adapter("torch").train_layer(model, "bn", [ROWS])
        assert model.bn.training
        assert int(model.bn.num_batches_tracked) == 0


def keras_net(library: Any) -> Any:
    layers = library.layers
    model = library.Sequential(
        [
            layers.Input((5, 6, 3)),
            layers.BatchNormalization(name="bn", momentum=0.9, epsilon=1e-3),
            layers.Dropout(0.5, name="drop"),
        ]
    )
    model.get_layer("bn").set_weights([SCALE, SHIFT, MEAN, VAR])
    return model


class TestKeras(TrainLayer):
    framework = "tensorflow"
    names = ("bn/moving_mean", "bn/moving_variance")

    def build(self) -> Any:
        return keras_net(keras)

    def random_state(self) -> Any:
        return tf.random.get_global_generator().state.numpy().tobytes()

    def test_a_frozen_layer_keeps_to_its_statistics(self) -> None:
        adapter, model = self.ready()
        model.get_layer("bn").trainable = False
        _, state = adapter.train_layer(model, "bn", self.given())
        np.testing.assert_array_equal(state["bn/moving_mean"], MEAN)

    def test_a_graph_has_no_layers_to_train(self) -> None:
        with pytest.raises(Unsupported, match="alone"):
            load_adapter("tensorflow").train_layer(tf.function(lambda x: x), "bn", self.given())


class TestKeras2(TestKeras):
    variance = "unbiased"  # the fused kernel of Keras 2

    def build(self) -> Any:
        return keras_net(tf_keras)


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-3, name="bn")(x)
        return linen.Dropout(0.5, name="drop")(x, deterministic=not train)


class TestLinen(TrainLayer):
    framework = "jax"
    names = ("bn/mean", "bn/var")

    def build(self) -> Any:
        variables = {
            "params": {"bn": {"scale": SCALE.copy(), "bias": SHIFT.copy()}},
            "batch_stats": {"bn": {"mean": MEAN.copy(), "var": VAR.copy()}},
        }
        return LinenNet(), variables

    def test_two_models_recorded_one_after_the_other_can_both_be_trained(self) -> None:
        adapter, first = self.ready()
        _, second = self.ready()
        for model in (first, second):
            assert adapter.train_layer(model, "bn", self.given())[1]


class NnxNet(nnx.Module):
    def __init__(self) -> None:
        self.bn = nnx.BatchNorm(3, momentum=0.9, epsilon=1e-3, use_running_average=True, rngs=nnx.Rngs(0))
        self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(1), deterministic=True)
        load_adapter("jax").assign(
            self, {"bn/scale": SCALE, "bn/bias": SHIFT, "bn/mean": MEAN, "bn/var": VAR}
        )

    def __call__(self, x: Any) -> Any:
        return self.drop(self.bn(x))


class TestNnx(TrainLayer):
    framework = "jax"
    names = ("bn/mean", "bn/var")

    def build(self) -> Any:
        return NnxNet()


def equinox_norm() -> Any:
    norm, state = equinox.nn.make_with_state(equinox.nn.BatchNorm)(
        3, axis_name="batch", eps=1e-3, momentum=0.9, mode="ema"
    )
    norm = equinox.tree_at(
        lambda m: (m.weight, m.bias), norm, (jax.numpy.array(SCALE), jax.numpy.array(SHIFT))
    )
    state = state.set(norm.ema_first_time_index, jax.numpy.array(False))
    return norm, state.set(norm.ema_state_index, (jax.numpy.array(MEAN), jax.numpy.array(VAR)))


class EquinoxNet(equinox.Module):
    bn: Any
    state: Any

    def __call__(self, x: Any) -> Any:
        norm = equinox.nn.inference_mode(self.bn)
        return (
            jax.vmap(lambda one: self.bn(one, self.state, inference=True)[0], axis_name="batch")(x)
            + 0 * norm.eps
        )


def test_equinox_batch_norm_is_trained_with_the_statistics_that_it_is_given() -> None:
    norm, state = equinox_norm()
    outputs, after = load_adapter("jax").train_layer(EquinoxNet(norm, state), "bn", [ROWS, MEAN, VAR])
    x = positions_of(ROWS)
    update = solve(
        Statistics(*(np.asarray(a, np.float64) for a in (MEAN, VAR))),
        Statistics(*(np.asarray(after[key], np.float64) for key in ("1", "2"))),
        batch_statistics(x),
        N,
    )
    assert (update.keep, update.variance) == (0.9, "biased")
    assert np.abs(outputs[0] - ROWS).max() > 0.1
    with pytest.raises(Unsupported, match="equinox"):
        load_adapter("jax").train_layer(EquinoxNet(norm, state), "bn", [ROWS])


@pytest.mark.parametrize("candidate", [TestTorch, TestKeras2, TestLinen, TestNnx])
def test_from_keras_to_each_framework_one_training_step_is_the_same_but_for_the_stored_variance(
    candidate: Any,
) -> None:
    ours, theirs = TestKeras(), candidate()
    models = ours.build(), theirs.build()
    found = examine(*(record(m, side.native()) for m, side in zip(models, (ours, theirs), strict=True)))
    section = training_step(found, *models, decide=True)
    assert [row["cause"] for row in section.rows] == [
        "" if theirs.variance == "biased" else "bn-unbiased-var"
    ]
    assert section.verdict == "faithful"


def test_equinox_of_mode_ema_normalises_by_the_moved_statistics_and_that_is_found() -> None:
    norm, state = equinox_norm()
    ours = TestKeras()
    models = ours.build(), EquinoxNet(norm, state)
    found = examine(record(models[0], ours.native()), record(models[1], ROWS))
    section = training_step(found, *models, decide=True)
    assert [(row["cause"], row["candidate_mode"]) for row in section.rows] == [("bn-train-mode", "moved")]
    assert section.verdict == "divergent"


BACKEND = """
import keras
import numpy as np
from porting_check.recorder.registry import adapter_for

layers = keras.layers
norm, drop = layers.BatchNormalization(name="bn", momentum=0.9), layers.Dropout(0.5, name="drop")
model = keras.Sequential([layers.Input((5, 6, 3)), norm, drop])
x = (np.random.default_rng(0).standard_normal((4, 5, 6, 3)) + 1).astype(np.float32)
adapter = adapter_for(model)
before = [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables]
_, state = adapter.train_layer(model, "bn", [x])
np.testing.assert_allclose(state["bn/moving_mean"], 0.1 * x.mean((0, 1, 2)), rtol=1e-5)
outputs, _ = adapter.train_layer(model, "drop", [np.ones_like(x)])
assert set(np.unique(outputs[0])) == {0.0, 2.0}
after = [keras.ops.convert_to_numpy(v) for v in model.variables]
assert all((a == b).all() for a, b in zip(before, after, strict=True)), (before, after)
print("TRAINED", adapter.framework)
"""


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_keras_on_another_backend_is_trained_and_left_as_it_was(backend: str) -> None:
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root), str(root / "adapters")])
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", BACKEND], capture_output=True, text=True, timeout=120, env=environment
    )
    assert f"TRAINED {backend}" in done.stdout, done.stderr[-2000:]
