"""Watch this machine: sample it every second, check what it depends on, keep the history in a SQLite file.

    python examples/host_monitor.py --check tcp://localhost:5432 --check http://localhost:8000/health

Everything that happens here is a task of one ``Scheduler``, and the table on the screen shows these tasks at work.
What there is to learn, by class:

* ``Sampler``: plain functions, which run in the scheduler's threads; SKIP for a reading that comes too late to matter,
  SHIELD for a write that must not be torn; ``current_run()`` for the time that a sample belongs to.
* ``Store``: a trigger (every full minute) instead of an interval; blocking code that knows nothing of tasks.
* ``Cache``: ``async with task.suspend():`` keeps a task quiet while what it works on is changed.
* ``Checks``: one task each, with retries and a deadline; one that fails, or hangs, disturbs no other.
* ``Table``: what can be seen of a task from outside, and ``subscribe()`` to hear how every run ended.
* ``StatusPage``: the table for ``curl``, and ``scheduler.json_repr()`` under ``/json``.

Ctrl-C or SIGTERM ends it in order: shielded work is finished, what was collected is written, the last table is shown.
The exit status is then 0, because it did what it was asked to do. A second signal ends it at once. What went wrong
inside, with tracebacks, is in a log beside the database.
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
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import psutil

from kaiju_app.scheduler import Every, ExecPolicy, Outcome, Reason, Run, ScheduledTask, Scheduler, current_run

SAVE_S = 5.0  # What a power cut may cost. A transaction writes whole pages, however few the numbers in it.
REFRESH_S = 5.0
PRUNE_S = 60.0
CHECK_S = 5.0
ATTEMPT_S = 1.0  # Three attempts of a second and two pauses fit into the deadline, and that into the interval.
CHECK_DEADLINE_S = 4.5
STALE_S = 4 * SAVE_S  # Rows older than this: several writes in a row have failed.
SAMPLES_KEPT_S = 2 * 3600.0  # Single samples; after that the minutes tell enough. The cache needs one hour of them.
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

Sample = tuple[float, dict[str, float]]  # seconds since the epoch, value by metric
Spread = tuple[float, float, float]  # min, avg, max


def soon(seconds: float) -> datetime:
    """Return a first tick that lets each task find what the one before it left: read, saved, summed up, shown."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


class Store:
    """The SQLite file. Every method blocks, is one transaction, and may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False)  # The lock sees to it that it is one at a time.
        self._db.executescript(SCHEMA)

    def schedule(self, scheduler: Scheduler) -> None:
        scheduler.schedule_task(self.roll_up, trigger=Every(60), name="roll up minutes", policy=ExecPolicy.SHIELD)

    def add(self, samples: Sequence[Sample]) -> None:
        rows = [(at, metric, value) for at, values in samples for metric, value in values.items()]
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

    def check(self) -> str:
        """Return how fresh the rows are; raise if they are stale or the file cannot be written."""
        with self._lock, self._db as db:
            db.execute("BEGIN IMMEDIATE")
            (newest,) = db.execute("SELECT coalesce(max(at), 0) FROM sample").fetchone()
        age = time.time() - newest
        if age > STALE_S:
            raise OSError(f"{self.path}: newest row is {age:.0f} s old")
        return f"newest row {age:.1f} s old"

    def close(self) -> None:
        self._db.close()


class Sampler:
    """Reads the machine every second, and keeps in memory what is not written yet."""

    def __init__(self, store: Store) -> None:
        self.latest: dict[str, float] = {}
        self._store = store
        self._pending: list[Sample] = []
        self._traffic = (time.monotonic(), psutil.net_io_counters())
        psutil.cpu_percent()  # The next call tells the load since this one.

    def schedule(self, scheduler: Scheduler) -> None:
        # Not at once: rates need a while to be measured over. SKIP: a reading right after a slow one measures nothing.
        scheduler.schedule_task(self.sample, 1, name="sample", policy=ExecPolicy.SKIP, first_run=soon(0.5))
        scheduler.schedule_task(self.save, SAVE_S, name="save", policy=ExecPolicy.SHIELD, first_run=soon(0.6))

    def sample(self) -> str:
        at = current_run().scheduled_at.timestamp()  # The tick, not now(): a late reading belongs to its second.
        received, sent = self._rates()
        values = (
            psutil.cpu_percent(), psutil.virtual_memory().percent, psutil.getloadavg()[0],
            psutil.disk_usage(str(self._store.path.parent)).percent, received, sent, float(len(psutil.pids())),
        )  # fmt: skip
        self.latest = dict(zip(METRICS, values, strict=True))
        self._pending.append((at, self.latest))
        return f"{len(self._pending)} to be saved"

    def save(self) -> str:
        batch = self._pending[:]
        self._store.add(batch)
        del self._pending[: len(batch)]  # Only now: what could not be written is tried again the next time.
        return f"{len(batch)} samples"

    def _rates(self) -> tuple[float, float]:
        """Return kB/s received and sent since the last call."""
        (then, before), (now, after) = self._traffic, (time.monotonic(), psutil.net_io_counters())
        self._traffic = (now, after)
        scale = 1000 * (now - then)
        return (after.bytes_recv - before.bytes_recv) / scale, (after.bytes_sent - before.bytes_sent) / scale


class Cache:
    """The last hour of every metric and the size of the store, so that a redraw costs no query."""

    _refresh_task: ScheduledTask[str]

    def __init__(self, store: Store, keep_s: float) -> None:
        self.hour: dict[str, Spread] = {}
        self.contents = ""
        self._store = store
        self._keep_s = keep_s

    def schedule(self, scheduler: Scheduler) -> None:
        self._refresh_task = scheduler.schedule_task(
            self.refresh, REFRESH_S, name="refresh cache", policy=ExecPolicy.SKIP, first_run=soon(0.7)
        )
        scheduler.schedule_task(self.prune, PRUNE_S, name="prune", policy=ExecPolicy.SHIELD)

    def refresh(self) -> str:
        self.hour = self._store.spread(time.time() - 3600)
        self.contents = self._store.contents()
        return f"{len(self.hour)} metrics"

    async def prune(self) -> str:
        """Delete old rows and rewrite the cache; no refresh may bring back what it read halfway."""
        now = time.time()
        async with self._refresh_task.suspend("old rows are being deleted"):
            before = now - min(SAMPLES_KEPT_S, self._keep_s), now - self._keep_s
            deleted = await asyncio.to_thread(self._store.prune, *before)
            await asyncio.to_thread(self.refresh)
        return f"{deleted} rows deleted"


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


class Checks:
    """Is what this machine offers and needs there? The answer of a check is the result of its task."""

    def __init__(self, urls: Sequence[str], store: Store) -> None:
        self._urls = dict.fromkeys(urls)
        self._store = store

    def schedule(self, scheduler: Scheduler) -> None:
        # After the first save: the rows of an earlier start are old.
        scheduler.schedule_task(self._store.check, CHECK_S, name="check database", first_run=soon(0.7), retries=2)
        for url in self._urls:
            parts = urlsplit(url)
            scheduler.schedule_task(
                KINDS[parts.scheme],
                CHECK_S,
                (parts,),
                name=f"check {url}",
                max_timeout_s=CHECK_DEADLINE_S,
                retries=2,
                retry_interval_s=0.5,
                retry_on=OSError,  # TimeoutError is one, and so is whatever a socket or a file raises.
            )


class Table:
    """The figures and the tasks, redrawn in place on a terminal, printed every few seconds elsewhere.

    Args:
        live: Redraw in place.
    """

    def __init__(self, scheduler: Scheduler, sampler: Sampler, cache: Cache, live: bool) -> None:
        self._scheduler = scheduler
        self._sampler = sampler
        self._cache = cache
        self._live = live
        self._runs: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._failing: set[str] = set()
        self._notes: deque[str] = deque(maxlen=NOTES)
        scheduler.subscribe(self.count)

    def schedule(self) -> None:
        if self._live:  # Let what is on the screen scroll away instead of writing over it.
            say("\n" * shutil.get_terminal_size().lines, end="")
        self._scheduler.schedule_task(self.draw, 1 if self._live else 5, name="draw table", first_run=soon(0.8))

    def note(self, text: str) -> None:
        """Say something once: under the table, or as a line of its own."""
        line = f"{datetime.now(UTC).astimezone():%H:%M:%S}  {text}"
        self._notes.append(line)
        if not self._live:
            say(line)

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
        if not self._live:
            say(self.text())
            return
        width, height = shutil.get_terminal_size()
        lines = [*self._lines(), "", *self._notes][: None if whole else height - 1]
        # Each line erases the rest of the old one: there is no moment at which the screen is blank.
        say("\x1b[H" + "".join(f"{line[:width]}\x1b[K\n" for line in lines) + "\x1b[J", end="")

    def text(self) -> str:
        return "\n".join([*self._lines(), ""])

    def _lines(self) -> list[str]:
        now = datetime.now(UTC)
        return [
            f"host monitor  {now.astimezone():%H:%M:%S}  {self._cache.contents}", "",
            *self._figures(), "",
            f"{'TASK':<30} {'STATE':<9} {'NEXT s':>6} {'LATE ms':>8} {'RUNS':>6} {'FAILED':>6}  LAST OUTCOME",
            *(self._row(task, now) for task in self._scheduler.tasks.values()),
        ]  # fmt: skip

    def _figures(self) -> list[str]:
        rows: dict[str, Mapping[str, float]] = {"now": self._sampler.latest}
        for number, name in enumerate(("hour min", "hour avg", "hour max")):
            rows[name] = {metric: spread[number] for metric, spread in self._cache.hour.items()}
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


def say(text: str, end: str = "\n") -> None:
    """Print *text*. If nobody reads it any more, as after ``| head``, end in order."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        signal.raise_signal(signal.SIGTERM)


class StatusPage:
    """Answers HTTP on a loopback port: the table as text, and under /json what the scheduler knows."""

    def __init__(self, scheduler: Scheduler, table: Table) -> None:
        self._scheduler = scheduler
        self._table = table

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that goes away, or says nothing for a while, or no HTTP, is its own concern.
        with suppress(OSError, EOFError, asyncio.LimitOverrunError):
            async with asyncio.timeout(ATTEMPT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                full = head.startswith(b"GET /json ")
                body = json.dumps(self._scheduler.json_repr(), indent=2) if full else self._table.text()
                writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + body.encode())
                await writer.drain()
        writer.close()


async def asked_to_end(after_s: float | None) -> str:
    """Return why, when a signal comes or *after_s* seconds are over."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()

    def on_signal(number: signal.Signals) -> None:
        signals.put_nowait(number)
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)  # The second one ends at once.

    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, on_signal, each)
    try:
        async with asyncio.timeout(after_s):
            return (await signals.get()).name
    except TimeoutError:
        return f"{after_s:g} s are over"


async def monitor(options: argparse.Namespace, store: Store) -> None:
    scheduler = Scheduler()
    sampler = Sampler(store)
    cache = Cache(store, 3600 * options.keep_hours)
    table = Table(scheduler, sampler, cache, live=not options.plain and sys.stdout.isatty())
    server = await asyncio.start_server(StatusPage(scheduler, table).answer, "127.0.0.1", 0)
    own_page = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    checks = Checks([own_page, *ALWAYS, *options.check], store)

    for part in (sampler, store, cache, checks):
        part.schedule(scheduler)
    table.schedule()
    table.note(f"status page: {own_page}, all that is known: {own_page}json")
    table.note(f"found {store.contents()} in {store.path}")
    async with server, scheduler:
        reason = await asked_to_end(options.seconds)
    sampler.save()  # Nothing else runs any more, so nothing needs a thread.
    store.roll_up()
    cache.refresh()
    await table.draw(whole=True)
    say(f"ended ({reason}); kept {cache.contents} in {store.path}")
    for task in scheduler.tasks.values():
        if task.running:
            say(f"{task.name} still hangs in a thread: once more Ctrl-C ends it")


def main() -> None:
    parser = argparse.ArgumentParser(description="Watch this machine; Ctrl-C ends it.")
    parser.add_argument("--database", type=Path, default="host_monitor.db", help="SQLite file (%(default)s)")
    parser.add_argument("--seconds", type=float, help="end after so many seconds")
    parser.add_argument(
        "--check", type=check_url, action="append", default=[], metavar="URL", help=f"{FORMS}; repeatable"
    )
    parser.add_argument("--keep-hours", type=float, default=168, help="hours that minutes are kept (%(default)s)")
    parser.add_argument("--plain", action="store_true", help="one table after the other, on a terminal too")
    options = parser.parse_args()
    if not options.keep_hours > 0:
        parser.error("--keep-hours must be more than 0")
    log = logging.FileHandler(options.database.with_suffix(".log"), delay=True)  # Made when there is something to say.
    logging.basicConfig(handlers=[log], level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        store = Store(options.database)
    except sqlite3.Error as exc:
        parser.error(f"--database {options.database}: {exc}")
    with closing(store):
        asyncio.run(monitor(options, store))


if __name__ == "__main__":
    main()
