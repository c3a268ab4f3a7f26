"""Ray Train's trainer, without the parts of it that a worker group of a sweep has no use for.

Each of these parts is an actor with a process of its own, which takes seconds to start.
"""

from __future__ import annotations

from typing import Any

from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

UNUSED = (DatasetsCallback, PlacementGroupCleanerCallback)
"""A sweep has no Ray Data sets, and removes orphaned placement groups itself
(`serving.reaper`)."""


class GroupTrainer(DataParallelTrainer):
    """A `DataParallelTrainer` of a fixed number of workers on nodes that are in the cluster."""

    def _create_default_callbacks(self) -> list[Any]:
        return [
            callback
            for callback in super()._create_default_callbacks()
            if not isinstance(callback, UNUSED)
        ]

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        arguments["scaling_policy"] = _PlacedScaling(self.scaling_config)  # type: ignore[arg-type]  # V2
        return super()._initialize_and_run_controller(**arguments)


class _PlacedScaling(FixedScalingPolicy):
    """Asks no autoscaler for resources: the group is placed on nodes that are there."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Start no client of the coordinator of autoscaling requests, an actor."""

    def _maybe_send_resource_request(self) -> None:
        """Request nothing."""
