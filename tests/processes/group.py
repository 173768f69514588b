"""Real processes that share tasks through a store: start, signal and stop them, and check their journal."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from kaiju_app._core.clock import steady_us
from kaiju_app._core.model import Outcome
from kaiju_app.scheduler import LeaseTiming
from kaiju_app.stores import store_from_url
from kaiju_app.stores._record import LedgerRow, TaskRecord
from kaiju_app.testing._cluster.journal import Entry
from processes.worker import Options
from simulation.promises import Bounds, TaskJournal, acts_by_fence, acts_in_suspensions, claims, ticks_in_two_rows

WORKER = Path(__file__).with_name("worker.py")

LEASE = LeaseTiming(2.0, 0.4, 1.3, 0.4, 0.1)

PATIENCE_S = 20.0  # Far more than every bound: a line that is not written by then never will be.


@dataclass
class Process:
    """A process, and the commands and signals that a test sends to it."""

    who: str
    running: subprocess.Popen[bytes]
    errors: Path

    def tell(self, *words: object) -> None:
        assert self.running.stdin is not None
        self.running.stdin.write((" ".join(map(str, words)) + "\n").encode())
        self.running.stdin.flush()

    def signal(self, number: signal.Signals) -> int:
        """Send a signal; return the steady time just before it."""
        at = steady_us()
        self.running.send_signal(number)
        return at

    def kill(self) -> int:
        """Kill it and wait for its end; return the steady time just before the signal."""
        at = self.signal(signal.SIGKILL)
        self.running.wait()
        return at

    def stop(self) -> int:
        """Stop it in order with SIGTERM; return the steady time just before the signal."""
        at = self.signal(signal.SIGTERM)
        assert self.running.wait(PATIENCE_S) == 0, self.errors.read_text()
        return at


class Processes:
    """Processes of one application with one store and one journal.

    Args:
        directory: Where all files are.
        url: URL of the store; None for a file in the directory.
        lease: The lease timing of all processes.
        options: Options of all processes, see worker.Options.
    """

    def __init__(self, directory: Path, url: str | None = None, lease: LeaseTiming = LEASE, **options: Any) -> None:
        self.directory = directory
        self.lease = lease
        self.url = url or f"sqlite:///{directory / 'store.db'}"
        self.journal = directory / "journal"
        self.all: list[Process] = []
        self._options = options
        self._lines: list[Entry] = []
        self._read = 0
        self._last = 0
        self.journal.touch()

    @property
    def path(self) -> Path:
        """The file of the store, if it is one."""
        return Path(self.url.removeprefix("sqlite:///"))

    def start(self, who: str, environment: dict[str, str] | None = None, **options: Any) -> Process:
        """Start a process without waiting for it. *options* are for this process alone."""
        journal, lease = str(self.journal), list(asdict(self.lease).values())
        given = {"who": who, "store": self.url, "journal": journal, "lease": lease, **self._options, **options}
        errors = self.directory / f"stderr-{who}"
        command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", str(WORKER)]
        with errors.open("wb") as written:
            running = subprocess.Popen(
                [*command, json.dumps(given)],
                cwd=self.directory,
                stdin=subprocess.PIPE,
                stderr=written,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Its children end with it.
            )
        self.all.append(Process(who, running, errors))
        return self.all[-1]

    def start_ready(self, *names: str, **options: Any) -> list[Process]:
        """Start processes, and wait until their schedulers have started."""
        found = [self.start(who, **options) for who in names]
        for who in names:
            self.wait_for_line(lambda each, who=who: each.who == who and each.event == "boot")
        return found

    def start_settled(self, *names: str, **options: Any) -> list[Process]:
        """Start processes, and wait until all have watched the store's clock for long enough to trust it."""
        found = self.start_ready(*names, **options)
        for each in self.all:
            self.wait_for_line(lambda entry, who=each.who: (entry.who, entry.event) == (who, "boot"))
        booted = max(each.at for each in self.entries if each.event == "boot")
        self.wait_until(booted + us(self.lease.ttl_s + self.lease.grace_s + self.lease.poll_s))
        return found

    def process_named(self, who: str) -> Process:
        return next(each for each in reversed(self.all) if each.who == who)

    def end(self) -> Ledger:
        """Stop all running processes in order, and return the ledger."""
        running = [each for each in self.all if each.running.poll() is None]
        for each in running:
            each.signal(signal.SIGTERM)
        for each in running:
            assert each.running.wait(PATIENCE_S) == 0, self.failure(f"{each.who} failed")
        return asyncio.run(self._ledger())

    async def _ledger(self) -> Ledger:
        store = store_from_url(self.url)
        await store.open()
        records = (await store.scan()).records
        rows = [row for record in records for row in await store.history(record.name, 10_000)]
        await store.close()
        return Ledger(rows, records, us(self._options.get("interval_s", Options.interval_s)))

    def close(self) -> None:
        """Kill all processes and their children."""
        for each in self.all:
            with suppress(ProcessLookupError):
                os.killpg(each.running.pid, signal.SIGKILL)
        for each in self.all:
            each.running.wait()
            assert each.running.stdin is not None
            with suppress(BrokenPipeError):
                each.running.stdin.close()

    def ask(self, sql: str) -> Any:
        """Return the first value of the answer to a query of the store's file."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(sql).fetchone()[0]

    # --- the journal ---

    @property
    def entries(self) -> list[Entry]:
        """The lines so far, in the order in which they were written.

        A process may be stopped between reading the clock and writing the line. Then the line counts from when it was
        written, since that is when the others could see it.
        """
        with self.journal.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        new = new[: new.rfind(b"\n") + 1]
        self._read += len(new)
        for line in new.splitlines():
            at, late, who, event, task, fence, tick, take, note = json.loads(line)
            self._last = max(self._last, at)
            # A process may act with an expired lease only in its first turn after a pause longer than the lease.
            thaw = late + self._last - at >= us(self.lease.ttl_s)
            self._lines.append(Entry(self._last, who, event, task, fence, tick, take, note, thaw=thaw))
        return self._lines

    def wait_for_line(self, true: Callable[[Entry], bool], since: int = 0, within_s: float = PATIENCE_S) -> Entry:
        """Wait for the first line from *since* on for which *true* returns true, and return it."""
        end = time.monotonic() + within_s
        seen = 0
        while True:
            entries = self.entries
            for entry in entries[seen:]:
                if entry.at >= since and true(entry):
                    return entry
            seen = len(entries)
            assert time.monotonic() < end, self.failure(f"no such line within {within_s:g} s")
            time.sleep(0.005)

    def next_act(self, who: str | None = None, since: int = 0) -> Entry:
        """Wait for the next line of a body that is in the middle of its run."""
        return self.wait_for_line(
            lambda each: each.event == "act" and bool(each.fence) and who in (None, each.who), since
        )

    def next_begin(self, since: int, unlike: str = "", **facts: object) -> Entry:
        """Wait for the next run that begins in a process other than *unlike*."""
        return self.wait_for_line(
            lambda each: (
                each.event == "begin"
                and each.who != unlike
                and all(getattr(each, name) == value for name, value in facts.items())
            ),
            since,
        )

    def wait_until(self, moment: int) -> None:
        """Sleep until a steady time, to see that something does not happen before."""
        time.sleep(max(0, moment - steady_us()) / 1e6)

    def failure(self, what: str) -> str:
        """Return *what* is wrong, with the end of the journal and the logs of the processes."""
        shared = [each for each in self.entries if each.task != "local"]
        logs = [f"--- {each.who}\n{each.errors.read_text()[-2000:]}" for each in self.all]
        return "\n".join([TaskJournal("journal", shared, {}).report(what, self._last, before=40), *logs])

    def check(self, ledger: Ledger | None = None, *, tasks: Sequence[str] = ("task",)) -> None:
        """Fail if the journal shows a broken promise, or the log of a process a bug.

        Args:
            ledger: Compared with the journal as well, if given.
        """
        found = [each for task in tasks for each in violations(self.entries, task)]
        if ledger is not None:
            found += [each for task in tasks for each in ledger.mistakes(self.entries, task)]
        assert not found, self.failure("\n".join(found))
        for each in self.all:
            logged = each.errors.read_text()
            assert not re.search("which is a bug|never retrieved|was destroyed|Exception in", logged), logged


def us(seconds: float) -> int:
    return round(seconds * 1e6)


def seconds(since: int, until: int) -> float:
    return (until - since) / 1e6


# --- what has to hold ---


def violations(entries: Sequence[Entry], task: str) -> list[str]:
    """Return the broken promises.

    Fences grow, at most one run begins with each, nothing acts with a lower fence than one before, and no run acts
    inside the body of a suspension.
    """
    book = TaskJournal(task, list(_with_claims(each for each in entries if each.task == task)), {})
    return [each for check in (acts_by_fence, acts_in_suspensions, claims) for each in check(book, Bounds())]


def _with_claims(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Insert a claim before the beginning of each run, so that the order of fences is checked."""
    for entry in entries:
        if entry.event == "begin":
            yield entry._replace(event="claimed")
        yield entry


@dataclass(frozen=True)
class Ledger:
    """The content of the store at the end.

    Args:
        every: Microseconds from a tick to the next.
    """

    rows: Sequence[LedgerRow]
    records: Sequence[TaskRecord]
    every: int

    def ended(self) -> list[tuple[str, int, int | None]]:
        """Return outcome, take and fence of each row."""
        return [(row.outcome, row.delivery, row.fence) for row in self.rows]

    def mistakes(self, entries: Sequence[Entry], task: str) -> list[str]:
        """Return what is wrong with it.

        Each tick before the next one has exactly one row, not counting lost takes. A run has a row with its tick, take
        and fence if and only if it succeeded.
        """
        rows = [row for row in self.rows if row.name == task]
        book = TaskJournal(task, [each for each in entries if each.task == task], {})
        found = ticks_in_two_rows(book, rows)
        (record,) = (each for each in self.records if each.name == task)
        over = sorted((row.first_tick, row.last_tick) for row in rows if row.outcome != Outcome.LOST.value)
        for (_, one), (other, _) in pairwise([*over, (record.next_tick, record.next_tick)]):
            if other != one + self.every:
                found.append(book.report(f"the ledger goes from tick {one} to {other}", self._at(book, other)))
        begun = {(each.tick, each.take, each.fence) for each in book.of("begin")}
        whole = {(each.tick, each.take, each.fence) for each in book.of("end") if not each.note}
        recorded = {(row.first_tick, row.delivery, row.fence) for row in rows if row.outcome == Outcome.SUCCEEDED.value}
        lost = {row.fence for row in rows if row.outcome == Outcome.LOST.value}
        found += [f"{task}: in the ledger, but never run: {run}" for run in recorded - begun]
        found += [f"{task}: run, but not in the ledger: {run}" for run in whole - recorded if run[2] not in lost]
        return found

    @staticmethod
    def _at(book: TaskJournal, tick: int) -> int:
        return min((each.at for each in book.lines if each.tick >= tick), default=book.lines[-1].at)


def in_run(entries: Sequence[Entry], who: str, at: int) -> bool:
    """Return whether the process was running a body at that time."""
    mine = [each for each in entries if each.who == who and each.at < at and each.event in ("begin", "act", "end")]
    mine = [each for each in mine if each.fence]
    return bool(mine) and mine[-1].event != "end"


def failovers(entries: Sequence[Entry], faults: Iterable[tuple[int, str]]) -> list[float]:
    """Return for each fault that cut a run the seconds until a run began in another process."""
    found = []
    for at, who in faults:
        if in_run(entries, who, at):
            following = (each.at for each in entries if each.event == "begin" and each.at > at and each.who != who)
            found.append((next(following) - at) / 1e6)
    return found


def longest_gap(entries: Sequence[Entry], start: int, end: int) -> float:
    """Return the longest time between *start* and *end* without a line, in seconds."""
    moments = [start, *(each.at for each in entries if start < each.at < end), end]
    return max(later - earlier for earlier, later in pairwise(moments)) / 1e6


def local_gap(processes: Processes, start: int, end: int, names: Iterable[str] = "abc") -> float:
    """Return the longest time in which some process did not run its local task, in seconds."""
    entries = [each for each in processes.entries if each.task == "local"]
    return max(longest_gap([each for each in entries if each.who == who], start, end) for who in names)
