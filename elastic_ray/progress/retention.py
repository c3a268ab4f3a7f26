"""Retention policy: which checkpoints a sweep keeps, and which it may delete now (pure).

The sweep's `keep` says which checkpoints stay for good (`plan.keeps_checkpoint`). Any other may go
once nothing needs it: no state is still to be trained from it, no evaluation request to be run on
it, no adapter laid over it, and its own ladder no longer runs. A failed child state or a failed
request keeps it too, because the next run of the sweep tries again.
"""

from __future__ import annotations

from collections import defaultdict

from ..plan import EvaluationRequest, Plan, keeps_checkpoint
from .tracker import ProgressTracker


class RetentionPolicy:
    """Decides for each state of a plan whether its checkpoint may be deleted now."""

    def __init__(self, plan: Plan, tracker: ProgressTracker) -> None:
        self._plan, self._tracker = plan, tracker
        self._ladder_of = {rung.state_id: lad for lad in plan.ladders for rung in lad.rungs}
        self._requests: dict[str, list[EvaluationRequest]] = defaultdict(list)
        """State -> requests that need its weights."""
        for request in plan.requests():
            for state in request.states:
                self._requests[state].append(request)
        self._adapters: dict[str, list[str]] = defaultdict(list)
        """State with full weights -> the LoRA states that are applied to them."""
        for state in plan.states:
            full = plan.full_ancestor(state)
            if full != state:
                self._adapters[full].append(state)

    def may_delete(self, state: str) -> bool:
        """Return whether nothing needs the checkpoint of a state any more."""
        node, tracker = self._plan.states[state], self._tracker
        kind = node.stage.kind if node.stage else "start"
        if state not in tracker.done or keeps_checkpoint(self._plan.spec.keep, kind):
            return False
        users = [state, *self._adapters.get(state, ())]
        related = [
            rung.state_id
            for user in users
            for ladder in tracker.children[user]
            for rung in ladder.rungs
        ]
        if state in self._ladder_of:
            related += [rung.state_id for rung in self._ladder_of[state].rungs]
        return all(each in tracker.done for each in (*related, *users)) and all(
            request in tracker.closed for user in users for request in self._requests.get(user, ())
        )

    def deletable_after(self, state: str) -> list[str]:
        """Return the states whose checkpoint may go now that something happened to `state`.

        Checked are the state, those of its ladder, and those that the ladder was made from.
        """
        checked = {state: None}  # a dict, so that the order is the same in every process
        if state in self._ladder_of:
            ladder = self._ladder_of[state]
            checked.update(dict.fromkeys(rung.state_id for rung in ladder.rungs))
            for parent in ladder.made_from:
                checked[parent] = None
                checked[self._plan.full_ancestor(parent)] = None
        return [each for each in checked if self.may_delete(each)]
