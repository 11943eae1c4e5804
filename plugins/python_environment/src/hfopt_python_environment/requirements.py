"""What hfopt and its plugins require of others, as their metadata here say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

CORE = "hfopt"
_GROUP = "hfopt.plugins"


def of_core() -> list[Requirement]:
    """What the core requires."""
    return third_party([CORE])


def third_party(
    distributions: Iterable[str], named: frozenset[NormalizedName] = frozenset(), marks: Mapping[str, str] | None = None
) -> list[Requirement]:
    """What distributions of hfopt, and those of hfopt that they require, require of others.

    Of a distribution's extras those count that are met here; if one of them has a package that is named, those that
    have one instead.

    :param named: packages that the user asks for
    :param marks: what markers are evaluated with, where it differs from here
    :return: without markers, in order of name
    """
    queue = [canonicalize_name(each) for each in distributions]
    found: dict[str, Requirement] = {}
    for name in queue:  # which grows meanwhile
        for need in _needs(name, named, marks or {}):
            other = canonicalize_name(need.name)
            if not _is_own(other):
                found[str(need)] = need
            elif other not in queue:
                queue.append(other)
    return [found[each] for each in sorted(found, key=str.casefold)]


def _needs(name: str, named: frozenset[NormalizedName], marks: Mapping[str, str]) -> Iterator[Requirement]:
    lines = [Requirement(line) for line in metadata.requires(name) or ()]
    extras = metadata.metadata(name).get_all("Provides-Extra") or []
    by_extra = {
        extra: [each for each in lines if _counts(each, extra, marks) and not _counts(each, "", marks)]
        for extra in extras
    }
    asked = [extra for extra, needs in by_extra.items() if named & {canonicalize_name(each.name) for each in needs}]
    chosen = asked or [extra for extra, needs in by_extra.items() if needs and all(map(_is_met, needs))]
    for each in lines:
        if any(_counts(each, extra, marks) for extra in ("", *chosen)):
            each.marker = None
            yield each


def _counts(need: Requirement, extra: str, marks: Mapping[str, str]) -> bool:
    return need.marker is None or need.marker.evaluate({**marks, "extra": extra})


def _is_met(need: Requirement) -> bool:
    try:
        return need.specifier.contains(metadata.version(need.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def _is_own(name: str) -> bool:
    """Whether a distribution is hfopt's core or a plugin: those come with the bundle."""
    try:
        return name == CORE or bool(metadata.distribution(name).entry_points.select(group=_GROUP))
    except metadata.PackageNotFoundError:
        return False


def installed_here() -> dict[str, str]:
    """Version by name of every distribution here that hfopt does not bring itself."""
    found = [(each.metadata["Name"], each.version) for each in metadata.distributions()]
    names: dict[str, str] = {canonicalize_name(name): version for name, version in found if name}
    return {name: version for name, version in sorted(names.items()) if not _is_own(name)}
