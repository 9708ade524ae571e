"""The pairs as CSV."""

from __future__ import annotations

import csv
import io

import pytest

from porting_check.report import csv as report_csv
from tests.unit.report import examples


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), strict=True))


def test_one_row_per_pair_with_names_and_numbers() -> None:
    table = rows(report_csv.dumps(examples.divergent()))
    assert len(table) == 8
    assert tuple(table[0]) == report_csv.COLUMNS
    first = table[0]
    assert (first["reference"], first["candidate"], first["op"]) == ("stem_conv", "stem.0", "Conv")
    assert (first["verdict"], first["cause"], first["proven"]) == (
        "divergent",
        "conv-same-stride-asym",
        "true",
    )
    assert float(first["max_abs"]) == 0.8317
    assert (first["reference_shape"], first["parameters"], first["parameters_equal"]) == (
        "3x32x48x16",
        "2",
        "2",
    )


def test_what_was_not_measured_is_an_empty_cell_not_a_zero() -> None:
    table = rows(report_csv.dumps(examples.inconclusive()))
    assert table[4]["max_abs"] == table[4]["ratio"] == table[4]["end_to_end_max_abs"] == ""


def test_not_a_number_is_written_so_that_python_and_pandas_read_it() -> None:
    assert rows(report_csv.dumps(examples.not_a_number()))[7]["max_abs"] == "nan"


def test_hostile_names_stay_in_their_cells() -> None:
    table = rows(report_csv.dumps(examples.hostile()))
    assert len(table) == len(examples.HOSTILE)
    assert all(None not in row for row in table)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@sum"])
def test_a_name_that_a_spreadsheet_would_run_gets_an_apostrophe(name: str) -> None:
    assert rows(report_csv.dumps(examples.named(name)))[0]["reference"] == "'" + name


def test_negative_numbers_stay_numbers() -> None:
    assert float(rows(report_csv.dumps(examples.divergent()))[0]["mean_signed"]) < 0
