"""Measures how often the 95% intervals contain the true values, in simulated sweeps.

    python benchmarks/coverage.py [--sweeps 1000] [--resamples 500] [--world NAME]

A world is one surface per model that follows one of the families exactly. It has three models, two
positive sizes, seven negative sizes, three seeds, and 300 prompts with one answer each, scored 0 or
1. An answer is aligned if a normal latent value lies below the quantile of the planted mean. A
share of the latent variance (`PROMPT_SHARE`) belongs to the prompt and is common to all its
answers, so some prompts are easier than others. Seeds differ by a fixed shift of all their curves.

The intervals describe new prompts with the same seeds, and this is what the script tests. The true
value of a curve's quantity is its definition applied to the planted means at the measured sizes.
The last rows show what the intervals do not describe: with newly drawn seeds, they contain the mean
over all seeds less often.

The exit code is 1 if a share lies outside 93-97%; with fewer than 1,000 sweeps, if it does so by
more than 3 standard errors of the simulation. An undefined value has no interval and is not
counted; the column "undefined" shows how often that happens.
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
from scipy.special import ndtri

from elastic_ray.elasticity import (
    QUANTITIES,
    Curve,
    CurveKey,
    Estimate,
    compare,
    fit_surface,
    measure,
    scaling,
    surface_difference,
    surfaces,
)
from elastic_ray.elasticity.crossings import Crossings
from elastic_ray.elasticity.families import GROWTH, Family, families

NEGATIVES = (0, 16, 48, 96, 192, 400, 800)
POSITIVES = (400, 2000)
SIZES = (1_000_000, 3_000_000, 10_000_000)
SEED_SHIFTS = (-0.02, 0.0, 0.02)
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
    base: float = 0.45

    def known(self) -> Family:
        """Return the family of the world."""
        return next(f for f in families(NEGATIVES[-1]) if f.name == self.family)

    def means(self, model: int, negatives: np.ndarray) -> np.ndarray:
        """Return the planted mean scores of a model, [positives, negatives]."""
        rows = []
        middle = math.sqrt(math.prod(POSITIVES))
        shape = {**self.shape, "scale": self.scales[model]}
        for positive, start in zip(POSITIVES, self.starts, strict=True):
            stretch = np.full(len(negatives), (positive / middle) ** self.shape[GROWTH.name])
            share, shared = self.known().columns(negatives, stretch, shape)
            rows.append(start * share + shared @ np.array(list(self.levels.values())))
        return np.array(rows)


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
}


def simulate(world: World, draw: int, prompts: int = 300, new_seeds: bool = False) -> list[Curve]:
    """Return the curves of one simulated sweep, ordered by model, then by positive size.

    `new_seeds` draws the shifts of the seeds at random, with the same standard deviation.
    """
    rng = np.random.default_rng(draw)
    difficulty = math.sqrt(PROMPT_SHARE) * rng.standard_normal(prompts)
    shifts = np.array(SEED_SHIFTS)
    if new_seeds:
        shifts = np.std(shifts, ddof=1) * rng.standard_normal(len(shifts))

    def answers(mean: np.ndarray) -> np.ndarray:
        own = math.sqrt(1 - PROMPT_SHARE) * rng.standard_normal((*mean.shape, prompts))
        return (difficulty + own < ndtri(mean)[..., None]).astype(np.float64)

    found = []
    for model, size in enumerate(SIZES):
        base = answers(np.array(world.base))
        for positive, means in zip(
            POSITIVES, world.means(model, np.array(NEGATIVES, float)), strict=True
        ):
            scores = answers(np.clip(means + shifts[:, None], 0.001, 0.999))
            key = CurveKey("planted", f"model-{model}", "task", None, positive)
            found.append(
                Curve(
                    key, NEGATIVES, tuple(range(len(shifts))), tuple(range(prompts)), base, scores,
                    parameters=size,
                )
            )  # fmt: skip
    return found


def truth_of(world: World) -> dict[str, float]:
    """Return the true value of every reported number, by the name that `reported` uses."""
    found: dict[str, float] = {}
    sizes = np.array(NEGATIVES, float)
    by_model = [world.means(model, sizes) for model in range(len(SIZES))]
    indices: list[list[dict[str, float]]] = []
    for means in by_model:
        indices.append([])
        for row in means:
            above = (row - world.base)[None]
            crossings = Crossings(above, sizes, 0.0)
            known = {"base": world.base, "aligned": row[0], "gap": row[0] - world.base}
            known |= {name: float(low[0]) for name, (low, _) in crossings.bounds.items()}
            indices[-1].append(known)
    at = len(POSITIVES) - 1
    for name in QUANTITIES:
        found[f"curve: {name}"] = indices[0][at][name]
        found[f"model 0 - model 2: {name}"] = indices[0][at][name] - indices[2][at][name]
    gap = by_model[0][at][0] - world.base
    for i, n in enumerate(NEGATIVES[1:], start=1):
        found[f"retention at {n}"] = (by_model[0][at][i] - world.base) / gap
        found[f"surface difference at {n}"] = by_model[0][at][i] - by_model[2][at][i]
    x = np.log10(SIZES)
    share = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    for name in SLOPES:
        each = [[model[p][name] for model in indices] for p in range(len(POSITIVES))]
        found[f"slope over size: {name}"] = float(np.mean(np.array(each) @ share))
    for positive, start in zip(POSITIVES, world.starts, strict=True):
        found[f"fit: start at {positive}"] = start
    shape = {**world.shape, "scale": world.scales[0]}
    found |= {f"fit: {name}": value for name, value in {**world.levels, **shape}.items()}
    fine = np.expm1(np.linspace(0, math.log1p(NEGATIVES[-1]), 20_000))
    smooth = Crossings((world.means(0, fine)[at] - world.base)[None], fine, 0.0).bounds
    found |= {f"fit: {name}": float(smooth[name][0][0]) for name in SLOPES}
    return found


SLOPES = ("elasticity_index", "early_rate", "late_rate", "half_life", "reversion_size")


def reported(
    world: World, curves: list[Curve], resamples: int, draw: int
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
        if e.value is None:
            return
        self.given += 1
        self.total += e.value
        self.held += (e.low is None or e.low <= truth) and (e.high is None or truth <= e.high)

    @property
    def share(self) -> float:
        """Return the share of intervals that contain the true value; NaN without intervals."""
        return self.held / self.given if self.given else math.nan


def coverage(
    world: World, sweeps: int, resamples: int = 1000, new_seeds: bool = False
) -> dict[str, Count]:
    """Simulate the sweeps and return the counts of each reported number, by name."""
    truth = truth_of(world)
    counts: dict[str, Count] = defaultdict(Count)
    for draw in range(sweeps):
        curves = simulate(world, draw, new_seeds=new_seeds)
        for name, e in reported(world, curves, resamples, draw):
            counts[name].add(e, truth[name])
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description="Coverage of the 95% intervals.")
    parser.add_argument("--sweeps", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--world", choices=WORLDS)
    args = parser.parse_args()
    outside = []
    for name, world in WORLDS.items():
        if args.world not in (None, name):
            continue
        began = time.monotonic()
        truth = truth_of(world)
        print(f"world {name}: {world.family}; {args.sweeps} sweeps")
        print(f"{'':42}{'truth':>10}{'mean':>10}{'covered':>10}{'undefined':>11}")
        counts = coverage(world, args.sweeps, args.resamples)
        for what, count in counts.items():
            mean = count.total / max(count.given, 1)
            undefined = 1 - count.given / args.sweeps
            slack = 0 if args.sweeps >= 1000 else 3 * math.sqrt(0.05 * 0.95 / args.sweeps)
            good = count.given < args.sweeps / 2 or 0.93 - slack <= count.share <= 0.97 + slack
            print(
                f"{what:42}{truth[what]:10.4g}{mean:10.4g}{count.share:10.1%}{undefined:11.1%}"
                + ("" if good else "  outside 93-97%")
            )
            if not good:
                outside.append(f"{name}: {what}")
        again = coverage(world, max(args.sweeps // 5, 1), args.resamples, new_seeds=True)
        print("with newly drawn seeds (the intervals do not include the spread of seeds):")
        for what in ("curve: aligned", "curve: gap", "curve: elasticity_index"):
            print(f"{what:42}{'':20}{again[what].share:10.1%}")
        print(f"{time.monotonic() - began:.0f} s\n")
    if outside:
        print(f"outside 93-97%: {'; '.join(outside)}")
    return 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main())
