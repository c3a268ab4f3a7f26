"""Who may import which library, and what planning needs installed.

Imports are read from the source, also those inside functions, so that a lazy import is no way
around.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "elastic_ray"
HEAVY = ("ray", "torch", "vllm", "streamlit", "transformers", "deepspeed", "peft", "datasets")
PURE = ("spec", "checkpoints", "tasks", "plan", "placement", "elasticity", "theory")
"""Packages of which everything can be imported without Ray, torch, DuckDB or Parquet."""
LIGHT = (*PURE, "results", "progress", "analysis", "query", "report", "sweep")
"""What can be imported without training or serving installed."""

ONLY = {
    "ray.tune": {"schedule"},
    "ray.train": {"training"},
    "deepspeed": {"training"},
    "ray.serve": {"serving"},
    "vllm": {"serving"},
    # A sweep file's expressions over the rows of its data are evaluated by DuckDB too.
    "duckdb": {"results", "tasks"},
    # Drawn where figures are asked for, and loaded only then.
    "matplotlib": {"theory", "report"},
    # A query's rows are an Arrow table; a task's data may be Parquet files.
    "pyarrow": {"results", "query", "tasks", "app"},
    "streamlit": {"app"},
    "plotly": {"app"},
    "pandas": {"analysis", "app"},
    # Of checkpoints, only the strict loader loads them, where it is called.
    "torch": {"training", "serving", "checkpoints"},
    # A task makes the tokenizer of models trained from scratch on it.
    "transformers": {"training", "serving", "tasks", "checkpoints"},
    "ray": {
        "cluster",
        "driver",
        "schedule",
        "training",
        "serving",
        "sweep",
    },
}
"""Who may import a library, or a part of it."""


def imported(file: Path) -> Iterator[str]:
    """The full names that a file imports, wherever in it: `ray.tune`, `elastic_ray.plan.graph`."""
    package = list(file.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def subpackage(file: Path) -> str:
    """The module or folder of the package that a file belongs to."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file != PACKAGE / "__init__.py"]
NAMES = {file: tuple(imported(file)) for file in FILES}
"""The names that each file imports. Each file is parsed once, before any test runs."""
IMPORTS = [(subpackage(file), name) for file in FILES for name in NAMES[file]]
SUBPACKAGES = {subpackage(file) for file in FILES}
WITHIN = {
    (source, name.split(".")[1])
    for source, name in IMPORTS
    if name.startswith("elastic_ray.") and name.split(".")[1] != source
}


def test_the_source_is_read() -> None:
    """Of each kind of import there is one, so that the tests below see something."""
    assert ("sweep", "driver") in WITHIN, "inside a function"
    assert ("training", "results") in WITHIN, "from a folder"
    assert ("schedule", "ray.tune") in IMPORTS, "from ray import tune"
    assert {target for _, target in WITHIN} <= SUBPACKAGES


def test_no_file_imports_itself_by_way_of_others() -> None:
    left = {(source, target) for source, target in _file_imports() if source != target}
    while True:
        bottom = {target for _, target in left} - {source for source, _ in left}
        fewer = {(source, target) for source, target in left if target not in bottom}
        if fewer == left:
            break
        left = fewer
    assert not left, f"a circle among {sorted({source for source, _ in left})}"


def _file_imports() -> set[tuple[str, str]]:
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in FILES}
    found = set()
    for file in FILES:
        source = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for name in NAMES[file]:
            module = next((m for m in (name, name.rpartition(".")[0]) if m in modules), None)
            if module:
                found.add((source, module))
    return found


@pytest.mark.parametrize("library", ONLY)
def test_a_library_is_imported_by_its_packages_only(library: str) -> None:
    # The callback that hands Ray Train's reports to Tune is Tune's.
    users = {
        source
        for source, name in IMPORTS
        if f"{name}.".startswith(f"{library}.")
        and not (library == "ray.train" and name.startswith("ray.tune."))
    }
    assert users <= ONLY[library]
    if library not in ("torch", "transformers"):
        assert users, f"nothing imports {library}: the test looks for the wrong name"


def test_the_app_reads_results_and_runs_nothing() -> None:
    """Its pages are scripts, so what they load is told from their imports."""
    used = {target for source, target in WITHIN if source == "app"}
    assert used <= {"results", "elasticity", "theory", "analysis", "query"}
    done = python(
        "-c",
        "import sys\n"
        "from elastic_ray.app import figures, reader\n"
        "from elastic_ray.app.figures import compression, curves, progress, scaling, surfaces\n"
        f"print([name for name in {HEAVY} if name in sys.modules])",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]", "not even streamlit, which only its frame and pages need"


def test_the_driver_loads_no_library_of_its_workers() -> None:
    done = python(
        "-c",
        "import sys\n"
        "from elastic_ray.driver import driver\n"
        "from elastic_ray.sweep import run\n"
        "workers = ('torch', 'transformers', 'deepspeed', 'vllm')\n"
        "print([name for name in workers if name in sys.modules])",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]", "importing them takes every sweep seconds to start"


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("packages", "unwanted"),
    [(PURE, (*HEAVY, "duckdb", "pyarrow")), (LIGHT, (*HEAVY, "matplotlib"))],
)
def test_the_light_packages_load_nothing_heavy(
    packages: tuple[str, ...], unwanted: tuple[str, ...]
) -> None:
    code = f"""
import importlib, pkgutil, sys
for package in {packages}:
    found = importlib.import_module(f"elastic_ray.{{package}}")
    inside = pkgutil.walk_packages(getattr(found, "__path__", ()), f"elastic_ray.{{package}}.")
    for name in (found.__name__, *(module.name for module in inside)):
        if not name.endswith("__main__"):
            importlib.import_module(name)
        for heavy in {unwanted}:
            if heavy in sys.modules:
                print(f"{{name}} loads {{heavy}}")
                del sys.modules[heavy]
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


WITHOUT = f"""
import runpy, sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Without())
module, *sys.argv[1:] = sys.argv[1:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def test_a_sweep_is_planned_where_neither_training_nor_serving_is_installed(
    tmp_path: Path,
) -> None:
    command = ("elastic_ray.sweep", str(ROOT / "sweeps" / "tiny.yaml"), "--dry-run")
    done = python("-c", WITHOUT, *command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sweep tiny:" in done.stdout and "GPU-hours" in done.stdout
    blocked = python("-c", WITHOUT, "torch", cwd=tmp_path)
    assert "No module named 'torch'" in blocked.stderr, "the environment hides what it should"


def test_results_are_read_where_neither_training_nor_serving_is_installed(tmp_path: Path) -> None:
    from elastic_ray.results.store import Results

    Results(tmp_path / "results")
    done = python(
        *("-c", WITHOUT, "elastic_ray.query", "--format", "csv"),
        *("--results", str(tmp_path / "results"), "SELECT count(*) AS n FROM curves"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["n", "0"]


def test_a_report_is_written_where_neither_training_nor_serving_is_installed(
    tmp_path: Path,
) -> None:
    from elastic_ray.results.store import Results

    Results(tmp_path / "results")
    command = ("elastic_ray.report", "--results", "results", "--out", "report")
    done = python("-c", WITHOUT, *command, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no sweep is recorded in"), done.stderr
