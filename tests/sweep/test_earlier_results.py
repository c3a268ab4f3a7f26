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
    assert "0.625 [0.479, 0.771] │ 0.917 [0.844, 0.969]" in done.stdout
    assert digests(earlier) == before
    assert elasticity(earlier) == json.loads((DATA / "earlier_elasticity.json").read_text())


@pytest.mark.integration
@pytest.mark.slow
def test_a_larger_grid_adds_its_new_cells_and_keeps_all_others(earlier: Path) -> None:
    before = digests(earlier)
    done = sweep(SPEC, earlier, "--set", "negative=[0,8,16,32,64,128,136]", "--set", "lessons=null")
    assert done.returncode == 0, done.stdout + done.stderr
    after = digests(earlier)
    assert {name: after.get(name) for name in before} == before
    new = [name for name in after.keys() - before.keys() if name.startswith("states/")]
    assert len(new) == 4, "two positive sizes with two seeds"
    cells = Results(earlier, read_only=True).query(
        "SELECT status, count(*) AS cells FROM cells WHERE sweep = 'earlier' GROUP BY ALL"
    )
    assert cells.to_pylist() == [{"status": "done", "cells": 30}]
