"""What workers report, on its way to whoever has them train."""

from __future__ import annotations

from typing import Any

from ray.train import UserCallback
from ray.util.queue import Queue


class ReportCallback(UserCallback):
    """Puts each report of the first worker into a queue; training waits while that is full."""

    def __init__(self, told: Queue) -> None:
        self._told = told

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        self._told.put(dict(metrics[0]))
