"""Draws of a curve's mean scores: what other prompts and other training seeds would have given.

The mean of a curve at a size has two sources of error. Prompts are a sample, and so are training
runs: a seed shifts the scores of all its prompts at once. A draw adds both to the measured means:

- *Prompts*: a normal deviation whose covariance over sizes (and over curves, which answer the same
  prompts) is that of the prompts' mean scores. What the answers of single seeds scatter around a
  prompt's mean is taken out of it, because it is part of the next term already.
- *Seeds*: the deviations of the seeds' mean curves from their mean, combined with random factors
  such that a mean over S seeds has Student's t distribution with S - 1 degrees of freedom. Two
  seeds have one degree of freedom: intervals are 6.5 times as wide as with a known spread.

Curves of one model and pre-training share training runs, so their seeds are drawn together. Those
of different models share prompts only. `benchmarks/coverage.py` compares this with other methods on
planted data. Where seeds forget at different rates, intervals over prompts alone hold the reversion
size in 72% of sweeps at 2 seeds and 84% at 5, a bootstrap of prompts and seeds in 86% at 2 and 90%
at 3, and Student's t of the seeds' own values, which leaves out what all seeds owe to the same
prompts, in 80% at 10; for a gap that is mostly due to prompts, the last in 47%.

Each size has a random stream of its own and depends on smaller sizes only. Measuring fewer sizes
therefore changes nothing for those that remain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from .curve import Curve
from .resampling import generator
from .rows import Floats

_BASE = -1
"""Place of the baseline among the sizes: before 0."""


@dataclass(frozen=True, eq=False)
class MeanDraws:
    """Drawn means of a curve: `scores` [1 + draws, sizes], `base` [1 + draws] or None.

    Row 0 is what was measured.
    """

    scores: Floats
    base: Floats | None


@dataclass(frozen=True, eq=False)
class _Part:
    """The scores of one curve at one size (or of its baseline), [seeds, prompts].

    A baseline that the seeds share has one row, and no spread between seeds.
    """

    curve: int
    size: int
    scores: Floats

    @property
    def order(self) -> tuple[int, int]:
        return self.size, self.curve


def draw_means(
    curves: Sequence[Curve], draws: int, seed: int = 0, *, seeds: bool = True
) -> list[MeanDraws]:
    """Return the drawn means of each curve. The same curves and `seed` give the same draws.

    With `seeds=False` the draws are of other prompts for these very training runs. A curve with one
    seed is drawn so in any case, and a single prompt is not drawn at all.
    """
    parts = sorted((p for i, c in enumerate(curves) for p in _parts(i, c)), key=lambda p: p.order)
    by_prompt = _over_prompts(curves, parts, draws, seed, seeds)
    values = np.array([np.nanmean(p.scores) if p.scores.size else np.nan for p in parts])
    drawn = values + np.concatenate([np.zeros((1, len(parts))), by_prompt])
    if seeds:
        drawn[1:] += _over_seeds(curves, parts, draws, seed)
    found = []
    for i, curve in enumerate(curves):
        base = [at for at, p in enumerate(parts) if p.curve == i and p.size == _BASE]
        mine = [at for at, p in enumerate(parts) if p.curve == i and p.size != _BASE]
        assert len(mine) == len(curve.negatives)
        found.append(MeanDraws(drawn[:, mine], drawn[:, base[0]] if base else None))
    return found


def _parts(at: int, curve: Curve) -> Iterator[_Part]:
    if curve.base is not None:
        bases = curve.base[None] if curve.bases is None else curve.bases
        yield _Part(at, _BASE, bases)
    for place, size in enumerate(curve.negatives):
        yield _Part(at, size, curve.scores[:, place])


def _name(curve: Curve) -> list[object]:
    return [*astuple(curve.key)]


def _over_prompts(
    curves: Sequence[Curve], parts: Sequence[_Part], draws: int, seed: int, seeds: bool
) -> Floats:
    """Return the deviations due to prompts, [draws, parts]."""
    places = {(c.key.task, prompt): None for c in curves for prompt in c.prompts}
    column = {place: i for i, place in enumerate(sorted(places))}
    spread = np.zeros((len(parts), len(column)))
    for row, part in enumerate(parts):
        curve = curves[part.curve]
        count = len(curve.prompts)
        if count < 2:
            continue
        at = [column[curve.key.task, prompt] for prompt in curve.prompts]
        means = np.nanmean(part.scores, axis=0)
        spread[row, at] = (means - means.mean()) / np.sqrt(count * (count - 1))
    covariance = spread @ spread.T
    if seeds:
        covariance -= _answer_noise(curves, parts)
    factor = _triangle(covariance)
    normal = np.empty((draws, len(parts)))
    for row, part in enumerate(parts):
        name = ("prompts", *_name(curves[part.curve]), part.size)
        normal[:, row] = generator(seed, *name).standard_normal(draws)
    drawn: Floats = normal @ factor.T
    # The covariance is estimated too: with few prompts a t distribution is wider than a normal.
    for row, part in enumerate(parts):
        curve = curves[part.curve]
        drawn[:, row] *= _student(len(curve.prompts) - 1, draws, seed, "prompts", curve.key.task)
    return drawn


def _answer_noise(curves: Sequence[Curve], parts: Sequence[_Part]) -> Floats:
    """Return the covariance of the parts' means that is due to single answers, [parts, parts].

    An answer deviates from its prompt's mean over seeds, other than by what its seed adds to all
    prompts. Where every prompt has one answer per seed, that is sampling.
    """
    noise = np.zeros((len(parts), len(parts)))
    groups: defaultdict[object, list[int]] = defaultdict(list)
    for row, part in enumerate(parts):
        curve = curves[part.curve]
        if len(part.scores) > 1 and len(curve.prompts) > 1 and not np.isnan(part.scores).any():
            groups[_runs(curve), curve.prompts].append(row)
    for rows in groups.values():
        left = np.array([parts[row].scores for row in rows])  # [parts, seeds, prompts]
        left = left - left.mean(axis=1, keepdims=True)
        left -= left.mean(axis=2, keepdims=True)
        _, seeds, prompts = left.shape
        flat = left.reshape(len(rows), -1)
        within = flat @ flat.T / ((seeds - 1) * (prompts - 1))
        noise[np.ix_(rows, rows)] = within / (seeds * prompts)
    return noise


def _runs(curve: Curve) -> tuple[object, ...]:
    """Name the training runs of a curve: those of another positive size are the same ones."""
    key = curve.key
    return key.sweep, key.task, key.model, key.pretrain, curve.seeds


def _over_seeds(curves: Sequence[Curve], parts: Sequence[_Part], draws: int, seed: int) -> Floats:
    """Return the deviations due to seeds, [draws, parts]."""
    drawn = np.zeros((draws, len(parts)))
    factors: dict[object, Floats] = {}
    for row, part in enumerate(parts):
        curve = curves[part.curve]
        known = ~np.isnan(part.scores).any(axis=1) if part.scores.size else np.zeros(0, bool)
        count = int(known.sum())
        if len(part.scores) != len(curve.seeds) or count < 2:
            continue
        runs = _runs(curve)
        if (runs, count) not in factors:
            normal = [
                generator(seed, "seeds", *runs[:4], label).standard_normal(draws)
                for label in curve.seeds
            ]
            wider = _student(count - 1, draws, seed, "seeds", *runs[:4])
            factors[runs, count] = np.array(normal) * wider / np.sqrt(count * (count - 1))
        means = part.scores.mean(axis=1)
        deviation = np.where(known, means - means[known].mean(), 0.0)
        drawn[:, row] = deviation @ factors[runs, count]
    return drawn


def _student(freedom: int, draws: int, seed: int, *name: object) -> Floats:
    """Return factors that turn normal draws into draws of Student's t, [draws]."""
    if freedom < 1:
        return np.zeros(draws)
    chi = generator(seed, *name, "freedom", freedom).chisquare(freedom, draws)
    found: Floats = np.sqrt(freedom / chi)
    return found


def _triangle(covariance: Floats) -> Floats:
    """Return a lower triangle L with L L' = `covariance`, [parts, parts].

    The difference of two estimated covariances may have negative directions. They count as 0, and
    no row of L exceeds its own variance. Leading rows depend on leading rows only.
    """
    left = covariance.copy()
    size = len(left)
    least = 1e-12 * np.diag(covariance)
    factor = np.zeros_like(left)
    for j in range(size):
        pivot = left[j, j]
        if pivot <= max(least[j], 0.0):
            continue
        rest = np.sqrt(np.maximum(np.diag(left)[j:], 0.0))
        column = np.clip(left[j:, j] / np.sqrt(pivot), -rest, rest)
        factor[j:, j] = column
        left[j:, j:] -= np.outer(column, column)
    return factor
