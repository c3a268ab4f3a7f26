"""Which checkpoints may go: those the sweep's `keep` lets go and nobody still needs (pure).

A checkpoint is needed while something is still to start from it, to be asked of it, or to be laid
over it (an adapter's base); and while its own ladder runs, whose resume point it may be. A state
that failed below, or a question that was lost, keeps it: the next run of the sweep tries again.
"""

from __future__ import annotations

from collections import defaultdict

from ..plan import EvaluationRequest, Plan
from .tracker import ProgressTracker


def spared(keep: str, kind: str) -> bool:
    """Whether a sweep with that `keep` leaves the checkpoint of a state of that kind."""
    return keep == "all" or (keep == "base" and kind in ("start", "pretrain"))


class RetentionPolicy:
    """Answers, state by state, whether its checkpoint may be deleted now."""

    def __init__(self, plan: Plan, tracker: ProgressTracker) -> None:
        self._plan, self._tracker = plan, tracker
        self._own = {rung.state_id: lad for lad in plan.ladders for rung in lad.rungs}
        self._questions: dict[str, list[EvaluationRequest]] = defaultdict(list)
        for question in plan.requests():
            for state in question.states:
                self._questions[state].append(question)
        self._over: dict[str, list[str]] = defaultdict(list)
        for state in plan.states:
            full = plan.full_ancestor(state)
            if full != state:
                self._over[full].append(state)

    def not_needed(self, state: str) -> bool:
        """Whether the checkpoint of a state may go."""
        node, tracker = self._plan.states[state], self._tracker
        kind = node.stage.kind if node.stage else "start"
        if state not in tracker.done or spared(self._plan.spec.keep, kind):
            return False
        users = [state, *self._over.get(state, ())]
        near = [r.state_id for user in users for lad in tracker.children[user] for r in lad.rungs]
        if state in self._own:
            near += [rung.state_id for rung in self._own[state].rungs]
        return all(each in tracker.done for each in (*near, *users)) and all(
            asked in tracker.closed for user in users for asked in self._questions.get(user, ())
        )

    def may_go(self, state: str) -> list[str]:
        """Of a state that something happened to, those it started from and its ladder's: which may
        go."""
        near = {state: None}  # in one order, whatever the process
        if state in self._own:
            ladder = self._own[state]
            near.update(dict.fromkeys(rung.state_id for rung in ladder.rungs))
            for above in ladder.made_from:
                near[above] = None
                near[self._plan.full_ancestor(above)] = None
        return [each for each in near if self.not_needed(each)]
