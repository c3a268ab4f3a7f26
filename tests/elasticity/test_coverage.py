"""A small version of `benchmarks/coverage.py`: intervals hold planted values as they should."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def coverage() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
    spec = importlib.util.spec_from_file_location("coverage_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def test_intervals_hold_what_was_planted(coverage: ModuleType) -> None:
    sweeps = 40
    world = coverage.WORLDS["logarithm"]
    counts = coverage.coverage(world, sweeps, seeds=5, resamples=400)
    known = {name for name in coverage.truth_of(world) if not name.startswith("fit")}
    assert set(counts) == known
    # What other methods leave out is not in their intervals.
    assert counts["t of the seeds' values: gap"].share < 0.9
    counts = {name: c for name, c in counts.items() if not name.startswith(coverage.METHODS)}
    # 4 standard errors of so few sweeps below 95%; a missing square root of 2 is far lower.
    least = 0.95 - 4 * math.sqrt(0.95 * 0.05 / sweeps)
    low = {name: c.share for name, c in counts.items() if c.given and c.share < least}
    assert not low
    assert sum(c.held for c in counts.values()) / sum(c.given for c in counts.values()) < 0.99


def test_the_planted_answers_have_the_planted_means(coverage: ModuleType) -> None:
    world = coverage.WORLDS["two"]
    curves = coverage.simulate(world, 0, seeds=20, prompts=4_000)
    means = world.averaged(0, coverage.np.array(coverage.NEGATIVES, float))
    for curve, planted in zip(curves, means, strict=False):
        assert curve.mean == pytest.approx(planted, abs=0.03)
    assert curves[0].base.mean() == pytest.approx(world.bases[0], abs=0.02)
