"""Restores the progress of a plan from the recorded results."""

from __future__ import annotations

from ..plan import ANSWERS, CODE_LENGTH, QUERIES, Plan
from ..results.store import Results
from .outstanding import Outstanding, Recorded, outstanding
from .tracker import ProgressTracker


def board_of(plan: Plan, results: Results) -> tuple[ProgressTracker, Outstanding]:
    """The board of what is recorded, and what is left to do."""
    recorded = {
        state: Recorded(row["status"] == "done", row["error"], row["checkpoint"] is not None)
        for state, row in results.states(("status", "error", "checkpoint")).items()
        if state in plan.states
    }
    answers, scores = results.recorded("responses"), results.recorded("scores")
    lengths, distances = results.recorded("code_lengths"), results.recorded("distances")
    answered, closed = set(), set()
    for asked, probe in plan.requests().items():
        state = asked.state_id
        if asked.kind == ANSWERS:
            if (state, probe.probe_id) in answers:
                answered.add(asked)
            judged = (state, probe.probe_id, probe.scorer) in scores
            if judged or (asked in answered and not probe.scorer):
                closed.add(asked)
        elif asked.kind == CODE_LENGTH:
            if all((state, corpus) in lengths for corpus in probe.corpora.values()):
                closed.add(asked)
        elif asked.kind == QUERIES:
            if (state, probe.queries) in answers:
                closed.add(asked)
        elif (state, asked.reference, probe.distances) in distances:
            closed.add(asked)
    still = plan.requests().keys() - answered - closed
    unasked = {state for asked in still for state in asked.states}
    left = outstanding(plan, recorded, unasked)
    done = {s for s, row in recorded.items() if row.done and s not in left.remade}
    tracker = ProgressTracker(plan, done, answered, closed)
    tracker.failed.update(left.failed)
    return tracker, left
