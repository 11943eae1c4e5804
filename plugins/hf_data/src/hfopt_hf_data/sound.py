"""Sounds as the model's feature extractor hears them, at the rate that it takes; with a class each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PluginError, PreconditionFailed
from hfopt_hf_data.classes import Labels
from hfopt_hf_data.config import HuggingfaceContainerConfig
from hfopt_hf_data.media import ROWS, Media, media_of
from hfopt_hf_data.preparing import Columns, Given, Prepared
from hfopt_hf_data.rows import Rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST = 30.0
"""Seconds of a sound, unless the config says."""
MARGIN = 1.0
"""Seconds that are read beyond, so that how a sound is resampled does not depend on where it is cut."""


class Extractor:
    """The feature extractor in a model's folder.

    :ivar folder: the model's
    :raises PreconditionFailed: there is none that transformers can read
    :raises PluginError: a library that reads or resamples sound is not installed
    """

    def __init__(self, config: HuggingfaceContainerConfig, folder: Path, attributes: Mapping[str, Any]) -> None:
        try:
            import soundfile
            import soxr  # noqa: F401
        except (ImportError, OSError) as error:
            raise PluginError(f"sound can't be read: {error}", hint="pip install 'hfopt-hf-data[audio]'") from error
        from transformers import AutoFeatureExtractor

        try:
            self._extract = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            self.rate = int(self._extract.sampling_rate)
        except (AttributeError, ImportError, LookupError, OSError, TypeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            message = f"{folder} has no feature extractor that transformers can read: {reason}"
            raise PreconditionFailed(message) from error
        self.folder, self._unreadable = folder, soundfile.LibsndfileError
        self._seconds = config.max_duration or MOST
        self._told = dict(config.feature_extractor_args or {})

    @property
    def filler(self) -> float:
        """What pads a sound."""
        return float(self._extract.padding_value)

    def features(self, media: Media, value: Any, row: int) -> dict[str, NDArray[Any]]:
        """What the model takes, of one row and unpadded."""
        sound = self._sound(media, value, row)
        try:
            found = self._extract(sound, sampling_rate=self.rate, return_tensors="np", **self._told)
        except (TypeError, ValueError) as error:
            raise PreconditionFailed(f"row {row}: the feature extractor refuses the sound: {error}") from error
        return {name: found[name][0] for name in self._extract.model_input_names if name in found}

    def _sound(self, media: Media, value: Any, row: int) -> NDArray[np.float32]:
        """Samples at the extractor's rate, float32 [n]: all channels as one, cut to the most seconds."""
        import soundfile
        import soxr

        content = media.content(value, row)
        try:
            with soundfile.SoundFile(content) as file:
                frames = math.ceil((self._seconds + MARGIN) * file.samplerate)
                samples, rate = file.read(frames, dtype="float32", always_2d=True).mean(axis=1), file.samplerate
        except (self._unreadable, OSError) as error:
            named = f" ({content})" if isinstance(content, Path) else ""
            reason = str(getattr(error, "error_string", error))
            raise PreconditionFailed(f"row {row}{named} is no sound that libsndfile reads: {reason}") from error
        if rate != self.rate:
            samples = soxr.resample(samples, rate, self.rate)
        if not len(samples):
            raise PreconditionFailed(f"row {row} has a sound of no length")
        found: NDArray[np.float32] = samples[: int(self._seconds * self.rate)]
        return found


def classes(given: Given) -> Prepared:
    """Features, and labels where the config names a column of them."""
    labels = Labels(given)
    given, media = media_of(given, "Audio", labels.columns)
    extractor, shapes = given.processor, dict[str, list[int]]()

    def rows() -> Iterator[Columns]:
        for start, batch in given.batches([media.column, *labels.columns], ROWS):
            yield {**heard(extractor, media, batch, start, shapes), **labels.of(batch, start)}

    return Prepared(rows(), layout_of(extractor, shapes), {**KINDS, **labels.kinds})


KINDS = dict.fromkeys(("input_values", "input_features"), "numbers")


def layout_of(extractor: Extractor, shapes: Mapping[str, list[int]]) -> dict[str, Any]:
    """How sounds that share a batch are padded."""
    return {"fillers": dict.fromkeys(KINDS, extractor.filler), "side": "right", "width": None, "shapes": shapes}


def heard(extractor: Extractor, media: Media, batch: Columns, start: int, shapes: dict[str, list[int]]) -> Columns:
    """Features of some rows.

    :param shapes: of those with two axes, of which the first may vary: what is learned is written there
    """
    found = [extractor.features(media, value, row) for row, value in enumerate(batch[media.column], start)]
    shapes |= {name: [-1, each.shape[1]] for name, each in found[0].items() if each.ndim == 2}
    return {name: [each[name].reshape(-1) for each in found] for name in found[0]}


class Sounds(Rows):
    """Rows stay in batches as small as the user wrote: what a model makes of many sounds would fill the memory."""

    def lengths(self) -> None:
        return
