"""A Hugging Face hub on loopback, as far as ``huggingface_hub`` 2.4 asks one.

Clients read ``HF_ENDPOINT`` when they are imported, so they run in a subprocess with `Hub.environment`::

    def test_something(hub):
        commit = hub.add_model("acme/tiny", tmp_path / "model")
        subprocess.run([sys.executable, "-c", ...], env={**os.environ, **hub.environment}, check=True)
        assert [request.path for request in hub.requests] == [...]

Weights and tables are kept by LFS: they are redirected to another origin, as the hub does, and a client must not send
its token there.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

Kind = Literal["model", "dataset"]

TOKEN = "hf_loopback"  # noqa: S105 - of a hub that exists in tests only
"""The token that every hub knows."""
LFS = frozenset({".arrow", ".bin", ".gz", ".h5", ".onnx", ".parquet", ".pt", ".safetensors", ".zip"})
"""Files of these kinds are redirected."""

_NAME = r"(?P<name>[^/]+?(?:/[^/]+?)??)"
_API = re.compile(
    rf"/api/(?P<kind>model|dataset)s/{_NAME}(?:/(?P<what>revision|tree|paths-info)/(?P<revision>[^/]+)(?:/(?P<path>.+))?)?"
)
_RESOLVE = re.compile(rf"/(?:(?P<kind>dataset)s/)?{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
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
class _Repository:
    """Commits by hash (path → bytes), and the commit of each branch."""

    readers: frozenset[str] | None
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)


@dataclass
class _Fault:
    """What happens to the next requests for a path that has `part` in it."""

    part: str
    times: int
    retry_after: int | None = None
    cut_after: int | None = None
    reset: bool = False


class Hub:
    """Serves until it is closed; a context manager. Every request is recorded.

    :param home: the client's folder (``HF_HOME``): its cache is there; it need not exist
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.requests: list[Request] = []
        """In the order in which they came."""
        self.tokens = {TOKEN}
        """Tokens that are somebody's; any other is refused."""
        self._repositories: dict[tuple[Kind, str], _Repository] = {}
        self._renamed: dict[tuple[Kind, str], str] = {}
        self._blobs: dict[str, bytes] = {}
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening: further connections are refused."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """``HF_ENDPOINT``."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def files_url(self) -> str:
        """The origin that has the LFS files."""
        return f"http://localhost:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes a subprocess a client of this hub alone, without a token; to be put over ``os.environ``."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(self.home),
            "HF_HUB_CACHE": str(self.home / "hub"),
            "HF_DATASETS_CACHE": str(self.home / "datasets"),
            "HF_TOKEN_PATH": str(self.home / "token"),
            "HF_TOKEN": "",
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def add_model(
        self,
        name: str,
        files: Path | Mapping[str, bytes],
        *,
        branch: str = "main",
        readers: Collection[str] | None = None,
    ) -> str:
        """Commit files to a model's branch; both are made if they are not there.

        :param files: a folder, or bytes by path
        :param readers: the tokens whose owners may download, which makes it gated; None: everybody may
        :return: the commit, 40 hex digits that depend on names and content alone
        """
        return self._add("model", name, files, branch, readers)

    def add_dataset(
        self,
        name: str,
        files: Path | Mapping[str, bytes],
        *,
        branch: str = "main",
        readers: Collection[str] | None = None,
    ) -> str:
        """`add_model` for a dataset."""
        return self._add("dataset", name, files, branch, readers)

    def rename(self, kind: Kind, old: str, new: str) -> None:
        """Redirect what is asked of the old name to the new one, as the hub does for ``glue``, now ``nyu-mll/glue``."""
        self._renamed[kind, old] = new

    def remove(self, kind: Kind, name: str) -> None:
        """Delete a model or dataset."""
        del self._repositories[kind, name]

    def busy(self, times: int, *, part: str = "", retry_after: int = 0) -> None:
        """Answer the next requests for a path that has `part` in it with 429.

        :param retry_after: seconds to wait, as the client is told
        """
        self._faults.append(_Fault(part, times, retry_after=retry_after))

    def cut(self, times: int, *, after: int, part: str = "", reset: bool = False) -> None:
        """Drop the connection of the next downloads of a path that has `part` in it.

        :param after: bytes of content that are sent before; the client keeps whole chunks, of 10 MiB by default
        :param reset: without a goodbye, as a router that forgets the connection does: the client itself takes up
            downloads that were closed, not those that were reset
        """
        self._faults.append(_Fault(part, times, cut_after=after, reset=reset))

    def _add(
        self,
        kind: Kind,
        name: str,
        files: Path | Mapping[str, bytes],
        branch: str,
        readers: Collection[str] | None,
    ) -> str:
        if isinstance(files, Path):
            files = {p.relative_to(files).as_posix(): p.read_bytes() for p in sorted(files.rglob("*")) if p.is_file()}
        new = _Repository(None if readers is None else frozenset(readers))
        repository = self._repositories.setdefault((kind, name), new)
        listing = "".join(f"{_git_blob(files[path])} {path}\n" for path in sorted(files))
        commit = sha1(listing.encode(), usedforsecurity=False).hexdigest()
        repository.commits[commit] = {path: files[path] for path in sorted(files)}
        repository.branches[branch] = commit
        self._blobs.update({sha256(content).hexdigest(): content for content in files.values()})
        return commit

    def _fault(self, path: str, *, cuts: bool) -> _Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.times > 0 and fault.part in path and (fault.cut_after is not None) == cuts:
                    fault.times -= 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], hub: Hub) -> None:
        super().__init__(address, _Handler)
        self.hub = hub


class _Refusal(Exception):
    def __init__(self, status: int, code: str | None, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        named = {"X-Error-Code": code} if code else {}
        self.headers = {**named, "X-Error-Message": message, **headers}


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet

    def log_message(self, format: str, *args: Any) -> None:
        """The record is enough."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        hub, host = self.server.hub, self.headers.get("Host", "")
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        hub.requests.append(Request(self.command, path, self.headers.get("Range"), bool(token), f"http://{host}"))
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if (fault := hub._fault(path, cuts=False)) is not None:
                raise _Refusal(429, None, "too many requests", **{"Retry-After": str(fault.retry_after)})
            if token and token not in hub.tokens:
                raise _Refusal(401, None, "Invalid credentials in Authorization header")
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
            self._send_file(self.server.hub._blobs[path.removeprefix("/files/")], path, {})
        elif (match := _API.fullmatch(path)) is not None:
            self._answer(match["what"], *self._commit(match, token), match["path"], query, body)
        elif (match := _RESOLVE.fullmatch(path)) is not None:
            self._resolve(*self._commit(match, token), unquote(match["path"]), token)
        else:
            raise _Refusal(404, None, "Not Found")

    def _commit(self, match: re.Match[str], token: str) -> tuple[str, _Repository, str]:
        """Name, repository and commit that an address means."""
        kind: Kind = "dataset" if match["kind"] == "dataset" else "model"
        name = unquote(match["name"])
        if (kind, name) in self.server.hub._renamed:
            start, end = match.span("name")
            location = self.path[:start] + self.server.hub._renamed[kind, name] + self.path[end:]
            raise _Refusal(307, None, "Moved", Location=location)
        repository = self.server.hub._repositories.get((kind, name))
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
        repository: _Repository,
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

    def _resolve(self, name: str, repository: _Repository, commit: str, path: str, token: str) -> None:
        headers = {"X-Repo-Commit": commit}
        if repository.readers is not None and token not in repository.readers:
            status = 403 if token else 401
            raise _Refusal(status, "GatedRepo", f"Access to {name} is restricted", **headers)
        content = repository.commits[commit].get(path)
        if content is None:
            raise _Refusal(404, "EntryNotFound", "Entry not found", **headers)
        if PurePosixPath(path).suffix not in LFS:
            self._send_file(content, path, {**headers, "ETag": f'"{_git_blob(content)}"'})
            return
        digest = sha256(content).hexdigest()
        linked = {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        location = f"{self.server.hub.files_url}/files/{quote(digest)}"
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

    def _cut(self, path: str) -> _Fault | None:
        """LFS files are asked for by digest; whoever cuts them names a path of the repository."""
        digest = path.removeprefix("/files/")
        names = [path, *(self._paths_of(digest) if digest != path else ())]
        return next((fault for name in names if (fault := self.server.hub._fault(name, cuts=True))), None)

    def _paths_of(self, digest: str) -> list[str]:
        blob = self.server.hub._blobs[digest]
        commits = [c for r in self.server.hub._repositories.values() for c in r.commits.values()]
        return [path for commit in commits for path, content in commit.items() if content == blob]


def _git_blob(content: bytes) -> str:
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
            entries[path] = {"type": "file", "oid": _git_blob(content), "size": len(content), "path": path}
            if PurePosixPath(path).suffix in LFS:
                lfs = {"oid": sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
                entries[path]["lfs"] = lfs
    return list(entries.values())
