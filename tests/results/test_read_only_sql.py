"""SQL over the views: only reading is allowed, and only of these results."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from recorded_rows import files

from elastic_ray.results.errors import ResultsError
from elastic_ray.results.statements import check_reads_only
from elastic_ray.results.store import Results

HOSTILE = [
    "COPY scores TO '{root}/x.csv'",
    "WITH x AS (COPY (SELECT 1) TO '{root}/x.csv') FROM x",
    "WITH x AS (INSERT INTO t VALUES (1) RETURNING *) FROM x",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{root}/x.csv'",
    "EXPLAIN ANALYZE WITH x AS (COPY (SELECT 1) TO '{root}/x.csv') FROM x",
    "FROM json_execute_serialized_sql('{{}}')",
    "FROM query('SELECT 1')",
    "FROM QUERY('SELECT 1')",
    "SELECT * FROM (FROM \"query\"('SELECT 1'))",
    "ATTACH '{root}/x.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "PRAGMA database_list",
    "CREATE TABLE t (a INT)",
    "DROP VIEW scores",
    "DELETE FROM scores",
    "SELECT 1; SELECT 2",
    "CALL pragma_version()",
    "EXPORT DATABASE '{root}/x'",
    "CHECKPOINT",
    "PREPARE p AS SELECT 1",
    "",
]


@pytest.mark.parametrize("sql", HOSTILE)
def test_only_reading_is_allowed(results: Results, sql: str) -> None:
    before = files(results, "*")
    with pytest.raises(ResultsError):
        results.query(sql.format(root=results.uri))
    assert files(results, "*") == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "FROM read_csv('/etc/passwd')",
        "FROM '/etc/passwd'",
        "FROM glob('/etc/*')",
        "FROM read_text('{root}/../secret')",
        "FROM read_csv('http://127.0.0.1:1/x.csv')",
        "FROM results",  # a variable of this function
    ],
)
def test_no_other_file_can_be_read(results: Results, sql: str) -> None:
    Path(results.uri, "../secret").write_text("secret")
    with pytest.raises(ResultsError, match=r"Permission Error|does not exist"):
        results.query(sql.format(root=results.uri))


@pytest.mark.parametrize(
    "sql",
    [
        "FROM scores",
        "-- a comment\nSELECT 1 -- another",
        "WITH a AS (SELECT 1) SELECT * FROM a UNION ALL SELECT 2",
        "DESCRIBE scores",
        "SHOW TABLES",
        "SUMMARIZE scores",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE FROM scores",
        "PIVOT (SELECT 1 AS a, 2 AS b) ON a IN (1, 2) USING sum(b)",
        "WITH RECURSIVE t AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM t WHERE a < 3) FROM t",
        "SELECT 'COPY_QUERY_NODE' AS type, 'query' AS function_name;",
    ],
)
def test_every_reading_statement_is_allowed(results: Results, sql: str) -> None:
    with results.connect() as connection:
        assert check_reads_only(connection, sql) == sql
        connection.execute(sql).fetchall()


def test_a_query_time_limit(results: Results) -> None:
    sql = "SELECT sum(a.i * b.i) FROM range(1000000) a(i), range(1000000) b(i)"
    with (
        results.connect({"max_execution_time": 200}) as connection,
        pytest.raises(duckdb.InterruptException, match="execution time"),
    ):
        connection.execute(sql).fetchall()
    with pytest.raises(ResultsError, match="refuses the settings"):
        results.connect({"nonsense": 1})
