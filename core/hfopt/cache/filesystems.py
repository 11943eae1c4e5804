"""On what kind of file system a folder lies: SQLite's WAL mode needs memory that a network does not share."""

from __future__ import annotations

import os
import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = re.compile(
    r"9p|acfs|afs|beegfs|ceph|cifs|coda|davfs|drvfs|gfs2|glusterfs|gpfs|lustre|ncpfs|nfs4?|ocfs2|orangefs|panfs|pvfs2"
    r"|prl_fs|smb|smb2|smb3|smbfs|vboxsf|virtiofs|wekafs|fuse\..*"
)


def on_network(folder: Path) -> bool:
    """Whether a folder lies on a network file system; false where the kernel doesn't say (macOS)."""
    try:
        mounts = _MOUNTS.read_text("utf-8", "surrogateescape")
    except OSError:
        return False
    return is_network(file_system(Path(os.path.realpath(folder)), mounts))


def is_network(kind: str | None) -> bool:
    """Whether a type of file system may have writers on other machines.

    Any that runs in a process of its own (``fuse.sshfs``, ``fuse.gcsfuse``) counts; ``fuseblk`` is a local disk.
    """
    return kind is not None and _NETWORK.fullmatch(kind) is not None


def file_system(path: Path, mountinfo: str) -> str | None:
    """The type of the file system that holds a path: of the deepest mount point above it, the last one mounted there.

    :param path: absolute, without symbolic links
    :param mountinfo: as proc(5) describes /proc/self/mountinfo
    """
    found: tuple[int, str] | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = Path(_unescape(fields[4]))
        if path.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = len(point.parts), after.split(" ")[0]
    return None if found is None else found[1]


def _unescape(text: str) -> str:
    """Blanks, tabs, newlines and backslashes are written in octal."""
    for escaped, plain in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(escaped, plain)
    return text
