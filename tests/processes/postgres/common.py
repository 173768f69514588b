"""Bounds and checks shared by the tests of real processes on PostgreSQL.

No instance can see that a process on another host is dead. Its runs and holds are free once the lease has expired and a
challenge was not answered. The bounds are the promised ones; each slack has its reason beside it.
"""

from __future__ import annotations

from kaiju_app.testing._cluster.journal import Entry
from processes.fixtures import ASKED_AGAIN_S, Figures
from processes.group import LEASE, local_gap, seconds, us
from processes.hosts import Hosts

FAILOVER_S = LEASE.failover_s
MISSED_S = LEASE.ttl_s + LEASE.grace_s  # A silent process is not considered dead before.
OP_S = LEASE.renew_s  # The time limit of a call.
LAG_S = 0.2  # Slack for the lateness of a loop on a busy machine.


def cut(processes: Hosts, first: Entry) -> Entry:
    """Wait until the run ends, check that it was cancelled, and return its last line."""
    end = processes.wait_for_line(lambda each: (each.event, each.who, each.fence) == ("end", first.who, first.fence))
    assert end.note == "cut", processes.failure("it was not cut")
    return end


def recovers(processes: Hosts, figures: Figures, off: int, on: int, again: Entry, said: str) -> None:
    """Check the promises for an outage of the server from *off* to *on*, and report the recovery time."""
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
    processes.next_begin(again.at + 1)
    processes.check(processes.end())
    assert gap_s < 1  # It ticks every 20 ms; the slack is for a busy machine.
    assert seconds(on, again.at) < bound_s
