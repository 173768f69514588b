"""One suite for all stores: what an instance can rely on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from kaiju_app._core.clock import NEVER, wall_us
from kaiju_app._core.ledger_query import ENDINGS, Ending, LedgerQuery, Place
from kaiju_app._core.text import MARK, MOST_TEXT
from kaiju_app.errors import InvalidArgument, StoreRefused, StoreUnavailable
from kaiju_app.scheduler import Scheduler
from kaiju_app.stores import MemoryStore, SqliteStore, Store, store_from_url
from kaiju_app.stores._answers import (
    Claimed,
    FinishRequest,
    Instance,
    LedgerPage,
    Life,
    Renewed,
    Snapshot,
    lives_around,
)
from kaiju_app.stores._cas import MOST_CONFLICTS, Transition, simply
from kaiju_app.stores._onlooker import Onlooker
from kaiju_app.stores._record import LedgerRow, NextTick, StoredHold, TaskRecord, end_key
from kaiju_app.stores._requests import ask_for_end
from kaiju_app.stores._selection import EVERYBODY, LEAD, ClaimQuery, Partition
from kaiju_app.stores._transitions import (
    Definition,
    Refusal,
    challenge,
    define,
    expire_hold,
    hold,
    release,
    request_run,
    return_unstarted,
    unhold,
)
from support.engines import ENGINES, Make, change_one, claim_any, store_factories
from support.records import replace

T0 = 1_800_000_000_000_000
S = 1_000_000
TTL = 10 * S
ME, YOU = "1" * 32, "2" * 32


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> int:
        return self.now


@pytest.fixture(params=ENGINES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def another(kind: str, clock: Clock, tmp_path: Path, loop: asyncio.AbstractEventLoop) -> Iterator[Make]:
    """Open one more store with the same records."""
    make = store_factories(clock, tmp_path)[kind]()
    made: list[Store] = []

    def another(app: str = "default") -> Store:
        made.append(make(app))
        return made[-1]

    yield another
    for store in made:
        loop.run_until_complete(store.close())


@pytest.fixture
def store(another: Make, loop: asyncio.AbstractEventLoop) -> Store:
    store = another()
    loop.run_until_complete(store.open())
    return store


def record(name: str = "task", **values: Any) -> TaskRecord:
    return replace(TaskRecord(name, T0 - S, "{}", (1,), T0, values.get("next_tick", T0), T0 - 1, T0), **values)


def row(name: str = "task", first: int = T0, take: int = 1, **values: Any) -> LedgerRow:
    return replace(LedgerRow(name, first, take, first, 1, "SUCCEEDED", None, T0), **values)


async def only(store: Store, name: str = "task") -> TaskRecord | None:
    return next(iter((await store.scan([name])).records), None)


LOSSES = [
    "DROP TABLE kaiju_task",
    "DROP TABLE kaiju_run",
    "DROP TABLE kaiju_instance",
    "DROP TABLE kaiju_schema",
    "DELETE FROM kaiju_schema",
]
"""What somebody may do to the tables of a store that has them."""


async def check_made_again(store: Store, what: str) -> None:
    """Check that the *store*, which had one task and no rows, works after the loss *what*."""
    for _ in range(3):  # A call that finds a part missing fails, the next one makes it.
        with suppress(StoreUnavailable):
            await store.claim(ClaimQuery(ME, ["task"], TTL, 1))
            await store.heartbeat(ME, "{}", TTL)
            await store.history("task", 1)
    claimed = await store.claim(ClaimQuery(ME, ["task"], TTL, 1))

    assert ["task"] * ("kaiju_task" in what and "INDEX" not in what) == claimed.missing
    assert [ME] == [each.id for each in await store.heartbeat(ME, "{}", TTL)]
    assert [] == await store.history("task", 9)


async def add(store: Store, *names: str, next_tick: int = T0, **values: Any) -> None:
    for name in names:
        assert await store.swap(None, record(name, next_tick=next_tick, **values))


async def held(store: Store, name: str = "task", key: str = f"{YOU}#1", until: int | None = T0 + TTL) -> TaskRecord:
    changed = await change_one(store, name, lambda old, now: (hold(old, now, key, StoredHold("you", "why", until)), ()))
    assert changed.new is not None
    return changed.new


async def taken(store: Store, me: str = ME, limit: int = 100, **values: Any) -> list[str]:
    return [each.name for each in (await claim_any(store, me, ttl=TTL, limit=limit, **values)).records]


real = pytest.mark.realtime


# --- applications ---


@real
async def test_changes_of_any_fields_are_stored_together_and_leave_all_others_as_they_are(another: Make) -> None:
    held = {"one#1": StoredHold('"quoted"', "\\", T0 + S), "#pause": StoredHold("two", None, None, leased=False)}
    other = TaskRecord(
        "any", T0 + 9, '{"every": 1}', (2, 3), T0 + 1, T0 + 2, T0 + 3, T0 + 4, True, 5, T0 + 6, 7, True, "me", T0 + 8,
        T0 + 10, True, T0 + 11, held, "who",
    )  # fmt: skip
    wanted = {name: replace(record(name), rev=T0, **{name: getattr(other, name)}) for name in TaskRecord._fields[2:]}
    wanted |= {name: replace(other, name=name, rev=T0) for name in ("all", "all again")}
    wanted["rev only"] = record("rev only", rev=T0)
    mine, theirs = another(), another("other")
    for store in (mine, theirs):
        await store.open()
        for name in wanted:
            assert await store.swap(None, record(name))

    changed = await mine.change_each({name: lambda old, now, new=new: (new, ()) for name, new in wanted.items()})

    assert {name: each.new for name, each in changed.items()} == wanted
    assert (await mine.scan()).records == sorted(wanted.values())
    assert (await theirs.scan()).records == [record(name) for name in sorted(wanted)]


@real
async def test_applications_share_a_store_and_know_nothing_of_each_other(another: Make, clock: Clock) -> None:
    """This holds even if names, owners and fences are equal."""
    ours, theirs = another(), another("elsewhere")
    for store in ours, theirs:
        await store.open()
        await add(store, "run", "changed", "dropped", "held")
        await add(store, "asked", next_tick=NEVER)
        await change_one(store, "asked", simply(request_run))
        await held(store, "held", key=f"{ME}#1")
        await store.heartbeat(ME, "{}", TTL)
        assert {"asked", "dropped", "run"} == set(await taken(store, skip={"changed"}))
    before = await theirs.scan()

    runs = {each.name: each.fence for each in (await ours.scan()).records if each.owner}
    clock.now += S
    assert set(runs) == (await ours.renew(ME, runs, {"held": {f"{ME}#1"}}, TTL)).runs
    endings = [FinishRequest(name, fence, T0, "{}", NextTick(NEVER, NEVER)) for name, fence in runs.items()]
    assert not any(await ours.finish(ME, endings))
    changed, dropped = (await ours.scan(["changed", "dropped"])).records
    assert await ours.swap(changed, replace(changed, rev=changed.rev + 1, schedule="{1}"))
    assert await ours.swap(dropped, None)
    assert set(await taken(ours, YOU)) == {"changed"}
    await ours.deregister(ME)
    await ours.heartbeat(ME, "{}", TTL)
    clock.now += S
    await ours.prune(keep=1, age=S // 2)

    assert before.records == (await theirs.scan()).records
    assert {ME, YOU} == {each.id for each in await theirs.heartbeat(YOU, "{}", TTL)}
    assert {YOU} == {each.id for each in await ours.heartbeat(YOU, "{}", TTL)}


# --- a clock and a compare-and-set ---

FULL = TaskRecord(
    name="näme 'quoted' \"twice\"; --",
    rev=T0 + 7,
    schedule='{"every": 1.5}',
    version=(1, 12, 3),
    next_tick=T0 + 2**40,
    next_due=T0 + 2**41,
    last_done=-5,
    known_at=T0,
    next_unknown=True,
    claims=3,
    manual_at=T0 + 1,
    manual_claims=2,
    manual=True,
    owner=ME,
    fence=T0 + 6,
    lease_until=T0 + 8,
    challenged=True,
    claimed_at=T0 + 5,
    holds={
        "b#2": StoredHold("somebody", None, None, leased=False),
        "a#1": StoredHold("näme", "wh'y", T0 + 9, challenged=True),
    },
    held_back_by="näme (wh'y)",
)


@real
@pytest.mark.parametrize("one", [FULL, record(), record(next_tick=NEVER)])
async def test_a_record_comes_back_as_it_was_kept(store: Store, clock: Clock, one: TaskRecord) -> None:
    assert await store.swap(None, one)
    clock.now += S  # While the clock stands still, a rev may be ahead of it.
    assert Snapshot(clock.now, [one]) == await store.scan()

    other = replace(
        one, rev=one.rev + 1, version=(), holds={}, manual_at=None, owner=None, lease_until=None, claimed_at=None
    )
    assert await store.swap(one, other)
    assert [other] == (await store.scan([one.name])).records
    last = replace(
        other,
        rev=one.rev + 2,
        next_due=T0 + 2,
        last_done=T0 + 3,
        known_at=T0 + 4,
        next_unknown=not one.next_unknown,
        held_back_by=one.held_back_by and "x",
    )
    assert await store.swap(other, last)
    assert [last] == (await store.scan([one.name])).records


@real
@pytest.mark.parametrize(
    "one",
    [
        row(),
        row(
            last_tick=T0 + 9,
            count=7,
            more=True,
            outcome="SKIPPED",
            reason="overlap",
            started_at=T0 - 1,
            error="näme: 'x'",
            manual=True,
            attempts=3,
            fence=T0,
            instance=ME,
            jitter=T0,
            result='{"a": [1, null, "\\u0000 näme"]}',
        ),
    ],
)
async def test_a_row_comes_back_as_it_was_kept(store: Store, one: LedgerRow) -> None:
    await store.swap(None, record(), [one])

    assert [one] == await store.history("task", 10)


@real
async def test_a_finish_keeps_a_result_of_64_kb(store: Store) -> None:
    await add(store, "task")
    [claimed] = (await store.claim(ClaimQuery(ME, ["task"], TTL, 1))).records
    kept = row(result=f'"{"x" * 65_534}"', fence=claimed.fence, instance=ME)
    following = NextTick(T0 + 10**9 * S, T0 + 10**9 * S)

    assert [None] == await store.finish(ME, [FinishRequest("task", claimed.fence, T0, "{}", following, (kept,))])
    assert [kept] == await store.history("task", 1)


@real
async def test_a_swap_is_refused_if_the_record_is_not_the_stored_one(store: Store) -> None:
    first = record()
    second = replace(first, rev=first.rev + 1)
    third = replace(first, rev=first.rev + 2, next_tick=T0 + 5)

    assert not await store.swap(first, second, [row()])
    assert await store.swap(None, first)
    assert not await store.swap(None, third, [row()])
    assert not await store.swap(second, third, [row()])
    assert not await store.swap(second, None, [row()])
    assert first == await only(store)
    assert [] == await store.history("task", 10)
    assert await store.swap(first, second)
    assert not await store.swap(first, third, [row()])
    assert second == await only(store)
    assert await store.swap(second, None, [row()])
    assert await only(store) is None
    assert not await store.swap(second, third)
    assert [row()] == await store.history("task", 10)
    assert await store.swap(None, third)
    assert third == await only(store)


@real
async def test_a_swap_of_nothing_is_a_mistake(store: Store) -> None:
    with pytest.raises(ValueError, match="must be a record"):
        await store.swap(None, None)


@real
async def test_a_scan_is_in_the_order_of_names(store: Store) -> None:
    await add(store, "c", "a", "b")

    assert ["a", "b", "c"] == [each.name for each in (await store.scan()).records]
    assert ["a", "c"] == [each.name for each in (await store.scan(["c", "a", "unknown"])).records]
    assert [] == (await store.scan([])).records


@real
async def test_an_active_scan_leaves_out_what_no_instance_has(store: Store) -> None:
    await add(store, "later", "asked", "claimed", "held", next_tick=T0 + 1)
    await add(store, "due")
    await change_one(store, "asked", lambda old, now: (replace(old, rev=old.rev + 1, manual_at=T0), ()))
    await change_one(store, "claimed", lambda old, now: (replace(old, rev=old.rev + 1, owner=ME), ()))
    await held(store, "held")

    assert ["claimed", "held"] == [each.name for each in (await store.scan(only_active=True)).records]
    assert ["held"] == [each.name for each in (await store.scan(["due", "held"], only_active=True)).records]


@real
async def test_what_is_kept_is_there_for_the_next_who_opens(store: Store, another: Make) -> None:
    await add(store, "task")
    await store.close()
    await store.close()
    other = another()
    await other.open()
    await other.open()

    assert record() == await only(other)


# --- changes ---


@real
async def test_a_change_tells_what_it_was_judged_by(store: Store, clock: Clock) -> None:
    clock.now += 5
    definition = Definition("task", "{}", (1,), NextTick(T0, T0 + 3), NextTick(T0 + 7, T0 + 8))
    made = await change_one(store, "task", lambda old, now: (define(old, now, definition), ()))
    assert (clock.now, None, True) == (made.now, made.old, made.done)
    assert made.new == await only(store)

    refused = await change_one(store, "task", lambda old, now: None)
    assert (made.new, None, False) == (refused.old, refused.new, refused.done)

    deleted = await change_one(store, "task", lambda old, now: (None, [row()]))
    assert (made.new, None, True) == (deleted.old, deleted.new, deleted.done)
    assert await only(store) is None
    assert [row()] == await store.history("task", 1)


@real
async def test_changes_at_once_are_all_made(another: Make) -> None:
    stores = [another() for _ in range(4)]
    for each in stores:
        await each.open()
    await add(stores[0], "task", next_tick=0)

    def count(old: TaskRecord | None, now: int) -> tuple[TaskRecord, Sequence[LedgerRow]]:
        assert old is not None
        return replace(old, rev=max(old.rev + 1, now), next_tick=old.next_tick + 1), [row(first_tick=old.next_tick)]

    await asyncio.gather(*(change_one(each, "task", count) for each in stores for _ in range(50)))

    last = await only(stores[0])
    assert last is not None
    assert last.next_tick == 200
    assert [100 + number for number in range(100)] == [each.first_tick for each in await stores[1].history("task", 100)]


@real
async def test_many_changes_are_made_each_by_itself(store: Store) -> None:
    await add(store, "changed", "deleted", "refused", "untouched")
    kept = {name: await only(store, name) for name in ("refused", "untouched")}

    answers = await store.change_each(
        {
            "refused": lambda old, now: None,
            "unknown": lambda old, now: None,
            "new": lambda old, now: (record("new"), [row("new")]) if old is None else None,
            "deleted": lambda old, now: (None, [row("deleted")]),
            "changed": lambda old, now: (replace(old, rev=old.rev + 1, next_tick=T0 + 5), ()) if old else None,
        }
    )

    assert ["changed", "deleted", "new", "refused", "unknown"] == sorted(answers)
    after = {each.name: each for each in (await store.scan()).records}
    assert kept == {name: after[name] for name in kept}
    assert {"changed", "new", *kept} == after.keys()
    assert T0 + 5 == after["changed"].next_tick
    for name, each in answers.items():
        assert (name in ("changed", "deleted", "new")) == each.done
        assert each.new == (after[name] if each.done and name in after else None)
    assert ["changed", "deleted", "refused"] == sorted(each.old.name for each in answers.values() if each.old)
    assert [row("deleted")] == await store.history("deleted", 9)
    assert [row("new")] == await store.history("new", 9)
    assert {} == await store.change_each({})


@real
async def test_thousands_of_changes_are_made_in_the_order_of_names_and_only_once(store: Store, another: Make) -> None:
    names = [f"task-{number:04}" for number in range(1_234)]
    coming = NextTick(T0, T0)

    def putting(name: str) -> Transition:
        definition = Definition(name, "{}", (1,), coming, coming)

        def transition(old: TaskRecord | None, now: int) -> tuple[TaskRecord, Sequence[LedgerRow]] | None:
            new = define(old, now, definition)
            return None if new is None else (new, ())

        return transition

    transitions = {name: putting(name) for name in reversed(names)}
    other = another()
    await other.open()

    answers = await asyncio.gather(store.change_each(transitions), other.change_each(transitions))

    for each in answers:
        assert names == sorted(each)
    assert names == sorted(name for each in answers for name, changed in each.items() if changed.done)
    assert names == [each.name for each in (await store.scan()).records]
    again = await store.change_each(transitions)
    assert not any(each.done for each in again.values())
    assert all(each.old == answers[0][name].new or answers[0][name].old for name, each in again.items())


@pytest.mark.parametrize("times", [1, MOST_CONFLICTS - 1])
async def test_many_changes_are_tried_again_after_a_conflict(clock: Clock, times: int) -> None:
    store = Contested(clock, 0)
    await add(store, "a", "b")
    store.times = times

    def change(old: TaskRecord | None, now: int) -> tuple[TaskRecord, Sequence[LedgerRow]]:
        assert old is not None
        return replace(old, rev=old.rev + 1, next_tick=T0 + 5), ()

    answers = await store.change_each({"a": change, "b": change})

    assert [T0 + 5, T0 + 5] == [each.new.next_tick for each in answers.values() if each.new]


class Contested(MemoryStore):
    """A store in which another writer is faster a given number of times."""

    def __init__(self, clock: Callable[[], int], times: int) -> None:
        super().__init__(clock)
        self.times = times

    async def swap(self, old: TaskRecord | None, new: TaskRecord | None, rows: Sequence[LedgerRow] = ()) -> bool:
        if old is not None and self.times:
            self.times -= 1
            stored = self._records[old.name]
            self._records[old.name] = replace(stored, rev=stored.rev + 1)
        return await super().swap(old, new, rows)


@pytest.mark.parametrize("times", [1, MOST_CONFLICTS - 1, MOST_CONFLICTS])
async def test_a_conflict_is_tried_again_but_not_for_ever(clock: Clock, times: int) -> None:
    store = Contested(clock, 0)
    await add(store, "task")
    store.times = times

    if times == MOST_CONFLICTS:
        with pytest.raises(StoreUnavailable, match=r"memory.*100 changes of task 'task' in a row"):
            await taken(store)
    else:
        assert ["task"] == await taken(store)
        one = await only(store)
        assert one is not None
        assert one.rev == T0


async def test_whoever_changes_a_record_in_lockstep_is_fallen_out_of_step_with(clock: Clock) -> None:
    """Two threads that share a lock may alternate for ever if neither pauses."""

    class Lockstep(Contested):
        swapped_at = -1.0

        async def swap(self, old: TaskRecord | None, new: TaskRecord | None, rows: Sequence[LedgerRow] = ()) -> bool:
            now = asyncio.get_running_loop().time()
            self.times, self.swapped_at = int(now == self.swapped_at), now
            return await super().swap(old, new, rows)

    store = Lockstep(clock, 0)
    await add(store, "task")

    assert ["task"] == await taken(store)


async def test_a_claim_that_lost_a_race_against_a_hold_is_refused(clock: Clock) -> None:
    class Late(MemoryStore):
        async def swap(self, old: TaskRecord | None, new: TaskRecord | None, rows: Sequence[LedgerRow] = ()) -> bool:
            if new is not None and new.owner is not None:
                self._records["task"] = hold(self._records["task"], clock.now, "x#1", StoredHold("x", None, None))
            return await super().swap(old, new, rows)

    store = Late(clock)
    await add(store, "task")

    assert [] == await taken(store)
    assert (await only(store) or record()).owner is None


# --- claims ---


@real
async def test_a_claim_takes_what_is_due_in_the_order_of_ticks(store: Store, clock: Clock) -> None:
    await add(store, "b", "a", next_tick=T0 - 1)
    await add(store, "c", next_tick=T0 - 2)
    await add(store, "now")
    await add(store, "soon", next_tick=T0 + 1)

    claimed = await claim_any(store, ME, ttl=TTL, limit=9)

    assert ["c", "a", "b", "now"] == [each.name for each in claimed.records]
    assert Claimed(T0, claimed.records, T0 + 1, []) == claimed
    stored = {each.name: each for each in (await store.scan()).records}
    for each in claimed.records:
        assert stored[each.name] == each
        assert (ME, T0 + TTL, each.rev, 1) == (each.owner, each.lease_until, each.fence, each.claims)
    assert [] == await taken(store, YOU)


@real
async def test_a_claim_is_for_the_oldest_up_to_the_limit(store: Store) -> None:
    for number in range(5):
        await add(store, f"task-{number}", next_tick=T0 - number)

    assert ["task-4", "task-3"] == await taken(store, limit=2)
    assert [] == await taken(store, limit=0)
    assert ["task-2", "task-1", "task-0"] == await taken(store)


@real
async def test_of_equal_ticks_the_first_names_are_claimed_first(store: Store) -> None:
    await add(store, *reversed("abcdefgh"))

    assert ["a", "b", "c"] == await taken(store, limit=3)


@real
async def test_what_may_not_be_claimed_does_not_count_for_the_limit(store: Store) -> None:
    await add(store, "claimed", "held", "skipped", next_tick=T0 - 5)
    await held(store, "held")
    assert ["claimed"] == await taken(store, YOU, limit=1, skip={"skipped"})
    await add(store, "free")

    assert ["free"] == await taken(store, limit=1, skip={"skipped"})


@real
async def test_what_may_not_be_claimed_is_not_what_is_waited_for(store: Store) -> None:
    await add(store, "claimed", next_tick=T0 - 5)
    await add(store, "held", "skipped", next_tick=T0 + 2)
    assert ["claimed"] == await taken(store, YOU)
    await change_one(store, "claimed", lambda old, now: (replace(old, rev=old.rev + 1, next_due=T0 + 2), ()))
    await held(store, "held")
    assert (await claim_any(store, ME, ttl=TTL, limit=1, skip={"skipped"})).next_claim_at is None

    await add(store, "free", next_tick=T0 + 3)
    assert T0 + 3 == (await claim_any(store, ME, ttl=TTL, limit=1, skip={"skipped"})).next_claim_at
    assert T0 + 2 == (await claim_any(store, ME, ttl=TTL, limit=1)).next_claim_at


@real
async def test_a_claim_may_be_made_ahead(store: Store) -> None:
    await add(store, "in", next_tick=T0 + S)
    await add(store, "out", next_tick=T0 + S + 1)

    claimed = await claim_any(store, ME, ttl=TTL, limit=9, ahead=S)

    assert ["in"] == [each.name for each in claimed.records]
    assert T0 + S + 1 - LEAD == claimed.next_claim_at
    assert T0 + S == claimed.records[0].claimed_at


@real
async def test_what_is_punctual_is_not_claimed_ahead(store: Store, clock: Clock) -> None:
    await add(store, "first", next_tick=T0 + 3)
    await add(store, "ahead", next_tick=T0 + 4)
    await add(store, "later", next_tick=T0 + 5 * S)
    values = {"ahead": S, "not_ahead": {"first", "later", "unknown"}}

    claimed = await claim_any(store, ME, ttl=TTL, limit=1, **values)  # It does not count toward the limit either.
    assert (["ahead"], T0 + 3) == ([each.name for each in claimed.records], claimed.next_claim_at)
    assert T0 + 5 * S == (await claim_any(store, ME, ttl=TTL, limit=9, skip={"first"}, **values)).next_claim_at
    clock.now += 2
    assert [] == await taken(store, **values)
    clock.now += 1
    assert ["first"] == await taken(store, **values)


@real
async def test_an_extra_run_of_what_is_punctual_is_one_until_its_tick(store: Store) -> None:
    await add(store, "extra", next_tick=T0 + 3, manual_at=T0)
    await add(store, "tick", next_tick=T0, manual_at=T0)

    claimed = await claim_any(store, ME, ttl=TTL, limit=9, ahead=S, not_ahead={"extra", "tick"})

    assert [("extra", True), ("tick", False)] == [(each.name, each.manual) for each in claimed.records]


@real
async def test_others_that_are_punctual_are_waited_for_as_long_as_any_others(store: Store) -> None:
    own, other = named(2, 0), named(2, 1)
    await add(store, other, next_tick=T0 + 3)
    values = {"ahead": S, "not_ahead": {own, other}, "partition": Partition(2, 0, 5 * S)}

    assert T0 + 5 * S + 3 == (await claim_any(store, ME, ttl=TTL, limit=9, **values)).next_claim_at
    await add(store, own, next_tick=T0 + 9 * S)
    assert T0 + 5 * S + 3 == (await claim_any(store, ME, ttl=TTL, limit=9, **values)).next_claim_at


@real
async def test_of_what_is_punctual_only_what_may_be_claimed_is_waited_for(store: Store) -> None:
    values = {"ttl": TTL, "limit": 9, "ahead": S, "skip": {"skipped"}}
    values["not_ahead"] = {"claimed", "held", "skipped", "free"}
    await add(store, "claimed", next_tick=T0 - 5)
    await add(store, "held", "skipped", next_tick=T0 + 2)
    assert ["claimed"] == await taken(store, YOU)
    await change_one(store, "claimed", lambda old, now: (replace(old, rev=old.rev + 1, next_due=T0 + 2), ()))
    await held(store, "held")
    assert (await claim_any(store, ME, **values)).next_claim_at is None

    await add(store, "free", next_tick=T0 + 3)
    assert T0 + 3 == (await claim_any(store, ME, **values)).next_claim_at


@real
async def test_a_tick_is_claimed_when_it_is_due_and_not_before(store: Store, clock: Clock) -> None:
    await add(store, "late", next_tick=T0 - S, next_due=T0 + 3 * S)
    await add(store, "soon", next_tick=T0 - 1, next_due=T0 + 2 * S)

    claimed = await claim_any(store, ME, ttl=TTL, limit=9, ahead=S)
    assert ([], T0 + 2 * S - LEAD) == (claimed.records, claimed.next_claim_at)
    clock.now += 2 * S
    assert ["soon"] == await taken(store, limit=1)
    claimed = await claim_any(store, ME, ttl=TTL, limit=9, ahead=S)
    assert [("late", T0 - S, T0 + 3 * S)] == [(each.name, each.tick, each.claimed_at) for each in claimed.records]
    assert claimed.next_claim_at is None


@real
async def test_the_first_that_is_due_is_claimed_first_whatever_its_tick(store: Store) -> None:
    await add(store, "a", next_tick=T0 - 9, next_due=T0 - 1)
    await add(store, "b", next_tick=T0 - 5, next_due=T0 - 5)

    assert ["b"] == await taken(store, limit=1)


@real
async def test_a_tick_that_never_comes_is_not_due(store: Store, clock: Clock) -> None:
    await add(store, "never", next_tick=NEVER)
    share = Partition(2, 1 - crc32(b"never") % 2, 5 * S)

    for values in (
        {},
        {"ahead": S},
        {"ahead": S, "partition": share},
        {"partition": replace(share, index=1 - share.index)},
    ):
        claimed = await claim_any(store, ME, ttl=TTL, limit=9, **values)
        assert [] == claimed.records
        assert claimed.next_claim_at is None or claimed.next_claim_at > NEVER // 2
    await change_one(store, "never", lambda old, now: (request_run(old, now), ()) if old else None)
    (extra,) = (await claim_any(store, ME, ttl=TTL, limit=9, ahead=S)).records
    assert [None] == await store.finish(ME, [FinishRequest("never", extra.fence, extra.tick, "{}", None)])
    await held(store, "never")
    after = (await change_one(store, "never", lambda old, now: (unhold(old, now, f"{YOU}#1"), ()) if old else None)).new
    assert after is not None
    assert (NEVER, NEVER, None) == (after.next_tick, after.next_due, after.held_back_by)


@real
async def test_the_last_tick_is_followed_by_one_that_never_comes(store: Store) -> None:
    await add(store, "task")
    (claim,) = (await claim_any(store, ME, ttl=TTL, limit=1)).records

    assert [None] == await store.finish(ME, [FinishRequest("task", claim.fence, T0, "{}", NextTick(NEVER, NEVER))])

    after = await only(store)
    assert after is not None
    assert (NEVER, NEVER, T0) == (after.next_tick, after.next_due, after.last_done)
    assert [] == await taken(store)


@real
@pytest.mark.parametrize("ahead", [0, 1, LEAD - 1, LEAD, LEAD + 1, S])
async def test_what_lies_ahead_is_waited_for_until_a_little_before_it_is_due(store: Store, ahead: int) -> None:
    await add(store, "task", next_tick=T0 - S, next_due=T0 + 2 * S)

    assert T0 + 2 * S - min(ahead, LEAD) == (await claim_any(store, ME, ttl=TTL, limit=9, ahead=ahead)).next_claim_at


@real
async def test_what_may_be_claimed_and_was_left_is_not_waited_for(store: Store) -> None:
    await add(store, "first", next_tick=T0 - S)
    await add(store, "left", next_tick=T0 - 2 * S, next_due=T0)
    await add(store, "ahead", next_tick=T0 + S)

    assert (await claim_any(store, ME, ttl=TTL, limit=1, ahead=S)).next_claim_at is None
    assert T0 + S - 5 == (await claim_any(store, ME, ttl=TTL, limit=0, ahead=5)).next_claim_at


@real
async def test_an_extra_run_is_claimed_whatever_the_grid_says(store: Store) -> None:
    await add(store, "task", next_tick=T0 + 9 * S)
    await change_one(store, "task", lambda old, now: (request_run(old, now), ()) if old else None)
    await add(store, "earlier", next_tick=T0 - S)

    assert [] == await taken(store, skip={"task", "earlier"})
    first, second = (await claim_any(store, ME, ttl=TTL, limit=2)).records

    assert ("earlier", False) == (first.name, first.manual)
    assert ("task", True, 1, 0) == (second.name, second.manual, second.delivery, second.claims)


@real
async def test_held_and_claimed_extra_runs_are_not_claimed(store: Store) -> None:
    await add(store, "held", "claimed", next_tick=T0 + S, manual_at=T0)
    await held(store, "held")
    assert ["claimed"] == await taken(store, YOU)

    assert [] == await taken(store)


@real
@pytest.mark.parametrize("why", ["later", "later than ahead", "held", "claimed", "skipped"])
async def test_a_claim_that_finds_nothing_is_no_change_that_wakes_anybody(store: Store, why: str) -> None:
    """An idle instance claims all the time. That must wake neither others nor itself."""
    await add(store, "task", next_tick=T0 + 2 * S, manual_at=None if "later" in why else T0)
    if why == "held":
        await held(store, "task")
    if why == "claimed":
        assert ["task"] == await taken(store, YOU)
    ahead, skip = (S if why == "later than ahead" else 0), ({"task"} if why == "skipped" else set())

    async def takes_s() -> float:
        began = time.monotonic()
        waiting = asyncio.ensure_future(store.wait_for_change(0.2))
        await asyncio.sleep(0)
        assert [] == await taken(store, ahead=ahead, skip=skip)
        await waiting
        return time.monotonic() - began

    tries = 3  # Notifications of earlier changes may be late.
    while await takes_s() < 0.19:
        assert (tries := tries - 1)


@real
async def test_what_somebody_has_to_look_at_comes_with_a_claim(store: Store, clock: Clock) -> None:
    names = ["free", "lease", "mine", "hold", "pause", "endless"]
    await add(store, *names, next_tick=T0 + 99 * S)
    await change_one(store, "lease", lambda old, now: (replace(old, rev=T0 + 1, owner=YOU, lease_until=T0 + S), ()))
    await change_one(store, "mine", lambda old, now: (replace(old, rev=T0 + 1, owner=ME, lease_until=T0 + 2 * S), ()))
    await held(store, "hold", until=T0 + S)
    pause = StoredHold("you", None, T0 + S, leased=False)
    await change_one(store, "pause", lambda old, now: (hold(old, now, "p#1", pause), ()) if old else None)
    await held(store, "endless", until=None)

    clock.now = T0 + S
    assert [] == (await claim_any(store, ME, ttl=TTL, limit=1)).expired
    clock.now = T0 + S + 1
    stale = (await claim_any(store, ME, ttl=TTL, limit=1)).expired
    assert ["hold", "lease", "pause"] == [each.name for each in stale]
    await change_one(store, "lease", lambda old, now: (challenge(old, now, S), ()) if old else None)
    assert ["hold", "pause"] == [each.name for each in (await claim_any(store, ME, ttl=TTL, limit=1)).expired]
    clock.now += S + 1
    stale = (await claim_any(store, ME, ttl=TTL, limit=1)).expired
    assert ["hold", "lease", "mine", "pause"] == [each.name for each in stale]


# --- the share ---


def named(n: int, rank: int) -> str:
    """Return a name whose partition is *rank* of *n*."""
    return next(name for name in map(str, range(999)) if crc32(name.encode()) % n == rank)


@real
async def test_what_lies_ahead_is_left_to_those_whose_own_it_is(store: Store) -> None:
    own, other = named(3, 1), named(3, 2)
    await add(store, own, other, next_tick=T0 + S)

    assert [own] == await taken(store, ahead=S, partition=Partition(3, 1, 5 * S))
    assert [other] == await taken(store, ahead=S, partition=Partition(3, 2, 5 * S))


@real
async def test_what_is_due_is_anybodys_after_a_while(store: Store, clock: Clock) -> None:
    share = Partition(3, 1, 5 * S)
    own, other = named(3, 1), named(3, 2)
    await add(store, own, other)

    claimed = await claim_any(store, ME, ttl=TTL, limit=9, ahead=S, partition=share)
    assert [own] == [each.name for each in claimed.records]
    assert T0 + 5 * S == claimed.next_claim_at
    assert claimed.next_claim_at == (await claim_any(store, ME, ttl=TTL, limit=9, partition=share)).next_claim_at
    clock.now = T0 + 5 * S - 1
    assert [] == await taken(store, partition=share)
    clock.now += 1
    claimed = await claim_any(store, ME, ttl=TTL, limit=9, partition=share)
    assert [other] == [each.name for each in claimed.records]
    assert claimed.next_claim_at is None


@real
async def test_patience_is_for_others_and_the_way_ahead_for_its_own(store: Store) -> None:
    values = {"ttl": TTL, "limit": 0, "ahead": S, "partition": Partition(2, 0, 5 * S)}
    await add(store, named(2, 0))
    assert (await claim_any(store, ME, **values)).next_claim_at is None
    await add(store, named(2, 1), next_tick=T0 + 2 * S)
    assert T0 + 7 * S == (await claim_any(store, ME, **values)).next_claim_at


@real
async def test_an_extra_run_is_anybodys_at_once_and_the_tick_after_it_is_not(store: Store) -> None:
    own, other = named(2, 0), named(2, 1)
    await add(store, other, next_tick=T0 + S // 2, manual_at=T0)
    await add(store, own, next_tick=T0 + 7 * S)

    claimed = await claim_any(store, ME, ttl=TTL, limit=9, ahead=S, partition=Partition(2, 0, 5 * S))

    assert [(other, True)] == [(each.name, each.manual) for each in claimed.records]
    assert T0 == claimed.records[0].claimed_at
    assert T0 + 7 * S - LEAD == claimed.next_claim_at


@real
async def test_others_that_are_not_due_do_not_count_for_the_limit(store: Store) -> None:
    await add(
        store,
        *(name for name in map(str, range(50)) if crc32(name.encode()) % 2),
        next_tick=T0 - 9 * S,
        next_due=T0 - 1,
    )
    await add(store, own := named(2, 0))

    assert [own] == await taken(store, limit=1, partition=Partition(2, 0, 5 * S))


@real
async def test_of_others_only_what_may_be_claimed_is_waited_for(store: Store) -> None:
    others = [name for name in map(str, range(99)) if crc32(name.encode()) % 2]
    claimed, hold, skipped, left, free, later = others[:6]
    values = {"ahead": S, "skip": {skipped}, "partition": Partition(2, 0, 5 * S)}
    await add(store, claimed, hold, skipped, next_tick=T0 - S)
    await held(store, hold)
    assert [claimed] == await taken(store, YOU, skip={skipped})
    assert (await claim_any(store, ME, ttl=TTL, limit=9, **values)).next_claim_at is None

    await add(store, left, next_tick=T0 - 9 * S, next_due=T0 - 5 * S)
    assert (await claim_any(store, ME, ttl=TTL, limit=0, **values)).next_claim_at is None
    await add(store, free, next_tick=T0 - 9 * S, next_due=T0 - S + 7)
    await add(store, later, next_tick=T0 - 10 * S, next_due=T0 + S)
    assert T0 + 4 * S + 7 == (await claim_any(store, ME, ttl=TTL, limit=0, **values)).next_claim_at
    await add(store, named(2, 0), next_tick=T0 + 3 * S)
    assert T0 + 3 * S - LEAD == (await claim_any(store, ME, ttl=TTL, limit=0, **values)).next_claim_at


# --- holds ---


@real
async def test_a_tick_that_a_hold_has_kept_back_says_so_until_it_is_over(store: Store, clock: Clock) -> None:
    await add(store, "task", next_tick=T0 + S)
    await held(store)
    clock.now += 2 * S
    assert [] == await taken(store)
    await change_one(store, "task", lambda old, now: (unhold(old, now, f"{YOU}#1"), ()) if old else None)

    (claim,) = (await claim_any(store, ME, ttl=TTL, limit=1)).records
    assert claim.held_back_by == f"you on {YOU} (why)"
    coming = NextTick(T0 + 3 * S, T0 + 3 * S)
    assert [None] == await store.finish(ME, [FinishRequest("task", claim.fence, claim.tick, "{}", coming)])
    after = await only(store)
    assert after is not None
    assert after.held_back_by is None


# --- renewals ---


@real
async def test_a_renewal_tells_what_is_still_mine(store: Store, clock: Clock) -> None:
    await add(store, "lost", "orphan", "quiet", "wanted", "held")
    for name in ("wanted", "quiet", "orphan"):
        await taken(store, skip={"lost", "held", "wanted", "quiet", "orphan"} - {name})
    assert ["lost"] == await taken(store, YOU, skip={"held"})
    fences = {each.name: each.fence for each in (await store.scan()).records}
    await held(store, "wanted")
    await held(store, "held", f"{ME}#1")
    await held(store, "lost", f"{ME}#2")
    clock.now += 3 * S

    renewed = await store.renew(
        ME,
        {"wanted": fences["wanted"], "quiet": fences["quiet"], "lost": fences["lost"], "unknown": 1},
        {"held": [f"{ME}#1", f"{ME}#9"], "lost": [f"{ME}#2"], "absent": ["x#1"]},
        TTL,
    )

    assert (
        Renewed(
            clock.now,
            {"wanted", "quiet"},
            {("held", f"{ME}#1"), ("lost", f"{ME}#2")},
            [(name, fences[name]) for name in ("orphan", "quiet", "wanted")],
            {"wanted"},
            {("held", f"{ME}#1"), ("lost", f"{ME}#2")},
        )
        == renewed
    )
    after = {each.name: each for each in (await store.scan()).records}
    assert clock.now + TTL == after["quiet"].lease_until == after["wanted"].lease_until
    assert T0 + TTL == after["orphan"].lease_until == after["lost"].lease_until
    assert clock.now + TTL == after["held"].holds[f"{ME}#1"].until
    assert T0 + TTL == after["wanted"].holds[f"{YOU}#1"].until
    assert fences == {name: each.fence for name, each in after.items()}


@real
async def test_to_renew_a_hold_does_not_prolong_a_claim_that_came_meanwhile(store: Store, clock: Clock) -> None:
    await add(store, "task")
    (claimed,) = (await claim_any(store, ME, ttl=TTL, limit=1)).records
    await held(store, key=f"{ME}#1")
    clock.now += S

    renewed = await store.renew(ME, {"task": claimed.fence - 1}, {"task": [f"{ME}#1"]}, TTL)

    assert (set(), {("task", f"{ME}#1")}, set()) == (renewed.runs, renewed.holds, renewed.held_claims)
    found = await only(store)
    assert found is not None
    assert claimed.lease_until == found.lease_until


@real
async def test_a_request_to_end_a_run_reaches_its_owner_and_no_later_run(store: Store, clock: Clock) -> None:
    await add(store, "task")
    asked = simply(lambda old, now: ask_for_end(old, now, "you", "why", TTL))
    assert not (await change_one(store, "task", asked)).done
    (claimed,) = (await claim_any(store, ME, ttl=TTL, limit=1)).records
    clock.now += S
    assert (await change_one(store, "task", asked)).done

    renewed = await store.renew(ME, {"task": claimed.fence}, {}, TTL)
    assert ({"task"}, {"task"}, set()) == (renewed.runs, renewed.unwanted, renewed.held_claims)
    coming = NextTick(T0 + 2 * S, T0 + 2 * S)
    assert [None] == await store.finish(ME, [FinishRequest("task", claimed.fence, claimed.tick, "{}", coming)])
    after = await only(store)
    assert after is not None
    assert ({}, None) == (after.holds, after.held_back_by)

    clock.now += 2 * S
    (again,) = (await claim_any(store, ME, ttl=TTL, limit=1)).records
    await held(store, key=end_key(claimed.fence))  # As if an older instance had left it.
    renewed = await store.renew(ME, {"task": again.fence}, {}, TTL)
    assert (set(), set()) == (renewed.unwanted, renewed.held_claims)


@real
async def test_a_request_to_end_a_run_lapses(store: Store, clock: Clock) -> None:
    await add(store, "task")
    await taken(store)
    asked = await change_one(store, "task", simply(lambda old, now: ask_for_end(old, now, "you", None, 2 * S)))
    clock.now += 3 * S
    (stale,) = (await claim_any(store, YOU, ttl=TTL, limit=1)).expired
    (key,) = stale.holds
    gone = await change_one(store, "task", simply(lambda old, now: expire_hold(old, now, key)))

    assert asked.new is not None
    assert asked.new.holds.keys() == {key}
    assert gone.new is not None
    assert ({}, None, ME) == (gone.new.holds, gone.new.held_back_by, gone.new.owner)


@real
async def test_a_renewal_with_another_fence_is_none(store: Store, clock: Clock) -> None:
    await add(store, "task")
    await taken(store)
    before = await only(store)
    assert before is not None
    clock.now += S

    renewed = await store.renew(ME, {"task": before.fence - 1}, {}, TTL)

    assert (set(), [("task", before.fence)]) == (renewed.runs, renewed.own_claims)
    assert before == await only(store)


@real
async def test_a_renewal_answers_a_challenge(store: Store, clock: Clock) -> None:
    await add(store, "task")
    await taken(store)
    clock.now += TTL + 1
    challenged = (await change_one(store, "task", lambda old, now: (challenge(old, now, S), ()) if old else None)).new
    assert challenged is not None
    assert challenged.challenged

    await store.renew(ME, {"task": challenged.fence}, {}, TTL)

    after = await only(store)
    assert after is not None
    assert (False, clock.now + TTL) == (after.challenged, after.lease_until)


@real
async def test_a_renewal_of_nothing_still_shows_orphans(store: Store) -> None:
    await add(store, "task")
    await taken(store)

    assert [("task", T0)] == (await store.renew(ME, {}, {}, TTL)).own_claims
    assert [] == (await store.renew(YOU, {}, {}, TTL)).own_claims


@real
async def test_a_renewal_shows_every_hold_of_the_instance_also_one_that_it_does_not_ask_for(
    store: Store, another: Make
) -> None:
    other = another()
    await other.open()
    await add(store, "a", "b", "c", "d")
    await held(store, "a", f"{ME}#1")
    await held(store, "a", f"{YOU}#1")
    await held(store, "b", f"{ME}#2#3", until=None)
    await held(store, "b", f"{ME}#4")
    for key in (f"{ME}0#1", f"0{ME}#1", f"x#{ME}#1"):
        await held(store, "c", key)

    mine = {("a", f"{ME}#1"), ("b", f"{ME}#2#3"), ("b", f"{ME}#4")}
    assert mine == (await store.renew(ME, {}, {}, TTL)).own_holds
    renewed = await other.renew(ME, {}, {"a": [f"{ME}#1"], "c": ["x#1"]}, TTL)
    assert (mine, {("a", f"{ME}#1")}) == (renewed.own_holds, renewed.holds)
    assert {("a", f"{YOU}#1")} == (await store.renew(YOU, {}, {}, TTL)).own_holds
    await change_one(store, "a", lambda old, now: (unhold(old, now, f"{ME}#1"), ()) if old else None)
    assert mine - {("a", f"{ME}#1")} == (await store.renew(ME, {}, {}, TTL)).own_holds


# --- endings ---


@real
async def test_a_finish_frees_the_task_sets_its_next_tick_and_keeps_its_rows(store: Store) -> None:
    await add(store, "task")
    (claim,) = (await claim_any(store, ME, ttl=TTL, limit=1)).records
    rows = row(fence=claim.fence), row(first_tick=T0 + 1, delivery=0, count=9, outcome="SKIPPED")

    ending = FinishRequest("task", claim.fence, T0, claim.schedule, NextTick(T0 + 10, T0 + 13), rows)
    assert [None] == await store.finish(ME, [ending])

    after = await only(store)
    assert after is not None
    assert (None, T0 + 10, T0 + 13, T0, 0) == (
        after.owner,
        after.next_tick,
        after.next_due,
        after.last_done,
        after.claims,
    )
    assert claim.fence == after.fence
    assert list(rows) == await store.history("task", 9)


@real
async def test_a_finish_of_an_extra_run_leaves_the_grid_alone(store: Store) -> None:
    await add(store, "task", next_tick=T0 + 9 * S, manual_at=T0 - 5)
    (claim,) = (await claim_any(store, ME, ttl=TTL, limit=1)).records

    assert [None] == await store.finish(
        ME, [FinishRequest("task", claim.fence, claim.tick, "any", None, (row(manual=True),))]
    )

    after = await only(store)
    assert after is not None
    assert (None, None, 0, T0 + 9 * S) == (after.owner, after.manual_at, after.manual_claims, after.next_tick)
    assert [row(manual=True)] == await store.history("task", 9)


@real
async def test_a_finish_keeps_whether_the_next_tick_is_unknown_and_one_of_an_extra_run_leaves_it(store: Store) -> None:
    await add(store, "task")
    for unknown in (True, False, True):
        (claim,) = (await claim_any(store, ME, ttl=TTL, limit=1, ahead=S)).records
        coming = NextTick(claim.next_tick + 1, claim.next_tick + 1, unknown)
        assert [None] == await store.finish(ME, [FinishRequest("task", claim.fence, claim.tick, "{}", coming)])
        after = await only(store)
        assert after is not None
        assert unknown == after.next_unknown
    assert await store.swap(after, replace(after, rev=after.rev + 1, manual_at=T0, next_due=T0 + 9 * S))
    (extra,) = (await claim_any(store, ME, ttl=TTL, limit=1)).records
    assert [None] == await store.finish(ME, [FinishRequest("task", extra.fence, extra.tick, "{}", None)])
    after = await only(store)
    assert after is not None
    assert after.next_unknown


@real
@pytest.mark.parametrize(
    ("me", "later", "spec", "refusal"),
    [
        (YOU, 0, "{}", Refusal.LOST),
        (ME, 1, "{}", Refusal.LOST),
        (ME, -1, "{}", Refusal.LOST),
        (ME, 0, "", Refusal.CHANGED),
    ],
)
async def test_a_finish_is_refused_for_any_other_claim_or_rule(
    store: Store, me: str, later: int, spec: str, refusal: Refusal
) -> None:
    await add(store, "task")
    (claim,) = (await claim_any(store, ME, ttl=TTL, limit=1)).records

    ending = FinishRequest("task", claim.fence + later, T0, spec, NextTick(T0 + 10, T0 + 10), (row(),))
    assert [refusal] == await store.finish(me, [ending])

    assert claim == await only(store)
    assert [] == await store.history("task", 9)


@real
async def test_finishes_are_answered_in_their_order_and_a_second_one_is_refused(store: Store) -> None:
    await add(store, "a", "b", "c")
    fences = {each.name: each.fence for each in (await claim_any(store, ME, ttl=TTL, limit=9)).records}
    coming = NextTick(T0 + 10, T0 + 10)
    ends = {name: FinishRequest(name, fence, T0, "{}", coming, (row(name),)) for name, fence in fences.items()}
    wrong = replace(ends["b"], schedule="other")

    answers = await store.finish(
        ME, [wrong, ends["c"], FinishRequest("unknown", 1, T0, "{}", coming), ends["a"], ends["c"]]
    )

    assert [Refusal.CHANGED, None, Refusal.LOST, None, Refusal.DONE] == answers
    assert [] == await store.finish(ME, [])
    assert [Refusal.DONE, None] == await store.finish(ME, [ends["a"], ends["b"]])
    for name in ends:
        assert [row(name)] == await store.history(name, 9)


@real
async def test_a_finish_that_comes_twice_changes_nothing_and_one_that_comes_too_late_is_lost(
    store: Store, clock: Clock
) -> None:
    await add(store, "done", "again", "back")
    await add(store, "extra", "unmade", next_tick=T0 + 99 * S, manual_at=T0)
    claims = {each.name: each for each in (await claim_any(store, ME, ttl=TTL, limit=9)).records}
    ends = {
        name: FinishRequest(
            name, each.fence, each.tick, "{}", None if each.manual else NextTick(T0 + S, T0 + S), (row(name),)
        )
        for name, each in claims.items()
    }
    assert [None, None] == await store.finish(ME, [ends["done"], ends["extra"]])
    assert [None] == await store.finish(ME, [ends["again"]])
    for name in ("back", "unmade"):
        returned = simply(partial(return_unstarted, me=ME, fence=claims[name].fence))
        assert (await change_one(store, name, returned)).done
    clock.now += S
    assert ["again", "back", "done", "unmade"] == sorted(await taken(store))
    await change_one(store, "done", lambda old, now: (release(old, now, ME, old.fence), ()) if old else None)
    before = await store.scan()

    names = ["again", "back", "done", "extra", "unmade"]
    lost, done = Refusal.LOST, Refusal.DONE
    assert [lost, lost, lost, done, lost] == await store.finish(
        ME, [replace(ends[name], rows=(row(name, delivery=7),)) for name in names]
    )

    assert before == await store.scan()
    assert [[row("done")], [row("extra")], []] == [await store.history(name, 9) for name in ("done", "extra", "back")]


# --- rows ---


@real
async def test_a_row_whose_key_exists_is_left_as_it_is(store: Store) -> None:
    first = record()
    await store.swap(None, first, [row(outcome="LOST")])
    second = replace(first, rev=first.rev + 1)
    rows = [row(), row(delivery=2), row(manual=True), row(first_tick=T0 + 1), row("other")]

    assert await store.swap(first, second, rows)

    assert [row(outcome="LOST"), *rows[1:4]] == await store.history("task", 9)
    assert [row("other")] == await store.history("other", 9)


@real
async def test_the_history_is_the_last_rows_newest_last(store: Store) -> None:
    rows = [row(first_tick=T0 - number) for number in range(5)]
    await store.swap(None, record(), rows)

    assert rows[-3:] == await store.history("task", 3)
    assert rows == await store.history("task", 99)
    assert [] == await store.history("task", 0)
    assert [] == await store.history("unknown", 3)


@real
async def test_rows_of_all_tasks_or_one_come_by_tick_newest_first(store: Store) -> None:
    early, late = row("b", T0 + 1, finished_at=T0 + 9), row("a", T0 + 2, finished_at=T0 + 5)
    again, extra = row("a", T0 + 2, 2), row("a", T0 + 2, manual=True)
    await store.swap(None, record("a"), [late, extra, again])
    await store.swap(None, record("b"), [early])

    assert LedgerPage([extra, again, late, early], T0 + 1, T0 + 2) == await store.runs(LedgerQuery(9))
    assert LedgerPage([extra, again], T0 + 2, T0 + 2) == await store.runs(LedgerQuery(2, "a"))
    assert LedgerPage([early], T0 + 1, T0 + 1) == await store.runs(LedgerQuery(9, "b"))
    assert LedgerPage([], None, None) == await store.runs(LedgerQuery(9, "unknown"))


@real
async def test_rows_are_found_by_outcome_and_reason_and_time(store: Store) -> None:
    overlap, missed, failed = Ending("SKIPPED", "overlap"), Ending("SKIPPED", "missed"), Ending("FAILED", None)
    rows = [
        row(first=T0 + tick, outcome=ending.outcome, reason=ending.reason)
        for tick, ending in enumerate([failed, overlap, missed, failed, Ending("SUCCEEDED", "shutdown")])
    ]
    await store.swap(None, record(), rows)

    async def found(*endings: Ending, **terms: Any) -> list[list[int]]:
        wanted = frozenset(endings) or None
        pages = [await store.runs(LedgerQuery(9, name, wanted, **terms)) for name in (None, "task")]
        assert {(T0, T0 + 4)} == {(page.oldest, page.newest) for page in pages}
        one, other = ([each.first_tick - T0 for each in page.rows] for page in pages)
        assert one == other
        return one

    assert [3, 0] == await found(failed)
    assert [2, 1] == await found(overlap, missed)
    assert [3, 2] == await found(since=T0 + 2, below=Place(T0 + 4))
    assert [] == await found(overlap, since=T0 + 2)


@real
async def test_a_page_goes_on_where_the_one_before_ended_while_rows_come_in(store: Store) -> None:
    await store.swap(None, record("a"), [row("a", T0 + number) for number in range(5)])
    await store.swap(None, record("b"), [row("b", T0 + number) for number in range(5)])
    rows: list[LedgerRow] = []
    below = Place(T0 + 9)
    while found := (await store.runs(LedgerQuery(3, below=below))).rows:
        rows += found
        below = found[-1].place
        news = [row("a", T0 + 100 + len(rows))]
        await change_one(store, "a", lambda old, now, news=news: (replace(old, rev=old.rev + 1), news))

    assert [(T0 + number, name) for number in (4, 3, 2, 1, 0) for name in "ba"] == [each.place[:2] for each in rows]


@real
async def test_applications_see_only_their_own_rows(another: Make, store: Store) -> None:
    theirs = another("elsewhere")
    await theirs.open()
    await store.swap(None, record(), [row()])
    await theirs.swap(None, record(), [row(first=T0 - 5), row(first=T0 + 5)])

    assert LedgerPage([row()], T0, T0) == await store.runs(LedgerQuery(9)) == await store.runs(LedgerQuery(9, "task"))


QUERIES = st.builds(
    LedgerQuery,
    st.integers(1, 9),
    st.none() | st.sampled_from("abz"),
    st.none() | st.frozensets(st.sampled_from(ENDINGS[:12]), min_size=1),
    st.integers(0, 9),
    st.builds(Place, st.integers(0, 12), st.sampled_from(["", "a", "b"]), st.booleans(), st.integers(0, 3),
              st.integers(0, 1)),
)  # fmt: skip
ROWS = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.integers(0, 9), st.booleans(), st.integers(1, 3), st.sampled_from(ENDINGS[:12])
    ),
    max_size=20,
    unique_by=lambda each: each[:4],
)


def test_every_engine_answers_every_query_alike(kind: str, tmp_path: Path) -> None:
    store = store_factories(Clock(), tmp_path)[kind]()()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(store.open())

    async def same(rows: list[tuple[str, int, bool, int, Ending]], queries: list[LedgerQuery]) -> None:
        kept = [
            row(name, tick, delivery, manual=manual, outcome=ending.outcome, reason=ending.reason)
            for name, tick, manual, delivery, ending in rows
        ]
        assert await store.swap(None, record(), kept)
        for query in queries:
            of_task = [each for each in kept if query.name in (None, each.name)]
            wanted = [each for each in of_task if query.wants(each.place, each.ending)]
            newest_first = sorted(wanted, key=lambda each: each.place, reverse=True)
            ticks = [each.first_tick for each in of_task]
            expected = LedgerPage(newest_first[: query.limit], min(ticks, default=None), max(ticks, default=None))
            assert expected == await store.runs(query)
        assert await store.swap(record(), None)
        for name in "ab":
            await store.delete_history(name)

    @settings(max_examples=100)
    @given(ROWS, st.lists(QUERIES, min_size=1, max_size=5))
    def holds(rows: list[tuple[str, int, bool, int, Ending]], queries: list[LedgerQuery]) -> None:
        loop.run_until_complete(same(rows, queries))

    try:
        holds()
    finally:
        loop.run_until_complete(store.close())
        loop.close()


@real
async def test_a_store_tells_from_when_to_when_instances_were_heard_of(
    another: Make, store: Store, clock: Clock
) -> None:
    theirs = another("elsewhere")
    await theirs.open()
    await theirs.heartbeat("them", "{}", TTL)
    await store.heartbeat(ME, "{}", TTL)
    clock.now += S
    await store.heartbeat(YOU, "{}", TTL)
    clock.now += S
    await store.heartbeat(ME, "{}", TTL)
    await store.deregister(ME)

    assert [Life(YOU, T0 + S, T0 + S), Life(ME, T0, T0 + 2 * S)] == await store.lives()
    clock.now += TTL
    await store.prune(keep=9, age=TTL)
    assert [Life(ME, T0, T0 + 2 * S)] == await store.lives()


@real
async def test_a_store_keeps_what_has_happened_to_an_instance_as_long_as_its_life(
    another: Make, store: Store, clock: Clock
) -> None:
    theirs = another("elsewhere")
    await theirs.open()
    await theirs.heartbeat(ME, "{}", TTL)
    await store.heartbeat(ME, "{}", TTL)
    await store.heartbeat(YOU, "{}", TTL)
    assert await store.note(ME, '{"it": "blocked"}')
    assert await store.note(ME, '{"it": "slept \\u0000 \U0001f600"}')
    await store.heartbeat(ME, "{}", TTL)
    await store.deregister(ME)

    assert {ME: '{"it": "slept \\u0000 \U0001f600"}', YOU: ""} == {each.id: each.note for each in await store.lives()}
    clock.now += 2 * TTL
    await store.prune(keep=9, age=TTL)
    await store.heartbeat(ME, "{}", TTL)
    assert [""] == [each.note for each in await store.lives()]
    if not isinstance(store, MemoryStore):  # It belongs to one application as a whole.
        assert [""] == [each.note for each in await theirs.lives()]


@real
async def test_lives_around_a_span_are_those_in_it_and_next_to_it(store: Store, clock: Clock) -> None:
    for number in range(6):  # Each lives for two seconds, the next one begins a second later.
        clock.now = T0 + 3 * number * S
        await store.heartbeat(f"{number}" * 32, "{}", TTL)
        await store.note(f"{number}" * 32, f"[{number}]")
        clock.now += 2 * S
        await store.heartbeat(f"{number}" * 32, "{}", TTL)
    lives = await store.lives()
    for since in range(-2, 20):
        for until in range(since, 20):
            span = T0 + since * S, T0 + until * S
            assert lives_around(lives, *span) == await store.lives_near(*span), (since, until)

    found = [each.note for each in await store.lives_near(T0 + 7 * S, T0 + 9 * S)]
    assert ["[1]", "[2]", "[3]", "[4]"] == found
    assert ["[5]"] == [each.note for each in await store.lives_near(T0 + 99 * S, T0 + 99 * S)]


# --- retention ---


async def told(store: Store, *names: str) -> list[list[int]]:
    """Return the ticks whose rows are kept."""
    return [[each.first_tick for each in await store.history(name, 999)] for name in names]


@real
@pytest.mark.parametrize("kind", ["memory", "sqlite"])  # A server prunes only now and then.
async def test_only_the_last_rows_of_a_task_are_kept(kind: str, tmp_path: Path) -> None:
    store = MemoryStore(history=3) if kind == "memory" else SqliteStore(tmp_path / "store.db", history=3)
    await store.open()
    await store.swap(None, record("before"), [row("before")])
    await store.swap(None, record(), [row(first_tick=number) for number in range(9)])
    await store.swap(None, record("other"), [row("other")])
    await store.swap(record(), replace(record(), rev=T0), [row(first_tick=9)])

    assert [7, 8, 9] == [each.first_tick for each in await store.history("task", 99)]
    for name in ("before", "other"):
        assert [row(name)] == await store.history(name, 99)
    await store.close()


@real
async def test_of_each_task_the_newest_rows_stay(store: Store) -> None:
    await store.swap(None, record("many"), [row("many", first_tick=number) for number in range(9)])
    await store.swap(None, record("few"), [row("few", first_tick=number) for number in range(3)])

    assert 5 == await store.prune(keep=4, age=S)
    assert [[5, 6, 7, 8], [0, 1, 2]] == await told(store, "many", "few")
    assert 0 == await store.prune(keep=4, age=S)
    assert 5 == await store.prune(keep=1, age=S)
    assert [[8], [2]] == await told(store, "many", "few")


@real
async def test_old_rows_go_but_for_the_newest_of_each_task(store: Store, clock: Clock) -> None:
    rows = [row("some", first_tick=number, finished_at=T0 + number * S) for number in range(6)]
    await store.swap(None, record("some"), rows)
    await store.swap(None, record("old"), [row("old", first_tick=number) for number in range(3)])
    await store.swap(
        None, record("turned"), [row("turned", first_tick=1, finished_at=T0 + 9 * S), row("turned", first_tick=2)]
    )

    clock.now = T0 + 9 * S
    assert 5 == await store.prune(keep=99, age=6 * S)
    assert [[3, 4, 5], [2], [1, 2]] == await told(store, "some", "old", "turned")
    assert 0 == await store.prune(keep=99, age=6 * S)


@real
async def test_rows_of_a_task_that_is_gone_and_of_nothing_are_tidied_too(store: Store) -> None:
    assert 0 == await store.prune(keep=1, age=0)
    gone = record("gone")
    await store.swap(None, gone, [row("gone", first_tick=number) for number in range(3)])
    await store.swap(gone, None)

    assert 2 == await store.prune(keep=1, age=S)
    assert [[2]] == await told(store, "gone")


@real
async def test_many_rows_are_tidied_while_others_go_on(store: Store, another: Make) -> None:
    other = another()
    await other.open()
    names = [f"task-{number}" for number in range(60)]
    for name in names:
        await store.swap(None, record(name, next_tick=T0 + S), [row(name, first_tick=number) for number in range(100)])

    tidying = asyncio.ensure_future(store.prune(keep=3, age=S))
    for name in names:
        assert (await change_one(other, name, lambda old, now: (replace(old, rev=old.rev + 1), [row(old.name)]))).done
    gone = await tidying + await store.prune(keep=3, age=S)

    left = await told(store, *names)
    assert all(each[-1] == T0 and 3 == len(each) for each in left)
    assert 60 * 101 - 60 * 3 >= gone >= 60 * 97  # An engine may delete old rows itself when it writes new ones.


@real
async def test_an_instance_that_was_not_heard_of_for_long_is_forgotten(store: Store, clock: Clock) -> None:
    await store.heartbeat(YOU, "{}", TTL)
    clock.now += TTL
    await store.heartbeat(ME, "{}", TTL)

    assert 0 == await store.prune(keep=1, age=TTL)
    assert [ME, YOU] == [each.id for each in await store.heartbeat(ME, "{}", 99 * TTL)]
    assert 0 == await store.prune(keep=1, age=TTL - 1)
    assert [ME] == [each.id for each in await store.heartbeat(ME, "{}", 99 * TTL)]


# --- live instances ---


@real
async def test_an_instance_that_leaves_is_not_counted_any_more(store: Store, another: Make) -> None:
    other = another()
    await other.open()
    await other.heartbeat(YOU, "{}", TTL)
    await store.heartbeat(ME, "{}", TTL)
    await store.heartbeat(they := "3" * 32, "{}", TTL)

    await other.deregister(YOU)
    await other.deregister(YOU)

    assert [ME, they] == [each.id for each in await store.heartbeat(ME, "{}", TTL)]


@real
async def test_instances_are_those_heard_of_in_time(store: Store, another: Make, clock: Clock) -> None:
    other = another()
    await other.open()
    assert [Instance(YOU, "{}", T0)] == await other.heartbeat(YOU, "{}", TTL)
    clock.now += TTL
    mine = Instance(ME, '{"host": "h"}', clock.now)
    assert [mine, Instance(YOU, "{}", T0)] == await store.heartbeat(ME, mine.info, TTL)
    clock.now += 1
    assert [replace(mine, seen_at=clock.now, info="")] == await store.heartbeat(ME, "", TTL)


@real
async def test_whoever_asks_for_the_instances_is_none_of_them(store: Store, another: Make, clock: Clock) -> None:
    other = another()
    await other.open()
    assert [] == await store.instances(TTL)
    await other.heartbeat(YOU, '{"host": "h"}', TTL)

    assert [Instance(YOU, '{"host": "h"}', T0)] == await store.instances(TTL)
    clock.now += TTL + 1
    assert [] == await store.instances(TTL)
    assert [YOU] == [each.id for each in await store.lives()]


@real
async def test_an_onlooker_sees_everything_and_takes_nothing(store: Store, another: Make, clock: Clock) -> None:
    if isinstance(store, MemoryStore):
        pytest.skip("nobody else can look into it")
    await add(store, "due", "expired")
    await store.claim(ClaimQuery(YOU, ["expired"], TTL, 1))
    await store.heartbeat(YOU, "{}", TTL)
    clock.now += 9 * TTL
    onlooker = Onlooker(another())
    await onlooker.open()
    before = await store.scan()

    claimed = await onlooker.claim(ClaimQuery(ME, ["due", "expired"], TTL, 9))
    heard = await onlooker.heartbeat(ME, "{}", 99 * TTL)
    await onlooker.deregister(YOU)
    pruned = await onlooker.prune(keep=1, age=1)

    assert ([], [], [], 0) == (claimed.records, claimed.expired, await onlooker.forgettable(1, 9), pruned)
    assert clock.now == claimed.now
    assert [YOU] == [each.id for each in heard] == [each.id for each in await onlooker.lives()]
    assert before.records == (await store.scan()).records == (await onlooker.scan()).records
    assert not await onlooker.dead()
    await onlooker.change_each({"due": simply(request_run)})
    assert clock.now == (await only(store, "due") or record()).manual_at
    await onlooker.close()


@real
async def test_nobody_that_lives_is_dead(store: Store, another: Make) -> None:
    other = another()
    await other.open()
    await store.heartbeat(ME, "{}", TTL)
    await claim_any(other, YOU, ttl=TTL, limit=1)

    for _ in range(2):
        assert frozenset() == await store.dead() == await other.dead()


# --- wake-ups ---


@real
async def test_a_wait_ends_when_somebody_changed_something(store: Store, another: Make) -> None:
    other = another()
    await other.open()
    await add(store, "task")
    await claim_any(store, ME, ttl=TTL, limit=0)
    for change in (partial(change_one, other, "task"), partial(change_one, store, "task")):
        waiting = asyncio.ensure_future(store.wait_for_change(30))
        await asyncio.sleep(0.05)
        begin = time.monotonic()
        await change(
            lambda old, now: (replace(old, rev=old.rev + 1, next_due=old.next_due - 1), ())
        )  # It can be claimed earlier.
        await waiting
        assert time.monotonic() - begin < 2


@real
async def test_a_wait_ends_when_its_time_is_over(store: Store) -> None:
    await claim_any(store, ME, ttl=TTL, limit=1)
    begin = time.monotonic()

    await store.wait_for_change(0.2)

    assert 0.15 < time.monotonic() - begin < 2


@real
async def test_a_wait_can_be_cancelled(store: Store) -> None:
    waiting = asyncio.ensure_future(store.wait_for_change(30))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await add(store, "task")


def test_loops_of_one_thread_wake_each_other_and_a_closed_one_harms_nobody() -> None:
    store = MemoryStore()
    one, two, gone = (asyncio.new_event_loop() for _ in range(3))
    forgotten = gone.create_task(store.wait_for_change(9))
    gone.run_until_complete(asyncio.sleep(0))
    waiting = one.create_task(store.wait_for_change(9))
    one.run_until_complete(asyncio.sleep(0))
    gone.call_soon_threadsafe(lambda: None)
    closed, gone._closed = gone._closed, True

    assert two.run_until_complete(store.swap(None, record()))
    begin = time.monotonic()
    one.run_until_complete(waiting)

    assert time.monotonic() - begin < 2
    gone._closed = closed
    forgotten.cancel()
    for each in (one, two, gone):
        each.run_until_complete(asyncio.sleep(0))
        each.close()


# --- shortcuts ---

# What an engine does in one round trip must have the same result as several steps in any store.

near = st.integers(-30, 30).map(lambda by: T0 + by)
who = st.sampled_from([ME, YOU])
names = st.sampled_from(list("abcdefgh"))
stored_holds = st.dictionaries(
    st.sampled_from([f"{ME}#1", f"{ME}#2", f"{YOU}#1", "#end of 1", "#end of 2"]),
    st.builds(StoredHold, who, st.none(), st.none() | near, st.booleans(), st.booleans(), since=st.none() | near),
    max_size=2,
)


@st.composite
def stored(draw: st.DrawFn) -> TaskRecord:
    holder = draw(st.none() | st.none() | who)
    asked = draw(st.none() | st.none() | near)
    return record(
        draw(names),
        rev=draw(st.integers(T0 - S, T0 - S + 3)),
        next_tick=(next := draw(near)),
        next_due=next + draw(st.sampled_from([0, 0, 7])),
        last_done=draw(near),
        next_unknown=draw(st.booleans()),
        manual_at=asked,
        owner=holder,
        fence=draw(st.integers(1, 2)),
        lease_until=holder and draw(near),
        challenged=holder is not None and draw(st.booleans()),
        manual=holder is not None and asked is not None and draw(st.booleans()),
        holds=draw(st.just({}) | stored_holds),
        held_back_by=draw(st.sampled_from([None, "somebody"])),
    )


def refused(name: str) -> Transition:
    return lambda old, now: None


def deleted(name: str) -> Transition:
    return lambda old, now: None if old is None else (None, [row(name, first_tick=now, finished_at=now)])


def made_or_put(name: str) -> Transition:
    def transition(old: TaskRecord | None, now: int) -> tuple[TaskRecord, Sequence[LedgerRow]] | None:
        new = define(old, now, Definition(name, "new", (1,), NextTick(now + 5, now + 9), NextTick(now + 5, now + 9)))
        return None if new is None else (new, ())

    return transition


def told_of(name: str) -> Transition:
    def transition(old: TaskRecord | None, now: int) -> tuple[TaskRecord, Sequence[LedgerRow]] | None:
        rows = [row(name, first_tick=now + number, finished_at=now - 2 * number) for number in (2, 1, 0)]
        return None if old is None else (replace(old, rev=old.rev + 1), rows)

    return transition


def unheld(name: str) -> Transition:
    return simply(lambda old, now: unhold(old, now, f"{ME}#1"))


def test_shortcuts_come_out_as_the_long_way_does(kind: str, tmp_path: Path) -> None:
    clock = Clock()
    store = store_factories(clock, tmp_path)[kind]()()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(store.open())

    async def same(
        records: list[TaskRecord],
        claim: dict[str, Any],
        runs: dict[str, int],
        holds: dict[str, list[str]],
        endings: list[FinishRequest],
        ahead: int,
        each_by_itself: dict[str, Callable[[str], Transition]],
        keep: int,
        age: int,
    ) -> None:
        clock.now += S  # Later than everything that is left over.
        long_way = MemoryStore(clock)
        for name in "abcdefgh":  # Some rows cannot be deleted.
            before = record(name)
            assert await long_way.swap(None, before, await store.history(name, 99))
            assert await long_way.swap(before, None)
        for each in (await store.scan()).records:
            await store.swap(each, None)
        for each in records:
            by = clock.now - T0
            one = replace(
                each,
                next_tick=each.next_tick + by,
                next_due=each.next_due + by,
                lease_until=each.lease_until and each.lease_until + by,
            )
            assert await store.swap(None, one)
            assert await long_way.swap(None, one)
        query = ClaimQuery(ME, **claim, ahead=ahead)
        assert await long_way.claim(query) == await store.claim(query)
        clock.now += 5  # While the clock stands still, a rev may be ahead of it.
        assert await long_way.renew(ME, runs, holds, TTL) == await store.renew(ME, runs, holds, TTL)
        clock.now += 5
        found = {each.name: each for each in (await store.scan()).records}
        ends = [
            replace(
                each,
                fence=one.fence - each.fence,
                tick=one.tick - each.tick,
                following=None if one.manual else each.following,
                rows=(row(each.name, first_tick=clock.now - 9, finished_at=clock.now - 9),),
            )
            for each in endings
            if (one := found.get(each.name, record()))
        ]
        for _ in range(2):
            assert await long_way.finish(ME, ends) == await store.finish(ME, ends)
        clock.now += 5
        changes = {name: change(name) for name, change in each_by_itself.items()}
        assert await long_way.change_each(changes) == await store.change_each(changes)
        assert await long_way.prune(keep=keep, age=age) == await store.prune(keep=keep, age=age)
        for name in "abcdefgh":
            assert await long_way.history(name, 9) == await store.history(name, 9)
        clock.now += 5
        assert await long_way.delete_history("a") == await store.delete_history("a")
        assert [] == await store.history("a", 9)
        assert await long_way.scan() == await store.scan()
        assert await long_way.scan(only_active=True) == await store.scan(only_active=True)
        assert await long_way.forgettable(age, keep) == await store.forgettable(age, keep)

    @settings(max_examples=150)
    @given(
        records=st.lists(stored(), unique_by=lambda each: each.name, max_size=8),
        claim=st.fixed_dictionaries(
            {
                "ttl": st.just(TTL),
                "limit": st.integers(0, 4),
                "names": st.frozensets(names | st.just("unknown")),
                "not_ahead": st.frozensets(names, max_size=4),
                "partition": st.just(EVERYBODY)
                | st.builds(Partition, st.just(2), st.integers(0, 1), st.integers(0, 20)),
            }
        ),
        runs=st.dictionaries(names, st.integers(1, 2), max_size=4),
        holds=st.dictionaries(names, st.lists(st.sampled_from([f"{ME}#1", f"{ME}#2"]), max_size=2), max_size=3),
        endings=st.lists(
            st.builds(
                FinishRequest,
                names,
                st.sampled_from([0, 0, 1]),
                st.sampled_from([0, 0, 3]),
                st.sampled_from(["{}", "{}", "x"]),
                st.builds(NextTick, near, near),
            ),
            max_size=5,
        ),
        ahead=st.integers(0, 20),
        each_by_itself=st.dictionaries(
            names, st.sampled_from([refused, deleted, made_or_put, told_of, unheld]), max_size=5
        ),
        keep=st.integers(0, 4),
        age=st.integers(0, 10),
    )
    def any_records(**drawn: Any) -> None:
        loop.run_until_complete(same(**drawn))

    try:
        any_records()
    finally:
        loop.run_until_complete(store.close())
        loop.close()


@real
async def test_a_claim_takes_what_is_named_and_says_what_is_missing(another: Make, store: Store) -> None:
    theirs = another("elsewhere")
    await theirs.open()
    await add(theirs, "lost")
    await add(store, "known", "orphan", next_tick=T0 - S)
    await add(store, "asked for", next_tick=T0 + 9 * S, manual_at=T0)
    await add(store, "later", "another orphan", next_tick=T0 + 2 * S)
    await add(store, "claimed", owner=YOU, fence=1, lease_until=T0 + TTL)
    await add(store, "held")
    await held(store, "held")
    names = ["claimed", "held", "known", "later", "lost", "also lost"]

    claimed = await store.claim(ClaimQuery(ME, names, TTL, 9))

    assert ["known"] == [each.name for each in claimed.records]
    assert ["also lost", "lost"] == claimed.missing
    assert T0 + 2 * S == claimed.next_claim_at
    nothing = await store.claim(ClaimQuery(ME, (), TTL, 9))
    assert ([], None, []) == (nothing.records, nothing.next_claim_at, nothing.missing)


@real
async def test_the_history_of_one_task_is_deleted(another: Make, store: Store) -> None:
    theirs = another("elsewhere")
    await theirs.open()
    for each in (store, theirs):
        await each.swap(None, record("task"), [row("task", T0 + number) for number in range(3)])
        await each.swap(None, record("other"), [row("other")])

    assert (3, 0) == (await store.delete_history("task"), await store.delete_history("task"))
    assert [] == await store.history("task", 9)
    assert [row("other")] == await store.history("other", 9)
    assert 3 == len(await theirs.history("task", 9))


@real
async def test_what_nobody_has_known_for_long_may_be_forgotten(another: Make, store: Store) -> None:
    await add(store, "c", "a", "b", known_at=T0 - 9 * S)
    await add(store, "known", known_at=T0 - S)
    await add(store, "claimed", known_at=T0 - 9 * S, owner=YOU, fence=1, lease_until=T0 + TTL)
    await add(store, "held", known_at=T0 - 9 * S)
    await held(store, "held")
    theirs = another("elsewhere")
    await theirs.open()
    await add(theirs, "theirs", known_at=T0 - 9 * S)

    assert ["a", "b", "c"] == await store.forgettable(9 * S - 1, 9)
    assert ["a", "b"] == await store.forgettable(S, 2)
    assert [] == await store.forgettable(9 * S, 9)


# --- strings ---


@real
@pytest.mark.parametrize(
    ("text", "told"), [("a\0b", "a\\x00b"), ("half \ud83d", "half \\ud83d"), ("all 🦖 \x1b", "all 🦖 \x1b")]
)
async def test_what_people_read_is_kept_whatever_is_in_it(store: Store, text: str, told: str) -> None:
    await store.swap(None, record(), [row(error=text)])
    await change_one(store, "task", lambda old, now: (hold(old, now, f"{YOU}#1", StoredHold(text, text, None)), ()))
    await store.heartbeat(ME, text, TTL)

    found = await only(store)
    assert found is not None
    for kept in (
        [each.error for each in await store.history("task", 10)],
        [each.reason for each in found.holds.values()],
        [each.holder for each in found.holds.values()],
        [each.info for each in await store.heartbeat(YOU, "{}", TTL) if each.id == ME],
    ):
        assert kept in ([text], [told])


@real
@pytest.mark.parametrize("text", ["x" * 5_000_000, "\0" * 3_000, "\ud83d" * 3_000], ids=["long", "NUL", "surrogates"])
async def test_long_texts_are_cut_whatever_is_in_them(store: Store, text: str) -> None:
    result = json.dumps("y" * 60_000)
    await add(store, "a", "b", next_tick=T0)
    claims = (await claim_any(store, ME, ttl=TTL, limit=9)).records
    endings = [
        FinishRequest(
            each.name, each.fence, each.tick, each.schedule, NextTick(NEVER, NEVER),
            (row(name=each.name, first_tick=each.tick, error=text if each.name == "a" else None, result=result),),
        )
        for each in claims
    ]  # fmt: skip
    assert [None, None] == await store.finish(ME, endings)
    await change_one(store, "a", lambda old, now: (hold(old, now, f"{YOU}#1", StoredHold(text, text, None)), ()))

    (kept,), (other,) = await store.history("a", 10), await store.history("b", 10)
    found = {each.name: each for each in (await store.scan()).records}["a"]
    (held,) = found.holds.values()
    for told in (kept.error, held.holder, held.reason):
        assert told is not None
        assert len(told) <= 6 * MOST_TEXT  # An escaped character takes up to six.
        assert told.startswith(("xxx", "\0\0", "\\x00", "\\ud83d"))
        assert f"[{len(text) - MOST_TEXT + MARK:,} characters left out]" in told
    assert (kept.result, other.error, other.result) == (result, None, result)


@real
async def test_an_ending_that_the_store_does_not_accept_changes_nothing(store: Store, kind: str) -> None:
    await add(store, "a", "b", "c", next_tick=T0)
    claims = (await claim_any(store, ME, ttl=TTL, limit=9)).records
    endings = [
        FinishRequest(
            each.name, each.fence, each.tick, each.schedule, NextTick(NEVER, NEVER),
            (row(each.name, each.tick, count=2**70 if each.name == "b" else 1),),
        )
        for each in claims
    ]  # fmt: skip
    if kind == "memory":  # It accepts everything.
        assert [None] * 3 == await store.finish(ME, endings)
        return

    with pytest.raises(StoreRefused, match="does not accept a request: ") as refused:
        await store.finish(ME, endings)
    assert isinstance(refused.value, StoreUnavailable)
    assert [each.owner for each in (await store.scan()).records] == [ME] * 3

    assert [None, None] == await store.finish(ME, [endings[0], endings[2]])
    assert [None] == await store.finish(ME, [replace(endings[1], rows=())])
    assert [len(await store.history(name, 9)) for name in "abc"] == [1, 0, 1]


# --- races ---


@pytest.mark.slow
@pytest.mark.pure  # Its threads have loops of their own, which take four times as long in debug mode.
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", [each for each in ENGINES if isinstance(each, str)])
def test_ten_thousand_holds_and_as_many_claims_as_there_is_time_for_never_meet(kind: str, tmp_path: Path) -> None:
    """Checked by revs: no claim has a rev between that of a hold and that of its release."""
    make = store_factories(wall_us, tmp_path)[kind]()
    claims: list[int] = []
    holds: list[tuple[int, int, int]] = []
    over = False

    async def claimer() -> None:
        store = make()
        await store.open()
        while not over:
            for claim in (await claim_any(store, ME, ttl=TTL, limit=1)).records:
                claims.append(claim.fence)
                coming = NextTick(claim.next_tick + 1, claim.next_tick + 1)
                ending = FinishRequest("task", claim.fence, claim.next_tick, "{}", coming)
                while [Refusal.BUSY] == (answer := await store.finish(ME, [ending])):
                    pass
                assert [None] == answer
            # A change reads the record first; it must not have changed when the change is written.
            if kind in ("postgres", "valkey"):
                await asyncio.sleep(0.002)
        if kind != "memory":
            await store.close()

    async def holder(number: int) -> None:
        store = make()
        await store.open()
        for _ in range(5_000):
            first = await held(store, key=f"{number}#1")
            last = (
                await change_one(store, "task", lambda old, now: (unhold(old, now, f"{number}#1"), ()) if old else None)
            ).new
            assert last is not None
            holds.append((first.rev, last.rev, first.fence if first.owner else 0))
        if kind != "memory":
            await store.close()

    async def prepared() -> None:
        store = make()
        await store.open()
        await add(store, "task", next_tick=0, rev=1)
        if kind != "memory":
            await store.close()

    asyncio.run(prepared())
    with ThreadPoolExecutor(3) as threads:
        claiming = threads.submit(asyncio.run, claimer())
        holding = [threads.submit(asyncio.run, holder(number)) for number in range(2)]
        try:
            for each in holding:
                each.result()
        finally:
            over = True
        claiming.result()

    assert len(holds) == 10_000
    assert len(claims) > 20
    held_from = sorted(holds)
    assert [] == [(hold, fence) for fence in claims for hold in _around(held_from, fence)]


def _around(holds: list[tuple[int, int, int]], fence: int) -> list[tuple[int, int, int]]:
    """Return the holds during which the claim was made."""
    return [hold for hold in holds if hold[0] < fence < hold[1]]


# --- one store object for one scheduler ---


@real
async def test_one_object_is_for_one_started_scheduler_unless_it_says_that_it_is_for_many(
    store: Store, kind: str
) -> None:
    """The scheduler that stops first would close it for the other one."""
    one, two = Scheduler(store), Scheduler(store)
    async with one:
        if kind != "memory":
            with pytest.raises(InvalidArgument, match="must not be in use by another started scheduler: give each one"):
                await two.start()
            assert not two.json_repr()["started"]
        else:
            await two.start()
    async with AsyncExitStack() as stack:
        if kind != "memory":
            await stack.enter_async_context(two)
        assert "ok" == two.json_repr()["store"]["state"]  # type: ignore[index]
        assert "tasks" in await two.inspect()
    await two.stop()


def test_whoever_had_it_in_a_loop_that_is_closed_has_it_no_more(another: Make) -> None:
    store = another()

    async def lend(user: str) -> None:
        store.acquire(user)

    for user in ("one", "two"):
        with closing(asyncio.new_event_loop()) as loop:
            loop.run_until_complete(lend(user))


# --- errors ---


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db")

    with pytest.raises(StoreUnavailable, match=r"'sqlite:///.*store.db' is unavailable: it is not open"):
        await store.scan()


def test_an_unavailable_store_is_an_error_of_a_device() -> None:
    error = StoreUnavailable("sqlite:///x", "the disk is full.")

    assert isinstance(error, OSError)
    assert str(error).startswith("store 'sqlite:///x' is unavailable: the disk is full; make it reachable")
    assert ("sqlite:///x", "the disk is full.") == (error.store, error.what)


@pytest.mark.parametrize(
    ("url", "path"), [("sqlite:///a/b.db", "a/b.db"), ("sqlite:////a/b.db", "/a/b.db"), ("sqlite:///b.db", "b.db")]
)
def test_a_url_names_a_file(url: str, path: str) -> None:
    store = store_from_url(url)

    assert isinstance(store, SqliteStore)
    assert url == store.name
    assert Path(path).absolute() == store._path


@pytest.mark.parametrize("url", ["sqlite:///a.db?mode=ro", "sqlite:////tmp/a.db#1", "sqlite:///?", "sqlite:///a\0.db"])
def test_a_url_with_more_than_a_path_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match=r"must name a file .* alone|must not contain a NUL"):
        store_from_url(url)


@pytest.mark.parametrize(
    "url", ["", "x.db", "mongodb://h", "sqlite:x", "sqlite://", "sqlite:///", "sqlite:///:memory:"]
)
def test_other_urls_are_refused_with_what_is_known(url: str) -> None:
    with pytest.raises(InvalidArgument, match="sqlite://"):
        store_from_url(url)
