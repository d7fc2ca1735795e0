"""How many processors there are for this process, in a container too; travels into the bundle.

Only the standard library: it must run where nothing else of the project is installed.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def processors() -> int:
    """How many processors this process may use: as its affinity says, and a container's share of time, rounded up.

    A container that may use four of 64 processors' time sees all 64; 64 threads would wait for each other.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return max(1, min(allowed, math.ceil(quota))) if quota else allowed


def _quota() -> float | None:
    """Processors' worth of time, by version 2 or 1 of Linux' control groups; None without a limit."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = " ".join((CGROUPS / file).read_text() for file in files).split()
            share, period = float(words[0]), float(words[1])
        except (OSError, ValueError, IndexError):  # not this version, or "max"
            continue
        if share > 0 and period > 0:
            return share / period
    return None
