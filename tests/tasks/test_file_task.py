"""Tasks written in the sweep file: what is read, refused, held apart and identified."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import duckdb
import pytest
import stand_in_data

from elastic_ray.plan import load_inputs
from elastic_ray.spec import SpecError, add_line_numbers, load_spec
from elastic_ray.sweep.first_examples import example_lines
from elastic_ray.tasks.layout import Splits
from elastic_ray.tasks.registry import load_task
from elastic_ray.tasks.task import Task, TaskError, UnreachableData

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "sweeps" / "examples" / "own_task.yaml"
Data = dict[str, Any]
CHAT = {"prompt": "messages[1].content", "response": "messages[2].content"}


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """The settings of a task on two files."""
    stand_in_data.write(
        tmp_path,
        {"chats": stand_in_data.chats(60), "asked": stand_in_data.chat_prompts(12)},
    )
    chats = {"path": str(tmp_path / "chats.jsonl")}
    return {
        "template": "Q: {prompt}\nA:",
        "pools": {
            "positive": {
                **chats,
                "where": "NOT unsafe AND source = 'taught'",
                "columns": dict(CHAT),
            },
            "negative": {**chats, "where": "unsafe AND source = 'taught'", "columns": dict(CHAT)},
            "scorer": {
                **chats,
                "where": "source = 'scored'",
                "columns": {**CHAT, "label": "NOT unsafe"},
            },
            "prompts": {"path": str(tmp_path / "asked.jsonl"), "columns": {"prompt": "ask"}},
        },
    }


def put(data: Data, path: str, value: Any) -> Data:
    """The settings with a value, or without the setting where the value is `...`."""
    changed = deepcopy(data)
    *steps, last = path.split(".")
    holder = changed
    for step in steps:
        holder = holder[step]
    if value is ...:
        holder.pop(last, None)
    else:
        holder[last] = value
    return changed


def problem(data: Data) -> str:
    with pytest.raises(TaskError) as error:
        _ = load_task("mine", data).sizes
    text = str(error.value)
    assert "\n" not in text and text.startswith("task mine: ")
    return text.removeprefix("task mine: ")


# What is read


def test_pools_are_rows_of_nested_data(data: Data) -> None:
    task = load_task("mine", data)
    rows = stand_in_data.chats(60)
    for pool, unsafe in (("positive", False), ("negative", True)):
        assert [(each.prompt, each.response, each.label) for each in task.pool(pool)] == [
            (
                f"Q: {row['messages'][0]['content']}\nA:",
                row["messages"][1]["content"],
                int(not unsafe),
            )
            for row in rows
            if row["unsafe"] == unsafe and row["source"] == "taught"
        ]
    assert {each.label for each in task.pool("scorer")} == {0, 1}
    assert task.pool("pretrain") == []
    asked = [row["ask"] for row in stand_in_data.chat_prompts(12)]
    assert task.prompts(12) == [f"Q: {ask}\nA:" for ask in asked]
    assert task.sizes == {"pretrain": 0, "positive": 20, "negative": 20, "scorer": 20} | {
        "prompts": 12,
        "texts": 0,
    }
    assert task.mean_tokens > 20
    example = task.pool("positive")[0]
    assert task.scored_text(example.prompt, f" {example.response}\n") == (
        example.prompt + example.response
    )
    task.check_leakage()


@pytest.mark.parametrize("form", ["csv", "tsv", "json", "parquet", "jsonl.gz", "folder"])
def test_every_form_gives_the_same_examples(form: str, data: Data, tmp_path: Path) -> None:
    rows = [
        {
            "q": row["messages"][0]["content"],
            "a": row["messages"][1]["content"],
            "n": str(row["id"]),
        }
        for row in stand_in_data.chats(12)
    ]
    path = tmp_path / f"flat.{form}"
    if form in ("csv", "tsv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(
                file, ["q", "a", "n"], delimiter={"csv": ",", "tsv": "\t"}[form]
            )
            writer.writeheader()
            writer.writerows(rows)
    elif form == "json":
        path.write_text(json.dumps({"data": rows}, indent=1))
    elif form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet

        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif form == "folder":
        path = tmp_path / "folder"
        path.mkdir()
        for i, part in enumerate((rows[:5], rows[5:])):
            text = "".join(json.dumps(row) + "\n" for row in part)
            (path / f"late-0000{i}-of-00002.jsonl").write_text(text)
        data = put(data, "pools.positive.split", "late")
    else:
        import gzip

        path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))
    pool = {
        **data["pools"]["positive"],
        "path": str(path),
        "columns": {"prompt": "q", "response": "a"},
    }
    pool["where"] = "n::INT >= 4"
    changed = put(data, "pools.positive", pool)
    for other in ("negative", "scorer"):
        changed = put(changed, f"pools.{other}", ...)
    found = load_task("mine", changed).pool("positive")
    assert [each.response for each in found] == [row["a"] for row in rows[4:]]


def test_plain_texts_need_no_template_and_no_prompt(tmp_path: Path) -> None:
    reviews = stand_in_data.imdb(60, 20)
    long_prompt = "one two three four five six seven eight nine ten"
    reviews["train"].append({"text": f"{long_prompt} and more", "label": 1})
    reviews["test"].append({"text": long_prompt, "label": 1})
    stand_in_data.write(tmp_path, reviews)
    pool: dict[str, Any] = {"path": str(tmp_path), "columns": {"response": "text"}}
    start = "array_to_string(string_split(text, ' ')[1:4], ' ')"
    start = f"CASE WHEN text = '{long_prompt}' THEN text ELSE {start} END"
    data = {
        "pools": {
            "positive": {**pool, "where": "label = 1"},
            "negative": {**pool, "where": "label = 0"},
            "prompts": {**pool, "split": "test", "columns": {"prompt": start}},
        }
    }
    task = load_task("mine", data)
    assert {each.prompt for each in task.pool("positive")} == {""}
    assert task.sizes["positive"] == 30, "the text that begins with a held-out one is left out"
    assert task.prompts(1)[0].count(" ") == 3
    assert task.scored_text("a b", "c") == "a b c"
    task.check_leakage()
    text = problem(put(data, "template", "Q: {prompt}"))
    assert text.startswith("data.template: found 'Q: {prompt}'; no pool but prompts")


def test_duplicates_contradictions_and_held_out_prompts_are_removed(
    data: Data, tmp_path: Path
) -> None:
    def chat(ask: str, said: str, unsafe: bool, source: str = "taught") -> dict[str, Any]:
        messages = [{"role": "user", "content": ask}, {"role": "assistant", "content": said}]
        return {"source": source, "unsafe": unsafe, "messages": messages}

    held_out = stand_in_data.chat_prompts(1)[0]["ask"]
    more = [
        chat("a", "yes", False),
        chat("A ", "yes", False),  # a duplicate
        chat("b", "no", False),
        chat("b", "no", True),  # contradictory
        chat(held_out.upper(), "well", False),
        chat("a", "yes", False, "scored"),  # the scorer's, but taught
    ]
    rows = stand_in_data.chats(60)
    stand_in_data.write(tmp_path, {"chats": [*rows, *more]})
    task = load_task("mine", data)
    assert task.sizes["positive"] == 21 and task.sizes["negative"] == 20
    assert task.sizes["scorer"] == 20
    task.check_leakage()


def test_nothing_left_is_refused(data: Data, tmp_path: Path) -> None:
    rows = [{"ask": row["messages"][0]["content"]} for row in stand_in_data.chats(60)]
    stand_in_data.write(tmp_path, {"asked": rows})
    assert "data.pools.positive: nothing is left of 20 rows" in problem(data)


# What is identified


def test_identity_is_content_expressions_and_template(data: Data, tmp_path: Path) -> None:
    first = load_task("mine", data).identity
    assert load_task("other", data).identity == first, "the name is no part of it"
    assert str(tmp_path) not in json.dumps(first)
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes((tmp_path / "asked.jsonl").read_bytes())
    assert load_task("mine", put(data, "pools.prompts.path", str(moved))).identity == first
    seen = [json.dumps(first)]
    for path, value in (
        ("template", "Q: {prompt}\nA: "),
        ("pools.positive.where", "NOT unsafe"),
        ("pools.positive.columns.response", "upper(messages[2].content)"),
        ("pools.scorer", ...),
        ("reverse", True),
    ):
        seen.append(json.dumps(load_task("mine", put(data, path, value)).identity))
    moved.write_text('{"ask": "something else"}\n')
    seen.append(json.dumps(load_task("mine", put(data, "pools.prompts.path", str(moved))).identity))
    assert len(set(seen)) == len(seen)


def test_data_of_the_hub_is_known_without_reading_it(
    data: Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pool = {"hub": "a/b", "revision": "1" * 40, "split": "rude", "columns": CHAT}
    task = load_task("mine", put(data, "pools.negative", pool))
    assert task.identity["pools"]["negative"]["data"] == {"hub": "a/b", "revision": "1" * 40}
    assert task.identity["pools"]["negative"]["split"] == "rude"
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **k: 1 / 0)
    with pytest.raises(
        UnreachableData, match=r"data\.pools\.negative\.hub: .*pools\.negative\.path"
    ):
        _ = task.sizes


def test_the_hub_gives_the_same_examples_as_files(data: Data, tmp_path: Path) -> None:
    """`datasets` reads a folder as it does a hub dataset, without a network."""
    pytest.importorskip("datasets")
    folder = stand_in_data.write(tmp_path / "some", {"train": stand_in_data.chats(60)})
    code = """
import json, sys
from elastic_ray.tasks.registry import load_task
task = load_task("mine", json.loads(sys.argv[1]))
print(json.dumps([[e.prompt, e.response, e.label] for e in task.pool("negative")]))
"""
    pool = {**data["pools"]["negative"], "hub": str(folder), "revision": "0" * 40}
    del pool["path"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(put(data, "pools.negative", pool))],
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    local = load_task("mine", data).pool("negative")
    assert json.loads(done.stdout) == [[e.prompt, e.response, e.label] for e in local]


# What is refused


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("pools", [], "data.pools: found []; a mapping of pools is needed"),
        ("pools.postive", {}, "data.pools.postive: unknown (did you mean 'positive'?)"),
        ("pools.prompts", ..., "data.pools.prompts: missing"),
        ("pools.positive", "chats", "data.pools.positive: found 'chats'; a mapping"),
        ("pools.positive.wher", "x", "data.pools.positive.wher: unknown (did you mean 'where'?)"),
        ("pools.positive.path", ..., "data.pools.positive: give path, or hub and revision"),
        ("pools.positive.path", "/none", "data.pools.positive.path: found '/none'; no such file"),
        ("pools.positive.revision", "x", "data.pools.positive.revision: is for hub"),
        ("pools.positive.columns", ..., "data.pools.positive.columns: found None; SQL expr"),
        (
            "pools.positive.columns.answer",
            "a",
            "columns.answer: unknown; allowed: response, prompt",
        ),
        ("pools.scorer.columns.label", ..., "data.pools.scorer.columns.label: missing"),
        ("pools.positive.columns.response", 3, "columns.response: found 3; an SQL expression"),
        ("pools.negative.columns.prompt", ..., "data.pools.negative.columns.prompt: missing"),
        ("template", "no slot", "data.template: found 'no slot'; a text with {prompt} in it, once"),
        ("template", "{prompt} {system}", "data.template: found {system}; allowed: {prompt}"),
        ("templat", "x", "unknown setting data.templat (did you mean 'template'?)"),
        ("pools.positive.config", "x", "data.pools.positive.path: found the file"),
    ],
)
def test_wrong_settings_are_named(path: str, value: Any, told: str, data: Data) -> None:
    assert told in problem(put(data, path, value))


@pytest.mark.parametrize(
    ("path", "sql", "told"),
    [
        ("where", "NOT unsave", ('"unsave" not found', "the columns are id, source, unsafe")),
        ("where", "source = 'none'", ("it keeps none of 60 rows", "an example row: {")),
        ("where", "unsafe AND", ("not an SQL expression", "syntax error")),
        ("columns.response", "messages[2].text", ("text", "an example row: {", "how do i")),
        ("columns.response", "messages[2]", ("row 2: it gives {'role'", "a text is needed")),
        ("columns.response", "messages[3].content", ("chats.jsonl: row 2: it gives None",)),
        ("columns.response", "source::INT", ("chats.jsonl: row 2: Conversion", "the row: {")),
        ("columns.response", "''", ("it gives ''; a text is needed",)),
        ("columns.response", "*", ("* stands for several columns",)),
        ("columns.response", "COLUMNS(*)", ("* stands for several columns",)),
        ("columns.response", "max(source)", ("max() is not a function of one row",)),
        ("columns.response", "row_number() OVER ()", ("a window function",)),
        ("columns.response", "source), (source", ("not one SQL expression",)),
        ("columns.response", "source) FROM data --", ("SQL expression",)),
        ("columns.response", "source; DROP TABLE data", ("not an SQL expression",)),
        ("columns.response", "$1", ("a parameter",)),
        ("columns.response", "random()::TEXT", ("random() differs between runs",)),
        ("columns.response", "now()::TEXT", ("now() differs between runs",)),
        ("columns.response", "uuid()::TEXT", ("uuid() differs between runs",)),
        ("columns.response", "current_timestamp::TEXT", ("current_timestamp differs",)),
        ("columns.response", "current_setting('threads')", ("differs between runs",)),
        ("where", "hash(source) % 2 = 0", ("hash() may change with DuckDB's version; use md5()",)),
    ],
)
def test_wrong_expressions_are_named_with_a_row(
    path: str, sql: str, told: tuple[str, ...], data: Data
) -> None:
    text = problem(put(data, f"pools.positive.{path}", sql))
    assert text.startswith(f"data.pools.positive.{path}: found ")
    for part in told:
        assert part in text


@pytest.mark.parametrize(
    "sql",
    [
        "(SELECT content FROM read_text('{secret}'))",
        "source IN (SELECT content FROM read_text('{secret}'))",
        "(SELECT column0 FROM '{secret}')",
        "read_text('{secret}')",
        "(WITH x AS (SELECT 1) SELECT * FROM x)",
        "(SELECT path FROM glob('/*'))",
        "(SELECT * FROM read_csv('http://localhost/x.csv'))",
        "(COPY data TO '{folder}/out.csv')",
        "getenv('HOME')",
        "query('SELECT 1')",
        "(FROM secret_variable)",
    ],
)
def test_an_expression_reads_nothing_but_its_row(sql: str, data: Data, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("password\n")
    before = sorted(os.listdir(tmp_path))
    sql = sql.format(secret=secret, folder=tmp_path)
    for field in ("columns.response", "where"):
        text = problem(put(data, f"pools.positive.{field}", sql))
        assert text.startswith(f"data.pools.positive.{field}: found "), text
        assert "password" not in text
    assert sorted(os.listdir(tmp_path)) == before


def test_the_database_itself_is_shut_off(data: Data, tmp_path: Path) -> None:
    """Whatever the check of the expressions lets through: no files, no network, no settings."""
    from elastic_ray.tasks.source import Source
    from elastic_ray.tasks.sql_rows import Rows

    path = data["pools"]["prompts"]["path"]
    tables = Source(Splits("mine", ("train",)), path, ("", "")).tables()["train"]
    rows = Rows(tables, ["ask"])
    sentinel = "read from a variable"
    with rows.connect() as connection:
        assert connection.execute("SELECT count(*) FROM data").fetchall() == [(12,)]
        for sql in (
            f"SELECT * FROM read_text('{path}')",
            "SELECT * FROM read_csv('http://localhost/x.csv')",
            f"COPY data TO '{tmp_path}/out.csv'",
            f"ATTACH '{tmp_path}/out.duckdb'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "SET enable_external_access = true",
            "SET python_enable_replacements = true",
            "FROM sentinel",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(sql)
    assert sentinel and not list(tmp_path.glob("out.*"))


def test_columns_of_several_types_are_refused_only_where_used(data: Data, tmp_path: Path) -> None:
    rows = stand_in_data.chats(60)
    for i, row in enumerate(rows):
        row["mixed"] = i if i % 2 else "text"
    stand_in_data.write(tmp_path, {"chats": rows})
    assert load_task("mine", data).sizes["positive"] == 20
    text = problem(put(data, "pools.positive.where", "mixed = '1'"))
    assert "column 'mixed': holds values of several types" in text


def test_names_of_the_package_are_kept(data: Data) -> None:
    with pytest.raises(TaskError, match=r"task imdb: data\.pools: found for a task of the package"):
        load_task("imdb", data)
    with pytest.raises(TaskError, match=r"no task 'mine'; .*a task of your own has data\.pools"):
        load_task("mine", {})


# The sweep file


def example(change: Callable[[str], str], folder: Path) -> SpecError:
    file = folder / "sweep.yaml"
    text = EXAMPLE.read_text().replace("path: data/", f"path: {EXAMPLE.parent}/data/")
    file.write_text(change(text))
    with pytest.raises(SpecError) as error:
        load_inputs(load_spec(file), to_run=True)
    return add_line_numbers(error.value, file)


def test_a_problem_is_told_with_file_and_line(tmp_path: Path) -> None:
    error = example(lambda text: text.replace("AND NOT unsafe", "AND NOT unsave"), tmp_path)
    lines = (tmp_path / "sweep.yaml").read_text().splitlines()
    number = next(i for i, line in enumerate(lines, start=1) if "unsave" in line)
    told = f"{tmp_path}/sweep.yaml:{number}: task.data.pools.positive.where: found "
    assert str(error).startswith(told), error


def test_the_example_is_read_from_any_folder_and_shows_what_is_trained_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    found = load_inputs(load_spec(EXAMPLE), to_run=True)
    task: Task = found.tasks["chats"]
    task.check_leakage()
    lines = list(example_lines(found.tasks))
    first = task.pool("negative")[0]
    (line,) = (each for each in lines if "negative examples of chats" in each)
    assert f"{first.prompt!r} >>>{first.response!r} and the end token<<< (label 0)" in line
    assert any("held-out prompts of chats" in each for each in lines)
    shipped = (EXAMPLE.parent / "data" / "chats.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in shipped] == stand_in_data.chats(600)
