"""The packagers ``AzureMLModels`` and ``AzureMLData``: a run's best model as an asset of a workspace or registry."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hfopt import Config, Packager, PreconditionFailed, RankedModel
from hfopt.api.config import ConfigContext, only
from hfopt.api.files import write_atomically
from hfopt_azureml import registry
from hfopt_azureml.client_config import AzureMLClientConfig, client_of, need_workspace
from hfopt_azureml.depot import TOP, Container, Depot
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
    plural = "models"

    def package(self, name: str, models: Sequence[RankedModel], record: Mapping[str, Any], folder: Path) -> Path:
        """Register the best model.

        :return: a file that says what was registered
        """
        from hfopt_azureml.clients import registry_client, workspace_client
        from hfopt_azureml.sentences import speaking

        client, shared = self.config.client, self.config.registry_name
        best = models[0]
        told = properties(best, record)
        with speaking(f"{self.kind} {name}", client):
            ml = workspace_client(client) if shared is None else registry_client(client, shared)
            assets = getattr(ml, self.plural)
            last = self._last(assets, name)
            made = last if _content(last) == told[CONTENT] else self._register(assets, name, last, best, told)
        place = {"registry": shared} if shared is not None else {"workspace": client.workspace_name}
        said = {"kind": self.kind, "name": name, "version": str(made.version), **place, "properties": told}
        target = folder / f"{name}.azureml.json"
        write_atomically(target, json.dumps(said, indent=1) + "\n")
        return target

    def _last(self, assets: Any, name: str) -> Any:
        """The asset's last version, or the one that is asked for; None if there is none."""
        from azure.ai.ml.exceptions import MlException
        from azure.core.exceptions import ResourceNotFoundError

        asked = {"label": "latest"} if self.config.version is None else {"version": str(self.config.version)}
        try:
            return assets.get(name, **asked)
        except ResourceNotFoundError:
            return None
        except MlException:  # which the SDK makes of it if there is no last version
            if self.config.version is None:
                return None
            raise

    def _register(self, assets: Any, name: str, last: Any, best: RankedModel, told: Mapping[str, str]) -> Any:
        """Send the files, and make a version of them.

        The SDK's own upload sends a file again from its start after a break, and waits for ever if it gives up on one.
        """
        from azure.ai.ml.entities import Data, Model

        config = self.config
        if last is not None and config.version is not None:
            fact = f"{self.kind} {name} has a version {config.version} already, with other content"
            raise PreconditionFailed(fact, hint="choose another version in packaging_config, or leave it out")
        version = None if config.version is None else str(config.version)
        files = {file.relative_to(best.folder).as_posix(): file for file in _files(best.folder)}
        if config.registry_name is None:
            path = Depot(config.client, _unseen).bring(f"{TOP}/models/{told[CONTENT][:32]}", files)
        else:
            version = version or _following(last, f"{self.kind} {name} in registry {config.registry_name}")
            connect, address = registry.vacancy(config.client, config.registry_name, self.plural, name, version)
            path = f"{address}/{name}"
            Container(config.client, connect).send(name, files, _unseen)
        about = {"name": name, "version": version, "path": path, "description": config.description}
        about |= {"tags": dict(config.tags), "properties": dict(told)}
        made = Model(type="custom_model", **about) if self.plural == "models" else Data(type="uri_folder", **about)
        return assets.create_or_update(made)


class AzureMLModels(Asset):
    """The best model of a run as a model of a workspace or registry."""


class AzureMLData(Asset):
    """The best model of a run as a data asset of a workspace or registry."""

    kind = "data asset"
    plural = "data"


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
    for file in _files(folder):
        with file.open("rb") as opened:
            digest = file_digest(opened, "sha256").hexdigest()
        whole.update(f"{file.relative_to(folder).as_posix()}\0{digest}\n".encode())
    return whole.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _content(asset: Any) -> str | None:
    """What a version says of its content, if it is one of hfopt's."""
    return None if asset is None else (asset.properties or {}).get(CONTENT)


def _following(last: Any, what: str) -> str:
    """The version after the last one. A workspace counts itself; a registry is told before the files are sent."""
    try:
        return "1" if last is None else str(int(last.version) + 1)
    except ValueError as error:
        fact = f"the last version of {what} is {last.version}, which is no number"
        raise PreconditionFailed(fact, hint="set version in packaging_config") from error


def _unseen(*_: object) -> None:
    """Progress, which a packager has nobody to tell."""
