"""Estimates how long a sweep takes on a layout, and where the time goes. Pure.

Training, answering and scoring are three lines of work that run side by side, each from the start
of its processes on. What is trained last is evaluated last. Where nodes have no GPU the three share
the cores, so the sweep takes at least the sum of their CPU time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..plan import (
    ANSWERS,
    CODE_LENGTH,
    DISTANCES,
    STARTUP_SECONDS,
    Ladder,
    Plan,
    TaskInfo,
    bundle,
)
from ..spec import Runtime
from .costs import ON_CPUS, ON_GPUS, Costs
from .flops import LadderSeconds, rate
from .layout import Layout
from .workload import (
    SWAPS,
    WIDTH,
    answering_seconds,
    ladder_seconds,
    scoring_seconds,
    slowest_gpu,
    trained_scorers,
)

CPU_SHARE = 0.6
"""CPU seconds per second of work other than training, which also waits; measured with two engines
and a scorer on two cores."""
LONGEST_TRAINING = 900.0
"""Seconds after which training yields to states that wait, where it takes turns with evaluation.
Every state's checkpoint is kept until it is evaluated, so this limits the disk space that waiting
states need."""

TRAINING = ("start trainers", "load models", "train", "save snapshots", "save points")
"""Parts that trainers do."""
ANSWERING = ("start engines", "swap weights", "generate", "code lengths", "distances")
"""Parts that engines do."""
SCORING = ("start scorers", "score")
"""Parts that scorers do."""


@dataclass(frozen=True)
class WallClock:
    """Estimated wall-clock seconds of a sweep, and where they go.

    `training`, `answers` and `scores` are the lines of work, with the start of their processes.
    They run concurrently, but for layouts in which training and evaluation take `turns`.
    """

    start: float
    """Start and end of Ray, and a start state."""
    training: float
    answers: float
    scores: float
    last: float
    """Evaluation of the state that is trained last."""
    cpus: float
    """CPU time of the whole sweep over the number of cores; 0 where nodes have GPUs."""
    parts: Mapping[str, float]
    """Seconds by kind of work, summed over trainers and replicas, under the names that a sweep
    prints at its end."""
    busy: Mapping[str, float]
    """Mean seconds of work per trainer, engine and scorer, start-up left out."""
    turns: bool = False

    @property
    def total(self) -> float:
        """Seconds that the sweep takes."""
        evaluation = max(self.answers, self.scores)
        if self.turns:
            return self.start + self.training + evaluation
        return self.start + max(self.training + self.last, evaluation, self.cpus)

    @property
    def idle(self) -> dict[str, float]:
        """The share of the time in which trainers, engines and scorers do not work."""
        return {part: max(0.0, 1 - took / self.total) for part, took in self.busy.items()}


def seconds_of_ladders(
    plan: Plan, tasks: Mapping[str, TaskInfo], layout: Layout, runtimes: Mapping[str, Runtime]
) -> dict[str, LadderSeconds]:
    """Return the seconds of each ladder on a trainer of the layout, by ladder id."""
    needs = layout.needs
    trainer = rate(needs.workers, needs.worker.cpus, needs.worker.gpus, slowest_gpu(layout))
    return {
        ladder.id: ladder_seconds(plan, ladder, tasks, trainer, runtimes[ladder.id], needs.workers)
        for ladder in plan.ladders
    }


def estimate_wall_clock(
    plan: Plan,
    tasks: Mapping[str, TaskInfo],
    layout: Layout,
    ladders: Mapping[str, LadderSeconds],
) -> WallClock:
    """Return how long the whole plan takes on the layout if nothing is recorded yet.

    `ladders` holds the seconds of each ladder, by its id.
    """
    on_gpus = layout.needs.uses_gpus
    costs = ON_GPUS if on_gpus else ON_CPUS
    totals = {key: each.total for key, each in ladders.items()}
    trials = bundle(plan.ladders, lambda ladder: totals[ladder.id], layout.trainers)
    work = sum(totals.values()) / layout.trainers
    rounds = math.ceil(work / LONGEST_TRAINING) if layout.turns else 1
    starts = layout.trainers * rounds * costs.trainer
    parts = {
        "make starts": len(plan.starts) * costs.start_state,
        "start trainers": starts + len(trials) * STARTUP_SECONDS,
        "load models": sum(each.loading for each in ladders.values()),
        "train": sum(each.steps for each in ladders.values()),
        "save snapshots": sum(each.snapshots for each in ladders.values()),
        "save points": sum(each.points for each in ladders.values()),
    }
    spread = sum(parts[part] for part in TRAINING) / layout.trainers
    training = max(spread, costs.trainer + _longest_chain(plan, totals))
    answering, answers = _answering(plan, tasks, layout, costs, rounds)
    scoring, scores = _scoring(plan, layout, costs, rounds)
    parts |= answering | scoring
    replicas = max(1, layout.open_groups * layout.replicas)
    scorers = max(1, sum(map(len, layout.scorer_places.values())))
    busy = {
        "trainers": work,
        "engines": (sum(answering.values()) - answering["start engines"]) / replicas,
        "scorers": scoring["score"] / scorers,
    }
    evaluating = busy["engines"] * replicas + scoring["score"]
    cpu_seconds = layout.needs.worker.cpus * layout.needs.workers * sum(totals.values())
    cpu_seconds += CPU_SHARE * (sum(parts.values()) - sum(totals.values()))
    return WallClock(
        start=costs.run + costs.start_state,
        training=training,
        answers=answers,
        scores=scores,
        last=evaluating / max(1, len(plan.states)),
        cpus=0.0 if on_gpus else cpu_seconds / sum(node.cpus for node in layout.nodes),
        parts={part: took for part, took in parts.items() if took},
        busy=busy,
        turns=layout.turns,
    )


def _answering(
    plan: Plan, tasks: Mapping[str, TaskInfo], layout: Layout, costs: Costs, rounds: int
) -> tuple[dict[str, float], float]:
    """Return the seconds of engines by part, and those of the line of work.

    Engines start `rounds` times.
    """
    device = slowest_gpu(layout)
    # Without open requests, a layout has one slot for an engine of no group.
    needs = {name: need for name, need in layout.needs.engines.items() if name in plan.groups}
    rates = {name: rate(1, max(1.0, need.cpus), need.gpus, device) for name, need in needs.items()}
    work = answering_seconds(plan, tasks, rates)
    starting = {}
    for name in needs:
        group = plan.groups[name]
        weights = (group.parameters or 0) * WIDTH[group.dtype]
        starting[name] = rounds * (costs.engine + weights / costs.loading)
    parts = {
        "start engines": sum(starting.values()),
        "swap weights": sum(each[SWAPS] for each in work.values()),
        "generate": sum(each[ANSWERS] for each in work.values()),
        "code lengths": sum(each[CODE_LENGTH] for each in work.values()),
        "distances": sum(each[DISTANCES] for each in work.values()),
    }
    slots = [
        slot for slot in layout.engine_slots if slot.replicas and needs.keys() >= set(slot.groups)
    ]
    if all(len(slot.groups) == 1 for slot in slots):
        replicas = {slot.groups[0]: len(slot.replicas) for slot in slots}
        lines = [starting[name] + sum(work[name].values()) / replicas[name] for name in replicas]
        return parts, max(lines, default=0.0)
    # Groups share the slots: each starts where one is free.
    count = sum(len(slot.replicas) for slot in slots)
    together = sum(sum(each.values()) for each in work.values())
    return parts, sum(starting.values()) / max(1, len(slots)) + together / max(1, count)


def _scoring(
    plan: Plan, layout: Layout, costs: Costs, rounds: int
) -> tuple[dict[str, float], float]:
    """Return the seconds of scorers by part, and those of the line of work."""
    need = layout.needs.scorer
    backend = rate(1, max(1.0, need.cpus), need.gpus, slowest_gpu(layout))
    scored, trained = scoring_seconds(plan, backend), trained_scorers(plan)
    starting = rounds * costs.scorer
    parts = {
        "train scorers": len(trained) * costs.scorer_training,
        "start scorers": len(scored) * starting,
        "score": sum(scored.values()),
    }
    lines = [
        starting
        + took / max(1, layout.scorer_replicas)
        + (costs.scorer_training if name in trained else 0.0)
        for name, took in scored.items()
    ]
    return parts, max(lines, default=0.0)


def _longest_chain(plan: Plan, seconds: Mapping[str, float]) -> float:
    """Return the seconds of the longest chain of ladders that depend on each other."""
    by_parent: dict[str, list[Ladder]] = {}
    for ladder in plan.ladders:
        by_parent.setdefault(ladder.parent_id, []).append(ladder)
    recorded_at = dict.fromkeys(plan.starts, 0.0)
    longest = 0.0
    for state in plan.states:  # parents before children
        for ladder in by_parent.get(state, ()):
            took = seconds[ladder.id]
            for rung in ladder.rungs:
                at = recorded_at[state] + took * rung.examples / ladder.examples
                recorded_at[rung.state_id] = at
                longest = max(longest, at)
    return longest
