"""An estimate of how long a sweep takes on a layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..plan import STARTUP_SECONDS, Ladder, Plan, TaskInfo, bundle
from .flops import rate
from .layout import Layout
from .workload import answering_seconds, ladder_seconds, scoring_seconds, slowest_gpu


@dataclass(frozen=True)
class WallClock:
    """Estimated seconds by the clock of each side of the pipeline, which go on side by side."""

    training: float
    answers: float
    scores: float

    @property
    def longest(self) -> float:
        return max(self.training, self.answers, self.scores)


def estimate_wall_clock(plan: Plan, tasks: Mapping[str, TaskInfo], layout: Layout) -> WallClock:
    """How long the whole plan takes on the layout, nothing recorded."""
    device = slowest_gpu(layout)
    needs = layout.needs
    at = rate(needs.workers, needs.worker.cpus, needs.worker.gpus, device)
    seconds = {
        ladder.id: ladder_seconds(plan, ladder, tasks[ladder.task].mean_tokens, at)
        for ladder in plan.ladders
    }
    trials = bundle(plan.ladders, lambda ladder: seconds[ladder.id], layout.trainers)
    spread = sum(trial.seconds + STARTUP_SECONDS for trial in trials) / layout.trainers
    training = max(spread, _longest_chain(plan, seconds))
    engine = next(iter(needs.engines.values()))
    one = rate(1, 1, 1 if engine.gpus else 0, device)
    shares = [share for slot in layout.engine_slots for t in slot.replicas for _, share in t.gpus]
    engines = sum(shares) or layout.open_groups * layout.replicas * max(1.0, engine.cpus)
    backend = rate(1, max(1.0, needs.scorer.cpus), needs.scorer.gpus, device)
    scores = max(scoring_seconds(plan, backend).values(), default=0.0) / max(
        1, layout.scorer_replicas
    )
    return WallClock(training, sum(answering_seconds(plan, tasks, one).values()) / engines, scores)


def _longest_chain(plan: Plan, seconds: Mapping[str, float]) -> float:
    """Seconds of the ladders that wait for each other, however many trainers there are."""
    by_parent: dict[str, list[Ladder]] = {}
    for ladder in plan.ladders:
        by_parent.setdefault(ladder.parent_id, []).append(ladder)
    recorded = dict.fromkeys(plan.starts, 0.0)
    longest = 0.0
    for state in plan.states:  # parents before children
        for ladder in by_parent.get(state, ()):
            took = seconds[ladder.id]
            for rung in ladder.rungs:
                at = recorded[state] + took * rung.examples / ladder.examples
                recorded[rung.state_id] = at
                longest = max(longest, at)
    return longest
