"""Real processes that share tasks through a PostgreSQL server, and what befalls them and it, each with its bound.

Nobody can tell that a process on another host is dead, so what a crash leaves is free when its lease is over and it has
not answered. The bounds are those that are promised. The only slack is where it says so: these machines are busy.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest
from cluster_fixtures import ASKED_AGAIN_S, HOUR_S, LONG, OFTEN, SEVERAL, Clock, Figures, Make, behind, fill, taken_over
from cluster_hosts import Hosts, Statements
from cluster_processes import LEASE, PATIENCE_S, local_gap, longest_gap, seconds, us
from postgres_server import Programs, Server
from simulated_journal import Entry
from tcp_proxy import Proxy

from kaiju_app._clock import steady_us, wall_us
from kaiju_app.scheduler import LeaseTiming
from kaiju_app.stores import Store, store_from_url
from kaiju_app.stores._record import Coming, Record, StoredHold
from kaiju_app.stores._transitions import Definition, hold, put, unhold

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

FAILOVER_S = LEASE.failover_s
MISSED_S = LEASE.ttl_s + LEASE.grace_s  # So long nobody takes for dead whoever is silent.
OP_S = LEASE.renew_s  # After this a question is given up.
AT_ONCE_S = 1.0  # After a stop in order, which the store is told of.
LAG_S = 0.2  # Of a loop, on a busy machine, where what is measured is when it acts by itself.
RETRY_S = 0.2  # The longest pause after a first failure.


def late_acts(processes: Hosts, who: str, since: int) -> list[Entry]:
    return [each for each in processes.entries if (each.event, each.who) == ("act", who) and each.at > since]


def cut(processes: Hosts, first: Entry) -> Entry:
    """Return the line of a run that was cut, as soon as there is one."""
    end = processes.until(lambda each: (each.event, each.who, each.fence) == ("end", first.who, first.fence))
    assert end.note == "cut", processes.told("it was not cut")
    return end


# --- the holder ---


def test_a_process_whose_loop_is_blocked_is_replaced_and_what_it_does_late_has_a_lower_fence(
    hosts: Make, figures: Figures
) -> None:
    processes = hosts(**LONG)
    processes.calm("a", "b", "c")
    first = processes.acts()

    blocked = steady_us()
    processes.named(first.who).tell("block", MISSED_S + 2)
    again = processes.begins(blocked)
    ended = cut(processes, first)

    late = late_acts(processes, first.who, again.at)
    figures(failover_s=seconds(blocked, again.at), bound_s=FAILOVER_S, late_acts=len(late))
    assert taken_over(first, again)
    assert seconds(blocked, ended.at) >= MISSED_S + 2
    assert len(late) <= 1
    assert all(each.thaw and each.fence < again.fence for each in late)
    processes.check(processes.end())
    assert seconds(blocked, again.at) < FAILOVER_S


def test_a_process_whose_loop_is_blocked_for_less_than_its_lease_goes_on_with_its_run(hosts: Make) -> None:
    processes = hosts(interval_s=60.0, run_s=7.0)
    processes.calm("a", "b", "c")
    first = processes.acts()

    blocked = steady_us()
    processes.named(first.who).tell("block", LEASE.ttl_s / 2)
    processes.beyond(blocked + us(MISSED_S))

    end = processes.until(lambda each: each.event == "end")
    assert (end.who, end.fence, end.note) == (first.who, first.fence, "")
    ledger = processes.end()
    assert [("SUCCEEDED", 1, first.fence)] == ledger.ended()
    processes.check(ledger)


@pytest.mark.parametrize("how", ["is cancelled", "is shielded", "has asked before, and is heard after"])
def test_what_a_run_that_was_replaced_writes_by_guard_never_was(hosts: Make, figures: Figures, how: str) -> None:
    """Of a table that is written to by guard() alone, the fences grow: what comes late is not in it."""
    heard_late = how.startswith("has asked")
    task = "task" if how == "is cancelled" else "shielded"
    processes = hosts(writes=True, **LONG) if task == "task" else hosts(writes=True, tasks=(), lasting=[task])
    processes.ask("CREATE TABLE written (id bigserial, task text, fence bigint)")
    processes.calm("a", "b", "c")
    now = steady_us()
    first = processes.until(lambda each: (each.event, each.task) == ("written", task), since=now)
    holder = processes.named(first.who)

    if heard_late:
        assert processes.way(first.who).trap("guard", to_server=True).wait(PATIENCE_S)
        silent = steady_us()
    else:
        silent = holder.signal(signal.SIGSTOP)
    again = processes.begins(silent, unlike=first.who, task=task)
    counts = ("written", task, again.fence)
    processes.until(lambda each: (each.event, each.task, each.fence) == counts)
    went_on = steady_us()
    if heard_late:
        processes.way(first.who).hold()
    else:
        holder.signal(signal.SIGCONT)
    ends = ("refused", "end")
    processes.until(lambda each: (each.who, each.task) == (first.who, task) and each.event in ends, since=went_on)
    processes.until(lambda each: (each.event, each.task, each.fence) == counts, since=went_on + us(1))

    rows = processes.ask(f"SELECT json_agg(fence ORDER BY id)::text FROM written WHERE task = '{task}'")
    written = json.loads(rows)
    late = [each for each in processes.entries if (each.who, each.task) == (first.who, task) and each.at > went_on]
    acts, refused = (sum(each.event == event for each in late) for event in ("act", "refused"))
    figures(
        failover_s=seconds(silent, again.at), bound_s=FAILOVER_S, late_acts=acts, refused=refused, written=len(written)
    )
    assert taken_over(first, again)
    assert written == sorted(written)
    assert {first.fence, again.fence} == set(written)
    assert [] == [each for each in late if each.event == "written"]
    if how == "is cancelled":
        processes.check()
    else:
        assert refused >= acts > 0
    assert seconds(silent, again.at) < FAILOVER_S


# --- versions of the application ---


@pytest.mark.parametrize(("old_s", "new_s"), [(1.0, 0.5), (0.5, 1.0)])
def test_of_two_versions_the_newer_one_says_when_though_the_older_one_starts_again_beside_it(
    hosts: Make, figures: Figures, old_s: float, new_s: float
) -> None:
    """One after the other is replaced; ticks go over to the new rule once, and none is missing for longer than that."""
    processes = hosts(tasks=SEVERAL, run_s=0.1)
    old, new = {"interval_s": old_s, "version": 1}, {"interval_s": new_s, "version": 2}
    processes.started("a", "b", "c", **old)
    processes.begins(steady_us())

    processes.named("a").stop()
    processes.started("a2", **new)
    came = steady_us()
    processes.beyond(came + us(1.5))
    for name, next_name, version in ("b", "b2", old), ("b2", "b3", new), ("c", "c2", new):
        processes.named(name).stop()
        processes.started(next_name, **version)
        processes.beyond(steady_us() + us(1.5))
    end = steady_us()

    begun = [each for each in processes.entries if each.event == "begin"]
    after = [each for each in begun if each.at > came + us(max(old_s, new_s))]
    of = {task: [each for each in after if (each.task, each.take) == (task, 1)] for task in SEVERAL}
    steps = [later.tick - earlier.tick for ticks in of.values() for earlier, later in pairwise(ticks)]
    silence_s = max(longest_gap([each for each in begun if each.task == task], came, end) for task in SEVERAL)
    bound_s = 2 * new_s + LAG_S
    figures(silence_s=silence_s, bound_s=bound_s, ticks=len(after), missed=sum(step > us(new_s) for step in steps))
    assert {each.who for each in after} >= {"a2", "b2", "b3", "c2"}
    assert set(steps) <= {us(new_s), us(2 * new_s)}
    processes.end()
    processes.check(tasks=SEVERAL)
    assert silence_s < bound_s


def test_a_task_that_no_version_knows_any_more_is_forgotten_but_not_its_history_and_its_fences_grow(
    hosts: Make, figures: Figures
) -> None:
    processes = hosts(unseen_s=1.5, **OFTEN)
    (first,) = processes.started("a", tasks=("task", "old"))
    known = processes.until(lambda each: (each.event, each.task) == ("end", "old"))
    first.stop()
    processes.started("b", tasks=("task",))

    without = steady_us()
    while processes.ask("SELECT count(*) FROM kaiju_task WHERE name = 'old'"):
        assert seconds(without, steady_us()) < PATIENCE_S, processes.told("it is not forgotten")
        time.sleep(0.05)
    gone = steady_us()
    processes.begins(gone, task="task")
    rows = processes.ask("SELECT count(*) FROM kaiju_run WHERE name = 'old' AND outcome = 'SUCCEEDED'")
    processes.started("c", tasks=("task", "old"))
    again = processes.begins(gone, task="old")

    figures(forgotten_after_s=seconds(without, gone), rows_kept=rows)
    assert rows >= 1
    assert again.fence > max(each.fence for each in processes.entries if each.task == "old" and each.at < gone)
    assert again.tick > known.tick
    assert again.take == 1
    processes.end()
    processes.check(tasks=("task", "old"))


@pytest.mark.timeout(120)
def test_twenty_processes_whose_store_is_one_step_behind_take_it_once_while_an_older_one_goes_on(
    hosts: Make, figures: Figures
) -> None:
    step = "CREATE TABLE kaiju_second (one integer); INSERT INTO kaiju_second VALUES (7)"
    processes = hosts(tasks=SEVERAL, **OFTEN)
    processes.started("old")
    processes.acts("old")
    before = processes.ask("SELECT version FROM kaiju_schema")
    names = [f"p{number}" for number in range(20)]
    for who in names:
        processes.start(who, store=processes.url, wait=True, step=step)
    for who in names:
        processes.until(lambda each, who=who: (each.who, each.event) == (who, "ready"), within_s=40)

    told = steady_us()
    for process in processes.all[1:]:
        process.tell("go")
    for who in names:
        processes.until(lambda each, who=who: (each.who, each.event) == (who, "boot"))
    booted = steady_us()
    processes.until(lambda each: each.event == "end" and each.who in names, since=booted)
    for process in processes.all[1:]:  # Among so many, none of the tasks may be the old one's.
        process.signal(signal.SIGTERM)
    processes.until(lambda each: each.event == "end" and each.who == "old", since=steady_us())

    versions = processes.ask("SELECT json_agg(version)::text FROM kaiju_schema")
    silence_s = max(
        longest_gap([each for each in processes.entries if each.task == task], told, booted) for task in SEVERAL
    )
    figures(all_started_s=seconds(told, booted), longest_silence_s=silence_s)
    assert [before + 1] == json.loads(versions)
    assert 1 == processes.ask("SELECT count(*) FROM kaiju_second")
    processes.check(tasks=SEVERAL)
    assert seconds(told, booted) < 5


def test_an_older_process_that_has_to_connect_again_after_a_step_is_told_so_once_and_not_as_a_bug(hosts: Make) -> None:
    processes = hosts(**OFTEN)
    (old,) = processes.started("old")
    processes.acts()
    processes.ask("UPDATE kaiju_schema SET version = version + 1")

    processes.cut()
    cut_at = steady_us()
    while "whose schema is" not in old.errors.read_text():
        assert seconds(cut_at, steady_us()) < PATIENCE_S, processes.told("it is not told")
        time.sleep(0.01)
    processes.beyond(steady_us() + us(1))

    said = old.errors.read_text()
    assert "a bug in" not in said
    assert 1 == said.count("does not answer")


# --- messages that are lost, or late ---


RARELY = {"interval_s": 6.0, "run_s": 0.4}  # Less often than a failover takes: no tick is missed for a later one.


def test_a_claim_whose_process_is_killed_before_it_has_the_answer_is_free_again_within_the_failover(
    hosts: Make, figures: Figures
) -> None:
    """Nobody had begun the tick, which nobody can know: it counts as taken once."""
    processes = hosts(**RARELY)
    processes.note_claims()
    processes.calm("a", "b", "c")

    who, fence, take = claim_without_answer(processes)
    killed = processes.named(who).kill()
    again = processes.begins(killed, unlike=who)

    figures(failover_s=seconds(killed, again.at), bound_s=FAILOVER_S)
    assert (again.take, again.fence > fence) == (take + 1, True)
    ledger = processes.end()
    processes.check(ledger)
    assert fence not in {each.fence for each in processes.entries}
    assert MISSED_S - LEASE.renew_s < seconds(killed, again.at) < FAILOVER_S


def claim_without_answer(processes: Hosts) -> tuple[str, int, int]:
    """Have a claim be made whose answer is held; return who made it, its fence and take."""
    while True:
        known = set(processes.claims())
        who = processes.trapped("claim", to_client=True)
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            made = set(processes.claims()) - known
            if made:
                ((fence, _, take),) = made
                return who, fence, take
        processes.ways[who].hold()  # There was nothing to claim.


def test_a_claim_whose_answer_is_lost_is_handed_back_and_its_tick_run_once(hosts: Make, figures: Figures) -> None:
    processes = hosts(**RARELY)
    processes.note_claims()
    processes.calm("a", "b", "c")

    who, fence, take = claim_without_answer(processes)
    lost = steady_us()
    processes.ways[who].drop(to_client=True)
    processes.ways[who].hold()
    processes.ways[who].drop()  # What lost something is cut with that.
    again = processes.begins(lost)

    bound_s = LEASE.renew_s + OP_S + LEASE.poll_s + RETRY_S
    figures(run_after_s=seconds(lost, again.at), bound_s=bound_s)
    assert (again.take, again.fence > fence) == (take, True)  # One that never began does not count.
    processes.until(lambda each: (each.event, each.fence) == ("end", again.fence))
    ledger = processes.end()
    processes.check(ledger)
    assert 1 == sum((each.event, each.tick) == ("begin", again.tick) for each in processes.entries)
    assert fence not in {each.fence for each in processes.entries}
    assert seconds(lost, again.at) < bound_s


def test_a_claim_that_reaches_the_server_late_never_starts_anything(hosts: Make, figures: Figures) -> None:
    """One process, so that the tick is still there to be claimed when the question comes that was given up long ago."""
    processes = hosts(interval_s=1.0, run_s=0.2)
    processes.note_claims()
    (process,) = processes.started("a")
    processes.until(lambda each: each.event == "end")
    way, known = processes.ways["a"], len(processes.claims())

    late: list[int] = []
    while not late:  # One after which a tick comes due.
        processes.trapped("claim", to_server=True)
        held = steady_us()
        processes.beyond(held + us(2.5 * OP_S))
        begun = {each.fence for each in processes.entries if each.event == "begin"}
        way.hold()
        processes.begins(steady_us())
        late = [fence for fence, _, _ in processes.claims() if fence not in begun][:-1]
    again = processes.begins(held)

    figures(claims=len(processes.claims()) - known, late=len(late), run_after_s=seconds(held, again.at))
    process.stop()
    ledger = processes.end()
    processes.check(ledger)
    started = [each for each in processes.entries if each.event == "begin"]
    assert {1} == {each.take for each in started}
    assert len({each.tick for each in started}) == len(started)
    assert not {each.fence for each in started} & set(late)


def test_an_ending_that_reaches_the_server_after_the_takeover_does_not_count(hosts: Make, figures: Figures) -> None:
    processes = hosts(**RARELY)
    processes.calm("a", "b", "c")

    who = processes.trapped("finish", to_server=True)
    held = steady_us()
    ended = [each for each in processes.entries if (each.event, each.who) == ("end", who)][-1]
    again = processes.begins(held, unlike=who)
    processes.ways[who].hold()
    processes.until(lambda each: (each.event, each.fence) == ("end", again.fence))

    figures(failover_s=seconds(held, again.at), bound_s=FAILOVER_S)
    assert (again.tick, again.take) == (ended.tick, 2)
    ledger = processes.end()
    processes.check(ledger)
    told = [(row.outcome, row.take) for row in ledger.rows if row.first == ended.tick]
    assert [("LOST", 1), ("SUCCEEDED", 2)] == sorted(told)
    assert seconds(held, again.at) < FAILOVER_S


def test_an_ending_whose_answer_is_lost_is_told_again_and_counts_once(hosts: Make, figures: Figures) -> None:
    processes = hosts(interval_s=1.5, run_s=0.4)
    processes.calm("a", "b", "c")

    who = processes.trapped("finish", to_client=True)
    lost = steady_us()
    ended = [each for each in processes.entries if (each.event, each.who) == ("end", who)][-1]
    processes.seen("holder IS NULL")  # It was carried out.
    processes.ways[who].drop(to_client=True)
    processes.ways[who].hold()
    processes.ways[who].drop()
    again = processes.begins(lost)

    figures(next_run_after_s=seconds(lost, again.at))
    assert (again.tick, again.take) == (ended.tick + us(1.5), 1)
    ledger = processes.end()
    processes.check(ledger)
    assert [("SUCCEEDED", 1, ended.fence)] == [
        (row.outcome, row.take, row.fence) for row in ledger.rows if row.first == ended.tick
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
        await change(near, lambda old, now: put(old, now, Definition("task", "{}", (1,), Coming(0, 0), Coming(0, 0))))
        await change(near, holding_by(one))
        way.trap("swap", to_server=True)
        leaving = asyncio.ensure_future(change(far, lambda old, now: unhold(old, now, one) if old else None))
        await change(near, lambda old, now: unhold(old, now, one) if old else None)  # Said again by another way.
        await change(near, holding_by(other))
        way.hold()
        done = await leaving
        (record,) = (await near.scan()).records
        for store in near, far:
            await store.close()
        return done, set(record.holds)

    with Proxy("127.0.0.1", server.port, Statements()) as way:
        done, holds = asyncio.run(suspended_twice(way))

    assert not done  # Refused: it is another record by now, in which there is nothing to do.
    assert {other} == holds


async def change(store: Store, transition: Callable[[Record | None, int], Record | None]) -> bool:
    def changed(old: Record | None, now: int) -> tuple[Record, tuple[()]] | None:
        new = transition(old, now)
        return None if new is None else (new, ())

    return (await store.change("task", changed)).done


def holding_by(key: str) -> Callable[[Record | None, int], Record | None]:
    return lambda old, now: hold(old, now, key, StoredHold("it", None, now + us(60))) if old else None


# --- who suspends ---


@pytest.mark.parametrize("where", ["inside the body", "before it may begin"])
def test_what_a_killed_process_had_suspended_runs_again_within_the_failover(
    hosts: Make, figures: Figures, where: str
) -> None:
    every_s, run_s = (0.3, 0.15) if where == "inside the body" else (1.5, 1.0)
    processes = hosts(interval_s=every_s, run_s=run_s)
    suspender, other, _ = processes.calm("a", "b", "c")
    if where == "inside the body":
        suspender.tell("suspend", "task", 60)
        processes.until(lambda each: each.event == "act-in-suspension")
    else:
        first = processes.begins(steady_us())
        suspender = other if first.who == suspender.who else suspender
        suspender.tell("suspend", "task", 60)
        processes.seen("holds <> '{}' AND holder IS NOT NULL")

    killed = suspender.kill()
    processes.seen("holds = '{}'")
    free = steady_us()
    again = processes.begins(killed)

    figures(free_s=seconds(killed, free), bound_s=FAILOVER_S, resumed_s=seconds(killed, again.at))
    if where != "inside the body":
        assert [] == [each for each in processes.entries if each.event == "suspended-begin"]
        assert (again.tick > first.tick, again.take) == (True, 1)
    processes.check(processes.end())
    assert MISSED_S - LEASE.renew_s < seconds(killed, free) < FAILOVER_S
    assert seconds(free, again.at) < every_s + LEASE.poll_s  # What came due meanwhile is over; the next tick counts.


def test_whoever_suspends_a_task_whose_process_is_killed_enters_within_the_failover(
    hosts: Make, figures: Figures
) -> None:
    processes = hosts(**LONG)
    processes.calm("a", "b", "c")
    first = processes.acts()
    suspender = next(each for each in processes.all if each.who != first.who)
    suspender.tell("suspend", "task", 0.5)
    processes.seen("holds <> '{}'")

    killed = processes.named(first.who).kill()
    entered = processes.until(lambda each: each.event == "suspended-begin")
    again = processes.begins(killed)

    figures(entered_s=seconds(killed, entered.at), bound_s=FAILOVER_S)
    assert again.at > entered.at
    assert taken_over(first, again)
    processes.check(processes.end())
    assert MISSED_S - LEASE.renew_s < seconds(killed, entered.at) < FAILOVER_S


# --- the network ---


@pytest.mark.parametrize("ways", ["both ways", "answers only"])
def test_a_process_that_is_cut_off_from_the_server_stops_in_time_and_is_replaced(
    hosts: Make, figures: Figures, ways: str
) -> None:
    """Of answers only: renewals are carried out as long as it sends them, and it may not go by them."""
    processes = hosts(**LONG)
    processes.calm("a", "b", "c")
    first = processes.acts()
    way = processes.way(first.who)

    off = steady_us()
    way.hold(to_server=ways == "both ways", to_client=True)
    way.refuse(ways == "both ways")
    again = processes.begins(off)
    ended = cut(processes, first)
    processes.acts(again.who, again.at + us(LEASE.renew_s))
    on = steady_us()
    way.refuse(False)
    way.hold()
    while "answers again" not in processes.named(first.who).errors.read_text():
        assert seconds(on, steady_us()) < PATIENCE_S, processes.told("it does not come back")
        time.sleep(0.01)
    back = steady_us()

    bound_s = FAILOVER_S + (0 if ways == "both ways" else OP_S)
    figures(
        cut_s=seconds(off, ended.at), cut_bound_s=LEASE.ttl_s, failover_s=seconds(off, again.at), bound_s=bound_s,
        back_s=seconds(on, back), back_bound_s=ASKED_AGAIN_S + OP_S,
    )  # fmt: skip
    assert taken_over(first, again)
    assert ended.at < again.at
    assert seconds(off, ended.at) < LEASE.ttl_s + LAG_S
    assert MISSED_S - LEASE.renew_s < seconds(off, again.at) < bound_s
    assert seconds(on, back) < ASKED_AGAIN_S + OP_S
    processes.check(processes.end())


def test_a_network_that_is_slow_but_faster_than_a_renewal_costs_no_lease(hosts: Make) -> None:
    """A tenth of a second each way, of the 0.4 that a renewal may take."""
    processes = hosts(interval_s=60.0, run_s=9.0)
    processes.calm("a", "b", "c")
    first = processes.acts()

    for way in processes.ways.values():
        way.delay(0.1, 0.1)
    processes.beyond(steady_us() + us(FAILOVER_S))

    assert [first.fence] == [each.fence for each in processes.entries if each.event == "begin"]
    end = processes.until(lambda each: each.event == "end")
    assert (end.who, end.fence, end.note) == (first.who, first.fence, "")
    for way in processes.ways.values():
        way.delay()
    ledger = processes.end()
    assert [("SUCCEEDED", 1, first.fence)] == ledger.ended()
    processes.check(ledger)


def test_processes_connect_again_over_a_slow_network_though_that_takes_longer_than_a_renewal_may(
    hosts: Make, figures: Figures
) -> None:
    """It takes about ten times there and back: whoever gives up waiting for it leaves it to the next one."""
    processes = hosts(**OFTEN)
    processes.calm("a", "b", "c")
    for way in processes.ways.values():
        way.delay(0.05, 0.05)
    processes.begins(steady_us())

    processes.cut()
    cut_at = steady_us()
    again = processes.begins(cut_at + us(LEASE.renew_s))  # What was claimed before has begun by then.
    going = processes.begins(again.at + 1)

    bound_s = ASKED_AGAIN_S + FAILOVER_S
    figures(run_after_s=seconds(cut_at, again.at), bound_s=bound_s, next_after_s=seconds(again.at, going.at))
    for way in processes.ways.values():
        way.delay()
    processes.check(processes.end())
    assert seconds(cut_at, again.at) < bound_s


def test_a_network_that_is_slower_than_a_renewal_ends_what_is_shared_until_it_is_not(
    hosts: Make, figures: Figures
) -> None:
    processes = hosts(local="local", **OFTEN)
    processes.calm("a", "b", "c")
    processes.acts()

    slow = steady_us()
    for way in processes.ways.values():
        way.delay(0.6, 0.6)
    processes.beyond(slow + us(FAILOVER_S + 1))
    fast = steady_us()
    for way in processes.ways.values():
        way.delay()
    again = processes.begins(fast)

    recovers(processes, figures, slow, fast, again, "does not answer")


def recovers(processes: Hosts, figures: Figures, off: int, on: int, again: Entry, said: str) -> None:
    """Check what holds whenever nobody could ask the server from *off* to *on*; say how soon it went on."""
    silent = [each for each in processes.entries if each.task == "task" and off + us(LEASE.ttl_s + OP_S) < each.at < on]
    bound_s = ASKED_AGAIN_S + FAILOVER_S
    gap_s = local_gap(processes, off, again.at)
    figures(
        off_s=seconds(off, on), recovery_s=seconds(on, again.at), bound_s=bound_s, acts_after_lease=len(silent),
        longest_local_gap_s=gap_s,
    )  # fmt: skip
    assert [] == [each for each in silent if each.event in ("begin", "act")]
    for process in processes.all:
        assert 1 <= process.errors.read_text().count(said) <= 3, process.errors.read_text()
    processes.begins(again.at + 1)
    processes.check(processes.end())
    assert gap_s < 1  # Of ticks every 20 ms: a busy machine, and no more than that.
    assert seconds(on, again.at) < bound_s


# --- the server ---


def test_a_server_that_is_frozen_for_a_moment_costs_nothing(hosts: Make, server: Server) -> None:
    processes = hosts(interval_s=60.0, run_s=8.0)
    processes.calm("a", "b", "c")
    first = processes.acts()

    server.freeze()
    processes.beyond(steady_us() + us(0.5))
    server.thaw()
    processes.beyond(steady_us() + us(MISSED_S))

    assert [first.fence] == [each.fence for each in processes.entries if each.event == "begin"]
    end = processes.until(lambda each: each.event == "end")
    assert (end.fence, end.note) == (first.fence, "")
    ledger = processes.end()
    assert [("SUCCEEDED", 1, first.fence)] == ledger.ended()
    processes.check(ledger)


def test_a_server_that_is_frozen_for_longer_than_leases_last_ends_what_is_shared_until_it_is_not(
    hosts: Make, figures: Figures, server: Server
) -> None:
    """Recovery is what remains of the pause between tries, then poll and grace: leases are challenged, not grabbed."""
    processes = hosts(tasks=SEVERAL, local="local", **OFTEN)
    processes.calm("a", "b", "c")
    processes.acts()

    frozen = steady_us()
    server.freeze()
    processes.beyond(frozen + us(6))
    server.thaw()
    thawed = steady_us()
    going = {task: processes.begins(thawed, task=task) for task in SEVERAL}

    late = max(each.at for each in going.values())
    off = frozen + us(LEASE.ttl_s)
    silent = [each for each in processes.entries if each.task in SEVERAL and off < each.at < thawed]
    ledger = processes.end()
    lost = [row for row in ledger.rows if row.outcome == "LOST"]
    bound_s = ASKED_AGAIN_S + LEASE.poll_s * 1.2 + LEASE.grace_s
    figures(
        recovery_s=seconds(thawed, min(each.at for each in going.values())), all_s=seconds(thawed, late),
        bound_s=bound_s, takeovers=sum(each.take > 1 for each in processes.entries if each.event == "begin"),
        lost=len(lost), longest_local_gap_s=local_gap(processes, frozen, late),
    )  # fmt: skip
    assert [] == [each for each in silent if each.event in ("begin", "act")]
    again = [each for each in processes.entries if (each.event, each.take > 1) == ("begin", True) and each.at > thawed]
    assert [] == [each for each in again if seconds(thawed, each.at) < LEASE.grace_s]  # Nobody was taken for dead.
    assert len(again) == len({(each.task, each.tick) for each in again}) <= len(SEVERAL)
    processes.check(ledger, tasks=SEVERAL)
    assert local_gap(processes, frozen, late) < 1
    assert seconds(thawed, late) < bound_s


def test_processes_whose_sessions_are_ended_connect_again_and_lose_nothing(hosts: Make, figures: Figures) -> None:
    processes = hosts(tasks=("task", "other"), interval_s=60.0, run_s=8.0)
    processes.calm("a", "b", "c")
    first = {each.task: each for each in processes.entries if each.event == "begin"}
    assert 6 == processes.sessions()  # One to ask, and one to listen.

    ended = steady_us()
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    assert 6 == processes.ask(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {others}")
    processes.beyond(ended + us(0.05))
    while processes.sessions() < 6:
        assert seconds(ended, steady_us()) < PATIENCE_S, processes.told("they do not come back")
    back = steady_us()

    figures(back_s=seconds(ended, back), bound_s=5.0)
    for task in first:
        end = processes.until(lambda each, task=task: (each.event, each.task) == ("end", task))
        assert (end.fence, end.note) == (first[task].fence, "")
    ledger = processes.end()
    assert {("SUCCEEDED", 1)} == {(row.outcome, row.take) for row in ledger.rows}
    processes.check(ledger, tasks=("task", "other"))
    assert seconds(ended, back) < 5


@pytest.mark.parametrize("how", ["stop_hard", "kill"])
def test_a_server_that_crashes_and_comes_back_remembers_who_has_what(
    hosts: Make, figures: Figures, programs: Programs, how: str
) -> None:
    """A lease of ten seconds, so that it is still the same one."""
    with Server(programs, fsync=True) as server:
        processes = hosts(server, lease=LeaseTiming(10.0, 0.4, 1.3, 0.4, 0.1), tasks=("task", "other"), **LONG)
        processes.started("a", "b", "c")
        processes.acts()
        processes.until(lambda each: (each.event, each.task) == ("act", "other"))
        first = {each.task: each.fence for each in processes.entries if each.event == "begin"}

        crashed = steady_us()
        getattr(server, how)()
        down = steady_us()
        server.start()
        up = steady_us()
        while processes.sessions() < 6:
            assert seconds(up, steady_us()) < PATIENCE_S, processes.told("they do not come back")
        back = steady_us()
        processes.beyond(back + us(2 * LEASE.renew_s))

        kept = processes.ask("SELECT json_object_agg(name, fence)::text FROM kaiju_task WHERE holder IS NOT NULL")
        figures(down_s=seconds(down, up), back_s=seconds(crashed, back), bound_s=10.0)
        assert first == json.loads(kept)
        assert {2} == {sum(each.event == "begin" for each in processes.entries)}
        for task in first:
            processes.until(lambda each, task=task: (each.event, each.task) == ("act", task), since=steady_us())
        processes.check(processes.end(), tasks=("task", "other"))
        assert seconds(crashed, back) < 10


LIGHT_CLIENTS = """
import asyncio, json, os, sys
from contextlib import AsyncExitStack
from kaiju_app._clock import steady_us
from kaiju_app.scheduler import LeaseTiming, Scheduler, Scope

url, lease, place = json.loads(sys.argv[1])

async def main():
    async with AsyncExitStack() as stack:
        for number in range(10):
            scheduler = Scheduler(url, lease=LeaseTiming(*lease))
            async def tick(name=f"{place}{number}"):
                print(steady_us(), name, flush=True)
            scheduler.schedule_task(tick, 0.5, name=f"{place}{number}", scope=Scope.CLUSTER)
            await stack.enter_async_context(scheduler)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


def test_thirty_clients_that_lose_the_server_at_once_spread_their_connections_and_tick_soon(
    hosts: Make, figures: Figures, programs: Programs, tmp_path: Path
) -> None:
    """Ten in each of three processes, each with a task that only it has; the server is away for two seconds."""
    settings = {"log_connections": "on", "log_line_prefix": "%n "}
    with Server(programs, settings=settings) as server, ExitStack() as stack:
        processes = hosts(server)
        given = [processes.url, list(asdict(LEASE).values())]
        journals = {place: tmp_path / f"light-{place}" for place in "abc"}
        for place, journal in journals.items():
            command = [sys.executable, "-c", LIGHT_CLIENTS, json.dumps([*given, place])]
            with journal.open("wb") as written:
                client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=written, stderr=subprocess.DEVNULL)
            stack.callback(client.communicate)
            stack.callback(client.kill)

        def first_ticks(since: int) -> dict[str, int]:
            whole = [line.split() for each in journals.values() for line in each.read_text().split("\n")[-2::-1]]
            return {name: int(at) for at, name in whole if int(at) > since}

        def ticking(since: int) -> dict[str, int]:
            while len(found := first_ticks(since)) < 30:
                assert seconds(since, steady_us()) < PATIENCE_S, found
                time.sleep(0.02)
            return found

        ticking(steady_us())
        down = steady_us()
        server.stop_hard()
        processes.beyond(down + us(2))
        server.start()
        up = steady_us()
        late_s = seconds(up, max(ticking(up).values()))
        made = server.connections(since_s=wall_us() / 1e6 - seconds(up, steady_us()))
        most = max(sum(at <= other < at + 0.1 for other in made) for at in made)
        figures(down_s=seconds(down, up), all_tick_s=late_s, bound_s=10.0, connections=len(made), most_in_100_ms=most)
        assert late_s < 10
        assert most <= len(made) / 2


# --- servers that follow ---


def test_a_server_that_can_only_be_read_is_refused_until_there_is_one_that_can_be_written_to(
    hosts: Make, figures: Figures, server: Server
) -> None:
    with server.standby() as standby:
        processes = hosts(local="local", **OFTEN)
        processes.calm("a", "b", "c")
        processes.acts()

        off = steady_us()
        processes.lead_to(standby)
        processes.cut()
        processes.beyond(off + us(FAILOVER_S))
        on = steady_us()
        processes.lead_to(server)
        again = processes.begins(on)

        silent = [each for each in processes.entries if each.task == "task" and off + us(LEASE.ttl_s) < each.at < on]
        gap_s, bound_s = local_gap(processes, off, again.at), 2 * LEASE.poll_s + ASKED_AGAIN_S + LEASE.grace_s
        figures(recovery_s=seconds(on, again.at), bound_s=bound_s, longest_local_gap_s=gap_s)
        assert [] == [each for each in silent if each.event in ("begin", "act")]
        for process in processes.all:
            assert "does not answer" in process.errors.read_text()
        processes.check(processes.end())
        assert gap_s < 1
        assert seconds(on, again.at) < bound_s


def test_after_a_failover_that_loses_claims_fences_grow_and_runs_overlap_until_the_next_renewal_at_most(
    hosts: Make, figures: Figures, programs: Programs
) -> None:
    """The exception that is stated: what the standby had not received, it does not know. Guarded writes are safe."""
    with ExitStack() as stack:
        primary = stack.enter_context(Server(programs))
        link = stack.enter_context(Proxy("127.0.0.1", primary.port))
        standby = stack.enter_context(primary.standby(through=link.dsn(primary.dsn())))
        processes = hosts(primary, tasks=SEVERAL, interval_s=4.0, run_s=3.5)
        processes.calm("a", "b", "c")
        for task in SEVERAL:
            processes.until(lambda each, task=task: (each.event, each.task) == ("end", task))

        link.hold(to_client=True)  # From now on the standby receives nothing.
        behind = steady_us()
        for task in SEVERAL:
            processes.begins(behind, task=task)
        fences = {each.task: each.fence for each in processes.entries if each.event == "begin"}
        primary.kill()
        died = steady_us()
        link.drop(to_client=True)
        standby.promote()
        promoted = steady_us()
        known = json.loads(standby.ask("SELECT json_object_agg(name, fence)::text FROM kaiju_task", processes.database))
        processes.lead_to(standby)
        processes.cut()
        for task in SEVERAL:
            processes.begins(promoted, task=task)
        going = steady_us()
        for task in SEVERAL:
            processes.begins(going, task=task)

        overlaps = [each for task in SEVERAL for each in overlapped(processes, task, promoted)]
        bound_s = LEASE.renew_s + OP_S
        figures(
            claims_lost=sum(known[task] < fences[task] for task in SEVERAL), overlaps=len(overlaps),
            overlap_max_s=max(overlaps, default=0.0), bound_s=bound_s, promoted_s=seconds(died, promoted),
            runs_again_s=seconds(promoted, going),
        )  # fmt: skip
        assert all(known[task] < fences[task] for task in SEVERAL)
        for task in SEVERAL:
            begun = [each.fence for each in processes.entries if (each.event, each.task) == ("begin", task)]
            assert begun == sorted(set(begun))
        assert max(overlaps, default=0.0) < bound_s
        processes.end()


def overlapped(processes: Hosts, task: str, since: int) -> list[float]:
    """Return for how long in seconds runs went on after a later one had begun."""
    entries = [each for each in processes.entries if each.task == task and each.fence]
    found = []
    for begin in [each for each in entries if each.event == "begin" and each.at > since]:
        late = [each.at for each in entries if each.fence < begin.fence and each.at > begin.at and each.event == "act"]
        found += [seconds(begin.at, max(late))] if late else []
    return found


# --- clocks ---


JUMPS = {"an hour ahead": [3600], "ten minutes back": [-600], "here and there": [3600, -600, 1800, 0]}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("jumps", JUMPS)
def test_no_lease_is_taken_away_when_the_clock_of_the_server_jumps(
    hosts: Make, figures: Figures, programs: Programs, clock: Clock, jumps: str
) -> None:
    """Who is dead is missed later by as long as the clock has to be watched again; nobody else is."""
    with Server(programs, environment=clock.environment) as server:
        processes = hosts(server, **LONG)
        processes.calm("a", "b", "c")
        first = processes.acts()

        for ahead_s in JUMPS[jumps]:
            clock.set(ahead_s)
            jumped = steady_us()
            shown = int(processes.ask("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"))
            assert abs(shown - wall_us() - us(ahead_s)) < us(1)
            processes.beyond(jumped + us(2 * LEASE.renew_s + LEASE.poll_s))
        assert [first.fence] == [each.fence for each in processes.entries if each.event == "begin"]
        processes.acts(first.who, since=steady_us())
        killed = processes.named(first.who).kill()
        processes.seen(f"fence > {first.fence} OR holder IS NULL")
        free = steady_us()
        shown = int(processes.ask("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"))
        if shown >= first.tick:  # Otherwise it is not due any more, until the clock shows that again.
            again = processes.begins(killed)
            assert (again.who != first.who, again.take, again.fence > first.fence) == (True, 2, True)

        bound_s = FAILOVER_S + MISSED_S
        figures(free_s=seconds(killed, free), bound_s=bound_s, after_jump_s=seconds(jumped, free))
        processes.check(processes.end())
        assert seconds(killed, free) < bound_s


@pytest.mark.parametrize("ahead_s", [3, -3])
def test_ticks_go_by_the_clock_of_the_server_and_none_is_run_twice_when_it_jumps(
    hosts: Make, figures: Figures, programs: Programs, clock: Clock, ahead_s: float
) -> None:
    """Set back, it is silent for as long as it was set back by; set ahead, at most one run is early."""
    with Server(programs, environment=clock.environment) as server:
        processes = hosts(server, **OFTEN)
        processes.calm("a", "b", "c")
        processes.begins(steady_us())

        jumped = steady_us()
        clock.set(ahead_s)
        again = processes.begins(jumped + us(0.2))
        processes.beyond(max(again.at, jumped + us(3)) + us(1))
        end = steady_us()

        begun = [each for each in processes.entries if each.event == "begin"]
        silence_s = longest_gap(begun, jumped, end)
        bound_s = max(0, -ahead_s) + OFTEN["interval_s"] + LEASE.poll_s + 2 * LAG_S
        early = sum(each.tick - wall_us() + steady_us() - each.at > us(max(0, ahead_s) + 0.1) for each in begun)
        figures(silence_s=silence_s, bound_s=bound_s, early_runs=early)
        assert early <= 1
        processes.check(processes.end())
        assert silence_s < bound_s


def test_the_wall_clock_of_an_instance_has_no_effect_on_what_is_shared(hosts: Make) -> None:
    """The server's counts; and it may be set while the instance runs."""
    processes = hosts(tasks=SEVERAL, **OFTEN)
    processes.start("b", shift_s=HOUR_S)
    processes.start("c", shift_s=-HOUR_S)
    processes.calm("a")
    for who in "abc":
        processes.acts(who, since=steady_us())
    processes.named("a").tell("suspend", "one", 0.4)
    processes.named("b").tell("suspend", "two", 0.4)
    for shown in (HOUR_S, -HOUR_S, 0):
        for process in processes.all:
            process.tell("clock", shown)
        set_at = steady_us()
        for who in "abc":
            processes.acts(who, since=set_at)
        processes.beyond(set_at + us(3 * LEASE.renew_s))

    true = wall_us() - steady_us()
    begun = [each for each in processes.entries if each.event == "begin"]
    assert {1} == {each.take for each in begun}
    assert max(abs(each.tick - each.at - true) for each in begun) < us(MISSED_S)
    assert [] == [each for each in processes.entries if each.note == "cut" or each.event == "suspend-lost"]
    processes.check(processes.end(), tasks=SEVERAL)


@pytest.mark.parametrize(("holder_rate", "other_rate"), [(0.8, 1.2), (1.2, 0.8)])
def test_runs_do_not_overlap_though_the_steady_clocks_of_instances_go_by_a_fifth_too_fast_or_slow(
    hosts: Make, figures: Figures, holder_rate: float, other_rate: float
) -> None:
    """A process that is cut off ends its run by its own clock, and the other one waits by the server's."""
    processes = hosts(**LONG)
    processes.started("a", rate=holder_rate)
    first = processes.acts("a")
    processes.calm("b", rate=other_rate)
    processes.beyond(steady_us() + us(MISSED_S / 4))  # By a slow clock it is calm so much later.

    off = steady_us()
    processes.way("a").hold(to_server=True, to_client=True)
    again = processes.begins(off, unlike="a")
    ended = cut(processes, first)

    bound_s = MISSED_S + 2 * 1.2 * LEASE.poll_s / min(1, other_rate)
    figures(
        cut_s=seconds(off, ended.at), cut_bound_s=LEASE.ttl_s / holder_rate, failover_s=seconds(off, again.at),
        bound_s=bound_s,
    )  # fmt: skip
    assert taken_over(first, again)
    assert ended.at < again.at
    assert seconds(off, ended.at) < LEASE.ttl_s / holder_rate + LAG_S
    processes.check()
    assert seconds(off, again.at) < bound_s


# --- the disk ---


@pytest.mark.timeout(120)
@pytest.mark.parametrize("small_disk", [192], indirect=True)
def test_a_server_whose_disk_is_full_ends_what_is_shared_until_there_is_room_and_nothing_else(
    hosts: Make, figures: Figures, programs: Programs, small_disk: Path
) -> None:
    """It cannot write its log, and stops; somebody makes room, and starts it again."""
    place = small_disk / "server"
    place.mkdir()
    for each in (small_disk, *list(small_disk.parents)[:3]):
        each.chmod(each.stat().st_mode | 0o011)
    with Server(programs, place, settings={"min_wal_size": "32MB", "max_wal_size": "64MB"}) as server:
        processes = hosts(server, local="local", **OFTEN)
        processes.calm("a", "b", "c")
        processes.acts()

        fill(small_disk)
        full = steady_us()
        while server.is_running:
            assert seconds(full, steady_us()) < PATIENCE_S, processes.told("it goes on without room")
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                server.ask("SELECT pg_switch_wal()")
            fill(small_disk)
        down = steady_us()
        processes.beyond(down + us(LEASE.ttl_s + 1))
        os.unlink(small_disk / "ballast")
        server.start()
        free = steady_us()
        again = processes.begins(free)

        recovers(processes, figures, down, free, again, "does not answer")


# --- a pooler ---


def test_behind_a_pooler_of_transactions_it_is_said_once_that_nothing_is_delivered_to_who_listens(
    hosts: Make, pooler: Callable[[Hosts], int]
) -> None:
    """With the usual numbers of a lease. Statements need nothing that is kept in a session."""
    processes = behind(pooler, hosts(lease=LeaseTiming(), tasks=SEVERAL, **OFTEN))
    processes.started("a", "b", "c")
    for who in "abc":
        processes.acts(who)
    processes.beyond(steady_us() + us(processes.lease.poll_s + 1))

    processes.check(processes.end(), tasks=SEVERAL)
    logs = [each.errors.read_text() for each in processes.all]
    assert [1, 1, 1] == [each.count("LISTEN is accepted") for each in logs]
    assert [0, 0, 0] == [each.count("does not answer") for each in logs]
