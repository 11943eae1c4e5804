"""What hfopt's own image must have: what hfopt and the plugins that a run uses depend on, as it is here.

hfopt and the plugins themselves are not in it: they come with each run, as they are here.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def requirements(distributions: Iterable[str], flavour: str) -> list[str]:
    """Lines for pip, sorted.

    :param distributions: hfopt and plugins; those that they require count too
    :param flavour: of ONNX Runtime, as an extra of plugins: cpu or gpu
    """
    plugins = {canonicalize_name(each.dist.name) for each in metadata.entry_points(group="hfopt.plugins") if each.dist}
    brought = {"hfopt", *plugins}
    waiting, seen, needed = [canonicalize_name(name) for name in distributions], set(), set()
    while waiting:
        if (name := waiting.pop()) in seen:
            continue
        seen.add(name)
        for requirement in map(Requirement, metadata.requires(name) or ()):
            if _applies(requirement, flavour):
                required = canonicalize_name(requirement.name)
                waiting += [required] if required in brought else []
                needed |= {_pinned(requirement)} if required not in brought else set()
    return sorted(needed)


def _applies(requirement: Requirement, flavour: str) -> bool:
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", flavour))


def _pinned(requirement: Requirement) -> str:
    """A requirement with the version that is here, without what only says how it was built (``+cpu``)."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    try:
        return f"{requirement.name}{extras}=={Version(metadata.version(requirement.name)).public}"
    except metadata.PackageNotFoundError:
        return f"{requirement.name}{extras}{requirement.specifier}"
