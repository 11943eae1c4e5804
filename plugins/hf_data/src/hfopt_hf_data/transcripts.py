"""Speech, and what is said: written by models of CTC, with letters for every moment of sound, or by a decoder."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import Batch, Dataset, PreconditionFailed, Session
from hfopt_hf_data.columns import check_columns
from hfopt_hf_data.media import ROWS, media_of
from hfopt_hf_data.messages import repr_of
from hfopt_hf_data.preparing import Columns, Given, Prepared, names_of
from hfopt_hf_data.rows import LABEL, check_numbers, logits_of
from hfopt_hf_data.sound import KINDS, Sounds, heard, layout_of
from hfopt_hf_data.targets import start_of
from hfopt_hf_data.tokenise import open_tokenizer
from hfopt_hf_data.written import TOKENIZER, WRITING, WrittenTexts, writes, writing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hfopt_hf_data.config import HuggingfaceContainerConfig

_DECODES = ("ForConditionalGeneration", "ForSpeechSeq2Seq")
TEXTS = ("text", "transcription", "sentence")


def prepare(given: Given) -> Prepared:
    """Features and transcripts; the tokenizer that reads what the model writes is kept beside them.

    :raises PreconditionFailed: the model is neither of CTC nor one with a decoder, or has no tokenizer
    """
    names = given.attributes.get("architectures") or []
    decodes = given.attributes.get("is_encoder_decoder") or any(name.endswith(_DECODES) for name in names)
    if not decodes and not all(name.endswith("ForCTC") for name in names):
        raise PreconditionFailed(
            f"the model is {names[0]}: speech is prepared for models of CTC, such as Wav2Vec2ForCTC, and for those "
            "with a decoder, such as WhisperForConditionalGeneration"
        )
    known = [name for name in TEXTS if name in given.data.column_names]
    labels = names_of(given.config.label_cols) or known[:1]
    check_columns(given.data, labels)
    given, media = media_of(given, "Audio", labels)
    how = writing(given, start_of(given.attributes)) if decodes else None
    if how is None:
        open_tokenizer(given.processor.folder).save_pretrained(given.folder / TOKENIZER)
    extractor, shapes = given.processor, dict[str, list[int]]()

    def rows() -> Iterator[Columns]:
        for start, batch in given.batches([media.column, *labels], ROWS):
            columns = heard(extractor, media, batch, start, shapes)
            if labels:
                columns[LABEL] = [_text(value, labels[0], row) for row, value in enumerate(batch[labels[0]], start)]
            yield columns

    layout = layout_of(extractor, shapes) | ({} if how is None else {WRITING: how._asdict()})
    return Prepared(rows(), layout, {**KINDS, LABEL: "text"})


def _text(value: Any, column: str, row: int) -> str:
    if not isinstance(value, str):
        raise PreconditionFailed(f"row {row} has {repr_of(value)} in column {repr_of(column)}, which is not text")
    return value


def opened(folder: Path, config: HuggingfaceContainerConfig) -> Dataset:
    """Texts that a decoder writes, or a model of CTC."""
    return (WrittenTexts if writes(folder) else Transcripts)(folder, config)


class Transcripts(Sounds):
    """Predictions are what the model writes: the likeliest token of each moment, repeated ones as one."""

    def __init__(self, folder: Path, config: HuggingfaceContainerConfig) -> None:
        super().__init__(folder, config)
        self._folder = folder

    @cached_property
    def _tokenizer(self) -> Any:
        return open_tokenizer(self._folder / TOKENIZER)

    def predict(self, session: Session, batch: Batch) -> NDArray[np.str_]:
        import numpy as np

        logits = logits_of(session.run(batch.feeds))
        if logits.ndim != 3:
            raise PreconditionFailed(
                f"the model yields {list(logits.shape)}, not logits for every moment of a sound",
                hint="the model's task must be automatic-speech-recognition too",
            )
        check_numbers(logits)
        column = next(iter(self._columns.values()))
        lengths = np.array([len(column[int(row)]) for row in batch.rows])
        moments = np.ceil(logits.shape[1] * lengths / lengths.max()).astype(int)  # what pads a sound says nothing
        chosen = logits.argmax(axis=-1)
        return np.array([self._tokenizer.decode(ids[:most]) for ids, most in zip(chosen, moments, strict=True)])
