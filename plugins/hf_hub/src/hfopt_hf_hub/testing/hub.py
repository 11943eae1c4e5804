"""A Hugging Face hub on loopback: as much of one as ``huggingface_hub`` 2.4 uses.

Clients read ``HF_ENDPOINT`` when they are imported, so they run in a subprocess with `Hub.environment`::

    def test_something(hub):
        commit = hub.add_model("acme/tiny", tmp_path / "model")
        subprocess.run([sys.executable, "-c", ...], env={**os.environ, **hub.environment}, check=True)
        assert [request.path for request in hub.requests] == [...]

Weights and tables are kept by LFS: they are redirected to another origin, as the hub does, and a client must not send
its token there.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from hashlib import sha1, sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from hfopt_hf_hub.testing.hub_http import Contents, Fault, Kind, Repository, Request, Server, git_blob

TOKEN = "hf_loopback"  # noqa: S105 - of a hub that exists in tests only
"""The token that every hub knows."""


class Hub:
    """Serves until it is closed; a context manager. Every request is recorded.

    :param home: the folder of its clients (``HF_HOME``), with their cache; it need not exist
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._contents = Contents({TOKEN})
        self._server = Server(self._contents)
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
        return self._server.files_url

    @property
    def requests(self) -> list[Request]:
        """What clients asked for, oldest first."""
        return self._contents.requests

    @property
    def tokens(self) -> set[str]:
        """The tokens of known users; any other is refused. To be added to."""
        return self._contents.tokens

    @property
    def logins(self) -> set[str]:
        """``user:password`` of a gateway before the hub: if there are any, ``HF_ENDPOINT`` must have one of them."""
        return self._contents.logins

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make a subprocess a client of this hub only, without a token; they go over ``os.environ``."""
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
        """Commit files to a branch of a model, creating both if needed.

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

    def add_space(
        self,
        name: str,
        files: Path | Mapping[str, bytes],
        *,
        branch: str = "main",
        readers: Collection[str] | None = None,
    ) -> str:
        """`add_model` for a space, such as a metric of evaluate."""
        return self._add("space", name, files, branch, readers)

    def rename(self, kind: Kind, old: str, new: str) -> None:
        """Redirect requests for the old name to the new one, as the hub does for ``glue``, now ``nyu-mll/glue``."""
        self._contents.renamed[kind, old] = new

    def remove(self, kind: Kind, name: str) -> None:
        """Delete a model or dataset."""
        del self._contents.repositories[kind, name]

    def busy(self, times: int, *, part: str = "", retry_after: int = 0) -> None:
        """Answer the next requests for a path that has `part` in it with 429.

        :param retry_after: seconds that the client is asked to wait
        """
        self._contents.faults.append(Fault(part, times, retry_after=retry_after))

    def cut(self, times: int, *, after: int, part: str = "", reset: bool = False) -> None:
        """Drop the connection of the next downloads of a path that has `part` in it.

        :param after: bytes of content that are sent before; the client keeps whole chunks, of 10 MiB by default
        :param reset: abruptly, as by a router that forgets the connection: the client itself resumes
            downloads that were closed, not those that were reset
        """
        self._contents.faults.append(Fault(part, times, cut_after=after, reset=reset))

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
        new = Repository(None if readers is None else frozenset(readers))
        repository = self._contents.repositories.setdefault((kind, name), new)
        listing = "".join(f"{git_blob(files[path])} {path}\n" for path in sorted(files))
        commit = sha1(listing.encode(), usedforsecurity=False).hexdigest()
        repository.commits[commit] = {path: files[path] for path in sorted(files)}
        repository.branches[branch] = commit
        self._contents.blobs.update({sha256(content).hexdigest(): content for content in files.values()})
        return commit
