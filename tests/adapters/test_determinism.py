"""A model that draws random numbers, or keeps a state, is found out; the caller's random state is as it was."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

import porting_check as pc
from porting_check.recorder.registry import load_adapter

X = np.random.default_rng(0).standard_normal((2, 6)).astype("f4")


class Noisy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(6, 3)

    def forward(self, x):
        return self.linear(x) + torch.randn(3)


class Counting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        return x * self.count


class KerasNoise(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seed)


class GraphNoise(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None, 6), tf.float32)])
    def __call__(self, x):
        return x + tf.random.normal(tf.shape(x))


@pytest.mark.parametrize(
    ("framework", "build"),
    [
        ("torch", Noisy),
        ("torch", Counting),
        ("torch", lambda: torch.nn.Sequential(torch.nn.Linear(6, 3), torch.nn.Dropout())),
        ("tensorflow", lambda: keras.Sequential([keras.Input((6,)), KerasNoise()])),
        ("tensorflow", GraphNoise),
    ],
)
def test_two_runs_of_a_model_that_is_not_deterministic_differ(framework, build):
    adapter, model = load_adapter(framework), build()
    first, second = adapter.repeat(model, {"0": X})
    assert not np.array_equal(first["0"], second["0"])
    if build is GraphNoise:
        return  # the kernel of an unseeded graph operator keeps a state of its own, which nothing can set back
    again = adapter.predict(model, {"0": X})
    np.testing.assert_array_equal(first["0"], again["0"], err_msg="the random state was not restored")


@pytest.mark.parametrize(
    ("framework", "build"),
    [
        ("torch", lambda: torch.nn.Linear(6, 3)),
        ("tensorflow", lambda: keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])),
    ],
)
def test_two_runs_of_a_deterministic_model_are_equal(framework, build):
    first, second = load_adapter(framework).repeat(build(), {"0": X})
    np.testing.assert_array_equal(first["0"], second["0"])


def test_the_report_warns_of_a_side_that_is_not_deterministic():
    model = Noisy()
    report = pc.compare(model, model, X)
    assert any("not deterministic" in warning for warning in report.warnings)
    assert report.reference.checks.repeat_difference > 0
