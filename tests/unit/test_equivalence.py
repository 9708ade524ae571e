"""``equivalent`` on functions of numpy arrays: verdicts, experiments, orders, and what cannot be told."""

from __future__ import annotations

import json

import numpy as np
import pytest

from porting_check.calling import computation, mentioned
from porting_check.equivalence import equivalent
from porting_check.equivalence_parts import axes_between
from porting_check.equivalence_verdict import Side, judge, likeness
from porting_check.neutral.errors import InputError, PortingError, RunError
from porting_check.numerics.summation_arithmetic import UNIT


def noise(*shape, seed=0):
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


X, W, B = noise(6, 70), noise(70, 9), noise(9)


def forwards(x, w, b):
    total = np.zeros((len(x), w.shape[1]), x.dtype)
    for k in range(x.shape[1]):
        total = total + x[:, k, None] * w[k]
    return total + b


def backwards(x, w, b):
    total = np.zeros((len(x), w.shape[1]), x.dtype)
    for k in reversed(range(x.shape[1])):
        total = total + x[:, k, None] * w[k]
    return total + b


def bias_first(x, w, b):
    total = np.zeros((len(x), w.shape[1]), x.dtype) + b
    for k in range(x.shape[1]):
        total = total + x[:, k, None] * w[k]
    return total


def test_two_orders_are_equivalent_and_the_trees_say_why():
    result = equivalent(forwards, backwards, X, W, B)
    assert (result.verdict, result.kind, result.ok, result.exit_status) == (
        "equivalent",
        "round-off",
        True,
        0,
    )
    assert result.terms == 71
    assert 0 < result.ratio < 1
    assert result.shrink > 1e7
    reference, candidate = result.orders
    assert reference.exact
    assert candidate.exact
    assert reference.key != candidate.key
    assert "different orders" in result.why[0]
    assert "whole of the difference" in result.why[0]
    assert "multiply, round, then add" in reference.arithmetic
    assert "bit-equal" in result.integers


def test_the_same_order_with_the_bias_elsewhere_is_told():
    result = equivalent(forwards, bias_first, X, W, B)
    assert result.orders[0].key == result.orders[1].key
    assert "same order, but they round differently" in result.why[0]
    assert "bias first" in result.orders[1].arithmetic
    assert "bias added last" in result.orders[0].arithmetic


def test_equal_bits_are_luck_only_when_the_orders_differ():
    result = equivalent(forwards, backwards, X, W, B)
    equal = forwards(X, W, B) == backwards(X, W, B)
    assert result.luck == pytest.approx(equal.mean())
    assert list(result.lucky) == list(np.flatnonzero(equal.ravel())[:64])
    assert "by luck" in str(result)
    again = equivalent(forwards, lambda x, w, b: forwards(x, w, b), X, W, B)
    assert (again.kind, again.luck, again.lucky) == ("identical", None, ())
    assert "same order and round alike" in again.why[0]


def test_all_four_experiments_are_shown_and_the_mixed_ones_do_not_shrink():
    result = equivalent(forwards, backwards, X, W, B)
    rows = result.experiments
    assert list(rows) == ["float32|float32", "float64|float64", "float32|float64", "float64|float32"]
    apart = np.abs(forwards(X, W, B).astype(np.float64) - backwards(X, W, B))
    first = rows["float32|float32"]
    assert first.largest == apart.max()
    assert first.total == pytest.approx(apart.sum())
    assert first.mean == pytest.approx(apart.mean())
    assert first.index == np.unravel_index(apart.argmax(), apart.shape)
    assert rows["float64|float64"].largest < 1e-6 * first.largest
    for name in ("float32|float64", "float64|float32"):
        assert rows[name].largest > 0.1 * first.largest
    assert "on one side only" in result.sentence
    assert "says nothing" in result.sentence


def test_the_histogram_counts_every_element():
    result = equivalent(forwards, backwards, X, W, B)
    assert sum(result.histogram.counts) == 54
    assert len(result.histogram.edges) == len(result.histogram.counts) + 1
    assert result.histogram.edges[0] == -result.experiments["float32|float32"].largest


@pytest.mark.parametrize(
    ("wrong", "looks"),
    [
        (lambda x, w, b: forwards(x, w, b) + x.dtype.type(0.01), "offset of 0.01"),
        (lambda x, w, b: forwards(x, w, b) * x.dtype.type(1.0001), "factor of 1.0001"),
        (lambda x, w, b: forwards(x, w, b)[:, ::-1].copy(), "another order"),
        (lambda x, w, b: forwards(x[:, ::-1], w, b), "largest at index"),
        (lambda x, w, b: forwards(np.tanh(x), w, b), "largest at index"),
    ],
)
def test_mistakes_are_different_and_described(wrong, looks):
    result = equivalent(forwards, wrong, X, W, B)
    assert (result.verdict, result.ok, result.exit_status) == ("different", False, 1)
    assert looks in result.where
    assert "does not" in result.sentence
    assert result.luck is None


def test_a_small_mistake_in_one_weight_is_seen():
    def nudged(x, w, b):
        w = w.copy()
        w[3, 4] *= w.dtype.type(1.001)
        return forwards(x, w, b)

    assert equivalent(forwards, nudged, X, W, B, orders=False).verdict == "different"


def test_reduced_precision_is_named_though_the_function_is_the_same():
    def half(x, w, b):
        if x.dtype == np.float64:
            return forwards(x, w, b)
        narrow = [a.astype(np.float16).astype(np.float32) for a in (x, w)]
        return forwards(*narrow, b)

    result = equivalent(forwards, half, X, W, B)
    assert (result.verdict, result.kind) == ("equivalent", "low-precision")
    assert "The candidate computes with both operands rounded to" in result.sentence
    assert "float16" in result.sentence or "TF32" in result.sentence


def test_a_float32_bug_that_float64_does_not_have_is_different():
    def broken(x, w, b):
        made = forwards(x, w, b)
        if x.dtype == np.float32:
            made[1, 2] += np.float32(3)
        return made

    assert equivalent(forwards, broken, X, W, B).verdict == "different"


def test_float32_inside_is_recognised_and_does_not_count_as_float64():
    def inside(x, w, b):
        return backwards(*(a.astype(np.float32) for a in (x, w, b))).astype(x.dtype)

    result = equivalent(forwards, inside, X, W, B)
    assert result.verdict == "equivalent"
    assert "float32 inside" in result.experiments["float64|float64"].missing
    assert any("float32 inside" in note for note in result.notes)
    wrong = equivalent(forwards, lambda x, w, b: inside(x, w, b) * x.dtype.type(1.01), X, W, B)
    assert wrong.verdict == "different"


def test_data_movement_in_float64_is_not_mistaken_for_float32_inside():
    result = equivalent(lambda x: x, lambda x: x * x.dtype.type(1.01), X)
    assert result.verdict == "different"
    assert "factor of 1.01" in result.where
    assert not result.notes


def test_a_difference_below_float32_resolution_is_undecided():
    result = equivalent(lambda x: np.tanh(x), lambda x: np.tanh(x) * (1 + x.dtype.type(1e-9)), X)
    assert (result.verdict, result.exit_status) == ("undecided", 4)
    assert "less than float32 can resolve" in result.sentence


def test_other_functions_are_judged_by_how_they_answer_to_rounding():
    def direct(x):
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def logs(x):
        top = x.max(-1, keepdims=True)
        return np.exp(x - top - np.log(np.exp(x - top).sum(-1, keepdims=True)))

    result = equivalent(direct, logs, X)
    assert (result.verdict, result.kind) == ("equivalent", "round-off")
    assert not result.order("reference").revealed
    assert result.order("reference").reason


def test_long_positive_sums_are_round_off():
    ones = np.abs(noise(3, 20000)) + 100
    result = equivalent(lambda x: x.sum(-1), lambda x: np.cumsum(x, -1)[:, -1], ones, limit=100)
    assert result.verdict == "equivalent"
    assert "limit of 100" in result.orders[0].reason


def test_shapes_never_broadcast_and_nan_is_a_verdict():
    shapes = equivalent(forwards, lambda x, w, b: forwards(x, w, b)[:1], X, W, B)
    assert shapes.verdict == "different"
    assert "shapes (6, 9) and (1, 9)" in shapes.sentence
    assert shapes.experiments["float32|float32"].largest is None

    def nan(x, w, b):
        made = forwards(x, w, b)
        made[0, 0] = np.nan
        return made

    assert equivalent(forwards, nan, X, W, B).verdict == "different"
    assert equivalent(nan, nan, X, W, B).kind == "identical"


def test_a_function_that_answers_differently_each_time_is_reported():
    rng = np.random.default_rng(0)
    result = equivalent(forwards, lambda x, w, b: forwards(x, w, b) + rng.standard_normal(9), X, W, B)
    assert result.verdict == "different"
    assert any("each time" in note for note in result.notes)


def test_several_outputs_are_compared_together():
    result = equivalent(
        lambda x: (x + 1, np.sqrt(np.abs(x))), lambda x: (x + 1, np.sqrt(np.abs(x)) * x.dtype.type(1.1)), X
    )
    assert result.verdict == "different"
    assert equivalent(lambda x: (x + 1, x), lambda x: (1 + x, x), X).kind == "identical"


def test_gradients_of_numpy_functions_are_refused_with_the_reason():
    result = equivalent(forwards, backwards, X, W, B, gradients=True, orders=False)
    assert result.verdict == "undecided"
    assert "cannot be differentiated" in result.gradients[0].reason


def test_the_result_is_saved_in_three_forms(tmp_path):
    result = equivalent(forwards, backwards, X, W, B)
    data = json.loads(result.save(tmp_path / "e.json").read_text())
    assert (data["verdict"], data["orders"][0]["terms"]) == ("equivalent", 70)
    text = result.save(tmp_path / "e.txt").read_text()
    assert text.startswith("Equivalent: the two differ by at most")
    assert "chain of 70" in text
    page = result.save(tmp_path / "e.md").read_text()
    assert page.startswith("**Equivalent:")
    assert "| float64 \\| float64 |" in page
    with pytest.raises(PortingError, match=r"\.json \.md \.txt"):
        result.save(tmp_path / "e.pdf")
    with pytest.raises(TypeError, match="three verdicts"):
        bool(result)


def test_json_holds_no_bare_infinity():
    result = equivalent(lambda x: x.sum(-1), lambda x: x[:, ::-1].sum(-1), noise(4, 33), orders=False)
    assert "Infinity" not in json.loads(result.to_json()).__repr__() or '"Infinity"' in result.to_json()
    json.loads(result.to_json(), parse_constant=lambda name: pytest.fail(name))


def test_wrong_use_is_explained():
    with pytest.raises(InputError, match="at least one array"):
        equivalent(forwards, backwards)
    with pytest.raises(RunError, match=r"backwards raised .*float32\(6, 70\)"):
        equivalent(backwards, backwards, X, B, W)
    with pytest.raises(PortingError, match="frameworks loaded|expected a function"):
        equivalent(lambda x: x, 7, X)
    with pytest.raises(RunError, match="expected arrays of numbers"):
        equivalent(lambda x: "text", lambda x: x, X)


def test_the_device_of_numpy_functions_cannot_be_chosen():
    with pytest.raises(PortingError, match="chooses its device itself"):
        equivalent(forwards, backwards, X, W, B, device="cuda")


def test_what_names_no_framework_is_called_with_numpy():
    assert computation(lambda x: x @ x).framework == "numpy"
    assert computation(np.matmul).framework == "numpy"
    assert "numpy" in mentioned(forwards)

    def helper(x):
        return np.sum(x)

    assert "numpy" in mentioned(lambda x: helper(x))


def test_arguments_are_not_changed_by_a_function_that_writes_into_them():
    def writes(x):
        x += 1
        return x

    before = X.copy()
    assert equivalent(writes, lambda x: x + 1, X, orders=False).kind == "identical"
    assert np.array_equal(X, before)


def test_a_revealed_order_settles_an_error_that_is_unusual_but_possible():
    rng = np.random.default_rng(1)
    truth = np.array([1e-3] * 300)
    single = (truth + rng.standard_normal(300) * 3 * UNIT * 10).astype(np.float32)
    from porting_check.numerics.summation_units import Sums

    sums = Sums(40000, np.full(300, 100.0), np.full(300, 0.02))
    exact = Side(truth.astype(np.float32), truth, sums)
    assert judge(exact, Side(single, truth, sums)).verdict == "undecided"
    assert judge(exact, Side(single, truth, sums, settled=True)).verdict == "equivalent"


def test_axes_are_found_by_the_values_alone():
    kernel = noise(3, 4, 5)
    assert axes_between(kernel, kernel.transpose(2, 0, 1)) == (2, 0, 1)
    assert axes_between(kernel, kernel[:, None]) == (0, 1, 2)
    assert axes_between(kernel, kernel + np.float32(1e-6)) is None
    assert axes_between(kernel, kernel[..., 0]) is None


def test_a_shift_is_recognised():
    image = noise(4, 9, 11).astype(np.float64)
    assert "shift by 1 along axis 2" in likeness(image, np.roll(image, -1, 2)) or "another order" in likeness(
        image, np.roll(image, -1, 2)
    )
    moved = np.concatenate([image[:, :, 1:], noise(4, 9, 1).astype(np.float64)], axis=2)
    assert "shift by 1 along axis 2" in likeness(image, moved)
