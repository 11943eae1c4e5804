"""Whether a folder is on a network file system: SQLite's WAL mode needs memory that a network does not share."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

_NETWORK = re.compile(
    r"9p|acfs|afs|beegfs|ceph|cifs|coda|davfs|drvfs|gfs2|glusterfs|gpfs|lustre|ncpfs|nfs4?|ocfs2|orangefs|panfs|pvfs2"
    r"|prl_fs|smb|smb2|smb3|smbfs|vboxsf|virtiofs|wekafs|fuse\..*"
)


def on_network(folder: Path) -> bool:
    """Whether a folder is on a network file system; False if the system does not say."""
    return is_network(file_system(Path(os.path.realpath(folder))))


def is_network(kind: str) -> bool:
    """Whether a type of file system may have writers on other machines.

    Every FUSE file system counts (``fuse.sshfs``, ``fuse.gcsfuse``), but not ``fuseblk``, which is a local disk.
    """
    return _NETWORK.fullmatch(kind) is not None


def file_system(path: Path) -> str:
    """The type of the file system that holds a path: the one mounted last on the deepest mount point above it.

    :param path: absolute, without symbolic links
    :return: empty if the system does not say
    """
    import psutil

    above = []
    with suppress(OSError):
        above = [mount for mount in psutil.disk_partitions(all=True) if path.is_relative_to(mount.mountpoint)]
    return max(reversed(above), key=lambda mount: len(mount.mountpoint)).fstype if above else ""
