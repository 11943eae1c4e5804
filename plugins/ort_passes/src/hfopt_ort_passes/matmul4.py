"""OnnxMatMul4Quantizer: weights of 4 or 8 bits in blocks with a scale each, activations as they are.

Reads and writes one weight at a time. What becomes of a single node is `hfopt_ort_passes.nbits`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from hfopt import Accelerator, Config, DataName, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed
from hfopt.api import text as wording
from hfopt.api.config import OptionError, only
from hfopt.api.forecast import MEGABYTE, Weights, with_bits
from hfopt.api.text import did_you_mean
from hfopt_onnx_model.external import ExternalDataConfig
from hfopt_onnx_model.graph import EXTERNAL_THRESHOLD, handle_of, load, node_counts, save
from hfopt_onnx_model.precision import tolerance_of
from hfopt_ort_passes import gptq, nbits
from hfopt_ort_passes.nbits import Recipe
from hfopt_ort_passes.quantization_options import HOLDERS
from hfopt_ort_passes.quiet import quiet, scratch, sentences
from hfopt_ort_passes.rewriting import Replacement, Target, check_names, graphs, replace, take_over, targets_in
from hfopt_ort_passes.streaming import WeightWriter, has_external_data, read
from hfopt_ort_passes.user_scripts import RowsFromFunction

if TYPE_CHECKING:
    from onnx import ModelProto

ALGORITHMS = ("DEFAULT", "RTN", "HQQ", "GPTQ", "k_quant")

OWN_OPTIONS: Mapping[str, frozenset[str]] = {
    "DEFAULT": frozenset({"block_size", "is_symmetric", "accuracy_level", "bits"}),
    "RTN": frozenset({"ratios"}),
    "HQQ": frozenset({"block_size", "bits", "axis"}),
    "GPTQ": frozenset({"percdamp", "block_size", "actorder", "mse", "perchannel"}),
    "k_quant": frozenset(),
}
"""What ``weight_only_quant_configs`` may hold, by algorithm."""

QUANTIZED_OPERATORS = ("MatMulNBits", "GatherBlockQuantized")

_CPU_LEVEL = 4
"""int8 activations: on CPUs the only level that is faster than none."""

BlockSize = Literal[16, 32, 64, 128, 256]


def _as_spelled(value: Any) -> Any:
    """An algorithm in ONNX Runtime's spelling: ``kquant`` and ``K-Quant`` are k_quant."""
    if not isinstance(value, str):
        return value
    plain = {name.replace("_", "").lower(): name for name in ALGORITHMS}
    return plain.get(value.replace("_", "").replace("-", "").lower(), value)


class WeightOnlyQuantConfigs(Config):
    """Options of one algorithm; which it has is in their descriptions."""

    block_size: int | None = Field(
        None, ge=1, description="DEFAULT, HQQ: instead of the pass's own. GPTQ: channels between two updates, 128."
    )
    is_symmetric: bool | None = Field(None, description="DEFAULT: instead of the pass's own.")
    accuracy_level: Literal[0, 1, 2, 3, 4] | None = Field(None, description="DEFAULT: instead of the pass's own.")
    bits: Literal[4, 8] | None = Field(None, description="DEFAULT, HQQ: instead of the pass's own.")
    axis: Annotated[int | None, only(None, 1, because="HQQ quantizes along axis 1 only")] = Field(
        None, description="HQQ: 1."
    )
    ratios: dict[str, float] | None = Field(
        None, description="RTN: by the name of a weight, what part of its range is kept; 1 for those not named."
    )
    percdamp: float | None = Field(
        None, gt=0, description="GPTQ: part of the mean diagonal of the Hessian that is added to it; 0.01."
    )
    actorder: bool | None = Field(None, description="GPTQ: channels with the largest activations first; false.")
    mse: bool | None = Field(None, description="GPTQ: scales that minimise the squared error; false.")
    perchannel: bool | None = Field(None, description="GPTQ: a scale for each output channel; true.")


class OnnxMatMul4QuantizerConfig(ExternalDataConfig, RowsFromFunction):
    """Options of ``OnnxMatMul4Quantizer``."""

    algorithm: Annotated[Literal["DEFAULT", "RTN", "HQQ", "GPTQ", "k_quant"] | None, BeforeValidator(_as_spelled)] = (
        Field("DEFAULT", description="How values are chosen, in ONNX Runtime's names; null is DEFAULT.")
    )
    bits: Literal[4, 8] = Field(4, description="Width of a weight; 8 needs DEFAULT, RTN or k_quant.")
    block_size: BlockSize = Field(32, description="Weights that share a scale.")
    is_symmetric: bool | None = Field(
        None, description="No zero points. Null: true; HQQ and k_quant always have zero points."
    )
    accuracy_level: Literal[0, 1, 2, 3, 4] | None = Field(
        None,
        description="What MatMulNBits computes in: 0 not stated, 1 fp32, 2 fp16, 3 bf16, 4 int8. "
        "Null: 4 on the CPU, else 0; HQQ has none.",
    )
    nodes_to_exclude: tuple[str, ...] | None = Field(None, description="All but these nodes, by name.")
    op_types_to_quantize: tuple[Literal["MatMul", "Gather"], ...] = Field(
        ("MatMul",), min_length=1, description="Gather quantizes embeddings too, with DEFAULT."
    )
    quant_axes: dict[Literal["MatMul", "Gather"], int] = Field(
        {"MatMul": 0, "Gather": 1}, description="Along which axis blocks are; MatMul: 0 only."
    )
    weight_only_quant_configs: WeightOnlyQuantConfigs | None = Field(
        None, description="Options of the algorithm; they win over those of the same name here."
    )
    data_config: DataName | None = Field(None, description="Rows to calibrate GPTQ with; of no effect otherwise.")
    save_as_external_data: bool | None = Field(  # type: ignore[assignment]
        None,
        description="Write weights into files beside the model; a model of more than 2 GB always does. "
        "Null: as the input model has them.",
    )

    def ignored(self) -> dict[str, str]:
        reasons = {}
        if self.algorithm != "GPTQ":
            reasons["data_config"] = "only GPTQ calibrates"
        if "Gather" not in self.op_types_to_quantize:
            reasons["quant_axes"] = "Gather is not in op_types_to_quantize"
        return {**super().ignored(), **{name: reasons[name] for name in self.written(*reasons)}}

    @field_validator("algorithm")
    @classmethod
    def _default_algorithm(cls, value: str | None) -> str:
        return value or "DEFAULT"

    @field_validator("quant_axes")
    @classmethod
    def _possible_axes(cls, axes: dict[str, int]) -> dict[str, int]:
        if axes.get("MatMul", 0) != 0:
            raise ValueError("the weight of a MatMul is quantized along axis 0 only")
        return axes

    @field_validator("weight_only_quant_configs")
    @classmethod
    def _own_options(cls, value: WeightOnlyQuantConfigs | None, info: ValidationInfo) -> WeightOnlyQuantConfigs | None:
        algorithm = info.data.get("algorithm")
        if value is None or algorithm is None:
            return value
        own = OWN_OPTIONS[algorithm]
        for name in value.model_dump(exclude_none=True):
            if name not in own:
                raise ValueError(f"{algorithm} has no option {name!r} here; it has {', '.join(sorted(own)) or 'none'}")
        if algorithm != "GPTQ" and value.block_size not in (None, *get_args(BlockSize)):
            raise ValueError("block_size must be 16, 32, 64, 128 or 256")
        return value

    @model_validator(mode="after")
    def _possible(self) -> OnnxMatMul4QuantizerConfig:
        recipe = self.recipe(Accelerator())
        name = recipe.algorithm
        if name in ("HQQ", "k_quant") and self.is_symmetric:
            raise OptionError("is_symmetric", f"{name} always has zero points")
        if name in ("HQQ", "GPTQ") and recipe.bits != 4:
            raise OptionError(
                "bits" if self.bits != 4 else "weight_only_quant_configs", f"{name} quantizes to 4 bits only"
            )
        if name == "HQQ" and self.accuracy_level is not None:
            raise OptionError(
                "accuracy_level", "HQQ has zero points that are not integers, with which ONNX Runtime has none"
            )
        if "Gather" in self.op_types_to_quantize and name != "DEFAULT":
            raise OptionError("op_types_to_quantize", "Gather is quantized by DEFAULT only")
        if "Gather" in self.op_types_to_quantize and recipe.bits == 8 and recipe.quantize_axis not in (1, -1):
            raise OptionError("quant_axes", "with 8 bits blocks of a Gather are along the entries: 1")
        if name == "GPTQ" and self.data_config is None:
            raise OptionError("algorithm", "GPTQ needs a data_config to calibrate with; the other algorithms need none")
        return self

    def recipe(self, accelerator: Accelerator) -> Recipe:
        """The options as they apply, those of the algorithm before the pass's own.

        :param accelerator: decides the accuracy_level if that is not written
        """
        algorithm = self.algorithm or "DEFAULT"
        own = (
            {}
            if self.weight_only_quant_configs is None
            else self.weight_only_quant_configs.model_dump(exclude_none=True)
        )
        instead = own if algorithm in ("DEFAULT", "HQQ") else {}
        level = instead.get("accuracy_level", self.accuracy_level)
        if level is None:
            level = _CPU_LEVEL if accelerator.execution_provider == "CPUExecutionProvider" else 0
        symmetric = instead.get("is_symmetric", self.is_symmetric)
        return Recipe(
            algorithm,
            bits=instead.get("bits", self.bits),
            block_size=instead.get("block_size", self.block_size),
            symmetric=True if symmetric is None else symmetric,
            accuracy_level=level,
            quantize_axis=self.quant_axes.get("Gather", 1),
            options={} if instead else own,
        )


class OnnxMatMul4Quantizer(Pass):
    """Quantizes weights as ONNX Runtime's quantizer does, without holding more than one."""

    Config: ClassVar[type[Config]] = OnnxMatMul4QuantizerConfig
    accepts = frozenset({"ONNXModel"})
    searchable: ClassVar[Mapping[str, tuple[Any, ...]]] = {"block_size": (32, 128), "is_symmetric": (True, False)}
    memory: ClassVar[Mapping[str, float]] = {"onnx": 100 * MEGABYTE, "copies": 0.5}
    config: OnnxMatMul4QuantizerConfig

    def requires(self, model: ModelHandle) -> None:
        if self.config.algorithm == "GPTQ":
            gptq.check_memory(model)

    def forecast(self, before: Weights) -> Weights:
        kinds = [kind for kind, operator in HOLDERS.items() if operator in self.config.op_types_to_quantize]
        of_block = 32 if self.config.is_symmetric is not False else 32 + self.config.bits
        return with_bits(before, self.config.bits + of_block / self.config.block_size, kinds)

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        recipe = self.config.recipe(context.accelerator)
        target = context.folder / f"{context.name}.onnx"
        skeleton = load(model.path, weights=False)
        nbits.check_installed(recipe.algorithm)
        with quiet(), sentences("ONNX Runtime can't quantize this model"):
            targets = self._targets(skeleton, recipe)
            quantize = self._quantizer(model, skeleton, targets, recipe, context)
            self._write(skeleton, targets, quantize, model.path.parent, target, context)
        counts = node_counts(skeleton)
        quantized = {name: counts[name] for name in QUANTIZED_OPERATORS if name in counts}
        report: dict[str, Any] = {"summary": wording.counts(quantized), "quantized": quantized}
        if recipe.algorithm == "GPTQ":
            report["warning"] = gptq.NOTICE
        return PassResult(handle_of(target, like=model), report, tolerance_of(skeleton))

    def _targets(self, model: ModelProto, recipe: Recipe) -> list[Target]:
        """The nodes to quantize.

        :raises PreconditionFailed: there are none, one to exclude does not exist, or a weight can't be packed
        """
        excluded = self.config.nodes_to_exclude or ()
        check_names(model, "nodes_to_exclude", excluded)
        targets = [
            target
            for target in targets_in(model.graph)
            if target.node.op_type in self.config.op_types_to_quantize
            and target.node.name not in excluded
            and nbits.can_quantize(target.node.op_type, target.weight, recipe)
        ]
        if recipe.algorithm == "GPTQ":
            targets = [target for target in targets if target.graph is model.graph]
        if not targets:
            raise PreconditionFailed(
                f"the model has no {' or '.join(self.config.op_types_to_quantize)} whose weight can be quantized",
                hint="OnnxMatMul4Quantizer comes before passes that change the operators that hold weights",
            )
        self._check_ratios({target.weight.name for target in targets})
        nbits.check_blocks({target.node.name: target.weight.dims[0] for target in targets}, recipe)
        return targets

    def _check_ratios(self, weights: set[str]) -> None:
        own = self.config.weight_only_quant_configs
        for name in (own.ratios or {}) if own else ():
            if name not in weights:
                hint = did_you_mean(name, weights)
                raise PreconditionFailed(f"ratios: no weight that is quantized is named {name!r}", hint=hint)

    def _quantizer(
        self, model: ModelHandle, skeleton: ModelProto, targets: list[Target], recipe: Recipe, context: PassContext
    ) -> Callable[[Target, bool], Replacement]:
        """What quantizes one target: GPTQ has looked at all of them by then, the others take them as they come."""
        if recipe.algorithm == "GPTQ":
            context.progress("calibrate", 0, None)
            data = context.data[str(self.config.data_config)]
            outputs = {target.weight.name: target.node.output[0] for target in reversed(targets)}.values()
            with scratch(context.folder) as work:
                return gptq.replacements(gptq.quantize(model.path, outputs, recipe, data, work))

        folder = model.path.parent
        stated = (info for graph in graphs(skeleton) for info in (*graph.output, *graph.value_info, *graph.input))
        infos = {info.name: info for info in stated}

        def quantize(target: Target, known: bool) -> Replacement:
            node = target.node
            shapes = [infos[name] for name in node.input if name in infos]
            return nbits.quantize_node(
                node,
                tuple(target.weight.dims),
                partial(read, target.weight, folder),
                recipe,
                infos=shapes,
                nodes_only=known,
            )

        return quantize

    def _write(
        self,
        model: ModelProto,
        targets: list[Target],
        quantize: Callable[[Target, bool], Replacement],
        source: Path,
        path: Path,
        context: PassContext,
    ) -> None:
        import onnx

        external = bool(self.config.save_as_external_data) or has_external_data(model)
        writer = WeightWriter(path, self.config, external=external)
        added = replace(model, targets, quantize, writer, context.progress)
        take_over(model, added, writer, source, convert_attribute=self.config.convert_attribute)
        nbits.declare(model)
        if not external:
            save(model, path, self.config)
            return
        onnx.save(model, str(path))
        if self.config.save_as_external_data is False and writer.bytes < EXTERNAL_THRESHOLD:
            save(load(path), path)
            for file in writer.files:
                file.unlink()
