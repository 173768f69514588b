"""DO, the ticks: one agenda, one timer. Wakes when something is due, asks _decide what to do with it, and does it."""

from __future__ import annotations

import asyncio
import threading
from heapq import heappop, heapreplace

from . import _decide
from ._clock import Clock
from ._decide import EARLY, Step
from ._entry import DISABLED, HELD, HUNG, OFF_GRID, QUEUED, REMOVED, RESUMED, Entry, Hold
from ._model import Kind, Missed, Reason, Settings, Spec
from ._runs import Spawn
from ._waiting import Waiting
from .errors import WrongThread

SLICE = 1_000  # A herd is started in slices of a millisecond: the application gets its turn in between.
HANDFUL = 64  # Items in a slice: what their runs allocate is gone before it comes to a garbage collection.
MAX_SLEEP = 60_000_000  # Wake at least this often, so that a machine that slept is noticed.


class Driver(Waiting):
    """The engine of one scheduler: what comes next, and what becomes of each tick. Its bases look after the rest."""

    def __init__(self, clock: Clock, settings: Settings) -> None:
        super().__init__(clock, settings)
        self._parked: dict[Entry, None] = {}
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0
        self._waking = False
        self._thread = 0

    # --- the timer ---

    def _arm(self) -> None:
        heap = self._agenda.heap
        if self._waking or not heap or self.loop is None or not self.planning:
            return
        due = heap[0][0]
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        delay = min(max(due - self.now(), 0), MAX_SLEEP)
        self._timer = self.loop.call_later(delay / 1e6, self._wake, context=self._context)

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
        self.read_offset(now)
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
        finally:
            self._waking = False
            self._arm()

    # --- planning ---

    def plan(self, entry: Entry, due: int, *, off_grid: bool = False) -> None:
        """Set the next tick of *entry*, in place of the one that was planned."""
        self.unplan(entry)
        entry.due = due
        if off_grid:
            entry.flags |= OFF_GRID
        entry.seq = self._agenda.push(due, entry)
        self._arm()

    def _replan(self, entry: Entry) -> None:
        self.plan(entry, entry.due, off_grid=bool(entry.flags & OFF_GRID))

    def open(self, loop: asyncio.AbstractEventLoop, spawn: Spawn) -> None:
        """Begin to plan, every task anew, in a copy of the caller's context."""
        super().open(loop, spawn)
        self._thread = threading.get_ident()
        now = self.now()
        self.read_offset(now)
        for entry in self.entries.values():
            self.plan_first(entry, now)

    def check_thread(self, call: str) -> None:
        """Refuse a *call* from another thread than the loop's.

        Raises:
            WrongThread: This is another thread.
        """
        if self.planning and threading.get_ident() != self._thread:
            raise WrongThread(call)

    def add(self, entry: Entry) -> None:
        """Take *entry* in."""
        self.entries[entry.name] = entry
        if self.planning:
            now = self.now()
            self.read_offset(now)
            self.plan_first(entry, now)

    def plan_first(self, entry: Entry, now: int) -> None:
        """Set the first tick of *entry*, and look after what an earlier life has left: a run, a pause."""
        if not entry.flags & REMOVED:  # It is here for a run that outlived stop(), and has no ticks.
            due, off_grid = _decide.first_tick(entry.spec, now, self.offset)
            entry.due = due
            entry.seq = self._agenda.push(due, entry)
            if off_grid:
                entry.flags |= OFF_GRID
        if entry.pause is not None:
            self._lift_in_time(entry)
        if entry.run is not None:
            run = self.alive(entry)
            if run is not None and run.cause is not None:
                entry.alarm = self._agenda.push(now + self.settings.cancel_grace, entry)
            self.guard(entry)
        self._arm()

    def unplan(self, entry: Entry) -> None:
        """Let no tick of *entry* come due."""
        entry.flags &= ~(OFF_GRID | RESUMED)
        self._parked.pop(entry, None)
        if entry.seq:
            entry.seq = 0
            self._agenda.dropped()

    def change(self, entry: Entry, spec: Spec) -> None:
        """Give *entry* another rule: its first tick is one new gap from now; the run in progress keeps its deadline."""
        if not self.planning:
            entry.spec = spec
            return
        now = self.now()
        self.read_offset(now)
        self.settle(entry, Reason.RESCHEDULED, now)
        entry.spec = spec
        self.plan(entry, _decide.tick_after(spec, now, self.offset))
        self.guard(entry)

    def disable(self, entry: Entry) -> None:
        """Let ticks pass from now on; the run in progress goes on."""
        if entry.flags & DISABLED:
            return
        if self.planning and not entry.flags & REMOVED:
            self.settle(entry, Reason.DISABLED, self.now())
            self._replan(entry)
        entry.flags |= DISABLED

    def enable(self, entry: Entry) -> None:
        """Go on with the grid, without making up for anything."""
        if self.planning and entry.flags & DISABLED and not entry.flags & REMOVED:
            self.settle(entry, Reason.DISABLED, self.now())
            self._replan(entry)
        entry.flags &= ~DISABLED

    def knows(self, entry: Entry) -> bool:
        """Return whether *entry* is one of the tasks, and not on its way out."""
        return self.entries.get(entry.name) is entry and not entry.flags & REMOVED

    def remove(self, entry: Entry) -> None:
        """Let no more ticks come; the entry is forgotten when no run is going on."""
        if entry.flags & REMOVED:
            return
        entry.flags |= REMOVED
        if self.planning:
            self.settle(entry, Reason.REMOVED, self.now())
            self.skip_asked(entry, Reason.REMOVED, self.now())
        self.unplan(entry)
        if self.alive(entry) is None:
            self._forget(entry)
        else:
            self.guard(entry)

    def halt(self) -> None:
        """Plan nothing more, and end every tick that is due, with the reason why it does not run."""
        self.planning = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self.now()
        for entry in list(self.entries.values()):  # A listener may register or remove tasks.
            if entry.flags & QUEUED or (entry.due <= now and not entry.flags & REMOVED):
                self.settle(entry, Reason.SHUTDOWN, now)
                self.skip_asked(entry, Reason.SHUTDOWN, now)
            entry.flags &= ~(OFF_GRID | RESUMED)
            entry.seq = entry.alarm = entry.lift = 0
        self._agenda.clear()
        self._parked.clear()

    # --- holds ---

    def hold(self, entry: Entry | None, hold: Hold) -> None:
        """Keep *entry*, or with None every task, from starting runs."""
        if entry is None:
            self.holds.append(hold)
            return
        if entry.holds is None:
            entry.holds = []
        entry.holds.append(hold)
        entry.flags |= HELD

    def unhold(self, entry: Entry | None, hold: Hold) -> None:
        """Take *hold* back, and look again at what it kept back."""
        if entry is None:
            self.holds.remove(hold)
            self._released_all()
            return
        holds = entry.holds or []
        holds.remove(hold)
        if not holds:
            entry.holds = None
            entry.flags &= ~HELD
            self._released(entry)

    def pause(self, entry: Entry, hold: Hold | None) -> None:
        """Set, change or end the operator's hold of *entry*."""
        old, entry.pause = entry.pause, hold
        if entry.lift:
            entry.lift = 0
            self._agenda.dropped()
        if hold is not None:
            self.hold(entry, hold)
            self._lift_in_time(entry)
        if old is not None:
            self.unhold(entry, old)

    def is_held(self, entry: Entry) -> bool:
        """Return whether something holds *entry*; while nothing is planned, no timer ends a pause."""
        pause = entry.pause
        if not self.planning and pause is not None and pause.until is not None and pause.until <= self.now():
            self.pause(entry, None)
        return bool(entry.flags & HELD or self.holds)

    def _lift_in_time(self, entry: Entry) -> None:
        if self.planning and entry.pause is not None and entry.pause.until is not None:
            entry.lift = self._agenda.push(entry.pause.until, entry)
            self._arm()

    def _released(self, entry: Entry) -> None:
        """Look again at what a hold of *entry* kept back."""
        if entry.flags & HELD or self.holds or not self.planning:
            return
        if entry in self._parked:
            self._replan(entry)
            entry.flags |= RESUMED
        if entry.flags & QUEUED:
            self.pump_soon(entry)

    def _released_all(self) -> None:
        """Look again at what a hold of the whole scheduler kept back."""
        if self.holds or not self.planning:
            return
        kept_back = [*self._parked, *(entry for entry in self.entries.values() if entry.flags & QUEUED)]
        for entry in dict.fromkeys(kept_back):
            self._released(entry)

    # --- a tick ---

    def _on_tick(self, entry: Entry, now: int) -> None:
        """Decide about the due tick of *entry*, which is not on the agenda any more, and do it."""
        spec = entry.spec
        run = self.alive(entry)
        flags = entry.flags
        step = _decide.on_tick(
            spec,
            now - entry.due,
            parked=bool(flags & (DISABLED | HELD) or self.holds),
            busy=run is not None or bool(flags & QUEUED),
        )
        if step is Step.PARK:
            self._parked[entry] = None
        elif flags & OFF_GRID:
            self._on_extra_tick(entry, now)
        elif step is Step.LATE or flags & RESUMED:
            self._on_late_ticks(entry, now)
        else:
            tick = entry.due
            self.plan(entry, tick + spec.gap)
            self._offer(entry, tick, now)
        self.guard(entry)

    def _on_extra_tick(self, entry: Entry, now: int) -> None:
        """Run a first tick that is not of the rule, unless the rule has overtaken it; it is never caught up."""
        tick = entry.due
        held = bool(entry.flags & RESUMED)
        grace = entry.spec.grace
        following = _decide.tick_after(entry.spec, tick, self.offset)
        self.plan(entry, following)
        if following <= now or (grace is not None and now - tick > grace):
            self.skip(entry, tick, tick, 1, Reason.SUSPENDED if held else Reason.MISSED, now)
            if held:
                entry.flags |= RESUMED
        else:
            self._offer(entry, tick, now)

    def _on_late_ticks(self, entry: Entry, now: int) -> None:
        """Skip of all the due ticks those that are not made up for, and offer the rest."""
        gap = entry.spec.gap
        due = entry.due
        late = _decide.missed(entry.spec, due, now, held=bool(entry.flags & RESUMED))
        self.plan(entry, late.following)
        tick = due + late.dropped * gap
        if late.dropped:
            if entry.backlog is not None:  # What is older than the dropped ones goes with them.
                self.skip_range(entry, entry.backlog, due, late.reason, now)
                entry.backlog = None
            self.skip(entry, due, tick - gap, late.dropped, late.reason, now)
        if entry.spec.missed is Missed.ALL and late.kept:
            if entry.backlog is None:
                entry.backlog = tick
            self.queue(entry)
            self._offer(entry, late.following - gap, now)
        elif late.kept:
            self._offer(entry, tick, now)
        else:
            self.unqueue(entry)

    def _offer(self, entry: Entry, tick: int, now: int) -> None:
        """Do with *tick* what the policy says about a run in progress, and about what waits already."""
        run = entry.run
        if run is None and not entry.flags & QUEUED:
            self.start_run(entry, tick, now, Kind.LIVE, entry.due)
            return
        step = Step.WAIT
        if run is not None:
            cut, hung = run.cause is not None, bool(entry.flags & HUNG)
            step = _decide.overlap(entry.spec.policy, tick, run.started, run.spec.gap, cut=cut, hung=hung)
            if step is Step.REPLACE and run.spec is not entry.spec:
                step = Step.OVERLAP  # Rescheduled meanwhile: it keeps its old deadline.
        if entry.backlog is not None:
            self.limit_backlog(entry, now)  # The tick is its last one.
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
