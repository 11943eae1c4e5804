"""Tokens: who gets one from the login and the managed-identity endpoints, and what one is good for."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import jwt

from azureml_emulator.wire import Answer, Call, Refusal, Route

TENANT = "11111111-1111-1111-1111-111111111111"
CLIENT = "22222222-2222-2222-2222-222222222222"
MANAGED = "33333333-3333-3333-3333-333333333333"
ARM = "https://management.azure.com"
STORAGE = "https://storage.azure.com"
VAULT = "https://vault.azure.net"
LOGIN_HOST = "login.microsoftonline.com"
ISSUER = f"https://sts.windows.net/{TENANT}/"


@dataclass
class Identities:
    """The principals: ``client``, a service principal with a secret, and ``compute``, a managed identity.

    :ivar token_seconds: how long the tokens last that are issued from now on
    """

    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    node_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    token_seconds: int = 3600
    _key: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    _refused_before: float = 0.0

    def issue(self, identity: str, audience: str) -> tuple[str, int]:
        """A token and when it ends, in seconds since the epoch."""
        now = time.time()
        ends = int(now) + self.token_seconds
        # iat has fractions, so that expire() refuses no later token of the same second.
        claims = {"iss": ISSUER, "aud": audience, "sub": identity, "iat": now, "nbf": int(now) - 5, "exp": ends}
        return jwt.encode(claims, self._key), ends

    def expire(self) -> None:
        """Every token issued so far is refused from now on, but by the blob service, which asks no one."""
        self._refused_before = time.time()

    def identify(self, authorization: str, audience: str) -> str:
        """Whose token it is.

        :raises Refusal: 401, if there is none, or it is forged, expired or for another resource
        """
        expired = Refusal(401, "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than now.")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Refusal(401, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
        try:
            claims = jwt.decode(token, self._key, ["HS256"], audience=audience)
        except jwt.ExpiredSignatureError:
            raise expired from None
        except jwt.InvalidTokenError as error:
            raise Refusal(401, "InvalidAuthenticationToken", f"The access token is invalid: {error}") from None
        if claims["iat"] < self._refused_before:
            raise expired
        return str(claims["sub"])


def routes(identities: Identities) -> Iterable[Route]:
    """Login with a client's secret, and the managed-identity endpoint in the form that AzureML's nodes have."""

    def configuration(call: Call) -> Answer:
        base = f"https://{LOGIN_HOST}/{call.match['tenant']}"
        return Answer(
            {
                "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            }
        )

    def instances(_: Call) -> Answer:
        aliases = {"preferred_network": LOGIN_HOST, "preferred_cache": LOGIN_HOST, "aliases": [LOGIN_HOST]}
        place = f"https://{LOGIN_HOST}/common/v2.0/.well-known/openid-configuration"
        return Answer({"tenant_discovery_endpoint": place, "api-version": "1.1", "metadata": [aliases]})

    def login(call: Call) -> Answer:
        form = {name: values[0] for name, values in parse_qs(call.body.decode()).items()}
        if form.get("client_id") != CLIENT:
            return Answer({"error": "unauthorized_client", "error_description": "AADSTS700016: no such client."}, 400)
        if form.get("client_secret") != identities.client_secret:
            text = "AADSTS7000215: Invalid client secret provided."
            return Answer({"error": "invalid_client", "error_description": text}, 401)
        audience = form["scope"].split()[0].removesuffix("/.default").rstrip("/")
        token, ends = identities.issue("client", audience)
        seconds = ends - int(time.time())
        return Answer({"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token})

    def managed(call: Call) -> Answer:
        if call.headers.get("secret") != identities.node_secret:
            raise Refusal(401, "Unauthorized", "The header 'secret' is not this node's.")
        if call.query.get("clientid", MANAGED) != MANAGED:
            raise Refusal(400, "identity_not_found", "No managed identity with this client id is assigned.")
        resource = call.query["resource"].rstrip("/")
        token, ends = identities.issue("compute", resource)
        return Answer({"access_token": token, "expires_on": str(ends), "resource": resource, "token_type": "Bearer"})

    yield Route("GET", LOGIN_HOST, r"/{tenant}/v2\.0/\.well-known/openid-configuration", configuration)
    yield Route("GET", LOGIN_HOST, "/common/discovery/instance", instances)
    yield Route("POST", LOGIN_HOST, r"/{tenant}/oauth2/v2\.0/token", login)
    yield Route("GET", "127.0.0.1", "/msi/token", managed)
