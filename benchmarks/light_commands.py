"""CPU seconds and peak memory of commands that must stay light: --help, validate, plugins (`make bench`).

Each is a whole process, measured by the operating system; the median of five runs is compared with the limit.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIG = str(ROOT / "examples" / "reviews" / "config.json")
COMMANDS = {"--help": ["--help"], "validate": ["validate", CONFIG], "plugins": ["plugins"]}
CPU_SECONDS, MEBIBYTES = 0.3, 60
RUNS = 5


def measure(arguments: list[str]) -> tuple[float, float]:
    """CPU seconds (user and system) and peak resident MiB of one run."""
    process = subprocess.Popen([sys.executable, "-m", "hfopt", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"hfopt {' '.join(arguments)} ended with exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> int:
    """Print a row per command.

    :return: 1 if a limit is exceeded
    """
    within = True
    print(f"{'command':10} {'CPU s':>7} {'MiB':>6}   limits {CPU_SECONDS} s, {MEBIBYTES} MiB")
    for name, arguments in COMMANDS.items():
        runs = [measure(arguments) for _ in range(RUNS)]
        seconds, mebibytes = (statistics.median(column) for column in zip(*runs, strict=True))
        kept = seconds <= CPU_SECONDS and mebibytes <= MEBIBYTES
        within &= kept
        print(f"{name:10} {seconds:7.2f} {mebibytes:6.1f}   {'ok' if kept else 'EXCEEDED'}")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
