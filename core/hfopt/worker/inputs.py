"""What a step is given to read stays as it is: a step that changes its inputs fails, and nothing changed is reused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hfopt.api.protocol import INPUT
from hfopt.base.errors import StepFailed
from hfopt.cache.digests import Digests, digest_file
from hfopt.cache.manifest import examine
from hfopt.worker.context import StepContext


@contextmanager
def inputs_unchanged(step: StepContext) -> Iterator[None]:
    """See that what runs inside changes neither an earlier artifact nor an input of the user's.

    Content is compared only of what was touched. An artifact that was changed is removed.

    :raises StepFailed: it does, or an input is not what it was when the run began
    """
    remembered = Digests(step.store.root)
    for token, path in step.request.paths.items():
        if _token(remembered, path) != token:
            raise StepFailed(f"{path} has changed since the run began", hint="run the same command again")
    store, artifacts = step.store, step.store.closure(step.request.inputs.values())
    folders = {key: [store.folder(key) / file.path for file in each.files] for key, each in artifacts.items()}
    given = {path: [Path(path), *Path(path).rglob("*")] for path in step.request.paths.values()}
    before = {file: _stat(file) for files in (*folders.values(), *given.values()) for file in files}
    changed: list[str] = []
    try:
        yield
    finally:
        for key, files in folders.items():
            touched = any(_stat(file) != before[file] for file in files)
            if touched and (found := examine(store.folder(key), key, digest_file)[1]):
                store.discard(key)
                changed += [f"{fault} in the result of {artifacts[key].name}" for fault in found]
        for token, path in step.request.paths.items():
            if any(_stat(file) != before[file] for file in given[path]) and _token(Digests(), path) != token:
                changed.append(path)
    if changed:
        fact = f"{step.request.component} has changed what it was given to read: {', '.join(changed)}"
        raise StepFailed(fact, hint="a pass writes into context.folder alone: this is a mistake in the plugin")


def _stat(file: Path) -> tuple[int, ...] | None:
    with suppress(OSError):
        state = os.stat(file)
        return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
    return None


def _token(digests: Digests, path: str) -> str | None:
    with suppress(OSError):
        return INPUT + digests.of(Path(path))
    return None
