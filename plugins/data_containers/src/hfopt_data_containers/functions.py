"""DataloaderFunc and EvaluateFunc: what ``user_config`` of a metric, and passes, say of functions, as data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from hfopt import Batch, Config, DataContainer, DataContext, Dataset, InputPath, PreconditionFailed, Session
from hfopt.api.arrays import Array
from hfopt.api.config import OptionError
from hfopt.api.data import DataSection, ReadData
from hfopt.api.scripts import FRAMEWORKS
from hfopt_data_containers.batches import Stored, write
from hfopt_data_containers.loading import kind_of, made_by
from hfopt_data_containers.processed import Processed
from hfopt_data_containers.script import Function, LoadedModel, ScriptOptions, accepted

Options = dict[str, Any]


class Functions(ScriptOptions):
    """What ``user_config`` of a metric says of functions; passes have some of these options."""

    data_dir: InputPath | None = Field(None, description="A file or folder that dataloader_func or evaluate_func gets.")
    batch_size: int = Field(1, ge=1, description="What these two are told: rows in a batch.")
    dataloader_func: Function | None = Field(
        None,
        description="A function of data_dir and batch_size that returns an iterable of (inputs, labels), or an "
        "onnxruntime CalibrationDataReader.",
    )
    post_processing_func: Function | None = Field(
        None, description="A function that makes predictions of a model's output, for one batch; null: its logits."
    )
    evaluate_func: Function | None = Field(
        None,
        description="Of a custom metric: a function of a model, data_dir, batch_size, device and execution_providers "
        "that returns a number, or a dict of numbers by sub type.",
    )
    metric_func: Function | None = Field(
        None,
        description="Of a custom metric: a function of (predictions, logits) and targets that returns the same. "
        "Predictions are what post_processing_func makes of logits, else the class of the largest. evaluate_func wins.",
    )
    dataloader_func_kwargs: Options | None = Field(None, description="More arguments of dataloader_func.")
    evaluate_func_kwargs: Options | None = Field(None, description="More arguments of evaluate_func.")
    metric_func_kwargs: Options | None = Field(None, description="More arguments of metric_func.")
    func_kwargs: dict[str, Options] = Field(
        {}, description="The same, and those of post_processing_func, by the option that names the function."
    )

    @model_validator(mode="after")
    def _in_a_script(self) -> Functions:
        named = ("dataloader_func", "post_processing_func", "evaluate_func", "metric_func")
        for option in named if self.user_script is None else ():
            if getattr(self, option) is not None:
                raise OptionError(option, f"{getattr(self, option)} is a function, and there is no user_script")
        return self

    def call(self, option: str, *arguments: Any, **offered: Any) -> Any:
        """Call the function that an option names.

        :param offered: what it is told besides, if it takes that
        """
        function = self.script.function(getattr(self, option))
        own = {**self.func_kwargs.get(option, {}), **(getattr(self, f"{option}_kwargs", None) or {})}
        return function(*arguments, **{**accepted(function, offered), **own})

    def named(self, option: str) -> str:
        """The function that an option names, for messages."""
        return f"{self.user_script}: {getattr(self, option)}"


class FunctionSection(DataSection):
    """An entry whose options stand beside its name and type, as those of ``user_config`` do."""

    model_config = {"extra": "allow"}


class _OfFunctions(DataContainer):
    """Its rows, or what a model says of them, are a function's."""

    Config: ClassVar[type[Config]] = Functions
    Section: ClassVar[type[DataSection]] = FunctionSection
    config: Functions
    predicts_with_paths = True

    @classmethod
    def read(cls, section: FunctionSection, defaults: Mapping[str, Any]) -> ReadData:
        options = {**section.params_config, **(section.model_extra or {})}
        return ReadData(options, {("params_config", name): (name,) for name in section.model_extra or {}}, ())


class DataloaderFunc(_OfFunctions):
    """The batches that a function of yours yields."""

    def prepare(self, context: DataContext) -> None:
        config = self.config
        loader = config.call("dataloader_func", config.data_dir, config.batch_size, model_framework=FRAMEWORKS.ONNX)
        batches = made_by(loader, config.named("dataloader_func"), config.script)
        write(batches, context.folder, context.progress)

    def open(self, folder: Path) -> Dataset:
        config, process = self.config, None
        if config.post_processing_func is not None and config.metric_func is None:  # which makes predictions itself
            process = partial(config.call, "post_processing_func")
        return Processed(Stored(folder), process, config.named("post_processing_func"))


class EvaluateFunc(_OfFunctions):
    """A function of yours that judges models: its one row is what the function says."""

    def prepare(self, context: DataContext) -> None:
        self.config.script.function(str(self.config.evaluate_func))  # a mistake is told before models are made
        context.progress("rows", 1, 1)

    def open(self, folder: Path) -> Dataset:
        return _Judged(self.config)


class _Judged(Dataset):
    """One row without inputs."""

    def __init__(self, config: Functions) -> None:
        self._config = config

    def __len__(self) -> int:
        return 1

    def batches(self, rows: Sequence[int] | None = None, *, size: int | None = None) -> Iterator[Batch]:
        import numpy as np

        yield Batch(np.zeros(1, dtype=np.int64), {}, np.zeros(1))

    def predict(self, session: Session, batch: Batch) -> list[Any]:
        """What the function returned, as JSON: one text."""
        config = self._config
        live = session.live if session.unwrapped is None else session.unwrapped
        device, providers = _device_of(live)
        framework = FRAMEWORKS.ONNX if providers else FRAMEWORKS.PYTORCH
        names = {"input_names": [each.name for each in session.inputs]}
        model = LoadedModel(live, framework, names | {"output_names": [each.name for each in session.outputs]})
        found = config.call("evaluate_func", model, config.data_dir, config.batch_size, device, providers)
        return [figures(found, config.named("evaluate_func"))]

    def post_process(self, outputs: Mapping[str, Array]) -> Array:
        raise NotImplementedError("the function runs the model itself")  # by `predict`, which calls nothing else


def _device_of(live: Any) -> tuple[str, list[str]]:
    """``cpu`` or ``gpu``, and ONNX Runtime's execution providers; none of a module."""
    if hasattr(live, "get_providers"):
        providers = live.get_providers()
        return "cpu" if providers[0] == "CPUExecutionProvider" else "gpu", providers
    first = next(live.parameters(), None)
    return "gpu" if first is not None and first.device.type == "cuda" else "cpu", []


def figures(found: Any, what: str) -> str:
    """What a function that judges models returned, as JSON: a number, or numbers by name.

    :param what: the function, for messages
    :raises PreconditionFailed: it is neither
    """
    try:
        if isinstance(found, Mapping):
            return json.dumps({str(key): _number(each) for key, each in found.items()})
        return json.dumps(_number(found))
    except (TypeError, ValueError) as error:
        fact = f"{what} must return a number, or a dict of numbers, and returned {kind_of(found)}"
        raise PreconditionFailed(fact) from error


def _number(value: Any) -> float:
    """Of a number, or an array or tensor of one."""
    if isinstance(value, str | bool):
        raise TypeError
    return float(value.item() if hasattr(value, "item") else value)
