"""OnnxConversion: a PyTorch model as an ONNX graph that computes the same, which is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from hfopt import Config, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed, Session
from hfopt.api.config import OptionError, only
from hfopt.api.forecast import MEGABYTE, Weights, with_bits
from hfopt.api.model import COMPOSITE
from hfopt.api.parity import HALF_RELATIVE, RELATIVE
from hfopt_onnx_model.external import ExternalDataConfig

if TYPE_CHECKING:
    from hfopt_onnx_conversion.generation import Written

_NAMES = "keys and values are called past_key_values.N.key and present.N.key, as optimum calls them"
_ONE_GRAPH = "there is one graph"
_NOT_ASKED = "this pass runs no user code"
_APART = "not available in this version: components stay graphs of their own"
_MERGED = "adapters are merged when a model is loaded"
_TRAVELS = "config, generation_config and tokenizer travel with every model"
_NO_BFLOAT16 = "for which ONNX Runtime has no operators on the CPU"
BFLOAT16_RELATIVE = 8 * HALF_RELATIVE
"""It has three bits of precision less than float16."""
TORCHSCRIPT_OPSETS, DYNAMO_OPSETS = (13, 20), (18, 25)


class OnnxConversionConfig(ExternalDataConfig):
    """Options of ``OnnxConversion``."""

    target_opset: int | None = Field(
        None,
        ge=TORCHSCRIPT_OPSETS[0],
        le=DYNAMO_OPSETS[1],
        description="The ONNX opset; null: 17, the first with LayerNormalization, or 18 with the dynamo exporter.",
    )
    use_dynamo_exporter: bool | None = Field(
        None,
        description="true: torch.export (opsets 18 to 25); false: TorchScript (13 to 20); null: TorchScript, and the "
        "other where TorchScript fails or lacks the opset.",
    )
    past_key_value_name: str = Field("past_key_values", description=f"Of no effect: {_NAMES}.")
    device: Annotated[str | None, only(None, "cpu", because="this version converts on the CPU")] = Field(
        None, description="cpu."
    )
    torch_dtype: Annotated[
        Literal["float32", "float16", "bfloat16"] | None,
        only(None, "float32", "float16", because=f"bfloat16 is not exported, {_NO_BFLOAT16}"),
    ] = Field(None, description="float32 or float16: weights are cast before the export; null: as they were loaded.")
    parallel_jobs: int | None = Field(None, ge=1, description=f"Of no effect: {_ONE_GRAPH}.")
    merge_components: Annotated[bool, only(False, because=_APART)] = Field(False, description="Not available.")
    merge_adapter_weights: bool = Field(False, description=f"Of no effect: {_MERGED}.")
    save_metadata_for_token_generation: bool = Field(False, description=f"Of no effect: {_TRAVELS}.")

    user_script: str | None = Field(None, description=f"Of no effect: {_NOT_ASKED}.")
    script_dir: str | None = Field(None, description=f"Of no effect: {_NOT_ASKED}.")

    def ignored(self) -> dict[str, str]:
        reasons = {"past_key_value_name": _NAMES, "parallel_jobs": _ONE_GRAPH}
        reasons |= {"user_script": _NOT_ASKED, "script_dir": _NOT_ASKED}
        reasons |= {"merge_adapter_weights": _MERGED, "save_metadata_for_token_generation": _TRAVELS}
        return {name: reasons[name] for name in self.written(*reasons)}

    @model_validator(mode="after")
    def _writes_the_opset(self) -> OnnxConversionConfig:
        first, last = DYNAMO_OPSETS if self.use_dynamo_exporter else TORCHSCRIPT_OPSETS
        if self.target_opset is None or self.use_dynamo_exporter is None or first <= self.target_opset <= last:
            return self
        name = "the dynamo exporter" if self.use_dynamo_exporter else "TorchScript"
        raise OptionError("target_opset", f"{name} writes opsets {first} to {last}")


_EXPORTERS: dict[bool | None, tuple[Literal["torchscript", "dynamo"], ...]] = {
    None: ("torchscript", "dynamo"),
    False: ("torchscript",),
    True: ("dynamo",),
}
"""By use_dynamo_exporter, in the order in which they are tried."""


CUT_INTO_WINDOWS = frozenset({"led", "longformer", "nystromformer"})
"""Types of models whose graphs run rows of one length alone."""


class OnnxConversion(Pass):
    """Exports with attention written out so that it can be fused."""

    Config: ClassVar[type[Config]] = OnnxConversionConfig
    accepts = frozenset({"PyTorchModel"})
    produces = "ONNXModel"
    accelerator_agnostic = True
    keeps_outputs = True
    memory: ClassVar[Mapping[str, float]] = {"onnx": 100 * MEGABYTE, "copies": 3}
    config: OnnxConversionConfig

    def requires(self, model: ModelHandle) -> None:
        if not model.inputs:
            raise PreconditionFailed("the inputs of this model are not known, so it can't be traced")
        if (kind := model.attributes.get("model_type")) in CUT_INTO_WINDOWS:
            raise PreconditionFailed(
                f"{kind} can't be exported: it cuts rows into as many windows as the traced row has, and no others run",
                hint="choose an architecture without windows, such as modernbert for long texts",
            )

    def forecast(self, before: Weights) -> Weights:
        return with_bits(before, 16 if self.config.torch_dtype == "float16" else 32)

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        from hfopt_onnx_conversion import genai, generation
        from hfopt_onnx_conversion.export import describe_failures, export
        from hfopt_onnx_model.graph import handle_of, node_counts, outline

        target, config = context.folder / f"{context.name}.onnx", self.config
        brief = not config.use_dynamo_exporter and (config.target_opset or 0) <= TORCHSCRIPT_OPSETS[1]
        with context.open(model, {"attn_implementation": "eager", "brief": brief}) as source:
            tolerance = self._set_dtype(source)
            written = generation.write(source, model) if generation.writes(model) else None
            context.progress("export", 0, None)
            how = export(
                source,
                model.inputs,
                target,
                config.target_opset,
                exporters=_EXPORTERS[config.use_dynamo_exporter],
                external=config,
            )
        converted = handle_of(target, like=model)
        if generation.writes(model):
            converted = converted.with_(companions=(*converted.companions, genai.write_config(model, target)))
        told = {"summary": f"opset {how.opset}, by {how.exporter}", **asdict(how)}
        report: dict[str, Any] = {**told, "operators": node_counts(outline(target))}
        if how.failed:
            report["warning"] = f"exported by {how.exporter}, as {describe_failures(how.failed)}"
        result = PassResult(converted, report, tolerance)
        if written is None:
            return result
        return _compared(result, written, context)

    def assembled(self, result: PassResult, model: ModelHandle, context: PassContext) -> PassResult:
        """Parts that write together are compared in that, too."""
        from hfopt_onnx_conversion import generation
        from hfopt_onnx_model.seq2seq import writes

        if model.type == COMPOSITE or not writes(result.model.components):
            return result
        with context.open(model, {"attn_implementation": "eager"}) as source:
            self._set_dtype(source)
            written = generation.write(source, model)
        return result if written is None else _compared(result, written, context)

    def _set_dtype(self, source: Session) -> float:
        """Give the open model the dtype in which it is to be exported.

        :return: how far the outputs of the export may be from those of the model as it was
        """
        import torch

        before = _dtypes(source)
        if self.config.torch_dtype is not None:
            source.live.to(getattr(torch, self.config.torch_dtype))
        after = _dtypes(source)
        if torch.bfloat16 in after:
            raise PreconditionFailed(
                f"the model is held in bfloat16, {_NO_BFLOAT16}", hint="set torch_dtype to float32 or float16"
            )
        if torch.bfloat16 in before:
            return BFLOAT16_RELATIVE
        return HALF_RELATIVE if torch.float16 in before | after else RELATIVE


def _compared(result: PassResult, written: Written, context: PassContext) -> PassResult:
    """With what is said of the tokens that the new model writes."""
    from hfopt_onnx_conversion.generation import compare

    context.progress("generate", 0, None)
    with context.open(result.model, {"brief": True}) as made:
        found = compare(written, made)
    same = f"{found['equal']} of {found['of']} tokens equal"
    differs = None if found["equal"] == found["of"] else f"it writes other texts than PyTorch: {same}"
    more = {"generated": found, "summary": f"{result.report['summary']}; generated: {same}"}
    return result.with_report(more, differs)


def _dtypes(source: Session) -> set[Any]:
    return {each.dtype for each in source.live.parameters()}
