"""The tasks of transformers' pipelines, and the class that loads a model for each."""

from __future__ import annotations

from collections.abc import Mapping

from hfopt.api.config import UnknownName

TASKS: Mapping[str, str] = {
    "feature-extraction": "AutoModel",
    "fill-mask": "AutoModelForMaskedLM",
    "ner": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "sentiment-analysis": "AutoModelForSequenceClassification",
    "text-classification": "AutoModelForSequenceClassification",
    "text-generation": "AutoModelForCausalLM",
    "token-classification": "AutoModelForTokenClassification",
}
"""The transformers class that loads a model for a task."""
_LATER_TASKS = (
    "audio-classification",
    "automatic-speech-recognition",
    "image-classification",
    "image-segmentation",
    "image-to-text",
    "multiple-choice",
    "object-detection",
    "summarization",
    "text2text-generation",
    "translation",
)


def known_task(task: str | None) -> str | None:
    if task in _LATER_TASKS:
        raise ValueError(f"{task!r} is not available in this version; there is {', '.join(sorted(TASKS))}")
    if task is not None and task not in TASKS:
        raise UnknownName("task", task, sorted(TASKS))
    return task
