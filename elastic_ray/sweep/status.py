"""The state of a sweep, read from the results alone: `--status`, `--follow` and `--stop`.

Works from any process that can read the results, also while another process runs the sweep.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..plan import Plan, Point
from ..progress.budget import budget_text, recorded_hours
from ..progress.counts import count_points
from ..progress.recovery import restore_progress
from ..results.errors import ResultsError
from ..results.leases.sweep_lease import SweepLease, current_lease, request_stop
from ..results.store import Results

STOP_TIMEOUT = 180.0
"""Seconds that a driver may take to stop."""
POLL_INTERVAL = 2.0
"""Seconds between reads of the lease while following."""
LINE_INTERVAL = 15.0
"""Seconds between progress lines where the output is not a terminal."""


def print_recorded(console: Console, plan: Plan, uri: str) -> None:
    """Print what a run would find recorded, and what it would train."""
    try:
        results = Results(uri, read_only=True)
    except ResultsError as e:
        console.print(f"recorded already: nothing ({e})", markup=False)
        return
    tracker, left = restore_progress(plan, results)
    cells = sum(map(tracker.measured, plan.cells))
    lessons = f"{sum(map(tracker.measured, plan.lessons)):,} lessons, " if plan.lessons else ""
    console.print(
        f"recorded already in {uri}: {cells:,} cells, {lessons}{len(tracker.done):,} states; "
        f"left to train: {len(left.ladders):,} training runs",
        markup=False,
    )
    if text := budget_text(plan.spec.resources, recorded_hours(results, plan.spec.sweep)):
        console.print(text, markup=False)


def print_status(console: Console, plan: Plan, uri: str) -> bool:
    """Print who runs the sweep, its progress and what is recorded.

    Returns whether everything that the sweep requests is recorded. Raises `ResultsError` if there
    are no results.
    """
    results = Results(uri, read_only=True)
    name = plan.spec.sweep
    tracker, left = restore_progress(plan, results)
    rows = results.states(("status",))
    failed = sum(rows[s]["status"] == "failed" for s in plan.states if s in rows)
    lines = [f"sweep {name} in {results.uri}"]
    lines += _lease_lines(current_lease(results.folder, name))
    lines += [counts.text for counts in count_points(tracker, _recorded_errors(plan, results))]
    used = recorded_hours(results, name)
    lines += [
        f"states: {len(tracker.done):,} done, {failed:,} failed, of {len(plan.states):,}",
        f"evaluation requests: {len(tracker.closed):,} done, of {len(plan.requests()):,}",
        f"left to train: {len(left.ladders):,} training runs, "
        f"{sum(ladder.examples for ladder in left.ladders):,} examples",
        f"resources held by all runs so far: {used.text()}",
    ]
    if text := budget_text(plan.spec.resources, used):
        lines.append(text)
    for line in lines:
        console.print(line, markup=False)
    return all(map(tracker.measured, plan.points))


def _recorded_errors(plan: Plan, results: Results) -> Callable[[Point], str | None]:
    """Return the errors of cells and lessons, from the rows that the last run wrote."""
    rows = list(results.cells(plan.spec.sweep))
    if plan.lessons and results.has("lessons", sweep=plan.spec.sweep):
        rows += results.sweep_rows("lessons", plan.spec.sweep)
    errors = {
        (row["task"], row["state_id"]): row["error"] for row in rows if row["status"] == "failed"
    }
    return lambda point: errors.get((point.task, point.state_id))


def _lease_lines(lease: SweepLease | None) -> Iterator[str]:
    """Yield who runs the sweep, and when its process last reported."""
    if lease is None:
        yield "not running"
        return
    if lease.expired():
        yield f"not running; {lease.description()} ran it and ended without releasing its lease"
    else:
        yield f"run by {lease.description()} since {_utc(lease.since)}"
    age = max(time.time() - lease.heard, 0)
    yield f"last heartbeat: {_utc(lease.heard)}, {age:.0f} s ago"
    if lease.progress:
        yield f"progress then: {lease.progress}"


def follow(console: Console, plan: Plan, uri: str) -> int:
    """Show the progress of the process that runs the sweep until it ends, then the status.

    Returns the exit code: 0 if everything is measured at the end, else 1; 130 on Ctrl-C, which does
    not affect the sweep. Raises `ResultsError` if there are no results.
    """
    try:
        _watch(console, Results(uri, read_only=True), plan.spec.sweep)
    except KeyboardInterrupt:
        console.print("stopped following; the sweep continues")
        return 130
    return 0 if print_status(console, plan, uri) else 1


def _watch(console: Console, results: Results, sweep: str) -> None:
    """Show the progress line of the sweep's lease until the lease ends."""
    live = Live(console=console, transient=True) if console.is_terminal else None
    shown, shown_at, run = "", 0.0, ""
    if live:
        live.start()
    try:
        while True:
            try:
                lease = current_lease(results.folder, sweep)
            except (ResultsError, OSError) as e:  # the next read may succeed
                line = f"progress is not readable now: {e}"
            else:
                if lease is None or lease.expired():
                    return
                line = lease.progress
                if lease.token != run:
                    run = lease.token
                    console.print(
                        f"sweep {lease.sweep} is run by {lease.description()}; "
                        "Ctrl-C does not stop it",
                        markup=False,
                        soft_wrap=True,
                    )
            if live:
                live.update(Text(line))
            elif line != shown and time.monotonic() - shown_at >= LINE_INTERVAL:
                # rich would print the line twice if interrupted while printing.
                print(line, file=console.file, flush=True)
                shown, shown_at = line, time.monotonic()
            time.sleep(POLL_INTERVAL)
    finally:
        if live:
            live.stop()


def stop_driver(uri: str, sweep: str) -> str:
    """Stop the process that runs the sweep, as Ctrl-C does, and wait until it has ended.

    Returns a message for the user. Raises `ResultsError` if the sweep is not running, or has not
    stopped after `STOP_TIMEOUT` seconds.
    """
    folder = Results(uri, read_only=True).folder
    lease = current_lease(folder, sweep)
    if lease is None or lease.expired():
        raise ResultsError(f"{sweep} is not running on {uri}")
    request_stop(folder, lease)
    deadline = time.monotonic() + STOP_TIMEOUT
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = current_lease(folder, sweep)
        if now is None or now.token != lease.token or now.expired():
            return f"{lease.description()} has stopped; to continue, run the sweep's command again"
    raise ResultsError(
        f"{lease.description()} was asked to stop {STOP_TIMEOUT:.0f} s ago and still runs"
    )


def _utc(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
