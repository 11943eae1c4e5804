"""Which token the hub is sent: the user's own, or that of a plugin."""

from __future__ import annotations

from hfopt import PreconditionFailed
from hfopt.api.resources import ResourceContext
from hfopt_hf_hub.sentences import endpoint


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
