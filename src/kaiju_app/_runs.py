"""DO, the runs: start one, cut one, look after those that do not end, take note of endings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import Any, Protocol

from . import _decide, _ledger
from ._agenda import Agenda
from ._clock import Clock, utc
from ._decide import EARLY
from ._entry import FAILING, HUNG, QUEUED, REMOVED, UNEVEN, WATCHED, Entry
from ._events import Events, Listener, log
from ._grid import Grid
from ._model import Kind, Outcome, Reason, Run, Settings, Spec
from ._record import CODES, NEVER, PACKED, SUCCESS, Record
from ._run import Running, ending, execute
from ._words import described, stack_of
from .errors import WrongState


class Spawn(Protocol):
    """The way to make an asyncio task."""

    def __call__(self, coro: Coroutine[Any, Any, None], name: str, context: Context, /) -> asyncio.Task[None]: ...


pack_into = PACKED.pack_into
SIZE = PACKED.size

NEVER_BEGUN = Outcome.CANCELLED, Reason.WITHIN
STEP = 1_000  # A wall clock that is off by more than a millisecond was stepped, or slewed for a while.
PATIENCE = 10  # Readings of the clocks, at most, until one is quick enough to tell a step from a wait.


class Runs:
    """The runs in progress of one scheduler."""

    def __init__(self, clock: Clock, settings: Settings) -> None:
        self.now = clock.steady
        self.wall = clock.wall
        self.offset = clock.wall() - clock.steady()
        self.stepping = False
        self.settings = settings
        self.history = settings.history
        self._ring_size = settings.history * SIZE
        self.instance = settings.instance
        self.entries: dict[str, Entry] = {}
        self.events = Events(settings.instance)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.planning = False
        self._agenda = Agenda()
        self._context = Context()
        self._spawn: Spawn = _refuse
        self._loud = False  # Whether anybody wants to hear of a plain success.
        self._pool: ThreadPoolExecutor | None = None

    def read_offset(self, now: int) -> None:
        """Set ``offset``, from the steady clock to the wall clock, when the latter was stepped.

        Reading two clocks one after the other makes a noise that must not move ticks.
        """
        step = self.wall() - now - self.offset
        if -STEP <= step <= STEP or self.stepping:
            return
        for _ in range(PATIENCE):  # This process may have had to wait between the two readings.
            before, wall, behind = self.now(), self.wall(), self.now()
            if behind - before <= STEP:
                break
        step = wall - before - self.offset
        if not -STEP <= step <= STEP:
            self.on_step(step, before)

    def on_step(self, step: int, now: int) -> None:
        """Go on with a wall clock that was set forward by *step*, or back if that is negative."""
        self.offset += step

    def grid(self, entry: Entry, spec: Spec | None = None) -> Grid:
        """Return the ticks of *entry*, as the clocks stand."""
        return Grid(spec or entry.spec, self.offset, (self.instance, entry.name))

    def is_own(self, run: Running) -> bool:
        """Return whether *run* is one of this scheduler's."""
        return self.entries.get(run.entry.name) is run.entry

    def open(self, loop: asyncio.AbstractEventLoop, spawn: Spawn) -> None:
        """Begin to plan: from now on ticks come due, in a copy of the caller's context."""
        self.loop = loop
        self._spawn = spawn
        self._context = copy_context()
        self.planning = True

    def close(self) -> None:
        """Let go of everything that belongs to the loop."""
        self.loop = None
        self._spawn = _refuse
        self._context = Context()
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call *listener* with every Run from now on, those in progress included; return what ends it."""
        self._loud = True
        return self.events.subscribe(listener)

    def listen(self) -> None:
        """Find out whether anybody wants to hear of the runs that begin now."""
        self._loud = self.events.are_wanted()

    def pool(self) -> Executor:
        """Return the threads of this scheduler, which are its own: a herd of slow calls starves nobody else."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.settings.threads, thread_name_prefix="kaiju_app")
        return self._pool

    def start_run(
        self,
        entry: Entry,
        tick: int,
        now: int,
        kind: Kind = Kind.LIVE,
        grid: int | None = None,
        asked: asyncio.Future[Run] | None = None,
        gap: int | None = None,
    ) -> None:
        """Start a run of *entry*, which is idle.

        Args:
            tick: What it is for.
            kind: Where that comes from.
            grid: Any tick of the rule, if *tick* may be none.
            asked: Gets its Run.
            gap: From *tick* to the next one of the rule, if that is known.
        """
        entry.run = run = Running(entry, tick, now)
        if grid is not None:
            run.kind = kind
            run.grid = grid
            if entry.flags & UNEVEN:
                self._suit(run, gap)
        if asked is not None:
            self.watch(entry, asked)
        coro = execute(run)
        try:
            task = self._spawn(coro, entry.name, self._context.copy())
        except BaseException as exc:
            self._on_no_task(run, coro, exc)
            return
        if entry.run is run:  # An eager one may be over already.
            run.task = task
            if asked is not None:
                task.add_done_callback(lambda _: self.alive(entry))
            if run.cause is not None and run.attempt:  # Cut in its first step, before its asyncio task was known.
                task.cancel()
            if grid is not None or run.spec.hasty:
                self.guard(entry)

    def _suit(self, run: Running, gap: int | None) -> None:
        """Give *run*, whose task is uneven, what its own tick asks for."""
        run.claim = run.entry.claim
        grid = run.entry.host.grid(run.entry, run.spec)
        manual = run.kind is Kind.MANUAL
        if run.spec.rule is not None:
            gap = grid.gap_around(run.tick) if gap is None else gap
            if gap != run.spec.gap:
                run.spec = _decide.with_gap(run.spec, gap)
        if not manual:
            run.due = grid.due(run.tick)

    def _on_no_task(self, run: Running, coro: Coroutine[Any, Any, None], exc: BaseException) -> None:
        """Take note of a run that no asyncio task could be made for; an eager one may have ended the program."""
        coro.close()
        if run.entry.run is run:
            run.entry.host.ended(run, Outcome.FAILED, None, exc)
        if isinstance(exc, KeyboardInterrupt | SystemExit):
            raise exc

    def alive(self, entry: Entry) -> Running | None:
        """Return the run in progress of *entry*.

        A run whose asyncio task was cancelled before its first step could not say that it is over: this sees it.
        """
        run = entry.run
        if run is not None and run.task is not None and _is_over(run, run.task):
            exc = None if not run.task.done() or run.task.cancelled() else run.task.exception()
            if exc is None:
                entry.host.ended(run, *(ending(run.cause, None) if run.cause else NEVER_BEGUN), None)
            else:
                entry.host.ended(run, Outcome.FAILED, run.cause, exc)
        return entry.run

    def cut(self, run: Running, cause: Reason, told: str | None = None) -> None:
        """Ask *run* to end, and look after ``cancel_grace`` whether it did. The first cause stands."""
        if run.cause is not None:
            return
        run.cut(cause, told)
        entry = run.entry
        if entry.run is run and self.planning:
            self._drop_alarm(entry)
            entry.alarm = self._agenda.push(self.now() + self.settings.cancel_grace, entry)
            self._arm()

    def guard(self, entry: Entry) -> None:
        """See to it that the run in progress is looked at when its deadline is over.

        Usually its next tick does that; an alarm is only set where the deadline comes first, or no tick is planned.
        """
        run = entry.run
        if run is None or run.cause is not None or entry.alarm or not self.planning:
            return
        limit = run.spec.limit
        if (
            entry.seq
            and _decide.same_rule(run.spec, entry.spec)
            and run.kind is Kind.LIVE
            and (limit == 0 or run.started + limit >= entry.due)
        ):
            return  # The next tick looks at it.
        end = run.deadline()
        if end is not None and (not entry.seq or end[0] < entry.due):
            entry.alarm = self._agenda.push(end[0], entry)
            self._arm()

    def watch(self, entry: Entry, waiter: asyncio.Future[Run]) -> None:
        """Give *waiter* the Run in progress when it ends."""
        entry.flags |= WATCHED
        if entry.waiters is None:
            entry.waiters = []
        entry.waiters.append(waiter)
        if entry.run is not None and entry.run.task is not None:
            entry.run.task.add_done_callback(lambda _: self.alive(entry))

    def succeeded(self, run: Running, result: Any) -> None:
        """Take note of a run whose function returned *result*."""
        entry = run.entry
        tick = run.tick
        now = self.now()
        entry.result = result
        if entry.flags or entry.alarm or entry.beside or self._loud:
            self.end(run, recorded(run, Outcome.SUCCEEDED, None, None, now), None, now)
            return
        # What end() comes to after a success, when there is nobody to tell: nearly every run goes this way.
        entry.run = run.task = None
        if run.spec.threaded:
            run.context = None
        ring = entry.ring
        if ring is None or len(ring) != self._ring_size:
            ring = _ledger.room(entry, self.history)
        place = entry.kept % self.history * SIZE
        entry.kept += 1
        manual = run.kind is Kind.MANUAL
        pack_into(ring, place, tick, tick, 1, 0, run.started, now, self.offset, run.attempt, SUCCESS, manual, False)

    def ended(self, run: Running, outcome: Outcome, reason: Reason | None, exc: BaseException | None) -> None:
        """Take note of a run that did not succeed."""
        now = self.now()
        self.end(run, recorded(run, outcome, reason, exc, now), exc, now)

    def skip(
        self,
        entry: Entry,
        first: int,
        last: int,
        number: int,
        reason: Reason,
        now: int,
        *,
        more: bool = False,
        manual: bool = False,
        why: str | None = None,
    ) -> Record:
        """Take note of *number* ticks, or *more*, from *first* to *last* that do not run."""
        host = entry.host
        jitter = host.grid(entry, entry.spec).due(first) - first if entry.spec.jitter and not manual else 0
        code = CODES[Outcome.SKIPPED, reason]
        skipped = Record(first, last, number, jitter, NEVER, NEVER, host.offset, 0, code, manual, more, why)
        record, closed, opened = _ledger.keep_skip(entry, skipped, now, self.history)
        if closed is not None:
            self.events.closed(entry, closed, now)
        self.events.skipped(entry, record, opened, now)
        return record

    def end(self, run: Running, record: Record, exc: BaseException | None, now: int) -> None:
        """Keep the *record* of *run*, and tell of it."""
        entry = run.entry
        entry.run = None
        run.task = run.context = None  # Both hold the run: do not leave a cycle to the garbage collector.
        closed = _ledger.keep(entry, record, now, self.history)
        if entry.alarm:
            self._drop_alarm(entry)
        if entry.flags:
            self._after_end(entry, record)
        if closed is not None:
            self.events.closed(entry, closed, now)
        if self._loud or record.code != SUCCESS or entry.flags & FAILING:
            self.events.ended(entry, record, exc, now)
        if entry.flags & REMOVED:
            self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        self.entries.pop(entry.name, None)
        self.events.forget(entry)

    def _after_end(self, entry: Entry, record: Record) -> None:
        if entry.flags & HUNG:
            entry.flags &= ~HUNG
            log.warning("task %r: the hung run has ended; ticks run again", entry.name)
        if entry.flags & QUEUED:
            self.pump_soon(entry)
        if entry.flags & WATCHED:
            entry.flags &= ~WATCHED
            waiters, entry.waiters = entry.waiters or (), None
            run = record.run(entry.name, self.instance)
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(run)

    def _on_alarm(self, entry: Entry, now: int) -> None:
        """Look at a run whose deadline is over, or that was asked to end a while ago."""
        entry.alarm = 0
        run = self.alive(entry)
        if run is None:
            return
        if run.cause is not None:
            self._on_hung(entry, run, now)
            return
        end = run.deadline()
        if end is not None and end[0] <= now + EARLY:
            self.cut(run, end[1])
        else:
            self.guard(entry)  # It began later than it was planned to.

    def _on_hung(self, entry: Entry, run: Running, now: int) -> None:
        entry.flags |= HUNG
        log.warning(
            "task %r, tick %s: hung: asked to end (%s) %.3g s ago and still going on, %.3g s after its start. Later "
            "ticks are skipped until it ends; no second copy is started. It is at:%s",
            entry.name, utc(run.tick + entry.host.offset).isoformat(), run.cause and run.cause.value,
            self.settings.cancel_grace / 1e6, (now - run.started) / 1e6, where(run),
        )  # fmt: skip

    def _drop_alarm(self, entry: Entry) -> None:
        if entry.alarm:
            entry.alarm = 0
            self._agenda.dropped()

    def _arm(self) -> None:
        """Set the timer to what comes next."""
        raise NotImplementedError

    def pump_soon(self, entry: Entry) -> None:
        """Start what waits for the end of a run, in a later turn of the loop."""
        raise NotImplementedError


def recorded(run: Running, outcome: Outcome, reason: Reason | None, exc: BaseException | None, now: int) -> Record:
    """Return the record of *run*, which ends now."""
    tick, jitter = run.tick, run.due - run.tick
    error = run.told
    if error is None and not (run.cause is not None and isinstance(exc, asyncio.CancelledError)):
        error = described(exc)  # That a run which was cut was cancelled says nothing more.
    code, manual, offset = CODES[outcome, reason], run.kind is Kind.MANUAL, run.entry.host.offset
    record = Record(tick, tick, 1, jitter, run.started, now, offset, run.attempt, code, manual, False, error)
    claim = run.claim
    return record if claim is None else record._replace(take=claim.record.takes, fence=claim.fence)


def where(run: Running) -> str:
    """Return where *run* is, for the person who has to find out why it does not end."""
    return " a thread, which cannot be stopped" if run.job is not None else stack_of(run.task)


def _is_over(run: Running, task: asyncio.Task[None]) -> bool:
    """Return whether nothing of *run* is going on, though it may have had no chance to say so."""
    # Where the loop was closed over it, its asyncio task never goes on; a thread of it does.
    return task.done() or (task.get_loop().is_closed() and (run.job is None or run.job.done()))


def _refuse(coro: Coroutine[Any, Any, None], name: str, context: Context) -> asyncio.Task[None]:
    coro.close()
    raise WrongState(f"task {name!r}: the scheduler is not started")
