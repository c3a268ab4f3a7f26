"""What a killed process leaves on a cluster that outlives it is cleaned up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("ray", reason="the training extra is not installed")
import ray
from ray.util import placement_group_table

pytestmark = pytest.mark.integration

DRIVER = """
import os, sys, time
import ray
from elastic_ray.serving.reaper import start_reaper
ray.init(address=sys.argv[1], log_to_driver=False)
prefix = start_reaper()

@ray.remote(num_cpus=0)
class Controller:
    def reserve(self):
        ray.get(ray.util.placement_group([{"CPU": 1}]).ready())
        return os.getpid()

controllers = [Controller.remote() for _ in range(2)]
print(prefix, *ray.get([each.reserve.remote() for each in controllers]), flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster without a dashboard, as a user may start it."""
    context = ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield context.address_info["address"]
    ray.shutdown()


def placement_groups() -> int:
    return sum(each["state"] == "CREATED" for each in placement_group_table().values())


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.2)


def reaper_runs(prefix: str) -> bool:
    named = ray.util.list_named_actors(all_namespaces=True)
    return any(each["name"] == f"{prefix}-reaper" for each in named)


def test_placement_groups_of_killed_processes_are_removed(cluster: str) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, cluster], stdout=subprocess.PIPE, text=True
    )
    try:
        assert driver.stdout is not None
        prefix, first, _ = driver.stdout.readline().split()
        wait_until(lambda: reaper_runs(prefix))
        assert placement_groups() == 2
        os.kill(int(first), signal.SIGKILL)
        wait_until(lambda: placement_groups() == 1)
        assert driver.poll() is None, "the job goes on"
    finally:
        driver.kill()
        driver.communicate()
    wait_until(lambda: placement_groups() == 0)
    wait_until(lambda: not reaper_runs(prefix))
