"""The fixtures of tests with real processes, as a plugin for ``pytest_plugins``."""

from __future__ import annotations

import glob
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kaiju_app.testing._cluster.journal import Entry
from processes.group import LEASE, Processes
from processes.hosts import Hosts
from processes.on_redis.hosts import RedisHosts
from support.pgbouncer import PgBouncer, find_pgbouncer
from support.postgres_server import Missing, Programs, Server, find_programs, found_or_skip
from support.redis_server import Server as RedisServer
from support.redis_server import any_program, server_or_skip

LONG = {"interval_s": 60.0, "run_s": 30.0}  # One run, which outlasts the test.
OFTEN = {"interval_s": 0.3, "run_s": 0.15}
SEVERAL = ("one", "two", "three", "four", "five", "six")  # Enough that every process has some in its share.

# The longest pause before a failing store is tried again. Then follows what follows a crash.
ASKED_AGAIN_S = 5.0

HOUR_S = 3600

Group = Callable[..., Processes]
Make = Callable[..., Hosts]
Figures = Callable[..., None]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    """Make processes that share a file; they are killed at the end."""
    with ExitStack() as made:

        def group(**options: Any) -> Processes:
            processes = Processes(tmp_path, **options)
            made.callback(processes.close)
            return processes

        yield group


@pytest.fixture(scope="module")
def programs() -> Programs:
    return found_or_skip(find_programs())


@pytest.fixture(scope="module")
def server(programs: Programs) -> Iterator[Server]:
    with Server(programs) as server:
        yield server


@pytest.fixture
def hosts(server: Server, tmp_path: Path) -> Iterator[Make]:
    """Make processes with a database of their own; they are killed at the end."""
    with ExitStack() as made:

        def hosts(server: Server = server, **options: Any) -> Hosts:
            processes = Hosts(tmp_path, server, **options)
            made.callback(processes.close)
            return processes

        yield hosts


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with RedisServer(server_or_skip(any_program())) as server:
        yield server


@pytest.fixture
def redis_hosts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., RedisHosts]]:
    """Make processes on a Redis or Valkey server of their own, or on another one; they are killed at the end."""
    with ExitStack() as made:

        def hosts(server: RedisServer | None = None, **options: Any) -> RedisHosts:
            processes = RedisHosts(tmp_path, server or request.getfixturevalue("redis_server"), **options)
            made.callback(processes.close)
            return processes

        yield hosts


@pytest.fixture
def pooler(server: Server) -> Iterator[Callable[[Hosts], int]]:
    """Start a PgBouncer with few sessions in front of the server, and return its port."""
    program = found_or_skip(find_pgbouncer())
    with ExitStack() as started:

        def pooler(processes: Hosts) -> int:
            return started.enter_context(PgBouncer(program, processes.url, pool_size=4)).port

        yield pooler


def behind(pooler: Callable[[Hosts], int], processes: Hosts) -> Hosts:
    port = pooler(processes)
    for who in "abc":
        processes.way(who).target = "127.0.0.1", port
    return processes


def find_libfaketime() -> str | Missing:
    """Return the path of the library, or why there is none."""
    places = [os.environ.get("LIBFAKETIME", ""), *glob.glob("/usr/lib/*/faketime/libfaketime.so.1")]
    places += ["/usr/lib/faketime/libfaketime.so.1", "/usr/local/lib/faketime/libfaketime.so.1"]
    found = next((place for place in places if place and os.path.exists(place)), None)
    return found or Missing("libfaketime is not installed, or LIBFAKETIME does not say where libfaketime.so.1 is")


class Clock:
    """The wall clock of a server under libfaketime, controlled by a file that every user can read."""

    def __init__(self, library: str, directory: Path) -> None:
        directory.chmod(0o755)
        self._file = directory / "clock"
        self.environment = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        self.set(0)

    def set(self, ahead_s: float) -> None:
        """Set how far the clock is ahead from now on."""
        self.ahead_s = ahead_s
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead_s:+.3f}\n")
        new.chmod(0o644)
        new.rename(self._file)  # Atomic, since libfaketime reads it at every look at the clock.


@pytest.fixture
def clock() -> Iterator[Clock]:
    """A clock that a test can set for a server; skips the test without libfaketime."""
    library = found_or_skip(find_libfaketime())
    with tempfile.TemporaryDirectory(prefix="kaiju-clock-") as directory:
        yield Clock(library, Path(directory))


@dataclass(frozen=True)
class Sharing:
    """How processes share tasks, and how the death of one is noticed.

    Args:
        make: Makes processes that share a store; they are killed at the end.
        by_lease: A death is noticed when the lease has expired and a challenge was not answered, by an instance that
            has watched the store's clock for long enough. Otherwise it is noticed at once, by a lock that the operating
            system releases.
    """

    make: Group
    by_lease: bool

    @property
    def missed_after_s(self) -> float:
        return LEASE.ttl_s + LEASE.grace_s - LEASE.renew_s if self.by_lease else 0.0

    @property
    def missed_within_s(self) -> float:
        return LEASE.failover_s if self.by_lease else 1.0


@pytest.fixture(params=["sqlite", "postgres"])
def sharing(request: pytest.FixtureRequest) -> Sharing:
    """A SQLite file, a PostgreSQL server, one behind a ``pooler``, or a Redis or Valkey server."""
    if request.param == "sqlite":
        return Sharing(request.getfixturevalue("group"), by_lease=False)
    if request.param == "redis":
        return Sharing(request.getfixturevalue("redis_hosts"), by_lease=True)
    hosts = request.getfixturevalue("hosts")
    if request.param == "postgres":
        return Sharing(hosts, by_lease=True)
    pooler = request.getfixturevalue("pooler")
    return Sharing(lambda **options: behind(pooler, hosts(**options)), by_lease=True)


@pytest.fixture
def figures(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Figures:
    """Add figures to the report of pytest, and print them with ``-s``."""

    def figures(**values: object) -> None:
        shown = []
        for name, value in values.items():
            record_property(name, value)
            shown.append(f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}")
        print(f"\n{request.node.name}: {', '.join(shown)}")

    return figures


@pytest.fixture
def small_disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of 24 megabytes, or as many as the parameter says.

    Not below `tmp_path`: each pytest that starts closes that to other users, and a server may run as one of them.
    """
    where = Path(tempfile.mkdtemp(prefix="kaiju-disk-"))
    size = f"size={getattr(request, 'param', 24)}m"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(where)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        where.rmdir()
        pytest.skip("NOT TESTED: a full disk; only root may mount a small one")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)
    where.rmdir()


def fill(disk: Path) -> None:
    """Fill the disk, including space that was freed meanwhile."""
    with suppress(OSError), (disk / "ballast").open("ab", buffering=0) as file:
        while True:
            file.write(b"x" * 2**16)


def taken_over(first: Entry, again: Entry) -> bool:
    return again.who != first.who and (again.tick, again.take) == (first.tick, 2) and again.fence > first.fence
