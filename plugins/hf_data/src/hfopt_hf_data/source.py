"""Which files of a dataset are its subset and splits, and how they are read: found by `datasets`, kept as JSON."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hfopt import PreconditionFailed
from hfopt.api.files import file_inside, regular_file
from hfopt_hf_data.loading import FORMATS
from hfopt_hf_data.messages import listed, unknown

CARD = ("README.md", ".huggingface.yaml", "dataset_infos.json")
"""What a dataset says about itself."""
FILE, DATA = "hf_dataset.json", "data"
"""In a fetched folder: the `Source`, and the folder with its files."""
_CARD_BYTES, _METADATA, _DEPTH = 10_000_000, 500_000, 50
"""The most that a card may have: bytes, bytes of metadata, and lists in lists there."""
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
    except (AttributeError, ImportError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        raise PreconditionFailed(f"{name} has no files that hfopt reads: {', '.join(FORMATS)}") from error
    except RuntimeError as error:
        raise PreconditionFailed(f"{name} is loaded by a script of its own, which hfopt does not run") from error
    if builder.name not in FORMATS:
        raise PreconditionFailed(f"{name} is in the format {builder.name}; hfopt reads {', '.join(FORMATS)}")
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
            raise PreconditionFailed(f"{name} has several subsets: {listed(known)}", hint=f"set subset: {known[0]}")
        return None
    if subset not in known:
        raise unknown(f"{name} has no subset {subset!r}; it has", subset, known)
    return subset


def _configs(folder: Path, name: str) -> list[dict[str, Any]]:
    """The subsets as the card describes them; data elsewhere are refused, as nobody pinned them."""
    for part in CARD:
        if os.path.lexists(folder / part):
            _look_at_card(folder / part, folder)
    if not (folder / CARD[0]).exists():
        return []
    import yaml
    from huggingface_hub import DatasetCard

    try:
        found = DatasetCard.load(folder / CARD[0], ignore_metadata_errors=False).data.to_dict().get("configs") or []
    except (AttributeError, RecursionError, TypeError, ValueError, yaml.YAMLError) as error:
        raise PreconditionFailed(f"the card of {name} can't be read: its metadata are not YAML") from error
    configs = [each for each in found if isinstance(each, dict)]
    for each in configs:
        if "://" in json.dumps([each.get("data_files"), each.get("data_dir")], default=str):
            raise PreconditionFailed(f"{name} names data that lie elsewhere, which hfopt does not fetch")
    return configs


def _look_at_card(file: Path, folder: Path) -> None:
    """Refuse a card that is not one of the folder's files, or a small file that stands for a large one."""
    import yaml

    try:
        text = file_inside(file, folder).read_text("utf-8") if regular_file(file).st_size <= _CARD_BYTES else None
    except UnicodeError as error:
        raise PreconditionFailed(f"{file} is not text in UTF-8") from error
    except OSError as error:
        raise PreconditionFailed(f"{file} can't be read: {error.strerror}") from error
    _, begun, metadata = (text or "").partition("---\n")
    metadata = text or "" if file.suffix == ".yaml" else metadata.partition("\n---")[0] if begun else ""
    if text is None or len(metadata) > _METADATA:
        raise PreconditionFailed(f"{file} is larger than any card of a dataset is: {_METADATA:,} bytes of metadata")
    depth = 0
    try:
        for event in yaml.parse(metadata, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > _DEPTH:
                raise PreconditionFailed(f"the card {file} has metadata with aliases (*), or nested too deeply")
    except yaml.YAMLError as error:
        raise PreconditionFailed(f"the card {file} can't be read: its metadata are not YAML") from error


def _inside(folder: Path, path: str, name: str) -> str:
    """A data file, absolute, which must be in the dataset's folder."""
    try:
        Path(path).relative_to(folder.resolve())
        file_inside(Path(path), folder)
    except ValueError as error:
        raise PreconditionFailed(f"{name} names {path!r}, which is not in its folder") from error
    except OSError as error:
        raise PreconditionFailed(f"{path} can't be read: {error.strerror}") from error
    if path.endswith((".zip", ".tar")):
        raise PreconditionFailed(f"{name} has its data in archives, which hfopt does not read")
    return path


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Without progress bars, and without the request by which `datasets` counts how often it is used.

    :return: grows by what `datasets` reports of errors, which is not printed
    """
    import datasets

    logger, reports = datasets.logging.get_logger(), _Reports()
    verbosity, bars = datasets.logging.get_verbosity(), not datasets.are_progress_bars_disabled()
    counts, handlers = datasets.config.HF_UPDATE_DOWNLOAD_COUNTS, logger.handlers
    datasets.logging.set_verbosity(logging.ERROR)
    logger.handlers = [reports]
    datasets.disable_progress_bars()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    try:
        yield reports.lines
    finally:
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = counts
        logger.handlers = handlers
        datasets.logging.set_verbosity(verbosity)
        if bars:
            datasets.enable_progress_bars()


class _Reports(logging.Handler):
    """Keeps what is reported."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
