"""Making an environment, with uv or with pip."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from hfopt import PluginError
from hfopt_python_environment import sources
from hfopt_python_environment.children import without_python
from hfopt_python_environment.orders import Order

LOCK = "requirements.lock"
_WANTED, _PINNED = "requirements.in", "constraints.txt"
_CONFLICTING = re.compile(
    r"(?:The user requested \(constraint\)|satisfies the requirement|No matching distribution found for) ([\w.-]+)"
)
_NOISE = re.compile(r" \(from versions: .*?\)|ERROR: ResolutionImpossible.*|[\u00d7\u2500-\u25b6]")
"""What tells nobody anything: every version that there is, where to read on, the frames around it all."""
_EXACT = ("torch",)
"""Packages whose version here is not only preferred: their builds differ, by gigabytes."""
_SAID = 800
"""Characters of what an installer says that go into a message."""


class InstallFailed(PluginError):
    """An installer could not do it.

    :param said: all that it has printed
    """

    def __init__(self, command: Sequence[str], said: str) -> None:
        errors = [line for line in said.splitlines() if line.startswith("ERROR:")] or said.splitlines()
        told = " ".join(_NOISE.sub("", "\n".join(errors)).split())[-_SAID:]
        super().__init__(f"the environment can't be made: {told}", hint=f"what failed: {shlex.join(command)}")
        self.said = said


def find_uv() -> str | None:
    """uv on the PATH, or beside this interpreter, whose environment need not be active."""
    return shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))


def choose(asked: str | None) -> str:
    """Which installer is used.

    :raises PluginError: uv is asked for, and not there
    """
    if asked == "uv" and find_uv() is None:
        raise PluginError("uv is not on the PATH", hint="pip install uv, or leave installer out")
    return asked or ("pip" if find_uv() is None else "uv")


def with_uv(order: Order, folder: Path, here: Mapping[str, str], phase: Callable[[str], None]) -> None:
    """Make an environment with uv.

    :param folder: of the environment
    :param here: version by name, of what is installed here
    """
    uv = find_uv() or "uv"
    _run([uv, "venv", "--quiet", "--python", str(order.base.path), str(folder)], order)
    given = ["--quiet", "--python", str(folder / "bin" / "python"), *_settings_for_uv()]
    lock = folder / LOCK
    if order.lock is not None:
        shutil.copyfile(order.lock, lock)
    else:
        phase("choosing versions")
        preferred = order.preferred(here)
        wanted, pinned = _write(folder, order, _exact(preferred))
        lock.write_text(_as_lines(preferred), "utf-8")  # uv keeps what the output names already, as far as it can
        made = ["--generate-hashes", "--no-header", "--output-file", str(lock), "--constraint", str(pinned)]
        _run([uv, "pip", "compile", *given, *made, *wanted], order)
    phase("installing")
    _run([uv, "pip", "sync", *given, str(lock)], order)


def with_pip(order: Order, folder: Path, here: Mapping[str, str], phase: Callable[[str], None]) -> None:
    """Make an environment with venv and pip; arguments as of `with_uv`."""
    _run([str(order.base.path), "-m", "venv", str(folder)], order)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    _run([*pip, "install", "--upgrade", "pip"], order)  # that of an older Python may crash on some requirements
    if order.lock is not None:
        phase("installing")
        _run([*pip, "install", "--requirement", str(order.lock)], order)
    else:
        _install_preferring(order, folder, pip, here, phase)
    (folder / LOCK).write_text(_run([*pip, "freeze"], order), "utf-8")


def _install_preferring(
    order: Order, folder: Path, pip: list[str], here: Mapping[str, str], phase: Callable[[str], None]
) -> None:
    """Install with the versions that are here, without those for which that is not possible."""
    preferred = order.preferred(here)
    exact, direct = _exact(preferred), order.direct
    pinned = exact | {name: _public(version) for name, version in preferred.items() if name in direct}
    while True:
        phase("installing")
        wanted, constraints = _write(folder, order, pinned)
        command = [*pip, "install", "--constraint", str(constraints)]
        try:
            _run([*command, *(word for file in wanted for word in ("--requirement", file))], order)
            return
        except InstallFailed as error:
            if pinned == exact:
                raise
            named = {canonicalize_name(name) for name in _CONFLICTING.findall(error.said)}
            rest = {name: version for name, version in pinned.items() if name in exact or name not in named}
            pinned = exact if rest == pinned else rest


def _exact(preferred: Mapping[str, str]) -> dict[str, str]:
    return {name: _public(version) for name, version in preferred.items() if name in _EXACT}


def _public(version: str) -> str:
    """Without its local label: no index has ``2.13.0+cpu``, and ``==2.13.0`` admits it."""
    return version.partition("+")[0]


def _settings_for_uv() -> list[str]:
    """Of what pip is configured with, that which uv takes too: where files lie, and what is not to be installed."""
    settings = sources.of_pip()
    options = {"find-links": "--find-links", "constraint": "--constraint"}
    return [word for name, option in options.items() for value in settings.get(name, ()) for word in (option, value)]


def _write(folder: Path, order: Order, pinned: Mapping[str, str]) -> tuple[list[str], Path]:
    wanted, constraints = folder / _WANTED, folder / _PINNED
    wanted.write_text("".join(f"{line}\n" for line in order.lines), "utf-8")
    constraints.write_text(_as_lines(pinned), "utf-8")
    return [str(wanted), *([] if order.file is None else [str(order.file)])], constraints


def _as_lines(versions: Mapping[str, str]) -> str:
    return "".join(f"{name}=={version}\n" for name, version in versions.items())


def _run(command: Sequence[str], order: Order) -> str:
    """What a command prints. It runs in the folder of the requirements file, where relative paths in that begin."""
    folder = next((file.parent for file in (order.file, order.lock) if file is not None), None)
    done = subprocess.run(
        command, cwd=folder, env=without_python(os.environ), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise InstallFailed(command, done.stdout + done.stderr)
    return done.stdout


INSTALLERS = {"uv": with_uv, "pip": with_pip}
