"""Sources and targets of a model that reads one text and writes another: what it writes, or how likely targets are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import Batch, Dataset, PreconditionFailed, Session
from hfopt_hf_data.columns import check_columns
from hfopt_hf_data.messages import repr_of
from hfopt_hf_data.next_tokens import IGNORED, surprise
from hfopt_hf_data.preparing import Columns, Given, Prepared, names_of
from hfopt_hf_data.rows import LABEL, Rows, logits_of, padded
from hfopt_hf_data.written import DECODER, WRITING, WrittenTexts, writes, writing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hfopt_hf_data.config import HuggingfaceContainerConfig


def prepare(given: Given) -> Prepared:
    """Token ids of sources, and of targets as labels.

    A name such as ``translation.en`` is a field of a column.

    :raises PreconditionFailed: no column is named; the model does not say with which token a decoder starts
    """
    config, tokeniser = given.config, given.processor
    source, target = _column(config.input_cols, "input_cols"), _column(config.label_cols, "label_cols")
    columns = [name.partition(".")[0] for name in (source, target)]
    check_columns(given.data, columns)
    tokenizer, start_id = tokeniser.tokenizer, start_of(given.attributes)
    for side in ("src_lang", "tgt_lang"):
        if getattr(config, side) is not None:
            setattr(tokenizer, side, getattr(config, side))
    how = None if config.max_new_tokens is None else writing(given, start_id)
    most = config.target_max_len or tokeniser.limit
    cut = {"max_length": most, "truncation": most is not None}

    def rows() -> Iterator[Columns]:
        for start, batch in given.batches(columns):
            sources = [_field(value, source, row) for row, value in enumerate(batch[columns[0]], start)]
            targets = [_field(value, target, row) for row, value in enumerate(batch[columns[1]], start)]
            tokeniser.check(source, sources, start)
            tokeniser.check(target, targets, start)
            texts = {source: [(config.source_prefix or "") + text for text in sources]}
            tokens = None if how else tokenizer(text_target=targets, padding=False, verbose=False, **cut)["input_ids"]
            yield {**tokeniser.encode(texts, start), LABEL: targets if tokens is None else tokens}

    if how is not None:
        return Prepared(rows(), {**tokeniser.layout, WRITING: how._asdict()}, {LABEL: "text"})
    return Prepared(rows(), {**tokeniser.layout, "start": start_id})


def opened(folder: Path, config: HuggingfaceContainerConfig) -> Dataset:
    """Texts that are written, or how likely the targets are."""
    return (WrittenTexts if writes(folder) else Targets)(folder, config)


def _column(columns: Any, option: str) -> str:
    names = names_of(columns)
    if len(names) != 1:
        what = "the text to read" if option == "input_cols" else "the text to write"
        raise PreconditionFailed(f"which column is {what}?", hint=f"set {option} to one column")
    return names[0]


def _field(value: Any, name: str, row: int) -> Any:
    """Of a column's value, the field that a dotted name means."""
    for key in name.split(".")[1:]:
        if not isinstance(value, Mapping) or key not in value:
            raise PreconditionFailed(f"row {row} has {repr_of(value)}, which has no {key!r}: {name} is not there")
        value = value[key]
    return value


def start_of(attributes: Mapping[str, Any]) -> int:
    """The token with which the decoder starts."""
    start = attributes.get("decoder_start_token_id")
    if not isinstance(start, int):
        raise PreconditionFailed(
            "the model's config.json has no decoder_start_token_id, so what its decoder starts with is not known",
            hint="models that start with the token of a language have none, and are not prepared for in this version",
        )
    return start


class Targets(Rows):
    """The decoder is fed the target, one token late; labels are the target's tokens, -100 where there are none."""

    def lengths(self) -> None:
        """Rows stay in batches as small as the user wrote: logits of many would fill the memory."""
        return

    def batches(self, rows: Any = None, *, size: int | None = None) -> Iterator[Batch]:
        import numpy as np

        start, filler = self._layout["start"], self._layout["fillers"]["input_ids"]
        for batch in super().batches(rows, size=size):
            labels = [self._labels[int(row)].values.to_numpy() for row in batch.rows]
            late = [np.concatenate([[start], each[:-1]]) for each in labels]
            feeds = {**batch.feeds, DECODER: padded(late, filler)}
            yield Batch(batch.rows, feeds, padded(labels, IGNORED))

    def _labels_of(self, positions: Any) -> None:
        return

    def predict(self, session: Session, batch: Batch) -> NDArray[np.float64]:
        """For each row the sum of its tokens' negative log-likelihoods, and how many there are: [batch, 2]."""
        import numpy as np

        logits = logits_of(session.run(batch.feeds))
        if batch.labels is None or logits.shape[:2] != batch.labels.shape:
            raise PreconditionFailed(
                f"the model yields {list(logits.shape)}, not logits of targets of {list(batch.feeds[DECODER].shape)}",
                hint="the model must be one that reads a text and writes another",
            )
        return np.stack([surprise(*each) for each in zip(logits, batch.labels, strict=True)])
