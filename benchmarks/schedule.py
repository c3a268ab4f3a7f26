"""Measures the scheduler's overhead per trial, with many trials of one millisecond.

    python benchmarks/schedule.py [--trials 250 500 1000 2000] [--alone 5000 10000 20000]

One run takes three measurements:

- *ours*: the sweep's own searcher (`TrialSearcher`, `run_trials`) on a planned grid. Half of the
  trials start from a state of another trial. A trial sleeps a millisecond and reports that its
  states are recorded. Nothing is trained.
- *plain*: the same number of trials with the same work, through Ray Tune with its default searcher.
- *alone*: the searcher without Tune. It handles every suggestion, result and completion of a trial.
  Each trial that must wait comes before those that may start.

*ours* and *plain* reuse actors, and run one trial at a time by default. When several trials of a
millisecond end at once, Tune keeps only one of our processes, because our searcher suggests no
trial ahead; a new process takes seconds to start.

Prints milliseconds per trial by number of trials, in wall-clock time and in CPU time of this
process (which excludes other work on the machine); the share of a quadratic term in the largest
run's CPU time (least squares on n and n^2, relative errors); and the CPU time of the last quarter
of its trials relative to the first quarter.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

WORK_SECONDS = 0.001


@dataclass(frozen=True)
class Taken:
    """Seconds of a run: wall-clock time, and CPU time of this process."""

    clock: float
    cpu: float


class Stopwatch:
    """Measures the time since it was created."""

    def __init__(self) -> None:
        self._clock, self._cpu = time.monotonic(), time.process_time()

    def taken(self) -> Taken:
        return Taken(time.monotonic() - self._clock, time.process_time() - self._cpu)


def planned(trials: int) -> Any:
    """Return a plan of `trials` ladders: one model, a positive and a negative ladder per seed."""
    from elastic_ray.plan import plan_sweep
    from elastic_ray.spec import load_spec
    from elastic_ray.tasks.registry import load_task

    fields = {
        "sweep": "schedule",
        "task": "reviews",
        "models": [{"name": "model-1b", "hub": "some/model-1b", "revision": "0" * 40}],
        "positive": [8],
        "negative": [8],
        "seeds": list(range(trials // 2)),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "schedule.yaml"
        path.write_text(json.dumps(fields))  # JSON is YAML
        spec = load_spec(path)
    return plan_sweep(spec, {task.name: load_task(task.name, task.data) for task in spec.task}, {})


class _NoGroups:
    """Worker groups without processes: the trials of this benchmark only sleep."""

    def start(self, nodes: tuple[str, ...]) -> str:
        return "group"

    def responds(self, group: str) -> bool:
        return True

    def close(self, group: str) -> None:
        pass

    def kill(self, group: str) -> None:
        pass


def searcher(
    trials: int, moments: list[float], concurrent: int = 1, backwards: bool = False
) -> Any:
    """Return the sweep's searcher with as many trials as ladders.

    `moments` gets, for each state that is done, the CPU seconds of this process so far.
    """
    from elastic_ray.placement import TrainerSlot
    from elastic_ray.plan import bundle
    from elastic_ray.progress.tracker import ProgressTracker
    from elastic_ray.schedule.trainer_slots import TrainerSlots
    from elastic_ray.schedule.tune_search import TrialSearcher

    plan = planned(trials)
    tracker = ProgressTracker(plan, plan.starts, (), ())
    tracker.listen(lambda event, state: moments.append(time.process_time()))
    found = bundle(plan.ladders, lambda ladder: 1e6, slots=2)
    assert len(found) == trials
    slots = TrainerSlots([TrainerSlot(())] * concurrent, _NoGroups())
    order = found[::-1] if backwards else found
    return TrialSearcher(tracker, order, lambda failures: None, bool, slots)


def work(config: dict[str, Any]) -> None:
    """Run a trial: sleep a millisecond, then report that its states are recorded."""
    from ray import tune

    time.sleep(WORK_SECONDS)
    # A ladder's id is that of its last state; each ladder here has one state.
    tune.report({"recorded": config.get("ladders", []), "seconds": {"train": WORK_SECONDS}})


def ours(trials: int, concurrent: int) -> tuple[Taken, list[float]]:
    """Time the sweep's scheduler; also return the CPU second at which each state was recorded."""
    from elastic_ray.schedule.tune_search import run_trials

    moments: list[float] = []
    trial_searcher = searcher(trials, moments, concurrent)
    watch = Stopwatch()
    run_trials(trial_searcher, work)
    taken = watch.taken()
    assert len(moments) == trials
    return taken, moments


def plain(trials: int, concurrent: int) -> Taken:
    """Time Ray Tune by itself."""
    from ray import tune

    from elastic_ray.schedule.tune_search import TRIAL_RESOURCES

    watch = Stopwatch()
    with tempfile.TemporaryDirectory(prefix="elastic_ray-plain-") as scratch:
        found = tune.Tuner(
            tune.with_resources(work, TRIAL_RESOURCES),
            tune_config=tune.TuneConfig(
                num_samples=trials, max_concurrent_trials=concurrent, reuse_actors=True
            ),
            run_config=tune.RunConfig(name="plain", storage_path=scratch, verbose=0),
        ).fit()
        assert found.num_terminated == trials
    return watch.taken()


def alone(trials: int) -> Taken:
    """Time the searcher itself on that many trials, eight at a time."""
    trial_searcher = searcher(trials, [], concurrent=8, backwards=True)
    running: dict[str, Any] = {}
    named = 0
    watch = Stopwatch()
    while True:
        while len(running) < 8:
            suggested = trial_searcher.suggest(f"t{named}")
            if not isinstance(suggested, dict):
                break
            running[f"t{named}"] = suggested
            named += 1
        if not running:
            assert suggested == trial_searcher.FINISHED and named == trials
            return watch.taken()
        first = next(iter(running))
        trial_searcher.on_trial_result(
            first, {"recorded": running.pop(first)["ladders"], "seconds": {"train": 0.0}}
        )
        trial_searcher.on_trial_complete(first)


def quadratic(counts: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the share of the largest run's time that a fitted n^2 term explains (0.0: none)."""
    n, t = np.array(counts, float), np.array(seconds)
    columns = np.stack([n / t, n**2 / t], axis=1)  # relative errors
    _, square = np.linalg.lstsq(columns, np.ones(len(n)), rcond=None)[0]
    return float(square * n[-1] ** 2 / t[-1])


def quarters(moments: Sequence[float]) -> float:
    """Return the time of the last quarter of trials divided by that of the first quarter."""
    cut = len(moments) // 4
    return (moments[-1] - moments[-1 - cut]) / (moments[cut] - moments[0])


def show(name: str, counts: Sequence[int], runs: Sequence[Taken]) -> None:
    """Print milliseconds per trial of each run, and the share of a quadratic term."""
    clock, cpu = (
        ", ".join(
            f"{n:,}: {1000 * getattr(run, kind) / n:.3g}"
            for n, run in zip(counts, runs, strict=True)
        )
        for kind in ("clock", "cpu")
    )
    print(f"{name}: wall-clock ms per trial: {clock}; CPU ms per trial: {cpu}", flush=True)
    if len(counts) > 2:
        share = quadratic(counts, [run.cpu for run in runs])
        print(
            f"{name}: an n^2 term explains {share:+.1%} of the largest run's CPU time", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[250, 500, 1000, 2000])
    parser.add_argument("--alone", type=int, nargs="*", default=[5000, 10_000, 20_000])
    parser.add_argument(
        "--concurrent", type=int, default=1, help="number of trials that run at once"
    )
    args = parser.parse_args()
    if args.alone:
        best = [min((alone(n) for _ in range(3)), key=lambda run: run.cpu) for n in args.alone]
        show("alone", args.alone, best)
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    import ray

    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        ours(8, args.concurrent)  # the first run includes imports
        own, others = [], []
        for trials in args.trials:
            own.append(ours(trials, args.concurrent))
            others.append(plain(trials, args.concurrent))
    finally:
        ray.shutdown()
    show("ours", args.trials, [taken for taken, _ in own])
    print(
        f"ours: the last quarter of trials took {quarters(own[-1][1]):.2f} times "
        "the CPU time of the first"
    )
    show("plain", args.trials, others)
    last, beside = own[-1][0], others[-1]
    print(
        f"plain relative to ours at {args.trials[-1]:,} trials: wall-clock time "
        f"{beside.clock / last.clock:.2f}, CPU time {beside.cpu / last.cpu:.2f}"
    )


if __name__ == "__main__":
    main()
