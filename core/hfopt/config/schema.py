"""The sections of a run config as they are written; what their names refer to is resolved elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import inf
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from hfopt.api.config import Config, PlainName
from hfopt.api.parity import Parity
from hfopt.base.files import why_no_path


def _checked(fits: Callable[[Any], Any], message: str, validator: Callable[..., Any] = AfterValidator) -> Any:
    """Accepts values that fit; any other is a mistake with this message."""

    def check(value: Any) -> Any:
        if not fits(value):
            raise ValueError(message.format(value=value))
        return value

    return validator(check)


def _possible_path(text: str) -> str:
    if (reason := why_no_path(text)) is not None:
        raise ValueError(reason)
    return text


FolderPath = Annotated[str, AfterValidator(_possible_path)]
OutputName = Annotated[
    PlainName,
    _checked(
        lambda name: not re.fullmatch(r"best(-.*)?|run\.json|hfopt\.log|report\.html", name),
        "{value} is the name of a result of hfopt's own: choose another",
    ),
]
UNRANKED = -1
"""The priority of a figure that has none."""
Rank = Annotated[
    int,
    _checked(lambda rank: rank >= 1 or rank == UNRANKED, "must be 1 (most important) or more; -1 leaves it unranked"),
]
MetricType = Literal["accuracy", "latency", "throughput", "size", "custom"]
LogLevel = Literal[0, 1, 2, 3, 4] | None


class Section(Config):
    """``input_model``, an entry of ``systems``, and what ``passes`` and ``packaging_config`` have in common."""

    type: str = Field(description="A component: components.md lists them by kind.")
    config: dict[str, Any] = Field({}, description="The component's options.")


class DataEntry(Config):
    """One entry of ``data_configs``; what else it holds is its container's `Section`."""

    model_config = ConfigDict(extra="allow")

    name: PlainName = Field(description="What passes and metrics call it.")
    type: str = Field(description="A data container, such as HuggingfaceContainer.")


class Goal(Config):
    """``goal`` of a sub type.

    With b the input model's value, and m = 1 where higher is better and -1 elsewhere, the limits by type are: value;
    b - m*value; b + m*value; b*(1 - m*value/100); b*(1 + m*value/100).
    """

    type: Literal[
        "threshold", "max-degradation", "min-improvement", "percent-max-degradation", "percent-min-improvement"
    ] = Field(description="What value means.")
    value: float = Field(description="In the figure's unit, or in per cent.")

    @property
    def relative(self) -> bool:
        """Whether it needs the input model's value."""
        return self.type != "threshold"

    def limit(self, baseline: float | None, higher_is_better: bool) -> float | None:
        """The value that just meets the goal; None if that needs a baseline and there is none."""
        if not self.relative:
            return self.value
        if baseline is None:
            return None
        change = baseline * self.value / 100 if self.type.startswith("percent") else self.value
        return baseline - change if self._may_fall(higher_is_better) else baseline + change

    def _may_fall(self, higher_is_better: bool) -> bool:
        """Whether the limit of a relative goal is below the baseline."""
        return higher_is_better == self.type.endswith("degradation")

    def missed_by(self, value: float, baseline: float | None, higher_is_better: bool) -> float:
        """How far a value is from the limit, as a part of it; 0: the goal is met; infinite without its baseline."""
        limit = self.limit(baseline, higher_is_better)
        missing = inf if limit is None else limit - value if higher_is_better else value - limit
        return 0.0 if missing <= 0 else missing / (abs(limit or 0) or 1)

    def impossible(self, higher_is_better: bool, unit: str) -> str | None:
        """Why no model could meet it, or every model would."""
        percent = self.type.startswith("percent")
        if unit == "proportion" and not percent and self.value > 1:
            return f"a proportion is at most 1: write {self.value:g} per cent as {self.value / 100:g}"
        if self.relative and self.value < 0:
            return "must not be negative"
        if percent and self.value >= 100 and self._may_fall(higher_is_better):
            return "can't be met: no figure falls by 100 per cent or more"
        return None


class SubType(Config):
    """One figure of a metric."""

    name: str = Field(description="Which figure: accuracy, f1; avg, p50, max...")
    priority: Rank = Field(UNRANKED, description="1 is the most important; -1: after all that have a number.")
    higher_is_better: bool | None = Field(None, description="null: as the metric defines it.")
    metric_config: dict[str, Any] = Field({}, description="Options of this figure.")
    goal: Goal | None = Field(None, description="What it must reach; a run that misses a goal ends with exit code 1.")


class UserConfig(Config):
    """``user_config`` of a metric: what of it is no function (functions are data configs)."""

    io_bind: bool | None = Field(None, description="Accepted: timing binds inputs and outputs either way.")
    inference_settings: dict[str, dict[str, Any]] | None = Field(
        None, description="By framework (onnx): inference_settings of models, which these win over, for these figures."
    )


class Metric(Config):
    """One entry of an evaluator's ``metrics``."""

    name: str = Field(description="Unique in the evaluator; results are called NAME-SUBTYPE.")
    type: MetricType = Field(description="What kind of metric.")
    backend: str | None = Field(
        None,
        description="What computes accuracy metrics; null: huggingface_metrics, or torch_metrics if a figure's name or "
        "task is of that.",
    )
    sub_types: tuple[SubType, ...] = Field((), description="The figures wanted.")
    data_config: str | None = Field(None, description="The data to evaluate or time on: a name, or written out.")
    user_config: UserConfig = Field(UserConfig(), description="How sessions run the models.")
    functions: dict[str, Any] = Field({}, description="Of a custom metric: what else user_config says.")


class Evaluator(Config):
    """One entry of ``evaluators``."""

    metrics: tuple[Metric, ...] = Field(min_length=1, description="What to measure.")


class PassSection(Section):
    """One entry of ``passes``."""

    disable_search: bool | None = Field(
        None, description="Whether a search leaves options that are not written at their defaults."
    )
    host: str | None = Field(None, description="The system that runs it: a name, or written out; null: engine.host.")
    evaluator: str | None = Field(None, description="The evaluator of this pass's model: a name, or written out.")
    parity: bool | Parity | None = Field(
        None,
        description="Compare outputs with the model before, on made-up inputs of several shapes: true, false, or how; "
        "null: only if the pass should not change them.",
    )
    output_name: OutputName | None = Field(None, description="A folder in output_dir for this pass's model.")


class Packaging(Section):
    """One entry of ``engine.packaging_config``."""

    name: PlainName = Field("OutputModels", description="What the package is called.")


class SearchStrategy(Config):
    """``engine.search_strategy``."""

    execution_order: Literal["joint", "pass-by-pass"] = Field(
        "joint", description="Choose for all passes together, or for one after another, each after the best before."
    )
    search_algorithm: str = Field("exhaustive", description="exhaustive, random, or what a plugin offers: tpe.")
    search_algorithm_config: dict[str, Any] = Field({}, description="Its options.")
    output_model_num: int | None = Field(None, ge=1, description="Models to package at most; null: all measured.")
    stop_when_goals_met: bool = Field(False, description="End with the first model that meets every goal.")
    max_iter: int | None = Field(None, ge=1, description="Models to try at most, on each accelerator.")
    max_time: float | None = Field(None, gt=0, description="Seconds after which no other model is begun.")
    drop_early: bool = Field(
        True, description="Give models up that a part of the rows shows to be worse than the best, or to miss a goal."
    )


class Engine(Config):
    """``engine``."""

    host: str | None = Field(None, description="A system, named or written out, for passes; null: this machine.")
    target: str | None = Field(None, description="A system, named or written out, that evaluates and measures.")
    evaluator: str | None = Field(None, description="A name, or written out; null: nothing is measured.")
    evaluate_input_model: bool = Field(True, description="Compute its accuracy; its time and size are taken anyway.")
    search_strategy: SearchStrategy | bool | None = Field(
        None, description="How to look for the best model: options, or true for all defaults; null: no search."
    )
    packaging_config: Packaging | tuple[Packaging, ...] | None = Field(None, description="What to make besides best/.")
    log_severity_level: LogLevel = Field(
        None, description="Workers' messages in hfopt.log: 0 all, 1 info and up, 2 warnings, 3 errors, 4 fatal ones."
    )
    ort_log_severity_level: LogLevel = Field(None, description="The same for ONNX Runtime's sessions; null: 4.")
    ort_py_log_severity_level: LogLevel = Field(None, description="The same for ONNX Runtime's Python tools; null: 3.")
    cache_dir: FolderPath = Field(".hfopt-cache", min_length=1, description="Where finished steps are kept.")
    output_name: PlainName | None = Field(None, description="A folder in output_dir for run.json and best/.")
    output_dir: FolderPath = Field("hfopt-output", description="Where run.json and best/ go.")

    @property
    def search(self) -> SearchStrategy | None:
        """How the best model is looked for, if it is."""
        if isinstance(self.search_strategy, SearchStrategy):
            return self.search_strategy
        return SearchStrategy() if self.search_strategy else None

    @property
    def searched(self) -> bool:
        """Whether there is a search."""
        return self.search is not None


class Flows(Config):
    """``pass_flows``."""

    pass_flows: tuple[tuple[str, ...], ...] = ()


SECTIONS = (
    *("input_model", "systems", "data_root", "data_configs", "evaluators", "engine"),
    *("passes", "pass_flows", "auto_optimizer_config"),
)
