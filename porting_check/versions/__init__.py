"""Versions as a subject: one model in several environments, and which of them changed the numbers.

``comparing.py`` is the verb :func:`matrix`; ``runs.py`` and ``jobs.py`` record the environments, each a job of an executor,
and keep what is finished by the digest that ``identity.py`` makes; ``weights.py`` puts the baseline's weights into models that
were built with others; ``changes.py`` and ``rows.py`` read comparisons as changes.
"""

from __future__ import annotations

from porting_check.versions.comparing import matrix

__all__ = ["matrix"]
