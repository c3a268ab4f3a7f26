"""docs/tutorial.ipynb runs from its first cell to its last, without a GPU and without training."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
RESULTS = ROOT / "tests" / "data" / "earlier_results"


@pytest.fixture(scope="module")
def executed() -> nbformat.NotebookNode:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(NOTEBOOK.parent)}}
    return NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()


def outputs(notebook: nbformat.NotebookNode, kind: str) -> list[str]:
    """The outputs of that MIME type, in order."""
    return [
        output.data[kind]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if kind in output.get("data", {})
    ]


def test_every_cell_runs_and_the_last_one_draws(executed: nbformat.NotebookNode) -> None:
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert len(outputs(executed, "image/png")) == 1
    assert "image/png" in code[-1].outputs[-1].data


def test_it_shows_the_measured_curves(executed: nbformat.NotebookNode) -> None:
    shown = "\n".join(outputs(executed, "text/plain"))
    assert "reversion_size" in shown and "small" in shown


def test_it_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)


def test_it_leaves_the_recorded_results_alone(executed: nbformat.NotebookNode) -> None:
    assert not (RESULTS / ".scratch").exists() and not (RESULTS / "logs").exists()
