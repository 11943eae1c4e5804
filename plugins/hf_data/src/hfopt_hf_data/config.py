"""Options of ``HuggingfaceContainer``, as an Olive config writes them: flat, or by component under component_kwargs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from hfopt import Config, InputPath, Reference
from hfopt.api.config import ConfigContext, OptionError, UnknownName, find_input, looks_like_hub_name, only
from hfopt.api.resources import MARK
from hfopt_hf_data.generation import TEXT_GENERATION, WRITTEN, TextGeneration, completed

BUILDERS = ("arrow", "csv", "json", "parquet", "text")
_PERMISSION = "Accepted; code from datasets and models is not run in this version."
_SPLIT = re.compile(r"\w+(\.\w+)*(\[(-?\d+%?)?:(-?\d+%?)?\])?")
_OR = f"{', '.join(BUILDERS[:-1])} or {BUILDERS[-1]}"
TASKS = ("text-classification", "sentiment-analysis", TEXT_GENERATION)
_OTHER_TASK = f"this version prepares data for {TASKS[0]} and {TEXT_GENERATION} only, not for {{}}"
_BATCHES = "rows come in batches; batch_size 1 makes batches of one row"

COMPONENTS: Mapping[str, Mapping[str, str | None]] = {
    "load_dataset": {
        "huggingface_dataset": None,
        "dummy_dataset": "belongs to DummyDataContainer",
        "raw_dataset": "belongs to RawDataContainer",
        "local_dataset": "loads nothing; write huggingface_dataset, which reads local files too",
        "simple_dataset": "loads nothing; write huggingface_dataset, which reads local files too",
    },
    "pre_process_data": {
        "huggingface_pre_process": None,
        "pre_process": "does nothing, and models need tokens; write huggingface_pre_process",
        "ner_huggingface_preprocess": _OTHER_TASK.format("ner"),
        "audio_classification_pre_process": _OTHER_TASK.format("audio-classification"),
        "text_generation_huggingface_pre_process": None,
    },
    "post_process_data": {
        "text_classification_post_process": None,
        "post_process": "does nothing, and labels are compared with classes; write text_classification_post_process",
        "ner_post_process": _OTHER_TASK.format("ner"),
        "text_generation_post_process": None,
    },
    "dataloader": {
        "default_dataloader": None,
        "skip_dataloader": _BATCHES,
        "no_auto_batch_dataloader": _BATCHES,
        "default_calibration_dataloader": "not needed: passes calibrate with any data; write default_dataloader",
    },
}
"""The types that Olive has, and why they can't be had here: `hfopt_hf_data.spellings.normalize`."""


def _data_place(name: str, info: ValidationInfo) -> str:
    """A format; else a local folder, absolute and noted as an input of the run; else a name on the hub, as written."""
    around = info.context
    if name in BUILDERS or name.startswith(MARK) or not isinstance(around, ConfigContext):
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


def _known_task(task: str | None) -> str | None:
    if task is not None and task not in TASKS:
        raise ValueError(_OTHER_TASK.format(task))
    return task


def _split_expression(split: str | None) -> str | None:
    if split is not None and not all(map(_SPLIT.fullmatch, split.split("+"))):
        raise ValueError(f"{split!r} is not a split: write it as validation, train[:100] or train[:10%]+test")
    return split


def _one_or_two(columns: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
    if isinstance(columns, tuple) and not 1 <= len(columns) <= 2:
        raise ValueError(f"takes one column of text, or two for pairs of texts, not {len(columns)}")
    return columns


def _tokenizer_place(name: str, info: ValidationInfo) -> str:
    """A local folder, absolute and noted as an input of the run; else a reference to a model on the hub."""
    around = info.context
    if name.startswith(MARK) or not isinstance(around, ConfigContext):
        return name
    found = find_input(name, around)
    if found is None:
        if not looks_like_hub_name(name):
            raise ValueError(f"no such folder: {name}; and it is not the name of a model on the hub")
        return Reference("hf_model", {"name": name, "revision": None, "weights": False}).token
    if "/" in name and looks_like_hub_name(name):
        around.notices.append(f"{name}: the local folder of that name is taken, not the model on the hub")
    around.used_paths.append(found)
    return str(found)


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
_NO_FILTER = "rows are not left out by their label in this version"
_NONE_HERE = "the token is that of the environment or of a login, and none is written here: true, or left out"


class DatasetsKeywords(Config):
    """What `datasets.load_dataset` takes besides: what changes no row is left out, the rest is refused."""

    token: Annotated[Any, only(None, True, because=_NONE_HERE)] = Field(
        None, description="true: what is done anyway, with the token of the environment or of a login."
    )
    use_auth_token: Annotated[Any, only(None, True, because=_NONE_HERE)] = Field(None, description="As token.")
    cache_dir: Annotated[Any, _idle(_ONCE)] = Field(None, description=f"Of no effect: {_ONCE}.")
    keep_in_memory: Annotated[bool | None, _idle(_ONCE)] = Field(None, description=f"Of no effect: {_ONCE}.")
    streaming: Annotated[bool | None, _idle(_ONCE)] = Field(None, description=f"Of no effect: {_ONCE}.")
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


class LoadDataset(DatasetsKeywords):
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
    data_dir: Annotated[str | None, only(None, because="not available in this version: write data_files")] = Field(
        None, description="Not available."
    )
    max_bytes: int | None = Field(
        None,
        ge=1,
        description="The most bytes that a file may hold, decompressed; null: 200 times its size, or 100 MB.",
    )
    max_field_bytes: int = Field(
        10_000_000, ge=1, description="The most bytes of one text, and of one line of csv, JSON or text."
    )
    trust_remote_code: bool | None = Field(None, description=_PERMISSION)


class PreProcess(TextGeneration):
    """``component_kwargs.pre_process_data``."""

    model_name: Annotated[str, AfterValidator(_tokenizer_place)] | None = Field(
        None, description="A model on the hub, or a local folder with a tokenizer; null: the input model's."
    )
    task: Annotated[str | None, AfterValidator(_known_task)] = Field(
        None, description="null: the input model's; else what the options are of."
    )
    input_cols: Annotated[str | tuple[str, ...] | None, AfterValidator(_one_or_two)] = Field(
        None, description="One column of text, or two; null: the only one there is."
    )
    label_cols: str | tuple[str, ...] | None = Field(
        None,
        description="The column of labels: integers, names of the model's classes, or lists of either; or numbers, for "
        "a model with one output. As many columns of 0 and 1 as a model has labels are several labels per row; else "
        "the first of several counts.",
    )
    max_samples: int | None = Field(None, ge=1, description="How many rows to use, from the first; null: all.")
    padding: bool | Literal["longest", "max_length", "do_not_pad"] = Field(
        True, description="To the longest row of a batch, or to max_length; false allows no batch_size above 1."
    )
    truncation: bool | Literal["longest_first", "only_first", "only_second", "do_not_truncate"] = Field(
        True, description="Cut rows that are too long for the model."
    )
    max_length: int | None = Field(
        None, ge=1, description="The most tokens in a row; null: as many as the model takes."
    )
    add_special_tokens: bool = Field(True, description="Add the tokenizer's special tokens, such as [CLS] and [SEP].")
    is_split_into_words: bool = Field(False, description="The columns hold lists of words.")
    batched: bool = Field(True, description="Of no effect: rows are tokenised in batches.")
    align_labels: bool = Field(False, description="Accepted: labels that have names are always mapped by them.")
    model_config_path: Annotated[str | None, only(None, because="label names are mapped by the model's own config")] = (
        Field(None, description="Not available.")
    )
    labels_to_filter: Annotated[Any, only(None, because=_NO_FILTER)] = Field(None, description="Not available.")
    trust_remote_code: bool | None = Field(None, description=_PERMISSION)


class Dataloader(Config):
    """``component_kwargs.dataloader``."""

    batch_size: int | None = Field(
        None,
        ge=1,
        description="Rows in a batch; null: one, and where that can't change a prediction, several of equal length.",
    )


class PostProcess(Config):
    """``component_kwargs.post_process_data``: nothing that would change the predictions."""

    model_name: str | None = Field(None, description="Of no effect: predictions are the model's.")
    task: Annotated[str | None, AfterValidator(_known_task)] = Field(
        None, description="Accepted; the task of pre_process_data counts."
    )


class ComponentKwargs(Config):
    """``component_kwargs``: options by component; they win over the same ones written flat."""

    load_dataset: LoadDataset | None = Field(None, description="How to load.")
    pre_process_data: PreProcess | None = Field(None, description="How to tokenise.")
    post_process_data: PostProcess | None = Field(None, description="How to turn outputs into predictions.")
    dataloader: Dataloader | None = Field(None, description="How to batch.")


_PRE_PROCESS = ("component_kwargs", "pre_process_data")
_CLASSIFYING = (
    *("input_cols", "label_cols", "padding", "truncation", "max_length", "is_split_into_words", "align_labels"),
)
_READS_TEXT_COLS = f"is not of {TEXT_GENERATION}, whose texts are in text_cols and whose labels are their own tokens"
FLATTENED = ("load_dataset", "pre_process_data", "dataloader")
"""The components whose options are the container's too."""


class HuggingfaceContainerConfig(LoadDataset, PreProcess, Dataloader):
    """``params_config`` of ``HuggingfaceContainer``. Once validated everything is flat."""

    component_kwargs: ComponentKwargs | None = Field(None, description="The same options by component.")

    @model_validator(mode="after")
    def _flatten(self, info: ValidationInfo) -> HuggingfaceContainerConfig:
        nested = self.component_kwargs or ComponentKwargs()
        written = {
            name: getattr(component, name)
            for component in (getattr(nested, name) for name in FLATTENED)
            for name in (component.model_fields_set if component else ())
            if getattr(component, name) is not None
        }
        flat = self.model_copy(update={**written, "component_kwargs": None})
        try:
            flat = flat._of_task()
        except OptionError as error:
            inside = nested.pre_process_data
            by_component = inside is not None and error.place[0] not in self.model_fields_set
            raise OptionError((*_PRE_PROCESS, *error.place), error.error) if by_component else error from None
        flat._complete()
        return flat._referring() if isinstance(info.context, ConfigContext) else flat

    def _of_task(self) -> HuggingfaceContainerConfig:
        """With what the task's own options mean; without a task, that of the options."""
        of_texts = self._asked_for(WRITTEN)
        if self.task != TEXT_GENERATION and (self.task is not None or not of_texts):
            if of_texts:
                raise OptionError(of_texts[0], f"is of {TEXT_GENERATION}, and the task is {self.task}")
            return self
        if of_classes := self._asked_for(_CLASSIFYING):
            raise OptionError(of_classes[0], _READS_TEXT_COLS)
        return self.model_copy(update={**completed(self), "task": TEXT_GENERATION})

    def _asked_for(self, options: Iterable[str]) -> list[str]:
        """Those with a value that is not what they mean unwritten."""
        defaults = {name: type(self).model_fields[name].default for name in options}
        written = {name: getattr(self, name) for name in options}
        return [
            name
            for name, value in written.items()
            if value not in (None, defaults[name]) and not (value is False and defaults[name] is None)
        ]

    def _complete(self) -> None:
        """What is required, wherever it is written."""
        if self.data_name is None:
            raise ValueError("data_name is required")
        if self.data_name in BUILDERS:
            if self.data_files is None:
                raise ValueError(f"data_files is required, as {self.data_name} is a format")
            if self.subset is not None:
                raise ValueError(f"subset is of a dataset, and {self.data_name} is a format")
        elif self.data_files is not None:
            raise UnknownName("format of data_files", self.data_name, list(BUILDERS))
        if self.padding in (False, "do_not_pad") and (self.batch_size or 1) > 1:
            raise ValueError(
                "padding is off, so batch_size can't be more than 1: rows that share a batch must have the same length"
            )

    def _referring(self) -> HuggingfaceContainerConfig:
        """With a reference where data_name is a name on the hub."""
        name = self.data_name or ""
        if name in BUILDERS or name.startswith(MARK) or Path(name).is_absolute():
            if self.revision is not None:
                raise ValueError("revision is of a dataset on the hub, and the data are local")
            return self
        split = "+".join(splits_of(self.split)) if self.split is not None else None
        options = {"name": name, "subset": self.subset, "split": split, "revision": self.revision}
        return self.model_copy(update={"data_name": Reference("hf_dataset", options).token})


def with_defaults(params: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """``params_config`` with the input model's name and task where they are not written.

    What a component states itself is left out of the flat options: it counts for nothing, nor does a path in it.
    """
    known = {name: defaults[name] for name in ("model_name", "task") if defaults.get(name) is not None}
    written = {name: value for name, value in params.items() if value is not None or name not in known}
    nested = params.get("component_kwargs")
    components = [nested.get(name) for name in FLATTENED] if isinstance(nested, dict) else []
    options = [option for each in components if isinstance(each, dict) for option in each.items()]
    stated = {name for name, value in options if value is not None}
    return {name: value for name, value in {**known, **written}.items() if name not in stated}
