"""The tasks of transformers' pipelines, and the classes that load a model for each."""

from __future__ import annotations

from collections.abc import Mapping

from hfopt.api.config import UnknownName

TASKS: Mapping[str, tuple[str, ...]] = {
    "any-to-any": ("AutoModelForMultimodalLM",),
    "audio-classification": ("AutoModelForAudioClassification",),
    "audio-frame-classification": ("AutoModelForAudioFrameClassification",),
    "audio-xvector": ("AutoModelForAudioXVector",),
    "automatic-speech-recognition": ("AutoModelForCTC", "AutoModelForSpeechSeq2Seq", "AutoModelForTDT"),
    "decision": ("AutoModelForDecision",),
    "depth-estimation": ("AutoModelForDepthEstimation",),
    "document-question-answering": ("AutoModelForDocumentQuestionAnswering",),
    "feature-extraction": ("AutoModel",),
    "fill-mask": ("AutoModelForMaskedLM",),
    "image-classification": ("AutoModelForImageClassification",),
    "image-feature-extraction": ("AutoModel",),
    "image-segmentation": (
        "AutoModelForImageSegmentation",
        "AutoModelForSemanticSegmentation",
        "AutoModelForInstanceSegmentation",
        "AutoModelForUniversalSegmentation",
    ),
    "image-to-image": ("AutoModelForImageToImage",),
    "image-to-text": ("AutoModelForImageTextToText", "AutoModelForVision2Seq"),
    "keypoint-matching": ("AutoModelForKeypointMatching",),
    "mask-generation": ("AutoModelForMaskGeneration",),
    "masked-image-modeling": ("AutoModelForMaskedImageModeling",),
    "multiple-choice": ("AutoModelForMultipleChoice",),
    "next-sentence-prediction": ("AutoModelForNextSentencePrediction",),
    "object-detection": ("AutoModelForObjectDetection",),
    "question-answering": ("AutoModelForQuestionAnswering",),
    "semantic-segmentation": ("AutoModelForSemanticSegmentation",),
    "summarization": ("AutoModelForSeq2SeqLM",),
    "table-question-answering": ("AutoModelForTableQuestionAnswering",),
    "text-classification": ("AutoModelForSequenceClassification",),
    "text-generation": ("AutoModelForCausalLM",),
    "text-to-audio": ("AutoModelForTextToWaveform", "AutoModelForTextToSpectrogram"),
    "text2text-generation": ("AutoModelForSeq2SeqLM",),
    "token-classification": ("AutoModelForTokenClassification",),
    "translation": ("AutoModelForSeq2SeqLM",),
    "video-classification": ("AutoModelForVideoClassification",),
    "visual-question-answering": ("AutoModelForVisualQuestionAnswering",),
    "zero-shot-audio-classification": ("AutoModel",),
    "zero-shot-classification": ("AutoModelForSequenceClassification",),
    "zero-shot-image-classification": ("AutoModelForZeroShotImageClassification",),
    "zero-shot-object-detection": ("AutoModelForZeroShotObjectDetection",),
}
"""By task, transformers' classes, of which the first that has a model of the type is taken."""

SYNONYMS: Mapping[str, str] = {
    "audio-ctc": "automatic-speech-recognition",
    "causal-lm": "text-generation",
    "conversational": "text-generation",
    "ctc": "automatic-speech-recognition",
    "default": "feature-extraction",
    "embeddings": "feature-extraction",
    "image-text-to-text": "image-to-text",
    "mask-filling": "fill-mask",
    "masked-im": "masked-image-modeling",
    "masked-lm": "fill-mask",
    "ner": "token-classification",
    "sentence-similarity": "feature-extraction",
    "sentiment-analysis": "text-classification",
    "seq2seq-lm": "text2text-generation",
    "sequence-classification": "text-classification",
    "speech2seq-lm": "automatic-speech-recognition",
    "text-to-speech": "text-to-audio",
    "vision2seq-lm": "image-to-text",
    "vqa": "visual-question-answering",
}
"""Other names of tasks: of older pipelines, of transformers.onnx's features, of optimum."""
WITH_PAST = "-with-past"
"""What a feature of a model that keeps keys and values ends in."""


def known_task(task: str | None) -> str | None:
    """A task by the name that `TASKS` has.

    :raises UnknownName: it is none
    """
    if task is None:
        return None
    name = task.removesuffix(WITH_PAST)
    if name.startswith("translation_"):  # translation_en_to_de
        return "translation"
    name = SYNONYMS.get(name, name)
    if name not in TASKS:
        raise UnknownName("task", task, sorted({*TASKS, *SYNONYMS}))
    return name
