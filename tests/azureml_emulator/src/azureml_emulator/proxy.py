"""A proxy through which clients reach the emulator by Azure's own host names, and nothing else at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Literal
from urllib.parse import urlsplit

_CHUNK = 1 << 16


Standing = Literal["served", "missing", "foreign"]
_UNREACHABLE = b"HTTP/1.1 403 Unreachable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
"""Clients of the identity service of virtual machines take 403 from a proxy for its absence, and try no more."""


class Proxy:
    """Tunnels TLS connections for some hosts to one port of this machine.

    :param standing: of a host: it is ``served``, could be one of Azure's but is ``missing``, or is ``foreign``
    :ivar port: where it listens
    :ivar refused: each ``host:port`` or address of a foreign host that a client asked for
    """

    def __init__(self, standing: Callable[[str], Standing]) -> None:
        self.refused: list[str] = []
        self._standing = standing

    async def start(self, target: int) -> None:
        """Listen on loopback.

        :param target: the port to which tunnels lead
        """
        self._target = target
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Listen no more. Tunnels end with the loop."""
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            method, address, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ", 2)
            url = urlsplit(f"https://{address}" if method == "CONNECT" else address)
            standing = self._standing(url.hostname or "")
            if standing == "served" and (method, url.port) == ("CONNECT", 443):
                upstream = await asyncio.open_connection("127.0.0.1", self._target)
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await asyncio.gather(_pump(reader, upstream[1]), _pump(upstream[0], writer))
            else:
                if standing != "missing":
                    self.refused.append(address)
                writer.write(_UNREACHABLE)
        writer.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Pass bytes on until one side ends or breaks; then the other side does as well."""
    try:
        while chunk := await source.read(_CHUNK):
            target.write(chunk)
            await target.drain()
    except OSError:
        target.transport.abort()
    else:
        target.close()
