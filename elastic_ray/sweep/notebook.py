"""Runs a sweep from a notebook or a script: the sweep command in a process of its own.

The command handles signals and runs an event loop, which a notebook's kernel already does. A
process of its own also frees all memory of Ray and vLLM when it ends.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..results.store import Results

EXIT_CODES = {
    1: "some cells failed, the results cannot be written, or another driver runs the sweep",
    2: "the sweep file or a task is not usable",
    3: "the sweep's budget is used up",
    130: "stopped by the user",
}


class SweepFailed(RuntimeError):
    """The sweep command ended with a non-zero exit code; `code` holds it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def run_sweep(
    path: str | Path, results: str | Path = "results", overrides: Sequence[str] = ()
) -> Results:
    """Run a sweep file to its end and return its results, opened for reading.

    `results` is a folder or a URI; `overrides` are `path=value` settings as for `--set`. Progress
    is printed. Recorded states are not computed again, so a sweep that was stopped continues.

    Raises `SweepFailed` if the command ends with a code other than 0. Everything recorded until
    then is kept. An interrupt of the notebook stops the sweep as Ctrl-C does.
    """
    command = [sys.executable, "-m", "elastic_ray.sweep", str(path), "--results", str(results)]
    for override in overrides:
        command += ["--set", override]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    last = _print_output(process)
    if code := process.returncode:
        reason = EXIT_CODES.get(code, "the command ended unexpectedly")
        raise SweepFailed(code, f"exit code {code} ({reason}); last line: {last}")
    return Results(str(results), read_only=True)


def _print_output(process: subprocess.Popen[str]) -> str:
    """Print the process's lines as they come; return the last one."""
    assert process.stdout is not None
    last = ""
    while True:
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                last = line.strip() or last
            process.wait()
            return last
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
