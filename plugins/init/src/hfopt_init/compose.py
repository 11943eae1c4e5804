"""From what a model and a data file are to a config, with a comment for each guess."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hfopt_init.data import Data, label_column, text_columns
from hfopt_init.model import CLASSIFIES, Model

Place = tuple[str | int, ...]
DATA = "data"
"""The name of the data config, and of the evaluator's."""
FUSED = frozenset({
    "albert", "audio-spectrogram-transformer", "bart", "beit", "bert", "camembert", "clip", "clip_text_model",
    "clip_vision_model", "convbert", "deberta", "deberta-v2", "deit", "dinov2", "distilbert", "dpt", "electra",
    "gemma", "gpt2", "gpt_neox", "hubert", "layoutlm", "layoutlmv3", "llama", "marian", "mbart", "mistral",
    "modernbert", "mpnet", "mt5", "owlvit", "phi", "qwen2", "qwen3", "roberta", "roformer", "segformer", "siglip",
    "swin", "t5", "videomae", "vit", "wav2vec2", "wav2vec2-conformer", "wavlm", "whisper", "xlm-roberta", "yolos",
})  # fmt: skip
"""Values of model_type that OrtTransformersOptimization knows."""


@dataclass(frozen=True)
class Guess:
    """A config and what is to be said about it.

    :param comments: lines above a key, by its place
    :param told: what was found, for the terminal
    :param notes: what could not be guessed
    """

    config: dict[str, Any] = field(default_factory=dict)
    comments: dict[Place, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compose(model: Model, data: Data | None, folder: Path) -> Guess:
    """Write a config.

    :param folder: of the config file; paths are relative to it where that is short
    """
    guess = Guess()
    guess.comments[()] = "Made by `hfopt init`. Run it with `hfopt run`; docs/reference/config.md has every option."
    guess.config["input_model"] = _input_model(guess, model, folder)
    measured = _data(guess, model, data, folder)
    guess.config["evaluators"] = {DATA: {"metrics": _metrics(guess, model, measured)}}
    guess.config["passes"] = _passes(guess, model, measured is not None)
    guess.config["engine"] = {"evaluator": DATA, "output_dir": "hfopt-output"}
    guess.comments["engine",] = "Finished steps are kept in .hfopt-cache, so that another run repeats nothing."
    return guess


def _input_model(guess: Guess, model: Model, folder: Path) -> dict[str, Any]:
    kind = str(model.attributes.get("model_type", "")) or "unknown architecture"
    classes = f", classes {', '.join(model.labels)}" if model.labels else ""
    if model.onnx is not None:
        guess.told.append(f"model: {model.name}: ONNX, {model.onnx.name}, {kind}{classes}")
        guess.comments["input_model",] = f"An ONNX model ({kind}{classes})."
        return {"type": "ONNXModel", "config": {"model_path": _near(model.onnx, folder)}}
    task = model.task or CLASSIFIES
    guess.told.append(f"model: {model.name}: {kind}, {task}{classes}")
    if model.task is None:
        guess.notes.append(f"config.json names no architecture that tells the task: {task} is a guess")
    guess.comments["input_model",] = f"{kind}, by config.json for {task}{classes}."
    if model.folder is None:
        return {"type": "PyTorchModel", "config": {"hf_config": {"model_name": model.name, "task": task}}}
    path = _near(model.folder, folder)
    return {"type": "PyTorchModel", "config": {"model_path": path, "hf_config": {"task": task}}}


def _data(guess: Guess, model: Model, data: Data | None, folder: Path) -> bool | None:
    """Add the data config.

    :return: whether its rows have labels; None: there are no data
    """
    if data is None:
        guess.notes.append("without --data neither accuracy nor time is measured, only size")
        return None
    reason = _not_prepared(model)
    label, wrong = label_column(data, model.labels, model.classes)
    texts = text_columns(data, label)
    if reason is None and not texts:
        reason = f"no column of {data.file.name} holds text: {', '.join(data.columns)}"
    if reason is not None:
        guess.notes.append(f"{reason}: neither accuracy nor time is measured, only size")
        return None
    params: dict[str, Any] = {"data_name": data.format, "data_files": _near(data.file, folder), "input_cols": texts}
    place = ("data_configs", 0, "params_config")
    others = [name for name in data.columns if name not in (*texts, label)]
    guess.comments["data_configs",] = f"{data.file.name}. Its columns are {', '.join(data.columns)}."
    guess.comments[*place, "input_cols"] = "The text" + (", in pairs" if len(texts) == 2 else "") + _or(others)
    if label is not None:
        params["label_cols"] = [label]
        guess.comments[*place, "label_cols"] = "The class of each row, by number or by the model's name for it."
    else:
        known = ", ".join(model.labels) or f"0 to {model.classes - 1}"
        why = f"{wrong}, and the model's classes are {known}" if wrong else "no column holds the model's classes"
        guess.notes.append(f"{why}: accuracy is not measured; label_cols would name the column")
    if model.onnx is not None and model.folder is not None:
        params |= {"model_name": _near(model.folder, folder), "task": CLASSIFIES}
        guess.comments[*place, "model_name"] = "Where the tokenizer is."
    guess.told.append(
        f"data: {data.file}: {data.format}, text in {' and '.join(texts)}, "
        + (f"classes in {label}" if label is not None else "no classes")
    )
    guess.config["data_configs"] = [{"name": DATA, "type": "HuggingfaceContainer", "params_config": params}]
    return label is not None


def _not_prepared(model: Model) -> str | None:
    """Why no data can be prepared for a model."""
    if model.task not in (None, CLASSIFIES):
        return f"this version prepares data for {CLASSIFIES} only, not for {model.task}"
    if not model.tokenizer:
        return f"there is no tokenizer beside {model.name}"
    if model.classes == 1 or model.attributes.get("problem_type") in ("regression", "multi_label_classification"):
        return "this version prepares data for one class a row, and the model says something else"
    return None


def _metrics(guess: Guess, model: Model, labelled: bool | None) -> list[dict[str, Any]]:
    metrics: list[dict[str, Any]] = []
    if labelled:
        names = ("accuracy", "f1") if model.classes == 2 else ("accuracy",)
        metrics.append({
            "name": "accuracy",
            "type": "accuracy",
            "data_config": DATA,
            "sub_types": [{"name": each} for each in names],
        })  # fmt: skip
    if labelled is not None:
        metrics.append({"name": "latency", "type": "latency", "data_config": DATA, "sub_types": [{"name": "p50"}]})
        guess.comments["evaluators", DATA, "metrics"] = "Of the result and of the input model, on the same rows."
    return [*metrics, {"name": "size", "type": "size"}]


def _passes(guess: Guess, model: Model, timed: bool) -> dict[str, Any]:
    passes: dict[str, Any] = {}
    if model.onnx is None:
        passes["conversion"] = {"type": "OnnxConversion"}
        guess.comments["passes", "conversion"] = "PyTorch to ONNX. A difference of outputs stops the run."
    if (kind := str(model.attributes.get("model_type") or "")) in FUSED:
        passes["fusion"] = {"type": "OrtTransformersOptimization"}
        guess.comments["passes", "fusion"] = "Attention and the like become one operator each."
    else:
        guess.notes.append(f"no fusion: ONNX Runtime has none for {kind or 'a model without config.json'}")
    passes["quantization"] = {"type": "OnnxQuantization", "config": {"quant_mode": "dynamic"}}
    guess.comments["passes", "quantization"] = (
        "Weights in int8, activations quantized while it runs: no calibration.\n"
        "If accuracy suffers, leave this pass out, or name nodes_to_exclude."
    )
    if timed:
        passes["tuning"] = {"type": "OrtPerfTuning", "config": {"data_config": DATA}}
        guess.comments["passes", "tuning"] = "Settings of ONNX Runtime, kept if faster beyond doubt."
    return passes


def _or(others: list[str]) -> str:
    return f" (it might be {', '.join(others)})." if others else "."


def _near(path: Path, folder: Path) -> str:
    """A path as the config has it: relative to the config's folder, if that climbs no more than one folder."""
    relative = os.path.relpath(path, folder)
    if relative.startswith(os.path.join("..", "..")):
        return str(path.absolute())
    return relative if relative.startswith("..") else f"./{relative}"
