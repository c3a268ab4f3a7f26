"""Writes a few rows of results, for the tests of the results package."""

from __future__ import annotations

from pathlib import Path

from elastic_ray.results.store import Results

STATE, OTHER = "a" * 20, "b" * 20
PROBE = "c" * 20
SCORER = "sentiment"


def scored(results: Results, state_id: str, values: list[float], **key: str) -> None:
    rows = [{"prompt_index": i, "sample": 0, "score": v} for i, v in enumerate(values)]
    key = {"probe_id": PROBE, "scorer": SCORER, **key}
    results.write("scores", rows, state_id=state_id, **key)


def done(results: Results, state_id: str, **more: object) -> None:
    results.write("states", [{"state_id": state_id, "kind": "pretrain", "status": "done", **more}])


def cell(state_id: str, positive: int, negative: int, seed: int = 0, **more: object) -> dict:
    point = {"model": "m", "task": "reviews", "pretrain": 5000, "seed": seed}
    at = {"positive": positive, "negative": negative, "state_id": state_id}
    return {**point, **at, "probe_id": PROBE, "scorer": SCORER, "status": "pending", **more}


def files(results: Results, pattern: str = "*.parquet") -> list[Path]:
    return sorted(Path(results.uri).rglob(pattern))
