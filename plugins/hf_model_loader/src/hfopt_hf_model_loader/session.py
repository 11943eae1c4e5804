"""A Hugging Face model, open in PyTorch on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hfopt import ModelHandle, PreconditionFailed, Session, TensorSpec
from hfopt_hf_model_loader.config import HfConfig
from hfopt_hf_model_loader.inputs import model_class

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Feeds = Mapping[str, NDArray[Any]]


def load(handle: ModelHandle, config: HfConfig, settings: Mapping[str, Any]) -> Session:
    """Load a model's weights.

    :param settings: ``threads`` for PyTorch; ``attn_implementation`` instead of the config's
    :raises PreconditionFailed: the checkpoint lacks weights that the model needs
    """
    import torch
    from transformers import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if settings.get("threads"):
        torch.set_num_threads(settings["threads"])
    written = config.from_pretrained_args
    arguments = dict(written.extra_args)
    attention = settings.get("attn_implementation") or written.attn_implementation
    if attention is not None:
        arguments["attn_implementation"] = attention
    model, loading = model_class(config, handle.path).from_pretrained(
        handle.path, local_files_only=True, output_loading_info=True, dtype=torch.float32, **arguments
    )
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise PreconditionFailed(f"the checkpoint lacks {len(missing)} weights of the model, such as {missing[0]}")
    return TorchSession(model.eval(), handle.inputs)


class TorchSession(Session):
    """Runs feeds as tensors, without gradients."""

    outputs: Sequence[TensorSpec] = ()

    def __init__(self, model: torch.nn.Module, inputs: Sequence[TensorSpec]) -> None:
        self._model = model
        self.inputs = inputs

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        import torch

        with torch.inference_mode():
            found = self._model(**self._tensors(feeds))
        tensors = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
        return {name: _array(tensor) for name, tensor in tensors.items()}

    def bind(self, feeds: Feeds) -> Callable[[], None]:
        import torch

        tensors, model = self._tensors(feeds), self._model

        def call() -> None:
            with torch.inference_mode():
                model(**tensors)

        return call

    @property
    def live(self) -> Any:
        return self._model

    def close(self) -> None:
        del self._model

    def _tensors(self, feeds: Feeds) -> dict[str, torch.Tensor]:
        """What the model takes of the feeds; it fills in masks and segments itself."""
        import torch

        names = [spec.name for spec in self.inputs if spec.name in feeds]
        return {name: torch.from_numpy(feeds[name]) for name in names}


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    import torch

    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
