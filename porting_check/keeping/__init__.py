"""Golden files: a recording in a small form, kept in a repository, against which a port is verified without the old framework.

:func:`keep` prunes a full recording on the host, :func:`restored` computes what was dropped again from the recording's own
nodes and checks it against what was kept, and :func:`withheld` takes every number out of an examination that only a recorded
value could carry.
"""

from __future__ import annotations

from porting_check.keeping.pruning import POLICIES, keep
from porting_check.keeping.restoring import restored
from porting_check.keeping.weights import require_weights
from porting_check.keeping.withholding import withheld

__all__ = ["POLICIES", "keep", "require_weights", "restored", "withheld"]
