"""Compares a whole sweep with a plain Ray Tune grid (the "usual way"), in one run.

    python benchmarks/grid.py [--seeds 6] [--prompts 160] [--results FOLDER]

In the plain grid every cell is a trial, which trains both stages from the base model with torch,
and generates and scores with transformers. As many trials run at once as the machine has cores.
Both sides use the same data, recipe, prompts and sampling, and start from the same pre-trained
model and the same scorer, which are created before the clocks start. The sweep runs as a user runs
it; its start-up and shutdown are included. The script prints the ratios of the wall-clock times and
of the examples trained, the scores of both sides, and where the sweep's time went.

The sweep takes three quarters of a minute to start, whatever its size, so fewer seeds lower the
ratio. A larger share of answers also lowers it: answers cost both sides about the same.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from elastic_ray.results.store import Results

SPEC: dict[str, Any] = {
    "sweep": "grid",
    "task": "reviews",
    "models": [{"name": "m", "init": {"hidden_size": 128, "layers": 3}, "pretrain": [8000]}],
    "positive": [100, 200, 500, 1000],
    "negative": [0, 10, 20, 50, 100, 200],
    "training": {
        "learning_rate": 1e-3,
        "global_batch": 10,
        "pretrain": {"learning_rate": 4e-3, "global_batch": 32, "warmup_steps": 20},
    },
    "generation": {"max_tokens": 40, "temperature": 1.0, "top_k": 30, "top_p": 0.9},
}


def run_sweep(folder: Path, spec: dict[str, Any], results: Path) -> tuple[float, float, str]:
    """Run a sweep; return (seconds, idle core-seconds of the machine, printed output)."""
    path = folder / f"{spec['sweep']}.yaml"
    path.write_text(yaml.safe_dump(spec))
    command = [sys.executable, "-m", "elastic_ray.sweep", str(path), "--results", str(results)]
    environment = {**os.environ, "RAY_ADDRESS": "local"}
    began, idle = time.monotonic(), psutil.cpu_times().idle
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.monotonic() - began, psutil.cpu_times().idle - idle, done.stdout


def usual_cell(config: dict[str, Any]) -> None:
    """Run one cell of the plain grid: train positive, then negative; generate; score."""
    import torch
    from ray import tune
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )

    from elastic_ray.tasks.registry import load_task
    from elastic_ray.tasks.subsets import selection
    from elastic_ray.training.batches import IGNORED, tokenize

    torch.set_num_threads(1)
    spec = config["spec"]
    batch, generation = spec["training"]["global_batch"], spec["generation"]
    task = load_task(spec["task"])
    tokenizer = AutoTokenizer.from_pretrained(config["base"])
    model = AutoModelForCausalLM.from_pretrained(config["base"])
    for kind in ("positive", "negative"):
        pool = task.pool(kind)
        optimizer = torch.optim.AdamW(
            model.parameters(), spec["training"]["learning_rate"], (0.9, 0.95), weight_decay=0.0
        )
        chosen = selection(len(pool), config[kind], config["seed"])
        for start in range(0, len(chosen), batch):
            texts = tokenize([pool[i] for i in chosen[start : start + batch]], tokenizer, 256)
            longest = max(len(text.ids) for text in texts)
            pad = tokenizer.pad_token_id
            ids = torch.tensor([t.ids + [pad] * (longest - len(t.ids)) for t in texts])
            mask = torch.tensor([[1] * len(t.ids) + [0] * (longest - len(t.ids)) for t in texts])
            labels = ids.masked_fill(mask == 0, IGNORED)
            model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    tokenizer.padding_side = "left"
    torch.manual_seed(0)
    prompts = tokenizer(task.prompts(generation["prompts"]), return_tensors="pt", padding=True)
    with torch.inference_mode():
        said = model.eval().generate(
            input_ids=prompts.input_ids,
            attention_mask=prompts.attention_mask,
            do_sample=True,
            temperature=generation["temperature"],
            top_k=generation["top_k"],
            top_p=generation["top_p"],
            max_new_tokens=generation["max_tokens"],
            pad_token_id=tokenizer.pad_token_id,
        )
        backend = AutoModelForSequenceClassification.from_pretrained(config["scorer"]).eval()
        words = AutoTokenizer.from_pretrained(config["scorer"])
        inputs = words(
            [tokenizer.decode(row, skip_special_tokens=True) for row in said],
            return_tensors="pt",
            padding=True,
        )
        logits = backend(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).logits
    tune.report({"score": float((logits.argmax(-1) == 1).float().mean())})


def run_usual(spec: dict[str, Any], base: str, scorer: str) -> tuple[float, list[dict[str, Any]]]:
    """Run the plain grid; return (seconds, the cells with their scores)."""
    import ray
    from ray import tune

    points = [(0, 0)] + [(p, n) for p in spec["positive"] for n in spec["negative"]]
    cells = [
        {"positive": p, "negative": n, "seed": seed} for seed in spec["seeds"] for p, n in points
    ]
    began = time.monotonic()
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as scratch:

        def trial(config: dict[str, Any]) -> None:
            usual_cell({**config["cell"], "spec": spec, "base": base, "scorer": scorer})

        found = tune.Tuner(
            tune.with_resources(trial, {"cpu": 1}),
            param_space={"cell": tune.grid_search(cells)},
            run_config=tune.RunConfig(storage_path=scratch, verbose=0),
        ).fit()
    ray.shutdown()
    seconds = time.monotonic() - began
    if found.errors:
        sys.exit(f"{len(found.errors)} cells of the plain grid failed: {found.errors[0]}")
    return seconds, [{**r.config["cell"], "score": r.metrics["score"]} for r in found]


def spent(printed: str) -> dict[str, float]:
    """Return the seconds by kind of work, parsed from the sweep's last line."""
    line = re.search(r"\(working: (.*)\)", printed)
    parts = line[1].split(", ") if line else []
    pairs = [part.rpartition(" ") for part in parts]
    return {kind: 60 * int(at.split(":")[0]) + int(at.split(":")[1]) for kind, _, at in pairs}


def main() -> None:
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # suppresses Tune's progress tables
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--prompts", type=int, default=160)
    parser.add_argument("--results", help="default: a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="elastic_ray-grid-") as scratch:
        folder = Path(scratch)
        results = Path(args.results or folder / "results").absolute()
        generation = {**SPEC["generation"], "prompts": args.prompts}
        spec = {**SPEC, "seeds": list(range(args.seeds)), "generation": generation}
        first = {**spec, "sweep": "prepare", "positive": [10], "negative": [10], "seeds": [0]}
        run_sweep(folder, first, results)
        store = Results(results, read_only=True)
        rows = store.states(("kind", "checkpoint")).items()
        base = next(s for s, row in rows if row["kind"] == "pretrain")
        scorer = next((results / "scorers").iterdir())

        ours, idle, printed = run_sweep(folder, spec, results)
        scored = store.query("SELECT avg(score) AS s FROM cell_scores WHERE sweep = 'grid'")
        usual, cells = run_usual(spec, store.location(f"checkpoints/{base}"), str(scorer))

    sums = sum(spec["positive"]), sum(spec["negative"])
    by_cell = sums[0] * len(spec["negative"]) + sums[1] * len(spec["positive"])
    fused = max(spec["positive"]) + max(spec["negative"]) * len(spec["positive"])
    print(f"cells: {len(cells)}; cores: {os.cpu_count()}")
    print(f"wall clock: usual way {usual:.0f} s, sweep {ours:.0f} s; ratio {usual / ours:.2f}")
    print(
        f"examples trained, per seed: usual way {by_cell:,}, sweep {fused:,}; "
        f"ratio {by_cell / fused:.2f}"
    )
    mine, other = scored["s"][0].as_py(), sum(c["score"] for c in cells) / len(cells)
    print(f"mean score over cells: usual way {other:.3f}, sweep {mine:.3f}")
    print("where the sweep's time went (seconds; kinds overlap):")
    for kind, seconds in spent(printed).items():
        print(f"  {kind:16} {seconds:5.0f}")
    print(f"  {'idle cores':16} {idle:5.0f} of {ours * (os.cpu_count() or 1):.0f} core-seconds")


if __name__ == "__main__":
    main()
