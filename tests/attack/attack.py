"""`make attack`: campaigns of hostile input, each as large as the budget allows; prints what was tried and what held.

A campaign is a module beside this one with ``TITLE``, ``LEAST`` (how many a full run tries at least), ``SHARE`` (its
part of the budget) and ``attempts(random)``, which yields `world.Attempt`s: first what is made by hand, then as many
mutations as are asked for. The seed makes every run repeatable: an attempt's name says which it was.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).parent))

from world import Attempt

HERE = Path(__file__).parent
CAMPAIGNS = sorted(file.stem for file in HERE.glob("[a-z]*.py") if file.stem not in ("attack", "world"))
SHOWN = 25
"""Failures that are printed of each campaign."""


@dataclass
class Tally:
    """How a campaign went."""

    tried: int = 0
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run_campaign(campaign: ModuleType, seed: int, seconds: float, workers: int) -> Tally:
    """Try until the time is over, or there is nothing more to try."""
    tally, began = Tally(), time.monotonic()
    left: Iterator[Attempt] = iter(campaign.attempts(random.Random(seed)))
    running: dict[Future[str | None], str] = {}
    with ThreadPoolExecutor(workers) as pool:
        while True:
            while len(running) < workers and time.monotonic() - began < seconds and (attempt := next(left, None)):
                running[pool.submit(try_, attempt)] = attempt.name
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name, error = running.pop(future), future.exception()
                wrong = future.result() if error is None else f"{type(error).__name__}: {error}"
                tally.tried += 1
                if wrong is not None:
                    tally.failed.append(f"{name}: {wrong}")
                    print(f"  {campaign.__name__}: {tally.failed[-1]}", flush=True)
    tally.seconds = time.monotonic() - began
    return tally


def try_(attempt: Attempt) -> str | None:
    """Try it in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="attack-", ignore_cleanup_errors=True) as folder:
        return attempt.try_(Path(folder).resolve())


def main() -> int:
    """Run campaigns and print the table.

    :return: 1 if something did not hold
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20, help="for all campaigns together (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is random (default: 0)")
    parser.add_argument("--only", nargs="*", choices=CAMPAIGNS, default=CAMPAIGNS, help="these campaigns alone")
    parser.add_argument("--workers", type=int, default=2, help="attempts at once (default: 2)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="attack-locks-") as locks:
        os.environ["HFOPT_LOCKS"] = locks
        return run_all(given)


def run_all(given: argparse.Namespace) -> int:
    """Run campaigns and print the table.

    :return: 1 if something did not hold
    """
    campaigns = [importlib.import_module(name) for name in given.only]
    shares = sum(campaign.SHARE for campaign in campaigns)
    tallies = {}
    for campaign in campaigns:
        seconds = given.minutes * 60 * campaign.SHARE / shares
        tallies[campaign] = run_campaign(campaign, given.seed, seconds, given.workers)
    print(f"\n{'seed ' + str(given.seed):44} {'tried':>7} {'held':>7} {'least':>7} {'s':>6}")
    for campaign, tally in tallies.items():
        held = tally.tried - len(tally.failed)
        print(f"{campaign.TITLE:44} {tally.tried:7} {held:7} {campaign.LEAST:7} {tally.seconds:6.0f}")
    for campaign, tally in tallies.items():
        for line in tally.failed[:SHOWN]:
            print(f"did not hold: {campaign.__name__}: {line}")
    return 1 if any(tally.failed for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
