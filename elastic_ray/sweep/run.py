"""Runs a sweep to its end, alone on its results, and prints its outcome.

Whatever is recorded is not computed again, so a stopped run continues with the same command. The
output of Ray, DeepSpeed and vLLM goes to a log file.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from ..driver.checkpoint_cleanup import CheckpointCleanup
from ..driver.coordination import StateCoordinator
from ..plan import Plan, check_local_models, check_models, scorer_lines
from ..progress.activity import clock
from ..progress.budget import Budget
from ..progress.grid_rows import write_grid_rows
from ..progress.outstanding import Outstanding
from ..progress.recovery import follow_moved_folders, restore_progress
from ..progress.tracker import ProgressTracker
from ..results.leases.sweep_lease import SweepLease, acquire_sweep_lease
from ..results.store import Results
from ..spec import SpecError
from ..tasks.task import Task, TaskError
from .lengths import check_lengths
from .outcome import failures, print_outcome
from .terminal import CONTINUE, fail, interrupt_on_sigterm, open_console

KILLED = (
    "the sweep ended abruptly: it was killed, or the head of its Ray cluster is gone; "
    f"recorded results stay, {CONTINUE}"
)
"""Shown if this process is killed. Ray ends it, without a message, when the cluster's head is
gone."""
SHOWN_FAILURES = 10
"""Failed cells that are printed one by one."""


def run(plan: Plan, tasks: Mapping[str, Task], uri: str) -> int:
    """Run the sweep on the results at `uri` and return the exit code (see `__main__`).

    Raises `ResultsError` if another driver runs the sweep on these results.
    """
    results = Results(uri)
    trackers: list[ProgressTracker] = []
    reasons: list[str] = []

    def progress() -> str:
        return trackers[0].activity.progress_line if trackers else ""

    def stop(reason: str) -> None:
        reasons.append(reason)
        os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C does, at any stage of the run

    try:
        with acquire_sweep_lease(results.folder, plan.spec.sweep, progress, stop) as lease:
            return _run_with_lease(plan, tasks, results, uri, trackers, lease)
    finally:
        for reason in reasons:
            print(f"stopped because {reason}", file=sys.stderr)


def _run_with_lease(
    plan: Plan,
    tasks: Mapping[str, Task],
    results: Results,
    uri: str,
    trackers: list[ProgressTracker],
    lease: SweepLease,
) -> int:
    """Run what is left of the sweep while its lease is held; add its tracker to `trackers`."""
    began = time.monotonic()
    notices = list(follow_moved_folders(plan, results))
    tracker, left = restore_progress(plan, results)
    trackers.append(tracker)
    is_open = any(request not in tracker.closed for request in plan.requests())
    has_work = bool(left.ladders or left.starts or is_open)
    budget = Budget(results, lease, plan.spec.resources)
    if has_work and not budget.exhausted:
        check_models(plan.spec)
        if notice := check_local_models(plan.spec):
            print(notice, file=sys.stderr)
        notices += check_lengths(plan, tasks, to_run=True)
    console = open_console()
    _print_start(console, plan, tracker, results, budget)
    for line in notices:
        console.print(line, markup=False, soft_wrap=True)
    if has_work and budget.exhausted:
        return _over_budget(console, budget.exhausted)
    _record_spec(plan, results)
    interrupted, error = False, None
    if has_work:
        name = f"{plan.spec.sweep}-{time.strftime('%Y%m%d-%H%M%S')}.log"
        log = Path(os.path.abspath("logs") if "://" in uri else results.log_location("")) / name
        console.print(f"output of Ray, DeepSpeed and vLLM: {log}", markup=False)
        interrupted, error = _drive(plan, tasks, results, left, tracker, log, lease, budget)
        budget.record()
        with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as file:
            print(_time(tracker, time.monotonic() - began), file=file)
    elif message := CheckpointCleanup(
        plan, tracker, results, StateCoordinator(results, lease, tracker)
    ).delete_remaining():
        console.print(message)
    write_grid_rows(results, plan, tracker)
    if any(map(tracker.measured, plan.points)):  # else the table would have nothing but dashes
        print_outcome(console, results, uri, plan.spec.sweep)
    console.print(_time(tracker, time.monotonic() - began))
    console.print(f"resources held by all runs so far: {budget.used.text()}")
    failed = failures(plan, tracker)
    _print_failures(console, plan, failed)
    if interrupted and budget.exhausted:
        return _over_budget(console, budget.exhausted)
    if interrupted:
        console.print(f"stopped; {CONTINUE}")
        return 130
    if error:
        return fail(f"{error}\nmore in the log; {CONTINUE}", 1)
    return 1 if failed else 0


def _record_spec(plan: Plan, results: Results) -> None:
    """Record what the sweep requests: its spec and the corpora of its code lengths."""
    row = {"spec": plan.spec.model_dump(mode="json"), "recorded_at": dt.datetime.now(dt.UTC)}
    results.replace("sweeps", plan.spec.sweep, [row])
    corpora = [
        {"task": probe.task, "kind": kind, "corpus": corpus}
        for probe in plan.probes.values()
        for kind, corpus in probe.corpora.items()
    ]
    if corpora:
        results.replace("corpora", plan.spec.sweep, corpora)


def _drive(
    plan: Plan,
    tasks: Mapping[str, Task],
    results: Results,
    left: Outstanding,
    tracker: ProgressTracker,
    log: Path,
    lease: SweepLease,
    budget: Budget,
) -> tuple[bool, str | None]:
    """Run what is left on Ray, with its output in the log.

    Returns whether it was stopped, and the error that broke the run as a whole (of Ray itself, for
    example); an error in a cell belongs to the cell.
    """
    # Before ray is imported: child processes inherit these.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_SCHEDULER_EVENTS", "0")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from ..cluster.environment import prepare_environment
    from .log_capture import capture_output, message_on_death

    for line in prepare_environment():
        print(line)
    with capture_output(log) as stream, message_on_death(stream, KILLED):
        import ray

        from ..cluster.ray_cluster import connect
        from ..driver.driver import drive
        from ..serving.errors import error_summary

        started = False
        try:
            started = connect(lambda message: print(message, file=stream))
            if not started:
                address = ray.get_runtime_context().gcs_address
                print(
                    f"joined the Ray cluster at {address}; the sweep ends if its head does",
                    file=stream,
                )
            outcome = drive(plan, tasks, results, left, tracker, stream, lease, budget)
            return outcome.interrupted, None
        except (SpecError, TaskError):
            raise
        except Exception as e:
            errors = _single_errors(e)
            refused = next((each for each in errors if isinstance(each, SpecError)), None)
            if refused is not None:  # found while other parts ran: a scorer at chance
                raise refused from None
            traceback.print_exc()  # into the log
            return False, "; ".join(map(error_summary, errors))
        finally:
            interrupt_on_sigterm()  # the driver's own handler ended with it
            if started:
                ray.shutdown()


def _over_budget(console: Console, message: str) -> int:
    """Print that the budget is used up; return the exit code."""
    console.print(f"{message}; recorded results stay, raise the budget to continue")
    return 3


def _single_errors(error: BaseException) -> list[BaseException]:
    """Return the errors of a group and of the groups in it; a single error as a list of one."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [single for each in error.exceptions for single in _single_errors(each)]


def _print_start(
    console: Console, plan: Plan, tracker: ProgressTracker, results: Results, budget: Budget
) -> None:
    """Print the sweep's size, what is recorded already, and the budget."""
    done = sum(map(tracker.measured, plan.cells))
    console.print(
        f"sweep {plan.spec.sweep}: {len(plan.cells)} cells, "
        + (f"{len(plan.lessons)} lessons, " if plan.lessons else "")
        + f"{len(plan.states)} states, "
        f"{len(plan.ladders)} training runs; recorded already: {done} cells, "
        f"{len(tracker.done)} states"
    )
    for line in scorer_lines(plan.spec):
        console.print(line, markup=False, soft_wrap=True)
    if results.notice:
        console.print(results.notice, markup=False)
    if text := budget.text():
        console.print(text)


def _print_failures(console: Console, plan: Plan, failed: list[str]) -> None:
    """Print the first failed cells and lessons with their errors, and their number."""
    for line in failed[:SHOWN_FAILURES]:
        console.print(f"failed: {line}", style="red", markup=False)
    if failed:
        hidden = len(failed) - SHOWN_FAILURES
        more = f" ({hidden} more)" if hidden > 0 else ""
        what = "cells and lessons" if plan.lessons else "cells"
        console.print(
            f"{len(failed)} {what} failed{more}; run the same command to retry them", style="red"
        )


def _time(tracker: ProgressTracker, seconds: float) -> str:
    """Return the line with the wall-clock time of this run, and the seconds by kind of work."""
    spent = ", ".join(
        f"{kind} {clock(took)}" for kind, took in sorted(tracker.activity.seconds.items())
    )
    return f"time: {clock(seconds)}" + (f" (working: {spent})" if spent else "")
