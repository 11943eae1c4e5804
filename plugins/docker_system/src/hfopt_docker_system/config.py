"""The options of the system, and which of them go together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from hfopt import Config, InputPath
from hfopt.api.config import OptionError
from hfopt.api.systems import SystemConfig

_AS_THEY_ARE = "as docker-py and `docker run` have it"


class RunParams(Config):
    """How the container runs; names and values are docker-py's.

    What makes it a container for steps (command, user, network, privileges, standard input) is not among them.
    """

    mem_limit: str | int | None = Field(
        None, description="Memory, such as 4g; a step that takes more is a failed step."
    )
    memswap_limit: str | int | None = Field(None, description="Memory and swap together; null: mem_limit, so no swap.")
    shm_size: str | int | None = Field(None, description="Size of /dev/shm; null: the engine's, which is 64 MB.")
    cpuset_cpus: str | None = Field(None, description="CPUs, such as 0-3: what to use where latency is measured.")
    nano_cpus: int | None = Field(None, description="CPU time in billionths of a CPU; slices of time blur latency.")
    cpu_shares: int | None = Field(None, description="Weight among other containers.")
    pids_limit: int = Field(4096, description="Processes and threads together.")
    environment: dict[str, str] = Field({}, description="Variables; no secrets: `docker inspect` shows them.")
    volumes: tuple[str, ...] = Field((), description="More folders: HOST:CONTAINER, read-only, or HOST:CONTAINER:rw.")
    devices: tuple[str, ...] = Field((), description=f"Devices, {_AS_THEY_ARE}.")
    group_add: tuple[str | int, ...] = Field((), description=f"More groups, {_AS_THEY_ARE}.")
    runtime: str | None = Field(None, description="The engine's runtime, such as nvidia or runsc.")

    @field_validator("volumes")
    @classmethod
    def _two_absolute_paths(cls, volumes: tuple[str, ...]) -> tuple[str, ...]:
        for volume in volumes:
            source, target, mode = (*volume.split(":"), "ro")[:3] if volume.count(":") in (1, 2) else ("", "", "")
            if not (source.startswith("/") and target.startswith("/") and mode in ("ro", "rw")):
                raise ValueError(f"{volume!r} is not HOST:CONTAINER or HOST:CONTAINER:rw with two absolute paths")
        return volumes

    @property
    def bindings(self) -> dict[str, tuple[str, bool]]:
        """The folder of this machine and whether it is writable, by the container's."""
        parts = [volume.split(":") for volume in self.volumes]
        return {target: (source, mode == ["rw"]) for source, target, *mode in parts}

    def limits(self) -> dict[str, Any]:
        """Keyword arguments of docker-py."""
        given = self.model_dump(exclude={"environment", "volumes"}, exclude_none=True)
        swap = {"memswap_limit": self.mem_limit} if self.mem_limit is not None else {}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in (swap | given).items()}


class LocalDockerConfig(Config):
    """The image, and how its container runs."""

    image_name: str | None = Field(
        None, description="An image on this machine or in a registry; null: one that hfopt builds."
    )
    build_context_path: InputPath | None = Field(None, description="A folder from which image_name is built.")
    dockerfile: str | None = Field(None, description="Its Dockerfile, relative to build_context_path.")
    build_args: dict[str, str] = Field({}, description="Of the build; no secrets: `docker history` shows them.")
    run_params: RunParams = Field(RunParams(), description="How the container runs.")

    @model_validator(mode="after")
    def _what_a_build_needs(self) -> LocalDockerConfig:
        if self.dockerfile is not None and self.build_context_path is None:
            raise OptionError("dockerfile", "needs build_context_path, the folder that it is built from")
        if self.build_context_path is not None:
            if self.image_name is None:
                raise OptionError("build_context_path", "needs image_name, the name that the built image gets")
            file = Path(self.build_context_path, self.dockerfile or "Dockerfile")
            if not file.is_file():
                raise OptionError("dockerfile", f"no such file: {file}")
        return self


class DockerConfig(SystemConfig):
    """Options of the system Docker."""

    local_docker_config: LocalDockerConfig = Field(LocalDockerConfig(), description="The image and its container.")
    base_image: str | None = Field(
        None, description="What hfopt's own image is built on: has Python and pip; null: python:X.Y-slim, X.Y as here."
    )
    requirements_file: InputPath | None = Field(None, description="What hfopt's own image has besides, for pip.")
    olive_managed_env: bool = Field(False, description="True: hfopt builds the image; so it does without image_name.")
    is_dev: bool = Field(False, description="Of Olive's own development; of no effect.")

    @model_validator(mode="after")
    def _one_image(self) -> DockerConfig:
        given = self.local_docker_config.image_name
        for option in ("base_image", "requirements_file", "olive_managed_env"):
            if given is not None and getattr(self, option):
                raise OptionError(option, f"is of an image that hfopt builds, but image_name is {given}")
        return self

    @property
    def wants_gpu(self) -> bool:
        return any(each.device == "gpu" for each in self.accelerators)

    def ignored(self) -> Mapping[str, str]:
        return {"is_dev": "hfopt is brought into the container as it is here"} if self.is_dev else {}
