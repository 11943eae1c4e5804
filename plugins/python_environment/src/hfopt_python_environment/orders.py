"""What a managed environment is to hold, and the key under which one that holds it is kept."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

from hfopt import UsageError
from hfopt_python_environment import sources
from hfopt_python_environment.interpreters import Interpreter

SCHEMA = 1
_OTHER_FILE = re.compile(r"(?:-r|--requirement|-c|--constraint)[\s=]*(\S+)")
_COMMENT = re.compile(r"(^|\s)#.*$", re.MULTILINE)


@dataclass(frozen=True)
class Order:
    """What a managed environment is to hold.

    :param base: what the environment is made from
    :param installer: ``uv`` or ``pip``
    :param needed: what hfopt and its plugins require
    :param asked: what the config asks for
    :param file: the config's requirements file
    :param lock: the config's lock file: if there is one, it is all that is installed
    """

    base: Interpreter
    installer: str
    needed: tuple[str, ...]
    asked: tuple[str, ...] = ()
    file: Path | None = None
    lock: Path | None = None

    @property
    def lines(self) -> list[str]:
        """Every requirement, in order of name."""
        return sorted({*self.needed, *self.asked}, key=str.casefold)

    @property
    def key(self) -> str:
        """Of an environment that holds it, wherever it is.

        :raises UsageError: a requirement names a folder, whose content may change
        """
        settings = {**sources.of_pip(), **(sources.of_uv() if self.installer == "uv" else {})}
        content = {
            "schema": SCHEMA,
            "base": self.base.identity,
            "installer": self.installer,
            "requirements": [] if self.lock else self.lines,
            "content": [_digests(self.asked, Path()), *_content(self.file), *_content(self.lock)],
            "settings": sources.without_users(settings),
        }
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]

    def preferred(self, here: Mapping[str, str]) -> dict[str, str]:
        """The versions here that what is asked for admits.

        :param here: version by name
        """
        asked = [(canonicalize_name(each.name), each) for each in _by_name(self.asked, self.file)]
        refused = {
            name
            for name, each in asked
            if name in here and (each.url or not each.specifier.contains(here[name], prereleases=True))
        }
        return {name: version for name, version in here.items() if name not in refused}

    @property
    def direct(self) -> frozenset[NormalizedName]:
        """The names of all that is required by name."""
        return named((*self.needed, *self.asked), self.file)


def named(lines: Iterable[str], file: Path | None) -> frozenset[NormalizedName]:
    """The packages that requirements, and those in a file, name."""
    return frozenset(canonicalize_name(each.name) for each in _by_name(lines, file))


def _by_name(lines: Iterable[str], file: Path | None) -> Iterator[Requirement]:
    """Requirements by name; a line that has none, such as a path, is left to the installer."""
    for line in (*lines, *(() if file is None else _lines(file))):
        try:
            yield Requirement(line.partition(" --")[0])
        except InvalidRequirement:
            continue


def _lines(file: Path) -> list[str]:
    text = _COMMENT.sub("", file.read_text("utf-8")).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _content(file: Path | None) -> Iterator[object]:
    """The lines of a requirements file and of those that it names, and the digests of packages that they name."""
    queue = [] if file is None else [file]
    for each in queue:  # which grows meanwhile
        lines = _lines(each)
        yield lines
        yield _digests(lines, each.parent)
        others = [each.parent / match[1] for line in lines if (match := _OTHER_FILE.match(line))]
        queue += [other for other in others if other.is_file() and other not in queue]


def _digests(lines: Iterable[str], folder: Path) -> dict[str, str]:
    """The digests of packages that are named by their path, by line.

    :raises UsageError: a folder is
    """
    found = {}
    for line in lines:
        named = re.split(" --|;", line)[0].strip()
        url = urlsplit(named.partition("@")[2].strip() or named)
        place = folder / (unquote(url.path) if url.scheme == "file" else named)
        if os.path.isdir(place) and ("/" in named or named.startswith(".")):
            raise UsageError(
                f"{line}: an environment is made once for what is asked for, and a folder may change afterwards",
                hint="build a wheel (pip wheel --no-deps FOLDER) and name that",
            )
        if os.path.isfile(place):
            with place.open("rb") as content:
                found[line] = file_digest(content, "sha256").hexdigest()
    return found
