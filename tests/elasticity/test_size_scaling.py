"""Comparisons of models, and trends along sizes, on curves whose differences are planted."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import NEGATIVES, curve

from elastic_ray.elasticity import (
    QUANTITIES,
    ElasticityError,
    Estimate,
    blocked_trend,
    compare,
    compare_all,
    measure,
    scaling,
    trend,
)


def falling(steep: float, at_one: float = 1.4) -> list[float]:
    return [1.0, *(at_one - steep * math.log(n) for n in NEGATIVES[1:])]


# Comparisons --------------------------------------------------------------------------------------


def test_a_curve_differs_from_itself_in_nothing() -> None:
    mine = curve(falling(0.3), noise=0.2, prompts=100)
    same = dataclasses.replace(mine, key=dataclasses.replace(mine.key, model="twin"))
    found = compare(mine, same)
    assert found.paired == 100
    for name in QUANTITIES:
        if found.quantities[name].value is None:
            continue
        e = found.same_runs[name]
        assert (e.value, e.low, e.high) == pytest.approx((0, 0, 0), abs=1e-9), name
        assert found.quantities[name].value == pytest.approx(0, abs=1e-9)


@given(st.floats(0.2, 0.5), st.floats(0.2, 0.5), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_a_difference_is_that_of_what_is_measured_and_turns_with_its_sides(
    steep: float, other: float, draw: int
) -> None:
    a = curve(falling(steep), noise=0.05, draw=draw)
    b = curve(falling(other), noise=0.05, draw=draw + 1, model="n")
    found, turned = compare(a, b, 200), compare(b, a, 200)
    one, two = measure(a, 200), measure(b, 200)
    for name in QUANTITIES:
        x, y, d = getattr(one, name), getattr(two, name), found.quantities[name]
        if x.value is not None and y.value is not None:
            assert d.value == pytest.approx(x.value - y.value, abs=1e-9)
            assert turned.quantities[name].value == pytest.approx(-d.value, abs=1e-9)
            assert d.low is None or d.high is None or d.low <= d.high


def test_shared_prompts_are_drawn_together() -> None:
    def width(first: int, task: str = "t") -> tuple[float, int]:
        a = curve(falling(0.3), shared=1.0, noise=0.05, prompts=100)
        b = curve(falling(0.3), shared=1.0, noise=0.05, prompts=100, draw=1,
                  first_prompt=first, task=task, model="n")  # fmt: skip
        found = compare(a, b)
        e = found.same_runs["aligned"]
        return e.high - e.low, found.paired

    paired, half, apart, other = width(0), width(50), width(200), width(0, "u")
    assert [x[1] for x in (paired, half, apart, other)] == [100, 50, 0, 0]
    assert paired[0] < 0.05 < 0.35 < half[0] < apart[0]
    assert other[0] == pytest.approx(math.sqrt(2) * 2 * 1.96 / 10, rel=0.25)


def test_seeds_of_two_models_are_not_paired() -> None:
    # The seeds shift both models alike: paired by seed, the difference would have no error.
    shifts = np.array([-0.2, 0.2, 0.1, -0.1])[:, None, None]
    mine = curve(falling(0.3), seeds=4, prompts=50)
    mine = dataclasses.replace(mine, scores=mine.scores + shifts)
    theirs = dataclasses.replace(mine, key=dataclasses.replace(mine.key, model="n"))
    e = compare(mine, theirs).quantities["aligned"]
    assert e.value == pytest.approx(0) and e.high - e.low > 0.5
    held = compare(mine, theirs).same_runs["aligned"]
    assert held.high - held.low == pytest.approx(0, abs=1e-9)


def test_indices_over_different_windows_are_not_compared() -> None:
    mine = curve(falling(0.35), noise=0.05)
    theirs = dataclasses.replace(curve(falling(0.4), noise=0.05, model="n"), window=2.0)
    found = compare(mine, theirs)
    assert found.quantities["elasticity_index"] == found.quantities["late_rate"] == Estimate()
    assert found.quantities["reversion_size"].value is not None
    assert "over 4 and 2 reversion sizes: not compared" in found.notes[0]


def test_different_baselines_are_said() -> None:
    mine, theirs = (curve(falling(0.3), base, noise=0.02) for base in (0.0, 0.2))
    assert any("baselines differ" in note for note in compare(mine, theirs).notes)
    assert not compare(mine, mine).notes


def test_of_a_censored_size_the_difference_has_one_end() -> None:
    never = curve([1.0] + [0.8] * 6, noise=0.05)
    back = curve(falling(0.3), noise=0.05, draw=1, model="n")
    found = compare(never, back).quantities
    assert found["reversion_size"].value is None and found["reversion_size"].high is None
    assert found["reversion_size"].low > 500, "at least 800 less the other's some 106"
    assert found["early_rate"] == Estimate()
    flat = curve([0.0] * 7, noise=0.5, draw=2, model="f")
    assert compare(back, flat).quantities["half_life"] == Estimate(), "the gap is within noise"


def test_curves_are_matched_and_mismatches_are_reported() -> None:
    mine = [curve(falling(0.3), positive=p) for p in (400, 2000)]
    theirs = [curve(falling(0.2), positive=p, model="n") for p in (2000, 9000)]
    (found,) = compare_all(mine, theirs, resamples=40)
    assert (found.one.positive, found.one.model, found.other.model) == (2000, "m", "n")
    with pytest.raises(ElasticityError, match="no curves agree in model, positive"):
        compare_all(mine, theirs, ("model", "positive"))
    with pytest.raises(ElasticityError, match=r"agree in task$"):
        compare_all(mine, theirs, ("task",))


# Scaling ------------------------------------------------------------------------------------------


def models(steeps: list[float], **more: object) -> list:
    """Models of 10^5, 10^6, ...; two positive sizes each."""
    return [
        curve(falling(steep), model=f"m{i}", parameters=10 ** (5 + i), positive=p, draw=i, **more)
        for i, steep in enumerate(steeps)
        for p in (400, 2000)
    ]


def test_a_planted_slope_is_recovered() -> None:
    # Back at 0 at exp(1.4 / steep): at 100, 200, 300 here, 100 more per tenfold size.
    steeps = [1.4 / math.log(n) for n in (100, 200, 300)]
    found = {s.quantity: s for s in scaling(models(steeps))}
    size = found["reversion_size"]
    assert size.sizes == (10**5, 10**6, 10**7) and size.along == "parameters"
    assert size.positives == (400, 2000) and size.undefined == 0
    assert size.slope.value == pytest.approx(100)
    assert size.slope.low == pytest.approx(100) and size.slope.high == pytest.approx(100)
    assert size.tau == 1 and size.least_p == pytest.approx(2 / 6)
    assert size.p_value is None, "3 sizes cannot reach p < 0.05: not a test"
    assert found["early_rate"].tau == -1
    noisy = {s.quantity: s for s in scaling(models(steeps, noise=0.3, prompts=200))}
    e = noisy["reversion_size"].slope
    assert e.low < e.value < e.high


def test_models_are_compared_in_one_respect_at_a_time() -> None:
    def at(model: str, pretrain: int, parameters: int) -> object:
        return curve(falling(0.3), model=model, pretrain=pretrain, parameters=parameters,
                     pretrain_tokens=10 * pretrain)  # fmt: skip

    curves = [at("small", 1, 10), at("small", 5, 10), at("large", 5, 90)]
    found = scaling(curves, resamples=40)
    assert {(s.along, dict(s.fixed)["model" if s.along != "parameters" else "pretrain"])
            for s in found} == {("parameters", 5), ("pretrain_tokens", "small")}  # fmt: skip
    assert scaling([at("small", 1, 10)], resamples=40) == []
    assert scaling([curve(falling(0.3))], resamples=40) == [], "sizes are not known"


def test_p_values_are_adjusted_for_their_number() -> None:
    found = scaling(models([0.5, 0.4, 0.35, 0.3, 0.28]))
    tested = [s for s in found if s.p_value is not None]
    for s in tested:
        assert s.p_value <= s.p_adjusted <= min(1.0, len(tested) * s.p_value)
    smallest = min(tested, key=lambda s: s.p_value)
    assert smallest.p_value == pytest.approx(2 / math.factorial(5))
    assert smallest.p_adjusted == pytest.approx(len(tested) * smallest.p_value)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=2, max_size=5))
@settings(max_examples=40, deadline=None)
def test_one_block_is_kendalls_tau(pairs: list[tuple[int, int]]) -> None:
    x, y = (np.array(column, float) for column in zip(*pairs, strict=True))
    tau, p = blocked_trend(x, y[None])
    expected = trend(x, y)
    if expected.tau is None:
        assert (tau, p) == (None, None)
    else:
        assert tau == pytest.approx(expected.tau)
        assert 0 < p <= 1
        if len(set(x)) == len(x) and len(set(y)) == len(y):
            assert p == pytest.approx(expected.p_value)


def test_blocks_that_repeat_each_other_are_no_more_evidence() -> None:
    x, y = np.arange(5.0), np.array([0.1, 0.3, 0.2, 0.7, 0.9])
    assert blocked_trend(x, np.stack([y] * 4)) == pytest.approx(blocked_trend(x, y[None]))
    hole = np.stack([y, np.full(5, np.nan)])
    assert blocked_trend(x, hole) == pytest.approx(blocked_trend(x, y[None]))


def test_models_of_two_families_are_not_one_axis() -> None:
    curves = [
        dataclasses.replace(c, family=family)
        for c, family in zip(models([0.5, 0.4]), ("a", "a", "b", "b"), strict=True)
    ]
    assert scaling(curves, resamples=40) == []


def test_published_checkpoints_of_one_family_are_an_axis_of_tokens() -> None:
    curves = [
        dataclasses.replace(
            curve(falling(0.3 + 0.05 * i), model=f"tiny-{i}", parameters=10**9, draw=i),
            family="TinyLlama",
            pretrain_tokens=tokens,
        )
        for i, tokens in enumerate((5 * 10**11, 10**12, 3 * 10**12))
    ]
    found = {s.quantity: s for s in scaling(curves, resamples=40)}
    size = found["reversion_size"]
    assert size.along == "pretrain_tokens" and dict(size.fixed)["model"] == "TinyLlama"
    assert size.sizes == (5 * 10**11, 10**12, 3 * 10**12) and size.slope.value < 0
