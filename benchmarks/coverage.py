"""Measures how often the 95% intervals contain the true values, in simulated sweeps.

    python benchmarks/coverage.py [--sweeps 1000] [--seeds 2 3 5 10] [--world NAME] [--fits]

A world is one surface per model that follows one of the families exactly. It has three models with
baselines of their own, two positive sizes, eight negative sizes, and 300 prompts with one answer
each, scored 0 or 1. An answer is aligned if a normal latent value lies below the quantile of the
planted mean. A share of the latent variance (`PROMPT_SHARE`) belongs to the prompt and is common to
all its answers, so some prompts are easier than others. Every seed has a shift of its own
(`SEED_SHIFT`, by model) and forgets faster or slower than others (`SEED_RATE`), drawn anew for each
sweep.

The intervals describe new prompts and new seeds. The true value of a curve's quantity is its
definition applied to the planted means at the measured sizes, averaged over seeds. An undefined
value has no interval and is not counted; the column "undefined" shows how often that happens. With
one end unbounded, an interval is counted by the other.

Besides the intervals of the package, those of three other methods are measured for the gap and the
reversion size: over prompts with seeds held fixed, from a bootstrap of prompts and seeds, and from
the seeds' own values with Student's t.

The exit code is 1 if a share lies outside 93-97% at 5 seeds or more, or below 93% at 3; with fewer
than 1,000 sweeps, if it does so by more than 3 standard errors of the simulation.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from elastic_ray.elasticity import (
    QUANTITIES,
    Curve,
    CurveKey,
    Estimate,
    compare,
    fit_surface,
    measure,
    scaling,
    size_until,
    start_distance,
    surface_difference,
    surfaces,
)
from elastic_ray.elasticity.crossings import Crossings, first_reach
from elastic_ray.elasticity.families import GROWTH, Family, families

NEGATIVES = (0, 16, 48, 96, 192, 400, 800, 1600)
POSITIVES = (400, 2000)
SIZES = (1_000_000, 3_000_000, 10_000_000)
SEED_SHIFT, SEED_RATE = 0.02, 0.10
"""Standard deviations between seeds: of all scores of a curve, and of log(scale)."""
PROMPT_SHARE = 0.2
"""Share of the latent variance that belongs to the prompt."""


@dataclass(frozen=True)
class World:
    """A family with planted parameters; the models differ in their scale."""

    family: str
    starts: tuple[float, ...]
    levels: Mapping[str, float]
    shape: Mapping[str, float]
    scales: tuple[float, ...]
    bases: tuple[float, ...] = (0.45, 0.42, 0.50)

    def known(self) -> Family:
        """Return the family of the world."""
        return next(f for f in families(NEGATIVES[-1]) if f.name == self.family)

    def means(self, model: int, negatives: np.ndarray, faster: float = 1.0) -> np.ndarray:
        """Return the planted mean scores of one training run, [positives, negatives]."""
        rows = []
        middle = math.sqrt(math.prod(POSITIVES))
        shape = {**self.shape, "scale": self.scales[model] * faster}
        for positive, start in zip(POSITIVES, self.starts, strict=True):
            stretch = np.full(len(negatives), (positive / middle) ** self.shape[GROWTH.name])
            share, shared = self.known().columns(negatives, stretch, shape)
            rows.append(start * share + shared @ np.array(list(self.levels.values())))
        return np.array(rows)

    def averaged(self, model: int, negatives: np.ndarray) -> np.ndarray:
        """Return the planted mean scores over all training runs, [positives, negatives]."""
        rates = np.exp(SEED_RATE * ndtri((np.arange(200) + 0.5) / 200))
        return np.mean([self.means(model, negatives, rate) for rate in rates], axis=0)


WORLDS = {
    "logarithm": World(
        "exponential, then logarithm",
        (0.80, 0.90),
        {"floor": 0.50, "late": 0.06},
        {GROWTH.name: 0.2},
        (50.0, 40.0, 30.0),
    ),
    "two": World(
        "two exponentials",
        (0.80, 0.90),
        {"floor": 0.15},
        {"early share": 0.5, "ratio": 15.0, GROWTH.name: 0.2},
        (35.0, 30.0, 25.0),
    ),
    "floor": World(
        "Weibull",
        (0.80, 0.90),
        {"floor": 0.02},
        {"steepness": 2.0, GROWTH.name: 0.2},
        (80.0, 70.0, 60.0),
    ),
}


def simulate(world: World, draw: int, seeds: int, prompts: int = 300) -> list[Curve]:
    """Return the curves of one simulated sweep, ordered by model, then by positive size."""
    rng = np.random.default_rng(draw)
    difficulty = math.sqrt(PROMPT_SHARE) * rng.standard_normal(prompts)

    def answers(mean: np.ndarray) -> np.ndarray:
        own = math.sqrt(1 - PROMPT_SHARE) * rng.standard_normal((*mean.shape, prompts))
        return (difficulty + own < ndtri(mean)[..., None]).astype(np.float64)

    found = []
    sizes = np.array(NEGATIVES, float)
    for model, size in enumerate(SIZES):
        base = answers(np.array(world.bases[model]))
        shifts = SEED_SHIFT * rng.standard_normal((seeds, 1, 1))
        rates = np.exp(SEED_RATE * rng.standard_normal(seeds))
        means = np.array([world.means(model, sizes, rate) for rate in rates]) + shifts
        scores = answers(np.clip(means, 0.001, 0.999))
        for row, positive in enumerate(POSITIVES):
            key = CurveKey("planted", f"model-{model}", "task", None, positive)
            found.append(
                Curve(
                    key, NEGATIVES, tuple(range(seeds)), tuple(range(prompts)), base,
                    scores[:, row], parameters=size, limits=(0.0, 1.0),
                )
            )  # fmt: skip
    return found


def distance_curve(draw: int, seeds: int, prompts: int = 150) -> Curve:
    """Return a simulated curve of KL divergences from the baseline: skewed, with seed effects."""
    rng = np.random.default_rng([draw, 1])
    each = rng.gamma(2.0, 0.5, prompts)
    rates = np.exp(SEED_RATE * rng.standard_normal((seeds, 1, 1)))
    kl = KL_START * np.exp(-np.array(NEGATIVES)[None, :, None] / (KL_SCALE * rates))
    scores = kl * each * rng.gamma(2.0, 0.5, (seeds, len(NEGATIVES), prompts))
    key = CurveKey("planted", "kl", "task", None, 1000)
    return Curve(key, NEGATIVES, tuple(range(seeds)), tuple(range(prompts)), None, scores)


KL_START, KL_SCALE = 0.25, 120.0


def truth_of(world: World) -> dict[str, float]:
    """Return the true value of every reported number, by the name that `reported` uses."""
    found: dict[str, float] = {}
    sizes = np.array(NEGATIVES, float)
    by_model = [world.averaged(model, sizes) for model in range(len(SIZES))]
    measured: list[list[dict[str, float]]] = []
    for base, means in zip(world.bases, by_model, strict=True):
        measured.append([])
        for positive, row in zip(POSITIVES, means, strict=True):
            bounds = Crossings((row - base)[None], sizes, 0.0).bounds()
            known = {"base": base, "aligned": row[0], "gap": row[0] - base}
            known |= {name: float(low[0]) for name, (low, _) in bounds.items()}
            known["reversion_share"] = known["reversion_size"] / positive
            known["half_life_share"] = known["half_life"] / positive
            measured[-1].append(known)
    at = len(POSITIVES) - 1
    for name in QUANTITIES:
        found[f"curve: {name}"] = measured[0][at].get(name, math.nan)
        found[f"model 0 - model 2: {name}"] = found[f"curve: {name}"] - measured[2][at].get(
            name, math.nan
        )
    gap = by_model[0][at][0] - world.bases[0]
    for i, n in enumerate(NEGATIVES[1:], start=1):
        found[f"retention at {n}"] = (by_model[0][at][i] - world.bases[0]) / gap
        found[f"surface difference at {n}"] = by_model[0][at][i] - by_model[2][at][i]
    x = np.log10(SIZES)
    share = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    for name in SLOPES:
        each = [[model[p].get(name, math.nan) for model in measured] for p in range(len(POSITIVES))]
        found[f"slope over size: {name}"] = float(np.mean(np.array(each) @ share))
    for positive, start in zip(POSITIVES, world.starts, strict=True):
        found[f"fit: start at {positive}"] = start
    shape = {**world.shape, "scale": world.scales[0]}
    found |= {f"fit: {name}": value for name, value in {**world.levels, **shape}.items()}
    fine = np.expm1(np.linspace(0, math.log1p(NEGATIVES[-1]), 20_000))
    smooth = Crossings((world.averaged(0, fine)[at] - world.bases[0])[None], fine, 0.0).bounds()
    found |= {f"fit: {name}": float(smooth[name][0][0]) for name in SLOPES}
    rates = np.exp(SEED_RATE * ndtri((np.arange(200) + 0.5) / 200))
    kl = KL_START * np.exp(-sizes / (KL_SCALE * rates[:, None])).mean(axis=0)
    found["KL at the start"] = kl[0]
    found["examples until KL <= 0.01"] = float(first_reach((kl - 0.01)[None], sizes)[0])
    for name in METHODS:
        found[f"{name}: gap"] = found["curve: gap"]
        found[f"{name}: reversion_size"] = found["curve: reversion_size"]
    return found


SLOPES = ("elasticity_index", "early_rate", "late_rate", "half_life", "reversion_size")


METHODS = ("prompts alone", "bootstrap of both", "t of the seeds' values")


def other_methods(curve: Curve, resamples: int, draw: int) -> Iterator[tuple[str, Estimate]]:
    """Yield the intervals of the gap and the reversion size by methods that are not used."""
    rng = np.random.default_rng([draw, 2])
    seeds, prompts = len(curve.seeds), len(curve.prompts)
    assert curve.base is not None
    weights = rng.multinomial(prompts, np.full(prompts, 1 / prompts), resamples) / prompts
    chosen = rng.multinomial(seeds, np.full(seeds, 1 / seeds), resamples) / seeds
    above = curve.scores - curve.base
    sizes = np.array(curve.negatives, float)
    quantiles = np.quantile
    for name in METHODS[:2]:
        each = chosen if name == METHODS[1] else np.full((resamples, seeds), 1 / seeds)
        drawn = np.einsum("rs,rp,snp->rn", each, weights, above, optimize=True)
        reach = first_reach(drawn, sizes)
        value = above.mean(axis=(0, 2))
        low, high = quantiles(drawn[:, 0], (0.025, 0.975))
        yield f"{name}: gap", Estimate(float(value[0]), float(low), float(high))
        low, high = quantiles(reach, (0.025, 0.975), method="nearest")
        size = float(first_reach(value[None], sizes)[0])
        yield f"{name}: reversion_size", Estimate(size, float(low), float(high))
    own = above.mean(axis=2)
    for what, values in (("gap", own[:, 0]), ("reversion_size", first_reach(own, sizes))):
        half = stdtrit(seeds - 1, 0.975) * values.std(ddof=1) / math.sqrt(seeds)
        middle = float(values.mean())
        yield f"{METHODS[2]}: {what}", Estimate(middle, middle - half, middle + half)


def reported(
    world: World, curves: list[Curve], resamples: int, draw: int, fits: bool
) -> Iterator[tuple[str, Estimate]]:
    """Yield (name, estimate) of every number that the package reports about one sweep."""
    last = len(POSITIVES) - 1
    mine, theirs = curves[last], curves[2 * len(POSITIVES) + last]
    found = measure(mine, resamples, draw)
    for name in QUANTITIES:
        yield f"curve: {name}", getattr(found, name)
    for n, e in zip(NEGATIVES[1:], found.retention[1:], strict=True):
        yield f"retention at {n}", e
    difference = compare(mine, theirs, resamples, draw)
    for name, e in difference.quantities.items():
        yield f"model 0 - model 2: {name}", e
    surface = surfaces(curves)
    apart = surface_difference(surface[0], surface[2], resamples, draw)
    for n, e in zip(NEGATIVES[1:], apart.cells[last][1:], strict=True):
        yield f"surface difference at {n}", e
    for s in scaling(curves, resamples, draw):
        yield f"slope over size: {s.quantity}", s.slope
    kl = distance_curve(draw, len(mine.seeds))
    yield "KL at the start", start_distance(kl, resamples, draw)
    yield "examples until KL <= 0.01", size_until(kl, 0.01, resamples, draw)
    yield from other_methods(mine, resamples, draw)
    if fits:
        fit = fit_surface(surface[0], world.family, resamples, draw)
        for name, e in {**fit.parameters, **fit.derived[POSITIVES[last]]}.items():
            yield f"fit: {name}", e


@dataclass
class Count:
    """How many intervals contained the true value (`held`), of how many (`given`)."""

    held: int = 0
    given: int = 0
    total: float = 0.0

    def add(self, e: Estimate, truth: float) -> None:
        if e.value is None or (e.low is None and e.high is None):
            return
        self.given += 1
        self.total += e.value
        self.held += (e.low is None or e.low <= truth) and (e.high is None or truth <= e.high)

    @property
    def share(self) -> float:
        """Return the share of intervals that contain the true value; NaN without intervals."""
        return self.held / self.given if self.given else math.nan


def coverage(
    world: World, sweeps: int, seeds: int, resamples: int = 1000, fits: bool = False
) -> dict[str, Count]:
    """Simulate the sweeps and return the counts of each reported number, by name."""
    truth = truth_of(world)
    counts: dict[str, Count] = defaultdict(Count)
    for draw in range(sweeps):
        curves = simulate(world, draw, seeds)
        for name, e in reported(world, curves, resamples, draw, fits):
            counts[name].add(e, truth[name])
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description="Coverage of the 95% intervals.")
    parser.add_argument("--sweeps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5, 10])
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--world", choices=WORLDS)
    parser.add_argument("--fits", action="store_true", help="fit surfaces too; slow")
    args = parser.parse_args()
    outside = []
    for name, world in WORLDS.items():
        if args.world not in (None, name):
            continue
        began = time.monotonic()
        truth = truth_of(world)
        counts = [
            coverage(world, args.sweeps, seeds, args.resamples, args.fits) for seeds in args.seeds
        ]
        print(f"world {name}: {world.family}; {args.sweeps} sweeps; covered (undefined), by seeds")
        print(f"{'':44}{'truth':>10}" + "".join(f"{n:>16}" for n in args.seeds))
        slack = 0 if args.sweeps >= 1000 else 3 * math.sqrt(0.05 * 0.95 / args.sweeps)
        for what in counts[0]:
            shown = ""
            for seeds, count in zip(args.seeds, (c[what] for c in counts), strict=True):
                undefined = 1 - count.given / args.sweeps
                high = 0.97 + slack if seeds >= 5 else 1.0
                good = count.given < args.sweeps / 2 or 0.93 - slack <= count.share <= high
                ours = not what.startswith(METHODS) and seeds >= 3
                shown += f"{count.share:8.1%}{'' if good else '!':1}({undefined:4.0%})"
                if ours and not good:
                    outside.append(f"{name}: {what} at {seeds} seeds")
            print(f"{what:44}{truth[what]:10.4g}{shown}")
        print(f"{time.monotonic() - began:.0f} s\n")
    if outside:
        print(f"outside: {'; '.join(outside)}")
    return 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main())
