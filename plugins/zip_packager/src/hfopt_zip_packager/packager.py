"""The packager ``Zipfile``: all models of a run, ranked, in one archive."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from hfopt import Config, Packager, RankedModel
from hfopt.api.config import only
from hfopt.api.files import replacing

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every entry, so that the same models give the same bytes."""


class ZipfileConfig(Config):
    """Options of ``Zipfile``."""

    include_sample_code: bool = Field(True, description="A README.md beside each model that shows how to load it.")
    include_runtime_packages: Annotated[
        bool, only(False, because="packages are not downloaded; README.md and run.json name what the model needs")
    ] = Field(False, description="Not available.")
    export_in_mlflow_format: Annotated[bool, only(False, because="not available in this version")] = Field(
        False, description="Not available."
    )


class Zipfile(Packager):
    """``NAME.zip`` in the output folder, with Olive's layout.

    ``CandidateModels/DEVICE-PROVIDER/BestCandidateModel_RANK/`` for each model, ``models_rank.json``, ``run.json``.
    """

    Config: ClassVar[type[Config]] = ZipfileConfig
    config: ZipfileConfig

    def package(self, name: str, models: Sequence[RankedModel], record: Mapping[str, Any], folder: Path) -> Path:
        target = folder / f"{name}.zip"
        with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
            for model in models:
                self._add(archive, model)
            _write(archive, "models_rank.json", [_ranking(model) for model in models])
            _write(archive, "run.json", record)
        return target

    def _add(self, archive: zipfile.ZipFile, model: RankedModel) -> None:
        place = _place(model)
        for file in sorted(path for path in model.folder.rglob("*") if path.is_file()):
            inside = file.relative_to(model.folder).as_posix()
            if inside == "README.md" and not self.config.include_sample_code:
                continue
            entry = zipfile.ZipInfo(f"{place}/{inside}", _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.file_size = file.stat().st_size
            with open(file, "rb") as source, archive.open(entry, "w") as copy:
                while chunk := source.read(1 << 20):
                    copy.write(chunk)
        _write(archive, f"{place}/metrics.json", model.candidate["metrics"])


def _place(model: RankedModel) -> str:
    provider = model.accelerator["execution_provider"].removesuffix("ExecutionProvider").lower()
    return f"CandidateModels/{model.accelerator['device']}-{provider}/BestCandidateModel_{model.rank}"


def _ranking(model: RankedModel) -> dict[str, Any]:
    return {
        "rank": model.rank,
        "model_id": model.candidate["id"],
        "accelerator": dict(model.accelerator),
        "model_path": _place(model),
        "goals_met": model.candidate["goals_met"],
        "metrics": model.candidate["metrics"],
    }


def _write(archive: zipfile.ZipFile, name: str, value: Any) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
