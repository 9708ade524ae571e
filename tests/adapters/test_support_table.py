"""The committed table of support is what the adapters declare; the conformance suite holds that true."""

from __future__ import annotations

from pathlib import Path

import pytest

from porting_check.testing import support
from porting_check.testing.operators import Operators, operators_of

DOCUMENT = Path(__file__).resolve().parents[2] / "adapters" / "README.md"


def test_the_committed_table_is_the_computed_one():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == support.rewritten(text, support.page()), "run: python -m porting_check.testing.support"


@pytest.mark.parametrize("framework", ["torch", "tensorflow", "jax"])
def test_at_least_130_operators_pass_every_case(framework):
    known = operators_of(support.load_adapter(framework))
    assert sum(support.status(known, op_type) == "supported" for op_type in support.operators()) >= 130


def test_each_status_is_told_from_the_others():
    gaps = {"Conv": "not yet: 3-D", "Gelu": "impossible: no such kernel"}
    known = Operators(frozenset({"Relu", "Conv", "Gelu", "Exp"}), gaps, {"Exp": "no kernel for float64"})
    found = [support.status(known, name) for name in ("Relu", "Conv", "Gelu", "Abs")]
    assert found == ["supported", "not yet", "impossible", "not yet"]
    lines = support.table({"some": known}).splitlines()
    assert "| Relu | ✓ |" in lines
    assert "| Conv | not yet <sup>1</sup> |" in lines
    assert lines[-3:] == [
        "1. some: not yet: 3-D",
        "2. some: not in float64: no kernel for float64",
        "3. some: impossible: no such kernel",
    ]


def test_a_document_without_markers_is_refused():
    with pytest.raises(ValueError, match="no lines"):
        support.rewritten("# nothing", "table")
