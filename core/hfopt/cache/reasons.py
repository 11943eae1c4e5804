"""Why a step ran again, in sentences: what differs between its key's recipe and an earlier one.

Pure functions of recipes (`hfopt.planning.identity`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hfopt.cache.store import Manifest

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LONGEST = 80
ABSENT = object()


@dataclass(frozen=True)
class Made:
    """An artifact, and the name of its step."""

    manifest: Manifest
    name: str


def reasons(now: Made, then: Made, find: Callable[[str], Made | None]) -> list[str]:
    """What has changed, upstream first: sentences such as ``passes.q: bits was 8 and is now 4``.

    :param find: an artifact by key; None if it is no longer in the cache
    """
    return list(dict.fromkeys(_reasons(now, then, find)))


def _reasons(now: Made, then: Made, find: Callable[[str], Made | None]) -> Iterator[str]:
    new, old = now.manifest.recipe, then.manifest.recipe
    yield from _inputs(new.get("inputs", {}), old.get("inputs", {}), find)
    place = place_of(now)
    if new.get("component") != old.get("component"):
        yield f"{place}: was {old.get('component')} and is now {new.get('component')}"
        return
    if new.get("identity") != old.get("identity"):
        yield f"{place}: it resolved to {old.get('identity')} and now resolves to {new.get('identity')}"
    for part in ("config", "parity", "accelerator", "machine"):
        for path, (value, before) in changes(new.get(part) or {}, old.get(part) or {}).items():
            yield f"{place}: {_was(path, value, before)}"
    yield from _versions(new.get("versions", {}), old.get("versions", {}))


def _inputs(new: Mapping[str, str], old: Mapping[str, str], find: Callable[[str], Made | None]) -> Iterator[str]:
    for role in sorted(new.keys() | old.keys()):
        now, then = new.get(role), old.get(role)
        if now == then:
            continue
        found = None if now is None else find(now)
        before = None if then is None else find(then)
        if found is not None and before is not None:
            yield from _reasons(found, before, find)
        elif now is None or then is None:
            yield f"its input {role} is {'new' if then is None else 'no longer given'}"
        else:
            gone = then if before is None else now
            yield f"its input {role} has changed; the reason is unknown because {gone[:12]} is no longer in the cache"


def _was(path: str, value: Any, before: Any) -> str:
    if before is ABSENT or value is ABSENT:
        return f"{path} was removed" if value is ABSENT else f"{path} is new: {_short(value)}"
    if isinstance(value, str) and isinstance(before, str) and _DIGEST.fullmatch(value) and _DIGEST.fullmatch(before):
        return f"the content of {path} has changed"
    return f"{path} was {_short(before)} and is now {_short(value)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _versions(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[str]:
    """Distributions that any component needs, then ``-p`` files."""
    for name, (version, before) in changes(_distributions(new), _distributions(old)).items():
        if version is ABSENT or before is ABSENT:
            yield f"{name} is {'now needed' if before is ABSENT else 'no longer needed'}"
        elif version.startswith("source:") and before.startswith("source:"):
            yield f"{name} has changed (its source)"
        else:
            yield f"{name} was {before} and is now {version}"
    files = changes(new.get("files", {}), old.get("files", {}))
    for plugin in sorted({name.partition(":")[0] for name in files}):
        yield f"the plugin file {plugin}.py has changed"


def _distributions(versions: Mapping[str, Any]) -> dict[str, str]:
    return {name: version for each in versions.get("components", {}).values() for name, version in each.items()}


def place_of(made: Made) -> str:
    """Where in a config the step is defined."""
    if made.manifest.kind == "pass":
        return f"passes.{made.name}"
    if made.manifest.kind == "data":
        return f"data_configs.{made.name.removeprefix('data ')}"
    return made.name


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
