"""Where a file may be: what SQLite cannot work with, and what can only be a mistake, is refused."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from kaiju_app.errors import InvalidArgument

# Locks and shared memory of SQLite do not work between hosts: https://sqlite.org/wal.html, https://sqlite.org/faq.html#q5
NETWORKS = {"9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"}
NETWORKS |= {"ocfs2", "smb3", "smbfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "fuse.cephfs"}


def refuse_place(path: Path) -> None:
    """Raise if SQLite cannot work with this path.

    Raises:
        InvalidArgument: It is a directory, or on a network file system.
    """
    if path.is_dir():
        rule = "must be a file, and this is a directory: add a file name"
        raise InvalidArgument("path", str(path), rule)
    kind = file_system(path.resolve().parent)
    if kind in NETWORKS:
        rule = f"must be on a disk of this host, not on {kind}, where SQLite's locks fail"
        raise InvalidArgument("path", str(path), f"{rule}: use a local file, or a PostgreSQL store")


def file_system(directory: Path) -> str | None:
    """Return the type of the file system of *directory*; None if it is unknown."""
    with suppress(OSError):
        device = os.stat(directory).st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        for line in Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
            mount, _, source = line.partition(" - ")
            if mount.split()[2] == wanted:
                return source.split()[0]
    return None


def refuse_unusable(path: Path) -> None:
    """Raise if nobody has prepared the place for this file. Later, when it was usable once, this may pass.

    Raises:
        InvalidArgument: The directory does not exist, or this process may not write there.
    """
    directory = path.resolve().parent
    if not directory.is_dir():
        rule = f"must be a file in a directory that exists: make the directory {directory}, or use another path"
        raise InvalidArgument("path", str(path), rule)
    if sys.platform != "win32" and os.statvfs(directory).f_flag & os.ST_RDONLY:
        return  # Linux makes a disk with errors read-only: this may pass.
    is_writable = os.access(directory, os.R_OK | os.W_OK | os.X_OK)  # SQLite makes two more files beside it.
    if not is_writable or (path.exists() and not os.access(path, os.R_OK | os.W_OK)):
        what = "the file" if is_writable else f"the directory {directory}"
        rule = f"must be a file that this process may read and write, as must be its directory: allow it to use {what}"
        raise InvalidArgument("path", str(path), rule)
