"""Groups score rows into curves: scores by seed, negative size and prompt.

Missing cells (failed or pending) are never imputed. If any seed has a score at every size, only
such seeds are used, so that all means are over the same seeds. `Curve.notes` lists what is missing
and what was left out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from .rows import ElasticityError, Floats, Ints, Point, Rows, by_prompt, columns, on_prompts
from .scorer_errors import ScorerErrors

WINDOW = 4.0
"""Default length of the window of the late rate, in reversion sizes."""

CELL = ("model", "task", "positive", "negative", "seed")
"""The columns that every row must have; `pretrain` may be null, `sweep` may be an argument."""


@dataclass(frozen=True)
class CurveKey:
    """Identifies a curve: `positive` examples after `pretrain` (None: the published checkpoint)."""

    sweep: str
    model: str
    task: str
    pretrain: int | None
    positive: int


@dataclass(frozen=True, eq=False)
class Curve:
    """The scores of one curve, by seed, negative size and prompt.

    `scores` is [seeds, sizes, prompts], NaN where a seed has no score at a size. `base` is
    [prompts], the score at (0, 0), None if there is none; seeds that share one base state count
    once, the others are averaged. `bases` [seeds, prompts] holds the baseline of each seed where
    every seed has its own (replicates of the pre-training), else None. `negatives` are the scored
    sizes in ascending order; the first is 0 unless (positive, 0) has no score.

    `window` is the length of the late rate's window in reversion sizes. `limits` are the lowest and
    highest mean score that the scorer can give, None where that is not known. `errors` are the
    scorer's errors on labelled texts, if scores are shares and the errors are known. `family` names
    the models that this one may be compared with; None: all.
    """

    key: CurveKey
    negatives: tuple[int, ...]
    seeds: tuple[int, ...]
    prompts: tuple[int, ...]
    base: Floats | None
    scores: Floats
    parameters: int | None = None
    pretrain_tokens: int | None = None
    scorer: str | None = None
    notes: tuple[str, ...] = ()
    bases: Floats | None = None
    window: float = WINDOW
    limits: tuple[float, float] | None = None
    errors: ScorerErrors | None = None
    family: str | None = None

    @property
    def line(self) -> str:
        """What differs in pre-training alone: a family of published checkpoints, or one model."""
        return self.family or self.key.model

    @property
    def by_prompt(self) -> Floats:
        """[sizes, prompts]: the mean over the seeds that have a score at the size."""
        means: Floats = np.nanmean(self.scores, axis=0) if self.scores.size else self.scores.sum(0)
        return means

    @property
    def mean(self) -> Floats:
        """[sizes]: s(p, n), the mean over prompts and seeds."""
        return _mean(self.by_prompt)

    @property
    def standard_error(self) -> Floats:
        """[sizes]: standard error of `mean` over prompts, seeds held fixed; NaN for one prompt."""
        return _deviation(self.by_prompt, axis=1) / math.sqrt(max(len(self.prompts), 1))

    @property
    def seed_spread(self) -> Floats:
        """[sizes]: standard deviation of the means of the seeds; NaN for one seed."""
        return _deviation(_mean(self.scores), axis=0)

    @property
    def retention(self) -> Floats:
        """[sizes]: (s(p, n) - s0) / (s(p, 0) - s0), even if the gap is within noise.

        NaN where undefined.
        """
        if self.base is None or not self.negatives or self.negatives[0] != 0:
            return np.full(len(self.negatives), np.nan)
        above = _mean(self.by_prompt - self.base)
        return above / above[0] if above[0] != 0 else np.full(len(above), np.nan)


def curves(
    rows: Rows, *, sweep: str | None = None, cells: Rows = (), window: float = WINDOW
) -> list[Curve]:
    """Return the curves in score rows, sorted by key; the order of the rows does not matter.

    `rows` need the columns model, task, pretrain, positive, negative, seed, prompt_index and score.
    Optional columns are sweep (default: the argument `sweep`), sample (samples are averaged),
    parameters, pretrain_tokens and scorer.

    `cells` are the planned cells of the sweep, from the `cells` table or the `cell_scores` view.
    They provide the last three columns, the missing sizes, and curves without any score. A sweep is
    a full grid, so a size or seed that occurs in one curve is expected in all of them. Cells with
    an empty scorer are not scored and form no curve. `window` is that of `Curve`.

    Raises `ElasticityError` for a missing column, a score that is not finite, a duplicate answer,
    or two scorers in one curve.
    """
    scored = columns(rows, (*CELL, "prompt_index", "score"), sweep)
    planned = columns(cells, CELL, sweep)
    metadata: defaultdict[CurveKey, _Metadata] = defaultdict(_Metadata)
    expected: defaultdict[str, tuple[set[int], set[int]]] = defaultdict(lambda: (set(), set()))
    answers: defaultdict[tuple[CurveKey, int, int], list[int]] = defaultdict(list)
    for table in (scored, planned):
        for row, (key, negative, seed) in enumerate(_places(table)):
            if table["scorer"][row] == "":
                continue
            metadata[key].update(table, row, key)
            if key.positive:
                expected[key.sweep][0].add(negative)
                expected[key.sweep][1].add(seed)
            if table is scored:
                answers[key, negative, seed].append(row)
    points: defaultdict[CurveKey, dict[tuple[int, int], Point]] = defaultdict(dict)
    for (key, negative, seed), found in answers.items():
        points[key][seed, negative] = by_prompt(f"{key}, {negative=}, {seed=}", scored, found)
    return [
        replace(
            _curve(
                key,
                points[key],
                points[replace(key, positive=0)],
                *expected[key.sweep],
                metadata[key],
            ),
            window=window,
        )
        for key in sorted(metadata, key=_order)
        if key.positive
    ]


def _places(table: Mapping[str, Sequence[Any]]) -> Iterator[tuple[CurveKey, int, int]]:
    names = ("sweep", "model", "task", "pretrain", "positive", "negative", "seed")
    # One key object per curve: a table has a row per prompt.
    keys: dict[tuple[Any, ...], CurveKey] = {}
    for *values, negative, seed in zip(*(table[name] for name in names), strict=True):
        at = tuple(values)
        if at not in keys:
            keys[at] = CurveKey(*at)
        yield keys[at], negative, seed


def _order(key: CurveKey) -> tuple[str, str, str, int, int]:
    return key.sweep, key.model, key.task, key.pretrain or 0, key.positive


class _Metadata:
    """The columns of a curve other than scores: model size, pre-training tokens, scorer."""

    def __init__(self) -> None:
        self.parameters: int | None = None
        self.pretrain_tokens: int | None = None
        self.scorer: str | None = None

    def update(self, table: Mapping[str, Sequence[Any]], row: int, key: CurveKey) -> None:
        # The largest value, as in the view `curves`: a state that does not exist yet has none.
        for name in ("parameters", "pretrain_tokens"):
            value, known = table[name][row], getattr(self, name)
            if value is not None and (known is None or value > known):
                setattr(self, name, int(value))
        scorer = table["scorer"][row]
        if scorer is not None and self.scorer not in (None, scorer):
            raise ElasticityError(f"{key} has two scorers, {self.scorer} and {scorer}; give one")
        self.scorer = scorer or self.scorer


def _base(points: Mapping[tuple[int, int], Point]) -> list[Point]:
    """Return the distinct scores of (0, 0): seeds may share one base state."""
    found: list[Point] = []
    for (_, negative), (prompts, scores) in sorted(points.items(), key=lambda item: item[0]):
        if negative == 0 and not any(
            np.array_equal(prompts, p) and np.array_equal(scores, s) for p, s in found
        ):
            found.append((prompts, scores))
    return found


def _curve(
    key: CurveKey,
    points: Mapping[tuple[int, int], Point],
    base_points: Mapping[tuple[int, int], Point],
    expected_sizes: set[int],
    expected_seeds: set[int],
    metadata: _Metadata,
) -> Curve:
    seeds, base = _seeds(points), _base(base_points)
    sizes = sorted({negative for seed, negative in points if seed in seeds})
    used = {at: point for at, point in points.items() if at[0] in seeds}
    notes = []
    if not base:
        notes.append("no score at (0, 0)")
    if 0 not in sizes:
        notes.append(f"no score at ({key.positive}, 0)")
    if missing := sorted(expected_sizes - {0, *sizes}):
        notes.append(f"no score at negative {_list(missing)}")
    if seeds and (left := sorted(expected_seeds - set(seeds))):
        notes.append(f"seeds left out, incomplete: {_list(left)}")
    if some := [n for n in sizes if any((seed, n) not in used for seed in seeds)]:
        notes.append(f"means not over the same seeds: some have no score at negative {_list(some)}")
    every = [prompts for prompts, _ in (*used.values(), *base)]
    prompts = reduce(np.intersect1d, every) if every else np.array([], dtype=np.int64)
    if every and len(prompts) < (most := max(map(len, every))):
        notes.append(f"only {len(prompts)} of {most} prompts have a score everywhere")
    bases = _bases(seeds, base_points, prompts) if len(base) > 1 else None
    shared = bases if bases is not None else [on_prompts(prompts, point) for point in base]
    scores = np.full((len(seeds), len(sizes), len(prompts)), np.nan)
    for (seed, negative), point in used.items():
        scores[seeds.index(seed), sizes.index(negative)] = on_prompts(prompts, point)
    return Curve(
        key=key,
        negatives=tuple(sizes),
        seeds=tuple(seeds),
        prompts=tuple(prompts.tolist()),
        base=np.mean(shared, axis=0) if base else None,
        bases=bases,
        scores=scores,
        parameters=metadata.parameters,
        pretrain_tokens=metadata.pretrain_tokens,
        scorer=metadata.scorer,
        notes=tuple(notes),
    )


def _bases(
    seeds: Sequence[int], points: Mapping[tuple[int, int], Point], prompts: Ints
) -> Floats | None:
    """Return the baseline of each seed, [seeds, prompts]; None if a seed has none."""
    if any((seed, 0) not in points for seed in seeds):
        return None
    return np.array([on_prompts(prompts, points[seed, 0]) for seed in seeds])


def _seeds(points: Iterable[tuple[int, int]]) -> list[int]:
    """Return the seeds with every size; if there is none, those with size 0; otherwise all.

    If the seeds differed between sizes, differences between seeds would look like a slope.
    """
    sizes: defaultdict[int, set[int]] = defaultdict(set)
    for seed, negative in points:
        sizes[seed].add(negative)
    every = set().union(*sizes.values())
    complete = [seed for seed in sizes if sizes[seed] == every]
    started = [seed for seed in sizes if 0 in sizes[seed]]
    return sorted(complete or started or sizes)


def _mean(values: Floats) -> Floats:
    """Mean over the last axis; NaN if it is empty."""
    if values.shape[-1] == 0:
        return np.full(values.shape[:-1], np.nan)
    means: Floats = values.mean(axis=-1)
    return means


def _deviation(values: Floats, axis: int) -> Floats:
    """Sample standard deviation, ignoring NaN; NaN for fewer than two values."""
    counts = np.sum(~np.isnan(values), axis=axis)
    total = np.nansum(values, axis=axis)
    centre = np.expand_dims(total / np.maximum(counts, 1), axis)
    squares = np.nansum((values - centre) ** 2, axis=axis)
    return np.where(counts > 1, np.sqrt(squares / np.maximum(counts - 1, 1)), np.nan)


def _list(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))
