"""The scenes: each attacks one promise, and stays just within the conditions under which it is promised.

Uniformly drawn plans hit the critical moments too rarely: an implementation that never challenged a lease survived 225
of them. So every scene provokes one kind of moment again and again, at the limit: clocks that differ as much as
allowed, clean-ups that take all the time there is, answers that arrive when the lease is over. A scene is pure data
drawn from a seed. Correct code survives every seed; each mutant (``mutants.py``) fails at least one.

``PYTHONPATH=tests python -m simulation.scenes [SCENE...] [--seeds N]`` searches for a seed that breaks a promise.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from random import Random

from kaiju_app.scheduler import ExecPolicy, LeaseTiming, Missed, OnLost
from kaiju_app.testing._cluster.network import RELIABLE, Network
from kaiju_app.testing._cluster.plan import MILLION, Ask, Block, Crash, Cut, Fault, Jump, Loss, Outage, Pause, Plan
from simulation.drawn import drawn_plan
from simulation.promises import Bounds
from simulation.scene import SAFETY, Scene, due_when_begun, exactly_once, no_gaps
from simulation.worker import Work


def spread(rng: Random, until_s: float, low_s: float, high_s: float, start_s: float = 5.0) -> Iterator[float]:
    """Return moments with random distances between *low_s* and *high_s*."""
    at = start_s + rng.uniform(low_s, high_s)
    while at < until_s:
        yield round(at, 3)
        at += rng.uniform(low_s, high_s)


def planned(faults: Iterable[Fault], for_s: float, **values: object) -> Plan:
    return Plan(tuple(sorted(faults, key=lambda each: each.at_s)), for_s=for_s, **values)  # type: ignore[arg-type]


def between(rng: Random, low: float, high: float) -> float:
    return round(rng.uniform(low, high), 3)


SLOW, FAST = -80_000, 80_000  # They differ by less than grace / (ttl + grace), which leaves time for a clean-up.
EVERY_S = 30.0  # Runs take nearly as long, so that an instance that is cut off usually has one.


def ticks(until_s: float, rate_ppm: int = 0) -> Iterator[float]:
    """Return when the ticks of these runs are due."""
    number = 1
    while (at := number * EVERY_S * MILLION / (MILLION + rate_ppm)) < until_s:
        yield at
        number += 1


def cut_off(rng: Random) -> Plan:
    """An instance with a run is cut off, just after a tick or later, from a store whose clock is faster than its own.

    Its last answer before the cut was late: a lease counts from the request, not from the answer.
    """
    faults: list[Fault] = []
    for tick in ticks(220, FAST):
        at = round(tick + rng.choice((rng.uniform(-0.5, 2), rng.uniform(0, 12))), 3)
        places = rng.sample(range(3), rng.choice((1, 1, 2)))
        faults += [Cut(at, place, between(rng, 14, 16), rng.choice(("both", "there", "back"))) for place in places]
    network = replace(RELIABLE, late=0.1, late_s=1.95)
    return planned(faults, 240, rates_ppm=(SLOW,) * 3, store_ppm=FAST, network=network)


def cut_off_inside(rng: Random) -> Plan:
    """An instance inside a suspension is cut off, soon or later, for longer than its hold is valid."""
    faults: list[Fault] = []
    for at in spread(rng, 180, 25, 35):
        place = rng.randrange(3)
        faults.append(Ask(at, place, "suspend", "task", between(rng, 20, 30)))
        cut = round(at + rng.choice((rng.uniform(0, 4), rng.uniform(4, 12))), 3)
        faults.append(Cut(cut, place, between(rng, 14, 25), rng.choice(("both", "there", "back"))))
    network = replace(RELIABLE, late=0.1, late_s=1.95)
    return planned(faults, 220, rates_ppm=(SLOW,) * 3, store_ppm=FAST, network=network)


def back_inside(rng: Random) -> Plan:
    """An instance inside a suspension is cut off until just after its hold was lost, while its body cleans up."""
    faults: list[Fault] = []
    for at in spread(rng, 180, 35, 45):
        place = rng.randrange(3)
        faults.append(Ask(at, place, "suspend", "task", 30.0))
        faults.append(Cut(round(at + between(rng, 0, 6), 3), place, between(rng, 8, 14)))
    return planned(faults, 220)


def two_inside(rng: Random) -> Plan:
    """Two suspenders are cut off one after the other, and the store's clock is set while the first is challenged."""
    faults: list[Fault] = []
    for at in spread(rng, 180, 50, 55):
        one, other = rng.sample(range(3), 2)
        faults += [Ask(at, one, "suspend", "task", 25.0), Ask(at, other, "suspend", "task", 25.0)]
        cut = round(at + between(rng, 2, 4), 3)
        faults += [Cut(cut, one, 30.0), Cut(round(cut + between(rng, 2.5, 4.8), 3), other, 30.0)]
        faults.append(Jump(round(cut + between(rng, 14, 16), 3), 60.0))
    return planned(faults, 240, network=replace(RELIABLE, latency_s=(0.05, 0.3)))


def frozen_asking(rng: Random) -> Plan:
    """An instance is frozen while the answer to its claim, hold or renewal arrives, and is cut off right afterwards."""
    faults: list[Fault] = []
    for tick in ticks(220):
        place, what = rng.randrange(3), rng.randrange(4)
        at = tick - 0.5
        if what:
            at += rng.uniform(0, 5)
            faults.append(Ask(round(at, 6), place, "suspend", rng.choice(("a", "b")), 20.0))
        at += rng.uniform(3, 7) if what > 1 else rng.uniform(0, 0.15)
        faults += [Pause(round(at, 6), place, 1.75), Cut(round(at + 0.25, 6), place, 16.0)]
    return planned(faults, 240, network=replace(RELIABLE, latency_s=(0.03, 0.08)))


def set_again(rng: Random) -> Plan:
    """The store's clock is set again and again, by more or by less than a lease lasts.

    It is also set just when an owner is cut off, and when the observing instances have only just started.
    """
    faults: list[Fault] = []
    for at in spread(rng, 170, 15, 40, 15):
        kind = rng.randrange(3)
        step, by = between(rng, 0.3, 3), rng.choice((-20, 6, 12, 60, 60, 3600))
        if kind == 0:
            faults += [Jump(round(at + step * number, 3), by) for number in range(rng.choice((3, 10, 30)))]
            continue
        place = rng.randrange(3)
        faults += [Cut(at, place, between(rng, 8, 20)), Jump(round(at + between(rng, 0, 4), 3), max(by, 12))]
        if kind == 1:
            others = [Crash(round(at - between(rng, 0, 3), 3), each, 4.5) for each in range(3) if each != place]
            faults += others[: rng.choice((1, 2))]
    return planned(faults, 190)


def late_orders(rng: Random) -> Plan:
    """The store's clock is set while the challenge or take-over of an instance that is cut off is still on its way."""
    faults: list[Fault] = []
    for tick in ticks(260):
        at = round(tick + between(rng, 1, 8), 3)
        faults += [Cut(at, rng.randrange(3), 20.0), Jump(round(at + between(rng, 8.5, 13), 3), rng.choice((5, 10, 60)))]
    return planned(faults, 290, network=replace(RELIABLE, latency_s=(0.05, 0.15)))


def late_answers(rng: Random) -> Plan:
    """Messages are lost, very late or duplicated, and processes are paused or cut off."""
    faults: list[Fault] = []
    for at in spread(rng, 180, 10, 40):
        kind = rng.randrange(3)
        place, for_s = rng.randrange(3), between(rng, 3, 30)
        faults.append(Pause(at, place, for_s) if kind else Cut(at, place, for_s, rng.choice(("there", "back"))))
    network = Network(lost=0.02, lost_answers=0.04, late=0.08, late_s=40, duplicated=0.1, split=rng.random() < 0.3)
    return planned(faults, 200, network=network)


def back_to_back(rng: Random) -> Plan:
    """Suspensions of a task that is always due follow each other, and messages about one arrive during the next."""
    faults: list[Fault] = []
    for place in range(3):
        for start in spread(rng, 120, 8, 40, 2):
            at = start
            for _ in range(rng.randint(2, 6)):
                length = between(rng, 0.3, 4)
                faults.append(Ask(round(at, 3), place, "suspend", rng.choice(("task", "task", "other", "")), length))
                at += length + rng.choice((0.01, 0.1, 1.0, -0.2))
    faults += [rng.choice((Pause, Cut))(at, rng.randrange(3), between(rng, 0.5, 6)) for at in spread(rng, 120, 20, 60)]
    return planned(faults, 130, network=replace(RELIABLE, late=0.15, late_s=8.0, duplicated=0.03, lost_hints=0.5))


def claimed_ahead(rng: Random) -> Plan:
    """Between a claim and its tick the task is suspended, paused, disabled, or the process or clock is disturbed."""
    faults: list[Fault] = []
    for at in spread(rng, 110, 1, 8):
        place, task = rng.randrange(3), rng.choice(("task", "other"))
        what = rng.choice(("suspend", "suspend", "suspend", "again", "toggle", "pause", "freeze", "jump", "block"))
        if what == "freeze":
            faults.append(Pause(at, place, between(rng, 0.2, 14)))
        elif what == "block":
            faults.append(Block(at, place, between(rng, 0.2, 12)))
        elif what == "jump":
            faults.append(Jump(at, between(rng, -3, 1)))
        else:
            length = rng.choice((rng.uniform(0.001, 0.4), rng.uniform(0.3, 3)))
            task = rng.choice((task, "")) if what == "suspend" else task
            faults.append(Ask(at, place, what, task, round(length, 3)))
    network = replace(RELIABLE, late=0.1, late_s=3.0, lost_hints=0.3)
    return planned(faults, 120, rates_ppm=tuple(rng.randint(-20_000, 20_000) for _ in range(3)), network=network)


def slow_way(rng: Random) -> Plan:
    """One way of a message takes much longer than the other, and all clocks are nearly exact."""
    return planned((), 100, network=replace(RELIABLE, latency_s=(0.0005, 0.4)), store_ppm=rng.randint(-400, 400))


def orderly(rng: Random) -> Plan:
    """Instances are stopped one after the other and started again, mostly while they have a claim."""
    faults: list[Fault] = []
    for at in spread(rng, 230, 12, 20, 25):
        tick = 3.0 * round(at / 3.0)
        at = rng.choice((at, round(tick - rng.choice((0.5, 0.1)) + rng.uniform(0, 0.04), 6)))
        faults.append(Ask(at, rng.randrange(3), "stop", "", between(rng, 2, 9)))
    return planned(faults, 250)


def rollout(rng: Random) -> Plan:
    """Every start brings another interval, and old versions come back as well."""
    faults: list[Fault] = [Crash(at, rng.randrange(3), between(rng, 0.2, 6)) for at in spread(rng, 230, 4, 25)]
    faults += [Ask(at, rng.randrange(3), "again", "task", between(rng, 0, 3)) for at in spread(rng, 230, 8, 40)]
    faults += [Jump(at, between(rng, -15, 5)) for at in spread(rng, 230, 40, 200)]
    return planned(faults, 250, network=replace(Network(), split=rng.random() < 0.5))


def crashes(rng: Random) -> Plan:
    """Processes crash and come back, and nothing else happens: some instance is always back soon."""
    faults: list[Fault] = [Crash(at, rng.randrange(3), between(rng, 0.5, 30)) for at in spread(rng, 280, 15, 60)]
    faults += [Ask(at, rng.randrange(3), "suspend", "task", between(rng, 0.5, 9)) for at in spread(rng, 280, 20, 90)]
    return planned(faults, 300)


def everything(rng: Random) -> Plan:
    """Every kind of fault."""
    kinds = (Pause, Block, Crash, Cut, Cut, Outage)
    plan = drawn_plan(rng.randrange(10**9), 3, faults=10, kinds=kinds, tasks=TWO, suspensions=8)
    asks = [
        Ask(at, rng.randrange(3), rng.choice(ASKS), rng.choice(TWO), between(rng, 0, 5))
        for at in spread(rng, plan.for_s, 3, 25)
    ]
    return replace(plan, faults=tuple(sorted([*plan.faults, *asks], key=lambda each: each.at_s)))


ASKS = ("run_now", "run_now", "pause", "toggle", "again", "stop")


def cancelled(rng: Random) -> Plan:
    """Runs are cancelled from any instance, under every kind of fault."""
    plan = everything(rng)
    asks = [Ask(at, rng.randrange(3), "cancel", rng.choice(TWO)) for at in spread(rng, plan.for_s, 3, 12)]
    return replace(plan, faults=tuple(sorted([*plan.faults, *asks], key=lambda each: each.at_s)))


def emptied(rng: Random) -> Plan:
    """The store loses its records again and again, in the middle of runs, of suspensions, and between them."""
    faults: list[Fault] = [Loss(at) for at in spread(rng, 200, 8, 25)]
    faults += [Ask(at, rng.randrange(3), "suspend", "task", between(rng, 0.5, 9)) for at in spread(rng, 200, 10, 40)]
    return planned(faults, 220, network=replace(RELIABLE, latency_s=(0.001, 0.3)))


def fine_weather(_: Random) -> Plan:
    """No faults."""
    return Plan(for_s=200)


TWO = ("task", "other")
MANY = ("a", "b", "c", "d", "e")
LONG = Work(MANY, (EVERY_S,), EVERY_S - 7, cleanup_s=2.3)
QUICK = LeaseTiming(poll_s=0.25)

NONE_LEFT_OUT = Work(TWO, missed=Missed.ALL, policy=ExecPolicy.WAIT)
AT_MOST_ONCE = Work(TWO, on_lost=OnLost.SKIP, policy=ExecPolicy.SKIP)
OFTEN = Work(every_s=(1.5,), takes_s=0.5)

_ALL = [
    Scene("fine weather", fine_weather, Work(MANY, (5.0,), 1.0), bounds=Bounds(), checks=(exactly_once, no_gaps)),
    Scene("crashes", crashes, Work(TWO), bounds=Bounds(failover_s=25.0), checks=(no_gaps,)),
    Scene("everything", everything, Work(TWO), checks=(no_gaps,)),
    Scene("cancelled", cancelled, Work(TWO, takes_s=5.0, policy=ExecPolicy.WAIT), checks=(no_gaps,)),
    Scene("everything, none left out", everything, NONE_LEFT_OUT, checks=(no_gaps,)),
    Scene("everything, at most once", everything, AT_MOST_ONCE, checks=(no_gaps,)),
    Scene("cut off", cut_off, LONG, QUICK),
    Scene("cut off inside", cut_off_inside, replace(OFTEN, cleanup_s=2.3), QUICK),
    Scene("back inside", back_inside, replace(OFTEN, cleanup_s=3.0), QUICK),
    Scene("two inside", two_inside, replace(OFTEN, cleanup_s=4.2), QUICK),
    Scene("frozen asking", frozen_asking, replace(LONG, cleanup_s=4.4), QUICK),
    Scene("set again", set_again, replace(LONG, cleanup_s=1.0), QUICK),
    Scene("late orders", late_orders, replace(LONG, cleanup_s=4.4), QUICK),
    Scene("late answers", late_answers, Work(TWO, (3.0,), 1.0)),
    Scene("back to back", back_to_back, Work(TWO, (1.3,), 0.5)),
    Scene("claimed ahead", claimed_ahead, Work(TWO, (2.3,), 0.5), LeaseTiming(ahead_s=2.0)),
    Scene("slow way", slow_way, Work(MANY, (2.5,), 0.5), bounds=replace(SAFETY, early_s=0.0)),
    Scene("jitter", fine_weather, Work(MANY, (4.0,), 1.0, jitter_s=2.0), checks=(due_when_begun,)),
    Scene("orderly", orderly, Work(MANY, (3.0,), 1.0), bounds=Bounds(failover_s=5.0, calm_s=0.0)),
    Scene("emptied", emptied, replace(AT_MOST_ONCE, every_s=(3.0,), takes_s=2.0)),
    Scene("emptied in long runs", emptied, replace(LONG, tasks=TWO, on_lost=OnLost.SKIP)),
    Scene("rollout", rollout, Work(every_s=(7.0, 4.0, 11.0), takes_s=2.0)),
]
SCENES = {scene.name: scene for scene in _ALL}


# --- from the shell ---


def main(arguments: Sequence[str]) -> int:
    """Search for a seed that breaks a promise. With --json, print one line of JSON for programs."""
    parser = argparse.ArgumentParser(description="Simulate scenes and report broken promises.")
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=", ".join(SCENES))
    parser.add_argument(
        "--seeds", type=int, default=20, metavar="N", help="number of seeds of each scene (default: 20)"
    )
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first seed (default: 0)")
    parser.add_argument("--known", action="append", default=[], metavar="SCENE:SEED", help="do not report this seed")
    parser.add_argument("--json", action="store_true", help="print only the first violation, as JSON")
    given = parser.parse_args(arguments)
    names = given.scenes or list(SCENES)
    status = 0
    if given.json:  # Seed by seed over all scenes: the first violation of any scene ends the search.
        for seed in range(given.first, given.first + given.seeds):
            for name in names:
                found = [] if f"{name}:{seed}" in given.known else SCENES[name].violations(seed)
                if found:
                    print(json.dumps({"scene": name, "seed": seed, "found": found[0]}))
                    return 1
        print(json.dumps({}))
        return 0
    for name in names:
        began, broken = time.perf_counter(), []
        for seed in range(given.first, given.first + given.seeds):
            if SCENES[name].violations(seed):
                broken.append(seed)
                print(f"{name}, seed {seed}:\n{SCENES[name].report(seed)}\n", flush=True)
                if len(broken) >= 3:
                    break
        took = (time.perf_counter() - began) / given.seeds
        print(f"{name}: {given.seeds} seeds, {took:.2f} s each, seeds with violations: {broken or 'none'}", flush=True)
        status |= bool(broken)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
