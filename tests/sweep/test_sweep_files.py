"""Every shipped sweep file loads and plans, and asks for what its comment says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import stand_in_data

from elastic_ray.plan import Plan, plan_sweep
from elastic_ray.spec import load_spec
from elastic_ray.sweep.__main__ import main
from elastic_ray.tasks.registry import load_task

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "sweeps").glob("*.yaml"))
WORDS = ("film", "actor", "plot", "scene", "song", "end", "camera", "joke", "story", "town")


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the schema of the IMDb reviews, as large as the shipped sweeps ask for."""
    folder = tmp_path_factory.mktemp("data") / "imdb"
    folder.mkdir()
    splits = {"train": (20_200, (0, 1)), "test": (2400, (0, 1)), "unsupervised": (40_000, (-1,))}
    for split, (count, labels) in splits.items():
        with (folder / f"{split}.jsonl").open("w") as file:
            for i in range(count):
                # The lowest digit first: prompts are the first few words, and have to differ.
                digits = " ".join(WORDS[int(digit)] for digit in f"{i:08}"[::-1])
                row = {"text": f"{digits} in the {split} set", "label": labels[i % len(labels)]}
                file.write(json.dumps(row) + "\n")
    for name, rows in (
        ("saferlhf", stand_in_data.saferlhf(40_100, 1300)),
        ("beavertails", stand_in_data.beavertails(20_100, 1300)),
        ("alpaca", stand_in_data.alpaca(52_000)),
        ("truthfulqa", stand_in_data.truthfulqa(817)),
    ):
        stand_in_data.write(folder.parent / name, rows)
    return folder


def overrides(file: Path, folder: Path | None) -> list[str]:
    """Where a task reads from the hub, the folder in its place; beside it are the other tasks'."""
    spec = load_spec(file)
    names = [task.name for task in spec.task if task.name != "reviews" and "path" not in task.data]
    places = {name: folder.parent / name if folder and name != "imdb" else folder for name in names}
    if len(spec.task) == 1:
        return [f"task.data.path={place}" for place in places.values()]
    return [f"task.{name}.data.path={place}" for name, place in places.items()]


def planned(file: Path, folder: Path | None) -> Plan:
    spec = load_spec(file, overrides(file, folder))
    tasks = {name: load_task(name, data) for name, data in spec.datasets().items()}
    return plan_sweep(spec, tasks, {m.path: m.path for m in spec.models if m.path})


def dry_run(file: Path, folder: Path, results: Path) -> int:
    sets = [part for each in overrides(file, folder) for part in ("--set", each)]
    return main([str(file), "--dry-run", "--results", str(results), *sets])


def test_there_are_files() -> None:
    names = {file.stem for file in FILES}
    papers = {"existence", "qwen_scale", "tinyllama_tokens", "inverse_forward"}
    later = {"published_imdb", "published_safety", "tinyllama_early", "reverse"}
    assert {"tiny", "imdb_small", "imdb_paths", *papers, *later} <= names


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_shipped_file_plans(file: Path, reviews: Path) -> None:
    plan = planned(file, reviews)
    assert plan.spec.sweep == file.stem, "a file is called like its sweep"
    assert plan.cells and plan.ladders


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_shipped_file_is_priced(
    file: Path,
    reviews: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("elastic_ray.plan.inputs._NOTICE_AFTER", 600.0)
    code = dry_run(file, reviews, tmp_path / "none")
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert f"sweep {file.stem}: " in out
    # The published recipes have batches of 64 and 256, which divide few of the sizes.
    assert ("not a multiple of the global batch" in out) == file.stem.startswith("published_")
    assert ("below one step" in out) == (file.stem == "published_safety")


def test_slow_reading_of_data_is_reported(
    reviews: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("elastic_ray.plan.inputs._NOTICE_AFTER", 0.0)
    assert dry_run(ROOT / "sweeps" / "existence.yaml", reviews, tmp_path / "none") == 0
    assert "reading the data of task imdb ...\n" in capsys.readouterr().err


def test_the_bundled_sweep_shows_what_elasticity_is_about() -> None:
    """At least two model sizes, two pre-training sizes of one, and curves with repetitions."""
    plan = planned(ROOT / "sweeps" / "tiny.yaml", None)
    spec = plan.spec
    assert len({group.parameters for group in plan.groups.values()}) >= 2
    assert max(len(model.pretrain) for model in spec.models) >= 2
    assert len(spec.positive) >= 2
    assert len([size for size in spec.negative if size]) >= 5
    assert len(spec.seeds) >= 2
    assert {task.name for task in spec.task} == {"reviews"}


def test_the_models_of_the_imdb_sweep_are_of_the_size_they_are_called(reviews: Path) -> None:
    plan = planned(ROOT / "sweeps" / "imdb_small.yaml", reviews)
    small, large = sorted(group.parameters or 0 for group in plan.groups.values())
    assert small >= 900_000 and large >= 2_500_000


@pytest.mark.parametrize(
    "file", [file for file in FILES if file.stem == "imdb_small"], ids=lambda file: file.name
)
def test_the_real_reviews_are_enough(file: Path, imdb_folder: Path) -> None:
    plan = planned(file, imdb_folder)
    assert plan.cells
