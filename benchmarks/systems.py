"""Milliseconds of a step that does nothing, on a worker that is warm (`make bench`).

What a system adds to each step: the request and its answer, the artifact's folder, its manifest on the disk. The first
step starts the worker and does not count; rounds of all systems alternate, in one sitting; medians count. A system
whose plugin or engine is not there is left out, and said so.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from hfopt import HfoptError
from hfopt.api.model import Accelerator
from hfopt.api.protocol import StepRequest
from hfopt.api.systems import System, SystemContext
from hfopt.cache.bundle import bundle
from hfopt.cache.store import ArtifactStore
from hfopt.discovery.plugins import Plugins
from hfopt.testing import lines
from hfopt_docker_system.engine import connect
from hfopt_docker_system.testing import as_here, python_image

ROUNDS, STEPS = 5, 20
MOST = {"LocalSystem": 5.0, "PythonEnvironment": 5.0, "Docker": 50.0}
FOUND = 200.0
"""Milliseconds."""


def options(name: str, stack: ExitStack) -> dict[str, Any]:
    """Of a system that has the packages of this environment.

    :param stack: holds what is to end afterwards
    :raises HfoptError: no engine answers
    """
    if name == "Docker":
        engine = stack.enter_context(closing(connect()))
        return as_here(stack.enter_context(python_image(engine)))
    given = {"PythonEnvironment": {"python_environment_path": sys.prefix}, "Managed": {"managed": True}}
    return given.get(name, {})


def step(folder: Path, plugins: Plugins, number: int) -> StepRequest:
    """A step that copies four bytes."""
    return StepRequest(
        key=f"{number:064x}",
        name="points",
        kind="data",
        component=plugins.find("hfopt_data_containers", "TestPoints").full_name,
        config={"data_file": str(folder / "points.json")},
        inputs={},
        accelerator=Accelerator(device="cpu", execution_provider="CPUExecutionProvider"),
        threads=1,
    )


def opened(name: str, folder: Path, plugins: Plugins, stack: ExitStack) -> System:
    """A system that is ready for its first step."""
    store, file = ArtifactStore(folder), Path(lines.__file__)
    (folder / "points.json").write_text("[[1, 0]]")
    context = SystemContext(
        store=store.root,
        log=folder / "log",
        bundle=lambda: bundle(store, plugins),
        distributions=("hfopt",),
        plugin_files=(file,),
        take_in=store.take_in,
    )
    cls = plugins.find("hfopt_systems", "PythonEnvironment" if name == "Managed" else name).load()
    system = cls(cls.Config.model_validate_json(json.dumps(options(name, stack))), context)
    system.prepare(lambda *_: None)
    return system


def timed(system: System, requests: list[StepRequest]) -> float:
    """Milliseconds for each of some steps, one after another."""
    start = time.perf_counter()
    for request in requests:
        (future,) = system.submit([request], lambda _: None)
        if (fault := future.result(120).fault) is not None:
            raise RuntimeError(fault.message)
    return (time.perf_counter() - start) / len(requests) * 1e3


def managed(plugins: Plugins) -> bool:
    """Milliseconds until an environment that hfopt has made before is found; whether they are too many."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        times = []
        for _ in range(1 + ROUNDS):
            start = time.perf_counter()
            opened("Managed", Path(temporary), plugins, stack).close()
            times.append((time.perf_counter() - start) * 1e3)
    made, found = times[0] / 1e3, statistics.median(times[1:])
    print(f"a managed environment: {made:.1f} s to make, {found:.1f} ms to find later; wanted: {FOUND:g}")
    return found > FOUND


def main() -> int:
    plugins = Plugins.discover([Path(lines.__file__)])
    systems: dict[str, tuple[System, Path]] = {}
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        for name in MOST:
            folder = Path(temporary, name)
            folder.mkdir()
            try:
                systems[name] = opened(name, folder, plugins, stack), folder
                timed(systems[name][0], [step(folder, plugins, 0)])
            except (HfoptError, RuntimeError) as error:  # a plugin or an engine that is not there
                print(f"{name}: left out: {error}")
                systems.pop(name, None)
        numbers = iter(range(1, 1 + ROUNDS * STEPS))
        found: dict[str, list[float]] = {name: [] for name in systems}
        for _ in range(ROUNDS):
            some = [next(numbers) for _ in range(STEPS)]
            for name, (system, folder) in systems.items():
                found[name].append(timed(system, [step(folder, plugins, number) for number in some]))
        for system, _ in systems.values():
            system.close()
    missed = managed(plugins)
    for name, each in found.items():
        most = MOST[name]
        print(f"{name}: {statistics.median(each):.1f} ms a step, wanted: {most:g}")
        missed += statistics.median(each) > most
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
