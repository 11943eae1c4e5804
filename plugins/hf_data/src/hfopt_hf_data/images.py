"""Images with a class each, as the model's image processor makes pixels of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PluginError, PreconditionFailed
from hfopt_hf_data.classes import Labels
from hfopt_hf_data.config import HuggingfaceContainerConfig
from hfopt_hf_data.media import ROWS, Media, media_of
from hfopt_hf_data.preparing import Columns, Given, Prepared

if TYPE_CHECKING:
    from PIL.Image import Image

PIXELS = "pixel_values"


class Processor:
    """The image processor in a model's folder.

    :raises PreconditionFailed: there is none that transformers can read
    :raises PluginError: Pillow is not installed
    """

    def __init__(self, config: HuggingfaceContainerConfig, folder: Path, attributes: Mapping[str, Any]) -> None:
        try:
            import PIL  # noqa: F401
        except ImportError as error:
            raise PluginError("Pillow is not installed", hint="pip install 'hfopt-hf-data[image]'") from error
        from transformers import AutoImageProcessor

        try:
            self.process = AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (ImportError, LookupError, OSError, TypeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            message = f"{folder} has no image processor that transformers can read: {reason}"
            raise PreconditionFailed(message) from error


def prepare(given: Given) -> Prepared:
    """Pixels, all of one shape, and labels where the config names a column of them.

    :raises PreconditionFailed: a row has no image, or one that the processor makes another shape of
    """
    labels = Labels(given)
    given, media = media_of(given, "Image", labels.columns)
    shape: list[int] = []

    def rows() -> Iterator[Columns]:
        for start, batch in given.batches([media.column, *labels.columns], ROWS):
            images = [opened(media, value, row) for row, value in enumerate(batch[media.column], start)]
            found = [given.processor.process(images=image, return_tensors="np")[PIXELS][0] for image in images]
            shape[:] = shape or found[0].shape
            for row, pixels in enumerate(found, start):
                if [*pixels.shape] != shape:
                    raise PreconditionFailed(f"row {row} yields pixels of {[*pixels.shape]}, and row 0 of {shape}")
            yield {PIXELS: [pixels.reshape(-1) for pixels in found], **labels.of(batch, start)}

    layout = {"fillers": {}, "side": "right", "width": None, "shapes": {PIXELS: shape}}
    return Prepared(rows(), layout, {PIXELS: "numbers", **labels.kinds})


def opened(media: Media, value: Any, row: int) -> Image:
    """An image as people see it, turned as the camera says; in colours."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    content = media.content(value, row)
    try:
        with Image.open(content) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (Image.DecompressionBombError, OSError, SyntaxError, UnidentifiedImageError, ValueError) as error:
        named = f" ({content})" if isinstance(content, Path) else ""
        raise PreconditionFailed(f"row {row}{named} is no image that Pillow reads: {error}") from error
