"""The options of the system AzureML, and which of them go together. Imports no Azure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hfopt import Config, InputPath
from hfopt.api.config import ConfigContext, OptionError, only
from hfopt.api.systems import SystemConfig
from hfopt_azureml.client_config import AzureMLClientConfig, client_of, need_vault, need_workspace
from hfopt_azureml.resources import Name, Version


class EnvironmentConfig(Config):
    """An environment that the workspace has."""

    name: Name = Field(description="Its name.")
    version: Version | None = Field(None, description="Which version of it; null: as label says.")
    label: str | None = Field(None, description="Instead of a version; null: latest.")

    @model_validator(mode="after")
    def _one_of_both(self) -> EnvironmentConfig:
        if self.version is not None and self.label is not None:
            raise OptionError("label", "is another way to say which version: keep one of the two")
        return self


class DockerImageConfig(Config):
    """An environment that Azure builds, once for what it is made of."""

    base_image: str | None = Field(None, description="An image that Azure can pull.")
    conda_file_path: InputPath | None = Field(None, description="conda's YAML: what base_image gets besides.")
    build_context_path: InputPath | None = Field(None, description="A folder that an image is built from.")
    dockerfile: str | None = Field(None, description="Its Dockerfile, relative to build_context_path.")
    name: Name | None = Field(None, description="Under which the workspace has it; null: one that says its content.")
    version: Version | None = Field(None, description="Likewise.")

    @model_validator(mode="after")
    def _image_or_build(self) -> DockerImageConfig:
        if (self.base_image is None) == (self.build_context_path is None):
            raise ValueError("needs base_image or build_context_path, and not both")
        if self.base_image is None and self.conda_file_path is not None:
            raise OptionError("conda_file_path", "goes with base_image; a Dockerfile installs what it needs itself")
        if self.dockerfile is not None and self.build_context_path is None:
            raise OptionError("dockerfile", "needs build_context_path, the folder that it is built from")
        if self.build_context_path is not None:
            file = Path(self.build_context_path, self.dockerfile or "Dockerfile")
            if not file.is_file():
                raise OptionError("dockerfile", f"no such file: {file}")
        return self


class JobResources(Config):
    """What a job takes of its compute."""

    instance_type: str | None = Field(None, description="The kind of machine, where the compute has several.")
    shm_size: str | None = Field(None, description="Size of /dev/shm, such as 2g.")
    docker_args: str | None = Field(None, description="More arguments of the container.")


class AzureMLConfig(SystemConfig):
    """Options of the system AzureML."""

    hf_token: bool | None = Field(
        None,
        description="true: jobs download from the hub, with the token of the vault keyvault_name; false: none is sent.",
    )
    aml_compute: Name = Field(description="The compute of the workspace on which jobs run.")
    aml_environment_config: EnvironmentConfig | None = Field(None, description="The environment of its jobs.")
    aml_docker_config: DockerImageConfig | None = Field(
        None, description="What Azure makes their environment of, if aml_environment_config names none."
    )
    requirements_file: InputPath | None = Field(
        None, description="What an environment of hfopt's own has besides, for pip."
    )
    olive_managed_env: bool = Field(
        False, description="true: the environment is hfopt's own; so it is if neither of the two above names one."
    )
    azureml_client_config: AzureMLClientConfig | None = Field(
        None, validate_default=True, description="The workspace; null: as the section azureml_client says."
    )
    tags: dict[str, str] = Field({}, description="Tags of jobs, value by name; no secrets: the studio shows them.")
    resources: JobResources = Field(JobResources(), description="What a job takes of its compute.")
    instance_count: Annotated[int, only(1, because="must be 1: a step runs on one machine")] = Field(
        1, description="Machines of a job."
    )
    is_dev: bool = Field(False, description="Of Olive's own development; of no effect.")

    @field_validator("azureml_client_config")
    @classmethod
    def _of_the_section(cls, client: AzureMLClientConfig | None, info: ValidationInfo) -> AzureMLClientConfig:
        return client_of(client, info)

    @model_validator(mode="after")
    def _complete(self, info: ValidationInfo) -> AzureMLConfig:
        if not self.own_environment:
            given = "aml_docker_config" if self.aml_environment_config is None else "aml_environment_config"
            for option in ("requirements_file", "olive_managed_env"):
                if getattr(self, option):
                    raise OptionError(option, f"is of an environment that hfopt makes, but {given} says what is in it")
        if not isinstance(info.context, ConfigContext):
            return self
        need_workspace(self.client)
        if self.hf_token:
            need_vault(self.client)
        return self

    @property
    def logs_in(self) -> bool:
        return self.vault is not None

    @property
    def vault(self) -> str | None:
        """The key vault that has the hub's token for jobs, if they log in."""
        return self.client.keyvault_name if self.hf_token else None

    @property
    def own_environment(self) -> bool:
        """Whether hfopt says what is in the environment of jobs, perhaps on an image of the user's."""
        given = self.aml_docker_config
        if given is None or self.aml_environment_config is not None:
            return self.aml_environment_config is None
        asked = self.olive_managed_env or self.requirements_file is not None
        return asked and given.conda_file_path is None and given.build_context_path is None

    @property
    def client(self) -> AzureMLClientConfig:
        """How the service is asked."""
        return self.azureml_client_config or AzureMLClientConfig()

    def ignored(self) -> Mapping[str, str]:
        unused = "hf_token is not true: what is gated on the hub is fetched with a token of this machine"
        idle = self.hf_token is None and self.client.keyvault_name is not None
        dev = {"is_dev": "hfopt is brought into the job as it is here"} if self.is_dev else {}
        return dev | ({"azureml_client_config.keyvault_name": unused} if idle else {})
