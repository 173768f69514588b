"""The promises hold whatever happens, in any order: one state machine, many histories.

Hypothesis draws what the bodies of each task do, and what each step does to them. The checks use the journal that the
bodies write, and a record of every tick that came due and how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from kaiju_app._core.clock import epoch_us, utc
from kaiju_app._core.model import Reason
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import EXTRA_FIRST_TICK, TaskEntry
from kaiju_app._engine.spec import Kind
from kaiju_app.errors import KaijuError
from kaiju_app.scheduler import (
    Every,
    ExecPolicy,
    FirstRun,
    Missed,
    Outcome,
    Run,
    ScheduledTask,
    Scheduler,
    Trigger,
)
from kaiju_app.triggers._foreign import as_base_trigger
from support.virtual import VirtualLoop, close_loop

DEBUG = bool(os.environ.get("PYTHONASYNCIODEBUG"))

BODIES = ["quick", "half", "long", "endless", "fails", "retries", "swallows", "suspends", "cancels itself", "base"]


@dataclass(frozen=True)
class Uneven:
    """A trigger as a user may write it: some ticks in every twelve seconds, at uneven distances."""

    seconds: tuple[float, ...] = (0, 0.3, 2, 3, 7.5)

    def after(self, moment: datetime) -> datetime:
        return next(tick for tick in self.around(moment) if tick > moment)

    def at_or_before(self, moment: datetime) -> datetime:
        return [tick for tick in self.around(moment) if tick <= moment][-1]

    def around(self, moment: datetime) -> list[datetime]:
        start = epoch_us(moment) // 12_000_000 * 12_000_000
        return [utc(start + round((12 * lap + each) * 1e6)) for lap in (-1, 0, 1) for each in self.seconds]


INTERVALS = [0.25, 1.0, 7.5]
RULES: list[float | Trigger] = [*INTERVALS, Every(1.5), Uneven(), Uneven((1.0, 1.2))]
THREE_HOURS = 10_800_000_000


class Catastrophe(BaseException):
    """A BaseException that no function should raise."""


@dataclass(eq=False)
class Subject:
    """One task under test, and the journal of its body."""

    task: ScheduledTask[Any]
    rule: float | Trigger
    active: int = 0
    most: int = 0
    holders: int = 0
    """Suspensions that have been entered and not left, by anybody but the body."""
    broken: list[str] = field(default_factory=list)
    left_over: Counter[int] = field(default_factory=Counter)
    """Ticks that were not over when the task was planned anew: their times may come again."""

    @property
    def gap_s(self) -> float:
        """A gap of its rule, as a unit of duration."""
        return self.rule if isinstance(self.rule, float) else 1.5

    def ticks(self, first: int, end: int) -> list[int]:
        """Return *first* and the following ticks of the rule before *end*."""
        if isinstance(self.rule, float):
            return list(range(first, end, round(self.rule * 1e6)))
        found = [first] if first < end else []
        for tick in as_base_trigger("rule", self.rule).ticks(utc(first)):
            if epoch_us(tick) >= end:
                return found
            found.append(epoch_us(tick))
        return found


class Promises(RuleBasedStateMachine):
    tasks: Bundle[Subject] = Bundle("tasks")
    suspensions: Bundle[tuple[Subject | None, asyncio.Event, asyncio.Task[None]]] = Bundle("suspensions")

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.scheduler = Scheduler(clock=self.loop.virtual_clock, history=3)
        self.engine: Engine = self.scheduler._engine
        self.subjects: dict[str, Subject] = {}
        self.all_holders = 0
        self.book: dict[str, Counter[int]] = {}
        self.planned: dict[str, int] = {}
        self.reached = 0
        self.background: list[asyncio.Task[Any]] = []
        self.raw_skip = self.engine.recorder.skip
        self.engine.recorder.skip = self.note_skip  # type: ignore[method-assign]
        self.raw_overtaken = self.engine.overload.count
        self.engine.overload.count = self.note_overtaken  # type: ignore[method-assign]
        self.raw_overtake = self.engine.overload.overtake
        self.engine.overload.overtake = self.note_overtake  # type: ignore[method-assign]
        self.raw_start = self.engine.runner.start
        self.engine.runner.start = self.note_start  # type: ignore[method-assign]
        self.engine.tick_loop._start = self.note_start
        self.scheduler.subscribe(self.note_run)

    # --- the record of ticks ---

    def note_skip(
        self,
        entry: TaskEntry,
        first: int,
        last: int,
        number: int,
        reason: Reason,
        now: int,
        *,
        manual: bool = False,
        **kws: Any,
    ) -> Any:
        if entry.name in self.subjects and not manual:
            skipped = self.subjects[entry.name].ticks(self.key(entry, first), self.key(entry, last) + 1)
            assert (len(skipped), skipped[-1]) == (number, self.key(entry, last)), "a skip covers what it says"
            self.enter(entry.name, skipped)
        return self.raw_skip(entry, first, last, number, reason, now, manual=manual, **kws)

    def note_overtaken(self, entry: TaskEntry, first: int, last: int, number: int, now: int, **kws: Any) -> None:
        if entry.name in self.subjects:
            overtaken = self.subjects[entry.name].ticks(self.key(entry, first), self.key(entry, last) + 1)
            assert (len(overtaken), overtaken[-1]) == (number, self.key(entry, last)), "it counts what it says"
            self.enter(entry.name, overtaken)
        self.raw_overtaken(entry, first, last, number, now, **kws)

    def note_overtake(self, entry: TaskEntry, now: int) -> bool:
        """Note what is added to an open record of overtaken ticks without a call of ``count()``."""
        first, was_open = entry.due, entry.overtaken is not None
        done = self.raw_overtake(entry, now)
        if was_open and entry.due > first and entry.name in self.subjects:
            subject = self.subjects[entry.name]
            self.enter(entry.name, subject.ticks(self.key(entry, first), self.key(entry, entry.due)))
        return done

    def note_start(self, entry: TaskEntry, tick: int, now: int, *more: Any, **kws: Any) -> None:
        """Check that no task starts while it is held, stopped or running, or disabled without a request."""
        assert entry.run is None
        assert self.engine.started
        assert self.engine.has(entry)
        if self.subjects.get(entry.name) is not None:
            task = self.subjects[entry.name].task
            if task.suspended or not (task.enabled or Kind.MANUAL in more):
                self.subjects[entry.name].broken.append("started though it is held or disabled")
        self.raw_start(entry, tick, now, *more, **kws)

    def note_run(self, run: Run) -> None:
        if run.outcome is Outcome.SKIPPED or run.manual:
            return
        subject = self.subjects[run.task]
        on_wall = epoch_us(run.scheduled_at)
        steady = on_wall - self.engine.offset
        left_over = next((tick for tick in (on_wall, steady) if subject.left_over[tick]), None)
        self.enter(run.task, [left_over or (steady if isinstance(subject.rule, float) else on_wall)])
        assert run.started_at is not None
        assert run.lateness_s is not None
        assert run.lateness_s >= 0

    def key(self, entry: TaskEntry, tick: int) -> int:
        """Return the identity of *tick*: its wall time for a trigger, its steady time for an interval."""
        return tick + (0 if entry.spec.trigger is None else self.engine.offset)

    def enter(self, name: str, ticks: list[int]) -> None:
        for tick in ticks:
            if self.subjects[name].left_over[tick]:
                self.subjects[name].left_over[tick] -= 1
            else:
                self.book.setdefault(name, Counter())[tick] += 1

    def unfinished(self, entry: TaskEntry) -> Counter[int]:
        """Return the ticks that are running or waiting."""
        waiting = [] if entry.waiting is None or entry.requested is not None else [entry.waiting]
        found = Counter(self.key(entry, tick) for tick in [*waiting, *(entry.backlog or ())])
        run = entry.run
        if run is not None and run.kind is not Kind.MANUAL:
            found[run.tick + (0 if run.spec.trigger is None else self.engine.offset)] += 1
        return found

    def check_book(self, subject: Subject) -> None:
        """Check that every tick before the next one has ended once, is running, or is waiting."""
        entry = subject.task._entry
        found = self.unfinished(entry) - subject.left_over + self.book.get(entry.name, Counter())
        assert not [tick for tick, times in found.items() if times != 1], "a tick ended twice"
        first = self.planned.get(entry.name)
        if first is not None and found:
            known = sorted(tick for tick in found if tick >= first)
            expected = subject.ticks(first, self.key(entry, entry.due))
            assert known == expected, "a tick is missing, or off the grid"

    # --- bodies ---

    async def body(self, name: str, kind: str) -> str:
        subject = self.subjects[name]
        if subject.holders or self.all_holders:
            subject.broken.append("started while suspended")
        subject.active += 1
        subject.most = max(subject.most, subject.active)
        try:
            await self.act(subject, kind)
        finally:
            subject.active -= 1
        return name

    async def act(self, subject: Subject, kind: str) -> None:
        gap_s = subject.gap_s
        match kind:
            case "half":
                await asyncio.sleep(gap_s / 2)
            case "long":
                await asyncio.sleep(gap_s * 2.3)
            case "endless":
                await asyncio.sleep(1e6)
            case "fails":
                raise ValueError("no luck")
            case "retries":
                raise ConnectionError("not yet")
            case "swallows":
                until = self.loop.time() + 9.1
                while self.loop.time() < until:
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.sleep(until - self.loop.time())
            case "suspends":
                async with subject.task.suspend("from within"):
                    await asyncio.sleep(gap_s * 1.7)
            case "cancels itself":
                current = asyncio.current_task()
                assert current is not None
                current.cancel()
                await asyncio.sleep(1)
            case "base":
                raise Catastrophe

    # --- steps ---

    def run(self, coro: Any) -> Any:
        return self.loop.run_until_complete(coro)

    async def call(self, function: Any, *args: Any, **kws: Any) -> Any:
        return function(*args, **kws)

    def note_plan(self, subject: Subject) -> None:
        """Note that a new grid begins, after checking that the old one is complete."""
        entry = subject.task._entry
        self.book[entry.name] = Counter()
        self.planned[entry.name] = self.key(entry, entry.due)

    @initialize()
    def first_start(self) -> None:
        self.begin()

    @rule(
        target=tasks,
        kind=st.sampled_from(BODIES),
        rule=st.sampled_from(RULES),
        policy=st.sampled_from(ExecPolicy),
        missed=st.sampled_from(Missed),
        first_run=st.sampled_from(FirstRun),
        max_timeout_s=st.sampled_from([0.0, 0.0, 0.1, 3.3]),
        jitter_s=st.sampled_from([0.0, 0.0, 0.15]),
    )
    def register(
        self,
        kind: str,
        rule: float | Trigger,
        policy: ExecPolicy,
        missed: Missed,
        first_run: FirstRun,
        max_timeout_s: float,
        jitter_s: float,
    ) -> Subject:
        name = f"{kind}-{len(self.subjects)}"

        async def schedule() -> Subject:
            task = self.scheduler.schedule_task(
                self.body,
                rule if isinstance(rule, float) else None,
                (name, kind),
                trigger=None if isinstance(rule, float) else rule,
                name=name,
                policy=policy,
                missed=missed,
                first_run=first_run,
                max_timeout_s=max_timeout_s,
                jitter_s=jitter_s,
                retries=2 if kind == "retries" else 0,
            )
            self.subjects[name] = Subject(task, rule)  # Before the loop starts its first run.
            return self.subjects[name]

        subject: Subject = self.run(schedule())
        if self.scheduler.started:
            self.note_plan(subject)
        return subject

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.1, 0.25, 0.9, 1.0, 3.7, 11.0]))
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(gaps=st.integers(1, 8), subject=tasks)
    def wait_for_ticks(self, gaps: int, subject: Subject) -> None:
        self.run(asyncio.sleep(gaps * subject.gap_s))

    @rule(seconds=st.sampled_from([0.1, 0.6, 2.1, 30.0, 300.0]))
    def block_the_loop(self, seconds: float) -> None:
        self.loop.virtual_clock.block(seconds)
        self.run(asyncio.sleep(0))

    @rule(seconds=st.sampled_from([2.1, 300.0]))
    def close_the_lid(self, seconds: float) -> None:
        self.loop.virtual_clock.sleep_machine(seconds)
        self.run(asyncio.sleep(60))  # Noticed within a minute. From now on every tick is on time again.

    @rule(seconds=st.sampled_from([0.7, -0.7, 30.0, -30.0, 600.0, -600.0, -7_000.0, -40_000.0]))
    def set_the_clock(self, seconds: float) -> None:
        """Set the wall clock. The loop notices the step when it wakes, unless an opposite step comes first."""
        self.loop.virtual_clock.step_wall(seconds)
        if self.scheduler.started:
            self.run(self.call(self.notice))

    def notice(self) -> None:
        """Check the clocks, as the timer does once a minute. If the grid is planned anew, times may come again."""
        before = self.engine.offset
        now = self.loop.virtual_clock.steady()
        step = self.loop.virtual_clock.wall() - now - before
        reached = max(self.reached, now + before)
        anew = reached - (now + before + step) > THREE_HOURS
        self.reached = now + before + step if anew else reached
        on_wall = [subject for subject in self.subjects.values() if not isinstance(subject.rule, float)]
        if anew:
            for subject in on_wall:
                subject.left_over = self.unfinished(subject.task._entry)
        self.engine.monitor.check_wall_clock(now)
        for subject in on_wall:
            entry = subject.task._entry
            at_once = (
                entry.flags & EXTRA_FIRST_TICK and entry.spec.first_run is FirstRun.NOW
            )  # This does not need any time to pass.
            if self.engine.has(entry) and (anew or at_once):
                self.note_plan(subject)

    @rule(subject=tasks)
    def disable(self, subject: Subject) -> None:
        self.run(self.call(subject.task.disable))

    @rule(subject=tasks)
    def enable(self, subject: Subject) -> None:
        self.run(self.call(subject.task.enable))

    @rule(subject=tasks)
    def cancel(self, subject: Subject) -> None:
        with contextlib.suppress(KaijuError):
            self.run(self.call(subject.task.cancel, "for the test"))

    @rule(subject=tasks, for_s=st.sampled_from([None, 0.2, 5.0]))
    def pause(self, subject: Subject, for_s: float | None) -> None:
        self.run(subject.task.pause("for the test", for_s))

    @rule(subject=tasks)
    def resume(self, subject: Subject) -> None:
        self.run(subject.task.resume())

    @rule(subject=tasks)
    def run_now(self, subject: Subject) -> None:
        async def ask() -> None:
            with contextlib.suppress(KaijuError):
                run = await subject.task.run_now()
                assert run.manual

        self.background.append(self.loop.create_task(ask()))
        self.run(asyncio.sleep(0))

    @rule(subject=tasks, rule=st.sampled_from(RULES))
    def reschedule(self, subject: Subject, rule: float | Trigger) -> None:
        entry = subject.task._entry
        if not self.engine.has(entry):
            return

        async def change() -> None:
            due = []
            if self.scheduler.started and entry.name in self.planned:
                now = self.loop.virtual_clock.steady()
                due = subject.ticks(self.planned[entry.name], self.key(entry, now - entry.spec.jitter) + 1)
            book = self.book.setdefault(entry.name, Counter())
            if entry.run is not None and entry.run.kind is not Kind.MANUAL:
                book = book + Counter([self.key(entry, entry.run.tick)])
            if isinstance(rule, float):
                subject.task.reschedule(rule)
            else:
                subject.task.reschedule(trigger=rule)
            missing = [tick for tick in due if not (book + self.book[entry.name])[tick]]
            assert missing == [], "a tick of the old grid is missing"
            subject.rule = rule

        self.run(change())
        subject.left_over = self.unfinished(entry)
        if self.scheduler.started:
            self.note_plan(subject)
        else:
            self.planned.pop(subject.task.name, None)

    @rule(subject=tasks)
    def remove(self, subject: Subject) -> None:
        self.run(self.call(subject.task.remove))
        if self.scheduler.started and subject.task.name in self.planned:
            self.check_book(subject)
        self.planned.pop(subject.task.name, None)

    @rule(target=suspensions, subject=tasks)
    def suspend(self, subject: Subject) -> tuple[Subject | None, asyncio.Event, asyncio.Task[None]]:
        return self.hold(subject)

    @rule(target=suspensions)
    def suspend_all(self) -> tuple[Subject | None, asyncio.Event, asyncio.Task[None]]:
        return self.hold(None)

    def hold(self, subject: Subject | None) -> tuple[Subject | None, asyncio.Event, asyncio.Task[None]]:
        leave = asyncio.Event()

        async def holder() -> None:
            held = self.scheduler if subject is None else subject.task
            async with held.suspend("for the test"):
                for other in self.subjects.values() if subject is None else [subject]:
                    if other.active:
                        other.broken.append("running when a suspension was entered")
                if subject is None:
                    self.all_holders += 1
                else:
                    subject.holders += 1
                try:
                    await leave.wait()
                finally:
                    if subject is None:
                        self.all_holders -= 1
                    else:
                        subject.holders -= 1

        task = self.loop.create_task(holder())
        self.background.append(task)
        self.run(asyncio.sleep(0))
        return subject, leave, task

    @rule(held=consumes(suspensions), politely=st.booleans())
    def leave(self, held: tuple[Subject | None, asyncio.Event, asyncio.Task[None]], politely: bool) -> None:
        if politely:
            held[1].set()
        else:
            held[2].cancel()
        self.run(asyncio.sleep(0))

    @precondition(lambda self: not self.scheduler.started)
    @rule()
    def start(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.loop.virtual_clock.block(1e-6)  # Ticks are identified by their instant: no two starts may share one.
        self.reached = self.loop.virtual_clock.wall()

        async def plan() -> None:
            await self.scheduler.start()
            for subject in self.subjects.values():
                if subject.task.name in self.scheduler.tasks:
                    subject.left_over = self.unfinished(subject.task._entry)  # Runs that outlived stop().
                    self.note_plan(subject)

        self.run(plan())

    @precondition(lambda self: self.scheduler.started)
    @rule(timeout_s=st.sampled_from([None, 0.0, 2.0, 20.0]))
    def stop(self, timeout_s: float | None) -> None:
        shielded = any(s.task.running and s.task.policy is ExecPolicy.SHIELD for s in self.subjects.values())
        if timeout_s is None and shielded:
            timeout_s = 30.0  # Without a limit it would wait for an endless run, as documented.
        began = self.loop.time()
        left = self.run(self.scheduler.stop(timeout_s))
        bound = 5.0 if timeout_s is None else timeout_s
        assert self.loop.time() - began <= bound + 0.01, "stop() ends"
        running = {subject.task.name for subject in self.subjects.values() if subject.active}
        assert {task.name for task in left} == running
        assert not self.scheduler.started
        for subject in self.subjects.values():
            entry = subject.task._entry
            assert entry.waiting is None
            assert entry.backlog is None
            assert entry.requested is None
            self.check_book(subject)

    # --- promises ---

    @invariant()
    def never_two_at_once(self) -> None:
        assert all(subject.most <= 1 for subject in self.subjects.values())

    @invariant()
    def suspended_means_quiet(self) -> None:
        assert [subject.broken for subject in self.subjects.values() if subject.broken] == []

    @invariant()
    def every_due_tick_ends_exactly_once(self) -> None:
        for subject in self.subjects.values():
            if self.scheduler.started and subject.task.name in self.planned:
                self.check_book(subject)

    @invariant()
    def a_task_never_dies_silently(self) -> None:
        """An enabled task without holds always has a next tick ahead of it."""
        for subject in self.subjects.values():
            task = subject.task
            if self.scheduler.started and task.enabled and not task.suspended and self.engine.has(task._entry):
                assert task._entry.seq != 0

    @invariant()
    def what_waits_is_not_forgotten(self) -> None:
        """A tick that waits although its task is idle starts within a few turns of the loop."""
        entries = [subject.task._entry for subject in self.subjects.values() if not subject.task.suspended]
        before = {
            entry: (entry.waiting, entry.backlog and list(entry.backlog)) for entry in entries if entry.run is None
        }
        for _ in range(3):
            self.run(asyncio.sleep(0))
        for entry, waited in before.items():
            if self.scheduler.started and entry.run is None and waited != (None, None):
                assert (entry.waiting, entry.backlog and list(entry.backlog)) != waited

    @invariant()
    def nobody_complains(self) -> None:
        assert self.loop.complaints == []

    def teardown(self) -> None:
        for task in self.background:
            task.cancel()
        self.run(asyncio.sleep(0))
        self.run(self.scheduler.stop(0))
        close_loop(self.loop)
        assert self.loop.complaints == []


TestPromises = Promises.TestCase
# Debug mode takes a stack trace at every await.
TestPromises.settings = settings(max_examples=40 if DEBUG else 400, stateful_step_count=50, deadline=None)
TestPromises.pytestmark = [pytest.mark.smoke, pytest.mark.timeout(300)]  # Shrinking a failure takes long.
