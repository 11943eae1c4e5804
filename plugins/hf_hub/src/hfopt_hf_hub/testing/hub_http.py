"""How `hfopt_hf_hub.testing.hub` answers: the part of the hub's protocol that ``huggingface_hub`` 2.4 speaks."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

Kind = Literal["model", "dataset", "space"]

LFS = frozenset({".arrow", ".bin", ".gz", ".h5", ".onnx", ".parquet", ".pt", ".safetensors", ".zip"})
"""Files of these kinds are redirected."""

_NAME = r"(?P<name>[^/]+?(?:/[^/]+?)??)"
_API = re.compile(
    rf"/api/(?P<kind>model|dataset|space)s/{_NAME}(?:/(?P<what>revision|tree|paths-info)/(?P<revision>[^/]+)(?:/(?P<path>.+))?)?"
)
_RESOLVE = re.compile(rf"/(?:(?P<kind>dataset|space)s/)?{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True)
class Request:
    """What a client asked. Tokens are not kept.

    :param path: decoded, without the query
    :param range: the header ``Range``, or None
    :param authorized: a token came with it
    :param host: the origin asked: the hub's own, or the one that has LFS files
    """

    method: str
    path: str
    range: str | None
    authorized: bool
    host: str


@dataclass(frozen=True)
class Repository:
    """Commits by hash (path → bytes), and the commit of each branch."""

    readers: frozenset[str] | None
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)


@dataclass
class Fault:
    """What happens to the next requests for a path that has `part` in it."""

    part: str
    times: int
    retry_after: int | None = None
    cut_after: int | None = None
    reset: bool = False


@dataclass
class Contents:
    """All that a hub has, and what it was asked.

    :param renamed: old names, and what they are called now
    :param blobs: bytes by SHA-256, 64 hex digits
    :param requests: in the order in which they came
    :param logins: user:password, one of which every request to the hub's own origin must have; none: none must
    """

    tokens: set[str]
    repositories: dict[tuple[Kind, str], Repository] = field(default_factory=dict)
    renamed: dict[tuple[Kind, str], str] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    logins: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take_fault(self, path: str, *, cuts: bool) -> Fault | None:
        """The fault that a request for a path is to meet, if any: it is used up.

        :param cuts: of those that cut a download off; else of those that refuse the request
        """
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.part in path and (fault.cut_after is not None) == cuts:
                    fault.times -= 1
                    return fault
        return None


class Server(ThreadingHTTPServer):
    """Serves what there is on a free port of loopback."""

    daemon_threads = True

    def __init__(self, contents: Contents) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.contents = contents

    @property
    def files_url(self) -> str:
        """The origin that has the LFS files."""
        return f"http://localhost:{self.server_port}"


class _Refusal(Exception):
    def __init__(self, status: int, code: str | None, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        named = {"X-Error-Code": code} if code else {}
        self.headers = {**named, "X-Error-Message": message, **headers}


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet

    def log_message(self, format: str, *args: Any) -> None:
        """The record is enough."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        contents, host = self.server.contents, self.headers.get("Host", "")
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        token, login = ("", b64decode(given).decode()) if scheme == "Basic" else (given, "")
        contents.requests.append(Request(self.command, path, self.headers.get("Range"), bool(token), f"http://{host}"))
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if (fault := contents.take_fault(path, cuts=False)) is not None:
                raise _Refusal(429, None, "too many requests", **{"Retry-After": str(fault.retry_after)})
            if token and token not in contents.tokens:
                raise _Refusal(401, None, "Invalid credentials in Authorization header")
            if contents.logins and login not in contents.logins and not path.startswith("/files/"):
                raise _Refusal(401, None, "Unauthorized")
            self._route(url.path, token, query, body)
        except _Refusal as refusal:
            content = json.dumps({"error": str(refusal)}).encode()
            self._send(refusal.status, content, {"Content-Type": "application/json", **refusal.headers})

    do_HEAD = do_GET
    do_POST = do_GET

    def _route(self, path: str, token: str, query: Mapping[str, str], body: bytes) -> None:
        """`path` is not decoded: a revision may have a slash in it."""
        if path == "/api/whoami-v2":
            if not token:
                raise _Refusal(401, None, "Invalid username or password.")
            role = {"displayName": "loopback", "role": "read"}
            self._send_json({"type": "user", "name": "tester", "auth": {"accessToken": role}})
        elif path.startswith("/files/"):
            self._send_file(self.server.contents.blobs[path.removeprefix("/files/")], path, {})
        elif (match := _API.fullmatch(path)) is not None:
            self._answer(match["what"], *self._commit(match, token), match["path"], query, body)
        elif (match := _RESOLVE.fullmatch(path)) is not None:
            self._resolve(*self._commit(match, token), unquote(match["path"]), token)
        else:
            raise _Refusal(404, None, "Not Found")

    def _commit(self, match: re.Match[str], token: str) -> tuple[str, Repository, str]:
        """Name, repository and commit that an address means."""
        kind: Kind = match["kind"] or "model"  # type: ignore[assignment] - the pattern has no others
        name = unquote(match["name"])
        if (kind, name) in self.server.contents.renamed:
            start, end = match.span("name")
            location = self.path[:start] + self.server.contents.renamed[kind, name] + self.path[end:]
            raise _Refusal(307, None, "Moved", Location=location)
        repository = self.server.contents.repositories.get((kind, name))
        if repository is None:
            if token:
                raise _Refusal(404, "RepoNotFound", "Repository not found")
            raise _Refusal(401, "RepoNotFound", "Invalid username or password.")
        revision = unquote(match["revision"] or "main")
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return name, repository, commit

    def _answer(
        self,
        what: str | None,
        name: str,
        repository: Repository,
        commit: str,
        path: str | None,
        query: Mapping[str, str],
        body: bytes,
    ) -> None:
        files = repository.commits[commit]
        if what == "tree":
            folder = unquote(path or "")
            entries = _tree(files, folder, recursive=query.get("recursive", "").lower() in ("true", "1"))
            if folder and not entries:
                raise _Refusal(404, "EntryNotFound", f"{folder} does not exist", **{"X-Repo-Commit": commit})
            self._send_json(entries)
        elif what == "paths-info":
            wanted = parse_qs(body.decode()).get("paths", [])
            self._send_json([entry for entry in _tree(files, "", recursive=True) if entry["path"] in wanted])
        else:
            facts: dict[str, Any] = {
                "private": False,
                "gated": "manual" if repository.readers is not None else False,
                "tags": [],
            }
            siblings = [{"rfilename": each} for each in files]
            self._send_json({"_id": commit, "id": name, "sha": commit, "siblings": siblings, "downloads": 0, **facts})

    def _resolve(self, name: str, repository: Repository, commit: str, path: str, token: str) -> None:
        headers = {"X-Repo-Commit": commit}
        if repository.readers is not None and token not in repository.readers:
            status = 403 if token else 401
            raise _Refusal(status, "GatedRepo", f"Access to {name} is restricted", **headers)
        content = repository.commits[commit].get(path)
        if content is None:
            raise _Refusal(404, "EntryNotFound", "Entry not found", **headers)
        if PurePosixPath(path).suffix not in LFS:
            self._send_file(content, path, {**headers, "ETag": f'"{git_blob(content)}"'})
            return
        digest = sha256(content).hexdigest()
        linked = {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        location = f"{self.server.files_url}/files/{quote(digest)}"
        self._send(302, b"", {**headers, **linked, "Location": location})

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send_file(self, content: bytes, path: str, headers: Mapping[str, str]) -> None:
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        headers = {**headers, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if asked is None:
            self._send(200, content, headers, path)
            return
        start, last = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
        if start > last:
            self._send(416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
            return
        part = {"Content-Range": f"bytes {start}-{last}/{len(content)}"}
        self._send(206, content[start : last + 1], {**headers, **part}, path)

    def _send(self, status: int, content: bytes, headers: Mapping[str, str], path: str | None = None) -> None:
        """:param path: of what may be cut off while it is sent"""
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        fault = None if path is None else self._cut(path)
        self.wfile.write(content if fault is None else content[: fault.cut_after])
        if fault is not None:
            self.wfile.flush()
            if fault.reset:  # closing with a linger of no seconds sends RST; wfile and rfile would keep the socket open
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                socket.close(self.connection.detach())
            else:
                self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def _cut(self, path: str) -> Fault | None:
        """LFS files are asked for by digest; whoever cuts them names a path of the repository."""
        digest = path.removeprefix("/files/")
        names = [path, *(self._paths_of(digest) if digest != path else ())]
        return next((fault for name in names if (fault := self.server.contents.take_fault(name, cuts=True))), None)

    def _paths_of(self, digest: str) -> list[str]:
        blob = self.server.contents.blobs[digest]
        commits = [c for r in self.server.contents.repositories.values() for c in r.commits.values()]
        return [path for commit in commits for path, content in commit.items() if content == blob]


def git_blob(content: bytes) -> str:
    """The id that git gives it, which is the hub's ETag of what is not kept by LFS."""
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _tree(files: Mapping[str, bytes], folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """The hub's listing of a folder: files and folders by path."""
    prefix = f"{folder}/" if folder else ""
    entries: dict[str, dict[str, Any]] = {}
    for path, content in files.items():
        if not path.startswith(prefix):
            continue
        parents = [parent.as_posix() for parent in PurePosixPath(path).parents][:-1]
        inside = [each for each in reversed(parents) if each.startswith(prefix) and each != folder]
        for each in inside if recursive else inside[:1]:
            oid = sha1(each.encode(), usedforsecurity=False).hexdigest()
            entries[each] = {"type": "directory", "oid": oid, "size": 0, "path": each}
        if recursive or not inside:
            entries[path] = {"type": "file", "oid": git_blob(content), "size": len(content), "path": path}
            if PurePosixPath(path).suffix in LFS:
                lfs = {"oid": sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
                entries[path]["lfs"] = lfs
    return list(entries.values())
