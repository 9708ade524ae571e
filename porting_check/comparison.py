"""``pc.compare``: is the port faithful; if not, which layer is wrong, why, and what to change?"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from porting_check.environments.specification import EnvironmentSpec
from porting_check.examination import examine
from porting_check.gradients import compare_gradients
from porting_check.keeping import restored, withheld
from porting_check.neutral.errors import InputError, PortingError
from porting_check.optimizing import compare_optimizers
from porting_check.recording import Layouts, quiet
from porting_check.report.assemble import assemble
from porting_check.report.result import Report
from porting_check.shadow import shadow as second_opinion
from porting_check.sides import Sides
from porting_check.training import training_step

Progress = Callable[[str, int, int], None]


class NotFaithful(AssertionError):
    """Raised by :func:`assert_faithful`; the message begins with the layer, the cause and the fix."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


def compare(
    reference: Any,
    candidate: Any,
    inputs: Any = None,
    *,
    layouts: Mapping[str, Layouts | str] | None = None,
    environments: Mapping[str, EnvironmentSpec | str] | None = None,
    mapping: Mapping[str, str] | None = None,
    seed: int = 0,
    rtol: float | None = None,
    atol: float | None = None,
    transfer: bool = False,
    gradients: bool = False,
    training: bool | None = None,
    optimizers: tuple[Any, Any] | None = None,
    shadow: bool = True,
    progress: Progress = quiet,
) -> Report:
    """Compare a candidate with its reference, layer by layer, without a tolerance.

    Args:
        reference: the model that is right by definition: live, a :class:`Trace`, or a string (a model file, a recording,
            ``file.py:function``, ``package.module:function``).
        candidate: its port, in any of the same forms.
        inputs: an array, a tuple, or a dict by name, in the reference's layout; paths too. None: seeded white noise.
        layouts: ``{"reference": "NHWC", "candidate": {"0": "NCHW"}}`` where they cannot be known.
        environments: where a side that is given as a string runs, ``{"reference": "docker:tensorflow:2.5", "candidate":
            "venv:torch==1.10.0,numpy<2,python==3.9"}``; a subprocess of this interpreter when left out. See
            :mod:`porting_check.environments.specification`.
        mapping: record ids of the reference to record ids of the candidate, where pairing needs help.
        seed: of the noise.
        rtol: relative part of a tolerance on the end-to-end outputs, which then decides alone; shown in the report.
        atol: its absolute part; both or neither.
        transfer: move the reference's weights into the candidate first (a live candidate keeps them).
        gradients: also differentiate both models for a seeded random cotangent and judge every gradient; see
            ``report.section("gradients")``.
        training: also take one training step of every batch norm, which inference says nothing of: ``False`` reports what it
            finds, ``True`` lets a wrong momentum decide the verdict; see ``report.section("training")``.
        optimizers: the reference's and the candidate's, to be compared on the same parameters and gradients, see
            :func:`porting_check.compare_optimizers`; a difference decides the verdict.
        shadow: run both whole models in float64 too, as a second opinion; see ``report.section("float64")``.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        The report; ``report.verdict`` is ``"faithful"``, ``"divergent"`` or ``"inconclusive"``.

    Raises:
        PortingError: bad inputs, a side that cannot be loaded or run.

    Example:
        >>> report = compare(keras_model, torch_module, image)        # doctest: +SKIP
        >>> print(report)                                             # doctest: +SKIP
    """
    if (rtol is None) != (atol is None):
        raise InputError("rtol and atol: give both or neither; a lone one hides what the other allows")
    sides = dict(layouts or {})
    unknown = set(sides) - {"reference", "candidate"}
    if unknown:
        raise InputError(f"layouts has the keys {sorted(unknown)}; expected 'reference' and 'candidate'")
    with tempfile.TemporaryDirectory(prefix="porting-check-") as folder:
        both = Sides(
            reference=reference,
            candidate=candidate,
            layouts=sides,
            folder=Path(folder),
            environments=environments or {},
            seed=seed,
            shadow=shadow,
            progress=progress,
            cancelled=threading.Event(),
        ).record(inputs, transfer=transfer, mapping=mapping)
        ours, of_reference = restored(both.ours, both.theirs)
        theirs, of_candidate = restored(both.theirs, ours, "candidate")
        found = withheld(examine(ours, theirs, mapping, progress))
        settings: dict[str, Any] = {"seed": seed, "rtol": rtol, "atol": atol, "transfer": transfer}
        second = second_opinion(found) if shadow else None
        sections = [section for section in (of_reference, of_candidate, second) if section is not None]
        if gradients:
            settings["gradients"] = True
            sections.append(compare_gradients(found, both.asks, seed, progress))
        if training is not None:
            settings["training"] = training
            sections.append(training_step(found, reference, candidate, decide=training, seed=seed))
        if optimizers is not None:
            sections.append(compare_optimizers(*optimizers, seed=seed).section())
        return assemble(found, settings=settings, progress=progress, sections=sections)


def assert_faithful(reference: Any, candidate: Any, inputs: Any = None, **options: Any) -> Report:
    """Like :func:`compare`, for tests: raises unless the port is faithful.

    Raises:
        NotFaithful: the verdict is divergent or inconclusive; the message is the report, layer and cause and fix first.

    Example:
        >>> assert_faithful(keras_model, torch_module, image)         # doctest: +SKIP
    """
    __tracebackhide__ = True
    report = compare(reference, candidate, inputs, **options)
    if not report.ok:
        raise NotFaithful(report)
    return report


__all__ = ["NotFaithful", "PortingError", "assert_faithful", "compare"]
