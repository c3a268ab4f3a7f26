"""The scored cells of a surface, and a family's least squares fit to them."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import reduce

import numpy as np

from .curve import ElasticityError, Floats
from .families import GROWTH, Family, Shape
from .surface import Surface


@dataclass(frozen=True, eq=False)
class Cells:
    """The scored cells: place, score, and the scores [cells, prompts] that they are means of."""

    positives: tuple[int, ...]
    row: Floats
    negative: Floats
    score: Floats
    by_prompt: Floats
    base: Floats | None

    @classmethod
    def of(cls, surface: Surface) -> Cells:
        curves = [c for c in surface.curves if c.prompts]
        if not curves:
            raise ElasticityError("0 scored cells are too few to fit a surface")
        # The prompts that every curve has: the cells' means must vary together.
        prompts = reduce(np.intersect1d, [np.array(c.prompts) for c in curves])
        picked = [(c, np.searchsorted(np.array(c.prompts), prompts)) for c in curves]
        by_prompt = np.concatenate([c.by_prompt[:, at] for c, at in picked])
        bases = [c.base[at] for c, at in picked if c.base is not None]
        return cls(
            tuple(c.key.positive for c in curves),
            np.concatenate([np.full(len(c.negatives), i) for i, c in enumerate(curves)]),
            np.concatenate([np.array(c.negatives, float) for c in curves]),
            by_prompt.mean(axis=1),
            by_prompt,
            bases[0] if bases else None,
        )

    def without(self, size: float) -> Cells:
        kept = self.negative != size
        return Cells(
            self.positives,
            self.row[kept],
            self.negative[kept],
            self.score[kept],
            self.by_prompt[kept],
            self.base,
        )

    def shapes(self, family: Family) -> tuple[Shape, ...]:
        return family.shapes if len(self.positives) == 1 else (*family.shapes, GROWTH)

    def count(self, family: Family) -> int:
        return len(self.positives) + len(family.levels) + len(self.shapes(family))

    def stretch(self, positive: Floats, growth: float) -> Floats:
        logs = np.log(np.array(self.positives, float))
        found: Floats = np.exp(growth * (np.log(positive) - logs.mean()))
        return found

    def design(self, family: Family, shape: Floats) -> Floats:
        """[cells, positives + levels]: the score is this times starts and levels."""
        at = self.named(family, shape)
        own = self.stretch(np.array(self.positives, float), at.get(GROWTH.name, 0.0))
        share, shared = family.columns(self.negative, own[self.row], at)
        starts = share[:, None] * (self.row[:, None] == np.arange(len(self.positives)))
        return np.concatenate([starts, shared], axis=1)

    def named(self, family: Family, shape: Floats) -> dict[str, float]:
        return {
            s.name: math.exp(value) if s.log else float(value)
            for s, value in zip(self.shapes(family), shape, strict=True)
        }

    def levels(self, family: Family, shape: Floats) -> tuple[Floats, Floats]:
        """Starts and levels by least squares, and the residuals."""
        design = self.design(family, shape)
        solved: Floats = np.linalg.lstsq(design, self.score, rcond=None)[0].astype(np.float64)
        left: Floats = self.score - design @ solved
        return solved, left

    def predict(self, family: Family, at: Floats, positive: float, negative: Floats) -> Floats:
        """[negatives], for `at`: starts, levels, shape."""
        starts, levels, shape = np.split(
            at, [len(self.positives), len(self.positives) + len(family.levels)]
        )
        known = np.log(np.array(self.positives, float))
        start = np.interp(np.log(positive), known, starts, left=np.nan, right=np.nan)
        named = self.named(family, shape)
        stretch = self.stretch(np.array([positive], float), named.get(GROWTH.name, 0.0))
        share, shared = family.columns(negative, np.repeat(stretch, len(negative)), named)
        found: Floats = start * share + shared @ levels
        return found


def search(family: Family, cells: Cells) -> Floats:
    """Starts, levels and shape of least squares: the best of several searches."""
    # Imported here: it takes a second, and who measures curves need not wait for it.
    from scipy.optimize import least_squares  # type: ignore[import-untyped]

    shapes = cells.shapes(family)
    inner = [tuple(math.log(v) if s.log else v for v in s.bounds) for s in shapes]
    grid = [
        np.array(point)
        for point in itertools.product(
            *([math.log(v) if s.log else v for v in s.starts] for s in shapes)
        )
    ]

    def left(shape: Floats) -> Floats:
        return cells.levels(family, shape)[1]

    begin = sorted(grid, key=lambda shape: float(np.sum(left(shape) ** 2)))[:2]
    found = [least_squares(left, at, bounds=tuple(zip(*inner, strict=True))) for at in begin]
    shape = min(found, key=lambda f: f.cost).x
    return np.concatenate([cells.levels(family, shape)[0], shape])
