"""A claim and a hold race for one task, again and again, in two threads or in two processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from multiprocessing.connection import Connection
from random import Random
from typing import Protocol

from kaiju_app.stores import Store, store_from_url
from kaiju_app.stores._answers import ChangeResult
from kaiju_app.stores._cas import Transition
from kaiju_app.stores._record import NextTick, StoredHold, TaskRecord
from kaiju_app.stores._selection import ClaimQuery
from kaiju_app.stores._transitions import Definition, define, hold, release, unhold
from processes.group import us
from support.engines import change_one

FAR = us(3600)
HOLD = f"{'5' * 32}#1"

Fences = dict[str, list[int | None]]
"""For each task, the fence of its run in each race; None where there is no run."""

Side = Callable[[Store, "Gate", "Races"], Coroutine[None, None, Fences]]


@dataclass(frozen=True)
class Races:
    """How often and for how many tasks at once the sides race.

    Args:
        times: Number of races.
        tasks: Tasks in each race.
        apart_s: The greatest random delay of a side, so that none is always first.
    """

    times: int
    tasks: int = 1
    apart_s: float = 100e-6

    @property
    def names(self) -> list[str]:
        return [f"task {number}" for number in range(self.tasks)]


class Gate(Protocol):
    """A barrier for two sides."""

    def wait(self, timeout: float | None = None) -> int: ...


class Across:
    """A gate for two processes."""

    def __init__(self, other: Connection) -> None:
        self._other = other

    def wait(self, timeout: float | None = None) -> int:
        self._other.send_bytes(b".")
        assert self._other.poll(timeout), "the other process does not arrive"
        return len(self._other.recv_bytes())


def line_up(gate: Gate, rng: Random, apart_s: float) -> None:
    gate.wait(60)
    time.sleep(rng.uniform(0, apart_s))


async def claiming(store: Store, gate: Gate, races: Races) -> Fences:
    """Claim the tasks in each race."""
    await store.open()
    found: Fences = {name: [] for name in races.names}
    rng = Random("claiming")
    for _ in range(races.times):
        line_up(gate, rng, races.apart_s)
        claimed = (await store.claim(ClaimQuery("c" * 32, races.names, ttl=FAR, limit=races.tasks))).records
        gate.wait(60)
        fences = {record.name: record.fence for record in claimed}
        for name, each in found.items():
            each.append(fences.get(name))
    await store.close()
    return found


async def suspending(store: Store, gate: Gate, races: Races) -> Fences:
    """Hold the tasks in each race; return the fences of the runs in progress that the holds found."""
    await store.open()
    found: Fences = {name: [] for name in races.names}
    rng = Random("suspending")
    for _ in range(races.times):
        line_up(gate, rng, races.apart_s)
        changed = await change(store, races, holding)
        gate.wait(60)
        for name, each in found.items():
            new = changed[name].new
            assert new is not None
            each.append(new.fence if new.owner else None)
        freed = await change(store, races, as_before)  # Before the next race begins.
        assert all(each.done for each in freed.values())
    await store.close()
    return found


async def change(store: Store, races: Races, transition: Transition) -> dict[str, ChangeResult]:
    if races.tasks > 1:
        return await store.change_each(dict.fromkeys(races.names, transition))
    return {name: await change_one(store, name, transition) for name in races.names}


async def prepare(store: Store, races: Races) -> None:
    """Register tasks that are due whenever they are free."""
    await store.open()
    for name in races.names:
        assert (await change_one(store, name, due_for_ever(name))).done
    await store.close()


def due_for_ever(name: str) -> Transition:
    first = NextTick(0, 0)

    def transition(old: TaskRecord | None, now: int) -> tuple[TaskRecord, tuple[()]] | None:
        new = define(old, now, Definition(name, "{}", (1,), first, first))
        return None if new is None else (new, ())

    return transition


def holding(old: TaskRecord | None, now: int) -> tuple[TaskRecord, tuple[()]] | None:
    return None if old is None else (hold(old, now, HOLD, StoredHold("they", None, now + FAR)), ())


def as_before(old: TaskRecord | None, now: int) -> tuple[TaskRecord, tuple[()]] | None:
    new = None if old is None else unhold(old, now, HOLD)
    if new is not None and new.owner is not None:
        new = release(new, now, new.owner, new.fence)
    return None if new is None else (new, ())


def in_threads(store: Store, races: Races) -> dict[str, Fences]:
    """Race two loops in two threads."""
    gate = threading.Barrier(2)
    found: dict[str, Fences] = {}

    def run(side: Side) -> None:
        try:
            found[side.__name__] = asyncio.run(side(store, gate, races))
        except BaseException:
            gate.abort()
            raise

    threads = [threading.Thread(target=run, args=(side,)) for side in (claiming, suspending)]
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # So that one thread often runs between a read and a write of the other.
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(usual)
    return found


def race(url: str, side: Side, races: Races, other: Connection, answer: Connection) -> None:
    """Run one side in a process of its own."""
    answer.send(asyncio.run(side(store_from_url(url), Across(other), races)))


def in_processes(url: str, races: Races) -> dict[str, Fences]:
    """Race two processes, each with a store of its own."""
    context = multiprocessing.get_context("spawn")
    sides = dict(zip((claiming, suspending), context.Pipe(), strict=True))
    answers = {}
    processes = []
    for side, other in sides.items():
        answers[side.__name__], answer = context.Pipe(duplex=False)
        processes.append(context.Process(target=race, args=(url, side, races, other, answer)))
        processes[-1].start()
        answer.close()
        other.close()
    found = {name: answer.recv() for name, answer in answers.items()}
    for process in processes:
        process.join()
    return found
