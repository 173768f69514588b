"""Real processes on PostgreSQL: clocks that jump or run too fast or slow."""

from __future__ import annotations

import pytest

from kaiju_app._core.clock import steady_us, wall_us
from processes.fixtures import HOUR_S, LONG, OFTEN, SEVERAL, Clock, Figures, Make, taken_over
from processes.group import LEASE, longest_gap, seconds, us
from processes.postgres.common import FAILOVER_S, LAG_S, MISSED_S, cut
from support.postgres_server import Programs, Server

pytestmark = [pytest.mark.realtime, pytest.mark.slow]


JUMPS = {"an hour ahead": [3600], "ten minutes back": [-600], "here and there": [3600, -600, 1800, 0]}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("jumps", JUMPS)
def test_no_lease_is_taken_away_when_the_clock_of_the_server_jumps(
    hosts: Make, figures: Figures, programs: Programs, clock: Clock, jumps: str
) -> None:
    """A death is noticed later, since the clock must be watched again. Live instances keep their leases."""
    with Server(programs, environment=clock.environment) as server:
        processes = hosts(server, **LONG)
        processes.start_settled("a", "b", "c")
        first = processes.next_act()

        for ahead_s in JUMPS[jumps]:
            clock.set(ahead_s)
            jumped = steady_us()
            shown = int(processes.ask("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"))
            assert abs(shown - wall_us() - us(ahead_s)) < us(1)
            processes.wait_until(jumped + us(2 * LEASE.renew_s + LEASE.poll_s))
        assert [first.fence] == [each.fence for each in processes.entries if each.event == "begin"]
        processes.next_act(first.who, since=steady_us())
        killed = processes.process_named(first.who).kill()
        processes.wait_for_database(f"fence > {first.fence} OR owner IS NULL")
        free = steady_us()
        shown = int(processes.ask("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"))
        if shown >= first.tick:  # Otherwise the tick is not due again until the clock has caught up.
            again = processes.next_begin(killed)
            assert (again.who != first.who, again.take, again.fence > first.fence) == (True, 2, True)

        bound_s = FAILOVER_S + MISSED_S
        figures(free_s=seconds(killed, free), bound_s=bound_s, after_jump_s=seconds(jumped, free))
        processes.check(processes.end())
        assert seconds(killed, free) < bound_s


@pytest.mark.parametrize("ahead_s", [3, -3])
def test_ticks_go_by_the_clock_of_the_server_and_none_is_run_twice_when_it_jumps(
    hosts: Make, figures: Figures, programs: Programs, clock: Clock, ahead_s: float
) -> None:
    """After a step back nothing runs until the clock has caught up. After a step forward at most one run is early."""
    with Server(programs, environment=clock.environment) as server:
        processes = hosts(server, **OFTEN)
        processes.start_settled("a", "b", "c")
        processes.next_begin(steady_us())

        jumped = steady_us()
        clock.set(ahead_s)
        again = processes.next_begin(jumped + us(0.2))
        processes.wait_until(max(again.at, jumped + us(3)) + us(1))
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
    """Only the server's clock counts. The wall clock of an instance may be wrong from the start or set later."""
    processes = hosts(tasks=SEVERAL, **OFTEN)
    processes.start("b", shift_s=HOUR_S)
    processes.start("c", shift_s=-HOUR_S)
    processes.start_settled("a")
    for who in "abc":
        processes.next_act(who, since=steady_us())
    processes.process_named("a").tell("suspend", "one", 0.4)
    processes.process_named("b").tell("suspend", "two", 0.4)
    for shown in (HOUR_S, -HOUR_S, 0):
        for process in processes.all:
            process.tell("clock", shown)
        set_at = steady_us()
        for who in "abc":
            processes.next_act(who, since=set_at)
        processes.wait_until(set_at + us(3 * LEASE.renew_s))

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
    """A process that is cut off ends its run by its own clock, and the other one waits by the server's clock."""
    processes = hosts(**LONG)
    processes.start_ready("a", rate=holder_rate)
    first = processes.next_act("a")
    processes.start_settled("b", rate=other_rate)
    processes.wait_until(steady_us() + us(MISSED_S / 4))  # A slow clock needs this much longer to be trusted.

    off = steady_us()
    processes.way("a").hold(to_server=True, to_client=True)
    again = processes.next_begin(off, unlike="a")
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
