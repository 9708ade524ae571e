"""porting-check: is the port of a model faithful; if not, which layer is wrong, why, and what to change?

The public names are resolved lazily: importing this package imports no framework and nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from porting_check.comparison import NotFaithful as NotFaithful
    from porting_check.comparison import assert_faithful as assert_faithful
    from porting_check.comparison import compare as compare
    from porting_check.crosschecking import crosscheck as crosscheck
    from porting_check.equivalence import equivalent as equivalent
    from porting_check.judging import JudgedNumbers as JudgedNumbers
    from porting_check.judging import judge as judge
    from porting_check.keeping import keep as keep
    from porting_check.network import Network as Network
    from porting_check.neutral.errors import PortingError as PortingError
    from porting_check.neutral.node import Node as Node
    from porting_check.neutral.trace import Trace as Trace
    from porting_check.optimizing import compare_optimizers as compare_optimizers
    from porting_check.recording import load_trace as load_trace
    from porting_check.recording import record as record
    from porting_check.report.crosstable import Crosstable as Crosstable
    from porting_check.report.equivalence_result import Equivalence as Equivalence
    from porting_check.report.optimizer_result import OptimizerComparison as OptimizerComparison
    from porting_check.report.result import Report as Report
    from porting_check.report.sweep_result import Sweep as Sweep
    from porting_check.report.version_table import VersionTable as VersionTable
    from porting_check.sweeping import sweep as sweep
    from porting_check.transfer import transfer_weights as transfer_weights
    from porting_check.versions import matrix as matrix

__version__ = "0.1.0"

_HOMES = {
    "compare": "porting_check.comparison",
    "assert_faithful": "porting_check.comparison",
    "NotFaithful": "porting_check.comparison",
    "record": "porting_check.recording",
    "load_trace": "porting_check.recording",
    "keep": "porting_check.keeping",
    "matrix": "porting_check.versions",
    "VersionTable": "porting_check.report.version_table",
    "transfer_weights": "porting_check.transfer",
    "crosscheck": "porting_check.crosschecking",
    "Crosstable": "porting_check.report.crosstable",
    "equivalent": "porting_check.equivalence",
    "Equivalence": "porting_check.report.equivalence_result",
    "sweep": "porting_check.sweeping",
    "Sweep": "porting_check.report.sweep_result",
    "compare_optimizers": "porting_check.optimizing",
    "OptimizerComparison": "porting_check.report.optimizer_result",
    "JudgedNumbers": "porting_check.judging",
    "judge": "porting_check.judging",
    "Network": "porting_check.network",
    "Node": "porting_check.neutral.node",
    "PortingError": "porting_check.neutral.errors",
    "Report": "porting_check.report.result",
    "Trace": "porting_check.neutral.trace",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(
            f"module 'porting_check' has no attribute {name!r}; public names: {', '.join(__all__)}"
        )
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return list(__all__)
