"""What runs optimum-onnx: in workers of its environment only."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import ModelHandle, PluginError, PreconditionFailed
from hfopt_onnx_model.filling import PAST
from hfopt_optimum_passes.options import OptimumConversionConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WITH_PAST = "-with-past"
"""What optimum's name of a task ends in where the model keeps keys and values."""
_OWN = {"task", "monolith", "do_validation", "atol", "legacy", "optimize"}
"""Of extra_args: what does not go to optimum as it is."""


def export(module: Any, model: ModelHandle, config: OptimumConversionConfig, folder: Path) -> dict[str, Path]:
    """The files that optimum writes of an open model, by their names without ``.onnx``.

    :param module: what the model's loader has opened; its weights are cast if the config says so
    :param folder: for the files
    :raises PreconditionFailed: optimum can't export it, with its reason
    """
    with _quiet():
        try:
            from optimum.exporters.onnx import onnx_export_from_model
            from optimum.exporters.tasks import TasksManager
            from optimum.utils.save_utils import maybe_load_preprocessors
        except ImportError as error:
            raise PluginError(
                f"optimum-onnx can't be imported here: {error}",
                hint="leave out host and --in-process, then hfopt makes an environment for this pass; or install "
                "'hfopt-optimum-passes[environment]' into the one that host names",
            ) from error
        arguments, transformer = config.arguments, _transformer(module)
        try:
            task = arguments.task or _task_of(TasksManager.infer_task_from_model(transformer), model)
            past = task.endswith(WITH_PAST)
            whole = transformer.config.is_encoder_decoder and not past
            transformer.config.use_cache = past
            transformer.config._name_or_path = str(model.path)  # optimum looks there for a tokenizer
            onnx_export_from_model(
                transformer.half() if config.fp16 else transformer,
                folder,
                opset=config.target_opset,
                task=task,
                monolith=whole if arguments.monolith is None else arguments.monolith,
                preprocessors=maybe_load_preprocessors(str(model.path)),
                do_validation=False,
                **arguments.model_dump(exclude=_OWN, exclude_none=True),
            )
        except Exception as error:  # optimum and the model's code raise whatever they meet
            lines = str(error).strip().splitlines() or ["?"]
            raise PreconditionFailed(
                f"optimum can't export the model: {type(error).__name__}: {lines[0]}", hint="try OnnxConversion"
            ) from error
    return {file.stem: file for file in sorted(folder.glob("*.onnx"))}


def _task_of(task: str, model: ModelHandle) -> str:
    """The task by the name that it has if the model keeps keys and values, where it does."""
    taken = [spec.name for part in (model, *model.components.values()) for spec in part.inputs]
    return f"{task}{WITH_PAST}" if any(name.startswith(f"{PAST}.") for name in taken) else task


def _transformer(module: Any) -> PreTrainedModel:
    """The model of transformers in what a loader has opened, which may give it other inputs and outputs.

    :raises PreconditionFailed: there is none
    """
    from transformers import PreTrainedModel

    found = next((each for each in module.modules() if isinstance(each, PreTrainedModel)), None)
    if found is None:
        raise PreconditionFailed(
            f"optimum exports models of transformers, and this is a {type(module).__name__}", hint="take OnnxConversion"
        )
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, prints or log lines of optimum and PyTorch."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
