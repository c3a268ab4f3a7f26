"""A trial's process forwards every report to Ray Tune and ends, even if the driver is busy."""

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

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


class SlowDriver(Stopper):
    """Takes a second for each result, as a busy driver does."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        time.sleep(1)
        if not result["done"]:  # Tune repeats the last result once the function has ended
            self.seen.append(result.get("n", result.get("crash")))
        return False

    def stop_all(self) -> bool:
        return False


def results_of(reports: int, error: Exception | None, folder: Path) -> list[Any]:
    """The results that arrive of a trial whose training reports so often, then ends or fails."""

    def work(config: dict[str, Any]) -> None:
        from ray.util.queue import Queue

        import elastic_ray.training.worker_group as worker_group
        from elastic_ray.schedule.trial_worker import _reports

        def train(job: Any, callbacks: Any) -> None:
            for n in range(reports):
                callbacks[0].after_report(None, [{"n": n}], None)
            if error is not None:
                raise error

        worker_group.run_worker_group = train
        for report in _reports(None, Queue(1, actor_options={"num_cpus": 0})):  # type: ignore[arg-type]
            tune.report(report)

    driver = SlowDriver()
    run_config = RunConfig(storage_path=str(folder), stop=driver, verbose=0)
    Tuner(work, run_config=run_config, tune_config=TuneConfig(time_budget_s=90)).fit()
    return driver.seen


def test_every_report_arrives_and_the_trial_ends(tmp_path: Path) -> None:
    """With Tune's own callback this trial deadlocks when its function has ended."""
    began = time.monotonic()
    assert results_of(3, None, tmp_path) == [0, 1, 2]
    assert time.monotonic() - began < 90, "ended by itself"


def test_the_error_that_ended_the_training_is_reported(tmp_path: Path) -> None:
    assert results_of(1, RuntimeError("no more"), tmp_path) == [0, "RuntimeError: no more"]
