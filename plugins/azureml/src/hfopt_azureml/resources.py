"""Models and data of Azure Machine Learning, for ``model_path``, ``script_dir``, ``data_dir`` and ``data_files``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from hfopt import Config, Resolved, Resource, ResourceContext
from hfopt.api.config import ConfigContext, OptionError
from hfopt_azureml.client_config import AzureMLClientConfig, client_of, need_workspace
from hfopt_azureml.places import InDatastore, InJobOutput, InRegistry, InWorkspace, Place, inside, parse


def _plain(name: str) -> str:
    if not name or "/" in name or name in (".", ".."):
        raise ValueError(f"{name!r} is not a name")
    return name


Name = Annotated[str, AfterValidator(_plain)]
"""What Azure calls something: no path."""
Version = Annotated[str | int, AfterValidator(lambda version: _plain(str(version)))]
PathBelow = Annotated[str, AfterValidator(inside)]
"""A path below a datastore or an output."""


class PlaceConfig(Config):
    """Options of all of them."""

    azureml_client: AzureMLClientConfig | None = Field(
        None, validate_default=True, description="The workspace; null: as the section azureml_client says."
    )

    @field_validator("azureml_client")
    @classmethod
    def _of_the_section(cls, client: AzureMLClientConfig | None, info: ValidationInfo) -> AzureMLClientConfig:
        return client_of(client, info)

    @model_validator(mode="after")
    def _workspace_is_known(self, info: ValidationInfo) -> PlaceConfig:
        place = self.place
        if isinstance(info.context, ConfigContext) and not isinstance(place, InRegistry) and place.workspace is None:
            need_workspace(self.client)
        return self

    @property
    def client(self) -> AzureMLClientConfig:
        """How the service is asked."""
        return self.azureml_client or AzureMLClientConfig()

    @property
    def place(self) -> Place:
        """Where it lies."""
        raise TypeError(f"{type(self).__name__} says of no place")


class ModelConfig(PlaceConfig):
    """Options of ``azureml_model``."""

    name: Name = Field(description="The model.")
    version: Version = Field(description="Which version of it.")

    @property
    def place(self) -> Place:
        return InWorkspace(self.name, str(self.version))


class RegistryModelConfig(PlaceConfig):
    """Options of ``azureml_registry_model``."""

    registry_name: Name = Field(description="The registry, such as azureml-meta; it needs no workspace.")
    name: Name = Field(description="The model.")
    version: Version = Field(description="Which version of it.")

    @property
    def place(self) -> Place:
        return InRegistry(self.registry_name, self.name, str(self.version))


class DatastoreConfig(PlaceConfig):
    """Options of ``azureml_datastore``."""

    datastore_url: str | None = Field(None, description="azureml://datastores/NAME/paths/PATH; instead of the others.")
    datastore_name: Name | None = Field(None, description="The datastore.")
    relative_path: PathBelow | None = Field(
        None, min_length=1, description="The file or folder in it: exactly this, and nothing that only begins so."
    )

    @model_validator(mode="before")
    @classmethod
    def _one_way(cls, written: Any) -> Any:
        given = written if isinstance(written, dict) else {}
        others = [name for name in ("datastore_name", "relative_path") if given.get(name) is not None]
        if given.get("datastore_url") is None and len(others) < 2:
            raise ValueError("needs datastore_url, or datastore_name and relative_path")
        if given.get("datastore_url") is not None and others:
            raise OptionError(others[0], "is what datastore_url says: keep one of the two")
        return written

    @field_validator("datastore_url")
    @classmethod
    def _of_a_datastore(cls, url: str | None) -> str | None:
        if url is not None and not isinstance(parse(url), InDatastore):
            raise ValueError("must be azureml://datastores/NAME/paths/PATH")
        return url

    @property
    def place(self) -> Place:
        if self.datastore_url is not None:
            return parse(self.datastore_url)
        return InDatastore(self.datastore_name or "", self.relative_path or "")


class JobOutputConfig(PlaceConfig):
    """Options of ``azureml_job_output``."""

    job_name: Name = Field(description="The job; job_id is the same.")
    output_name: Name = Field(description="Which of its outputs.")
    relative_path: PathBelow = Field("", description="A file or folder in it; empty: all of it.")

    @model_validator(mode="before")
    @classmethod
    def _either_name(cls, written: Any) -> Any:
        if isinstance(written, dict) and "job_id" in written:
            if written.get("job_name") not in (None, written["job_id"]):
                raise OptionError("job_id", "is another than job_name: keep one of the two")
            return {**{name: each for name, each in written.items() if name != "job_id"}, "job_name": written["job_id"]}
        return written

    @property
    def place(self) -> Place:
        return InJobOutput(self.job_name, self.output_name, self.relative_path)


class UrlConfig(PlaceConfig):
    """Options of ``azureml``."""

    url: str = Field(description="An azureml:// URL of a file, a folder or a model.")

    @field_validator("url")
    @classmethod
    def _readable(cls, url: str) -> str:
        parse(url)
        return url

    @property
    def place(self) -> Place:
        return parse(self.url)


class AtPlace(Resource):
    """Files and folders that a workspace or a registry has."""

    Config = PlaceConfig
    config: PlaceConfig

    def resolve(self, context: ResourceContext) -> Resolved:
        from hfopt_azureml import fetching

        return fetching.resolve(self.config.place, self.config.client, context)

    def fetch(self, pin: str, folder: Path, context: ResourceContext) -> Mapping[str, Any]:
        from hfopt_azureml import fetching

        return fetching.fetch(self.config.place, self.config.client, pin, folder, context)


class Model(AtPlace):
    """A version of a model in a workspace, which never changes."""

    Config = ModelConfig


class RegistryModel(AtPlace):
    """A version of a model in a registry, which never changes."""

    Config = RegistryModelConfig


class Datastore(AtPlace):
    """A file or folder in a datastore: as it is when the run begins."""

    Config = DatastoreConfig


class JobOutput(AtPlace):
    """An output of a job that has ended, or a part of it."""

    Config = JobOutputConfig


class Url(AtPlace):
    """What an ``azureml://`` URL names."""

    Config = UrlConfig
