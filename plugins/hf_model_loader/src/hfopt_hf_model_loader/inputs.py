"""What a model takes, found from its config, the signature of its forward and the files of its processor.

Names of axes are those that ONNX exports of such models commonly have.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed, TensorSpec
from hfopt.api.example import BATCH_AXIS, BOXES
from hfopt_hf_model_loader.folder import has, inside, read_object

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

TEXT_AXES = (BATCH_AXIS, "sequence_length")
CHOICE_AXES = (BATCH_AXIS, "num_choices", "sequence_length")
DECODER_AXES = (BATCH_AXIS, "decoder_sequence_length")
SAMPLES, FRAMES = 640, 4
"""Of sound, for each token of an example."""


def inputs(model_class: type[PreTrainedModel], own: PretrainedConfig, folder: Path) -> tuple[TensorSpec, ...]:
    """A model's inputs, in the order of its signature.

    :raises PreconditionFailed: they can't be found
    """
    taken = inspect.signature(model_class.forward).parameters
    found = {spec.name: spec for spec in _found(model_class, taken, own, folder)}
    if not found:
        raise PreconditionFailed(
            f"what {model_class.__name__} takes is not known: its forward has {', '.join(list(taken)[1:8])}",
            hint="say so in io_config, and give dummy_inputs_func or input_shapes",
        )
    return tuple(found[name] for name in taken if name in found)


def _found(
    model_class: type[PreTrainedModel], taken: Mapping[str, Any], own: PretrainedConfig, folder: Path
) -> Iterator[TensorSpec]:
    main = model_class.main_input_name
    seq2seq = "decoder_input_ids" in taken and bool(getattr(own, "is_encoder_decoder", False))
    if "input_ids" in taken and (vocabulary := _vocabulary(own)) is not None and main in ("input_ids", "pixel_values"):
        yield from _text(model_class, taken, own, folder, vocabulary)
    if "pixel_values" in taken and "bbox" not in taken:
        yield from _image(model_class, taken, own, folder)
    if main in ("input_values", "input_features"):
        yield from _audio(main, taken, own)
    if seq2seq and not _reads_eos(model_class, taken, own):
        yield TensorSpec(name="decoder_input_ids", dtype="int64", axes=DECODER_AXES, high=_vocabulary(own))


def _text(
    model_class: type[PreTrainedModel], taken: Mapping[str, Any], own: PretrainedConfig, folder: Path, vocabulary: int
) -> Iterator[TensorSpec]:
    """Token ids and what goes with them."""
    axes = CHOICE_AXES if model_class.__name__.endswith("ForMultipleChoice") else TEXT_AXES
    ranges = {"input_ids": vocabulary, "attention_mask": 2}
    segments = getattr(own, "type_vocab_size", None)
    if isinstance(segments, int) and segments > 1 and "token_type_ids" in tokenizer_inputs(folder):
        ranges["token_type_ids"] = segments
    last = own.eos_token_id if _reads_eos(model_class, taken, own) else None
    for name in taken:
        if name in ranges:
            ends = last if name == "input_ids" else None
            yield TensorSpec(name=name, dtype="int64", axes=axes, high=ranges[name], last=ends)
    if "bbox" in taken:
        yield TensorSpec(name=BOXES, dtype="int64", axes=(*axes, 4), high=own.max_2d_position_embeddings)


def _reads_eos(model_class: type[PreTrainedModel], taken: Mapping[str, Any], own: PretrainedConfig) -> bool:
    """Whether a head looks for the end of each row, as those of encoder-decoder classifiers do."""
    classifies = model_class.__name__.endswith("ForSequenceClassification")
    return classifies and "decoder_input_ids" in taken and isinstance(getattr(own, "eos_token_id", None), int)


def _image(
    model_class: type[PreTrainedModel], taken: Mapping[str, Any], own: PretrainedConfig, folder: Path
) -> Iterator[TensorSpec]:
    """Pixels, of the size that the config or the processor states."""
    vision = getattr(own, "vision_config", None) or getattr(own, "encoder", None) or own
    height, width = _image_size(vision, own, folder)
    channels = int(getattr(vision, "num_channels", None) or getattr(own, "num_channels", None) or 3)
    frames = getattr(own, "num_frames", None)
    video = isinstance(frames, int) and model_class.__name__.endswith("ForVideoClassification")
    axes: tuple[int | str, ...] = (channels, height, width)
    yield TensorSpec(name="pixel_values", dtype="float32", axes=(BATCH_AXIS, *((frames,) if video else ()), *axes))


def _image_size(vision: Any, own: PretrainedConfig, folder: Path) -> tuple[int, int]:
    """Height and width: what the config states, else the processor, else 224."""
    stated = getattr(vision, "image_size", None) or getattr(own, "image_size", None) or _processed(folder)
    if isinstance(stated, dict):
        stated = stated.get("shortest_edge") or (stated.get("height"), stated.get("width"))
    if isinstance(stated, int):
        return stated, stated
    if isinstance(stated, list | tuple) and len(stated) == 2 and all(isinstance(each, int) for each in stated):
        return stated[0], stated[1]
    return 224, 224


def _processed(folder: Path) -> Any:
    """The size that an image has when its processor is done with it, as the processor's file states it."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if has(folder, name):
            read = read_object(inside(folder, name))
            read = read.get("image_processor", read)
            return read.get("crop_size") or read.get("size")
    return None


def _audio(main: str, taken: Mapping[str, Any], own: PretrainedConfig) -> Iterator[TensorSpec]:
    """Samples, a spectrogram of fixed length, or features of frames."""
    axis = "audio_sequence_length"
    mel = getattr(own, "num_mel_bins", None) or getattr(own, "feature_projection_input_dim", None)
    if main == "input_values" and mel is None:
        yield TensorSpec(name=main, dtype="float32", axes=(BATCH_AXIS, axis), scale=SAMPLES)
    elif main == "input_values":
        yield TensorSpec(name=main, dtype="float32", axes=(BATCH_AXIS, int(own.max_length), int(mel)))
    elif own.model_type == "whisper":
        yield TensorSpec(name=main, dtype="float32", axes=(BATCH_AXIS, int(mel), 2 * int(own.max_source_positions)))
    else:
        yield TensorSpec(name=main, dtype="float32", axes=(BATCH_AXIS, axis, int(mel or 80)), scale=FRAMES)
        if "attention_mask" in taken:
            yield TensorSpec(name="attention_mask", dtype="int64", axes=(BATCH_AXIS, axis), high=2, scale=FRAMES)


def _vocabulary(own: PretrainedConfig) -> int | None:
    """Of the model, or of its part that reads."""
    found = getattr(own, "vocab_size", None) or getattr(getattr(own, "text_config", None), "vocab_size", None)
    return found if isinstance(found, int) else None


def tokenizer_inputs(folder: Path) -> list[str]:
    """What the tokenizer yields; where it does not say, whatever the model takes."""
    name = "tokenizer_config.json"
    written = read_object(inside(folder, name)).get("model_input_names") if has(folder, name) else None
    return written if isinstance(written, list) and written else ["input_ids", "token_type_ids", "attention_mask"]
