"""One suite over all stores: what an instance may rely on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import hypothesis.strategies as st
import pytest
from engines import ENGINES, Make, makers
from hypothesis import given, settings

from kaiju_app._clock import wall_us
from kaiju_app.errors import InvalidArgument, StoreUnavailable
from kaiju_app.scheduler import Scheduler
from kaiju_app.stores import MemoryStore, SqliteStore, Store, store_from_url
from kaiju_app.stores._record import Coming, Record, Row, StoredHold
from kaiju_app.stores._store import LEAD, MOST_CONFLICTS, Claimed, Ending, Instance, Renewed, Seen, Share, Transition
from kaiju_app.stores._transitions import Definition, Refusal, ask, challenge, hand_back, hold, put, release, unhold

T0 = 1_800_000_000_000_000
NEVER = 1 << 62  # When a tick is that never comes.
S = 1_000_000
TTL = 10 * S
ME, YOU = "1" * 32, "2" * 32


class Clock:
    """A clock that is set by hand."""

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
    make = makers(clock, tmp_path)[kind]()
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


def record(name: str = "task", **values: Any) -> Record:
    return replace(Record(name, T0 - S, "{}", (1,), T0, values.get("next", T0), T0 - 1, T0), **values)


def row(name: str = "task", first: int = T0, take: int = 1, **values: Any) -> Row:
    return replace(Row(name, first, take, first, 1, "SUCCEEDED", None, T0), **values)


async def only(store: Store, name: str = "task") -> Record | None:
    return next(iter((await store.scan([name])).records), None)


async def add(store: Store, *names: str, next: int = T0, **values: Any) -> None:
    for name in names:
        assert await store.swap(None, record(name, next=next, **values))


async def held(store: Store, name: str = "task", key: str = f"{YOU}#1", until: int | None = T0 + TTL) -> Record:
    changed = await store.change(name, lambda old, now: (hold(old, now, key, StoredHold("you", "why", until)), ()))
    assert changed.new is not None
    return changed.new


async def taken(store: Store, me: str = ME, limit: int = 100, **values: Any) -> list[str]:
    return [each.name for each in (await store.claim(me, ttl=TTL, limit=limit, **values)).records]


def simply(change: Callable[[Record, int], Record | None]) -> Transition:
    """Return the transition that makes a change of a record, without rows, if it is allowed."""

    def transition(old: Record | None, now: int) -> tuple[Record, Sequence[Row]] | None:
        new = None if old is None else change(old, now)
        return None if new is None else (new, ())

    return transition


real = pytest.mark.realtime


# --- applications ---


@real
async def test_applications_share_a_store_and_know_nothing_of_each_other(another: Make, clock: Clock) -> None:
    """Also if all is equal: names, owners and fences."""
    ours, theirs = another(), another("elsewhere")
    for store in ours, theirs:
        await store.open()
        await add(store, "run", "changed", "dropped", "held")
        await add(store, "asked", next=NEVER)
        await store.change("asked", simply(ask))
        await held(store, "held", key=f"{ME}#1")
        await store.beat(ME, "{}", TTL)
        assert {"asked", "dropped", "run"} == set(await taken(store, skip={"changed"}))
    before = await theirs.scan()

    runs = {each.name: each.fence for each in (await ours.scan()).records if each.holder}
    clock.now += S
    assert set(runs) == (await ours.renew(ME, runs, {"held": {f"{ME}#1"}}, TTL)).runs
    endings = [Ending(name, fence, T0, "{}", Coming(NEVER, NEVER)) for name, fence in runs.items()]
    assert not any(await ours.finish(ME, endings))
    changed, dropped = (await ours.scan(["changed", "dropped"])).records
    assert await ours.swap(changed, replace(changed, rev=changed.rev + 1, spec="{1}"))
    assert await ours.swap(dropped, None)
    assert set(await taken(ours, YOU)) == {"changed"}
    await ours.leave(ME)
    await ours.beat(ME, "{}", TTL)
    clock.now += S
    await ours.tidy(keep=1, age=S // 2)

    assert before.records == (await theirs.scan()).records
    assert {ME, YOU} == {each.id for each in await theirs.beat(YOU, "{}", TTL)}
    assert {YOU} == {each.id for each in await ours.beat(YOU, "{}", TTL)}


# --- a clock and a compare-and-set ---

FULL = Record(
    name="näme 'quoted' \"twice\"; --",
    rev=T0 + 7,
    spec='{"every": 1.5}',
    version=(1, 12, 3),
    next=T0 + 2**40,
    due=T0 + 2**41,
    floor=-5,
    seen=T0,
    take=3,
    asked=T0 + 1,
    asked_take=2,
    manual=True,
    holder=ME,
    fence=T0 + 6,
    until=T0 + 8,
    suspect=True,
    started=T0 + 5,
    holds={
        "b#2": StoredHold("somebody", None, None, leased=False),
        "a#1": StoredHold("näme", "wh'y", T0 + 9, suspect=True),
    },
    kept_back="näme (wh'y)",
)


@real
@pytest.mark.parametrize("one", [FULL, record(), record(next=NEVER)])
async def test_a_record_comes_back_as_it_was_kept(store: Store, clock: Clock, one: Record) -> None:
    assert await store.swap(None, one)
    clock.now += S  # On a clock that stands still, a rev may be from the future.
    assert Seen(clock.now, [one]) == await store.scan()

    other = replace(one, rev=one.rev + 1, version=(), holds={}, asked=None, holder=None, until=None, started=None)
    assert await store.swap(one, other)
    assert [other] == (await store.scan([one.name])).records
    last = replace(other, rev=one.rev + 2, due=T0 + 2, floor=T0 + 3, seen=T0 + 4, kept_back=one.kept_back and "x")
    assert await store.swap(other, last)
    assert [last] == (await store.scan([one.name])).records


@real
@pytest.mark.parametrize(
    "one",
    [
        row(),
        row(
            last=T0 + 9,
            count=7,
            more=True,
            outcome="SKIPPED",
            reason="overlap",
            started=T0 - 1,
            error="näme: 'x'",
            manual=True,
            attempts=3,
            fence=T0,
            instance=ME,
            jitter=T0,
        ),
    ],
)
async def test_a_row_comes_back_as_it_was_kept(store: Store, one: Row) -> None:
    await store.swap(None, record(), [one])

    assert [one] == await store.history("task", 10)


@real
async def test_a_swap_is_refused_if_the_record_is_not_the_stored_one(store: Store) -> None:
    first = record()
    second = replace(first, rev=first.rev + 1)
    third = replace(first, rev=first.rev + 2, next=T0 + 5)

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
async def test_an_active_scan_leaves_out_what_nobody_has_to_act_on(store: Store) -> None:
    await add(store, "later", "asked", "claimed", "held", next=T0 + 1)
    await add(store, "due")
    await store.change("asked", lambda old, now: (replace(old, rev=old.rev + 1, asked=T0), ()))
    await store.change("claimed", lambda old, now: (replace(old, rev=old.rev + 1, holder=ME), ()))
    await held(store, "held")

    assert ["asked", "claimed", "due", "held"] == [each.name for each in (await store.scan(active=True)).records]
    assert ["due"] == [each.name for each in (await store.scan(["due", "later"], active=True)).records]


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
    definition = Definition("task", "{}", (1,), Coming(T0, T0 + 3), Coming(T0 + 7, T0 + 8))
    made = await store.change("task", lambda old, now: (put(old, now, definition), ()))
    assert (clock.now, None, True) == (made.now, made.old, made.done)
    assert made.new == await only(store)

    refused = await store.change("task", lambda old, now: None)
    assert (made.new, None, False) == (refused.old, refused.new, refused.done)

    deleted = await store.change("task", lambda old, now: (None, [row()]))
    assert (made.new, None, True) == (deleted.old, deleted.new, deleted.done)
    assert await only(store) is None
    assert [row()] == await store.history("task", 1)


@real
async def test_changes_at_once_are_all_made(another: Make) -> None:
    stores = [another() for _ in range(4)]
    for each in stores:
        await each.open()
    await add(stores[0], "task", next=0)

    def count(old: Record | None, now: int) -> tuple[Record, Sequence[Row]]:
        assert old is not None
        return replace(old, rev=max(old.rev + 1, now), next=old.next + 1), [row(first=old.next)]

    await asyncio.gather(*(each.change("task", count) for each in stores for _ in range(50)))

    last = await only(stores[0])
    assert last is not None
    assert last.next == 200
    assert [100 + number for number in range(100)] == [each.first for each in await stores[1].history("task", 100)]


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
            "changed": lambda old, now: (replace(old, rev=old.rev + 1, next=T0 + 5), ()) if old else None,
        }
    )

    assert ["changed", "deleted", "new", "refused", "unknown"] == sorted(answers)
    after = {each.name: each for each in (await store.scan()).records}
    assert kept == {name: after[name] for name in kept}
    assert {"changed", "new", *kept} == after.keys()
    assert T0 + 5 == after["changed"].next
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
    coming = Coming(T0, T0)

    def putting(name: str) -> Transition:
        definition = Definition(name, "{}", (1,), coming, coming)

        def transition(old: Record | None, now: int) -> tuple[Record, Sequence[Row]] | None:
            new = put(old, now, definition)
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

    def change(old: Record | None, now: int) -> tuple[Record, Sequence[Row]]:
        assert old is not None
        return replace(old, rev=old.rev + 1, next=T0 + 5), ()

    answers = await store.change_each({"a": change, "b": change})

    assert [T0 + 5, T0 + 5] == [each.new.next for each in answers.values() if each.new]


class Contested(MemoryStore):
    """Somebody else is faster, so many times."""

    def __init__(self, clock: Callable[[], int], times: int) -> None:
        super().__init__(clock)
        self.times = times

    async def swap(self, old: Record | None, new: Record | None, rows: Sequence[Row] = ()) -> bool:
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
    """Two threads that share a lock may take turns for as long as neither pauses."""

    class Lockstep(Contested):
        swapped_at = -1.0

        async def swap(self, old: Record | None, new: Record | None, rows: Sequence[Row] = ()) -> bool:
            now = asyncio.get_running_loop().time()
            self.times, self.swapped_at = int(now == self.swapped_at), now
            return await super().swap(old, new, rows)

    store = Lockstep(clock, 0)
    await add(store, "task")

    assert ["task"] == await taken(store)


async def test_a_claim_that_lost_a_race_against_a_hold_is_refused(clock: Clock) -> None:
    class Late(MemoryStore):
        async def swap(self, old: Record | None, new: Record | None, rows: Sequence[Row] = ()) -> bool:
            if new is not None and new.holder is not None:
                self._records["task"] = hold(self._records["task"], clock.now, "x#1", StoredHold("x", None, None))
            return await super().swap(old, new, rows)

    store = Late(clock)
    await add(store, "task")

    assert [] == await taken(store)
    assert (await only(store) or record()).holder is None


# --- claims ---


@real
async def test_a_claim_takes_what_is_due_in_the_order_of_ticks(store: Store, clock: Clock) -> None:
    await add(store, "b", "a", next=T0 - 1)
    await add(store, "c", next=T0 - 2)
    await add(store, "now")
    await add(store, "soon", next=T0 + 1)

    claimed = await store.claim(ME, ttl=TTL, limit=9)

    assert ["c", "a", "b", "now"] == [each.name for each in claimed.records]
    assert Claimed(T0, claimed.records, T0 + 1, []) == claimed
    stored = {each.name: each for each in (await store.scan()).records}
    for each in claimed.records:
        assert stored[each.name] == each
        assert (ME, T0 + TTL, each.rev, 1) == (each.holder, each.until, each.fence, each.take)
    assert [] == await taken(store, YOU)


@real
async def test_a_claim_is_for_the_oldest_up_to_the_limit(store: Store) -> None:
    for number in range(5):
        await add(store, f"task-{number}", next=T0 - number)

    assert ["task-4", "task-3"] == await taken(store, limit=2)
    assert [] == await taken(store, limit=0)
    assert ["task-2", "task-1", "task-0"] == await taken(store)


@real
async def test_of_equal_ticks_the_first_names_are_claimed_first(store: Store) -> None:
    await add(store, *reversed("abcdefgh"))

    assert ["a", "b", "c"] == await taken(store, limit=3)


@real
async def test_what_may_not_be_claimed_does_not_count_for_the_limit(store: Store) -> None:
    await add(store, "claimed", "held", "skipped", next=T0 - 5)
    await held(store, "held")
    assert ["claimed"] == await taken(store, YOU, limit=1, skip={"skipped"})
    await add(store, "free")

    assert ["free"] == await taken(store, limit=1, skip={"skipped"})


@real
async def test_what_may_not_be_claimed_is_not_what_is_waited_for(store: Store) -> None:
    await add(store, "claimed", next=T0 - 5)
    await add(store, "held", "skipped", next=T0 + 2)
    assert ["claimed"] == await taken(store, YOU)
    await store.change("claimed", lambda old, now: (replace(old, rev=old.rev + 1, due=T0 + 2), ()))
    await held(store, "held")
    assert (await store.claim(ME, ttl=TTL, limit=1, skip={"skipped"})).claimable is None

    await add(store, "free", next=T0 + 3)
    assert T0 + 3 == (await store.claim(ME, ttl=TTL, limit=1, skip={"skipped"})).claimable
    assert T0 + 2 == (await store.claim(ME, ttl=TTL, limit=1)).claimable


@real
async def test_a_claim_may_be_made_ahead(store: Store) -> None:
    await add(store, "in", next=T0 + S)
    await add(store, "out", next=T0 + S + 1)

    claimed = await store.claim(ME, ttl=TTL, limit=9, ahead=S)

    assert ["in"] == [each.name for each in claimed.records]
    assert T0 + S + 1 - LEAD == claimed.claimable
    assert T0 + S == claimed.records[0].started


@real
async def test_what_is_punctual_is_not_claimed_ahead(store: Store, clock: Clock) -> None:
    await add(store, "first", next=T0 + 3)
    await add(store, "ahead", next=T0 + 4)
    await add(store, "later", next=T0 + 5 * S)
    values = {"ahead": S, "punctual": {"first", "later", "unknown"}}

    claimed = await store.claim(ME, ttl=TTL, limit=1, **values)  # It does not count for the limit, either.
    assert (["ahead"], T0 + 3) == ([each.name for each in claimed.records], claimed.claimable)
    assert T0 + 5 * S == (await store.claim(ME, ttl=TTL, limit=9, skip={"first"}, **values)).claimable
    clock.now += 2
    assert [] == await taken(store, **values)
    clock.now += 1
    assert ["first"] == await taken(store, **values)


@real
async def test_an_extra_run_of_what_is_punctual_is_one_until_its_tick(store: Store) -> None:
    await add(store, "extra", next=T0 + 3, asked=T0)
    await add(store, "tick", next=T0, asked=T0)

    claimed = await store.claim(ME, ttl=TTL, limit=9, ahead=S, punctual={"extra", "tick"})

    assert [("extra", True), ("tick", False)] == [(each.name, each.manual) for each in claimed.records]


@real
async def test_others_that_are_punctual_are_waited_for_as_long_as_any_others(store: Store) -> None:
    own, other = named(2, 0), named(2, 1)
    await add(store, other, next=T0 + 3)
    values = {"ahead": S, "punctual": {own, other}, "share": Share(2, 0, 5 * S)}

    assert T0 + 5 * S + 3 == (await store.claim(ME, ttl=TTL, limit=9, **values)).claimable
    await add(store, own, next=T0 + 9 * S)
    assert T0 + 5 * S + 3 == (await store.claim(ME, ttl=TTL, limit=9, **values)).claimable


@real
async def test_of_what_is_punctual_only_what_may_be_claimed_is_waited_for(store: Store) -> None:
    values = {"ttl": TTL, "limit": 9, "ahead": S, "skip": {"skipped"}}
    values["punctual"] = {"claimed", "held", "skipped", "free"}
    await add(store, "claimed", next=T0 - 5)
    await add(store, "held", "skipped", next=T0 + 2)
    assert ["claimed"] == await taken(store, YOU)
    await store.change("claimed", lambda old, now: (replace(old, rev=old.rev + 1, due=T0 + 2), ()))
    await held(store, "held")
    assert (await store.claim(ME, **values)).claimable is None

    await add(store, "free", next=T0 + 3)
    assert T0 + 3 == (await store.claim(ME, **values)).claimable


@real
async def test_a_tick_is_claimed_when_it_is_due_and_not_before(store: Store, clock: Clock) -> None:
    await add(store, "late", next=T0 - S, due=T0 + 3 * S)
    await add(store, "soon", next=T0 - 1, due=T0 + 2 * S)

    claimed = await store.claim(ME, ttl=TTL, limit=9, ahead=S)
    assert ([], T0 + 2 * S - LEAD) == (claimed.records, claimed.claimable)
    assert [] == (await store.scan(active=True)).records
    clock.now += 2 * S
    assert ["soon"] == [each.name for each in (await store.scan(active=True)).records]
    assert ["soon"] == await taken(store, limit=1)
    claimed = await store.claim(ME, ttl=TTL, limit=9, ahead=S)
    assert [("late", T0 - S, T0 + 3 * S)] == [(each.name, each.tick, each.started) for each in claimed.records]
    assert claimed.claimable is None


@real
async def test_the_first_that_is_due_is_claimed_first_whatever_its_tick(store: Store) -> None:
    await add(store, "a", next=T0 - 9, due=T0 - 1)
    await add(store, "b", next=T0 - 5, due=T0 - 5)

    assert ["b"] == await taken(store, limit=1)


@real
async def test_a_tick_that_never_comes_is_not_due(store: Store, clock: Clock) -> None:
    await add(store, "never", next=NEVER)
    share = Share(2, 1 - crc32(b"never") % 2, 5 * S)

    for values in ({}, {"ahead": S}, {"ahead": S, "share": share}, {"share": replace(share, rank=1 - share.rank)}):
        claimed = await store.claim(ME, ttl=TTL, limit=9, **values)
        assert [] == claimed.records
        assert claimed.claimable is None or claimed.claimable > NEVER // 2
    await store.change("never", lambda old, now: (ask(old, now), ()) if old else None)
    (extra,) = (await store.claim(ME, ttl=TTL, limit=9, ahead=S)).records
    assert [None] == await store.finish(ME, [Ending("never", extra.fence, extra.tick, "{}", None)])
    await held(store, "never")
    after = (await store.change("never", lambda old, now: (unhold(old, now, f"{YOU}#1"), ()) if old else None)).new
    assert after is not None
    assert (NEVER, NEVER, None) == (after.next, after.due, after.kept_back)


@real
async def test_the_last_tick_is_followed_by_one_that_never_comes(store: Store) -> None:
    await add(store, "task")
    (claim,) = (await store.claim(ME, ttl=TTL, limit=1)).records

    assert [None] == await store.finish(ME, [Ending("task", claim.fence, T0, "{}", Coming(NEVER, NEVER))])

    after = await only(store)
    assert after is not None
    assert (NEVER, NEVER, T0) == (after.next, after.due, after.floor)
    assert [] == await taken(store)


@real
@pytest.mark.parametrize("ahead", [0, 1, LEAD - 1, LEAD, LEAD + 1, S])
async def test_what_lies_ahead_is_waited_for_until_a_little_before_it_is_due(store: Store, ahead: int) -> None:
    await add(store, "task", next=T0 - S, due=T0 + 2 * S)

    assert T0 + 2 * S - min(ahead, LEAD) == (await store.claim(ME, ttl=TTL, limit=9, ahead=ahead)).claimable


@real
async def test_what_may_be_claimed_and_was_left_is_not_waited_for(store: Store) -> None:
    await add(store, "first", next=T0 - S)
    await add(store, "left", next=T0 - 2 * S, due=T0)
    await add(store, "ahead", next=T0 + S)

    assert (await store.claim(ME, ttl=TTL, limit=1, ahead=S)).claimable is None
    assert T0 + S - 5 == (await store.claim(ME, ttl=TTL, limit=0, ahead=5)).claimable


@real
async def test_an_extra_run_is_claimed_whatever_the_grid_says(store: Store) -> None:
    await add(store, "task", next=T0 + 9 * S)
    await store.change("task", lambda old, now: (ask(old, now), ()) if old else None)
    await add(store, "earlier", next=T0 - S)

    assert [] == await taken(store, skip={"task", "earlier"})
    first, second = (await store.claim(ME, ttl=TTL, limit=2)).records

    assert ("earlier", False) == (first.name, first.manual)
    assert ("task", True, 1, 0) == (second.name, second.manual, second.takes, second.take)


@real
async def test_held_and_claimed_extra_runs_are_not_claimed(store: Store) -> None:
    await add(store, "held", "claimed", next=T0 + S, asked=T0)
    await held(store, "held")
    assert ["claimed"] == await taken(store, YOU)

    assert [] == await taken(store)


@real
@pytest.mark.parametrize("why", ["later", "later than ahead", "held", "claimed", "skipped"])
async def test_a_claim_that_finds_nothing_is_no_change_that_wakes_anybody(store: Store, why: str) -> None:
    """An idle instance asks all the time: it must neither wake others nor itself."""
    await add(store, "task", next=T0 + 2 * S, asked=None if "later" in why else T0)
    if why == "held":
        await held(store, "task")
    if why == "claimed":
        assert ["task"] == await taken(store, YOU)
    ahead, skip = (S if why == "later than ahead" else 0), ({"task"} if why == "skipped" else set())

    async def takes_s() -> float:
        began = time.monotonic()
        waiting = asyncio.ensure_future(store.wait(0.2))
        await asyncio.sleep(0)
        assert [] == await taken(store, ahead=ahead, skip=skip)
        await waiting
        return time.monotonic() - began

    tries = 3  # News of what came before may be late.
    while await takes_s() < 0.19:
        assert (tries := tries - 1)


@real
async def test_what_somebody_has_to_look_at_comes_with_a_claim(store: Store, clock: Clock) -> None:
    names = ["free", "lease", "mine", "hold", "pause", "endless"]
    await add(store, *names, next=T0 + 99 * S)
    await store.change("lease", lambda old, now: (replace(old, rev=T0 + 1, holder=YOU, until=T0 + S), ()))
    await store.change("mine", lambda old, now: (replace(old, rev=T0 + 1, holder=ME, until=T0 + 2 * S), ()))
    await held(store, "hold", until=T0 + S)
    pause = StoredHold("you", None, T0 + S, leased=False)
    await store.change("pause", lambda old, now: (hold(old, now, "p#1", pause), ()) if old else None)
    await held(store, "endless", until=None)

    clock.now = T0 + S
    assert [] == (await store.claim(ME, ttl=TTL, limit=1)).stale
    clock.now = T0 + S + 1
    stale = (await store.claim(ME, ttl=TTL, limit=1)).stale
    assert ["hold", "lease", "pause"] == [each.name for each in stale]
    await store.change("lease", lambda old, now: (challenge(old, now, S), ()) if old else None)
    assert ["hold", "pause"] == [each.name for each in (await store.claim(ME, ttl=TTL, limit=1)).stale]
    clock.now += S + 1
    stale = (await store.claim(ME, ttl=TTL, limit=1)).stale
    assert ["hold", "lease", "mine", "pause"] == [each.name for each in stale]


# --- the share ---


def named(n: int, rank: int) -> str:
    """Return a name whose bucket is *rank* among *n*."""
    return next(name for name in map(str, range(999)) if crc32(name.encode()) % n == rank)


@real
async def test_what_lies_ahead_is_left_to_those_whose_own_it_is(store: Store) -> None:
    own, other = named(3, 1), named(3, 2)
    await add(store, own, other, next=T0 + S)

    assert [own] == await taken(store, ahead=S, share=Share(3, 1, 5 * S))
    assert [other] == await taken(store, ahead=S, share=Share(3, 2, 5 * S))


@real
async def test_what_is_due_is_anybodys_after_a_while(store: Store, clock: Clock) -> None:
    share = Share(3, 1, 5 * S)
    own, other = named(3, 1), named(3, 2)
    await add(store, own, other)

    claimed = await store.claim(ME, ttl=TTL, limit=9, ahead=S, share=share)
    assert [own] == [each.name for each in claimed.records]
    assert T0 + 5 * S == claimed.claimable
    assert claimed.claimable == (await store.claim(ME, ttl=TTL, limit=9, share=share)).claimable
    clock.now = T0 + 5 * S - 1
    assert [] == await taken(store, share=share)
    clock.now += 1
    claimed = await store.claim(ME, ttl=TTL, limit=9, share=share)
    assert [other] == [each.name for each in claimed.records]
    assert claimed.claimable is None


@real
async def test_patience_is_for_others_and_the_way_ahead_for_its_own(store: Store) -> None:
    values = {"ttl": TTL, "limit": 0, "ahead": S, "share": Share(2, 0, 5 * S)}
    await add(store, named(2, 0))
    assert (await store.claim(ME, **values)).claimable is None
    await add(store, named(2, 1), next=T0 + 2 * S)
    assert T0 + 7 * S == (await store.claim(ME, **values)).claimable


@real
async def test_an_extra_run_is_anybodys_at_once_and_the_tick_after_it_is_not(store: Store) -> None:
    own, other = named(2, 0), named(2, 1)
    await add(store, other, next=T0 + S // 2, asked=T0)
    await add(store, own, next=T0 + 7 * S)

    claimed = await store.claim(ME, ttl=TTL, limit=9, ahead=S, share=Share(2, 0, 5 * S))

    assert [(other, True)] == [(each.name, each.manual) for each in claimed.records]
    assert T0 == claimed.records[0].started
    assert T0 + 7 * S - LEAD == claimed.claimable


@real
async def test_others_that_are_not_due_do_not_count_for_the_limit(store: Store) -> None:
    await add(store, *(name for name in map(str, range(50)) if crc32(name.encode()) % 2), next=T0 - 9 * S, due=T0 - 1)
    await add(store, own := named(2, 0))

    assert [own] == await taken(store, limit=1, share=Share(2, 0, 5 * S))


@real
async def test_of_others_only_what_may_be_claimed_is_waited_for(store: Store) -> None:
    others = [name for name in map(str, range(99)) if crc32(name.encode()) % 2]
    claimed, hold, skipped, left, free, later = others[:6]
    values = {"ahead": S, "skip": {skipped}, "share": Share(2, 0, 5 * S)}
    await add(store, claimed, hold, skipped, next=T0 - S)
    await held(store, hold)
    assert [claimed] == await taken(store, YOU, skip={skipped})
    assert (await store.claim(ME, ttl=TTL, limit=9, **values)).claimable is None

    await add(store, left, next=T0 - 9 * S, due=T0 - 5 * S)
    assert (await store.claim(ME, ttl=TTL, limit=0, **values)).claimable is None
    await add(store, free, next=T0 - 9 * S, due=T0 - S + 7)
    await add(store, later, next=T0 - 10 * S, due=T0 + S)
    assert T0 + 4 * S + 7 == (await store.claim(ME, ttl=TTL, limit=0, **values)).claimable
    await add(store, named(2, 0), next=T0 + 3 * S)
    assert T0 + 3 * S - LEAD == (await store.claim(ME, ttl=TTL, limit=0, **values)).claimable


# --- holds ---


@real
async def test_a_tick_that_a_hold_has_kept_back_says_so_until_it_is_over(store: Store, clock: Clock) -> None:
    await add(store, "task", next=T0 + S)
    await held(store)
    clock.now += 2 * S
    assert [] == await taken(store)
    await store.change("task", lambda old, now: (unhold(old, now, f"{YOU}#1"), ()) if old else None)

    (claim,) = (await store.claim(ME, ttl=TTL, limit=1)).records
    assert claim.kept_back == f"you on {YOU} (why)"
    coming = Coming(T0 + 3 * S, T0 + 3 * S)
    assert [None] == await store.finish(ME, [Ending("task", claim.fence, claim.tick, "{}", coming)])
    after = await only(store)
    assert after is not None
    assert after.kept_back is None


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
    assert clock.now + TTL == after["quiet"].until == after["wanted"].until
    assert T0 + TTL == after["orphan"].until == after["lost"].until
    assert clock.now + TTL == after["held"].holds[f"{ME}#1"].until
    assert T0 + TTL == after["wanted"].holds[f"{YOU}#1"].until
    assert fences == {name: each.fence for name, each in after.items()}


@real
async def test_to_renew_a_hold_does_not_prolong_a_claim_that_came_meanwhile(store: Store, clock: Clock) -> None:
    await add(store, "task")
    (claimed,) = (await store.claim(ME, ttl=TTL, limit=1)).records
    await held(store, key=f"{ME}#1")
    clock.now += S

    renewed = await store.renew(ME, {"task": claimed.fence - 1}, {"task": [f"{ME}#1"]}, TTL)

    assert (set(), {("task", f"{ME}#1")}, set()) == (renewed.runs, renewed.holds, renewed.held)
    found = await only(store)
    assert found is not None
    assert claimed.until == found.until


@real
async def test_a_renewal_with_another_fence_is_none(store: Store, clock: Clock) -> None:
    await add(store, "task")
    await taken(store)
    before = await only(store)
    assert before is not None
    clock.now += S

    renewed = await store.renew(ME, {"task": before.fence - 1}, {}, TTL)

    assert (set(), [("task", before.fence)]) == (renewed.runs, renewed.mine)
    assert before == await only(store)


@real
async def test_a_renewal_answers_a_challenge(store: Store, clock: Clock) -> None:
    await add(store, "task")
    await taken(store)
    clock.now += TTL + 1
    challenged = (await store.change("task", lambda old, now: (challenge(old, now, S), ()) if old else None)).new
    assert challenged is not None
    assert challenged.suspect

    await store.renew(ME, {"task": challenged.fence}, {}, TTL)

    after = await only(store)
    assert after is not None
    assert (False, clock.now + TTL) == (after.suspect, after.until)


@real
async def test_a_renewal_of_nothing_still_shows_orphans(store: Store) -> None:
    await add(store, "task")
    await taken(store)

    assert [("task", T0)] == (await store.renew(ME, {}, {}, TTL)).mine
    assert [] == (await store.renew(YOU, {}, {}, TTL)).mine


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
    assert mine == (await store.renew(ME, {}, {}, TTL)).own
    renewed = await other.renew(ME, {}, {"a": [f"{ME}#1"], "c": ["x#1"]}, TTL)
    assert (mine, {("a", f"{ME}#1")}) == (renewed.own, renewed.holds)
    assert {("a", f"{YOU}#1")} == (await store.renew(YOU, {}, {}, TTL)).own
    await store.change("a", lambda old, now: (unhold(old, now, f"{ME}#1"), ()) if old else None)
    assert mine - {("a", f"{ME}#1")} == (await store.renew(ME, {}, {}, TTL)).own


# --- ends ---


@real
async def test_a_finish_frees_the_task_sets_its_next_tick_and_keeps_its_rows(store: Store) -> None:
    await add(store, "task")
    (claim,) = (await store.claim(ME, ttl=TTL, limit=1)).records
    rows = row(fence=claim.fence), row(first=T0 + 1, take=0, count=9, outcome="SKIPPED")

    ending = Ending("task", claim.fence, T0, claim.spec, Coming(T0 + 10, T0 + 13), rows)
    assert [None] == await store.finish(ME, [ending])

    after = await only(store)
    assert after is not None
    assert (None, T0 + 10, T0 + 13, T0, 0) == (after.holder, after.next, after.due, after.floor, after.take)
    assert claim.fence == after.fence
    assert list(rows) == await store.history("task", 9)


@real
async def test_a_finish_of_an_extra_run_leaves_the_grid_alone(store: Store) -> None:
    await add(store, "task", next=T0 + 9 * S, asked=T0 - 5)
    (claim,) = (await store.claim(ME, ttl=TTL, limit=1)).records

    assert [None] == await store.finish(ME, [Ending("task", claim.fence, claim.tick, "any", None, (row(manual=True),))])

    after = await only(store)
    assert after is not None
    assert (None, None, 0, T0 + 9 * S) == (after.holder, after.asked, after.asked_take, after.next)
    assert [row(manual=True)] == await store.history("task", 9)


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
    (claim,) = (await store.claim(ME, ttl=TTL, limit=1)).records

    ending = Ending("task", claim.fence + later, T0, spec, Coming(T0 + 10, T0 + 10), (row(),))
    assert [refusal] == await store.finish(me, [ending])

    assert claim == await only(store)
    assert [] == await store.history("task", 9)


@real
async def test_finishes_are_answered_in_their_order_and_a_second_one_is_refused(store: Store) -> None:
    await add(store, "a", "b", "c")
    fences = {each.name: each.fence for each in (await store.claim(ME, ttl=TTL, limit=9)).records}
    coming = Coming(T0 + 10, T0 + 10)
    ends = {name: Ending(name, fence, T0, "{}", coming, (row(name),)) for name, fence in fences.items()}
    wrong = replace(ends["b"], spec="other")

    answers = await store.finish(ME, [wrong, ends["c"], Ending("unknown", 1, T0, "{}", coming), ends["a"], ends["c"]])

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
    await add(store, "extra", "unmade", next=T0 + 99 * S, asked=T0)
    claims = {each.name: each for each in (await store.claim(ME, ttl=TTL, limit=9)).records}
    ends = {
        name: Ending(name, each.fence, each.tick, "{}", None if each.manual else Coming(T0 + S, T0 + S), (row(name),))
        for name, each in claims.items()
    }
    assert [None, None] == await store.finish(ME, [ends["done"], ends["extra"]])
    assert [None] == await store.finish(ME, [ends["again"]])
    for name in ("back", "unmade"):
        returned = simply(partial(hand_back, me=ME, fence=claims[name].fence))
        assert (await store.change(name, returned)).done
    clock.now += S
    assert ["again", "back", "done", "unmade"] == sorted(await taken(store))
    await store.change("done", lambda old, now: (release(old, now, ME, old.fence), ()) if old else None)
    before = await store.scan()

    names = ["again", "back", "done", "extra", "unmade"]
    lost, done = Refusal.LOST, Refusal.DONE
    assert [lost, lost, lost, done, lost] == await store.finish(
        ME, [replace(ends[name], rows=(row(name, take=7),)) for name in names]
    )

    assert before == await store.scan()
    assert [[row("done")], [row("extra")], []] == [await store.history(name, 9) for name in ("done", "extra", "back")]


# --- rows ---


@real
async def test_a_row_whose_key_exists_is_left_as_it_is(store: Store) -> None:
    first = record()
    await store.swap(None, first, [row(outcome="LOST")])
    second = replace(first, rev=first.rev + 1)
    rows = [row(), row(take=2), row(manual=True), row(first=T0 + 1), row("other")]

    assert await store.swap(first, second, rows)

    assert [row(outcome="LOST"), *rows[1:4]] == await store.history("task", 9)
    assert [row("other")] == await store.history("other", 9)


@real
async def test_the_history_is_the_last_rows_newest_last(store: Store) -> None:
    rows = [row(first=T0 - number) for number in range(5)]
    await store.swap(None, record(), rows)

    assert rows[-3:] == await store.history("task", 3)
    assert rows == await store.history("task", 99)
    assert [] == await store.history("task", 0)
    assert [] == await store.history("unknown", 3)


# --- what is kept for long ---


async def told(store: Store, *names: str) -> list[list[int]]:
    """Return the ticks of which rows are kept."""
    return [[each.first for each in await store.history(name, 999)] for name in names]


@real
@pytest.mark.parametrize("kind", ["memory", "sqlite"])  # A server is tidied now and then.
async def test_only_the_last_rows_of_a_task_are_kept(kind: str, tmp_path: Path) -> None:
    store = MemoryStore(history=3) if kind == "memory" else SqliteStore(tmp_path / "store.db", history=3)
    await store.open()
    await store.swap(None, record("before"), [row("before")])
    await store.swap(None, record(), [row(first=number) for number in range(9)])
    await store.swap(None, record("other"), [row("other")])
    await store.swap(record(), replace(record(), rev=T0), [row(first=9)])

    assert [7, 8, 9] == [each.first for each in await store.history("task", 99)]
    for name in ("before", "other"):
        assert [row(name)] == await store.history(name, 99)
    await store.close()


@real
async def test_of_each_task_the_newest_rows_stay(store: Store) -> None:
    await store.swap(None, record("many"), [row("many", first=number) for number in range(9)])
    await store.swap(None, record("few"), [row("few", first=number) for number in range(3)])

    assert 5 == await store.tidy(keep=4, age=S)
    assert [[5, 6, 7, 8], [0, 1, 2]] == await told(store, "many", "few")
    assert 0 == await store.tidy(keep=4, age=S)
    assert 5 == await store.tidy(keep=1, age=S)
    assert [[8], [2]] == await told(store, "many", "few")


@real
async def test_old_rows_go_but_for_the_newest_of_each_task(store: Store, clock: Clock) -> None:
    rows = [row("some", first=number, finished=T0 + number * S) for number in range(6)]
    await store.swap(None, record("some"), rows)
    await store.swap(None, record("old"), [row("old", first=number) for number in range(3)])
    await store.swap(None, record("turned"), [row("turned", first=1, finished=T0 + 9 * S), row("turned", first=2)])

    clock.now = T0 + 9 * S
    assert 5 == await store.tidy(keep=99, age=6 * S)
    assert [[3, 4, 5], [2], [1, 2]] == await told(store, "some", "old", "turned")
    assert 0 == await store.tidy(keep=99, age=6 * S)


@real
async def test_rows_of_a_task_that_is_gone_and_of_nothing_are_tidied_too(store: Store) -> None:
    assert 0 == await store.tidy(keep=1, age=0)
    gone = record("gone")
    await store.swap(None, gone, [row("gone", first=number) for number in range(3)])
    await store.swap(gone, None)

    assert 2 == await store.tidy(keep=1, age=S)
    assert [[2]] == await told(store, "gone")


@real
async def test_many_rows_are_tidied_while_others_go_on(store: Store, another: Make) -> None:
    other = another()
    await other.open()
    names = [f"task-{number}" for number in range(60)]
    for name in names:
        await store.swap(None, record(name, next=T0 + S), [row(name, first=number) for number in range(100)])

    tidying = asyncio.ensure_future(store.tidy(keep=3, age=S))
    for name in names:
        assert (await other.change(name, lambda old, now: (replace(old, rev=old.rev + 1), [row(old.name)]))).done
    gone = await tidying + await store.tidy(keep=3, age=S)

    left = await told(store, *names)
    assert all(each[-1] == T0 and 3 == len(each) for each in left)
    assert 60 * 101 - 60 * 3 >= gone >= 60 * 97  # An engine may delete some itself, as new ones come.


@real
async def test_an_instance_that_was_not_heard_of_for_long_is_forgotten(store: Store, clock: Clock) -> None:
    await store.beat(YOU, "{}", TTL)
    clock.now += TTL
    await store.beat(ME, "{}", TTL)

    assert 0 == await store.tidy(keep=1, age=TTL)
    assert [ME, YOU] == [each.id for each in await store.beat(ME, "{}", 99 * TTL)]
    assert 0 == await store.tidy(keep=1, age=TTL - 1)
    assert [ME] == [each.id for each in await store.beat(ME, "{}", 99 * TTL)]


# --- who lives ---


@real
async def test_an_instance_that_leaves_is_not_counted_any_more(store: Store, another: Make) -> None:
    other = another()
    await other.open()
    await other.beat(YOU, "{}", TTL)
    await store.beat(ME, "{}", TTL)
    await store.beat(they := "3" * 32, "{}", TTL)

    await other.leave(YOU)
    await other.leave(YOU)

    assert [ME, they] == [each.id for each in await store.beat(ME, "{}", TTL)]


@real
async def test_instances_are_those_heard_of_in_time(store: Store, another: Make, clock: Clock) -> None:
    other = another()
    await other.open()
    assert [Instance(YOU, "{}", T0)] == await other.beat(YOU, "{}", TTL)
    clock.now += TTL
    mine = Instance(ME, '{"host": "h"}', clock.now)
    assert [mine, Instance(YOU, "{}", T0)] == await store.beat(ME, mine.info, TTL)
    clock.now += 1
    assert [replace(mine, seen=clock.now, info="")] == await store.beat(ME, "", TTL)


@real
async def test_nobody_that_lives_is_dead(store: Store, another: Make) -> None:
    other = another()
    await other.open()
    await store.beat(ME, "{}", TTL)
    await other.claim(YOU, ttl=TTL, limit=1)

    for _ in range(2):
        assert frozenset() == await store.dead() == await other.dead()


# --- wake-ups ---


@real
async def test_a_wait_ends_when_somebody_changed_something(store: Store, another: Make) -> None:
    other = another()
    await other.open()
    await add(store, "task")
    await store.claim(ME, ttl=TTL, limit=0)
    for change in (partial(other.change, "task"), partial(store.change, "task")):
        waiting = asyncio.ensure_future(store.wait(30))
        await asyncio.sleep(0.05)
        begin = time.monotonic()
        await change(lambda old, now: (replace(old, rev=old.rev + 1, due=old.due - 1), ()))  # May be claimed earlier.
        await waiting
        assert time.monotonic() - begin < 2


@real
async def test_a_wait_ends_when_its_time_is_over(store: Store) -> None:
    await store.claim(ME, ttl=TTL, limit=1)
    begin = time.monotonic()

    await store.wait(0.2)

    assert 0.15 < time.monotonic() - begin < 2


@real
async def test_a_wait_can_be_cancelled(store: Store) -> None:
    waiting = asyncio.ensure_future(store.wait(30))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await add(store, "task")


def test_loops_of_one_thread_wake_each_other_and_a_closed_one_harms_nobody() -> None:
    store = MemoryStore()
    one, two, gone = (asyncio.new_event_loop() for _ in range(3))
    forgotten = gone.create_task(store.wait(9))
    gone.run_until_complete(asyncio.sleep(0))
    waiting = one.create_task(store.wait(9))
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

# What an engine does in one round trip has to come out as what every store does in several.

near = st.integers(-30, 30).map(lambda by: T0 + by)
who = st.sampled_from([ME, YOU])
names = st.sampled_from(list("abcdefgh"))
stored_holds = st.dictionaries(
    st.sampled_from([f"{ME}#1", f"{ME}#2", f"{YOU}#1"]),
    st.builds(StoredHold, who, st.none(), st.none() | near, st.booleans(), st.booleans()),
    max_size=2,
)


@st.composite
def stored(draw: st.DrawFn) -> Record:
    holder = draw(st.none() | st.none() | who)
    asked = draw(st.none() | st.none() | near)
    return record(
        draw(names),
        rev=draw(st.integers(T0 - S, T0 - S + 3)),
        next=(next := draw(near)),
        due=next + draw(st.sampled_from([0, 0, 7])),
        floor=draw(near),
        asked=asked,
        holder=holder,
        fence=draw(st.integers(1, 2)),
        until=holder and draw(near),
        suspect=holder is not None and draw(st.booleans()),
        manual=holder is not None and asked is not None and draw(st.booleans()),
        holds=draw(st.just({}) | stored_holds),
        kept_back=draw(st.sampled_from([None, "somebody"])),
    )


def refused(name: str) -> Transition:
    return lambda old, now: None


def deleted(name: str) -> Transition:
    return lambda old, now: None if old is None else (None, [row(name, first=now, finished=now)])


def made_or_put(name: str) -> Transition:
    def transition(old: Record | None, now: int) -> tuple[Record, Sequence[Row]] | None:
        new = put(old, now, Definition(name, "new", (1,), Coming(now + 5, now + 9), Coming(now + 5, now + 9)))
        return None if new is None else (new, ())

    return transition


def told_of(name: str) -> Transition:
    def transition(old: Record | None, now: int) -> tuple[Record, Sequence[Row]] | None:
        rows = [row(name, first=now + number, finished=now - 2 * number) for number in (2, 1, 0)]
        return None if old is None else (replace(old, rev=old.rev + 1), rows)

    return transition


def unheld(name: str) -> Transition:
    return simply(lambda old, now: unhold(old, now, f"{ME}#1"))


def test_shortcuts_come_out_as_the_long_way_does(kind: str, tmp_path: Path) -> None:
    clock = Clock()
    store = makers(clock, tmp_path)[kind]()()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(store.open())

    async def same(
        records: list[Record],
        claim: dict[str, Any],
        runs: dict[str, int],
        holds: dict[str, list[str]],
        endings: list[Ending],
        ahead: int,
        each_by_itself: dict[str, Callable[[str], Transition]],
        keep: int,
        age: int,
    ) -> None:
        clock.now += S  # Later than all that is left from before.
        long_way = MemoryStore(clock)
        for name in "abcdefgh":  # Rows cannot all be deleted.
            before = record(name)
            assert await long_way.swap(None, before, await store.history(name, 99))
            assert await long_way.swap(before, None)
        for each in (await store.scan()).records:
            await store.swap(each, None)
        for each in records:
            by = clock.now - T0
            one = replace(each, next=each.next + by, due=each.due + by, until=each.until and each.until + by)
            assert await store.swap(None, one)
            assert await long_way.swap(None, one)
        assert await long_way.claim(ME, **claim, ahead=ahead) == await store.claim(ME, **claim, ahead=ahead)
        clock.now += 5  # On a clock that stands still, a rev may be from the future.
        assert await long_way.renew(ME, runs, holds, TTL) == await store.renew(ME, runs, holds, TTL)
        clock.now += 5
        found = {each.name: each for each in (await store.scan()).records}
        ends = [
            replace(
                each,
                fence=one.fence - each.fence,
                tick=one.tick - each.tick,
                following=None if one.manual else each.following,
                rows=(row(each.name, first=clock.now - 9, finished=clock.now - 9),),
            )
            for each in endings
            if (one := found.get(each.name, record()))
        ]
        for _ in range(2):
            assert await long_way.finish(ME, ends) == await store.finish(ME, ends)
        clock.now += 5
        changes = {name: change(name) for name, change in each_by_itself.items()}
        assert await long_way.change_each(changes) == await store.change_each(changes)
        assert await long_way.tidy(keep=keep, age=age) == await store.tidy(keep=keep, age=age)
        for name in "abcdefgh":
            assert await long_way.history(name, 9) == await store.history(name, 9)
        clock.now += 5
        assert await long_way.scan() == await store.scan()
        assert await long_way.scan(active=True) == await store.scan(active=True)

    @settings(max_examples=150)
    @given(
        records=st.lists(stored(), unique_by=lambda each: each.name, max_size=8),
        claim=st.fixed_dictionaries(
            {
                "ttl": st.just(TTL),
                "limit": st.integers(0, 4),
                "skip": st.frozensets(names, max_size=2),
                "punctual": st.frozensets(names, max_size=4),
                "share": st.none() | st.builds(Share, st.just(2), st.integers(0, 1), st.integers(0, 20)),
            }
        ),
        runs=st.dictionaries(names, st.integers(1, 2), max_size=4),
        holds=st.dictionaries(names, st.lists(st.sampled_from([f"{ME}#1", f"{ME}#2"]), max_size=2), max_size=3),
        endings=st.lists(
            st.builds(
                Ending,
                names,
                st.sampled_from([0, 0, 1]),
                st.sampled_from([0, 0, 3]),
                st.sampled_from(["{}", "{}", "x"]),
                st.builds(Coming, near, near),
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


# --- texts ---


@real
@pytest.mark.parametrize(
    ("text", "told"), [("a\0b", "a\\x00b"), ("half \ud83d", "half \\ud83d"), ("all 🦖 \x1b", "all 🦖 \x1b")]
)
async def test_what_people_read_is_kept_whatever_is_in_it(store: Store, text: str, told: str) -> None:
    await store.swap(None, record(), [row(error=text)])
    await store.change("task", lambda old, now: (hold(old, now, f"{YOU}#1", StoredHold(text, text, None)), ()))
    await store.beat(ME, text, TTL)

    found = await only(store)
    assert found is not None
    for kept in (
        [each.error for each in await store.history("task", 10)],
        [each.reason for each in found.holds.values()],
        [each.holder for each in found.holds.values()],
        [each.info for each in await store.beat(YOU, "{}", TTL) if each.id == ME],
    ):
        assert kept in ([text], [told])


# --- races ---


@pytest.mark.slow
@pytest.mark.pure  # Its threads have loops of their own, and take four times as long in debug mode.
@pytest.mark.timeout(300)
def test_ten_thousand_holds_and_as_many_claims_as_there_is_time_for_never_meet(kind: str, tmp_path: Path) -> None:
    """Judged by revs: between the rev of a hold and that of its end there is no claim."""
    make = makers(wall_us, tmp_path)[kind]()
    claims: list[int] = []
    holds: list[tuple[int, int, int]] = []
    over = False

    async def claimer() -> None:
        store = make()
        await store.open()
        while not over:
            for claim in (await store.claim(ME, ttl=TTL, limit=1)).records:
                claims.append(claim.fence)
                coming = Coming(claim.next + 1, claim.next + 1)
                ending = Ending("task", claim.fence, claim.next, "{}", coming)
                while [Refusal.BUSY] == (answer := await store.finish(ME, [ending])):
                    pass
                assert [None] == answer
            if kind == "postgres":  # Whoever changes a record looks first: on the way back it must not have changed.
                await asyncio.sleep(0.002)
        if kind != "memory":
            await store.close()

    async def holder(number: int) -> None:
        store = make()
        await store.open()
        for _ in range(5_000):
            first = await held(store, key=f"{number}#1")
            last = (
                await store.change("task", lambda old, now: (unhold(old, now, f"{number}#1"), ()) if old else None)
            ).new
            assert last is not None
            holds.append((first.rev, last.rev, first.fence if first.holder else 0))
        if kind != "memory":
            await store.close()

    async def prepared() -> None:
        store = make()
        await store.open()
        await add(store, "task", next=0, rev=1)
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


# --- whose it is ---


@real
async def test_one_object_is_for_one_started_scheduler_unless_it_says_that_it_is_for_many(
    store: Store, kind: str
) -> None:
    """Whoever stops first would close it for the other."""
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
        store.lend(user)

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
    assert str(error).startswith("store 'sqlite:///x' is unavailable: the disk is full; see to it")
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
    with pytest.raises(InvalidArgument, match=r"must name a file .* and nothing else|must have no NUL"):
        store_from_url(url)


@pytest.mark.parametrize(
    "url", ["", "x.db", "mongodb://h", "sqlite:x", "sqlite://", "sqlite:///", "sqlite:///:memory:"]
)
def test_other_urls_are_refused_with_what_is_known(url: str) -> None:
    with pytest.raises(InvalidArgument, match="sqlite://"):
        store_from_url(url)
