"""Statistics of elasticity: score curves, retention, indices, and their uncertainty.

Pure functions that need only numpy and scipy. Score rows come from `Results.score_rows`; the
measured quantities are recorded as rows of the `indices` table:

    cells = results.query("FROM cell_scores WHERE sweep = $sweep", {"sweep": sweep})
    found = curves(results.score_rows(sweep), sweep=sweep, cells=cells)
    results.replace("indices", sweep, index_rows(found))

| to get | use |
|---|---|
| curves over negative sizes, and their quantities | `curves`, `measure`, `index_rows` |
| the curves of a model as a matrix; the difference between two | `surfaces`, `surface_difference` |
| a smooth two-phase surface; its family is chosen by held-out error | `fit_surface` |
| the difference between two models or sweeps, with intervals | `compare`, `compare_all` |
| trends along model size and pre-training tokens | `scaling`; `trend` for any two columns |
| a comparison of inverse and forward fine-tuning | `paths`, `compare_paths`, `comparison_rows` |

A curve gives the scores s(n) of one (sweep, model, task, pretrain, positive) over negative sizes n.
s(n) is the mean score over prompts and seeds; larger is more aligned. s0 is the score of the
baseline (0, 0).

| quantity | is | undefined (None) if |
|---|---|---|
| base, aligned, gap | s0, s(0), s(0) - s0 | there is no score |
| retention r(n) | (s(n) - s0) / gap | the gap is within noise: its interval contains 0 |
| reversion_size n* | the n at which r first reaches 0 | censored: r never reaches 0 |
| half_life | the n at which r first reaches 0.5 | censored: r never reaches 0.5 |
| early_rate | 100 gap / n* | n* is undefined |
| late_rate | 100 (s0 - s(n_max)) / (n_max - n*) | n* is undefined, or n* = n_max |
| elasticity_index | log(early_rate / late_rate) | either rate is not above 0 |

Between two sizes, r is interpolated linearly in log n. Below the smallest size it is interpolated
in log(1 + n), and the note says so. Rates are per 100 negative examples.

Intervals are 95% percentile intervals of a bootstrap over prompts (Efron and Tibshirani, 1993,
ch. 13); those of the index are BCa intervals (ch. 14). Prompts are resampled together with all of
their scores. Each resample uses the same prompts for every size, every seed and the baseline,
because all of them answer the same prompts. A baseline that several seeds share counts as one
state. Seeds are held fixed, so the intervals cover variation between prompts but not between seeds;
`Curve.seed_spread` is the spread between seeds. With fewer than about 20 prompts, percentile
intervals are too narrow.

If a quantity is undefined in a resample, the resample widens both ends of its interval. If a size
is censored in a resample, its value is taken to lie between the largest size and infinity. An
interval end that falls on such a resample is None, and the note says "interval not bounded". A
censored size has no value and no upper end, but it keeps its lower end.
"""

from __future__ import annotations

from .comparison import Difference, compare, compare_all
from .curve import Curve, CurveKey, curves
from .fit import SurfaceFit, fit_surface
from .path_comparison import (
    COMPARED,
    DIRECTIONS,
    METRICS,
    PathComparison,
    PathKey,
    Paths,
    compare_paths,
    comparison_rows,
    paths,
    told_apart,
)
from .quantities import QUANTITIES, Measurement, index_rows, measure
from .resampling import Estimate
from .rows import ElasticityError, Rows
from .size_scaling import Scaling, blocked_trend, scaling
from .surface import Surface, SurfaceDifference, surface_difference, surfaces
from .trend_test import Trend, trend

__all__ = [
    "COMPARED",
    "DIRECTIONS",
    "METRICS",
    "QUANTITIES",
    "Curve",
    "CurveKey",
    "Difference",
    "ElasticityError",
    "Estimate",
    "Measurement",
    "PathComparison",
    "PathKey",
    "Paths",
    "Rows",
    "Scaling",
    "Surface",
    "SurfaceDifference",
    "SurfaceFit",
    "Trend",
    "blocked_trend",
    "compare",
    "compare_all",
    "compare_paths",
    "comparison_rows",
    "curves",
    "fit_surface",
    "index_rows",
    "measure",
    "paths",
    "scaling",
    "surface_difference",
    "surfaces",
    "told_apart",
    "trend",
]
