"""What runs side by side on a cluster: trainers, engines, scorers (pure arithmetic).

`lay_out` divides the cluster's CPUs and GPUs so that every trainer slot, every engine and scorer
it promises can be placed *at the same time*: nothing that holds a resource ever waits for one
that another holds, so a sweep can neither deadlock nor starve, on 2 CPUs included. Amounts are
Ray's logical resources; on a small machine engines get a fraction of a CPU each and share cores.
"""

from __future__ import annotations

from dataclasses import dataclass

from .spec import Resources, Runtime, Serving, SpecError

DRIVER_CPUS = 0.01
"""Of a Tune trial's own process, which only waits for its worker group."""
PREPARE_CPUS = 0.1
"""Of the short tasks that make start states and scorers; they pass before engines are busy."""
SMALL_ENGINE_CPUS = 0.25
TRAINERS_PER_ENGINE = 4
"""Beyond this another replica helps more than another trainer: answers would pile up."""


@dataclass(frozen=True)
class Layout:
    """The division of a cluster.

    `trainers` worker groups at a time; `open_engines` engine groups at a time, of `replicas` each;
    every replica takes `engine_cpus` and `engine_gpus`, every scorer `scorer_cpus`, `scorer_gpus`.
    """

    trainers: int
    workers: int
    cpus_per_worker: float
    gpus_per_worker: float
    open_engines: int
    replicas: int
    engine_cpus: float
    engine_gpus: float
    scorer_replicas: int
    scorer_cpus: float
    scorer_gpus: float

    def used(self, scorers: int) -> tuple[float, float]:
        """(CPUs, GPUs) taken when everything runs, with that many scorers open."""
        training = self.trainers * self.workers
        engines = self.open_engines * self.replicas
        judges = scorers * self.scorer_replicas
        return (
            training * self.cpus_per_worker
            + self.trainers * DRIVER_CPUS
            + PREPARE_CPUS
            + engines * self.engine_cpus
            + judges * self.scorer_cpus,
            training * self.gpus_per_worker
            + engines * self.engine_gpus
            + judges * self.scorer_gpus,
        )


def lay_out(
    cpus: float, gpus: float, runtime: Runtime, resources: Resources, groups: int, scorers: int
) -> Layout:
    """Divide `cpus` and `gpus` among trainers, `groups` kinds of engines, and `scorers`.

    Raises `SpecError` naming the field where even one of each, or what the spec asks for, has no
    room.
    """
    engines, judges = resources.engines, resources.scorers
    groups, scorers = max(groups, 1), max(scorers, 1)
    on_gpu = gpus > 0
    worker_gpus = runtime.gpus_per_worker
    if worker_gpus is None:
        worker_gpus = 1.0 if on_gpu else 0.0
    engine_gpus = engines.gpus
    if engine_gpus is None:
        engine_gpus = float(engines.tensor_parallel) if on_gpu else 0.0
    if engines.tensor_parallel > 1 and engine_gpus != engines.tensor_parallel:
        raise SpecError(
            f"resources.engines.gpus: found {engine_gpus:g}; tensor_parallel "
            f"{engines.tensor_parallel} needs that many whole GPUs"
        )
    scorer_gpus = judges.gpus or 0.0
    small = cpus <= 8
    engine_cpus = _cpus(engines, small)
    scorer_cpus = _cpus(judges, small)
    trainer = (
        runtime.workers * runtime.cpus_per_worker + DRIVER_CPUS,
        runtime.workers * worker_gpus,
    )
    replicas, scorer_replicas = engines.replicas or 1, judges.replicas or 1
    one = (engine_cpus, engine_gpus)
    fixed = (
        PREPARE_CPUS + scorers * scorer_replicas * scorer_cpus,
        scorers * scorer_replicas * scorer_gpus,
    )
    least = [fixed[i] + trainer[i] + replicas * one[i] for i in (0, 1)]
    if least[0] > cpus + 1e-9 or least[1] > gpus + 1e-9:
        raise SpecError(
            f"resources: one trainer, {replicas} engine(s) and {scorers} scorer(s) need "
            f"{least[0]:.2f} CPUs and {least[1]:g} GPUs; the cluster has {cpus:g} and {gpus:g} "
            "(see training.workers, cpus_per_worker, gpus_per_worker, resources.engines)"
        )

    def fits(trainers: int, opened: int, replicas: int) -> bool:
        need = [fixed[i] + trainers * trainer[i] + opened * replicas * one[i] for i in (0, 1)]
        return need[0] <= cpus + 1e-9 and need[1] <= gpus + 1e-9

    # What is asked for goes first.
    trainers, opened = resources.trainers or 1, 1
    if not fits(trainers, opened, replicas):
        room = max(n for n in range(1, trainers) if fits(n, opened, replicas))
        raise SpecError(
            f"resources.trainers: found {trainers}; beside {replicas} engine(s) and {scorers} "
            f"scorer(s) the cluster has room for {room}"
        )
    # The rest grows in turns while there is room, so both sides of the pipeline get their share.
    growing = True
    while growing:
        growing = False
        if opened < groups and fits(trainers, opened + 1, replicas):
            opened, growing = opened + 1, True
        crowded = trainers >= TRAINERS_PER_ENGINE * opened * replicas
        if engines.replicas is None and crowded and fits(trainers, opened, replicas + 1):
            replicas, growing = replicas + 1, True
        if resources.trainers is None and fits(trainers + 1, opened, replicas):
            trainers, growing = trainers + 1, True
    return Layout(
        trainers,
        runtime.workers,
        runtime.cpus_per_worker,
        worker_gpus,
        opened,
        replicas,
        engine_cpus,
        engine_gpus,
        scorer_replicas,
        scorer_cpus,
        scorer_gpus,
    )


def _cpus(part: Serving, small: bool) -> float:
    return part.cpus if part.cpus is not None else SMALL_ENGINE_CPUS if small else 1.0
