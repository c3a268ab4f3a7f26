"""Errors of serving, and one-line summaries of errors that Ray raised."""

from __future__ import annotations

from typing import Any


class EngineError(RuntimeError):
    """An engine or scorer cannot start, does not support a request, or holds another state."""


def error_summary(error: Any) -> str:
    """Return an error as one line of at most 500 characters: its type and its message.

    Ray wraps what a replica raised: the `cause` of the wrapper is summarised. Of a message that
    contains a traceback the last line is taken, of any other the first.
    """
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    has_traceback = any(line.startswith("Traceback (most recent") for line in lines)
    message = lines[-1 if has_traceback else 0] if lines else ""
    return f"{type(cause).__name__}: {message}"[:500]
