"""What ends a dead driver's deployments, on a cluster that outlives it.

Serve keeps deployments until someone deletes them. A driver that was killed can not: its engines
would hold their GPUs for as long as the cluster stands, and the same command would wait for them.
"""

from __future__ import annotations

import logging
import threading
import time

import ray

LOOK = 2.0
"""Seconds between looks whether the driver is still there."""


@ray.remote(num_cpus=0, max_restarts=-1)
class Warden:
    """Waits for the end of a Ray job, deletes the applications whose names begin so, and ends."""

    def __init__(self, job: str, prefix: str) -> None:
        # Not a method that the driver calls: if this is started anew, the driver may be gone.
        self._myself = ray.get_runtime_context().current_actor
        threading.Thread(target=self._watch, args=(job, prefix), daemon=True).start()

    def _watch(self, job: str, prefix: str) -> None:
        done = False
        while not done:
            time.sleep(LOOK)
            try:
                done = not _runs(job) and _delete(prefix)
            except Exception as e:  # the head may be busy
                logging.getLogger(__name__).warning("asked again soon: %s", e)
        ray.kill(self._myself)


def guard(prefix: str) -> None:
    """Have the applications of that prefix end with this driver, however it ends."""
    Warden.options(  # type: ignore[attr-defined]
        name=f"{prefix}-warden", namespace="elastic_ray", lifetime="detached"
    ).remote(ray.get_runtime_context().get_job_id(), prefix)


def _runs(job: str) -> bool:
    # The public list of jobs asks the dashboard, which need not be there.
    from ray._private.state import jobs

    return any(each["JobID"] == job and not each["IsDead"] for each in jobs())


def _delete(prefix: str) -> bool:
    from ray import serve

    for name in serve.status().applications:
        if name.startswith(prefix):
            serve.delete(name, _blocking=False)
    return True
