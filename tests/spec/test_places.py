"""Paths in sweep files: `~`, variables, relative to the sweep file."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastic_ray.spec import SpecError, load_spec

FILE = """\
sweep: s
task: {name: imdb, data: {path: DATA}, scorer: {path: DATA}}
models: [{name: m, path: DATA}]
positive: [8]
negative: [8]
"""


def paths(folder: Path, written: str, *sets: str) -> set[str | None]:
    (folder / "s.yaml").write_text(FILE.replace("DATA", written))
    spec = load_spec(folder / "s.yaml", sets)
    (task,), (model,) = spec.task, spec.models
    assert task.scorer is not None
    return {task.data["path"], task.scorer.path, model.path}


def test_paths_are_found_from_the_sweep_file_then_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here / "both", here / "mine", there / "both", there / "yours"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(there)
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("DATA_OF", str(there))
    assert paths(here, "both") == {str(here / "both")}
    assert paths(here, "yours") == {str(there / "yours")}
    assert paths(here, "~/mine") == {str(here / "mine")}
    assert paths(here, "$DATA_OF/yours") == {str(there / "yours")}
    assert paths(here, "nowhere") == {"nowhere"}
    given = ("task.data.path=both", "task.scorer.path=both", "models.0.path=both")
    assert paths(here, "mine", *given) == {str(there / "both")}


@pytest.mark.parametrize("written", ["$UNSET_HERE/x", "${UNSET_HERE}"])
def test_a_variable_that_is_not_set_is_named(written: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as error:
        paths(tmp_path, f'"{written}"')
    first, *_ = str(error.value).splitlines()
    assert "s.yaml:3: models.0.path: found" in first and "UNSET_HERE" in first
    assert first.endswith("is not set")
