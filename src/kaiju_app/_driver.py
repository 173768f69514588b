"""DO, the ticks: one agenda, one timer. Wakes when something is due, asks _decide what to do with it, and does it."""

from __future__ import annotations

import asyncio
from heapq import heappop, heapreplace

from . import _decide
from ._clock import Clock
from ._decide import EARLY, Step
from ._entry import DISABLED, HELD, HUNG, OFF_GRID, QUEUED, RESUMED, Entry
from ._grid import FOREVER, Grid
from ._model import Kind, Missed, Reason, Settings
from ._plans import Plans

SLICE = 1_000  # A herd is started in slices of a millisecond: the application gets its turn in between.
HANDFUL = 64  # Items in a slice: what their runs allocate is gone before it comes to a garbage collection.
MAX_SLEEP = 60_000_000  # Wake at least this often, so that a machine that slept is noticed.


class Driver(Plans):
    """The engine of one scheduler: what comes next, and what becomes of each tick. Its bases look after the rest."""

    def __init__(self, clock: Clock, settings: Settings) -> None:
        super().__init__(clock, settings)
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0
        self._expected = 0
        self._waking = False

    # --- the timer ---

    def _arm(self) -> None:
        heap = self._agenda.heap
        if self._waking or not self.entries or self.loop is None or not self.planning:
            return
        due = heap[0][0] if heap else FOREVER  # Even if nothing is planned, a clock that was set is noticed.
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        now = self.now()
        delay = min(max(due - now, 0), MAX_SLEEP)
        self._expected = now + delay
        self._timer = self.loop.call_later(delay / 1e6, self._wake, context=self._context)

    def halt(self) -> None:
        """Plan nothing more, and end every tick that is due, with the reason why it does not run."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().halt()

    def _wake(self) -> None:
        """Look at the items that are due, for at most a slice of time."""
        self._timer = None
        self._waking = True
        self._loud = self.events.are_wanted()
        agenda = self._agenda
        heap = agenda.heap
        clock = self.now
        now = clock()
        until = now + SLICE
        looked = 0
        self.upsets.woken(now - self._expected)
        self.read_offset(now)
        self.events.hushed = self.upsets.open
        try:
            while now <= until and heap and heap[0][0] <= now + EARLY and looked < HANDFUL:
                due, number, entry = heap[0]
                if entry.seq != number:
                    heappop(heap)
                    if entry.alarm == number:
                        self._on_alarm(entry, now)
                    elif entry.lift == number:
                        entry.lift = 0
                        self.pause(entry, None)
                    else:
                        agenda.dead -= 1
                elif due > now and due - now > entry.spec.early:
                    break
                elif entry.flags or entry.run is not None or now - due >= entry.spec.punctual or self.holds:
                    heappop(heap)
                    entry.seq = 0
                    self._on_tick(entry, now)
                else:  # Step.START of _decide.on_tick(), written out: nearly every tick goes this way.
                    entry.due = following = due + entry.spec.gap
                    agenda.number = entry.seq = number = agenda.number + 1
                    heapreplace(heap, (following, number, entry))  # Before the start: an eager run may come back here.
                    self.start_run(entry, due, now)
                looked += 1
                now = clock()
            if self.upsets.open and not (heap and heap[0][0] <= now):
                self.upsets.tell()
        finally:
            self._waking = self.events.hushed = False
            self._arm()

    # --- a tick ---

    def _on_tick(self, entry: Entry, now: int) -> None:
        """Decide about the due tick of *entry*, which is not on the agenda any more, and do it."""
        spec = entry.spec
        run = self.alive(entry)
        flags = entry.flags
        grid = self.grid(entry)
        if spec.rule is not None:
            spec.rule.failure = None  # Of something else than this tick.
        if entry.due >= FOREVER:  # Its trigger failed when it was asked before.
            self.plan(entry, self.next_tick(entry, now))
            return
        step = _decide.on_tick(
            spec,
            now - grid.due(entry.due),
            parked=bool(flags & (DISABLED | HELD) or self.holds),
            busy=run is not None or bool(flags & QUEUED),
        )
        if step is Step.PARK:
            self._parked[entry] = None
        elif flags & OFF_GRID:
            self._on_extra_tick(entry, grid, now)
        elif step is Step.LATE or flags & RESUMED:
            self._on_late_ticks(entry, grid, now)
        else:
            tick = entry.due
            self.plan(entry, tick + spec.gap if spec.gap < FOREVER else grid.following(tick))
            self._offer(entry, tick, now, spec.gap)
        self.guard(entry)

    def _on_extra_tick(self, entry: Entry, grid: Grid, now: int) -> None:
        """Run a first tick that is not of the rule, unless the rule has overtaken it; it is never caught up."""
        tick = entry.due
        held = bool(entry.flags & RESUMED)
        grace = entry.spec.grace
        late = now - grid.due(tick)
        following = grid.after(tick)
        overtaken = grid.due(following) <= now
        self.plan(entry, following)
        if overtaken or (grace is not None and late > grace):
            self.skip(entry, tick, tick, 1, Reason.SUSPENDED if held else Reason.MISSED, now)
            if held:
                entry.flags |= RESUMED
        else:
            self._offer(entry, tick, now)

    def _on_late_ticks(self, entry: Entry, grid: Grid, now: int) -> None:
        """Skip of all the due ticks those that are not made up for, and offer the rest."""
        first = entry.due
        late = _decide.missed(grid, first, now, held=bool(entry.flags & RESUMED))
        self.plan(entry, late.following)
        self.upsets.made_up(len(late.kept), late.dropped)
        if late.dropped:
            self.drop_backlog(entry, late.reason, now)  # What is older than the dropped ones goes with them.
            self.skip(entry, first, late.last, late.dropped, late.reason, now, more=late.more)
        if late.kept and entry.spec.missed is Missed.ALL:
            self.catch_up(entry, late.kept[:-1], now)
        if late.kept:
            self._offer(entry, late.kept[-1], now, late.gap)
        else:
            self.unqueue(entry)
            self._cut_overdue(entry, now)

    def _cut_overdue(self, entry: Entry, now: int) -> None:
        """Cut the run in progress if its deadline is over: the tick that would have done so was skipped."""
        end = None if entry.run is None else entry.run.deadline()
        if entry.run is not None and end is not None and end[0] <= now:
            self.cut(entry.run, end[1])

    def _offer(self, entry: Entry, tick: int, now: int, gap: int | None = None) -> None:
        """Do with *tick* what the policy says about a run in progress, and about what waits already."""
        run = entry.run
        if run is None and not entry.flags & QUEUED:
            self.start_run(entry, tick, now, Kind.LIVE, entry.due, gap=gap)
            return
        step = Step.WAIT
        if run is not None:
            cut, hung = run.cause is not None, bool(entry.flags & HUNG)
            due = self.grid(entry).due(tick)
            step = _decide.overlap(entry.spec.policy, due, run.started, run.spec.gap, cut=cut, hung=hung)
            if step is Step.REPLACE and not _decide.same_rule(run.spec, entry.spec):
                step = Step.OVERLAP  # Rescheduled meanwhile: it keeps its old deadline.
        if entry.backlog is not None:
            self.catch_up(entry, [tick], now)
        elif step is Step.OVERLAP or entry.asked is not None:
            # What somebody asked for is not replaced by what comes again anyway.
            self.skip(entry, tick, tick, 1, Reason.OVERLAP, now)
        elif step is Step.HUNG:
            self.skip(entry, tick, tick, 1, Reason.HUNG, now)
        else:
            if entry.waiting is not None:
                self.skip(entry, entry.waiting, entry.waiting, 1, Reason.OVERLAP, now)
            entry.waiting = tick
            self.queue(entry)
        if run is not None and step is Step.REPLACE and run.kind is not Kind.CAUGHT_UP:
            self.cut(run, Reason.REPLACED)
