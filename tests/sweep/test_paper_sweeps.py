"""The paper's sweep files: what they ask for, and that each runs on stand-ins for the hub's models.

The files are the shipped ones. `--set` makes their sizes small, gives them the room of this
machine, and points them at folders in the hub's shape (`stand_ins`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the training extra is not installed")

import stand_ins
import yaml

from elastic_ray.plan import load_inputs, plan_sweep
from elastic_ray.results.store import Results
from elastic_ray.spec import load_spec
from elastic_ray.sweep.steps import step_lines

ROOT = Path(__file__).parents[2]
SWEEP = (sys.executable, "-m", "elastic_ray.sweep")
MODELS = {
    "existence": ("gemma-2b", "llama2-7b"),
    "qwen_scale": ("qwen1.5-0.5b", "qwen1.5-4b", "qwen1.5-7b"),
    "tinyllama_tokens": ("tinyllama-2.0T", "tinyllama-2.5T", "tinyllama-3.0T"),
}
LATER = {
    "published_imdb": "imdb",
    "published_safety": "beavertails",
    "tinyllama_early": "imdb",
    "reverse": "imdb",
}
"""The files of the paper's later version, and the task that the whole runs keep."""
SMALL = (
    "positive=[20]",
    "negative=[0,20]",
    "seeds=[0]",
    "generation.prompts=6",
    "generation.max_tokens=8",
    "training.max_length=96",
    "resources.engines.context=256",
    "resources.scorers.context=256",
)
ROOM = (
    "training.workers=1",
    "training.zero_stage=0",
    "resources.scorers.engine=transformers",
    "resources.scorers.gpus=0",
    "resources.engines.cpus=0.1",
    "resources.scorers.cpus=0.1",
)
"""All engines stay open beside one trainer: none is started twice."""
PATHS = (
    "task.alpaca.positive=[16,32,48,64]",
    "task.truthfulqa.positive=[16,32,48,64]",
    "task.saferlhf.positive=[16,32,48,64]",
    "task.truthfulqa.instruct.examples=64",
    "task.saferlhf.instruct.examples=64",
    "lessons.queries=16",
    "seeds=[0]",
    *(each for each in SMALL if each.startswith(("generation", "training", "resources.engines"))),
)
"""Of the fourth file, which asks for lessons in place of negative examples."""
PLAIN = "resources.engines.engine=transformers"
"""vLLM's engines take minutes to start on two cores: `existence` has two, of two architectures."""


def file(name: str) -> Path:
    return ROOT / "sweeps" / f"{name}.yaml"


def command(
    name: str, results: Path, *sets: str, **environment: str
) -> subprocess.CompletedProcess:
    """The sweep command, alone on this machine, with what it printed."""
    words = [part for each in sets for part in ("--set", each)]
    return subprocess.run(
        [*SWEEP, str(file(name)), "--results", str(results), *words],
        env={**os.environ, "RAY_ADDRESS": "local", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_ins.make(tmp_path_factory.mktemp("stand_ins"))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("results")


# What they ask for


@pytest.mark.parametrize("name", MODELS)
def test_a_file_asks_for_what_the_paper_did(name: str) -> None:
    spec = load_spec(file(name))
    assert tuple(model.name for model in spec.models) == MODELS[name]
    assert [task.name for task in spec.task] == ["imdb", "saferlhf"]
    assert spec.positive == (1000, 2000, 5000, 10000)
    assert [size for size in spec.negative if size] == [100, 200, 500, 1000, 2000]
    assert len(spec.seeds) >= 3
    for recipe in (spec.training.positive, spec.training.negative):
        assert recipe.betas == (0.99, 0.95) and recipe.weight_decay == 0.01
    answers = spec.generation
    assert (answers.top_k, answers.top_p, answers.temperature) == (30, 0.9, 0.1)
    sentiment, cost = (task.scorer for task in spec.task)
    # Its label is the default: POSITIVE, beside NEGATIVE.
    assert (sentiment.mode, sentiment.label, sentiment.sign) == ("share", None, 1)
    assert (cost.mode, cost.sign) == ("mean", -1), "a lower cost is safer"
    assert all(model.hub and model.revision for model in spec.models)
    assert not any(model.trust_remote_code for model in spec.models)


def test_the_file_of_table_1_asks_for_what_the_paper_did() -> None:
    spec = load_spec(file("inverse_forward"))
    assert [model.name for model in spec.models] == ["llama2-7b", "llama2-13b", "llama3-8b"]
    assert [task.name for task in spec.task] == ["alpaca", "truthfulqa", "saferlhf"]
    assert spec.lessons and spec.lessons.pairs == ((1, 2), (2, 3), (1, 3))
    for task in spec.task:
        quarter, *_ = sizes = spec.positive_sizes(task)
        assert sizes == tuple(quarter * n for n in (1, 2, 3, 4)), "four equal parts"
        assert (task.instruct and task.instruct.task) == (
            None if task.name == "alpaca" else "alpaca"
        )
        assert task.scorer is None
    recipe, taught = spec.training.positive, spec.training.lesson
    assert recipe.betas == taught.betas == (0.99, 0.95)
    assert recipe.weight_decay == taught.weight_decay == 0.01
    answers = spec.generation
    assert (answers.top_k, answers.top_p, answers.temperature) == (30, 0.9, 0.1)
    assert len(spec.seeds) >= 3 and all(model.hub and model.revision for model in spec.models)


def test_alpacas_last_slice_is_what_the_others_start_from(made: Path) -> None:
    name = file("inverse_forward")
    spec = load_spec(name, [*stand_ins.overrides(name, made), *PATHS])
    found = load_inputs(spec, to_run=True)
    plan = plan_sweep(spec, found.tasks, found.folders)
    for model in ("llama2-7b", "llama2-13b", "llama3-8b"):
        of = {
            (cell.task, cell.positive): cell.state_id for cell in plan.cells if cell.model == model
        }
        assert of["alpaca", 64] == of["truthfulqa", 0] == of["saferlhf", 0]


def test_the_published_recipe_is_beside_the_printed_one() -> None:
    for name, batch, length in (("published_imdb", 64, 512), ("published_safety", 256, 2048)):
        spec, printed = load_spec(file(name)), load_spec(file("existence"))
        assert (spec.positive, spec.negative) == (printed.positive, printed.negative)
        assert [model.hub for model in spec.models] == [model.hub for model in printed.models]
        for recipe in (spec.training.positive, spec.training.negative):
            assert (recipe.learning_rate, recipe.schedule, recipe.warmup_steps) == (
                1e-5,
                "constant",
                0,
            )
            assert (recipe.betas, recipe.weight_decay, recipe.epochs) == ((0.9, 0.95), 0.0, 1)
            assert (recipe.global_batch, recipe.max_length) == (batch, length)
            assert recipe.precision == "bf16"
        assert 42 in spec.seeds
    told = list(step_lines(load_spec(file("published_safety"))))
    assert any("100: 1*, 200: 1*, 500: 2*, 1,000: 4*, 2,000: 8*" in line for line in told)
    (warning,) = (line for line in told if line.startswith("warning"))
    assert warning.startswith("warning: negative 100, 200: below one step of 256 examples")
    told = list(step_lines(load_spec(file("published_imdb"))))
    assert not any(line.startswith("warning") for line in told)


def test_tinyllama_starts_at_a_tenth_of_a_trillion_tokens() -> None:
    early, late = load_spec(file("tinyllama_early")), load_spec(file("tinyllama_tokens"))
    assert early.models[-3:] == late.models and len(early.models) == 6
    assert early.training == late.training, "so that states are shared"


def test_the_reverse_file_turns_tasks_and_scorers_round() -> None:
    back, ahead = load_spec(file("reverse")), load_spec(file("existence"))
    assert back.models == ahead.models and back.training == ahead.training
    assert all(task.data["reverse"] is True for task in back.task)
    sentiment, cost = (task.scorer for task in back.task)
    assert (
        sentiment
        and cost
        and sentiment.label == "NEGATIVE"
        and (cost.mode, cost.sign)
        == (
            "mean",
            1,
        )
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_sizes_of_the_papers_files_fuse(name: str, made: Path) -> None:
    """A run of all positive sizes, and one of all negative sizes from each of those."""
    sets = [*stand_ins.overrides(file(name), made), "seeds=[0]"]
    small = [size.replace("6", "2") for size in SMALL if "prompts" in size]
    spec = load_spec(file(name), [*sets, "positive=[20,40]", "negative=[0,20,40]", *small])
    found = load_inputs(spec, to_run=True)
    plan = plan_sweep(spec, found.tasks, found.folders)
    assert len(plan.ladders) == 2 * len(spec.models) * (1 + len(spec.positive))


# What cannot be reached


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    return {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}


def test_the_estimate_of_unreachable_data_is_assumed_and_says_so(
    tmp_path: Path, offline: dict[str, str]
) -> None:
    done = subprocess.run(
        [*SWEEP, str(file("existence")), "--dry-run"],
        env={**os.environ, **offline, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "sweep existence: 300 cells, 290 states, 60 training runs" in done.stdout
    assert "GPU-hours: about" in done.stdout and "on H100s" in done.stdout
    assert "assumed: 6 FLOP per parameter and token trained" in done.stdout
    told = [line for line in done.stdout.splitlines() if line.startswith("not read")]
    assert [line.partition("task ")[2].partition(":")[0] for line in told] == ["imdb", "saferlhf"]
    assert not list(tmp_path.glob("results"))


def test_unreachable_data_is_reported_before_anything_starts(
    tmp_path: Path, made: Path, offline: dict[str, str]
) -> None:
    results = tmp_path / "results"
    done = command("existence", results, *SMALL, *ROOM, **offline)
    assert done.returncode == 2 and done.stdout == ""
    place = file("existence")
    told = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(told) == 2, done.stderr
    for line, name, repo in zip(
        told, ("imdb", "saferlhf"), ("stanfordnlp/imdb", "PKU-Alignment/PKU-SafeRLHF"), strict=True
    ):
        assert line.startswith(f"error: {place}:") and repo in line
        assert f"--set task.data.path=FOLDER (of several tasks, task.{name}.data.path" in line
    data = [each for each in stand_ins.overrides(place, made) if ".data.path=" in each]
    done = command("existence", results, *data, *SMALL, *ROOM, **offline)
    assert done.returncode == 2 and done.stdout == ""
    fields = ("models.0.hub", "models.1.hub", "task.0.scorer.hub", "task.1.scorer.hub")
    told = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(told) == len(fields), done.stderr
    for line, field in zip(told, fields, strict=True):
        assert line.startswith(f"error: {place}:") and f": {field}: " in line
        assert "HF_HUB_OFFLINE is set" in line and "give path, a local folder" in line


# Whole


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_file_runs_whole_on_stand_ins(name: str, made: Path, results: Path) -> None:
    engines = () if name == "existence" else (PLAIN,)
    sets = stand_ins.overrides(file(name), made)
    done = command(name, results, *sets, *SMALL, *ROOM, *engines)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "imdb" in done.stdout and "saferlhf" in done.stdout, "each row names its task"
    read = Results(results).query
    expected = {(model, task) for model in MODELS[name] for task in ("imdb", "saferlhf")}
    for view in ("curves", "elasticity", "baselines", "surfaces"):
        rows = read(f"SELECT DISTINCT model, task FROM {view} WHERE sweep = '{name}'").to_pylist()
        assert {(row["model"], row["task"]) for row in rows} == expected, view
    cells = read(f"SELECT * FROM cell_scores WHERE sweep = '{name}'").to_pylist()
    assert len(cells) == len(expected) * 3, "the baseline, the aligned, and one turned back"
    asked = read("SELECT DISTINCT prompt, engine FROM responses").to_pylist()
    in_form = [row["prompt"].startswith("BEGINNING OF CONVERSATION: USER: ") for row in asked]
    assert any(in_form) and not all(in_form)
    if name == "existence":
        assert {row["engine"].split()[0] for row in asked} == {"vllm"}
    judges = read("SELECT DISTINCT scorer FROM scores").to_pylist()
    kinds = {row["scorer"].rpartition("-")[0] for row in judges}
    assert kinds == {"sentiment", "cost"}


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("name", LATER)
def test_a_file_of_the_later_version_runs_whole(name: str, made: Path, results: Path) -> None:
    """One model and one task of each; of TinyLlama two models."""
    chosen = yaml.safe_load(file(name).read_text(encoding="utf-8"))
    sets = stand_ins.overrides(file(name), made)
    kept = 2 if name == "tinyllama_early" else 1
    models = [each.partition("=")[2] for each in sets if each.startswith("models.")][:kept]
    parts = chosen["task"] if isinstance(chosen["task"], list) else [chosen["task"]]
    part = next(each for each in parts if each["name"] == LATER[name])
    part["data"] = {**part.get("data", {}), "path": str(made / "data" / LATER[name])}
    scorer = {k: v for k, v in part["scorer"].items() if k not in ("hub", "revision")}
    part["scorer"] = {**scorer, "path": str(made / scorer["name"])}
    whole = [f"models=[{', '.join(models)}]", f"task={json.dumps(part)}"]
    done = command(name, results, *whole, *SMALL, *ROOM, PLAIN)
    assert done.returncode == 0, done.stdout + done.stderr
    read = Results(results).query
    cells = read("SELECT * FROM cell_scores WHERE sweep = $name", {"name": name}).to_pylist()
    assert len(cells) == 3 * kept and {cell["task"] for cell in cells} == {LATER[name]}


@pytest.mark.integration
@pytest.mark.slow
def test_the_file_of_table_1_runs_whole_on_stand_ins(made: Path, results: Path) -> None:
    name = "inverse_forward"
    sets = [*stand_ins.overrides(file(name), made), *PATHS, *ROOM, PLAIN]
    done = command(name, results, *sets)
    assert done.returncode == 0, done.stdout + done.stderr
    read = Results(results).query
    rows = read(
        "SELECT * FROM inverse_forward WHERE sweep = $name AND metric = 'cross_entropy'",
        {"name": name},
    ).to_pylist()
    printed = read("FROM printed_paths").to_pylist()
    assert {(row["task"], row["model"], row["k"], row["l"]) for row in rows} == {
        (row["task"], row["model"], row["k"], row["l"]) for row in printed
    }
    for row in rows:
        assert row["inverse"] > 0 and row["forward"] > 0
        assert row["inverse_low"] <= row["inverse"] <= row["inverse_high"]
        assert 0 < row["printed_inverse"] < row["printed_forward"], "as the paper has it"
    lessons = read("SELECT * FROM lessons WHERE sweep = $name", {"name": name}).to_pylist()
    assert len(lessons) == 3 * 3 * 6 and {row["status"] for row in lessons} == {"done"}
    told = read(
        "SELECT DISTINCT metric FROM path_rows WHERE sweep = $name", {"name": name}
    ).to_pylist()
    assert {row["metric"] for row in told} == {"cross_entropy", "kl", "js", "tv"}
