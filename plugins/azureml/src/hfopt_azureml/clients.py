"""Clients of Azure's SDK as a config asks for them: signed in, patient, quiet, without telemetry.

Everything of Azure's is imported when a client is made: that takes 2 s and 107 MB.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from hfopt import PreconditionFailed
from hfopt_azureml.client_config import AzureMLClientConfig, Workspace
from hfopt_azureml.sentences import SIGN_IN

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.credentials import AccessToken, TokenCredential
    from azure.core.exceptions import AzureError
    from azure.core.pipeline import PipelineResponse
    from azure.core.pipeline.policies import RetryPolicy

T = TypeVar("T")
LONGEST_PAUSE = 120.0
"""Seconds, between two attempts at a request."""
_SILENT: Any = {"show_progress": False, "enable_telemetry": False}


def workspace_client(client: AzureMLClientConfig, workspace: Workspace | None = None) -> MLClient:
    """The SDK's client of a workspace. No request is made.

    :param workspace: None: the client's own
    """
    return _workspace_client(client.model_dump_json(), workspace or client.workspace)


@cache
def _workspace_client(options: str, workspace: Workspace) -> MLClient:
    from azure.ai.ml import MLClient

    client = AzureMLClientConfig.model_validate_json(options)
    be_quiet()
    place = (workspace.subscription_id, workspace.resource_group, workspace.name)
    return MLClient(sign_in := credential(client), *place, **_SILENT, **patience(client, sign_in))


def registry_client(client: AzureMLClientConfig, registry: str) -> MLClient:
    """The SDK's client of a registry, of which it asks where it is.

    :raises AzureError: there is no such registry
    """
    from azure.ai.ml import MLClient

    be_quiet()
    return MLClient(sign_in := credential(client), registry_name=registry, **_SILENT, **patience(client, sign_in))


class SignIn:
    """A credential of azure-core's. Made anew, it has no token that the service takes no more.

    :param make: a credential of azure-identity's, which keeps its tokens until they end by this machine's clock
    """

    def __init__(self, make: Callable[[], TokenCredential]) -> None:
        self._make = make
        self._current = make()

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """A token for a resource.

        :raises ClientAuthenticationError: there is none
        """
        return self._current.get_token(*scopes, **options)

    def renew(self) -> None:
        """Forget all tokens."""
        self._current = self._make()


def credential(client: AzureMLClientConfig) -> SignIn:
    """What signs in, in whichever way of azure-identity's DefaultAzureCredential works first; it keeps its tokens."""
    return _credential(client.model_dump_json(include={"default_auth_params"}))


@cache
def _credential(options: str) -> SignIn:
    from azure.identity import DefaultAzureCredential

    be_quiet()
    given = AzureMLClientConfig.model_validate_json(options).default_auth_params
    try:
        return SignIn(partial(DefaultAzureCredential, **given))
    except ValueError as error:
        raise PreconditionFailed(f"signing in to Azure is not set up as it must be: {error}", hint=SIGN_IN) from error


def patience(client: AzureMLClientConfig, sign_in: SignIn) -> dict[str, Any]:
    """Keyword arguments with which a client of azure-core waits, and asks again, as the config says."""
    return {"retry_policy": retry_policy(client, sign_in), "read_timeout": client.read_timeout}


def retry_policy(client: AzureMLClientConfig, sign_in: SignIn) -> RetryPolicy:
    """Asks again where that can help: no answer, 408, 429, 500, 502, 503, 504, and once with a new token after a 401.

    A Retry-After is obeyed.
    """
    from azure.core.pipeline.policies import RetryPolicy

    class Doubling(RetryPolicy):
        """azure-core's pauses have no jitter, and the first is none. Every POST that is made here can be repeated."""

        def configure_retries(self, options: dict[str, Any]) -> dict[str, Any]:
            settings = super().configure_retries(options)
            return {**settings, "methods": frozenset({*settings["methods"], "POST"})}

        def is_retry(self, settings: dict[str, Any], response: PipelineResponse[Any, Any]) -> bool:
            answers = [each.http_response for each in settings["history"] if each.http_response is not None]
            if response.http_response.status_code == 401 and all(each.status_code != 401 for each in answers):
                sign_in.renew()
                return True
            return bool(super().is_retry(settings, response))

        def get_backoff_time(self, settings: Mapping[str, Any]) -> float:
            return pause(client.operation_retry_interval, len(settings["history"]))

    most = client.max_operation_retries
    return Doubling(retry_total=most, retry_connect=most, retry_read=most, retry_status=most)


def patiently(client: AzureMLClientConfig, ask: Callable[[], T]) -> T:
    """Ask again, as often as the config says, what a client that asks once has asked in vain.

    :raises AzureError: the last failure, or one that asking again does not help against
    """
    from azure.core.exceptions import AzureError

    for attempt in range(1, client.max_operation_retries + 1):
        try:
            return ask()
        except AzureError as error:
            if not passing(error):
                raise
            time.sleep(pause(client.operation_retry_interval, attempt))
    return ask()


def passing(error: AzureError) -> bool:
    """Whether asking again can help: no answer has come, or not a whole one, or one that says to ask later."""
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

    if isinstance(error, HttpResponseError) and error.status_code is not None:
        return error.status_code < 400 or error.status_code in (408, 429, 500, 502, 503, 504)
    return not isinstance(error, ClientAuthenticationError)


def pause(interval: float, attempt: int) -> float:
    """Seconds to wait before asking again: about the interval, each time twice as long, spread by a quarter.

    :param attempt: from 1
    """
    spread = random.uniform(0.75, 1.25)  # noqa: S311 - so that many clients do not ask at once
    return min(interval * 2 ** max(attempt - 1, 0) * spread, LONGEST_PAUSE)


def be_quiet() -> None:
    """Keep the SDK's notes out of the log, once it is imported: `azure.ai.ml` sets a level and a handler then."""
    for name in ("azure.ai.ml", "azure.identity", "msal"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in ("azure.core.pipeline", "azure.storage", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
