"""The options of OptimumConversion."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from hfopt import Config
from hfopt.api.config import PlainName, only
from hfopt_onnx_model.external import ExternalDataConfig

_ON_THE_CPU = "the model is exported on the CPU, in float16 too"
_COMPARED = "hfopt compares the outputs of the two models itself: see parity"
_FUSED_LATER = "put OrtTransformersOptimization after this pass: it fuses, and what it makes is compared by itself"
_NO_LEGACY = (
    "optimum-onnx makes one graph of a decoder: for decoder_model and decoder_with_past_model, take OnnxConversion, "
    "and as input an OptimumModel that names them"
)


class ExtraArgs(Config):
    """``extra_args``: arguments of optimum's ``main_export``; how the model is loaded, ``input_model`` says."""

    task: str | None = Field(
        None,
        description="By optimum's name, such as text-generation-with-past; null: what the model is, with its past if "
        "input_model keeps one.",
    )
    monolith: bool | None = Field(
        None, description="Whether it is one graph; null: an encoder-decoder model that keeps no past is."
    )
    no_post_process: bool = Field(
        False, description="Neither merge the two steps of a decoder nor remove weights that a graph has twice."
    )
    optimize: Annotated[str | None, only(None, because=_FUSED_LATER)] = Field(None, description="Not available.")
    do_constant_folding: bool = Field(True, description="Compute beforehand what depends on no input.")
    no_dynamic_axes: bool = Field(False, description="Every axis has the size that it is exported with.")
    do_validation: bool | None = Field(None, description=f"Of no effect: {_COMPARED}.")
    atol: float | None = Field(None, description=f"Of no effect: {_COMPARED}.")
    legacy: Annotated[bool, only(False, because=_NO_LEGACY)] = Field(False, description="Not available.")
    batch_size: int | None = Field(None, ge=1, description="Rows of what is traced; null, here and below: optimum's.")
    sequence_length: int | None = Field(None, ge=1, description="Tokens of what is traced.")
    num_choices: int | None = Field(None, ge=1, description="Choices of what is traced, for multiple-choice.")
    width: int | None = Field(None, ge=1, description="Width of the images that are traced.")
    height: int | None = Field(None, ge=1, description="Their height.")
    num_channels: int | None = Field(None, ge=1, description="Their channels.")
    feature_size: int | None = Field(None, ge=1, description="Features of each frame of the sound that is traced.")
    nb_max_frames: int | None = Field(None, ge=1, description="Its frames.")
    audio_sequence_length: int | None = Field(None, ge=1, description="Its samples, where these are the input.")


def _stem(name: str) -> str:
    return name.removesuffix(".onnx")


class OptimumConversionConfig(ExternalDataConfig):
    """Options of ``OptimumConversion``."""

    target_opset: int | None = Field(
        None, ge=13, le=20, description="The ONNX opset; null: what optimum has for models of this type."
    )
    components: tuple[Annotated[PlainName, AfterValidator(_stem)], ...] | None = Field(
        None,
        min_length=1,
        description="Which of the files that optimum writes, with or without .onnx; null: those of the parts that "
        "input_model has, or all. Parts that are no whole model can't be compared with it: write parity: false beside "
        "the pass's type.",
    )
    fp16: bool = Field(False, description="Weights are cast to float16 before the export.")
    device: Literal["cpu", "cuda"] = Field("cpu", description=f"cuda is of no effect: {_ON_THE_CPU}.")
    extra_args: ExtraArgs | None = Field(None, description="More arguments of optimum's main_export.")

    def ignored(self) -> dict[str, str]:
        compared = self.arguments.written("do_validation", "atol")
        return dict.fromkeys(self.written("device"), _ON_THE_CPU) | {
            f"extra_args.{name}": _COMPARED for name in compared
        }

    @property
    def arguments(self) -> ExtraArgs:
        """``extra_args``, or their defaults."""
        return self.extra_args or ExtraArgs()
