"""``pc.sweep``: the error of an operator, or of two functions, against one quantity, beside what theory predicts."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from porting_check.environments.workers import Ran
from porting_check.neutral.errors import InputError, PortingError, RunError
from porting_check.neutral.graph import Graph
from porting_check.neutral.node import Node
from porting_check.neutral.tracefile import load_trace
from porting_check.numerics.stepwise import StepTruth
from porting_check.recorder.network import canonical
from porting_check.recording import Progress, quiet
from porting_check.report.sweep_result import Measure, Sweep, SweepPoint
from porting_check.room import Room, chosen, ends_in_float64, write_network
from porting_check.sweep_functions import of_functions
from porting_check.sweep_measures import Made, Theory, chained_bands, measures, rms, rms_error, theory_of
from porting_check.sweep_points import DEPTH, Points, drawn

Array = np.ndarray
Function = Callable[..., Any]


def sweep(
    subject: str | Sequence[Function],
    vary: str,
    values: Sequence[int | float],
    *,
    frameworks: str | Sequence[str] | None = None,
    shape: Sequence[int] | None = None,
    data: str = "normal",
    make: Callable[[Any], Sequence[Any]] | None = None,
    computes: Node | str | None = None,
    names: Sequence[str] | None = None,
    device: str | Sequence[str] | None = None,
    seed: int = 0,
    float64: bool = False,
    progress: Progress = quiet,
) -> Sweep:
    """Measure how the error grows with one quantity, and draw it beside the band that theory gives.

    A layer runs in every framework, each in a process of its own for all points; its error is that to the float64 truth on
    the same input. Two functions run here, on the arrays that ``make`` gives.

    Args:
        subject: a layer on one line, ``"Conv(filters=8, kernel=3)"``, or two functions of arrays.
        vary: a word of the layer (``kernel``, ``filters``, ``units``, ``stride``, any number among its attributes); of its
            input ``batch``, ``channels``, ``size``, ``features``, ``time``; ``dimension`` (features and units of a dense
            layer at once); ``magnitude`` of the input, of the ``weights``, or ``mean``, which is added to the input;
            ``depth``, the length of a chain of such layers. For functions: any name.
        values: of it.
        frameworks: names; None: every one that is installed. For functions: of which framework each is, where that cannot
            be seen (``"numpy"`` calls it with the arrays as they are).
        shape: of the layer's input, channel-first; one that suits the operator when left out.
        data: ``normal``, ``relu`` (half-normal inputs), ``uniform`` (inputs and weights in [0, 1)), ``heavy`` (log-normal
            scales), ``tiny`` (weights near 1e-5).
        make: for functions: the arrays that both get, for one value.
        computes: for functions: the operator that both compute on those arrays, as a node or written out,
            ``"Gemm(transB=1)"``. With it the truth is its float64 evaluation, and theory gives the band.
        names: of the two functions in the result.
        device: for functions of torch: where they run, one for both or one for each: ``("cpu", "cuda")``.
        seed: of the noise of a layer.
        float64: compute in float64. The truth then has an error of the same size, and only gross differences show.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        The points; ``result.verdict`` is ``"agree"``, ``"differ"`` or ``"inconclusive"``, ``result.exponents`` how the
        relative error grows, ``result.predicted_exponents`` how it should.

    Raises:
        PortingError: an unknown quantity, values that do not fit, too few frameworks, too much memory, or nothing ran.

    Example:
        >>> result = sweep("Gemm()", "dimension", (64, 256, 1024))               # doctest: +SKIP
        >>> result.save("growth.html")                                            # doctest: +SKIP
        >>> sweep((lambda x, w, b: x @ w.T + b, F.linear), "dimension", (64, 512, 2048), make=operands,
        ...       computes="Gemm(transB=1)")                                      # doctest: +SKIP
    """
    if not isinstance(subject, str):
        if shape is not None or data != "normal":
            raise InputError("shape and data describe the input of a layer; functions get what make= gives")
        return of_functions(
            subject,
            vary,
            values,
            make,
            computes,
            names=names,
            frameworks=frameworks,
            device=device,
            float64=float64,
        )
    given = {"make": make, "computes": computes, "names": names, "device": device}
    spare = next((name for name, value in given.items() if value is not None), None)
    if spare:
        raise InputError(
            f"{spare}= belongs to a sweep of two functions; the subject is the layer {subject!r}"
        )
    wanted = _frameworks(frameworks)
    points = drawn(subject, vary, values, shape=shape, data=data, seed=seed, copies=len(wanted))
    return _across(subject, vary, points, wanted, data, float64, progress)


def _frameworks(frameworks: str | Sequence[str] | None) -> tuple[str, ...]:
    if frameworks is not None and not isinstance(frameworks, str) and len(set(frameworks)) < 2:
        raise InputError(
            f"a sweep across frameworks needs two or more, found {', '.join(frameworks) or 'none'}; "
            "name another, or leave frameworks out to take all that are installed"
        )
    return chosen(frameworks)


def _across(
    subject: str,
    quantity: str,
    points: Points,
    wanted: tuple[str, ...],
    data: str,
    float64: bool,
    progress: Progress,
) -> Sweep:
    """Run all points in every framework, and put what they made beside the truth."""
    with tempfile.TemporaryDirectory(prefix="porting-check-") as text, contextlib.ExitStack() as stack:
        folder = Path(text)
        room = Room(stack, folder, wanted, float64)
        futures = room.start()
        graph = Graph(points.network.trace(points.inputs, subject))
        progress("evaluating in float64", 0, 1)
        truths = write_network(graph, folder / "network.trace", float64)
        room.written.set()
        ran: dict[str, Ran] = {}
        absent: dict[str, str] = {}
        for number, name in enumerate(wanted):
            progress("running the frameworks", number, len(wanted))
            try:
                ran[name] = futures[name].result()
            except PortingError as error:
                absent[name] = str(error)
        if not ran:
            raise RunError("no framework could be run:\n" + "\n".join(f"{n}: {w}" for n, w in absent.items()))
        fed = Graph(load_trace(str(folder / "network.trace")))
        found = _Judge(fed, truths, ran, float64)
        ends = found.ends(graph) if quantity == DEPTH else None
        made = tuple(
            found.point(value, step, ends) for value, step in zip(points.values, points.steps, strict=True)
        )
        environments = {name: one.environment for name, one in ran.items()}
        return Sweep(
            subject=subject,
            quantity=quantity,
            points=made,
            names=tuple(ran),
            environments=environments,
            absent=absent,
            data=data,
            float64=float64,
            note=points.note,
        )


class _Judge:
    """Puts what the frameworks made beside the truth, point by point, so that no more than one point's units are held."""

    def __init__(
        self, fed: Graph, truths: Sequence[StepTruth], ran: Mapping[str, Ran], float64: bool
    ) -> None:
        self.fed, self.truths, self.ran = fed, truths, ran
        self.float64 = float64

    def theory(self, step: int) -> Theory:
        """Of one node, on what it was fed with."""
        node = self.fed.steps[step].node
        assert node is not None
        arrays = [canonical(operand, self.fed.array) for operand in self.fed.steps[step].inputs]
        return theory_of(node, arrays, self.truths[step].outputs, float64=self.float64)

    def point(self, value: float, step: int, ends: _Ends | None) -> SweepPoint:
        """All numbers of one value."""
        theory = self.theory(step)
        truth = theory.truth
        cells, gaps = measures(theory, self._made(step))
        if ends is not None:
            cells = {name: ends.with_end(cell, name, step) for name, cell in cells.items()}
            gaps = ()
        return SweepPoint(
            value=value,
            shape=truth.shape,
            terms=theory.terms,
            scale=rms(truth),
            largest=float(np.abs(truth[np.isfinite(truth)]).max(initial=0.0)),
            band=theory.band,
            chained=ends.bands[step] if ends is not None else None,
            measures=cells,
            gaps=gaps,
        )

    def _made(self, step: int) -> Made:
        made: dict[str, Sequence[Array] | str] = {}
        for name, one in self.ran.items():
            arrays = [one.value(f"{step}:{place}") for place in range(len(self.truths[step].outputs))]
            found = [array for array in arrays if array is not None]
            refused = one.refused.get(step)
            made[name] = refused if refused else found or "it gave no output"
        return made

    def ends(self, graph: Graph) -> _Ends:
        """The chain from end to end: the truth, and what theory makes of errors that are passed on."""
        theories = [self.theory(step) for step in range(len(self.truths))]
        truth = ends_in_float64(graph)
        paths = [port.name for port in graph.trace.outputs]
        bands = chained_bands(graph, theories, [truth[path] for path in paths])
        return _Ends(self.ran, paths, truth, bands)


class _Ends:
    """What a chain made of its input after each layer, inherited errors included."""

    def __init__(
        self, ran: Mapping[str, Ran], paths: Sequence[str], truth: Mapping[str, Array], bands: Sequence[Any]
    ) -> None:
        self.ran, self.paths, self.truth, self.bands = ran, paths, truth, bands

    def with_end(self, cell: Measure, name: str, step: int) -> Measure:
        """A cell with the end-to-end error of its framework."""
        found, wanted = self.ran[name].value("end:" + self.paths[step]), self.truth[self.paths[step]]
        if found is None or found.shape != wanted.shape:
            return cell
        return replace(cell, end_to_end=rms_error(found, wanted))
