"""Keys, values and component names of Olive's configs that this version does not act on: tables.toml, applied."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from fnmatch import fnmatchcase
from functools import reduce
from importlib.resources import files
from operator import getitem
from typing import Any

from hfopt import Problem
from hfopt.api.dialects import Dialect, Place, Translation, dotted

_TABLES = tomllib.loads(files(__package__).joinpath("tables.toml").read_text("utf-8"))
_SENTENCES: Mapping[str, str] = _TABLES["sentences"]


def _reasons(table: str) -> dict[str, dict[str, str]]:
    return {
        section: {key: reason.format(**_SENTENCES) for key, reason in keys.items()}
        for section, keys in _TABLES[table].items()
    }


REFUSED = _reasons("refused")
"""Section to key to the reason why this version can't act on it."""

IGNORED = _reasons("ignored")
"""Section to key to the notice with which it is left out."""

UNAVAILABLE: Mapping[str, Sequence[str]] = _TABLES["unavailable"]
"""Declaring hook to the components of Olive's that this version does not have."""


def strip_unsupported(config: Any) -> tuple[Any, list[Problem], list[str]]:
    """A config without the keys that this version refuses or ignores, with a problem or a notice for each of them."""
    config, problems, notices = deepcopy(config), [], []
    for section, patterns in _TABLES["sections"].items():
        refused, ignored = REFUSED.get(section, {}), IGNORED.get(section, {})
        for place, found in (each for pattern in patterns for each in _objects(config, pattern)):
            for key in [key for key in found if key in refused or key in ignored]:
                value = found.pop(key)
                if key in refused and value:
                    problems.append(Problem((*place, key), refused[key]))
                if key in ignored and value is not None:
                    notices.append(f"{dotted((*place, key))} is ignored: {ignored[key]}")
    return config, problems, notices


def _objects(value: Any, pattern: Sequence[str], place: Place = ()) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Every object whose place matches the pattern, after its place."""
    if not pattern and isinstance(value, dict):
        yield place, value
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts if pattern else ():
        if fnmatchcase(str(key), pattern[0]):
            yield from _objects(part, pattern[1:], (*place, key))


def take_functions(config: Any) -> tuple[Any, dict[Place, Any]]:
    """A config in which functions that yield rows, or judge models, are the names of data configs.

    :return: also those data configs, by the place of their options
    """
    config, taken, told = deepcopy(config), {}, _TABLES["functions"]
    for place, found in [each for pattern in told["in"] for each in _objects(config, pattern)]:
        around = reduce(getitem, place[:-1], config)
        of_metric, kind = place[-1] == "user_config", str(around.get("type")).casefold()
        wanted = [container for name, container in told["containers"].items() if found.get(name)]
        custom = of_metric and kind == "custom"
        if not custom and not (wanted and (of_metric or kind in told["passes"])):
            continue
        options = {key: found.pop(key) for key in told["options"] if key in found}
        if custom:
            around["functions"] = options
        if wanted:
            name = (around if of_metric else found)["data_config"] = re.sub(r"\W", "_", dotted(place))
            taken[place] = {**options, "name": name, "type": wanted[0]}
    return config, taken


def take_rows(config: Any) -> dict[Place, Any]:
    """Data configs of what ``user_config`` says of rows: a function that makes predictions of those that are named, or
    without a data config the shapes of what models are timed on.

    :param config: is changed: the metrics name these data configs
    :return: by the place of their options
    """
    taken: dict[Place, Any] = {}
    known = {str(each.get("name")): each for _, each in _objects(config, ("data_configs", "*"))}
    for place, found in [each for pattern in _TABLES["sections"]["user_config"] for each in _objects(config, pattern)]:
        metric = reduce(getitem, place[:-1], config)
        rows = metric.get("data_config")
        entry: Any = known.get(rows) if isinstance(rows, str) else rows
        own = isinstance(entry, dict) and entry.get("user_script") in (None, found.get("user_script"))
        if rows is None and found.get("input_shapes"):
            shapes = {key: found.pop(key) for key in _TABLES["functions"]["shapes"] if key in found}
            taken[place] = {"type": "DummyDataContainer", "params_config": shapes}
        elif own and found.get("post_processing_func"):
            script = {key: found.pop(key) for key in ("user_script", "script_dir") if key in found}
            params = (found.pop("func_kwargs", None) or {}).get("post_processing_func")
            function = {"type": found.pop("post_processing_func"), "params": params}
            taken[place] = {**entry, **script, "post_process_data_config": function}
        if place in taken:
            metric["data_config"] = taken[place]["name"] = re.sub(r"\W", "_", dotted(place))
    return taken


def take_inline(config: Any) -> dict[str, dict[Place, Any]]:
    """Put names in place of the entries of sections that are written out where a name may stand.

    :param config: is changed
    :return: by section the entries, by place, which is the name of those that have none of their own
    """
    taken = {}
    for section, patterns in _TABLES["inline"].items():
        taken[section] = {place: each for pattern in patterns for place, each in _objects(config, pattern)}
        for place, entry in taken[section].items():
            name = dotted(place)
            if section == "data_configs":
                name = str(entry.setdefault("name", re.sub(r"\W", "_", name)))
            reduce(getitem, place[:-1], config)[place[-1]] = name
    return taken


class Olive(Dialect):
    """Configs of Olive's, of versions 0.2 to 0.6."""

    @staticmethod
    def translate(config: dict[str, Any]) -> Translation:
        """See `Dialect.translate`."""
        config, functions = take_functions(config)
        rows = take_rows(config)
        config, problems, notices = strip_unsupported(config)
        entries = take_inline(config)
        entries["data_configs"] |= functions | rows
        return Translation(config, entries, rows.keys(), problems, notices)

    @staticmethod
    def unavailable(hook: str, name: str) -> str | None:
        """See `Dialect.unavailable`."""
        short = name.rpartition(":")[2].casefold()
        return next((each for each in UNAVAILABLE.get(hook, ()) if each.casefold() == short), None)
