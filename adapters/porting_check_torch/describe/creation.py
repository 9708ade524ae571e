"""What torch draws at random: it is never described, and says so."""

from __future__ import annotations

from typing import Any

from porting_check_torch.describe.draft import Draft
from porting_check_torch.describe.table import describes


@describes(
    "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "bernoulli", "normal",
    "multinomial", "poisson", "uniform_", "normal_", "random_", "exponential_", "geometric_", "cauchy_",
    "log_normal_", "bernoulli_", "gumbel_softmax",
)  # fmt: skip
def random_numbers(d: Draft, *_args: Any, **_options: Any) -> None:
    """Random numbers."""
    d.refuse("draws random numbers")
