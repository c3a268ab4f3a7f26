"""Inverse against forward fine-tuning (paper, section 3.3, Table 1): is the way back shorter?

Of one fine-tuning take slices k < l. On the *inverse* path theta_l learns theta_k's answers, and
the distance from theta_k of what comes of it, theta_lk, is measured; on the *forward* path theta_k
learns theta_l's answers, and theta_kl is measured against theta_l. The paper claims that
H(theta_k, theta_lk) < H(theta_l, theta_kl).

| quantity | is |
|---|---|
| inverse, forward | the mean distance on that path, over prompts and seeds |
| difference | forward - inverse, prompt by prompt: above 0 is what the paper claims |
| p_value | two-sided, of the prompts' differences |
| seeds_inverse_nearer | in how many seeds the inverse path's mean is the smaller |

**Cross-entropy is not all distance.** H(p, q) = H(p, p) + KL(p || q), and the two paths have
different references: H(theta_k, theta_k) and H(theta_l, theta_l) differ, so that cross-entropies
differ even where both students equal their teachers, or where nothing was learnt. KL leaves the
reference's own entropy out; where the two disagree, cross-entropy tells of the references.

Intervals are 95% percentile intervals of a bootstrap over prompts: a prompt is drawn with all its
samples, on both paths and in all seeds, and one draw serves every pair, model and metric of a task.

The test pairs the paths by prompt, averages a prompt's difference over seeds, and flips its sign: a
permutation test of the mean, which takes the two paths as exchangeable where the claim is wrong. It
tests the very number that is shown; Wilcoxon's signed-rank test does not, and differences of
distances are skewed enough for the two to disagree. Seeds are held fixed: intervals and test say
what other prompts would give with *these* trained states, not what other fine-tunings would, of
which `seeds_inverse_nearer` is all that is known. p-values are not adjusted for their number.
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
"""What is measured of a pair of slices, in the order of the `paths` table."""

METRICS = ("cross_entropy", "kl", "js", "tv")
"""The order in which distances are told, the paper's first."""

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
    """The distances of one key: [2 paths (inverse, forward), seeds, prompts], samples averaged.

    `seeds` are those with both paths, `prompts` those with a distance on both in all of them.
    """

    key: PathKey
    seeds: tuple[int, ...]
    prompts: tuple[int, ...]
    distances: Floats
    parameters: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PathComparison:
    """What was measured of `paths`; see the module's text."""

    paths: Paths
    inverse: Estimate
    forward: Estimate
    difference: Estimate
    p_value: float | None
    seeds_inverse_nearer: int
    notes: tuple[str, ...]

    def row(self) -> dict[str, Any]:
        """The row of the `paths` table."""
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
    """The pairs of slices in rows of the view `path_rows`, by key, whatever the order of the rows.

    `rows` have the columns model, task, k, l, direction, seed, metric, prompt_index, value, and may
    have sweep (else `sweep` is it), pretrain, sample, parameters; a value may be None (of an empty
    answer). `lessons` are what the sweep asked for, as the table of that name has it: they tell of
    pairs without any distance, and of lessons that failed.

    Raises `ElasticityError` for a column that is not there, a distance that is not finite or is
    there twice, and a direction that is none.
    """
    measured = columns(rows, (*_LESSON, "metric", "prompt_index"), sweep, ("value",))
    planned = columns(lessons, (*_LESSON, "status"), sweep)
    at: defaultdict[_Pair, defaultdict[str, defaultdict[_Path, list[int]]]]
    at = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    asked: defaultdict[_Pair, dict[_Path, str]] = defaultdict(dict)
    parameters: dict[_Pair, int] = {}
    for table in (measured, planned):
        for i, (pair, path) in enumerate(_places(table)):
            parameters[pair] = max(parameters.get(pair, 0), table["parameters"][i] or 0)
            if table is planned:
                asked[pair][path] = table["status"][i]
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
            found.append(_paths(key, points, asked[pair], parameters[pair] or None))
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
    """Neighbours first, as in Table 1: (1, 2), (2, 3), (1, 3)."""
    sweep, model, task, pretrain, first, last = pair
    return sweep, task, model, pretrain or 0, last - first, first


def _rank(metric: str) -> tuple[int, str]:
    return METRICS.index(metric) if metric in METRICS else len(METRICS), metric


def _paths(
    key: PathKey,
    points: Mapping[_Path, Point],
    asked: Mapping[_Path, str],
    parameters: int | None,
) -> Paths:
    seen = [{seed for way, seed in points if way == direction} for direction in DIRECTIONS]
    seeds = sorted(set.intersection(*seen))
    notes = []
    missing = [status for path, status in sorted(asked.items()) if path not in points]
    for words, count in (
        ("failed", missing.count("failed")),
        ("not measured", len(missing) - missing.count("failed")),
    ):
        if count:
            notes.append(f"{count} of {len(asked)} lessons {words}")
    if not seeds:
        notes.append("no seed has both paths")
    elif left := sorted(set.union(*seen) - set(seeds)):
        notes.append(f"seeds left out, with one path only: {', '.join(map(str, left))}")
    every = [points[direction, seed] for direction in DIRECTIONS for seed in seeds]
    prompts = reduce(
        np.intersect1d, [requests_of for requests_of, _ in every] or [np.zeros(0, np.int64)]
    )
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
    """Both paths of a pair, side by side; the same distances and `seed` give the same numbers.

    `resamples` are at least 40, below which no 95% interval exists, or `ElasticityError`.
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
    """Rows of the `paths` table, one for each key, also those of which nothing is known."""
    return [compare_paths(each, resamples, seed).row() for each in found]


def told_apart(rows: Iterable[Mapping[str, Any]]) -> tuple[int, int, int, int]:
    """How many rows of the `paths` table have the interval of their difference above 0, below 0,
    holding 0; and how many have none."""
    counts = [0, 0, 0, 0]
    for row in rows:
        low, high = row["difference_low"], row["difference_high"]
        counts[3 if low is None or high is None else 0 if low > 0 else 1 if high < 0 else 2] += 1
    return counts[0], counts[1], counts[2], counts[3]


def sign_flips(differences: Floats, rng: np.random.Generator) -> float:
    """The two-sided p-value of a mean of 0, differences being as likely to have the other sign.

    Exact up to 13 differences; beyond, of 9999 random flips, the data counted among them (Phipson
    and Smyth, 2010): scipy's `permutation_test` of one sample, which flips 20 times as slowly.
    """
    count = len(differences)
    observed = abs(float(differences.sum()))
    # Sums that are equal but for rounding count as equal.
    least = observed - 1e-12 * float(np.abs(differences).sum())
    if 2**count <= _FLIPS:
        every = np.arange(2**count)[:, None] >> np.arange(count) & 1
        return float(np.mean(np.abs((1 - 2 * every) @ differences) >= least))
    as_far = 1
    for start in range(0, _FLIPS, _AT_ONCE):
        flipped = rng.integers(0, 2, (min(_AT_ONCE, _FLIPS - start), count), dtype=np.int8)
        # The sum with some signs changed is the sum less twice what is changed.
        sums = differences.sum() - 2 * (flipped.astype(np.float64) @ differences)
        as_far += int(np.sum(np.abs(sums) >= least))
    return as_far / (_FLIPS + 1)
