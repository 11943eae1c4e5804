"""Questions whose answers stand in a context, which may be longer than the model takes: it is read in windows.

The best span is that of SQuAD's baseline: start and end with the largest sum of logits, over all windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hfopt import Batch, PreconditionFailed, Session
from hfopt_hf_data.columns import check_columns
from hfopt_hf_data.groups import Groups
from hfopt_hf_data.messages import repr_of
from hfopt_hf_data.preparing import Columns, Given, Prepared, names_of
from hfopt_hf_data.rows import LABEL, check_numbers, ragged

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hfopt_hf_data.config import HuggingfaceContainerConfig

CONTEXT, BEGINS, ENDS = "context", "begins", "ends"
QUESTION_AND_CONTEXT, ANSWERS = ["question", "context"], "answers"
STRIDE = 128
"""Tokens of a context that two windows share, unless the config says; fewer where windows are that small."""
OUTSIDE = -1


def prepare(given: Given) -> Prepared:
    """Token ids of each window; of each of their tokens where it begins and ends in the context; the right answers."""
    config, tokeniser = given.config, given.processor
    question, context = names_of(config.input_cols) or QUESTION_AND_CONTEXT
    labels = names_of(config.label_cols) or ([ANSWERS] if ANSWERS in given.data.column_names else [])
    check_columns(given.data, [question, context, *labels])
    tokeniser.check_places()
    shared = config.stride or min(STRIDE, (tokeniser.limit or STRIDE) // 3)

    def rows() -> Iterator[Columns]:
        for start, batch in given.batches([question, context, *labels]):
            texts = {question: [_stripped(text) for text in batch[question]], context: batch[context]}
            tokeniser.check(question, texts[question], start)
            _check_room(texts[question], tokeniser, shared, start)
            encoding = tokeniser.encoding(texts, start, **_windows(tokeniser, shared))
            columns = {name: _grouped(values, encoding) for name, values in tokeniser.inputs(encoding).items()}
            spans = [_spans(encoding, window) for window in range(len(encoding["input_ids"]))]
            columns[BEGINS] = _grouped([begins for begins, _ in spans], encoding)
            columns[ENDS] = _grouped([ends for _, ends in spans], encoding)
            columns[CONTEXT] = batch[context]
            if labels:
                columns[LABEL] = [_answers(value, row) for row, value in enumerate(batch[labels[0]], start)]
            yield columns

    inputs = dict.fromkeys([*tokeniser.tokenizer.model_input_names, BEGINS, ENDS], "groups")
    return Prepared(rows(), tokeniser.layout, {**inputs, CONTEXT: "text", LABEL: "texts"})


def _stripped(question: Any) -> Any:
    """Spaces before a question would count as its tokens, as some in SQuAD have them."""
    return question.lstrip() if isinstance(question, str) else question


def _check_room(questions: Sequence[str], tokeniser: Any, shared: int, start: int) -> None:
    """That questions leave more tokens for a context than two windows share: else no window would go any further."""
    if tokeniser.limit is None:
        return
    around = tokeniser.tokenizer.num_special_tokens_to_add(pair=True)
    asked = tokeniser.tokenizer(list(questions), add_special_tokens=False, verbose=False)["input_ids"]
    for row, ids in enumerate(asked, start):
        if (room := tokeniser.limit - around - len(ids)) <= shared:
            raise PreconditionFailed(
                f"row {row}: the question leaves {max(room, 0)} of {tokeniser.limit} tokens for its context, of which "
                f"two windows share {shared}",
                hint="set stride to less, or leave such questions out",
            )


def _windows(tokeniser: Any, shared: int) -> dict[str, Any]:
    """How the tokenizer cuts a context."""
    whole = {"return_offsets_mapping": True, "return_overflowing_tokens": True}
    return whole if tokeniser.limit is None else {**whole, "truncation": "only_second", "stride": shared}


def _grouped(values: Sequence[Any], encoding: Mapping[str, Any]) -> list[list[Any]]:
    """By row what there is by window."""
    rows = encoding["overflow_to_sample_mapping"]
    found: list[list[Any]] = [[] for _ in range(rows[-1] + 1)]
    for row, value in zip(rows, values, strict=True):
        found[row].append(value)
    return found


def _spans(encoding: Any, window: int) -> tuple[list[int], list[int]]:
    """Where each token of a window begins and ends in the context; `OUTSIDE` for those that are of no context."""
    parts, offsets = encoding.sequence_ids(window), encoding["offset_mapping"][window]
    begins = [begin if part == 1 else OUTSIDE for part, (begin, _) in zip(parts, offsets, strict=True)]
    return begins, [end if part == 1 else OUTSIDE for part, (_, end) in zip(parts, offsets, strict=True)]


def _answers(value: Any, row: int) -> list[str]:
    """The right answers; none where the context has none, as in the second version of SQuAD."""
    found = value.get("text") if isinstance(value, Mapping) else value
    found = [found] if isinstance(found, str) else found
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise PreconditionFailed(f"row {row} has {repr_of(value)} for answers, not texts")
    return found


class Span(NamedTuple):
    """An answer: its score, and where it begins and ends in the context."""

    score: float
    begin: int
    end: int


class Answers(Groups):
    """Predictions are texts; labels are the right ones of each row."""

    own = (CONTEXT, BEGINS, ENDS)

    def __init__(self, folder: Path, config: HuggingfaceContainerConfig) -> None:
        super().__init__(folder, config)
        self._most = config.max_answer_length

    def predict(self, session: Session, batch: Batch) -> NDArray[np.str_]:
        import numpy as np

        best: list[Span | None] = [None] * len(batch.rows)
        nothing = [float("inf")] * len(batch.rows)
        for ran in self.run(session, batch):
            starts, ends = _logits(ran.outputs, next(iter(ran.feeds.values())).shape)
            for row, start, end in zip(ran.rows, starts, ends, strict=True):
                begins, stops = (self._of_window(name, batch.rows[row], ran.turn) for name in (BEGINS, ENDS))
                own = slice(len(start) - len(begins), None) if self._left else slice(len(begins))
                found = best_span(start[own], end[own], begins, stops, self._most)
                best[row] = max(filter(None, (best[row], found)), default=None, key=lambda span: span.score)
                nothing[row] = min(nothing[row], float(start[own][0]) + float(end[own][0]))
        if self._may_be_none:
            scored = zip(best, nothing, strict=True)
            best = [None if span is None or none > span.score else span for span, none in scored]
        contexts = [self._own[CONTEXT][int(position)].as_py() for position in batch.rows]
        return np.array(
            ["" if span is None else text[span.begin : span.end] for text, span in zip(contexts, best, strict=True)]
        )

    @cached_property
    def _may_be_none(self) -> bool:
        """Whether some question has no answer: then none is predicted where the first token's logits say so."""
        import pyarrow.compute

        if self._labels is None:
            return False
        return bool(pyarrow.compute.min(pyarrow.compute.list_value_length(self._labels)).as_py() == 0)

    def _of_window(self, name: str, position: int, turn: int) -> NDArray[np.int32]:
        values: NDArray[np.int32] = self._own[name][int(position)].values[turn].values.to_numpy()
        return values

    def _labels_of(self, positions: NDArray[np.int64]) -> NDArray[Any] | None:
        import numpy as np

        if self._labels is None:
            return None
        return ragged([np.array(self._labels[int(position)].as_py(), dtype=np.str_) for position in positions])


def _logits(outputs: Mapping[str, NDArray[Any]], shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of starts and of ends, [batch, tokens] each."""
    found = [outputs[name] for name in ("start_logits", "end_logits") if name in outputs] or [*outputs.values()][:2]
    if len(found) != 2 or any(each.shape != shape for each in found):
        raise PreconditionFailed(
            f"the model yields {', '.join(f'{name} {list(each.shape)}' for name, each in outputs.items())}, not logits "
            f"of starts and ends for every token of {list(shape)}",
            hint="the model's task must be question-answering too",
        )
    for each in found:
        check_numbers(each)
    return found[0], found[1]


def best_span(
    starts: NDArray[Any], ends: NDArray[Any], begins: NDArray[Any], stops: NDArray[Any], most: int
) -> Span | None:
    """The span of at most so many tokens with the largest sum of logits; None if the window has none of the context.

    :param starts: logits of each token, [tokens]
    :param begins: where each token begins in the context; `OUTSIDE` if it is of no context
    """
    import numpy as np

    inside = np.flatnonzero(begins != OUTSIDE)
    if not len(inside):
        return None
    sums = starts[inside].astype(np.float64)[:, None] + ends[inside].astype(np.float64)[None, :]
    lengths = inside[None, :] - inside[:, None] + 1
    sums[(lengths < 1) | (lengths > most)] = -np.inf
    first, last = np.unravel_index(sums.argmax(), sums.shape)
    return Span(float(sums[first, last]), int(begins[inside[first]]), int(stops[inside[last]]))
