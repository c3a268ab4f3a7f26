"""Measured code lengths: rates, changes and ratios of known texts, and the theory's prediction."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest

from elastic_ray.spec import CORPORA
from elastic_ray.theory import (
    MeasuredError,
    gather_code_lengths,
    measure_code_lengths,
    normalise_rates,
)
from elastic_ray.theory.prediction import predict

gather = partial(gather_code_lengths, corpora=CORPORA)

SIZES = (0, 10, 40)
TEXTS = 30


def rows(rate: Any, noise: float = 0.0, seeds: int = 2, **at: Any) -> list[dict[str, Any]]:
    """Return rows of the view; `rate(kind, negative)` is in bits per byte, text lengths vary."""
    rng = np.random.default_rng(3)
    key = {"sweep": "s", "task": "t", "model": "m", "pretrain": 1000, "positive": 100, **at}
    lengths = {kind: rng.integers(20, 200, TEXTS) for kind in CORPORA}
    own = {kind: rng.normal(1, 0.2, TEXTS) for kind in CORPORA}
    found = []
    for seed in range(seeds):
        for negative in SIZES:
            for kind in CORPORA:
                for i, (length, factor) in enumerate(zip(lengths[kind], own[kind], strict=True)):
                    bits = rate(kind, negative) * length * (factor if noise else 1)
                    bits += noise * length * rng.normal()
                    found.append(
                        {**key, "seed": seed, "negative": negative, "kind": kind, "example": i,
                         "bits": float(bits), "tokens": 10, "bytes": int(length)}
                    )  # fmt: skip
    return found


def known_rate(kind: str, negative: int) -> float:
    """Per negative example D2 loses 0.01 bits per byte, D1 gains a tenth of it, D3 gains."""
    return {
        "pretrain": 1.0 - 0.001 * negative,
        "positive": 0.5 + 0.01 * negative,
        "negative": 1.5 - 0.02 * negative,
    }[kind]


def test_rates_changes_and_ratios_equal_the_known_ones() -> None:
    (curve,) = gather(rows(known_rate))
    assert (curve.k, curve.negatives, curve.seeds) == (10.0, SIZES, (0, 1))
    points = measure_code_lengths(curve, resamples=100)
    assert [p.l for p in points] == [0, 0.1, 0.4]
    for point in points:
        expected = [known_rate(kind, point.negative) for kind in CORPORA]
        assert [r.value for r in point.rate] == pytest.approx(expected)
        assert [r.low for r in point.rate] == pytest.approx(expected), "no noise"
        gamma = normalise_rates(expected, [10.0, 1.0, point.l], 8.0)
        assert [g.value for g in point.gamma] == pytest.approx(gamma)
    assert points[0].change_ratio is None and points[0].slope_ratio is None
    first = points[1]
    assert [c.value for c in first.change] == pytest.approx([-0.01, 0.1, -0.2])
    assert [c.sign for c in first.change] == [-1, 1, -1]
    assert first.change_ratio is not None and first.change_ratio.value == pytest.approx(-0.1)
    assert first.slope_ratio is not None
    slope = [(a.value - b.value) / 0.1 for a, b in zip(first.gamma, points[0].gamma, strict=True)]
    assert [s.value for s in first.slope] == pytest.approx(slope)
    assert first.slope_ratio.value == pytest.approx(slope[1] / slope[0])


def test_intervals_cover_texts_and_seeds() -> None:
    noisy = rows(known_rate, noise=0.05)
    (curve,) = gather(noisy)
    points = measure_code_lengths(curve, resamples=400)
    for point in points:
        for rate in point.rate:
            assert rate.low < rate.value < rate.high
    # The difficulty of texts cancels in a change: both sizes draw the same texts.
    assert points[1].change[1].high - points[1].change[1].low < 0.08
    assert points[1].rate[1].high - points[1].rate[1].low > 0.04
    assert measure_code_lengths(curve, resamples=400) == points, "the draws are deterministic"
    wild = [dict(row) for row in noisy]
    for row in wild:
        row["bits"] += row["bytes"] * 0.3 * row["seed"] * (row["negative"] > 0)
    wide = measure_code_lengths(gather(wild)[0], resamples=400)[1].change[1]
    assert wide.high - wide.low > 0.25, "differences between seeds widen the interval"


def test_no_ratio_if_the_divisor_may_be_zero() -> None:
    def still(kind: str, negative: int) -> float:
        return known_rate(kind, 0)

    (curve,) = gather(rows(still, noise=0.05))
    assert all(point.change_ratio is None for point in measure_code_lengths(curve, resamples=100))


def test_incomplete_curves_are_left_out_and_different_texts_raise() -> None:
    assert gather([]) == []
    assert gather(rows(known_rate, pretrain=None)) == []
    assert gather(rows(known_rate, positive=0)) == []
    some = rows(known_rate)
    assert gather([row for row in some if row["negative"] == 0]) == []
    lacks = [row for row in some if (row["seed"], row["negative"]) != (1, 40)]
    assert gather(lacks)[0].negatives == (0, 10)
    without = [row for row in some if (row["negative"], row["kind"]) != (40, "pretrain")]
    assert gather(without)[0].negatives == (0, 10)
    other = [row for row in some if (row["negative"], row["example"]) != (40, 3)]
    with pytest.raises(MeasuredError, match="its states coded different pretrain texts"):
        gather(other)


@pytest.mark.parametrize(("k", "l"), [(12.5, 0.05), (50, 1.2), (1000, 0.01)])
def test_predictions_at_the_same_sizes(k: float, l: float) -> None:
    found = predict(k, l)
    # If D3 is like D1, an example of D2 loses k to k + l times what one of D1 gains.
    for share in found.change_ratio_alike:
        assert -1 / k < share < -1 / (k + l)
    assert found.slope_ratio[0] < found.slope_ratio[1] and all(
        map(math.isfinite, found.slope_ratio)
    )
    if l < 0.1:
        assert found.change_ratio_independent[1] == pytest.approx(-1 / k, rel=0.2)
