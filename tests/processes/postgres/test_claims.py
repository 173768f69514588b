"""Real processes on PostgreSQL: claims and endings whose messages are lost or late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from kaiju_app._core.clock import steady_us
from kaiju_app.stores import Store, store_from_url
from kaiju_app.stores._record import NextTick, StoredHold, TaskRecord
from kaiju_app.stores._transitions import Definition, define, hold, unhold
from processes.fixtures import Figures, Make
from processes.group import LEASE, seconds, us
from processes.hosts import Hosts, Statements
from processes.postgres.common import FAILOVER_S, MISSED_S, OP_S
from support.engines import change_one
from support.postgres_server import Server
from support.tcp_proxy import Proxy

pytestmark = [pytest.mark.realtime, pytest.mark.slow]
RETRY_S = 0.2  # The longest pause after a first failure.


RARELY = {"interval_s": 6.0, "run_s": 0.4}  # Longer than a failover, so that no tick is missed for a later one.


def test_a_claim_whose_process_is_killed_before_it_has_the_answer_is_free_again_within_the_failover(
    hosts: Make, figures: Figures
) -> None:
    """No run had begun, but no instance can know that, so the claim counts as a take."""
    processes = hosts(**RARELY)
    processes.note_claims()
    processes.start_settled("a", "b", "c")

    who, fence, take = claim_without_answer(processes)
    killed = processes.process_named(who).kill()
    again = processes.next_begin(killed, unlike=who)

    figures(failover_s=seconds(killed, again.at), bound_s=FAILOVER_S)
    assert (again.take, again.fence > fence) == (take + 1, True)
    ledger = processes.end()
    processes.check(ledger)
    assert fence not in {each.fence for each in processes.entries}
    assert MISSED_S - LEASE.renew_s < seconds(killed, again.at) < FAILOVER_S


def claim_without_answer(processes: Hosts) -> tuple[str, int, int]:
    """Let a process make a claim and hold the answer; return the process, the fence and the take."""
    while True:
        known = set(processes.claims())
        who = processes.wait_for_trap("claim", to_client=True)
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            made = set(processes.claims()) - known
            if made:
                ((fence, _, take),) = made
                return who, fence, take
        processes.ways[who].hold()  # That claim found nothing.


@pytest.mark.mechanism
def test_a_claim_whose_answer_is_lost_is_handed_back_and_its_tick_run_once(hosts: Make, figures: Figures) -> None:
    processes = hosts(**RARELY)
    processes.note_claims()
    processes.start_settled("a", "b", "c")

    who, fence, take = claim_without_answer(processes)
    lost = steady_us()
    processes.ways[who].drop(to_client=True)
    processes.ways[who].hold()
    processes.ways[who].drop()  # This resets connections that lost something.
    again = processes.next_begin(lost)

    bound_s = LEASE.renew_s + OP_S + LEASE.poll_s + RETRY_S
    figures(run_after_s=seconds(lost, again.at), bound_s=bound_s)
    assert (again.take, again.fence > fence) == (take, True)  # A claim that never began does not count.
    processes.wait_for_line(lambda each: (each.event, each.fence) == ("end", again.fence))
    ledger = processes.end()
    processes.check(ledger)
    assert 1 == sum((each.event, each.tick) == ("begin", again.tick) for each in processes.entries)
    assert fence not in {each.fence for each in processes.entries}
    assert seconds(lost, again.at) < bound_s


def test_a_claim_that_reaches_the_server_late_never_starts_anything(hosts: Make, figures: Figures) -> None:
    """A single process, so that the tick is still unclaimed when the request arrives whose caller gave up long ago."""
    processes = hosts(interval_s=1.0, run_s=0.2)
    processes.note_claims()
    (process,) = processes.start_ready("a")
    processes.wait_for_line(lambda each: each.event == "end")
    way, known = processes.ways["a"], len(processes.claims())

    late: list[int] = []
    while not late:  # Look for a claim after which a tick comes due.
        processes.wait_for_trap("claim", to_server=True)
        held = steady_us()
        processes.wait_until(held + us(2.5 * OP_S))
        begun = {each.fence for each in processes.entries if each.event == "begin"}
        way.hold()
        processes.next_begin(steady_us())
        late = [fence for fence, _, _ in processes.claims() if fence not in begun][:-1]
    again = processes.next_begin(held)

    figures(claims=len(processes.claims()) - known, late=len(late), run_after_s=seconds(held, again.at))
    process.stop()
    ledger = processes.end()
    processes.check(ledger)
    started = [each for each in processes.entries if each.event == "begin"]
    assert {1} == {each.take for each in started}
    assert len({each.tick for each in started}) == len(started)
    assert not {each.fence for each in started} & set(late)


@pytest.mark.mechanism
def test_an_ending_that_reaches_the_server_after_the_takeover_does_not_count(hosts: Make, figures: Figures) -> None:
    processes = hosts(**RARELY)
    processes.start_settled("a", "b", "c")

    who = processes.wait_for_trap("finish", to_server=True)
    held = steady_us()
    ended = [each for each in processes.entries if (each.event, each.who) == ("end", who)][-1]
    again = processes.next_begin(held, unlike=who)
    processes.ways[who].hold()
    processes.wait_for_line(lambda each: (each.event, each.fence) == ("end", again.fence))

    figures(failover_s=seconds(held, again.at), bound_s=FAILOVER_S)
    assert (again.tick, again.take) == (ended.tick, 2)
    ledger = processes.end()
    processes.check(ledger)
    told = [(row.outcome, row.delivery) for row in ledger.rows if row.first_tick == ended.tick]
    assert [("LOST", 1), ("SUCCEEDED", 2)] == sorted(told)
    assert seconds(held, again.at) < FAILOVER_S


def test_an_ending_whose_answer_is_lost_is_told_again_and_counts_once(hosts: Make, figures: Figures) -> None:
    processes = hosts(interval_s=1.5, run_s=0.4)
    processes.start_settled("a", "b", "c")

    who = processes.wait_for_trap("finish", to_client=True)
    lost = steady_us()
    ended = [each for each in processes.entries if (each.event, each.who) == ("end", who)][-1]
    processes.wait_for_database("owner IS NULL")  # The statement was executed.
    processes.ways[who].drop(to_client=True)
    processes.ways[who].hold()
    processes.ways[who].drop()
    again = processes.next_begin(lost)

    figures(next_run_after_s=seconds(lost, again.at))
    assert (again.tick, again.take) == (ended.tick + us(1.5), 1)
    ledger = processes.end()
    processes.check(ledger)
    assert [("SUCCEEDED", 1, ended.fence)] == [
        (row.outcome, row.delivery, row.fence) for row in ledger.rows if row.first_tick == ended.tick
    ]


def test_the_end_of_a_suspension_that_comes_after_the_next_one_has_begun_does_not_end_that(
    server: Server, hosts: Make
) -> None:
    url = hosts().url
    one, other = "1" * 32 + "#1", "1" * 32 + "#2"

    async def suspended_twice(way: Proxy) -> tuple[bool, set[str]]:
        near, far = store_from_url(url), store_from_url(way.dsn(url))
        for store in near, far:
            await store.open()
        await change(
            near, lambda old, now: define(old, now, Definition("task", "{}", (1,), NextTick(0, 0), NextTick(0, 0)))
        )
        await change(near, holding_by(one))
        way.trap("swap", to_server=True)
        leaving = asyncio.ensure_future(change(far, lambda old, now: unhold(old, now, one) if old else None))
        await change(near, lambda old, now: unhold(old, now, one) if old else None)  # By another connection.
        await change(near, holding_by(other))
        way.hold()
        done = await leaving
        (record,) = (await near.scan()).records
        for store in near, far:
            await store.close()
        return done, set(record.holds)

    with Proxy("127.0.0.1", server.port, Statements()) as way:
        done, holds = asyncio.run(suspended_twice(way))

    assert not done  # Refused: the record has changed, and there is nothing left to release.
    assert {other} == holds


async def change(store: Store, transition: Callable[[TaskRecord | None, int], TaskRecord | None]) -> bool:
    def changed(old: TaskRecord | None, now: int) -> tuple[TaskRecord, tuple[()]] | None:
        new = transition(old, now)
        return None if new is None else (new, ())

    return (await change_one(store, "task", changed)).done


def holding_by(key: str) -> Callable[[TaskRecord | None, int], TaskRecord | None]:
    return lambda old, now: hold(old, now, key, StoredHold("it", None, now + us(60))) if old else None
