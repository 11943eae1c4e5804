"""The hub's token in a job: the secret ``hf-token`` of a key vault, which the compute's managed identity may read.

It goes from the vault into this process and its worker, and nowhere else. The job's definition has the vault's name.
"""

from __future__ import annotations

import json
import os
from functools import partial

from hfopt import PreconditionFailed
from hfopt_azureml.client_config import AzureMLClientConfig
from hfopt_azureml.clients import SignIn, be_quiet
from hfopt_azureml.sentences import told

KEYVAULT = "HFOPT_KEYVAULT"
"""The variable of a job that names the vault."""
SECRET = "hf-token"  # noqa: S105 - the secret's name
SCOPE = "https://vault.azure.net/.default"
API_VERSION = "7.4"
_IDENTITY = "DEFAULT_IDENTITY_CLIENT_ID"
"""The variable with which AzureML tells a job which of the compute's identities is its own."""


def log_in(client: AzureMLClientConfig) -> None:
    """Have this process know the hub's token, if the job is told of a vault.

    It is in ``HF_TOKEN`` then, as if a user had set it: workers get it in a file without a name, and what they print
    goes through this process, which takes it out. To be called before a worker is started.

    :param client: how often, and how long, the vault is asked
    :raises PreconditionFailed: as `hub_token`
    """
    if vault := os.environ.get(KEYVAULT):
        os.environ["HF_TOKEN"] = hub_token(vault, client)


def hub_token(vault: str, client: AzureMLClientConfig) -> str:
    """The token that a vault has, which the managed identity of this job's compute reads.

    :raises PreconditionFailed: there is no such identity, vault or secret, or the identity may not read it
    """
    try:
        from azure.core.exceptions import AzureError
        from azure.core.rest import HttpRequest
        from azure.identity import ManagedIdentityCredential

        from hfopt_azureml.rest import ask
    except ImportError as error:
        raise PreconditionFailed(
            f"hf_token is true, and the environment of the job can't read key vault {vault}: {error}",
            hint="azure-identity must be installed in the job's environment",
        ) from error
    be_quiet()
    address = f"https://{vault}.vault.azure.net/secrets/{SECRET}"
    request = HttpRequest("GET", address, params={"api-version": API_VERSION})
    try:
        identity = SignIn(partial(ManagedIdentityCredential, client_id=os.environ.get(_IDENTITY)))
        token = ask(request, identity, SCOPE, client).get("value")
    except (AzureError, json.JSONDecodeError) as error:  # the latter of an endpoint for identities that is none
        raise _explained(error, vault, client) from error
    if not str(token or "").strip():
        raise _missing(vault, "is empty")
    return str(token).strip()


def _explained(error: Exception, vault: str, client: AzureMLClientConfig) -> PreconditionFailed:
    """What stood between the job and the token."""
    from azure.core.exceptions import ClientAuthenticationError

    status = getattr(error, "status_code", None)
    inner = getattr(getattr(error, "error", None), "innererror", None)
    reason = str((inner or {}).get("code", ""))
    if status is None and isinstance(error, ClientAuthenticationError):
        return PreconditionFailed(
            f"this job has no managed identity, which hf_token needs to read key vault {vault}{told(error)}",
            hint="give its compute one: az ml compute update --name COMPUTE --identity-type SystemAssigned",
        )
    if status == 404:
        return _missing(vault, "is not there")
    if status == 403 and reason == "SecretDisabled":
        return _missing(vault, "is disabled")
    if status == 403 and reason.startswith("ForbiddenByFirewall"):
        return PreconditionFailed(
            f"key vault {vault} does not let this job's network in", hint="allow the compute's network in its firewall"
        )
    if status in (401, 403):
        return PreconditionFailed(
            f"the managed identity of this job's compute may not read secrets of key vault {vault}",
            hint="give it the role Key Vault Secrets User on the vault, or `get` in its access policy",
        )
    if status is None:
        return PreconditionFailed(
            f"key vault {vault} can't be reached from this job",
            hint="check keyvault_name in azureml_client, and whether the compute's network reaches the vault",
        )
    attempts = client.max_operation_retries + 1
    return PreconditionFailed(
        f"key vault {vault} could not answer (HTTP {status}) after {attempts} attempts", hint="run again later"
    )


def _missing(vault: str, how: str) -> PreconditionFailed:
    return PreconditionFailed(
        f"the secret {SECRET} of key vault {vault} {how}",
        hint=f"az keyvault secret set --vault-name {vault} --name {SECRET} --file TOKEN_FILE",
    )
