"""What a trial's process tells Ray Tune, and that it ends however busy the driver is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="the training extra is not installed")
import ray
from ray import tune
from ray.tune import RunConfig, Stopper, TuneConfig, Tuner


@pytest.fixture(scope="module", autouse=True)
def here() -> Iterator[None]:
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


class Busy(Stopper):
    """Stands for a driver that is long in taking a result."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        time.sleep(1)
        if not result["done"]:  # else the last once more: the function has ended
            self.seen.append(result.get("n", result.get("crash")))
        return False

    def stop_all(self) -> bool:
        return False


def told(count: int, error: Exception | None, folder: Path) -> list[Any]:
    """What arrives of a trial whose training reports so often, and then ends, or fails."""

    def work(config: dict[str, Any]) -> None:
        from ray.util.queue import Queue

        import elastic_ray.training.worker_group as worker_group
        from elastic_ray.schedule.trial_worker import _reports

        def train(job: Any, callbacks: Any) -> None:
            for n in range(count):
                callbacks[0].after_report(None, [{"n": n}], None)
            if error is not None:
                raise error

        worker_group.run_worker_group = train
        for report in _reports(None, Queue(1, actor_options={"num_cpus": 0})):  # type: ignore[arg-type]
            tune.report(report)

    busy = Busy()
    run_config = RunConfig(storage_path=str(folder), stop=busy, verbose=0)
    Tuner(work, run_config=run_config, tune_config=TuneConfig(time_budget_s=90)).fit()
    return busy.seen


def test_every_report_arrives_and_the_trial_ends(tmp_path: Path) -> None:
    """With Tune's own callback this trial stands still when its function has ended."""
    began = time.monotonic()
    assert told(3, None, tmp_path) == [0, 1, 2]
    assert time.monotonic() - began < 90, "ended by itself"


def test_what_ended_the_training_is_told(tmp_path: Path) -> None:
    assert told(1, RuntimeError("no more"), tmp_path) == [0, "RuntimeError: no more"]
