"""The image: one that is there, one from a registry, one that the user's Dockerfile makes, or hfopt's own."""

from __future__ import annotations

import io
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import HfoptError
from hfopt.api.config import ReportProgress
from hfopt.api.requirements import requirements
from hfopt.api.systems import SystemContext
from hfopt_docker_system.config import DockerConfig
from hfopt_docker_system.engine import explained

if TYPE_CHECKING:
    from docker import DockerClient

_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
_REQUIREMENTS = "requirements.txt"


def ready(client: DockerClient, config: DockerConfig, context: SystemContext, progress: ReportProgress) -> str:
    """See that the image is there.

    :param context: says what must be in hfopt's own, and where a build's output goes
    :return: its name
    :raises HfoptError: it can't be built, or is nowhere
    """
    given = config.local_docker_config
    if given.image_name is None:
        name, files = own(config, context.distributions)
        if not _is_there(client, name):
            source = {"fileobj": _packed(files), "custom_context": True}
            _build(client, source, name, given.build_args, context.log, progress)
        return name
    if given.build_context_path is not None:
        source = {"path": given.build_context_path, "dockerfile": given.dockerfile}
        _build(client, source, given.image_name, given.build_args, context.log, progress)
    elif not _is_there(client, given.image_name):
        _pull(client, given.image_name, progress)
    return given.image_name


def dockerfile(base: str, arguments: Iterable[str]) -> str:
    """Of hfopt's own image: what hfopt and its plugins depend on, and nothing of hfopt, which comes with each run.

    :param arguments: names of build arguments
    """
    lines = [f"FROM {base}", *(f"ARG {name}" for name in sorted(arguments)), f"COPY {_REQUIREMENTS} /hfopt/"]
    return "\n".join([*lines, f"RUN python3 -m pip install --no-cache-dir -r /hfopt/{_REQUIREMENTS}", ""])


def own(config: DockerConfig, distributions: Iterable[str]) -> tuple[str, dict[str, str]]:
    """hfopt's own image: its name, which says what it is made of, so that it is built once; and its build's files.

    :param distributions: hfopt and the plugins whose requirements it must have
    """
    arguments = config.local_docker_config.build_args
    base = config.base_image or f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
    more = [] if config.requirements_file is None else [Path(config.requirements_file).read_text("utf-8")]
    needed = requirements(distributions, "gpu" if config.wants_gpu else "cpu")
    files = {"Dockerfile": dockerfile(base, arguments), _REQUIREMENTS: "\n".join([*needed, *more])}
    return f"hfopt:{sha256(repr((files, sorted(arguments.items()))).encode()).hexdigest()[:16]}", files


def _is_there(client: DockerClient, name: str) -> bool:
    import docker.errors

    with explained(f"image {name}"):
        try:
            client.images.get(name)
        except docker.errors.ImageNotFound:
            return False
    return True


def _build(
    client: DockerClient,
    source: Mapping[str, Any],
    name: str,
    arguments: Mapping[str, str],
    log: Path,
    progress: ReportProgress,
) -> None:
    with explained(f"image {name} could not be built"), open(log, "a", encoding="utf-8") as printed:
        said = client.api.build(
            **source,
            tag=name,
            buildargs=dict(arguments),
            rm=True,
            forcerm=True,
            decode=True,
            labels={"hfopt.image": "1"},
        )
        for line in _printed(said, f"image {name} could not be built", f"what the build printed is in {log}"):
            printed.write(line)
            if step := _STEP.match(line):
                progress(f"building {name}: {step[3]}", int(step[1]) - 1, int(step[2]))


def _pull(client: DockerClient, name: str, progress: ReportProgress) -> None:
    progress(f"pulling {name}", 0, None)
    doing = f"image {name} is neither on this machine nor to be had from its registry"
    with explained(doing):
        tag = None if "@" in name or ":" in name.rpartition("/")[2] else "latest"
        for _ in _printed(client.api.pull(name, tag=tag, stream=True, decode=True), doing, "build or load it first"):
            pass


def _printed(said: Iterator[dict[str, Any]], doing: str, hint: str) -> Iterator[str]:
    """The lines that an engine prints while it works.

    :raises HfoptError: it says that it has failed
    """
    for each in said:
        if "error" in each:
            raise HfoptError(f"{doing}: {' '.join(str(each['error']).split())}", hint=hint)
        yield from str(each.get("stream", "")).splitlines(keepends=True)


def _packed(files: Mapping[str, str]) -> io.BytesIO:
    """A build's context in memory."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    packed.seek(0)
    return packed
