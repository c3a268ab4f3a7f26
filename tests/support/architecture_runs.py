"""Trains, swaps and questions a tiny model of each architecture; see `architectures`.

    python tests/support/architecture_runs.py train|swap FOLDER

`train` writes each model, makes it a start state, trains two steps from it with DeepSpeed, and has
the transformers engine answer prompts and read texts. `swap` starts vLLM on the base model, swaps
to the trained one, and asks the same. The outcomes are FOLDER/train.json and FOLDER/swap.json. Each
runs in a process of its own: both set up torch's process group, and vLLM changes classes of
transformers.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from architectures import ARCHITECTURES, write_model

from elastic_ray.plan import Plan, load_inputs, plan_sweep
from elastic_ray.results.store import Results
from elastic_ray.spec import Runtime, Spec
from elastic_ray.spec.shorthand import expand
from elastic_ray.tasks.registry import load_task

STEPS, BATCH = 2, 4


def plan_of(root: Path) -> Plan:
    """Return a plan with all models, whose first positive size is two steps."""
    models = [{"name": name, "path": str(root / name)} for name in ARCHITECTURES]
    spec = Spec.model_validate(
        expand(
            {
                "sweep": "architectures",
                "task": "reviews",
                "models": models,
                "positive": [STEPS * BATCH],
                "negative": [BATCH],
                "training": {"learning_rate": 3e-3, "global_batch": BATCH, "max_length": 64},
            }
        )
    )
    inputs = load_inputs(spec, to_run=True)
    return plan_sweep(spec, inputs.task_info(), inputs.folders)


def base_of(plan: Plan) -> dict[str, str]:
    """Return the start state of each architecture."""
    return {
        cell.model: cell.state_id for cell in plan.cells if (cell.positive, cell.negative) == (0, 0)
    }


def train(root: Path) -> None:
    """Record each architecture's start state and train two steps from it."""
    import torch.distributed as dist

    from elastic_ray.serving.engines.transformers_engine import TransformersEngine
    from elastic_ray.training.job import TrainJob
    from elastic_ray.training.ladder import LadderTrainer
    from elastic_ray.training.start_states import prepare_start

    dist.init_process_group("gloo", init_method=f"file://{root}/group", rank=0, world_size=1)
    tokenizer = load_task("reviews").tokenizer(None)
    for i, name in enumerate(ARCHITECTURES):
        write_model(root / name, name, tokenizer, seed=i)
    plan = plan_of(root)
    uri = str(root / "results")
    for name, state in base_of(plan).items():
        prepare_start(uri, state, plan.starts[state], "reviews", {}, name, {}, None)
    ladders = tuple(each for each in plan.ladders if each.stage.kind == "positive")
    runtime = Runtime(workers=1, gpus_per_worker=0, micro_batch=BATCH, zero_stage=0)
    job = TrainJob("architectures", "t", uri, "reviews", {}, ladders, runtime)
    LadderTrainer(job, 0, 1, lambda report: None).train_job()
    ask_all(root, plan, TransformersEngine, root / "train.json")


def swap(root: Path) -> None:
    """Ask vLLM of each architecture's trained state, after a swap from its base line."""
    from elastic_ray.serving.engines.vllm_engine import VllmEngine

    ask_all(root, plan_of(root), VllmEngine, root / "swap.json", free)


def ask_all(
    root: Path, plan: Plan, kind: Any, into: Path, after_each: Callable[[], None] = lambda: None
) -> None:
    """Write what engines of a kind say of each architecture's trained state, or their error."""
    outcome = {}
    for name, base in base_of(plan).items():
        try:
            outcome[name] = asyncio.run(ask(root, plan, kind, name, base))
        except Exception as e:
            outcome[name] = {"error": f"{type(e).__name__}: {e}"}
        after_each()
    into.write_text(json.dumps(outcome))


async def ask(root: Path, plan: Plan, kind: Any, name: str, base: str) -> dict[str, Any]:
    """Return what an engine says of a trained state, after a swap from its base line."""
    from elastic_ray.serving.types import CodedText, EngineConfig, Sampling, Weights

    results = Results(str(root / "results"))
    [trained] = [
        rung.state_id
        for ladder in plan.ladders
        if ladder.parent_id == base and ladder.stage.kind == "positive"
        for rung in ladder.rungs
    ]
    rows = [results.state(state) for state in (base, trained)]
    start, row = (row for row in rows if row is not None)
    if row["status"] != "done":
        raise RuntimeError(f"not trained: {row['error']}")
    weights = Weights(trained, results.location(f"checkpoints/{trained}"), None, row["checksum"])
    pool = load_task("reviews").pool("positive")
    prompts = [(i, example.response[:20]) for i, example in enumerate(pool[:4])]
    texts = [CodedText("", example.response[:120]) for example in pool[4:10]]
    engine = kind(EngineConfig("e", "", str(root / name), None, base, "float32", 128))
    await engine.load_weights(Weights(base, str(root / name)))
    await engine.load_weights(weights)
    answers = await engine.generate(weights, prompts, Sampling(1, 12, 0.0, 0, 1.0, 0))
    lengths = await engine.code_lengths(weights, texts, 64)
    await engine.close()
    return {
        "state": trained,
        "parameters": [start["parameters"], row["parameters"]],
        "losses": row["losses"],
        "checked": getattr(engine, "checked", None),
        "answers": [[a.response, a.tokens, a.finish_reason, a.held_state] for a in answers],
        "lengths": [asdict(each) for each in lengths],
    }


def free() -> None:
    """Free vLLM's model and process groups, for the next one in this process."""
    from vllm.distributed.parallel_state import (
        destroy_distributed_environment,
        destroy_model_parallel,
    )

    gc.collect()
    destroy_model_parallel()
    destroy_distributed_environment()


def main() -> None:
    from elastic_ray.serving.engines.vllm_runtime import vllm_environment
    from elastic_ray.serving.types import EngineConfig

    command, root = sys.argv[1], Path(sys.argv[2])
    if command == "swap":
        config = EngineConfig("e", "vllm", "", None, "", "float32", 128)
        os.environ |= vllm_environment(config, threads=1)
        swap(root)
    else:
        # On the CPU, and alone: what Ray Train sets in its workers.
        os.environ |= {"ELASTIC_RAY_DECLARED_GPUS": "1", "LOCAL_RANK": "0"}
        train(root)


if __name__ == "__main__":
    main()
