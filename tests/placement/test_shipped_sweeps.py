"""Which shipped sweep runs on which cluster: the table in docs/cluster.md is what is planned.

python tests/placement/test_shipped_sweeps.py      prints the table
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from elastic_ray.placement import Phase, SweepAllocation, allocate, parse_cluster
from elastic_ray.plan import Plan, TaskInfo, load_inputs, plan_sweep
from elastic_ray.spec import SpecError, load_spec

ROOT = Path(__file__).parents[2]
SWEEPS = (
    "tiny", "imdb_small", "imdb_paths", "tinyllama_tokens", "qwen_scale", "existence",
    "inverse_forward", "published_imdb", "published_safety", "tinyllama_early", "reverse",
)  # fmt: skip
CLUSTERS = (
    "1x1xA100-80G", "1x2xA100-80G", "1x8xA100-80G", "2x4xL40S:48cpu", "8x4xL40S", "1x1xRTX4090",
    "1x8xH100",
)  # fmt: skip


@cache
def planned(sweep: str) -> tuple[Plan, dict[str, TaskInfo]]:
    """The plan of a shipped file; lengths of texts are assumed where the hub is not reachable."""
    spec = load_spec(ROOT / "sweeps" / f"{sweep}.yaml")
    inputs = load_inputs(spec, to_run=False)
    return plan_sweep(spec, inputs.task_info(), inputs.folders), dict(inputs.task_info())


@cache
def on(sweep: str, cluster: str) -> SweepAllocation | str:
    """The division of a cluster for a sweep, or why there is none."""
    plan, info = planned(sweep)
    try:
        return allocate(plan, info, parse_cluster(cluster))
    except SpecError as e:
        return str(e)


def table() -> Iterator[str]:
    """Yield the lines of the table."""
    yield f"| sweep | {' | '.join(f'`{cluster}`' for cluster in CLUSTERS)} |"
    yield "|---|" + "---|" * len(CLUSTERS)
    for sweep in SWEEPS:
        cells = []
        for cluster in CLUSTERS:
            found = on(sweep, cluster)
            if isinstance(found, str):
                cells.append("refused")
                continue
            offloads = any(each.offload == "optimizer" for each in found.runtimes.values())
            how = "in turns" if found.layout.turns else "side by side"
            cells.append(how + (", offloading" if offloads else ""))
        yield f"| `{sweep}` | {' | '.join(cells)} |"


def test_the_documented_table_is_what_is_planned() -> None:
    text = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    assert "\n".join(table()) in text


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("sweep", ["tiny", "imdb_small"])
def test_small_models_run_on_every_cluster(sweep: str, cluster: str) -> None:
    found = on(sweep, cluster)
    assert isinstance(found, SweepAllocation) and not found.layout.turns


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_sweep_runs_on_one_gpu_of_80_gb(sweep: str) -> None:
    found = on(sweep, "1x1xA100-80G")
    assert isinstance(found, SweepAllocation)
    training, evaluation = (
        found.layout.during(phase) if found.layout.turns else found.layout for phase in Phase
    )
    assert training.trainers == 1 and evaluation.replicas >= 1


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_refusal_names_what_would_do(sweep: str) -> None:
    refused = [found for cluster in CLUSTERS if isinstance(found := on(sweep, cluster), str)]
    assert all("would fit" in each or "take GPUs of" in each for each in refused), refused


if __name__ == "__main__":
    print(*table(), sep="\n")
