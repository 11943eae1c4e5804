"""Key Vault, where each secret has its readers, and the hub's answer to who has a token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from azureml_emulator.identity import LOGIN_HOST, TENANT, VAULT, Identities
from azureml_emulator.wire import Answer, Call, Refusal, Route

SUFFIX = ".vault.azure.net"
HUB = "huggingface.co"
_CHALLENGE = {"WWW-Authenticate": f'Bearer authorization="https://{LOGIN_HOST}/{TENANT}", resource="{VAULT}"'}


@dataclass
class Vault:
    """One vault.

    :ivar readers: the identities that may get secrets: ``compute``, ``client``
    :ivar secrets: their values by name
    """

    readers: frozenset[str]
    secrets: dict[str, str] = field(default_factory=dict)


def routes(vaults: Mapping[str, Vault], hub_tokens: Mapping[str, str], identities: Identities) -> Iterable[Route]:
    """Reading a secret, and ``whoami``.

    :param hub_tokens: tokens that the hub knows, and whose they are
    """

    def secret(call: Call) -> Answer:
        try:
            identity = identities.identify(call.headers.get("Authorization", ""), VAULT)
        except Refusal as refusal:
            raise Refusal(401, "Unauthorized", str(refusal), _CHALLENGE) from None
        name, vault = call.match["name"], vaults[call.host.removesuffix(SUFFIX)]
        if identity not in vault.readers:
            raise Refusal(403, "Forbidden", f"The application '{identity}' does not have secrets get permission.")
        if name not in vault.secrets:
            raise Refusal(404, "SecretNotFound", f"A secret with (name/id) {name} was not found in this key vault.")
        identifier = f"https://{call.host}/secrets/{name}/1"
        return Answer({"value": vault.secrets[name], "id": identifier, "attributes": {"enabled": True}})

    def who(call: Call) -> Answer:
        token = call.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in hub_tokens:
            return Answer({"error": "Invalid user token."}, 401)
        access = {"accessToken": {"role": "read", "displayName": "emulator"}}
        return Answer({"type": "user", "name": hub_tokens[token], "orgs": [], "auth": access})

    yield Route("GET", f"*{SUFFIX}", "/secrets/{name}(?:/[^/]*)?", secret)
    yield Route("GET", HUB, "/api/whoami-v2", who)
    yield Route("GET", HUB, "/api/agent-harnesses", lambda call: Answer({"error": "Not Found"}, 404))
