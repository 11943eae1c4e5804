"""OnnxConversion: a PyTorch model as an ONNX graph that computes the same, which is checked."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from hfopt import Config, HfoptError, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed
from hfopt.api.config import only
from hfopt_onnx_model.external import ExternalDataConfig

_ENCODERS = "not available in this version: it converts encoders, which are one graph without a cache"
TORCHSCRIPT_OPSETS, DYNAMO_OPSETS = (13, 20), (18, 25)


class OnnxConversionConfig(ExternalDataConfig):
    """Options of ``OnnxConversion``."""

    target_opset: int | None = Field(
        None,
        ge=TORCHSCRIPT_OPSETS[0],
        le=DYNAMO_OPSETS[1],
        description="The ONNX opset; null: 17, the first with LayerNormalization, or 18 with the dynamo exporter.",
    )
    parity: Literal["error", "warn", "off"] = Field(
        "error", description="What to do if outputs differ by more than 1e-4 of the largest, plus 1e-5."
    )
    use_dynamo_exporter: bool | None = Field(
        None,
        description="true: torch.export (opsets 18 to 25); false: TorchScript (13 to 20); null: TorchScript, and the "
        "other where TorchScript fails or lacks the opset.",
    )
    past_key_value_name: str = Field("past_key_values", description="Of no effect without a cache.")
    device: Annotated[Literal["cpu"] | None, only(None, "cpu", because="this version converts on the CPU")] = Field(
        None, description="cpu."
    )
    torch_dtype: Annotated[
        str | None, only(None, "float32", because="this version converts in float32; quantize afterwards")
    ] = Field(None, description="float32.")
    parallel_jobs: int | None = Field(None, description="Of no effect: there is one graph.")
    merge_components: Annotated[bool, only(False, because=_ENCODERS)] = Field(False, description="Not available.")
    merge_adapter_weights: Annotated[bool, only(False, because=_ENCODERS)] = Field(False, description="Not available.")
    save_metadata_for_token_generation: Annotated[bool, only(False, because=_ENCODERS)] = Field(
        False, description="Not available."
    )

    @model_validator(mode="after")
    def _writes_the_opset(self) -> OnnxConversionConfig:
        first, last = DYNAMO_OPSETS if self.use_dynamo_exporter else TORCHSCRIPT_OPSETS
        if self.target_opset is None or self.use_dynamo_exporter is None or first <= self.target_opset <= last:
            return self
        name = "the dynamo exporter" if self.use_dynamo_exporter else "TorchScript"
        raise ValueError(f"{name} writes opsets {first} to {last}; target_opset is {self.target_opset}")


_EXPORTERS: dict[bool | None, tuple[Literal["torchscript", "dynamo"], ...]] = {
    None: ("torchscript", "dynamo"),
    False: ("torchscript",),
    True: ("dynamo",),
}
"""By use_dynamo_exporter, in the order in which they are tried."""


class OnnxConversion(Pass):
    """Exports with attention written out so that it can be fused, and compares the outputs on several shapes."""

    Config: ClassVar[type[Config]] = OnnxConversionConfig
    accepts = frozenset({"PyTorchModel"})
    produces = "ONNXModel"
    accelerator_agnostic = True
    config: OnnxConversionConfig

    def requires(self, model: ModelHandle) -> None:
        if not model.inputs:
            raise PreconditionFailed("the inputs of this model are not known, so that it can't be traced")

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        from hfopt.parity import compare_sessions, describe
        from hfopt_onnx_conversion.export import describe_failures, export
        from hfopt_onnx_model.graph import handle_of, load, node_counts

        target = context.folder / "model.onnx"
        with context.open(model, {"attn_implementation": "eager"}) as source:
            context.progress("export", 0, None)
            how = export(
                source,
                model.inputs,
                target,
                self.config.target_opset,
                exporters=_EXPORTERS[self.config.use_dynamo_exporter],
                external=self.config,
            )
            converted = handle_of(target, like=model)
            report: dict[str, Any] = {**asdict(how), "operators": node_counts(load(target, weights=False))}
            if how.failed:
                report["warning"] = f"exported by {how.exporter}, as {describe_failures(how.failed)}"
            if self.config.parity != "off":
                context.progress("parity", 0, None)
                with context.open(converted, {}) as candidate:
                    report["parity"] = compare_sessions(source, candidate, model.inputs)
        if self.config.parity == "error" and not report["parity"]["agree"]:
            raise HfoptError(
                f"the converted model computes something else: {describe(report['parity'])}",
                hint="set parity to warn to keep it all the same, and see the report in the cache",
            )
        return PassResult(converted, report)
