"""Saves snapshots in the background while the next steps train."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from ..results.errors import ResultsError
from .job import TrainingError


class SnapshotWriter:
    """Saves one snapshot at a time in a thread, so at most one copy of the weights is held.

    The saving thread must use neither the model's tensors nor the tokenizer of the training thread.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._saving: tuple[str, Future[None]] | None = None
        self._recorded: list[str] = []
        self.bytes_per_second: float | None = None
        """Speed of the last snapshot, hashing and uploading included; None before the first."""

    def start(self, state: str, save: Callable[[], int]) -> None:
        """Begin to save a state. `save` writes and records it, and returns its bytes.

        Call `wait` first: `RuntimeError` if the previous one has not been waited for.
        """
        if self._saving is not None:
            raise RuntimeError(f"the snapshot {self._saving[0]} has not been waited for")
        self._saving = (state, self._pool.submit(self._save, save))

    def _save(self, save: Callable[[], int]) -> None:
        began = time.monotonic()
        size = save()
        self.bytes_per_second = size / max(1e-9, time.monotonic() - began)

    def wait(self) -> str | None:
        """Wait until nothing is being saved; return the error of the last snapshot, if any.

        An error is returned once. Errors other than of the storage or the weights are raised.
        """
        if self._saving is None:
            return None
        (state, future), self._saving = self._saving, None
        try:
            future.result()
        except (TrainingError, ResultsError, OSError) as e:
            return f"{type(e).__name__}: {e}"
        self._recorded.append(state)
        return None

    def take_recorded(self) -> list[str]:
        """Return the states recorded since the last call. Does not wait."""
        if self._saving is not None:
            _, future = self._saving
            if future.done() and future.exception() is None:
                self.wait()
        recorded, self._recorded = self._recorded, []
        return recorded
