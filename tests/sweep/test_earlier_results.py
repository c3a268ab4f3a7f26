"""Results that an earlier version wrote are read, shown and continued; nothing is computed again.

`tests/data/earlier_results` was written before the code was divided into packages, and
`earlier_elasticity.json` is what its query command printed of these results.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from sweep_process import sweep

from elastic_ray.results.store import Results

DATA = Path(__file__).parents[1] / "data"
SPEC = DATA / "earlier.yaml"
COMPUTED = ("states", "responses", "scores", "distances", "code_lengths", "checkpoints", "scorers")
"""Folders of what a sweep computes; the others say what was asked and how far it got."""

SAME = ("base", "aligned", "gap", "reversion_size", "half_life", "early_rate")
"""Quantities whose definition has stayed the same."""


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA / "earlier_results", tmp_path / "results"))


def digests(results: Path) -> dict[str, str]:
    """The SHA-256 of each file that a sweep computed, by its path."""
    files = [path for name in COMPUTED for path in (results / name).rglob("*") if path.is_file()]
    return {
        str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def states(results: Path) -> dict[str, dict[str, Any]]:
    """The recorded states by id, without the checksums of their weights."""
    rows = Results(results, read_only=True).query("SELECT * EXCLUDE checksum FROM states")
    return {row["state_id"]: row for row in rows.to_pylist()}


def elasticity(results: Path) -> list[dict[str, Any]]:
    return Results(results, read_only=True).query("FROM elasticity").to_pylist()


def test_the_measured_curves_are_the_same_numbers(earlier: Path) -> None:
    assert elasticity(earlier) == json.loads((DATA / "earlier_elasticity.json").read_text())


def test_the_same_command_recognises_everything_and_measures_the_same(earlier: Path) -> None:
    before = digests(earlier)
    assert any(name.startswith("states/") for name in before)
    done = sweep(SPEC, earlier)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "recorded already: 26 cells, 30 states" in done.stdout
    assert "0.625 [0.481, 0.77]" in done.stdout
    assert digests(earlier) == before
    was = json.loads((DATA / "earlier_elasticity.json").read_text())
    for old, new in zip(was, elasticity(earlier), strict=True):
        # Intervals cover seeds now, and the late rate has a window: neither was recorded before.
        assert {name: new[name] for name in SAME} == pytest.approx({n: old[n] for n in SAME})
        assert new["late_window"] == 4 and new["late_rate"] is None, "4 n* is beyond the axis"


@pytest.mark.integration
@pytest.mark.slow
def test_a_larger_grid_adds_its_new_cells_and_keeps_all_others(earlier: Path) -> None:
    before, rows = digests(earlier), states(earlier)
    done = sweep(SPEC, earlier, "--set", "negative=[0,8,16,32,64,128,136]", "--set", "lessons=null")
    assert done.returncode == 0, done.stdout + done.stderr
    after = digests(earlier)
    changed = {name for name, digest in before.items() if after.get(name) != digest}
    # The four aligned states had to be trained again to train on from them. Their weights equal the
    # earlier version's to rounding, and the record has the checksum of those that were used.
    assert len(changed) <= 4 and all(name.startswith("states/") for name in changed)
    assert {state: row for state, row in states(earlier).items() if state in rows} == rows
    new = [name for name in after.keys() - before.keys() if name.startswith("states/")]
    assert len(new) == 4, "two positive sizes with two seeds"
    cells = Results(earlier, read_only=True).query(
        "SELECT status, count(*) AS cells FROM cells WHERE sweep = 'earlier' GROUP BY ALL"
    )
    assert cells.to_pylist() == [{"status": "done", "cells": 30}]
