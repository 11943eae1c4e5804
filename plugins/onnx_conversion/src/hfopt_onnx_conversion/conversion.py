"""OnnxConversion: a PyTorch model as an ONNX graph that computes the same, which is checked."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from hfopt import Config, HfoptError, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed
from hfopt.api.config import only

_ENCODERS = "not available in this version: it converts encoders, which are one graph without a cache"
_ONE_FILE = "not available in this version: one file up to 2 GB, external data above"


class OnnxConversionConfig(Config):
    """Options of ``OnnxConversion``."""

    target_opset: int = Field(
        17, ge=13, le=18, description="The ONNX opset; 17 has LayerNormalization as one operator."
    )
    parity: Literal["error", "warn", "off"] = Field(
        "error", description="What to do if outputs differ by more than 1e-4 of the largest, plus 1e-5."
    )
    use_dynamo_exporter: Annotated[
        bool, only(False, because="not available in this version: it converts with the TorchScript exporter")
    ] = Field(False, description="Not available.")
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
    save_as_external_data: Annotated[bool, only(False, because=_ONE_FILE)] = Field(False, description="Not available.")
    all_tensors_to_one_file: Annotated[bool, only(True, because=_ONE_FILE)] = Field(True, description="Always.")
    external_data_name: Annotated[str | None, only(None, because=_ONE_FILE)] = Field(None, description="Not available.")
    size_threshold: int = Field(1024, description="Of no effect: see save_as_external_data.")
    convert_attribute: Annotated[bool, only(False, because=_ONE_FILE)] = Field(False, description="Not available.")


class OnnxConversion(Pass):
    """Exports with TorchScript, attention written out so that it can be fused, and compares on several shapes."""

    Config: ClassVar[type[Config]] = OnnxConversionConfig
    accepts = frozenset({"PyTorchModel"})
    produces = "ONNXModel"
    config: OnnxConversionConfig

    def requires(self, model: ModelHandle) -> None:
        if not model.inputs:
            raise PreconditionFailed("the inputs of this model are not known, so that it can't be traced")

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        from hfopt.parity import compare_sessions, describe
        from hfopt_onnx_conversion.export import export
        from hfopt_onnx_model.graph import handle_of, load, node_counts

        target = context.folder / "model.onnx"
        with context.open(model, {"attn_implementation": "eager"}) as source:
            context.progress("export", 0, None)
            export(source, model.inputs, target, self.config.target_opset)
            converted = handle_of(target, like=model)
            report: dict[str, Any] = {"opset": self.config.target_opset, "operators": node_counts(load(target))}
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
