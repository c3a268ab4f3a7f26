"""`--status --follow`: the progress of a sweep that another process runs, until that ends."""

from __future__ import annotations

import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..plan import Plan
from ..results.errors import ResultsError
from ..results.leases.sweep_lease import SweepLease, current_lease
from ..results.store import Results
from .status import print_status

LOOK = 2.0
"""Seconds between looks at the lease."""
LINE_EVERY = 15.0
"""Seconds between lines where they stay: not in a terminal."""


def follow(console: Console, plan: Plan, uri: str) -> int:
    """Show the progress of whoever runs the sweep until nobody does, then its status.

    Returns the exit code: 0 if all is measured then, else 1; 130 on Ctrl-C, which ends nothing but
    this. `ResultsError` without results.
    """
    try:
        _watch(console, Results(uri, read_only=True), plan.spec.sweep)
    except KeyboardInterrupt:
        console.print("left; the sweep goes on")
        return 130
    return 0 if print_status(console, plan, uri) else 1


def _watch(console: Console, results: Results, sweep: str) -> None:
    live = Live(console=console, transient=True) if console.is_terminal else None
    shown, at, run = "", 0.0, ""
    if live:
        live.start()
    try:
        while True:
            try:
                lease = current_lease(results.folder, sweep)
            except (ResultsError, OSError) as e:  # the next look may succeed
                words = f"cannot be told now: {e}"
            else:
                if lease is None or lease.expired():
                    return
                words = lease.progress
                if lease.token != run:
                    run = lease.token
                    console.print(_who(lease), markup=False, soft_wrap=True)
            if live:
                live.update(Text(words))
            elif words != shown and time.monotonic() - at >= LINE_EVERY:
                # Not by rich: interrupted in between, it would say the line again.
                print(words, file=console.file, flush=True)
                shown, at = words, time.monotonic()
            time.sleep(LOOK)
    finally:
        if live:
            live.stop()


def _who(lease: SweepLease) -> str:
    return f"sweep {lease.sweep} is run by {lease.description()}; Ctrl-C leaves it running"
