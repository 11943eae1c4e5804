"""Which steps of a plan the cache has already."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from hfopt.api.protocol import INPUT
from hfopt.api.systems import SystemConfig, SystemContext
from hfopt.cache.digests import Digests
from hfopt.cache.store import ArtifactStore
from hfopt.discovery.plugins import Plugins, versions
from hfopt.engine.questions import component_versions, machine_of
from hfopt.planning.builder import LOCAL
from hfopt.planning.graph import Plan, Step
from hfopt.planning.identity import Identity, identify
from hfopt.systems.in_process import InProcessSystem


def cached(plan: Plan, *, plugin_files: Sequence[Path] = ()) -> Mapping[Step, bool | None]:
    """Whether a run would find each step of a plan in the cache; nothing is run or fetched, and nothing large is read.

    None where that is not known beforehand: it depends on a reference, which only a request resolves, on a file whose
    digest is not known, or on what is installed elsewhere than on this interpreter.
    """
    config, plugins, steps = plan.config, Plugins.discover(plugin_files), plan.steps()
    digests, store = Digests(Path(config.engine.cache_dir)), ArtifactStore(Path(config.engine.cache_dir))
    if not (store.root / "artifacts").is_dir():
        return dict.fromkeys(steps, False)
    context = SystemContext(store.root, Path(os.devnull), Path, Path, plugin_files=tuple(plugin_files), offline=True)
    here = InProcessSystem(SystemConfig(), context)
    of_components = component_versions((need for step in steps for need in step.needs), here, versions(plugins.infos))
    machine, identities = machine_of(here), dict[Step, Identity]()
    leaves = {path: digests.of(path) for step in steps for path in step.paths if digests.knows(path)}
    store.inputs |= {INPUT + digest: str(path) for path, digest in leaves.items()}
    for step in steps:
        system = config.systems.get(step.system)
        told = leaves.keys() >= {*step.paths} and identities.keys() >= {*step.inputs.values()} and step.token is None
        if told and system is not None and system.registered.full_name == LOCAL:
            identities[step] = identify(step, identities, leaves, {}, of_components, machine)
    return {step: store.find(identities[step].key) is not None if step in identities else None for step in steps}
