"""Options of data for models that write text: which text a row has, and how rows become sequences of tokens."""

from __future__ import annotations

import string
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from hfopt import Config, InputPath
from hfopt.api.config import OptionError

TEXT_GENERATION = "text-generation"
Strategy = Literal["line-by-line", "line-by-line-random", "join", "join-random", "join-sliding-window"]
_SIDES = ("input", "output")


def template_columns(template: str) -> list[str]:
    """The columns that a template names.

    :raises ValueError: it is not one of `str.format`, or names none
    """
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    except ValueError as error:
        raise ValueError(f"{template!r} is not a template: {error}") from error
    names = [field.partition("[")[0] for field in fields]
    if not names or not all(name and "." not in name and not name.isdigit() for name in names):
        raise ValueError(f"{template!r} is not a template: it names columns in braces, such as {{text}}")
    return list(dict.fromkeys(names))


def _template(template: str | None) -> str | None:
    if template is not None:
        template_columns(template)
    return template


Template = Annotated[str | None, AfterValidator(_template)]
Columns = str | tuple[str, ...] | None


class TextGeneration(Config):
    """Options that only data for text generation have."""

    dataset_type: Literal["corpus", "pair"] | None = Field(
        None, description="corpus: texts; pair: prompts and answers. null: corpus."
    )
    text_formatting_func: str | None = Field(
        None, description="A function of user_script: takes a row as a dict, returns its text."
    )
    text_template: Template = Field(None, description="A row's text, with the names of columns in braces.")
    text_cols: Columns = Field(None, description="The columns of text, which a space joins.")
    corpus_strategy: Strategy | None = Field(
        None,
        description="How texts become sequences: one each, in order (line-by-line) or drawn at random "
        "(line-by-line-random); or all joined, and cut (join), sampled (join-random) or read in overlapping windows "
        "(join-sliding-window). null: line-by-line.",
    )
    strategy: Strategy | None = Field(None, description="corpus_strategy, as Olive from 0.6.2 on calls it.")
    source_max_len: int | None = Field(None, ge=1, description="The most tokens of a sequence, or prompt; required.")
    max_seq_len: int | None = Field(None, ge=1, description="source_max_len, as Olive from 0.6.2 on calls it.")
    pad_to_max_len: bool | None = Field(
        None,
        description="Pad every sequence to the most tokens; false: to the longest of a batch. null: true, unless "
        "drop_short_sequences.",
    )
    drop_short_sequences: bool = Field(False, description="Leave out sequences of fewer tokens than the most.")
    use_attention_mask: bool = Field(True, description="Feed attention_mask; false: all tokens count.")
    stride: int | None = Field(None, ge=1, description="Tokens from a window's begin to the next, for windows.")
    joiner: str | None = Field(None, description="What stands after each text where they are joined; null: nothing.")
    processing_batch_size: int = Field(1_024, ge=1, description="Rows that are tokenised at a time.")
    random_seed: int | None = Field(None, description="Makes what is drawn at random repeatable: required there.")
    random_retries: int = Field(10, ge=0, description="How often to draw again where there are too few tokens.")
    pair_format: Literal["default", "alpaca", "chip2", "self_instruct", "custom"] | None = Field(
        None,
        description="Where prompts and answers are: columns input and output (default), instruction, input and output "
        "(alpaca), text (chip2), prompt and completion (self_instruct), or as input_... and output_... say (custom).",
    )
    input_formatting_func: str | None = Field(None, description="As text_formatting_func, of a custom prompt.")
    input_template: Template = Field(None, description="As text_template, of a custom prompt.")
    input_col: Columns = Field(None, description="As text_cols, of a custom prompt.")
    output_formatting_func: str | None = Field(None, description="As text_formatting_func, of a custom answer.")
    output_template: Template = Field(None, description="As text_template, of a custom answer.")
    output_col: Columns = Field(None, description="As text_cols, of a custom answer.")
    target_max_len: int | None = Field(None, ge=1, description="The most tokens of an answer; required for pairs.")
    ignore_source_in_labels: bool = Field(True, description="Prompts are context: only tokens of answers count.")
    user_script: InputPath | None = Field(None, description="A Python file with the functions that are named.")
    script_dir: InputPath | None = Field(None, description="A folder from which user_script may import.")


WRITTEN = tuple(TextGeneration.model_fields)
"""The names of those options."""


def completed(config: Any) -> dict[str, Any]:
    """See that the options go together.

    :param config: flat
    :return: the options that the newer names mean, and what null means
    :raises OptionError: they don't
    """
    meant: dict[str, Any] = {"source_max_len": _one(config, "source_max_len", "max_seq_len")}
    if meant["source_max_len"] is None:
        raise ValueError("source_max_len is required: the most tokens of a sequence")
    if config.pad_to_max_len and config.drop_short_sequences:
        raise OptionError("drop_short_sequences", "goes with pad_to_max_len: false, as nothing is short once padded")
    if config.pad_to_max_len is None:
        meant["pad_to_max_len"] = not config.drop_short_sequences
    kind = config.dataset_type or "corpus"
    (_check_pair if kind == "pair" else _check_corpus)(config, meant)
    functions = [name for name in WRITTEN if name.endswith("formatting_func") and getattr(config, name) is not None]
    if functions and config.user_script is None:
        raise OptionError("user_script", f"is required: {functions[0]} names a function of it")
    return {**meant, "dataset_type": kind, "strategy": None, "max_seq_len": None}


def _one(config: Any, name: str, newer: str) -> Any:
    older, new = getattr(config, name), getattr(config, newer)
    if None not in (older, new) and older != new:
        raise OptionError(newer, f"{name} has another value: keep one of the two")
    return new if older is None else older


_OF_PAIRS = ("pair_format", "target_max_len", *(f"{side}_{end}" for side in _SIDES for end in ("col", "template")))


def _check_corpus(config: Any, meant: dict[str, Any]) -> None:
    for name in _OF_PAIRS:
        if getattr(config, name) is not None:
            raise OptionError(name, "is of dataset_type: pair")
    if not (config.text_formatting_func or config.text_template or config.text_cols):
        raise ValueError("text_cols is required: the columns of text; or text_template, or text_formatting_func")
    strategy = meant["corpus_strategy"] = _one(config, "corpus_strategy", "strategy") or "line-by-line"
    for name in ("max_samples", "random_seed"):
        if strategy.endswith("random") and getattr(config, name) is None:
            raise OptionError(name, f"is required: corpus_strategy is {strategy}")
    if strategy == "join-sliding-window":
        if config.stride is None:
            raise OptionError("stride", f"is required: corpus_strategy is {strategy}")
        if config.stride > meant["source_max_len"]:
            raise OptionError("stride", "is more than source_max_len: the tokens between two windows would be lost")


def _check_pair(config: Any, meant: dict[str, Any]) -> None:
    for name in ("corpus_strategy", "strategy", "text_cols", "text_template", "text_formatting_func", "stride"):
        if getattr(config, name) is not None:
            raise OptionError(name, "is of dataset_type: corpus")
    if config.target_max_len is None:
        raise OptionError("target_max_len", "is required: dataset_type is pair")
    if config.pair_format == "custom":
        for side in _SIDES:
            if not any(getattr(config, f"{side}_{end}") for end in ("formatting_func", "template", "col")):
                raise OptionError(f"{side}_col", "is required: pair_format is custom")
    meant["pair_format"] = config.pair_format or "default"
