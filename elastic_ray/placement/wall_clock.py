"""Estimates how long a sweep takes on a layout. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..plan import STARTUP_SECONDS, Ladder, Plan, TaskInfo, bundle
from .flops import rate
from .layout import Layout
from .workload import answering_seconds, ladder_seconds, scoring_seconds, slowest_gpu

GROUP_START_SECONDS = 20.0
"""Duration of a worker group's start, once per trainer slot: processes and imports."""


@dataclass(frozen=True)
class WallClock:
    """Estimated wall-clock seconds of training, answers and scores.

    They run concurrently, but for layouts in which training and evaluation take `turns`.
    """

    training: float
    answers: float
    scores: float
    turns: bool = False

    @property
    def total(self) -> float:
        """Seconds that the sweep takes."""
        evaluation = max(self.answers, self.scores)
        return self.training + evaluation if self.turns else max(self.training, evaluation)


def estimate_wall_clock(plan: Plan, tasks: Mapping[str, TaskInfo], layout: Layout) -> WallClock:
    """Return how long the whole plan takes on the layout if nothing is recorded yet."""
    device, needs = slowest_gpu(layout), layout.needs
    trainer = rate(needs.workers, needs.worker.cpus, needs.worker.gpus, device)
    seconds = {
        ladder.id: ladder_seconds(plan, ladder, tasks[ladder.task].mean_tokens, trainer)
        for ladder in plan.ladders
    }
    trials = bundle(plan.ladders, lambda ladder: seconds[ladder.id], layout.trainers)
    spread = sum(trial.seconds + STARTUP_SECONDS for trial in trials) / layout.trainers
    spread += GROUP_START_SECONDS
    training = max(spread, _longest_chain(plan, seconds))
    need = next(iter(needs.engines.values()))
    engine = rate(1, 1, 1 if need.gpus else 0, device)
    shares = [share for slot in layout.engine_slots for r in slot.replicas for _, share in r.gpus]
    engines = sum(shares) or layout.open_groups * layout.replicas * max(1.0, need.cpus)
    answers = sum(answering_seconds(plan, tasks, engine).values()) / engines
    backend = rate(1, max(1.0, needs.scorer.cpus), needs.scorer.gpus, device)
    slowest_scorer = max(scoring_seconds(plan, backend).values(), default=0.0)
    scores = slowest_scorer / max(1, layout.scorer_replicas)
    return WallClock(training, answers, scores, layout.turns)


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
