"""Restores a plan's progress from the recorded results; a sweep stores no other progress."""

from __future__ import annotations

from pathlib import Path

from ..checkpoints.reference import CheckpointReference
from ..plan import ANSWERS, CODE_LENGTH, QUERIES, Plan
from ..results.store import Results
from .outstanding import Outstanding, RecordedState, outstanding
from .tracker import ProgressTracker


def follow_moved_folders(plan: Plan, results: Results) -> list[str]:
    """Record the present paths of models whose folder has moved; return a line for each.

    A start state's id is the hash of its folder's content, so a folder of another path with the
    same id holds the same model. A recorded path that still exists stays.
    """
    lines = []
    for state, start in plan.starts.items():
        row = results.state(state) if start.path is not None else None
        if row is None or row["status"] != "done" or row["checkpoint"] is None:
            continue
        recorded = CheckpointReference.parse(row["checkpoint"]).folder
        if start.path and recorded not in (None, start.path) and not Path(recorded).is_dir():
            results.restore_checkpoint(state, start.path, row["checksum"])
            lines.append(f"{recorded} is gone; its content is read from {start.path} now")
    return lines


def restore_progress(plan: Plan, results: Results) -> tuple[ProgressTracker, Outstanding]:
    """Return a tracker of the recorded progress, and the work that is left.

    Raises `ResultsError` if the results cannot be read.
    """
    recorded = {
        state: RecordedState(row["status"] == "done", row["error"], row["checkpoint"] is not None)
        for state, row in results.states(("status", "error", "checkpoint")).items()
        if state in plan.states
    }
    answers, scores = results.recorded("responses"), results.recorded("scores")
    lengths, distances = results.recorded("code_lengths"), results.recorded("distances")
    answered, closed = set(), set()
    for request, probe in plan.requests().items():
        state = request.state_id
        if request.kind == ANSWERS:
            if (state, probe.probe_id) in answers:
                answered.add(request)
            scored = (state, probe.probe_id, probe.scorer) in scores
            if scored or (request in answered and not probe.scorer):
                closed.add(request)
        elif request.kind == CODE_LENGTH:
            if all((state, corpus) in lengths for corpus in probe.corpora.values()):
                closed.add(request)
        elif request.kind == QUERIES:
            if (state, probe.queries) in answers:
                closed.add(request)
        elif (state, request.reference, probe.distances) in distances:
            closed.add(request)
    unanswered = plan.requests().keys() - answered - closed
    needed = {state for request in unanswered for state in request.states}
    remaining = outstanding(plan, recorded, needed)
    done = {s for s, row in recorded.items() if row.done and s not in remaining.remade}
    tracker = ProgressTracker(plan, done, answered, closed)
    tracker.failed.update(remaining.failed)
    return tracker, remaining
