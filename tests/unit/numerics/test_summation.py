"""Orders of summation: known orders are revealed exactly, and reproduce their output bit for bit."""

from __future__ import annotations

import fractions
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.numerics.summation import NotASummation, SumTree, canonical, reveal
from porting_check.numerics.summation_arithmetic import (
    SPREAD,
    UNIT,
    Variant,
    evaluate,
    fma32,
    fused_addition,
    sigma,
    sum_to_float32,
    variants,
)
from porting_check.numerics.summation_order import locate, summation
from porting_check.numerics.summation_text import draw, progression, summary
from porting_check.numerics.summation_units import sums


def nested_trees(leaves):
    """Random nested lists over 0 … leaves-1, of two or more parts each."""

    def build(items, draw):
        if len(items) == 1:
            return items[0]
        parts = draw(st.integers(2, min(4, len(items))))
        cuts = sorted(draw(st.permutations(range(1, len(items))))[: parts - 1])
        bounds = [0, *cuts, len(items)]
        return [build(items[a:b], draw) for a, b in itertools.pairwise(bounds)]

    return st.composite(lambda draw: build(draw(st.permutations(range(leaves))), draw))()


def exact_fma(a, b, c):
    """Through fractions: exact, then rounded once."""
    exact = fractions.Fraction(float(a)) * fractions.Fraction(float(b)) + fractions.Fraction(float(c))
    return nearest(exact)


def nearest(exact):
    guess = np.float32(float(exact))
    near = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    return min(near, key=lambda v: (abs(fractions.Fraction(float(v)) - exact), int(v.view(np.uint32)) & 1))


def sequential(n):
    return canonical(n, [(0, 1), *[(n + k, k + 2) for k in range(n - 2)]], 2 * n - 2)


def pairwise(items):
    half = len(items) // 2
    return items[0] if len(items) == 1 else [pairwise(items[:half]), pairwise(items[half:])]


def lanes(n, width):
    """``width`` accumulators side by side, joined pairwise."""
    chains = []
    for lane in range(width):
        chain = lane
        for term in range(lane + width, n, width):
            chain = [chain, term]
        chains.append(chain)
    return SumTree.of(join(chains))


def join(parts):
    half = len(parts) // 2
    return parts[0] if len(parts) == 1 else [join(parts[:half]), join(parts[half:])]


def asked(tree):
    return reveal(tree.terms, lambda pairs: [tree.span(i, j) for i, j in pairs])


def black_box(tree, variant):
    """A matrix product whose every output is summed in the tree's order; bias as the third operand."""

    def call(arrays):
        x, w = arrays["x"], arrays["w"]
        weights = np.repeat(w[:, :, None], len(x), axis=2).transpose(1, 0, 2).reshape(w.shape[1], -1)
        values = np.repeat(x[None], len(w), axis=0).transpose(2, 0, 1).reshape(w.shape[1], -1)
        bias = np.repeat(arrays["b"], len(x)) if "b" in arrays else None
        return evaluate(tree, weights, values, variant, bias).reshape(len(w), len(x))

    return call


def data(terms, *, bias=False, seed=0):
    rng = np.random.default_rng(seed)
    made = {"x": rng.standard_normal((3, terms)), "w": rng.standard_normal((5, terms))}
    if bias:
        made["b"] = rng.standard_normal(5)
    return {name: array.astype(np.float32) for name, array in made.items()}


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 24).flatmap(nested_trees))
def test_any_tree_is_revealed_from_the_sizes_of_common_subtrees(nested):
    tree = SumTree.of(nested)
    assert asked(tree) == tree


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 20).flatmap(nested_trees), st.sampled_from(["fma", "multiply-then-add"]))
def test_a_black_box_is_revealed_and_reproduced_bit_for_bit(nested, mode):
    tree = SumTree.of(nested)
    call, arrays = black_box(tree, Variant(mode)), data(tree.terms)
    found = summation(locate(call, arrays), call(arrays))
    assert found.tree == tree
    assert found.exact
    assert found.alike == 1.0


@pytest.mark.parametrize("terms", [2, 3, 200, 1000])
def test_a_chain_met_at_its_wrong_end_is_revealed_without_asking_about_all_pairs(terms):
    chain = sequential(terms)
    backwards = canonical(
        terms,
        [tuple(terms - 1 - p if p < terms else p for p in parts) for parts in chain.nodes],
        2 * terms - 2,
    )
    count = 0

    def sizes(pairs):
        nonlocal count
        count += len(pairs)
        return [backwards.span(i, j) for i, j in pairs]

    assert reveal(terms, sizes) == backwards
    assert backwards.sequential
    assert count <= 12 * terms


def test_answers_that_contradict_each_other_are_no_summation():
    with pytest.raises(NotASummation, match="not a plain summation"):
        reveal(4, lambda pairs: [3 for _ in pairs])
    rng = np.random.default_rng(0)
    with pytest.raises(NotASummation):
        reveal(30, lambda pairs: [int(rng.integers(2, 31)) for _ in pairs])


def test_keys_differ_when_orders_do_and_shapes_are_told_from_numbers():
    first, second = SumTree.of([[0, 1], 2]), SumTree.of([[0, 2], 1])
    assert first.key != second.key
    assert first.shapes == second.shapes
    assert SumTree.of([2, [1, 0]]).key == first.key


def test_kappa_is_one_for_a_long_chain_and_small_for_lanes():
    assert sequential(2000).kappa == pytest.approx(1.0, abs=2e-3)
    assert lanes(2048, 16).kappa < 0.08
    assert SumTree.of(pairwise(range(1024))).height == 10


def test_fma_rounds_once():
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(3000).astype(np.float32) for _ in range(2))
    c = (-a.astype(np.float64) * b).astype(np.float32)
    c[::2] = rng.standard_normal(1500).astype(np.float32) * np.float32(2) ** rng.integers(-30, 30, 1500)
    made = fma32(a, b, c)
    wanted = np.array([exact_fma(x, y, z) for x, y, z in zip(a, b, c)], np.float32)
    assert np.array_equal(made, wanted)


def test_a_sum_that_float64_would_round_onto_a_tie_is_not_rounded_twice():
    tie, dust = 1.0 + 2.0**-24, 2.0**-80
    assert np.float32(tie + dust) == 1.0  # rounding twice loses the dust
    assert sum_to_float32(np.array(tie), np.array(dust)) == np.float32(1 + 2.0**-23)
    assert sum_to_float32(np.array(tie), np.array(-dust)) == np.float32(1)
    assert sum_to_float32(np.array(-tie), np.array(-dust)) == np.float32(-(1 + 2.0**-23))


def test_fma_and_multiply_then_add_are_told_apart():
    tree = lanes(64, 4)
    for mode, words in (("fma", "fused multiply-add"), ("multiply-then-add", "multiply, round, then add")):
        arrays = data(64)
        call = black_box(tree, Variant(mode))
        found = summation(locate(call, arrays), call(arrays))
        assert (found.tree.key, found.words, found.exact) == (tree.key, words, True)


def test_of_two_products_it_is_told_which_is_rounded_first():
    tree = sequential(6)
    call, arrays = black_box(tree, Variant("fma", higher_first=True)), data(6)
    found = summation(locate(call, arrays), call(arrays))
    assert found.variant == Variant("fma", higher_first=True)
    assert found.exact


@pytest.mark.parametrize("place", ["last", "first", "joint"])
def test_where_the_bias_is_added_is_found(place):
    blocks = [[[[0, 1], 2], [[3, 4], 5]], [[6, 7], 8]]
    tree = SumTree.of(blocks)
    at = {"last": tree.root, "first": 0, "joint": tree.terms + 1}[place]
    variant = Variant("fma", at)
    call, arrays = black_box(tree, variant), data(9, bias=True)
    found = summation(locate(call, arrays), call(arrays))
    assert found.exact
    assert found.variant == variant
    assert {"last": "bias added last", "first": "bias first", "joint": "after the first 3 terms"}[
        place
    ] in found.words


def test_a_tree_of_another_order_does_not_reproduce_the_output():
    call, arrays = black_box(lanes(128, 8), Variant("fma")), data(128)
    output = call(arrays)
    weights = np.repeat(arrays["w"].T[:, :, None], 3, axis=2).reshape(128, -1)
    values = np.repeat(arrays["x"].T[:, None, :], 5, axis=1).reshape(128, -1)
    for variant in variants(sequential(128), False):
        assert (evaluate(sequential(128), weights, values, variant) == output.ravel()).mean() < 0.9


def test_fused_additions_of_several_parts_are_found():
    blocks = [[0, 1, 2, 3], [4, 5, 6, 7]]
    tree = SumTree.of([blocks[0], blocks[1]])
    call, arrays = black_box(tree, Variant("fma")), data(8)
    found = summation(locate(call, arrays), call(arrays))
    assert found.tree == tree
    assert "fused addition of 4 parts" in draw(SumTree.of([0, 1, 2, 3]))


def test_sigma_predicts_the_spread_of_the_errors_of_any_order_and_data():
    rng = np.random.default_rng(3)
    for tree in (sequential(300), lanes(300, 8)):
        for shift in (0.0, 5.0):
            weights, values = rng.standard_normal((2, 300, 2000)).astype(np.float32) + np.float32(shift)
            error = evaluate(tree, weights, values, Variant("fma")) - np.einsum(
                "tk,tk->k", weights.astype(np.float64), values.astype(np.float64)
            )
            assert 0.7 < np.sqrt(np.mean((error / sigma(tree, weights, values)) ** 2)) < 1.3


def test_an_order_that_is_revealed_accounts_for_its_errors():
    call, arrays = black_box(sequential(200), Variant("fma")), data(200)
    found = summation(locate(call, arrays), call(arrays))
    assert 0.3 < found.deviation < 2
    assert sums(locate(call, arrays), (5, 3)).terms == 200


def test_sums_measure_magnitudes_squares_and_the_bias():
    arrays = data(50, bias=True)
    arrays = {name: array * np.float32(1e-5) for name, array in arrays.items()}
    call = black_box(sequential(50), Variant("fma", 98))
    found = sums(locate(call, arrays), (5, 3))
    x, w, b = (arrays[name].astype(np.float64) for name in "xwb")
    assert found.terms == 51
    assert np.allclose(found.magnitudes, np.abs(w) @ np.abs(x).T + np.abs(b)[:, None], rtol=1e-5, atol=0)
    assert np.allclose(found.roots**2, w**2 @ (x**2).T + b[:, None] ** 2, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda a: np.maximum(a["x"] @ a["w"].T, 0), "not linear"),
        (lambda a: (a["x"] @ a["w"].T) * np.float32(0.37), "no count of terms"),
        (lambda a: a["x"] * a["w"][:3], "nothing is added up"),
        (
            lambda a: (a["x"].astype(np.float16) @ a["w"].T.astype(np.float16)).astype(np.float32),
            "plain summation",
        ),
    ],
)
def test_what_is_no_plain_summation_is_refused_with_the_reason(call, why):
    arrays = {**data(40), "w": data(40)["w"]}
    with np.errstate(all="ignore"), pytest.raises(NotASummation, match=why):
        summation(locate(call, arrays), np.asarray(call(arrays)))


def test_too_many_terms_are_refused_unless_the_limit_is_raised():
    call, arrays = black_box(lanes(64, 8), Variant("fma")), data(64)
    with pytest.raises(NotASummation, match="more than the limit of 63"):
        summation(locate(call, arrays), call(arrays), limit=63)
    assert summation(locate(call, arrays), call(arrays), limit=64).terms == 64


def test_outputs_that_add_in_another_order_are_counted():
    one, other = sequential(32), lanes(32, 4)

    def call(arrays):
        split = {**arrays, "w": arrays["w"][:3]}, {**arrays, "w": arrays["w"][3:]}
        return np.concatenate([black_box(t, Variant("fma"))(a) for t, a in zip((one, other), split)])

    arrays = data(32)
    found = summation(locate(call, arrays), call(arrays))
    assert found.tree in (one, other)
    assert found.alike == pytest.approx(3 / 5 if found.tree == one else 2 / 5)
    assert found.exact


def test_chains_and_equal_parts_are_folded():
    assert summary(sequential(288)) == "chain of 288 (terms 0, 1 … 287)"
    assert summary(lanes(96, 4)) == "pairwise sum of 4 equal parts, each a chain of 24"
    text = draw(lanes(96, 4))
    assert "beginning at terms 0, 1, 2, 3" in text
    assert "chain of 24 (terms 0, 4 … 92)" in text
    assert len(text.splitlines()) == 3
    assert progression([5]) == "5"


def test_a_chain_of_blocks_says_how_many():
    nested = [0, 1]
    for start in range(2, 20, 2):
        nested = [nested, [start, start + 1]]
    text = draw(SumTree.of(nested))
    assert "chain of 9 steps" in text
    assert "8 times (from terms 4, 6 … 18)" in text


def test_a_long_drawing_is_cut():
    rng = np.random.default_rng(0)
    parts = list(range(200))
    while len(parts) > 1:
        i, j = sorted(rng.choice(len(parts), 2, replace=False))
        parts[i] = [parts[i], parts.pop(j)]
    text = draw(SumTree.of(parts[0]), lines=12)
    assert len(text.splitlines()) == 13
    assert "more lines" in text


def test_constants_are_those_of_the_study():
    assert (SPREAD, UNIT) == (0.42, 2.0**-24)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 12).flatmap(nested_trees), st.randoms(use_true_random=False))
def test_renumbering_there_and_back_gives_the_same_tree(nested, random):
    tree = SumTree.of(nested)
    numbers = list(range(tree.terms))
    random.shuffle(numbers)
    back = [numbers.index(k) for k in range(tree.terms)]
    assert tree.renumbered(numbers).renumbered(back) == tree
    assert sorted(tree.renumbered(numbers).sizes) == sorted(tree.sizes)


def test_a_fused_addition_cuts_off_what_lies_below_the_largest():
    small = np.array([[1.0], [2.0**-30], [2.0**-30]])
    assert fused_addition(small) == np.float32(1)
    assert fused_addition(np.array([[1.0], [2.0**-24], [2.0**-24]])) == np.float32(1 + 2.0**-23)
    assert fused_addition(np.array([[-1.0], [-(2.0**-24)], [0.0]])) == np.float32(-1)
    assert fused_addition(np.zeros((3, 1))) == 0
