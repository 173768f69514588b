"""Watch this machine: sample it every second, check what it depends on, keep the history in a SQLite file.

    python examples/host_monitor.py --check tcp://localhost:5432 --check http://localhost:8000/health

An ``Application`` of five services, which schedule its tasks; the table on the screen shows these tasks at work.
What there is to learn, by class:

* ``Database``: blocking code, which knows nothing of services and tasks.
* ``Store``: a whole life. ``init()`` may have to wait, and leaves nothing open if it is cancelled; ``health()`` tries
  what the others rely on; ``post_init()`` takes its time; ``close()`` has the last word. A trigger (every full minute)
  instead of an interval; ``async with task.suspend():`` keeps a task quiet while what it works on is changed.
* ``Sampler``: ``service()`` for a store that is open before it and closed after it. Plain functions, which run in
  threads; SKIP for a reading that comes too late to matter, SHIELD for a write that must not be torn;
  ``current_run()`` for the time that a sample belongs to.
* ``Table``: what can be seen of a task from outside, and ``subscribe()`` to hear how every run ended.
* ``StatusPage``: an optional service, without which the others go on; ``app.inspect()`` is under ``/json``.
* ``Checks``: one task each, with retries and a deadline; one that fails, or hangs, disturbs no other.

``run_app()`` does the rest. Ctrl-C or SIGTERM ends it in order, during its start too: shielded work is finished, the
last table is shown, what was collected is written. The exit status is then 0, because it did what it was asked to do. A
second signal cuts that short: 128 + its number. If it cannot start, or not end in order, a line says why: 1. What went
wrong inside, with tracebacks, is in a log beside the database.
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
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import psutil

from kaiju_app import Application, Health, Service, ServiceState, run_app, service
from kaiju_app.scheduler import Every, ExecPolicy, FirstRun, Outcome, Reason, Run, ScheduledTask, current_run

SAVE_S = 5.0  # What a power cut may cost. A transaction writes whole pages, however few the numbers in it.
REFRESH_S = 5.0
PRUNE_S = 60.0
CHECK_S = 5.0
ATTEMPT_S = 1.0  # Three attempts of a second and two pauses fit into the deadline, and that into the interval.
CHECK_DEADLINE_S = 4.5
BUSY_S = 1.0  # What another program may take with the file; less than what a service has that is asked to give way.
STALE_S = 4 * SAVE_S  # Nothing written for so long: several writes in a row have failed.
SAMPLES_KEPT_S = 2 * 3600.0  # Single samples; after that the minutes tell enough. The table needs one hour of them.
NOTES = 5  # Lines about what changed, under the table.

METRICS = {  # and how each is shown
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

# The latest minute is computed again: samples of it may have been written since.
ROLL_UP = """
INSERT OR REPLACE INTO minute
SELECT CAST(at AS INTEGER) / 60 * 60, metric, min(value), avg(value), max(value), count(*) FROM sample
WHERE at >= (SELECT coalesce(max(at), 0) FROM minute) GROUP BY 1, 2
"""

Samples = Mapping[float, Mapping[str, float]]  # value by metric, by seconds since the epoch
Spread = tuple[float, float, float]  # min, avg, max


def soon(seconds: float) -> datetime:
    """Return a first tick that lets each task find what the one before it left: read, saved, summed up, shown."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


class Database:
    """The SQLite file. Every method blocks, is one transaction, and may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)  # The lock sees to that.

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
        """Delete what is older, by whole minutes; return the number of rows. A sample goes once its minute is kept."""
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
        """Return how much there is and since when, in words."""
        with self._lock, self._db as db:
            samples, sampled = db.execute("SELECT count(DISTINCT at), min(at) FROM sample").fetchone()
            minutes, rolled = db.execute("SELECT count(DISTINCT at), min(at) FROM minute").fetchone()
        if not samples and not minutes:
            return "nothing yet"
        since = datetime.fromtimestamp(min(at for at in (sampled, rolled) if at is not None), UTC).astimezone()
        return f"samples: {samples:,}, minutes: {minutes:,}, since {since:%Y-%m-%d %H:%M}"

    def newest(self) -> float:
        """Return when the latest sample was taken, 0 if there is none; raise if the file cannot be written."""
        with self._lock, self._db as db:
            db.execute("BEGIN IMMEDIATE")
            (newest,) = db.execute("SELECT coalesce(max(at), 0) FROM sample").fetchone()
            return float(newest)

    def damage(self, give_up: Callable[[], bool]) -> str:
        """Return "ok" or what is damaged. On a connection of its own: in a large file it takes minutes."""
        with closing(sqlite3.connect(self._path)) as db:
            db.set_progress_handler(give_up, 10_000)  # Nobody can cancel a thread, but SQLite asks every now and then.
            return str(db.execute("PRAGMA quick_check(1)").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._db.close()


@dataclass
class Store(Service):
    """What is kept: all of it in the file, and the last hour summed up in memory, so that a redraw costs no query."""

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
        except BaseException:  # Cancelled, too: an init() that does not return gets no close().
            await asyncio.to_thread(self.db.close)
            raise

    async def health(self) -> Health:
        return Health(stats={"found": await asyncio.to_thread(self.check), "contents": self.contents})

    async def post_init(self) -> None:
        found = await asyncio.to_thread(self.db.damage, lambda: self.state is not ServiceState.READY)
        if found != "ok":
            raise sqlite3.DatabaseError(f"{self.path}: {found}")

    async def close(self) -> None:
        try:  # Whoever writes is closed already: now it is complete.
            await asyncio.to_thread(self.db.roll_up)
            await asyncio.to_thread(self.refresh)
            say(self.app, f"ended; kept {self.contents} in {self.path}")
        finally:
            await asyncio.to_thread(self.db.close)

    def refresh(self) -> str:
        self.hour = self.db.spread(time.time() - 3600)
        self.contents = self.db.contents()
        return f"{len(self.hour)} metrics"

    async def prune(self) -> str:
        """Delete old rows and rewrite the cache; no refresh may bring back what it read halfway."""
        now = time.time()
        async with self._cache.suspend("old rows are being deleted"):
            before = now - min(SAMPLES_KEPT_S, self.keep_s), now - self.keep_s
            deleted = await asyncio.to_thread(self.db.prune, *before)
            await asyncio.to_thread(self.refresh)
        return f"{deleted} rows deleted"

    def check(self) -> str:
        """Return how fresh the rows are; raise if they are stale or the file cannot be written."""
        newest, now = self.db.newest(), time.time()
        if now - max(newest, self._opened_at) > STALE_S:  # Rows of an earlier start may be old.
            raise OSError(f"newest row is {now - newest:.0f} s old" if newest else "nothing was ever written")
        return f"newest row {now - newest:.1f} s old" if newest else "no rows yet"


@dataclass
class Sampler(Service):
    """Reads the machine every second, and keeps in memory what is not written yet."""

    store: Store = service()
    latest: dict[str, float] = field(default_factory=dict, init=False)

    async def init(self) -> None:
        self._pending: dict[float, dict[str, float]] = {}
        self._traffic = (time.monotonic(), psutil.net_io_counters())
        psutil.cpu_percent()  # The next call tells the load since this one.
        plan = self.app.scheduler.schedule_task
        # Not at once: rates need a while to be measured over. SKIP: a reading right after a slow one measures nothing.
        plan(self.sample, 1, name="sample", policy=ExecPolicy.SKIP, first_run=soon(0.5))
        plan(self.save, SAVE_S, name="save", policy=ExecPolicy.SHIELD, first_run=soon(0.6))

    async def health(self) -> Health:
        """Tell what a power cut would cost."""
        count = len(self._pending)
        return Health([f"{count} samples are not saved yet"] if count > STALE_S else [], {"not saved yet": count})

    async def close(self) -> None:
        await asyncio.to_thread(self.save)

    def sample(self) -> str:
        at = current_run().scheduled_at.timestamp()  # The tick, not now(): a late reading belongs to its second.
        received, sent = self._rates()
        values = (
            psutil.cpu_percent(), psutil.virtual_memory().percent, psutil.getloadavg()[0],
            psutil.disk_usage(str(self.store.path.parent)).percent, received, sent, float(len(psutil.pids())),
        )  # fmt: skip
        self.latest = self._pending[at] = dict(zip(METRICS, values, strict=True))
        return f"{len(self._pending)} to be saved"

    def save(self) -> str:
        batch = self._pending.copy()
        self.store.db.add(batch)
        for at in batch:  # Only now: what could not be written is tried again the next time.
            self._pending.pop(at, None)
        return f"{len(batch)} samples"

    def _rates(self) -> tuple[float, float]:
        """Return kB/s received and sent since the last call."""
        (then, before), (now, after) = self._traffic, (time.monotonic(), psutil.net_io_counters())
        self._traffic = (now, after)
        scale = 1000 * (now - then)
        return (after.bytes_recv - before.bytes_recv) / scale, (after.bytes_sent - before.bytes_sent) / scale


@dataclass
class Table(Service):
    """The figures and the tasks, redrawn in place on a terminal, printed every few seconds elsewhere."""

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
        if self.live:  # Let what is on the screen scroll away instead of writing over it.
            say(self.app, "\n" * shutil.get_terminal_size().lines, end="")
        self.note(f"found {self.store.contents} in {self.store.path}")

    async def close(self) -> None:
        self._unsubscribe()
        await self.draw(whole=True)
        for task in self.app.scheduler.tasks.values():
            if task.running:
                say(self.app, f"{task.name} still hangs in a thread: once more Ctrl-C ends it")

    def note(self, text: str) -> None:
        """Say something once: under the table, or as a line of its own."""
        line = f"{datetime.now(UTC).astimezone():%H:%M:%S}  {text}"
        self._notes.append(line)
        if not self.live:
            say(self.app, line)

    def count(self, run: Run) -> None:
        """Listen to how every run ends; note what changes."""
        if run.outcome is Outcome.SKIPPED and run.reason is Reason.HUNG and run.finished_at is None:
            self.note(f"{run.task}: hangs; it is not started again before it ends")
        if run.started_at is None or run.reason is Reason.SHUTDOWN:
            return
        failed = run.outcome is not Outcome.SUCCEEDED
        self._runs[run.task] += 1
        self._failures[run.task] += failed
        if failed != (run.task in self._failing):
            self._failing ^= {run.task}
            self.note(f"{run.task}: {ending(run)} ({run.attempts} attempts)" if failed else f"{run.task}: works again")

    async def draw(self, *, whole: bool = False) -> None:
        """Show it as it is now; *whole* even if the terminal is not high enough, which then scrolls.

        Async, although it awaits nothing: tasks are looked at in the loop, not in a thread.
        """
        if not self.live:
            say(self.app, self.text())
            return
        width, height = shutil.get_terminal_size()
        lines = [*self._lines(), "", *self._notes][: None if whole else height - 1]
        # Each line erases the rest of the old one: there is no moment at which the screen is blank.
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
        last = "-" if run is None else ending(run, task.result)
        return f"{name:<30} {task.state:<9} {wait:>6} {late:>8} {runs:>6,} {failures:>6,}  {last}"


def ending(run: Run, result: object = None) -> str:
    """Return how *run* ended, in a few words."""
    if run.outcome is Outcome.SUCCEEDED:
        return f"{1000 * (run.duration_s or 0):,.1f} ms: {result or 'ok'}"
    return f"{run.outcome}: {run.reason or run.error}"


def say(app: Application, text: str, end: str = "\n") -> None:
    """Print *text*. If nobody reads it any more, as after ``| head``, end in order."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if app.state is not ServiceState.CLOSING:  # It would be a second signal, which cuts the end short.
            signal.raise_signal(signal.SIGTERM)


@dataclass
class StatusPage(Service):
    """Answers HTTP on a loopback port: the table as text, and under /json what the application knows."""

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
        self.table.note(f"status page: {self.url}, all that is known: {self.url}json")

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that goes away, or says nothing for a while, or no HTTP, is its own concern.
        with suppress(OSError, EOFError, asyncio.LimitOverrunError):
            async with asyncio.timeout(ATTEMPT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                full = head.startswith(b"GET /json ")
                body = json.dumps(await self.app.inspect(ATTEMPT_S / 2), indent=2) if full else self.table.text()
                writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + body.encode())
                await writer.drain()
        writer.close()


async def talk(host: str | None, port: int | None, request: bytes = b"") -> str:
    """Connect, send *request*, and return the first line of the answer."""
    async with asyncio.timeout(ATTEMPT_S):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(request)
            return (await reader.readline()).decode("latin-1").strip() if request else "connected"
        finally:
            writer.close()
            with suppress(OSError):  # How the other side takes leave is no concern of a check.
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


# What blocks is no coroutine: it gets a thread. One that hangs, on a dead network drive say, costs that thread only.
KINDS: dict[str, Callable[[SplitResult], Any]] = {
    "tcp": check_tcp, "http": check_http, "name": check_name, "file": check_file,
}  # fmt: skip
FORMS = "tcp://host:port, http://host:port/path, name://host, file:///path"
ALWAYS = ["name://localhost", *(f"file://{path}" for path in ("/proc/loadavg", "/etc/hosts") if Path(path).exists())]


def check_url(text: str) -> str:
    """Return *text* if it names something that can be checked; for argparse."""
    url = urlsplit(text)
    target = url.path if url.scheme == "file" else url.hostname
    if url.scheme not in KINDS or not target or (url.scheme == "tcp" and not url.port):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {FORMS}")
    return text


@dataclass
class Checks(Service):
    """Is what this machine offers and needs there? The answer of a check is the result of its task."""

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
                retry_on=OSError,  # TimeoutError is one, and so is whatever a socket or a file raises.
            )


class Line(logging.Formatter):
    """For the terminal: what happened, without where in the program it was."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage().partition("\n")[0]


async def end() -> None:
    """End the program. Async: Python delivers signals in the thread of the loop."""
    signal.raise_signal(signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser(description="Watch this machine; Ctrl-C ends it.")
    parser.add_argument("--database", type=Path, default="host_monitor.db", help="SQLite file (%(default)s)")
    parser.add_argument("--seconds", type=float, help="end after so many seconds")
    parser.add_argument(
        "--check", type=check_url, action="append", default=[], metavar="URL", help=f"{FORMS}; repeatable"
    )
    parser.add_argument("--keep-hours", type=float, default=168, help="hours that minutes are kept (%(default)s)")
    parser.add_argument("--plain", action="store_true", help="one table after the other, on a terminal too")
    parser.add_argument("--port", type=int, default=0, help="of the status page (any that is free)")
    options = parser.parse_args()
    if not options.keep_hours > 0:
        parser.error("--keep-hours must be more than 0")
    if not os.access(options.database.parent, os.W_OK):
        parser.error(f"--database {options.database}: nothing can be written into {options.database.parent}")

    log = logging.FileHandler(options.database.with_suffix(".log"), delay=True)  # Made when there is something to say.
    logging.basicConfig(handlers=[log], level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.ERROR)
    terminal.setFormatter(Line())
    logging.getLogger("kaiju_app.app").addHandler(terminal)  # Of services; how tasks fail is in the table.

    services = [
        Store(options.database, 3600 * options.keep_hours), Sampler(), Table(not options.plain and sys.stdout.isatty()),
        StatusPage(options.port), Checks(options.check),
    ]  # fmt: skip
    app = Application("host monitor", services, optional_services=["StatusPage"])
    if options.seconds is not None:
        app.scheduler.schedule_task(end, max(0.001, options.seconds), name="end", first_run=FirstRun.NEXT)
    run_app(app)


if __name__ == "__main__":
    main()
