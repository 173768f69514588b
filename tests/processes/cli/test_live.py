"""tail and top, in a terminal of 80 columns and 24 lines and without one."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from processes.admin.served import PROGRAM, free_port
from processes.cli.calls import OURS, endpoint, kaiju
from processes.cli.test_questions import schema_of

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.untimed]

PATIENCE_S = 40
ENTER_SCREEN, LEAVE_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")
ALONE = {name: value for name, value in os.environ.items() if name not in OURS}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with endpoint() as url:
        yield url


class Terminal:
    """A command in a terminal of its own.

    Attributes:
        output: Everything that it has written.
    """

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._ours, self._theirs = pty.openpty()
        self.resize(80, 24)
        self.before = termios.tcgetattr(self._theirs)
        self.output = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kaiju_app", *arguments],
            stdin=self._theirs, stdout=self._theirs, stderr=self._theirs, start_new_session=True,
            env={**ALONE, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment},
        )  # fmt: skip

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    @property
    def settings(self) -> Any:
        return termios.tcgetattr(self._theirs)

    def until(self, pattern: str, after: int = 0) -> int:
        """Read until what is shown matches; return where the output ends."""
        limit = time.monotonic() + PATIENCE_S
        while not re.search(pattern, SEQUENCE.sub("", self.output[after:].decode("utf-8", "ignore"))):
            assert time.monotonic() < limit, self.output[after:].decode("utf-8", "replace")
            self.read(0.2)
        return len(self.output)

    def read(self, timeout_s: float) -> bool:
        if not select.select([self._ours], [], [], timeout_s)[0]:
            return False
        try:
            self.output += os.read(self._ours, 65_536)
        except OSError:  # Nobody has it open any more.
            return False
        return True

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> int:
        """Wait for the end, reading what is written; return the exit status."""
        limit = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < limit
            self.read(0.05)
        while self.read(0.1):
            pass
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


@contextmanager
def terminal(*arguments: str, **environment: str) -> Iterator[Terminal]:
    made = Terminal(*arguments, **environment)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.mechanism
def test_top_shows_what_happens_and_leaves_the_terminal_as_it_was(url: str) -> None:
    with terminal("top", "--url", url) as shown:
        shown.until("RUNNING NOW")
        shown.until("live")
        assert shown.settings != shown.before  # Keys are not echoed.
        place = shown.until("LAST ENDINGS")

        shown.type("/later\r")
        place = shown.until("/later", place)
        kaiju("run-now", "later", "--url", url)  # Elsewhere; it is heard of.
        place = shown.until("later +✓ succeeded", place)
        shown.type("p")
        place = shown.until("Pause, because: _", place)
        shown.type("audit\r")
        place = shown.until("later: paused", place)
        place = shown.until(r"PAUSED\n.*later +by this machine", place)
        shown.type("u")
        place = shown.until("later: resumed", place)
        shown.resize(120, 30)
        os.kill(shown.process.pid, signal.SIGWINCH)  # A real terminal sends it to those in the foreground.
        place = shown.until(r"(?:.*\n){29}later: resumed", place)
        shown.type("?")
        shown.until("Any key goes back", place)

        os.kill(shown.process.pid, signal.SIGINT)  # Ctrl-C.
        assert shown.end() == 130
        assert shown.settings == shown.before
        assert shown.output.count(ENTER_SCREEN) == 1
        assert shown.output.rindex(LEAVE_SCREEN) > shown.output.rindex(b"RUNNING NOW")
        assert b"\x1b[?25h" in shown.output[-40:]
        assert b"Traceback" not in shown.output


@pytest.mark.parametrize(("how", "status"), [("q", 0), (signal.SIGTERM, 130)])
def test_however_top_ends_the_terminal_is_as_it_was(url: str, how: Any, status: int) -> None:
    with terminal("top", "--url", url, NO_COLOR="1") as shown:
        shown.until("RUNNING NOW")
        if how == "q":
            shown.type("q")
        else:
            os.kill(shown.process.pid, how)

        assert shown.end() == status
        assert shown.settings == shown.before
        assert shown.output.endswith(b"\x1b[?25h" + LEAVE_SCREEN)
        assert b"38;" not in shown.output  # NO_COLOR.


def test_top_says_when_the_endpoint_is_gone_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    with terminal_with_server(tmp_path) as (shown, again):
        place = shown.until("live")
        again.stop()
        place = shown.until("away", place)
        again.start()
        shown.until("live", place)
        shown.type("q")
        assert shown.end() == 0


class Server:
    """The endpoint of a process, at one port, that can go and come back."""

    def __init__(self, directory: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._directory = directory
        self._port = port
        self.start()

    def start(self) -> None:
        with (self._directory / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(self._port)], cwd=self._directory, stdout=log, stderr=log
            )
        limit = time.monotonic() + PATIENCE_S
        while kaiju("tasks", "--url", self.url).status:
            assert time.monotonic() < limit

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def server_of(directory: Path) -> Iterator[Server]:
    server = Server(directory, free_port())
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def terminal_with_server(directory: Path) -> Iterator[tuple[Terminal, Server]]:
    with server_of(directory) as server, terminal("top", "--url", server.url) as shown:
        yield shown, server


def test_top_needs_a_terminal(url: str) -> None:
    found = kaiju("top", "--url", url)

    assert (found.status, found.out) == (2, "")
    assert "`kaiju tasks` lists the tasks" in found.err


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_table_in_a_terminal_has_colours_unless_nobody_wants_them(url: str, no_color: str) -> None:
    with terminal("tasks", "--url", url, NO_COLOR=no_color) as shown:
        assert shown.end() == 0
        lines = SEQUENCE.sub("", shown.output.decode()).splitlines()

    assert (b"\x1b[38;2;" in shown.output) is not no_color
    assert (b"\x1b" in shown.output) is (no_color == "")
    assert len(lines) == 9
    assert max(map(len, lines)) <= 80


# --- tail ---


@contextmanager
def tailing(*arguments: str, **environment: str) -> Iterator[Any]:
    """Run tail without a terminal; return the process with its lines."""
    command = [sys.executable, "-m", "kaiju_app", "tail", *arguments]
    process = subprocess.Popen(
        command, env={**ALONE, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    guard = threading.Timer(PATIENCE_S, process.kill)
    guard.start()
    try:
        yield process
    finally:
        guard.cancel()
        process.kill()
        process.communicate()


def lines_while(process: Any, act: Any, wanted: str) -> str:
    """Act again and again until tail writes a line that has the *wanted* text; return that line."""
    done = threading.Event()

    def acting() -> None:
        while not done.wait(0.3):
            act()

    thread = threading.Thread(target=acting)
    thread.start()
    try:
        return next(line for line in process.stdout if wanted in line)
    finally:
        done.set()
        thread.join()


@pytest.mark.mechanism
def test_tail_follows_what_happens_until_ctrl_c(url: str) -> None:
    with tailing("poll", "--json", "--outcome", "succeeded", "--url", url) as process:

        def act() -> None:
            kaiju("run-now", "stock", "--url", url)
            kaiju("run-now", "poll", "--url", url)

        event = json.loads(lines_while(process, act, '"poll"'))
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130
    assert (event["event"], event["data"]["outcome"]) == ("ended", "SUCCEEDED")
    schema = schema_of(url, "post", "/api/tasks/{id}/run")
    jsonschema_rs.validate(schema, event["data"])
    assert "stock" not in rest
    assert errors == ""


def test_tail_writes_a_line_for_people_at_once(url: str) -> None:
    with tailing(KAIJU_URL=url) as process:
        line = lines_while(process, lambda: kaiju("run-now", "stock", "--url", url), "stock")
        while "failed" not in line:
            line = next(process.stdout)

    assert re.match(
        r"\d\d:\d\d:\d\d  stock {25}  ✗ failed in <1 ms: RuntimeError: shelf 7 has no label \\x1b\[31m", line
    )


def test_tail_says_that_the_server_is_gone_and_reconnects(tmp_path: Path) -> None:
    with server_of(tmp_path) as server, tailing("--url", server.url) as process:
        name = "refresh"
        lines_while(process, lambda: kaiju("run-now", name, "--url", server.url), name)
        server.stop()
        gone = process.stderr.readline()
        server.start()
        back = process.stderr.readline()
        lines_while(process, lambda: kaiju("run-now", name, "--url", server.url), name)

    assert "trying again" in gone
    assert "answers again" in back


@pytest.mark.parametrize(("address", "ends"), [("http://127.0.0.1:1", 3), ("URL/elsewhere", 3)])
def test_tail_ends_at_once_where_there_is_no_endpoint(url: str, address: str, ends: int) -> None:
    found = kaiju("tail", "--url", address.replace("URL", url))

    assert (found.status, found.out) == (ends, "")
