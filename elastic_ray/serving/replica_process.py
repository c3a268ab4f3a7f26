"""Ties the processes of a replica together: whatever ends one of them ends them all, at once."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from typing import Protocol

from ..results.storage.node_cache import cache_folder

_PR_SET_PDEATHSIG = 1


class Checked(Protocol):
    """An engine or a scorer backend."""

    async def check_health(self) -> None: ...


def end_processes_together() -> None:
    """Make this replica's processes end with it, and the replica with its raylet.

    vLLM's engine process notices only after minutes, or never, that its parent was killed. So the
    replica and all that it starts form a process group, and a shell outside the group waits for the
    replica's end (its pipe closes) to kill what is left of the group. On Linux the kernel kills the
    replica itself as soon as its raylet ends.
    """
    with contextlib.suppress(OSError):
        ctypes.CDLL("libc.so.6", use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    kill_group = ["sh", "-c", 'read _; kill -s KILL -- "-$1"', "sh", str(os.getpgrp())]
    watcher = subprocess.Popen(
        kill_group, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    _watchers.append(watcher)


def prepare_process(tensor_parallel: int) -> None:
    """Set what vLLM reads of this process's environment and depends on the node; call it first.

    vLLM keeps what it compiled in the node's cache. The processes of a tensor-parallel engine join
    this cluster: without its address they would start a second Ray where the sweep started Ray
    itself.
    """
    os.environ.setdefault("VLLM_CACHE_ROOT", str(cache_folder() / "vllm"))
    if tensor_parallel > 1:
        import ray

        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address


_watchers: list[subprocess.Popen[bytes]] = []
"""Kept for their pipes, which must stay open as long as this process lives."""


async def exit_if_dead(part: Checked) -> None:
    """End this replica if its engine or scorer is dead.

    Serve then starts another replica, and callers, who see that the actor died, try again there.
    Otherwise every request would fail until Serve's next health check.
    """
    try:
        await part.check_health()
    except Exception:
        os._exit(1)
