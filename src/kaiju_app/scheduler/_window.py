"""What is known of tasks in a window of time, for those who draw it. Times are wall-clock microseconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from kaiju_app._core.clock import epoch_us, utc
from kaiju_app._core.ledger_query import LedgerQuery, Place
from kaiju_app._core.model import Outcome, Reason
from kaiju_app._core.run_id import run_id
from kaiju_app._core.upset import Upset, UpsetKind
from kaiju_app._engine.ledger import PACKED, UNSET, RunRecord, read, record_of_overtaken
from kaiju_app.errors import WrongState
from kaiju_app.triggers._lint_dst import changes
from kaiju_app.triggers._remarks import zones_of

from ._scheduler import Scheduler
from ._task import ScheduledTask

if TYPE_CHECKING:
    from kaiju_app._cluster.store_client import StoreClient
    from kaiju_app.stores._record import LedgerRow

CHUNK = 64  # Records that are looked at in one piece.
ROWS = 1_000  # Rows that a store is asked for at a time.
EDGE = 4  # Rows before the window that are looked at: a run that began before it may have ended in it.
MOST_DAYS = 800  # A search for changes of the clocks looks at each day.


class Ended(NamedTuple):
    """How ticks ended.

    Attributes:
        first: The tick; of skips, the first one.
        last: The last one.
        started: None of skips, and of a run that was lost before it began.
        finished: None of skips that may become more.
        key: What the identity of a run is made of: its instance, its start and its fencing token. None of skips.
    """

    first: int
    last: int
    number: int
    started: int | None
    finished: int | None
    outcome: Outcome
    reason: Reason | None
    key: tuple[str, int, int | None] | None

    def meets(self, since: int, until: int) -> bool:
        """Return whether some of it was from *since* to *until*."""
        begin = self.first if self.started is None else self.started
        end = self.last if self.started is None or self.finished is None else self.finished
        return begin <= until and max(begin, end) >= since


class Begun(NamedTuple):
    """A run in progress; what is not known of it is None."""

    started: int
    tick: int | None
    key: tuple[str, int, int | None] | None


def identity_of(task: str, key: tuple[str, int, int | None] | None) -> str | None:
    """Return the identity of the run that has this *key*."""
    return None if key is None else run_id(task, *key)


# --- what this process has ---


def local_endings(task: ScheduledTask[Any], since: int, until: int) -> Iterator[list[Ended]]:
    """Yield what this process keeps of *task* that was in the window, in pieces between which others may run."""
    entry, instance = task._entry, task._engine.instance
    if entry.overtaken is not None:
        yield _in_window([record_of_overtaken(entry.overtaken)], instance, since, until)
    start = 0
    while (ring := entry.ring) is not None and start < len(ring) // PACKED.size:
        slots = range(start, min(start + CHUNK, len(ring) // PACKED.size))
        yield _in_window([read(entry, slot) for slot in slots], instance, since, until)
        start += CHUNK


def kept_since(task: ScheduledTask[Any]) -> int | None:
    """Return from when on this process keeps what became of ticks of *task*; None if it has kept everything."""
    entry = task._entry
    slots = 0 if entry.ring is None else len(entry.ring) // PACKED.size
    if entry.kept <= slots or not slots:
        return None
    oldest = read(entry, entry.kept % slots)
    return oldest.offset + (oldest.first if oldest.started == UNSET else oldest.started)


def _in_window(records: Iterable[RunRecord], instance: str, since: int, until: int) -> list[Ended]:
    found = (_ended(each, instance) for each in records if each.number)
    return [each for each in found if each.meets(since, until)]


def _ended(record: RunRecord, instance: str) -> Ended:
    offset, is_run = record.offset, record.started != UNSET
    return Ended(
        record.first + offset,
        record.last + offset,
        record.number,
        record.started + offset if is_run else None,
        None if record.is_open else record.finished + offset,
        record.outcome,
        record.reason,
        (instance, record.started, record.fence) if is_run else None,
    )


def begun(task: ScheduledTask[Any]) -> Begun | None:
    """Return the run of *task* that is in progress in this process; None if there is none."""
    engine = task._engine
    run = engine.watchdog.active_run(task._entry)
    if run is None or not run.attempt:
        return None
    fence = None if run.claim is None else run.claim.fence
    return Begun(run.started + engine.offset, run.tick + engine.offset, (engine.instance, run.started, fence))


def ticks_until(task: ScheduledTask[Any], until: int, most: int) -> list[datetime]:
    """Return when the next ticks of *task* are due, up to *until* and at most so many."""
    return task._upcoming(most, until)


def bands_of(scheduler: Scheduler) -> dict[str | None, list[Upset]]:
    """Return what has kept each task from running, by its name, in one look at all of it; None: all tasks."""
    found: dict[str | None, list[Upset]] = {}
    for upset in scheduler._engine.upsets.latest((UpsetKind.HELD, UpsetKind.DISABLED)):
        found.setdefault(upset.task, []).append(upset)
    return found


def upsets_of(scheduler: Scheduler, task: str) -> list[Upset]:
    """Return what has happened to *task* and to all tasks; of a name that no task has, the latter alone."""
    return scheduler._engine.upsets.of(task)


# --- what the store has ---


async def stored_endings(
    scheduler: Scheduler, name: str, since: int, until: int, most: int
) -> tuple[list[Ended], bool]:
    """Return what the store keeps of a task that was in the window, the newest first, and whether that is all.

    Raises:
        StoreUnavailable: The store did not answer.
        WrongState: The scheduler is not started.
    """
    client, rows = _client(scheduler), list[Any]()
    below = Place(until + 1)
    while len(rows) < most:
        limit = min(ROWS, most - len(rows))
        page = (await client.runs(LedgerQuery(limit, name, since=since, below=below))).rows
        rows += page
        if len(page) < limit:
            earlier = (await client.runs(LedgerQuery(EDGE, name, below=Place(since)))).rows
            found = map(_stored, [*rows, *earlier])
            return [each for each in found if each.meets(since, until)], True
        below = page[-1].place
    return [_stored(each) for each in rows], False


def _client(scheduler: Scheduler) -> StoreClient:
    cluster = scheduler._lifecycle.cluster
    if cluster is None:
        raise WrongState("the scheduler has no store")
    return cluster.runs.coordinator.client


def _stored(row: LedgerRow) -> Ended:
    from kaiju_app.stores._record import scheduler_of

    started = row.started_at
    return Ended(
        row.first_tick,
        row.last_tick,
        row.count,
        started,
        row.finished_at,
        Outcome(row.outcome),
        None if row.reason is None else Reason(row.reason),
        None if started is None else (scheduler_of(row.instance or ""), started, row.fence),
    )


async def lives_of(scheduler: Scheduler, since: int, until: int) -> list[tuple[str, int, int, list[Upset]]]:
    """Return the instances that were heard of around a window, each with when it began and when it was last heard of.

    The fourth is what it has told of what happened to all its tasks; nothing of this instance, which knows that better.

    Raises:
        StoreUnavailable: The store did not answer.
        WrongState: The scheduler is not started, or has no store.
    """
    from kaiju_app._cluster.notes import upsets_in
    from kaiju_app.stores._record import scheduler_of

    client, me = _client(scheduler), scheduler._engine.instance
    lives = await client.call_or_raise("lives", client.store.lives_near(since, until), "when instances were heard of")
    found = []
    for each in lives:
        instance = scheduler_of(each.id)
        told = [upset for upset in upsets_in(each, is_alive=True) if upset.task is None] if instance != me else []
        found.append((instance, each.began_at, each.seen_at, told))
    return found


# --- what calendars have ---


def clock_changes(zone: ZoneInfo, since: int, until: int) -> list[tuple[int, str]]:
    """Return the changes of the clocks of a *zone* in a window: when, and what happens in words. None of a long one."""
    try:
        first, last = utc(since), utc(until)
        if last - first > timedelta(days=MOST_DAYS):
            return []
        found = list(changes(zone, first, last))
    except OverflowError:  # An end of the calendar.
        return []
    return [
        (
            epoch_us(each.at),
            f"the clocks in {zone.key} go from {each.at + each.before:%H:%M} to {each.at + each.after:%H:%M}",
        )
        for each in found
    ]


def zones_of_task(task: ScheduledTask[Any]) -> set[ZoneInfo]:
    """Return the time zones of the rule of *task*."""
    return set() if task.trigger is None else set(zones_of(task.trigger))
