"""One real sweep, end to end: Ray, DeepSpeed, vLLM, Parquet, DuckDB; many checks of its result.

The sweep is small but whole: two pre-training sizes, two positive and three negative sizes. It
runs as a user runs it, in a process of its own: once undisturbed, and once stopped by Ctrl-C and
started again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from elastic_ray.results.store import Results

pytest.importorskip("ray", reason="the training extra is not installed")
from sweep_process import CELLS, LESSONS, nothing_is_left, start, sweep, until

pytestmark = pytest.mark.integration


@pytest.fixture
def spec(little_spec: Path) -> Path:
    return little_spec


@pytest.fixture
def ran(undisturbed: tuple[Path, str]) -> tuple[Path, str]:
    return undisturbed


@dataclass(frozen=True)
class Stopped:
    """The same sweep, stopped by Ctrl-C during evaluation, then run to its end."""

    results: Path
    returned: int
    printed: str
    rewritten: list[str]
    """What the second run recorded that the first had."""


@pytest.fixture(scope="module")
def stopped(little_spec: Path, scorers: Path, tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    results = tmp_path_factory.mktemp("stopped")
    shutil.copytree(scorers, results / "scorers")
    run = start(little_spec, results)
    until(run, lambda: len(Results(results).recorded("scores")) >= 3)
    run.send_signal(signal.SIGINT)
    printed, _ = run.communicate(timeout=600)
    nothing_is_left()
    # A state's record is rewritten when its checkpoint is deleted, and only then.
    files = [p for p in results.glob("[rs]*/**/one-*.parquet") if p.parent.name != "states"]
    seen = {path: path.stat().st_mtime_ns for path in files}
    out = sweep(little_spec, results)
    assert out.returncode == 0, out.stdout + out.stderr
    there = (path for path in seen if path.exists())  # not gathered into another
    rewritten = [path.name for path in there if path.stat().st_mtime_ns != seen[path]]
    return Stopped(results, run.returncode, printed, rewritten)


MEASURED = {
    "states": "SELECT state_id, parent_id, kind, examples, status, tokens, losses, checksum "
    "FROM states ORDER BY ALL",
    "cells": "SELECT * FROM cells ORDER BY ALL",
    "responses": "SELECT * FROM responses ORDER BY ALL",
    "scores": "SELECT * EXCLUDE probability FROM scores ORDER BY ALL",
    "elasticity": "SELECT * FROM elasticity ORDER BY ALL",
    "lessons": "SELECT * FROM lessons ORDER BY ALL",
    "distances": "SELECT * FROM distances ORDER BY ALL",
    "paths": "SELECT * FROM paths ORDER BY ALL",
}


def test_ctrl_c_stops_cleanly(stopped: Stopped) -> None:
    assert stopped.returned == 130, stopped.printed
    assert (
        "run the same command to continue" in stopped.printed and "Traceback" not in stopped.printed
    )


def test_what_a_stopped_sweep_recorded_is_not_recorded_again(stopped: Stopped) -> None:
    assert stopped.rewritten == []


@pytest.mark.parametrize("table", MEASURED)
def test_a_sweep_that_was_stopped_ends_with_the_same_rows(
    ran: tuple[Path, str], stopped: Stopped, table: str
) -> None:
    one, other = (
        Results(at, read_only=True).query(MEASURED[table]).to_pylist()
        for at in (ran[0], stopped.results)
    )
    assert len(one) > 0
    assert one == other


def test_a_sweep_that_was_stopped_ends_with_the_same_probabilities(
    ran: tuple[Path, str], stopped: Stopped
) -> None:
    # To float tolerance: the scorer's sums depend on which texts share a batch.
    query = "SELECT probability FROM scores ORDER BY state_id, probe_id, prompt_index, sample"
    one, other = (
        Results(at, read_only=True).query(query)["probability"].to_pylist()
        for at in (ran[0], stopped.results)
    )
    assert one == pytest.approx(other, abs=1e-5)


def test_a_sweep_that_was_stopped_ends_with_the_same_code_lengths(
    ran: tuple[Path, str], stopped: Stopped
) -> None:
    query = "SELECT * FROM code_lengths ORDER BY ALL"
    one, other = (
        Results(at, read_only=True).query(query).to_pylist() for at in (ran[0], stopped.results)
    )
    bits = [[row.pop("bits") for row in rows] for rows in (one, other)]
    assert one == other and len(one) == 2 * (1 + 2 * 4) * 3 * 6
    # As above: its sums depend on what else is read at the same time.
    assert bits[0] == pytest.approx(bits[1], abs=1e-3)


def test_code_lengths_tell_what_a_state_was_taught(ran: tuple[Path, str]) -> None:
    rows = Results(ran[0], read_only=True).query(
        "SELECT * FROM compression WHERE pretrain = 1280 AND positive IN (0, 64)"
    )
    rates = {
        (row["positive"], row["negative"], row["kind"]): row["bits_per_byte"]
        for row in rows.to_pylist()
    }
    assert len(rates) == 5 * 3
    assert all(0 < rate < 8 for rate in rates.values())
    assert rates[64, 0, "positive"] < rates[0, 0, "positive"]
    assert rates[64, 32, "negative"] < rates[64, 0, "negative"]


def test_every_cell_is_measured(ran: tuple[Path, str]) -> None:
    cells = Results(ran[0], read_only=True).cells("little")
    assert len(cells) == CELLS
    assert {cell["status"] for cell in cells} == {"done"}


def test_the_table_is_printed(ran: tuple[Path, str]) -> None:
    assert "elasticity of little" in ran[1]
    assert "half-life" in ran[1]


def test_every_answer_came_from_its_state(ran: tuple[Path, str]) -> None:
    results = Results(ran[0], read_only=True)
    wrong = results.query("SELECT count(*) AS n FROM responses WHERE held_state <> state_id")
    assert wrong["n"][0].as_py() == 0
    counts = results.query(
        "SELECT state_id, probe_id, count(*) AS n, count(DISTINCT prompt_index) AS p "
        "FROM responses GROUP BY ALL"
    ).to_pylist()
    assert Counter((row["n"], row["p"]) for row in counts) == {
        (24, 24): 2 * (1 + 2 * 4),  # every cell's
        (16, 16): 2 * 2,  # for others to learn from: other prompts
    }
    prompts = results.query("SELECT DISTINCT prompt_index, prompt FROM responses").to_pylist()
    assert len({row["prompt"] for row in prompts}) == len(prompts) == 24 + 16


def test_scores_carry_the_scorers_accuracy(ran: tuple[Path, str]) -> None:
    rows = Results(ran[0], read_only=True).query(
        "SELECT DISTINCT scorer_accuracy AS a FROM scores WHERE score IN (0, 1)"
    )
    assert rows.num_rows == 1
    assert rows["a"][0].as_py() > 0.85


def test_states_can_be_traced(ran: tuple[Path, str]) -> None:
    for row in Results(ran[0], read_only=True).query("FROM states").to_pylist():
        assert row["status"] == "done"
        assert row["checksum"] and row["lineage"] and row["versions"] and row["hardware"]
        if row["kind"] != "start":
            assert row["tokens"] > 0
            assert len(row["losses"]) >= 1


def test_every_lesson_is_what_its_teacher_answered(ran: tuple[Path, str]) -> None:
    results = Results(ran[0], read_only=True)
    lessons = results.query("FROM lessons").to_pylist()
    assert len(lessons) == LESSONS and {row["status"] for row in lessons} == {"done"}
    for row in lessons:
        taught = results.state(row["state_id"])
        assert taught is not None and taught["parent_id"] == row["student_id"]
        stage = json.loads(taught["lineage"])["stages"][-1]
        assert stage["answers"]["state_id"] == row["teacher_id"]
        said = results.read("responses", **stage["answers"]).to_pylist()
        assert len(said) == stage["examples"] == 16
        assert {each["held_state"] for each in said} == {row["teacher_id"]}
        texts = [[s["prompt"], s["response"], s["finish_reason"] == "stop"] for s in said]
        content = hashlib.sha256(json.dumps(texts, separators=(",", ":")).encode()).hexdigest()
        assert stage["content"] == content


def test_lessons_are_measured_from_their_teachers(ran: tuple[Path, str]) -> None:
    rows = Results(ran[0], read_only=True).query("FROM path_rows").to_pylist()
    assert len(rows) == LESSONS * 24 * 4
    for row in rows:
        least = 0 if row["metric"] != "cross_entropy" else 0.01
        assert row["value"] >= least and row["before"] >= least and row["tokens"] > 0
    table = Results(ran[0], read_only=True).query("FROM inverse_forward").to_pylist()
    assert {(row["pretrain"], row["metric"]) for row in table} == {
        (size, metric) for size in (640, 1280) for metric in ("cross_entropy", "kl", "js", "tv")
    }
    for row in table:
        paths = [each for each in rows if all(each[k] == row[k] for k in ("pretrain", "metric"))]
        for direction in ("inverse", "forward"):
            values = [each["value"] for each in paths if each["direction"] == direction]
            assert row[direction] == pytest.approx(sum(values) / len(values))


def test_only_the_base_checkpoints_are_left(ran: tuple[Path, str]) -> None:
    rows = Results(ran[0], read_only=True).states(("kind", "checkpoint"))
    kept = {row["kind"] for row in rows.values() if row["checkpoint"] is not None}
    assert kept == {"start", "pretrain"}
    folders = {p.name for p in (ran[0] / "checkpoints").iterdir()}
    assert folders == {s for s, row in rows.items() if row["checkpoint"] is not None}


@pytest.fixture(scope="module")
def copied(undisturbed: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the results that this file's tests may change."""
    results = tmp_path_factory.mktemp("copied") / "results"
    shutil.copytree(undisturbed[0], results)
    return results


def test_again_trains_nothing(copied: Path, spec: Path) -> None:
    files = {p: p.stat().st_mtime_ns for p in copied.glob("[rs]*/**/one-*.parquet")}
    again = sweep(spec, copied)
    assert again.returncode == 0, again.stderr
    assert f"recorded already: {CELLS} cells" in again.stdout
    assert {p: p.stat().st_mtime_ns for p in copied.glob("[rs]*/**/one-*.parquet")} == files


def test_following_a_sweep_that_does_not_run_shows_its_status(
    ran: tuple[Path, str], spec: Path
) -> None:
    shown = sweep(spec, ran[0], "--status", "--follow")
    assert shown.returncode == 0, shown.stderr
    assert f"not running\ncells: {CELLS} done" in shown.stdout


@dataclass(frozen=True)
class Failing:
    """A larger grid on the recorded states: it diverges, and one model's checkpoint is missing."""

    results: Results
    printed: str
    lost: str
    """The state whose checkpoint is missing, of the model pre-trained on 640 examples."""

    def statuses(self, pretrain: int, **values: int) -> set[str]:
        """The statuses of the grid's cells with these values."""
        cells = self.results.cells("more")
        chosen = [cell for cell in cells if cell["pretrain"] == pretrain]
        return {c["status"] for c in chosen if all(c[k] == v for k, v in values.items())}


@pytest.fixture(scope="module")
def failing(
    undisturbed: tuple[Path, str], little_spec: Path, tmp_path_factory: pytest.TempPathFactory
) -> Failing:
    results = tmp_path_factory.mktemp("failing") / "results"
    shutil.copytree(undisturbed[0], results)
    rows = Results(results).states(("kind", "examples"))
    [lost] = [s for s, row in rows.items() if (row["kind"], row["examples"]) == ("pretrain", 640)]
    shutil.rmtree(results / "checkpoints" / lost)
    more = ["sweep=more", "positive=[16,40]", "negative=[0,400]", "lessons=null"]
    more += ["training.negative.learning_rate=9.9", "resources.engines.engine=transformers"]
    out = sweep(little_spec, results, *[part for each in more for part in ("--set", each)])
    assert out.returncode == 1, out.stdout
    return Failing(Results(results, read_only=True), out.stdout, lost)


def test_a_diverging_ladder_fails_alone(failing: Failing) -> None:
    assert "diverged at step" in failing.printed
    assert failing.statuses(1280, negative=0) == {"done"}
    assert failing.statuses(1280, negative=400) == {"failed"}
    assert {cell["status"] for cell in failing.results.cells("little")} == {"done"}


def test_a_missing_checkpoint_is_named(failing: Failing) -> None:
    assert "is missing" in failing.printed and failing.lost in failing.printed
    for positive in (0, 16):
        assert failing.statuses(640, positive=positive, negative=0) == {"done"}
    assert failing.statuses(640, positive=40) == {"failed"}
    assert failing.statuses(1280, positive=40, negative=0) == {"done"}, "the other model goes on"


def test_a_truncated_file_is_named(copied: Path, spec: Path) -> None:
    victim = next(iter((copied / "scores").glob("probe_id=*/scorer=sent*/one-*.parquet")))
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    try:
        out = sweep(spec, copied)
        assert out.returncode == 1
        assert victim.name in out.stderr
    finally:
        victim.write_bytes(whole)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["positive=[1000000]", "lessons=null"], "task reviews holds"),
        (["task=revews"], "did you mean 'reviews'"),
        (["task.data.sed=1"], "did you mean 'seed'"),
        (["models.0.init.vocabulary=100"], "words are fixed"),
        (["resources.trainers=1000", "seeds=[7]"], "has room for"),
    ],
)
def test_what_cannot_be_run_is_reported(
    ran: tuple[Path, str], spec: Path, sets: list[str], message: str
) -> None:
    out = sweep(spec, ran[0], *[part for each in sets for part in ("--set", each)])
    assert out.returncode == 2, out.stdout
    assert message in out.stderr
    assert "Traceback" not in out.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that can be enlarged."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_reported_and_loses_nothing(
    ran: tuple[Path, str], spec: Path, scorers: Path, small_disk: Path
) -> None:
    results = small_disk / "results"
    shutil.copytree(scorers, results / "scorers")
    few = ["models.0.pretrain=[640]", "positive=[16]", "negative=[0,8]", "lessons=null"]
    few += ["resources.engines.engine=transformers"]  # it is started twice
    sets = [part for each in few for part in ("--set", each)]
    out = sweep(spec, results, *sets)
    assert out.returncode == 1, out.stdout
    assert "No space left on device" in out.stdout + out.stderr
    assert "Traceback" not in out.stdout + out.stderr
    before = Results(results, read_only=True).recorded("states")
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    again = sweep(spec, results, *sets)
    assert again.returncode == 0, again.stdout + again.stderr
    there = Results(results, read_only=True)
    assert before <= there.recorded("states")
    assert {cell["status"] for cell in there.cells("little")} == {"done"}
    query = MEASURED["states"]
    more, less = (Results(at, read_only=True).query(query).to_pylist() for at in (ran[0], results))
    assert len(less) == 4 and all(row in more for row in less)
