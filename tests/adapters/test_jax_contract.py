"""What the JAX adapter promises beside the trace: nothing changed, errors that say what to do, what is known."""

from __future__ import annotations

from typing import Any

import equinox
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from porting_check_jax import JaxAdapter

from porting_check.neutral.errors import ModelError, RunError, UnsupportedNode
from porting_check.neutral.trace import MemorySink
from tests.adapters.jax_recording import (
    FIRST,
    IMAGE,
    KEY,
    ROWS,
    EquinoxNet,
    NnxNet,
    checked,
    linen_net,
    record,
)


def test_nothing_is_changed_by_recording() -> None:
    """Classes, flags, inputs, state of the model."""
    model = NnxNet()
    model.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(3))
    calls = [vars(cls)["__call__"] for cls in (nnx.Conv, nnx.BatchNorm, NnxNet)]
    state = jax.tree_util.tree_leaves(nnx.to_pure_dict(nnx.state(model, nnx.RngCount)))
    given = IMAGE.copy()
    record(model, given)
    assert [vars(cls)["__call__"] for cls in (nnx.Conv, nnx.BatchNorm, NnxNet)] == calls
    assert jax.tree_util.tree_leaves(nnx.to_pure_dict(nnx.state(model, nnx.RngCount))) == state
    np.testing.assert_array_equal(given, IMAGE)
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize("make", [linen_net, NnxNet, EquinoxNet])
def test_a_model_that_raises_names_the_layer_and_leaves_everything_as_it_was(make: Any) -> None:
    """The framework's first line, the layer, the shapes; afterwards the right input still runs."""
    model = make()
    wrong = np.ones((2, 8, 8, 7), np.float32) if make is not EquinoxNet else np.ones((7, 8, 8), np.float32)
    right = IMAGE if make is not EquinoxNet else FIRST[0]
    calls = [vars(cls)["__call__"] for cls in (nnx.Conv, equinox.nn.Linear)]
    with pytest.raises(RunError, match=r"layer conv.*inputs: 0"):
        record(model, wrong)
    assert [vars(cls)["__call__"] for cls in (nnx.Conv, equinox.nn.Linear)] == calls
    checked(model, right)


def test_dropout_in_training_mode_runs_goes_on_and_is_put_back() -> None:
    """Two runs differ, the model's counter does not move, and the layer is named."""

    class Drops(nnx.Module):
        def __init__(self) -> None:
            self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))

        def __call__(self, x: Any) -> Any:
            return self.drop(x)

    model, adapter = Drops(), JaxAdapter()
    first, second = adapter.repeat(model, {"0": ROWS})
    again, _ = adapter.repeat(model, {"0": ROWS})
    assert (first["0"] != second["0"]).any() and (first["0"] == again["0"]).all()
    assert adapter.training(model) == ("drop",)
    record(model, ROWS)
    assert adapter.training(EquinoxNet()) == ()


def test_linen_without_variables_or_with_the_wrong_ones_says_what_to_do() -> None:
    """No traceback of flax."""
    module, variables = linen_net()
    with pytest.raises(ModelError, match=r"\(module, variables\)"):
        JaxAdapter().predict(module, {"0": IMAGE})
    with pytest.raises(RunError, match="norm"):
        record((module, {"params": variables["params"]}), IMAGE)
    drops = nn.Dropout(0.5, deterministic=False)
    with pytest.raises(RunError, match="deterministic"):
        record((drops, {}), ROWS)


def test_what_is_known_of_inputs() -> None:
    """Layouts of convolutions, limits of embeddings, names of arguments."""
    adapter = JaxAdapter()
    (spec,) = adapter.inputs(linen_net())
    assert (spec.name, spec.layout, spec.dtype) == ("0", "NHWC", "float32")
    assert adapter.inputs(NnxNet())[0].layout == "NHWC"
    assert adapter.inputs(EquinoxNet())[0].layout == "CHW"
    embed = nn.Embed(11, 4)
    assert adapter.inputs((embed, embed.init(KEY, jnp.zeros(2, int))))[0].limit == 11
    assert [spec.name for spec in adapter.inputs(lambda x, y, *, scale, mode=1: x)] == ["0", "1", "scale"]


def test_what_the_adapter_owns() -> None:
    """Not what belongs to others, and no plain data."""
    adapter = JaxAdapter()
    for model in (linen_net(), NnxNet(), EquinoxNet(), jax.jit(jnp.sin), (jnp.dot, {"w": ROWS})):
        assert adapter.owns(model)
    for other in ("text", (1, 2), [ROWS], int, ROWS):
        assert not adapter.owns(other)


@pytest.mark.parametrize("float64", [False, True])
def test_one_layer_runs_alone(float64: bool) -> None:
    """Native replay, also in float64, which is switched off again."""
    models = ((linen_net(), IMAGE), (NnxNet(), IMAGE), (jax.vmap(EquinoxNet()), FIRST))
    for model, x in models:
        adapter, sink = JaxAdapter(), MemorySink()
        adapter.record(model, {"0": x}, sink)
        (found,) = adapter.replay(model, "conv", [x], float64=float64)
        assert found.dtype == (np.float64 if float64 else np.float32)
        np.testing.assert_allclose(found, sink.values["conv:0"], rtol=1e-4, atol=1e-5)
        with pytest.raises(UnsupportedNode, match="nowhere"):
            adapter.replay(model, "nowhere", [x])
    assert not jax.config.jax_enable_x64


def test_the_environment_names_versions_and_modes() -> None:
    """What changes numbers is written down."""
    found = JaxAdapter().environment()
    assert {"jax", "jaxlib", "flax", "equinox", "numpy"} <= set(found.versions)
    assert {"jax_enable_x64", "jax_default_matmul_precision", "platform"} <= set(found.modes)
