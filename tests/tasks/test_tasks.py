"""Tasks: selections, generated reviews, IMDb from files, and checks against leakage."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elastic_ray.spec import CORPORA
from elastic_ray.tasks.grammar import CONSISTENCY, review, vocabulary
from elastic_ray.tasks.imdb import shuffle_if_sorted
from elastic_ray.tasks.imdb_files import SPLITS, clean, read
from elastic_ray.tasks.registry import load_task
from elastic_ray.tasks.reviews import HELD_OUT, SIZES
from elastic_ray.tasks.source import Source
from elastic_ray.tasks.subsets import selection
from elastic_ray.tasks.task import (
    POOLS,
    Example,
    HeldOut,
    Task,
    TaskError,
    check_leakage,
    cut_prompts,
)

ROOT = Path(__file__).parents[2]


def digest(texts: Iterable[str]) -> str:
    found = hashlib.sha256()
    for text in texts:
        found.update(text.encode() + b"\n")
    return found.hexdigest()[:20]


def in_process(code: str, *arguments: str, **environment: str) -> str:
    """Return what the code prints in its own Python process."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Selections


@given(
    size=st.integers(0, 300),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 3),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_selections_are_nested_and_later_epochs_reorder_them(
    size: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, size))
    whole, chosen = selection(size, size, seed), selection(size, count, seed)
    assert whole.dtype == np.int64 and sorted(whole) == list(range(size))
    assert chosen.tolist() == whole[:count].tolist()
    later = selection(size, count, seed, epoch)
    assert sorted(later) == sorted(chosen)
    assert later.tolist() == selection(size, count, seed, epoch).tolist()


def test_selections_depend_on_seed_and_epoch() -> None:
    orders = [selection(100, 100, seed, epoch) for seed in range(4) for epoch in range(4)]
    assert len({tuple(order) for order in orders}) == 16


def test_selections_never_change() -> None:
    """Recorded states depend on the order; a new order needs a new identity version."""
    assert selection(10, 10, 0).tolist() == [6, 5, 3, 9, 4, 8, 2, 7, 1, 0]
    assert selection(10, 6, 0, epoch=1).tolist() == [6, 5, 8, 3, 9, 4]
    assert digest(map(str, selection(25_000, 1_000, 7))) == "2e93803a1a37e3729e4a"


def test_a_selection_cannot_be_written_to() -> None:
    for epoch in (0, 1):
        with pytest.raises(ValueError, match="read-only"):
            selection(10, 5, 0, epoch)[0] = 1


@pytest.mark.parametrize("count", [-1, 11])
def test_a_selection_larger_than_the_pool_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} of 10"):
        selection(10, count, 0)


# Names and settings


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("review", {}, "no task 'review' (did you mean 'reviews'?); tasks: alpaca, beavertails"),
        ("poems", {}, "no task 'poems'; tasks: alpaca, beavertails, imdb, reviews, saferlhf, tru"),
        ("saferlhf", {"max_words": 9}, "unknown setting data.max_words; allowed: path, name, rev"),
        ("alpaca", {"path": "/no/such"}, "data.path: found '/no/such'; no such folder"),
        ("truthfulqa", {"name": "a/b"}, "data.revision: found None for a/b; a full commit id"),
        ("reviews", {"sed": 1}, "data.sed (did you mean 'seed'?); allowed: seed"),
        ("reviews", {"self": 1}, "unknown setting data.self"),
        ("reviews", {3: 1}, "unknown setting data.3"),
        ("reviews", {"seed": -1}, "data.seed: found -1; must be a whole number, at least 0"),
        ("reviews", {"seed": True}, "data.seed: found True"),
        ("reviews", {"seed": "0"}, "data.seed: found '0'"),
        ("imdb", {"pth": "x"}, "data.pth (did you mean 'path'?)"),
        ("imdb", {"path": "/no/such/folder"}, "data.path: found '/no/such/folder'; no such folder"),
        ("imdb", {"path": 3}, "data.path: found 3"),
        ("imdb", {"path": ".", "name": "a/b"}, "give path, or name and revision, not both"),
        ("imdb", {"max_words": 9}, "data.max_words: found 9; must be a whole number, at least 10"),
        ("imdb", {"max_words": 40.0}, "data.max_words: found 40.0"),
        ("imdb", {"name": ""}, "data.name: found ''"),
        ("imdb", {"name": "a/b"}, "data.revision: found None for a/b; a full commit id is needed"),
        ("imdb", {"revision": "main"}, "data.revision: found 'main' for stanfordnlp/imdb"),
    ],
)
def test_bad_names_and_settings_are_named(name: str, data: dict[Any, Any], message: str) -> None:
    with pytest.raises(TaskError) as error:
        load_task(name, data)
    assert message in str(error.value)


def test_planning_needs_neither_transformers_nor_torch() -> None:
    code = """
import sys
heavy = ("torch", "transformers", "tokenizers", "datasets", "ray", "vllm", "deepspeed")
for module in heavy:
    sys.modules[module] = None  # importing it now raises ImportError
from elastic_ray.tasks.registry import load_task
from elastic_ray.tasks.subsets import selection
task = load_task("reviews")
print(task.sizes["positive"], len(task.prompts(16)), task.tokenizer_identity(None)["vocab_size"])
"""
    assert in_process(code).split() == ["12000", "16", str(len(vocabulary()) + 4)]


# Held-out text


def test_held_out_text_is_found_whatever_its_case_and_spacing() -> None:
    text = "A film about one two three four five six seven ."
    held_out = HeldOut([text, "Great movie"])
    assert held_out.matches(text)
    assert held_out.matches("  a FILM about one two\tthree four five six seven . ")
    assert held_out.matches(f"{text} and much more")
    assert not held_out.matches(f"{text}and no word's end")
    assert not held_out.matches(f"well , {text}")
    assert not held_out.matches(text[:-2])
    assert held_out.matches("great  movie")
    assert not held_out.matches("great movie , but long"), "a few words are a common opening"


WORDS = st.lists(st.sampled_from(["a", "b", "ab", "."]), min_size=1, max_size=14).map(" ".join)


@given(held_out=st.lists(WORDS, max_size=8), text=WORDS)
@settings(max_examples=200, deadline=None)
def test_the_index_finds_what_plain_comparison_finds(held_out: list[str], text: str) -> None:
    words = text.split()
    plain = any(
        other.split() == words or (len(other.split()) > 8 and words[: len(o)] == o)
        for other in held_out
        for o in [other.split()]
    )
    assert HeldOut(held_out).matches(text) == plain


def test_leakage_is_refused_with_the_text() -> None:
    pools = {"positive": [Example("", "fine ."), Example("", "The  Same text .")]}
    check_leakage("some", ["another text ."], pools)
    with pytest.raises(TaskError, match=r"some: positive example 1 is also held out: 'The  Same"):
        check_leakage("some", ["the same text ."], pools)
    with pytest.raises(TaskError, match="positive example 0"):
        check_leakage("some", ["the same text ."], {"positive": [Example("the same", "text .")]})


@given(texts=st.lists(WORDS, max_size=30), seed=st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_prompts_are_distinct_beginnings_of_two_to_eight_words(texts: list[str], seed: int) -> None:
    prompts = cut_prompts("some", texts, seed)
    assert len(set(prompts)) == len(prompts)
    for prompt in prompts:
        assert 2 <= len(prompt.split()) <= 8
        assert any(text.startswith(f"{prompt} ") for text in texts), "something follows it"


# Reviews


@pytest.fixture(scope="module")
def reviews() -> Task:
    return load_task("reviews")


def test_reviews_never_change(reviews: Task) -> None:
    """Recorded states identify their text by `VERSION`: increase it with any change."""
    found = {pool: digest(f"{e.label} {e.response}" for e in reviews.pool(pool)) for pool in POOLS}
    found["prompts"] = digest(reviews.prompts(reviews.sizes["prompts"]))
    found["words"] = digest(vocabulary())
    assert found == {
        "pretrain": "3159e68d47612e249053",
        "positive": "d871863faa49102ac7f2",
        "negative": "f45b7815bf6e62f2239e",
        "scorer": "a8578d1da0dd8f77a94e",
        "prompts": "51f676378a2a423cb4dc",
        "words": "4b1c4335f91b70c79512",
    }
    assert reviews.identity == {"task": "reviews", "version": 2, "seed": 0}


def test_a_review_depends_on_its_index_and_seed_only() -> None:
    code = """
import sys
from elastic_ray.tasks.grammar import review
print(*(review(i % 2 == 0, int(sys.argv[1]), "pretrain", i, 0) for i in range(200)), sep="\\n")
"""
    runs = [in_process(code, "0", PYTHONHASHSEED=seed) for seed in ("1", "2")]
    here = [review(i % 2 == 0, 0, "pretrain", i, 0) for i in range(200)]
    assert runs[0] == runs[1] == "\n".join(here) + "\n"
    assert not set(in_process(code, "1").splitlines()) & set(here)


def test_reviews_have_the_documented_sizes_and_labels(reviews: Task) -> None:
    for pool, size in SIZES.items():
        assert len(reviews.pool(pool)) == reviews.sizes[pool] == size
    labels = {pool: Counter(e.label for e in reviews.pool(pool)) for pool in POOLS}
    assert labels == {
        "pretrain": {None: 60_000},
        "positive": {1: 12_000},
        "negative": {0: 12_000},
        "scorer": {1: 2_000, 0: 2_000},
    }
    assert all(e.prompt == "" for pool in POOLS for e in reviews.pool(pool))
    with pytest.raises(TaskError, match="no pool 'neutral'; pools: pretrain, positive, negative"):
        reviews.pool("neutral")


def test_review_pools_share_no_text_with_each_other_or_the_held_out(reviews: Task) -> None:
    texts = [e.response for pool in POOLS for e in reviews.pool(pool)]
    held_out = [review(i % 2 == 0, 0, "held out", i, 0) for i in range(HELD_OUT)]
    assert len(set(texts) | set(held_out)) == len(texts) + HELD_OUT
    reviews.check_leakage()


def test_reviews_are_words_between_single_spaces(reviews: Task) -> None:
    known = set(vocabulary())
    lengths = []
    for example in reviews.pool("scorer"):
        words = example.response.split(" ")
        assert known.issuperset(words)
        lengths.append(len(words) + 2)
        assert 2 <= example.response.count(" .") <= 6
    assert np.mean(lengths) == pytest.approx(reviews.mean_tokens, rel=0.02)
    assert 200 < len(known) < 1000


GOOD = """
    good fine nice solid decent pleasant likable great charming clever moving funny strong fresh
    warm gripping wonderful brilliant superb excellent perfect beautiful unforgettable stunning
    smiling tears won held laugh stayed lifts rewards loved joy recommended miss best happy ten
    worth
"""
BAD = """
    weak slow flat thin uneven dull forgettable bad boring clumsy silly lazy stale cheap predictable
    confusing awful terrible horrible dreadful painful laughable unwatchable pathetic sleep cringe
    wore ruined nowhere insults sense lost hated waste avoid bother worst walked one
"""


def polarity(text: str) -> int:
    """Positive minus negative words; a negation inverts the next word."""
    good, bad = frozenset(GOOD.split()), frozenset(BAD.split())
    total, turn = 0, 1
    for word in text.split():
        total += turn * ((word in good) - (word in bad))
        turn = -1 if word == "never" else 1
    return total


def test_labelled_reviews_are_separable_by_counting_words(reviews: Task) -> None:
    scored = [(polarity(e.response), e.label) for e in reviews.pool("scorer")]
    assert np.mean([(score > 0) == (label == 1) for score, label in scored]) > 0.9


def test_pretraining_reviews_are_half_positive(reviews: Task) -> None:
    scores = np.sign([polarity(e.response) for e in reviews.pool("pretrain")[:8_000]])
    assert np.mean(scores[scores != 0] > 0) == pytest.approx(0.5, abs=0.02)
    assert 0.8 <= CONSISTENCY < 1, "a mood is a tendency, or there is nothing to learn slowly"


def test_review_prompts_are_neutral_nested_and_distinct(reviews: Task) -> None:
    prompts = reviews.prompts(512)
    assert len(set(prompts)) == 512
    assert prompts[:100] == reviews.prompts(100)
    assert Counter(polarity(prompt) for prompt in prompts) == {0: 512}
    assert {len(prompt.split()) for prompt in prompts} == set(range(2, 9))
    most = reviews.sizes["prompts"]
    assert most >= 1_000
    with pytest.raises(TaskError, match=f"holds {most:,} held-out prompts; asked for {most + 1:,}"):
        reviews.prompts(most + 1)


def check_texts(task: Task) -> None:
    """Held-out texts: a corpus for each distribution, nested, disjoint, of the right labels."""
    most = task.sizes["texts"]
    held = {corpus: task.texts(corpus, most) for corpus in CORPORA}
    texts = {corpus: {e.response for e in held[corpus]} for corpus in CORPORA}
    assert len(set().union(*texts.values())) == sum(map(len, texts.values()))
    taught = {e.response for pool in POOLS for e in task.pool(pool)}
    assert not taught & set().union(*texts.values())
    assert {e.label for e in held["positive"]} == {1}
    assert {e.label for e in held["negative"]} == {0}
    assert np.mean([e.label for e in held["pretrain"]]) == pytest.approx(0.5, abs=0.1)
    for corpus in CORPORA:
        assert task.texts(corpus, 5) == held[corpus][:5]
    with pytest.raises(TaskError, match="held-out positive texts; asked for 999,999"):
        task.texts("positive", 999_999)
    with pytest.raises(TaskError, match="no corpus 'scorer'; corpora: pretrain, positive, neg"):
        task.texts("scorer", 1)


def test_reviews_have_held_out_texts_of_each_distribution(reviews: Task) -> None:
    assert reviews.sizes["texts"] > 600
    check_texts(reviews)


def test_the_reviews_tokenizer_loads_from_its_model_folder(reviews: Task, tmp_path: Path) -> None:
    """Beside each architecture's configuration, by which transformers picks the class."""
    from transformers import AutoConfig, AutoTokenizer

    made = reviews.tokenizer(None)
    made.save_pretrained(tmp_path)
    tokenizers = [made, AutoTokenizer.from_pretrained(tmp_path)]
    for architecture in ("llama", "qwen3", "mistral", "gpt2", "roberta"):
        AutoConfig.for_model(architecture).save_pretrained(tmp_path)
        tokenizers.append(AutoTokenizer.from_pretrained(tmp_path))
    text = reviews.pool("positive")[0].response
    for tokenizer in tokenizers:
        ids = tokenizer(text).input_ids
        assert ids[0] == tokenizer.bos_token_id and len(ids) == len(text.split()) + 1
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert tokenizer("nonesuch").input_ids == [ids[0], tokenizer.unk_token_id]
        assert len(tokenizer) == reviews.tokenizer_identity(None)["vocab_size"]
        tokens = (tokenizer.bos_token, tokenizer.pad_token, tokenizer.eos_token)
        assert tokens == ("<bos>", "<pad>", "<eos>")
        batch = tokenizer([text, "the"], padding=True).input_ids
        assert batch[1][-1] == tokenizer.pad_token_id


def test_the_reviews_vocabulary_is_fixed(reviews: Task) -> None:
    for ask in (reviews.tokenizer, reviews.tokenizer_identity):
        with pytest.raises(TaskError, match=r"init\.vocabulary: found 4096"):
            ask(4096)


# IMDb from files

Rows = list[dict[str, Any]]


def write_parquet(path: Path, rows: Rows) -> None:
    pa.parquet.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"))


def write_jsonl(path: Path, rows: Rows) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.with_suffix(".jsonl").write_text(text, encoding="utf-8")


def write_csv(path: Path, rows: Rows) -> None:
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


WRITERS = (write_parquet, write_jsonl, write_csv)


def small_splits() -> dict[str, Rows]:
    """Splits like IMDb's, with line breaks, quotes and no duplicates."""

    def rows(split: str, count: int, label: Callable[[int], int]) -> Rows:
        words = 'the film, "number {}" of the {} set<br /><br />was\nmade in a  year that nobody é'
        return [{"text": words.format(i, split), "label": label(i)} for i in range(count)]

    return {
        "train": rows("train", 40, lambda i: i % 2),
        "test": rows("test", 60, lambda i: i % 2),
        "unsupervised": rows("unsupervised", 50, lambda i: -1),
    }


@pytest.mark.parametrize("downwards", [False, True])
def test_a_split_sorted_by_label_gives_prompts_of_both(downwards: bool) -> None:
    rows = sorted(((f"review {i}", i % 2) for i in range(200)), key=lambda row: row[1])
    found = shuffle_if_sorted(rows[::-1] if downwards else rows)
    assert sorted(found) == sorted(rows)
    assert 5 <= sum(label for _, label in found[:20]) <= 15


def test_a_split_in_any_other_order_keeps_it() -> None:
    rows = [(f"review {i}", i % 2) for i in range(20)]
    assert shuffle_if_sorted(rows) == rows
    assert shuffle_if_sorted(rows[::2]) == rows[::2]  # of one label


def write_folder(
    folder: Path, splits: dict[str, Rows], write: Callable[[Path, Rows], None] = write_jsonl
) -> Task:
    folder.mkdir(exist_ok=True)
    for split, rows in splits.items():
        write(folder / split, rows)
    return load_task("imdb", {"path": str(folder)})


def texts(task: Task, pool: str) -> list[str]:
    return [example.response for example in task.pool(pool)]


def test_every_format_gives_the_same_examples(tmp_path: Path) -> None:
    tasks = [write_folder(tmp_path / w.__name__, small_splits(), w) for w in WRITERS]
    for task in tasks:
        assert task.sizes["pretrain"] == 50
        assert task.sizes["positive"] == task.sizes["negative"] == 20
        assert {e.label for e in task.pool("positive")} == {1}
        assert {e.label for e in task.pool("negative")} == {0}
        assert {e.label for e in task.pool("pretrain")} == {None}
        assert {e.label for e in task.pool("scorer")} == {0, 1}
        assert 15 < task.sizes["scorer"] < 45
        task.check_leakage()
        for pool in POOLS:
            assert list(task.pool(pool)) == list(tasks[0].pool(pool))
        assert task.prompts(10) == tasks[0].prompts(10)
    assert texts(tasks[0], "pretrain")[3] == (
        'the film, "number 3" of the unsupervised set was made in a year that nobody é'
    )
    with pytest.raises(TaskError, match="no pool 'test'"):
        tasks[0].pool("test")


def test_parts_are_read_in_order_of_their_numbers(tmp_path: Path) -> None:
    whole = write_folder(tmp_path / "whole", small_splits(), write_csv)
    splits = small_splits()
    for i in range(11):
        splits[f"train-{i}"] = splits["train"][i * 4 : i * 4 + 4] or splits["train"][:1]
    splits["unsupervised-00000-of-00002"] = splits["unsupervised"][:20]
    splits["unsupervised-00001-of-00002"] = splits["unsupervised"][20:]
    del splits["train"], splits["unsupervised"]
    parts = write_folder(tmp_path / "parts", splits, write_csv)
    for pool in POOLS:
        assert texts(parts, pool) == texts(whole, pool)


def test_identity_is_the_content_not_the_path(tmp_path: Path) -> None:
    one = write_folder(tmp_path / "one", small_splits())
    two = write_folder(tmp_path / "two", small_splits())
    assert one.identity == two.identity
    assert str(tmp_path) not in json.dumps(one.identity)
    assert one.tokenizer_identity(None) == two.tokenizer_identity(4096)
    assert one.tokenizer_identity(None) != two.tokenizer_identity(512)
    cut = load_task("imdb", {"path": str(tmp_path / "one"), "max_words": 10})
    assert cut.identity != one.identity
    assert {len(text.split()) for text in texts(cut, "positive")} == {10}
    assert cut.mean_tokens < one.mean_tokens
    changed = small_splits()
    changed["train"][5]["text"] += " indeed"
    three = write_folder(tmp_path / "two", changed)
    assert three.identity != one.identity
    assert three.pool("negative") == one.pool("negative")
    assert three.pool("positive") != one.pool("positive"), "a changed file is read again"


def test_duplicates_and_held_out_texts_are_removed(tmp_path: Path) -> None:
    splits = small_splits()
    plain = write_folder(tmp_path / "plain", splits)
    judged = set(texts(plain, "scorer"))
    held_out = [row for row in splits["test"] if clean(row["text"], None) not in judged]
    scored = next(row for row in splits["test"] if clean(row["text"], None) in judged)
    splits["train"] += [
        {"text": splits["train"][1]["text"].replace("film", " FILM"), "label": 1},
        {"text": held_out[0]["text"], "label": 1},
        {"text": held_out[1]["text"] + " and more", "label": 0},
    ]
    taught = splits["train"][3]
    splits["unsupervised"] += [splits["unsupervised"][0], held_out[2], taught, scored]
    splits["test"] += [held_out[0], scored]
    task = write_folder(tmp_path / "mixed", splits)
    task.check_leakage()
    assert texts(task, "positive") == texts(plain, "positive")
    assert texts(task, "negative") == texts(plain, "negative")
    more = [clean(taught["text"], None), clean(scored["text"], None)]
    assert texts(task, "pretrain") == [*texts(plain, "pretrain"), *more]
    assert texts(task, "scorer") == [text for text in texts(plain, "scorer") if text != more[1]]
    assert task.sizes["prompts"] == plain.sizes["prompts"]
    removed = {"pretrain": 2, "positive": 2, "negative": 1, "scorer": 2}
    assert task.removed == removed  # type: ignore[attr-defined]


def test_hub_models_need_no_unlabelled_text(tmp_path: Path) -> None:
    splits = small_splits()
    del splits["unsupervised"]
    task = write_folder(tmp_path / "few", splits)
    assert task.sizes["pretrain"] == 0 and list(task.pool("pretrain")) == []
    assert len(task.tokenizer(300)) <= 300


def relabelled(split: str, label: object) -> Callable[[dict[str, Rows]], None]:
    return lambda splits: splits[split][2].update(label=label)


def without(split: str, column: str) -> Callable[[dict[str, Rows]], None]:
    return lambda splits: [row.pop(column) for row in splits[split]] and None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("train"), "no file of the split 'train'; expected train.EXT"),
        (lambda s: s.pop("test"), "no file of the split 'test'"),
        (without("train", "label"), "train.jsonl: no column 'label'; it has text"),
        (without("test", "text"), "test.jsonl: no column 'text'; it has label"),
        (without("unsupervised", "text"), "unsupervised.jsonl: no column 'text'"),
        (relabelled("train", 2), "train.jsonl: row 2: label: found 2; allowed: 0 and 1"),
        (relabelled("test", None), "test.jsonl: row 2: label: found None; allowed: 0 and 1"),
        (lambda s: s["train"][1].update(text=" "), "train.jsonl: row 1: text: found ' '"),
        (lambda s: s["train"][1].update(text="<br />"), "row 1: text: found '<br />'"),
        (lambda s: s["train"][1].update(text=None), "row 1: text: found None; a text is needed"),
        (lambda s: s.update({"train-0": s["train"]}), "'train' is there more than once: train"),
        (
            lambda s: s.update({"train-00001-of-00002": s.pop("train")}),
            "of 2 parts of 'train' found only train-00001-of-00002.jsonl",
        ),
    ],
)
def test_bad_folders_are_named(
    change: Callable[[dict[str, Rows]], object], message: str, tmp_path: Path
) -> None:
    splits = small_splits()
    change(splits)
    with pytest.raises(TaskError) as error:
        _ = write_folder(tmp_path / "bad", splits).sizes
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.parquet", "no parquet at all", "train.parquet: cannot be read"),
        ("train.jsonl", '{"text": "unended', "train.jsonl: cannot be read"),
        ("train.csv", "", "train.csv: cannot be read"),
        ("train.csv", "text,label\na film,pos\n", "row 0: label: found 'pos'; allowed: 0 and 1"),
        ("train.csv", "text,label\na film,true\n", "row 0: label: found 'true'; allowed: 0"),
    ],
)
def test_unreadable_files_are_named(name: str, content: str, message: str, tmp_path: Path) -> None:
    splits = small_splits()
    del splits["train"]
    task = write_folder(tmp_path / "bad", splits)
    (tmp_path / "bad" / name).write_text(content)
    with pytest.raises(TaskError) as error:
        _ = task.sizes
    assert message in str(error.value)


def test_too_small_a_vocabulary_is_refused(tmp_path: Path) -> None:
    task = write_folder(tmp_path / "some", small_splits())
    for ask in (task.tokenizer, task.tokenizer_identity):
        with pytest.raises(TaskError, match=r"init\.vocabulary: found 100; at least 260"):
            ask(100)


def test_without_the_hub_the_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
from elastic_ray.tasks.registry import load_task
from elastic_ray.tasks.task import TaskError
try:
    print(load_task("imdb").sizes)
except TaskError as error:
    print(error)
"""
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    assert "is not available from the hub" in (said := in_process(code, **offline))
    assert "give data.path, a local folder" in said
    without_datasets = "import sys; sys.modules['datasets'] = None" + code
    assert "needs the `datasets` package" in in_process(without_datasets)


def test_a_dataset_of_the_hub_gives_the_same_rows_as_its_files(tmp_path: Path) -> None:
    """`datasets` reads a folder with a card as it does a hub dataset, without a network."""
    code = """
import json, sys
from elastic_ray.tasks.imdb_files import SPLITS, read
from elastic_ray.tasks.source import Source
print(json.dumps(read(Source(SPLITS, None, (sys.argv[1], "0" * 40)), None)))
"""
    folder = str(tmp_path / "some")
    write_folder(tmp_path / "some", small_splits(), write_parquet)
    parts = [f"  - {{split: {split}, path: {split}.parquet}}" for split in small_splits()]
    card = ["---", "configs:", "- config_name: plain_text", "  data_files:", *parts, "---"]
    (tmp_path / "some" / "README.md").write_text("\n".join(card))
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    found = json.loads(in_process(code, folder, **offline))
    expected = read(Source(SPLITS, folder, ("", "")), None)
    assert found == {split: [list(row) for row in rows] for split, rows in expected.items()}


# IMDb itself


@pytest.fixture(scope="module")
def imdb(imdb_folder: Path) -> Task:
    return load_task("imdb", {"path": str(imdb_folder)})


def test_the_real_reviews_are_read_without_leakage(imdb: Task) -> None:
    sizes = imdb.sizes
    assert 49_000 < sizes["pretrain"] < 50_000
    assert 12_300 < sizes["positive"] < 12_500 and 12_300 < sizes["negative"] < 12_500
    assert 11_500 < sizes["scorer"] < 13_000
    labels = Counter(e.label for e in imdb.pool("scorer"))
    assert labels[1] == pytest.approx(labels[0], rel=0.05)
    imdb.check_leakage()
    assert sizes["prompts"] > 10_000
    assert not any("<br />" in text for pool in POOLS for text in texts(imdb, pool))
    assert sizes["texts"] > 2_500
    check_texts(imdb)


@pytest.mark.parametrize("source", ["reviews", "imdb"])
def test_a_trained_tokenizer_is_the_same_in_every_process(
    source: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Generated text has many pairs of equal count, real text many different characters."""
    code = """
import sys
from elastic_ray.tasks.registry import load_task
load_task("imdb", {"path": sys.argv[1]}).tokenizer(900).save_pretrained(sys.argv[2])
"""
    read = texts(request.getfixturevalue(source), "pretrain")[:3_000]
    splits = {**small_splits(), "unsupervised": [{"text": text} for text in read]}
    task = write_folder(tmp_path / "some", splits, write_parquet)
    for seed in ("1", "2"):
        in_process(code, str(tmp_path / "some"), str(tmp_path / seed), PYTHONHASHSEED=seed)
    one, two = ((tmp_path / seed / "tokenizer.json").read_bytes() for seed in "12")
    assert one == two
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "1")
    assert len(tokenizer) == task.tokenizer_identity(900)["vocab_size"]
    for text in (read[0], 'a "new" word: \u00e9\u4e2d\U0001f3ac <b>'):
        ids = tokenizer(text).input_ids
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
