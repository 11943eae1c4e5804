"""Fetches what is needed of a dataset, and no more.

`datasets` chooses the files, by the dataset's card and the files' names: it is shown a folder with the real card and
empty files, so that choosing needs no connection. `huggingface_hub` downloads them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hfopt import PreconditionFailed
from hfopt.api.resources import ResourceContext
from hfopt_hf_data.dataset import HfDatasetConfig
from hfopt_hf_data.load import DEFAULT_SPLIT
from hfopt_hf_data.loading import splits_of
from hfopt_hf_data.messages import unknown
from hfopt_hf_data.source import CARD, DATA, Source, look_into
from hfopt_hf_hub import hub


def fetch(
    config: HfDatasetConfig, repository: hub.Repository, commit: str, folder: Path, context: ResourceContext
) -> Mapping[str, Any]:
    """Put a `Source` and its files into a folder.

    :raises PreconditionFailed: as `hfopt_hf_hub.hub`; a subset or split that is not there; a loading script
    """
    context.progress("download", 0, None)
    there = hub.paths_of(repository, commit, offline=context.offline)
    if f"{config.name.rpartition('/')[2]}.py" in there:
        raise PreconditionFailed(
            f"{config.name} is loaded by a script of its own, which hfopt does not run",
            hint="the hub keeps many such datasets as files too: set revision: refs/convert/parquet",
        )
    cards = [path for path in CARD if path in there]
    chosen = _component_step(config, repository, commit, there, cards, context)
    if config.rows is not None and chosen.builder == "parquet":
        files = {
            split: _enough(paths, config.rows, repository, commit, context) for split, paths in chosen.files.items()
        }
        chosen = replace(chosen, files=files)
    paths = sorted({path for files in chosen.files.values() for path in files})
    snapshot = hub.download(repository, commit, paths, offline=context.offline)
    hub.remember(snapshot, config.revision or "main")
    chosen.write(folder)
    return hub.link(snapshot, paths, folder / DATA)


def _enough(
    paths: Sequence[str], rows: int, repository: hub.Repository, commit: str, context: ResourceContext
) -> Sequence[str]:
    """The first parquet files of a split, as many as hold so many rows: each is downloaded before the next."""
    import pyarrow.parquet

    held = 0
    for number, path in enumerate(paths, 1):
        snapshot = hub.download(repository, commit, [path], offline=context.offline)
        with suppress(pyarrow.ArrowException):  # it will be told when it is read
            held += pyarrow.parquet.read_metadata(snapshot / path).num_rows
        if held >= rows:
            return paths[:number]
    return paths


def _component_step(
    config: HfDatasetConfig,
    repository: hub.Repository,
    commit: str,
    there: Sequence[str],
    cards: Sequence[str],
    context: ResourceContext,
) -> Source:
    """The source of the wanted splits, its files as paths of the repository."""
    with TemporaryDirectory() as temporary:
        shape = Path(temporary).resolve() / config.name.rpartition("/")[2]
        for path in there:
            (shape / path).parent.mkdir(parents=True, exist_ok=True)
            (shape / path).touch()
        if cards:
            snapshot = hub.download(repository, commit, cards, offline=context.offline)
            for path in cards:
                shutil.copyfile(snapshot / path, shape / path)
        source = look_into(shape, config.subset, config.name)
        files = {
            split: [Path(path).relative_to(shape).as_posix() for path in source.files[split]]
            for split in _splits(config, source)
        }
    return replace(source, files=files)


def _splits(config: HfDatasetConfig, source: Source) -> list[str]:
    if config.split is None and len(source.files) == 1:
        return list(source.files)
    wanted = splits_of(config.split or DEFAULT_SPLIT)
    for split in wanted:
        if split not in source.files:
            of = f"{config.name}, subset {config.subset}," if config.subset else config.name
            raise unknown(f"{of} has no split {split!r}; it has", split, list(source.files))
    return wanted
