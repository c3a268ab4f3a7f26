"""When ladders train: Ray Tune, with a searcher that follows the graph.

A trial is released the moment every snapshot it starts from is recorded, while the run that made
the snapshot may still go on. A state that failed takes with it what would start from it, and
nothing else. A trial that crashed is tried once more, from its last snapshots. Only this room and
`trial_process` know Ray Tune; what is done is told by the results, never by Tune's own files.
"""

from __future__ import annotations

import heapq
import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray import tune
from ray.tune import RunConfig, TuneConfig, Tuner
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from ..cluster.ray_cluster import gone
from ..plan import Dependency, Trial
from ..progress.grid_rows import Failure
from ..progress.tracker import ProgressTracker
from .trainer_slots import TrainerSlots

ATTEMPTS = 2
"""Tries of a trial whose process dies: once more, and a bug fails twice. One whose node is gone, or
gave notice of it, was not a try."""
MOST_TRIALS = 1024
"""Trials that Tune may hold at a time. How many there are is the searcher's to say: it gives out
the slots of the layout, whose number changes with the cluster; Tune's own limit cannot."""
SILENCE = 180.0
"""Seconds after which a trial that tells of no step is named: trainers report twice a second, but
start for a minute, and a large model is long in loading."""
WAITING = {"memory": 1}
"""What Tune sets aside for a trial's own process, which only waits for its worker group: it must be
something, and is nothing that a worker could lack (a byte)."""


@dataclass
class _Waiting:
    """A trial at its place in the order, and what it still waits for."""

    place: int
    trial: Trial
    needs: set[Dependency]


def _state_of(need: Dependency) -> str:
    return need if isinstance(need, str) else need.state_id


class _StaysHere:
    """Tune pickles its searcher and stopper to restore them later. These live in this process and
    are never restored (the results are the record), so a copy is the thing itself, and a pickle is
    empty."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return (object, ())


class TrialSearcher(_StaysHere, Searcher):
    """The searcher: suggests a trial when its parents are recorded, None while none is ready.

    Trials are released in the order given, those that are tried again first. What a suggestion
    costs does not grow with the trials that wait: a trial becomes ready when the board tells of
    the last thing that it needs. `take` claims the states of a trial; where another driver has one
    of them, the trial is put aside until `again`.
    """

    def __init__(
        self,
        tracker: ProgressTracker,
        trials: Sequence[Trial],
        record_failures: Callable[[Sequence[Failure]], None],
        take: Callable[[Sequence[str]], bool],
        slots: TrainerSlots,
    ) -> None:
        super().__init__()
        self._tracker, self._take, self._slots = tracker, take, slots
        self._ready: list[tuple[int, Trial]] = []
        """A heap of trials that may start, by their place in the order."""
        self._needing: dict[str, list[_Waiting]] = defaultdict(list)
        """State -> the trials that need it, or its answers, and wait for that."""
        self._running: dict[str, Trial] = {}
        self._nodes: dict[str, tuple[str, ...]] = {}
        """Where a running trial's workers are, and its own process."""
        self._left: set[str] = set()
        """Running trials that left a node which had given notice."""
        self._began: dict[str, float] = {}
        self._last: dict[str, float] = {}
        """When a running trial was last heard of; not those whose silence was told."""
        self._worked: dict[str, float] = {}
        """Seconds that a running trial has spent on its ladders, start-up left out."""
        self._tries: dict[str, int] = {}
        self._first = 0
        """The place before all others: of the trial to be tried again next."""
        self._crash: dict[str, str] = {}
        self._record_failures = record_failures
        self._elsewhere: list[tuple[int, Trial]] = []
        """Trials with a state that another driver computes now, by place."""
        self._lock = threading.Lock()
        self.stopped = threading.Event()
        with self._lock:
            for place, trial in enumerate(trials):
                waiting = _Waiting(place, trial, set(trial.needs))
                for state in set(map(_state_of, trial.needs)):
                    self._needing[state].append(waiting)
                if not trial.needs:
                    heapq.heappush(self._ready, (place, trial))
        tracker.listen(self._heard)  # before looking, so that nothing is missed in between
        for state in list(self._needing):
            self._heard("recorded before", state)

    def _heard(self, event: str, state: str) -> None:
        with self._lock:
            still = []
            for waiting in self._needing.pop(state, ()):
                here = {need for need in waiting.needs if _state_of(need) == state}
                open_here = {need for need in here if not self._tracker.settled(need)}
                waiting.needs -= here - open_here
                if open_here:
                    still.append(waiting)
                elif not waiting.needs:
                    heapq.heappush(self._ready, (waiting.place, waiting.trial))
            if still:
                self._needing[state] = still

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        while not self.stopped.is_set():
            found = self._next(trial_id)
            if found is None or isinstance(found, str):
                return found
            place, trial, nodes = found
            # Not under the lock, for which the driver's event loop may wait: a store can be slow.
            if self._take([rung.state_id for lad in trial.ladders for rung in lad.rungs]):
                self._running[trial_id], self._nodes[trial_id] = trial, nodes
                self._began[trial_id] = time.monotonic()
                return {
                    "trial": trial.name,
                    "task": trial.task,
                    "ladders": [ladder.id for ladder in trial.ladders],
                    "nodes": list(nodes),
                }
            self._slots.give_back(trial_id)
            with self._lock:
                self._elsewhere.append((place, trial))
        return self.FINISHED

    def _next(self, trial_id: str) -> tuple[int, Trial, tuple[str, ...]] | str | None:
        """The next trial that has something left to do, by place, and the nodes of its slot; None
        where none is ready or every slot is held, `FINISHED` where none will come."""
        with self._lock:
            while self._ready:
                place, trial = heapq.heappop(self._ready)
                left = tuple(lad for lad in trial.ladders if not self._tracker.finished(lad))
                if not left:
                    continue
                nodes = self._slots.take(trial_id)
                if nodes is None:
                    # Every slot is held, or its node is gone: the trial stays the first.
                    heapq.heappush(self._ready, (place, trial))
                    return None
                return place, replace(trial, ladders=left), nodes
            waits = self._needing or self._running or self._elsewhere
            return None if waits else self.FINISHED

    @property
    def waiting(self) -> int:
        """Trials that could train, but wait for a trainer."""
        with self._lock:
            return len(self._ready)

    def again(self) -> None:
        """Trials that were left to another driver may be asked for once more."""
        with self._lock:
            for waiting in self._elsewhere:
                heapq.heappush(self._ready, waiting)
            self._elsewhere = []

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        trial = self._running.get(trial_id)
        if trial is None:
            return
        self._last[trial_id] = time.monotonic()
        if "crash" in result:
            self._crash[trial_id] = str(result["crash"])
        if "node" in result:
            self._nodes[trial_id] += (str(result["node"]),)
            return
        if "left" in result:
            self._left.add(trial_id)
        self._worked[trial_id] = float(result.get("worked", 0.0))
        for state in result.get("recorded", ()):
            self._tracker.state_done(state)
        for state, error in result.get("failed", ()):
            self._fail(state, error, recorded=True)
        if "ladder" in result:
            self._tracker.trained(result["ladder"], int(result["examples"]))
            self._tracker.now(f"train {trial_id}", str(result.get("words", "")))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        with self._lock:
            trial = self._running.pop(trial_id, None)
        self._slots.give_back(trial_id)
        self._tracker.now(f"train {trial_id}", None)
        if trial is None:
            return
        self._last.pop(trial_id, None)
        nodes = self._nodes.pop(trial_id)
        passed, worked = time.monotonic() - self._began.pop(trial_id), self._worked.pop(trial_id, 0)
        self._tracker.took("train", worked)
        self._tracker.took("start trainers", max(0.0, passed - worked))
        left = tuple(lad for lad in trial.ladders if not self._tracker.finished(lad))
        if not left or self.stopped.is_set():
            return
        lost = gone(nodes) if nodes else set()
        self._slots.lose(lost)  # the next look at the cluster may come too late
        no_try = bool(lost) or trial_id in self._left
        self._left.discard(trial_id)
        tried = self._tries.get(trial.name, 0) + (not no_try)
        self._tries[trial.name] = tried
        if tried < ATTEMPTS:
            with self._lock:
                self._first -= 1
                heapq.heappush(self._ready, (self._first, replace(trial, ladders=left)))
            return
        why = self._crash.pop(trial_id, "its worker process ended without a word")
        for ladder in left:
            for rung in ladder.rungs:
                if not self._tracker.settled(rung.state_id):
                    self._fail(rung.state_id, f"training crashed {tried} times: {why}", False)

    def silent(self) -> list[str]:
        """The trials that have said nothing for `SILENCE` seconds, a line each, once."""
        found = []
        for trial_id, at in list(self._last.items()):
            trial, passed = self._running.get(trial_id), time.monotonic() - at
            if trial is not None and passed > SILENCE:
                self._last.pop(trial_id, None)
                found.append(f"slow: trial {trial.name} has told of no step for {passed:.0f} s")
        return found

    def _fail(self, state: str, error: str, recorded: bool) -> None:
        fell = self._tracker.state_failed(state, error)
        rows = [] if recorded else [Failure(state, error)]
        rows += [Failure(each, self._tracker.failed[each]) for each in fell]
        self._record_failures(rows)

    # Tune keeps no memory of its own: the results folder is the record.
    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...


class _Stop(_StaysHere, Stopper):
    def __init__(self, release: TrialSearcher) -> None:
        self._release = release

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._release.stopped.is_set()


def run_trials(release: TrialSearcher, work: Callable[[dict[str, Any]], None]) -> None:
    """Run trials until the searcher says that all are finished, or `release.stopped` is set.

    `work` is called with a suggestion, in a process of the trial's, and reports what
    `TrialSearcher.on_trial_result` takes. Blocks; may run in a thread.
    """
    # Tune's own logs of each trial go with the scratch folder: nobody would read them.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    with tempfile.TemporaryDirectory(prefix="elastic_ray-tune-") as scratch:
        Tuner(
            tune.with_resources(work, WAITING),
            tune_config=TuneConfig(
                search_alg=release,
                num_samples=-1,
                max_concurrent_trials=MOST_TRIALS,
                reuse_actors=True,  # a process takes seconds to start, and only waits
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=RunConfig(
                name="trials", storage_path=scratch, stop=_Stop(release), verbose=0
            ),
        ).fit()
