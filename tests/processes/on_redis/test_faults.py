"""Real processes on Redis or Valkey: processes and servers that are frozen, killed, full, or replaced by a replica.

The bounds are the promised ones.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from kaiju_app._core.clock import steady_us
from kaiju_app.scheduler import LeaseTiming
from processes.fixtures import ASKED_AGAIN_S, LONG, OFTEN, SEVERAL, Figures, taken_over
from processes.group import LEASE, local_gap, seconds, us
from processes.on_redis.hosts import RedisHosts
from processes.postgres.common import FAILOVER_S, LAG_S, MISSED_S, OP_S
from support.redis_server import Server, any_program, server_or_skip
from support.tcp_proxy import Proxy

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

Make = Callable[..., RedisHosts]
DURABLE = {"appendonly": "yes", "appendfsync": "always"}


@pytest.fixture(scope="module")
def program() -> Path:
    return server_or_skip(any_program())


def test_a_process_that_is_stopped_for_longer_than_its_lease_is_replaced_and_acts_no_more(
    redis_hosts: Make, figures: Figures
) -> None:
    processes = redis_hosts(**LONG)
    processes.start_settled("a", "b", "c")
    first = processes.next_act()
    holder = processes.process_named(first.who)

    stopped = holder.signal(signal.SIGSTOP)
    again = processes.next_begin(stopped)
    stands = processes.fences()["task"]
    went_on = holder.signal(signal.SIGCONT)
    cut = processes.wait_for_line(lambda each: each.event == "end")

    late = [each for each in processes.entries if each.event == "act" and each.who == holder.who and each.at > went_on]
    figures(failover_s=seconds(stopped, again.at), bound_s=FAILOVER_S, late_acts=len(late))
    assert taken_over(first, again)
    assert again.fence == stands
    assert (cut.who, cut.fence, cut.note) == (first.who, first.fence, "cut")
    assert len(late) <= 1
    processes.wait_until(steady_us() + us(2 * LEASE.renew_s))
    ledger = processes.end()
    assert [("LOST", 1, first.fence), ("LOST", 2, again.fence)] == ledger.ended()
    processes.check(ledger)
    assert MISSED_S - LEASE.renew_s < seconds(stopped, again.at) < FAILOVER_S


def test_a_process_that_gets_no_answers_from_the_server_stops_in_time_and_is_replaced(
    redis_hosts: Make, figures: Figures
) -> None:
    """The server executes its renewals, but it must not rely on renewals without an answer."""
    processes = redis_hosts(**LONG)
    processes.start_settled("a", "b", "c")
    first = processes.next_act()
    way = processes.way(first.who)

    off = steady_us()
    way.hold(to_client=True)
    again = processes.next_begin(off)
    ended = processes.wait_for_line(lambda each: (each.event, each.fence) == ("end", first.fence))

    bound_s = FAILOVER_S + OP_S
    figures(
        cut_s=seconds(off, ended.at), cut_bound_s=LEASE.ttl_s, failover_s=seconds(off, again.at), bound_s=bound_s
    )  # fmt: skip
    assert (ended.note, taken_over(first, again), ended.at < again.at) == ("cut", True, True)
    way.hold()
    processes.check(processes.end())
    assert seconds(off, ended.at) < LEASE.ttl_s + LAG_S
    assert MISSED_S - LEASE.renew_s < seconds(off, again.at) < bound_s


def test_a_server_that_is_frozen_for_longer_than_leases_last_ends_what_is_shared_until_it_is_not(
    redis_hosts: Make, figures: Figures, redis_server: Server
) -> None:
    processes = redis_hosts(tasks=SEVERAL, local="local", **OFTEN)
    processes.start_settled("a", "b", "c")
    processes.next_act()

    frozen = steady_us()
    redis_server.freeze()
    processes.wait_until(frozen + us(5))
    redis_server.thaw()
    thawed = steady_us()
    going = {task: processes.next_begin(thawed, task=task) for task in SEVERAL}

    late = max(each.at for each in going.values())
    off = frozen + us(LEASE.ttl_s)
    silent = [each for each in processes.entries if each.task in SEVERAL and off < each.at < thawed]
    bound_s = ASKED_AGAIN_S + LEASE.poll_s * 1.2 + LEASE.grace_s
    gap_s = local_gap(processes, frozen, late)
    figures(all_s=seconds(thawed, late), bound_s=bound_s, longest_local_gap_s=gap_s)
    assert [] == [each for each in silent if each.event in ("begin", "act")]
    processes.check(processes.end(), tasks=SEVERAL)
    assert gap_s < 1
    assert seconds(thawed, late) < bound_s


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_server_that_goes_and_comes_back_remembers_who_has_what(
    redis_hosts: Make, figures: Figures, program: Path, how: str
) -> None:
    """The lease is ten seconds long, so that it is still valid then."""
    with Server(program, DURABLE) as server:
        lease = LeaseTiming(10.0, 0.4, 1.3, 0.4, 0.1)
        processes = redis_hosts(server, lease=lease, tasks=("task", "other"), **LONG)
        processes.start_ready("a", "b", "c")
        for task in ("task", "other"):
            processes.wait_for_line(lambda each, task=task: (each.event, each.task) == ("act", task))
        first = processes.fences()

        getattr(server, how)()
        down = steady_us()
        processes.wait_until(down + us(1))
        server.start()
        up = steady_us()

        assert first == processes.fences()
        processes.wait_until(up + us(ASKED_AGAIN_S + 1))
        for task in first:
            processes.wait_for_line(lambda each, task=task: (each.event, each.task) == ("act", task), since=steady_us())
        assert {2} == {sum(each.event == "begin" for each in processes.entries)}
        figures(down_s=seconds(down, up))
        processes.check(processes.end(), tasks=("task", "other"))


def test_what_a_server_without_a_file_has_lost_is_put_back_with_higher_fences(
    redis_hosts: Make, figures: Figures, program: Path
) -> None:
    with Server(program, {"appendonly": "no"}) as server:
        processes = redis_hosts(server, tasks=SEVERAL, **OFTEN)
        processes.start_settled("a", "b", "c")
        before = {task: processes.next_begin(0, task=task).fence for task in SEVERAL}

        server.kill()
        server.start()
        assert {} == processes.fences() or all(fence > before[task] for task, fence in processes.fences().items())
        up = steady_us()
        again = {task: processes.next_begin(up, task=task) for task in SEVERAL}

        late_s = max(seconds(up, each.at) for each in again.values())
        bound_s = ASKED_AGAIN_S + FAILOVER_S
        figures(all_s=late_s, bound_s=bound_s)
        processes.check(tasks=SEVERAL)  # Fences grow, and no two runs of a task act at once.
        assert late_s < bound_s
        for process in processes.all:
            assert "appendonly is no" in process.errors.read_text()
        processes.end()


def test_a_server_without_memory_ends_what_is_shared_until_there_is_some_and_nothing_else(
    redis_hosts: Make, figures: Figures, redis_server: Server
) -> None:
    processes = redis_hosts(local="local", **OFTEN)
    processes.start_settled("a", "b", "c")
    processes.next_act()

    full = steady_us()
    redis_server.ask("CONFIG", "SET", "maxmemory", "1")
    processes.wait_until(full + us(LEASE.ttl_s + OP_S + 1))
    redis_server.ask("CONFIG", "SET", "maxmemory", "0")
    free = steady_us()
    again = processes.next_begin(free)

    off = full + us(LEASE.ttl_s + OP_S)
    silent = [each for each in processes.entries if each.task == "task" and off < each.at < free]
    gap_s, bound_s = local_gap(processes, full, again.at), ASKED_AGAIN_S + FAILOVER_S
    figures(recovery_s=seconds(free, again.at), bound_s=bound_s, longest_local_gap_s=gap_s)
    assert [] == [each for each in silent if each.event in ("begin", "act")]
    assert "used memory > 'maxmemory'" in "".join(each.errors.read_text() for each in processes.all)
    processes.check(processes.end())
    assert gap_s < 1
    assert seconds(free, again.at) < bound_s


def test_after_a_failover_that_loses_claims_fences_grow_and_runs_overlap_until_the_next_renewal_at_most(
    redis_hosts: Make, figures: Figures, program: Path
) -> None:
    """The documented exception: the replica does not know claims that it had not received."""
    with ExitStack() as stack:
        primary = stack.enter_context(Server(program))
        link = stack.enter_context(Proxy("127.0.0.1", primary.port))
        replica = stack.enter_context(primary.replica(through=link.port))
        processes = redis_hosts(primary, tasks=SEVERAL, interval_s=4.0, run_s=3.5)
        processes.start_settled("a", "b", "c")
        for task in SEVERAL:
            processes.wait_for_line(lambda each, task=task: (each.event, each.task) == ("end", task))

        link.hold(to_client=True)  # From now on the replica receives nothing.
        behind = steady_us() + us(1)  # A run that begins by then may have been claimed before.
        for task in SEVERAL:
            processes.next_begin(behind, task=task)
        fences = {each.task: each.fence for each in processes.entries if each.event == "begin"}
        primary.kill()
        link.drop(to_client=True)
        replica.ask("REPLICAOF", "NO", "ONE")
        promoted = steady_us()
        processes.server, processes.url = replica, replica.url
        known = processes.fences()
        processes.lead_to(replica)
        for task in SEVERAL:
            processes.next_begin(promoted, task=task)
        going = steady_us()
        for task in SEVERAL:
            processes.next_begin(going, task=task)

        overlaps = [each for task in SEVERAL for each in overlapped(processes, task, promoted)]
        bound_s = LEASE.renew_s + OP_S
        figures(
            claims_lost=sum(known[task] < fences[task] for task in SEVERAL), overlaps=len(overlaps),
            overlap_max_s=max(overlaps, default=0.0), bound_s=bound_s, runs_again_s=seconds(promoted, going),
        )  # fmt: skip
        assert all(known[task] < fences[task] for task in SEVERAL)
        for task in SEVERAL:
            begun = [each.fence for each in processes.entries if (each.event, each.task) == ("begin", task)]
            assert begun == sorted(set(begun))
        assert max(overlaps, default=0.0) < bound_s
        processes.end()


def overlapped(processes: RedisHosts, task: str, since: int) -> list[float]:
    """Return for how many seconds runs went on after a later one had begun."""
    entries = [each for each in processes.entries if each.task == task and each.fence]
    found = []
    for begin in [each for each in entries if each.event == "begin" and each.at > since]:
        late = [each.at for each in entries if each.fence < begin.fence and each.at > begin.at and each.event == "act"]
        found += [seconds(begin.at, max(late))] if late else []
    return found
