"""Dialogue tasks: PKU-SafeRLHF, Alpaca and TruthfulQA, from files and from the hub."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import stand_in_data
from stand_in_data import Rows, write

from elastic_ray.tasks.dialogue import MAX_QUESTION_WORDS, PROMPT, prompt_of
from elastic_ray.tasks.registry import load_task
from elastic_ray.tasks.task import POOLS, Example, Task, TaskError, normalise

ROOT = Path(__file__).parents[2]
Splits = dict[str, Rows]
MADE: dict[str, Callable[[], Splits]] = {
    "saferlhf": lambda: stand_in_data.saferlhf(60, 80),
    "beavertails": lambda: stand_in_data.beavertails(60, 80),
    "alpaca": lambda: stand_in_data.alpaca(200),
    "truthfulqa": lambda: stand_in_data.truthfulqa(60),
}


def made(name: str, folder: Path, splits: Splits | None = None) -> Task:
    rows = MADE[name]() if splits is None else splits
    return load_task(name, {"path": str(write(folder, rows))})


def dialogues(task: Task) -> dict[str, list[Example]]:
    return {pool: list(task.pool(pool)) for pool in POOLS}


@pytest.mark.parametrize("name", MADE)
def test_a_task_has_the_documented_pools_and_prompts(name: str, tmp_path: Path) -> None:
    task = made(name, tmp_path)
    task.check_leakage()
    found = dialogues(task)
    labels = {pool: {e.label for e in examples} for pool, examples in found.items()}
    assert labels["positive"] == {1} and labels["pretrain"] == set()
    assert labels["negative"] == ({0} if name != "alpaca" else set())
    assert labels["scorer"] == ({0, 1} if name in ("saferlhf", "beavertails") else set())
    prompts = task.prompts(task.sizes["prompts"])
    assert len(prompts) == len(set(prompts)) > 5
    assert prompts[:3] == task.prompts(3)
    taught = {e.prompt for examples in found.values() for e in examples}
    assert not taught & set(prompts)
    for text in (*prompts, *taught):
        assert text.startswith("BEGINNING OF CONVERSATION: USER: how do i ")
        assert text.endswith(" ASSISTANT:")
    assert task.mean_tokens > 20
    with pytest.raises(TaskError, match=f"{name} holds .* held-out prompts; asked for 1,000"):
        task.prompts(1000)


def test_safety_labels_decide_the_pool(tmp_path: Path) -> None:
    task = made("saferlhf", tmp_path)
    rows = MADE["saferlhf"]()["train"]
    for pool, safe in (("positive", True), ("negative", False)):
        expected = [
            (prompt_of(row["prompt"]), row[f"response_{k}"])
            for row in rows
            for k in (0, 1)
            if row[f"is_response_{k}_safe"] == safe
        ]
        assert [(e.prompt, e.response) for e in task.pool(pool)] == expected
    assert 20 < task.sizes["scorer"] < 140
    assert task.sizes["scorer"] / 2 + task.sizes["prompts"] == 80


def test_beavertails_has_two_sizes_and_leaves_out_what_is_judged_differently(
    tmp_path: Path,
) -> None:
    rows = stand_in_data.beavertails(30, 40)["330k_train"]
    splits = stand_in_data.beavertails(30, 40)
    splits["330k_train"] += [{**rows[0], "is_safe": False}, dict(rows[2])]
    splits |= stand_in_data.beavertails(7, 40, size="30k")
    folder = str(write(tmp_path, splits))
    large = load_task("beavertails", {"path": folder})
    small = load_task("beavertails", {"path": folder, "split": "30k"})
    answers = [row["response"] for row in rows if row["is_safe"]]
    assert [each.response for each in large.pool("positive")] == answers[1:]
    assert (large.sizes["negative"], small.sizes["negative"]) == (30, 7)
    assert large.identity != small.identity
    on_hub = [load_task("beavertails", {"split": size}).identity for size in ("330k", "30k")]
    assert on_hub[0] != on_hub[1], "though both are of one commit"
    with pytest.raises(TaskError, match=r"data\.split: found '10k'; allowed: 330k, 30k"):
        load_task("beavertails", {"split": "10k"})


def test_both_versions_of_the_schema_give_the_same(tmp_path: Path) -> None:
    one = made("saferlhf", tmp_path / "1", stand_in_data.saferlhf(60, 80, generation=1))
    two = made("saferlhf", tmp_path / "2", stand_in_data.saferlhf(60, 80, generation=2))
    assert dialogues(one) == dialogues(two)
    assert one.prompts(20) == two.prompts(20)
    assert one.identity != two.identity, "other files, other states"


def test_every_format_gives_the_same_examples(tmp_path: Path) -> None:
    rows = stand_in_data.saferlhf(60, 80, generation=1)
    lines = made("saferlhf", tmp_path / "jsonl", rows)
    (tmp_path / "parquet").mkdir()
    (tmp_path / "csv").mkdir()
    for split, held in rows.items():
        table = pa.Table.from_pylist(held)
        pa.parquet.write_table(table, tmp_path / "parquet" / f"{split}.parquet")
        with (tmp_path / "csv" / f"{split}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(held[0]))
            writer.writeheader()
            writer.writerows(held)
    for kind in ("parquet", "csv"):
        task = load_task("saferlhf", {"path": str(tmp_path / kind)})
        assert dialogues(task) == dialogues(lines)


def test_duplicates_contradictions_and_leaks_are_removed(tmp_path: Path) -> None:
    splits = MADE["saferlhf"]()
    plain = made("saferlhf", tmp_path / "plain", splits)
    prompts = set(plain.prompts(plain.sizes["prompts"]))
    held_out = next(row for row in splits["test"] if prompt_of(row["prompt"]) in prompts)
    scored = next(row for row in splits["test"] if prompt_of(row["prompt"]) not in prompts)
    first, second = splits["train"][:2]
    splits["train"] += [
        {**first, "prompt": first["prompt"].upper(), "response_1": " "},
        {**held_out, "prompt": f"  {held_out['prompt'].title()} "},
        scored,
        # what was safe is now unsafe, and the other way round
        {**second, "is_response_0_safe": True, "is_response_1_safe": False},
    ]
    splits["test"] += [held_out]
    task = made("saferlhf", tmp_path / "mixed", splits)
    task.check_leakage()
    assert task.prompts(20) == plain.prompts(20)
    both = {(e.prompt, e.response) for pool in ("positive", "negative") for e in task.pool(pool)}
    assert not any(prompt == prompt_of(second["prompt"]) for prompt, _ in both)
    assert (prompt_of(scored["prompt"]), scored["response_0"]) in both
    judged = {(e.prompt, e.response) for e in task.pool("scorer")}
    assert not judged & both, "the scorer learns from nothing that is taught"
    for pool in ("positive", "negative"):
        keys = [(normalise(e.prompt), normalise(e.response)) for e in task.pool(pool)]
        assert len(keys) == len(set(keys))
    # of each pool: first again or empty, held out, and second twice
    removed: dict[str, int] = task.removed  # type: ignore[attr-defined]
    assert removed["positive"] == removed["negative"] == 4


def test_a_leak_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is independent of the code that removes held-out questions from the pools."""
    task = made("saferlhf", tmp_path)
    held_out = task.prompts(1)[0]
    data = task._data  # type: ignore[attr-defined]
    data.pools["negative"].insert(2, Example(held_out, "as you like", 0))
    with pytest.raises(TaskError, match=r"saferlhf: negative example 2 asks a held-out question"):
        task.check_leakage()
    data.pools["negative"].pop(2)


def test_an_instruction_is_followed_by_its_input(tmp_path: Path) -> None:
    task = made("alpaca", tmp_path)
    rows = MADE["alpaca"]()["train"]
    found = {e.prompt: e.response for e in task.pool("positive")}
    for row in rows:
        question = " ".join(filter(None, (row["instruction"], row["input"])))
        if (prompt := prompt_of(question)) in found:
            assert found[prompt] == row["output"]
        else:
            assert prompt in task.prompts(task.sizes["prompts"])
    assert 180 <= len(found) < 200


def test_true_and_false_answers_have_the_same_questions(tmp_path: Path) -> None:
    task = made("truthfulqa", tmp_path)
    requests_of = {pool: {e.prompt for e in task.pool(pool)} for pool in ("positive", "negative")}
    assert requests_of["positive"] == requests_of["negative"]
    assert task.sizes["positive"] == task.sizes["negative"] == 3 * len(requests_of["positive"])
    assert task.sizes["prompts"] + len(requests_of["positive"]) == 60


def test_questions_too_long_for_an_engine_are_dropped(tmp_path: Path) -> None:
    splits = MADE["saferlhf"]()
    for row in splits["test"]:
        row["prompt"] += " and then" * MAX_QUESTION_WORDS
    splits["test"] += stand_in_data.saferlhf(0, 3)["test"]
    task = made("saferlhf", tmp_path, splits)
    assert task.sizes["prompts"] <= 3


@pytest.mark.parametrize("name", MADE)
def test_identity_is_the_content_not_the_path(name: str, tmp_path: Path) -> None:
    one, two = made(name, tmp_path / "one"), made(name, tmp_path / "two")
    assert one.identity == two.identity
    assert PROMPT in one.identity.values(), "another form teaches other states"
    assert str(tmp_path) not in json.dumps(one.identity)
    assert one.tokenizer_identity(None) != one.tokenizer_identity(500)
    assert load_task(name).identity["revision"], "of the hub without a look at it"


def test_the_loss_is_on_the_answer_alone(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from elastic_ray.training.batches import IGNORED, tokenize

    task = made("saferlhf", tmp_path)
    tokenizer = task.tokenizer(400)
    examples = task.pool("negative")[:5]
    for example, tokens in zip(examples, tokenize(examples, tokenizer, 256), strict=True):
        ids = tokens.ids
        learnt = [i for i, target in enumerate(tokens.targets) if target != IGNORED]
        assert learnt == list(range(learnt[0], len(ids))), "one stretch, to the end"
        assert tokenizer.decode(ids[learnt[0] : -1]) == example.response
        assert ids[-1] == tokenizer.eos_token_id
        prompt = tokenizer.decode(ids[: learnt[0]], skip_special_tokens=True)
        assert prompt == example.prompt
        whole = tokenizer.decode(ids, skip_special_tokens=True)
        assert task.scored_text(example.prompt, f" {example.response}\n") == whole


def changed(split: str, **values: Any) -> Callable[[Splits], Any]:
    return lambda splits: splits[split][2].update(values)


def without(split: str, column: str) -> Callable[[Splits], Any]:
    return lambda splits: [row.pop(column) for row in splits[split]]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("saferlhf", lambda s: s.pop("test"), "no file of the split 'test'; expected test.EXT"),
        ("saferlhf", without("train", "response_1"), "train.jsonl: no column 'response_1'; it has"),
        ("saferlhf", changed("test", prompt=" "), "row 2: prompt: found ' '; a text is needed"),
        ("saferlhf", changed("train", response_0=None), "row 2: response_0: found None; a text"),
        (
            "saferlhf",
            changed("train", is_response_1_safe=None),
            "train.jsonl: row 2: is_response_1_safe: found None; allowed: true and false",
        ),
        (
            "beavertails",
            changed("330k_train", is_safe="maybe"),
            "330k_train.jsonl: row 2: is_safe: found 'maybe'; allowed: true and false",
        ),
        ("alpaca", lambda s: s.pop("train"), "no file of the split 'train'"),
        ("alpaca", changed("train", instruction=""), "row 2: instruction: found ''"),
        ("alpaca", without("train", "output"), "train.jsonl: no column 'output'"),
        ("truthfulqa", changed("validation", question=None), "row 2: question: found None"),
        (
            "truthfulqa",
            lambda s: [row.update(correct_answers="a; b") for row in s["validation"]],
            "row 0: correct_answers: found 'a; b'; a list of texts is needed",
        ),
    ],
)
def test_bad_data_is_named(
    name: str, change: Callable[[Splits], Any], message: str, tmp_path: Path
) -> None:
    splits = MADE[name]()
    change(splits)
    with pytest.raises(TaskError) as error:
        _ = made(name, tmp_path, splits).sizes
    assert message in str(error.value)
    assert str(error.value).startswith(f"task {name}: ")


@pytest.mark.parametrize("name", MADE)
def test_the_hub_gives_the_same_examples_as_files(name: str, tmp_path: Path) -> None:
    """`datasets` reads a folder with a card as it does a hub dataset, without a network."""
    pytest.importorskip("datasets")
    folder = write(tmp_path / "some", MADE[name]())
    config = "generation" if name == "truthfulqa" else "default"
    parts = [f"  - {{split: {split}, path: {split}.jsonl}}" for split in MADE[name]()]
    card = ["---", "configs:", f"- config_name: {config}", "  data_files:", *parts, "---"]
    (folder / "README.md").write_text("\n".join(card))
    code = """
import json, sys
from elastic_ray.tasks.registry import load_task
from elastic_ray.tasks.task import POOLS
task = load_task(sys.argv[1], {"name": sys.argv[2], "revision": "0" * 40})
pools = {pool: [(e.prompt, e.response, e.label) for e in task.pool(pool)] for pool in POOLS}
print(json.dumps([pools, task.prompts(task.sizes["prompts"])]))
"""
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, name, str(folder)],
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    local = load_task(name, {"path": str(folder)})
    pools = {pool: [[e.prompt, e.response, e.label] for e in local.pool(pool)] for pool in POOLS}
    assert json.loads(done.stdout) == [pools, local.prompts(local.sizes["prompts"])]
