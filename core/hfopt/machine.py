"""What of this machine matters to a timing: usable CPUs, CPU model and flags."""

from __future__ import annotations

import os
import platform
from functools import cache
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Any


def usable_cpus() -> int:
    """CPUs that this process may use: its affinity, and a container's CPU quota if that is lower."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, affinity if quota is None else min(affinity, ceil(quota)))


def _cgroup_quota() -> float | None:
    """CPUs that the cgroup allows (v2, then v1), None without a limit."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        v1 = Path("/sys/fs/cgroup/cpu")
        limit_us = int((v1 / "cpu.cfs_quota_us").read_text())
        return None if limit_us < 0 else limit_us / int((v1 / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError, ZeroDivisionError):
        return None


@cache
def describe_cpu() -> dict[str, str]:
    """CPU model, and a digest of its flags."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {"cpu": platform.processor() or platform.machine(), "flags": ""}
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = " ".join(sorted(fields.get("flags", fields.get("Features", "")).split()))
    return {"cpu": fields.get("model name", platform.machine()), "flags": sha256(flags.encode()).hexdigest()[:12]}


def describe() -> dict[str, Any]:
    """What a latency key includes."""
    return {**describe_cpu(), "threads": usable_cpus()}
