"""One statement from a person, answered without trust: the SQL page's way to the results.

`ask` answers a SELECT over the views and cannot harm who asks: the statement runs in a process of
its own, which is ended when its time is over, may not hold more than its memory, writes no file,
and reaches nothing but the views. Four fences, each enough for most of what people try:

1. the statement: one, only reading, over views and harmless table functions (`check`);
2. DuckDB: external access off, settings locked, a time and a memory limit, no spilling to disk;
3. the system: limits on address space, processor time and file size;
4. the parent: a hard stop at the wall clock, whatever the child is doing.

    python -m elastic_ray.results.console URI   is the child; it is started by `ask` alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import duckdb
import pyarrow as pa

from .database import check_reads_only, nodes, tree_of
from .schemas import ResultsError
from .store import Results

_MACROS = {
    "answers_of",
    "cell_scores_in",
    "curves_in",
    "failures_of",
    "latest_states",
    "pace_of",
    "points_of",
    "progress_in",
}
TABLE_FUNCTIONS = _MACROS | {
    "duckdb_columns",
    "duckdb_functions",
    "duckdb_types",
    "duckdb_views",
    "generate_series",
    "json_each",
    "json_tree",
    "range",
    "repeat",
    "unnest",
}
"""What may stand behind FROM besides views. The readers of files are not among them."""

_START = 60.0
"""Seconds that Python and DuckDB may take to start on a busy machine; they are not the query's."""


@dataclass(frozen=True)
class Limits:
    """What one statement may use: seconds, megabytes for DuckDB, rows and megabytes of answer."""

    seconds: float = 10.0
    memory_mb: int = 512
    rows: int = 100_000
    answer_mb: int = 64
    threads: int = 2


@dataclass(frozen=True)
class QueryResult:
    """The rows, whether there were more than the limit, and the seconds that the query took."""

    rows: pa.Table
    cut: bool
    seconds: float


def examples(sweep: str) -> dict[str, str]:
    """Queries to begin with, by what they tell, about one sweep."""
    name = "'" + sweep.replace("'", "''") + "'"
    return {
        "Sweeps": "FROM sweep_list",
        "Curves": f"SELECT model, pretrain, positive, negative, score, standard_error, seeds\n"
        f"FROM curves_in({name})\nORDER BY ALL",
        "Elasticity": "SELECT model, pretrain, positive, elasticity_index, early_rate, late_rate, "
        f"note\nFROM elasticity\nWHERE sweep = {name}\nORDER BY ALL",
        "Failures": f"FROM failures_of({name})",
        "Furthest past the base line": "SELECT model, pretrain, positive, negative, score, base\n"
        f"FROM curves_in({name})\nWHERE positive > 0\nORDER BY score - base\nLIMIT 20",
        "Answers": "SELECT model, positive, negative, prompt, response, score\nFROM answers\n"
        f"WHERE sweep = {name} AND prompt_index = 0\nORDER BY score DESC\nLIMIT 50",
    }


def check(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """`ResultsError` unless `sql` is one statement that only reads, and reads views only."""
    check_reads_only(connection, sql)
    for node in nodes(tree_of(connection, sql)):
        kind = node.get("type")
        if kind == "TABLE_FUNCTION":
            name = str(node["function"].get("function_name", "")).lower()
            if name not in TABLE_FUNCTIONS:
                raise ResultsError(f"{name}() is not allowed here: query the views by their names")
        elif kind == "BASE_TABLE":
            name = str(node.get("table_name", ""))
            if any(mark in name for mark in "/\\*:"):
                raise ResultsError(f"{name!r} is a file: query the views by their names")


def ask(uri: str, sql: str, limits: Limits | None = None) -> QueryResult:
    """The answer to one statement over the results at `uri`.

    `ResultsError`, in words for the person, for a statement that is refused, wrong, or too costly.
    """
    limits = limits or Limits()
    command = [sys.executable, "-m", "elastic_ray.results.sandbox", uri]
    asked = json.dumps({"sql": sql, "limits": asdict(limits)}).encode()
    try:
        done = subprocess.run(
            command, input=asked, capture_output=True, timeout=limits.seconds + _START
        )
    except subprocess.TimeoutExpired as e:
        raise ResultsError(_too_long(limits)) from e
    head, _, body = done.stdout.partition(b"\n")
    if done.returncode or not head:
        raise ResultsError(
            f"the query was stopped: it needs more than {limits.memory_mb} MB of memory or "
            f"{limits.seconds:g} s; filter or aggregate more"
        )
    told = json.loads(head)
    if "error" in told:
        raise ResultsError(told["error"])
    return QueryResult(pa.ipc.open_stream(body).read_all(), told["cut"], told["seconds"])


def _too_long(limits: Limits) -> str:
    return f"the query was stopped after {limits.seconds:g} s; filter or aggregate more"


def _child(uri: str) -> None:
    """Read the question from stdin, write a line of JSON and the rows' Arrow stream to stdout."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # DuckDB draws a progress bar on what is stdout
    asked = json.load(sys.stdin)
    limits = Limits(**asked["limits"])
    rows: pa.Table | None = None
    try:
        rows, told = _answer(uri, asked["sql"], limits)
    except ResultsError as e:
        told = {"error": str(e)}
    except duckdb.InterruptException:
        told = {"error": _too_long(limits)}
    except (duckdb.OutOfMemoryException, MemoryError, pa.ArrowMemoryError):
        told = {"error": f"the query needs more than {limits.memory_mb} MB; filter or aggregate"}
    except duckdb.Error as e:
        told = {"error": _too_long(limits) if "execution time" in str(e).lower() else str(e)}
    out.write(json.dumps(told).encode() + b"\n")
    if rows is not None:
        with pa.ipc.new_stream(out, rows.schema) as stream:
            stream.write_table(rows)
    out.flush()


def _answer(uri: str, sql: str, limits: Limits) -> tuple[pa.Table, dict[str, Any]]:
    connection = connect(uri, limits)
    _fence(limits)
    found = answer(connection, sql, limits)
    return found.rows, {"cut": found.cut, "seconds": found.seconds}


def connect(uri: str, limits: Limits) -> duckdb.DuckDBPyConnection:
    """A connection to the views within the limits that DuckDB itself keeps."""
    settings = {
        "memory_limit": f"{limits.memory_mb}MB",
        "max_temp_directory_size": "0B",
        "threads": limits.threads,
        "max_execution_time": round(limits.seconds * 1000),
    }
    return Results(uri, read_only=True).connect(settings)


def answer(connection: duckdb.DuckDBPyConnection, sql: str, limits: Limits) -> QueryResult:
    """The answer over that connection, in this process; DuckDB's errors come as they are."""
    began = time.monotonic()
    check(connection, sql)
    # .sql() streams: an endless answer costs no more than the rows that are taken from it
    batches, count, size, cut = [], 0, 0, False
    reader = connection.sql(sql).to_arrow_reader(8192)
    for batch in reader:
        batch = batch.slice(0, limits.rows - count)
        batches.append(batch)
        count += batch.num_rows
        size += batch.nbytes
        if size > limits.answer_mb * 2**20 or count >= limits.rows:
            cut = True
            break
    rows = pa.Table.from_batches(batches, schema=reader.schema)
    return QueryResult(rows, cut, time.monotonic() - began)


def _fence(limits: Limits) -> None:
    """The system's limits on this process, from here on; each only ever lowered."""
    held = _held_bytes()
    room = (limits.memory_mb + limits.answer_mb * 4 + 512) * 2**20
    processor = resource.getrusage(resource.RUSAGE_SELF)
    spent = processor.ru_utime + processor.ru_stime
    wanted = {
        resource.RLIMIT_AS: held + room,
        resource.RLIMIT_CPU: round(spent + (limits.seconds + 2) * limits.threads) + 1,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for what, value in wanted.items():
        with contextlib.suppress(ValueError, OSError):  # a stricter limit is in force
            resource.setrlimit(what, (value, value))


def _held_bytes() -> int:
    """The address space that this process has taken; libraries take much and touch little."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    _child(sys.argv[1])
