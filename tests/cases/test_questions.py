"""The founding questions: each is answered, and each page shows what the program itself says."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2] / "fixtures" / "questions"


def _pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("question_pages", ROOT / "pages.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


PAGES = _pages()


@pytest.fixture(scope="module")
def ask():
    """Ask one question once; answers are kept."""
    kept = {}

    def answer(question, name):
        if (question, name) not in kept:
            kept[question, name] = PAGES.load(question).SHOWN[name]()
        return kept[question, name]

    return answer


def head(text):
    """The first words of an output: its verdict, numbers left out, so that another machine may differ in digits."""
    first = text.strip().splitlines()[0]
    return re.sub(r"[\d.,]+(e[-+]\d+)?", "#", first)[:60]


@pytest.mark.parametrize("question", PAGES.questions())
def test_every_page_shows_all_answers_and_each_block_is_filled(question):
    shown = PAGES.blocks(question)
    assert set(shown) == set(PAGES.load(question).SHOWN)
    assert all(text.strip() for text in shown.values())


@pytest.mark.parametrize(
    ("question", "name"),
    [(question, name) for question in PAGES.questions() for name in PAGES.blocks(question) if name != "time"],
)
def test_a_page_says_what_the_program_says(question, name, ask):
    assert head(PAGES.text_of(ask(question, name))) == head(PAGES.blocks(question)[name])


def test_einsum_and_conv2d_are_equivalent(ask):
    for name in ("one_by_one", "grouped"):
        found = ask("einsum_or_conv2d", name)
        assert (found.verdict, found.kind) == ("equivalent", "round-off")
        assert found.shrink > 1e6
        assert "equal bits by luck" in str(found)


def test_a_bias_of_1e_5_is_missed_by_allclose_and_found_here(ask):
    question = PAGES.load("einsum_or_conv2d")
    image, weight, bias = question.data()
    torch = pytest.importorskip("torch")
    assert torch.allclose(
        question.by_einsum(image, weight, bias),
        question.by_conv2d_without_bias(image, weight, bias),
        atol=1e-4,
    )
    assert ask("einsum_or_conv2d", "wrong").verdict == "different"


def test_a_convolution_by_hand_is_round_off_although_isclose_finds_misfits(ask):
    found = int(re.search(r": (\d+) of", ask("convolution_by_hand", "misfits"))[1])
    assert found > 0
    answer = ask("convolution_by_hand", "equivalent")
    assert (answer.verdict, answer.kind) == ("equivalent", "round-off")


def test_float64_on_one_side_only_shrinks_nothing_and_the_answer_says_which_experiment_was_run(ask):
    answer = ask("convolution_by_hand", "equivalent")
    largest = {name: row.largest for name, row in answer.experiments.items()}
    both, ones = largest["float64|float64"], [largest["float32|float64"], largest["float64|float32"]]
    assert both < 1e-6 * largest["float32|float32"]
    assert min(ones) > 0.1 * largest["float32|float32"]
    assert "With float64 on one side only" in " ".join(str(answer).split())


def test_windows_spread_by_true_division_are_found(ask):
    assert ask("convolution_by_hand", "wrong").verdict == "different"


def test_linear_and_conv1d_are_equivalent_forward_and_backward(ask):
    assert ask("linear_or_conv1d", "forward").kind in ("round-off", "identical")
    answer = ask("linear_or_conv1d", "gradients")
    assert answer.verdict == "equivalent"
    assert len(answer.gradients) == 3
    assert all(gradient.verdict == "equivalent" for gradient in answer.gradients)
    assert ask("linear_or_conv1d", "wrong").verdict == "different"


def test_the_error_grows_with_depth_end_to_end_and_not_in_isolation(ask):
    growth = ask("linear_or_conv1d", "depth")
    first, last = growth.points[0].measures["torch"], growth.points[-1].measures["torch"]
    assert growth.points[-1].relative(last.end_to_end) > 2 * growth.points[0].relative(first.end_to_end)
    assert growth.points[-1].relative(last.rms) < 3 * growth.points[0].relative(first.rms)


def test_the_formula_and_the_operator_are_explained_by_their_trees(ask):
    for name in ("formula", "numpy"):
        answer = ask("linear_by_hand", name)
        assert answer.verdict == "equivalent"
        assert all(order.revealed for order in answer.orders)
    assert ask("linear_by_hand", "precision").kind == "low-precision"


def test_the_sum_of_absolute_errors_grows_as_predicted(ask):
    growth = ask("linear_by_hand", "growth")
    gaps = [point.gaps[0] for point in growth.points]
    assert gaps[-1].sum_abs > 100 * gaps[0].sum_abs
    assert all(gap.sum_abs <= gap.predicted for gap in gaps)
    assert gaps[-1].sum_abs > 0.01


def test_the_gpu_computes_the_same(ask):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here: the GPU path of linear_by_hand is not tested")
    assert PAGES.load("linear_by_hand").cuda().verdict == "equivalent"


def test_numbers_that_are_all_lower_come_from_a_truncating_accumulator(ask):
    answer = ask("tensorflow_always_lower", "numbers")
    assert answer.verdict == "low-precision" and answer.ok
    assert "truncating accumulator" in str(answer) and "no wrong layer" in str(answer)
    assert ask("tensorflow_always_lower", "rebuilt").verdict == "faithful"
    wrong = ask("tensorflow_always_lower", "wrong")
    assert wrong.verdict == "divergent" and wrong.findings[0].proven
