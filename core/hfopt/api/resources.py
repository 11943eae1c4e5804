"""Resources: what a config names and what lies elsewhere, such as a model on a hub.

A config's value becomes a `Reference` while it is validated; a worker resolves and fetches it; components see a local
folder in its place.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hfopt.api.config import Configured, ReportProgress
from hfopt.base.values import strings_in

MARK = "resource:"


@dataclass(frozen=True)
class Reference:
    """A resource as a config means it.

    :param type: the component that resolves and fetches it: ``hf_model``, ``hf_dataset``
    :param config: its options, JSON
    """

    type: str
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def token(self) -> str:
        """Stands for the resource in a validated config, until a worker puts the fetched folder in its place."""
        return MARK + json.dumps({"type": self.type, "config": self.config}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def of(cls, token: str) -> Reference:
        """The reference that a token stands for."""
        return cls(**json.loads(token.removeprefix(MARK)))


@dataclass(frozen=True)
class ResourceContext:
    r"""What a resource gets to work with.

    :param offline: no request may be made: what a local cache has must do
    :param progress: ``progress(phase, done, total)``
    :param hf_token: of the run's systems. true: without a token it fails; false: none is sent; null: as is possible
    :param provided_token: what `TokenProvider`\ s have for the hub at an address; to be asked if the user has no token
    """

    offline: bool
    progress: ReportProgress
    hf_token: bool | None = None
    provided_token: Callable[[str], str | None] = lambda _: None


@dataclass(frozen=True)
class Resolved:
    """What a reference means now.

    :param identity: equal identities, equal files: where it lies, which version, which part. It is what counts in keys
    :param pin: what `Resource.fetch` needs to get exactly that: a commit, a version
    :param notice: a sentence for the user, such as which revision that is
    """

    identity: str
    pin: str
    notice: str | None = None


class TokenProvider(ABC):
    """Knows the token of a hub's user. Called in workers only; its module imports clients inside methods."""

    @abstractmethod
    def token(self, hub: str) -> str | None:
        """The token, None if this place has none.

        :param hub: the hub's address, ``https://huggingface.co``
        :raises PreconditionFailed: the place can't be asked
        """


class Resource(Configured):
    """Knows one kind of place. Called in workers only; its module imports clients inside methods."""

    @abstractmethod
    def resolve(self, context: ResourceContext) -> Resolved:
        """Find out what the reference means now: at most one small request, none if it is exact already.

        :raises PreconditionFailed: there is no such thing, or no access to it, or no connection
        """

    @abstractmethod
    def fetch(self, pin: str, folder: Path, context: ResourceContext) -> Mapping[str, Any]:
        """Put the files below `folder`, which is empty: hard links to the client's own cache, or copies.

        :param pin: what `resolve` found
        :return: JSON for people: what was fetched, and whether files were copied instead of linked
        :raises PreconditionFailed: as `resolve`
        """


def tokens_in(value: Any) -> Iterator[str]:
    """Every reference's token in a JSON value."""
    return (text for text in strings_in(value) if text.startswith(MARK))
