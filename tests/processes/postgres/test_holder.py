"""Real processes on PostgreSQL: faults of the process that owns a run."""

from __future__ import annotations

import json
import signal

import pytest

from kaiju_app._core.clock import steady_us
from kaiju_app.testing._cluster.journal import Entry
from processes.fixtures import LONG, Figures, Make, taken_over
from processes.group import LEASE, PATIENCE_S, seconds, us
from processes.hosts import Hosts
from processes.postgres.common import FAILOVER_S, MISSED_S, cut

pytestmark = [pytest.mark.realtime, pytest.mark.slow]


def late_acts(processes: Hosts, who: str, since: int) -> list[Entry]:
    return [each for each in processes.entries if (each.event, each.who) == ("act", who) and each.at > since]


@pytest.mark.mechanism
def test_a_process_whose_loop_is_blocked_is_replaced_and_what_it_does_late_has_a_lower_fence(
    hosts: Make, figures: Figures
) -> None:
    processes = hosts(**LONG)
    processes.start_settled("a", "b", "c")
    first = processes.next_act()

    blocked = steady_us()
    processes.process_named(first.who).tell("block", MISSED_S + 2)
    again = processes.next_begin(blocked)
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
    processes.start_settled("a", "b", "c")
    first = processes.next_act()

    blocked = steady_us()
    processes.process_named(first.who).tell("block", LEASE.ttl_s / 2)
    processes.wait_until(blocked + us(MISSED_S))

    end = processes.wait_for_line(lambda each: each.event == "end")
    assert (end.who, end.fence, end.note) == (first.who, first.fence, "")
    ledger = processes.end()
    assert [("SUCCEEDED", 1, first.fence)] == ledger.ended()
    processes.check(ledger)


@pytest.mark.mechanism
@pytest.mark.parametrize("how", ["is cancelled", "is shielded", "has asked before, and is heard after"])
def test_what_a_run_that_was_replaced_writes_by_guard_never_was(hosts: Make, figures: Figures, how: str) -> None:
    """In a table written only under guard(), fences grow: a late write is not in it."""
    heard_late = how.startswith("has asked")
    task = "task" if how == "is cancelled" else "shielded"
    processes = hosts(writes=True, **LONG) if task == "task" else hosts(writes=True, tasks=(), lasting=[task])
    processes.ask("CREATE TABLE written (id bigserial, task text, fence bigint)")
    processes.start_settled("a", "b", "c")
    now = steady_us()
    first = processes.wait_for_line(lambda each: (each.event, each.task) == ("written", task), since=now)
    holder = processes.process_named(first.who)

    if heard_late:
        assert processes.way(first.who).trap("guard", to_server=True).wait(PATIENCE_S)
        silent = steady_us()
    else:
        silent = holder.signal(signal.SIGSTOP)
    again = processes.next_begin(silent, unlike=first.who, task=task)
    counts = ("written", task, again.fence)
    processes.wait_for_line(lambda each: (each.event, each.task, each.fence) == counts)
    went_on = steady_us()
    if heard_late:
        processes.way(first.who).hold()
    else:
        holder.signal(signal.SIGCONT)
    ends = ("refused", "end")
    processes.wait_for_line(
        lambda each: (each.who, each.task) == (first.who, task) and each.event in ends, since=went_on
    )
    processes.wait_for_line(lambda each: (each.event, each.task, each.fence) == counts, since=went_on + us(1))

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
