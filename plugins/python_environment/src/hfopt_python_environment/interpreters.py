"""Interpreters: where an environment has its own, what one tells of itself, and whether hfopt can run there."""

from __future__ import annotations

import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hfopt import PluginError

OLDEST = (3, 11)
SECONDS = 60
_PLACES = ("bin/python", "bin/python3", "python", "python3")
_TELL = """
import sys
sys.path.remove("")
import json, platform
found = {"version": list(sys.version_info[:3]), "tag": sys.implementation.cache_tag + getattr(sys, "abiflags", ""),
         "machine": platform.machine(), "home": sys.base_prefix, "installed": {}}
if found["version"] >= [3, 8]:
    from importlib import metadata
    for name in sys.argv[1:]:
        try:
            found["installed"][name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
print()
print(json.dumps(found))
"""
"""Python of any age can run it, and it needs no package. sitecustomize may print before its last line."""


@dataclass(frozen=True)
class Interpreter:
    """What an interpreter tells of itself.

    :param tag: implementation, version and ABI, as in ``cpython-311``
    :param home: where the Python is installed that an environment is made from
    :param installed: version by name, of the distributions that it was asked about
    """

    path: Path
    version: tuple[int, ...]
    tag: str
    machine: str
    home: str
    installed: Mapping[str, str]

    @property
    def identity(self) -> dict[str, str]:
        """What decides which files are installed, and whether an environment that was made from it still works."""
        return {"python": self.text, "tag": self.tag, "machine": self.machine, "home": self.home}

    @property
    def text(self) -> str:
        """Its version, as people write it."""
        return ".".join(map(str, self.version))

    @property
    def marks(self) -> dict[str, str]:
        """What markers of requirements say of it."""
        return {"python_version": ".".join(map(str, self.version[:2])), "python_full_version": self.text}


def this() -> Interpreter:
    """The one that runs this."""
    tag = f"{sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')}"
    return Interpreter(Path(sys.executable), sys.version_info[:3], tag, platform.machine(), sys.base_prefix, {})


def of_version(version: str) -> Path:
    """The interpreter of a version, on the PATH.

    :raises PluginError: there is none
    """
    name = f"python{'.'.join(version.split('.')[:2])}"
    if (found := shutil.which(name)) is None:
        raise PluginError(f"{name} is not on the PATH", hint="install it, or name an interpreter by its path")
    return Path(found)


def find(place: Path) -> Path:
    """The interpreter of an environment.

    :param place: the environment's folder, its bin folder, or the interpreter
    :raises PluginError: there is none
    """
    if not place.is_dir():
        return place
    found = next(filter(Path.exists, (place / each for each in _PLACES)), None)
    if found is None:
        raise PluginError(
            f"{place} has no interpreter: there is neither bin/python nor python in it",
            hint="name the folder of an environment, its bin folder, or its interpreter in python_environment_path",
        )
    return found


def ask(path: Path, environment: Mapping[str, str], names: Iterable[str] = ()) -> Interpreter:
    """What an interpreter tells of itself.

    :param environment: that it runs with
    :param names: of distributions whose versions are wanted
    :raises PluginError: it can't be run, or is no Python
    """
    command = [str(path), "-c", _TELL, *map(canonicalize_name, names)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
        told = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PluginError(f"{path} can't be run: {getattr(error, 'strerror', None) or error}") from error
    except (ValueError, IndexError) as error:
        raise PluginError(f"{path} is no Python interpreter") from error
    if told is None:
        said = (done.stderr.strip().splitlines() or [""])[-1]
        raise PluginError(f"{path} can't be used: it ended with exit code {done.returncode}: {said}".removesuffix(": "))
    version = tuple(told["version"])
    return Interpreter(path, version, told["tag"], told["machine"], told["home"], told["installed"])


def check(interpreter: Interpreter, needed: Iterable[Requirement]) -> None:
    """See that hfopt can run there.

    :param needed: what its core requires, of which the interpreter was asked
    :raises PluginError: it can't, with what was found, what is needed, and the command that mends it
    """
    path = interpreter.path
    if interpreter.version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        hint = f"make the environment with another Python: python{oldest} -m venv FOLDER"
        raise PluginError(f"{path} is Python {interpreter.text}; hfopt needs {oldest} or later", hint=hint)
    wrong = {each: found for each in needed if (found := _unfit(interpreter, each)) is not None}
    if wrong:
        said = "; ".join(f"{each.name}: found {found}, needed {each.specifier}" for each, found in wrong.items())
        with_pip = canonicalize_name("pip") in interpreter.installed
        install = [str(path), "-m", "pip", "install"] if with_pip else ["uv", "pip", "install", "--python", str(path)]
        hint = shlex.join([*install, *(f"{each.name}{each.specifier}" for each in wrong)])
        raise PluginError(f"{path} lacks what hfopt needs: {said}", hint=hint)


def _unfit(interpreter: Interpreter, needed: Requirement) -> str | None:
    """What was found instead of what is needed; None if that was."""
    found = interpreter.installed.get(canonicalize_name(needed.name))
    if found is None:
        return "none"
    return None if needed.specifier.contains(found, prereleases=True) else found
