"""Injects faults at exact points in the processes of a sweep.

Python imports this module in every process that has its folder on PYTHONPATH. The environment
variable `FAULTS` names a folder. When a process reaches a point (for example `trainer.during`) and
the folder contains `armed-trainer.during`, the process renames that file to `taken-trainer.during`,
writes `reached-trainer.during`, and does what the file says under "how":

- `killed`: it dies;
- `hung`: it stops for good;
- `stalled`: it stops for `STALL` seconds;
- `waits`: it waits for the file `go`, while another fault is injected elsewhere.

Every training step is recorded in `steps/<process id>`, so that repeated work is visible. The
module wraps functions of elastic_ray only, and does not change what they compute.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import inspect
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

FOLDER = os.environ.get("FAULTS")
STALL = 10.0


def come_to(point: str) -> None:
    """Execute the fault that is armed for this point, if there is one and it is due."""
    armed = Path(FOLDER, f"armed-{point}")
    try:
        fault = json.loads(armed.read_text())
    except (OSError, ValueError):
        return
    _seen[point] = _seen.get(point, 0) + 1
    if _seen[point] <= fault.get("skip", 0):
        return
    try:
        armed.rename(Path(FOLDER, f"taken-{point}"))
    except OSError:  # another process took it first
        return
    reached = {"point": point, "pid": os.getpid(), "node": _node(), "at": time.time()}
    Path(FOLDER, f"reaching-{point}").write_text(json.dumps(reached))
    Path(FOLDER, f"reaching-{point}").rename(Path(FOLDER, f"reached-{point}"))
    act(fault["how"])


def act(how: str) -> None:
    """Apply a fault to this process."""
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how in ("hung", "stalled"):
        if how == "stalled":  # a stopped process cannot wake itself
            wake = f"sleep {STALL}; kill -CONT {os.getpid()}"
            import subprocess

            subprocess.Popen(["sh", "-c", wake], start_new_session=True)
        os.kill(os.getpid(), signal.SIGSTOP)
    elif how == "waits":
        while not Path(FOLDER, "go").exists():
            time.sleep(0.05)


_seen: dict[str, int] = {}


def _node() -> str:
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return ""
    return ray.get_runtime_context().get_node_id()


def around(owner, name: str, before: str | None = None, after: str | None = None, when=None):
    """Wrap a function: it reaches `before` before each call and `after` after it.

    `when` receives the arguments and returns whether this call counts.
    """
    original = getattr(owner, name)

    def due(arguments, named) -> bool:
        return when is None or when(*arguments, **named)

    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def wrapped(*arguments, **named):
            if before and due(arguments, named):
                come_to(before)
            result = await original(*arguments, **named)
            if after and due(arguments, named):
                come_to(after)
            return result
    else:

        @functools.wraps(original)
        def wrapped(*arguments, **named):
            if before and due(arguments, named):
                come_to(before)
            result = original(*arguments, **named)
            if after and due(arguments, named):
                come_to(after)
            return result

    setattr(owner, name, wrapped)


def _trainer(module) -> None:
    around(module.Trainer, "train_step", before="trainer.before")
    original = module.Trainer.train_step

    def train_step(self, batch, rate):
        loss = original(self, batch, rate)
        if self._rank == 0:
            note = f"{self._ladder.id} {self.step} {batch.examples}\n"
            with Path(FOLDER, "steps", str(os.getpid())).open("a") as file:
                file.write(note)
        return loss

    module.Trainer.train_step = train_step


def _checkpoint_io(module) -> None:
    # At this point the checkpoint is saved, but its row is not.
    around(module, "save_checkpoint", after="trainer.during")


def _point_policy(module) -> None:
    # Steps of this sweep take milliseconds, so by itself no ladder would write a resume point. With
    # this, one is written after every step, and a restarted trainer continues from it.
    module.SECONDS_BETWEEN_FAILURES = 0.0


def _store(module) -> None:
    def done_state(results, table, rows, **key):
        return table == "states" and rows[0].get("status") == "done" and "training" in _kind(rows)

    def answers(results, table, rows, **key):
        return table == "responses"

    around(module.Results, "write", after="trainer.after", when=done_state)
    around(module.Results, "write", before="driver.answers", when=answers)


def _kind(rows) -> str:
    return "training" if rows[0].get("losses") else ""


def _schedule(module) -> None:
    around(module.TrialSearcher, "on_trial_result", before="driver.before")


def _tracker(module) -> None:
    around(module.ProgressTracker, "state_done", before="driver.during", after="driver.after")


def _transformers_engine(module) -> None:
    around(module.TransformersEngine, "__init__", before="engine.starting")
    around(module.TransformersEngine, "load_weights", before="engine.before")
    around(module.TransformersEngine, "generate", before="engine.during", after="engine.after")


def _scorer(module) -> None:
    around(module, "make_scorer_backend", before="scorer.before")


def _transformers_scorer(module) -> None:
    around(module.TransformersScorer, "score", before="scorer.during", after="scorer.after")


def _replica_options(module) -> None:
    """Make Serve check the health of replicas more often than by default, since tests are short."""
    placement = module.placement_options

    def quicker(*arguments, **named):
        health = {"health_check_period_s": 1.0, "health_check_timeout_s": 4.0}
        return {**placement(*arguments, **named), **health}

    module.placement_options = quicker


WRAPPED = {
    "elastic_ray.training.trainer": _trainer,
    "elastic_ray.training.checkpoint_io": _checkpoint_io,
    "elastic_ray.placement.point_policy": _point_policy,
    "elastic_ray.results.store": _store,
    "elastic_ray.schedule.tune_search": _schedule,
    "elastic_ray.progress.tracker": _tracker,
    "elastic_ray.serving.engines.transformers_engine": _transformers_engine,
    "elastic_ray.serving.engines.scorer": _scorer,
    "elastic_ray.serving.engines.transformers_scorer": _transformers_scorer,
    "elastic_ray.serving.replica_options": _replica_options,
}


class _Finder(importlib.abc.MetaPathFinder):
    """Loads the modules in `WRAPPED` in the normal way, then wraps their functions."""

    def __init__(self) -> None:
        self._local = threading.local()

    def find_spec(self, name, path, target=None):
        if name not in WRAPPED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_wrap(module) -> None:
            load(module)
            WRAPPED[name](module)

        spec.loader.exec_module = load_and_wrap
        return spec


if FOLDER:
    Path(FOLDER, "steps").mkdir(parents=True, exist_ok=True)
    sys.meta_path.insert(0, _Finder())
