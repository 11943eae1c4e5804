"""Any other metric of Hugging Face's evaluate: its code is run, so that a config must say where from, or allow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationInfo, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from hfopt import Config, InputPath, PluginError, PreconditionFailed, Reference, WholeStatistic
from hfopt.api.config import ConfigContext, find_input, looks_like_hub_name
from hfopt.api.text import did_you_mean
from hfopt_hf_metrics.classification import classes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _place(path: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Where a metric is: here, or a space of the hub if there is nothing of that name here, and its code may run."""
    around, revision = info.context, info.data.get("revision")
    if not isinstance(around, ConfigContext) or not isinstance(path, str):
        return check(path)
    if path.count("/") != 1 or not looks_like_hub_name(path) or find_input(path, replace(around, notices=[])):
        if revision is not None:
            raise ValueError("revision is of a space of the hub, and this is none")
        return check(path)
    if not info.data.get("trust_remote_code"):
        raise ValueError(
            f"no such file or folder: {path}; if a space of the hub is meant, its code would run here: "
            '"trust_remote_code": true allows that'
        )
    return Reference("hf_space", {"name": path, "revision": revision}).token


class LoadParams(Config):
    """``load_params``: of metrics that evaluate computes, which have code of their own."""

    trust_remote_code: bool = Field(
        False,
        description="true: run the space of the hub that path names; without path, the metric of this name that "
        "evaluate.load has left in evaluate's cache.",
    )
    revision: str | None = Field(None, description="Of a space: a branch, tag or commit; null: main.")
    path: Annotated[InputPath, WrapValidator(_place)] | None = Field(
        None,
        description="A Python file that is the metric, or a folder with one of its name; with trust_remote_code, "
        "owner/name of a space on the hub, as evaluate-metric/mape.",
    )
    config_name: str | None = Field(None, description="Which part of the metric, such as mrpc of glue.")

    @model_validator(mode="after")
    def _revision_of_a_space(self) -> LoadParams:
        if self.revision is not None and self.path is None:
            raise ValueError("revision is of a space of the hub, which path names")
        return self

    @property
    def runs_code(self) -> bool:
        """Whether it says which code may run."""
        return self.path is not None or self.trust_remote_code


@dataclass(frozen=True)
class Evaluated(WholeStatistic):
    """A metric that evaluate computes, over all rows at once: it has no interval.

    :param name: of the metric, and of its result unless ``key`` says
    :param key: of the result, dotted where results are nested
    """

    name: str
    load: LoadParams
    compute: Mapping[str, Any]
    key: str | None = None
    resamples = 0

    def value(self, predictions: NDArray[Any], references: NDArray[Any]) -> float:
        if references.dtype.kind in "iu" and predictions.dtype.kind == "f":
            predictions = classes_of(predictions, references)
        rows = {"predictions": _rows(predictions), "references": _rows(references)}
        with TemporaryDirectory() as folder:
            metric = _loaded(_script(self.load.path) or self.name, self.load.config_name, folder)
            try:
                found = metric.compute(**rows, **self.compute)
            except Exception as error:  # a metric is a script that anybody wrote: it raises what it likes
                raise PreconditionFailed(f"{self.name} of evaluate fails: {type(error).__name__}: {error}") from error
        for part in (self.key or self.name).split("."):
            if not isinstance(found, Mapping) or part not in found:
                known = list(map(str, found)) if isinstance(found, Mapping) else []
                hint = did_you_mean(part, known) or "set result_key in metric_config"
                raise PreconditionFailed(f"{self.name} yields {', '.join(known) or found}, and no {part!r}", hint=hint)
            found = found[part]
        try:
            return float(found)
        except (TypeError, ValueError) as error:
            fact = f"{self.key or self.name} of {self.name} is no number, but a {type(found).__name__}"
            raise PreconditionFailed(fact, hint="set result_key in metric_config") from error


def _script(place: str | None) -> str | None:
    """A file or folder that is a metric; what was fetched of a space is in a folder of its name."""
    inside = [*Path(place).iterdir()] if place is not None and Path(place).is_dir() else []
    return str(inside[0]) if len(inside) == 1 and inside[0].is_dir() else place


def _rows(values: NDArray[Any]) -> list[Any]:
    return [each.tolist() if hasattr(each, "tolist") else each for each in values]


def _loaded(place: str, config_name: str | None, folder: str) -> Any:
    """A metric of evaluate; nothing is fetched.

    :param folder: where it writes rows down
    :raises PreconditionFailed: it is not there, or can't be loaded
    """
    try:
        import evaluate
    except ImportError as error:
        raise PluginError("evaluate is not installed", hint="pip install 'hfopt-hf-metrics[evaluate]'") from error
    evaluate.config.HF_EVALUATE_OFFLINE = True
    try:
        return evaluate.load(place, config_name, module_type="metric", cache_dir=folder)
    except FileNotFoundError as error:
        hint = f'"path": "evaluate-metric/{place}" in load_params fetches it from the hub'
        raise PreconditionFailed(f"evaluate's cache has no metric {place!r}", hint=hint) from error
    except Exception as error:  # loading runs the metric's script, which anybody wrote
        first = str(error).strip().partition("\n")[0]
        raise PreconditionFailed(f"evaluate can't load {place}: {type(error).__name__}: {first}") from error
