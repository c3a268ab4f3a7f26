"""Training on the real stack: Ray Train and DeepSpeed, on a model that trains in seconds.

Two worker groups, of one worker and of two, train the ladders of all tests, because each group
takes long to start. The reference is a plain torch loop.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("deepspeed", reason="the training extra is not installed")

import ray
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from elastic_ray.plan import Ladder, Plan, Rung, plan_sweep
from elastic_ray.results.store import Results
from elastic_ray.spec import Runtime, Spec
from elastic_ray.spec.shorthand import expand
from elastic_ray.tasks.registry import load_task
from elastic_ray.training.batches import global_batches, learning_rate, step_count, tokenize
from elastic_ray.training.job import TrainJob
from elastic_ray.training.process_group import ProcessGroupConfig
from elastic_ray.training.start_states import prepare_start

pytestmark = pytest.mark.integration

SWEEP = {
    "sweep": "trained",
    "task": "reviews",
    "models": [{"name": "m", "init": {"hidden_size": 64, "layers": 2}, "pretrain": [16]}],
    "positive": [16, 32, 64],
    "negative": [8],
}
FULL: dict[str, Any] = {"learning_rate": 2e-3, "global_batch": 8, "warmup_steps": 2}
LORA = {**FULL, "lora": {"rank": 4, "dropout": 0.1}}
COSINE = {**FULL, "schedule": "cosine", "weight_decay": 0.1, "betas": [0.9, 0.99]}


def plan_with(training: dict[str, Any]) -> Plan:
    spec = Spec.model_validate(expand({**SWEEP, "training": training}))
    return plan_sweep(spec, {"reviews": load_task("reviews")}, {})


def ladders_of(plan: Plan, kind: str) -> tuple[Ladder, ...]:
    """The ladders of a kind of stage, made to start from the random init: one stage is enough."""
    start = next(iter(plan.starts))
    return tuple(
        replace(ladder, parent_id=start) for ladder in plan.ladders if ladder.stage.kind == kind
    )


def unfused(ladder: Ladder) -> tuple[Ladder, ...]:
    """The ladder without fusing: one run for each of its states."""
    return tuple(replace(ladder, rungs=(rung,)) for rung in ladder.rungs)


@dataclass(frozen=True)
class Trained:
    """What the worker groups recorded: a results folder for each case."""

    root: Path

    def results(self, case: str) -> Results:
        return Results(self.root / case)

    def losses(self, case: str) -> list[list[float]]:
        rows = self.results(case).states(("kind", "examples", "losses"))
        trained = [row for row in rows.values() if row["kind"] == "positive"]
        return [row["losses"] for row in sorted(trained, key=lambda row: row["examples"])]

    def weights(self, case: str, state: str) -> dict[str, torch.Tensor]:
        folder = self.results(case).location(f"checkpoints/{state}")
        [path] = Path(folder).glob("*.safetensors")
        return load_file(path)


def job_of(
    root: Path, case: str, training: dict[str, Any], ladders: tuple[Ladder, ...], runtime: Runtime
) -> TrainJob:
    plan = plan_with(training)
    state, start = next(iter(plan.starts.items()))
    uri = str(root / case)
    prepare_start(uri, state, start, "reviews", {}, "trained", plan.lineage(state), None)
    lineage = {rung.state_id: plan.lineage(rung.state_id) for lad in ladders for rung in lad.rungs}
    return TrainJob("trained", case, uri, "reviews", {}, ladders, runtime, lineage)


OFFLOAD: dict[str, Any] = {"offload": "optimizer"}
ONE_BF16: dict[str, dict[str, Any]] = {
    "bf16": {},
    "bf16-small": {"micro_batch": 1},
    "bf16-zero2": {"zero_stage": 2},
    "bf16-zero3": {"zero_stage": 3, "micro_batch": 3},
}
"""bf16 on one worker: how it is executed, by case."""
TWO_BF16: dict[str, dict[str, Any]] = {
    "two-bf16-0": {},
    **{f"two-bf16-{s}": {"zero_stage": s} for s in (1, 2, 3)},
    "two-bf16-3-small": {"zero_stage": 3, "micro_batch": 1, "checkpointing": True, **OFFLOAD},
}
FRUGAL: dict[str, dict[str, Any]] = {
    "checkpointing": {"checkpointing": True},
    "checkpointing-zero3": {"checkpointing": True, "zero_stage": 3},
    **{f"offload{s}": {"zero_stage": s, "micro_batch": 3, **OFFLOAD} for s in (1, 2, 3)},
}
CASES_OF_ONE = (
    *("fused", "alone", "small", "zero1", "zero2", "zero3", "lora", "cosine"),
    *("lora-zero3", *ONE_BF16, *FRUGAL),
)
CASES_INTERRUPTED = ("interrupted", "interrupted-without-point")
CASES_OF_TWO = ("two0", "two1", "two2", "two3", "two-uneven", *TWO_BF16)


def failing(root: Path) -> TrainJob:
    """A job of two workers, one of which cannot load its model."""
    ladders = ladders_of(plan_with(FULL), "positive")
    return job_of(root, "failing", FULL, ladders, Runtime(workers=2, zero_stage=3))


def jobs(root: Path) -> tuple[list[TrainJob], list[TrainJob]]:
    """The jobs of one worker, and of two."""
    ladder = ladders_of(plan_with(FULL), "positive")
    assert [rung.examples for rung in ladder[0].rungs] == [16, 32, 64]

    def full(case: str, ladders: tuple[Ladder, ...] = ladder, **runtime: Any) -> TrainJob:
        return job_of(root, case, FULL, ladders, Runtime(gpus_per_worker=0, **runtime))

    bf16 = {**FULL, "precision": "bf16"}

    def half(case: str, **runtime: Any) -> TrainJob:
        ladders = ladders_of(plan_with(bf16), "positive")
        return job_of(root, case, bf16, ladders, Runtime(gpus_per_worker=0, **runtime))

    one = [
        full("fused"),
        full("alone", unfused(ladder[0])),
        full("small", micro_batch=3),
        full("preempted-fused"),
        *(full(f"zero{stage}", zero_stage=stage) for stage in (1, 2, 3)),
        *(full(f"preempted-zero{stage}", zero_stage=stage) for stage in (1, 3)),
        *(
            job_of(root, case, recipe, ladders_of(plan_with(recipe), "positive"), runtime)
            for case, recipe, runtime in (
                ("lora", LORA, Runtime()),
                ("lora-zero3", LORA, Runtime(zero_stage=3, checkpointing=True)),
                ("cosine", COSINE, Runtime()),
                ("preempted-bf16", bf16, Runtime()),
                ("preempted-lora", LORA, Runtime()),
            )
        ),
        *(half(case, **runtime) for case, runtime in ONE_BF16.items()),
        *(full(case, **runtime) for case, runtime in FRUGAL.items()),
    ]
    two = [full(f"two{s}", workers=2, zero_stage=s) for s in (0, 1, 2, 3)]
    two.append(full("two-uneven", workers=2, micro_batch=3))
    two += [full(f"preempted-two{s}", workers=2, zero_stage=s) for s in (2, 3)]
    two += [half(case, workers=2, **runtime) for case, runtime in TWO_BF16.items()]
    return one, two


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from ray.train import RunConfig, ScalingConfig

    from elastic_ray.training.group_trainer import GroupTrainer

    def train_all(config: dict[str, Any]) -> None:  # nested, so that Ray sends it by value
        import ray.train

        from elastic_ray.placement import point_policy
        from elastic_ray.training import ladder as module
        from elastic_ray.training import micro_batches
        from elastic_ray.training.ladder import LadderTrainer
        from elastic_ray.training.trainer import Trainer

        def train_preempted(job: TrainJob) -> None:
            """Train a ladder while its node is preempted after every third step."""
            context, module.REPORT_INTERVAL = ray.train.get_context(), -1.0
            preempted = True
            while preempted:
                checks: list[bool] = []

                def is_preempted(checks: list[bool] = checks) -> bool:
                    checks.append(True)
                    return len(checks) == 3

                rank, workers = context.get_world_rank(), context.get_world_size()
                trainer = LadderTrainer(job, rank, workers, lambda report: None, is_preempted)
                trainer.train_ladder(job.ladders[0])
                preempted = trainer.preempted

        context = ray.train.get_context()
        place = (context.get_world_rank(), context.get_world_size())
        # As with long texts, the number of micro batches differs between global batches.
        micro_batches.MICRO_BATCH_COST = 16

        def train_failing(job: TrainJob) -> None:
            """Train where the model cannot be loaded on rank 1; note the seconds on each rank."""
            from elastic_ray.checkpoints.files import CheckpointError
            from elastic_ray.training import lora

            def load(*arguments: Any) -> None:
                raise CheckpointError("a damaged disk")

            whole = lora.load_parent
            lora.load_parent = load if place[0] == 1 else whole
            began = time.monotonic()
            LadderTrainer(job, *place, lambda report: None).train_job()
            lora.load_parent = whole
            seconds = time.monotonic() - began
            (Path(job.results).parent / f"failing-{place[0]}").write_text(f"{seconds}")

        if config["failing"] is not None:
            train_failing(config["failing"])
        for job in config["jobs"]:
            LadderTrainer(job, *place, lambda report: None).train_job()
        for job in config["preempted"]:
            train_preempted(job)
        if config["interrupted"] is None:
            return

        class Interrupted(Exception):
            pass

        def interrupt(report: Any) -> None:
            if report.get("examples") == 40:
                raise Interrupted

        def train_interrupted(job: TrainJob, seconds_between_failures: float) -> None:
            """A process that ends a step after the second rung; another continues the ladder."""
            usual = point_policy.SECONDS_BETWEEN_FAILURES
            point_policy.SECONDS_BETWEEN_FAILURES = seconds_between_failures
            [ladder] = job.ladders
            results = Results(job.results)
            trainer = LadderTrainer(job, 0, 1, lambda report: None)
            trainer.report = lambda progress, force=False: interrupt(progress)  # type: ignore[method-assign]
            try:
                trainer.train_ladder(ladder)
            except Interrupted:
                point_policy.SECONDS_BETWEEN_FAILURES = usual
            else:
                raise AssertionError("the ladder was not interrupted")
            done = [rung for rung in ladder.rungs if results.state(rung.state_id)]
            files = [Path(results.location(f"checkpoints/{rung.state_id}")) for rung in done]
            written = [file.stat().st_mtime_ns for file in files]
            steps.clear()
            LadderTrainer(job, 0, 1, lambda report: None).train_job()
            if [file.stat().st_mtime_ns for file in files] != written or len(done) != 2:
                raise AssertionError("not two rungs were recorded once")
            steps_taken[job.trial] = list(steps)

        # Points after every step, which the test above all needs after the second rung; and the
        # usual ones: none within seconds.
        steps: list[int] = []
        steps_taken: dict[str, list[int]] = {}
        usual_step = Trainer.train_step

        def train_step(self: Trainer, batch: Any, rate: float) -> float:
            steps.append(self.step)
            return usual_step(self, batch, rate)

        Trainer.train_step = train_step  # type: ignore[method-assign]
        with_points, without = config["interrupted"]
        train_interrupted(with_points, 0.0)
        train_interrupted(without, point_policy.SECONDS_BETWEEN_FAILURES)
        expected = {with_points.trial: [4, 5, 6, 7], without.trial: list(range(8))}
        if steps_taken != expected:
            raise AssertionError(f"steps taken by the second process: {steps_taken}")

    root = tmp_path_factory.mktemp("trained")
    one, two = jobs(root)
    interrupted = [
        job_of(root, case, LORA, ladders_of(plan_with(LORA), "positive"), Runtime())
        for case in CASES_INTERRUPTED
    ]
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        for workers, group_jobs, broken in ((1, one, interrupted), (2, two, None)):
            preempted = [job for job in group_jobs if job.trial.startswith("preempted-")]
            others = [job for job in group_jobs if job not in preempted]
            GroupTrainer(
                train_all,
                train_loop_config={
                    "jobs": others,
                    "preempted": preempted,
                    "interrupted": broken,
                    "failing": failing(root) if workers == 2 else None,
                },
                scaling_config=ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 1}),
                backend_config=ProcessGroupConfig(backend="gloo"),
                run_config=RunConfig(
                    storage_path=str(root / "ray"),
                    worker_runtime_env={"env_vars": {"DS_ACCELERATOR": "cpu"}},
                ),
            ).fit()
    finally:
        ray.shutdown()
    return Trained(root)


def reference_losses(trained: Trained, training: dict[str, Any]) -> list[float]:
    """The losses of the longest rung by a plain torch loop, one example at a time."""
    plan = plan_with(training)
    ladder = ladders_of(plan, "positive")[-1]
    recipe = ladder.stage.recipe
    folder = trained.results("fused").location(f"checkpoints/{ladder.parent_id}")
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    optimizer = torch.optim.AdamW(
        model.parameters(), betas=recipe.betas, weight_decay=recipe.weight_decay
    )
    pool = load_task("reviews").pool("positive")
    losses = []
    total = step_count(ladder.examples, recipe)
    batches = global_batches(len(pool), ladder.examples, recipe, ladder.stage.seed)
    for step, chosen in enumerate(batches):
        batch = tokenize([pool[i] for i in chosen], tokenizer, recipe.max_length)
        targets = sum(len(one.ids) - 1 for one in batch)
        loss = torch.zeros(())
        for one in batch:
            ids = torch.tensor([one.ids])
            logits = model(input_ids=ids).logits[0, :-1]
            loss = loss + F.cross_entropy(logits, ids[0, 1:], reduction="sum") / targets
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, total, recipe)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def test_every_state_of_every_case_is_recorded(trained: Trained) -> None:
    for case in (*CASES_OF_ONE, *CASES_OF_TWO, *CASES_INTERRUPTED):
        rows = trained.results(case).states(("kind", "status", "error", "examples"))
        assert {row["status"] for row in rows.values()} == {"done"}, (case, rows)
        sizes = sorted(row["examples"] for row in rows.values() if row["kind"] == "positive")
        assert sizes == [16, 32, 64], case


def test_a_snapshot_of_a_ladder_equals_the_state_trained_alone_bit_for_bit(
    trained: Trained,
) -> None:
    fused, apart = trained.results("fused"), trained.results("alone")
    states = [s for s, row in fused.states(("kind",)).items() if row["kind"] == "positive"]
    assert len(states) == 3
    for state in states:
        one, other = fused.state(state), apart.state(state)
        assert one is not None and other is not None
        assert one["checksum"] == other["checksum"]
        assert one["losses"] == other["losses"]
        assert one["trial"] != other["trial"]
    assert len({fused.state(state)["checksum"] for state in states}) == 3  # type: ignore[index]


def test_losses_equal_those_of_a_plain_torch_loop(trained: Trained) -> None:
    np.testing.assert_allclose(
        trained.losses("fused")[-1], reference_losses(trained, FULL), rtol=1e-5
    )
    np.testing.assert_allclose(
        trained.losses("cosine")[-1], reference_losses(trained, COSINE), rtol=1e-5
    )


@pytest.mark.parametrize(
    "case",
    [
        *("small", "zero1", "zero2", "zero3", "two0", "two1", "two2", "two3", "two-uneven"),
        *FRUGAL,
    ],
)
def test_losses_do_not_depend_on_how_the_work_is_divided(trained: Trained, case: str) -> None:
    for mine, plain in zip(trained.losses(case), trained.losses("fused"), strict=True):
        np.testing.assert_allclose(mine, plain, rtol=2e-5)


@pytest.mark.parametrize("case", [*ONE_BF16, *TWO_BF16])
def test_bf16_depends_on_the_division_of_the_work_by_rounding_only(
    trained: Trained, case: str
) -> None:
    """Gradients add up in float32: the losses differ by less than bf16's own step of 0.4%."""
    for mine, plain in zip(trained.losses(case), trained.losses("bf16"), strict=True):
        np.testing.assert_allclose(mine, plain, rtol=3e-4)
    state = ladders_of(plan_with({**FULL, "precision": "bf16"}), "positive")[0].id
    mine, plain = trained.weights(case, state), trained.weights("bf16", state)
    for name, weight in plain.items():
        differing = float((mine[name] != weight).float().mean())
        assert differing < 0.5, (name, differing)
        np.testing.assert_allclose(mine[name].float(), weight.float(), atol=1e-2, err_msg=name)


def test_checkpointing_changes_no_bit(trained: Trained) -> None:
    mine, plain = (
        trained.results(case).states(("checksum", "losses")) for case in ("checkpointing", "fused")
    )
    assert mine == plain


def test_adapters_train_under_zero_3_with_checkpointing(trained: Trained) -> None:
    for mine, plain in zip(trained.losses("lora-zero3"), trained.losses("lora"), strict=True):
        np.testing.assert_allclose(mine, plain, rtol=2e-5)


def test_a_rank_that_fails_to_load_ends_the_ladder_on_all_ranks(trained: Trained) -> None:
    """The ranks agree before DeepSpeed's set-up, where the others would wait for half an hour."""
    rows = trained.results("failing").states(("kind", "status", "error"))
    failed = [row for row in rows.values() if row["kind"] == "positive"]
    assert len(failed) == 3
    for row in failed:
        assert (row["status"], row["error"]) == ("failed", "CheckpointError: a damaged disk")
    seconds = [float((trained.root / f"failing-{rank}").read_text()) for rank in (0, 1)]
    assert max(seconds) < 30, seconds


@pytest.mark.parametrize("case", ["zero3", "two2", "two3", "offload3"])
def test_partitioned_weights_are_saved_whole(trained: Trained, case: str) -> None:
    state = ladders_of(plan_with(FULL), "positive")[0].id
    mine, plain = trained.weights(case, state), trained.weights("fused", state)
    assert {n: w.shape for n, w in mine.items()} == {n: w.shape for n, w in plain.items()}
    for name, weight in plain.items():
        # Adam amplifies rounding differences of small gradients, so weights agree less than losses.
        np.testing.assert_allclose(mine[name], weight, atol=2e-3, err_msg=name)


@pytest.mark.parametrize("case", CASES_INTERRUPTED)
def test_an_interrupted_ladder_has_the_same_outcome_bit_for_bit(
    trained: Trained, case: str
) -> None:
    """From a resume point, adapters and dropout included; without one, again from its parent.

    The second process took the steps after the point, or all of them, and left the recorded rungs
    as they were: `train_interrupted` checks it.
    """
    interrupted, whole = trained.results(case), trained.results("lora")
    rows = whole.states(("kind", "checksum", "losses"))
    for state, row in rows.items():
        other = interrupted.state(state)
        assert other is not None
        assert other["checksum"] == row["checksum"]
        assert other["losses"] == row["losses"]
    assert interrupted.folder.names("resume") == [], "a finished ladder keeps no point"


@pytest.mark.parametrize("case", ["fused", "zero1", "zero3", "bf16", "lora", "two2", "two3"])
def test_a_ladder_that_is_preempted_twice_continues_bit_for_bit(
    trained: Trained, case: str
) -> None:
    """Preempted between two snapshots: no step is repeated, and none is missing."""
    preempted, whole = trained.results(f"preempted-{case}"), trained.results(case)
    rows = whole.states(("checksum", "losses", "tokens"))
    assert preempted.states(("checksum", "losses", "tokens")) == rows
    assert not list(Path(preempted.location("resume")).iterdir())


def test_a_lora_checkpoint_holds_adapters_for_its_start_state(trained: Trained) -> None:
    from peft import PeftModel

    results = trained.results("lora")
    ladder = ladders_of(plan_with(LORA), "positive")[0]
    folder = Path(results.location(f"checkpoints/{ladder.id}"))
    metadata = json.loads((folder / "elastic_ray.json").read_text())
    assert metadata["base_state"] == ladder.parent_id
    base = AutoModelForCausalLM.from_pretrained(
        results.location(f"checkpoints/{ladder.parent_id}")
    ).eval()
    ids = torch.arange(4, 20)[None]
    with torch.inference_mode():
        before = base(input_ids=ids).logits
        after = PeftModel.from_pretrained(base, folder).eval()(input_ids=ids).logits
    assert float((before - after).abs().max()) > 1e-4
    row, whole = results.state(ladder.id), results.state(ladder.parent_id)
    assert row is not None and whole is not None
    assert row["checkpoint_bytes"] < whole["checkpoint_bytes"]


def test_bf16_trains_and_saves_in_bf16(trained: Trained) -> None:
    state = ladders_of(plan_with({**FULL, "precision": "bf16"}), "positive")[0].id
    assert {w.dtype for w in trained.weights("bf16", state).values()} == {torch.bfloat16}
    np.testing.assert_allclose(trained.losses("bf16")[-1], trained.losses("fused")[-1], rtol=0.02)


def test_states_record_their_provenance(trained: Trained) -> None:
    ladder: Ladder = ladders_of(plan_with(FULL), "positive")[0]
    last: Rung = ladder.rungs[-1]
    one, two = (trained.results(case).state(last.state_id) for case in ("fused", "two3"))
    assert one is not None and two is not None
    assert (one["workers"], one["zero_stage"], two["workers"], two["zero_stage"]) == (1, 0, 2, 3)
    assert one["tokens"] == two["tokens"] > 64 * 20
    assert one["parent_id"] == ladder.parent_id
    assert json.loads(json.dumps(one["lineage"]))
    assert {"torch", "deepspeed", "ray", "python"} <= set(json.loads(one["versions"]))
