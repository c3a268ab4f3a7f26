"""Results in unusual folders and filesystems, and where there is nothing to read."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded_rows import OTHER, PROBE, SCORER, STATE, cell, done, scored

from elastic_ray.results.compaction import compact
from elastic_ray.results.errors import ResultsError
from elastic_ray.results.store import Results


def test_special_characters_in_the_folder_name(tmp_path: Path) -> None:
    results = Results(tmp_path / "it's [a] *folder*? $x = 100%")
    scored(results, STATE, [0.5])
    assert results.query("FROM scores").num_rows == 1
    assert Results(results.uri, read_only=True).recorded("scores") == {(STATE, PROBE, SCORER)}


def test_missing_or_empty_results_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no such results folder"):
        Results(tmp_path / "none", read_only=True)
    with pytest.raises(ResultsError, match="holds no results"):
        Results(tmp_path, read_only=True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match="cannot write"):
        Results(tmp_path / "file")


def test_a_remote_filesystem() -> None:
    results = Results("memory://results-test/deep")
    scored(results, STATE, [0.5, 1.0])
    scored(results, OTHER, [0.0])
    done(results, STATE)
    results.replace("cells", "tiny", [cell(STATE, 0, 0)])
    assert results.recorded("scores") == {(STATE, PROBE, SCORER), (OTHER, PROBE, SCORER)}
    assert results.states().keys() == {STATE}
    assert results.query("SELECT score FROM curves").to_pylist() == [{"score": 0.75}]
    with pytest.raises(ResultsError, match="alone=True"):
        compact(results)
    assert compact(results, alone=True, at_least=1, delay=0).rows == 4
    assert len(compact(results, alone=True, grace=0, delay=0).deleted) == 3
    assert results.has("scores", state_id=OTHER, probe_id=PROBE, scorer=SCORER)
    assert results.query("SELECT score FROM curves").to_pylist() == [{"score": 0.75}]
    assert results.folder.exists("elastic.duckdb")


def test_an_unknown_filesystem_is_an_error() -> None:
    with pytest.raises(ResultsError, match="nosuch://x"):
        Results("nosuch://x/y")
