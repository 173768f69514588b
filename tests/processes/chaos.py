"""Minutes of random faults in processes, in their connections to a PostgreSQL server, and in the server itself.

``make chaos`` runs them, several at a time, drawn from a seed. No promise may be broken meanwhile, and afterwards all
tasks go on.
"""

from __future__ import annotations

import heapq
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kaiju_app._core.clock import steady_us
from processes.fixtures import ASKED_AGAIN_S, SEVERAL, Clock, Figures, find_libfaketime
from processes.group import LEASE, PATIENCE_S, local_gap, seconds, us
from processes.hosts import Hosts
from processes.storm import Storm
from support.postgres_server import Missing, Server, find_programs, found_or_skip
from support.tcp_proxy import Proxy

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

MINUTES = float(os.environ.get("MINUTES", "5"))
SEED = int(os.environ.get("SEED", "1"))

MISSED_S = LEASE.ttl_s + LEASE.grace_s
SERVER = "server"  # The place of a fault of the server; other places are those of processes.

SESSIONS = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'kaiju_app'"


GUST_S = 20.0
# By then everything has recovered: failed processes are back, and the others trust the store's clock again.
CALM_S = ASKED_AGAIN_S + 2 * MISSED_S + LEASE.poll_s


class Chaos(Storm):
    """Faults of every kind, at most one at a time in each place. One process and its connection have none.

    Faults come in gusts. In the calm after each gust one process is killed and nothing else happens, so that the bound
    of a failover applies. It cannot apply during a gust: the server may be gone, or the next owner may be cut off too.

    Args:
        clock: The clock of the server; None if it cannot be set.
    """

    def __init__(self, processes: Hosts, seed: int, clock: Clock | None) -> None:
        super().__init__(processes, SEVERAL, seed, witness=True)
        self.hosts = processes
        self.clock = clock
        self.in_calm: list[tuple[int, str]] = []
        self._disturbed: set[str] = set()
        self._healings: list[tuple[int, int, str, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._of_processes = {"kill": self._kill, "pause": self._pause, "long pause": self._long_pause}
        self._of_processes |= {"stop": self._stop_in_order, "block": self._block}
        self._of_ways = {"cut": self._cut, "hold": self._hold, "drop": self._drop, "delay": self._delay}
        self._of_server = {"end sessions": self._end_sessions, "freeze": self._freeze, "restart": self._restart}
        if clock is not None:
            self._of_server["clock"] = self._set_clock

    def rage(self, for_s: float) -> None:
        """Let faults happen for *for_s*, check that all tasks still run, and stop all in order."""
        self.begin()
        end = self.began + us(for_s)
        while steady_us() < end:
            self._gust(min(end, steady_us() + us(GUST_S)))
            self._kill_in_calm()
        self.end(within_s=2 * (ASKED_AGAIN_S + LEASE.failover_s))

    def _gust(self, end: int) -> None:
        while steady_us() < end:
            self._heal_until(steady_us() + us(self.rng.uniform(0.1, 1.5)))
            if self.rng.random() < 0.3:
                self.suspend(self.rng.choice([place for place in "abcw" if place not in self._disturbed] or ["w"]))
            self._befall()
        while self._healings:
            self._heal_until(self._healings[0][0])

    def _kill_in_calm(self) -> None:
        self.all_up()
        self.processes.wait_until(steady_us() + us(CALM_S))
        of = {process.who: place for place, process in self.living.items() if place != self.witness}
        runs = self.processes.wait_for_line(
            lambda each: (each.event, each.who in of) == ("act", True), since=steady_us()
        )
        self.kill(of[runs.who])
        self.in_calm.append(self.kills[-1])
        self.processes.wait_until(self.kills[-1][0] + us(LEASE.failover_s))

    def _befall(self) -> None:
        kinds = self.rng.choices([self._of_processes, self._of_ways, self._of_server], [5, 6, 1])[0]
        kind = self.rng.choice(sorted(kinds))
        place = SERVER if kinds is self._of_server else self.rng.choice("abc")
        if place not in self._disturbed:
            if kind != "kill":  # kill() counts itself.
                self.faults[kind] += 1
            kinds[kind](place)

    # --- the ends of faults ---

    def _for(self, least_s: float, most_s: float, place: str, heal: Callable[[], object]) -> None:
        self._disturbed.add(place)
        at = steady_us() + us(self.rng.uniform(least_s, most_s))
        heapq.heappush(self._healings, (at, next(self._numbers), place, heal))

    def _heal_until(self, moment: int) -> None:
        while self._healings and self._healings[0][0] <= moment:
            at, _, place, heal = heapq.heappop(self._healings)
            self.processes.wait_until(at)
            heal()
            self._disturbed.discard(place)
        self.processes.wait_until(moment)

    # --- faults ---

    def _kill(self, place: str) -> None:
        self.kill(place)

    def _pause(self, place: str) -> None:
        """Pause a process for less than a lease lasts."""
        self._stop(place, 0.1, LEASE.ttl_s - 2 * LEASE.renew_s)

    def _long_pause(self, place: str) -> None:
        """Pause a process for long enough to be replaced."""
        self._stop(place, LEASE.ttl_s, 2 * MISSED_S)

    def _stop(self, place: str, least_s: float, most_s: float) -> None:
        process = self.living[place]
        process.signal(signal.SIGSTOP)
        self._for(least_s, most_s, place, lambda: process.signal(signal.SIGCONT))

    def _stop_in_order(self, place: str) -> None:
        """Stop a process and start another in its place. While the server is silent, a stop takes a while."""
        process = self.living[place]
        process.signal(signal.SIGTERM)

        def heal() -> None:
            assert process.running.wait(PATIENCE_S) == 0, process.errors.read_text()
            self.boot(place)

        self._for(0.1, 2.0, place, heal)

    def _block(self, place: str) -> None:
        for_s = self.rng.uniform(0.1, 2 * MISSED_S)
        self.living[place].tell("block", for_s)
        self._for(for_s, for_s, place, lambda: None)

    def _cut(self, place: str) -> None:
        self._way(place).cut()

    def _hold(self, place: str) -> None:
        way = self._way(place)
        way.hold(*self.rng.choice([(True, False), (False, True), (True, True)]))
        self._for(0.1, 2 * MISSED_S, place, way.hold)

    def _drop(self, place: str) -> None:
        way = self._way(place)
        way.drop(*self.rng.choice([(True, False), (False, True), (True, True)]))
        self._for(0.1, 2 * MISSED_S, place, way.drop)

    def _delay(self, place: str) -> None:
        way = self._way(place)
        way.delay(self.rng.uniform(0, LEASE.renew_s), self.rng.uniform(0, LEASE.renew_s))
        self._for(0.5, MISSED_S, place, way.delay)

    def _way(self, place: str) -> Proxy:
        return self.hosts.way(self.living[place].who)

    def _end_sessions(self, place: str) -> None:
        self.hosts.ask(SESSIONS)

    def _freeze(self, place: str) -> None:
        server = self.hosts.server
        server.freeze()
        self._for(0.2, 1.5 * MISSED_S, place, server.thaw)

    def _restart(self, place: str) -> None:
        server = self.hosts.server
        self.rng.choice([server.stop_hard, server.kill, server.stop])()
        self._for(0.1, MISSED_S, place, server.start)

    def _set_clock(self, place: str) -> None:
        """Set the clock, mostly forward: after a step back nothing is due for as long."""
        assert self.clock is not None
        self.clock.set(self.clock.ahead_s + self.rng.choice([-1.0, 0.5, 3.0, 600.0]))


@pytest.fixture
def server_clock(request: pytest.FixtureRequest) -> Clock | None:
    if isinstance(find_libfaketime(), Missing):
        print("\nNOT TESTED: jumps of the server's clock; libfaketime is not installed")
        return None
    clock: Clock = request.getfixturevalue("clock")
    return clock


@pytest.fixture
def processes(tmp_path: Path, server_clock: Clock | None) -> Iterator[Hosts]:
    with Server(
        found_or_skip(find_programs()), environment=server_clock.environment if server_clock else None
    ) as server:
        processes = Hosts(tmp_path, server, tasks=SEVERAL, interval_s=0.4, run_s=0.3)
        try:
            yield processes
        finally:
            processes.close()


def test_minutes_of_chaos_break_nothing(processes: Hosts, server_clock: Clock | None, figures: Figures) -> None:
    chaos = Chaos(processes, SEED, server_clock)
    print(f"\n{MINUTES:g} minutes, seed {SEED}")

    chaos.rage(MINUTES * 60)

    results = chaos.figures()
    in_calm = chaos.failovers_of(chaos.in_calm)
    print(", ".join(f"{kind} {count}" for kind, count in sorted(chaos.faults.items())))
    figures(
        **results, took_s=seconds(chaos.began, chaos.over), cut_in_calm=len(in_calm),
        failover_in_calm_max_s=max(in_calm, default=0.0), bound_s=LEASE.failover_s,
    )  # fmt: skip
    chaos.check()
    assert in_calm
    assert max(in_calm, default=0.0) < LEASE.failover_s


def test_a_server_that_is_frozen_for_a_minute_ends_what_is_shared_until_it_is_not(
    processes: Hosts, figures: Figures
) -> None:
    processes.start_settled("a", "b", "c", local="local")
    processes.next_act()

    frozen = steady_us()
    processes.server.freeze()
    processes.wait_until(frozen + us(60))
    processes.server.thaw()
    thawed = steady_us()
    late = max(processes.next_begin(thawed, task=task).at for task in SEVERAL)

    shared = [each for each in processes.entries if each.task in SEVERAL]
    silent = [each for each in shared if frozen + us(LEASE.ttl_s) < each.at < thawed]
    bound_s = ASKED_AGAIN_S + LEASE.poll_s * 1.2 + LEASE.grace_s
    gap_s = local_gap(processes, frozen, late)
    figures(all_s=seconds(thawed, late), bound_s=bound_s, longest_local_gap_s=gap_s)
    assert [] == [each for each in silent if each.event in ("begin", "act")]
    processes.check(processes.end(), tasks=SEVERAL)
    assert gap_s < 1  # The local task ticks every 20 ms; the slack is for a busy machine.
    assert seconds(thawed, late) < bound_s
