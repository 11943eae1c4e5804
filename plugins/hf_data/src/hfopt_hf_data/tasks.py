"""The tasks that data are prepared for: by what, read by what, and which options each obeys."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from hfopt_hf_data.generation import TEXT_GENERATION, WRITTEN

TEXT_CLASSIFICATION = "text-classification"
_COLUMNS = frozenset({"input_cols", "label_cols"})
_TEXTS = _COLUMNS | {"padding", "truncation", "max_length", "add_special_tokens"}
_WORDS = _TEXTS | {"is_split_into_words"}
_TARGETS = _TEXTS | {"target_max_len", "source_prefix", "src_lang", "tgt_lang", "max_new_tokens"}
_CLASSES = _COLUMNS | {"align_labels", "labels_to_filter"}
_SOUND = _COLUMNS | {"max_duration", "feature_extractor_args"}
_SPEECH = _SOUND | {"src_lang", "max_new_tokens"}


class Task(NamedTuple):
    """How data of a task are made and read.

    :param opens: ``module:class`` of this package: of the model's tokenizer or processor, made with the config, the
        model's folder and its config.json
    :param prepare: ``module:function``: takes a `Given`, returns a `Prepared`
    :param reader: ``module:function`` or class: takes the folder and the config, returns a `Dataset`
    :param options: those of ``pre_process_data`` that not every task has
    """

    opens: str
    prepare: str
    reader: str
    options: frozenset[str]

    def load(self, what: str) -> Any:
        """What one of them names; its module is imported."""
        module, _, name = what.partition(":")
        return getattr(import_module(f"{__package__}.{module}"), name)


_TOKENISER = "tokenise:Tokeniser"
_TRANSLATING = Task(_TOKENISER, "targets:prepare", "targets:opened", _TARGETS)
TASKS: Mapping[str, Task] = {
    "audio-classification": Task("sound:Extractor", "sound:classes", "sound:Sounds", _SOUND | _CLASSES),
    "automatic-speech-recognition": Task("sound:Extractor", "transcripts:prepare", "transcripts:opened", _SPEECH),
    "feature-extraction": Task(_TOKENISER, "embedding:prepare", "embedding:opened", _WORDS | {"pooling"}),
    "fill-mask": Task(_TOKENISER, "masking:prepare", "masking:MaskedTokens", _TEXTS | {"random_seed"}),
    "image-classification": Task("images:Processor", "images:prepare", "rows:Rows", _CLASSES),
    "question-answering": Task(
        _TOKENISER, "answers:prepare", "answers:Answers", _TEXTS | {"stride", "max_answer_length"}
    ),
    "summarization": _TRANSLATING,
    "text2text-generation": _TRANSLATING,
    TEXT_CLASSIFICATION: Task(_TOKENISER, "classes:prepare", "rows:Rows", _WORDS | _CLASSES),
    TEXT_GENERATION: Task(
        _TOKENISER, "sequences:prepare", "next_tokens:NextTokens", frozenset({*WRITTEN, "add_special_tokens"})
    ),
    "token-classification": Task(_TOKENISER, "tagging:prepare", "tagging:TaggedWords", _WORDS | {"align_labels"}),
    "translation": _TRANSLATING,
}
SYNONYMS: Mapping[str, str] = {
    "audio-ctc": "automatic-speech-recognition",
    "causal-lm": TEXT_GENERATION,
    "conversational": TEXT_GENERATION,
    "ctc": "automatic-speech-recognition",
    "default": "feature-extraction",
    "embeddings": "feature-extraction",
    "mask-filling": "fill-mask",
    "masked-lm": "fill-mask",
    "ner": "token-classification",
    "sentence-similarity": "feature-extraction",
    "sentiment-analysis": TEXT_CLASSIFICATION,
    "seq2seq-lm": "text2text-generation",
    "sequence-classification": TEXT_CLASSIFICATION,
    "speech2seq-lm": "automatic-speech-recognition",
    "zero-shot-classification": TEXT_CLASSIFICATION,
}
"""Other names of these tasks."""


def known_task(task: str | None) -> str | None:
    """A task by the name that `TASKS` has.

    :raises ValueError: it is none of them
    """
    if task is None:
        return None
    name = task.removesuffix("-with-past")  # of a feature of transformers.onnx
    name = "translation" if name.startswith("translation_") else SYNONYMS.get(name, name)
    if name not in TASKS:
        raise ValueError(f"data are prepared for {_listed(TASKS)}; not for {task}")
    return name


def not_of(task: str, option: str) -> str | None:
    """What to say of an option that the task does not obey; None if it does, or every task does."""
    able = [name for name, each in TASKS.items() if option in each.options]
    return f"is of {_listed(able)}, and the task is {task}" if able and task not in able else None


def _listed(names: Collection[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
