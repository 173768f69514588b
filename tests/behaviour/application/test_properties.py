"""The life cycle of an application against everything that its services and its callers can do, in any order.

Hypothesis draws what the services do: they return at once or later, raise, hang, or ignore their cancellation. It also
draws what is done to the application: start and stop are cancelled, or called twice. The result is checked against the
journal that the services write, and against a model of thirty lines that says when a start has to end, and how.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import event, example, given, settings

from kaiju_app import Application, ExecPolicy, Health, Scheduler, Service, ServiceState, service
from kaiju_app.errors import DependencyError, ServiceStartFailed
from support.virtual import VirtualLoop, close_loop

DEBUG = bool(os.environ.get("PYTHONASYNCIODEBUG"))

START_S, CLOSE_S, POST_S, GRACE_S = 10.0, 4.0, 6.0, 5.0

CLOSED, STARTING, READY, CLOSING = ServiceState


class Catastrophe(BaseException):
    """A BaseException that no function should raise."""


def can_be_written(record: logging.LogRecord) -> bool:
    """Format the record and drop it. Keeping thousands of them would be the slowest part of the test."""
    record.getMessage()
    return False


@pytest.fixture(autouse=True, scope="module")
def unheard() -> Iterator[None]:
    logs = [logging.getLogger(name) for name in ("kaiju_app.app", "kaiju_app.scheduler")]
    for log in logs:
        log.addFilter(can_be_written)
    yield
    for log in logs:
        log.removeFilter(can_be_written)


# --- what services do ---


@dataclass(frozen=True)
class Act:
    """What happens in one phase of one service.

    Args:
        kind: See ``play()``.
        seconds: When it happens.
    """

    kind: str = "returns"
    seconds: float = 0.0

    def __repr__(self) -> str:
        return f"Act({self.kind!r}, {self.seconds:g})"


CALM = [Act(), Act(), Act(), Act("returns", 0.5), Act("returns", 3)]

TROUBLE = [
    Act("raises"),
    Act("raises", 3),
    Act("base", 0.5),
    Act("cancelled", 3),
    Act("returns", 6),
    Act("hangs"),
    Act("obeys"),
    Act("breaks"),
    Act("lingers"),
    Act("outlasts"),
    Act("stubborn"),
]

UNHEALTHY = [Act("unhealthy"), Act("unhealthy", 3), Act("nonsense", 0.5)]

LINGER_S = 2.0  # Less than the grace period.
OUTLAST_S = 7.0  # More than the grace period.


async def play(act: Act, over: asyncio.Event) -> object:
    if act.seconds:
        await asyncio.sleep(act.seconds)
    match act.kind:
        case "returns":
            return Health()
        case "unhealthy":
            return Health(["no disk"], {"free": 0})
        case "nonsense":
            return True
        case "raises":
            raise OSError("no route")
        case "base":
            raise Catastrophe
        case "cancelled":
            raise asyncio.CancelledError
    try:
        await over.wait()
    except asyncio.CancelledError:
        match act.kind:
            case "hangs":
                raise
            case "breaks":
                raise ValueError("cannot roll back") from None
            case "lingers":
                await asyncio.sleep(LINGER_S)
            case "outlasts":
                await swallow(asyncio.sleep(OUTLAST_S))
            case "stubborn":
                await swallow(over.wait())
                raise
    return Health()


async def swallow(what: Any) -> None:
    """Await *what*, ignoring cancellation."""
    waited = asyncio.ensure_future(what)
    while not waited.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(waited)


@dataclass(frozen=True)
class End:
    """How a phase must end if nobody cancels it from outside."""

    fine: bool
    after_s: float
    returned: bool


def end_of(act: Act, limit_s: float) -> End:
    if act.seconds >= limit_s:
        return End(False, limit_s, False)
    match act.kind:
        case "returns":
            return End(True, act.seconds, True)
        case "unhealthy" | "nonsense" | "raises" | "base" | "cancelled":
            return End(False, act.seconds, False)
        case "obeys":
            return End(False, limit_s, True)
        case "lingers":
            return End(False, limit_s + LINGER_S, True)
        case "outlasts" | "stubborn":
            return End(False, limit_s + GRACE_S, False)
    return End(False, limit_s, False)


@dataclass(frozen=True)
class Edge:
    """A ``service()`` field: which service it asks for, and how."""

    target: int | None
    by_name: bool
    required: bool
    nowait: bool


@dataclass(frozen=True)
class Part:
    """One service."""

    edges: tuple[Edge, ...]
    optional: bool
    task: str
    init: Act
    health: Act
    post_init: Act
    close: Act


@dataclass(frozen=True)
class Plan:
    """The services, and when the callers do what, in seconds since the start or the stop."""

    parts: tuple[Part, ...]
    cancel_start: tuple[float, ...]
    stop_after: float
    cancel_stop: tuple[float, ...]
    second_stop: float | None


TASKS = ["none", "quick", "shielded", "hanging", "mule"]


THEMES = {
    "a calm start": ["post_init", "close"],
    "a start without some": ["init", "health", "close"],
    "a start that fails": ["init", "health", "close"],
    "everything": ["init", "health", "post_init", "close"],
}


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    theme = draw(st.sampled_from(list(THEMES)))
    event(f"theme: {theme}")

    def act(phase: str, more: Sequence[Act] = ()) -> Act:
        if phase not in THEMES[theme]:
            return draw(st.sampled_from(CALM))
        return draw(st.sampled_from([*CALM, *CALM, *TROUBLE, *more]))

    def cancels(*times: float) -> tuple[float, ...]:
        number = draw(st.sampled_from([0, 0, 0, 1, 2]))
        return tuple(sorted(draw(st.sampled_from(times)) for _ in range(number)))

    number = draw(st.integers(1, 7))
    rank = draw(st.permutations(range(number)))
    optional = {"a calm start": [False], "a start without some": [True, True, True, False]}.get(theme, [False, True])
    tasks = draw(st.sampled_from([["none"], ["none", "quick"], TASKS]))
    parts = [
        Part(
            edges=draw(edges_of(place, rank)),
            optional=draw(st.sampled_from(optional)),
            task=draw(st.sampled_from(tasks)),
            init=act("init"),
            health=act("health", UNHEALTHY),
            post_init=act("post_init"),
            close=act("close"),
        )
        for place in range(number)
    ]
    return Plan(
        tuple(parts),
        cancel_start=cancels(0.0, 0.25, 1.0, 3.25, 6.75, 11.0, 17.5)
        if theme in ("a start that fails", "everything")
        else (),
        stop_after=draw(st.sampled_from([0.0, 0.25, 1.5, 5.5, 8.0, 20.0])),
        cancel_stop=cancels(0.0, 0.25, 0.25, 1.0, 3.25, 6.75),
        second_stop=draw(st.sampled_from([None, None, 0.0, 0.25, 3.25])),
    )


@st.composite
def edges_of(draw: st.DrawFn, place: int, rank: Sequence[int]) -> tuple[Edge, ...]:
    """Draw fields that wait only for services of lower rank, so that a start order exists."""
    edges = []
    for target in draw(st.lists(st.integers(-1, len(rank) - 1), max_size=3, unique=True)):
        if target == place:
            continue
        by_name, required, nowait = draw(st.booleans()), draw(st.booleans()), draw(st.integers(0, 3)) == 0
        if target == -1:
            edges.append(Edge(None, by_name, False, nowait))
        else:
            edges.append(Edge(target, by_name, required, nowait or rank[target] > rank[place]))
    return tuple(edges)


def name_of(place: int) -> str:
    return f"s{place}"


def order_of(parts: Sequence[Sequence[Edge]]) -> list[int]:
    """Return the start order: each service after those it waits for, otherwise as they were added."""
    left = {
        place: {edge.target for edge in edges if edge.target is not None and not edge.nowait}
        for place, edges in enumerate(parts)
    }
    order: list[int] = []
    while left:
        order.append(min(place for place, needs in left.items() if needs <= set(order)))
        del left[order[-1]]
    return order


@dataclass(frozen=True)
class Forecast:
    """How a start ends that nobody cancels: READY or failed after so many seconds, then closing for some more."""

    after_s: float
    closing_s: float
    service: str | None
    phase: str | None


def forecast(plan: Plan) -> Forecast:
    now = 0.0
    absent: set[int] = set()
    opened: list[int] = []
    for place in order_of([part.edges for part in plan.parts]):
        part = plan.parts[place]
        phase = None
        is_open = False
        if any(edge.target in absent and edge.required and not edge.nowait for edge in part.edges):
            phase = "init"
        else:
            began = now
            end = end_of(part.init, START_S)
            now += end.after_s
            is_open = end.returned
            if not end.fine:
                phase = "init"
            else:
                end = end_of(part.health, START_S - (now - began))
                now += end.after_s
                phase = None if end.fine else "health"
        if phase is None:
            opened.append(place)
        elif part.optional:
            absent.add(place)
            now += end_of(part.close, CLOSE_S).after_s if is_open else 0
        else:
            opened += [place] if is_open else []
            closing = sum(end_of(plan.parts[each].close, CLOSE_S).after_s for each in opened)
            return Forecast(now, closing, name_of(place), phase)
    return Forecast(now, 0.0, None, None)


# --- the services ---


MARKS = [type(f"Mark{number}", (), {"__module__": __name__}) for number in range(8)]
globals().update({mark.__name__: mark for mark in MARKS})
NOBODY = 7
"""Index of a mark that no service has."""


@dataclass(eq=False)
class Probe(Service):
    world: World
    part: Part

    async def init(self) -> None:
        self.world.begins(self, "init")
        if self.part.task != "none":
            policy = ExecPolicy.SHIELD if self.part.task == "shielded" else ExecPolicy.CANCEL
            self.app.scheduler.schedule_task(self.run, 1, name=f"task of {self.name}", policy=policy)
        await self.world.play(self, "init", self.part.init)

    async def health(self) -> Health:
        self.world.begins(self, "health")
        return await self.world.play(self, "health", self.part.health)  # type: ignore[no-any-return]

    async def post_init(self) -> None:
        self.world.begins(self, "post_init")
        await self.world.play(self, "post_init", self.part.post_init)

    async def close(self) -> None:
        self.world.begins(self, "close")
        await self.world.play(self, "close", self.part.close)

    async def run(self) -> None:
        self.world.runs(self)
        try:
            match self.part.task:
                case "shielded":
                    await asyncio.sleep(3)
                case "hanging":
                    await asyncio.Event().wait()
                case "mule":
                    await swallow(self.world.over.wait())
        finally:
            self.world.running.discard(self.name)


def made(place: int, edges: Sequence[Edge], base: type) -> Any:
    """Return a new class for the service at *place*, with the fields that *edges* describe."""
    annotations: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for number, edge in enumerate(edges):
        target = NOBODY if edge.target is None else edge.target
        annotations[f"need{number}"] = f"Mark{target} | None" if number else MARKS[target]
        wanted = name_of(target) if edge.by_name else None
        fields[f"need{number}"] = service(wanted, required=edge.required, nowait=edge.nowait)
    namespace = {"__module__": __name__, "__annotations__": annotations, **fields}
    return dataclass(eq=False)(type(f"S{place}", (MARKS[place], base), namespace))


@dataclass
class World:
    """One application, and what its services have recorded."""

    plan: Plan
    loop: VirtualLoop
    over: asyncio.Event = field(default_factory=asyncio.Event)
    broken: list[str] = field(default_factory=list)
    began: list[tuple[str, str]] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    """Services whose init() has returned in time and whose close() was not called, in the order of their init()."""
    latecomers: set[str] = field(default_factory=set)
    """Services whose init() returned after it had been abandoned."""
    closes: Counter[str] = field(default_factory=Counter)
    running: set[str] = field(default_factory=set)
    ran: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.probes = [
            made(place, part.edges, Probe)(self, part, name=name_of(place))
            for place, part in enumerate(self.plan.parts)
        ]
        self.app = Application(
            "shop",
            self.probes,
            scheduler=Scheduler(clock=self.loop.virtual_clock),
            service_start_timeout_s=START_S,
            service_close_timeout_s=CLOSE_S,
            post_init_timeout_s=POST_S,
            optional_services=[probe.name for probe in self.probes if probe.part.optional],
        )

    def expect(self, fact: object, otherwise: str) -> None:
        """Record *otherwise* if *fact* is false. Not an assert: the application catches what services raise."""
        if not fact:
            self.broken.append(otherwise)

    # --- called by the services ---

    def begins(self, me: Any, phase: str) -> None:
        app = self.app
        self.began.append((me.name, phase))
        match phase:
            case "init":
                self.expect(app.state is STARTING, f"init of {me.name} while {app.state}")
                self.expect(not app.scheduler.started, f"init of {me.name} when the scheduler is started")
                self.expect(not self.closes or me.name not in self.closes, f"init of {me.name} after its close")
                others = [each.name for each in self.probes if each is not me and each.state is STARTING]
                self.expect(not others, f"{me.name} starts together with {others}")
                self.check_needs(me)
            case "health" if app.state is STARTING:
                self.expect(me.state is STARTING, f"health of {me.name} while it is {me.state}")
                self.expect(self.opened[-1:] == [me.name], f"health of {me.name} before its init has returned")
            case "post_init":
                self.expect(me.state is READY, f"post_init of {me.name} while it is {me.state}")
                self.expect(app.state in (READY, CLOSING), f"post_init of {me.name} while {app.state}")
            case "close" if me.name in self.latecomers:
                self.closes[me.name] += 1
            case "close":
                self.closes[me.name] += 1
                self.expect(me.state is CLOSING, f"close of {me.name} while it is {me.state}")
                self.expect(not app.scheduler.started, f"close of {me.name} before the scheduler is stopped")
                busy = [name for name in self.running if self.part(name).task in ("quick", "hanging")]
                self.expect(not busy, f"close of {me.name} while {busy} still run")
                self.expect(self.opened[-1:] == [me.name], f"close of {me.name}, but open are {self.opened}")
                if me.name in self.opened:
                    self.opened.remove(me.name)

    def check_needs(self, me: Any) -> None:
        for number, edge in enumerate(me.part.edges):
            needed = getattr(me, f"need{number}")
            if edge.target is None:
                self.expect(needed is None, f"{me.name} has got {needed} for nobody")
                continue
            target = self.probes[edge.target]
            if needed is None:
                self.expect(not edge.required, f"{me.name} lacks {target.name}")
                self.expect(target.part.optional, f"{me.name} lacks {target.name}, which is not optional")
                self.expect(target.state is CLOSED, f"{me.name} lacks {target.name}, which is {target.state}")
            else:
                self.expect(needed is target, f"{me.name} has got {needed.name} for {target.name}")
                if not edge.nowait:
                    self.expect(target.state is READY, f"{me.name} starts while {target.name} is {target.state}")
                    self.expect(target.name in self.opened, f"{me.name} starts and {target.name} is not open")

    async def play(self, me: Any, phase: str, act: Act) -> object:
        result = await play(act, self.over)
        if phase == "init" and me.state is STARTING:
            self.opened.append(me.name)
        elif phase == "init":
            self.latecomers.add(me.name)
        return result

    def runs(self, me: Any) -> None:
        self.ran[me.name] += 1
        self.running.add(me.name)
        allowed = (
            (READY, CLOSING) if me.part.task == "shielded" else (READY,)
        )  # A shielded run that is due is not cancelled before it starts.
        self.expect(self.app.state in allowed, f"the task of {me.name} runs while {self.app.state}")
        self.expect(me.name in self.opened, f"the task of {me.name} runs, and it is not open")

    def part(self, name: str) -> Part:
        return self.plan.parts[int(name[1:])]

    # --- what the callers do ---

    async def live(self) -> None:
        ready = await self.start()
        if ready:
            await self.stop()
        self.check_closed()
        self.over.set()
        await asyncio.sleep(2 * OUTLAST_S)
        late = [name for name in self.latecomers if self.closes[name] != 1]
        self.expect(not late, f"init() of {late} has returned at last, and they are not closed")
        self.expect(asyncio.all_tasks() == {asyncio.current_task()}, f"left over: {asyncio.all_tasks()}")
        self.expect(not self.app.scheduler.tasks, f"left over: {list(self.app.scheduler.tasks)}")
        await self.live_again()

    async def start(self) -> bool:
        expected = forecast(self.plan)
        began = self.loop.time()
        starting = asyncio.create_task(self.app.start())
        cancelled = await self.cancel(starting, self.plan.cancel_start, began)
        await asyncio.wait([starting], timeout=self.bound_s())
        took = self.loop.time() - began
        assert starting.done(), "start() goes on for ever"
        if starting.cancelled():
            event("start: cancelled")
            self.expect(cancelled, "start() was cancelled by nobody")
            self.expect(not cancelled or cancelled[0] <= expected.after_s + 1e-3, "what went wrong first is not told")
            return False
        error = starting.exception()
        if cancelled:
            self.expect(cancelled[0] >= expected.after_s - 1e-3, "start() was cancelled and does not say so")
        else:
            in_time = abs(took - expected.after_s - expected.closing_s) < 1e-3
            self.expect(in_time, f"start() took {took} s, not as in {expected}")
        if error is None:
            event("start: READY" + (", not all" if len(self.opened) < len(self.probes) else ""))
            self.expect(expected.service is None, f"READY without {expected}")
            self.expect(self.app.state is READY, f"started, and {self.app.state}")
            self.expect(set(self.opened) >= {p.name for p in self.probes if not p.part.optional}, "not all open")
            return True
        self.expect(isinstance(error, ServiceStartFailed), f"{error!r}")
        if isinstance(error, ServiceStartFailed):
            event(f"start: failed in {error.phase}")
            self.expect((error.service, error.phase) == (expected.service, expected.phase), f"{error}: {expected}")
            self.expect(repr(expected.service) in str(error), f"{error} does not name {expected}")
            self.expect("optional_services" in str(error) or "required=False" in str(error), f"what to do: {error}")
        return False

    async def cancel(
        self, task: asyncio.Task[Any], times: Sequence[float], began: float, *, turn: bool = False
    ) -> list[float]:
        """Cancel *task* at *times*. Return the times at which it was not done yet."""
        if turn:
            await asyncio.sleep(0)  # A task that is cancelled before its first step never runs.
        hits = []
        for moment in times:
            if (pause := began + moment - self.loop.time()) > 0:
                await asyncio.wait([task], timeout=pause)
            if task.cancel():
                hits.append(self.loop.time() - began)
            await asyncio.sleep(0)
        return hits

    async def stop(self) -> None:
        names = list(self.opened)
        await asyncio.sleep(self.plan.stop_after)
        self.expect(self.app.state is READY, f"READY, and later {self.app.state}")
        began = self.loop.time()
        stopping = asyncio.create_task(self.app.stop())
        second = None
        if self.plan.second_stop is not None:
            second = asyncio.create_task(self.stop_too(self.plan.second_stop))
        cancelled = await self.cancel(stopping, self.plan.cancel_stop, began, turn=True)
        await asyncio.wait([stopping], timeout=self.bound_s())
        took = self.loop.time() - began
        assert stopping.done(), "stop() goes on for ever"
        ends = {name: end_of(self.part(name).close, CLOSE_S) for name in names}
        if cancelled:
            event(f"stop: cancelled {len(cancelled)}")
            self.expect(stopping.cancelled(), "stop() was cancelled and does not say so")
        else:
            event("stop: in its own time")
            closing = sum(end.after_s for end in ends.values())
            self.expect(closing - 1e-3 < took < closing + 2 * GRACE_S + 1e-3, f"stop() took {took}, closing {closing}")
            expected = {f"service {name!r} did not close cleanly" for name, end in ends.items() if not end.fine}
            told = {problem for problem in stopping.result() if "did not close" in problem}
            self.expect(told == expected, f"stop() tells {told}")
        if second is not None:
            await asyncio.wait([second], timeout=self.bound_s())
            self.expect(second.done() and second.result() == [], "the second stop()")

    async def stop_too(self, delay: float) -> list[str]:
        await asyncio.sleep(delay)
        result = await self.app.stop()
        self.expect(self.app.state is CLOSED, f"the second stop() has returned and it is {self.app.state}")
        return result

    def bound_s(self) -> float:
        """Return the most that anything can take: all limits, and a grace for each."""
        each = START_S + GRACE_S + CLOSE_S + GRACE_S
        return len(self.probes) * each + 2 * GRACE_S + 1

    def check_closed(self) -> None:
        app = self.app
        self.expect(app.state is CLOSED, f"at the end it is {app.state}")
        self.expect({each.state for each in self.probes} == {CLOSED}, "at the end services are not CLOSED")
        self.expect(not app.scheduler.started, "at the end the scheduler is started")
        self.expect(not self.opened, f"never closed: {self.opened}")
        self.expect(set(self.closes.values()) <= {1}, f"closed more than once: {self.closes}")
        order = [name_of(place) for place in order_of([part.edges for part in self.plan.parts])]
        inits = [name for name, phase in self.began if phase == "init"]
        self.expect(inits == [name for name in order if name in inits], f"started as {inits}, not as {order}")
        allowed = {f"task of {name}" for name in self.running}
        self.expect(set(app.scheduler.tasks) <= allowed, f"tasks left: {list(app.scheduler.tasks)}")

    async def live_again(self) -> None:
        """Start the same application again, now with well-behaved services."""
        for probe in self.probes:
            calm = Act()
            probe.part = Part(probe.part.edges, probe.part.optional, "quick", calm, calm, calm, calm)
        for book in (self.began, self.closes, self.ran, self.latecomers):
            book.clear()
        names = [name_of(place) for place in order_of([part.edges for part in self.plan.parts])]
        async with self.app:
            self.expect([name for name, phase in self.began if phase == "init"] == names, f"again: {self.began}")
            await asyncio.sleep(2.5)
            self.expect(self.ran == Counter(dict.fromkeys(names, 3)), f"again, runs: {self.ran}")
            shown = await self.app.inspect()
            self.expect(shown["healthy"], f"again, not healthy: {shown}")
        self.expect([n for n, p in self.began if p == "post_init"] == names, f"again, post_init: {self.began}")
        self.expect([n for n, p in self.began if p == "close"] == names[::-1], f"again, closed: {self.began}")
        self.check_closed()


@pytest.mark.smoke
@pytest.mark.timeout(300)  # Shrinking a failure takes long.
@settings(max_examples=50 if DEBUG else 300)
@given(plan=plans())
@example(
    # It is abandoned in the same turn of the loop in which it obeys.
    plan=Plan(
        (Part((), False, "none", *[Act()] * 4), Part((), False, "none", Act("obeys"), *[Act()] * 3)),
        cancel_start=(0.25, 0.25),
        stop_after=0.0,
        cancel_stop=(),
        second_stop=None,
    )
)
def test_whatever_services_do_the_application_keeps_its_order_and_always_ends(plan: Plan) -> None:
    loop = VirtualLoop()
    loop.set_debug(DEBUG)
    world = World(plan, loop)
    try:
        loop.run_until_complete(world.live())
    finally:
        world.over.set()
        close_loop(loop)
    broken = world.broken
    del world
    gc.collect()
    assert broken == []
    assert loop.complaints == []


# --- graphs of every kind ---


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[Edge, ...]]:
    """Draw fields of two to six services, with cycles, and with services that do not exist."""
    number = draw(st.integers(2, 6))
    with_ghosts = draw(st.sampled_from([False, False, True]))
    some_nowait = draw(st.sampled_from([[False], [False, True], [True]]))
    graph = []
    for place in range(number):
        edges = []
        for target in draw(st.lists(st.integers(0, number), min_size=1, max_size=3, unique=True)):
            by_name, required, nowait = draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from(some_nowait))
            if target == number:
                edges.append(Edge(None, by_name, required and with_ghosts, nowait))
            elif target != place:
                edges.append(Edge(target, by_name, required, nowait))
        graph.append(tuple(edges))
    return graph


@dataclass(eq=False)
class Quiet(Service):
    inits: list[str]

    async def init(self) -> None:
        self.inits.append(self.name)


def waits(graph: Sequence[Sequence[Edge]]) -> set[tuple[str, str]]:
    return {
        (name_of(place), name_of(edge.target))
        for place, edges in enumerate(graph)
        for edge in edges
        if edge.target is not None and not edge.nowait
    }


def has_circle(graph: Sequence[Sequence[Edge]]) -> bool:
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for one, other in waits(graph):
        sorter.add(one, other)
    try:
        sorter.prepare()
    except ValueError:
        return True
    return False


@settings(max_examples=40 if DEBUG else 200)
@given(graph=graphs())
def test_services_start_in_the_order_of_their_needs_or_none_of_them_starts(graph: list[tuple[Edge, ...]]) -> None:
    inits: list[str] = []
    loop = VirtualLoop()
    services = [made(place, edges, Quiet)(inits, name=name_of(place)) for place, edges in enumerate(graph)]
    app = Application("shop", services, scheduler=Scheduler(clock=loop.virtual_clock))
    missing = [
        (place, number)
        for place, edges in enumerate(graph)
        for number, edge in enumerate(edges)
        if edge.target is None and edge.required
    ]
    try:
        if missing or has_circle(graph):
            event("missing" if missing else "circle")
            with pytest.raises(DependencyError) as caught:
                loop.run_until_complete(app.start())
            assert inits == []
            assert app.state is CLOSED
            problems = caught.value.problems
            if missing:
                assert len(problems) == len(missing)
                for (place, number), problem in zip(missing, problems, strict=True):
                    assert problem.startswith(f"{name_of(place)}.need{number} needs a service ")
                    assert repr(name_of(NOBODY)) in problem or f"Mark{NOBODY}" in problem
            else:
                [problem] = problems
                circle = problem.split(",")[0].split(" needs ")
                assert circle[0] == circle[-1]
                assert set(pairwise(circle)) <= waits(graph)
        else:
            event("in order")
            loop.run_until_complete(app.start())
            assert inits == [name_of(place) for place in order_of(graph)]
            for each, edges in zip(services, graph, strict=True):
                for number, edge in enumerate(edges):
                    wanted = None if edge.target is None else services[edge.target]
                    assert getattr(each, f"need{number}") is wanted
            loop.run_until_complete(app.stop())
    finally:
        close_loop(loop)
    assert loop.complaints == []
