"""What of a plan is on record, and who runs it: read from the results alone, also while it runs."""

from __future__ import annotations

import datetime as dt
import time

from rich.console import Console

from ..plan import Plan
from ..progress.budget import budget_text, recorded_hours
from ..progress.recovery import restore_progress
from ..results.errors import ResultsError
from ..results.leases.sweep_lease import current_lease, request_stop
from ..results.store import Results

STOP_WAIT = 180.0
"""Seconds that a stopped driver may take to end."""


def print_recorded(console: Console, plan: Plan, uri: str) -> None:
    """What a run would find recorded, and what it would train."""
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
        f"left to train: {len(left.ladders):,} ladders",
        markup=False,
    )
    if words := budget_text(plan.spec.resources, recorded_hours(results, plan.spec.sweep)):
        console.print(words, markup=False)


def print_status(console: Console, plan: Plan, uri: str) -> bool:
    """Who runs the sweep, how far it is and what is on record; `ResultsError` without results.

    Returns whether all that the sweep asks for is on record.
    """
    results = Results(uri, read_only=True)
    name = plan.spec.sweep
    lease = current_lease(results.folder, name)
    tracker, left = restore_progress(plan, results)
    states = results.states(("status",))
    failed = sum(states[s]["status"] == "failed" for s in plan.states if s in states)
    broken = {row["state_id"] for row in results.cells(name) if row["status"] == "failed"}
    lines = [f"sweep {name} in {results.uri}"]
    if lease is None:
        lines.append("nobody runs it")
    elif lease.expired():
        lines.append(f"nobody runs it; {lease.description()} did, and ended without saying so")
    else:
        lines.append(f"run by {lease.description()} since {_moment(lease.since)}")
    if lease is not None:
        age = max(time.time() - lease.heard, 0)
        lines.append(f"last heard of: {_moment(lease.heard)}, {age:.0f} s ago")
        if lease.progress:
            lines.append(f"then: {lease.progress}")
    cells = [
        "done" if tracker.measured(cell) else ("failed" if cell.state_id in broken else "open")
        for cell in plan.cells
    ]
    lines += [
        f"cells: {cells.count('done'):,} done, {cells.count('failed'):,} failed, "
        f"{cells.count('open'):,} open, of {len(cells):,}",
    ]
    if plan.lessons:
        done = sum(map(tracker.measured, plan.lessons))
        lines.append(f"lessons: {done:,} done, of {len(plan.lessons):,}")
    lines += [
        f"states: {len(tracker.done):,} done, {failed:,} failed, of {len(plan.states):,}",
        f"questions: {len(tracker.closed):,} of {len(plan.requests()):,}",
        f"left to train: {len(left.ladders):,} ladders, "
        f"{sum(ladder.examples for ladder in left.ladders):,} examples",
    ]
    used = recorded_hours(results, name)
    lines.append(f"held by all runs so far: {used.text()}")
    if words := budget_text(plan.spec.resources, used):
        lines.append(words)
    for line in lines:
        console.print(line, markup=False)
    return all(map(tracker.measured, plan.points))


def stop_driver(uri: str, sweep: str) -> str:
    """Stop whoever runs the sweep, as Ctrl-C does, and wait for it; returns what to say.

    `ResultsError` if nobody runs it, or whoever does goes on for `STOP_WAIT` seconds.
    """
    folder = Results(uri, read_only=True).folder
    lease = current_lease(folder, sweep)
    if lease is None or lease.expired():
        raise ResultsError(f"nobody runs {sweep} on {uri}")
    request_stop(folder, lease)
    deadline = time.monotonic() + STOP_WAIT
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = current_lease(folder, sweep)
        if now is None or now.token != lease.token or now.expired():
            return f"{lease.description()} has stopped; the sweep's command goes on from here"
    raise ResultsError(
        f"{lease.description()} was asked to stop {STOP_WAIT:.0f} s ago and still runs"
    )


def _moment(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
