"""GPUs that Ray only was told of: a switch for tests on machines without one.

Ray hands out GPUs that a node merely claims to have. With `ELASTIC_RAY_DECLARED_GPUS=1` in the
environment of every node, all processes reserve them as usual, and compute on the CPU.
"""

from __future__ import annotations

import os


def gpus_are_declared() -> bool:
    """Return whether GPUs are reserved, but not used."""
    return os.environ.get("ELASTIC_RAY_DECLARED_GPUS") == "1"


def usable_gpus(reserved: float) -> float:
    """Return the GPUs that a process which has reserved so many can use."""
    return 0.0 if gpus_are_declared() else reserved
