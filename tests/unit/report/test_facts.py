"""The answer in a few short texts, from hand-made reports."""

from __future__ import annotations

from dataclasses import replace

from porting_check.report import facts
from porting_check.report.json import dumps, loads
from tests.unit.report import examples


def test_a_faithful_headline_counts_the_ways_of_agreeing_and_what_was_left_out() -> None:
    answer = facts.headline(examples.faithful())
    assert answer.sentence == "all 8 pairs agree: 2 bit for bit, 6 to round-off; 1 record not compared"
    assert answer.unseen == "bn-epsilon (see Power)"
    assert not answer.layer
    assert not answer.fix


def test_a_divergent_headline_names_the_first_wrong_layer_on_both_sides() -> None:
    answer = facts.headline(examples.divergent())
    assert answer.sentence == "2 of 8 pairs differ by more than round-off can explain"
    assert answer.layer == "stem_conv ↔ stem.0  (Conv, pair 1 of 8)"
    assert answer.cause == "conv-same-stride-asym (proven)"
    assert answer.fix == examples.FIX


def test_the_first_divergence_in_execution_order_leads_not_the_first_finding() -> None:
    report = examples.divergent()
    answer = facts.headline(replace(report, findings=report.findings[::-1]))
    assert answer.cause == "conv-same-stride-asym (proven)"


def test_a_proven_finding_goes_before_a_suspected_one_about_the_same_pair() -> None:
    report = examples.divergent()
    guess = replace(report.findings[0], cause="conv-pad-wrong-side", proven=False)
    found = facts.finding_of(replace(report, findings=(guess, *report.findings)), report.pairs[0])
    assert found is not None
    assert found.cause == "conv-same-stride-asym"


def test_a_nan_is_told_as_such_and_not_as_a_number() -> None:
    answer = facts.headline(examples.not_a_number())
    assert answer.error == "NaN or infinity in 4096 places where the other side has none"


def test_a_finding_is_still_found_when_its_numbers_are_nan_and_the_report_was_read_back() -> None:
    report = examples.not_a_number()
    wrong = report.first_divergence
    assert wrong is not None
    finding = replace(examples.divergent().findings[0], pair=wrong)
    read = loads(dumps(replace(report, findings=(finding,))))
    assert read.first_divergence is not None
    assert facts.finding_of(read, read.first_divergence) is not None


def test_a_divergent_output_without_a_divergent_layer_is_the_place_to_look() -> None:
    report = examples.faithful(verdict="divergent", outputs=examples.outputs("divergent", 2.0))
    assert "(output of the model)" in facts.headline(report).layer


def test_a_divergent_report_without_any_wrong_pair_gives_its_reason() -> None:
    report = examples.faithful(verdict="divergent", reason="the candidate has no output 'logits'")
    assert facts.headline(report).sentence == "the candidate has no output 'logits'"


def test_an_unknown_cause_says_that_nothing_known_reproduces_it() -> None:
    assert facts.headline(examples.unexplained()).cause == "unknown (no known mistake reproduces it)"


def test_an_explicit_tolerance_is_the_first_notice_and_changes_the_words() -> None:
    report = examples.overridden()
    assert "rtol=0.001 and atol=1e-05" in facts.notices(report)[0]
    assert "within the tolerance given" in facts.headline(report).sentence


def test_the_worst_pair_is_one_whose_ratio_is_no_number() -> None:
    worst = facts.worst(examples.not_a_number())
    assert worst is not None
    assert worst.candidate == ("classifier",)


def test_environments_differ_only_where_both_sides_have_a_value() -> None:
    rows = {label: differs for label, _, _, differs in facts.environment_rows(examples.divergent())}
    assert rows["threads"]
    assert rows["mode float32_matmul_precision"]
    assert not any(
        rows[label] for label in ("framework", "torch", "tensorflow", "numpy", "mode onednn", "python")
    )


def test_checks_of_the_recorder_tell_unchecked_from_unchanged() -> None:
    report = examples.divergent()
    unchecked = replace(report.reference, checks=replace(report.reference.checks, observer_difference=None))
    rows = {
        label: (left, right) for label, left, right in facts.checks_rows(replace(report, reference=unchecked))
    }
    assert rows["recorded and unrecorded"] == ("not checked", "the same output")
    assert rows["run twice"] == ("the same output", "outputs differ by 1.2e-07")


def test_settings_that_were_not_given_are_not_shown() -> None:
    report = examples.faithful(settings={"seed": 0, "rtol": None, "mapping": {}, "command": "x"})
    assert facts.settings_rows(report) == [("seed", "0")]


def test_mistakes_that_the_model_cannot_contain_are_no_lack_of_power() -> None:
    report = examples.faithful()
    assert [item.cause for item in facts.unseen(report)] == ["bn-epsilon"]
    assert [item.cause for item in facts.applicable(report)] == ["conv-same-stride-asym", "bn-epsilon"]
