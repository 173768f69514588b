"""An ending that the store does not accept is told, and keeps no other task of the instance from running."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest

from behaviour.cluster.common import Made, nothing, share, started
from kaiju_app._cluster.refused_endings import NOT_KEPT, without_texts
from kaiju_app.errors import StoreRefused, StoreUnavailable
from kaiju_app.scheduler import Outcome
from kaiju_app.stores import MemoryStore
from kaiju_app.stores._answers import ChangeResult, FinishRequest
from kaiju_app.stores._cas import Transition
from kaiju_app.stores._record import LedgerRow
from kaiju_app.stores._transitions import Refusal
from support.records import replace
from support.virtual import VirtualLoop

OTHERS = [f"other {number}" for number in range(40)]


class Picky(MemoryStore):
    """A store that refuses some endings, and with them the whole statement."""

    def __init__(self, loop: VirtualLoop, refuses: Callable[[FinishRequest], bool]) -> None:
        super().__init__(loop.virtual_clock.wall)
        self.refuses = refuses
        self.calls = 0

    async def finish(self, me: str, endings: Sequence[FinishRequest]) -> list[Refusal | None]:
        self.calls += 1
        if any(map(self.refuses, endings)):
            raise StoreRefused(self.name, "value too long")
        return await super().finish(me, endings)


async def fail() -> None:
    raise ValueError("poison")


def by_text(ending: FinishRequest) -> bool:
    return any("poison" in f"{row.error}{row.result}" for row in ending.rows)


def by_row(ending: FinishRequest) -> bool:
    return ending.name == "bad" and bool(ending.rows)


def by_name(ending: FinishRequest) -> bool:
    return ending.name == "bad"


@pytest.mark.parametrize(
    ("refuses", "expected", "told"),
    [
        (by_text, [NOT_KEPT + "value too long"] * 10, "the store gets it without the text of the error"),
        (by_row, [], "its tick ends without a record in the store"),
        (by_name, [], "no instance can run the task until it does; this is tried again every minute"),
    ],
)
async def test_all_other_tasks_go_on_and_the_one_is_told(
    loop: VirtualLoop,
    made: Made,
    caplog: pytest.LogCaptureFixture,
    refuses: Callable[[FinishRequest], bool],
    expected: list[str],
    told: str,
) -> None:
    store = Picky(loop, refuses)
    a = made(store=store)
    for name in OTHERS:
        share(a, nothing, name=name)
    bad = share(a, fail, name="bad")
    async with started(a):
        await asyncio.sleep(95)
        histories = [await a.history(name) for name in OTHERS]
        found = await a.history("bad")
        here = [run.outcome for run in bad.history()]
        if refuses is by_name:
            store.refuses = lambda _: False
            await asyncio.sleep(90)
            assert {run.outcome for run in await a.history("bad")} >= {Outcome.FAILED}

    assert {len(runs) for runs in histories} == {10}
    assert [run.error for run in found] == expected
    assert {run.outcome for run in found} <= {Outcome.FAILED}
    assert here == [Outcome.FAILED] * (1 if refuses is by_name else 10)
    assert next(each for each in caplog.messages if told in each).startswith(
        "task 'bad': store memory does not accept the end of a run (value too long): "
    )
    assert not [each for each in caplog.messages if "store memory: unavailable" in each]
    assert store.calls < 400


async def test_a_result_that_the_store_does_not_accept_is_left_out(loop: VirtualLoop, made: Made) -> None:
    async def body() -> str:
        return "poison"

    a = made(store=Picky(loop, by_text))
    task = share(a, body, keep_result=True)
    async with started(a):
        await asyncio.sleep(1)
        run = await task.run_now()

    assert (run.outcome, run.result, run.error) == (Outcome.SUCCEEDED, None, NOT_KEPT + "value too long")


async def test_an_ending_that_takes_the_store_too_long_is_soon_sent_alone(loop: VirtualLoop, made: Made) -> None:
    class Slow(Picky):
        async def finish(self, me: str, endings: Sequence[FinishRequest]) -> list[Refusal | None]:
            try:
                return await super().finish(me, endings)
            except StoreRefused:
                raise StoreUnavailable(self.name, "canceling statement due to statement timeout") from None

    a = made(store=Slow(loop, by_name))
    for name in OTHERS:
        share(a, nothing, every_s=60, name=name)
    share(a, fail, every_s=60, name="bad")
    async with started(a):
        await asyncio.sleep(59)

        assert {len(await a.history(name)) for name in OTHERS} == {1}
        a._lifecycle.cluster.store.refuses = lambda _: False  # type: ignore[union-attr]


async def test_more_endings_than_fit_into_a_call_are_all_told(loop: VirtualLoop, made: Made) -> None:
    store = Picky(loop, lambda _: False)
    a = made(store=store)
    for number in range(1_100):
        share(a, nothing, every_s=1_000, name=f"{number}")
    async with started(a):
        await asyncio.sleep(10)

        assert {len(await a.history(f"{number}")) for number in range(1_100)} == {1}


async def test_a_lost_run_that_the_store_does_not_accept_keeps_no_other_from_being_given_back(
    loop: VirtualLoop, made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    class NoRows(MemoryStore):
        async def change_each(self, transitions: Mapping[str, Transition]) -> dict[str, ChangeResult]:
            seen = await self.scan(["bad"])
            wanted = transitions["bad"](seen.records[0], seen.now) if "bad" in transitions and seen.records else None
            if wanted is not None and wanted[1]:
                raise StoreRefused(self.name, "violates check constraint")
            return await super().change_each(transitions)

    async def hour_long() -> None:
        await asyncio.sleep(3600)

    store = NoRows(loop.virtual_clock.wall)
    a = made(store=store)
    for name in ("a", "bad", "z"):
        share(a, hour_long, every_s=7200, name=name)
    async with started(a):
        await asyncio.sleep(5)
    records = (await store.scan()).records

    assert [each.owner for each in records] == [None] * 3
    assert [len(await store.history(each.name, 9)) for each in records] == [1, 0, 1]
    (told,) = (each for each in caplog.messages if "does not accept" in each)
    assert told == (
        "task 'bad': store memory does not accept a change (violates check constraint): it is made without the record "
        "of the run. See which constraint, trigger or limit refuses it"
    )


def test_less_and_less_is_told_of_an_ending() -> None:
    plain = LedgerRow("job", 1, 1, 1, 1, "SUCCEEDED", None, 2)
    failed = replace(plain, outcome="FAILED", error="x" * 1_000)
    kept = replace(plain, result="[1]")
    ending = FinishRequest("job", 1, 1, "{}", None, (plain, failed, kept))

    first = without_texts(ending, "y" * 1_000)
    assert first is not None
    assert first.rows[0] == plain
    assert first.rows[1].error == first.rows[2].error
    assert (first.rows[2].result, len(first.rows[1].error or "") <= 300) == (None, True)
    second = without_texts(first, "another reason")
    assert second == replace(ending, rows=())
    assert without_texts(second, "") is None
    assert without_texts(replace(ending, rows=(plain,)), "") == second
