"""What matters to a timing on this machine: usable CPUs, what other processes use of them, CPU model and flags."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Any

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
LEAST_LEFT = 0.85
"""What other processes must leave of a CPU for each thread."""
_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")
"""Of a CPU's times, as psutil names them; `steal` is what the hypervisor gave to others."""


def usable_cpus(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int:
    """CPUs that this process may use: its affinity, or the CPU quota of its cgroups if that is lower; at least 1.

    A part of a CPU counts as one: a quota of 1.5 is 2.

    :param cgroups: where the cgroup file systems are mounted
    :param own: the file that lists the process's cgroups
    """
    quotas = [quota for folder in _own_folders(cgroups, own) if (quota := _quota(folder)) is not None]
    return max(1, min([len(allowed_cpus()), *map(ceil, quotas)]))


def allowed_cpus() -> set[int]:
    """Numbers of the CPUs that this process may be scheduled on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def used_by_others(own: Iterable[int]) -> float | None:
    """CPU time that other processes have used since boot, in seconds, on the CPUs that this process may use.

    Differences between two answers are meant to be used.

    :param own: pids of processes that don't count
    :return: None if the system does not say
    """
    import psutil

    try:
        times = psutil.cpu_times(percpu=True)
        used = sum(getattr(times[number], kind, 0.0) for number in allowed_cpus() for kind in _BUSY)
        return float(used - sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in own))
    except (psutil.Error, OSError, IndexError):
        return None


def is_busy(left: float, threads: int) -> bool:
    """Whether other processes left too few CPUs to time models by."""
    return left < LEAST_LEFT * threads


def cpus_left(seconds: float = 0.5) -> float | None:
    """How many CPUs other processes leave, on average over some time; None if the system does not say."""
    before = used_by_others([os.getpid()])
    time.sleep(seconds)
    after = used_by_others([os.getpid()])
    return None if before is None or after is None else len(allowed_cpus()) - (after - before) / seconds


def _own_folders(cgroups: Path, own: Path) -> Iterator[Path]:
    """Folders of the process's cgroups and of all their ancestors: each may set a limit.

    The mount's root is always included: there a container that has its host's cgroup names finds its own cgroup.
    """
    lines = ["0::/", "1:cpu:/"]
    with suppress(OSError):
        lines += own.read_text().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        place = PurePosixPath(path.lstrip("/"))
        if ".." not in place.parts and (not controllers or "cpu" in controllers.split(",")):
            mounts = [controllers, "cpu"] if controllers else ["", "unified"]
            yield from (cgroups / mount / folder for mount in mounts for folder in (place, *place.parents))


def _quota(folder: Path) -> float | None:
    """How many CPUs one cgroup allows (version 2, then 1); None without a limit."""
    for files in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        with suppress(OSError, ValueError, ZeroDivisionError):
            limit, period = " ".join((folder / file).read_text() for file in files).split()
            return None if limit in ("max", "-1") else int(limit) / int(period)
    return None


def describe() -> dict[str, Any]:
    """What a latency key includes: the CPU's model, a digest of its flags, and the number of usable CPUs."""
    lines: list[str] = []
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    cpu = fields.get("model name") or platform.processor() or platform.machine()
    flags = " ".join(sorted(fields.get("flags", fields.get("Features", "")).split()))
    return {"cpu": cpu, "flags": sha256(flags.encode()).hexdigest()[:12], "threads": usable_cpus()}
