"""hfopt itself as a folder: how it gets into another environment, a container or a job, without an index."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from importlib import metadata
from pathlib import Path

from hfopt.base.component import PROJECT
from hfopt.cache.locks import exclusive
from hfopt.cache.store import ArtifactStore
from hfopt.discovery.plugins import Plugins, versions
from hfopt.discovery.versions import AS_AT_HOME, Environment, editable_roots, local_modules, source_files

FILES = "plugin-files"
"""Where in a bundle ``-p`` files are, with the modules beside them that they import."""
_DESCRIBED = ("METADATA", "entry_points.txt")
_COMPILED = (".so", ".pyd", ".dylib")


def bundle(store: ArtifactStore, plugins: Plugins) -> Path:
    """A folder with the packages of hfopt and of every loaded plugin, for PYTHONPATH; it is made once for its content.

    Each distribution counts there as it does here, so that what other packages don't change has the same keys. One
    with compiled files is left out: it fits one interpreter, and is to be installed there.

    :return: the folder, below the store's; nothing in it is ever changed
    """
    here = Environment()
    every = {name: _code(name) for name in (PROJECT, *versions(plugins.infos))}
    code = {name: files for name, files in every.items() if not any(path.endswith(_COMPILED) for path in files)}
    known = {name: here.version(name) for name in code}
    modules = {place.name: place for file in plugins.files for place in local_modules(file)[0].values()}
    beside = {name: [*source_files(place)] for name, place in modules.items()}
    described = repr((sorted(known.items()), sorted(beside.items()))).encode()
    content = b"".join(file.read_bytes() for _, files in sorted(beside.items()) for file in files)
    key = sha256(described + content).hexdigest()
    target = store.root / "bundles" / key[:16]
    if not target.is_dir():
        with exclusive(store.lock(key)), store.making(key) as folder:
            for name, files in code.items():
                for path, file in files.items():
                    _copy(file, folder / path)
                _describe(name, known[name], folder)
            for name, place in modules.items():
                for file in beside[name]:
                    _copy(file, folder / FILES / name / file.relative_to(place))
            target.parent.mkdir(exist_ok=True)
            with suppress(OSError):  # another run was first
                os.rename(folder, target)
    return target


def _code(name: str) -> dict[str, Path]:
    """What of a distribution is imported or read: file by its path below the folder that is on the path."""
    installed = metadata.distribution(name)
    if roots := editable_roots(installed):
        return {file.relative_to(root).as_posix(): file for root in roots for file in source_files(root)}
    return dict(_recorded(installed))


def _recorded(installed: metadata.Distribution) -> Iterator[tuple[str, Path]]:
    for file in installed.files or ():
        if not {"..", "__pycache__"}.intersection(file.parts) and not file.parts[0].endswith(".dist-info"):
            yield file.as_posix(), Path(str(file.locate()))


def _describe(name: str, version: str, folder: Path) -> None:
    """Write what `importlib.metadata` reads, and the version that counts."""
    installed = metadata.distribution(name)
    about = folder / f"{name.replace('-', '_')}-{installed.version}.dist-info"
    about.mkdir()
    for file in _DESCRIBED:
        if (text := installed.read_text(file)) is not None:
            (about / file).write_text(text, "utf-8")
    (about / AS_AT_HOME).write_text(version, "utf-8")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
