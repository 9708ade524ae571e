"""The table of versions: verdict, answer, and every form of it; hostile names do nothing."""

from __future__ import annotations

import csv
import io
import json

import pytest

from porting_check.neutral.errors import PortingError
from porting_check.neutral.trace import Environment
from porting_check.report.version_console import HEAD, headline, markdown, render
from porting_check.report.version_table import Change, Place, VersionRow, VersionTable

CONV = Place(
    layer="layer1.0.conv1",
    op="Conv",
    ratio=0.31,
    before=0.2,
    after=0.31,
    largest=2.4e-7,
    explanation="within",
)


def change(reference: str, candidate: str, verdict: str = "round-off", **more) -> Change:
    first = None if verdict == "identical" else CONV
    facts = {
        "reason": f"{verdict} it is",
        "same_outputs": verdict == "identical",
        "layers": 9,
        "changed": 0 if verdict == "identical" else 4,
        "largest": 0.0 if verdict == "identical" else 3e-7,
        "relative": 0.0 if verdict == "identical" else 1e-7,
        "first": first,
        "worst": CONV,
    }
    return Change(reference=reference, candidate=candidate, verdict=verdict, **{**facts, **more})


def environment(version: str, framework: str = "torch", **modes: str) -> Environment:
    return Environment(framework, {framework: version}, python="3.11", threads=2, modes=modes)


def row(label: str, version: str = "", framework: str = "torch", **more) -> VersionRow:
    found = environment(version, framework, mode=version) if version else None
    return VersionRow(
        label=label, title=f"docker:{framework}:{version}", model="net.py:build", environment=found, **more
    )


def table(*verdicts: str) -> VersionTable:
    """Versions 1.0, 2.0, … of torch; each verdict is both the change from the one before and from the first."""
    rows = [row("torch 1.0", "1.0")]
    last = "torch 1.0"
    for number, verdict in enumerate(verdicts, 2):
        label = f"torch {number}.0"
        if verdict == "failed":
            rows.append(row(label, error="the image is missing"))
            continue
        more = {"divergence": CONV, "cause": "conv-padding"} if verdict == "divergent" else {}
        rows.append(
            row(
                label,
                f"{number}.0",
                against_baseline=change("torch 1.0", label, verdict, **more),
                against_previous=change(last, label, verdict, **more),
            )
        )
        last = label
    return VersionTable(model="net.py:build", rows=tuple(rows), baseline="torch 1.0")


@pytest.mark.parametrize(
    ("verdicts", "verdict", "status"),
    [
        (("identical", "round-off"), "agree", 0),
        (("low-precision",), "agree", 0),
        (("round-off", "divergent"), "differ", 1),
        (("failed", "divergent"), "differ", 1),
        (("undecided", "round-off"), "inconclusive", 4),
        (("failed", "round-off"), "inconclusive", 4),
        (("failed", "failed"), "inconclusive", 3),
        ((), "inconclusive", 4),
    ],
)
def test_the_verdict_of_the_whole(verdicts, verdict, status):
    made = table(*verdicts)
    assert (made.verdict, made.ok, made.exit_status) == (verdict, verdict == "agree", status)


def test_the_answer_names_the_first_version_that_changed_the_numbers():
    said = headline(table("identical", "round-off", "round-off"))
    assert said == (
        "AGREE: torch 2.0 → 3.0 changed the numbers first, at layer1.0.conv1 (Conv): by up to 2.4e-07, 0.31 of what "
        "round-off allows; torch 3.0 → 4.0 changed them again; no version computes another function"
    )
    assert headline(table("identical")) == "AGREE: the same bits in every layer of all 2 environments"
    assert headline(table("round-off", "divergent")).startswith(
        "DIFFER: torch 2.0 → 3.0 computes another function first at layer1.0.conv1 (Conv)"
    )
    assert "[conv-padding]: within" in headline(table("divergent"))
    failed = headline(table("failed", "round-off"))
    assert failed.startswith("INCONCLUSIVE: torch 2.0 could not be recorded; ")
    assert "torch 1.0 → 3.0 changed the numbers first" in failed
    assert "undecided it is" in headline(table("undecided"))


def test_a_divergence_from_the_baseline_alone_is_no_agreement():
    made = table("round-off", "round-off")
    far = change("torch 1.0", "torch 3.0", "divergent", divergence=CONV)
    rows = (
        *made.rows[:2],
        row("torch 3.0", "3.0", against_baseline=far, against_previous=made.rows[2].against_previous),
    )
    wrong = VersionTable(model="m", rows=rows, baseline="torch 1.0")
    assert wrong.verdict == "differ"
    assert headline(wrong).startswith("DIFFER: torch 1.0 → 3.0 computes another function")


def test_both_comparisons_are_shown_where_they_differ():
    text = render(table("identical", "round-off"))
    lines = text.splitlines()
    assert "Against the baseline, torch 1.0" in lines
    assert "Each against the one before" in lines
    assert [line for line in lines if line.startswith("  torch 2.0 → 3.0  changed ")]
    assert [line for line in lines if line.startswith("  environment")]
    assert "mode differs: torch 1.0: 1.0; torch 2.0: 2.0; torch 3.0: 3.0" in text
    assert "Each against the one before" not in render(
        VersionTable(
            model="m",
            rows=(row("a", "1"), row("b", "2", against_baseline=(c := change("a", "b")), against_previous=c)),
            baseline="a",
        )
    )


def test_a_narrow_page_is_kept():
    for line in render(table("round-off", "divergent"), width=100).splitlines()[1:]:
        assert len(line) <= 112, line


def test_failures_and_weights_are_told():
    made = table("failed")
    rows = (
        made.rows[0],
        made.rows[1],
        row(
            "torch 3.0",
            "3.0",
            weights="the baseline's, put in by name",
            against_baseline=change("torch 1.0", "torch 3.0"),
        ),
    )
    text = str(VersionTable(model="m", rows=rows, baseline="torch 1.0", notes=("on two machines",)))
    assert "torch 2.0 could not be recorded: the image is missing" in text
    assert "torch 3.0: weights: the baseline's, put in by name" in text
    assert "on two machines" in text


HOSTILE = "<script>alert(1)</script>|`\x1b[31m\u202e=1+1"


def hostile() -> VersionTable:
    where = Place(layer=HOSTILE, op=HOSTILE, ratio=float("nan"), largest=float("inf"), explanation=HOSTILE)
    wrong = change(
        HOSTILE,
        HOSTILE,
        "divergent",
        first=where,
        worst=where,
        divergence=where,
        cause="unknown",
        reason=HOSTILE,
    )
    rows = (
        VersionRow(label=HOSTILE, title=HOSTILE, model=HOSTILE, environment=environment("1")),
        VersionRow(
            label="=2+2", title="t", model="m", environment=environment("2"), against_baseline=wrong, against_previous=wrong,
            weights=HOSTILE,
        ),
        VersionRow(label="bad", title="t", model="m", error=HOSTILE),
    )  # fmt: skip
    return VersionTable(model=HOSTILE, rows=rows, baseline=HOSTILE, notes=(HOSTILE,))


@pytest.mark.parametrize("suffix", ["html", "json", "csv", "md", "txt"])
def test_no_form_lets_a_hostile_name_act(tmp_path, suffix):
    path = hostile().save(tmp_path / f"t.{suffix}")
    text = path.read_text(encoding="utf-8")
    assert "\x1b" not in text
    if suffix != "json":
        assert "\u202e" not in text
    if suffix in ("html", "md"):
        assert "<script" not in text.replace("\\<script", "")
    if suffix == "md":
        assert all(line.count(" | ") == len(HEAD) - 1 for line in text.splitlines() if line.startswith("| ✗"))
    if suffix == "csv":
        for line in csv.reader(io.StringIO(text)):
            assert not any(cell.startswith(("=", "+", "@")) for cell in line)


def test_the_json_form_holds_everything_and_is_json(tmp_path):
    data = json.loads(hostile().save(tmp_path / "t.json").read_text(encoding="utf-8"))
    assert (data["kind"], data["schema"], data["verdict"]) == ("porting-check matrix", 1, "differ")
    assert data["rows"][1]["against_baseline"]["first"]["ratio"] == "NaN"
    assert data["rows"][0]["environment"]["versions"] == {"torch": "1"}


def test_the_page_is_inert_and_the_same_every_time(tmp_path):
    made = table("identical", "round-off", "divergent", "failed")
    first, second = (made.save(tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second
    page = first.decode()
    assert "default-src &#39;none&#39;; style-src &#39;sha256-" in page
    assert "<script" not in page
    for word in ("torch 2.0 → 3.0", "layer1.0.conv1", "the image is missing", "setting that differs"):
        assert word in page


def test_an_unknown_suffix_lists_the_known_ones(tmp_path):
    with pytest.raises(PortingError, match=r"saved as one of .html .json .csv .md .txt"):
        table("identical").save(tmp_path / "t.xml")


def test_markdown_has_a_table_for_each_comparison():
    text = markdown(table("identical", "round-off"))
    assert text.startswith("**AGREE: torch 2.0 → 3.0 changed the numbers first")
    assert text.count("| environment | outputs |") == 2
