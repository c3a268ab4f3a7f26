"""Errors of engines, and one-line descriptions of what Ray raised."""

from __future__ import annotations

from typing import Any


def error_summary(error: Any) -> str:
    """What an error says, in one line; Ray wraps what a replica raised."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    told_by_traceback = any(line.startswith("Traceback (most recent") for line in lines)
    said = lines[-1 if told_by_traceback else 0] if lines else ""
    return f"{type(cause).__name__}: {said}"[:500]


class EngineError(RuntimeError):
    """An engine cannot start, cannot take a state's weights, or answered for another state."""
