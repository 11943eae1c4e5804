"""What a run writes into its output_dir."""

from __future__ import annotations

RECORD = "run.json"
BEST = "best"
LOG = "hfopt.log"
