"""elastic_ray measures how strongly fine-tuned language models return to pre-training behaviour.

The public API, for notebooks and scripts:

    from elastic_ray import Results, estimate, load_spec, measure_curves, plan_sweep, run_sweep

    spec = load_spec("sweeps/tiny.yaml")
    plan = plan_sweep(spec)                            # states, ladders, probes
    cost = estimate(plan, cluster="4x8xA100")          # GPU-hours, memory, layout
    results = run_sweep("sweeps/tiny.yaml", "results") # or: Results("results", read_only=True)
    curves = measure_curves(results)                   # a pandas data frame, a row per curve

Names are imported when they are first used: planning needs neither Ray nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .analysis.dataframes import measure_curves
    from .placement import estimate
    from .plan import plan_sweep
    from .results.store import Results
    from .spec import load_spec
    from .sweep.notebook import run_sweep

__all__ = ["Results", "estimate", "load_spec", "measure_curves", "plan_sweep", "run_sweep"]

_MODULES = {
    "Results": "results.store",
    "estimate": "placement",
    "load_spec": "spec",
    "measure_curves": "analysis.dataframes",
    "plan_sweep": "plan",
    "run_sweep": "sweep.notebook",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
