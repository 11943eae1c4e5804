"""Which files of a dataset are its subset and splits, and how they are read: found by `datasets`, kept as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hfopt import PreconditionFailed
from hfopt.api.text import did_you_mean
from hfopt_hf_data.config import BUILDERS

CARD = ("README.md", ".huggingface.yaml", "dataset_infos.json")
"""What a dataset says about itself."""
FILE, DATA = "hf_dataset.json", "data"
"""In a fetched folder: the `Source`, and the folder with its files."""
_OWN_KEYS = frozenset({"config_name", "data_dir", "data_files", "default", "description", "version", "drop_labels"})


@dataclass(frozen=True)
class Source:
    """Files, and how `datasets` reads them.

    :param builder: csv, json...
    :param files: by split
    :param features: `datasets.Features` as a dict, if the dataset states them
    :param options: of the builder, as the dataset's card has them: ``sep``...
    :param loose: files without a split
    """

    builder: str
    files: Mapping[str, Sequence[str]]
    features: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    loose: Sequence[str] = ()

    def write(self, folder: Path) -> None:
        """Keep it in a folder, whose files it names."""
        (folder / FILE).write_text(json.dumps(asdict(self), sort_keys=True), "utf-8")

    @classmethod
    def read(cls, folder: Path) -> Source | None:
        """What `write` wrote, with absolute paths; None if it wrote nothing here."""
        try:
            kept = json.loads((folder / FILE).read_text("utf-8"))
        except FileNotFoundError:
            return None
        files = {split: [str(folder / DATA / path) for path in paths] for split, paths in kept["files"].items()}
        return cls(**{**kept, "files": files})


def look_into(folder: Path, subset: str | None, name: str) -> Source:
    """What `datasets` would read from a dataset's folder. Data files may be empty: their names count.

    :param subset: null: the one that the dataset's card calls default, or the only one
    :param name: for messages
    :raises PreconditionFailed: a subset that is not there, or none is named and there are several; files that are
        none of ours
    """
    import datasets

    card = _configs(folder, name)
    below = subset if subset is not None and not card and (folder / subset).is_dir() else None
    try:
        with quiet(), TemporaryDirectory() as cache:
            place: dict[str, Any] = {"path": str(folder), "data_dir": below}
            wanted = None if below else _subset(place, subset, name)
            builder = datasets.load_dataset_builder(**place, name=wanted, cache_dir=cache)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise PreconditionFailed(f"{name} has no files that hfopt reads: {', '.join(BUILDERS)}") from error
    if builder.name not in BUILDERS:
        raise PreconditionFailed(f"{name} is in the format {builder.name}; hfopt reads {', '.join(BUILDERS)}")
    files = {str(split): [_inside(folder, each, name) for each in paths] for split, paths in _files(builder).items()}
    features = builder.info.features
    options = next((each for each in card if each.get("config_name", "default") == builder.config.name), {})
    return Source(
        builder.name,
        files,
        None if features is None else features.to_dict(),
        {key: value for key, value in options.items() if key not in _OWN_KEYS},
    )


def _files(builder: Any) -> Mapping[Any, Sequence[str]]:
    files: Mapping[Any, Sequence[str]] = builder.config.data_files or {}
    return files


def _subset(place: Mapping[str, Any], subset: str | None, name: str) -> str | None:
    import datasets

    known = datasets.get_dataset_config_names(**place)
    if subset is None:
        if len(known) > 1 and datasets.get_dataset_default_config_name(**place) is None:
            raise PreconditionFailed(f"{name} has several subsets: {', '.join(known)}", hint=f"set subset: {known[0]}")
        return None
    if subset not in known:
        raise unknown(f"{name} has no subset {subset!r}; it has", subset, known)
    return subset


def _configs(folder: Path, name: str) -> list[dict[str, Any]]:
    """The subsets as the card describes them; data elsewhere are refused, as nobody pinned them."""
    if not (folder / CARD[0]).is_file():
        return []
    from huggingface_hub import DatasetCard

    try:
        found = DatasetCard.load(folder / CARD[0], ignore_metadata_errors=False).data.to_dict().get("configs") or []
    except ValueError as error:
        raise PreconditionFailed(f"the card of {name} can't be read: its metadata are not YAML") from error
    configs = [each for each in found if isinstance(each, dict)]
    for each in configs:
        if "://" in json.dumps([each.get("data_files"), each.get("data_dir")], default=str):
            raise PreconditionFailed(f"{name} names data that lie elsewhere, which hfopt does not fetch")
    return configs


def _inside(folder: Path, path: str, name: str) -> str:
    """A data file, absolute, which must be in the dataset's folder, as it is written there."""
    try:
        Path(path).relative_to(folder.resolve())
    except ValueError as error:
        raise PreconditionFailed(f"{name} names {path!r}, which is not in its folder") from error
    if path.endswith((".zip", ".tar")):
        raise PreconditionFailed(f"{name} has its data in archives, which hfopt does not read")
    return path


@contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars and reports, and without the request by which `datasets` counts how often it is used."""
    import datasets

    verbosity, bars = datasets.logging.get_verbosity(), not datasets.are_progress_bars_disabled()
    counts = datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
    datasets.logging.set_verbosity(logging.CRITICAL)
    datasets.disable_progress_bars()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    try:
        yield
    finally:
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = counts
        datasets.logging.set_verbosity(verbosity)
        if bars:
            datasets.enable_progress_bars()


def unknown(fact: str, name: str, known: Collection[str]) -> PreconditionFailed:
    """The failure that something is not among what there is, with the near miss."""
    hint = did_you_mean(name, known)
    return PreconditionFailed(f"{fact} {', '.join(known)}", hint=hint)
