"""The environment of jobs: one that the workspace has, or one that Azure makes of an image or a Dockerfile."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from hashlib import sha256
from pathlib import Path
from typing import Any

from hfopt_azureml.clients import workspace_client
from hfopt_azureml.sentences import speaking
from hfopt_azureml.system_config import AzureMLConfig, DockerImageConfig, EnvironmentConfig


def ready(config: AzureMLConfig) -> str:
    """See that the workspace has the environment of a config's jobs.

    :return: how a job names it
    :raises PreconditionFailed: there is no such environment, or it can't be made
    """
    if config.aml_environment_config is not None:
        return _named(config, config.aml_environment_config)
    return _made(config, config.aml_docker_config or DockerImageConfig())


def _named(config: AzureMLConfig, wanted: EnvironmentConfig) -> str:
    which = {"label": wanted.label or "latest"} if wanted.version is None else {"version": str(wanted.version)}
    what = f"environment {wanted.name}:{next(iter(which.values()))}"
    with speaking(what, config.client):
        found = workspace_client(config.client).environments.get(wanted.name, **which)
    return f"azureml:{found.name}:{found.version}"


def _made(config: AzureMLConfig, wanted: DockerImageConfig) -> str:
    """An environment that is made once: its name says what it is made of."""
    from azure.ai.ml.entities import BuildContext, Environment
    from azure.core.exceptions import ResourceNotFoundError

    name = wanted.name or f"hfopt-{_content(wanted)}"
    version = str(wanted.version or 1)
    environments = workspace_client(config.client).environments
    with speaking(f"environment {name}", config.client):
        try:
            environments.get(name, version=version)
        except ResourceNotFoundError:
            of: dict[str, Any] = {"image": wanted.base_image, "conda_file": wanted.conda_file_path}
            if wanted.build_context_path is not None:
                dockerfile = wanted.dockerfile or "Dockerfile"
                of = {"build": BuildContext(path=wanted.build_context_path, dockerfile_path=dockerfile)}
            with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):  # an upload ends with an escape
                environments.create_or_update(Environment(name=name, version=version, **of))
    return f"azureml:{name}:{version}"


def _content(wanted: DockerImageConfig) -> str:
    whole = sha256(repr((wanted.base_image, wanted.dockerfile)).encode())
    for place in filter(None, (wanted.conda_file_path, wanted.build_context_path)):
        root = Path(place)
        for file in sorted([root] if root.is_file() else filter(Path.is_file, root.rglob("*"))):
            whole.update(f"{file.relative_to(root.parent).as_posix()}\0".encode() + file.read_bytes())
    return whole.hexdigest()[:16]
