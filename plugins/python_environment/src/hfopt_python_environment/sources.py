"""What pip and uv are configured with that decides what they install, without running them: pip takes half a second."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from configparser import Error, RawConfigParser
from hashlib import sha256
from pathlib import Path

_DECIDING = (
    "constraint", "extra-index-url", "find-links", "index-url", "no-binary", "no-index", "only-binary", "pre",
    "prefer-binary", "uploaded-prior-to",
)  # fmt: skip
_USERINFO = re.compile(r"(?<=://)[^/@\s]*@")
_DECIDING_UV = re.compile(
    r"UV_\w*(INDEX|FIND_LINKS|CONSTRAINT|OVERRIDE|PRERELEASE|RESOLUTION|EXCLUDE|BINARY|TORCH)\w*(?<!_USERNAME)(?<!_PASSWORD)"
)


def of_pip() -> dict[str, list[str]]:
    """pip's settings, from its configuration files and variables; later ones replace earlier ones, as in pip."""
    found: dict[str, list[str]] = {}
    if os.environ.get("PIP_CONFIG_FILE") != os.devnull:
        for file in _files_of_pip():
            parser = RawConfigParser()
            try:
                parser.read(file, "utf-8")
            except (Error, UnicodeDecodeError):
                continue  # pip itself says what is wrong with it
            for section in filter(parser.has_section, ("global", "install")):
                found |= {name: value.split() for name, value in parser.items(section) if name in _DECIDING}
    variables = {name: os.environ.get(f"PIP_{name.upper().replace('-', '_')}") for name in _DECIDING}
    found |= {name: value.split() for name, value in variables.items() if value}
    return {name: found[name] for name in _DECIDING if name in found}


def of_uv() -> dict[str, str]:
    """uv's variables, and the digests of its configuration files."""
    if written := os.environ.get("UV_CONFIG_FILE"):
        files = [Path(written)]
    else:
        files = [folder / "uv" / "uv.toml" for folder in (Path("/etc"), _settings_folder())]
    variables = {name: value for name, value in sorted(os.environ.items()) if _DECIDING_UV.fullmatch(name)}
    return variables | {str(file): sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}


def without_users(settings: Mapping[str, object]) -> dict[str, str]:
    """Settings as text whose URLs have no user and no password: they decide nothing, and may change."""
    return {name: _USERINFO.sub("", str(value)) for name, value in settings.items()}


def _files_of_pip() -> Iterator[Path]:
    """In the order in which pip reads them in an environment that has none of its own."""
    for folder in (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep):
        yield Path(folder, "pip", "pip.conf")
    yield Path("/etc/pip.conf")
    yield Path("~/.pip/pip.conf").expanduser()
    yield _settings_folder() / "pip" / "pip.conf"
    if file := os.environ.get("PIP_CONFIG_FILE"):
        yield Path(file)


def _settings_folder() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
