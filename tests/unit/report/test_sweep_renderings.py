"""A sweep as text, Markdown, CSV, SVG and HTML."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import itertools
import re
import xml.etree.ElementTree as ET

import pytest

from porting_check.report import sweep_console as console
from porting_check.report.sweep_html import dumps
from porting_check.report.sweep_plot import HEIGHT, WIDTH, kinds, plot, svg
from tests.unit.report import sweep_examples as examples

ALL = list(examples.EXAMPLES)


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        (
            "agree",
            "AGREE: torch, jax compute Gemm() within round-off at all 4 points, dimension from 16 to 1024",
        ),
        ("differ", "DIFFER: 1 of 3 points of Gemm(); first at dimension 64: jax"),
        ("inconclusive", "INCONCLUSIVE: 1 of 2 points not computed by all, or not decided"),
    ],
)
def test_the_first_line_is_the_answer(name, begins):
    assert str(examples.EXAMPLES[name]()).splitlines()[0].startswith(begins)


def test_growth_is_said_beside_what_theory_says():
    text = str(examples.agree())
    said = " ".join(text.split())
    assert (
        "grows as dimension to the power of: torch +0.50, jax +0.50; theory: +0.50 with sums taken term"
        in said
    )
    assert "+0.00 with sums taken in blocks" in said
    assert (
        "The sum of absolute differences grows as dimension to the power of +0.50; predicted at most: +0.50"
        in said
    )


def test_the_table_has_a_row_per_point_and_a_column_per_framework():
    head, body = console.rows(examples.agree())
    assert head == [
        "dimension", "terms", "torch", "jax", "in blocks", "term by term", "any order", "sum |d|", "predicted",
    ]  # fmt: skip
    assert [row[0] for row in body] == ["16", "64", "256", "1024"]
    assert body[0][2] == "1.2e-07 (0.3)"
    assert body[0][7:] == ["2.4e-05", "3.0e-06 to 2.1e-04"]


def test_columns_that_say_nothing_are_left_out():
    head, _ = console.rows(examples.unknown_operator())
    assert head == ["dimension", "f", "g", "sum |d|"]


def test_a_chain_shows_the_layer_and_the_end():
    _, body = console.rows(examples.chain())
    assert body[3][2] == "3.0e-08 (0.3) → 1.7e-07"
    assert "End-to-end error along the chain" in str(examples.chain())


def test_what_failed_is_named_with_its_reason():
    text = str(examples.inconclusive())
    assert "jax at dimension 2: refused, jax has no such operator" in text
    assert "tensorflow did not run: it is not installed" in text
    assert "not run" in text
    assert "jax at dimension 64: divergent, largest error" in str(examples.differ())


def test_a_long_sweep_is_cut_and_says_so():
    made = examples.agree(points=tuple(examples.point(value) for value in range(1, 31)))
    assert "… and 20 points more" in console.render(made, limit=10)
    assert "…" not in console.render(made, limit=None)


@pytest.mark.parametrize("name", ALL)
def test_no_line_holds_a_control_character(name):
    for text in (
        console.render(examples.EXAMPLES[name](), width=90),
        console.markdown(examples.EXAMPLES[name]()),
    ):
        assert all(line.isprintable() for line in text.splitlines())


def test_markdown_keeps_hostile_names_inside_their_cells():
    text = console.markdown(examples.hostile())
    table = [line for line in text.splitlines() if line.startswith("|")]
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table}
    assert len(columns) == 1
    outside = text.split("```text")[0]
    assert "<script>" not in outside.replace("\\<", "")


def test_csv_has_a_row_per_column_and_one_per_two():
    table = list(csv.DictReader(io.StringIO(console.csv_text(examples.agree()))))
    assert tuple(table[0]) == console.COLUMNS
    assert [row["name"] for row in table[:3]] == ["torch", "jax", "torch"]
    assert (table[2]["against"], float(table[2]["sum_abs"])) == ("jax", 100 * examples.UNIT * 4)
    assert float(table[0]["relative"]) == pytest.approx(2 * examples.UNIT)


def test_csv_runs_no_formula():
    made = examples.agree(quantity="=1+1")
    table = list(csv.DictReader(io.StringIO(console.csv_text(made))))
    assert table[0]["quantity"] == "'=1+1"


# ----------------------------------------------------------------------------------------------------
# The drawing


@pytest.mark.parametrize("name", ALL)
def test_all_that_is_drawn_lies_inside_the_box(name):
    made = examples.EXAMPLES[name]()
    for kind in kinds(made):
        drawn = plot(made, kind)
        assert drawn is not None
        assert all(
            drawn.left <= mark.x <= drawn.right and drawn.top <= mark.y <= drawn.bottom
            for curve in drawn.curves
            for mark in curve.marks
        )
        assert all(0 < x < WIDTH for x, _ in drawn.columns)
        assert all(0 < y < HEIGHT for y, _ in drawn.heights)


def test_both_axes_are_logarithmic_so_that_a_power_is_a_line():
    drawn = plot(examples.agree())
    assert drawn is not None
    marks = drawn.curves[0].marks
    slopes = [(b.y - a.y) / (b.x - a.x) for a, b in itertools.pairwise(marks)]
    assert max(slopes) - min(slopes) < 0.01
    assert slopes[0] < 0  # a larger error stands higher
    assert [label for _, label in drawn.columns] == ["16", "64", "256", "1024"]
    assert drawn.x_label == "dimension, logarithmic"


def test_values_that_have_no_logarithm_are_drawn_evenly():
    drawn = plot(examples.unknown_operator())
    assert drawn is not None
    xs = [mark.x for mark in drawn.curves[0].marks]
    assert (xs[1] - xs[0]) * 2 == pytest.approx(xs[2] - xs[1], abs=0.3)
    assert drawn.x_label == "dimension"


def test_zero_and_what_is_not_finite_have_lanes_of_their_own():
    drawn = plot(examples.not_finite(), "error")
    assert drawn is not None
    assert drawn.curves[0].marks[1].y == drawn.zero
    assert drawn.curves[1].marks[1].y == drawn.infinite
    assert drawn.curves[1].marks[1].bad
    regular = plot(examples.agree())
    assert regular is not None
    assert (regular.zero, regular.infinite) == (None, None)


def test_what_is_asked_is_drawn_first():
    assert kinds(examples.agree()) == ("error", "sum")
    assert kinds(examples.functions()) == ("sum", "error")
    assert kinds(examples.chain()) == ("error",)
    assert kinds(examples.unknown_operator()) == ("sum",)


def test_a_chain_is_drawn_from_end_to_end_with_each_layer_dotted():
    drawn = plot(examples.chain())
    assert drawn is not None
    assert all(curve.faint for curve in drawn.curves)
    heights = [mark.y for mark in drawn.curves[0].marks]
    assert heights == sorted(heights, reverse=True)
    assert len({curve.shape for curve in drawn.curves}) == 2


@pytest.mark.parametrize("name", ALL)
def test_the_svg_is_well_formed_self_contained_and_inert(name):
    text = svg(examples.EXAMPLES[name]())
    root = ET.fromstring(text)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "style", "title", "rect", "text", "g", "line", "path", "circle"}
    attributes = {key for element in root.iter() for key in element.attrib}
    assert not {key for key in attributes if key.startswith("on") or key.endswith("href") or key == "style"}
    assert "url(" not in text
    assert "@import" not in text


def test_the_svg_shows_band_limit_and_both_colour_schemes():
    root = ET.fromstring(svg(examples.agree()))
    classes = [element.get("class", "") for element in root.iter()]
    assert {"band", "upper", "limit", "curve"} <= set(classes)
    assert "prefers-color-scheme: dark" in svg(examples.agree())


def test_nothing_to_draw_is_said():
    assert "nothing to draw" in svg(examples.agree(points=(examples.point(1, measures={}, gaps=()),)))


# ----------------------------------------------------------------------------------------------------
# The page


@pytest.mark.parametrize("name", ALL)
def test_the_page_allows_its_own_style_and_nothing_else(name):
    text = dumps(examples.EXAMPLES[name]())
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert len(styles) == 1
    digest = base64.b64encode(hashlib.sha256(styles[0].encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1].replace("&#39;", "'").startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    assert "<script" not in text
    assert "<img" not in text
    assert " style=" not in text
    assert dumps(examples.EXAMPLES[name]()) == text


def test_the_page_shows_the_answer_the_drawings_and_the_numbers():
    text = dumps(examples.functions())
    assert text.count("<svg") == 2
    assert "AGREE: formula, F.linear compute" in text
    assert text.count("<tr") == 4
