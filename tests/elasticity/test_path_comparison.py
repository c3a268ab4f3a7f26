"""Inverse against forward fine-tuning: pairs whose answer is known, and what noise does to them."""

from __future__ import annotations

import math
import random
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import permutation_test

from elastic_ray.analysis.labels import METRIC_LABELS
from elastic_ray.elasticity import (
    ElasticityError,
    PathComparison,
    compare_paths,
    comparison_rows,
    paths,
)
from elastic_ray.elasticity.path_comparison import COMPARED, METRICS, sign_flips
from elastic_ray.results.schemas import COMPARED as COLUMNS
from elastic_ray.results.store import Results
from elastic_ray.sweep.outcome import print_outcome

DIRECTIONS = ("inverse", "forward")


def table(
    inverse: np.ndarray, forward: np.ndarray, *, samples: int = 1, **columns: object
) -> list[dict]:
    """Rows of `path_rows` from distances [seeds, prompts]; samples lie around them."""
    at = {"sweep": "s", "model": "m", "task": "t", "pretrain": None, "k": 1, "l": 2}
    return [
        {
            **at,
            "metric": "kl",
            "direction": direction,
            "seed": seed,
            "prompt_index": prompt,
            "sample": sample,
            "value": float(value) + sample - (samples - 1) / 2,
            "parameters": 7,
            **columns,
        }
        for direction, values in zip(DIRECTIONS, (inverse, forward), strict=True)
        for seed, row in enumerate(values)
        for prompt, value in enumerate(row)
        for sample in range(samples)
    ]


def one(rows: list[dict], **more: object) -> PathComparison:
    (found,) = paths(rows, **more)
    return compare_paths(found)


def lessons(seeds: int = 1, **columns: object) -> list[dict]:
    at = {"sweep": "s", "model": "m", "task": "t", "pretrain": None, "k": 1, "l": 2}
    return [
        {**at, "direction": direction, "seed": seed, "status": "done", **columns}
        for direction in DIRECTIONS
        for seed in range(seeds)
    ]


# Pairs whose answer is known ----------------------------------------------------------------------


def test_a_constant_difference_has_no_width_however_noisy_the_prompts() -> None:
    prompts = 5 + np.random.default_rng(0).standard_normal((3, 10))
    found = one(table(prompts, prompts + 0.25, samples=2))
    assert found.difference.value == pytest.approx(0.25)
    assert found.difference.low == pytest.approx(0.25) == found.difference.high
    assert found.inverse.value == pytest.approx(prompts.mean())
    assert found.forward.value == pytest.approx(prompts.mean() + 0.25)
    assert found.inverse.low < found.inverse.value < found.inverse.high
    assert found.p_value == 2 / 2**10, "all signs alike: of ten prompts, two in all flips"
    assert found.seeds_inverse_nearer == 3
    row = found.row()
    assert (row["prompts"], row["seeds"], row["note"], row["parameters"]) == (10, 3, None, 7)


def test_a_seed_counts_by_its_own_mean() -> None:
    inverse = np.ones((3, 4))
    forward = np.array([[2.0] * 4, [0.5] * 4, [1.0] * 4])
    found = one(table(inverse, forward))
    assert found.seeds_inverse_nearer == 1, "a tie is not nearer"
    assert found.difference.value == pytest.approx(0.5 / 3)


def test_cross_entropy_differs_where_nothing_is_to_be_learnt_and_kl_does_not() -> None:
    """Both students equal their teachers; the teacher theta_2 is the more certain one."""
    teachers = np.random.default_rng(0).dirichlet(np.ones(5), 12), np.full((12, 5), 0.2)
    rows = []
    for direction, p in zip(DIRECTIONS, teachers, strict=True):
        cross = -(p * np.log(p)).sum(axis=1)
        for metric, values in (("cross_entropy", cross), ("kl", np.zeros(12))):
            rows += [
                row
                for row in table(values[None], values[None], metric=metric)
                if row["direction"] == direction
            ]
    cross, kl = (compare_paths(each) for each in paths(rows))
    assert (cross.paths.key.metric, kl.paths.key.metric) == ("cross_entropy", "kl")
    assert cross.difference.low > 0.1 and cross.p_value < 0.001
    assert kl.difference.value == kl.difference.low == kl.difference.high == 0
    assert kl.p_value == 1 and kl.seeds_inverse_nearer == 0


def test_pairs_come_as_in_table_1_and_the_paper_s_metric_first() -> None:
    rows = [
        row
        for metric in ("tv", "cross_entropy")
        for k, last in ((1, 3), (2, 3), (1, 2))
        for row in table(np.ones((1, 2)), np.ones((1, 2)), metric=metric, k=k, l=last)
    ]
    keys = [(each.key.k, each.key.l, each.key.metric) for each in paths(rows)]
    pairs = [(1, 2), (2, 3), (1, 3)]
    assert keys == [(*pair, metric) for pair in pairs for metric in ("cross_entropy", "tv")]


# Whatever the numbers -----------------------------------------------------------------------------

distances = st.integers(2, 8).flatmap(
    lambda prompts: st.lists(
        st.lists(st.floats(0, 9), min_size=prompts, max_size=prompts), min_size=4, max_size=4
    )
)


@given(distances, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_the_other_way_round_is_the_mirror_and_order_does_not_matter(
    values: list[list[float]], rng: random.Random
) -> None:
    inverse, forward = np.array(values[:2]), np.array(values[2:])
    rows = table(inverse, forward)
    found, mirrored = one(rows), one(table(forward, inverse))
    assert mirrored.inverse == found.forward and mirrored.forward == found.inverse
    assert mirrored.p_value == pytest.approx(found.p_value)
    ends = (found.difference.value, found.difference.low, found.difference.high)
    other = (mirrored.difference.value, mirrored.difference.high, mirrored.difference.low)
    assert ends == pytest.approx([-end for end in other], abs=1e-12)
    rng.shuffle(rows)
    assert one(rows).row() == found.row()


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=11))
@settings(max_examples=40)
def test_the_exact_test_is_scipy_s_ties_included(values: list[int]) -> None:
    differences = np.array(values, dtype=np.float64)
    theirs = permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=9999)
    assert sign_flips(differences, np.random.default_rng(0)) == pytest.approx(theirs.pvalue)


def test_the_random_test_agrees_with_scipy_s_and_never_says_zero() -> None:
    differences = 0.3 + np.random.default_rng(1).standard_normal(40)
    theirs = permutation_test(
        (differences,), np.sum, permutation_type="samples", rng=np.random.default_rng(2)
    )
    ours = sign_flips(differences, np.random.default_rng(0))
    assert ours == pytest.approx(theirs.pvalue, abs=0.02)
    assert sign_flips(np.ones(40), np.random.default_rng(0)) == 1 / 10_000
    assert sign_flips(np.zeros(40), np.random.default_rng(0)) == 1


def test_without_a_difference_the_test_rejects_as_often_as_it_says() -> None:
    """600 pairs of paths that differ by noise alone: at 5%, between 3 and 7 in a hundred."""
    rng = np.random.default_rng(3)
    rejected = held = 0
    for draw in range(600):
        prompts = rng.gamma(2.0, size=(1, 30))
        inverse, forward = prompts + rng.gamma(1.0, size=(2, 2, 30))
        found = compare_paths(paths(table(inverse, forward, sweep=f"s{draw}"))[0], resamples=200)
        rejected += found.p_value <= 0.05
        held += found.difference.low <= 0 <= found.difference.high
    assert 0.03 <= rejected / 600 <= 0.07
    assert held / 600 >= 0.9


# What is missing ----------------------------------------------------------------------------------


def test_a_seed_with_one_path_is_left_out_and_reported() -> None:
    rows = [
        row
        for row in table(np.ones((3, 4)), np.ones((3, 4)) + 1)
        if (row["direction"], row["seed"]) != ("forward", 1)
    ]
    asked = lessons(3)
    next(a for a in asked if (a["direction"], a["seed"]) == ("forward", 1))["status"] = "failed"
    found = one(rows, lessons=asked)
    assert found.paths.seeds == (0, 2)
    assert found.row()["note"] == ("1 of 6 lessons failed; seeds left out, with one path only: 1")


def test_a_path_that_is_missing_leaves_all_undefined() -> None:
    rows = [row for row in table(np.ones((2, 4)), np.ones((2, 4))) if row["direction"] == "inverse"]
    row = one(rows, lessons=lessons(2, status="pending")).row()
    assert row["note"] == "2 of 4 lessons not measured; no seed has both paths"
    assert all(row[name] is None for name in (*COMPARED, "p_value"))
    assert (row["seeds"], row["prompts"], row["seeds_inverse_nearer"]) == (0, 0, 0)


def test_a_pair_without_any_distance_is_a_row() -> None:
    rows = table(np.ones((1, 4)), np.ones((1, 4)))
    asked = [*lessons(), *lessons(k=2, l=3, status="failed", parameters=9)]
    measured, missing = comparison_rows(paths(rows, lessons=asked))
    assert measured["note"] is None
    assert (missing["k"], missing["l"], missing["metric"], missing["parameters"]) == (2, 3, "kl", 9)
    assert missing["note"] == "2 of 2 lessons failed; no seed has both paths"
    (nothing,) = comparison_rows(paths([], lessons=lessons()))
    assert nothing["metric"] == "cross_entropy"
    assert paths([]) == []


def test_prompts_without_a_distance_somewhere_are_left_out() -> None:
    rows = table(np.arange(10.0).reshape(2, 5), np.ones((2, 5)))
    rows[3]["value"] = None  # an empty answer: no token, no distance
    del rows[-1]
    found = one(rows)
    assert found.paths.prompts == (0, 1, 2)
    assert found.inverse.value == pytest.approx((0 + 1 + 2 + 5 + 6 + 7) / 6)
    assert found.row()["note"] == "only 3 of 5 prompts have a distance everywhere"


def test_one_prompt_has_no_interval() -> None:
    row = one(table(np.ones((2, 1)), np.full((2, 1), 3.0))).row()
    assert row["difference"] == 2 and row["difference_low"] is row["difference_high"] is None
    assert row["p_value"] is None and row["note"] == "one prompt: no intervals, no test"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows, rows[0]], "prompt 0, sample 0 has its value twice"),
        (lambda rows: [{**rows[0], "value": math.nan}], "prompt 0: the value is nan"),
        (lambda rows: [{**rows[0], "direction": "back"}], "'back'; allowed: inverse, forward"),
        (lambda rows: [{k: v for k, v in rows[0].items() if k != "value"}], "no column 'value'"),
        (lambda rows: [{**rows[0], "seed": None}], "column 'seed' has a row without a value"),
    ],
)
def test_rows_that_are_none_are_refused(change: object, message: str) -> None:
    with pytest.raises(ElasticityError, match=message):
        paths(change(table(np.ones((1, 2)), np.ones((1, 2)))))


def test_too_few_resamples_are_refused() -> None:
    with pytest.raises(ElasticityError, match="at least 40"):
        compare_paths(paths(table(np.ones((1, 2)), np.ones((1, 2))))[0], resamples=39)


# On record ----------------------------------------------------------------------------------------


def record_pair(results: Results, *, forward: float, failed: bool = False) -> None:
    """Lessons of one pair, two seeds and three prompts, as a sweep leaves them."""
    asked = []
    for row in lessons(2, model="llama2-7b", task="alpaca"):
        name = f"{row['direction']}-{row['seed']}"
        lost = failed and name == "forward-1"
        student, teacher = ("l", "k") if row["direction"] == "inverse" else ("k", "l")
        asked.append(
            {
                **row, "teacher_positive": 100, "student_positive": 200, "teacher_id": teacher,
                "student_id": student, "state_id": name, "probe_id": "far", "parameters": 7,
                "status": "failed" if lost else "done", "error": "out of memory" if lost else None,
            }
        )  # fmt: skip
        if lost:
            continue
        value = 0.25 if row["direction"] == "inverse" else forward
        measured = [
            {"prompt_index": i, "sample": 0, "metric": metric, "value": value * i, "tokens": 5}
            for i in range(3)
            for metric in METRICS
        ]
        results.write("distances", measured, state_id=name, reference_id=teacher, probe_id="far")
    results.replace("lessons", "s", asked)


def test_a_sweep_records_and_prints_how_its_paths_compare(tmp_path: Path) -> None:
    results = Results(tmp_path)
    record_pair(results, forward=0.5, failed=True)
    results.replace("cells", "s", [])
    console = Console(record=True, width=200)
    print_outcome(console, results, "here", "s")
    said = console.export_text()
    assert "inverse and forward paths of s" in said
    assert "1 of 1" in said and "KL divergence" in said and "total variation" not in said
    assert "of some pairs: 1 of 4 lessons failed; seeds left out, with one path only: 1" in said
    assert 'query --results here "FROM inverse_forward"' in said
    assert "elasticity of" not in said, "no curve, no table of curves"
    shown = results.query("FROM inverse_forward").to_pylist()
    assert [row["metric"] for row in shown] and {row["metric"] for row in shown} == set(METRICS)
    for row in shown:
        assert row["difference"] == pytest.approx(0.25) and row["p_value"] == 0.5
        is_printed = row["metric"] == "cross_entropy"
        assert row["printed_inverse"] == (0.1589 if is_printed else None)
        assert row["printed_forward"] == (0.2018 if is_printed else None)


def test_names_are_the_same_everywhere() -> None:
    assert COMPARED == COLUMNS
    assert tuple(METRIC_LABELS) == METRICS
    distances_of = pytest.importorskip("elastic_ray.serving.engines.distances")
    assert tuple(field.name for field in fields(distances_of.TextDistances)) == (*METRICS, "tokens")
