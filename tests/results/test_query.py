"""The command `python -m elastic_ray.query`."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from elastic_ray.query import main
from elastic_ray.results.store import Results


@pytest.fixture
def folder(tmp_path: Path) -> str:
    results = Results(tmp_path / "results")
    for i in range(3):
        rows = [{"prompt_index": p, "sample": 0, "score": p / 2} for p in range(2)]
        results.write("scores", rows, state_id=f"{i:020}", probe_id="p", scorer="s")
    return results.uri


def ask(capsys: pytest.CaptureFixture, folder: str, *arguments: str) -> tuple[int, str, str]:
    code = main(["--results", folder, *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_command_prints_a_table(folder: str) -> None:
    command = [sys.executable, "-m", "elastic_ray.query", "--results", folder, "FROM state_scores"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert "standard_error" in done.stdout
    assert "3 rows" in done.stdout
    assert done.stderr == ""


def test_a_table_shows_every_column_and_full_values(capsys, folder: str) -> None:
    long = "x" * 3000
    columns = ", ".join(f"{i} AS column_{i}" for i in range(60))
    code, out, _ = ask(capsys, folder, f"SELECT '{long}' AS long, '[bold]' AS markup, {columns}")
    assert code == 0
    assert long in out
    assert "[bold]" in out
    assert all(f"column_{i}" in out for i in range(60))


def test_a_table_says_what_it_leaves_out(capsys, folder: str) -> None:
    _, out, _ = ask(capsys, folder, "FROM range(1000)")
    assert "500 rows; 500 more rows" in out
    _, out, _ = ask(capsys, folder, "FROM range(1000)", "--rows", "0")
    assert "1000 rows" in out
    _, out, _ = ask(capsys, folder, "FROM responses")
    assert "prompt_index" in out
    assert "0 rows" in out


def test_csv_has_every_row(capsys, folder: str) -> None:
    sql = "SELECT range AS i, 'a,\"b' AS t, NULL AS n, [1, 2] AS l FROM range(2000)"
    code, out, _ = ask(capsys, folder, sql, "--format", "csv")
    rows = list(csv.reader(io.StringIO(out)))
    assert code == 0
    assert rows[0] == ["i", "t", "n", "l"]
    assert rows[2000] == ["1999", 'a,"b', "", "[1, 2]"]


def test_json_output_is_valid_json(capsys, folder: str) -> None:
    sql = (
        "SELECT 1 AS a, 2 AS a, 'nan'::DOUBLE AS x, {'k': [1.5, 'inf'::DOUBLE]} AS s, 'ü' AS u, "
        "TIMESTAMPTZ '2026-01-02 03:04:05+00' AS t, true AS b, NULL AS n"
    )
    _, out, _ = ask(capsys, folder, sql, "--format", "json")
    assert json.loads(out) == [
        {
            "a": 1,
            "a_2": 2,
            "x": None,
            "s": {"k": [1.5, None]},
            "u": "ü",
            "t": "2026-01-02T03:04:05+00:00",
            "b": True,
            "n": None,
        }
    ]
    _, out, _ = ask(capsys, folder, "FROM responses", "--format", "json")
    assert json.loads(out) == []


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("FORM scores", "syntax error"),
        ("FROM score", 'Did you mean "scores"'),
        ("SELECT nothing FROM scores", "nothing"),
        ("COPY scores TO 'x.csv'", "only SELECT is allowed here; found COPY"),
        ("SELECT 1; SELECT 2", "give one SELECT; found 2 statements"),
        ("SELECT 'x'::INT", "Could not convert"),
        ("FROM read_text('/etc/hostname')", "Permission Error"),
        ("", "found no statement"),
    ],
)
def test_errors_are_one_line(capsys, folder: str, sql: str, message: str) -> None:
    code, out, err = ask(capsys, folder, sql)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_no_results(capsys, tmp_path: Path) -> None:
    code, _, err = ask(capsys, str(tmp_path / "none"), "SELECT 1")
    assert code == 2
    assert err == f"error: no such results folder: {tmp_path / 'none'}\n"
    assert not (tmp_path / "none").exists()


def test_a_truncated_file_is_named(capsys, folder: str) -> None:
    path = next(Path(folder, "scores").rglob("one-0*.parquet"))
    path.write_bytes(path.read_bytes()[:100])
    code, _, err = ask(capsys, folder, "FROM curves")
    assert code == 2
    assert str(path) in err
    assert "delete it and run its sweep again" in err
    assert err.count("\n") == 1
