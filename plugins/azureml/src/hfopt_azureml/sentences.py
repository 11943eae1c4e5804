"""What went wrong between here and Azure, in sentences. A message of the service's is repeated for its first line only,
and only where it says what to change; the core takes credentials out of it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from hfopt import PreconditionFailed
from hfopt_azureml.client_config import AzureMLClientConfig

SIGN_IN = "run `az login`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET for a service principal"
_SERVICE_PRINCIPAL = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
_LONGEST = 300
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
"""What the SDK puts into some of its messages."""


@contextmanager
def speaking(what: str, client: AzureMLClientConfig, missing: str | None = None) -> Iterator[None]:
    """Turn failures of Azure's SDK into `PreconditionFailed`. Anything else goes through.

    :param what: ``model tiny:3``
    :param missing: the hint where the service has no such thing
    :raises PreconditionFailed: in one sentence, with what to do next
    """
    try:
        from azure.core.exceptions import AzureError
    except ImportError as error:
        raise PreconditionFailed(f"Azure's SDK is not installed, and {what} needs it: {error}") from error
    try:
        yield
    except (AzureError, json.JSONDecodeError) as error:
        raise explain(error, what, client, missing) from error


def explain(error: Exception, what: str, client: AzureMLClientConfig, missing: str | None = None) -> PreconditionFailed:
    """The sentence for an error of the SDK."""
    from azure.core.exceptions import (
        ClientAuthenticationError,
        HttpResponseError,
        ResourceNotFoundError,
        ServiceRequestError,
        ServiceResponseError,
    )

    status = getattr(error, "status_code", None)
    if isinstance(error, ClientAuthenticationError) and status is None:
        return _not_signed_in(what)
    if isinstance(error, ClientAuthenticationError) or status == 401:
        return PreconditionFailed(
            f"Azure does not accept the sign-in for {what}",
            hint=f"check that it is of the workspace's tenant; {SIGN_IN}",
        )
    if "quota" in _code(error).lower():
        return PreconditionFailed(
            f"Azure has no quota left for {what}{told(error)}",
            hint="take a smaller compute, wait for other jobs, or ask for more quota in the portal",
        )
    if status == 403:
        return PreconditionFailed(
            f"the account that is signed in may not use {what}{_code(error)}",
            hint="ask for the role AzureML Data Scientist on the workspace, and Storage Blob Data Reader on its files",
        )
    if isinstance(error, ResourceNotFoundError) or status == 404:
        return PreconditionFailed(f"there is no {what}{_code(error)}", hint=missing or _place(client))
    if status == 429:
        return PreconditionFailed(f"Azure gets too many requests: {what} could not be had", hint="run again later")
    if isinstance(error, HttpResponseError) and status is not None and status >= 500:
        return PreconditionFailed(
            f"Azure could not answer for {what} (HTTP {status}) {_attempts(client)}", hint="run again later"
        )
    broken = isinstance(error, HttpResponseError) and (status is None or status < 400)
    if broken or isinstance(error, ServiceRequestError | ServiceResponseError):
        return PreconditionFailed(
            f"Azure can't be reached for {what} {_attempts(client)}", hint="check the connection, and HTTPS_PROXY"
        )
    if isinstance(error, HttpResponseError):
        return PreconditionFailed(f"Azure refuses {what} (HTTP {status}){told(error)}", hint=missing)
    return PreconditionFailed(f"{what} could not be had from Azure{told(error)}", hint=missing)


def _not_signed_in(what: str) -> PreconditionFailed:
    """No way of signing in works: told apart are a service principal that is refused, and none at all."""
    given = [name for name in _SERVICE_PRINCIPAL if os.environ.get(name)]
    if len(given) == len(_SERVICE_PRINCIPAL):
        return PreconditionFailed(
            f"Azure does not accept the service principal of AZURE_CLIENT_ID, which {what} needs",
            hint="check AZURE_TENANT_ID and AZURE_CLIENT_SECRET, which may be old, or unset them and run `az login`",
        )
    return PreconditionFailed(f"nobody is signed in to Azure, which {what} needs", hint=SIGN_IN)


def _place(client: AzureMLClientConfig) -> str:
    if client.missing:
        return "check its name"
    return f"check its name, and the workspace {client.workspace_name} of resource group {client.resource_group}"


def _attempts(client: AzureMLClientConfig) -> str:
    return f"after {client.max_operation_retries + 1} attempts"


def _code(error: Exception) -> str:
    """The service's code for what is wrong, such as ``AuthorizationFailed``: a word."""
    code = getattr(getattr(error, "error", None), "code", None) or getattr(error, "error_code", None)
    return f" ({code})" if code else ""


def told(error: Exception) -> str:
    """The first line of what the service or the SDK says."""
    text = _COLOUR.sub("", str(getattr(error, "message", "") or error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f": {lines[0][:_LONGEST]}" if lines else ""
