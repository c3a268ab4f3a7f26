"""docs/accepted.md, section "Data": each layout and form that it lists is read, or refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import stand_in_data

from elastic_ray.tasks.registry import load_task
from elastic_ray.tasks.rows import FileProblem, read_rows
from elastic_ray.tasks.task import Task, TaskError

PAGE = (Path(__file__).parents[2] / "docs" / "accepted.md").read_text(encoding="utf-8")
NAMES = ("text", "label")
ROWS: list[dict[str, Any]] = [
    {"text": 'a "fine" film,\nin two lines é', "label": 1},
    {"text": "1984", "label": 0},
    {"text": "2020-01-01", "label": 1},
]


def table(title: str) -> dict[str, str]:
    """The rows of the table below a heading of the page: first cell -> second."""
    section = PAGE.split(f"### {title}\n")[1].split("\n#")[0]
    cells = re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    return dict(cells[1:])


def encoded(name: str, rows: list[dict[str, Any]]) -> bytes:
    """The rows in the format and compression of a file's name."""
    if name.endswith((".gz", ".zst")):
        raw = encoded(name.rpartition(".")[0], rows)
        packed: bytes = (
            gzip.compress(raw)
            if name.endswith(".gz")
            else pa.compress(raw, codec="zstd", asbytes=True)
        )
        return packed
    if name.endswith(".parquet"):
        sink = io.BytesIO()
        pa.parquet.write_table(pa.Table.from_pylist(rows), sink)
        return sink.getvalue()
    if name.endswith((".csv", ".tsv")):
        file = io.StringIO(newline="")
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if "tsv" in name else ",")
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue().encode()
    if name.endswith(".json"):
        return json.dumps(rows).encode()
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def alpaca() -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if k != "text"} for r in stand_in_data.alpaca(40)["train"]]


def contents(task: Task) -> Any:
    return list(task.pool("positive")), task.prompts(task.sizes["prompts"])


@pytest.mark.parametrize("layout", table("Layouts"))
def test_every_layout_is_read(layout: str, tmp_path: Path) -> None:
    rows, files = alpaca(), re.findall(r"`(.+?)`", table("Layouts")[layout])
    plain = load_task("alpaca", {"path": str(put(tmp_path / "plain.jsonl", encoded("x", rows)))})
    share = -(-len(rows) // len(files))
    for i, name in enumerate(files):
        put(tmp_path / "some" / name, encoded(name, rows[i * share :][:share]))
    task = load_task("alpaca", {"path": str(tmp_path / "some")})
    assert contents(task) == contents(plain)
    if files != ["train.jsonl"] and all(name.endswith(".jsonl") for name in files):
        assert task.identity == plain.identity, "the content is the identity, not its place"


def test_a_card_names_the_files_and_the_configurations(tmp_path: Path) -> None:
    rows = alpaca()
    for i, name in enumerate("ab"):
        put(tmp_path / name / "questions.jsonl", encoded("x", rows[i * 20 :][:20]))
    card = "configs:\n" + "".join(
        f"- config_name: {name}\n  data_files: [{{split: train, path: '{name}/*.jsonl'}}]\n"
        for name in "ab"
    )
    put(tmp_path / "README.md", f"---\n{card}---\n# a card\n".encode())
    tasks = [load_task("alpaca", {"path": str(tmp_path), "config": name}) for name in "ab"]
    assert contents(tasks[0]) != contents(tasks[1])
    assert tasks[0].identity != tasks[1].identity
    for settings, message in (
        ({}, "has several configurations, a, b; name one"),
        ({"config": "c"}, "data.config: found 'c'; no such configuration; it has a, b"),
    ):
        with pytest.raises(TaskError, match=re.escape(message)):
            _ = load_task("alpaca", {"path": str(tmp_path), **settings}).sizes


def lines(*rows: str) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


def with_row(row: str) -> bytes:
    return encoded("x.jsonl", ROWS) + row.encode()


FORMS: dict[str, dict[str, bytes]] = {
    "JSON, an object per line": {"x.jsonl": encoded("x.jsonl", ROWS)},
    "JSON, a list of objects": {"x.json": json.dumps(ROWS, indent=1).encode()},
    "JSON, an object with one list of objects": {
        "x.json": json.dumps({"version": "1", "data": ROWS}).encode()
    },
    "JSON, lists by column": {
        "x.json": json.dumps({name: [row[name] for row in ROWS] for name in NAMES}).encode()
    },
    "CSV with commas, semicolons, tabs or bars": {
        f"{i}.csv": f"text{mark}label\nfine{mark}1\n".encode() for i, mark in enumerate(",;\t|")
    },
    "a row of several megabytes": {
        name: encoded(name, [*ROWS, {"text": "w " * 1_500_000, "label": 1}])
        for name in ("x.jsonl", "x.csv", "x.parquet")
    },
    "texts that look like numbers or dates": {
        name: encoded(name, ROWS) for name in ("x.csv", "x.jsonl", "x.parquet")
    },
    "other columns of mixed types": {
        "x.jsonl": with_row('{"text": "fine", "label": 1, "more": [1, {"a": NaN}], "Text": 5}\n')
        + b'{"text": "good", "label": 0, "more": "none"}\n'
    },
    "UTF-8 with a byte order mark": {
        name: b"\xef\xbb\xbf" + encoded(name, ROWS) for name in ("x.csv", "x.jsonl", "x.json")
    },
    "UTF-16 with a byte order mark": {
        name: encoded(name, ROWS).decode().encode("utf-16") for name in ("x.csv", "x.jsonl")
    },
    "Latin-1": {"x.csv": "text,label\ncafé,1\n".encode("latin-1")},
    "UTF-16 without a byte order mark": {"x.csv": "text,label\na,1\n".encode("utf-16-le")},
    "a compressed file that ends early": {
        name: encoded(name, ROWS * 2000)[:-20] for name in ("x.jsonl.gz", "x.jsonl.zst")
    },
    "a column that is there twice": {
        "x.csv": b"text,label,text\na,1,b\n",
        "x.jsonl": b'{"text": "a", "label": 1, "text": "b"}\n',
    },
    "a row with too many fields": {"x.csv": b"text,label\na,1\nb,c,1\n"},
    "a line that is no JSON": {"x.jsonl": with_row("{not\n")},
    "a text that is missing": {"x.jsonl": with_row('{"label": 1}\n')},
    "an empty file": {name: b"" for name in ("x.csv", "x.jsonl", "x.json", "x.parquet")},
}


def imdb_of(folder: Path, name: str, data: bytes) -> Task:
    put(folder / f"train{name[1:]}", data)
    put(folder / "test.jsonl", encoded("x", [{"text": f"a film no {i}", "label": 1} for i in "ab"]))
    return load_task("imdb", {"path": str(folder)})


@pytest.mark.parametrize("form", table("Forms of files"))
def test_every_form_is_read_or_refused(form: str, tmp_path: Path) -> None:
    assert set(FORMS) == set(table("Forms of files"))
    for i, (name, data) in enumerate(FORMS[form].items()):
        task = imdb_of(tmp_path / str(i), name, data)
        if table("Forms of files")[form] == "yes":
            assert task.sizes["positive"] > 0
        else:
            with pytest.raises(TaskError) as error:
                _ = task.sizes
            assert re.fullmatch(r"task imdb: .*/train\.[a-z.]+: .+", str(error.value))


def test_rows_of_every_format_are_the_same(tmp_path: Path) -> None:
    for name in ("x.jsonl", "x.json", "x.parquet", "x.jsonl.gz", "x.jsonl.zst"):
        assert list(read_rows(put(tmp_path / name, encoded(name, ROWS)), NAMES)) == ROWS
    for name in ("x.csv", "x.tsv", "x.csv.gz"):
        found = list(read_rows(put(tmp_path / name, encoded(name, ROWS)), NAMES))
        assert found == [{**row, "label": str(row["label"])} for row in ROWS]


REFUSALS: list[tuple[str, bytes, str]] = [
    ("x.csv", b"text,label,text\na,1,b\n", "column 'text' is there 2 times; keep one"),
    ("x.csv", b"Text,label\na,1\n", "no column 'text'; it has Text, label"),
    ("x.csv", b"text,label\na,1\nb,c,1\n", "line 3: found 3 fields; the header has 2"),
    ("x.jsonl", b'{"text": "a", "label": 1}\n[1]\n', "line 2: found list; an object is needed"),
    ("x.jsonl", b'{"text": "\\ud83d", "label": 1}\n', "row 0: text: holds half of a surrogate"),
    ("x.csv", b"text,label\nfine,1\n\xe9,1\n" * 9, "not utf-8"),
    ("x.json", b"5", "an object is needed"),
]


@pytest.mark.parametrize(("name", "data", "message"), REFUSALS)
def test_refusals_name_row_and_column(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileProblem) as error:
        list(read_rows(put(tmp_path / name, data), NAMES))
    assert message in str(error.value)


def test_reviews_without_spaces_are_cut_by_characters(tmp_path: Path) -> None:
    for split, count in (("train", 60), ("test", 80)):
        rows = []
        for i in range(count):
            word = "精彩" if i % 2 else "无聊"
            text = f"这部电影的剧情很{word}。第{split}{i}个演员也不错。结尾让人感动。"
            rows.append({"text": text, "label": i % 2})
        put(tmp_path / f"{split}.jsonl", encoded("x", rows))
    with pytest.raises(TaskError, match=r"data\.unit: missing; .* have no spaces between words"):
        _ = load_task("imdb", {"path": str(tmp_path)}).sizes
    settings = {"path": str(tmp_path), "unit": "character"}
    task = load_task("imdb", {**settings, "max_characters": 20})
    prompts = task.prompts(task.sizes["prompts"])
    assert len(prompts) > 5 and {len(prompt) for prompt in prompts} <= set(range(4, 17))
    assert max(len(example.response) for example in task.pool("positive")) == 20
    assert 15 < task.mean_tokens < 25
    assert task.scored_text("这部", "电影") == "这部电影"
    task.check_leakage()
    refused: list[tuple[dict[str, Any], Callable[[str], bool]]] = [
        ({"max_words": 20}, lambda said: "data.max_words: the unit is the character" in said),
        ({"max_characters": 5}, lambda said: "at least 20" in said),
        ({"unit": "token"}, lambda said: "allowed: word, character" in said),
    ]
    for more, says in refused:
        with pytest.raises(TaskError) as error:
            load_task("imdb", {**settings, **more})
        assert says(str(error.value))
