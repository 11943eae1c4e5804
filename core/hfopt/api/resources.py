"""Resources: what a config names and what lies elsewhere, such as a model on a hub.

A config's value becomes a `Reference` while it is validated; a worker resolves and fetches it; components see a local
folder in its place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hfopt.api.config import Configured, ReportProgress


@dataclass(frozen=True)
class ResourceContext:
    r"""What a resource gets to work with.

    :param offline: no request may be made: what a local cache has must do
    :param progress: ``progress(phase, done, total)``
    :param hf_token: of the run's systems. true: without a token it fails; false: none is sent; null: as is possible
    :param provided_token: what `TokenProvider`\ s have for the hub at an address; to be asked if the user has no token
    :param unfinished: a folder, perhaps not there yet, on the file system of the one to fetch into, whose content stays
        if fetching fails: the next attempt to get the same finds it, and it is removed after one that succeeds
    """

    offline: bool
    progress: ReportProgress
    hf_token: bool | None = None
    provided_token: Callable[[str], str | None] = lambda _: None
    unfinished: Path | None = None


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

    on_hub: ClassVar[bool] = False
    """Whether its files come from the hub that ``hf_token`` is about: a system that logs in there may fetch them.

    `resolve` is called on the machine that runs hfopt all the same, perhaps without a token.
    """

    @abstractmethod
    def resolve(self, context: ResourceContext) -> Resolved:
        """Find out what the reference means now: at most one small request, none if it is exact already.

        :raises PreconditionFailed: there is no such thing, or no access to it, or no connection
        """

    @abstractmethod
    def fetch(self, pin: str, folder: Path, context: ResourceContext) -> Mapping[str, Any]:
        """Put the files below `folder`, which is empty: hard links to the client's own cache, or copies.

        :param pin: what `resolve` found
        :return: JSON for people: what was fetched, and whether files were copied instead of linked. ``file`` in it
            names a file below `folder`, if that is what is meant: components see it in place of the folder
        :raises PreconditionFailed: as `resolve`
        """
