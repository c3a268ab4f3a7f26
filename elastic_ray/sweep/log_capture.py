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
    """Descriptors 1 and 2 go to `log`; yields a stream to where stdout went before."""
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
def message_on_death(stream: TextIO, words: str) -> Iterator[None]:
    """Have `words` said on the stream if this process ends within, however it ends.

    A shell waits at a pipe: it closes without a line in it when this process is gone.
    """
    waiting = ["sh", "-c", 'read -r _ || printf "%s\\n" "$1"', "sh", words]
    shell = subprocess.Popen(
        waiting,
        stdin=subprocess.PIPE,
        stdout=stream,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not for it
    )
    try:
        yield
    finally:
        shell.communicate(b"left\n")
