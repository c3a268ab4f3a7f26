"""A trial forwards every report of its worker group to Ray Tune and ends, also if it is busy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
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
            self.seen.append(next(each for each in KEYS if each in result))
        return False

    def stop_all(self) -> bool:
        return False


KEYS = ("node", "message", "ended", "crash")


def results_of(
    jobs: list[tuple[int, str | None]], folder: Path
) -> list[tuple[list[Any], str | None]]:
    """The results that arrive of trials in one group, and the group's error at the last of them.

    Each job reports that often, then ends, or with an error fails and ends the group.
    """
    from elastic_ray.training import worker_group

    def run_workers(group: Any, runtime: Any, nodes: Any) -> None:
        for index, (reports, error) in enumerate(runtime):
            ray.get(group.job.remote(index))
            for n in range(reports):
                ray.get(group.report.remote({"message": str(n)}))
            if error is not None:
                raise RuntimeError(error)
            ray.get(group.report.remote({"ended": True}))

    class Group(worker_group.WorkerGroup):
        def _train(self, own: Any, runtime: Any, nodes: Any) -> None:
            worker_group._run_workers = run_workers
            super()._train(own, runtime, nodes)

    def work(config: dict[str, Any]) -> None:
        from elastic_ray.schedule.trial_worker import reports_of

        job: Any = SimpleNamespace(nodes=())
        for report in reports_of(ray.get_actor("group"), job):
            tune.report(report)

    group = ray.remote(num_cpus=0)(Group).options(name="group").remote(jobs, ())
    found = []
    for number in range(len(jobs)):
        driver = SlowDriver()
        run_config = RunConfig(storage_path=str(folder / str(number)), stop=driver, verbose=0)
        done = Tuner(work, run_config=run_config, tune_config=TuneConfig(time_budget_s=90)).fit()
        found.append((driver.seen, done[0].metrics.get("crash")))
    ray.kill(group)
    return found


def test_every_report_of_two_jobs_in_one_group_arrives_and_each_trial_ends(tmp_path: Path) -> None:
    began = time.monotonic()
    first, second = results_of([(3, None), (1, None)], tmp_path)
    assert first == (["node", *["message"] * 3, "ended"], None)
    assert second == (["node", "message", "ended"], None)
    assert time.monotonic() - began < 180, "ended by themselves"


def test_the_error_that_ended_the_group_is_reported(tmp_path: Path) -> None:
    (failed,) = results_of([(1, "no more")], tmp_path)
    assert failed == (["node", "message", "crash"], "RuntimeError: no more")
