"""The timer queue: dead items never fire, sweeps keep the living ones in order, and nothing piles up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import TaskEntry
from kaiju_app._engine.timer_queue import MAX_LANES, MIN_DEAD, TimerQueue, is_alive
from kaiju_app.scheduler import ExecPolicy, FirstRun, ScheduledTask, Scheduler
from support.virtual import VirtualLoop, close_loop

ROLES = ["seq", "alarm", "lift"]


def entry(name: str = "task", gap: int = 10) -> TaskEntry:
    nobody, spec = cast(Any, None), cast(Any, SimpleNamespace(gap=gap))
    return TaskEntry(nobody, name, print, (), {}, spec)


def drop(queue: TimerQueue, whose: TaskEntry, role: str = "seq") -> None:
    setattr(whose, role, 0)
    queue.mark_dead()


def pushed(queue: TimerQueue, *instants: int) -> list[TaskEntry]:
    """Return one entry for each of *instants*, with an item in *queue*."""
    entries = [entry(str(number)) for number in range(len(instants))]
    for one, instant in zip(entries, instants, strict=True):
        one.seq = queue.push(instant, one)
    return entries


def in_order(queue: TimerQueue) -> list[TaskEntry]:
    """Empty *queue*; return the entries whose items were alive, in order."""
    found = []
    while queue.heap:
        if is_alive(queue.heap[0]):
            found.append(queue.heap[0][2])
        queue.pop()
    assert queue.size == 0
    return found


# --- the order ---


def test_items_come_by_their_instants() -> None:
    queue = TimerQueue(lambda: 0, {})
    late, early, between = pushed(queue, 30, 10, 20)

    assert in_order(queue) == [early, between, late]


def test_items_of_one_instant_come_in_the_order_of_their_registration() -> None:
    """Entries are never compared: they have no order."""
    queue = TimerQueue(lambda: 0, {})
    entries = pushed(queue, *[7] * 1_000)

    assert in_order(queue) == entries


def test_numbers_grow_and_are_never_0() -> None:
    """0 means that an entry has no item; a number used twice would revive a dead item."""
    queue = TimerQueue(lambda: 0, {})
    first = [queue.push(5, entry()) for _ in range(3)]
    queue.clear()
    second = [queue.push(5, entry()) for _ in range(3)]

    assert [*first, *second] == sorted({*first, *second})
    assert first[0] > 0


async def test_tasks_due_at_one_instant_start_in_the_order_of_their_registration(scheduler: Scheduler) -> None:
    order: list[int] = []

    async def body(number: int) -> None:
        order.append(number)

    for number in range(100):
        scheduler.schedule_task(body, 10, (number,))
    async with scheduler:
        await asyncio.sleep(25)

    assert order == [*range(100)] * 3


async def test_a_change_of_the_rule_is_a_new_registration(scheduler: Scheduler) -> None:
    order: list[int] = []

    async def body(number: int) -> None:
        order.append(number)

    tasks = [scheduler.schedule_task(body, 10, (number,), first_run=FirstRun.NEXT) for number in range(3)]
    async with scheduler:
        tasks[0].reschedule(10)
        await asyncio.sleep(11)

    assert order == [1, 2, 0]


# --- dead items ---


def test_a_few_dead_items_are_left_alone() -> None:
    queue = TimerQueue(lambda: 0, {})
    entries = pushed(queue, *range(MIN_DEAD))
    for one in entries:
        drop(queue, one)

    assert (queue.dead, queue.size) == (MIN_DEAD, MIN_DEAD)
    assert in_order(queue) == []


def test_a_sweep_comes_when_more_than_every_second_item_is_dead() -> None:
    queue = TimerQueue(lambda: 0, {})
    entries = pushed(queue, *range(1_000))
    for one in entries[:500]:
        drop(queue, one)
    assert (queue.dead, queue.size) == (500, 1_000)

    drop(queue, entries[500])

    assert (queue.dead, queue.size) == (0, 499)


def test_a_sweep_keeps_the_living_in_order() -> None:
    queue = TimerQueue(lambda: 0, {})
    instants = [number * 7919 % 1_000 // 10 for number in range(1_000)]  # Each instant ten times, unordered.
    entries = pushed(queue, *instants)
    living = [one for number, one in enumerate(entries) if number % 3 == 0]
    for one in entries:
        if one not in living:
            drop(queue, one)

    assert queue.size < 1_000
    expected = sorted(
        living, key=lambda one: instants[entries.index(one)]
    )  # The sort is stable: at one instant, registration decides.
    assert in_order(queue) == expected


@pytest.mark.parametrize("role", ROLES)
def test_a_sweep_keeps_whatever_an_entry_waits_for(role: str) -> None:
    queue = TimerQueue(lambda: 0, {})
    keeps = entry()
    setattr(keeps, role, queue.push(1_000, keeps))
    for one in pushed(queue, *range(2 * MIN_DEAD)):
        drop(queue, one)

    assert queue.size < 2 * MIN_DEAD
    assert in_order(queue) == [keeps]


def test_a_sweep_works_in_place() -> None:
    """The tick loop holds a reference to the list while it handles due items."""
    queue = TimerQueue(lambda: 0, {})
    heap = queue.heap
    for one in pushed(queue, *range(2 * MIN_DEAD)):
        drop(queue, one)
    queue.clear()

    assert queue.heap is heap


def test_one_entry_may_have_several_items_and_lose_them_one_by_one() -> None:
    queue = TimerQueue(lambda: 0, {})
    one = entry()
    one.seq, one.alarm, one.lift = queue.push(1, one), queue.push(2, one), queue.push(3, one)
    drop(queue, one, "alarm")

    assert sorted(item[0] for item in queue.items() if is_alive(item)) == [1, 3]


def test_what_comes_and_goes_leaves_nothing_behind() -> None:
    queue = TimerQueue(lambda: 0, {})
    pushed(queue, *range(10))
    longest = 0
    for number in range(10_000):
        (guest,) = pushed(queue, number)
        longest = max(longest, queue.size)
        drop(queue, guest)

    assert longest <= 10 + MIN_DEAD + 1


def test_the_living_bound_the_dead() -> None:
    queue = TimerQueue(lambda: 0, {})
    residents = pushed(queue, *range(1_000))
    longest = 0
    for number in range(10_000):
        moved = residents[number % 1_000]
        drop(queue, moved)
        moved.seq = queue.push(number, moved)
        longest = max(longest, queue.size)

    assert longest <= 2 * 1_000 + 1


# --- the lanes of plain intervals ---


def ticks(queue: TimerQueue, *dues: int, gap: int = 10) -> list[TaskEntry]:
    """Return one entry for each of *dues*, with a tick in *queue*."""
    entries = [entry(str(number), gap) for number in range(len(dues))]
    for one, due in zip(entries, dues, strict=True):
        one.seq = queue.push_tick(due, one)
    return entries


def test_the_ticks_of_one_interval_take_one_place_in_the_heap() -> None:
    queue = TimerQueue(lambda: 0, {})
    entries = ticks(queue, *range(1_000), gap=1_000)
    for turn in range(5_000):
        due, _, whose, _ = queue.heap[0]
        assert (due, whose) == (turn, entries[turn % 1_000])
        queue.advance(whose, due + 1_000)
        assert len(queue.heap) == 1

    assert queue.size == 1_000


def test_a_tick_that_is_due_before_the_last_of_its_lane_waits_in_the_heap_and_stands_in_the_lane_next_time() -> None:
    queue = TimerQueue(lambda: 10, {})
    late, early, between = ticks(queue, 9, 1, 5)
    assert len(queue.heap) == 3

    for whose, due in ((early, 11), (between, 15), (late, 19)):
        assert queue.heap[0][2] is whose
        queue.advance(whose, due)

    assert len(queue.heap) == 1
    assert in_order(queue) == [early, between, late]


def test_a_first_tick_that_is_far_ahead_keeps_no_other_from_the_lane() -> None:
    queue = TimerQueue(lambda: 0, {})
    far, *near = ticks(queue, 1_000_000, *range(10))

    assert len(queue.heap) == 2
    assert in_order(queue) == [*near, far]


def test_more_intervals_than_lanes_keep_their_order() -> None:
    queue = TimerQueue(lambda: 0, {})
    entries = [ticks(queue, 2 * MAX_LANES - gap, gap=gap)[0] for gap in range(2 * MAX_LANES)]

    assert in_order(queue) == entries[::-1]


def test_an_interval_that_nobody_has_any_more_gives_its_lane_away() -> None:
    queue = TimerQueue(lambda: 0, {})
    former = [ticks(queue, 5, 6, gap=gap) for gap in range(6, MAX_LANES + 6)]
    others = ticks(queue, 1, 2, gap=MAX_LANES + 6)
    assert len(queue.heap) == MAX_LANES + 2

    for one in [*others, *[one for pair in former for one in pair]]:
        drop(queue, one)
    while queue.heap:
        queue.pop()
    queue.dead = 0
    gap = MAX_LANES + 7
    ticks(queue, *range(gap), gap=gap)

    assert len(queue.heap) < MAX_LANES
    assert queue.size == gap


# --- used by the engine ---


async def never() -> None:
    raise AssertionError("a dead item fired")


async def job() -> None:
    pass


async def test_removed_tasks_never_run_and_leave_nothing_behind(scheduler: Scheduler) -> None:
    """Ten thousand come and go: some are planned for later, others have a tick due in the same turn of the loop."""
    queue = scheduler._engine.queue
    kept = scheduler.schedule_task(job, 1)
    longest = 0
    async with scheduler:
        for number in range(10_000):
            guest = scheduler.schedule_task(never, 1, first_run=FirstRun.NOW if number % 2 else FirstRun.NEXT)
            longest = max(longest, queue.size)
            guest.remove()
        await asyncio.sleep(9.5)

        assert longest <= MIN_DEAD + 2
        assert len(scheduler.tasks) == 1
        assert [run.count for run in kept.history()] == [1] * 10
        assert (queue.dead, [item[2].name for item in queue.items()]) == (0, [kept.name])


async def test_a_task_rescheduled_many_times_runs_by_its_last_rule_only(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    starts: list[float] = []

    async def body() -> None:
        starts.append(loop.time() - 5)

    task = scheduler.schedule_task(body, 10, first_run=FirstRun.NEXT)
    async with scheduler:
        for number in range(1_000):
            task.reschedule(1 + number % 9)
        task.reschedule(4)
        assert scheduler._engine.queue.size <= MIN_DEAD + 2
        await asyncio.sleep(13)

        assert starts == [4, 8, 12]


async def test_a_task_removed_by_one_that_is_due_at_the_same_instant_does_not_run(scheduler: Scheduler) -> None:
    """There are so many that a sweep happens in the middle of the tick loop."""

    async def remove_all() -> None:
        for victim in victims:
            victim.remove()

    scheduler.schedule_task(remove_all, 10)
    victims = [scheduler.schedule_task(never, 10) for _ in range(3 * MIN_DEAD)]
    survivor = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(11)

        assert survivor.counts["SUCCEEDED"] == 2  # type: ignore[index]


async def test_pauses_that_are_replaced_end_once(scheduler: Scheduler, loop: VirtualLoop) -> None:
    task = scheduler.schedule_task(job, 1)
    async with scheduler:
        for number in range(1_000):
            await task.pause("for the test", 10 + number / 1_000)
        assert scheduler._engine.queue.size <= 2 * MIN_DEAD
        await asyncio.sleep(10.9)
        assert task.suspended
        await asyncio.sleep(0.1)
        assert not task.suspended


# --- random steps, compared with a list ---


@dataclass
class Item:
    """An item, as the model knows it."""

    instant: int
    number: int
    entry: TaskEntry
    role: str


class QueueAgainstList(RuleBasedStateMachine):
    """The queue, used as the tick loop uses it, and a list that is sorted each time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.queue = TimerQueue(lambda: self.now, {})
        self.entries: list[TaskEntry] = []
        self.living: list[Item] = []

    @rule(instants=st.lists(st.integers(0, 20), min_size=1, max_size=100), role=st.sampled_from(ROLES))
    def add(self, instants: list[int], role: str) -> None:
        for instant in instants:
            one = entry(f"task {len(self.entries)}", 1 + len(self.entries) % 3)
            self.entries.append(one)
            self.push(one, role, instant)

    def push(self, one: TaskEntry, role: str, instant: int) -> None:
        is_tick = role == "seq" and len(one.name) % 2 == 0
        number = self.queue.push_tick(instant, one) if is_tick else self.queue.push(instant, one)
        setattr(one, role, number)
        self.living.append(Item(instant, number, one, role))

    @precondition(lambda self: self.entries)
    @rule(data=st.data(), role=st.sampled_from(ROLES), instant=st.integers(0, 20))
    def set_anew(self, data: st.DataObject, role: str, instant: int) -> None:
        one = data.draw(st.sampled_from(self.entries))
        for item in [item for item in self.living if item.entry is one and item.role == role]:
            self.drop(item)
        self.push(one, role, instant)

    @precondition(lambda self: self.living)
    @rule(data=st.data(), share=st.floats(0, 1))
    def drop_some(self, data: st.DataObject, share: float) -> None:
        first = data.draw(st.integers(0, len(self.living) - 1))
        for item in self.living[first : first + 1 + int(share * len(self.living))]:
            self.drop(item)

    def drop(self, item: Item) -> None:
        self.living.remove(item)
        drop(self.queue, item.entry, item.role)

    @rule(until=st.integers(0, 20))
    def look_at_what_is_due(self, until: int) -> None:
        heap = self.queue.heap
        self.now = max(self.now, until)
        fired = []
        while heap and heap[0][0] <= until:
            item = heap[0]
            self.queue.pop()
            role = next((role for role in ROLES if getattr(item[2], role) == item[1]), None)
            if role is None:
                self.queue.dead -= 1
            else:
                setattr(item[2], role, 0)
                fired.append(item[:2])
        due = sorted((item.instant, item.number) for item in self.living if item.instant <= until)
        assert fired == due
        self.living = [item for item in self.living if item.instant > until]

    @precondition(lambda self: self.living)
    @rule(most=st.integers(1, 200), late=st.booleans())
    def advance_what_comes_first(self, most: int, late: bool) -> None:
        """As the tick loop does it; *late*: each tick overtakes the one that follows it."""
        for _ in range(most):
            head = self.queue.heap[0]
            first = min(self.living, key=lambda item: (item.instant, item.number))
            if not is_alive(head) or first.role != "seq":
                break
            assert head[:3] == (first.instant, first.number, first.entry)
            self.now = max(self.now, first.instant)
            following = first.instant + (2 if late and first.number % 2 else 1) * first.entry.spec.gap
            self.queue.advance(first.entry, following)
            self.living.remove(first)
            self.living.append(Item(following, first.entry.seq, first.entry, "seq"))

    @rule()
    def clear(self) -> None:
        self.queue.clear()
        for item in self.living:
            setattr(item.entry, item.role, 0)
        self.living = []

    @invariant()
    def the_living_are_there_and_the_dead_are_counted(self) -> None:
        items = list(self.queue.items())
        alive = sorted(item[:2] for item in items if is_alive(item))
        assert alive == sorted((item.instant, item.number) for item in self.living)
        assert self.queue.size == len(items)
        assert self.queue.dead == len(items) - len(alive)
        assert self.queue.dead <= max(MIN_DEAD, len(alive))


TestAgendaAgainstList = QueueAgainstList.TestCase
TestAgendaAgainstList.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


class QueueOfAnEngine(RuleBasedStateMachine):
    """Whatever is done to tasks, each living item is one that its entry refers to, and the dead ones are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.scheduler = Scheduler(clock=self.loop.virtual_clock, cancel_grace_s=0.7)
        self.engine: Engine = self.scheduler._engine
        self.tasks: list[ScheduledTask[Any]] = []
        self.loop.run_until_complete(self.scheduler.start())

    def do(self, coro: Any) -> None:
        self.loop.run_until_complete(coro)

    @rule(
        number=st.integers(1, 40),
        gap_s=st.sampled_from([0.3, 1.0, 2.5]),
        takes_s=st.sampled_from([0.0, 0.2, 4.0]),
        policy=st.sampled_from(ExecPolicy),
        max_timeout_s=st.sampled_from([0.0, 0.1]),
    )
    def add(self, number: int, gap_s: float, takes_s: float, policy: ExecPolicy, max_timeout_s: float) -> None:
        async def register() -> None:
            for _ in range(number):
                self.tasks.append(
                    self.scheduler.schedule_task(
                        asyncio.sleep, gap_s, (takes_s,), policy=policy, max_timeout_s=max_timeout_s
                    )
                )

        self.do(register())

    @precondition(lambda self: self.tasks)
    @rule(
        data=st.data(),
        share=st.floats(0, 1),
        what=st.sampled_from(["remove", "disable", "enable", "reschedule", "pause", "pause for", "resume", "cancel"]),
    )
    def act(self, data: st.DataObject, share: float, what: str) -> None:
        first = data.draw(st.integers(0, len(self.tasks) - 1))
        chosen = self.tasks[first : first + 1 + int(share * len(self.tasks))]
        self.do(self.act_on(chosen, what))
        if what == "remove":
            self.tasks = [task for task in self.tasks if task not in chosen]

    async def act_on(self, chosen: list[ScheduledTask[Any]], what: str) -> None:
        for task in chosen:
            match what:
                case "reschedule":
                    task.reschedule(0.9)
                case "pause":
                    await task.pause()
                case "pause for":
                    await task.pause(for_s=1.3)
                case "resume":
                    await task.resume()
                case "cancel":
                    if task.policy is not ExecPolicy.SHIELD:
                        task.cancel("for the test")
                case _:
                    getattr(task, what)()

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.3, 1.0, 3.0]))
    def wait(self, seconds: float) -> None:
        self.do(asyncio.sleep(seconds))

    @rule()
    def restart(self) -> None:
        async def restart() -> None:
            await self.scheduler.stop(0)
            assert self.engine.queue.heap == []
            await self.scheduler.start()

        self.do(restart())

    @invariant()
    def the_dead_are_counted(self) -> None:
        queue = self.engine.queue
        alive = [item for item in queue.items() if is_alive(item)]
        assert queue.dead == queue.size - len(alive)
        assert queue.dead <= max(MIN_DEAD, len(alive) + 1)

    @invariant()
    def every_tick_that_is_planned_has_its_item(self) -> None:
        items = {item[1]: item for item in self.engine.queue.items()}
        assert len(items) == self.engine.queue.size
        for one in self.engine.entries.values():
            for number in (one.seq, one.alarm, one.lift):
                assert number == 0 or items[number][2] is one
            assert one.seq == 0 or items[one.seq][0] == one.due

    def teardown(self) -> None:
        self.do(self.scheduler.stop(0))
        close_loop(self.loop)


TestDriversAgenda = QueueOfAnEngine.TestCase
TestDriversAgenda.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
