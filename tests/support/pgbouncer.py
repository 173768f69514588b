"""A real PgBouncer in front of a server, in transaction mode: each transaction may get another session."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from support.postgres_server import Missing

PATIENCE_S = 10.0
NOBODY = 65534

CONFIG = """
[databases]
* = host={host} port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 500
logfile = {directory}/log
"""


def find_pgbouncer() -> str | Missing:
    """Return the path of the program, or why there is none."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return found or Missing("the program pgbouncer is not installed")


class PgBouncer:
    """A pooler in front of the server of *dsn*, which runs while the context lasts.

    Args:
        pool_size: Number of sessions that all clients of a database share.
    """

    def __init__(self, program: str, dsn: str, pool_size: int = 20) -> None:
        self._program = program
        self._pool_size = pool_size
        self._server = urlsplit(dsn)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    def dsn(self, server_dsn: str) -> str:
        """Return the DSN of the same database through the pooler."""
        return urlsplit(server_dsn)._replace(netloc=f"postgres@127.0.0.1:{self.port}").geturl()

    def __enter__(self) -> PgBouncer:
        self._directory = Path(tempfile.mkdtemp(prefix="kaiju-pgbouncer-"))
        config = self._directory / "pgbouncer.ini"
        host, port = self._server.hostname, self._server.port
        config.write_text(
            CONFIG.format(
                host=host, port=port, own_port=self.port, pool_size=self._pool_size, directory=self._directory
            )
        )
        identity = {}
        if os.geteuid() == 0:  # It refuses to run as root.
            os.chown(self._directory, NOBODY, NOBODY)
            identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self._running = subprocess.Popen(
            [self._program, config], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd=self._directory, **identity,
        )  # fmt: skip
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < end, (self._directory / "log").read_text()
                time.sleep(0.01)
            else:
                return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._running.kill()
        self._running.wait()
        shutil.rmtree(self._directory)
