"""Why a step ran again, in sentences: what differs between its key's recipe and an earlier one.

What a recipe is made of: `hfopt.planning.identity`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hfopt.api.protocol import INPUT
from hfopt.base.component import PROJECT
from hfopt.cache.journal import Journal
from hfopt.cache.maintenance import Entry

_DIGEST = re.compile(rf"({INPUT})?[0-9a-f]{{64}}")
_LONGEST = 80
_SETTINGS = ("config", "parity", "accelerator", "machine", "seed")
ABSENT = object()


class Comparison(NamedTuple):
    """Why an artifact was made although there was an earlier one.

    :param key: the earlier one's key
    :param run: the run that had it for the same step; None if it is only the most similar
    :param reasons: what has changed since, upstream first: ``passes.q: bits was 8 and is now 4``
    """

    key: str
    run: int | None
    reasons: list[str]


def compare(journal: Journal, entry: Entry, there: list[Entry]) -> Comparison | None:
    """Compare an artifact with what the previous run had for its step, or else with the most similar earlier one.

    :param there: everything in the cache
    :return: None if there is no earlier one
    """
    by_key = {each.key: each for each in there}
    run, key = journal.predecessor(entry.key) or (None, "")
    if key not in by_key:
        earlier = [
            each for each in there if _comparable(each, entry) and each.manifest.created < entry.manifest.created
        ]
        if not earlier:
            return None
        run = None
        key = min(earlier, key=lambda each: len(changes(entry.manifest.recipe, each.manifest.recipe))).key
    return Comparison(key, run, list(dict.fromkeys(_reasons(entry, by_key[key], by_key))))


def _comparable(other: Entry, entry: Entry) -> bool:
    """Whether two artifacts could be of one step. The core's own steps are so only if they have the same name."""
    own = entry.manifest.component.startswith(f"{PROJECT}:")
    return other.manifest.component == entry.manifest.component and (not own or other.name == entry.name)


def _reasons(now: Entry, then: Entry, there: Mapping[str, Entry]) -> Iterator[str]:
    new, old = now.manifest.recipe, then.manifest.recipe
    yield from _inputs(new.get("inputs", {}), old.get("inputs", {}), there)
    place = _place_of(now)
    if new.get("component") != old.get("component"):
        yield f"{place}: was {old.get('component')} and is now {new.get('component')}"
        return
    if new.get("identity") != old.get("identity"):
        yield f"{place}: it resolved to {old.get('identity')} and now resolves to {new.get('identity')}"
    settings = changes(_settings(new), _settings(old))
    for path, (value, before) in settings.items():
        yield f"{place}: {_was(path.removeprefix('config.'), value, before)}"
    if not settings and new.get("paths") != old.get("paths"):
        yield f"{place}: the content of a file that belongs to its inputs has changed"
    yield from _versions(new.get("versions", {}), old.get("versions", {}))


def _inputs(new: Mapping[str, str], old: Mapping[str, str], there: Mapping[str, Entry]) -> Iterator[str]:
    for role in sorted(new.keys() | old.keys()):
        now, then = new.get(role), old.get(role)
        if now is None or then is None:
            yield f"its input {role} is {'new' if then is None else 'no longer given'}"
        elif now != then and now in there and then in there:
            yield from _reasons(there[now], there[then], there)
        elif now != then:
            gone = then if now in there else now
            yield f"its input {role} has changed; the reason is unknown because {gone[:12]} is no longer in the cache"


def _settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {part: recipe[part] for part in _SETTINGS if recipe.get(part) not in (None, {})}


def _was(path: str, value: Any, before: Any) -> str:
    if before is ABSENT or value is ABSENT:
        return f"{path} was removed" if value is ABSENT else f"{path} is new: {_short(value)}"
    if all(isinstance(each, str) and _DIGEST.fullmatch(each) for each in (value, before)):
        return f"the content of {path} has changed"
    return f"{path} was {_short(before)} and is now {_short(value)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _versions(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[str]:
    """What has changed of all that the components depend on: distributions, ``-p`` files, and what these import."""
    files = {f"module:{component.partition(':')[0]}" for component in new}
    needed, before = ({key: each[key] for each in versions.values() for key in each} for versions in (new, old))
    for name, (version, earlier) in changes(needed, before).items():
        kind, _, module = name.rpartition(":")
        what = f"the plugin file {module}.py" if name in files else f"{kind} {module}".lstrip()
        if version is ABSENT or earlier is ABSENT:
            yield f"{what} is {'now needed' if earlier is ABSENT else 'no longer needed'}"
        elif kind:
            yield f"{what} has changed"
        elif version.startswith("source:") and earlier.startswith("source:"):
            yield f"{what} has changed (its source)"
        else:
            yield f"{what} was {earlier} and is now {version}"


def _place_of(entry: Entry) -> str:
    """Where in a config the step is defined."""
    places = {"pass": f"passes.{entry.name}", "data": f"data_configs.{entry.name.removeprefix('data ')}"}
    return places.get(entry.manifest.kind, entry.name)


def changes(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """By path, what differs between two pieces of JSON: the new value and the old, `ABSENT` where there is none."""
    now, then = flatten(new), flatten(old)
    pairs = {path: (now.get(path, ABSENT), then.get(path, ABSENT)) for path in sorted(now.keys() | then.keys())}
    return {path: (value, before) for path, (value, before) in pairs.items() if value != before}


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Nested JSON as one level: ``{"a": {"b": 1}, "c": [{"d": 2}]}`` as ``{"a.b": 1, "c[0].d": 2}``."""
    parts: dict[str, Any] = {}
    if isinstance(value, Mapping):
        parts = {f"{path}.{key}": inner for key, inner in value.items()}
    elif isinstance(value, list) and all(isinstance(inner, Mapping) for inner in value):
        parts = {f"{path}[{number}]": inner for number, inner in enumerate(value)}
    if not parts:
        return {path.removeprefix("."): value} if path else {}
    return {name: leaf for place, inner in parts.items() for name, leaf in flatten(inner, place).items()}
