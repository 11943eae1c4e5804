"""Which text a row has: what columns hold, a template, or a function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hfopt import PreconditionFailed
from hfopt.api.scripts import load_function
from hfopt_hf_data.config import HuggingfaceContainerConfig
from hfopt_hf_data.generation import template_columns
from hfopt_hf_data.messages import repr_of

Row = Mapping[str, Any]

_ALPACA = "Below is an instruction that describes a task{}. Write a response that appropriately completes the request."
_WITH_INPUT = ", paired with an input that provides further context"
_BOT, _HUMAN = "\n<bot>: ", "<human>: "


class Wording(NamedTuple):
    """How texts are made of rows.

    :param columns: that it needs; None: all
    :param word: the text of a row; the number is for messages
    """

    columns: Sequence[str] | None
    word: Callable[[Row, int], str]

    def texts(self, batch: Mapping[str, Sequence[Any]], start: int) -> list[str]:
        """Of some rows, by column.

        :param start: the first row's number
        """
        names, word = list(batch), self.word
        rows = zip(*batch.values(), strict=True)
        return [word(dict(zip(names, values, strict=True)), number) for number, values in enumerate(rows, start)]


def wording(config: HuggingfaceContainerConfig, side: str = "text") -> Wording:
    """What the config says of a row's text.

    :param side: text; or input and output of pairs
    """
    function, template = (getattr(config, f"{side}_{end}") for end in ("formatting_func", "template"))
    columns = config.text_cols if side == "text" else getattr(config, f"{side}_col")
    if function is not None:
        return Wording(None, _own(config, function))
    if template is not None:
        return _templated(template)
    return _joined([columns] if isinstance(columns, str) else list(columns or ()))


def pair(config: HuggingfaceContainerConfig) -> tuple[Wording, Wording]:
    """How a row's prompt and its answer are made."""
    kind = config.pair_format
    if kind == "alpaca":
        return Wording(None, _alpaca), _joined(["output"])
    if kind == "chip2":
        question, answer = (partial(_turn, which) for which in (0, 1))
        return Wording(["text"], question), Wording(["text"], answer)
    if kind == "self_instruct":
        return _joined(["prompt"]), _joined(["completion"])
    if kind == "custom":
        return wording(config, "input"), wording(config, "output")
    return _joined(["input"]), _joined(["output"])


def _joined(columns: Sequence[str]) -> Wording:
    if len(columns) == 1:
        return Wording(columns, lambda row, number: _text(row, columns[0], number))
    return Wording(columns, lambda row, number: " ".join([_text(row, name, number) for name in columns]))


def _templated(template: str) -> Wording:
    columns = template_columns(template)

    def word(row: Row, number: int) -> str:
        for name in columns:
            _present(row, name, number)
        try:
            return template.format(**row)
        except (LookupError, TypeError, ValueError) as error:
            raise PreconditionFailed(
                f"row {number} does not fit text_template: {type(error).__name__}: {error}"
            ) from error

    return Wording(columns, word)


def _own(config: HuggingfaceContainerConfig, name: str) -> Callable[[Row, int], str]:
    folder = None if config.script_dir is None else Path(config.script_dir)
    function = load_function(Path(str(config.user_script)), name, folder=folder, names={})

    def word(row: Row, number: int) -> str:
        text = function(dict(row))
        if not isinstance(text, str):
            raise PreconditionFailed(f"{name} returns {repr_of(text)} for row {number}, which is not text")
        return text

    return word


def _alpaca(row: Row, number: int) -> str:
    """An instruction, and perhaps an input, as models that follow Stanford's Alpaca are asked."""
    instruction, more = _text(row, "instruction", number), row.get("input")
    context = f"### Input:\n{more}\n\n" if more else ""
    opening = _ALPACA.format(_WITH_INPUT if more else "")
    return f"{opening}\n\n### Instruction:\n{instruction}\n\n{context}### Response: "


def _turn(which: int, row: Row, number: int) -> str:
    """The first question, or its answer, of a dialogue: ``<human>: ...``, a line break, ``<bot>: ...``."""
    human, there, answer = _text(row, "text", number).partition(_BOT)
    if not there:
        raise PreconditionFailed(f"row {number} has no line that begins with {_BOT.strip()}")
    return (human.removeprefix(_HUMAN), answer.partition(_BOT)[0])[which]


def _present(row: Row, name: str, number: int) -> Any:
    if row[name] is None:
        raise PreconditionFailed(
            f"row {number} has nothing in column {repr_of(name)}",
            hint="leave such rows out; in csv files, words such as NA and null are read as missing values",
        )
    return row[name]


def _text(row: Row, name: str, number: int) -> str:
    text = _present(row, name, number)
    if not isinstance(text, str):
        raise PreconditionFailed(f"row {number} has {repr_of(text)} in column {repr_of(name)}, which is not text")
    return text
