"""Statistics of elasticity: score curves, retention, indices, and their uncertainty.

Pure functions that need only numpy and scipy. Score rows come from `Results.score_rows`; the
measured quantities are recorded as rows of the `indices` table:

    cells = results.query("FROM cell_scores WHERE sweep = $sweep", {"sweep": sweep})
    found = curves(results.score_rows(sweep), sweep=sweep, cells=cells)
    results.replace("indices", sweep, index_rows(found))

| to get | use |
|---|---|
| curves over negative sizes, and their quantities | `curves`, `measure`, `index_rows` |
| how they depend on choices; what interval to expect | `sensitivity`; `variances`, `ASSUMED` |
| the curves of a model as a matrix; the difference between two | `surfaces`, `surface_difference` |
| a smooth two-phase surface; its family is chosen by held-out error | `fit_surface` |
| the difference between two models or sweeps, with intervals | `compare`, `compare_all` |
| trends along model size and pre-training tokens | `scaling`; `trend` for any two columns |
| negative examples until a divergence is small | `size_until`, `start_distance` |
| a comparison of inverse and forward fine-tuning | `paths`, `compare_paths`, `comparison_rows` |

A curve gives the scores s(n) of one (sweep, model, task, pretrain, positive) over negative sizes n.
s(n) is the mean score over prompts and seeds; larger is more aligned. s0 is the score of the
baseline (0, 0), w the length of the late rate's window (`Curve.window`, 4 by default).

| quantity | is | undefined (None) if |
|---|---|---|
| base, aligned, gap | s0, s(0), s(0) - s0 | there is no score |
| retention r(n) | (s(n) - s0) / gap | the gap is within noise: 1.96 standard errors |
| reversion_size n* | the n at which r first reaches 0 | censored: r never reaches 0 |
| half_life | the n at which r first reaches 0.5 | censored: r never reaches 0.5 |
| reversion_share, half_life_share | the same, divided by the positive size | the same |
| early_rate | 100 gap / n* | n* is undefined |
| late_rate | 100 (s0 - s(w n*)) / ((w - 1) n*) | n* is undefined, or w n* is not on the axis |
| elasticity_index | log(early_rate / late_rate) | either rate is undefined or not above 0 |

Between two sizes, r is interpolated linearly in log n. Below the smallest size it is interpolated
in log(1 + n), and the note says so. Rates are per 100 negative examples. Nothing depends on sizes
beyond its window: cutting the axis there moves no quantity, and no end of its interval.

A rate that rests on a limit of the scorer (`Curve.limits`) is a bound, not a value: the late rate
is at least what was measured if the score is at the floor where the window ends, the early rate if
the aligned score is at the ceiling. The index then has a bound too, or none if both are limited.

Intervals are 95% intervals over prompts and training seeds (`mean_draws`); a seed is a cluster.
Prompts are drawn together for every size, every seed and the baseline, because all of them answer
the same prompts. `Measurement.same_runs` holds intervals over prompts alone, `by_seed` each seed's
own values. With one seed, intervals cover prompts alone.

If a quantity is undefined in a draw, the draw widens both ends of its interval. If a size is
censored in a draw, its value is taken to lie between the largest size and infinity. An interval end
that falls on such a draw is None, and the note says "interval not bounded". A censored size has no
value and no upper end, but it keeps its lower end.
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
from .precision import ASSUMED, Variances, variances
from .quantities import CORRECTED, QUANTITIES, Measurement, index_rows, measure
from .resampling import RESAMPLES, Estimate
from .rows import ElasticityError, Rows
from .scorer_errors import ScorerErrors, accuracy_interval, better_than_chance
from .sensitivity import Variant, sensitivity
from .size_scaling import SIGNIFICANT, Scaling, blocked_trend, least_p, scaling
from .surface import Surface, SurfaceDifference, surface_difference, surfaces
from .trend_test import Trend, trend
from .until import EPSILON, size_until, start_distance

__all__ = [
    "ASSUMED",
    "COMPARED",
    "CORRECTED",
    "DIRECTIONS",
    "EPSILON",
    "METRICS",
    "QUANTITIES",
    "RESAMPLES",
    "SIGNIFICANT",
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
    "ScorerErrors",
    "Surface",
    "SurfaceDifference",
    "SurfaceFit",
    "Trend",
    "Variances",
    "Variant",
    "accuracy_interval",
    "better_than_chance",
    "blocked_trend",
    "compare",
    "compare_all",
    "compare_paths",
    "comparison_rows",
    "curves",
    "fit_surface",
    "index_rows",
    "least_p",
    "measure",
    "paths",
    "scaling",
    "sensitivity",
    "size_until",
    "start_distance",
    "surface_difference",
    "surfaces",
    "told_apart",
    "trend",
    "variances",
]
