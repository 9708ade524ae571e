"""The line of TensorFlow's long errors that says what happened."""

from __future__ import annotations

FRAMES = ("Graph execution error:", "in user code:")
"""First lines that say nothing; the message stands at the end, behind a stack of calls."""

NOISE = ("[[", "File ", "Detected at", "<stack", "Traceback", "[Op:", "The above", *FRAMES)


def headline(error: BaseException) -> str:
    r"""What happened, in one line.

    Example:
        >>> headline(ValueError("in user code:\n\n    File 'm.py', line 3\n    ValueError: too short"))
        'ValueError: too short'
        >>> headline(ValueError("too long\nmore about it"))
        'too long'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith(FRAMES):
        telling = [line for line in lines if not line.startswith(NOISE)]
        return telling[-1] if telling else lines[0]
    return lines[0] if lines else ""
