"""Options of ``HuggingfaceContainer``, as an Olive config writes them: flat, or by component under component_kwargs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from hfopt import Config, InputPath
from hfopt.api.config import UnknownName, only

BUILDERS = ("csv", "json", "parquet", "text")
_HUB = "datasets are not fetched from a hub in this version"
_SCRIPTS = "code from datasets is not run in this version"
TASKS = ("text-classification", "sentiment-analysis")


def _local_builder(name: str) -> str:
    if name not in BUILDERS:
        raise UnknownName(f"local format ({_HUB})", name, list(BUILDERS))
    return name


def _known_task(task: str | None) -> str | None:
    if task is not None and task not in TASKS:
        raise ValueError(f"data for {task} are not prepared in this version; {TASKS[0]} are")
    return task


class LoadDataset(Config):
    """``component_kwargs.load_dataset``."""

    data_name: Annotated[str, AfterValidator(_local_builder)] | None = Field(
        None, description="csv, json, parquet or text."
    )
    data_files: InputPath | tuple[InputPath, ...] | dict[str, InputPath | tuple[InputPath, ...]] | None = Field(
        None, description="A file, several, or files by split."
    )
    split: str | None = Field(
        None, description="Which split, where data_files has several; [:100] cuts. null: all rows, or validation."
    )
    subset: Annotated[str | None, only(None, because=_HUB)] = Field(None, description="Not available.")
    data_dir: Annotated[str | None, only(None, because="not available in this version: write data_files")] = Field(
        None, description="Not available."
    )
    trust_remote_code: Annotated[bool | None, only(None, False, because=_SCRIPTS)] = Field(
        None, description="Not available."
    )


class PreProcess(Config):
    """``component_kwargs.pre_process_data``."""

    model_name: InputPath | None = Field(None, description="Whose tokenizer; null: the input model's.")
    task: Annotated[str | None, AfterValidator(_known_task)] = Field(None, description="null: the input model's.")
    input_cols: str | tuple[str, ...] | None = Field(None, description="One or two columns of text.")
    label_cols: str | tuple[str, ...] | None = Field(
        None, description="The column of labels: integers, or label names."
    )
    max_samples: int | None = Field(None, ge=1, description="Only the first so many rows.")
    truncation: bool = Field(True, description="Cut rows that are too long for the model.")
    max_length: int | None = Field(None, ge=1, description="At most so many tokens; null: what the model takes.")
    padding: bool | str = Field(True, description="Of no effect: a batch is padded to its longest row.")
    add_special_tokens: bool = Field(True, description="[CLS], [SEP] and the like.")
    is_split_into_words: bool = Field(False, description="The columns hold lists of words.")
    batched: bool = Field(True, description="Of no effect: rows are tokenised in batches.")
    align_labels: Annotated[bool, only(False, because="label names are always mapped by the model's config")] = Field(
        False, description="Not available."
    )
    model_config_path: Annotated[str | None, only(None, because="label names are mapped by the model's config")] = (
        Field(None, description="Not available.")
    )
    trust_remote_code: Annotated[bool | None, only(None, False, because=_SCRIPTS)] = Field(
        None, description="Not available."
    )


class Dataloader(Config):
    """``component_kwargs.dataloader``."""

    batch_size: int = Field(1, ge=1, description="Rows in a batch.")


class PostProcess(Config):
    """``component_kwargs.post_process_data``: nothing to state."""


class ComponentKwargs(Config):
    """``component_kwargs``: options by component; they win over the same ones written flat."""

    load_dataset: LoadDataset = Field(LoadDataset(), description="How to load.")
    pre_process_data: PreProcess = Field(PreProcess(), description="How to tokenise.")
    post_process_data: PostProcess = Field(PostProcess(), description="Nothing.")
    dataloader: Dataloader = Field(Dataloader(), description="How to batch.")


class HuggingfaceContainerConfig(LoadDataset, PreProcess, Dataloader):
    """``params_config`` of ``HuggingfaceContainer``. Once validated everything is flat."""

    component_kwargs: ComponentKwargs | None = Field(None, description="The same options by component.")

    @model_validator(mode="after")
    def _flatten(self) -> HuggingfaceContainerConfig:
        if self.component_kwargs is None:
            return self
        nested = self.component_kwargs
        written = {
            name: getattr(component, name)
            for component in (nested.load_dataset, nested.pre_process_data, nested.dataloader)
            for name in component.model_fields_set
        }
        return self.model_copy(update={**written, "component_kwargs": None})


def with_defaults(params: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """``params_config`` with the input model's name and task where they are not written."""
    known = {name: defaults[name] for name in ("model_name", "task") if defaults.get(name) is not None}
    return {**known, **{name: value for name, value in params.items() if value is not None or name not in known}}
