"""The training jobs of a sweep: what its trials hand to their worker groups.

`train_jobs` builds one `TrainJob` per task, with all ladders of the task that are still to train.
A trial selects its own ladders from it (`trial_worker`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ..plan import Ladder, Plan, Trial, settings_of
from ..spec import Runtime
from ..training.job import TrainJob
from ..training.provenance import git_revision


def train_jobs(
    plan: Plan,
    trials: Sequence[Trial],
    ladders: Sequence[Ladder],
    runtime: Runtime,
    runtimes: Mapping[str, Runtime],
    results: str,
    remade: Collection[str],
) -> dict[str, TrainJob]:
    """Return a job for each task that `trials` train, by the task's name.

    `ladders` are those of the plan that are still to train, `runtime` the resources that a worker
    group gets in the layout, `runtimes` how each ladder is executed, by its id, `results` the
    results' URI. `remade` are the states that are recorded but whose checkpoint is to be trained
    again.
    """
    revision = git_revision()
    trusted = frozenset(group.name for group in plan.groups.values() if group.trust_remote_code)
    jobs = {}
    for task in {trial.task for trial in trials}:
        chosen = tuple(ladder for ladder in ladders if ladder.task == task)
        jobs[task] = TrainJob(
            sweep=plan.spec.sweep,
            trial="",
            results=results,
            task=task,
            data=settings_of(plan, task),
            ladders=chosen,
            runtime=runtime,
            runtimes={ladder.id: runtimes[ladder.id] for ladder in chosen},
            lineage={
                rung.state_id: plan.lineage(rung.state_id)
                for ladder in chosen
                for rung in ladder.rungs
            },
            git_revision=revision,
            remade=frozenset(remade),
            trusted=trusted,
        )
    return jobs
