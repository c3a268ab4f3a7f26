"""Asks the results for the app: views by name, answers remembered for a while. No streamlit.

An answer is asked again when it is older than `FRESH` seconds, or than ten times what it cost: a
running sweep is followed closely, and ten million rows are not counted anew at every glance.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

from elastic_ray.analysis.measurements import measure_code_length_curves, measure_sweep
from elastic_ray.results.store import Results
from elastic_ray.results.views import read_view
from elastic_ray.theory import Curve

FRESH = 2.0
REMEMBERED = 64
MEASURED_LIVE = 300_000
"""Scores of a sweep up to which its curves are measured while it runs."""
RESAMPLES = 400
"""Bootstrap resamples behind each interval of a live measurement; recorded ones have more."""
SETTINGS = {"memory_limit": "700MB", "threads": 2}


class Reader:
    """The results at `uri`, for all sessions of the app; every failure is a `ResultsError`."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._lock = threading.Lock()
        self._results: Results | None = None
        self._connection: Any = None
        self._known: OrderedDict[Any, tuple[float, float, Any]] = OrderedDict()

    def sweeps(self) -> list[dict[str, Any]]:
        """A row per sweep, the one last heard of first; see the view `sweep_list`."""
        rows: list[dict[str, Any]] = self._ask("sweep_list").to_pylist()
        return rows

    def progress(self, sweep: str) -> pd.DataFrame:
        """Done, failed and pending cells by model and pre-training, as recorded this moment."""
        return self._ask("progress_in", sweep).to_pandas()

    def pace(self, sweep: str) -> dict[str, Any]:
        """What the sweep trained itself, and in what time."""
        row: dict[str, Any] = self._ask("pace_of", sweep).to_pylist()[0]
        return row

    def latest(self, sweep: str, count: int = 8) -> pd.DataFrame:
        return self._ask("latest_states", sweep, count).to_pandas()

    def failures(self, sweep: str) -> list[dict[str, Any]]:
        """Failed cells by error, most frequent first."""
        rows: list[dict[str, Any]] = self._ask("failures_of", sweep).to_pylist()
        return rows

    def points(self, sweep: str) -> list[dict[str, Any]]:
        """Per task, model and pre-training size: the positive and negative sizes and seeds."""
        rows: list[dict[str, Any]] = self._ask("points_of", sweep).to_pylist()
        return rows

    def curves(self, sweep: str, models: list[str] | None = None) -> pd.DataFrame:
        """Grid points of the sweep, of some models or all; holes are rows without a score.

        What is not to be scored is left out.
        """
        where = None if models is None else {"model": models}
        found = self._ask("curves_in", sweep, where=where).to_pandas()
        return found[found["scorer"] != ""]

    def indices(self, sweep: str) -> tuple[pd.DataFrame, bool]:
        """What is measured of each curve, and whether it was measured just now.

        A sweep measures itself when it ends. Before that, small ones are measured here.
        """
        recorded = self._ask("elasticity", where={"sweep": sweep})
        row = next((row for row in self.sweeps() if row["sweep"] == sweep), None)
        if row is None or (recorded.num_rows and not row["pending"]):
            return recorded.to_pandas(), False
        if not self._small(row):
            return recorded.to_pandas(), False
        return self._remember(("measured", sweep), lambda: self._measure(sweep)), True

    def cell(self, sweep: str, point: Mapping[str, Any]) -> dict[str, Any] | None:
        """The cell at a grid point: its state, probe and scorer."""
        rows = self._ask("cells", where={"sweep": sweep, **point}, limit=1).to_pylist()
        return rows[0] if rows else None

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
        """What the states of two cells said to the same prompts, one page of it."""
        states = (one["state_id"], other["state_id"], one["probe_id"], one["scorer"])
        asked = (*states, wanted, lowest, highest, ordering)
        found: list[dict[str, Any]] = self._ask(
            "answers_of", *asked, limit=rows, offset=page * rows
        ).to_pylist()
        return found

    def compression(self, sweep: str) -> list[Curve]:
        """The curves of the sweep's code lengths, measured; none where it measures none."""
        return self._remember(("compression", sweep), lambda: self._compression(sweep))

    def lessons(self, sweep: str) -> list[dict[str, Any]]:
        """What the sweep's states were to learn from each other; none where it has no lessons."""
        results, _ = self._open()
        if not results.has("lessons", sweep=sweep):
            return []
        rows: list[dict[str, Any]] = self._ask("lessons", where={"sweep": sweep}).to_pylist()
        return rows

    def paths(self, sweep: str) -> pd.DataFrame:
        """How inverse and forward paths compare, the paper's values beside; the sweep measures it
        when it ends, so that there may be none yet."""
        return self._ask("inverse_forward", where={"sweep": sweep}).to_pandas()

    def columns(self) -> pd.DataFrame:
        """The columns of every view."""
        return self._ask("columns_of_views").to_pandas()

    def _small(self, row: Mapping[str, Any]) -> bool:
        """Whether a sweep has scores, and few enough; they are counted only where cells are few."""
        if not 0 < row["done"] <= MEASURED_LIVE // 100:
            return False
        return 0 < int(self.progress(row["sweep"])["answers"].sum()) <= MEASURED_LIVE

    def _measure(self, sweep: str) -> pd.DataFrame:
        results, connection = self._open()
        found = measure_sweep(results, sweep, resamples=RESAMPLES, connection=connection)
        return pd.DataFrame([measurement.row() for measurement in found])

    def _compression(self, sweep: str) -> list[Curve]:
        results, connection = self._open()
        return measure_code_length_curves(results, sweep, connection)

    def _ask(self, name: str, *arguments: Any, **more: Any) -> pa.Table:
        def ask() -> pa.Table:
            results, connection = self._open()
            return read_view(results, connection, name, *arguments, **more)

        return self._remember((name, arguments, repr(more)), ask)

    def _remember(self, key: Any, ask: Any) -> Any:
        with self._lock:
            held = self._known.get(key)
            if held and time.monotonic() - held[0] < max(FRESH, 10 * held[1]):
                self._known.move_to_end(key)
                return held[2]
        began = time.monotonic()
        value = ask()
        now = time.monotonic()
        with self._lock:
            self._known[key] = (now, now - began, value)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return value

    def _open(self) -> tuple[Results, Any]:
        """The results, and a cursor of the one connection; opened when they come to exist."""
        with self._lock:
            if self._connection is None:
                self._results = Results(self.uri, read_only=True)
                self._connection = self._results.connect(SETTINGS)
            assert self._results is not None
            return self._results, self._connection.cursor()
