"""The report as JUnit XML, which every continuous-integration service reads."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from porting_check.report import facts, wording
from porting_check.report.result import Finding, PairResult, Report


def dumps(report: Report) -> str:
    """One test case per pair and per output, and one for the verdict of the whole.

    A divergent pair is a failure, an undecided or uncompared one is skipped. The case ``verdict`` fails when
    the report is divergent and is an error when it is inconclusive: a run that decided nothing is not green.

    Example:
        >>> print(dumps(report))                               # doctest: +SKIP
        <?xml version='1.0' encoding='utf-8'?>
        <testsuites name="porting-check" tests="216" failures="2" ...
    """
    suite = ET.Element("testsuite")
    _verdict(suite, report)
    for number, pair in enumerate(report.pairs, 1):
        _pair(suite, "pairs", f"{number} {wording.pair_name(pair)} ({wording.clean(pair.op)})", pair, report)
    for number, pair in enumerate(report.outputs, 1):
        _pair(suite, "outputs", f"{number} {wording.pair_name(pair)}", pair, report)
    for number, item in enumerate(report.not_compared, 1):
        case = _case(suite, "not-compared", f"{number} {item.side} {wording.clean(item.name)}")
        ET.SubElement(case, "skipped", message=wording.clean(item.reason, 2000))
    counts = {"tests": len(suite)}
    counts |= {f"{kind}s": len(suite.findall(f"./testcase/{kind}")) for kind in ("failure", "error")}
    counts["skipped"] = len(suite.findall("./testcase/skipped"))
    attributes = {"name": "porting-check", **{key: str(value) for key, value in counts.items()}}
    models = {"name": f"{wording.clean(report.reference.model)} ↔ {wording.clean(report.candidate.model)}"}
    suite.attrib.update({**attributes, **models})
    root = ET.Element("testsuites", attributes)
    root.append(suite)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _case(suite: ET.Element, group: str, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=f"porting-check.{group}", name=name, time="0")


def _verdict(suite: ET.Element, report: Report) -> None:
    answer = facts.headline(report)
    case = _case(suite, "report", "verdict")
    if report.verdict == "faithful":
        return
    kind = "failure" if report.verdict == "divergent" else "error"
    mark = ET.SubElement(case, kind, message=f"{answer.verdict}: {answer.sentence}", type=report.verdict)
    parts = (("layer", answer.layer), ("error", answer.error), ("cause", answer.cause), ("fix", answer.fix))
    mark.text = "\n".join(f"{label}: {text}" for label, text in parts if text) or wording.clean(
        report.reason, 2000
    )


def _pair(suite: ET.Element, group: str, name: str, pair: PairResult, report: Report) -> None:
    case = _case(suite, group, name)
    message = wording.clean(pair.explanation, 2000) or pair.verdict
    if pair.verdict in ("undecided", "not-compared"):
        ET.SubElement(case, "skipped", message=f"{pair.verdict}: {message}")
    if group == "outputs" and facts.inherits(pair):
        size = wording.number(pair.end_to_end.max_abs) if pair.end_to_end else "an unknown amount"
        ET.SubElement(
            case, "failure", message=f"differs by {size}, inherited from an earlier layer", type="inherited"
        )
    if pair.verdict != "divergent":
        return
    finding = facts.finding_of(report, pair)
    summary = (
        f"{wording.clean(finding.cause)}: {wording.clean(finding.explanation, 2000)}" if finding else message
    )
    failure = ET.SubElement(
        case, "failure", message=summary, type=wording.clean(finding.cause) if finding else "divergent"
    )
    failure.text = _details(pair, finding)


def _details(pair: PairResult, finding: Finding | None) -> str:
    lines = [wording.clean(pair.explanation, 2000), f"isolated error: {_error(pair)}"]
    lines += [f"reference: {wording.clean(pair.reference_node, 2000)}"] if pair.reference_node else []
    lines += [f"candidate: {wording.clean(pair.candidate_node, 2000)}"] if pair.candidate_node else []
    if finding:
        lines += [f"cause: {wording.clean(finding.cause)} ({facts.proof(finding)})"]
        lines += [f"evidence: {wording.clean(item, 2000)}" for item in finding.evidence]
        lines += ["fix:", wording.block(finding.fix)] if finding.fix.strip() else []
    return "\n".join(line for line in lines if line)


def _error(pair: PairResult) -> str:
    size = wording.number(pair.difference.max_abs) if pair.difference else "not measured"
    return f"{size}, {wording.times(pair.ratio)}"
