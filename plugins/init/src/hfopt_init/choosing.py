"""The pass chooser ``auto_optimizer``: conversion, fusion, fewer bits, tuning, of the passes that are installed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from hfopt import Config, PassChooser
from hfopt.api.config import only
from hfopt.api.systems import AcceleratorConfig

Precision = Literal["fp32", "fp16", "int8", "int4"]

FUSION = "fusion"
IN_PARTS = "fusion_in_parts"
"""Leaves the products that make queries, keys and values on their own, as static int8 and int4 need them."""

WAYS: Mapping[Precision, Sequence[tuple[str, ...]]] = {
    "int8": ((FUSION, "int8"), (IN_PARTS, "static_int8")),
    "int4": ((IN_PARTS, "int4"),),
    "fp16": ((FUSION, "fp16"),),
    "fp32": ((FUSION,),),
}
"""What comes between conversion and tuning."""

ON_CPUS: Sequence[Precision] = ("int8", "int4", "fp32")
ON_OTHERS: Sequence[Precision] = ("fp16", "fp32")
"""What is tried unless the config says, the first also where there is no search. CPUs compute float16 in float32."""


class AutoOptimizerConfig(Config):
    """``auto_optimizer_config``, of effect where ``passes`` are none."""

    opt_level: Annotated[int, only(0, because="passes are chosen; a search finds their options")] = Field(
        0, description="0."
    )
    disable_auto_optimizer: Annotated[bool, only(False, because="without passes there is nothing to do")] = Field(
        False, description="false."
    )
    precisions: tuple[Precision, ...] | None = Field(
        None, description="What models may compute in; null: int8, int4 and fp32 on CPUs, else fp16 and fp32."
    )
    excluded_passes: tuple[str, ...] | None = Field(None, description="Passes that are not chosen.")


class AutoOptimizer(PassChooser):
    """One flow of passes; where there is a search, one for each way that the precisions allow."""

    Config: ClassVar[type[Config]] = AutoOptimizerConfig
    config: AutoOptimizerConfig

    def choose(
        self,
        config: Mapping[str, Any],
        models: Collection[str],
        accelerators: Sequence[AcceleratorConfig],
        offered: Collection[str],
    ) -> tuple[Mapping[str, Any], str]:
        excluded = {name.casefold() for name in self.config.excluded_passes or ()}
        known = {
            name: entry
            for name, entry in _passes(_rows(config)).items()
            if entry["type"] in offered and entry["type"].casefold() not in excluded
        }
        usual = ON_CPUS if all(each.device == "cpu" for each in accelerators) else ON_OTHERS
        start = () if "ONNXModel" in models else ("conversion",)
        ways = _ways(self.config.precisions or usual, known)
        flows = [[name for name in (*start, *way, "tuning") if name in known] for way in ways]
        if not (config.get("engine") or {}).get("search_strategy"):
            flows = flows[:1]
        told = " or ".join(" -> ".join(known[name]["type"] for name in flow) for flow in flows)
        named = {name for flow in flows for name in flow}
        sections = {"passes": {name: known[name] for name in known if name in named}, "pass_flows": flows}
        return sections, f"no passes are written; chosen: {told or 'none'}"


def _passes(rows: str | None) -> dict[str, dict[str, Any]]:
    """What may be chosen, by name.

    :param rows: the data config to calibrate with and to time on
    """
    entries: dict[str, tuple[str, dict[str, Any]]] = {
        "conversion": ("OnnxConversion", {}),
        FUSION: ("OrtTransformersOptimization", {}),
        IN_PARTS: ("OrtTransformersOptimization", {"optimization_options": {"use_multi_head_attention": True}}),
        "int8": ("OnnxDynamicQuantization", {}),
        "int4": ("OnnxMatMul4Quantizer", {}),
        "fp16": ("OrtMixedPrecision", {} if rows is None else {"data_config": rows}),
        "tuning": ("OrtPerfTuning", {} if rows is None else {"data_config": rows}),
    }
    if rows is not None:
        entries["static_int8"] = ("OnnxStaticQuantization", {"data_config": rows})
    return {
        name: {"type": kind, "disable_search": True, "config": options} for name, (kind, options) in entries.items()
    }


def _ways(precisions: Sequence[Precision], known: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Those whose last pass is there; fusion may be missing."""
    for precision in dict.fromkeys(precisions):
        yield from (way for way in WAYS[precision] if way[-1] in known or precision == "fp32")


def _rows(config: Mapping[str, Any]) -> str | None:
    """The first data config that nothing is measured on, else the first; None if there is none."""
    names = [str(entry["name"]) for entry in config.get("data_configs") or ()]
    measured = {
        metric.get("data_config")
        for evaluator in (config.get("evaluators") or {}).values()
        for metric in evaluator["metrics"]
    }
    return next((name for name in names if name not in measured), names[0] if names else None)
