"""The SQL sandbox: which statements it answers, refuses and stops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from shown_results import record

from elastic_ray.results.errors import ResultsError
from elastic_ray.results.sandbox import Limits, connect, examples, execute, run_query
from elastic_ray.results.store import Results


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("console")
    (folder / "secret.csv").write_text("a,b\n1,2\n")
    results = Results(folder / "results")
    record(results)
    before = _files(folder)
    yield results.uri
    assert _files(folder) == before, "a statement wrote something"


def _files(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


REFUSED = [
    "COPY scores TO '{out}/x.csv'",
    "COPY (SELECT 1) TO '{out}/x.parquet'",
    "WITH a AS (COPY (SELECT 1) TO '{root}/x.csv') SELECT 1",
    "ATTACH '{out}/x.db'",
    "ATTACH ':memory:' AS more",
    "DETACH memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "FORCE INSTALL spatial FROM community",
    "FROM read_csv('{out}/secret.csv')",
    "FROM read_csv('{root}/../secret.csv')",
    "FROM read_parquet('/etc/*')",
    "FROM read_parquet('{root}/scores/*/*/*.parquet')",
    "FROM read_text('/etc/passwd')",
    "SELECT content FROM read_blob('/proc/self/environ')",
    "FROM read_json('/etc/hostname')",
    "FROM glob('/*')",
    "FROM sniff_csv('/etc/passwd')",
    "FROM parquet_metadata('{root}/states/one-_empty.parquet')",
    "FROM '/etc/passwd'",
    "FROM '{out}/secret.csv'",
    "FROM \"{out}/secret.csv\"",
    "FROM 'http://127.0.0.1:1/x.parquet'",
    "FROM 's3://bucket/x.parquet'",
    "SELECT * FROM scores WHERE score > (SELECT count(*) FROM read_text('/etc/hosts'))",
    "EXPLAIN ANALYZE SELECT * FROM read_text('/etc/passwd')",
    "DESCRIBE FROM read_csv('/etc/passwd')",
    "FROM query('SELECT 1')",
    "FROM query_table('/etc/passwd')",
    "SELECT json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "FROM written_once('/etc')",
    "PRAGMA database_list",
    "PRAGMA enable_external_access=true",
    "SET enable_external_access = true",
    "SET memory_limit = '100GB'",
    "RESET memory_limit",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW scores",
    "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE MACRO root() AS '/etc'",
    "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "INSERT INTO scores SELECT * FROM scores",
    "UPDATE scores SET score = 1",
    "DELETE FROM scores",
    "DROP VIEW scores",
    "ALTER VIEW scores RENAME TO x",
    "CALL pragma_version()",
    "EXPORT DATABASE '{out}/x'",
    "IMPORT DATABASE '{out}/x'",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN TRANSACTION",
    "PREPARE p AS SELECT 1",
    "USE memory",
    "SELECT getenv('HOME')",
    "FROM sqlite_scan('{out}/x.db', 't')",
    "FROM duckdb_secrets()",
    "",
    "-- nothing",
    "nonsense",
]  # fmt: skip


@pytest.fixture(scope="module")
def connection(uri: str) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(uri, Limits()) as made:
        yield made


@pytest.mark.parametrize("sql", REFUSED)
def test_refused(uri: str, connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """The statement check or DuckDB refuses it, even without the subprocess."""
    asked = sql.format(root=uri, out=str(Path(uri).parent))
    with pytest.raises((ResultsError, duckdb.Error)):
        execute(connection, asked, Limits())
    assert connection.sql("SELECT 1").fetchall() == [(1,)]


@pytest.mark.parametrize("sql", REFUSED[::12])
def test_refused_in_the_subprocess(uri: str, sql: str) -> None:
    with pytest.raises(ResultsError):
        run_query(uri, sql.format(root=uri, out=str(Path(uri).parent)))


STOPPED = {
    "a cross join without end": "SELECT sum(hash(a.prompt, b.prompt, c.prompt, d.prompt)) FROM "
    "responses a, responses b, responses c, responses d, responses e",
    "a recursion without end": "WITH RECURSIVE t AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM t) "
    "SELECT count(*) FROM t",
    "a series without end": "SELECT sum(sin(i)) FROM generate_series(1, 1000000000000) t(i)",
    "a product of ranges": "SELECT count(*) FROM range(1000000000) a, range(1000000000) b "
    "WHERE a.range = b.range * 7",
    "a list larger than memory": "SELECT list(i) FROM range(1000000000) t(i)",
    "a text larger than memory": "SELECT string_agg(repeat('x', 1000000), '') FROM range(100000)",
    "a sort larger than memory": "SELECT i FROM range(1000000000) t(i) ORDER BY hash(i) DESC",
    "groups larger than memory": "SELECT hash(i), count(*) FROM range(1000000000) t(i) GROUP BY 1",
    "a slow pattern": "SELECT count(*) FROM range(100000000000) t(i) "
    "WHERE regexp_matches(repeat(i::VARCHAR, 50), '(1+)+2(3|4)*5$')",
}


@pytest.mark.parametrize("what", STOPPED)
def test_stopped(uri: str, what: str) -> None:
    with pytest.raises(ResultsError, match=r"stopped|needs more than"):
        run_query(uri, STOPPED[what], Limits(seconds=1, memory_mb=256))
    assert run_query(uri, "SELECT 1 AS one").rows.to_pylist() == [{"one": 1}]


def test_an_endless_answer_is_cut_at_the_limit(uri: str) -> None:
    answer = run_query(uri, "FROM range(1000000000000)", Limits(rows=5000))
    assert answer.cut
    assert answer.rows.num_rows == 5000
    wide = run_query(
        uri, "SELECT repeat('x', 1000) AS x FROM range(1000000000)", Limits(answer_mb=8)
    )
    assert wide.cut
    assert wide.rows.nbytes < 1e9


@pytest.mark.parametrize(
    "sql",
    [
        *examples("shown").values(),
        "-- a comment\nFROM curves",
        "DESCRIBE curves",
        "SHOW TABLES",
        "SUMMARIZE cells",
        "EXPLAIN FROM curves",
        "EXPLAIN ANALYZE FROM cells",
        "WITH a AS (SELECT 1 AS x) FROM a UNION ALL SELECT 2",
        "PIVOT (FROM cells) ON status IN ('done', 'failed') USING count(*) GROUP BY model",
        "SELECT unnest([1, 2, 3]), (SELECT count(*) FROM range(3))",
        "SELECT 'COPY x TO y; DROP TABLE z' AS harmless",
    ],
)
def test_answered(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert execute(connection, sql, Limits()).rows.num_columns > 0


def test_a_slow_query_within_the_limit_is_answered(uri: str) -> None:
    """DuckDB draws a progress bar for it, which must not end up in the answer."""
    slow = "SELECT count(*) AS n FROM range(100000000) t(i) WHERE sin(i) < 2 AND cos(i) < 2"
    answer = run_query(uri, slow, Limits(seconds=60, threads=1))
    assert answer.rows.to_pylist() == [{"n": 100_000_000}]


def test_errors_say_what_is_wrong(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="Did you mean"):
        run_query(uri, "FROM curvess")
    with pytest.raises(ResultsError, match="no such results folder"):
        run_query(str(tmp_path / "none"), "SELECT 1")
