"""``porting-check keep``: a full recording in a small form, for a repository."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from porting_check.cli_options import Budget, Json, Quiet, Verbose
from porting_check.cli_support import emit, emit_json, progress_bar

KEEP_EPILOG = (
    "Exit status: 0 written, 2 wrong usage or a budget that is too small, 3 the folder cannot be written."
)

Full = Annotated[
    Path,
    typer.Argument(metavar="FULL.trace", help="A full recording, wherever it was made.", show_default=False),
]
Policy = Annotated[
    str,
    typer.Option(
        "--as",
        metavar="POLICY",
        help="all; boundaries: parameters and values that cut the model evenly; sampled: digests and some elements of each.",
    ),
]
Golden = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FOLDER", help="Where it goes; FULL.golden.trace when left out."),
]
SampleSeed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the sampled positions.")]


def keep(
    full: Full,
    policy: Policy = "boundaries",
    budget: Budget = None,
    out: Golden = None,
    seed: SampleSeed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Write a recording in a small form, which a port is verified against without the old framework.

    Example: porting-check keep full.trace --as sampled --budget 5MB --out golden.trace
    """
    from porting_check.keeping import keep as prune

    target = out or full.with_name(f"{full.name.removesuffix('.trace')}.golden.trace")
    with progress_bar(not (quiet or as_json)) as progress:
        golden = prune(full, target, policy, budget, seed, progress)
    facts = kept_facts(golden.kept or {}, target)
    if as_json:
        emit_json("keep", exit_status=0, **facts)
    elif quiet:
        emit(str(target))
    else:
        emit(kept_text(facts, verbose))
    return 0


def kept_facts(kept: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What a pruned recording's statement says, as plain data.

    Args:
        kept: ``trace.kept``.
        path: its folder.
    """
    dropped = kept.get("dropped", {})
    parameters = sorted(key for key in dropped if key.startswith("parameter:"))
    return {
        "path": str(path),
        "bytes": sum(file.stat().st_size for file in path.iterdir() if file.is_file()),
        "full_bytes": kept.get("full_bytes"),
        "policy": kept.get("policy"),
        "budget": kept.get("budget"),
        "elements": kept.get("samples"),
        "dropped_values": sorted(set(dropped) - set(parameters)),
        "dropped_parameters": parameters,
        "not_given": list(kept.get("not_given", ())),
    }


def kept_text(facts: Mapping[str, Any], verbose: bool = False) -> str:
    """The facts for people: sizes, what was dropped, and what that means."""
    values, parameters = facts["dropped_values"], facts["dropped_parameters"]
    lines = [
        f"wrote {facts['path']}: {facts['bytes'] / 1e6:.2f} MB of {facts['full_bytes'] / 1e6:.2f} MB ({facts['policy']})"
    ]
    if values:
        lines.append(
            f"{len(values)} values were dropped; up to {facts['elements']} elements of each are kept. They are computed "
            "again from their nodes, which was verified now against the full recording."
        )
    if parameters:
        lines.append(
            f"{len(parameters)} parameters are kept by digest: a port is compared where it holds the same bits, in any layout."
        )
    if facts["not_given"]:
        lines.append(f"{len(facts['not_given'])} values are kept whole because their nodes do not give them.")
    if verbose:
        lines += [f"  dropped: {key}" for key in [*values, *parameters]]
    return "\n".join(lines)
