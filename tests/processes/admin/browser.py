"""A browser, and a server that can be stopped and started again, for the tests of the dashboard."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from processes.admin.served import PATIENCE_S, answers, free_port

PROGRAM = Path(__file__).parent / "programs" / "page.py"
PREFIX = "/ops/scheduler/"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",  # It runs as root in containers.
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 1_000 * PATIENCE_S


def expect(what: Any) -> Any:
    """Return what waits until something is so, with as much patience as a busy machine needs."""
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE_MS)
    return expect(what)


def wait_until(page: Any, expression: str) -> None:
    """Return when a JavaScript *expression* is true.

    ``page.wait_for_function()`` evaluates it inside the page, which the page's security policy forbids: that works only
    if it is true at first sight.
    """
    until = time.monotonic() + PATIENCE_S
    while not page.evaluate(expression):
        assert time.monotonic() < until, expression
        page.wait_for_timeout(50)


class Server:
    """The program of the tests, at one port."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}{PREFIX}"
        self._log = directory / f"log-{self.port}.txt"
        self._directory = directory
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; return when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-u", str(PROGRAM), str(self.port)],
                cwd=self._directory, stdout=log, stderr=log, env=self._environment,
            )  # fmt: skip
        until = time.monotonic() + PATIENCE_S
        while not answers(self.port):
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < until, "it does not answer"
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it; return when it has ended."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)
            self._process = None

    def task(self, name: str) -> Any:
        """Return what the endpoint says of a task."""
        items = httpx.get(f"{self.base}api/tasks", params={"q": name, "limit": 500}).json()["items"]
        [found] = [each for each in items if each["name"] == name]
        return found


@contextmanager
def served_page(directory: Path, **environment: str) -> Iterator[Server]:
    server = Server(directory, **environment)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser. It is closed after each module, because its driver keeps an event loop in this thread."""
    if not Path(CHROMIUM).exists():
        pytest.skip("THE DASHBOARD IS NOT TESTED: there is no Chromium here (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that all tests of a module look at: they may not change what others rely on."""
    directory = tmp_path_factory.mktemp("page")
    with served_page(directory, STORE=f"sqlite:///{directory}/scheduler.db") as found:
        yield found


class Tabs:
    """Opens pages, and remembers what their consoles complain about."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._contexts: list[Any] = []
        self.complaints: list[str] = []

    def open(self, address: str, **options: Any) -> Any:
        """Return a new page of a new profile at *address*."""
        context = self._browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self._contexts.append(context)
        return self.watch(context.new_page(), address)

    def watch(self, page: Any, address: str) -> Any:
        """Open *address* in a page, and listen to its console."""
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda line: line.type in ("error", "warning") and self.complaints.append(line.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(address)
        return page

    def forgive(self, *texts: str) -> None:
        """Forget complaints that a test has asked for, such as those about a server that it has stopped."""
        self.complaints = [each for each in self.complaints if not any(text in each for text in texts)]

    def close(self) -> None:
        """Close all pages."""
        while self._contexts:
            self._contexts.pop().close()


@pytest.fixture
def tabs(chromium: Any) -> Iterator[Tabs]:
    """Pages whose consoles have to stay silent: no error, no refusal by the content security policy."""
    found = Tabs(chromium)
    yield found
    found.close()
    assert found.complaints == [], found.complaints
