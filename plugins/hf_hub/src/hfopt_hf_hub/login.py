"""Which token the hub is sent: the user's own, or that of a plugin. And whose it is."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from hfopt import PreconditionFailed
from hfopt.api.resources import ResourceContext
from hfopt_hf_hub.sentences import endpoint, speaking

TIMEOUT = 5.0
"""Seconds that the hub has to say who is logged in."""
_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def token_for(context: ResourceContext) -> str | bool | None:
    """What ``huggingface_hub`` takes as ``token``: True and None are the user's own, the latter unless
    ``HF_HUB_DISABLE_IMPLICIT_TOKEN`` is set; False is none.

    :raises PreconditionFailed: there must be one, and there is none
    """
    if context.offline or context.hf_token is False:
        return False
    from huggingface_hub import get_token

    if get_token():
        return context.hf_token
    if token := context.provided_token(endpoint()):
        return token
    if context.hf_token:
        raise PreconditionFailed(
            f"hf_token is true, and there is no token for {endpoint()}",
            hint="run `hf auth login`, or set HF_TOKEN, or leave hf_token out if nothing is gated",
        )
    return False


def places() -> dict[str, str]:
    """The user's own tokens by the place where each is, the first of which counts."""
    from huggingface_hub import constants

    found = {name: os.environ.get(name, "") for name in _VARIABLES}
    with suppress(OSError, UnicodeError):  # a file that can't be read is none to the user
        found[constants.HF_TOKEN_PATH] = Path(constants.HF_TOKEN_PATH).read_text()
    return {place: token.strip() for place, token in found.items() if token.strip()}


def account(token: str | None) -> str | None:
    """The name of the account that a token belongs to, which the hub is asked in one request.

    :param token: None: the hub is asked all the same, whether it is there
    :return: None without a token
    :raises PreconditionFailed: the token is refused (the cause is an answer of status 401), the hub is not reached, or
        does not answer as one
    """
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    from hfopt_hf_hub.hub import Repository

    address = endpoint()
    with speaking(Repository("model", "your account"), "main"):
        headers = build_hf_headers(token=token or False)
        answer = get_session().get(f"{address}/api/whoami-v2", headers=headers, timeout=TIMEOUT)
        if token is None and answer.status_code == 401 and "@" not in address:
            return None
        hf_raise_for_status(answer)
    try:
        return str(answer.json()["name"])
    except (ValueError, TypeError, KeyError) as error:
        raise PreconditionFailed(f"{address} does not answer as a hub does", hint="check HF_ENDPOINT") from error
