"""Real processes on PostgreSQL: suspensions whose process dies."""

from __future__ import annotations

import pytest

from kaiju_app._core.clock import steady_us
from processes.fixtures import LONG, Figures, Make, taken_over
from processes.group import LEASE, seconds
from processes.postgres.common import FAILOVER_S, MISSED_S

pytestmark = [pytest.mark.realtime, pytest.mark.slow]


@pytest.mark.parametrize("where", [pytest.param("inside the body", marks=pytest.mark.mechanism), "before it may begin"])
def test_what_a_killed_process_had_suspended_runs_again_within_the_failover(
    hosts: Make, figures: Figures, where: str
) -> None:
    every_s, run_s = (0.3, 0.15) if where == "inside the body" else (1.5, 1.0)
    processes = hosts(interval_s=every_s, run_s=run_s)
    suspender, other, _ = processes.start_settled("a", "b", "c")
    if where == "inside the body":
        suspender.tell("suspend", "task", 60)
        processes.wait_for_line(lambda each: each.event == "act-in-suspension")
    else:
        first = processes.next_begin(steady_us())
        suspender = other if first.who == suspender.who else suspender
        suspender.tell("suspend", "task", 60)
        processes.wait_for_database("holds <> '{}' AND owner IS NOT NULL")

    killed = suspender.kill()
    processes.wait_for_database("holds = '{}'")
    free = steady_us()
    again = processes.next_begin(killed)

    figures(free_s=seconds(killed, free), bound_s=FAILOVER_S, resumed_s=seconds(killed, again.at))
    if where != "inside the body":
        assert [] == [each for each in processes.entries if each.event == "suspended-begin"]
        assert (again.tick > first.tick, again.take) == (True, 1)
    processes.check(processes.end())
    assert MISSED_S - LEASE.renew_s < seconds(killed, free) < FAILOVER_S
    assert seconds(free, again.at) < every_s + LEASE.poll_s  # Earlier ticks were skipped; the next one counts.


def test_whoever_suspends_a_task_whose_process_is_killed_enters_within_the_failover(
    hosts: Make, figures: Figures
) -> None:
    processes = hosts(**LONG)
    processes.start_settled("a", "b", "c")
    first = processes.next_act()
    suspender = next(each for each in processes.all if each.who != first.who)
    suspender.tell("suspend", "task", 0.5)
    processes.wait_for_database("holds <> '{}'")

    killed = processes.process_named(first.who).kill()
    entered = processes.wait_for_line(lambda each: each.event == "suspended-begin")
    again = processes.next_begin(killed)

    figures(entered_s=seconds(killed, entered.at), bound_s=FAILOVER_S)
    assert again.at > entered.at
    assert taken_over(first, again)
    processes.check(processes.end())
    assert MISSED_S - LEASE.renew_s < seconds(killed, entered.at) < FAILOVER_S
