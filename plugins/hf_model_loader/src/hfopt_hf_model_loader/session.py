"""A Hugging Face model, open in PyTorch on the CPU or a GPU."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from hfopt import Accelerator, PluginError, PreconditionFailed, Session, TensorSpec
from hfopt_hf_model_loader import adapters, file_formats
from hfopt_hf_model_loader.architecture import model_class, own_code, read
from hfopt_hf_model_loader.arguments import check_packages, from_pretrained_arguments
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_onnx_model.filling import missing, named
from hfopt_onnx_model.generating import following

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Feeds = Mapping[str, NDArray[Any]]


DEVICES = {"cpu": "cpu", "gpu": "cuda"}
"""PyTorch's name of an accelerator's device."""
REPORT_LENGTH = 500
"""Characters of a report that are told."""


def why_unavailable(accelerator: Accelerator) -> str | None:
    """Why PyTorch can't run models on an accelerator's device, in one sentence; None if it can."""
    if accelerator.device not in DEVICES:
        return f"PyTorch models run on {' or '.join(DEVICES)}, not on {accelerator.device}"
    if accelerator.device == "cpu":
        return None
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return f"PyTorch {torch.__version__} is built without CUDA: install a build of torch with it"
    return None if torch.cuda.is_available() else "PyTorch finds no GPU: torch.cuda.is_available() is false"


def device_for(accelerator: Accelerator, settings: Mapping[str, Any]) -> str:
    """PyTorch's name of the device that a model goes to, with PyTorch set up for it.

    :param settings: ``threads`` for PyTorch
    :raises PluginError: PyTorch can't run models on the device
    """
    import torch

    if reason := why_unavailable(accelerator):
        raise PluginError(reason)
    if settings.get("threads"):
        torch.set_num_threads(settings["threads"])
    return DEVICES[accelerator.device]


def load(
    folder: Path,
    config: PyTorchModelConfig,
    device: str,
    attention: str | None = None,
    tensors: dict[str, torch.Tensor] | None = None,
) -> torch.nn.Module:
    """Load a model as transformers does, or from a file that holds it whole.

    :param attention: ``attn_implementation`` instead of the config's
    :param tensors: the checkpoint, instead of what is in the files
    :raises PreconditionFailed: transformers can't load it, or the checkpoint lacks weights that the model needs
    """
    if config.file is not None and config.whole_file:
        return file_formats.open_whole(config.file, str(config.model_file_format), device).eval()
    written, adapter = config.hugging_face.arguments, config.adapter
    check_packages(written)
    own = read(folder, trusted=bool(written.trust_remote_code))
    chosen = model_class(config.hugging_face, own, folder)
    arguments = from_pretrained_arguments(written, attention, device)
    place: Path | None = folder
    if config.file is not None:
        tensors = file_formats.tensors(config.file)
    if tensors is not None:
        place, arguments = None, {**arguments, "config": own, "state_dict": tensors}
    with _quiet() as reported:
        try:
            with own_code(f"transformers can't load {config.file or folder}"):
                model, loading = chosen.from_pretrained(place, **arguments)
        except PreconditionFailed as error:
            if "report" not in error.message or reported.empty():
                raise
            raise PreconditionFailed(f"{error.message}: {_essence(reported)}") from error
    lacking = sorted({*loading["missing_keys"]} - (set() if adapter is None else adapters.whole(adapter)))
    if lacking:
        raise PreconditionFailed(f"the checkpoint lacks {len(lacking)} weights of the model, such as {lacking[0]}")
    model.config.return_dict = True  # outputs have names, whatever config.json says
    loaded: torch.nn.Module = model if adapter is None else adapters.merge(model, adapter)
    return loaded.eval()


@contextmanager
def _quiet() -> Iterator[SimpleQueue[Any]]:
    """Without transformers' progress bars, and with its warnings kept: a message may refer to one."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    kept: SimpleQueue[Any] = SimpleQueue()
    handler = QueueHandler(kept)
    logging.set_verbosity_warning()
    logging.disable_default_handler()
    logging.add_handler(handler)
    logging.disable_progress_bar()
    try:
        yield kept
    finally:
        logging.get_logger().removeHandler(handler)  # 4.57 refuses to remove one that is there
        logging.enable_default_handler()
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _essence(reported: SimpleQueue[Any]) -> str:
    """The rows of the last table that was reported, without its colours and lines, as one line."""
    text = ""
    while not reported.empty():
        text = reported.get().getMessage()
    rows = re.sub(r"\x1b\[[\d;]*m|\bNotes:.*", "", text, flags=re.DOTALL).splitlines()[1:]
    lines = [line for line in rows if re.search(r"\w", line) and not re.match(r"\s*Key\b", line)]
    return " ".join(" ".join(lines).replace("|", " ").split())[:REPORT_LENGTH]


class TorchSession(Session):
    """Runs feeds as tensors, without gradients; what the model takes and the data lack is filled in.

    :param device: ``cpu`` or ``cuda``; the model moves there, unless transformers has placed it already
    :param example: feeds that the user says it takes
    """

    outputs: Sequence[TensorSpec] = ()

    def __init__(
        self, model: torch.nn.Module, inputs: Sequence[TensorSpec], device: str = "cpu", example: Feeds | None = None
    ) -> None:
        self.example = example
        elsewhere = any(each.is_meta for each in model.parameters())
        placed = elsewhere or getattr(model, "hf_device_map", None) or getattr(model, "is_quantized", False)
        self._model = model if placed else model.to(device)
        self._device = device
        self.inputs = inputs

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        import torch

        found = self._call(self._tensors(feeds))
        return {name: _array(value) for name, value in found.items() if isinstance(value, torch.Tensor)}

    def bind(self, feeds: Feeds) -> Callable[[], None]:
        tensors = self._tensors(feeds)
        self._finish()

        def call() -> None:
            self._call(tensors)

        return call

    def bind_next(self, feeds: Feeds) -> Callable[[], None]:
        return self.bind(following(feeds, self.run(feeds)))

    @property
    def live(self) -> Any:
        return self._model

    def close(self) -> None:
        del self._model
        gc.collect()  # a module is part of cycles: its weights would stay in memory until Python happens to look

    def _call(self, tensors: Mapping[str, torch.Tensor]) -> Any:
        """What the model returns, when the device has finished.

        :raises PreconditionFailed: it fails: more tokens than positions, a head that does not fit its config
        """
        import torch

        with own_code("PyTorch can't run the model"), torch.inference_mode():
            found = self._model(**tensors)
            self._finish()
        return found

    def _finish(self) -> None:
        import torch

        if self._device == "cuda":
            torch.cuda.synchronize()

    def _tensors(self, feeds: Feeds) -> dict[str, torch.Tensor]:
        import torch

        feeds = named(feeds, self.inputs)
        arrays = {spec.name: feeds[spec.name] if spec.name in feeds else missing(spec, feeds) for spec in self.inputs}
        dtypes = {spec.name: getattr(torch, spec.dtype) for spec in self.inputs}
        return {name: torch.tensor(array, dtype=dtypes[name], device=self._device) for name, array in arrays.items()}


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    """NumPy has no bfloat16: it becomes float32."""
    import torch

    array: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
    return array
