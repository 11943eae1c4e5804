"""Names that options give of what is in a model."""

from __future__ import annotations

from collections.abc import Collection

from hfopt import PreconditionFailed
from hfopt.api.text import did_you_mean


def must_have(kind: str, name: str, names: Collection[str]) -> None:
    """A name that an option gives must be in the model.

    :raises PreconditionFailed: it is not, with the name that was probably meant
    """
    if name not in names:
        hint = did_you_mean(name, sorted(names))
        raise PreconditionFailed(
            f"the model has no {kind} named {name!r}",
            hint=hint or f"it has {', '.join(sorted(names)) or 'none'}",
        )
