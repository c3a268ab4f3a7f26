"""Rows and keys that do not fit a table are refused, by name."""

from __future__ import annotations

import datetime as dt
import math

import pytest
from recorded_rows import PROBE, SCORER, STATE, done

from elastic_ray.results.errors import ResultsError
from elastic_ray.results.store import Results

BAD = [
    ("scores", {"prompt_index": 0, "sample": 0, "scor": 1.0}, "did you mean 'score'"),
    ("scores", {"prompt_index": 0, "sample": 0}, "scores.score: row 0 has no value"),
    ("scores", {"prompt_index": 0, "sample": 0, "score": math.nan}, "scores.score: row 0 is nan"),
    ("scores", {"prompt_index": 0, "sample": 0, "score": "x"}, "row 0, 'x', is not double"),
    ("scores", {"prompt_index": 2**40, "sample": 0, "score": 1.0}, "scores.prompt_index"),
    ("scores", {"prompt_index": 0, "sample": 0, "score": 1.0, "scorer": "z"}, "a row says 'z'"),
]


@pytest.mark.parametrize(("table", "row", "message"), BAD)
def test_an_error_names_the_row_and_column(
    results: Results, table: str, row: dict, message: str
) -> None:
    with pytest.raises(ResultsError, match=message):
        results.write(table, [row], state_id=STATE, probe_id=PROBE, scorer=SCORER)
    assert results.recorded(table) == set()


def test_invalid_keys_are_errors(results: Results) -> None:
    row = {"prompt_index": 0, "sample": 0, "score": 1.0}
    key = {"state_id": STATE, "probe_id": PROBE, "scorer": SCORER}
    for change, message in [
        ({"state_id": "../x"}, "not an id"),
        ({"scorer": ""}, "cannot name a folder"),
        ({"scorer": "x" * 300}, "cannot name a folder"),
        ({"scorer": "_empty"}, "reserved"),
    ]:
        with pytest.raises(ResultsError, match=message):
            results.write("scores", [row], **{**key, **change})
    with pytest.raises(ResultsError, match="recorded by state_id, probe_id, scorer"):
        results.write("scores", [row], state_id=STATE)
    with pytest.raises(ResultsError, match="same key"):
        results.write("scores", [row, row], **key)
    with pytest.raises(ResultsError, match="did you mean 'scores'"):
        results.has("score")
    with pytest.raises(ResultsError, match="not one of done, failed"):
        results.write("states", [{"state_id": STATE, "kind": "start", "status": "pending"}])
    with pytest.raises(ResultsError, match="no time zone"):
        done(results, STATE, started_at=dt.datetime(2026, 1, 1))
