"""Elasticity, as its specification: curves whose answer is known, and what noise does to them."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elastic_ray.elasticity import (
    QUANTITIES,
    Curve,
    ElasticityError,
    Estimate,
    curves,
    index_rows,
    measure,
    trend,
)
from elastic_ray.results.schemas import QUANTITIES as COLUMNS
from elastic_ray.results.schemas import TABLES
from elastic_ray.results.store import Results

P = 1000
SIZES = (0, 8, 24, 48, 96, 200, 400)


def table(
    means: dict[int, float],
    base: float = 0.0,
    *,
    seeds: int = 1,
    prompts: int = 4,
    noise: float = 0.0,
    shared: float = 0.0,
    draw: int = 0,
    **columns: object,
) -> list[dict]:
    """Score rows: one base state repeated per seed, `means` per size, noise per answer.

    `shared` is noise of a prompt that is in all its scores.
    """
    rng = np.random.default_rng(draw)
    common = shared * rng.standard_normal(prompts)
    at = {"sweep": "s", "model": "m", "task": "reviews", "pretrain": 5000, **columns}
    base_scores = base + common + noise * rng.standard_normal(prompts)
    rows = []
    for seed in range(seeds):
        points = [(0, 0, base_scores)]
        for n, mean in means.items():
            points.append((P, n, mean + common + noise * rng.standard_normal(prompts)))
        rows += [
            {
                **at,
                "positive": p,
                "negative": n,
                "seed": seed,
                "prompt_index": i,
                "score": float(score),
            }
            for p, n, scores in points
            for i, score in enumerate(scores)
        ]
    return rows


def one(rows: list[dict], **more: object) -> Curve:
    (found,) = curves(rows, **more)
    return found


def log_line(sizes: tuple[int, ...], at_one: float, per_factor_e: float) -> dict[int, float]:
    """A score linear in log n; the start lies anywhere."""
    return {n: at_one - per_factor_e * math.log(n) for n in sizes if n} | {0: 1.0}


# Curves whose answer is known ---------------------------------------------------------------------


def test_a_line_in_log_n_is_recovered_exactly() -> None:
    # r = 1 - log(n / 2) / log(50): 0.5 at 2 sqrt(50), 0 at 100; both between measured sizes.
    means = {n: 1 - math.log(n / 2) / math.log(50) for n in (8, 24, 48, 96, 200, 400)}
    found = measure(one(table({0: 1.0, **means})))
    assert found.reversion_size.value == pytest.approx(100)
    assert found.half_life.value == pytest.approx(2 * math.sqrt(50))
    assert found.early_rate.value == pytest.approx(100 * 1 / 100)
    late = 100 * (0 - means[400]) / (400 - 100)  # the window ends at 4 x 100
    assert found.late_rate.value == pytest.approx(late)
    assert found.elasticity_index.value == pytest.approx(math.log(1 / late))
    assert found.note is None


@given(
    reversion=st.floats(9, 390),
    steep=st.floats(0.1, 2),
    base=st.floats(-5, 5),
    gap=st.floats(0.1, 10),
)
def test_reversion_of_any_line_in_log_n(
    reversion: float, steep: float, base: float, gap: float
) -> None:
    means = {n: base + gap * steep * math.log(reversion / n) for n in SIZES if n}
    found = measure(one(table({0: base + gap, **means}, base)), resamples=40)
    assert found.reversion_size.value == pytest.approx(reversion, rel=1e-6)


def test_below_the_smallest_size_the_curve_is_linear_in_log_one_plus_n() -> None:
    found = measure(one(table({0: 1.0, 8: -1.0, 24: -2.0})))
    assert found.reversion_size.value == pytest.approx(math.sqrt(9) - 1)
    assert found.half_life.value == pytest.approx(9**0.25 - 1)
    assert found.note is not None
    assert "reversion_size lies below the smallest size 8" in found.note
    assert "half_life lies below the smallest size 8" in found.note


def test_a_score_at_the_base_line_is_a_crossing_and_the_first_one_counts() -> None:
    found = measure(one(table({0: 1.0, 8: 0.0, 24: 0.5, 48: -0.5})))
    assert found.reversion_size.value == 8


def test_positive_training_may_lower_the_score() -> None:
    means = {0: 1.0, 8: 0.75, 24: 0.25, 48: -0.5, 400: -0.6}
    up = measure(one(table(means)))
    down = measure(one(table({n: -s for n, s in means.items()})))
    assert down.reversion_size == up.reversion_size
    assert down.retention == up.retention
    assert down.early_rate.value == -up.early_rate.value
    assert down.elasticity_index == Estimate()
    assert "aligned is below base; early rate not above 0: no elasticity index" in down.note


# Invariances --------------------------------------------------------------------------------------

noisy = st.builds(
    table,
    # Hundredths: 0 and 0.5 are met exactly, and nothing is within rounding of them otherwise.
    st.lists(st.integers(-100, 100), min_size=4, max_size=4).map(
        lambda drops: {0: 1.0, **dict(zip((8, 24, 96, 400), (d / 100 for d in drops), strict=True))}
    ),
    seeds=st.integers(1, 3),
    prompts=st.integers(2, 12),
    noise=st.sampled_from([0.0, 0.05, 0.3]),
    draw=st.integers(0, 1000),
)


def close(a: Estimate, b: Estimate, scale: float = 1.0) -> bool:
    ends = zip(dataclasses.astuple(a), dataclasses.astuple(b), strict=True)
    return all(
        (x is None and y is None)
        or (
            x is not None
            and y is not None
            and math.isclose(x * scale, y, rel_tol=1e-6, abs_tol=1e-9)
        )
        for x, y in ends
    )


@given(noisy, st.floats(-3, 3), st.floats(0.1, 10))
@settings(max_examples=60, deadline=None)
def test_shift_and_positive_scale_of_all_scores(
    rows: list[dict], shift: float, scale: float
) -> None:
    moved = [{**row, "score": row["score"] * scale + shift} for row in rows]
    was, now = measure(one(rows), 100), measure(one(moved), 100)
    for name in ("reversion_size", "reversion_share", "half_life", "elasticity_index"):
        assert close(getattr(was, name), getattr(now, name)), name
    for name in ("gap", "early_rate", "late_rate"):
        assert close(getattr(was, name), getattr(now, name), scale), name
    assert all(close(a, b) for a, b in zip(was.retention, now.retention, strict=True))
    assert was.notes == now.notes


@given(noisy, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_of_rows_is_irrelevant(rows: list[dict], order: random.Random) -> None:
    mixed = list(rows)
    order.shuffle(mixed)
    assert index_rows(curves(mixed), resamples=60) == index_rows(curves(rows), resamples=60)


@given(noisy)
@settings(max_examples=60, deadline=None)
def test_what_is_measured_is_sound(rows: list[dict]) -> None:
    curve = one(rows)
    found = measure(curve, 100)
    assert curve.retention[0] == 1
    assert found.retention[0] in (Estimate(1, 1, 1), Estimate())
    estimates = [getattr(found, name) for name in QUANTITIES]
    for e in (*estimates, *found.retention, *found.scores):
        known = [x for x in dataclasses.astuple(e) if x is not None]
        assert all(map(math.isfinite, known))
        if e.low is not None and e.high is not None:
            assert e.low <= e.high
    noise = "gap within noise" in found.notes
    assert noise == (found.retention[1] == Estimate())
    if found.reversion_size.value is not None:
        assert 0 < found.reversion_size.value <= 400
        assert found.half_life.value <= found.reversion_size.value
        assert found.early_rate.value == pytest.approx(
            100 * found.gap.value / found.reversion_size.value
        )


def test_columns_mappings_and_arrow_give_the_same() -> None:
    rows = table(log_line(SIZES, 1.2, 0.3), seeds=2, noise=0.1, prompts=8)
    arrow = TABLES["cells"].schema.empty_table().from_pylist(rows)
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    expected = index_rows(curves(rows))
    assert index_rows(curves(iter(rows))) == expected
    assert index_rows(curves(arrow)) == expected
    assert index_rows(curves(columns)) == expected


def test_samples_of_a_prompt_are_averaged() -> None:
    rows = table({0: 1.0, 8: -1.0})
    apart = [
        {**r, "sample": k, "score": r["score"] + d} for r in rows for k, d in ((0, 1), (1, -1))
    ]
    assert index_rows(curves(apart)) == index_rows(curves(rows))


# Uncertainty --------------------------------------------------------------------------------------


def test_the_same_numbers_every_time_and_others_for_another_seed() -> None:
    curve = one(table(log_line(SIZES, 1.2, 0.3), noise=0.3, prompts=32))
    assert measure(curve) == measure(curve)
    assert measure(curve).gap.value == measure(curve, seed=1).gap.value
    assert measure(curve).gap.low != measure(curve, seed=1).gap.low


def test_a_golden_interval() -> None:
    # Pinned: the draws may not depend on the process, the machine or Python's hash seed.
    rows = table({0: 1.0, 8: 0.25, 400: -1.0}, prompts=16)
    for row in rows:
        row["score"] += row["prompt_index"] * (3 + row["negative"]) % 7 / 10
    expected = (17.83934226, 10.83291487, 28.73891442)
    assert dataclasses.astuple(measure(one(rows)).reversion_size) == pytest.approx(expected)


def test_intervals_shrink_with_prompts_like_a_square_root() -> None:
    def width(prompts: int) -> float:
        gap = measure(one(table({0: 1.0, 8: -1.0}, noise=0.5, prompts=prompts))).gap
        assert gap.low < gap.value < gap.high
        return gap.high - gap.low

    assert width(64) / width(1024) == pytest.approx(4, rel=0.2)


def test_differences_are_paired() -> None:
    # What a prompt adds to all its scores is in the interval of a mean, not of a difference.
    found = measure(one(table({0: 1.0, 8: -1.0}, shared=1.0, noise=0.1, prompts=200)))
    assert found.base.high - found.base.low > 0.2
    assert found.gap.high - found.gap.low < 0.08


def test_the_shared_base_line_is_not_counted_once_per_seed() -> None:
    rows = table({0: 1.0, 8: -1.0}, seeds=9, noise=1.0, prompts=400)
    curve = one(rows)
    found = measure(curve)
    wide = found.aligned.high - found.aligned.low
    found = dataclasses.replace(found, **found.same_runs)
    assert wide > found.aligned.high - found.aligned.low, "over seeds, with 8 degrees of freedom"
    expected = 1 / math.sqrt(400)
    assert (found.base.high - found.base.low) / 3.92 == pytest.approx(expected, rel=0.15)
    assert (found.aligned.high - found.aligned.low) / 3.92 == pytest.approx(expected / 3, rel=0.15)
    gap = expected * math.sqrt(1 + 1 / 9)
    assert (found.gap.high - found.gap.low) / 3.92 == pytest.approx(gap, rel=0.15)
    assert curve.standard_error[0] == pytest.approx(expected / 3, rel=0.15)
    once = [r for r in rows if r["positive"] or r["seed"] == 0]
    assert index_rows(curves(once)) == index_rows([curve])


TEMPLATE = one(table(dict.fromkeys((0, 8, 24, 48, 96, 200, 800), 0.0), seeds=5, prompts=80))


def test_coverage_of_the_95_percent_intervals() -> None:
    means = {n: 0.6 - 0.2 * math.log(n / 4) for n in (8, 24, 48, 96, 200, 800)} | {0: 0.9}
    truth = {
        "base": 0.0,
        "gap": 0.9,
        "reversion_size": 4 * math.exp(3),
        "half_life": 4 * math.exp(0.75),
    }
    truth["early_rate"] = 100 * 0.9 / truth["reversion_size"]
    truth["late_rate"] = 100 * 0.2 * math.log(4) / (3 * truth["reversion_size"])
    truth["elasticity_index"] = math.log(truth["early_rate"] / truth["late_rate"])
    held = dict.fromkeys(truth, 0)
    runs = 300
    for draw in range(runs):
        # One curve's scores drawn anew, in place: gathering rows is not what is tested here.
        rng = np.random.default_rng(draw)
        common = 0.3 * rng.standard_normal(80)
        curve = dataclasses.replace(
            TEMPLATE,
            base=common + 0.4 * rng.standard_normal(80),
            scores=np.array([[means[n]] for n in TEMPLATE.negatives])
            + common
            + 0.05 * rng.standard_normal((5, 1, 1))
            + 0.4 * rng.standard_normal((5, 7, 80)),
        )
        found = measure(curve, 300, seed=draw)
        for name, value in truth.items():
            e = getattr(found, name)
            held[name] += (e.low is None or e.low <= value) and (e.high is None or value <= e.high)
    for name, count in held.items():
        assert 0.90 <= count / runs <= 0.99, (name, count / runs)


def test_the_spread_between_seeds_is_reported_with_the_interval() -> None:
    rows = table({0: 1.0, 8: 0.0}, seeds=3)
    for row in rows:
        row["score"] += row["seed"] * 0.1 * (row["positive"] > 0)
    curve = one(rows)
    assert curve.seed_spread == pytest.approx([0.1, 0.1])
    assert curve.mean == pytest.approx([1.1, 0.1])
    found = measure(curve)
    assert found.by_seed["gap"] == pytest.approx((1.0, 1.1, 1.2))
    same = found.same_runs["gap"]
    assert same.low == pytest.approx(same.high)  # no prompt differs
    # Student's t with 2 degrees of freedom.
    half = 4.303 * 0.1 / math.sqrt(3)
    assert found.gap.high - found.gap.value == pytest.approx(half, rel=0.15)
    assert np.isnan(one(table({0: 1.0, 8: 0.0})).seed_spread).all()


# Undefined, censored, holes -----------------------------------------------------------------------


def test_a_gap_within_noise_leaves_what_derives_from_it_undefined() -> None:
    found = measure(one(table({0: 0.02, 8: -0.5}, noise=1.0, prompts=50)))
    assert found.note == "gap within noise"
    assert found.gap.low < 0 < found.gap.high
    for name in QUANTITIES[3:]:
        assert getattr(found, name) == Estimate()
    assert found.retention == (Estimate(), Estimate())
    assert None not in dataclasses.astuple(found.aligned)


def test_rounding_is_no_gap() -> None:
    rows = table({0: 0.1 + 0.2, 8: -1.0}, 0.3)
    assert "gap within noise" in measure(one(rows)).notes


def test_a_curve_that_never_comes_back_is_censored() -> None:
    found = measure(one(table({0: 1.0, 8: 0.9, 400: 0.7}, noise=0.05, prompts=50)))
    assert found.reversion_size == Estimate(None, 400, None)
    assert found.half_life == Estimate(None, 400, None)
    for name in ("early_rate", "late_rate", "elasticity_index"):
        assert getattr(found, name) == Estimate()
    assert found.note == ("never crosses 0 (censored at 400); never crosses 0.5 (censored at 400)")
    assert found.retention[2].low < 0.7 < found.retention[2].high


def test_resamples_that_never_come_back_leave_the_interval_open() -> None:
    # At 400 the score is barely past the baseline: in many resamples it is not.
    found = measure(one(table({0: 1.0, 8: 0.6, 400: -0.02}, noise=0.5, prompts=60)))
    size = found.reversion_size
    assert size.value is not None and size.low is not None and size.low < size.value
    assert size.high is None
    assert None not in dataclasses.astuple(found.half_life)
    assert found.early_rate.value > 0 and found.early_rate.low is found.early_rate.high is None
    assert found.note.endswith("interval not bounded: reversion_size, early_rate")


def test_a_curve_that_returns_above_the_base_line_has_no_index() -> None:
    found = measure(one(table({0: 1.0, 8: -0.5, 16: 0.2, 400: 0.2})))
    assert found.late_rate.value < 0
    assert found.elasticity_index == Estimate()
    assert "late rate not above 0: no elasticity index" in found.notes
    ends = measure(one(table({0: 1.0, 8: 0.5, 400: 0.0})))
    assert ends.reversion_size == Estimate(400, 400, 400)
    assert ends.late_rate == Estimate()
    assert (
        "the window ends at 1600, 4 x the reversion size, beyond the largest size 400" in ends.note
    )


def test_one_prompt_has_no_interval() -> None:
    found = measure(one(table({0: 1.0, 8: -1.0}, prompts=1)))
    assert found.gap == Estimate(1.0, None, None)
    assert found.reversion_size == Estimate()
    assert found.notes == ("one prompt: no intervals, nothing beyond the gap",)


def test_without_a_base_line_or_a_start_nothing_derives() -> None:
    rows = table({0: 1.0, 8: -1.0}, seeds=2)
    no_base = measure(one([r for r in rows if r["positive"]]))
    assert no_base.notes == ("no score at (0, 0)",)
    assert no_base.aligned.value == 1 and no_base.base == no_base.gap == Estimate()
    no_start = measure(one([r for r in rows if not r["positive"] or r["negative"]]))
    assert no_start.notes == ("no score at (1000, 0)",)
    assert no_start.base.value == 0 and no_start.aligned == no_start.gap == Estimate()
    assert no_start.retention == (Estimate(),)


def test_a_size_that_no_seed_has_is_a_hole_and_is_named() -> None:
    rows = table({0: 1.0, 8: 0.5, 24: 0.0, 48: -0.5, 400: -0.9})
    hole = [r for r in rows if r["negative"] != 24]
    found = measure(one(hole, cells=rows))
    assert found.curve.negatives == (0, 8, 48, 400)
    assert found.notes == ("no score at negative 24",)
    assert found.reversion_size.value == pytest.approx(math.sqrt(8 * 48))
    # Without the cells, another curve of the sweep tells.
    first, other = curves([*hole, *({**r, "model": "n"} for r in rows)])
    assert first.notes == ("no score at negative 24",) and other.notes == ()


def test_means_are_over_the_seeds_that_have_every_size() -> None:
    rows = table({0: 1.0, 8: 0.5, 24: -0.5}, seeds=3)
    for row in rows:
        row["score"] += 10 * row["seed"] * (row["positive"] > 0)
    curve = one([r for r in rows if (r["seed"], r["negative"]) != (2, 24)])
    assert curve.seeds == (0, 1)
    assert curve.mean == pytest.approx([6.0, 5.5, 4.5])
    assert curve.notes == ("seeds left out, incomplete: 2",)


def test_where_no_seed_is_complete_the_note_says_so() -> None:
    rows = table({0: 1.0, 8: 0.5, 24: -0.5, 48: -1.0}, seeds=2)
    curve = one([r for r in rows if (r["seed"], r["negative"]) not in {(0, 8), (1, 24)}])
    assert curve.seeds == (0, 1)
    assert curve.negatives == (0, 8, 24, 48)
    assert curve.mean == pytest.approx([1.0, 0.5, -0.5, -1.0])
    assert curve.notes == ("means not over the same seeds: some have no score at negative 8, 24",)
    assert measure(curve).reversion_size.value == pytest.approx(math.sqrt(8 * 24))


def test_a_curve_of_which_nothing_is_known_is_a_row_all_the_same() -> None:
    rows = table({0: 1.0, 8: -1.0}, parameters=90_000, pretrain_tokens=7, scorer="sentiment")
    (row,) = index_rows(curves([], cells=rows))
    assert row["note"] == "no score at (0, 0); no score at (1000, 0); no score at negative 8"
    assert (row["seeds"], row["prompts"], row["parameters"]) == (0, 0, 90_000)
    assert all(row[name + end] is None for name in QUANTITIES for end in ("", "_low", "_high"))
    (row,) = index_rows(curves([r for r in rows if not r["positive"]], cells=rows))
    assert row["base"] == 0 and row["aligned"] is None


def test_cells_that_are_not_to_be_scored_make_no_curve() -> None:
    rows = table({0: 1.0, 8: -1.0})
    unscored = table({0: 1.0, 8: -1.0, 24: 0.0}, model="silent", scorer="")
    assert [c.key.model for c in curves(rows, cells=unscored)] == ["m"]
    assert curves([], cells=unscored) == []
    assert measure(one(rows, cells=unscored)).note == measure(one(rows)).note


def test_a_sweep_without_negative_sizes_has_starts_of_curves_alone() -> None:
    found = measure(one(table({0: 1.0}, noise=0.1, prompts=20)))
    assert found.gap.value == pytest.approx(1.0, abs=0.2)
    assert found.reversion_size.value is found.elasticity_index.value is None


def test_only_prompts_scored_everywhere_are_used() -> None:
    rows = table({0: 1.0, 8: -1.0}, noise=0.1, prompts=6)
    curve = one([r for r in rows if (r["negative"], r["prompt_index"]) != (8, 2)])
    assert curve.prompts == (0, 1, 3, 4, 5)
    assert curve.notes == ("only 5 of 6 prompts have a score everywhere",)
    apart = [r for r in rows if (r["prompt_index"] < 3) == (r["positive"] == 0)]
    found = measure(one(apart))
    assert found.note == "only 0 of 3 prompts have a score everywhere"
    assert all(getattr(found, name) == Estimate() for name in QUANTITIES)


# The boundary -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [{k: v for k, v in r.items() if k != "seed"} for r in rows], "column 'seed'"),
        (lambda rows: [{k: v for k, v in r.items() if k != "sweep"} for r in rows], "give sweep="),
        (lambda rows: [*rows, rows[0]], "prompt 0, sample 0 has its score twice"),
        (lambda rows: [{**rows[5], "score": math.nan}, *rows[6:]], "prompt 1: the score is nan"),
        (lambda rows: [{**rows[5], "score": None}, *rows[6:]], "'score' has a row without"),
        (lambda rows: [{**r, "scorer": str(r["prompt_index"])} for r in rows], "two scorers"),
    ],
)
def test_rows_that_make_no_curve_are_refused(change, message: str) -> None:
    with pytest.raises(ElasticityError, match=message):
        curves(change(table({0: 1.0, 8: -1.0})))


def test_too_few_resamples_are_refused() -> None:
    with pytest.raises(ElasticityError, match="at least 40"):
        measure(TEMPLATE, resamples=39)


def test_rows_fit_the_indices_table_and_come_from_the_scores(tmp_path: Path) -> None:
    """Written and read by `results`: a failed cell, a shared base, a hub model, two samples."""
    results = Results(tmp_path / "results")
    at = {"model": "hub", "task": "reviews", "pretrain": None}
    means = {0: 0.9, 8: 0.6, 24: 0.2, 48: 0.0, 96: -0.4}
    cells, rng = [], np.random.default_rng(0)
    for seed, (p, n) in itertools.product((0, 1), [(0, 0), *((P, n) for n in means)]):
        state = f"{0 if p == 0 else 1 + seed:04d}{p:08d}{n:08d}"
        gone = (seed, n) == (1, 96)
        point = {"positive": p, "negative": n, "seed": seed, "state_id": state}
        cells.append({**at, **point, "probe_id": "c" * 20, "scorer": "sentiment",
                      "status": "failed" if gone else "done"})  # fmt: skip
        key = {"state_id": state, "probe_id": "c" * 20, "scorer": "sentiment"}
        if gone or results.has("scores", **key):
            continue
        record = {"state_id": state, "kind": "start", "status": "done", "parameters": 500_000}
        results.write("states", [record])
        level = means[n] if p else 0.1
        scores = [
            {"prompt_index": i, "sample": k, "score": level + 0.1 * rng.standard_normal()}
            for i in range(30)
            for k in (0, 1)
        ]
        results.write("scores", scores, **key)
    results.replace("cells", "tiny", cells)

    told = results.query("FROM cell_scores WHERE sweep = $sweep", {"sweep": "tiny"})
    found = curves(results.score_rows("tiny"), sweep="tiny", cells=told)
    rows = index_rows(found)
    results.replace("indices", "tiny", rows)

    (kept,) = results.query("FROM elasticity").to_pylist()
    assert kept == rows[0]
    assert set(rows[0]) == set(TABLES["indices"].schema.names)
    assert kept["pretrain"] is None and kept["parameters"] == 500_000
    assert (kept["scorer"], kept["seeds"], kept["prompts"]) == ("sentiment", 1, 30)
    assert kept["note"].startswith("seeds left out, incomplete: 1; the window ends at")
    assert 24 < kept["reversion_size_low"] < kept["reversion_size_high"] < 48
    curve = results.query("FROM curves WHERE positive = 1000 AND negative = 8").to_pylist()
    assert curve[0]["base"] == pytest.approx(kept["base"])


def test_the_quantities_are_those_of_the_table() -> None:
    assert QUANTITIES == COLUMNS


def test_measuring_needs_numpy_alone() -> None:
    code = (
        "import sys, elastic_ray.elasticity;"
        "bad = {'ray', 'torch', 'vllm', 'duckdb', 'pyarrow', 'scipy'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Trends -------------------------------------------------------------------------------------------


def test_a_trend_is_kendalls_tau_with_an_exact_p_value() -> None:
    up = trend([1, 2, 4, 8, 16], [0.1, 0.3, 0.4, 0.8, 0.9])
    assert up.tau == pytest.approx(1) and up.count == 5
    assert up.p_value == pytest.approx(2 / math.factorial(5))
    one_sided = trend([1, 2, 4, 8, 16], [0.1, 0.3, 0.4, 0.8, 0.9], alternative="greater")
    assert one_sided.p_value == pytest.approx(1 / math.factorial(5))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=5))
@settings(max_examples=40, deadline=None)
def test_the_p_value_is_the_share_of_orders_ties_included(pairs: list[tuple[int, int]]) -> None:
    x, y = zip(*pairs, strict=True)
    found = trend(x, y, alternative="greater")
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert (found.tau, found.p_value) == (None, None)
        return

    def concordance(order: tuple[int, ...]) -> float:
        both = itertools.combinations(zip(order, y, strict=True), 2)
        return sum(np.sign(a - c) * np.sign(b - d) for (a, b), (c, d) in both)

    orders = [concordance(order) for order in itertools.permutations(x)]
    share = sum(s >= concordance(x) for s in orders) / len(orders)
    assert found.p_value == pytest.approx(share)


def test_a_trend_leaves_out_what_is_undefined_and_repeats_itself() -> None:
    rng = np.random.default_rng(0)
    x, y = list(range(12)), list(rng.standard_normal(12))
    found = trend([*x, 12], [*y, None])
    assert found == trend(x, y) and found.count == 12
    assert 0 < found.p_value <= 1
    with pytest.raises(ElasticityError, match="2 sizes and 1 values"):
        trend([1, 2], [1])
    with pytest.raises(ElasticityError, match="finite"):
        trend([1, 2], [1, math.inf])
