"""The environment of jobs: one that the workspace has, one that Azure makes of the user's image, or hfopt's own."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hfopt.api.requirements import requirements
from hfopt_azureml.clients import workspace_client
from hfopt_azureml.sentences import speaking
from hfopt_azureml.system_config import AzureMLConfig, DockerImageConfig, EnvironmentConfig

PYTHON = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
"""What hfopt's own environment is built on, unless an image is given."""
REQUIREMENTS = "requirements.txt"


def ready(config: AzureMLConfig, distributions: Iterable[str]) -> str:
    """See that the workspace has the environment of a config's jobs.

    :param distributions: hfopt and the plugins whose requirements hfopt's own environment must have
    :return: how a job names it
    :raises PreconditionFailed: there is no such environment, or it can't be made
    """
    if config.aml_environment_config is not None:
        return _named(config, config.aml_environment_config)
    given = config.aml_docker_config or DockerImageConfig(base_image=PYTHON)
    if not config.own_environment:
        return _made(config, given)
    with TemporaryDirectory() as folder:
        context = Path(folder, "environment")  # whose name counts
        context.mkdir()
        for name, text in own(config, distributions).items():
            (context / name).write_text(text, "utf-8")
        build = {"base_image": None, "build_context_path": str(context)}
        return _made(config, given.model_copy(update=build))


def own(config: AzureMLConfig, distributions: Iterable[str]) -> dict[str, str]:
    """The files that hfopt's own environment is built from, by name. hfopt itself comes with each job."""
    base = PYTHON if config.aml_docker_config is None else config.aml_docker_config.base_image
    lines = requirements(distributions, "gpu" if any(each.device == "gpu" for each in config.accelerators) else "cpu")
    if config.vault is not None:
        lines.append(f"azure-identity=={version('azure-identity')}")
    if config.requirements_file is not None:
        lines += Path(config.requirements_file).read_text("utf-8").splitlines()
    install = f"RUN python3 -m pip install --no-cache-dir -r /hfopt/{REQUIREMENTS}"
    dockerfile = "\n".join([f"FROM {base}", f"COPY {REQUIREMENTS} /hfopt/", install, ""])
    return {"Dockerfile": dockerfile, REQUIREMENTS: "\n".join([*lines, ""])}


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
    number = str(wanted.version or 1)
    environments = workspace_client(config.client).environments
    with speaking(f"environment {name}", config.client):
        try:
            environments.get(name, version=number)
        except ResourceNotFoundError:
            of: dict[str, Any] = {"image": wanted.base_image, "conda_file": wanted.conda_file_path}
            if wanted.build_context_path is not None:
                dockerfile = wanted.dockerfile or "Dockerfile"
                of = {"build": BuildContext(path=wanted.build_context_path, dockerfile_path=dockerfile)}
            with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):  # an upload ends with an escape
                environments.create_or_update(Environment(name=name, version=number, **of))
    return f"azureml:{name}:{number}"


def _content(wanted: DockerImageConfig) -> str:
    whole = sha256(repr((wanted.base_image, wanted.dockerfile)).encode())
    for place in filter(None, (wanted.conda_file_path, wanted.build_context_path)):
        root = Path(place)
        for file in sorted([root] if root.is_file() else filter(Path.is_file, root.rglob("*"))):
            whole.update(f"{file.relative_to(root.parent).as_posix()}\0".encode() + file.read_bytes())
    return whole.hexdigest()[:16]
