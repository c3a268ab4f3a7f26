"""Checkpoints: recorded references, checksums of folders, and errors of the hub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from elastic_ray.checkpoints.files import CheckpointError, checkpoint_checksum, content_hash
from elastic_ray.checkpoints.hub import download_error
from elastic_ray.checkpoints.reference import CheckpointReference

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("recorded", "reference", "source"),
    [
        (
            f"hub:some/a-1b@{COMMIT}",
            CheckpointReference(hub="some/a-1b", revision=COMMIT),
            ("some/a-1b", COMMIT),
        ),
        (
            "checkpoints/4c1f9efc",
            CheckpointReference.of_state("4c1f9efc"),
            ("/results/checkpoints/4c1f9efc", None),
        ),
        ("/models/a-1b", CheckpointReference(folder="/models/a-1b"), ("/models/a-1b", None)),
    ],
)
def test_references_are_parsed_located_and_written_back(
    recorded: str, reference: CheckpointReference, source: tuple[str, str | None]
) -> None:
    assert CheckpointReference.parse(recorded) == reference
    assert str(reference) == recorded
    assert reference.source(lambda name: f"/results/{name}") == source


def test_a_checksum_covers_names_and_contents_of_weights(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"one")
    checksum = checkpoint_checksum(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert checkpoint_checksum(tmp_path) == checksum
    before = content_hash(tmp_path)
    (tmp_path / "config.json").write_text("{ }")
    assert content_hash(tmp_path) != before
    (tmp_path / "a.safetensors").rename(tmp_path / "b.safetensors")
    assert checkpoint_checksum(tmp_path) != checksum


def test_missing_folders_and_weights_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        content_hash(tmp_path / "gone")
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors there"):
        checkpoint_checksum(tmp_path)


class GatedRepoError(Exception):
    """Named like the hub's own error: messages depend on the name only."""


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (GatedRepoError("403"), "accept its licence at https://huggingface.co/some/a-1b"),
        (OSError("no route to host"), "check the network"),
    ],
)
def test_download_errors_suggest_a_fix(error: Exception, advice: str) -> None:
    message = download_error("model", "some/a-1b", COMMIT, error)
    assert message.startswith("some/a-1b@0123456789ab is not available from the hub (")
    assert advice in message


def test_a_failed_download_is_a_checkpoint_error(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    code = """
import sys
from elastic_ray.checkpoints.files import CheckpointError
from elastic_ray.checkpoints.hub import download_model
try:
    download_model("some/a-1b", sys.argv[1])
except CheckpointError as e:
    print(e)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, COMMIT],
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "is not available from the hub" in done.stdout
    assert "or give path, a local folder" in done.stdout
