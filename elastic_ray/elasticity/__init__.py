"""What elasticity is, in numbers: curves of scores, retention, indices, and their uncertainty.

Pure: numpy and scipy only. Score rows come from `Results.score_rows`, and what is measured goes
back as rows of the `indices` table:

    cells = results.query("FROM cell_scores WHERE sweep = $sweep", {"sweep": sweep})
    found = curves(results.score_rows(sweep), sweep=sweep, cells=cells)
    results.replace("indices", sweep, index_rows(found))

| to get | use |
|---|---|
| curves over negative sizes, and what is measured of each | `curves`, `measure`, `index_rows` |
| a model's curves side by side, holes kept, and two of them subtracted | `surfaces`, \
`surface_difference` |
| a smooth surface of two phases, its family chosen by held-out error | `fit_surface` |
| two models or two sweeps, the difference with its interval | `compare`, `compare_all` |
| along model size and pre-training tokens | `scaling`; `trend` for any two columns |
| inverse against forward fine-tuning | `paths`, `compare_paths`, `comparison_rows` |

A curve is one (sweep, model, task, pretrain, positive) over negative sizes n. s(n) is the mean
score over prompts and seeds, larger being more aligned; s0 is that of the base line (0, 0).

| quantity | is | undefined (None) |
|---|---|---|
| base, aligned, gap | s0, s(0), s(0) - s0 | no score there |
| retention r(n) | (s(n) - s0) / gap | gap within noise: its interval holds 0 |
| reversion_size n* | where r first reaches 0 | censored: never reaches it |
| half_life | where r first reaches 0.5 | censored: never reaches it |
| early_rate | 100 gap / n* | n* is |
| late_rate | 100 (s0 - s(n_max)) / (n_max - n*) | n* is, or n* = n_max |
| elasticity_index | log(early_rate / late_rate) | either rate is not above 0 |

Between two sizes r is linear in log n; between 0 and the smallest size, where log n has no start,
in log(1 + n), and a value found there says so in the note. Rates are per 100 negative examples.

Intervals are 95% percentile intervals of a bootstrap over prompts (Efron and Tibshirani, 1993,
ch. 13), of the index BCa ones (ch. 14), seeds held fixed. A prompt is drawn with everything that
was scored on it: one draw of prompts serves every size, every seed and the base line, since all of
them answer the same prompts, and the base line is one state, however many seeds share it. The
intervals say what other prompts would have given, not what other seeds would have:
`Curve.seed_spread` is the spread between seeds. With fewer than some 20 prompts, percentile
intervals are too narrow.

A resample in which a quantity is undefined counts against both ends of its interval, one in which
a size is censored lies between the largest size and infinity. An end that falls on such a resample
is None, "interval not bounded" in the note. A size that is censored itself has no value and no
upper end, but its lower end stands.
"""

from __future__ import annotations

from .comparison import Difference, compare, compare_all
from .curve import Curve, CurveKey, curves
from .fit import SurfaceFit, fit_surface
from .path_comparison import (
    DIRECTIONS,
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
    "DIRECTIONS",
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
