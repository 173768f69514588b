"""Real processes on PostgreSQL: networks that are cut or slow, and a pooler."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from kaiju_app._core.clock import steady_us
from kaiju_app.scheduler import LeaseTiming
from processes.fixtures import ASKED_AGAIN_S, LONG, OFTEN, SEVERAL, Figures, Make, behind, taken_over
from processes.group import LEASE, PATIENCE_S, seconds, us
from processes.hosts import Hosts
from processes.postgres.common import FAILOVER_S, LAG_S, MISSED_S, OP_S, cut, recovers

pytestmark = [pytest.mark.realtime, pytest.mark.slow]


@pytest.mark.parametrize("ways", [pytest.param("both ways", marks=pytest.mark.mechanism), "answers only"])
def test_a_process_that_is_cut_off_from_the_server_stops_in_time_and_is_replaced(
    hosts: Make, figures: Figures, ways: str
) -> None:
    """With only answers lost, the server executes its renewals, but it must not rely on renewals without an answer."""
    processes = hosts(**LONG)
    processes.start_settled("a", "b", "c")
    first = processes.next_act()
    way = processes.way(first.who)

    off = steady_us()
    way.hold(to_server=ways == "both ways", to_client=True)
    way.refuse(ways == "both ways")
    again = processes.next_begin(off)
    ended = cut(processes, first)
    processes.next_act(again.who, again.at + us(LEASE.renew_s))
    on = steady_us()
    way.refuse(False)
    way.hold()
    while "available again" not in processes.process_named(first.who).errors.read_text():
        assert seconds(on, steady_us()) < PATIENCE_S, processes.failure("it does not come back")
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
    """A tenth of a second each way; a renewal may take 0.4 s."""
    processes = hosts(interval_s=60.0, run_s=9.0)
    processes.start_settled("a", "b", "c")
    first = processes.next_act()

    for way in processes.ways.values():
        way.delay(0.1, 0.1)
    processes.wait_until(steady_us() + us(FAILOVER_S))

    assert [first.fence] == [each.fence for each in processes.entries if each.event == "begin"]
    end = processes.wait_for_line(lambda each: each.event == "end")
    assert (end.who, end.fence, end.note) == (first.who, first.fence, "")
    for way in processes.ways.values():
        way.delay()
    ledger = processes.end()
    assert [("SUCCEEDED", 1, first.fence)] == ledger.ended()
    processes.check(ledger)


def test_processes_connect_again_over_a_slow_network_though_that_takes_longer_than_a_renewal_may(
    hosts: Make, figures: Figures
) -> None:
    """A connection takes about ten round trips. A caller that gives up leaves the attempt to the next one."""
    processes = hosts(**OFTEN)
    processes.start_settled("a", "b", "c")
    for way in processes.ways.values():
        way.delay(0.05, 0.05)
    processes.next_begin(steady_us())

    processes.cut()
    cut_at = steady_us()
    again = processes.next_begin(cut_at + us(LEASE.renew_s))  # Runs claimed before the cut have begun by then.
    going = processes.next_begin(again.at + 1)

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
    processes.start_settled("a", "b", "c")
    processes.next_act()

    slow = steady_us()
    for way in processes.ways.values():
        way.delay(0.6, 0.6)
    processes.wait_until(slow + us(FAILOVER_S + 1))
    fast = steady_us()
    for way in processes.ways.values():
        way.delay()
    again = processes.next_begin(fast)

    recovers(processes, figures, slow, fast, again, "no further ticks of cluster tasks are claimed")


def test_behind_a_pooler_of_transactions_it_is_said_once_that_nothing_is_delivered_to_who_listens(
    hosts: Make, pooler: Callable[[Hosts], int]
) -> None:
    """With the default lease timing. Statements rely on no session state."""
    processes = behind(pooler, hosts(lease=LeaseTiming(), tasks=SEVERAL, **OFTEN))
    processes.start_ready("a", "b", "c")
    for who in "abc":
        processes.next_act(who)
    processes.wait_until(steady_us() + us(processes.lease.poll_s + 1))

    processes.check(processes.end(), tasks=SEVERAL)
    logs = [each.errors.read_text() for each in processes.all]
    assert [1, 1, 1] == [each.count("LISTEN is accepted") for each in logs]
    assert [0, 0, 0] == [each.count("no further ticks of cluster tasks are claimed") for each in logs]
