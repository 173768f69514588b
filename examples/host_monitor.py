"""Monitor this machine: sample it every second, check what it depends on, keep the history in a SQLite file.

    python examples/host_monitor.py --check tcp://localhost:5432 --check http://localhost:8000/health

It is an ``Application`` of services that schedule its tasks. The table on the screen shows these tasks at work. What
each class demonstrates:

* ``Database``: blocking code that knows nothing about services and tasks.
* ``Store``: all phases of a service. ``init()`` closes what it opened if it is cancelled, ``health()`` tries what other
  services rely on, ``post_init()`` does slow work in the background, ``close()`` writes what is left. A trigger (every
  full minute) instead of an interval. ``async with task.suspend():`` stops a task while its data is changed.
* ``Sampler``: ``service()`` for a store that opens before it and closes after it. Plain functions, which run in
  threads. SKIP for a reading that is useless when it is late, SHIELD for a write that must not be interrupted.
  ``current_run()`` for the time that a sample belongs to.
* ``Table``: what can be read from a task, and ``subscribe()`` to be called at the end of every run.
* ``StatusPage``: an optional service; the application runs without it if the port is taken. ``/json`` is
  ``app.inspect()``.
* ``Dashboard``, with ``--dashboard PORT``: the page of the scheduler, for browsers of this machine.
* ``Checks``: one task for each check, with retries and a deadline. A check that fails or hangs does not affect others.

``run_app()`` does the rest. Ctrl-C or SIGTERM stops the program cleanly, during its start, too: it finishes shielded
runs, shows the last table, writes the last samples, and exits with status 0. A second signal cuts that short, with
status 128 + its number. If it fails to start or does not stop cleanly, it prints why and exits with status 1. Details
and tracebacks go to a log file beside the database.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import psutil

from kaiju_app import Application, Health, Service, ServiceState, run_app, service
from kaiju_app.application import ApplicationContext
from kaiju_app.scheduler import Every, ExecPolicy, FirstRun, Outcome, Reason, Run, ScheduledTask, Scheduler, current_run

SAVE_S = 5.0  # A power cut loses this much. Not less: a transaction writes whole pages, however little it contains.
REFRESH_S = 5.0
PRUNE_S = 60.0
CHECK_S = 5.0
ATTEMPT_S = 1.0  # Three attempts and two pauses fit into the deadline, and the deadline into the interval.
CHECK_DEADLINE_S = 4.5
BUSY_S = 1.0  # How long another program may lock the file. Less than the grace of a service that is cancelled.
STALE_S = 4 * SAVE_S  # If the newest row is older, several writes in a row have failed.
SAMPLES_KEPT_S = 2 * 3600.0  # After that the minutes are detailed enough. The table needs one hour of samples.
NOTES = 5  # Lines under the table about what has changed.

METRICS = {  # Name and format.
    "cpu %": ".1f", "memory %": ".1f", "load": ".2f", "disk %": ".1f",
    "in kB/s": ",.1f", "out kB/s": ",.1f", "processes": ",.0f",
}  # fmt: skip

SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS sample (at REAL, metric TEXT, value REAL, PRIMARY KEY (at, metric)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS minute (
    at INTEGER, metric TEXT, low REAL, mean REAL, high REAL, samples INTEGER, PRIMARY KEY (at, metric)
) WITHOUT ROWID;
"""

# The latest minute is computed again, because more of its samples may have been written since.
ROLL_UP = """
INSERT OR REPLACE INTO minute
SELECT CAST(at AS INTEGER) / 60 * 60, metric, min(value), avg(value), max(value), count(*) FROM sample
WHERE at >= (SELECT coalesce(max(at), 0) FROM minute) GROUP BY 1, 2
"""

Samples = Mapping[float, Mapping[str, float]]  # value by metric, by seconds since the epoch
Spread = tuple[float, float, float]  # min, avg, max


def soon(seconds: float) -> datetime:
    """Return a first tick in *seconds*. Each task starts after the one whose data it needs: sample, save, show."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


class Database:
    """The SQLite file. Every method is one transaction, blocks, and may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)  # We have a lock.

    def prepare(self) -> None:
        with self._lock:
            self._db.executescript(SCHEMA)

    def add(self, samples: Samples) -> None:
        rows = [(at, metric, value) for at, values in samples.items() for metric, value in values.items()]
        with self._lock, self._db as db:
            db.executemany("INSERT OR REPLACE INTO sample VALUES (?, ?, ?)", rows)

    def roll_up(self) -> str:
        with self._lock, self._db as db:
            return f"{db.execute(ROLL_UP).rowcount} rows"

    def prune(self, samples_before: float, minutes_before: float) -> int:
        """Delete older rows, by whole minutes; return how many. Samples of a minute stay until it is rolled up."""
        kept = "min(?, (SELECT max(at) FROM minute))"
        with self._lock, self._db as db:
            samples = db.execute(f"DELETE FROM sample WHERE at < {kept}", [samples_before // 60 * 60])
            minutes = db.execute("DELETE FROM minute WHERE at < ?", [minutes_before // 60 * 60])
            return samples.rowcount + minutes.rowcount

    def spread(self, since: float) -> dict[str, Spread]:
        with self._lock, self._db as db:
            query = "SELECT metric, min(value), avg(value), max(value) FROM sample WHERE at >= ? GROUP BY metric"
            return {metric: (low, mean, high) for metric, low, mean, high in db.execute(query, [since])}

    def contents(self) -> str:
        """Describe how much there is, and since when."""
        with self._lock, self._db as db:
            samples, sampled = db.execute("SELECT count(DISTINCT at), min(at) FROM sample").fetchone()
            minutes, rolled = db.execute("SELECT count(DISTINCT at), min(at) FROM minute").fetchone()
        if not samples and not minutes:
            return "nothing yet"
        since = datetime.fromtimestamp(min(at for at in (sampled, rolled) if at is not None), UTC).astimezone()
        return f"samples: {samples:,}, minutes: {minutes:,}, since {since:%Y-%m-%d %H:%M}"

    def newest(self) -> float:
        """Return the time of the newest sample, 0 if there is none. Raise if the file cannot be written."""
        with self._lock, self._db as db:
            db.execute("BEGIN IMMEDIATE")
            (newest,) = db.execute("SELECT coalesce(max(at), 0) FROM sample").fetchone()
            return float(newest)

    def damage(self, give_up: Callable[[], bool]) -> str:
        """Return "ok" or what is damaged. This takes minutes for a large file, so it has its own connection."""
        with closing(sqlite3.connect(self._path)) as db:
            db.set_progress_handler(give_up, 10_000)  # A thread cannot be cancelled, but SQLite asks now and then.
            return str(db.execute("PRAGMA quick_check(1)").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._db.close()


@dataclass
class Store(Service):
    """The history in the file, and a summary of the last hour in memory, so that drawing the table needs no query."""

    path: Path
    keep_s: float
    db: Database = field(init=False, repr=False)
    hour: dict[str, Spread] = field(default_factory=dict, init=False)
    contents: str = field(default="", init=False)

    async def init(self) -> None:
        self._opened_at = time.time()
        try:
            self.db = Database(self.path)
            await self._prepare()
        except sqlite3.Error as exc:
            raise OSError(f"--database {self.path}: {exc}") from exc
        plan = self.app.scheduler.schedule_task
        plan(self.db.roll_up, trigger=Every(60), name="roll up minutes", policy=ExecPolicy.SHIELD)
        self._cache = plan(self.refresh, REFRESH_S, name="refresh cache", policy=ExecPolicy.SKIP, first_run=soon(0.7))
        plan(self.prune, PRUNE_S, name="prune", policy=ExecPolicy.SHIELD)
        plan(self.check, CHECK_S, name="check database", retries=2, first_run=soon(0.7))

    async def _prepare(self) -> None:
        try:
            await asyncio.to_thread(self.db.prepare)
            await asyncio.to_thread(self.refresh)
        except BaseException:  # Including cancellation: close() is not called if init() does not return.
            await asyncio.to_thread(self.db.close)
            raise

    async def health(self) -> Health:
        return Health(stats={"found": await asyncio.to_thread(self.check), "contents": self.contents})

    async def post_init(self) -> None:
        found = await asyncio.to_thread(self.db.damage, lambda: self.state is not ServiceState.READY)
        if found != "ok":
            raise sqlite3.DatabaseError(f"{self.path}: {found}")

    async def close(self) -> None:
        try:  # The services that write are closed already, so the data is complete.
            await asyncio.to_thread(self.db.roll_up)
            await asyncio.to_thread(self.refresh)
            say(self.app, f"stopped; kept {self.contents} in {self.path}")
        finally:
            await asyncio.to_thread(self.db.close)

    def refresh(self) -> str:
        self.hour = self.db.spread(time.time() - 3600)
        self.contents = self.db.contents()
        return f"{len(self.hour)} metrics"

    async def prune(self) -> str:
        """Delete old rows and refresh the cache. A refresh that ran meanwhile could bring deleted rows back."""
        now = time.time()
        async with self._cache.suspend("old rows are being deleted"):
            before = now - min(SAMPLES_KEPT_S, self.keep_s), now - self.keep_s
            deleted = await asyncio.to_thread(self.db.prune, *before)
            await asyncio.to_thread(self.refresh)
        return f"{deleted} rows deleted"

    def check(self) -> str:
        """Return the age of the newest row. Raise if it is stale, or if the file cannot be written."""
        newest, now = self.db.newest(), time.time()
        if now - max(newest, self._opened_at) > STALE_S:  # Rows from before this start may be old.
            raise OSError(f"newest row is {now - newest:.0f} s old" if newest else "nothing was ever written")
        return f"newest row {now - newest:.1f} s old" if newest else "no rows yet"


@dataclass
class Sampler(Service):
    """Samples the machine every second, and keeps samples in memory until they are saved."""

    store: Store = service()
    latest: dict[str, float] = field(default_factory=dict, init=False)

    async def init(self) -> None:
        self._pending: dict[float, dict[str, float]] = {}
        self._traffic = (time.monotonic(), psutil.net_io_counters())
        psutil.cpu_percent()  # The next call returns the load since this one.
        plan = self.app.scheduler.schedule_task
        # Not at once: a rate needs an interval. SKIP: a reading right after a slow one would measure nothing.
        plan(self.sample, 1, name="sample", policy=ExecPolicy.SKIP, first_run=soon(0.5))
        plan(self.save, SAVE_S, name="save", policy=ExecPolicy.SHIELD, first_run=soon(0.6))

    async def health(self) -> Health:
        """Report how many samples a power cut would lose."""
        count = len(self._pending)
        return Health([f"{count} samples are not saved yet"] if count > STALE_S else [], {"not saved yet": count})

    async def close(self) -> None:
        await asyncio.to_thread(self.save)

    def sample(self) -> str:
        at = current_run().scheduled_at.timestamp()  # Not now(): a late reading belongs to its second.
        received, sent = self._rates()
        values = (
            psutil.cpu_percent(), psutil.virtual_memory().percent, psutil.getloadavg()[0],
            psutil.disk_usage(str(self.store.path.parent)).percent, received, sent, float(len(psutil.pids())),
        )  # fmt: skip
        self.latest = self._pending[at] = dict(zip(METRICS, values, strict=True))
        return f"{len(self._pending)} to save"

    def save(self) -> str:
        batch = self._pending.copy()
        self.store.db.add(batch)
        for at in batch:  # After the write: if it fails, the next run tries again.
            self._pending.pop(at, None)
        return f"{len(batch)} samples"

    def _rates(self) -> tuple[float, float]:
        """Return kB/s received and sent since the previous call."""
        (then, before), (now, after) = self._traffic, (time.monotonic(), psutil.net_io_counters())
        self._traffic = (now, after)
        scale = 1000 * (now - then)
        return (after.bytes_recv - before.bytes_recv) / scale, (after.bytes_sent - before.bytes_sent) / scale


@dataclass
class Table(Service):
    """The metrics and the tasks, redrawn in place on a terminal, otherwise printed every few seconds."""

    live: bool
    store: Store = service()
    sampler: Sampler = service()

    async def init(self) -> None:
        self._runs: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._failing: set[str] = set()
        self._notes: deque[str] = deque(maxlen=NOTES)
        self._unsubscribe = self.app.scheduler.subscribe(self.count)
        self.app.scheduler.schedule_task(self.draw, 1 if self.live else 5, name="draw table", first_run=soon(0.8))
        if self.live:  # Scroll away what is on the screen instead of overwriting it.
            say(self.app, "\n" * shutil.get_terminal_size().lines, end="")
        self.note(f"found {self.store.contents} in {self.store.path}")

    async def close(self) -> None:
        self._unsubscribe()
        await self.draw(whole=True)
        for task in self.app.scheduler.tasks.values():
            if task.running:
                say(self.app, f"{task.name} still hangs in a thread: press Ctrl-C again to kill it")

    def note(self, text: str) -> None:
        """Show *text* once, with the time: under the table, or as a line of its own."""
        line = f"{datetime.now(UTC).astimezone():%H:%M:%S}  {text}"
        self._notes.append(line)
        if not self.live:
            say(self.app, line)

    def count(self, run: Run) -> None:
        """Count the run that has ended; note what has changed."""
        if run.outcome is Outcome.SKIPPED and run.reason is Reason.HUNG and run.finished_at is None:
            self.note(f"{run.task}: hangs; no new run starts before this one ends")
        if run.started_at is None or run.reason is Reason.SHUTDOWN:
            return
        failed = run.outcome is not Outcome.SUCCEEDED
        self._runs[run.task] += 1
        self._failures[run.task] += failed
        if failed != (run.task in self._failing):
            self._failing ^= {run.task}
            self.note(
                f"{run.task}: {describe(run)} ({run.attempts} attempts)" if failed else f"{run.task}: works again"
            )

    async def draw(self, *, whole: bool = False) -> None:
        """Draw the table as it is now. If *whole*, draw all of it, even if that scrolls the terminal.

        It is async although it awaits nothing, because tasks must be read in the loop, not in a thread.
        """
        if not self.live:
            say(self.app, self.text())
            return
        width, height = shutil.get_terminal_size()
        lines = [*self._lines(), "", *self._notes][: None if whole else height - 1]
        # Each line erases the rest of the old one, so the screen does not flicker.
        say(self.app, "\x1b[H" + "".join(f"{line[:width]}\x1b[K\n" for line in lines) + "\x1b[J", end="")

    def text(self) -> str:
        return "\n".join([*self._lines(), ""])

    def _lines(self) -> list[str]:
        now = datetime.now(UTC)
        return [
            f"host monitor  {now.astimezone():%H:%M:%S}  {self.store.contents}", "",
            *self._figures(), "",
            f"{'TASK':<30} {'STATE':<9} {'NEXT s':>6} {'LATE ms':>8} {'RUNS':>6} {'FAILED':>6}  LAST OUTCOME",
            *(self._row(task, now) for task in self.app.scheduler.tasks.values()),
        ]  # fmt: skip

    def _figures(self) -> list[str]:
        rows: dict[str, Mapping[str, float]] = {"now": self.sampler.latest}
        for number, name in enumerate(("hour min", "hour avg", "hour max")):
            rows[name] = {metric: spread[number] for metric, spread in self.store.hour.items()}
        return [f"{'':<9}" + "".join(f"{metric:>12}" for metric in METRICS)] + [
            f"{name:<9}" + "".join(f"{format(row[m], form) if m in row else '-':>12}" for m, form in METRICS.items())
            for name, row in rows.items()
        ]

    def _row(self, task: ScheduledTask[object], now: datetime) -> str:
        run, due = task.last_run, task.next_run_at
        name = task.name if len(task.name) <= 30 else task.name[:29] + "~"
        wait = "-" if due is None else f"{max(0.0, (due - now).total_seconds()):.1f}"
        late = "-" if run is None or run.lateness_s is None else f"{1000 * run.lateness_s:,.1f}"
        runs, failures = self._runs[task.name], self._failures[task.name]
        last = "-" if run is None else describe(run, task.result)
        return f"{name:<30} {task.state:<9} {wait:>6} {late:>8} {runs:>6,} {failures:>6,}  {last}"


def describe(run: Run, result: object = None) -> str:
    """Return how *run* ended, in a few words."""
    if run.outcome is Outcome.SUCCEEDED:
        return f"{1000 * (run.duration_s or 0):,.1f} ms: {result or 'ok'}"
    return f"{run.outcome}: {run.reason or run.error}"


def say(app: ApplicationContext, text: str, end: str = "\n") -> None:
    """Print *text*. If nobody reads it any more, as after ``| head``, stop cleanly."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if app.state is not ServiceState.CLOSING:  # A second signal would cut the stop short.
            signal.raise_signal(signal.SIGTERM)


@dataclass
class StatusPage(Service):
    """Answers HTTP on a loopback port: the table as text, and ``app.inspect()`` as /json."""

    port: int
    table: Table = service()
    url: str = field(default="", init=False)

    async def init(self) -> None:
        try:
            self._server = await asyncio.start_server(self.answer, "127.0.0.1", self.port)
        except OSError as exc:
            self.table.note(f"no status page: {exc}")
            raise
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"
        self.table.note(f"status page: {self.url}, as JSON: {self.url}json")

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that disconnects, is silent or does not speak HTTP gets no answer.
        with suppress(OSError, EOFError, asyncio.LimitOverrunError):
            async with asyncio.timeout(ATTEMPT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                as_json = head.startswith(b"GET /json ")
                body = json.dumps(await self.app.inspect(ATTEMPT_S / 2), indent=2) if as_json else self.table.text()
                writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + body.encode())
                await writer.drain()
        writer.close()


@dataclass
class Dashboard(Service):
    """Serves the page of the scheduler on a loopback port: there one sees, runs and pauses the tasks."""

    port: int
    table: Table = service()

    def prepare(self, scheduler: Scheduler) -> None:
        """Make the page. That takes some tenths of a second, so it is done before there is a loop that would wait."""
        import uvicorn  # Only those who want the dashboard need it.

        from kaiju_app.admin import admin

        class Server(uvicorn.Server):
            @contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield  # run_app() handles them.

        config = uvicorn.Config(admin(scheduler), lifespan="off", log_config=None, timeout_graceful_shutdown=1)
        config.load()
        self._server = Server(config)

    async def init(self) -> None:
        try:
            listening = socket.create_server(("127.0.0.1", self.port))
        except OSError as exc:
            self.table.note(f"no dashboard: {exc}")
            raise
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        self.table.note(f"dashboard: http://127.0.0.1:{listening.getsockname()[1]}/")

    async def close(self) -> None:
        self._server.should_exit = True
        await self._serving


async def talk(host: str | None, port: int | None, request: bytes = b"") -> str:
    """Connect, send *request*, and return the first line of the answer."""
    async with asyncio.timeout(ATTEMPT_S):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(request)
            return (await reader.readline()).decode("latin-1").strip() if request else "connected"
        finally:
            writer.close()
            with suppress(OSError):  # The check does not depend on how the other side closes.
                await writer.wait_closed()


async def check_tcp(url: SplitResult) -> str:
    return await talk(url.hostname, url.port)


async def check_http(url: SplitResult) -> str:
    request = f"GET {url.path or '/'} HTTP/1.0\r\nHost: {url.netloc}\r\n\r\n"
    _, _, status = (await talk(url.hostname, url.port or 80, request.encode())).partition(" ")
    if not status.startswith(("2", "3")):
        raise ConnectionError(f"answered {status or 'nothing'}")
    return status


def check_name(url: SplitResult) -> str:
    return ", ".join(sorted({str(address[0]) for *_, address in socket.getaddrinfo(url.hostname, None)}))


def check_file(url: SplitResult) -> str:
    with open(url.path, "rb") as file:
        return "readable" if file.read(1) else "empty"


# Checks that block are plain functions, so they run in threads. One that hangs, e.g. on a network drive that is gone,
# occupies only its thread.
KINDS: dict[str, Callable[[SplitResult], Any]] = {
    "tcp": check_tcp, "http": check_http, "name": check_name, "file": check_file,
}  # fmt: skip
FORMS = "tcp://host:port, http://host:port/path, name://host, file:///path"
ALWAYS = ["name://localhost", *(f"file://{path}" for path in ("/proc/loadavg", "/etc/hosts") if Path(path).exists())]


def check_url(text: str) -> str:
    """Return *text* if it is a URL that can be checked; a type for argparse."""
    url = urlsplit(text)
    target = url.path if url.scheme == "file" else url.hostname
    if url.scheme not in KINDS or not target or (url.scheme == "tcp" and not url.port):
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {FORMS}")
    return text


@dataclass
class Checks(Service):
    """Checks what this machine serves and what it depends on. What a check returns is the result of its task."""

    urls: Sequence[str]
    page: StatusPage | None = service(required=False)

    async def init(self) -> None:
        for url in dict.fromkeys([*([self.page.url] if self.page else []), *ALWAYS, *self.urls]):
            parts = urlsplit(url)
            self.app.scheduler.schedule_task(
                KINDS[parts.scheme],
                CHECK_S,
                (parts,),
                name=f"check {url}",
                max_timeout_s=CHECK_DEADLINE_S,
                retries=2,
                retry_interval_s=0.5,
                retry_on=OSError,  # Includes TimeoutError and all errors of sockets and files.
            )


class Line(logging.Formatter):
    """For the terminal: the first line of a message, without its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage().partition("\n")[0]


async def stop() -> None:
    """Stop the program. Async, so that the signal is raised in the main thread."""
    signal.raise_signal(signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser(description="Monitor this machine; Ctrl-C stops it.")
    parser.add_argument("--database", type=Path, default="host_monitor.db", help="SQLite file (%(default)s)")
    parser.add_argument("--seconds", type=float, help="stop after this many seconds")
    parser.add_argument(
        "--check", type=check_url, action="append", default=[], metavar="URL", help=f"{FORMS}; repeatable"
    )
    parser.add_argument("--keep-hours", type=float, default=168, help="hours to keep the minutes (%(default)s)")
    parser.add_argument("--plain", action="store_true", help="print one table after the other, even on a terminal")
    parser.add_argument("--port", type=int, default=0, help="port of the status page (default: any free one)")
    parser.add_argument("--dashboard", type=int, metavar="PORT", help="serve the dashboard there; 0: any free port")
    options = parser.parse_args()
    if not options.keep_hours > 0:
        parser.error("--keep-hours must be more than 0")
    if not os.access(options.database.parent, os.W_OK):
        parser.error(f"--database {options.database}: {options.database.parent} is not writable")

    log = logging.FileHandler(options.database.with_suffix(".log"), delay=True)  # Created with the first line.
    logging.basicConfig(handlers=[log], level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.ERROR)
    terminal.setFormatter(Line())
    logging.getLogger("kaiju_app.app").addHandler(terminal)  # Services only: the table shows how tasks fail.

    services = [
        Store(options.database, 3600 * options.keep_hours), Sampler(), Table(not options.plain and sys.stdout.isatty()),
        StatusPage(options.port), Checks(options.check),
    ]  # fmt: skip
    dashboards = [] if options.dashboard is None else [Dashboard(options.dashboard)]
    optional = ["StatusPage", *("Dashboard" for _ in dashboards)]
    app = Application("host monitor", [*services, *dashboards], optional_services=optional)
    for each in dashboards:
        each.prepare(app.scheduler)
    if options.seconds is not None:
        app.scheduler.schedule_task(stop, max(0.001, options.seconds), name="stop", first_run=FirstRun.NEXT)
    run_app(app)


if __name__ == "__main__":
    main()
