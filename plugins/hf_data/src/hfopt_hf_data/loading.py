"""Options of loading data: which rows, of which files or dataset."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo

from hfopt import Config, InputPath
from hfopt.api.config import ConfigContext, find_input, looks_like_hub_name, only
from hfopt.api.references import MARK

BUILDERS = ("arrow", "csv", "json", "parquet", "text")
FOLDERS: Mapping[str, str] = {"audiofolder": "audio", "imagefolder": "image"}
"""Formats of folders of files, and what the column of these is called."""
FORMATS = (*BUILDERS, *FOLDERS)
_SPLIT = re.compile(r"\w+(\.\w+)*(\[(-?\d+%?)?:(-?\d+%?)?\])?")
_OR = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
PERMISSION = "Accepted; code from datasets and models is not run in this version."


def _data_place(name: str, info: ValidationInfo) -> str:
    """A format; else a local folder, absolute and noted as an input of the run; else a name on the hub, as written."""
    around = info.context
    if name in FORMATS or name.startswith(MARK) or not isinstance(around, ConfigContext):
        return name
    found = find_input(name, around)
    if found is None:
        if not looks_like_hub_name(name):
            raise ValueError(f"no such folder: {name}; and it is neither {_OR} nor the name of a dataset on the hub")
        return name
    if not found.is_dir():
        raise ValueError(f"{found} is a file; name its format ({_OR}), and the file in data_files")
    if looks_like_hub_name(name):
        around.notices.append(f"{name}: the local folder of that name is taken, not the dataset on the hub")
    around.used_paths.append(found)
    return str(found)


def _split_expression(split: str | None) -> str | None:
    if split is not None and not all(map(_SPLIT.fullmatch, split.split("+"))):
        raise ValueError(f"{split!r} is not a split: write it as validation, train[:100] or train[:10%]+test")
    return split


def splits_of(expression: str) -> list[str]:
    """The splits that an expression such as ``train[:100]+test`` takes rows from, sorted."""
    return sorted({piece.partition("[")[0] for piece in expression.split("+")})


def _idle(because: str) -> AfterValidator:
    """For an option that says how, and not what: left out with a notice."""

    def leave_out(value: Any, info: ValidationInfo) -> None:
        if value not in (None, False) and isinstance(info.context, ConfigContext):
            info.context.notices.append(f"{info.field_name} is ignored: {because}")

    return AfterValidator(leave_out)


_ONCE = "rows are read and tokenised once, into the cache of the run"
_FETCHED = "a dataset is fetched once a version, and its files are checked"
_NO_DOWNLOADS = "files are fetched from the hub in one way only, and other places are not read in this version"
_NONE_HERE = "the token is that of the environment or of a login, and none is written here: true, or left out"


class DatasetsKeywords(Config):
    """What `datasets.load_dataset` takes besides: what changes no row is left out, the rest is refused."""

    token: Annotated[Any, only(None, True, because=_NONE_HERE)] = Field(
        None, description="true: what is done anyway, with the token of the environment or of a login."
    )
    use_auth_token: Annotated[Any, only(None, True, because=_NONE_HERE)] = Field(None, description="As token.")
    cache_dir: Annotated[Any, _idle(_ONCE)] = Field(None, description=f"Of no effect: {_ONCE}.")
    keep_in_memory: Annotated[bool | None, _idle(_ONCE)] = Field(None, description=f"Of no effect: {_ONCE}.")
    streaming: bool | None = Field(
        None,
        description="Read the first max_samples rows and no others: of parquet files on the hub only those are fetched "
        "that hold them.",
    )
    num_proc: Annotated[int | None, _idle(_ONCE)] = Field(None, description=f"Of no effect: {_ONCE}.")
    save_infos: Annotated[bool | None, _idle(_ONCE)] = Field(None, description=f"Of no effect: {_ONCE}.")
    download_mode: Annotated[Any, _idle(_FETCHED)] = Field(None, description=f"Of no effect: {_FETCHED}.")
    verification_mode: Annotated[Any, _idle(_FETCHED)] = Field(None, description=f"Of no effect: {_FETCHED}.")
    ignore_verifications: Annotated[bool | None, _idle(_FETCHED)] = Field(
        None, description=f"Of no effect: {_FETCHED}."
    )
    download_config: Annotated[Any, only(None, {}, because=_NO_DOWNLOADS)] = Field(None, description="Not available.")
    storage_options: Annotated[Any, only(None, {}, because=_NO_DOWNLOADS)] = Field(None, description="Not available.")
    language: Annotated[Any, only(None, because="a dataset's own options are not passed on in this version")] = Field(
        None, description="Not available."
    )
    features: Annotated[Any, only(None, {}, because="the types of columns are those that the data state")] = Field(
        None, description="Not available."
    )


class FileOptions(Config):
    """How files of text are written, as `datasets` is told."""

    sep: str | None = Field(None, description="What stands between the fields of csv files; null: a comma.")
    delimiter: str | None = Field(None, description="As sep.")
    quotechar: str | None = Field(None, description='What stands around fields of csv files; null: ".')
    escapechar: str | None = Field(None, description="What stands before a quote in a field of csv files.")
    column_names: tuple[str, ...] | None = Field(
        None, min_length=1, description="The columns of csv files; null: as the first line names them."
    )
    encoding: str | None = Field(None, description="Of csv, JSON and text files; null: UTF-8.")
    field: str | None = Field(None, description="Of a JSON file that is one object: the key of its rows.")


FILE_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "csv": ("sep", "delimiter", "quotechar", "escapechar", "column_names", "encoding"),
    "json": ("field", "encoding"),
    "text": ("encoding",),
}
"""By format, those that it has."""


class LoadDataset(DatasetsKeywords, FileOptions):
    """``component_kwargs.load_dataset``."""

    data_name: Annotated[str, AfterValidator(_data_place)] | None = Field(
        None,
        description=f"A dataset on the hub, a local folder that is one, or the format of data_files: {_OR}; required.",
    )
    data_files: InputPath | tuple[InputPath, ...] | dict[str, InputPath | tuple[InputPath, ...]] | None = Field(
        None, description="A file, several, or files by split, of the format in data_name."
    )
    split: Annotated[str | None, AfterValidator(_split_expression)] = Field(
        None, description="Which split; [:100] takes its first 100 rows. null: validation, or the only one."
    )
    subset: str | None = Field(None, description="Which part of a dataset that has several: mrpc of glue.")
    revision: str | None = Field(None, description="A branch, tag or commit of a dataset on the hub; null: main.")
    data_dir: InputPath | None = Field(
        None,
        description="The folder of imagefolder or audiofolder; with another format, the one in which the files lie "
        "that a column names.",
    )
    max_bytes: int | None = Field(
        None,
        ge=1,
        description="The most bytes that a file may hold, decompressed; null: 200 times its size, or 100 MB.",
    )
    max_field_bytes: int = Field(
        10_000_000, ge=1, description="The most bytes of one text, and of one line of csv, JSON or text."
    )
    trust_remote_code: bool | None = Field(None, description=PERMISSION)
