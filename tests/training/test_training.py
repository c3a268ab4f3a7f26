"""Training on the real stack: Ray Train and DeepSpeed, on a model that trains in seconds.

Two worker groups, of one worker and of two, walk every ladder that the tests ask about: each costs
a start-up, so each starts once. The reference is a plain torch loop.
"""

from __future__ import annotations

import json
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
from elastic_ray.training.batches import learning_rate, order, steps, tokenize
from elastic_ray.training.job import TrainJob
from elastic_ray.training.process_group import ProcessGroupConfig
from elastic_ray.training.start_states import prepare_start

ASKED = {
    "sweep": "trained",
    "task": "reviews",
    "models": [{"name": "m", "init": {"hidden_size": 64, "layers": 2}, "pretrain": [16]}],
    "positive": [16, 32, 64],
    "negative": [8],
}
FULL: dict[str, Any] = {"learning_rate": 2e-3, "global_batch": 8, "warmup_steps": 2}
LORA = {**FULL, "lora": {"rank": 4, "dropout": 0.1}}
COSINE = {**FULL, "schedule": "cosine", "weight_decay": 0.1, "betas": [0.9, 0.99]}


def planned(training: dict[str, Any]) -> Plan:
    spec = Spec.model_validate(expand({**ASKED, "training": training}))
    return plan_sweep(spec, {"reviews": load_task("reviews")}, {})


def ladders_of(plan: Plan, kind: str) -> tuple[Ladder, ...]:
    """The stage's ladders, made to start from the random init: one stage is enough here."""
    start = next(iter(plan.starts))
    return tuple(
        replace(ladder, parent_id=start) for ladder in plan.ladders if ladder.stage.kind == kind
    )


def alone(ladder: Ladder) -> tuple[Ladder, ...]:
    """A ladder as it would be if nothing were fused: one run for each of its states."""
    return tuple(replace(ladder, rungs=(rung,)) for rung in ladder.rungs)


@dataclass(frozen=True)
class Trained:
    """What the worker groups left: a results folder for each case."""

    root: Path

    def results(self, case: str) -> Results:
        return Results(self.root / case)

    def losses(self, case: str) -> list[list[float]]:
        rows = self.results(case).states(("kind", "examples", "losses"))
        trained = [row for row in rows.values() if row["kind"] == "positive"]
        return [row["losses"] for row in sorted(trained, key=lambda row: row["examples"])]

    def weights(self, case: str, state: str) -> dict[str, torch.Tensor]:
        place = self.results(case).location(f"checkpoints/{state}")
        names = [p for p in Path(place).glob("*.safetensors")]
        assert len(names) == 1
        return load_file(names[0])


def job_of(
    root: Path, case: str, training: dict[str, Any], ladders: tuple[Ladder, ...], runtime: Runtime
) -> TrainJob:
    plan = planned(training)
    start, how = next(iter(plan.starts.items()))
    uri = str(root / case)
    prepare_start(uri, start, how, "reviews", {}, "trained", plan.lineage(start), None)
    lineage = {rung.state_id: plan.lineage(rung.state_id) for lad in ladders for rung in lad.rungs}
    return TrainJob("trained", case, uri, "reviews", {}, ladders, runtime, lineage)


CASES_OF_ONE = ("fused", "alone", "small", "zero1", "zero2", "zero3", "bf16", "lora", "cosine")
CASES_OF_TWO = ("two0", "two1", "two2", "two3", "two-uneven")


def jobs(root: Path) -> tuple[list[TrainJob], list[TrainJob]]:
    """The jobs of one worker, and of two."""
    ladder = ladders_of(planned(FULL), "positive")
    assert [rung.examples for rung in ladder[0].rungs] == [16, 32, 64]

    def full(case: str, ladders: tuple[Ladder, ...] = ladder, **runtime: Any) -> TrainJob:
        return job_of(root, case, FULL, ladders, Runtime(gpus_per_worker=0, **runtime))

    bf16 = {**FULL, "precision": "bf16"}
    one = [
        full("fused"),
        full("alone", alone(ladder[0])),
        full("small", micro_batch=3),
        full("left-fused"),
        *(full(f"zero{stage}", zero_stage=stage) for stage in (1, 2, 3)),
        *(full(f"left-zero{stage}", zero_stage=stage) for stage in (1, 3)),
        *(
            job_of(root, case, recipe, ladders_of(planned(recipe), "positive"), Runtime())
            for case, recipe in (
                ("bf16", bf16),
                ("lora", LORA),
                ("cosine", COSINE),
                ("left-bf16", bf16),
                ("left-lora", LORA),
            )
        ),
    ]
    two = [full(f"two{s}", workers=2, zero_stage=s) for s in (0, 1, 2, 3)]
    two.append(full("two-uneven", workers=2, micro_batch=3))
    two += [full(f"left-two{s}", workers=2, zero_stage=s) for s in (2, 3)]
    return one, two


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    def walk_all(config: dict[str, Any]) -> None:  # nested, so that Ray sends it by value
        import ray.train

        from elastic_ray.training import ladder as module
        from elastic_ray.training.ladder import LadderTrainer, walk

        def leave(job: TrainJob) -> None:
            """Walk a ladder with notice of the node's end after every third step."""
            context, module.REPORT_EVERY = ray.train.get_context(), -1.0
            leaving = True
            while leaving:
                told: list[bool] = []

                def noticed(told: list[bool] = told) -> bool:
                    told.append(True)
                    return len(told) == 3

                rank, workers = context.get_world_rank(), context.get_world_size()
                climber = LadderTrainer(job, rank, workers, lambda said: None, noticed)
                climber.climb(job.ladders[0])
                leaving = climber.leaving

        for job in config["jobs"]:
            walk({"job": job})
        for job in config["left"]:
            leave(job)
        if config["cut"] is None:
            return

        class Cut(Exception):
            pass

        def cut(said: dict[str, Any]) -> None:
            if said.get("examples") == 32:
                raise Cut

        # A process that ends right after the second rung; another one goes on.
        job = config["cut"]
        try:
            climber = LadderTrainer(job, 0, 1, cut)
            climber.tell = lambda words, at_once=False: cut(words)  # type: ignore[method-assign]
            climber.climb(job.ladders[0])
        except Cut:
            walk({"job": job})
        else:
            raise AssertionError("the ladder was not cut")

    root = tmp_path_factory.mktemp("trained")
    one, two = jobs(root)
    cut = job_of(root, "cut", LORA, ladders_of(planned(LORA), "positive"), Runtime())
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        for workers, work, broken in ((1, one, cut), (2, two, None)):
            left = [job for job in work if job.trial.startswith("left-")]
            whole = [job for job in work if job not in left]
            TorchTrainer(
                walk_all,
                train_loop_config={"jobs": whole, "left": left, "cut": broken},
                scaling_config=ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 1}),
                torch_config=ProcessGroupConfig(backend="gloo"),
                run_config=RunConfig(
                    storage_path=str(root / "ray"),
                    worker_runtime_env={"env_vars": {"DS_ACCELERATOR": "cpu"}},
                ),
            ).fit()
    finally:
        ray.shutdown()
    return Trained(root)


def plain_losses(trained: Trained, training: dict[str, Any]) -> list[float]:
    """The losses of the longest rung by a plain torch loop, one example at a time."""
    plan = planned(training)
    ladder = ladders_of(plan, "positive")[-1]
    recipe = ladder.stage.recipe
    place = trained.results("fused").location(f"checkpoints/{ladder.parent_id}")
    model = AutoModelForCausalLM.from_pretrained(place)
    tokenizer = AutoTokenizer.from_pretrained(place)
    optimizer = torch.optim.AdamW(
        model.parameters(), betas=recipe.betas, weight_decay=recipe.weight_decay
    )
    pool = load_task("reviews").pool("positive")
    losses = []
    total = steps(ladder.examples, recipe)
    for step, chosen in enumerate(order(len(pool), ladder.examples, recipe, ladder.stage.seed)):
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
    for case in (*CASES_OF_ONE, *CASES_OF_TWO, "cut"):
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


def test_training_is_what_a_plain_torch_loop_does(trained: Trained) -> None:
    np.testing.assert_allclose(trained.losses("fused")[-1], plain_losses(trained, FULL), rtol=1e-5)
    np.testing.assert_allclose(
        trained.losses("cosine")[-1], plain_losses(trained, COSINE), rtol=1e-5
    )


@pytest.mark.parametrize(
    "case", ["small", "zero1", "zero2", "zero3", "two0", "two1", "two2", "two3", "two-uneven"]
)
def test_losses_do_not_depend_on_how_the_work_is_divided(trained: Trained, case: str) -> None:
    for mine, plain in zip(trained.losses(case), trained.losses("fused"), strict=True):
        np.testing.assert_allclose(mine, plain, rtol=2e-5)


@pytest.mark.parametrize("case", ["zero3", "two2", "two3"])
def test_parted_weights_are_saved_whole(trained: Trained, case: str) -> None:
    state = ladders_of(planned(FULL), "positive")[0].id
    mine, plain = trained.weights(case, state), trained.weights("fused", state)
    assert {n: w.shape for n, w in mine.items()} == {n: w.shape for n, w in plain.items()}
    for name, weight in plain.items():
        # Adam turns a gradient's last digits into a step's, so less agrees than in the losses.
        np.testing.assert_allclose(mine[name], weight, atol=2e-3, err_msg=name)


def test_a_ladder_that_was_cut_goes_on_bit_for_bit(trained: Trained) -> None:
    """Adapters and dropout included: the optimiser and the random numbers are those of before."""
    cut, whole = trained.results("cut"), trained.results("lora")
    rows = whole.states(("kind", "checksum", "losses"))
    for state, row in rows.items():
        other = cut.state(state)
        assert other is not None
        assert other["checksum"] == row["checksum"]
        assert other["losses"] == row["losses"]
    assert not list(Path(cut.location("resume")).iterdir()), "a finished ladder keeps no point"


@pytest.mark.parametrize("case", ["fused", "zero1", "zero3", "bf16", "lora", "two2", "two3"])
def test_a_ladder_that_left_its_node_twice_goes_on_bit_for_bit(trained: Trained, case: str) -> None:
    """Between two snapshots, on notice: no step is taken again, and none is missing."""
    left, whole = trained.results(f"left-{case}"), trained.results(case)
    rows = whole.states(("checksum", "losses", "tokens"))
    assert left.states(("checksum", "losses", "tokens")) == rows
    assert not list(Path(left.location("resume")).iterdir())


def test_a_lora_checkpoint_is_an_adapter_over_its_start(trained: Trained) -> None:
    from peft import PeftModel

    results = trained.results("lora")
    ladder = ladders_of(planned(LORA), "positive")[0]
    folder = Path(results.location(f"checkpoints/{ladder.id}"))
    notes = json.loads((folder / "elastic_ray.json").read_text())
    assert notes["base_state"] == ladder.parent_id
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
    state = ladders_of(planned({**FULL, "precision": "bf16"}), "positive")[0].id
    assert {w.dtype for w in trained.weights("bf16", state).values()} == {torch.bfloat16}
    np.testing.assert_allclose(trained.losses("bf16")[-1], trained.losses("fused")[-1], rtol=0.02)


def test_states_tell_how_they_were_made(trained: Trained) -> None:
    ladder: Ladder = ladders_of(planned(FULL), "positive")[0]
    last: Rung = ladder.rungs[-1]
    one, two = (trained.results(case).state(last.state_id) for case in ("fused", "two3"))
    assert one is not None and two is not None
    assert (one["workers"], one["zero_stage"], two["workers"], two["zero_stage"]) == (1, 0, 2, 3)
    assert one["tokens"] == two["tokens"] > 64 * 20
    assert one["parent_id"] == ladder.parent_id
    assert json.loads(json.dumps(one["lineage"]))
    assert {"torch", "deepspeed", "ray", "python"} <= set(json.loads(one["versions"]))
