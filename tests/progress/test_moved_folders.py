"""A model's folder that moved is the same model: its content is its identity."""

from __future__ import annotations

from pathlib import Path

from recorded_rows import done
from small_sweeps import plan_of, spec_of

from elastic_ray.progress.recovery import follow_moved_folders
from elastic_ray.results.store import Results


def test_a_moved_folder_is_recorded_where_it_is_now(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    new.mkdir()
    plan = plan_of(spec_of(models=[{"name": "m", "path": str(new)}]))
    (state,) = plan.starts
    results = Results(tmp_path / "r")
    assert follow_moved_folders(plan, results) == [], "nothing is recorded"
    done(results, state, checkpoint=str(old), checksum="sum", parameters=7)
    (line,) = follow_moved_folders(plan, results)
    assert line == f"{old} is gone; its content is read from {new} now"
    row = results.state(state)
    assert row is not None
    assert (row["checkpoint"], row["checksum"], row["parameters"]) == (str(new), "sum", 7)
    assert follow_moved_folders(plan, results) == []
    old.mkdir()
    results.restore_checkpoint(state, str(old), "sum")
    assert follow_moved_folders(plan, results) == [], "a folder that is still there stays"
