"""Runs one untrusted SQL statement over the views in a sandboxed subprocess, for the SQL page.

`run_query` answers a SELECT and cannot harm its caller: the statement runs in a process of its own,
which is stopped at a time limit, has a memory limit, writes no file, and can read nothing but the
views. Four defences, each of which stops most attacks by itself:

1. the statement: a single one, that only reads, from views and harmless table functions
   (`check_statement`);
2. DuckDB: external access off, settings locked, a time and a memory limit, no spilling to disk;
3. the operating system: limits on address space, processor time and file size;
4. the parent: a hard wall-clock limit, whatever the child is doing.

`python -m elastic_ray.results.sandbox URI` is the child; only `run_query` starts it.
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

from .errors import ResultsError
from .statements import check_reads_only, parse_tree, tree_nodes
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
"""The table functions that a FROM clause may use; none of them reads files."""

_START_SECONDS = 60.0
"""Time for Python and DuckDB to start on a busy machine, on top of the query's own limit."""


@dataclass(frozen=True)
class Limits:
    """Limits of one statement: seconds, DuckDB's memory and threads, and size of the answer."""

    seconds: float = 10.0
    memory_mb: int = 512
    rows: int = 100_000
    answer_mb: int = 64
    threads: int = 2


@dataclass(frozen=True)
class QueryResult:
    """The rows, whether they were cut at the limit, and the duration of the query in seconds."""

    rows: pa.Table
    cut: bool
    seconds: float


def examples(sweep: str) -> dict[str, str]:
    """Return example queries about one sweep, by title."""
    name = "'" + sweep.replace("'", "''") + "'"
    return {
        "Sweeps": "FROM sweep_list",
        "Curves": f"SELECT model, pretrain, positive, negative, score, standard_error, seeds\n"
        f"FROM curves_in({name})\nORDER BY ALL",
        "Elasticity": "SELECT model, pretrain, positive, elasticity_index, early_rate, late_rate, "
        f"note\nFROM elasticity\nWHERE sweep = {name}\nORDER BY ALL",
        "Failures": f"FROM failures_of({name})",
        "Furthest past the baseline": "SELECT model, pretrain, positive, negative, score, base\n"
        f"FROM curves_in({name})\nWHERE positive > 0\nORDER BY score - base\nLIMIT 20",
        "Answers": "SELECT model, positive, negative, prompt, response, score\nFROM answers\n"
        f"WHERE sweep = {name} AND prompt_index = 0\nORDER BY score DESC\nLIMIT 50",
    }


def check_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raise `ResultsError` unless `sql` is one statement that only reads, from views only."""
    check_reads_only(connection, sql)
    for node in tree_nodes(parse_tree(connection, sql)):
        kind = node.get("type")
        if kind == "TABLE_FUNCTION":
            name = str(node["function"].get("function_name", "")).lower()
            if name not in TABLE_FUNCTIONS:
                raise ResultsError(f"{name}() is not allowed here: query the views by their names")
        elif kind == "BASE_TABLE":
            name = str(node.get("table_name", ""))
            if any(mark in name for mark in "/\\*:"):
                raise ResultsError(f"{name!r} is a file: query the views by their names")


def run_query(uri: str, sql: str, limits: Limits | None = None) -> QueryResult:
    """Run one statement over the results at `uri` in a subprocess and return its rows.

    `ResultsError`, with a message for the user, for a statement that is refused, wrong, or too
    costly.
    """
    limits = limits or Limits()
    command = [sys.executable, "-m", "elastic_ray.results.sandbox", uri]
    request = json.dumps({"sql": sql, "limits": asdict(limits)}).encode()
    try:
        done = subprocess.run(
            command, input=request, capture_output=True, timeout=limits.seconds + _START_SECONDS
        )
    except subprocess.TimeoutExpired as e:
        raise ResultsError(_timeout_message(limits)) from e
    head, _, body = done.stdout.partition(b"\n")
    if done.returncode or not head:
        raise ResultsError(
            f"the query was stopped: it needs more than {limits.memory_mb} MB of memory or "
            f"{limits.seconds:g} s; filter or aggregate more"
        )
    reply = json.loads(head)
    if "error" in reply:
        raise ResultsError(reply["error"])
    return QueryResult(pa.ipc.open_stream(body).read_all(), reply["cut"], reply["seconds"])


def _timeout_message(limits: Limits) -> str:
    return f"the query was stopped after {limits.seconds:g} s; filter or aggregate more"


def _child(uri: str) -> None:
    """Read the request from stdin; write a line of JSON and the rows' Arrow stream to stdout."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # DuckDB draws a progress bar on stdout
    request = json.load(sys.stdin)
    limits = Limits(**request["limits"])
    rows: pa.Table | None = None
    try:
        rows, reply = _run(uri, request["sql"], limits)
    except ResultsError as e:
        reply = {"error": str(e)}
    except duckdb.InterruptException:
        reply = {"error": _timeout_message(limits)}
    except (duckdb.OutOfMemoryException, MemoryError, pa.ArrowMemoryError):
        reply = {"error": f"the query needs more than {limits.memory_mb} MB; filter or aggregate"}
    except duckdb.Error as e:
        reply = {
            "error": _timeout_message(limits) if "execution time" in str(e).lower() else str(e)
        }
    out.write(json.dumps(reply).encode() + b"\n")
    if rows is not None:
        with pa.ipc.new_stream(out, rows.schema) as stream:
            stream.write_table(rows)
    out.flush()


def _run(uri: str, sql: str, limits: Limits) -> tuple[pa.Table, dict[str, Any]]:
    connection = connect(uri, limits)
    _limit_process(limits)
    found = execute(connection, sql, limits)
    return found.rows, {"cut": found.cut, "seconds": found.seconds}


def connect(uri: str, limits: Limits) -> duckdb.DuckDBPyConnection:
    """Return a connection to the views with the limits that DuckDB itself enforces."""
    settings = {
        "memory_limit": f"{limits.memory_mb}MB",
        "max_temp_directory_size": "0B",
        "threads": limits.threads,
        "max_execution_time": round(limits.seconds * 1000),
    }
    return Results(uri, read_only=True).connect(settings)


def execute(connection: duckdb.DuckDBPyConnection, sql: str, limits: Limits) -> QueryResult:
    """Check and run a statement in this process; DuckDB's errors are raised unchanged."""
    began = time.monotonic()
    check_statement(connection, sql)
    # .sql() streams: an endless answer costs no more than the rows that are fetched
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


def _limit_process(limits: Limits) -> None:
    """Lower the operating system's limits on this process from here on."""
    taken = _address_space_bytes()
    headroom = (limits.memory_mb + limits.answer_mb * 4 + 512) * 2**20
    processor = resource.getrusage(resource.RUSAGE_SELF)
    spent = processor.ru_utime + processor.ru_stime
    limited = {
        resource.RLIMIT_AS: taken + headroom,
        resource.RLIMIT_CPU: round(spent + (limits.seconds + 2) * limits.threads) + 1,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for what, value in limited.items():
        with contextlib.suppress(ValueError, OSError):  # a stricter limit is in force
            resource.setrlimit(what, (value, value))


def _address_space_bytes() -> int:
    """Return the address space of this process; libraries reserve much and use little of it."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    _child(sys.argv[1])
