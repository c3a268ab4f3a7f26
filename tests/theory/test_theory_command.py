"""`python -m elastic_ray.theory`: its output, its files, and their use in docs/theory.md."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

from elastic_ray.theory.__main__ import main
from elastic_ray.theory.verdict import ALPHAS, KS, LS, GridPoint, columns

ROOT = Path(__file__).parents[2]


def test_the_command_imports_no_heavy_library():
    heavy = "('ray', 'torch', 'vllm', 'streamlit', 'matplotlib', 'pyarrow', 'duckdb', 'pydantic')"
    code = (
        "import sys, elastic_ray.theory.__main__\n"
        f"found = [m for m in {heavy} if m in sys.modules]\n"
        "found += [m for m in sys.modules if m.startswith('elastic_ray.')"
        " and not m.startswith('elastic_ray.theory')]\n"
        "sys.exit(', '.join(found) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("verdict")
    run = subprocess.run(
        [sys.executable, "-m", "elastic_ray.theory", "verdict", "--out", str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr
    return folder, run.stdout


def test_verdict_saves_the_whole_grid(verdict):
    folder, _ = verdict
    with (folder / "grid.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == columns(GridPoint)
    seen = {(float(row["alpha"]), float(row["k"]), float(row["l"])) for row in rows}
    assert seen == {(a, k, l) for a in ALPHAS for k in KS for l in LS}
    assert (ALPHAS[0], ALPHAS[-1], KS[0], KS[-1], LS[0], LS[-1]) == (1.5, 20, 10, 1e6, 1e-4, 1)
    with (folder / "limits.csv").open(encoding="utf-8") as file:
        assert [float(row["alpha"]) for row in csv.DictReader(file)] == list(ALPHAS)


def test_verdict_draws_all_figures_of_the_docs_page(verdict):
    folder, _ = verdict
    drawn = {path.name: path for path in folder.glob("*.svg")}
    assert all(path.stat().st_size < 100_000 for path in drawn.values())
    page = (ROOT / "docs/theory.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\(figures/([\w.]+)\)", page))
    assert shown == set(drawn)
    assert all((ROOT / "docs/figures" / name).is_file() for name in shown)


def test_the_docs_page_quotes_the_output_exactly(verdict):
    """Every line in a `text` block of the page is also printed by the command."""
    _, printed = verdict
    page = (ROOT / "docs/theory.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    quoted = [line for block in blocks for line in block.splitlines() if line.strip()]
    assert len(quoted) > 20
    lines = {line.rstrip() for line in printed.splitlines()}
    assert [line for line in quoted if line.rstrip() not in lines] == []


def test_rates_computes_one_point_with_all_methods(capsys):
    assert main(["rates", "--alpha", "3", "--k", "100", "--l", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("quadrature", "monte carlo", "trees"))
    row = next(line for line in printed.splitlines() if line.startswith("gamma slope   D1"))
    values = [float(value) for value in re.findall(r"(\S+) \+-", row)]
    assert len(values) == 3 and max(values) / min(values) < 1.01


def test_tree_reads_or_generates_responses(tmp_path, capsys):
    file = tmp_path / "responses"
    file.write_text("00\n01\n10\n11\n" * 8)
    assert main(["tree", str(file), "--depth", "3"]) == 0
    printed = capsys.readouterr().out
    assert "responses            32" in printed
    assert "ideal                2.000000" in printed
    assert "Huffman, expected    2.000000" in printed
    assert main(["tree", "--responses", "1000", "--depth", "5"]) == 0
    assert "responses            1000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rates", "--alpha", "1"], "shape above 1"),
        (["rates", "--k", "-1"], "sizes"),
        (["tree", "--depth", "40"], "layers"),
        (["tree", "no such file"], "no such file"),
    ],
)
def test_errors_are_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
