"""Requests to services of Azure that the SDK has no public call for, or one that is not worth another distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hfopt_azureml.client_config import AzureMLClientConfig
from hfopt_azureml.clients import SignIn, patience

if TYPE_CHECKING:
    from azure.core.rest import HttpRequest


def ask(request: HttpRequest, sign_in: SignIn, scope: str, client: AzureMLClientConfig) -> Any:
    """Make a request, signed, as patiently as the config says.

    :param scope: what the token is for, ``https://management.azure.com/.default``
    :return: the JSON that it is answered with
    :raises AzureError: it is not answered, or with an error
    """
    from azure.core import PipelineClient
    from azure.core.exceptions import ResourceNotFoundError
    from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RedirectPolicy

    waiting = patience(client, sign_in)
    policies = [RedirectPolicy(), waiting["retry_policy"], BearerTokenCredentialPolicy(sign_in, scope)]
    with PipelineClient[Any, Any](request.url, policies=policies, **waiting) as pipeline:
        answer = pipeline.send_request(request)
        if answer.status_code == 404:
            raise ResourceNotFoundError(response=answer)
        answer.raise_for_status()
        return answer.json()
