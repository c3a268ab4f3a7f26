"""What ends what a killed driver or trial left, on a cluster that outlives it.

Serve keeps deployments until someone deletes them: the engines of a driver that was killed would
hold their GPUs for as long as the cluster stands, and the same command would wait for them. Ray
keeps a worker group's placement group until both the process that asked for it and the whole job
have ended, and for good if that process asked while it was dying. What Ray Train (2.60) has against
it asks the dashboard, which need not be there, and knows only of groups that had started.
"""

from __future__ import annotations

import logging
import threading
import time

import ray
from ray.util.placement_group import PlacementGroup, remove_placement_group

LOOK = 5.0
"""Seconds between looks."""
LOOKS_AFTER = 2
"""Looks once the driver is gone: what was dying may have asked for room after the first."""


@ray.remote(num_cpus=0, max_restarts=-1)
class Reaper:
    """Gives back the room of a job's dead actors; after the job's end deletes the applications
    whose names begin so, and ends."""

    def __init__(self, job: str, prefix: str) -> None:
        # Not a method that the driver calls: if this is started anew, the driver may be gone.
        self._myself = ray.get_runtime_context().current_actor
        threading.Thread(target=self._watch, args=(job, prefix), daemon=True).start()

    def _watch(self, job: str, prefix: str) -> None:
        left = LOOKS_AFTER
        while left:
            time.sleep(LOOK)
            try:
                give_back_room(job)
                if not _runs(job):
                    _delete(prefix)
                    left -= 1
            except Exception as e:  # the head may be busy
                logging.getLogger(__name__).warning("asked again soon: %s", e)
        ray.kill(self._myself)


def start_reaper() -> str:
    """Have what this driver starts end with it, however it ends; returns how the names of its
    applications must begin."""
    job = ray.get_runtime_context().get_job_id()
    prefix = f"elastic_ray-{job}"
    Reaper.options(  # type: ignore[attr-defined]
        name=f"{prefix}-reaper", namespace="elastic_ray", lifetime="detached"
    ).remote(job, prefix)
    return prefix


def give_back_room(job: str) -> None:
    """Remove the placement groups that dead actors of a job asked for."""
    # As below: the public list asks the dashboard. The public table does not tell who asked.
    from ray._private.state import state
    from ray.core.generated.gcs_pb2 import ActorTableData, PlacementGroupTableData

    for told in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(told)
        if (
            group.creator_job_id.hex() == job
            and group.state != PlacementGroupTableData.REMOVED
            and not group.is_detached
        ):
            asked = state.actor_table(ray.ActorID(group.creator_actor_id).hex())
            if asked.get("State") == ActorTableData.ActorState.Name(ActorTableData.DEAD):
                room = ray.PlacementGroupID(group.placement_group_id)
                remove_placement_group(PlacementGroup(room))


def _runs(job: str) -> bool:
    # The public list of jobs asks the dashboard, which need not be there.
    from ray._private.state import jobs

    return any(each["JobID"] == job and not each["IsDead"] for each in jobs())


def _delete(prefix: str) -> None:
    from ray import serve

    for name in serve.status().applications:
        if name.startswith(prefix):
            serve.delete(name, _blocking=False)
