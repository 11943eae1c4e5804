"""The sections of a run config as they are written; what their names refer to is resolved elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from hfopt.api.config import Config, only
from hfopt.api.parity import Parity
from hfopt.config.olive.dialect import NO_SCRIPTS, NO_SEARCH

_NEWER = "As components.{}, in the way of Olive from 0.6.2 on; the keys of params may stand beside type."


def _checked(fits: Callable[[Any], Any], message: str) -> AfterValidator:
    """Accepts values that fit; any other is a mistake with this message."""

    def check(value: Any) -> Any:
        if not fits(value):
            raise ValueError(message.format(value=value))
        return value

    return AfterValidator(check)


PlainName = Annotated[
    str,
    _checked(
        re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*").fullmatch,
        "must be a plain name: letters, digits, '_', '-' and '.', the first neither '-' nor '.'",
    ),
]
_not_an_output = _checked(
    lambda name: not re.fullmatch(r"best(-.*)?|run\.json|hfopt\.log|report\.html", name),
    "{value} is the name of a result of hfopt's own: choose another",
)


class Section(Config):
    """``input_model``, an entry of ``systems``, and what ``passes`` and ``packaging_config`` have in common."""

    type: str = Field(description="A component: components.md lists them by kind.")
    config: dict[str, Any] = Field({}, description="The component's options.")


class ComponentSection(Config):
    """What ``components`` says of one of a container's components."""

    type: str | None = Field(None, description="One that components.md lists; null: what the container does.")
    params: dict[str, Any] | None = Field(None, description="This component's options.")


class OpenComponentSection(ComponentSection):
    """``load_dataset_config`` and its like: options may stand beside ``params``."""

    model_config = ConfigDict(extra="allow")


class Components(Config):
    """``components``."""

    load_dataset: ComponentSection | None = Field(None, description="How rows are loaded.")
    pre_process_data: ComponentSection | None = Field(None, description="How rows become model inputs.")
    post_process_data: ComponentSection | None = Field(None, description="How outputs become predictions.")
    dataloader: ComponentSection | None = Field(None, description="How rows are batched.")


class DataSection(Config):
    """One entry of ``data_configs``; its options in any of the ways that `hfopt.config.olive.data` understands."""

    name: Annotated[
        str, _checked(re.compile(r"[A-Za-z0-9_]+").fullmatch, "must be made of letters, digits and '_'")
    ] = Field(description="What passes and metrics call it.")
    type: str = Field(description="A data container, such as HuggingfaceContainer.")
    params_config: dict[str, Any] = Field({}, description="The container's options.")
    components: Components | None = Field(None, description="The same by component; params_config wins.")
    load_dataset_config: OpenComponentSection | None = Field(None, description=_NEWER.format("load_dataset"))
    pre_process_data_config: OpenComponentSection | None = Field(None, description=_NEWER.format("pre_process_data"))
    post_process_data_config: OpenComponentSection | None = Field(None, description=_NEWER.format("post_process_data"))
    dataloader_config: OpenComponentSection | None = Field(None, description=_NEWER.format("dataloader"))


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
        sign = 1 if higher_is_better else -1
        sign = -sign if self.type.endswith("degradation") else sign
        change = baseline * self.value / 100 if self.type.startswith("percent") else self.value
        return baseline + sign * change

    def met(self, value: float, baseline: float | None, higher_is_better: bool) -> bool:
        """Whether a value is good enough; a goal without its baseline is not met."""
        limit = self.limit(baseline, higher_is_better)
        if limit is None:
            return False
        return value >= limit if higher_is_better else value <= limit

    def impossible(self, higher_is_better: bool, unit: str) -> str | None:
        """Why no model could meet it, or every model would."""
        absolute = not self.type.startswith("percent")
        if absolute and unit == "proportion" and self.value > 1:
            return f"a proportion is at most 1: write {self.value:g} per cent as {self.value / 100:g}"
        shrinks = higher_is_better == self.type.endswith("degradation")
        if self.relative and self.value < 0:
            return "must not be negative"
        if self.type.startswith("percent") and shrinks and self.value >= 100:
            return "can't be met: no figure falls by 100 per cent or more"
        return None


UNRANKED = -1
"""The priority of a figure that has none."""
_is_a_rank = _checked(
    lambda rank: rank >= 1 or rank == UNRANKED, "must be 1 (most important) or more; -1 leaves it unranked"
)


class SubType(Config):
    """One figure of a metric."""

    name: str = Field(description="Which figure: accuracy, f1; avg, p50, max...")
    priority: Annotated[int, _is_a_rank] = Field(
        UNRANKED, description="1 is the most important; -1: after all that have a number, in the order written."
    )
    higher_is_better: bool | None = Field(None, description="null: as the metric defines it.")
    metric_config: dict[str, Any] = Field({}, description="Options of this figure.")
    goal: Goal | None = Field(None, description="What it must reach; a run that misses a goal ends with exit code 1.")


def _no_script(kind: Any) -> Any:
    if kind == "custom":
        raise ValueError(f"'custom' is not available in this version: {NO_SCRIPTS}")
    return kind


class Metric(Config):
    """One entry of an evaluator's ``metrics``."""

    name: str = Field(description="Unique in the evaluator; results are called NAME-SUBTYPE.")
    type: Annotated[Literal["accuracy", "latency", "throughput", "size"], BeforeValidator(_no_script)] = Field(
        description="What kind of metric."
    )
    backend: str = Field("huggingface_metrics", description="What computes accuracy metrics.")
    sub_types: tuple[SubType, ...] = Field((), description="The figures wanted.")
    data_config: str | None = Field(None, description="The data to evaluate or time on.")


class Evaluator(Config):
    """One entry of ``evaluators``."""

    metrics: tuple[Metric, ...] = Field(min_length=1, description="What to measure.")


class PassSection(Section):
    """One entry of ``passes``."""

    disable_search: Annotated[bool | None, only(None, True, because=NO_SEARCH)] = Field(
        True, description="Only fixed options: there is no search without a search_strategy."
    )
    host: str | None = Field(None, description="The system that runs it; null: engine.host.")
    evaluator: str | dict[str, Any] | None = Field(
        None, description="An entry of evaluators, or one written out, to measure this pass's model by."
    )
    parity: bool | Parity | None = Field(
        None,
        description="Compare the outputs of this pass's model with those of the model before it, on made-up inputs of "
        "several shapes: true, false, or how; null: only if the pass should not change them.",
    )
    output_name: Annotated[PlainName, _not_an_output] | None = Field(
        None, description="A folder in output_dir for this pass's model."
    )


LogLevel = Literal[0, 1, 2, 3, 4]


class Packaging(Section):
    """One entry of ``engine.packaging_config``."""

    name: PlainName = Field("OutputModels", description="What the package is called.")


class Engine(Config):
    """``engine``."""

    host: str | None = Field(None, description="The system that runs passes; null: this machine.")
    target: str | None = Field(None, description="The system that evaluates and measures; null: this machine.")
    evaluator: str | dict[str, Any] | None = Field(
        None, description="An entry of evaluators, or one written out; null: nothing is measured."
    )
    evaluate_input_model: bool = Field(
        True, description="Evaluate the input model too. Latency and size are compared with its own in any case."
    )
    packaging_config: Packaging | tuple[Packaging, ...] | None = Field(
        None, description="What to make besides best/: one package, or a list of them."
    )
    log_severity_level: LogLevel | None = Field(
        None,
        description="Which of the workers' messages go to hfopt.log: 0 all, 1 info, 2 warnings, 3 errors, 4 fatal.",
    )
    ort_log_severity_level: LogLevel | None = Field(None, description="The same for ONNX Runtime's sessions; null: 4.")
    ort_py_log_severity_level: LogLevel | None = Field(
        None, description="The same for ONNX Runtime's tools in Python; null: 3."
    )
    cache_dir: str = Field(
        ".hfopt-cache", min_length=1, description="Where finished steps are kept, relative to the current folder."
    )
    output_name: PlainName | None = Field(None, description="A folder in output_dir for run.json and best/.")
    output_dir: str = Field("hfopt-output", description="Where run.json and best/ go, relative to the current folder.")


SECTIONS = ("input_model", "systems", "data_root", "data_configs", "evaluators", "engine", "passes")
