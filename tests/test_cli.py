"""The command `elastic-ray`: each subcommand is the module's command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from elastic_ray import cli

ROOT = Path(__file__).parents[1]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "elastic_ray.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_describes_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: elastic-ray {name}")


def test_all_commands_are_listed() -> None:
    done = command("--help")
    assert done.returncode == 0
    for name in ("sweep", "query", "report", "app", "theory", "schema"):
        assert f"\n    {name} " in done.stdout


def test_an_unknown_command_is_refused_with_the_known_ones() -> None:
    done = command("swep")
    assert done.returncode == 2
    assert "invalid choice: 'swep'" in done.stderr and "sweep" in done.stderr


def test_a_command_passes_its_arguments_and_its_exit_code_on(tmp_path: Path) -> None:
    done = command("query", "--results", str(tmp_path / "none"), "FROM cells")
    same = subprocess.run(
        [
            sys.executable,
            "-m",
            "elastic_ray.query",
            "--results",
            str(tmp_path / "none"),
            "FROM cells",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == same.returncode != 0
    assert done.stderr == same.stderr


def test_the_schema_is_json() -> None:
    done = command("schema")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["type"] == "object"


def test_a_sweep_is_planned_through_the_command(tmp_path: Path) -> None:
    done = command(
        "sweep",
        "sweeps/tiny.yaml",
        "--dry-run",
        "--results",
        str(tmp_path),
        "--cluster",
        "1x4xA100",
    )
    assert done.returncode == 0, done.stderr
    assert "sweep tiny" in done.stdout
