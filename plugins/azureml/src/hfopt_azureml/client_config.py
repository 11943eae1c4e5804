"""The section ``azureml_client``: which workspace, and how its service is signed in to and asked. Imports no Azure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from hfopt import Config, InputPath
from hfopt.api.config import ConfigContext, ConfigSection, OptionError, UnknownName

SECTION = "azureml_client"
WORKSPACE = ("subscription_id", "resource_group", "workspace_name")
_EXCLUDED = (
    "broker", "cli", "developer_cli", "environment", "interactive_browser", "managed_identity", "powershell",
    "shared_token_cache", "visual_studio_code", "workload_identity",
)  # fmt: skip
_NAMES = (
    "authority", "broker_client_id", "broker_tenant_id", "interactive_browser_client_id",
    "interactive_browser_tenant_id", "managed_identity_client_id", "shared_cache_tenant_id", "shared_cache_username",
    "visual_studio_code_tenant_id", "workload_identity_client_id", "workload_identity_tenant_id",
)  # fmt: skip
AUTH_PARAMS: Mapping[str, type] = {
    **dict.fromkeys((f"exclude_{each}_credential" for each in _EXCLUDED), bool),
    **dict.fromkeys(_NAMES, str),
    "process_timeout": int,
    "require_envvar": bool,
}
"""The keywords of azure-identity's ``DefaultAzureCredential``, which takes any other without a word. None is secret."""
_WORDS = {bool: "true or false", str: "a string", int: "a whole number"}
_VAULT = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
"""Loosely: Azure takes no underscore, but examples have one."""
_LARGEST = 1_000_000
"""Bytes of a file that aml_config_path names; those of the studio have a few hundred."""


@dataclass(frozen=True)
class Workspace:
    """A workspace of Azure Machine Learning. It has no secret in it."""

    subscription_id: str
    resource_group: str
    name: str

    def __str__(self) -> str:
        return f"{self.subscription_id}/{self.resource_group}/{self.name}"


def _auth_params(params: dict[str, Any]) -> dict[str, Any]:
    for name, value in params.items():
        if name not in AUTH_PARAMS:
            raise UnknownName("keyword of DefaultAzureCredential", name, sorted(AUTH_PARAMS))
        if type(value) is not AUTH_PARAMS[name]:
            raise OptionError(name, f"must be {_WORDS[AUTH_PARAMS[name]]}")
    return params


def _vault(name: str) -> str:
    if _VAULT.fullmatch(name) is None:
        raise ValueError("is not the name of a key vault, which has letters, digits and '-'; it is no address")
    return name


class AzureMLClientConfig(Config):
    """``azureml_client``."""

    subscription_id: str | None = Field(None, description="The Azure subscription of the workspace.")
    resource_group: str | None = Field(None, description="The workspace's resource group.")
    workspace_name: str | None = Field(None, description="The workspace.")
    aml_config_path: InputPath | None = Field(
        None, description="A config.json as Azure's studio offers it, which says these three; they are ignored then."
    )
    read_timeout: float = Field(60, gt=0, description="Seconds that the service has to answer.")
    max_operation_retries: int = Field(
        3, ge=0, le=20, description="How often a request is made again that was not answered, or with a passing error."
    )
    operation_retry_interval: float = Field(
        5, ge=0, le=600, description="Seconds before the first of them, about; before each further one twice as long."
    )
    default_auth_params: Annotated[dict[str, Any], AfterValidator(_auth_params)] = Field(
        {}, description="Keywords of azure-identity's DefaultAzureCredential: how to sign in."
    )
    keyvault_name: Annotated[str, AfterValidator(_vault)] | None = Field(
        None, description="The key vault whose secret hf-token is the hub's token, for jobs."
    )

    @model_validator(mode="after")
    def _from_file(self, info: ValidationInfo) -> AzureMLClientConfig:
        if self.aml_config_path is None or not isinstance(info.context, ConfigContext):
            return self
        found = _read(Path(self.aml_config_path))
        if other := [name for name in self.written(*WORKSPACE) if getattr(self, name) != found[name]]:
            info.context.notices.append(f"{SECTION}: {', '.join(other)} ignored: aml_config_path says")
        return self.model_copy(update={**found, "aml_config_path": None})

    @property
    def missing(self) -> list[str]:
        """What is not said of the workspace."""
        return [name for name in WORKSPACE if not getattr(self, name)]

    @property
    def workspace(self) -> Workspace:
        """The workspace, of a config that lacks nothing of it."""
        return Workspace(*(str(getattr(self, name)) for name in WORKSPACE))


class AzureMLClient(ConfigSection):
    """The section of a config."""

    Config = AzureMLClientConfig


def client_of(config: AzureMLClientConfig | None, info: ValidationInfo) -> AzureMLClientConfig:
    """What a component is told of the client, else what the config's section says.

    :param info: of the component's validation
    """
    if config is None and isinstance(info.context, ConfigContext):
        config = info.context.sections.get(SECTION)
    return config or AzureMLClientConfig()


def need_workspace(client: AzureMLClientConfig) -> None:
    """Check that it is known which workspace is meant.

    :raises ValueError: it is not
    """
    if missing := client.missing:
        told = ", ".join(missing)
        raise ValueError(f"needs a workspace: the section {SECTION} must have {told}, or aml_config_path")


def need_vault(client: AzureMLClientConfig) -> None:
    """Check that it is known which key vault jobs read the hub's token from.

    :raises OptionError: of ``hf_token``: no vault is named
    """
    if client.keyvault_name is None:
        raise OptionError("hf_token", f"is true, so the section {SECTION} must have keyvault_name: jobs log in with it")


def _read(file: Path) -> dict[str, str]:
    try:
        if file.stat().st_size > _LARGEST:
            raise OptionError("aml_config_path", f"{file} is too large for what it should be")
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, OptionError):
            raise
        raise OptionError("aml_config_path", f"{file} can't be read as JSON") from error
    known = {name: found.get(name) for name in WORKSPACE} if isinstance(found, dict) else {}
    if lacking := [name for name in WORKSPACE if not isinstance(known.get(name), str) or not known[name]]:
        raise OptionError(
            "aml_config_path", f"{file} must have {', '.join(lacking)}, as a config.json of the studio has"
        )
    return {name: str(value) for name, value in known.items()}
