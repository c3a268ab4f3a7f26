"""Writes synthetic results of any size, with the project's own schemas and file names.

    python benchmarks/large_results.py FOLDER [--cells 1000000] [--answers 10] [--sweeps 25]

Every sweep is a full grid of models, pre-training sizes, positive and negative sizes, and seeds.
Every cell has its own state, with answers to `--answers` prompts. Scores follow a planted two-phase
decline. One cell in 500 has failed, and one in 100 is pending. DuckDB generates the rows. The files
are written as compaction would write them: 2,048 states per file, already effective.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path

import duckdb
import pyarrow as pa

from elastic_ray.elasticity import QUANTITIES
from elastic_ray.results.file_names import partition_folder
from elastic_ray.results.parquet_files import parquet_bytes
from elastic_ray.results.schemas import TABLES
from elastic_ray.results.store import Results

PROBE, SCORER, TASK = "0123456789abcdef0123", "sentiment", "reviews"
PER_FILE = 2048

# A sweep of n cells: n / 500 (model, pretrain) pairs of 10 x 10 sizes and 5 seeds.
CELLS = """
CREATE TABLE made AS
SELECT
    i, format('sweep_{:02d}', i // $per_sweep) AS sweep,
    (i % $per_sweep) // 500 AS pair,
    format('model-{:02d}', pair % 8) AS model,
    (1000000 * 2 ** (pair % 8))::BIGINT AS parameters,
    (5000 * 2 ** (pair // 8))::BIGINT AS pretrain,
    i % 5 AS seed,
    CASE i // 5 % 10 WHEN 0 THEN 0 ELSE (100 * 2 ** (i // 5 % 10))::BIGINT END AS negative,
    (500 * (1 + i // 50 % 10))::BIGINT AS positive,
    md5(i::VARCHAR)[:20] AS state_id,
    CASE WHEN hash(i) % 500 = 0 THEN 'failed' WHEN hash(i) % 100 = 1 THEN 'pending' ELSE 'done' END
        AS status,
    0.3 + 0.5 * exp(-negative * ln(parameters) / 8e3) - 0.05 * (1 - exp(-negative / 2e4)) AS mean
FROM range($cells) AS t(i)
"""

STATES = """
SELECT
    state_id, 'negative' AS kind, status, md5(positive::VARCHAR) AS parent_id, negative AS examples,
    '{"start": {"init": "qwen2"}, "stages": []}' AS lineage,
    CASE WHEN status = 'failed' THEN 'RuntimeError: CUDA out of memory' END AS error,
    NULL::VARCHAR AS checkpoint, NULL::BIGINT AS checkpoint_bytes, md5(state_id) AS checksum,
    parameters, negative * 40 AS tokens, pretrain * 40 AS pretrain_tokens,
    [2.5, 2.25]::FLOAT[] AS losses, 2.25 AS final_loss, negative / 50.0 AS seconds,
    1::INTEGER AS workers, 1::INTEGER AS zero_stage, sweep, 'trial' AS trial,
    '{"torch": "2.13.0"}' AS versions, '{"cpu": "synthetic"}' AS hardware, 'abc' AS git_revision,
    TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_seconds(i) AS started_at,
    TIMESTAMPTZ '2026-01-01 00:01:00+00' + to_seconds(i) AS finished_at
FROM made WHERE i >= $first AND i < $last AND status <> 'pending' ORDER BY state_id
"""

ANSWERS = """
SELECT
    state_id, $probe AS probe_id, prompt::INTEGER AS prompt_index, 0::INTEGER AS sample,
    'The film was ' || prompt AS prompt,
    format('a {} story about a {} and the {} it kept, told twice', hash(i, prompt) % 1000,
        hash(prompt, i) % 500, hash(i) % 200) AS response,
    12::INTEGER AS tokens, 'stop' AS finish_reason, state_id AS held_state, 7::BIGINT AS seed,
    'vllm' AS engine, mean + 0.2 * ((hash(i, prompt) % 2000) / 1000.0 - 1) AS score
FROM made, range($answers) AS p(prompt)
WHERE i >= $first AND i < $last AND status = 'done' ORDER BY state_id, prompt_index
"""


def make(folder: Path, cells: int, answers: int, sweeps: int) -> Results:
    """Write the results into `folder`; a million cells take about a minute."""
    results = Results(folder)
    per_sweep = cells // sweeps
    with duckdb.connect() as db:
        db.execute("SET threads = 2")
        db.execute(CELLS, {"per_sweep": per_sweep, "cells": cells})
        for first in range(0, cells, PER_FILE):
            part = {"first": first, "last": min(first + PER_FILE, cells)}
            states = db.sql(STATES, params=part).to_arrow_table()
            _many(results, "states", states, {})
            params = {**part, "answers": answers, "probe": PROBE}
            said = db.sql(ANSWERS, params=params).to_arrow_table()
            _many(results, "responses", said, {"probe_id": PROBE})
            said = said.append_column("scorer", pa.repeat(SCORER, said.num_rows))
            _many(results, "scores", said, {"probe_id": PROBE, "scorer": SCORER})
        for number in range(sweeps):
            name = f"sweep_{number:02d}"
            rows = db.sql(
                "SELECT sweep, model, $task AS task, positive, negative, seed, state_id, "
                "$probe AS probe_id, $scorer AS scorer, status, pretrain, parameters, "
                "CASE status WHEN 'failed' THEN 'out of memory' END AS error "
                "FROM made WHERE sweep = $sweep",
                params={"task": TASK, "probe": PROBE, "scorer": SCORER, "sweep": name},
            )
            results.replace("cells", name, rows.to_arrow_table())
            results.replace("indices", name, _indices(db, name))
    return results


def _many(results: Results, name: str, rows: pa.Table, key: dict[str, str]) -> None:
    """Write one compacted file with the rows of many states."""
    table = TABLES[name]
    columns = [
        rows[f.name].cast(f.type) if f.name in rows.column_names else pa.nulls(len(rows), f.type)
        for f in table.schema
    ]
    states = sorted(set(rows["state_id"].to_pylist()))
    digest = hashlib.sha256("\n".join(states).encode()).hexdigest()[:12]
    effective_from = round((time.time() - 60) * 1000)
    data = parquet_bytes(table, pa.table(columns, schema=table.schema), replaces=states)
    results.folder.put(
        f"{partition_folder(table, key)}/many-{effective_from:013d}-{digest}.parquet", data
    )


def _indices(db: duckdb.DuckDBPyConnection, sweep: str) -> list[dict[str, object]]:
    """Return one row per curve with planted values, which the app displays; nothing is fitted."""
    found = db.sql(
        "SELECT DISTINCT sweep, model, pretrain, positive, parameters FROM made WHERE sweep = $s",
        params={"s": sweep},
    ).to_arrow_table()
    rows = []
    for row in found.to_pylist():
        size = row["parameters"] ** 0.1
        row |= {"task": TASK, "scorer": SCORER, "seeds": 5, "prompts": 10}
        row |= {"pretrain_tokens": row["pretrain"] * 40}
        for number, quantity in enumerate(QUANTITIES):
            value = size * (1 + number / 10)
            row |= {
                quantity: value,
                f"{quantity}_low": 0.9 * value,
                f"{quantity}_high": 1.1 * value,
            }
        rows.append(row)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write synthetic results.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--answers", type=int, default=10)
    parser.add_argument("--sweeps", type=int, default=25)
    args = parser.parse_args()
    began = time.monotonic()
    make(args.folder, args.cells, args.answers, args.sweeps)
    print(f"{args.cells:,} cells in {time.monotonic() - began:.0f} s")
