"""`python -m elastic_ray.sweep SPEC`: run a sweep, or with `--dry-run` plan and price it.

`--status` says who runs it and what is on record, with `--follow` also how far it is until it ends;
`--stop` stops it from another terminal.

Exit codes: 0 all measured; 1 some cells failed, the results cannot be written, or another driver
runs the sweep on them; 2 the sweep file or the task cannot be used; 3 its budget is used up
(`resources.max_gpu_hours`, `max_cpu_hours`); 130 stopped by the user. Whatever was recorded stays.
`--stop`: 0 once it has stopped; 1 if nobody runs it, or it goes on. `--status --follow`: 0 if all
is measured once nobody runs it, else 1; 130 if left before.
"""

from __future__ import annotations

import datetime as dt
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from ..driver.checkpoint_cleanup import CheckpointCleanup
from ..driver.coordination import StateCoordinator
from ..plan import Plan, check_models
from ..progress.budget import Budget
from ..progress.grid_rows import cell_rows, lesson_rows
from ..progress.recovery import restore_progress
from ..progress.tracker import ProgressTracker
from ..results.leases.sweep_lease import SweepLease, acquire_sweep_lease
from ..results.store import Results
from ..spec import SpecError
from ..tasks.task import Task, TaskError
from .outcome import failures, print_outcome

ENDED = (
    "the sweep has ended at once: it was killed, or its Ray cluster's head is gone; "
    "what is recorded stays, the same command goes on from here"
)
"""Ray ends this process from within, without a word, when the head of its cluster is gone."""


def _console() -> Console:
    """The terminal; into a file or a pipe, lines are as long as they need to be."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def _fail(message: str, code: int) -> int:
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)
    return code


def _run(plan: Plan, loaded: Mapping[str, Task], uri: str) -> int:
    """Run the sweep, alone on these results."""
    results = Results(uri)
    shown: list[ProgressTracker] = []
    reasons: list[str] = []

    def stop(reason: str) -> None:
        reasons.append(reason)
        os.kill(os.getpid(), signal.SIGINT)  # what Ctrl-C does, wherever the run is

    try:
        with acquire_sweep_lease(
            results.folder,
            plan.spec.sweep,
            lambda: shown[0].activity.progress_line if shown else "",
            stop,
        ) as lease:
            return _run_alone(plan, loaded, results, uri, shown, lease)
    finally:
        for reason in reasons:
            print(f"stopped because {reason}", file=sys.stderr)


def _run_alone(
    plan: Plan,
    loaded: Mapping[str, Task],
    results: Results,
    uri: str,
    shown: list[ProgressTracker],
    lease: SweepLease,
) -> int:
    began = time.monotonic()
    tracker, left = restore_progress(plan, results)
    shown.append(tracker)
    open_questions = any(asked not in tracker.closed for asked in plan.requests())
    work = bool(left.ladders or left.starts or open_questions)
    budget = Budget(results, lease, plan.spec.resources)
    if work and not budget.exhausted:
        check_models(plan.spec)
    console = _console()
    name = plan.spec.sweep
    done = sum(map(tracker.measured, plan.cells))
    console.print(
        f"sweep {name}: {len(plan.cells)} cells, "
        + (f"{len(plan.lessons)} lessons, " if plan.lessons else "")
        + f"{len(plan.states)} states, "
        f"{len(plan.ladders)} ladders; recorded already: {done} cells, {len(tracker.done)} states"
    )
    if results.notice:
        console.print(results.notice, markup=False)
    if words := budget.text():
        console.print(words)
    if work and budget.exhausted:
        return _over_budget(console, budget.exhausted)
    asked = {"spec": plan.spec.model_dump(mode="json"), "recorded_at": dt.datetime.now(dt.UTC)}
    results.replace("sweeps", name, [asked])
    corpora = [
        {"task": probe.task, "kind": kind, "corpus": corpus}
        for probe in plan.probes.values()
        for kind, corpus in probe.corpora.items()
    ]
    if corpora:
        results.replace("corpora", name, corpora)
    interrupted, broken = False, None
    if work:
        log = Path(os.path.abspath("logs") if "://" in uri else results.log_location("")).joinpath(
            f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.log"
        )
        console.print(f"output of Ray, DeepSpeed and vLLM: {log}", markup=False)
        interrupted, broken = _drive(plan, loaded, results, left, tracker, log, lease, budget)
        budget.record()
    elif words := CheckpointCleanup(
        plan, tracker, results, StateCoordinator(results, lease, tracker)
    ).rest():
        console.print(words)
    results.replace("cells", name, cell_rows(plan, tracker))
    if plan.lessons or results.has("lessons", sweep=name):
        results.replace("lessons", name, lesson_rows(plan, tracker))
    print_outcome(console, results, uri, name)
    _print_time(console, tracker, time.monotonic() - began)
    console.print(f"held by all runs so far: {budget.used.text()}")
    failed = failures(plan, tracker)
    for line in failed[:10]:
        console.print(f"failed: {line}", style="red", markup=False)
    if failed:
        more = f" ({len(failed) - 10} more)" if len(failed) > 10 else ""
        what = "cells and lessons" if plan.lessons else "cells"
        console.print(
            f"{len(failed)} {what} failed{more}; the same command tries again what may succeed",
            style="red",
        )
    if interrupted and budget.exhausted:
        return _over_budget(console, budget.exhausted)
    if interrupted:
        console.print("stopped; the same command goes on from here")
        return 130
    if broken:
        return _fail(f"{broken}\nmore in the log; the same command goes on from here", 1)
    return 1 if failed else 0


def _drive(
    plan: Plan,
    loaded: Mapping[str, Task],
    results: Results,
    left: Any,
    tracker: ProgressTracker,
    log: Path,
    lease: SweepLease,
    budget: Budget,
) -> tuple[bool, str | None]:
    """Run what is left on Ray, its output in the log: whether it was stopped, and what
    broke it (Ray itself, say: what fails in a cell is the cell's)."""
    # Before ray is imported: children inherit these.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_SCHEDULER_EVENTS", "0")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from .log_capture import capture_output, message_on_death

    with capture_output(log) as stream, message_on_death(stream, ENDED):
        import ray

        from ..cluster.ray_cluster import connect
        from ..driver.driver import drive
        from ..serving.errors import error_summary

        started = False
        try:
            started = connect(lambda words: print(words, file=stream))
            if not started:
                at = ray.get_runtime_context().gcs_address
                print(f"joined the Ray cluster at {at}; this ends if its head does", file=stream)
            ended = drive(plan, loaded, results, left, tracker, stream, lease, budget)
            return ended.interrupted, None
        except (SpecError, TaskError):
            raise
        except Exception as e:
            traceback.print_exc()  # into the log
            return False, "; ".join(error_summary(each) for each in _leaves(e))
        finally:
            if started:
                ray.shutdown()


def _over_budget(console: Console, words: str) -> int:
    console.print(f"{words}; what is recorded stays, with more the same command goes on from here")
    return 3


def _leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group, and in its groups; an error alone is one."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for each in error.exceptions for leaf in _leaves(each)]


def _print_time(console: Console, tracker: ProgressTracker, seconds: float) -> None:
    from ..driver.progress_display import clock

    spent = ", ".join(
        f"{kind} {clock(took)}" for kind, took in sorted(tracker.activity.seconds.items())
    )
    console.print(f"time: {clock(seconds)}" + (f" (working: {spent})" if spent else ""))
