"""The options of PythonEnvironment."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from hfopt.api.config import ConfigContext, InputPath, OptionError, find_input
from hfopt.api.systems import EnvironmentVariables, SystemConfig

VERSION = re.compile(r"3\.\d+(\.\d+)?")
_OF_A_MANAGED_ONE = ("requirements_file", "requirements", "python", "lock", "installer")


def _requirement(text: str) -> str:
    try:
        Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"{text!r} is no requirement: {str(error).splitlines()[0]}") from error
    return text


def _version_or_file(text: str, info: ValidationInfo) -> str:
    if VERSION.fullmatch(text) or not isinstance(info.context, ConfigContext):
        return text
    if (found := find_input(text, info.context)) is None:
        raise ValueError(f"{text!r} is neither a version of Python, such as 3.12, nor a file")
    return str(found)


class PythonEnvironmentConfig(SystemConfig):
    """Options of ``PythonEnvironment``."""

    python_environment_path: InputPath | None = Field(
        None,
        description="The environment: its folder (venv, virtualenv, uv, conda), its bin folder, or its interpreter.",
    )
    environment_variables: EnvironmentVariables = Field({}, description="Set in the worker and in what it starts.")
    prepend_to_path: tuple[InputPath, ...] = Field((), description="Folders that come first in the worker's PATH.")
    managed: bool = Field(
        False, description="Make the environment below the cache folder, once for what these options say."
    )
    olive_managed_env: bool = Field(False, description="Olive's name of `managed`.")
    requirements_file: InputPath | None = Field(
        None, description="Managed: a requirements.txt of what is installed beside what hfopt and its plugins need."
    )
    requirements: tuple[Annotated[str, AfterValidator(_requirement)], ...] = Field(
        (), description='Managed: the same, written here: `["onnxruntime==1.30.0"]`.'
    )
    python: Annotated[str, AfterValidator(_version_or_file)] | None = Field(
        None, description="Managed: the version of Python, such as 3.12, or an interpreter; null: the one of this run."
    )
    lock: InputPath | None = Field(
        None, description="Managed: a lock file, which is all that is installed: `name==version` for every package."
    )
    installer: Literal["uv", "pip"] | None = Field(
        None, description="Managed: what installs; null: uv if it is found, else pip."
    )

    @property
    def is_managed(self) -> bool:
        """Whether hfopt makes the environment."""
        return self.managed or self.olive_managed_env

    @model_validator(mode="after")
    def _given_or_managed(self) -> PythonEnvironmentConfig:
        given = self.python_environment_path is not None
        if given and self.is_managed:
            raise OptionError("python_environment_path", "is of no use beside managed: true, which makes another")
        if not given and not self.is_managed:
            raise OptionError("python_environment_path", "is required, unless managed is true")
        if given and (extra := self.written(*_OF_A_MANAGED_ONE)):
            raise OptionError(extra[0], "is only for managed: true: nothing is installed into an environment of yours")
        if self.lock is not None and (extra := self.written("requirements_file", "requirements")):
            raise OptionError(extra[0], "is of no use beside lock, which is all that is installed")
        return self
