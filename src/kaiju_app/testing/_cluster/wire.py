"""The simulated connection between an instance and the store that all instances share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from kaiju_app._core.ledger_query import LedgerQuery
from kaiju_app.errors import StoreUnavailable
from kaiju_app.stores import Store
from kaiju_app.stores._answers import ChangeResult, Claimed, FinishRequest, LedgerPage, Life, Renewed, Snapshot
from kaiju_app.stores._answers import Instance as Heard
from kaiju_app.stores._cas import Transition
from kaiju_app.stores._record import LedgerRow, TaskRecord
from kaiju_app.stores._selection import ClaimQuery
from kaiju_app.stores._transitions import Refusal

from .network import Delivery, draw_delivery
from .plan import MILLION, Plan, Span, inside, us
from .store import SharedStore, at_once

if TYPE_CHECKING:
    from .process import Process


class Wire(Store):
    """The store as one instance sees it: requests and answers are messages, and any fault can happen to both.

    A request under way is independent of its caller: it may be executed after the caller has given up or crashed.
    """

    name = "simulated"

    is_for_many = True  # Successive processes in the same place use it as well.

    def __init__(self, instance: Process, shared: SharedStore, plan: Plan) -> None:
        self._instance = instance
        self._shared = shared
        self._drawn: Counter[tuple[str, int]] = Counter()
        self._drawn_at = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._hinted = False
        self.calls = 0
        self.adapt(plan)

    def adapt(self, plan: Plan) -> None:
        """Follow *plan* from now on. Messages already under way are not affected."""
        self._plan = plan
        self._cuts = {way: plan.cuts(self._instance.place, way) for way in ("there", "back")}

    async def open(self) -> None:
        await self._ask("open")

    async def close(self) -> None:
        """Do nothing: the store need not know."""

    async def scan(self, names: Collection[str] | None = None, *, only_active: bool = False) -> Snapshot:
        seen: Snapshot = await self._ask("scan", names, only_active=only_active)
        return seen

    async def swap(self, old: TaskRecord | None, new: TaskRecord | None, rows: Sequence[LedgerRow] = ()) -> bool:
        return bool(await self._ask("swap", old, new, rows))

    async def history(self, name: str, limit: int) -> list[LedgerRow]:
        rows: list[LedgerRow] = await self._ask("history", name, limit)
        return rows

    async def runs(self, query: LedgerQuery) -> LedgerPage:
        page: LedgerPage = await self._ask("runs", query)
        return page

    async def lives(self) -> list[Life]:
        lives: list[Life] = await self._ask("lives")
        return lives

    async def delete_history(self, name: str) -> int:
        return int(await self._ask("delete_history", name))

    async def instances(self, ttl: int) -> list[Heard]:
        heard: list[Heard] = await self._ask("instances", ttl)
        return heard

    async def heartbeat(self, me: str, info: str, ttl: int) -> list[Heard]:
        heard: list[Heard] = await self._ask("heartbeat", me, info, ttl)
        return heard

    async def note(self, me: str, text: str) -> bool:
        return True  # It is for people, and no promise depends on it: it need not change what the seeds draw.

    async def deregister(self, me: str) -> None:
        await self._ask("deregister", me)

    async def prune(self, *, keep: int, age: int) -> int:
        return int(await self._ask("prune", keep=keep, age=age))

    async def change_each(self, transitions: Mapping[str, Transition]) -> dict[str, ChangeResult]:
        if self._plan.network.split:
            return await super().change_each(dict(transitions))
        changed: dict[str, ChangeResult] = await self._ask("change_each", transitions)
        return changed

    async def dead(self) -> frozenset[str]:
        return frozenset(await self._ask("dead"))

    async def claim(self, query: ClaimQuery) -> Claimed:
        if self._plan.network.split:
            return await super().claim(query)
        claimed: Claimed = await self._ask("claim", query)
        return claimed

    async def renew(self, me: str, runs: Mapping[str, int], holds: Mapping[str, Collection[str]], ttl: int) -> Renewed:
        if self._plan.network.split:
            return await super().renew(me, dict(runs), dict(holds), ttl)
        renewed: Renewed = await self._ask("renew", me, runs, holds, ttl)
        return renewed

    async def finish(self, me: str, endings: Sequence[FinishRequest]) -> list[Refusal | None]:
        if self._plan.network.split:
            return await super().finish(me, endings)
        refusals: list[Refusal | None] = await self._ask("finish", me, endings)
        return refusals

    async def wait_for_change(self, timeout_s: float) -> None:
        """Wait for a change notification, which may get lost, or for *timeout_s*."""
        down = outage_at(self._plan, self._instance.now())
        future: asyncio.Future[None] = self._instance.loop.create_future()
        delay = self._plan.network.latency_s[1]
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
        """Notify waiting callers of a change, after the network's delay."""
        if self._hinted or not self._waiting:
            return
        rng = self._draws("hint")
        drawn = draw_delivery(rng, self._plan.network)
        arrival = self._arrival(drawn.back, "back", drawn.kept, self._instance.world.now)
        if arrival is not None and rng.random() >= self._plan.network.lost_hints:
            self._hinted = True
            self._instance.world.at(arrival, self._hint, rng.random())

    def _hint(self) -> None:
        self._hinted = False
        for future in list(self._waiting):
            self._instance.deliver(_answer, future, None, None)

    # --- a call ---

    async def _ask(self, method: str, *args: Any, **options: Any) -> Any:
        self.calls += 1
        instance = self._instance
        future: asyncio.Future[Any] = instance.loop.create_future()
        # The message is a copy: the caller may change its arguments afterwards.
        args, options = _copied(args), _copied(options)
        rng = self._draws(method)
        drawn = draw_delivery(rng, self._plan.network)
        execute = partial(self._execute, future, rng, drawn, method, args, options)
        arrival = self._arrival(drawn.there, "there", drawn.kept, instance.now())
        if arrival is not None and not instance.has_crashed:
            instance.world.at(arrival, execute, rng.random())
            if drawn.again is not None:
                instance.world.at(arrival + drawn.again, execute, rng.random())
        if drawn.patience_s is None:
            return await future
        error = self._unavailable(f"no answer for {drawn.patience_s:.1f} s")
        timer = instance.loop.call_later(drawn.patience_s, _answer, future, None, error)
        try:
            return await future
        finally:
            timer.cancel()

    def _execute(
        self,
        future: asyncio.Future[Any],
        rng: Random,
        drawn: Delivery,
        method: str,
        args: Any,
        options: dict[str, Any],
    ) -> None:
        world = self._instance.world
        down = outage_at(self._plan, world.now)
        result: Any = None
        error: Exception | None = None
        if down is not None:
            _, end, how = down
            if how == "stalls":
                execute = partial(self._execute, future, rng, drawn, method, args, options)
                delay = us(rng.uniform(*self._plan.network.latency_s))
                world.at(end + delay, execute, rng.random())
            if how != "refuses":
                return
            error = self._unavailable("it is down")
        else:
            try:
                result = at_once(getattr(self._shared, method)(*args, **options))
            except Exception as exc:  # The request was invalid: the caller gets the error.
                error = exc
        arrival = self._arrival(drawn.back, "back", drawn.kept, world.now)
        if arrival is not None:
            deliver = partial(self._instance.deliver, _answer, future, result, error)
            world.at(arrival, deliver, rng.random())

    def _draws(self, kind: str) -> Random:
        """Return what decides the fate of one message.

        It depends on the instance, the kind and the time of the message, and not on the messages before it: which of
        two at the same instant is sent first may differ from one version of Python to another.
        """
        now, world = self._instance.now(), self._instance.world
        if world.now > self._drawn_at:  # No later message has the time of an earlier one: forget those.
            self._drawn_at = world.now
            self._drawn = Counter({key: count for key, count in self._drawn.items() if key[1] >= world.now})
        self._drawn[kind, now] += 1
        return Random(f"{world.seed} {self._instance.id} {kind} {now} {self._drawn[kind, now]}")

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


def outage_at(plan: Plan, at: int) -> tuple[int, int, str] | None:
    for each in plan.outages:
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
    if isinstance(value, str | int | None):  # The usual case.
        return value
    if isinstance(value, Mapping):
        return {key: _copied(each) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return frozenset(value)
    if type(value) in (list, tuple):
        return tuple([_copied(each) for each in value])
    return value
