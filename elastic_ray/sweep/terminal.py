"""Output to the user: the console of the command, and error messages."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

from rich.console import Console

CONTINUE = "run the same command to continue"
"""What a user does after a stop: recorded results are never computed again."""


def open_console() -> Console:
    """Return a console on stdout, 200 columns wide where stdout is not a terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def fail(message: str, code: int) -> int:
    """Print each line of an error message to stderr and return the exit code."""
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)
    return code


def interrupt_on_sigterm() -> None:
    """Have SIGTERM end the command as Ctrl-C does.

    The first process of a container would otherwise ignore it until it is killed.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
