"""The CPUs and the memory that this process may use: of the machine, or of its container (cgroup).

CPUs are counted as Ray counts them when it starts here, so that a layout that is shown before is
the one that runs.
"""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 2**60
"""A cgroup's memory limit above this is none."""


def usable_cpus(cgroup: Path = CGROUP) -> float:
    """Return the CPUs that this process may use, at least 1.

    Ray counts the machine's CPUs, or the quota and the cpuset of its cgroup where it has them. Both
    versions of cgroups are read; a fraction of a CPU is dropped.
    """
    limits = [float(os.cpu_count() or 1)]
    if (quota := _quota(cgroup)) is not None:
        limits.append(quota)
    if (cpuset := _cpuset(_text(cgroup / "cpuset" / "cpuset.cpus"))) is not None:
        limits.append(cpuset)
    return max(1.0, float(int(min(limits))))


def _quota(cgroup: Path) -> float | None:
    """Return the CPUs that a cgroup's quota allows; None without one."""
    texts = [_text(cgroup / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
    if not all(texts):  # version 2
        texts = _text(cgroup / "cpu.max").split()
    try:
        quota, period = (float(each) for each in texts)
    except ValueError:  # "max", or no such files
        return None
    return quota / period if quota > 0 and period > 0 else None


def _cpuset(text: str) -> float | None:
    """Return the number of CPUs in a list such as "0-3,8"; None if it is empty."""
    try:
        spans = [[int(end) for end in part.split("-")] for part in text.split(",") if part]
    except ValueError:
        return None
    return float(sum(span[-1] - span[0] + 1 for span in spans)) or None


def usable_memory(cgroup: Path = CGROUP) -> int:
    """Return the bytes of memory that this process may use."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _text(cgroup / name)
        if text.isdigit() and 0 < int(text) < _UNLIMITED:
            limits.append(int(text))
    return min(limits)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
