"""The way between a simulated instance and the store that all of them share."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from simulated_plan import MILLION, Plan, Span, Weather, inside, us

from kaiju_app.errors import StoreUnavailable
from kaiju_app.stores import MemoryStore, Store
from kaiju_app.stores._record import Record, Row
from kaiju_app.stores._store import Changed, Claimed, Ending, Renewed, Seen, Share, Transition
from kaiju_app.stores._store import Instance as Heard
from kaiju_app.stores._transitions import Refusal

if TYPE_CHECKING:
    from simulated import Instance

T = TypeVar("T")


def at_once(job: Coroutine[Any, Any, T]) -> T:
    """Return what *job* returns, which must not wait for anything."""
    try:
        job.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    job.close()
    raise AssertionError("the store waits: it cannot be atomic")


class SharedStore(MemoryStore):
    """The store itself; *changed* hears of every change, in the instant in which it is made."""

    def __init__(self, clock: Callable[[], int], changed: Callable[[Record | None, Record | None], None]) -> None:
        super().__init__(clock, history=sys.maxsize)  # It is judged whole.
        self._changed = changed

    async def swap(self, old: Record | None, new: Record | None, rows: Sequence[Row] = ()) -> bool:
        done = await super().swap(old, new, rows)
        if done:
            self._changed(old, new)
        return done


class Fate(NamedTuple):
    """What a call will meet: drawn when it is made, so that a fault less elsewhere changes nothing here."""

    there: int | None
    """Microseconds; None: lost."""
    again: int | None
    """How long after the request it is executed again; None: once."""
    back: int | None
    kept: bool
    """What meets a cut arrives after its end, as TCP would have it; otherwise it is lost."""
    patience_s: float | None


def fate(rng: Random, weather: Weather) -> Fate:
    def way(lost: float) -> int | None:
        gone, late, long = rng.random() < lost, rng.random() < weather.late, rng.random()
        delay = rng.uniform(*weather.usual_s) + (weather.late_s * long * long if late else 0)
        return None if gone else us(delay)

    there, back = way(weather.lost), way(weather.lost_answers)
    twice, again, kept = rng.random() < weather.twice, rng.random(), rng.random() < 0.5
    impatient, patience = rng.random() < weather.impatient, rng.uniform(*weather.patience_s)
    repeated = us(weather.late_s * again * again) if twice else None
    return Fate(there, repeated, back, kept, patience if impatient else None)


class Wire(Store):
    """The store as one instance has it: what is asked and what is answered are messages, and both may meet anything.

    The copy of a request that is under way does not care what becomes of the caller: one that has given up, or has
    crashed, may see it executed all the same.
    """

    name = "simulated"

    is_for_many = True  # Of one process after the other, too, in the same place.

    def __init__(self, instance: Instance, shared: SharedStore, plan: Plan, rng: Random) -> None:
        self._instance = instance
        self._shared = shared
        self._plan = plan
        self._rng = rng
        self._cuts = {way: plan.cuts(instance.place, way) for way in ("there", "back")}
        self._waiting: set[asyncio.Future[None]] = set()
        self._hinted = False
        self.calls = 0

    async def open(self) -> None:
        await self._ask("open")

    async def close(self) -> None:
        """Nothing has to be said to anybody."""

    async def scan(self, names: Collection[str] | None = None, *, active: bool = False) -> Seen:
        seen: Seen = await self._ask("scan", names, active=active)
        return seen

    async def swap(self, old: Record | None, new: Record | None, rows: Sequence[Row] = ()) -> bool:
        return bool(await self._ask("swap", old, new, rows))

    async def history(self, name: str, limit: int) -> list[Row]:
        rows: list[Row] = await self._ask("history", name, limit)
        return rows

    async def beat(self, me: str, info: str, ttl: int) -> list[Heard]:
        heard: list[Heard] = await self._ask("beat", me, info, ttl)
        return heard

    async def leave(self, me: str) -> None:
        await self._ask("leave", me)

    async def tidy(self, *, keep: int, age: int) -> int:
        return int(await self._ask("tidy", keep=keep, age=age))

    async def change_each(self, transitions: Mapping[str, Transition]) -> dict[str, Changed]:
        if self._plan.weather.split:
            return await super().change_each(dict(transitions))
        changed: dict[str, Changed] = await self._ask("change_each", transitions)
        return changed

    async def dead(self) -> frozenset[str]:
        return frozenset(await self._ask("dead"))

    async def change(self, name: str, transition: Transition) -> Changed:
        if self._plan.weather.split:
            return await super().change(name, transition)
        changed: Changed = await self._ask("change", name, transition)
        return changed

    async def claim(
        self,
        me: str,
        *,
        ttl: int,
        limit: int,
        ahead: int = 0,
        skip: Collection[str] = frozenset(),
        share: Share | None = None,
        punctual: Collection[str] = frozenset(),
    ) -> Claimed:
        terms = {"ttl": ttl, "limit": limit, "ahead": ahead, "skip": skip, "share": share, "punctual": punctual}
        if self._plan.weather.split:
            return await super().claim(me, **terms)
        claimed: Claimed = await self._ask("claim", me, **terms)
        return claimed

    async def renew(self, me: str, runs: Mapping[str, int], holds: Mapping[str, Collection[str]], ttl: int) -> Renewed:
        if self._plan.weather.split:
            return await super().renew(me, dict(runs), dict(holds), ttl)
        renewed: Renewed = await self._ask("renew", me, runs, holds, ttl)
        return renewed

    async def finish(self, me: str, endings: Sequence[Ending]) -> list[Refusal | None]:
        if self._plan.weather.split:
            return await super().finish(me, endings)
        refusals: list[Refusal | None] = await self._ask("finish", me, endings)
        return refusals

    async def wait(self, timeout_s: float) -> None:
        """Return at a hint, which may get lost, or after *timeout_s*."""
        down = inside_of_down(self._plan, self._instance.now())
        future: asyncio.Future[None] = self._instance.loop.create_future()
        delay = self._plan.weather.usual_s[1]
        if down is not None and down[2] == "refuses":
            timer = self._instance.loop.call_later(delay, _answer, future, None, self._unavailable("it is down"))
        else:
            timer = self._instance.loop.call_later(timeout_s, _answer, future, None, None)
        self._waiting.add(future)
        try:
            await future
        finally:
            timer.cancel()
            self._waiting.discard(future)

    def hint(self) -> None:
        """Tell those who wait here, some time later, that something has changed."""
        if self._hinted or not self._waiting:
            return
        drawn = fate(self._rng, self._plan.weather)
        arrival = self._arrival(drawn.back, "back", drawn.kept, self._instance.simulation.now)
        if arrival is not None and self._rng.random() >= self._plan.weather.deaf:
            self._hinted = True
            self._instance.simulation.at(arrival, self._hint)

    def _hint(self) -> None:
        self._hinted = False
        for future in list(self._waiting):
            self._instance.deliver(_answer, future, None, None)

    # --- a call ---

    async def _ask(self, method: str, *args: Any, **options: Any) -> Any:
        self.calls += 1
        instance = self._instance
        future: asyncio.Future[Any] = instance.loop.create_future()
        # What the caller does with its arguments afterwards is not on the wire.
        args, options = _copied(args), _copied(options)
        drawn = fate(self._rng, self._plan.weather)
        execute = partial(self._execute, future, drawn, method, args, options)
        arrival = self._arrival(drawn.there, "there", drawn.kept, instance.now())
        if arrival is not None and not instance.is_over:
            instance.simulation.at(arrival, execute)
            if drawn.again is not None:
                instance.simulation.at(arrival + drawn.again, execute)
        if drawn.patience_s is None:
            return await future
        error = self._unavailable(f"no answer for {drawn.patience_s:.1f} s")
        timer = instance.loop.call_later(drawn.patience_s, _answer, future, None, error)
        try:
            return await future
        finally:
            timer.cancel()

    def _execute(
        self, future: asyncio.Future[Any], drawn: Fate, method: str, args: Any, options: dict[str, Any]
    ) -> None:
        simulation = self._instance.simulation
        down = inside_of_down(self._plan, simulation.now)
        result: Any = None
        error: Exception | None = None
        if down is not None:
            _, end, how = down
            if how == "stalls":
                execute = partial(self._execute, future, drawn, method, args, options)
                simulation.at(end + us(self._rng.uniform(*self._plan.weather.usual_s)), execute)
            if how != "refuses":
                return
            error = self._unavailable("it is down")
        else:
            try:
                result = at_once(getattr(self._shared, method)(*args, **options))
            except Exception as exc:  # The caller's to see: it has asked for something impossible.
                error = exc
        arrival = self._arrival(drawn.back, "back", drawn.kept, simulation.now)
        if arrival is not None:
            simulation.at(arrival, partial(self._instance.deliver, _answer, future, result, error))

    def _arrival(self, delay: int | None, way: str, kept: bool, now: int) -> int | None:
        if delay is None:
            return None
        for at in (now, now + delay):
            cut: Span | None = inside(self._cuts[way], at)
            if cut is not None:
                return cut[1] + delay % MILLION if kept else None
        return now + delay

    def _unavailable(self, what: str) -> StoreUnavailable:
        return StoreUnavailable(self.name, what)


def inside_of_down(plan: Plan, at: int) -> tuple[int, int, str] | None:
    for each in plan.downs:
        if each[0] <= at < each[1]:
            return each
    return None


def _answer(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _copied(value: Any) -> Any:
    if isinstance(value, str | int | None):  # Most are.
        return value
    if isinstance(value, Mapping):
        return {key: _copied(each) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return frozenset(value)
    if type(value) in (list, tuple):
        return tuple([_copied(each) for each in value])
    return value
