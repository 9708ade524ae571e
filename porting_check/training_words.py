"""What a training step of batch normalisation taught, in words for a person who ports in order to fine-tune."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from porting_check.neutral.trace import Record
from porting_check.numerics.batch_norm import UNBIASED, UNKNOWN, Update

KEEPS = 1e-3
"""Two shares of new values are different ones when they differ by more than this share."""


class Side(Protocol):
    """What one side's layer did (``training.Trained``)."""

    @property
    def mode(self) -> str: ...  # noqa: D102
    @property
    def ratio(self) -> float: ...  # noqa: D102
    @property
    def update(self) -> Update: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Lesson:
    """The difference of two layers in training: the catalogue's id, words, code, and whether it can decide a verdict.

    ``larger_by``: by which share the variance that the candidate stores is larger than the reference's, at the batch of
    the recording.
    """

    cause: str = ""
    explanation: str = ""
    fix: str = ""
    decides: bool = False
    larger_by: float = 0.0


def lesson(ours: Side, theirs: Side, record: Record, framework: str, positions: int) -> Lesson:
    """What differs between two layers' training steps; the gravest first.

    Args:
        ours: the reference's layer.
        theirs: the candidate's.
        record: the candidate's layer, for the fix.
        framework: the candidate's.
        positions: positions per channel in the recorded batch.
    """
    if ours.mode != theirs.mode:
        return _mode(ours, theirs, record, framework)
    keeps = ours.update.keep, theirs.update.keep
    if keeps[0] is None or keeps[1] is None:
        which = "reference" if keeps[0] is None else "candidate"
        said = f"the {which}'s running mean does not move by one share of the distance to the batch's: another rule"
        return Lesson("" if keeps[0] == keeps[1] else "bn-momentum", said, "", keeps[0] != keeps[1])
    stored = _variance(ours.update, theirs.update, record, positions)
    if abs(keeps[0] - keeps[1]) > KEEPS * max(1 - keeps[0], 1 - keeps[1]):
        return replace(_momentum(keeps[0], keeps[1], record, framework), larger_by=stored.larger_by)
    return stored


def _mode(ours: Side, theirs: Side, record: Record, framework: str) -> Lesson:
    words = {
        "batch": "normalises by the batch",
        "running": "keeps to its running statistics (frozen)",
        "moved": "normalises by its running statistics after their update (as equinox does in its mode 'ema')",
        "other": "does neither normalise by the batch nor by its running statistics",
    }
    said = f"in training the candidate {words[theirs.mode]}, the reference {words[ours.mode]}"
    freeze = ours.mode == "running"
    fixes = {
        "torch": f"{_module(record)}.eval()  # after each model.train()",
        "tensorflow": f"model.get_layer({record.name!r}).trainable = False",
        "jax": "BatchNorm(use_running_average=True)",
    }
    thaw = {
        "torch": f"{_module(record)}.train()",
        "tensorflow": f"model.get_layer({record.name!r}).trainable = True",
        "jax": "BatchNorm(use_running_average=not train)",
    }
    known = freeze or ours.mode == "batch"
    return Lesson(
        "bn-train-mode", said, (fixes if freeze else thaw).get(framework, "") if known else "", True
    )


def _momentum(ours: float, theirs: float, record: Record, framework: str) -> Lesson:
    said = f"the candidate keeps {theirs:.6g} of the old running statistics at each step, the reference {ours:.6g}"
    if abs(ours + theirs - 1) < KEEPS:
        said += ": torch's momentum is the share of the new value, Keras' and flax' that of the old one; one is 1 minus the other"
    fixes = {
        "torch": f"{_module(record)}.momentum = {1 - ours:.6g}",
        "tensorflow": f"BatchNormalization(momentum={ours:.6g})",
        "jax": f"BatchNorm(momentum={ours:.6g})",
    }
    return Lesson("bn-momentum", said, fixes.get(framework, ""), True)


def _module(record: Record) -> str:
    return f'model.get_submodule("{record.name}")'


def _variance(ours: Update, theirs: Update, record: Record, positions: int) -> Lesson:
    kinds = ours.variance, theirs.variance
    if kinds[0] == kinds[1] or UNKNOWN in kinds or positions < 2:
        return Lesson()
    factor = positions / (positions - 1)
    larger = factor - 1 if kinds[1] == UNBIASED else 1 / factor - 1
    said = (
        f"the candidate stores the {kinds[1]} variance of the batch, the reference the {kinds[0]} one: "
        f"{abs(larger):.2%} {'more' if larger > 0 else 'less'} per step at this batch ({positions} positions per channel)"
    )
    fused = record.operator.startswith("tf_keras") and kinds[1] == UNBIASED
    return Lesson("bn-unbiased-var", said, "BatchNormalization(fused=False)" if fused else "", False, larger)


def answer(rows: Sequence[Mapping[str, Any]]) -> str:
    """The sentence to read first."""
    trained = [row for row in rows if row["verdict"] != "not trained"]
    if not rows:
        return "Neither model has batch normalisation: nothing was trained."
    if not trained:
        return f"None of {len(rows)} batch normalisations could be trained alone."
    wrong = [row for row in trained if row["decides"]]
    stored = [row for row in trained if row["larger_by"]]
    count = f"{len(trained)} batch normalisation{'s' if len(trained) > 1 else ''}"
    lacking = f" {len(rows) - len(trained)} could not be trained." if len(trained) < len(rows) else ""
    if wrong:
        first = wrong[0]
        return (
            f"{len(wrong)} of {count} train{'s' if len(wrong) == 1 else ''} otherwise, first {first['candidate']} "
            f"({first['cause']}): {first['explanation']}. Inference shows nothing of it; fine-tuning will.{lacking}"
        )
    if stored:
        worst = max(stored, key=lambda row: abs(row["larger_by"]))
        return (
            f"In a training step of {count}, normalisation and momentum are the same; {len(stored)} "
            f"store{'s' if len(stored) == 1 else ''} another variance than the reference, by up to "
            f"{abs(worst['larger_by']):.2%} ({worst['candidate']}), as the frameworks do.{lacking}"
        )
    return f"In a training step of {count}, normalisation, momentum and variance are the same.{lacking}"


def notes(rows: Sequence[Mapping[str, Any]], decide: bool) -> tuple[str, ...]:
    """What to do about it, and how it was found."""
    said: list[str] = []
    for row in rows:
        if row["decides"]:
            said.append(
                f"{row['candidate']}: {row['explanation']}" + (f"; fix: {row['fix']}" if row["fix"] else "")
            )
        elif row["verdict"] == "not trained":
            said.append(f"{row['candidate'] or row['reference']}: not trained: {row['explanation']}")
    if any(row.get("larger_by") for row in rows):
        said.append(
            "bn-unbiased-var: torch stores n / (n - 1) times the batch's variance, Keras 3 and flax the variance itself. It "
            "is real, it is in training only, and no option changes it; it never decides here. After many steps the running "
            "variance is off by that factor, and outputs in inference by half of it. With small batches at low resolution, "
            "freeze the statistics or scale the stored variance by (n - 1) / n"
        )
    remarks = {r: row["candidate"] for row in rows for r in row.get("remarks", ())}
    said += [f"{name}: {remark}" for remark, name in remarks.items()]
    if rows and not decide:
        said.append(
            "this section does not decide the verdict, which is about inference; training=True lets it"
        )
    return tuple(dict.fromkeys(said))
