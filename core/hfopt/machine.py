"""What of this machine matters to a timing: usable CPUs, CPU model and flags."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Any

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_cpus(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int:
    """CPUs that this process may use: its affinity, or the CPU quota of its cgroups if that is lower; at least 1.

    A part of a CPU counts as one: a quota of 1.5 is 2.

    :param cgroups: where the cgroup file systems are mounted
    :param own: the file that says in which cgroups the process is
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _own_folders(cgroups, own) if (quota := _quota(folder)) is not None]
    return max(1, min([affinity, *map(ceil, quotas)]))


def _own_folders(cgroups: Path, own: Path) -> Iterator[Path]:
    """Folders of the process's cgroups and of all above them: each may set a limit.

    A container that keeps its host's cgroup names sees its own cgroup at the mount's root: that is always among them.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    for line in ["0::/", "1:cpu:/", *lines]:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mounts = [cgroups, cgroups / "unified"]
        elif "cpu" in controllers.split(","):
            mounts = [cgroups / controllers, cgroups / "cpu"]
        else:
            continue
        place = PurePosixPath(path.lstrip("/"))
        if ".." not in place.parts:
            yield from (mount / folder for mount in mounts for folder in (place, *place.parents))


def _quota(folder: Path) -> float | None:
    """CPUs that one cgroup allows (v2, then v1), None without a limit."""
    try:
        limit, period = (folder / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        pass
    try:
        limit_us = int((folder / "cpu.cfs_quota_us").read_text())
        return None if limit_us < 0 else limit_us / int((folder / "cpu.cfs_period_us").read_text())
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
