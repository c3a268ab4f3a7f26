"""Rates over a window: they do not move with the axis, and rest on no limit of the scorer."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from planted import curve

from elastic_ray.elasticity import (
    QUANTITIES,
    Curve,
    Estimate,
    ScorerErrors,
    Variances,
    better_than_chance,
    compare,
    measure,
    sensitivity,
    size_until,
    start_distance,
    variances,
)

SIZES = (0, 8, 24, 48, 96, 200, 400, 800, 1600)


def falling(steep: float = 0.25) -> list[float]:
    """Back at 0 at n = 40 for any steepness; linear in log n."""
    return [1.0, *(-steep * math.log(n / 40) for n in SIZES[1:])]


def cut(whole: Curve, largest: int) -> Curve:
    kept = [i for i, n in enumerate(whole.negatives) if n <= largest]
    return dataclasses.replace(
        whole, negatives=whole.negatives[: len(kept)], scores=whole.scores[:, kept]
    )


@pytest.mark.parametrize("seeds", [2, 3, 6])
@pytest.mark.parametrize("draw", range(4))
def test_nothing_moves_when_the_axis_is_cut_beyond_the_window(seeds: int, draw: int) -> None:
    whole = curve(falling(), negatives=SIZES, seeds=seeds, noise=0.2, prompts=100, draw=draw)
    twin = curve(falling(0.3), negatives=SIZES, seeds=seeds, noise=0.2, prompts=100, draw=draw + 9,
                 model="n")  # fmt: skip
    full, apart = measure(whole), compare(whole, twin)
    for largest in SIZES[5:-1]:
        short, nearer = measure(cut(whole, largest)), compare(cut(whole, largest), twin)
        for name in QUANTITIES:
            for had, has in (
                (getattr(full, name), getattr(short, name)),
                (full.same_runs[name], short.same_runs[name]),
            ):
                ends = zip(dataclasses.astuple(had), dataclasses.astuple(has), strict=True)
                for was, now in ends:  # not given, or the same
                    assert now is None or now == pytest.approx(was, rel=1e-9), (name, largest)
            was, now = (d.quantities[name].value for d in (apart, nearer))
            assert now is None or now == pytest.approx(was, rel=1e-9), (name, largest)
        if full.elasticity_index.value != short.elasticity_index.value:
            assert f"beyond the largest size {largest}: no late rate" in short.note


def test_the_window_is_a_choice() -> None:
    whole = curve(falling(), negatives=SIZES)
    for window in (2.0, 4.0, 8.0):
        found = measure(dataclasses.replace(whole, window=window))
        late = 100 * 0.25 * math.log(window) / ((window - 1) * 40)
        assert found.late_rate.value == pytest.approx(late)
        assert found.row()["late_window"] == window


def test_a_late_rate_at_the_floor_is_a_bound_and_so_is_the_index() -> None:
    means = [0.8, 0.7, 0.6, 0.3, 0.02, 0.0, 0.0, 0.0, 0.0]
    free = curve(means, 0.5, negatives=SIZES, noise=0.02, prompts=100)
    limited = dataclasses.replace(free, limits=(0.0, 1.0))
    was, now = measure(free), measure(limited)
    assert was.late_rate.value is not None and was.elasticity_index.value is not None
    assert now.late_rate.value is now.late_rate.high is None
    assert now.late_rate.low == was.late_rate.low
    assert now.elasticity_index == Estimate(None, None, was.elasticity_index.high)
    assert "at the scorer's limit 0 where the window ends" in now.note
    assert now.reversion_size == was.reversion_size and now.early_rate == was.early_rate
    assert compare(limited, free).quantities["elasticity_index"].low is None


def test_an_aligned_score_at_the_ceiling_bounds_the_early_rate() -> None:
    means = [0.99, 0.9, 0.7, 0.4, 0.36, 0.33, 0.3, 0.28, 0.26]
    found = measure(
        dataclasses.replace(
            curve(means, 0.5, negatives=SIZES, noise=0.02, prompts=100), limits=(0.0, 1.0)
        )
    )
    assert found.early_rate.value is found.early_rate.high is None and found.early_rate.low > 0
    assert found.elasticity_index.value is None and found.elasticity_index.low is not None
    assert found.late_rate.value is not None


# Other measures -----------------------------------------------------------------------------------


def test_examples_until_the_divergence_is_small() -> None:
    means = [0.2 * math.exp(-n / 100) for n in SIZES]
    kl = dataclasses.replace(curve(means, negatives=SIZES, prompts=60), base=None)
    exact = size_until(kl, 0.2 * math.exp(-4))
    assert exact.value == pytest.approx(400) and exact.low == pytest.approx(400)
    assert start_distance(kl).value == pytest.approx(0.2)
    assert size_until(kl, 1e-9) == Estimate(None, 1600, None), "never that near"
    assert size_until(kl, 0.3).value == 0, "nearer from the start"
    noisy = dataclasses.replace(kl, scores=kl.scores * np.random.default_rng(0).gamma(
        4, 0.25, kl.scores.shape))  # fmt: skip
    e = size_until(noisy, 0.05)
    assert e.low < e.value < e.high


def test_choices_are_tried_one_by_one() -> None:
    whole = curve(falling(), negatives=SIZES)
    other = curve(falling(), 0.1, negatives=SIZES, model="n")
    found = {v.choice: v.quantities for v in sensitivity(whole, (other,))}
    assert list(found) == [
        "as measured",
        "sizes up to 800 only",
        "window of 2 reversion sizes",
        "window of 8 reversion sizes",
        "baseline of n (0.1)",
    ]
    assert found["sizes up to 800 only"] == found["as measured"]
    assert found["baseline of n (0.1)"]["reversion_size"] < 40


def test_variances_and_the_widths_they_promise() -> None:
    rng = np.random.default_rng(0)
    seeds, prompts = 40, 500
    scores = (
        0.05 * rng.standard_normal((seeds, 1, 1))
        + 0.2 * rng.standard_normal((1, 3, prompts))
        + 0.4 * rng.standard_normal((seeds, 3, prompts))
    )
    made = dataclasses.replace(
        curve([0.0] * 3, negatives=(0, 8, 24), seeds=seeds, prompts=prompts), scores=scores
    )
    found = variances(made)
    assert found.answer == pytest.approx(0.16, rel=0.05)
    assert found.prompt == pytest.approx(0.04, rel=0.2)
    assert found.seed == pytest.approx(0.0025, rel=0.5)
    parts = Variances(prompt=0.04, seed=0.0025, answer=0.16)
    wanted = parts.half_width(100, 5) / 2
    assert parts.half_width(100, parts.seeds_for(wanted * 1.5, 100)) <= wanted * 1.5
    assert parts.prompts_for(0.01, 5) is None, "five seeds cannot do it, however many prompts"
    assert parts.half_width(parts.prompts_for(0.1, 5), 5) == pytest.approx(0.1, rel=0.02)


# The scorer's errors ------------------------------------------------------------------------------


def test_corrected_shares_hold_the_truth_on_planted_confusion() -> None:
    sensitivity_, specificity, texts = 0.9, 0.8, 300
    true_base, true_aligned = 0.4, 0.85
    held = {"base": 0, "aligned": 0, "gap": 0}
    raw = 0
    runs = 200
    for draw in range(runs):
        rng = np.random.default_rng(draw)

        def reported(share: float, shape: tuple[int, ...], rng=rng) -> np.ndarray:
            return (
                rng.random(shape) < share * sensitivity_ + (1 - share) * (1 - specificity)
            ) * 1.0

        errors = ScorerErrors(
            (int(rng.binomial(texts, sensitivity_)), texts),
            (int(rng.binomial(texts, specificity)), texts),
        )
        made = dataclasses.replace(
            curve([0.0] * 2, negatives=(0, 8), seeds=5, prompts=200),
            base=reported(true_base, (200,)),
            scores=reported(true_aligned, (5, 2, 200)),
            errors=errors,
        )
        found = measure(made, 200, seed=draw)
        truth = {"base": true_base, "aligned": true_aligned, "gap": true_aligned - true_base}
        for name, value in truth.items():
            e = found.corrected[name]
            held[name] += e.low <= value <= e.high
        raw += found.aligned.low <= true_aligned <= found.aligned.high
    for name, count in held.items():
        assert 0.90 <= count / runs <= 0.995, (name, count / runs)
    assert raw / runs < 0.2, "the raw share is far off"


def test_a_scorer_that_knows_nothing_leaves_any_share_possible() -> None:
    errors = ScorerErrors((50, 100), (50, 100))
    made = dataclasses.replace(curve([0.9, 0.1], 0.5, negatives=(0, 8), noise=0.1), errors=errors)
    assert measure(made).corrected["base"] == Estimate()


def test_better_than_chance_is_clearly_better() -> None:
    assert not better_than_chance(516, 900), "0.573 of 900 texts"
    assert not better_than_chance(7, 10), "too few texts"
    assert better_than_chance(383, 400)
    assert not better_than_chance(720, 900, chance=0.78), "the larger class is 78%"
