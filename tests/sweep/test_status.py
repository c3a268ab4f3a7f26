"""`--status` counts cells by the status that the progress tracker gives them."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from small_sweeps import plan_of, spec_of

from elastic_ray.progress.counts import count_points
from elastic_ray.progress.grid_rows import cell_rows
from elastic_ray.progress.recovery import restore_progress
from elastic_ray.results.store import Results
from elastic_ray.sweep.status import print_status


def test_a_failure_that_a_run_recorded_counts_as_failed(tmp_path: Path) -> None:
    plan, results = plan_of(spec_of()), Results(tmp_path)
    tracker, _ = restore_progress(plan, results)
    request = next(request for request in plan.requests() if request.task == "reviews")
    tracker.request_failed(request, "the engine died")
    rows = cell_rows(plan, tracker)
    failed = sum(row["status"] == "failed" for row in rows)
    results.replace("cells", plan.spec.sweep, rows)

    console = Console(width=200, record=True, file=io.StringIO())
    assert not print_status(console, plan, str(tmp_path))
    text = console.export_text()
    listed = results.query("FROM sweep_list").to_pylist()[0]
    (counts,) = count_points(tracker)
    seen = (listed["cells"], listed["done"], listed["failed"], listed["pending"])
    assert seen == (counts.total, counts.done, counts.failed, counts.pending), "as in the app"
    assert failed > 0 and "not running\n" in text
    assert f"cells: 0 done, {failed} failed, {len(rows) - failed} pending, of {len(rows)}" in text
