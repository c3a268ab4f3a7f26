"""The public API: its names, and that they are imported only when they are used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import elastic_ray

ROOT = Path(__file__).parents[1]
NAMES = ["Results", "estimate", "load_spec", "measure_curves", "plan_sweep", "run_sweep"]
"""A name that is added or removed here is a change for users: say so in CHANGELOG.md."""


def test_the_exported_names_are_these() -> None:
    assert elastic_ray.__all__ == NAMES
    assert set(NAMES) <= set(dir(elastic_ray))
    for name in NAMES:
        assert callable(getattr(elastic_ray, name))
        assert getattr(elastic_ray, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(elastic_ray, "measure")


def test_importing_the_package_imports_none_of_its_rooms() -> None:
    assert loaded("import elastic_ray") <= {"elastic_ray"}


def test_planning_and_pricing_a_sweep_needs_neither_ray_nor_torch() -> None:
    modules = loaded(
        "from elastic_ray import estimate, load_spec, plan_sweep\n"
        "plan = plan_sweep(load_spec('sweeps/tiny.yaml'))\n"
        "assert estimate(plan, cluster='4x8xA100').gpu_hours > 0\n"
    )
    assert not modules & {"ray", "torch", "vllm", "deepspeed", "streamlit", "duckdb", "pandas"}


def loaded(code: str) -> set[str]:
    """The modules of the package, and all top-level modules, that are loaded after the code."""
    code += "\nimport sys; print(*(m for m in sys.modules if '.' not in m or 'elastic_ray' in m))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.split())
    return (
        {m for m in modules if m.startswith("elastic_ray")}
        if code.startswith("import")
        else modules
    )
