"""Real processes that share tasks, on SQLite and on PostgreSQL: for each fault, what holds, and within which time.

The bounds are the promised ones. Slack for busy machines is added only where a comment says so.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kaiju_app._core.clock import steady_us
from kaiju_app.scheduler import LeaseTiming
from kaiju_app.stores import MemoryStore, store_from_url
from processes.fixtures import LONG, OFTEN, SEVERAL, Figures, Sharing, taken_over
from processes.group import LEASE, seconds, us
from processes.on_redis.hosts import RedisHosts
from processes.races import Races, in_processes, in_threads, prepare
from processes.storm import Storm

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

AT_ONCE_S = 1.0  # After an orderly stop, which the store knows of.
MISSED_S = LEASE.ttl_s + LEASE.grace_s  # A silent process is not considered dead before.

POOLER = pytest.param("pooler", marks=pytest.mark.pooler)
behind_a_pooler_too = pytest.mark.parametrize("sharing", ["sqlite", "postgres", POOLER], indirect=True)
on_redis_too = pytest.mark.parametrize("sharing", ["sqlite", "postgres", "redis"], indirect=True)
on_all = pytest.mark.parametrize("sharing", ["sqlite", "postgres", "redis", POOLER], indirect=True)


# --- the owner of a run ---


@pytest.mark.mechanism
@on_all
def test_a_tick_whose_process_is_killed_is_run_again_as_soon_as_it_is_missed(
    sharing: Sharing, figures: Figures
) -> None:
    """With locks the new owner need not have watched the store's clock, because no lease has to expire."""
    processes = sharing.make(**LONG)
    (processes.start_settled if sharing.by_lease else processes.start_ready)("a", "b", "c")
    first = processes.next_act()

    killed = processes.process_named(first.who).kill()
    again = processes.next_begin(killed)

    figures(failover_s=seconds(killed, again.at), bound_s=sharing.missed_within_s)
    assert taken_over(first, again)
    processes.next_act(again.who)
    ledger = processes.end()
    assert [("LOST", 1, first.fence), ("LOST", 2, again.fence)] == ledger.ended()
    processes.check(ledger)
    assert sharing.missed_after_s < seconds(killed, again.at) < sharing.missed_within_s


@pytest.mark.timeout(120)
def test_a_storm_of_kills_breaks_nothing(sharing: Sharing, figures: Figures) -> None:
    """Every second one of three processes is killed and comes back, and now and then one of them suspends a task.

    With leases, a fourth process has no faults and is the only one that suspends: the bound applies only if an instance
    has been there for a while. A suspension adds its length.
    """
    every_s = 0.4
    processes = sharing.make(tasks=SEVERAL, interval_s=every_s, run_s=0.3)
    storm = Storm(processes, SEVERAL, seed=20_260_802 if sharing.by_lease else 20_260_801, witness=sharing.by_lease)

    storm.of_kills(for_s=25)  # Few kills hit a run, and five of those have to be seen.

    bound_s = sharing.missed_within_s + (0.5 if sharing.by_lease else 0)
    figures(**storm.figures(), bound_s=bound_s, bound_by_lease_s=LEASE.failover_s)
    storm.check()
    assert len(storm.kills) >= 10
    assert len(storm.failovers) >= 5
    assert max(storm.failovers) < bound_s
    if not sharing.by_lease:
        # A hold of a dead process blocks a task no longer than a run of one. The next tick comes after that.
        assert storm.longest_silence_s < AT_ONCE_S + every_s


@pytest.mark.mechanism
@on_redis_too
def test_what_a_process_runs_that_stops_in_order_is_free_for_others_at_once(sharing: Sharing, figures: Figures) -> None:
    processes = sharing.make(**LONG)
    processes.start_ready("a", "b", "c")
    first = processes.next_act()

    stopped = processes.process_named(first.who).stop()
    again = processes.next_begin(stopped)

    ended = processes.wait_for_line(lambda each: each.event == "stopped")
    bound_s = AT_ONCE_S + (LEASE.poll_s if sharing.by_lease else 0)
    figures(free_s=seconds(stopped, again.at), stopped_s=seconds(stopped, ended.at), bound_s=bound_s)
    assert taken_over(first, again)
    cut = processes.wait_for_line(lambda each: each.event == "end")
    assert (cut.who, cut.note) == (first.who, "cut")
    processes.next_act(again.who)
    processes.check(processes.end())
    assert seconds(stopped, again.at) < bound_s
    assert seconds(stopped, ended.at) < AT_ONCE_S


def test_a_process_that_is_stopped_for_less_than_its_lease_goes_on_with_its_run(sharing: Sharing) -> None:
    """A pause of 1.5 s with a lease of three seconds, renewed every 0.4 s, leaves 1.1 s for a busy machine."""
    processes = sharing.make(lease=LeaseTiming(3.0, 0.4, 1.3, 0.4, 0.1), interval_s=60.0, run_s=7.5)
    processes.start_settled("a", "b", "c")
    first = processes.next_act()
    holder = processes.process_named(first.who)

    holder.signal(signal.SIGSTOP)
    processes.wait_until(steady_us() + us(1.5))
    went_on = holder.signal(signal.SIGCONT)

    after = processes.next_act(since=went_on)
    assert (after.who, after.fence) == (first.who, first.fence)
    end = processes.wait_for_line(lambda each: each.event == "end")
    assert (end.who, end.fence, end.note) == (first.who, first.fence, "")
    ledger = processes.end()
    assert [("SUCCEEDED", 1, first.fence)] == ledger.ended()
    processes.check(ledger)


@pytest.mark.mechanism
@behind_a_pooler_too
def test_a_process_that_is_stopped_for_longer_than_its_lease_is_replaced_and_acts_no_more(
    sharing: Sharing, figures: Figures
) -> None:
    """When it continues, it acts for at most one turn of its loop, with its old fence. Its ending does not count."""
    processes = sharing.make(**LONG)
    processes.start_settled("a", "b", "c")
    first = processes.next_act()
    holder = processes.process_named(first.who)

    stopped = holder.signal(signal.SIGSTOP)
    again = processes.next_begin(stopped)
    processes.next_act(again.who, since=again.at)
    stands = processes.ask("SELECT fence FROM kaiju_task WHERE name = 'task'")
    went_on = holder.signal(signal.SIGCONT)
    cut = processes.wait_for_line(lambda each: each.event == "end")

    late = [each for each in processes.entries if each.event == "act" and each.who == holder.who and each.at > went_on]
    figures(failover_s=seconds(stopped, again.at), bound_s=LEASE.failover_s, late_acts=len(late))
    assert taken_over(first, again)
    assert again.fence == stands  # The guard of the late act is refused.
    assert (cut.who, cut.fence, cut.note) == (first.who, first.fence, "cut")
    assert len(late) <= 1
    assert all(each.thaw and each.fence < stands for each in late)
    processes.wait_until(steady_us() + us(2 * LEASE.renew_s))
    ledger = processes.end()
    assert [("LOST", 1, first.fence), ("LOST", 2, again.fence)] == ledger.ended()
    processes.check(ledger)
    assert MISSED_S - LEASE.renew_s < seconds(stopped, again.at) < LEASE.failover_s


def test_runs_that_go_on_beside_their_successors_are_told_and_their_endings_refused(
    sharing: Sharing, figures: Figures
) -> None:
    """One run is never cancelled, one ignores its cancellation. Their process still takes its share of other tasks."""
    lasting = ("shielded", "stubborn")
    processes = sharing.make(lasting=lasting, tasks=SEVERAL, **OFTEN)
    (holder,) = processes.start_ready("a")
    first = {
        task: processes.wait_for_line(lambda each, task=task: (each.event, each.task) == ("act", task))
        for task in lasting
    }
    processes.start_settled("b")

    stopped = holder.signal(signal.SIGSTOP)
    again = {task: processes.next_begin(stopped, unlike="a", task=task) for task in lasting}
    went_on = holder.signal(signal.SIGCONT)
    for run in (*first.values(), *again.values()):
        end = ("end", run.task, run.fence)
        processes.wait_for_line(lambda each, end=end: (each.event, each.task, each.fence) == end)
    ended = steady_us()
    processes.wait_until(ended + us(2 * LEASE.renew_s))
    ledger = processes.end()

    failover_s = max(seconds(stopped, each.at) for each in again.values())
    late = {}
    for task in lasting:
        act = ("act", task, first[task].fence)
        acts = [each for each in processes.entries if (each.event, each.task, each.fence) == act]
        late[task] = [each for each in acts if each.at > went_on]
        assert {""} == {each.note for each in acts if each.at < stopped}
        assert all(each.note == "lost" for each in late[task] if not each.thaw)
        assert (again[task].tick, again[task].take) == (first[task].tick, 2)
        told = sorted((row.outcome, row.delivery, row.fence) for row in ledger.rows if row.name == task)
        expected = [("LOST", 1, first[task].fence), ("SUCCEEDED", 2, again[task].fence)]
        assert expected == told
    figures(failover_s=failover_s, bound_s=LEASE.failover_s, late_acts=sum(map(len, late.values())))
    assert min(map(len, late.values())) > 10
    assert "task 'shielded'" in holder.errors.read_text()
    assert "does not count" in holder.errors.read_text()
    assert any((each.event, each.who) == ("begin", "a") for each in processes.entries if went_on < each.at < ended)
    processes.check(ledger, tasks=SEVERAL)
    assert failover_s < LEASE.failover_s


# --- suspensions ---


def test_a_suspension_of_a_process_that_is_stopped_for_longer_than_its_lease_is_lost(
    sharing: Sharing, figures: Figures
) -> None:
    processes = sharing.make(**OFTEN)
    suspender, *_ = processes.start_settled("a", "b", "c")
    suspender.tell("suspend", "task", 60)
    processes.wait_for_line(lambda each: each.event == "act-in-suspension")

    stopped = suspender.signal(signal.SIGSTOP)
    again = processes.next_begin(stopped)
    went_on = suspender.signal(signal.SIGCONT)
    lost = processes.wait_for_line(lambda each: each.event == "suspend-lost")

    acts = [each for each in processes.entries if each.event == "act-in-suspension" and each.at > went_on]
    figures(resumed_s=seconds(stopped, again.at), bound_s=LEASE.failover_s, late_acts=len(acts))
    assert again.who != suspender.who
    assert seconds(went_on, lost.at) < AT_ONCE_S
    assert len(acts) <= 1
    assert all(each.thaw for each in acts)
    processes.next_begin(lost.at)
    processes.check(processes.end())
    assert MISSED_S - LEASE.renew_s < seconds(stopped, again.at) < LEASE.failover_s


@behind_a_pooler_too
@pytest.mark.parametrize("what", ["*", "one"])
def test_a_suspension_in_one_process_holds_in_all(sharing: Sharing, what: str) -> None:
    processes = sharing.make(tasks=SEVERAL, **OFTEN)
    processes.start_ready("a", "b", "c")
    for who in "abc":
        processes.next_act(who)
    tasks = SEVERAL if what == "*" else (what,)

    for process in processes.all:
        process.tell("suspend", what, 0.7)
        over = processes.wait_for_line(lambda each, who=process.who: (each.who, each.event) == (who, "suspended-end"))
        for task in tasks:
            processes.next_begin(over.at, task=task)

    assert all(processes.next_act(who, over.at) for who in "abc")
    processes.check(processes.end(), tasks=SEVERAL)
    entries = processes.entries
    assert 3 * len(tasks) == sum(each.event == "suspended-begin" for each in entries)
    assert sum(each.event == "act-in-suspension" for each in entries) > 3 * len(tasks) * 10
    logs = [each.errors.read_text() for each in processes.all]
    assert [0, 0, 0] == [each.count("no further ticks of cluster tasks are claimed") for each in logs]


def test_all_processes_may_suspend_at_once(sharing: Sharing, figures: Figures) -> None:
    """Suspensions are shared: all enter once the runs in progress are over. Afterwards the tasks go on."""
    processes = sharing.make(tasks=SEVERAL, **OFTEN)
    processes.start_ready("a", "b", "c")
    processes.next_act()

    asked = steady_us()
    for process in processes.all:
        process.tell("suspend", "*", 1.5)
    for who in "abc":
        processes.wait_for_line(lambda each, who=who: (each.who, each.event) == (who, "suspended-begin"))
    all_in = max(each.at for each in processes.entries if each.event == "suspended-begin")
    for who in "abc":
        processes.wait_for_line(lambda each, who=who: (each.who, each.event) == (who, "suspended-end"))
    first_out = min(each.at for each in processes.entries if each.event == "suspended-end")
    all_out = max(each.at for each in processes.entries if each.event == "suspended-end")
    for task in SEVERAL:
        processes.next_begin(all_out, task=task)

    figures(entered_s=seconds(asked, all_in), bound_s=OFTEN["run_s"] + 1)
    assert all_in < first_out
    processes.check(processes.end(), tasks=SEVERAL)
    assert seconds(asked, all_in) < OFTEN["run_s"] + 1


# --- starts and forks ---


@on_redis_too
def test_a_forked_child_is_another_instance_and_leaves_what_its_parent_has(sharing: Sharing, figures: Figures) -> None:
    processes = sharing.make(**LONG)
    (parent,) = processes.start_ready("a")
    first = processes.next_act()
    parent.tell("fork")
    child = processes.wait_for_line(lambda each: (each.who, each.event) == ("a-child", "boot"))
    pid, instance = child.note.split()
    (other,) = processes.start_settled("b")  # By now another process could have taken over the parent's lease.
    calm = steady_us()

    boots = {each.who: each.note.split()[1] for each in processes.entries if each.event == "boot"}
    assert 3 == len(set(boots.values()))
    assert [first.fence] == [each.fence for each in processes.entries if each.event == "begin"]
    assert first.who == processes.next_act(since=calm).who == "a"

    os.kill(int(pid), signal.SIGTERM)
    processes.wait_for_line(lambda each: (each.who, each.event) == ("a-child", "stopped"))
    processes.wait_until(steady_us() + us(LEASE.poll_s))
    assert [first.fence] == [each.fence for each in processes.entries if each.event == "begin"]
    parent.tell("fork")
    again = processes.wait_for_line(
        lambda each: (each.who, each.event) == ("a-child", "boot") and each.note != child.note
    )
    assert instance != again.note.split()[1]

    other.stop()
    if sharing.by_lease:
        processes.wait_until(again.at + us(MISSED_S + LEASE.poll_s))
    killed = parent.kill()  # The child has neither the parent's lock nor its lease.
    taken_over = processes.next_begin(killed)
    figures(failover_s=seconds(killed, taken_over.at), bound_s=sharing.missed_within_s)
    assert ("a-child", 2) == (taken_over.who, taken_over.take)
    os.kill(int(again.note.split()[0]), signal.SIGTERM)
    processes.wait_for_line(lambda each: (each.who, each.event) == ("a-child", "stopped") and each.at > killed)
    processes.check(processes.end())
    assert sharing.missed_after_s < seconds(killed, taken_over.at) < sharing.missed_within_s


@pytest.mark.timeout(120)
@on_redis_too
def test_twenty_processes_may_start_at_once_where_there_is_no_store_yet(sharing: Sharing, figures: Figures) -> None:
    processes = sharing.make(interval_s=60.0, run_s=0.5, wait=True)
    names = [f"p{number}" for number in range(20)]
    for who in names:
        processes.start(who, store=processes.url)
    for who in names:
        processes.wait_for_line(lambda each, who=who: (each.who, each.event) == (who, "ready"), within_s=40)

    told = steady_us()
    for process in processes.all:
        process.tell("go")
    for who in names:
        processes.wait_for_line(lambda each, who=who: (each.who, each.event) == (who, "boot"))
    booted = steady_us()
    processes.wait_for_line(lambda each: each.event == "end")
    processes.wait_until(booted + us(2 * LEASE.poll_s))

    figures(all_started_s=seconds(told, booted))
    assert seconds(told, booted) < 5  # Idle: less than 0.5; 20 or more if each start waited for the one before.
    assert [1] == [each.take for each in processes.entries if each.event == "begin"]
    if isinstance(processes, RedisHosts):
        assert ({"task"}, 20) == (processes.fences().keys(), processes.instances())
    else:
        assert 1 == processes.ask("SELECT count(*) FROM kaiju_schema")
        first = tuple(processes.ask(f"SELECT {what} FROM kaiju_task") for what in ("count(*)", "min(name)"))
        assert first == (1, "task")
        assert 20 == processes.ask("SELECT count(*) FROM kaiju_instance")
    ledger = processes.end()
    assert [("SUCCEEDED", 1)] == [(row.outcome, row.delivery) for row in ledger.rows]
    assert [] == list(processes.directory.glob("*.corrupt*"))
    processes.check(ledger)


# --- suspending races claiming ---

RACES = {
    "memory": Races(10_000),
    "sqlite": Races(10_000),
    "postgres": Races(1_000, tasks=10, apart_s=2e-3),  # Statements lock their rows one after the other.
    "pooler": Races(200, tasks=5, apart_s=2e-3),
}


@pytest.mark.timeout(180)  # Two processes wait ten thousand times for each other and for a processor.
@pytest.mark.parametrize("where", RACES)
def test_a_claim_and_a_hold_that_race_never_both_come_first(
    request: pytest.FixtureRequest, tmp_path: Path, figures: Figures, where: str
) -> None:
    """In ten thousand races a hold that finds no run is right: no claim was made at the same time."""
    races = RACES[where]
    if where == "memory":
        store = MemoryStore()
        asyncio.run(prepare(store, races))
        began = steady_us()
        found = in_threads(store, races)
    else:
        url = f"sqlite:///{tmp_path / 'store.db'}"
        if where != "sqlite":
            hosts = request.getfixturevalue("hosts")()
            url = hosts.url
        if where == "pooler":
            port = request.getfixturevalue("pooler")(hosts)
            url = urlsplit(url)._replace(netloc=f"postgres@127.0.0.1:{port}").geturl()
        asyncio.run(prepare(store_from_url(url), races))
        began = steady_us()
        found = in_processes(url, races)
    claimed, seen = found["claiming"], found["suspending"]

    number = races.times * races.tasks
    won = Counter("claim" if fence else "hold" for fences in claimed.values() for fence in fences)
    figures(races=won.total(), **won, took_s=seconds(began, steady_us()))
    assert number == won.total()
    assert claimed == seen  # A hold sees every claim made before it, and no claim is made after it.
    for fences in claimed.values():
        won_by_claim = [fence for fence in fences if fence]
        assert won_by_claim == sorted(set(won_by_claim))
    assert won["claim"] > number / 50
    assert won["hold"] > number / 50
