"""What an environment of hfopt's own must have: what hfopt and the plugins that a run uses depend on, as it is here.

hfopt and the plugins themselves are not in it: they come with each run, as they are here.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

__all__ = ["requirements"]


def requirements(distributions: Iterable[str], flavour: str) -> list[str]:
    """Lines for pip, sorted.

    :param distributions: hfopt and plugins; those that they require count too
    :param flavour: of ONNX Runtime, as an extra of plugins: cpu or gpu
    """
    plugins = {canonicalize_name(each.dist.name) for each in metadata.entry_points(group="hfopt.plugins") if each.dist}
    queue, needed = [canonicalize_name(name) for name in distributions], set()
    for name in queue:  # which grows meanwhile
        for need in map(Requirement, metadata.requires(name) or ()):
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", flavour)):
                required = canonicalize_name(need.name)
                if required not in {"hfopt", *plugins}:
                    needed.add(_pinned(need))
                elif required not in queue:
                    queue.append(required)
    return sorted(needed)


def _pinned(requirement: Requirement) -> str:
    """A requirement with the version that is here, without what only says how it was built (``+cpu``)."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    try:
        return f"{requirement.name}{extras}=={Version(metadata.version(requirement.name)).public}"
    except metadata.PackageNotFoundError:
        return f"{requirement.name}{extras}{requirement.specifier}"
