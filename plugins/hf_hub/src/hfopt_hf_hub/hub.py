"""The Hugging Face hub for plugins: what a revision is, which files it has, and those files in a folder.

Downloads are ``huggingface_hub``'s, and so is the cache: nothing is downloaded twice, whichever program asked first.
`hfopt_hf_hub.sentences` words what can go wrong. Offline, nothing here makes a request.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import Any, Literal

from hfopt import PreconditionFailed
from hfopt_hf_hub.sentences import endpoint, patiently, speaking

TIMEOUT = 10.0
"""Seconds that the hub has to answer a question; downloads have ``HF_HUB_DOWNLOAD_TIMEOUT``."""

NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
"""``owner/name``, or a bare name from the hub's first years. Never a path out of a folder."""
REVISION = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*")

_COMMIT = re.compile("[0-9a-f]{40}")
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS})


@dataclass(frozen=True)
class Repository:
    """A model, dataset or space of the hub.

    :param name: as the user writes it
    :param token: what the hub is sent, see `hfopt_hf_hub.login`; None: what its client finds
    """

    kind: Literal["model", "dataset", "space"]
    name: str
    token: str | bool | None = field(default=None, repr=False)


def commit_of(repository: Repository, revision: str, *, offline: bool) -> str:
    """The commit that a branch, tag or commit is now: one request, none for a commit.

    :param offline: as the hub cache has it
    :raises PreconditionFailed: there is no such thing, or no access to it, or no connection
    """
    if _COMMIT.fullmatch(revision):
        return revision
    if offline:
        return _cached(repository, revision).name
    from huggingface_hub import HfApi

    with speaking(repository, revision):
        info = patiently(
            lambda: HfApi(endpoint(), repository.token).repo_info(
                repository.name, repo_type=repository.kind, revision=revision, timeout=TIMEOUT, files_metadata=False
            )
        )
    return str(info.sha)


def paths_of(repository: Repository, commit: str, *, offline: bool) -> list[str]:
    """The paths of a commit's files, sorted: one request, none if the cache knows.

    Offline, and if the cache has no listing, what it has of the files.

    :raises PreconditionFailed: as `commit_of`, or a path leads out of its folder
    """
    listed = _cached_listing(repository, commit)
    if listed is None and offline:
        snapshot = _cached(repository, commit)
        listed = [p.relative_to(snapshot).as_posix() for p in snapshot.rglob("*") if p.is_file()]
    elif listed is None:
        from huggingface_hub import HfApi

        with speaking(repository, commit):
            info = patiently(
                lambda: HfApi(endpoint(), repository.token).repo_info(
                    repository.name, repo_type=repository.kind, revision=commit, timeout=TIMEOUT
                )
            )
        listed = [sibling.rfilename for sibling in info.siblings or ()]
    for path in listed:
        _check_inside(repository, path)
    return sorted(listed)


def download(repository: Repository, commit: str, paths: Collection[str], *, offline: bool) -> Path:
    """Bring some files of a commit into the hub cache.

    What is there is not asked for again; 429 is waited for. A download whose connection is closed goes on where it was;
    one whose connection is reset begins its file anew, a few times.

    :return: the cache's folder for the commit, in which they are
    :raises PreconditionFailed: as `commit_of`; the disk is full; offline, and the cache lacks a file
    """
    from huggingface_hub import snapshot_download

    if not paths:
        raise ValueError("nothing to download")
    with speaking(repository, commit):
        snapshot = Path(
            patiently(
                lambda: snapshot_download(
                    repository.name,
                    repo_type=repository.kind,
                    revision=commit,
                    endpoint=endpoint(),
                    token=repository.token,
                    allow_patterns=[glob.escape(path) for path in paths],
                    local_files_only=offline,
                )
            )
        )
    missing = [path for path in sorted(paths) if not (snapshot / path).is_file()]
    if missing:
        raise incomplete(repository, commit, missing)
    return snapshot


def remember(snapshot: Path, revision: str) -> None:
    """Note in the hub cache what a branch or tag is, as ``huggingface_hub`` does: it is found offline then.

    A cache that can't be written, as one that is shared, is left as it is.

    :param snapshot: from `download`
    """
    if _COMMIT.fullmatch(revision):
        return
    reference = snapshot.parents[1] / "refs" / revision
    try:
        if reference.is_file() and reference.read_text("utf-8") == snapshot.name:
            return
        reference.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=reference.parent, delete=False, encoding="utf-8") as file:
            file.write(snapshot.name)
        os.replace(file.name, reference)
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise


def link(snapshot: Path, paths: Sequence[str], folder: Path) -> dict[str, Any]:
    """Put files of the hub cache into a folder as hard links; across file systems as copies.

    :param snapshot: from `download`
    :return: for people: ``files``, ``bytes``, ``copied`` (how many of the files), ``commit``
    """
    size = copied = 0
    for path in paths:
        source, target = (snapshot / path).resolve(strict=True), folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        size += source.stat().st_size
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copyfile(source, target)
            copied += 1
    return {"files": len(paths), "bytes": size, "copied": copied, "commit": snapshot.name}


def incomplete(repository: Repository, commit: str, missing: Sequence[str]) -> PreconditionFailed:
    """The failure that the hub cache lacks files."""
    return PreconditionFailed(
        f"{repository.name} at {commit[:12]} is not whole in the hub cache: {some(missing)} missing",
        hint="run once without --offline and HF_HUB_OFFLINE, which completes it",
    )


def some(paths: Sequence[str]) -> str:
    """Paths for a sentence: three of them, and how many more there are."""
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _check_inside(repository: Repository, path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise PreconditionFailed(f"{repository.name} has a file named {path!r}, which leads out of its folder")


def _cached(repository: Repository, revision: str) -> Path:
    """The cache's folder for a revision; files may be missing in it."""
    from huggingface_hub import snapshot_download

    with speaking(repository, revision):
        return Path(
            snapshot_download(
                repository.name,
                repo_type=repository.kind,
                revision=revision,
                allow_patterns=["."],  # no file has this name: nothing is asked about files
                local_files_only=True,
            )
        )


def _cached_listing(repository: Repository, commit: str) -> list[str] | None:
    """What the cache knows about a commit's files; huggingface_hub keeps that from 2.0 on."""
    try:
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError
    except ImportError:
        return None
    try:
        entries = get_cached_repo_tree(repository.name, repo_type=repository.kind, revision=commit)
    except CachedRepoTreeNotFoundError:
        return None
    return [entry.path for entry in entries]
