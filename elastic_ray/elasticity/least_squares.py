"""The least-squares fit of a family of curves to the scored cells of a surface."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .curve import Curve
from .families import GROWTH, Family, Shape
from .rows import ElasticityError, Floats, Ints
from .surface import Surface


@dataclass(frozen=True, eq=False)
class Cells:
    """The scored cells of a surface.

    `row` is the index of the positive size, `score` the mean of the cell. `curves` are those of the
    cells, in order.
    """

    positives: tuple[int, ...]
    row: Ints
    negative: Floats
    score: Floats
    curves: tuple[Curve, ...]

    @classmethod
    def of(cls, surface: Surface) -> Cells:
        """Return the scored cells of a surface; `ElasticityError` if there are none."""
        curves = [c for c in surface.curves if c.prompts]
        if not curves:
            raise ElasticityError("0 scored cells are too few to fit a surface")
        return cls(
            tuple(c.key.positive for c in curves),
            np.concatenate([np.full(len(c.negatives), i) for i, c in enumerate(curves)]),
            np.concatenate([np.array(c.negatives, float) for c in curves]),
            np.concatenate([c.mean for c in curves]),
            tuple(curves),
        )

    def without(self, size: float) -> Cells:
        """Return the cells of all other negative sizes."""
        kept = self.negative != size
        return Cells(
            self.positives,
            self.row[kept],
            self.negative[kept],
            self.score[kept],
            self.curves,
        )

    def shapes(self, family: Family) -> tuple[Shape, ...]:
        """Return the shape parameters; the growth needs several positive sizes."""
        return family.shapes if len(self.positives) == 1 else (*family.shapes, GROWTH)

    def count(self, family: Family) -> int:
        """Return the number of parameters of the family on these cells."""
        return len(self.positives) + len(family.levels) + len(self.shapes(family))

    def stretch(self, positive: Floats | Sequence[int], growth: float | Floats) -> Floats:
        logs = np.log(np.array(self.positives, float))
        found: Floats = np.exp(growth * (np.log(positive) - logs.mean()))
        return found

    def named(self, family: Family, shape: Floats) -> dict[str, Floats]:
        """Return the values of `shape` [..., shapes] by name, as arrays [..., 1]."""
        return {
            s.name: np.exp(shape[..., i, None]) if s.log else shape[..., i, None]
            for i, s in enumerate(self.shapes(family))
        }

    def columns(
        self, family: Family, shape: Floats, positive: Floats, negative: Floats
    ) -> tuple[Floats, Floats]:
        """Return the columns of `Family` at the points (positive, negative), [points]."""
        at = self.named(family, shape)
        stretch = self.stretch(positive, at.get(GROWTH.name, np.zeros(1)))
        return family.columns(negative, stretch, at)

    def levels(self, family: Family, shape: Floats) -> tuple[Floats, Floats]:
        """Return starts and levels by least squares, and the residuals."""
        positive = np.array(self.positives, float)[self.row]
        share, shared = self.columns(family, shape, positive, self.negative)
        starts = share[:, None] * (self.row[:, None] == np.arange(len(self.positives)))
        design = np.concatenate([starts, shared], axis=1)
        solved: Floats = np.linalg.lstsq(design, self.score, rcond=None)[0].astype(np.float64)
        left: Floats = self.score - design @ solved
        return solved, left

    def split(self, family: Family, at: Floats) -> list[Floats]:
        """Split `at` [..., parameters] into starts, levels and shape."""
        starts = len(self.positives)
        return np.split(at, [starts, starts + len(family.levels)], axis=-1)

    def scores(self, family: Family, at: Floats) -> Floats:
        """Return the fitted score of each cell, [..., cells]."""
        starts, levels, shape = self.split(family, at)
        positive = np.array(self.positives, float)[self.row]
        share, shared = self.columns(family, shape, positive, self.negative)
        found: Floats = starts[..., self.row] * share + _times(shared, levels)
        return found

    def predict(self, family: Family, at: Floats, positive: float, negative: Floats) -> Floats:
        """Return the fitted score, [..., negatives].

        The start is interpolated in the log of the positive size; NaN outside the fitted sizes.
        """
        starts, levels, shape = self.split(family, at)
        known = np.log(np.array(self.positives, float))
        where = np.interp(np.log(positive), known, np.arange(len(known)), left=np.nan, right=np.nan)
        if math.isnan(where):
            return np.full((*at.shape[:-1], len(negative)), np.nan)
        before = min(int(where), max(len(known) - 2, 0))
        part, after = where - before, min(before + 1, len(known) - 1)
        start = (1 - part) * starts[..., before] + part * starts[..., after]
        place = np.full(len(negative), float(positive))
        share, shared = self.columns(family, shape, place, negative)
        found: Floats = start[..., None] * share + _times(shared, levels)
        return found


def _times(shared: Floats, levels: Floats) -> Floats:
    found: Floats = (shared * levels[..., None, :]).sum(axis=-1)
    return found


def limits(family: Family, cells: Cells) -> tuple[Floats, Floats]:
    """Return the lower and upper bounds of the shape search, in search units."""
    shapes = cells.shapes(family)
    ends = [tuple(math.log(v) if s.log else v for v in s.bounds) for s in shapes]
    low, high = np.array(ends, float).T
    return low, high


def search(family: Family, cells: Cells) -> Floats:
    """Return starts, levels and shape of the best of several least-squares searches."""
    # Imported here because it takes a second, and measuring curves does not need it.
    from scipy.optimize import least_squares

    shapes = cells.shapes(family)
    grid = [
        np.array(point)
        for point in itertools.product(
            *([math.log(v) if s.log else v for v in s.starts] for s in shapes)
        )
    ]

    def left(shape: Floats) -> Floats:
        return cells.levels(family, shape)[1]

    begin = sorted(grid, key=lambda shape: float(np.sum(left(shape) ** 2)))[:2]
    found = [least_squares(left, at, bounds=limits(family, cells)) for at in begin]
    shape = min(found, key=lambda f: f.cost).x
    return np.concatenate([cells.levels(family, shape)[0], shape])
