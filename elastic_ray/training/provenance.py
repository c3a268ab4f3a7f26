"""How a state was made: versions of the relevant libraries, the hardware and the git revision."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "ray", "deepspeed", "transformers", "peft", "tokenizers", "safetensors")


@functools.cache
def versions() -> dict[str, str]:
    """Return the installed version of Python, this package and `LIBRARIES`, by name."""
    found = {"python": platform.python_version()}
    for name in ("elastic_ray", *LIBRARIES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def hardware() -> dict[str, Any]:
    """Return the CPU model, number of cores and names of the GPUs that this process sees."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"machine": platform.machine(), "cpu": _cpu(), "cores": os.cpu_count(), "gpus": gpus}


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def git_revision() -> str | None:
    """Return the commit of the running code, with "+" for local changes; None outside git."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
