"""Results with and without rows, for the tests of the results room."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded_rows import cell, done, scored

from elastic_ray.results.store import Results


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")


@pytest.fixture
def sweep(results: Results) -> Results:
    """A curve with two seeds that share its base, one failed point and one pending."""
    ids = {name: name.encode().hex().rjust(20, "0") for name in ("base", "p0", "p1", "n0", "bad")}
    for name, values in {
        "base": [0.1, 0.2, 0.3, 0.2],
        "p0": [0.8, 0.9, 0.8, 0.9],
        "p1": [0.7, 0.8, 0.7, 0.8],
        "n0": [0.5, 0.5, 0.4, 0.6],
    }.items():
        done(
            results, ids[name], sweep="tiny", parameters=90_000, examples=10, tokens=100, seconds=2
        )
        scored(results, ids[name], values)
    bad = {"state_id": ids["bad"], "kind": "negative", "status": "failed", "error": "diverged"}
    results.write("states", [{**bad, "sweep": "tiny"}])
    results.replace(
        "cells",
        "tiny",
        [
            cell(ids["base"], 0, 0, 0),
            cell(ids["base"], 0, 0, 1),
            cell(ids["p0"], 200, 0, 0),
            cell(ids["p1"], 200, 0, 1),
            cell(ids["n0"], 200, 8, 0),
            cell(ids["bad"], 200, 8, 1),
            cell(ids["bad"], 200, 24, 0),
            cell("f" * 20, 200, 48, 0, status="failed", error="its parent failed"),
            cell("e" * 20, 200, 96, 0),
        ],
    )
    return results
