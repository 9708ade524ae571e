"""Reports built by hand, one for each verdict, and hostile names. Nothing here is random."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from porting_check.neutral.trace import Checks, Environment
from porting_check.numerics.difference import Difference
from porting_check.report.result import (
    Finding,
    NotCompared,
    PairResult,
    ParameterResult,
    Power,
    Report,
    Side,
)

HOSTILE = (
    "<script>alert(1)</script>",
    "</template></style><img src=x onerror=alert(2)>",
    "\"><svg onload=alert(3)>'",
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.tset\u202c\u200f",
    "bell\x07escape\x1b[31mred\x1b]0;title\x07null\x00",
    "line\nbreak\r\n| a | b |\n```\n# heading",
    "]]><!--\ud800\ufffe&amp;&#x3c;",
    "=cmd|'/C calc'!A1",
    "**bold** `code` [link](javascript:alert(4)) @someone #1",
    "層/畳み込み_1",
    "x" * 3000,
)


def difference(size: float, **changes: Any) -> Difference:
    """A difference whose largest value is ``size``; anything else can be set."""
    facts: dict[str, Any] = {
        "count": 4096,
        "max_abs": size,
        "max_abs_index": (0, 3, 1, 4),
        "max_rel": size * 2,
        "max_rel_index": (0, 0, 7, 2),
        "rms": size / 4,
        "mean_signed": -size / 100,
        "cosine": 1.0 if size < 1e-3 else 0.87,
        "reference_max": 4.5,
        "reference_rms": 1.25,
        "reference_nonfinite": 0,
        "candidate_nonfinite": 0,
        "nonfinite_mismatch": 0,
        "identical": size == 0,
        "compared": 4096,
        "fraction_below": 1.0 if size < 4e-5 else 0.02,
    }
    return Difference(**{**facts, **changes})


def side(framework: str, **changes: Any) -> Side:
    """One side as a recorder would describe it."""
    versions = {
        "tensorflow": {"keras": "3.15.1", "numpy": "2.4.6", "tensorflow": "2.21.0"},
        "torch": {"numpy": "2.4.6", "torch": "2.13.0"},
    }
    environment = Environment(
        framework,
        versions[framework],
        threads=2 if framework == "torch" else 4,
        python="3.11.2",
        platform="Linux x86_64",
        modes={"float32_matmul_precision": "highest"}
        if framework == "torch"
        else {"onednn": "on", "float32_matmul_precision": "high"},
    )
    facts: dict[str, Any] = {
        "model": "reference.py:build" if framework == "tensorflow" else "port.py:build",
        "environment": environment,
        "layouts": {"0": "NHWC" if framework == "tensorflow" else "NCHW"},
        "checks": Checks(0.0, 0.0),
        "records": 9,
    }
    return Side(**{**facts, **changes})


def pair(index: int, reference: str, candidate: str, op: str, verdict: str, **changes: Any) -> PairResult:
    """A pair with numbers that suit its verdict."""
    error = {"identical": 0.0, "round-off": 2.2e-16, "low-precision": 3e-4, "divergent": 0.8317}.get(verdict)
    ratio = {"identical": 0.0, "round-off": 0.31, "low-precision": 210.0, "divergent": 2.1e6}.get(verdict)
    facts: dict[str, Any] = {
        "index": index,
        "reference": (reference,) if reference else (),
        "candidate": (candidate,) if candidate else (),
        "op": op,
        "verdict": verdict,
        "explanation": f"{verdict} by the three questions",
        "difference": None if error is None else difference(error),
        "ratio": ratio,
        "end_to_end": difference(1.1e-7 * (index + 1)),
        "reference_error": 0.24,
        "candidate_error": 0.26,
        "reference_shape": (3, 32, 48, 16),
        "candidate_shape": (3, 16, 32, 48),
        "layout": "NHWC ↔ NCHW",
        "paired_by": ("the same weights", "the same place in the order"),
        "reference_node": f"{op}()",
        "candidate_node": f"{op}()",
    }
    return PairResult(**{**facts, **changes})


def parameter(role: str, name: str, *, relation: str = "identical", equal: bool = True) -> ParameterResult:
    """A parameter of a pair; unequal ones carry a difference."""
    gap = None if equal else difference(0.4)
    return ParameterResult(
        role=role,
        reference=f"{name}/{role}",
        candidate=f"{name}.{role}",
        relation=relation,
        equal=equal,
        difference=gap,
    )


def good_pairs() -> tuple[PairResult, ...]:
    """Eight pairs of a small network, all of them good."""
    layers = [
        ("stem_conv", "stem.0", "Conv"),
        ("stem_bn", "stem.1", "BatchNormalization"),
        ("stem_relu", "stem.2", "Relu"),
        ("block1/expand", "blocks.0.expand", "Conv"),
        ("block1/depthwise", "blocks.0.depthwise", "Conv"),
        ("block1/project", "blocks.0.project", "Conv"),
        ("flatten", "flatten", "Flatten"),
        ("logits", "classifier", "Gemm"),
    ]
    kinds = {"Relu": "identical", "Flatten": "identical"}
    return tuple(
        pair(
            index,
            reference,
            candidate,
            op,
            kinds.get(op, "round-off"),
            parameters=(parameter("weight", candidate),) if op in ("Conv", "Gemm") else (),
        )
        for index, (reference, candidate, op) in enumerate(layers)
    )


def outputs(verdict: str = "round-off", size: float = 8.8e-7) -> tuple[PairResult, ...]:
    """The one output of the network."""
    return (pair(0, "0", "0", "output", verdict, end_to_end=difference(size)),)


POWER = (
    Power(cause="conv-same-stride-asym", revealed=3, hidden=(), reason=""),
    Power(
        cause="bn-epsilon",
        revealed=0,
        hidden=("stem_bn",),
        reason="the variances are so large that the epsilon is lost in rounding",
    ),
    Power(cause="act-gelu-tanh", revealed=0, hidden=(), reason="the model has no GELU"),
)


def faithful(**changes: Any) -> Report:
    """All pairs good, one record skipped, two mistakes that could not have been seen."""
    facts: dict[str, Any] = {
        "verdict": "faithful",
        "reason": "every pair agrees to round-off and every output was compared",
        "reference": side("tensorflow"),
        "candidate": side("torch"),
        "pairs": good_pairs(),
        "not_compared": (
            NotCompared(
                name="dropout",
                side="reference",
                reason="does nothing in inference; the candidate has no such layer",
            ),
        ),
        "power": POWER,
        "outputs": outputs(),
        "settings": {"seed": 0, "command": "porting-check compare reference.py:build port.py:build"},
    }
    return Report(**{**facts, **changes})


FIX = """\
x = torch.nn.functional.pad(x, (0, 1, 0, 1))  # left, right, top, bottom
self.stem = torch.nn.Conv2d(3, 16, 3, stride=2, padding=0)"""


def wrong_padding() -> PairResult:
    """A convolution whose padding is on the wrong side."""
    return pair(
        0,
        "stem_conv",
        "stem.0",
        "Conv",
        "divergent",
        explanation="the two functions differ on the same input",
        reference_node="Conv(dilations=[1,1], group=1, kernel_shape=[3,3], pads=[0,0,1,1], strides=[2,2])",
        candidate_node="Conv(dilations=[1,1], group=1, kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2])",
        parameters=(parameter("weight", "stem.0"), parameter("bias", "stem.0")),
        end_to_end=difference(0.8317),
    )


def wrong_kernel() -> PairResult:
    """A convolution whose kernel was transposed."""
    bad = parameter(
        "weight", "blocks.0.project", relation="equal after swapping the spatial axes", equal=False
    )
    return pair(
        5,
        "block1/project",
        "blocks.0.project",
        "Conv",
        "divergent",
        parameters=(bad,),
        ratio=41.7,
        difference=difference(0.0123),
    )


def divergent(**changes: Any) -> Report:
    """Two wrong layers: one cause proven, one only suspected; the layers after the first inherit."""
    pairs = [replace(one, inherited=one.index > 0) for one in good_pairs()]
    pairs[0], pairs[5] = wrong_padding(), wrong_kernel()
    findings = (
        Finding(
            pair=pairs[0],
            cause="conv-same-stride-asym",
            explanation="the reference pads 0 before and 1 after, the candidate pads 1 on every side",
            fix=FIX,
            proven=True,
            evidence=(
                "pads [0,0,1,1] against [1,1,1,1]",
                "with pads [0,0,1,1] the error falls from 0.83 to 1.8e-15",
            ),
        ),
        Finding(
            pair=pairs[5],
            cause="conv-kernel-transposed",
            explanation="the kernel is equal only after swapping its spatial axes",
            fix="conv.weight.data = conv.weight.data.transpose(2, 3).contiguous()",
            proven=False,
        ),
    )
    facts = {
        "verdict": "divergent",
        "reason": "two layers compute something else",
        "pairs": tuple(pairs),
        "findings": findings,
        "outputs": outputs("divergent", 3.2),
        "warnings": ("the candidate has 1 layer in training mode: drop",),
        "candidate": side(
            "torch", checks=Checks(0.0, 1.2e-7, ("drop",), ("cuDNN chose its algorithm by timing",))
        ),
    }
    return faithful(**{**facts, **changes})


def unexplained() -> Report:
    """A wrong layer whose cause nobody knows."""
    wrong = pair(3, "block1/expand", "blocks.0.expand", "Conv", "divergent")
    pairs = (*good_pairs()[:3], wrong, *good_pairs()[4:])
    finding = Finding(
        pair=wrong, cause="unknown", explanation="no edit of one attribute mends it", fix="", proven=False
    )
    return faithful(verdict="divergent", reason="one layer is wrong", pairs=pairs, findings=(finding,))


def not_a_number() -> Report:
    """The candidate's output is NaN where the reference's is finite: no number may be read as a pass."""
    nan = difference(
        math.nan,
        max_rel=math.nan,
        cosine=math.nan,
        candidate_nonfinite=4096,
        nonfinite_mismatch=4096,
        identical=False,
    )
    wrong = pair(
        7, "logits", "classifier", "Gemm", "divergent", difference=nan, ratio=math.inf, end_to_end=nan
    )
    pairs = (*good_pairs()[:7], wrong)
    return faithful(
        verdict="divergent",
        reason="the candidate's output is NaN",
        pairs=pairs,
        outputs=outputs("divergent", math.nan),
    )


def inconclusive(**changes: Any) -> Report:
    """A composite that could not be judged, one pair that was not compared, records without a partner."""
    pairs = list(good_pairs())
    pairs[2] = pair(
        2,
        "attention",
        "attention",
        "opaque",
        "undecided",
        explanation="neither side says what the layer computes",
    )
    pairs[4] = pair(
        4,
        "block1/depthwise",
        "",
        "Conv",
        "not-compared",
        explanation="the shapes differ: (3, 16, 32, 48) and (3, 16, 31, 47)",
        end_to_end=None,
    )
    facts = {
        "verdict": "inconclusive",
        "reason": "1 pair is undecided and 1 was not compared, so that nothing is said about the outputs",
        "pairs": tuple(pairs),
        "not_compared": (
            NotCompared(name="attention", side="candidate", reason="torch.fft.fft is not described"),
            NotCompared(
                name="crop", side="reference", reason="no layer of the candidate has an output of this shape"
            ),
        ),
        "outputs": (),
    }
    return faithful(**{**facts, **changes})


def overridden() -> Report:
    """Judged with a tolerance given by hand; one pair in reduced precision."""
    pairs = list(good_pairs())
    pairs[7] = pair(7, "logits", "classifier", "Gemm", "low-precision")
    settings = {"seed": 3, "rtol": 1e-3, "atol": 1e-5, "layouts": {"reference": "NHWC"}, "mapping": {}}
    return faithful(pairs=tuple(pairs), settings=settings)


def empty() -> Report:
    """Nothing was paired."""
    return inconclusive(
        pairs=(), reason="no layer could be paired: nothing was compared", not_compared=(), power=()
    )


def hostile() -> Report:
    """Every text of the report is an attack."""
    pairs = []
    for index, name in enumerate(HOSTILE):
        verdict = "divergent" if index % 2 else "round-off"
        odd = ParameterResult(
            role=name, reference=name, candidate=name, relation=name, equal=False, difference=difference(0.5)
        )
        pairs.append(
            pair(
                index,
                name,
                name,
                name,
                verdict,
                explanation=name,
                layout=name,
                paired_by=(name,),
                parameters=(odd,),
                reference_node=name,
                candidate_node=name + "!",
            )
        )
    findings = tuple(
        Finding(pair=p, cause=p.op, explanation=p.op, fix=p.op, proven=True, evidence=(p.op,))
        for p in pairs
        if p.verdict == "divergent"
    )
    environment = Environment(
        HOSTILE[0],
        {HOSTILE[1]: HOSTILE[2]},
        device=HOSTILE[4],
        python=HOSTILE[5],
        platform=HOSTILE[6],
        modes={HOSTILE[7]: HOSTILE[9]},
    )
    attacker = Side(
        model=HOSTILE[1],
        environment=environment,
        layouts={HOSTILE[2]: HOSTILE[0]},
        checks=Checks(None, None, HOSTILE, HOSTILE),
        records=1,
    )
    return divergent(
        reason=HOSTILE[0],
        pairs=tuple(pairs),
        findings=findings,
        reference=attacker,
        candidate=attacker,
        warnings=HOSTILE,
        outputs=(pair(0, HOSTILE[0], HOSTILE[1], HOSTILE[2], "divergent"),),
        not_compared=tuple(NotCompared(name=name, side="candidate", reason=name) for name in HOSTILE),
        power=tuple(Power(cause=name, revealed=0, hidden=(name,), reason=name) for name in HOSTILE),
        settings={HOSTILE[0]: HOSTILE[1], "command": HOSTILE[1]},
    )


def named(name: str) -> Report:
    """A report of fixed structure in which one text stands wherever a model or a user could put it."""
    odd = ParameterResult(role=name, reference=name, candidate=name, relation=name, equal=False)
    wrong = pair(
        0,
        name,
        name,
        name,
        "divergent",
        explanation=name,
        layout=name,
        paired_by=(name,),
        parameters=(odd,),
        reference_node="Conv(pads=[0,0,1,1])",
        candidate_node="Conv(pads=[1,1,1,1])",
    )
    skipped = pair(1, name, name, name, "not-compared", explanation=name)
    finding = Finding(
        pair=wrong, cause=name, explanation=name, fix=f"x = 1  # {name}.", proven=True, evidence=(name,)
    )
    environment = Environment(name, {name: name}, name, 2, name, name, {name: name})
    own = Side(
        model=name,
        environment=environment,
        layouts={name: name},
        checks=Checks(0.0, 0.0, (name,), (name,)),
        records=2,
    )
    return Report(
        verdict="divergent",
        reason=name,
        reference=own,
        candidate=own,
        pairs=(wrong, skipped),
        findings=(finding,),
        not_compared=(NotCompared(name=name, side="candidate", reason=name),),
        power=(Power(cause=name, revealed=0, hidden=(name,), reason=name),),
        warnings=(name,),
        outputs=(pair(0, name, name, name, "divergent", explanation=name),),
        settings={"seed": name, "command": f"porting-check compare {name}."},
    )


def large(size: int = 400) -> Report:
    """A deep network: names as long as they get, errors that grow, one wrong layer in the middle."""
    pairs = []
    for index in range(size):
        wrong = index == size // 2
        stage = f"backbone/stage{index // 40}/block{index // 4 % 10}"
        node = "Conv(dilations=[1,1], group=1, kernel_shape=[3,3], pads=[{}], strides=[1,1])"
        kernel = parameter("weight", f"backbone.stages.{index // 40}.{index // 4 % 10}.conv{index % 4}")
        grown = 1e-7 * 1.02**index if index < size // 2 else 0.3 * 1.004 ** (index - size // 2)
        pairs.append(
            pair(
                index,
                f"{stage}/conv_{index % 4}_expand",
                f"backbone.stages.{index // 40}.{index // 4 % 10}.conv{index % 4}",
                "Conv",
                "divergent" if wrong else "identical" if index % 3 == 0 else "round-off",
                parameters=(kernel, kernel),
                reference_node=node.format("1,1,1,1"),
                candidate_node=node.format("0,0,1,1" if wrong else "1,1,1,1"),
                end_to_end=difference(grown),
                inherited=index > size // 2,
            )
        )
    finding = Finding(
        pair=pairs[size // 2],
        cause="conv-same-stride-asym",
        explanation="the padding differs",
        fix=FIX,
        proven=True,
    )
    return divergent(pairs=tuple(pairs), findings=(finding,), warnings=())


EXAMPLES = {
    "faithful": faithful,
    "divergent": divergent,
    "unexplained": unexplained,
    "not_a_number": not_a_number,
    "inconclusive": inconclusive,
    "overridden": overridden,
    "empty": empty,
}
"""Every example by name, for parametrised tests."""
