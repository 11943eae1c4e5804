"""Options of ``HuggingfaceContainer``, as an Olive config writes them: flat, or by component under component_kwargs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationInfo, model_validator

from hfopt import Config, Reference
from hfopt.api.config import ConfigContext, OptionError, UnknownName
from hfopt.api.references import MARK
from hfopt_data_containers.container import DATALOADER, LOAD, PRE
from hfopt_hf_data.generation import TEXT_GENERATION, WRITTEN, completed
from hfopt_hf_data.loading import FILE_OPTIONS, FOLDERS, FORMATS, FileOptions, LoadDataset, splits_of
from hfopt_hf_data.preprocessing import Dataloader, PostProcess, PreProcess
from hfopt_hf_data.scripted import Scripted
from hfopt_hf_data.tasks import TASKS, TEXT_CLASSIFICATION, not_of

_BATCHES = "rows come in batches; batch_size 1 makes batches of one row"

COMPONENTS: Mapping[str, Mapping[str, str | None]] = {
    "load_dataset": {
        "huggingface_dataset": None,
        "dummy_dataset": "belongs to DummyDataContainer",
        "raw_dataset": "belongs to RawDataContainer",
        "local_dataset": "loads nothing; write huggingface_dataset, which reads local files too",
        "simple_dataset": "loads nothing; write huggingface_dataset, which reads local files too",
    },
    "pre_process_data": {
        "huggingface_pre_process": None,
        "pre_process": "does nothing, and models need tokens; write huggingface_pre_process",
        "ner_huggingface_preprocess": None,
        "audio_classification_pre_process": None,
        "text_generation_huggingface_pre_process": None,
    },
    "post_process_data": {
        "text_classification_post_process": None,
        "post_process": "does nothing, and labels are compared with classes; write text_classification_post_process",
        "ner_post_process": None,
        "text_generation_post_process": None,
    },
    "dataloader": {
        "default_dataloader": None,
        "skip_dataloader": _BATCHES,
        "no_auto_batch_dataloader": _BATCHES,
        "default_calibration_dataloader": "not needed: passes calibrate with any data; write default_dataloader",
    },
}
"""The types that Olive has, and why they can't be had here: `hfopt_data_containers.spellings.normalize`."""


class ComponentKwargs(Config):
    """``component_kwargs``: options by component; they win over the same ones written flat."""

    load_dataset: LoadDataset | None = Field(None, description="How to load.")
    pre_process_data: PreProcess | None = Field(None, description="How to tokenise.")
    post_process_data: PostProcess | None = Field(None, description="How to turn outputs into predictions.")
    dataloader: Dataloader | None = Field(None, description="How to batch.")


_PRE_PROCESS = ("component_kwargs", "pre_process_data")
_READS_TEXT_COLS = f"is not of {TEXT_GENERATION}, whose texts are in text_cols and whose labels are their own tokens"
FLATTENED = ("load_dataset", "pre_process_data", "dataloader")
"""The components whose options are the container's too."""


class HuggingfaceContainerConfig(LoadDataset, PreProcess, Dataloader, Scripted):
    """``params_config`` of ``HuggingfaceContainer``. Once validated everything is flat."""

    component_kwargs: ComponentKwargs | None = Field(None, description="The same options by component.")

    @model_validator(mode="after")
    def _flatten(self, info: ValidationInfo) -> HuggingfaceContainerConfig:
        nested = self.component_kwargs or ComponentKwargs()
        written = {
            name: getattr(component, name)
            for component in (getattr(nested, name) for name in FLATTENED)
            for name in (component.model_fields_set if component else ())
            if getattr(component, name) is not None
        }
        flat = self.model_copy(update={**written, "component_kwargs": None})
        try:
            flat = flat if PRE in flat.functions else flat._of_task()
        except OptionError as error:
            inside = nested.pre_process_data
            by_component = inside is not None and error.place[0] not in self.model_fields_set
            raise OptionError((*_PRE_PROCESS, *error.place), error.error) if by_component else error from None
        flat._complete()
        flat._check_batches()
        return flat._referring() if isinstance(info.context, ConfigContext) else flat

    def _of_task(self) -> HuggingfaceContainerConfig:
        """With what the task's own options mean; without a task, that of the options."""
        written = self._asked_for()
        task = self.task
        if task is None:
            texts = [name for name in written if name in WRITTEN and not_of(TEXT_CLASSIFICATION, name)]
            task = TEXT_GENERATION if texts else TEXT_CLASSIFICATION
        for option in written:
            if reason := not_of(task, option):
                own = task == TEXT_GENERATION and option in TASKS[TEXT_CLASSIFICATION].options
                raise OptionError(option, _READS_TEXT_COLS if own else reason)
        if task != TEXT_GENERATION:
            return self
        return self.model_copy(update={**completed(self), "task": TEXT_GENERATION})

    def _asked_for(self) -> list[str]:
        """Options of preparation with a value that is not what they mean unwritten."""
        of_functions = ("user_script", "script_dir") if self.functions else ()
        return [
            name
            for name, field in PreProcess.model_fields.items()
            for value in [getattr(self, name)]
            if name not in of_functions
            and value not in (None, field.default)
            and not (value is False and field.default is None)
        ]

    def _complete(self) -> None:
        """What is required, wherever it is written."""
        if LOAD in self.functions:
            return
        if self.data_name is None:
            raise ValueError("data_name is required")
        if self.data_name in FORMATS:
            of_folder = self.data_name in FOLDERS and self.data_dir is not None
            if self.data_files is None and not of_folder:
                or_folder = " or data_dir" if self.data_name in FOLDERS else ""
                raise ValueError(f"data_files{or_folder} is required, as {self.data_name} is a format")
            if self.data_files is not None and of_folder:
                raise OptionError("data_dir", "data_files says where the files are: keep one of the two")
            if self.subset is not None:
                raise ValueError(f"subset is of a dataset, and {self.data_name} is a format")
        elif self.data_files is not None:
            raise UnknownName("format of data_files", self.data_name, list(FORMATS))
        elif self.data_dir is not None:
            raise OptionError("data_dir", f"is of a format, and {self.data_name} is a dataset")
        self._check_loading()

    def _check_batches(self) -> None:
        """That rows which share a batch are of one length."""
        own = PRE not in self.functions and DATALOADER not in self.functions
        if own and self.padding in (False, "do_not_pad") and (self.batch_size or 1) > 1:
            raise ValueError(
                "padding is off, so batch_size can't be more than 1: rows that share a batch must have the same length"
            )

    def _check_loading(self) -> None:
        """That how rows are read goes with where they are."""
        for option in self.written(*FileOptions.model_fields):
            if option not in FILE_OPTIONS.get(self.data_name or "", ()):
                able = " and ".join(name for name, options in FILE_OPTIONS.items() if option in options)
                raise OptionError(option, f"is of {able}, and data_name is {self.data_name}")
        if not self.streaming:
            return
        if self.max_samples is None:
            raise OptionError("max_samples", "is required: streaming is true")
        if self.split is not None and {*self.split} & {*"[+"}:
            raise OptionError("split", "streaming reads one split from its first row on: name it alone")
        if self.data_name in FOLDERS:
            raise OptionError("streaming", f"is of rows in files, and {self.data_name} has a file for each")

    def _referring(self) -> HuggingfaceContainerConfig:
        """With a reference where data_name is a name on the hub."""
        name = self.data_name or ""
        if LOAD in self.functions:
            return self
        if name in FORMATS or name.startswith(MARK) or Path(name).is_absolute():
            if self.revision is not None:
                raise ValueError("revision is of a dataset on the hub, and the data are local")
            return self
        split = "+".join(splits_of(self.split)) if self.split is not None else None
        rows = {"rows": self.max_samples} if self.streaming else {}
        options = {"name": name, "subset": self.subset, "split": split, "revision": self.revision, **rows}
        return self.model_copy(update={"data_name": Reference("hf_dataset", options).token})


def with_defaults(params: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """``params_config`` with the input model's name and task where they are not written.

    What a component states itself is left out of the flat options: it counts for nothing, nor does a path in it.
    """
    known = {name: defaults[name] for name in ("model_name", "task") if defaults.get(name) is not None}
    written = {name: value for name, value in params.items() if value is not None or name not in known}
    nested = params.get("component_kwargs")
    components = [nested.get(name) for name in FLATTENED] if isinstance(nested, dict) else []
    options = [option for each in components if isinstance(each, dict) for option in each.items()]
    stated = {name for name, value in options if value is not None}
    return {name: value for name, value in {**known, **written}.items() if name not in stated}
