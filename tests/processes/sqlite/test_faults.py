"""Real processes that share tasks through a SQLite file: for each fault, what holds, and within which time.

The bounds are the promised ones. Slack for busy machines is added only where a comment says so.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from kaiju_app._core.clock import steady_us, wall_us
from kaiju_app.scheduler import LeaseTiming
from processes.fixtures import ASKED_AGAIN_S, HOUR_S, LONG, OFTEN, SEVERAL, Figures, Group, fill, find_libfaketime
from processes.group import LEASE, PATIENCE_S, Processes, local_gap, longest_gap, seconds, us
from support.postgres_server import found_or_skip

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

# A killed process is noticed at once by its lock; one that stops in order says so.
AT_ONCE_S = 1.0


# --- suspensions ---


@pytest.mark.mechanism
def test_what_a_killed_process_had_suspended_runs_again_within_a_second(group: Group, figures: Figures) -> None:
    processes = group(**OFTEN)
    suspender, *_ = processes.start_ready("a", "b", "c")
    suspender.tell("suspend", "task", 60)
    processes.wait_for_line(lambda each: each.event == "act-in-suspension")

    killed = suspender.kill()
    again = processes.next_begin(killed)

    figures(resumed_s=seconds(killed, again.at), bound_s=AT_ONCE_S)
    ledger = processes.end()
    processes.check(ledger)
    assert seconds(killed, again.at) < AT_ONCE_S


# --- the file ---


def test_a_full_disk_ends_what_is_shared_until_there_is_room_and_nothing_else(
    group: Group, figures: Figures, small_disk: Path
) -> None:
    processes = group(url=f"sqlite:///{small_disk / 'store.db'}", local="local", **OFTEN)
    processes.start_ready("a", "b", "c")
    processes.next_act()

    fill(small_disk)
    full = steady_us()
    while seconds(full, steady_us()) < LEASE.ttl_s + 2.5:
        fill(small_disk)
        time.sleep(0.01)
    os.unlink(small_disk / "ballast")
    free = steady_us()
    again = processes.next_begin(free)

    silent = [each for each in processes.entries if each.task == "task" and full + us(LEASE.ttl_s) < each.at < free]
    figures(
        recovery_s=seconds(free, again.at),
        bound_s=ASKED_AGAIN_S + LEASE.failover_s,
        full_s=seconds(full, free),
        acts_after_lease=len(silent),
        longest_local_gap_s=local_gap(processes, full, again.at),
    )
    assert [] == [each for each in silent if each.event in ("begin", "act")]
    processes.next_begin(again.at + 1)
    processes.check(processes.end())
    assert local_gap(processes, full, again.at) < 1  # It ticks every 20 ms; the slack is for a busy machine.
    assert seconds(free, again.at) < ASKED_AGAIN_S + LEASE.failover_s


def test_that_a_store_fails_is_told_once_and_not_again_at_every_try(group: Group, small_disk: Path) -> None:
    """The store can still be read, but that does not count as recovered."""
    processes = group(url=f"sqlite:///{small_disk / 'store.db'}", **OFTEN)
    (process,) = processes.start_ready("a")
    processes.next_act()

    full = steady_us()
    while seconds(full, steady_us()) < LEASE.ttl_s + 2:
        fill(small_disk)
        time.sleep(0.01)

    assert 1 <= process.errors.read_text().count("no further ticks of cluster tasks are claimed") <= 2


WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE kaiju_task SET rev = rev + 1")
print("inside", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


@pytest.mark.parametrize("how", ["goes on", "is killed"])
def test_a_writer_that_is_stopped_inside_its_transaction_keeps_all_waiting_and_breaks_nothing(
    group: Group, figures: Figures, how: str
) -> None:
    processes = group(local="local", **OFTEN)
    processes.start_ready("a", "b", "c")
    processes.next_act()
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(processes.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        try:
            assert "inside\n" == writer.stdout.readline()
            writer.send_signal(signal.SIGSTOP)
            held = steady_us()
            processes.wait_until(held + us(LEASE.failover_s))  # All runs are cancelled, and could have been taken over.
            free = steady_us()
            if how == "goes on":
                writer.stdin.close()
                writer.send_signal(signal.SIGCONT)
            else:
                writer.kill()
            again = processes.next_begin(free)
        finally:
            writer.kill()

    silent = [each for each in processes.entries if each.task == "task" and held + us(LEASE.ttl_s) < each.at < free]
    figures(
        recovery_s=seconds(free, again.at),
        bound_s=ASKED_AGAIN_S + LEASE.failover_s,
        acts_after_lease=len(silent),
        longest_local_gap_s=local_gap(processes, held, again.at),
    )
    assert [] == [each for each in silent if each.event in ("begin", "act")]
    processes.next_begin(again.at + 1)
    processes.check(processes.end())
    assert local_gap(processes, held, again.at) < 1  # As above.
    assert seconds(free, again.at) < ASKED_AGAIN_S + LEASE.failover_s


# --- the wall clock ---


def test_instances_whose_wall_clock_is_wrong_take_no_lease_away(group: Group) -> None:
    """A lease holds as long as it is renewed, whatever the clock of an observer shows."""
    processes = group(**LONG)
    processes.start_ready("a")
    first = processes.next_act()
    processes.start("b", shift_s=HOUR_S)
    processes.start("c", shift_s=-HOUR_S)
    for who in "bc":
        booted = processes.wait_for_line(lambda each, who=who: (each.who, each.event) == (who, "boot"))
    # By then they could trust the store's clock, challenge the lease and take it over.
    processes.wait_until(booted.at + us(LEASE.ttl_s + 2 * LEASE.grace_s + LEASE.poll_s))

    assert [first.fence] == [each.fence for each in processes.entries if each.event == "begin"]
    assert "a" == processes.next_act(since=steady_us()).who
    processes.check()


@pytest.mark.xfail(
    strict=True,
    reason="the processes of a host have one time of day, by which a file counts its leases; a clock of one's own, "
    "an hour ahead, leaves a paused holder the grace and not the lease: stated in SqliteStore",
)
def test_beside_instances_whose_wall_clock_is_wrong_a_short_pause_costs_no_lease(group: Group) -> None:
    """The same holds without such instances: a pause of two seconds with a lease of four."""
    processes = group(lease=LeaseTiming(4.0, 0.4, 1.3, 0.4, 0.1), **LONG)
    (holder,) = processes.start_ready("a")
    first = processes.next_act()
    processes.start("b", shift_s=HOUR_S)
    processes.start("c", shift_s=-HOUR_S)
    processes.start_settled("d")

    holder.signal(signal.SIGSTOP)
    processes.wait_until(steady_us() + us(2.0))
    went_on = holder.signal(signal.SIGCONT)
    processes.next_act("a", since=went_on)
    processes.wait_until(went_on + us(2 * LEASE.renew_s))

    processes.check()
    assert [first.fence] == [each.fence for each in processes.entries if each.event == "begin"]


def test_when_somebody_sets_the_clock_of_the_host_leases_and_suspensions_stay(group: Group) -> None:
    processes = group(**LONG)
    processes.start_ready("a", "b")
    (suspender,) = processes.start_ready("c", tasks=("other",), run_s=0.1)
    first = processes.next_act()
    processes.wait_for_line(lambda each: (each.event, each.task) == ("end", "other"))
    suspender.tell("suspend", "other", 60)
    processes.wait_for_line(lambda each: each.event == "act-in-suspension")

    for shown in (HOUR_S, -HOUR_S, 0):
        for process in processes.all:
            process.tell("clock", shown)
        processes.wait_until(steady_us() + us(3 * LEASE.renew_s))

    processes.next_act(first.who, since=steady_us())
    processes.wait_for_line(lambda each: each.event == "act-in-suspension", since=steady_us())
    assert first.fence in {each.fence for each in processes.entries if each.event == "begin"}
    lost = [each for each in processes.entries if each.event == "suspend-lost" or each.note == "cut"]
    assert [] == lost
    processes.check(tasks=("task", "other"))


def test_an_instance_an_hour_behind_runs_nothing_and_disturbs_nobody(group: Group) -> None:
    """Each instance compares ticks with its own clock; for this one all of them lie ahead."""
    processes = group(tasks=SEVERAL, **OFTEN)
    processes.start_ready("a", "c")
    processes.next_act()
    processes.start_ready("b", shift_s=-HOUR_S)
    now = steady_us()
    processes.wait_until(now + us(2))
    processes.process_named("b").tell("suspend", "one", 1)
    over = processes.wait_for_line(lambda each: each.event in ("suspended-end", "suspend-lost", "suspend-refused"))
    processes.next_begin(over.at, task="one")
    end = steady_us()

    ledger = processes.end()
    entries = [each for each in processes.entries if now < each.at < end]
    assert "suspended-end" == over.event
    assert {"a", "c"} == {each.who for each in entries if each.event == "begin"}
    others = [each for each in entries if each.task == "two"]
    assert longest_gap(others, now, end) < OFTEN["interval_s"] + 3 * LEASE.poll_s  # Its share is claimed late.
    processes.check(ledger, tasks=SEVERAL)


def test_an_instance_an_hour_ahead_runs_what_its_clock_says_is_due_and_no_tick_twice(group: Group) -> None:
    """For this instance all ticks of the next hour are due: it runs the latest one, and the others have nothing to do.

    That is the price of a wrong clock on one host. Leases and suspensions still hold.
    """
    processes = group(**OFTEN)
    processes.start_ready("b", shift_s=HOUR_S)
    booted = processes.next_act("b")
    processes.start_ready("a", "c")
    processes.wait_until(steady_us() + us(2))
    processes.process_named("a").tell("suspend", "task", 1)
    over = processes.wait_for_line(lambda each: each.event in ("suspended-end", "suspend-lost", "suspend-refused"))
    processes.next_begin(over.at)

    ahead = wall_us() + us(HOUR_S / 2)
    begun = [each for each in processes.entries if each.event == "begin" and each.at > booted.at]
    assert "suspended-end" == over.event
    assert {("b", True)} == {(each.who, each.tick > ahead) for each in begun}
    processes.check(processes.end())


def heard_of(processes: Processes, instance: str) -> int:
    """Return the time of an instance's heartbeat by its own clock; it may have to wait before it can send one."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with closing(sqlite3.connect(processes.path)) as connection:
            seen = connection.execute("SELECT seen_at FROM kaiju_instance WHERE id = ?", (instance,)).fetchone()
        if seen is not None:
            return int(seen[0])
        time.sleep(0.05)
    raise AssertionError(processes.failure(f"nothing was heard of {instance}"))


def test_under_libfaketime_no_promise_is_broken(group: Group) -> None:
    """The wall clock of two of four processes is wrong for all code, not only for Python.

    There are no time limits: libfaketime 0.9.10 itself stops the threads of a Python process for up to seconds, even
    inside a transaction for which all others wait.
    """
    library = found_or_skip(find_libfaketime())
    preload = {"LD_PRELOAD": library, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    processes = group(tasks=SEVERAL, **OFTEN)
    processes.start_ready("a", "b")
    processes.start("c", preload | {"FAKETIME": "+1h"})
    processes.start("d", preload | {"FAKETIME": "-1h"})
    boots = [processes.wait_for_line(lambda each, who=who: (each.who, each.event) == (who, "boot")) for who in "cd"]
    processes.process_named("a").tell("suspend", "one", 0.5)
    processes.process_named("c").tell("suspend", "two", 0.5)
    processes.wait_until(boots[-1].at + us(LEASE.failover_s))

    ahead, behind = (heard_of(processes, each.note.split()[1]) - wall_us() for each in boots)
    assert 0.9 < ahead / us(HOUR_S) < 1.1
    assert 0.9 < -behind / us(HOUR_S) < 1.1
    processes.check(processes.end(), tasks=SEVERAL)
