"""The packagers ``AzureMLModels`` and ``AzureMLData``: a run's best model as an asset of a workspace or registry."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hfopt import Config, Packager, RankedModel
from hfopt.api.config import ConfigContext, only
from hfopt.api.files import write_atomically
from hfopt_azureml.client_config import AzureMLClientConfig, client_of, need_workspace
from hfopt_azureml.resources import Name, Version

CONTENT = "hfopt.content"
"""The property that says what is in an asset."""


class AssetConfig(Config):
    """Options of ``AzureMLModels`` and ``AzureMLData``."""

    azureml_client: AzureMLClientConfig | None = Field(
        None, validate_default=True, description="The workspace; null: as the section azureml_client says."
    )
    registry_name: Name | None = Field(None, description="A registry to put it into instead of the workspace.")
    version: Version | None = Field(None, description="Its version; null: the next one, unless the last has the same.")
    description: str | None = Field(None, description="What is said of it there.")
    tags: dict[str, str] = Field({}, description="Tags, value by name.")
    export_in_mlflow_format: Annotated[bool, only(False, because="not available in this version")] = Field(
        False, description="Not available."
    )

    @field_validator("azureml_client")
    @classmethod
    def _of_the_section(cls, client: AzureMLClientConfig | None, info: ValidationInfo) -> AzureMLClientConfig:
        return client_of(client, info)

    @model_validator(mode="after")
    def _workspace_is_known(self, info: ValidationInfo) -> AssetConfig:
        if isinstance(info.context, ConfigContext) and self.registry_name is None:
            need_workspace(self.client)
        return self

    @property
    def client(self) -> AzureMLClientConfig:
        """How the service is asked."""
        return self.azureml_client or AzureMLClientConfig()


class Asset(Packager):
    """Registers the best model of a run. Its figures are properties of what is registered."""

    Config = AssetConfig
    config: AssetConfig
    kind = "model"

    def package(self, name: str, models: Sequence[RankedModel], record: Mapping[str, Any], folder: Path) -> Path:
        """Register the best model.

        :return: a file that says what was registered
        """
        from hfopt_azureml.clients import registry_client, workspace_client
        from hfopt_azureml.sentences import speaking

        client, registry = self.config.client, self.config.registry_name
        best = models[0]
        told = properties(best, record)
        with speaking(f"{self.kind} {name}", client), _unheard():
            ml = workspace_client(client) if registry is None else registry_client(client, registry)
            assets = ml.models if self.kind == "model" else ml.data
            made = self._there(assets, name, told) or assets.create_or_update(self._asset(name, best, told))
        place = {"registry": registry} if registry is not None else {"workspace": client.workspace_name}
        said = {"kind": self.kind, "name": name, "version": str(made.version), **place, "properties": told}
        target = folder / f"{name}.azureml.json"
        write_atomically(target, json.dumps(said, indent=1) + "\n")
        return target

    def _there(self, assets: Any, name: str, told: Mapping[str, str]) -> Any:
        """The asset, if its last version, or the one that is asked for, is the same already."""
        from azure.ai.ml.exceptions import MlException
        from azure.core.exceptions import ResourceNotFoundError

        asked = {"label": "latest"} if self.config.version is None else {"version": str(self.config.version)}
        try:
            found = assets.get(name, **asked)
        except (ResourceNotFoundError, MlException):  # the latter for the last of none
            return None
        return found if (found.properties or {}).get(CONTENT) == told[CONTENT] else None

    def _asset(self, name: str, best: RankedModel, told: Mapping[str, str]) -> Any:
        from azure.ai.ml.entities import Data, Model

        config = self.config
        more = {"version": None if config.version is None else str(config.version), "description": config.description}
        about = {"name": name, "path": str(best.folder), "tags": dict(config.tags), "properties": dict(told), **more}
        return Model(type="custom_model", **about) if self.kind == "model" else Data(type="uri_folder", **about)


class AzureMLModels(Asset):
    """The best model of a run as a model of a workspace or registry."""


class AzureMLData(Asset):
    """The best model of a run as a data asset of a workspace or registry."""

    kind = "data asset"


def properties(best: RankedModel, record: Mapping[str, Any]) -> dict[str, str]:
    """What run.json says of a model, as an asset's properties: text by name."""
    candidate = best.candidate
    told = {
        CONTENT: content_of(best.folder),
        "hfopt.version": str(record["hfopt"]),
        "hfopt.accelerator": f"{best.accelerator['device']} {best.accelerator['execution_provider']}",
        "hfopt.id": candidate["id"],
        "hfopt.steps": ", ".join(each["name"] for each in candidate["steps"]),
        "hfopt.size_bytes": str(candidate["size_bytes"]),
        "hfopt.goals_met": str(candidate["goals_met"]),
    }
    for key, metric in candidate["metrics"].items():
        for part in ("value", "low", "high", "n", "unit"):
            if (value := metric.get(part)) is not None:
                told[f"{key}.{part}" if part != "value" else key] = str(value)
    return told


def content_of(folder: Path) -> str:
    """SHA-256 of the names and contents of all files of a folder."""
    whole = sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as opened:
            whole.update(
                f"{file.relative_to(folder).as_posix()}\0{file_digest(opened, 'sha256').hexdigest()}\n".encode()
            )
    return whole.hexdigest()


@contextmanager
def _unheard() -> Iterator[None]:
    """Whatever the SDK prints (an upload ends with an escape sequence) goes nowhere."""
    with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        yield
