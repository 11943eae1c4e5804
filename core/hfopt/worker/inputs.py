"""What a step is given to read stays as it is: a step that changes its inputs fails, and nothing changed is reused."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from hfopt.api.protocol import INPUT
from hfopt.base.errors import StepFailed
from hfopt.cache.digests import Digests
from hfopt.cache.store import Manifest, damage
from hfopt.worker.context import StepContext


@contextmanager
def inputs_unchanged(step: StepContext) -> Iterator[None]:
    """See that what runs inside changes neither an earlier artifact nor an input of the user's.

    Content is compared only of what was touched. An artifact that was changed is removed.

    :raises StepFailed: it does, or an input is not what it was when the run began
    """
    remembered = Digests(step.store.root)
    for token, path in step.request.paths.items():
        if _token(remembered, Path(path)) != token:
            raise StepFailed(f"{path} has changed since the run began", hint="run the same command again")
    artifacts = step.store.closure(step.request.inputs.values())
    before = {file: _stat(file) for file in _files(step, artifacts)}
    changed: list[str] = []
    try:
        yield
    finally:
        touched = {file for file, state in before.items() if _stat(file) != state}
        changed += _changed(step, artifacts, touched)
    if changed:
        raise StepFailed(
            f"{step.request.component} has changed what it was given to read: {', '.join(changed)}",
            hint="a pass writes into context.folder alone: this is a mistake in the plugin",
        )


def _files(step: StepContext, artifacts: Mapping[str, Manifest]) -> Iterator[Path]:
    """Every file that the step may read."""
    for key, manifest in artifacts.items():
        yield from (step.store.folder(key) / file.path for file in manifest.files)
    for path in map(Path, step.request.paths.values()):
        yield from path.rglob("*") if path.is_dir() else [path]


def _stat(file: Path) -> tuple[int, ...] | None:
    with suppress(OSError):
        state = os.stat(file)
        return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
    return None


def _token(digests: Digests, path: Path) -> str | None:
    with suppress(OSError):
        return INPUT + digests.of(path)
    return None


def _changed(step: StepContext, artifacts: Mapping[str, Manifest], touched: set[Path]) -> Iterator[str]:
    """What of the touched files has another content now."""
    for key, manifest in artifacts.items():
        folder = step.store.folder(key)
        if any(file.is_relative_to(folder) for file in touched) and (faults := list(damage(folder, manifest))):
            step.store.discard(key)
            yield from (f"{fault} in the result of {manifest.name}" for fault in faults)
    for token, path in step.request.paths.items():
        if any(file.is_relative_to(path) for file in touched) and _token(Digests(), Path(path)) != token:
            yield path
