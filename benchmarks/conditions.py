"""Where a measurement was made: machine, libraries, commit, date, and how busy the machine was."""

from __future__ import annotations

import os
import platform
import subprocess
import warnings
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PACKAGES = ("torch", "lightning", "open_clip_torch", "diffusers", "transformers", "numpy", "pillow")


def commit() -> str:
    """Name the commit at hand, and say so where the package differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, cwd=HERE, check=False).stdout.strip()

    dirty = " with uncommitted changes" if git("status", "--porcelain", "../uniemo", ".") else ""
    return f"{git('rev-parse', '--short', 'HEAD') or 'unknown'}{dirty}"


def processor() -> str:
    """Name the processor."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())


def conditions(threads: int | None = None) -> dict[str, Any]:
    """Describe machine, libraries, commit and date; warn when other work keeps the machine busy.

    Args:
        threads: of PyTorch where measured; None is this process's.
    """
    import torch

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    cores = os.cpu_count() or 1
    if load > 0.5:
        warnings.warn(f"the machine is busy (load {load:.2f} on {cores} cores): times will vary", stacklevel=2)
    found: dict[str, Any] = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": commit(),
        "processor": processor(),
        "cores": cores,
        "memory GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "threads": threads or torch.get_num_threads(),
        "load at start": round(load, 2),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def sentence(where: Mapping[str, Any]) -> str:
    """Return :func:`conditions` in one line, for a table's foot."""
    gpu = f" and {where['gpu']}" if "gpu" in where else ""
    versions = where["versions"]
    return (
        f"{where['cores']} cores of {where['processor']}{gpu}, {where['memory GiB']} GiB, {where['threads']} threads, "
        f"Python {where['python']}, torch {versions['torch']}, lightning {versions['lightning']}, commit "
        f"{where['commit']}, {where['date']}, load at the start {where['load at start']}."
    )
