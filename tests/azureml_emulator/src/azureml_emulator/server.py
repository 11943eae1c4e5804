"""The server behind the proxy: records what is asked, lets faults strike, answers or passes on to Azurite."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import web
from yarl import URL

from azureml_emulator.azurite import SUFFIX
from azureml_emulator.faults import Fault, Faults
from azureml_emulator.identity import Identities
from azureml_emulator.wire import Answer, Call, Refusal, Route, find

_CHUNK = 1 << 16
_OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding"}
_BODILESS = (204, 304)


@dataclass(frozen=True)
class Request:
    """A request that has been answered, or whose connection was cut.

    :ivar query: without signatures
    :ivar body: what was sent; of blobs nothing
    :ivar status: None if the connection was cut
    :ivar seconds: when it ended, since the epoch
    """

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    body: bytes
    status: int | None
    seconds: float


class Server:
    """Answers HTTP requests by routes, those for blobs by Azurite. Has no routes before :meth:`serve`.

    :param azurite: port of Azurite
    :param trust: what Azurite's certificate is checked against
    """

    def __init__(self, faults: Faults, azurite: int, trust: ssl.SSLContext) -> None:
        self.requests: list[Request] = []
        self.unknown: list[str] = []
        self._faults = faults
        self._azurite = azurite
        self._trust = trust
        self._one = threading.Lock()  # handlers run one at a time, in threads, as they ask Azurite for containers

    def serve(self, routes: Iterable[Route], identities: Identities) -> None:
        """Answer by these routes from now on, to these identities."""
        self._routes, self._identities = tuple(routes), identities

    async def start(self, tls: ssl.SSLContext) -> None:
        """Listen on loopback, on ``secure_port`` with TLS and on ``plain_port`` without."""
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(ssl=self._trust, limit=0),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=1)
        await self._runner.setup()
        for context in (tls, None):
            await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        self.secure_port, self.plain_port = (int(address[1]) for address in self._runner.addresses)

    async def close(self) -> None:
        """Listen no more."""
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        host, path = request.host.partition(":")[0].lower(), request.path
        query = dict(parse_qsl(request.query_string, keep_blank_values=True))
        fault = self._faults.strike(request.method, host, path)
        cut = fault if fault is not None and fault.status is None else None
        body, status = b"", None
        try:
            if cut is not None and cut.cut == "request":
                await _read(request, cut.after)
                _cut(request)
                return web.Response()
            if fault is not None and fault.status is not None:
                await _read(request, None)
                response = await _send(request, *_error(fault, host), cut=None)
            elif host.endswith(SUFFIX):
                response = await self._pass_on(request, cut)
            else:
                body = await request.read()
                answer = await asyncio.to_thread(
                    self._answer, Call(request.method, host, path, query, request.headers, body)
                )
                content = b"" if answer.body is None else json.dumps(answer.body).encode()
                headers = {"Content-Type": "application/json", **answer.headers}
                response = await _send(request, answer.status, headers, content, cut=cut)
            status = response.status if cut is None else None
            return response
        finally:
            query.pop("sig", None)
            self.requests.append(Request(request.method, host, path, query, body, status, time.time()))

    def _answer(self, call: Call) -> Answer:
        found = find(self._routes, call.method, call.host, call.path)
        if found is None:
            self.unknown.append(f"{call.method} https://{call.host}{call.path}")
            return Refusal(404, "UnknownToTheEmulator", "The emulator has no such route.").answer
        route, match = found
        try:
            identity = ""
            if route.audience is not None:
                identity = self._identities.identify(call.headers.get("Authorization", ""), route.audience)
            with self._one:
                return route.handler(replace(call, match=match, identity=identity))
        except Refusal as refusal:
            return refusal.answer
        except Exception as error:  # raised again, to the client as a 500; the fixture tells the reason
            self.unknown.append(f"{call.method} https://{call.host}{call.path}: {error!r}")
            raise

    async def _pass_on(self, request: web.BaseRequest, cut: Fault | None) -> web.StreamResponse:
        """Have Azurite answer. It takes the account from the Host header."""
        url = URL(f"https://127.0.0.1:{self._azurite}{request.raw_path}", encoded=True)
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _OF_ONE_CONNECTION]
        content = request.content if request.body_exists else None
        async with self._session.request(
            request.method, url, headers=headers, data=content, allow_redirects=False
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OF_ONE_CONNECTION}
            return await _send(request, answer.status, kept, answer.content.iter_chunked(_CHUNK), cut=cut)


async def _send(
    request: web.BaseRequest,
    status: int,
    headers: Mapping[str, str],
    content: bytes | AsyncIterator[bytes],
    *,
    cut: Fault | None,
) -> web.StreamResponse:
    """Answer, up to where a fault cuts it."""
    response = web.StreamResponse(status=status, headers=headers)
    if isinstance(content, bytes):
        response.content_length = len(content)
        content = _once(content)
    if cut is not None and cut.after == 0:
        _cut(request)
        return response
    left = None if cut is None else cut.after
    with suppress(OSError):  # the client has gone
        await response.prepare(request)
        if request.method != "HEAD" and status not in _BODILESS:
            async for chunk in content:
                await response.write(chunk[:left])
                if left is not None and (left := left - len(chunk)) <= 0:
                    break
        if cut is None:
            await response.write_eof()
    if cut is not None:
        _cut(request)
    return response


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _read(request: web.BaseRequest, most: int | None) -> None:
    """Take in a request's body, or its first bytes."""
    taken = 0
    while (most is None or taken < most) and (chunk := await request.content.read(_CHUNK)):
        taken += len(chunk)


def _cut(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()


def _error(fault: Fault, host: str) -> tuple[int, Mapping[str, str], bytes]:
    """A fault's status in the form of the service it strikes."""
    status = int(fault.status or 500)
    code = fault.code or {429: "TooManyRequests", 401: "ExpiredAuthenticationToken"}.get(status, "InternalServerError")
    message = fault.message or f"A fault on demand: {code}"
    if host.endswith(SUFFIX):
        text = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
        return status, {"Content-Type": "application/xml", "x-ms-error-code": code, **fault.headers}, text.encode()
    text = json.dumps({"error": {"code": code, "message": message}})
    return status, {"Content-Type": "application/json", **fault.headers}, text.encode()
