"""Real processes on PostgreSQL: a server that freezes, crashes, ends sessions or runs out of disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path

import asyncpg
import pytest

from kaiju_app._core.clock import steady_us, wall_us
from kaiju_app.scheduler import LeaseTiming
from processes.fixtures import ASKED_AGAIN_S, LONG, OFTEN, SEVERAL, Figures, Make, fill
from processes.group import LEASE, PATIENCE_S, local_gap, seconds, us
from processes.postgres.common import MISSED_S, recovers
from support.postgres_server import Programs, Server

pytestmark = [pytest.mark.realtime, pytest.mark.slow]


def test_a_server_that_is_frozen_for_a_moment_costs_nothing(hosts: Make, server: Server) -> None:
    processes = hosts(interval_s=60.0, run_s=8.0)
    processes.start_settled("a", "b", "c")
    first = processes.next_act()

    server.freeze()
    processes.wait_until(steady_us() + us(0.5))
    server.thaw()
    processes.wait_until(steady_us() + us(MISSED_S))

    assert [first.fence] == [each.fence for each in processes.entries if each.event == "begin"]
    end = processes.wait_for_line(lambda each: each.event == "end")
    assert (end.fence, end.note) == (first.fence, "")
    ledger = processes.end()
    assert [("SUCCEEDED", 1, first.fence)] == ledger.ended()
    processes.check(ledger)


def test_a_server_that_is_frozen_for_longer_than_leases_last_ends_what_is_shared_until_it_is_not(
    hosts: Make, figures: Figures, server: Server
) -> None:
    """Recovery takes the rest of a retry pause, a poll and the grace: leases are challenged before a take-over."""
    processes = hosts(tasks=SEVERAL, local="local", **OFTEN)
    processes.start_settled("a", "b", "c")
    processes.next_act()

    frozen = steady_us()
    server.freeze()
    processes.wait_until(frozen + us(6))
    server.thaw()
    thawed = steady_us()
    going = {task: processes.next_begin(thawed, task=task) for task in SEVERAL}

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
    assert [] == [each for each in again if seconds(thawed, each.at) < LEASE.grace_s]  # No take-over of a live one.
    assert len(again) == len({(each.task, each.tick) for each in again}) <= len(SEVERAL)
    processes.check(ledger, tasks=SEVERAL)
    assert local_gap(processes, frozen, late) < 1
    assert seconds(thawed, late) < bound_s


def test_processes_whose_sessions_are_ended_connect_again_and_lose_nothing(hosts: Make, figures: Figures) -> None:
    processes = hosts(tasks=("task", "other"), interval_s=60.0, run_s=8.0)
    processes.start_settled("a", "b", "c")
    first = {each.task: each for each in processes.entries if each.event == "begin"}
    assert 6 == processes.sessions()  # Per process one for statements and one that listens.

    ended = steady_us()
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    assert 6 == processes.ask(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {others}")
    processes.wait_until(ended + us(0.05))
    while processes.sessions() < 6:
        assert seconds(ended, steady_us()) < PATIENCE_S, processes.failure("they do not come back")
    back = steady_us()

    figures(back_s=seconds(ended, back), bound_s=5.0)
    for task in first:
        end = processes.wait_for_line(lambda each, task=task: (each.event, each.task) == ("end", task))
        assert (end.fence, end.note) == (first[task].fence, "")
    ledger = processes.end()
    assert {("SUCCEEDED", 1)} == {(row.outcome, row.delivery) for row in ledger.rows}
    processes.check(ledger, tasks=("task", "other"))
    assert seconds(ended, back) < 5


@pytest.mark.parametrize("how", ["stop_hard", pytest.param("kill", marks=pytest.mark.mechanism)])
def test_a_server_that_crashes_and_comes_back_remembers_who_has_what(
    hosts: Make, figures: Figures, programs: Programs, how: str
) -> None:
    """The lease is ten seconds long, so that it is still valid after the crash."""
    with Server(programs, fsync=True) as server:
        processes = hosts(server, lease=LeaseTiming(10.0, 0.4, 1.3, 0.4, 0.1), tasks=("task", "other"), **LONG)
        processes.start_ready("a", "b", "c")
        processes.next_act()
        processes.wait_for_line(lambda each: (each.event, each.task) == ("act", "other"))
        first = {each.task: each.fence for each in processes.entries if each.event == "begin"}

        crashed = steady_us()
        getattr(server, how)()
        down = steady_us()
        server.start()
        up = steady_us()
        while processes.sessions() < 6:
            assert seconds(up, steady_us()) < PATIENCE_S, processes.failure("they do not come back")
        back = steady_us()
        processes.wait_until(back + us(2 * LEASE.renew_s))

        kept = processes.ask("SELECT json_object_agg(name, fence)::text FROM kaiju_task WHERE owner IS NOT NULL")
        figures(down_s=seconds(down, up), back_s=seconds(crashed, back), bound_s=10.0)
        assert first == json.loads(kept)
        assert {2} == {sum(each.event == "begin" for each in processes.entries)}
        for task in first:
            processes.wait_for_line(lambda each, task=task: (each.event, each.task) == ("act", task), since=steady_us())
        processes.check(processes.end(), tasks=("task", "other"))
        assert seconds(crashed, back) < 10


LIGHT_CLIENTS = """
import asyncio, json, os, sys
from contextlib import AsyncExitStack
from kaiju_app._core.clock import steady_us
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
    """Ten clients in each of three processes, each with a task of its own. The server is away for two seconds."""
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
        processes.wait_until(down + us(2))
        server.start()
        up = steady_us()
        late_s = seconds(up, max(ticking(up).values()))
        made = server.connections(since_s=wall_us() / 1e6 - seconds(up, steady_us()))
        most = max(sum(at <= other < at + 0.1 for other in made) for at in made)
        figures(down_s=seconds(down, up), all_tick_s=late_s, bound_s=10.0, connections=len(made), most_in_100_ms=most)
        assert late_s < 10
        assert most <= len(made) / 2


@pytest.mark.timeout(120)
@pytest.mark.parametrize("small_disk", [192], indirect=True)
def test_a_server_whose_disk_is_full_ends_what_is_shared_until_there_is_room_and_nothing_else(
    hosts: Make, figures: Figures, programs: Programs, small_disk: Path
) -> None:
    """The server cannot write its log and stops. Then space is freed, and it is started again."""
    place = small_disk / "server"
    place.mkdir()
    small_disk.chmod(0o755)
    with Server(programs, place, settings={"min_wal_size": "32MB", "max_wal_size": "64MB"}) as server:
        processes = hosts(server, local="local", **OFTEN)
        processes.start_settled("a", "b", "c")
        processes.next_act()

        fill(small_disk)
        full = steady_us()
        while server.is_running:
            assert seconds(full, steady_us()) < PATIENCE_S, processes.failure("it goes on without room")
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                server.ask("SELECT pg_switch_wal()")
            fill(small_disk)
        down = steady_us()
        processes.wait_until(down + us(LEASE.ttl_s + 1))
        os.unlink(small_disk / "ballast")
        server.start()
        free = steady_us()
        again = processes.next_begin(free)

        recovers(processes, figures, down, free, again, "no further ticks of cluster tasks are claimed")
