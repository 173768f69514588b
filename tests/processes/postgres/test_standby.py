"""Real processes on PostgreSQL: read-only servers, and a failover that loses writes."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from kaiju_app._core.clock import steady_us
from processes.fixtures import ASKED_AGAIN_S, OFTEN, SEVERAL, Figures, Make
from processes.group import LEASE, local_gap, seconds, us
from processes.hosts import Hosts
from processes.postgres.common import FAILOVER_S, OP_S
from support.postgres_server import Programs, Server
from support.tcp_proxy import Proxy

pytestmark = [pytest.mark.realtime, pytest.mark.slow]


def test_a_server_that_can_only_be_read_is_refused_until_there_is_one_that_can_be_written_to(
    hosts: Make, figures: Figures, server: Server
) -> None:
    with server.standby() as standby:
        processes = hosts(local="local", **OFTEN)
        processes.start_settled("a", "b", "c")
        processes.next_act()

        off = steady_us()
        processes.lead_to(standby)
        processes.cut()
        processes.wait_until(off + us(FAILOVER_S))
        on = steady_us()
        processes.lead_to(server)
        again = processes.next_begin(on)

        silent = [each for each in processes.entries if each.task == "task" and off + us(LEASE.ttl_s) < each.at < on]
        gap_s, bound_s = local_gap(processes, off, again.at), 2 * LEASE.poll_s + ASKED_AGAIN_S + LEASE.grace_s
        figures(recovery_s=seconds(on, again.at), bound_s=bound_s, longest_local_gap_s=gap_s)
        assert [] == [each for each in silent if each.event in ("begin", "act")]
        for process in processes.all:
            assert "no further ticks of cluster tasks are claimed" in process.errors.read_text()
        processes.check(processes.end())
        assert gap_s < 1
        assert seconds(on, again.at) < bound_s


def test_after_a_failover_that_loses_claims_fences_grow_and_runs_overlap_until_the_next_renewal_at_most(
    hosts: Make, figures: Figures, programs: Programs
) -> None:
    """The documented exception: the standby does not know claims that it had not received. Guarded writes are safe."""
    with ExitStack() as stack:
        primary = stack.enter_context(Server(programs))
        link = stack.enter_context(Proxy("127.0.0.1", primary.port))
        standby = stack.enter_context(primary.standby(through=link.dsn(primary.dsn())))
        processes = hosts(primary, tasks=SEVERAL, interval_s=4.0, run_s=3.5)
        processes.start_settled("a", "b", "c")
        for task in SEVERAL:
            processes.wait_for_line(lambda each, task=task: (each.event, each.task) == ("end", task))

        link.hold(to_client=True)  # From now on the standby receives nothing.
        behind = steady_us()
        for task in SEVERAL:
            processes.next_begin(behind, task=task)
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
            processes.next_begin(promoted, task=task)
        going = steady_us()
        for task in SEVERAL:
            processes.next_begin(going, task=task)

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
    """Return for how many seconds runs went on after a later one had begun."""
    entries = [each for each in processes.entries if each.task == task and each.fence]
    found = []
    for begin in [each for each in entries if each.event == "begin" and each.at > since]:
        late = [each.at for each in entries if each.fence < begin.fence and each.at > begin.at and each.event == "act"]
        found += [seconds(begin.at, max(late))] if late else []
    return found
