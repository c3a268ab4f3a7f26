"""Compares inverse and forward fine-tuning (paper, section 3.3, Table 1).

Take two slices k < l of one fine-tuning. On the *inverse* path, theta_l is trained on the answers
of theta_k; the result theta_lk is compared with theta_k. On the *forward* path, theta_k is trained
on the answers of theta_l; the result theta_kl is compared with theta_l. The paper claims that the
inverse path ends nearer to its reference: H(theta_k, theta_lk) < H(theta_l, theta_kl).

| quantity | is |
|---|---|
| inverse, forward | the mean distance on that path, over prompts and seeds |
| difference | forward - inverse, paired by prompt; the paper claims that it is above 0 |
| p_value | two-sided p-value of the mean difference over prompts |
| seeds_inverse_nearer | the number of seeds in which the inverse path has the smaller mean |

**Cross-entropy is not a pure distance.** H(p, q) = H(p, p) + KL(p || q), and the two paths have
different references. Because H(theta_k, theta_k) and H(theta_l, theta_l) differ, the
cross-entropies differ even if both students equal their teachers, or if nothing was learnt. KL does
not include the entropy of the reference. Where the two metrics disagree, the cross-entropy reflects
the references.

Intervals are 95% percentile intervals of a bootstrap over prompts. A prompt is drawn
together with all its samples, on both paths and in all seeds. Each resample uses the same prompts
for every pair, model and metric of a task.

The test is a permutation test of the mean. It pairs the paths by prompt, averages the difference of
a prompt over seeds, and flips its sign: under the null hypothesis the two paths are exchangeable.
It tests the mean that is reported; Wilcoxon's signed-rank test does not, and the differences are
skewed enough for the two tests to disagree. Seeds are held fixed: intervals and p-values describe
other prompts with *these* trained states, not other fine-tuning runs. Only `seeds_inverse_nearer`
describes the variation between seeds. p-values are not adjusted for multiple comparisons.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np

from .resampling import Estimate, check_resamples, draws, estimate, generator
from .rows import ElasticityError, Floats, Point, Rows, by_prompt, columns, on_prompts

DIRECTIONS = ("inverse", "forward")

COMPARED = (*DIRECTIONS, "difference")
"""The measured quantities of a pair of slices, in the column order of the `paths` table."""

METRICS = ("cross_entropy", "kl", "js", "tv")
"""Distances between two states' next-token distributions, in display order: the paper's first."""

_LESSON = ("model", "task", "k", "l", "direction", "seed")
_FLIPS, _AT_ONCE = 9999, 1000


@dataclass(frozen=True)
class PathKey:
    """Two slices k < l of one fine-tuning, and a metric."""

    sweep: str
    model: str
    task: str
    pretrain: int | None
    k: int
    l: int  # noqa: E741 (its name in the paper)
    metric: str


@dataclass(frozen=True, eq=False)
class Paths:
    """The distances of one key, [2 directions, seeds, prompts], averaged over samples.

    `seeds` have both directions. `prompts` have a distance in both directions and all these seeds.
    """

    key: PathKey
    seeds: tuple[int, ...]
    prompts: tuple[int, ...]
    distances: Floats
    parameters: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PathComparison:
    """The measured quantities of `paths`; the module docstring defines them."""

    paths: Paths
    inverse: Estimate
    forward: Estimate
    difference: Estimate
    p_value: float | None
    seeds_inverse_nearer: int
    notes: tuple[str, ...]

    def row(self) -> dict[str, Any]:
        """Return the row of the `paths` table."""
        key = self.paths.key
        row: dict[str, Any] = {
            "sweep": key.sweep,
            "model": key.model,
            "task": key.task,
            "pretrain": key.pretrain,
            "k": key.k,
            "l": key.l,
            "metric": key.metric,
            "parameters": self.paths.parameters,
        }
        for name in COMPARED:
            found: Estimate = getattr(self, name)
            row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        return row | {
            "p_value": self.p_value,
            "prompts": len(self.paths.prompts),
            "seeds": len(self.paths.seeds),
            "seeds_inverse_nearer": self.seeds_inverse_nearer,
            "note": "; ".join(self.notes) or None,
        }


def paths(rows: Rows, *, sweep: str | None = None, lessons: Rows = ()) -> list[Paths]:
    """Return the pairs of slices in rows of the view `path_rows`, sorted by key.

    `rows` need the columns model, task, k, l, direction, seed, metric, prompt_index and value.
    Optional columns are sweep (default: the argument `sweep`), pretrain, sample and parameters. A
    value is None for an empty answer. `lessons` are the planned lessons from the table `lessons`;
    they provide pairs without any distance, and lessons that failed.

    Raises `ElasticityError` for a missing column, a distance that is not finite, a duplicate
    distance, or an unknown direction.
    """
    measured = columns(rows, (*_LESSON, "metric", "prompt_index"), sweep, ("value",))
    planned = columns(lessons, (*_LESSON, "status"), sweep)
    at: defaultdict[_Pair, defaultdict[str, defaultdict[_Path, list[int]]]]
    at = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    planned_status: defaultdict[_Pair, dict[_Path, str]] = defaultdict(dict)
    parameters: dict[_Pair, int] = {}
    for table in (measured, planned):
        for i, (pair, path) in enumerate(_places(table)):
            parameters[pair] = max(parameters.get(pair, 0), table["parameters"][i] or 0)
            if table is planned:
                planned_status[pair][path] = table["status"][i]
            elif table["value"][i] is not None:
                at[pair][table["metric"][i]][path].append(i)
    metrics = sorted({*measured["metric"]} or {METRICS[0]}, key=_rank)
    found = []
    for pair in sorted(parameters, key=_order):
        for metric in metrics:
            key = PathKey(*pair, metric)
            points = {
                path: by_prompt(
                    f"{key}, direction={path[0]!r}, seed={path[1]}", measured, which, "value"
                )
                for path, which in sorted(at[pair][metric].items())
            }
            found.append(_paths(key, points, planned_status[pair], parameters[pair] or None))
    return found


_Pair: TypeAlias = tuple[str, str, str, int | None, int, int]
"""(sweep, model, task, pretrain, k, l)."""
_Path: TypeAlias = tuple[str, int]
"""(direction, seed)."""


def _places(table: Mapping[str, Sequence[Any]]) -> Iterator[tuple[_Pair, _Path]]:
    names = ("sweep", "model", "task", "pretrain", "k", "l", "direction", "seed")
    for sweep, model, task, pretrain, first, last, direction, seed in zip(
        *(table[name] for name in names), strict=True
    ):
        if direction not in DIRECTIONS:
            raise ElasticityError(
                f"column 'direction' has {direction!r}; allowed: {', '.join(DIRECTIONS)}"
            )
        yield (sweep, model, task, pretrain, first, last), (direction, seed)


def _order(pair: _Pair) -> tuple[Any, ...]:
    """Sort key that puts adjacent slices first, as Table 1 does: (1, 2), (2, 3), (1, 3)."""
    sweep, model, task, pretrain, first, last = pair
    return sweep, task, model, pretrain or 0, last - first, first


def _rank(metric: str) -> tuple[int, str]:
    return METRICS.index(metric) if metric in METRICS else len(METRICS), metric


def _paths(
    key: PathKey,
    points: Mapping[_Path, Point],
    planned: Mapping[_Path, str],
    parameters: int | None,
) -> Paths:
    seen = [{seed for way, seed in points if way == direction} for direction in DIRECTIONS]
    seeds = sorted(set.intersection(*seen))
    notes = []
    missing = [status for path, status in sorted(planned.items()) if path not in points]
    for outcome, count in (
        ("failed", missing.count("failed")),
        ("not measured", len(missing) - missing.count("failed")),
    ):
        if count:
            notes.append(f"{count} of {len(planned)} lessons {outcome}")
    if not seeds:
        notes.append("no seed has both paths")
    elif left := sorted(set.union(*seen) - set(seeds)):
        notes.append(f"seeds left out, with one path only: {', '.join(map(str, left))}")
    every = [points[direction, seed] for direction in DIRECTIONS for seed in seeds]
    prompts = reduce(np.intersect1d, [indices for indices, _ in every] or [np.zeros(0, np.int64)])
    if every and len(prompts) < (most := max(len(each) for each, _ in every)):
        notes.append(f"only {len(prompts)} of {most} prompts have a distance everywhere")
    distances = np.array([on_prompts(prompts, point) for point in every], dtype=np.float64)
    return Paths(
        key=key,
        seeds=tuple(seeds),
        prompts=tuple(int(prompt) for prompt in prompts),
        distances=distances.reshape(len(DIRECTIONS), len(seeds), len(prompts)),
        parameters=parameters,
        notes=tuple(notes),
    )


def compare_paths(found: Paths, resamples: int = 1000, seed: int = 0) -> PathComparison:
    """Compare both directions of a pair. The same distances and `seed` give the same numbers.

    Raises `ElasticityError` for fewer than 40 `resamples`.
    """
    check_resamples(resamples)
    nothing = Estimate()
    if not found.prompts:
        return PathComparison(found, nothing, nothing, nothing, None, 0, found.notes)
    name = (found.key.sweep, found.key.task)
    inverse, forward = found.distances.mean(axis=1)
    weights = draws(name, len(found.prompts), resamples, seed)
    several = len(found.prompts) > 1
    by_seed = found.distances.mean(axis=2)
    return PathComparison(
        paths=found,
        inverse=estimate(weights @ inverse),
        forward=estimate(weights @ forward),
        difference=estimate(weights @ (forward - inverse)),
        p_value=sign_flips(forward - inverse, generator(seed, *name, "signs")) if several else None,
        seeds_inverse_nearer=int(np.sum(by_seed[0] < by_seed[1])),
        notes=found.notes if several else (*found.notes, "one prompt: no intervals, no test"),
    )


def comparison_rows(
    found: Iterable[Paths], *, resamples: int = 1000, seed: int = 0
) -> list[dict[str, Any]]:
    """Return a row of the `paths` table for each key, including keys without any distance."""
    return [compare_paths(each, resamples, seed).row() for each in found]


def told_apart(rows: Iterable[Mapping[str, Any]]) -> tuple[int, int, int, int]:
    """Count the rows of the `paths` table by the interval of their difference.

    Returns (above 0, below 0, contains 0, no interval).
    """
    counts = [0, 0, 0, 0]
    for row in rows:
        low, high = row["difference_low"], row["difference_high"]
        counts[3 if low is None or high is None else 0 if low > 0 else 1 if high < 0 else 2] += 1
    return counts[0], counts[1], counts[2], counts[3]


def sign_flips(differences: Floats, rng: np.random.Generator) -> float:
    """Return the two-sided p-value of the sign-flip test that the mean difference is 0.

    Exact up to 13 differences. Beyond that it uses 9999 random flips and counts the data as one of
    them (Phipson and Smyth, 2010). It computes the same as scipy's one-sample `permutation_test`,
    20 times as fast.
    """
    count = len(differences)
    observed = abs(float(differences.sum()))
    # Sums that differ only by rounding count as equal.
    least = observed - 1e-12 * float(np.abs(differences).sum())
    if 2**count <= _FLIPS:
        every = np.arange(2**count)[:, None] >> np.arange(count) & 1
        return float(np.mean(np.abs((1 - 2 * every) @ differences) >= least))
    as_far = 1
    for start in range(0, _FLIPS, _AT_ONCE):
        flipped = rng.integers(0, 2, (min(_AT_ONCE, _FLIPS - start), count), dtype=np.int8)
        # Flipping signs subtracts twice the flipped differences from the sum.
        sums = differences.sum() - 2 * (flipped.astype(np.float64) @ differences)
        as_far += int(np.sum(np.abs(sums) >= least))
    return as_far / (_FLIPS + 1)
