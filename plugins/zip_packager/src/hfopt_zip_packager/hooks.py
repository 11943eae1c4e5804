"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_packagers() -> list[Component]:
    return [Component("Zipfile", "hfopt_zip_packager.packager:Zipfile", "Every model of a run, ranked, in one archive")]
