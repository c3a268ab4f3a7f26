"""Measured results as pandas data frames, for notebooks. Pandas is imported on the first call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..elasticity import CORRECTED, QUANTITIES
from ..results.errors import ResultsError
from ..results.schemas import nearest
from ..results.store import Results
from .measurements import measure_sweep

if TYPE_CHECKING:
    import pandas as pd

_DTYPES = {
    **dict.fromkeys(("sweep", "model", "task"), "object"),
    **dict.fromkeys(("pretrain", "positive", "parameters", "pretrain_tokens"), "Int64"),
    **dict.fromkeys(("family", "scorer"), "object"),
    **dict.fromkeys(("seeds", "prompts"), "Int64"),
    "late_window": "float64",
    **{
        f"{name}{end}": "object" if end == "_by_seed" else "float64"
        for name in QUANTITIES
        for end in ("", "_low", "_high", "_same_runs_low", "_same_runs_high", "_by_seed")
    },
    **{f"{name}_corrected{end}": "float64" for name in CORRECTED for end in ("", "_low", "_high")},
    "note": "object",
}
"""Columns and their types. `Int64` can hold a missing value, unlike numpy's integers."""


def measure_curves(results: Results, sweep: str | None = None) -> pd.DataFrame:
    """Measure the curves of one sweep, or of every recorded sweep, as they stand now.

    Nothing is recorded, and a sweep that is still running is measured from its scores so far. The
    data frame has a row per curve, in the order sweep, model, task, pretrain, positive, and these
    columns:

    | column | meaning | unit |
    |---|---|---|
    | `sweep`, `model`, `task` | names from the sweep file | |
    | `pretrain`, `positive` | sizes of the stages before the curve | examples |
    | `parameters` | size of the model | parameters |
    | `pretrain_tokens` | length of pre-training | tokens |
    | `family` | published models that may be compared with each other | |
    | `scorer` | the scorer of the answers | |
    | `seeds`, `prompts` | what the curve's means are over | number |
    | `base` | score at (0, 0), before fine-tuning | score |
    | `aligned` | score at (positive, 0) | score |
    | `gap` | `aligned` - `base` | score |
    | `reversion_size` | negative size at which the score is back at `base` | examples |
    | `half_life` | negative size at which half of `gap` is lost | examples |
    | `reversion_share`, `half_life_share` | the same, divided by `positive` | none |
    | `late_window` | end of the late rate's window | reversion sizes |
    | `early_rate`, `late_rate` | fall before and after `reversion_size` | score per 100 examples |
    | `elasticity_index` | log(`early_rate` / `late_rate`) | none |
    | `note` | what is missing, undefined, censored or unbounded, and why | |

    Each quantity from `base` to `elasticity_index` also has the columns `<quantity>_low` and
    `<quantity>_high`, the ends of its 95% interval over prompts and seeds,
    `<quantity>_same_runs_low` and `_high`, those over prompts alone, and `<quantity>_by_seed`, a
    list of each seed's own value. `<quantity>_corrected` of `base`, `aligned` and `gap` is without
    the scorer's errors. A quantity of which only a bound is known has one end and no value. Missing
    values are undefined quantities, or ends of intervals that the data do not bound. The
    definitions are in `elastic_ray.elasticity`.

    Raises `ResultsError` for a sweep that is not recorded, for damaged results and for scores that
    do not form curves.
    """
    import pandas as pd

    recorded = sorted(key[0] for key in results.recorded("cells"))
    if sweep is not None and sweep not in recorded:
        raise ResultsError(
            f"no sweep {sweep!r}{nearest(sweep, recorded)} in {results.uri}; "
            f"recorded: {', '.join(recorded) or 'none'}"
        )
    names = recorded if sweep is None else [sweep]
    rows = [measurement.row() for name in names for measurement in measure_sweep(results, name)]
    table: pd.DataFrame = pd.DataFrame(rows, columns=list(_DTYPES))
    return table.astype(_DTYPES)
