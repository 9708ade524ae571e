"""``porting-check demo``: a real port with trained weights, verified; then with a planted mistake, diagnosed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from porting_check.comparison import compare
from porting_check.neutral.errors import FrameworkMissing, ModelError
from porting_check.recording import quiet
from porting_check.report.console import brief
from porting_check.report.result import Report

Progress = Callable[[str, int, int], None]

CASE = "mtcnn"
VARIANTS = ("pnet", "rnet", "onet", "pnet_wrong_padding", "onet_wrong_flatten")
"""What is shown, in this order; the case's own file says what must come out."""

HEAD = """\
MTCNN finds faces with three small networks. The reference is the Keras version with the trained weights of the package
mtcnn; the candidate is a PyTorch port. Weights are moved over by porting_check.transfer_weights, then every layer is compared.
"""


def run(folder: str | Path, progress: Progress = quiet) -> int:
    """Verify the three networks, then the port with two planted mistakes; write the reports.

    Args:
        folder: where the reports go; made when it does not exist.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        0 when everything came out as the case says, 1 otherwise.

    Raises:
        FrameworkMissing: the extra ``demo`` is not installed.
    """
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    loading = _loading()
    case = loading.load_case(_fixtures() / CASE)
    _require(case.requires)
    print(HEAD)
    right = [_variant(loading, case, name, out, progress) for name in VARIANTS]
    print(f"{sum(right)} of {len(right)} came out as they should. Reports: {out.resolve()}")
    return 0 if all(right) else 1


def _variant(loading: ModuleType, case: Any, name: str, out: Path, progress: Progress) -> bool:
    """Compare one variant, print the report, save it; whether it came out as expected."""
    variant = case.variant(name)
    reference = loading.build(case.folder, variant.reference)
    candidate = loading.build(case.folder, variant.candidate)
    report = compare(
        reference,
        candidate,
        loading.make_inputs(variant.inputs),
        transfer=variant.weights == "transfer",
        progress=progress,
    )
    title = f"== {name}: {variant.reference} against {variant.candidate} "
    print(title.ljust(100, "="))
    if variant.note:
        print(f"Planted mistake. {variant.note}" if report.verdict == "divergent" else variant.note)
    print(brief(report))
    report.save(out / f"{name}.html")
    report.save(out / f"{name}.json")
    fine = as_expected(report, variant.expect)
    print(f"\n{'As it should be' if fine else 'NOT as it should be'}. Full report: {out / f'{name}.html'}\n")
    return fine


def as_expected(report: Report, expect: Any) -> bool:
    """Whether a report gives the verdict, the layers and the causes that a fixture demands."""
    if report.verdict not in expect.verdict:
        return False
    first = report.first_divergence
    if expect.first_divergence is not None and (
        first is None or expect.first_divergence not in names(first.candidate)
    ):
        return False
    if expect.divergent is not None:
        wrong = [names(p.candidate) for p in report.pairs if p.verdict == "divergent"]
        named = all(any(name in found for found in wrong) for name in expect.divergent)
        if not named or not all(found & set(expect.divergent) for found in wrong):
            return False
    return not expect.causes or all(f.cause in expect.causes and f.proven for f in report.findings)


def names(records: tuple[str, ...]) -> set[str]:
    """The layers that a pair's records lie in, whichever call: ``pool1/pad`` and ``pool1#1`` are also ``pool1``."""
    found: set[str] = set()
    for record in records:
        parts = record.split("#")[0].split("/")
        found |= {"/".join(parts[:n]) for n in range(1, len(parts) + 1)}
    return found


def _fixtures() -> Path:
    """The fixtures: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "fixtures", here.parent / "fixtures"):
        if (folder / CASE).is_dir():
            return folder
    raise ModelError(f"the demo's files are missing beside {here}: reinstall porting-check")


def _loading() -> ModuleType:
    """The module ``loading.py`` of the fixtures folder."""
    path = _fixtures() / "loading.py"
    spec = importlib.util.spec_from_file_location("porting_check_fixture_loading", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _require(modules: tuple[str, ...]) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise FrameworkMissing(
            f"the demo needs {', '.join(missing)}, not installed here; run: pip install 'porting-check[demo]' -c constraints.txt"
        )
