"""Where the time of a sweep goes: every part has a term, and settings cost where they work."""

from __future__ import annotations

from typing import Any

import pytest
from small_sweeps import COMMIT, Facts, plan_of, spec_of

from elastic_ray.placement import SweepAllocation, WallClock, allocate, parse_cluster

INFO = {"reviews": Facts()}
SPEC: dict[str, Any] = {
    "models": [{"name": "m", "hub": "some/m-1b", "revision": COMMIT}],
    "positive": [1000, 2000],
    "negative": [1000],
    "generation": {"prompts": 100, "max_tokens": 50},
    "probes": {"code_length": {"texts": 10}},
    "training": {"global_batch": 10, "precision": "bf16"},
}


def on(cluster: str, **changes: Any) -> SweepAllocation:
    return allocate(plan_of(spec_of(**(SPEC | changes))), INFO, parse_cluster(cluster))


def wall(cluster: str = "1x8xA100", **changes: Any) -> WallClock:
    return on(cluster, **changes).wall_clock


@pytest.mark.parametrize("cluster", ["1x8xA100", "1x8cpu"])
def test_every_part_that_takes_time_has_a_term(cluster: str) -> None:
    assert set(wall(cluster).parts) - {"save points"} == {
        "make starts", "start trainers", "load models", "train", "save snapshots",
        "start engines", "swap weights", "generate", "code lengths",
        "train scorers", "start scorers", "score",
    }  # fmt: skip
    lessons = {"lessons": {"pairs": [[1, 2]], "queries": 10}, "probes": {}}
    changes = {"resources": {"engines": {"engine": "transformers"}}, **lessons}
    assert "distances" in wall(cluster, **changes).parts


def test_a_ladders_seconds_are_the_sum_of_its_parts() -> None:
    found = on("1x8xA100")
    parts = found.wall_clock.parts
    training = ("load models", "train", "save snapshots")
    assert sum(parts[part] for part in training) == pytest.approx(
        sum(found.ladder_seconds.values())
    )


def test_settings_cost_where_they_work() -> None:
    plain = wall().parts
    checkpointing = wall(training={**SPEC["training"], "checkpointing": True}).parts
    assert checkpointing["train"] > 1.1 * plain["train"]
    offloading = {**SPEC["training"], "offload": "optimizer", "zero_stage": 2}
    assert wall(training=offloading).parts["train"] > 1.5 * plain["train"]
    short = wall(training={**SPEC["training"], "max_length": 20}).parts
    assert short["train"] < 0.8 * plain["train"], "examples of 40 tokens are cut"
    lora = wall(training={**SPEC["training"], "lora": {}}).parts
    assert lora["save snapshots"] < 0.5 * plain["save snapshots"]
    fp32 = wall(training={"global_batch": 10}).parts
    assert fp32["swap weights"] > 1.5 * plain["swap weights"]


def test_the_lines_of_work_run_side_by_side_or_in_turns() -> None:
    beside, turns = wall(), wall("1x1xA100-40G")
    assert not beside.turns and turns.turns
    evaluation = max(beside.answers, beside.scores)
    longest = max(beside.training + beside.last, evaluation)
    assert beside.total == pytest.approx(beside.start + longest)
    evaluation = max(turns.answers, turns.scores)
    assert turns.total == pytest.approx(turns.start + turns.training + evaluation)


def test_cores_are_shared() -> None:
    few, many = wall("1x2cpu"), wall("1x64cpu")
    assert few.cpus > 20 * many.cpus and few.total >= few.start + few.cpus
    assert wall().cpus == 0, "GPUs are not shared as cores are"


def test_what_is_idle_adds_up() -> None:
    found = wall()
    assert set(found.idle) == {"trainers", "engines", "scorers"}
    for part, share in found.idle.items():
        assert 0 <= share <= 1
        assert (1 - share) * found.total == pytest.approx(found.busy[part])
