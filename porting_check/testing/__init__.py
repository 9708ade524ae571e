"""The conformance suite of adapters, for pytest: subclass the contracts in one small file and run them.

Needs pytest and hypothesis. Nothing else of the package imports this one.

Example:
    >>> from porting_check.testing import AdapterContract, RunContract      # doctest: +SKIP
    >>> class TestRun(RunContract):                                         # doctest: +SKIP
    ...     framework = "mindspore"
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from porting_check.testing.agreement import AgreementContract as AgreementContract
    from porting_check.testing.contract import AdapterContract as AdapterContract
    from porting_check.testing.describe_contract import DescribeContract as DescribeContract
    from porting_check.testing.describe_contract import Layer as Layer
    from porting_check.testing.examples import Example as Example
    from porting_check.testing.float64_contract import Float64Contract as Float64Contract
    from porting_check.testing.float64_contract import Wide as Wide
    from porting_check.testing.gradient_contract import Differentiable as Differentiable
    from porting_check.testing.gradient_contract import GradientContract as GradientContract
    from porting_check.testing.run_contract import RunContract as RunContract

_HOMES = {
    "AdapterContract": "porting_check.testing.contract",
    "AgreementContract": "porting_check.testing.agreement",
    "DescribeContract": "porting_check.testing.describe_contract",
    "Example": "porting_check.testing.examples",
    "Differentiable": "porting_check.testing.gradient_contract",
    "Float64Contract": "porting_check.testing.float64_contract",
    "GradientContract": "porting_check.testing.gradient_contract",
    "Layer": "porting_check.testing.describe_contract",
    "RunContract": "porting_check.testing.run_contract",
    "Wide": "porting_check.testing.float64_contract",
}

__all__ = sorted(_HOMES)

# A failed assertion in these modules shows its values, as in a test file; to be said before they are imported.
pytest.register_assert_rewrite(
    *sorted({*_HOMES.values(), "porting_check.testing.cases", "porting_check.testing.replay"})
)


def __getattr__(name: str) -> Any:
    """Import a contract when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(
            f"module 'porting_check.testing' has no attribute {name!r}; it has: {', '.join(__all__)}"
        )
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
