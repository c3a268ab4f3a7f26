"""Sends the output of Ray, DeepSpeed and vLLM to a log file while a sweep runs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


@contextlib.contextmanager
def capture_output(log: Path) -> Iterator[TextIO]:
    """Append stdout and stderr to `log` inside the context; yield a stream to the former stdout.

    File descriptors 1 and 2 are redirected, so that child processes inherit the log too.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    out, err = os.dup(1), os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    display = os.fdopen(os.dup(out), "w", encoding="utf-8", errors="replace", buffering=1)
    try:
        yield display
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        display.close()


@contextlib.contextmanager
def message_on_death(stream: TextIO, message: str) -> Iterator[None]:
    """Print `message` to the stream if the process dies inside this context, even by SIGKILL.

    A shell waits at a pipe. When this process dies, the pipe closes without a line in it.
    """
    waiting = ["sh", "-c", 'read -r _ || printf "%s\\n" "$1"', "sh", message]
    shell = subprocess.Popen(
        waiting,
        stdin=subprocess.PIPE,
        stdout=stream,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C must not reach it
    )
    try:
        yield
    finally:
        shell.communicate(b"left\n")
