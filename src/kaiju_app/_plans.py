"""DO, the plans: which tick of each task comes next, and what changes that: registration, switches, holds, clocks."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from uuid import uuid4

from . import _decide
from ._clock import Clock, utc
from ._entry import DISABLED, HELD, HUNG, OFF_GRID, QUEUED, REMOVED, RESUMED, SHARED, UNEVEN, WATCHED, Entry, Hold
from ._events import log, never_runs
from ._grid import FOREVER, Rule, in_words
from ._model import FirstRun, Kind, Reason, Settings, Spec
from ._runs import Spawn
from ._upsets import FAR_BACK, Upsets
from ._waiting import Waiting
from .errors import WrongThread

NONE_YET = -1  # In place of a tick, where the rule begins: if it has none, that is worth a warning.
ASK_AGAIN = 60_000_000  # A trigger that failed may be better a minute later.


class Plans(Waiting):
    """The plans of one scheduler."""

    def __init__(self, clock: Clock, settings: Settings) -> None:
        super().__init__(clock, settings)
        self._parked: dict[Entry, None] = {}
        self._thread = 0
        self.upsets = Upsets(clock)
        self._reached = 0
        """What the wall clock has shown at the most since the start, or since tasks were planned anew."""

    # --- planning ---

    def plan(self, entry: Entry, due: int, *, off_grid: bool = False) -> None:
        """Set the next tick of *entry*, in place of the one that was planned."""
        self.unplan(entry)
        if off_grid:
            entry.flags |= OFF_GRID
        self._put(entry, due)
        self._arm()

    def _put(self, entry: Entry, due: int) -> None:
        """Put the next tick of *entry* on the agenda, if there is one."""
        if not entry.flags & UNEVEN:
            entry.due = due
            entry.seq = self._agenda.push(due, entry)
            return
        grid = self.grid(entry)
        rule = entry.spec.rule
        begins, was_over = entry.due == NONE_YET, entry.due >= FOREVER
        entry.due = due = grid.clipped(due)
        if due < FOREVER:
            if rule is not None and (gap := grid.gap(due)) != entry.spec.gap:
                entry.spec = _decide.with_gap(entry.spec, gap)
            entry.seq = self._agenda.push(grid.due(due), entry)
        if rule is not None and rule.failure is not None:
            self._on_bad_rule(entry, rule, rule.failure)
        elif due >= FOREVER and (again := grid.look_again(self.now())) is not None:
            entry.seq = self._agenda.push(again, entry)
        elif due >= FOREVER and begins:
            never_runs(entry, in_words(entry.spec), utc(self.now() + self.offset))
        elif due >= FOREVER and not was_over:
            log.info("task %r: there is no further tick of its rule, %s", entry.name, in_words(entry.spec))

    def _on_bad_rule(self, entry: Entry, rule: Rule, failure: Exception) -> None:
        """Say that the trigger of *entry* could not be asked, and ask it again later if the next tick is not known."""
        rule.failure = None
        now = self.now()
        self.events.bad_rule(entry, failure, now)
        if not entry.seq:
            entry.seq = self._agenda.push(now + ASK_AGAIN, entry)

    def _replan(self, entry: Entry) -> None:
        due = entry.due if entry.due < FOREVER else self.next_tick(entry, self.now())
        self.plan(entry, due, off_grid=bool(entry.flags & OFF_GRID))

    def next_tick(self, entry: Entry, now: int) -> int:
        """Return the next tick of *entry*, whose trigger had none or failed: none that came already."""
        return _decide.next_tick(self.grid(entry), max(now, self._reached - self.offset))

    def open(self, loop: asyncio.AbstractEventLoop, spawn: Spawn) -> None:
        """Begin to plan, every task anew, in a copy of the caller's context."""
        super().open(loop, spawn)
        self._thread = threading.get_ident()
        now = self.now()
        offset = self.wall() - now
        for entry in self.entries.values():
            _shift_run_of(entry, offset - self.offset, None)
        self.offset = offset
        self._reached = now + self.offset
        self.upsets.begin()
        decided: dict[int, tuple[int, bool]] = {}  # Of equal tasks, which share a Spec, once for all.
        for entry in self.entries.values():
            first = decided.get(id(entry.spec))
            if first is None and not entry.flags & SHARED:
                first = decided[id(entry.spec)] = _decide.first_tick(self.grid(entry), now)
            self._begin(entry, first, now)
        self._arm()

    def check_thread(self, call: str) -> None:
        """Refuse a *call* from another thread than the loop's.

        Raises:
            WrongThread: This is another thread.
        """
        if self.planning and threading.get_ident() != self._thread:
            raise WrongThread(call)

    def add(self, entry: Entry) -> None:
        """Take *entry* in."""
        if entry.spec.uneven:
            entry.flags |= UNEVEN
        if not self.planning:
            self.entries[entry.name] = entry
            return
        now = self.now()
        self.read_offset(now)
        self.entries[entry.name] = entry
        shared = entry.flags & SHARED
        self._begin(entry, None if shared else _decide.first_tick(self.grid(entry), now), now)
        self._arm()

    def _begin(self, entry: Entry, first: tuple[int, bool] | None, now: int) -> None:
        """Set the *first* tick of *entry*, and look after what an earlier life has left: a run, a pause."""
        # One that was removed is here for a run that outlived stop(), and has no ticks.
        if first is not None and not entry.flags & (REMOVED | SHARED):
            due, off_grid = first
            if off_grid:
                entry.flags |= OFF_GRID
            entry.due = NONE_YET
            self._put(entry, due)
        if entry.pause is not None:
            self._lift_in_time(entry)
        if entry.run is not None:
            run = self.alive(entry)
            if run is not None and run.cause is not None:
                entry.alarm = self._agenda.push(now + self.settings.cancel_grace, entry)
            self.guard(entry)

    def unplan(self, entry: Entry) -> None:
        """Let no tick of *entry* come due."""
        entry.flags &= ~(OFF_GRID | RESUMED)
        self._parked.pop(entry, None)
        if entry.seq:
            entry.seq = 0
            self._agenda.dropped()

    def change(self, entry: Entry, spec: Spec) -> None:
        """Give *entry* another rule: its first tick is one new gap from now; the run in progress keeps its deadline."""
        now = self.now()
        if self.planning:
            self.read_offset(now)
            self.settle(entry, Reason.RESCHEDULED, now)
        entry.spec = spec
        entry.flags = entry.flags & ~UNEVEN | (UNEVEN if spec.uneven else 0)
        if self.planning:
            entry.due = NONE_YET
            self.plan(entry, self.grid(entry).after(now))
            self.guard(entry)

    def disable(self, entry: Entry) -> None:
        """Let ticks pass from now on; the run in progress goes on."""
        if entry.flags & DISABLED:
            return
        self._let_pass(entry)
        entry.flags |= DISABLED

    def enable(self, entry: Entry) -> None:
        """Go on with the grid, without making up for anything."""
        if entry.flags & DISABLED:
            self._let_pass(entry)
        entry.flags &= ~DISABLED

    def _let_pass(self, entry: Entry) -> None:
        """Skip what has come due, and plan what comes next."""
        if self.planning and not entry.flags & (REMOVED | SHARED):
            now = self.now()
            self.read_offset(now)
            self.settle(entry, Reason.DISABLED, now)
            self._replan(entry)

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
        now = self.now()
        for entry in list(self.entries.values()):  # A listener may register or remove tasks.
            is_due = entry.due <= now and not entry.flags & REMOVED and self.grid(entry).due(entry.due) <= now
            if entry.flags & QUEUED or is_due:
                self.settle(entry, Reason.SHUTDOWN, now)
                self.skip_asked(entry, Reason.SHUTDOWN, now)
            entry.flags &= ~(OFF_GRID | RESUMED)
            entry.seq = entry.alarm = entry.lift = 0
        self._agenda.clear()
        self._parked.clear()

    def abandon(self) -> None:
        """Be another process, by another name: what went on goes on in the one that this was forked from."""
        self.planning = False
        self.instance = uuid4().hex
        self.events.instance = self.instance
        self.loop = self._pool = None
        self.close()
        self._agenda.clear()
        self._parked.clear()
        self.holds.clear()
        for entry in self.entries.values():
            entry.flags &= ~(HELD | QUEUED | WATCHED | OFF_GRID | RESUMED | HUNG)
            entry.seq = entry.alarm = entry.lift = 0
            entry.run = entry.waiting = entry.backlog = entry.asked = entry.waiters = entry.holds = None
            if entry.pause is not None:  # An operator's, of whatever the process does.
                self.hold(entry, entry.pause)

    # --- the wall clock ---

    def on_step(self, step: int, now: int) -> None:
        """Move what lives on the wall clock with it; if that was set back by hours, plan anew from what it shows."""
        self._reached = max(self._reached, now + self.offset)
        anew = self._reached - (now + self.offset + step) > FAR_BACK
        if anew:
            self._reached = now + self.offset + step
            self._settle_all(now)
        moved = [
            entry for entry in self.entries.values() if entry.spec.trigger is not None and not entry.flags & SHARED
        ]
        super().on_step(step, now)
        for entry in self.entries.values():
            _shift_run_of(entry, step, now if anew else None)
        for entry in moved:
            _shift(entry, step)
            if not entry.flags & REMOVED:
                self._move(entry, step, now, anew=anew)
        self.upsets.stepped(step, len(moved), now + self.offset, anew=anew)

    def _settle_all(self, now: int) -> None:
        """Skip what is due or waits by the clock as it was, before the times come again."""
        self.stepping = True  # A listener may register tasks, and must not find the same step again.
        try:
            for entry in list(self.entries.values()):
                if entry.spec.trigger is not None and not entry.flags & (REMOVED | SHARED) and not _is_at_start(entry):
                    self.settle(entry, Reason.CLOCK, now)
        finally:
            self.stepping = False

    def _move(self, entry: Entry, step: int, now: int, *, anew: bool) -> None:
        """Plan *entry* again: its next tick is another one, or comes at another time of the steady clock."""
        kept = entry.flags & (OFF_GRID | RESUMED)
        if _is_at_start(entry):
            self.plan(entry, entry.due)  # It stays where it is, but its jitter ends before the next tick of the rule.
            entry.flags |= kept
        elif anew:
            due, off_grid = _decide.first_tick_again(self.grid(entry), now)
            self.plan(entry, due, off_grid=off_grid)
        elif entry.due < FOREVER:
            self.plan(entry, entry.due - step)
            entry.flags |= kept

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


def _is_at_start(entry: Entry) -> bool:
    """Return whether the next tick of *entry* is an extra one at the start, which is no time of the wall clock."""
    return bool(entry.flags & OFF_GRID) and entry.spec.first_run is FirstRun.NOW


def _shift(entry: Entry, step: int) -> None:
    """Keep the ticks of *entry* that wait what they were on a wall clock that was set by *step*."""
    if entry.waiting is not None and entry.asked is None:
        entry.waiting -= step
    if entry.backlog is not None:
        entry.backlog = deque(tick - step for tick in entry.backlog)


def _shift_run_of(entry: Entry, step: int, anew: int | None) -> None:
    """As ``_shift()``, for the run in progress; *anew* is now if times come again."""
    run = entry.run
    # Its own spec: it may be from before a reschedule(). What is shared lives on the clock of the store.
    if run is None or run.spec.trigger is None or run.claim is not None:
        return
    if anew is not None:
        run.past = anew
    elif run.past is not None:
        run.past -= step
    if run.grid is not None:
        run.grid -= step
    if run.kind is not Kind.MANUAL:
        run.tick -= step
        run.due -= step
