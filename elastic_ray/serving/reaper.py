"""Cleans up Serve applications and placement groups orphaned by a dead driver or trial.

It is a detached actor on a cluster that outlives the driver.

- Serve keeps applications until someone deletes them. The engines of a killed driver would hold
  their GPUs as long as the cluster runs, and the same command started again would wait for them.
- Ray removes a worker group's placement group only once both the process that created it and the
  whole job have ended, and never if that process created it while it was dying. Ray Train's own
  remedy (2.60) needs the dashboard, which may not run, and covers only groups that had started.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, remove_placement_group

POLL_SECONDS = 5.0
"""Seconds between clean-up passes."""
PASSES_AFTER_EXIT = 2
"""Passes after the driver's end: a dying process may create a placement group after the first."""


@ray.remote(num_cpus=0, max_restarts=-1)
class Reaper:
    """Removes the placement groups of a job's dead actors. After the job's end it deletes the
    applications whose names begin with `prefix`, and ends itself."""

    def __init__(self, job: str, prefix: str) -> None:
        # Starts by itself, not by a call of the driver: when Ray restarts this actor, the driver
        # may be gone.
        self._myself = ray.get_runtime_context().current_actor
        threading.Thread(target=self._watch, args=(job, prefix), daemon=True).start()

    def _watch(self, job: str, prefix: str) -> None:
        passes_left = PASSES_AFTER_EXIT
        while passes_left:
            time.sleep(POLL_SECONDS)
            try:
                remove_orphaned_placement_groups(job)
                if not _job_is_running(job):
                    _delete_applications(prefix)
                    passes_left -= 1
            except Exception as e:  # the head may be busy
                logging.getLogger(__name__).warning("clean-up failed and will be retried: %s", e)
        ray.kill(self._myself)


def start_reaper() -> str:
    """Start the reaper of this driver's job; return the prefix for the names of its applications.

    What this driver starts under that prefix ends with it, even if the driver dies by SIGKILL.
    """
    job = ray.get_runtime_context().get_job_id()
    prefix = f"elastic_ray-{job}"
    Reaper.options(  # type: ignore[attr-defined]  # `ray.remote` replaces the class by an ActorClass
        name=f"{prefix}-reaper", namespace="elastic_ray", lifetime="detached"
    ).remote(job, prefix)
    return prefix


def remove_orphaned_placement_groups(job: str) -> None:
    """Remove the placement groups that were created by actors of a job that are dead now."""
    # Private API: the public list needs the dashboard, and the public table does not name the
    # creator of a group.
    from ray._private.state import state
    from ray.core.generated import gcs_pb2

    tables: Any = gcs_pb2  # its classes are generated at run time, and have no stubs

    for serialized in state._connect_and_get_accessor().get_placement_group_table():
        group = tables.PlacementGroupTableData.FromString(serialized)
        if (
            group.creator_job_id.hex() == job
            and group.state != tables.PlacementGroupTableData.REMOVED
            and not group.is_detached
        ):
            creator = state.actor_table(ray.ActorID(group.creator_actor_id).hex())
            if creator.get("State") == tables.ActorTableData.ActorState.Name(
                tables.ActorTableData.DEAD
            ):
                group_id = ray.PlacementGroupID(group.placement_group_id)
                remove_placement_group(PlacementGroup(group_id))


def _job_is_running(job: str) -> bool:
    # Private API: the public list of jobs needs the dashboard.
    from ray._private.state import jobs

    table = jobs()  # type: ignore[no-untyped-call]  # Ray's private modules have no annotations
    return any(entry["JobID"] == job and not entry["IsDead"] for entry in table)


def _delete_applications(prefix: str) -> None:
    from ray import serve

    for name in serve.status().applications:
        if name.startswith(prefix):
            serve.delete(name, _blocking=False)
