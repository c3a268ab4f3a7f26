"""Ray Train callback that forwards worker reports to the process that started the training."""

from __future__ import annotations

from typing import Any

from ray.train import UserCallback
from ray.util.queue import Queue


class ReportCallback(UserCallback):
    """Puts each report of rank 0 into a queue. Training waits while the queue is full."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        self._queue.put(dict(metrics[0]))
