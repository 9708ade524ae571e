"""Every error that a user can cause. Messages say what was found, what was expected, where, and what to do."""

from __future__ import annotations

USAGE, NOT_RUN, INCONCLUSIVE = 2, 3, 4


class PortingError(Exception):
    """Base of all errors that a user can cause; ``exit_status`` is what the command line returns.

    Example:
        >>> try:
        ...     raise InputError("input 'x' has shape (1, 3), expected (N, 4)")
        ... except PortingError as error:
        ...     print(error.exit_status)
        2
    """

    exit_status = USAGE


class LayoutError(PortingError):
    """A layout that cannot be parsed, reached or applied to an array."""


class PaddingError(PortingError):
    """A padding that a framework cannot mean or express."""


class InputError(PortingError):
    """An input of the wrong name, shape, dtype or layout, or no input where one is needed."""


class ModelError(PortingError):
    """A model that cannot be found, loaded or understood."""


class FrameworkMissing(PortingError):
    """No adapter owns the model, or its framework is not installed."""


class TraceError(PortingError):
    """A recording that is damaged, cut short, of another version, or hostile."""


class WeightsError(PortingError):
    """Weights that cannot be moved or compared."""


class RunError(PortingError):
    """A side could not be run: the model raised, or its environment failed."""

    exit_status = NOT_RUN


class RecordingError(RunError):
    """A recording could not be written whole (disk full, folder not writable)."""


class UnsupportedNode(PortingError):
    """An adapter has no native operator for a node of the neutral language."""


class Unsupported(PortingError):
    """A framework, or this kind of model, cannot do what was asked (gradients, float64, a step of training)."""
