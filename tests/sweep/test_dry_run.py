"""`--dry-run`: what a sweep would train and cost, printed without running anything."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_sweeps import COMMIT, Facts, plan_of, spec_of

from elastic_ray.placement import estimate
from elastic_ray.plan import Plan
from elastic_ray.results.store import Results
from elastic_ray.sweep.__main__ import main
from elastic_ray.sweep.dry_run import print_price, unfused

HUB = {"name": "a-1b", "hub": "some/a-1b", "revision": COMMIT}
PAPER = f"""\
sweep: paper
task: reviews
models:
  - {{name: a, hub: some/a-1B, revision: {COMMIT}}}
positive: [1000, 2000, 5000, 10000]
negative: [0, 100, 200, 500, 1000, 2000]
training: {{global_batch: 20}}
"""


def printed(capsys: pytest.CaptureFixture[str], folder: Path, text: str, *sets: str) -> str:
    """Return what the command prints for a sweep file."""
    (folder / "s.yaml").write_text(text)
    arguments = [part for each in sets for part in ("--set", each)]
    results = str(folder / "results")
    assert main([str(folder / "s.yaml"), "--dry-run", "--results", results, *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert not (folder / "results").exists(), "a dry run writes nothing"
    return out


def row(out: str, name: str) -> list[int]:
    """Return the numbers of a row of the table."""
    (line,) = [line for line in out.splitlines() if re.search(rf"\b{name}\b.*\d", line)]
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", line)]


def price(plan: Plan) -> str:
    """Return what is printed for a plan."""
    console = Console(width=200, record=True, file=io.StringIO())
    info = {task.name: Facts(task.name) for task in plan.spec.task}
    print_price(console, plan, estimate(plan, task_info=info), info, {})
    return console.export_text()


def test_the_papers_grid(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = printed(capsys, tmp_path, PAPER)
    assert "sweep paper: 25 cells, 25 states, 5 training runs" in out
    assert row(out, "fine-tuning") == [123_200, 33_200, 18_000]
    assert row(out, "pre-training") == [0, 0, 0]
    assert "not fused" not in out


def test_sizes_that_do_not_fuse_are_listed_with_batches_that_would_fuse_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = printed(capsys, tmp_path, PAPER, "training.global_batch=8")
    assert row(out, "fine-tuning") == [123_200, 33_200, 20_400]
    told = [line for line in out.splitlines() if "not fused" in line]
    assert told == [
        "not fused: negative 100, 500: not a multiple of the global batch of 8; all sizes would "
        "share one run with a global_batch of 2, 4, 5, 10, 20 or 25"
    ]
    for batch in (2, 4, 5, 10, 20, 25):
        again = printed(capsys, tmp_path, PAPER, f"training.global_batch={batch}")
        assert "not fused" not in again
        assert row(again, "fine-tuning")[2] == 18_000


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"positive": [7, 16], "training": {"global_batch": 8}}, ["positive 7: .* of 7$"]),
        ({"positive": [997, 998], "training": {"global_batch": 8}}, ["positive 997: .* of 997$"]),
        ({"positive": [8, 11], "training": {"global_batch": 8}}, []),
        ({"positive": [3], "training": {"global_batch": 8}}, []),
        ({"negative": [0, 3], "training": {"global_batch": 8}}, []),
        (
            {"positive": [8, 16], "training": {"schedule": "cosine"}},
            ["positive: the cosine schedule spans", "negative: the cosine schedule spans"],
        ),
        (
            {"training": {"negative": {"epochs": 3}}},
            ["negative: 3 epochs each see all examples, so each of the 2 sizes is its own run"],
        ),
        ({"models": [{**HUB, "pretrain": [12, 64]}]}, ["a-1b pretrain 12: .* of 2, 3, 4, 6 or 12"]),
    ],
)
def test_why_sizes_do_not_fuse(changes: dict[str, Any], lines: list[str]) -> None:
    told = list(unfused(spec_of(**changes)))
    assert len(told) == len(lines)
    for line, expected in zip(told, lines, strict=True):
        assert re.search(f"^not fused: {expected}", line), line


def test_sizes_are_listed_exactly_where_the_plan_does_not_fuse_them() -> None:
    """A line is printed exactly if the plan has more runs than lists of sizes."""
    for sizes in ([8, 16, 24], [8, 12, 16], [3, 8, 16], [16, 19]):
        spec = spec_of(models=[HUB], positive=sizes, negative=[8])
        runs = [lad for lad in plan_of(spec).ladders if lad.stage.kind == "positive"]
        assert bool(list(unfused(spec))) == (len(runs) > 1)


def test_tokens_answers_and_checkpoints() -> None:
    changes = {
        "models": [HUB],
        "positive": [100, 200],
        "negative": [100],
        "generation": {"prompts": 10, "samples": 3},
        "training": {"global_batch": 10},
    }
    out = price(plan_of(spec_of(**changes)))
    # One run of 200 and two of 100, at 40 tokens an example; five states asked 10 x 3 questions.
    assert "tokens trained: about 16,000; answers: 150\n" in out
    measured = price(plan_of(spec_of(**changes, probes={"code_length": {"texts": 10}})))
    assert "answers: 150; code lengths: 150\n" in measured, "ten texts of three distributions"
    assert ", code lengths below 0.01); " in measured
    # Four trained states of 1B parameters in four bytes; the hub keeps the start.
    assert "checkpoints: 16 GB written, 0 B left (keep: base)" in out
    assert "16 GB left (keep: all)" in price(plan_of(spec_of(**changes, keep="all")))
    assert "resume points: 0 B written, and up to 12 GB at each notice of preemption" in out
    assert "written in all: 16 GB; uploaded as well if" in out
    bf16 = {**changes, "training": {"global_batch": 10, "precision": "bf16"}}
    assert "checkpoints: 8 GB written" in price(plan_of(spec_of(**bf16)))
    lora = {**changes, "training": {"global_batch": 10, "lora": {}}}
    assert "checkpoints: 160 MB written" in price(plan_of(spec_of(**lora)))


def test_epochs_count_in_tokens() -> None:
    changes = {"models": [HUB], "positive": [100], "negative": [100]}
    tripled = price(plan_of(spec_of(**changes, training={"epochs": 3})))
    assert "tokens trained: about 24,000" in tripled


def test_pre_trained_checkpoints_are_the_base() -> None:
    init = {"hidden_size": 64, "layers": 1}
    plan = plan_of(
        spec_of(models=[{"name": "m", "init": init, "pretrain": [64]}], positive=[8], negative=[8])
    )
    (size,) = {group.parameters for group in plan.groups.values()}
    assert size is not None
    out = price(plan)  # start, pre-trained, positive, negative
    assert f"checkpoints: {4 * 4 * size / 1e6:.3g} MB written" in out
    assert f"{2 * 4 * size / 1000:.3g} kB left (keep: base)" in out


def hours(out: str) -> float:
    found = re.search(r"GPU-hours: about ([\d.,]+)", out)
    assert found, out
    return float(found[1].replace(",", ""))


def test_gpu_hours_are_about_the_arithmetic_however_many_workers_share_it() -> None:
    def spec(workers: int) -> Any:
        return spec_of(
            models=[{**HUB, "name": "m", "hub": "some/m-7b"}],
            positive=[1_000_000],
            negative=[1_000_000],
            training={"workers": workers, "global_batch": 1000},
        )

    # 6 FLOP per parameter and token, at 40 tokens an example, with 8% padding, on a GPU's 1.2e14 a
    # second. Each worker also waits for loading and saving.
    expected = 1.08 * 6 * 7e9 * 2_000_000 * 40 / 1.2e14 / 3600
    for workers in (1, 8):
        assert hours(price(plan_of(spec(workers)))) == pytest.approx(expected, rel=0.08)


def test_an_unknown_model_size_is_noted() -> None:
    unnamed = {"name": "m", "hub": "some/model", "revision": COMMIT}
    out = price(plan_of(spec_of(models=[unnamed])))
    assert "size unknown, counted as 1B parameters: model-" in out
    assert "size unknown" not in price(plan_of(spec_of(models=[HUB])))


def test_what_is_recorded_is_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = printed(capsys, tmp_path, PAPER)
    assert "recorded already: nothing (no such results folder: " in out
    Results(tmp_path / "some")
    main([str(tmp_path / "s.yaml"), "--dry-run", "--results", str(tmp_path / "some")])
    out = capsys.readouterr().out
    recorded = f"recorded already in {tmp_path / 'some'}: 0 cells, 0 states; "
    assert recorded + "left to train: 5 training runs" in out


def test_damaged_results_are_an_error_not_an_empty_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "s.yaml").write_text(PAPER)
    Results(tmp_path / "some").write(
        "states",
        [{"state_id": "a" * 20, "kind": "start", "examples": 0, "status": "failed", "error": "x"}],
    )
    (victim,) = (tmp_path / "some" / "states").rglob(f"*{'a' * 20}*")
    victim.write_bytes(victim.read_bytes()[:-20])
    code = main([str(tmp_path / "s.yaml"), "--dry-run", "--results", str(tmp_path / "some")])
    assert code == 1
    assert victim.name in capsys.readouterr().err
