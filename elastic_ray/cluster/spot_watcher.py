"""Drains this Ray node when EC2 announces that it takes the spot instance back.

    python -m elastic_ray.cluster.spot_watcher

EC2 announces an interruption two minutes ahead, in the instance's metadata. Ray does not read it.
This program does, every five seconds, and then runs `ray drain-node`: Ray Train tells the trainers
of the node, and nothing new starts there. `cluster.yaml` starts one on every worker.

It ends with 0 after the drain, on an instance that is not spot, and if one runs already; with 1 if
this is no EC2 instance or no Ray node, or if the drain failed until the node's end.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from .instance_metadata import EC2_METADATA, InstanceMetadata

POLL_SECONDS = 5.0
"""Seconds between two looks; EC2's documentation recommends five."""
NOTICE_SECONDS = 120
"""Seconds from EC2's notice to the interruption."""
START_ATTEMPTS = 6
"""How often the metadata is asked for at the start, before this counts as no EC2 instance."""
DRAIN_SECONDS = 30.0
"""Seconds that one `ray drain-node` may take."""


class NoRayNodeError(RuntimeError):
    """This machine runs no Ray node, or several."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What EC2 will do with the instance (`terminate`, `stop`, `hibernate`), and when."""

    action: str
    at: datetime

    def seconds_left(self) -> int:
        return max(0, int((self.at - datetime.now(UTC)).total_seconds()))


def read_notice(metadata: InstanceMetadata) -> Notice | None:
    """Return EC2's notice; None while there is none. `OSError` if the metadata is unreachable."""
    text = metadata.read("spot/instance-action")
    if text is None:
        return None
    try:
        fields = json.loads(text)
        at = datetime.fromisoformat(fields["time"])
        return Notice(str(fields["action"]), at if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, KeyError, TypeError):
        # A notice is a notice, whatever it looks like.
        _say(f"the notice {text!r} has no readable time; {NOTICE_SECONDS} s are assumed")
        return Notice("interrupt", datetime.now(UTC) + timedelta(seconds=NOTICE_SECONDS))


def watch(
    metadata: InstanceMetadata, drain: Callable[[Notice], None], poll: float = POLL_SECONDS
) -> int:
    """Wait for EC2's notice, and `drain` the node once; return the exit status of the program.

    `drain` raises an `OSError`, `subprocess.SubprocessError` or `NoRayNodeError` if it did not
    succeed; it is then tried again until the interruption.
    """
    try:
        life_cycle = _life_cycle(metadata, poll)
    except OSError as error:
        _say(f"not an EC2 instance, or its metadata is turned off ({metadata.url}: {error})")
        return 1
    if life_cycle != "spot":
        _say(f"this instance is {life_cycle}, not spot: EC2 does not take it back")
        return 0
    notice = _wait_for_notice(metadata, poll)
    _say(f"EC2 will {notice.action} this instance at {notice.at:%H:%M:%S} UTC")
    while True:
        try:
            drain(notice)
        except (OSError, subprocess.SubprocessError, NoRayNodeError) as error:
            _say(f"the node is not drained: {_reason(error)}")
            if not notice.seconds_left():
                return 1
            time.sleep(poll)
        else:
            _say("the node is drained")
            return 0


def _life_cycle(metadata: InstanceMetadata, poll: float) -> str:
    """Return `spot`, `on-demand`, ...; `OSError` if that is not to be had for some seconds."""
    for attempt in range(START_ATTEMPTS):
        try:
            if life_cycle := metadata.read("instance-life-cycle"):
                return life_cycle
            raise FileNotFoundError("it has no instance-life-cycle")
        except OSError:
            if attempt == START_ATTEMPTS - 1:
                raise
        time.sleep(poll)
    raise AssertionError


def _wait_for_notice(metadata: InstanceMetadata, poll: float) -> Notice:
    """Return the notice when there is one. An unreachable service is reported, and asked again."""
    answers = True
    while True:
        try:
            notice = read_notice(metadata)
        except OSError as error:
            if answers:
                _say(f"the metadata does not answer ({error}); a notice would be missed")
            answers = False
        else:
            if not answers:
                _say("the metadata answers again")
            answers = True
            if notice:
                return notice
        time.sleep(poll)


def node_of_this_machine() -> str:
    """Return the id of the Ray node whose raylet runs here, without joining Ray.

    `NoRayNodeError` unless there is exactly one.
    """
    # Ray has no public function for this; `ray start` and workers use the same one.
    from ray._private.services import find_node_ids

    ids: set[str] = find_node_ids()  # type: ignore[no-untyped-call]  # Ray does not annotate it
    if len(ids) != 1:
        raise NoRayNodeError(
            f"{len(ids)} Ray nodes run on this machine, must be 1; name one with --node-id"
        )
    return next(iter(ids))


def drain_node(node_id: str, notice: Notice) -> None:
    """Tell Ray that the node will be taken away, as a cloud preempts it.

    `subprocess.CalledProcessError` or `TimeoutExpired` if Ray's command fails. It finds the cluster
    as every `ray` command does (`RAY_ADDRESS`, or that of the last `ray start`).
    """
    subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "drain-node",
         f"--node-id={node_id}",
         "--reason=DRAIN_NODE_REASON_PREEMPTION",
         f"--reason-message=EC2 will {notice.action} the spot instance",
         f"--deadline-remaining-seconds={notice.seconds_left()}"],
        check=True,
        capture_output=True,
        text=True,
        timeout=DRAIN_SECONDS,
    )  # fmt: skip


def _reason(error: Exception) -> str:
    """Return what to show of an error: of Ray's command, the end of what it wrote."""
    written = error.stderr if isinstance(error, subprocess.CalledProcessError) else None
    return str(written or error).strip()[-500:]


def _say(text: str) -> None:
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} spot watcher: {text}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m elastic_ray.cluster.spot_watcher",
        description="Drains this Ray node when EC2 announces that it takes the spot instance back.",
    )
    parser.add_argument("--node-id", help="the Ray node to drain (default: that of this machine)")
    parser.add_argument(
        "--metadata", default=EC2_METADATA, metavar="URL", help="the metadata service"
    )
    parser.add_argument("--poll", type=float, default=POLL_SECONDS, metavar="SECONDS")
    lock = Path(tempfile.gettempdir(), f"elastic_ray-spot-watcher-{os.getuid()}.lock")
    parser.add_argument("--lock", type=Path, default=lock, help="one watcher runs per lock file")
    asked = parser.parse_args(arguments)

    def node_id() -> str:
        return asked.node_id or node_of_this_machine()

    with asked.lock.open("w") as held:  # the lock ends with the process
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"another one runs already ({asked.lock})")
            return 0
        try:
            _say(f"watches over node {node_id()}")
        except NoRayNodeError as error:
            _say(str(error))
            return 1
        # The id is asked for again at the notice: Ray may have been restarted meanwhile.
        metadata = InstanceMetadata(asked.metadata)
        return watch(metadata, lambda notice: drain_node(node_id(), notice), asked.poll)


if __name__ == "__main__":
    sys.exit(main())
