"""What went wrong between here and the hub, in sentences. No message of another program is repeated: it could hold a
signed address or a token.

transformers and datasets wrap the client's errors, and the client wraps those of its HTTP library: what counts is the
chain of causes.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from hfopt import PreconditionFailed

if TYPE_CHECKING:
    from hfopt_hf_hub.hub import Repository

T = TypeVar("T")

PAUSES = (1.0, 2.0, 4.0)
"""Seconds to wait before asking again; the Retry-After of a busy hub counts if it is longer."""
LONGEST_PAUSE = 60.0
_CLIENTS = frozenset({"httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3"})
_BUSY = frozenset({429, 500, 502, 503, 504})
_BROKEN = frozenset(
    {"ChunkedEncodingError", "IncompleteRead", "ProtocolError", "ReadError", "RemoteProtocolError", "WriteError"}
)
"""What HTTP libraries call a connection that broke while it was used; one that never came about is not asked again."""


def patiently(ask: Callable[[], T]) -> T:
    """Ask again, a few times, if the hub says that it is busy or if the connection breaks.

    The client overcomes some kinds of break by itself; after the others, asking again begins the broken file anew, and
    keeps the whole ones.

    :raises Exception: whatever `ask` raises at last
    """
    for pause in PAUSES:
        try:
            return ask()
        except Exception as error:  # what is not a busy hub is raised again
            wait = _wait(error, pause)
            if wait is None or wait > LONGEST_PAUSE:
                raise
            time.sleep(wait)
    return ask()


@contextmanager
def speaking(repository: Repository, revision: str) -> Iterator[None]:
    """Turn failures of the client, and of libraries that use it, into `PreconditionFailed`, and keep the client quiet.

    Anything that has nothing to do with the hub goes through.

    :raises PreconditionFailed: in one sentence, with what to do next
    """
    from huggingface_hub.utils import logging as client

    level = client.get_verbosity()
    client.set_verbosity(logging.CRITICAL)
    _forget_proxies()
    try:
        yield
    except PreconditionFailed:
        raise
    except Exception as error:  # what has nothing to do with the hub is raised again
        failure = explain(error, repository, revision)
        if failure is None:
            raise
        raise failure from error
    finally:
        _forget_proxies()
        client.set_verbosity(level)


def endpoint() -> str:
    """The hub's address as it is in the environment now: the client reads it once, perhaps where it has no password."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def _forget_proxies() -> None:
    """Have the client read the environment's proxies anew; a client before 1.0 does so for each request."""
    with suppress(ImportError):
        from huggingface_hub import close_session

        close_session()


def explain(error: BaseException, repository: Repository, revision: str) -> PreconditionFailed | None:
    """The sentence for an error; None if it is not about the hub."""
    chain = list(_causes(error))
    for each in chain:
        if (failure := _answered(each, repository, revision)) is not None:
            return failure
    for each in chain:
        if (failure := _unanswered(each, repository)) is not None:
            return failure
    return _not_cached(chain, repository, revision)


def _answered(error: BaseException, repository: Repository, revision: str) -> PreconditionFailed | None:
    """What to say where the hub refused."""
    from huggingface_hub import errors

    name, page = repository.name, _page(repository)
    status = _status(error)
    if status is None:
        return None
    if isinstance(error, errors.GatedRepoError):
        if status == 403:
            return PreconditionFailed(
                f"{name} is gated, and the account whose token is used has no access to it",
                hint=f"ask for access at {page}; a fine-grained token must allow gated repositories",
            )
        return PreconditionFailed(
            f"{name} is gated: it needs an account that has accepted its licence",
            hint=f"accept the licence at {page}, then set HF_TOKEN or run `hf auth login`",
        )
    if isinstance(error, errors.DisabledRepoError):
        return PreconditionFailed(f"the hub has disabled {name}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return PreconditionFailed(
            f"the hub has no {repository.kind} {name!r} that is open to you",
            hint="check the name (there is no local folder of that name either); "
            "a private one needs HF_TOKEN or `hf auth login`",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return PreconditionFailed(f"{name} has no revision {revision!r}", hint=f"see {page}/tree/main for what it has")
    if isinstance(error, errors.EntryNotFoundError):
        return PreconditionFailed(f"{name} lacks a file at {revision} that its listing names", hint="run again")
    if status == 401 and "@" in endpoint():  # then the client sends these instead of a token
        return PreconditionFailed(
            "the hub does not accept the user and password of its address", hint="check HF_ENDPOINT"
        )
    return {
        401: PreconditionFailed(
            "the hub does not accept the token", hint="run `hf auth login` again, or unset HF_TOKEN"
        ),
        403: PreconditionFailed(f"the token may not read {name}", hint="use a token that may read it"),
        407: PreconditionFailed(
            "the proxy does not accept its user and password", hint="check HTTPS_PROXY and HTTP_PROXY"
        ),
        429: PreconditionFailed("the hub gets too many requests from here", hint="run again in a few minutes"),
    }.get(status, PreconditionFailed(f"the hub could not answer (HTTP {status})", hint="run again later"))


def _unanswered(error: BaseException, repository: Repository) -> PreconditionFailed | None:
    """Nothing came back, or it could not be kept."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return None
    if _of_a_client(error) or isinstance(error, ConnectionError | TimeoutError):
        return PreconditionFailed(
            f"the hub at {endpoint()} can't be reached for {repository.name}",
            hint="check the connection; --offline uses what was downloaded before",
        )
    if isinstance(error, errors.FileMetadataError):
        return PreconditionFailed(f"{endpoint()} does not answer as a hub does", hint="check HF_ENDPOINT")
    if isinstance(error, errors.HFValidationError):
        return PreconditionFailed(f"{repository.name!r} is not a name that a hub has")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PreconditionFailed(
            f"the disk is full while {repository.name} is downloaded to {constants.HF_HUB_CACHE}",
            hint="make room, or set HF_HOME to a folder on a larger disk; files that are complete are kept",
        )
    if isinstance(error, PermissionError):
        return PreconditionFailed(
            f"{constants.HF_HUB_CACHE} can't be written", hint="set HF_HOME to a folder that you can write to"
        )
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return PreconditionFailed(f"a file of {repository.name} did not arrive whole", hint="run again")
    return None


def _not_cached(chain: list[BaseException], repository: Repository, revision: str) -> PreconditionFailed | None:
    from huggingface_hub import errors

    if not any(isinstance(each, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled) for each in chain):
        return None
    return PreconditionFailed(
        f"the hub cache does not have all of {repository.name} at {revision}",
        hint="run once without --offline and HF_HUB_OFFLINE, which completes it",
    )


def _wait(error: BaseException, pause: float) -> float | None:
    """Seconds until asking again makes sense; None if it does not."""
    from huggingface_hub.errors import HfHubHTTPError

    for each in _causes(error):
        if isinstance(each, HfHubHTTPError) and _status(each) in _BUSY:
            told = each.response.headers.get("Retry-After", "")
            return max(pause, float(told)) if told.isdecimal() else pause
        if _broke_off(each):
            return pause
    return None


def _status(error: BaseException) -> int | None:
    """What the hub answered. Clients before 1.0 have errors of that type without an answer too."""
    from huggingface_hub.errors import HfHubHTTPError

    return getattr(error.response, "status_code", None) if isinstance(error, HfHubHTTPError) else None


def _broke_off(error: BaseException) -> bool:
    if isinstance(error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
        return True
    return _of_a_client(error) and type(error).__name__ in _BROKEN


def _of_a_client(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in _CLIENTS


def _causes(error: BaseException) -> Iterator[BaseException]:
    each: BaseException | None = error
    seen: set[int] = set()
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__


def _page(repository: Repository) -> str:
    folder = "" if repository.kind == "model" else f"{repository.kind}s/"
    return f"{endpoint()}/{folder}{repository.name}"
