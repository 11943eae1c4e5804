"""Options of what becomes of rows: tokens, labels, pixels, features of sound."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from hfopt import Config, Reference
from hfopt.api.config import ConfigContext, find_input, looks_like_hub_name, only
from hfopt.api.references import MARK
from hfopt_hf_data.generation import TextGeneration
from hfopt_hf_data.loading import PERMISSION
from hfopt_hf_data.tasks import known_task


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


class PreProcess(TextGeneration):
    """``component_kwargs.pre_process_data``."""

    model_name: Annotated[str, AfterValidator(_tokenizer_place)] | None = Field(
        None, description="A model on the hub, or a local folder with a tokenizer; null: the input model's."
    )
    task: Annotated[str | None, AfterValidator(known_task)] = Field(
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
    labels_to_filter: tuple[str, ...] | None = Field(None, description="Rows with these labels are left out.")
    target_max_len: int | None = Field(
        None,
        ge=1,
        description="The most tokens of an answer (required for pairs), or of a target; null: as max_length.",
    )
    source_prefix: str | None = Field(None, description="What stands before each source, such as 'summarize: '.")
    max_new_tokens: int | None = Field(
        None,
        ge=1,
        description="Predictions are texts that the model writes, of at most so many tokens, each the likeliest. null: "
        "how likely each token of a target is; of speech, as many tokens as there are positions.",
    )
    src_lang: str | None = Field(
        None, description="The language of sources, for tokenizers that have several, or of speech, such as en."
    )
    tgt_lang: str | None = Field(None, description="The language of targets.")
    pooling: Literal["mean", "cls", "last"] = Field(
        "mean", description="How a text's tokens become one vector: their mean, or the first or last of them."
    )
    max_answer_length: int = Field(30, ge=1, description="The most tokens of an answer in a context.")
    max_duration: float | None = Field(None, gt=0, description="The most seconds of a sound; null: 30.")
    feature_extractor_args: dict[str, bool | int | float | str | None] | None = Field(
        None, description="What the feature extractor is told besides, such as do_normalize."
    )
    trust_remote_code: bool | None = Field(None, description=PERMISSION)


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
    task: Annotated[str | None, AfterValidator(known_task)] = Field(
        None, description="Accepted; the task of pre_process_data counts."
    )
