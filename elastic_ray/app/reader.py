"""Reads results for the app, by the names of views, through a cache. It does not use streamlit.

A cached value expires after `FRESH` seconds, or after ten times the seconds that it took to read,
whichever is longer: a running sweep is followed closely, and a query over ten million rows is not
repeated on every page view.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

from elastic_ray.analysis.conclusions import conclude_scaling
from elastic_ray.analysis.measurements import (
    conclusion_rows,
    measure_code_length_curves,
    measure_sweep,
    read_curves,
)
from elastic_ray.elasticity import scaling
from elastic_ray.results.schemas import TABLES
from elastic_ray.results.store import Results
from elastic_ray.results.views import read_view
from elastic_ray.theory import CodeLengthCurve

FRESH = 2.0
"""Seconds for which a cached value is current at least."""

CACHED = 64
"""Values in the cache at most; the least recently used are dropped."""

MEASURED_LIVE = 300_000
"""Scores up to which the curves of a running sweep are measured on request."""

RESAMPLES = 400
"""Draws behind each interval of a live measurement; recorded ones have more."""

SETTINGS = {"memory_limit": "700MB", "threads": 2}
"""DuckDB settings of the app's one connection."""


class Reader:
    """The results at `uri`, shared by all sessions of the app. Thread-safe.

    Every failure to read is a `ResultsError`.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._lock = threading.Lock()
        self._results: Results | None = None
        self._connection: Any = None
        self._cache: OrderedDict[Any, tuple[float, float, Any]] = OrderedDict()

    def sweeps(self) -> list[dict[str, Any]]:
        """Return a row per sweep, most recently updated first; see the view `sweep_list`."""
        rows: list[dict[str, Any]] = self._view("sweep_list").to_pylist()
        return rows

    def progress(self, sweep: str) -> pd.DataFrame:
        """Return the done, failed and pending cells by model and pre-training size."""
        return self._view("progress_in", sweep).to_pandas()

    def pace(self, sweep: str) -> dict[str, Any]:
        """Return what this sweep itself trained: states, examples and seconds."""
        row: dict[str, Any] = self._view("pace_of", sweep).to_pylist()[0]
        return row

    def latest(self, sweep: str, count: int = 8) -> pd.DataFrame:
        """Return the most recently finished states of the sweep."""
        return self._view("latest_states", sweep, count).to_pandas()

    def failures(self, sweep: str) -> list[dict[str, Any]]:
        """Return the failed cells by error, the most frequent first."""
        rows: list[dict[str, Any]] = self._view("failures_of", sweep).to_pylist()
        return rows

    def points(self, sweep: str) -> list[dict[str, Any]]:
        """Return the positive and negative sizes and seeds by task, model and pre-training."""
        rows: list[dict[str, Any]] = self._view("points_of", sweep).to_pylist()
        return rows

    def curves(self, sweep: str, models: list[str] | None = None) -> pd.DataFrame:
        """Return the grid points of the sweep, for `models` or all of them.

        Missing points are rows without a score. Cells of unscored tasks are left out.
        """
        where = None if models is None else {"model": models}
        found = self._view("curves_in", sweep, where=where).to_pandas()
        return found[found["scorer"] != ""]

    def indices(self, sweep: str) -> tuple[pd.DataFrame, bool]:
        """Return the measured quantities of each curve, and whether they were measured just now.

        A sweep records its measurements when it ends. Before that, small sweeps are measured here.
        """
        recorded = self._view("elasticity", where={"sweep": sweep})
        row = next((row for row in self.sweeps() if row["sweep"] == sweep), None)
        done = row is None or (recorded.num_rows and not row["pending"])
        if done or (row is not None and not self._small(row)):
            # An earlier version recorded fewer columns.
            return recorded.to_pandas().reindex(columns=TABLES["indices"].schema.names), False
        return self._cached(("measured", sweep), lambda: self._measure(sweep)), True

    def conclusions(self, sweep: str) -> list[dict[str, Any]]:
        """Return what the sweep answers: question, about, answer and strength, in order.

        Recorded with the measurements; of a small sweep that runs, concluded now.
        """
        _, live = self.indices(sweep)
        if live:
            found: list[dict[str, Any]] = self._cached(
                ("concluded", sweep), lambda: self._conclude(sweep)
            )
            return found
        rows = self._view("conclusions", where={"sweep": sweep}).to_pylist()
        return sorted(rows, key=lambda row: int(row["place"]))

    def cell(self, sweep: str, point: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the cell at a grid point, with its state, probe and scorer."""
        rows = self._view("cells", where={"sweep": sweep, **point}, limit=1).to_pylist()
        return rows[0] if rows else None

    def cells_at(self, sweep: str, point: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the cells at a point of a curve, one per seed."""
        rows = self._view("cells", where={"sweep": sweep, **point}).to_pylist()
        return sorted(rows, key=lambda row: int(row["seed"]))

    def score_of(self, state: str) -> list[dict[str, Any]]:
        """Return the scores of a state, a row per cell that it belongs to."""
        rows: list[dict[str, Any]] = self._view("scores_of", state).to_pylist()
        return rows

    def state(self, state: str) -> dict[str, Any] | None:
        """Return the record of a state; None if it is not recorded."""
        rows = self._view("state_of", state).to_pylist()
        return rows[0] if rows else None

    def children(self, state: str) -> list[dict[str, Any]]:
        """Return the recorded states that start from a state."""
        rows: list[dict[str, Any]] = self._view("children_of", state).to_pylist()
        return rows

    def answers_by(self, state: str, count: int) -> list[dict[str, Any]]:
        """Return the first answers of a state, with their scores."""
        rows: list[dict[str, Any]] = self._view("answers_by", state, count).to_pylist()
        return rows

    def answers(
        self,
        one: Mapping[str, Any],
        other: Mapping[str, Any],
        *,
        wanted: str = "",
        lowest: float | None = None,
        highest: float | None = None,
        ordering: str = "prompt",
        page: int = 0,
        rows: int = 20,
    ) -> list[dict[str, Any]]:
        """Return one page of the answers of two cells' states to the same prompts.

        `wanted` is a text that the prompt or an answer contains; `lowest` and `highest` limit
        either answer's score.
        """
        states = (one["state_id"], other["state_id"], one["probe_id"], one["scorer"])
        arguments = (*states, wanted, lowest, highest, ordering)
        found: list[dict[str, Any]] = self._view(
            "answers_of", *arguments, limit=rows, offset=page * rows
        ).to_pylist()
        return found

    def compression(self, sweep: str) -> list[CodeLengthCurve]:
        """Return the sweep's measured code-length curves; none if it measures no code lengths."""
        found: list[CodeLengthCurve] = self._cached(
            ("compression", sweep), lambda: self._compression(sweep)
        )
        return found

    def lessons(self, sweep: str) -> list[dict[str, Any]]:
        """Return the sweep's lessons; none if it has no lessons."""
        results, _ = self._open()
        if not results.has("lessons", sweep=sweep):
            return []
        rows: list[dict[str, Any]] = self._view("lessons", where={"sweep": sweep}).to_pylist()
        return rows

    def paths(self, sweep: str) -> pd.DataFrame:
        """Return the comparisons of inverse and forward paths, with the paper's values.

        A sweep records them when it ends, so there may be none yet.
        """
        return self._view("inverse_forward", where={"sweep": sweep}).to_pandas()

    def columns(self) -> pd.DataFrame:
        """Return the columns of every view and their types."""
        return self._view("columns_of_views").to_pandas()

    def _small(self, row: Mapping[str, Any]) -> bool:
        """Return whether a sweep is small enough to measure live, and has scores.

        Scores are counted only if there are few cells, as counting is itself expensive.
        """
        if not 0 < row["done"] <= MEASURED_LIVE // 100:
            return False
        return 0 < int(self.progress(row["sweep"])["answers"].sum()) <= MEASURED_LIVE

    def _measure(self, sweep: str) -> pd.DataFrame:
        results, connection = self._open()
        found = measure_sweep(results, sweep, resamples=RESAMPLES, connection=connection)
        return pd.DataFrame([measurement.row() for measurement in found])

    def _conclude(self, sweep: str) -> list[dict[str, Any]]:
        results, connection = self._open()
        curves, _ = read_curves(results, sweep, connection)
        return conclusion_rows(conclude_scaling(scaling(curves, RESAMPLES), curves))

    def _compression(self, sweep: str) -> list[CodeLengthCurve]:
        results, connection = self._open()
        return measure_code_length_curves(results, sweep, connection)

    def _view(self, name: str, *arguments: Any, **more: Any) -> pa.Table:
        def read() -> pa.Table:
            results, connection = self._open()
            return read_view(results, connection, name, *arguments, **more)

        return self._cached((name, arguments, repr(more)), read)

    def _cached(self, key: Any, read: Any) -> Any:
        """Return the cached value of `key`, or call `read` and cache what it returns."""
        with self._lock:
            cached = self._cache.get(key)
            if cached and time.monotonic() - cached[0] < max(FRESH, 10 * cached[1]):
                self._cache.move_to_end(key)
                return cached[2]
        began = time.monotonic()
        value = read()
        now = time.monotonic()
        with self._lock:
            self._cache[key] = (now, now - began, value)
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return value

    def _open(self) -> tuple[Results, Any]:
        """Return the results and a cursor of the one connection, which the first call opens."""
        with self._lock:
            if self._connection is None:
                self._results = Results(self.uri, read_only=True)
                self._connection = self._results.connect(SETTINGS)
            assert self._results is not None
            return self._results, self._connection.cursor()
