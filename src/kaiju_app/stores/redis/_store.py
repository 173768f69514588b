"""A store on a Redis or Valkey server, for instances on many hosts. Needs the library redis."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from kaiju_app._core.calls import explain_init
from kaiju_app._core.ledger_query import LedgerQuery, Place
from kaiju_app._core.validate import duration_us, key
from kaiju_app.errors import InvalidArgument, StoreRefused
from kaiju_app.stores._answers import (
    ChangeResult,
    Claimed,
    FinishRequest,
    Instance,
    LedgerPage,
    Life,
    Renewed,
    Snapshot,
)
from kaiju_app.stores._base import LIVES_KEPT, ROWS_AGE_S, ROWS_KEPT, Store
from kaiju_app.stores._cas import Transition, by_name, pause_us
from kaiju_app.stores._codec import storable
from kaiju_app.stores._record import END, LedgerRow, TaskRecord, end_key, true_holds
from kaiju_app.stores._selection import ClaimQuery, in_order
from kaiju_app.stores._transitions import Refusal

from ._address import Address
from ._connection import Connection
from ._listener import Listener
from ._shares import Shares
from ._values import change_values, ending_values, place_text, records_of, rows_from_arrays, tick_of, tick_text

TIMEOUT_S = 2.0  # A renewal must not take longer than this, when the next one is due.
CONFLICTS = 10  # After this many, in some hundredths of a second, another client changes a record all the time.


@explain_init()
class RedisStore(Store):
    """A server that instances on many hosts share: Redis 6.2 or newer, or Valkey; alone, with sentinels, or a cluster.

    1. The server's clock is the only one that decides.
    2. Claim, renewal and finish are one script each, which the server executes as a whole. A change is a read, and a
       script that replaces the record if it is unchanged.
    3. Claims are as durable as the server makes them: with ``appendonly yes`` and ``appendfsync always`` a
       restart loses nothing, with ``everysec`` about the last second, with ``appendonly no`` all since the last
       snapshot. A warning at the start tells of ``appendonly no``, and of a policy that evicts any key.
    4. Replicas are asynchronous. After a failover to one that lacks the last claims, a tick may run twice, and two runs
       may overlap: until the old primary is demoted, if a cut network lets both answer. Fencing tokens grow all the
       same, as long as an instance lives that knows the
       last one, or the clock of the new server is not behind by more than the failover took. That holds for a FLUSHALL
       and for a restart without a file, too.
    5. Server memory holds the ledger, so no task ever has more rows than *history*.

    Args:
        url: ``redis://user:password@host:port/number``, ``redis+sentinel://host:port,host:port/service/number`` or
            ``redis+cluster://host:port,host:port``; ``rediss`` for TLS; ``valkey`` and ``valkeys`` are the same.
        app: The set of instances that share the records.
        timeout_s: Seconds after which a call fails.
        history: How many ledger rows of each task stay.
        history_age_s: Seconds after which a ledger row is deleted all the same, but for the newest one of its task.

    Raises:
        InvalidArgument: An address or another argument is not valid.
    """

    def __init__(
        self,
        url: str,
        *,
        app: str = "default",
        timeout_s: float = TIMEOUT_S,
        history: int = ROWS_KEPT,
        history_age_s: float | timedelta = ROWS_AGE_S,
    ) -> None:
        self.keep_rows(history, history_age_s)
        timeout_s = duration_us("timeout_s", timeout_s) / 1e6
        self.app = key("app", app)
        # A brace in the name of the application would end the part of the key that decides about its slot.
        self._link = Connection(Address(url), f"kaiju:{{{quote(app, safe='')}}}:", timeout_s)
        self._news = Listener(self._link)
        self._shares = Shares()
        self.name = self._link.address.name

    def look_only(self) -> None:
        """Have ``open()`` write nothing."""
        self._link.only_looks = True

    async def open(self) -> None:
        """Open the store; does nothing if it is open.

        Raises:
            InvalidArgument: The server refuses the connection, is too old, or holds what a newer version has written.
            StoreUnavailable: It cannot be reached. The store is open all the same, and each call tries again.
        """
        try:
            await self._link.open()
        except InvalidArgument:
            await self.close()
            raise
        except BaseException:
            self._news.open()  # It waits for the server, too.
            raise
        self._news.open()
        await self._news.ready()

    async def close(self) -> None:
        """Close the connections; does nothing if the store is closed."""
        await asyncio.gather(self._news.close(), self._link.close())

    async def scan(self, names: Collection[str] | None = None, *, only_active: bool = False) -> Snapshot:
        """Return the records with these *names*, or all."""
        wanted = {} if names is None else {"names": sorted(set(names))}
        answer = await self._link.call("scan", only_active=only_active, **wanted)
        return Snapshot(int(answer["now"]), records_of(answer["records"]))

    async def swap(self, old: TaskRecord | None, new: TaskRecord | None, rows: Sequence[LedgerRow] = ()) -> bool:
        """Replace *old* by *new* and add *rows*, if the rev of *old* is still stored."""
        return bool(await self._swap([(old, new, rows)]))

    async def _change_some(self, transitions: Mapping[str, Transition]) -> dict[str, ChangeResult]:
        """Apply some transitions, in the order of their names."""
        found: dict[str, ChangeResult] = {}
        for conflicts in range(CONFLICTS):
            rest = {name: transition for name, transition in transitions.items() if name not in found}
            if not rest:
                break
            if conflicts:
                await asyncio.sleep(pause_us(f"{sorted(rest)} {id(self)}", conflicts) / 1e6)
            found |= await self._change_once(rest)
        return found

    async def _change_once(self, transitions: Mapping[str, Transition]) -> dict[str, ChangeResult]:
        """Apply transitions once; return the results, except those of conflicts."""
        seen = await self.scan(transitions.keys())
        stored = {record.name: record for record in seen.records}
        found, swaps = {}, []
        for name, transition in transitions.items():
            old = stored.get(name)
            wanted = transition(old, seen.now)
            found[name] = ChangeResult(seen.now, old, None if wanted is None else wanted[0], done=wanted is not None)
            if wanted is not None:
                swaps.append((old, *wanted))
        done = await self._swap(swaps) if swaps else set()
        return {name: changed for name, changed in found.items() if not changed.done or name in done}

    async def claim(self, query: ClaimQuery) -> Claimed:
        """Claim what is due, oldest first."""
        share = self._shares.of(query)
        values = {
            "me": query.me, "ttl": query.ttl, "limit": max(query.limit, 0), "ahead": query.ahead, "lead": query.lead,
            "patience": query.partition.patience, "share": share.digest, "number": len(share.tasks), "made": share.made,
        }  # fmt: skip
        answer = await self._link.call("claim", **values)
        if answer is None:
            answer = await self._link.call("claim", **values, tasks=share.tasks)
        if answer["missing"] is not None:
            share.made, share.missing = answer["made"], sorted(answer["missing"])
        coming = answer["next_claim_at"]
        won, expired = records_of(answer["won"]), records_of(answer["expired"])
        return Claimed(int(answer["now"]), in_order(won), coming and int(coming), expired, list(share.missing))

    async def renew(self, me: str, runs: Mapping[str, int], holds: Mapping[str, Collection[str]], ttl: int) -> Renewed:
        """Extend the leases of an instance."""
        names = sorted(runs.keys() | holds.keys())
        wanted = [[name, str(runs.get(name, "")), sorted(holds.get(name, ()))] for name in names]
        answer = await self._link.call("renew", me=me, ttl=ttl, wanted=wanted)
        renewed = [(name, is_run, list(keys)) for name, is_run, keys in answer["renewed"]]
        return Renewed(
            int(answer["now"]),
            {name for name, is_run, _ in renewed if is_run},
            {(name, key) for name, _, keys in renewed for key in keys if key in holds.get(name, ())},
            sorted((name, int(fence)) for name, fence in answer["own_claims"] if fence),
            {name for name, is_run, keys in renewed if is_run and true_holds(dict.fromkeys(keys))},
            {(name, key) for name, key in answer["own_holds"]},
            {name for name, is_run, keys in renewed if is_run and end_key(runs[name]) in keys},
        )

    async def finish(self, me: str, endings: Sequence[FinishRequest]) -> list[Refusal | None]:
        """End the ticks of claims; return for each why it was refused, or None."""
        ordered = by_name(endings)
        with self._refusing():
            values = [ending_values(ending) for _, ending in ordered]
        verdicts = await self._link.call("finish", me=me, endings=values, request=END, rows_kept=self.rows_kept)
        answers = {
            place: None if verdict == "OK" else Refusal[verdict]
            for (place, _), verdict in zip(ordered, verdicts, strict=True)
        }
        return [answers[place] for place in range(len(endings))]

    async def forgettable(self, unseen_for: int, limit: int) -> list[str]:
        """Return tasks that no instance has known for longer than *unseen_for*, and that none runs or holds."""
        return list(await self._link.call("forgettable", unseen_for=unseen_for, limit=limit))

    async def wait_for_change(self, timeout_s: float) -> None:
        """Return when the server tells of a change, or after *timeout_s*."""
        await self._news.wait(timeout_s)

    async def history(self, name: str, limit: int) -> list[LedgerRow]:
        """Return the latest rows of a task, at most *limit*, newest last."""
        rows = await self._link.call("history", name=name, limit=limit) if limit > 0 else []
        return rows_from_arrays(reversed(list(rows)))

    async def runs(self, query: LedgerQuery) -> LedgerPage:
        """Return the rows that *query* asks for."""
        tick, name, manual, delivery, number = query.below
        below = place_text(Place(tick, name, manual, delivery + (number > 0)))
        terms: dict[str, Any] = {"below": below, "since": tick_text(query.since), "limit": query.limit}
        if query.name is not None:
            terms["name"] = query.name
        if query.endings is not None:
            terms["endings"] = {each.text: True for each in query.endings}
        terms["sets"] = ["all"] if query.endings is None else [f"ending:{each.text}" for each in query.endings]
        answer = await self._link.call("runs", **terms)
        return LedgerPage(rows_from_arrays(answer["rows"]), tick_of(answer["oldest"]), tick_of(answer["newest"]))

    async def heartbeat(self, me: str, info: str, ttl: int) -> list[Instance]:
        """Record that the instance *me* lives; return those with a heartbeat within *ttl*, ordered by id."""
        return _instances(await self._link.call("heartbeat", me=me, info=storable(info), ttl=ttl))

    async def instances(self, ttl: int) -> list[Instance]:
        """Return the instances with a heartbeat within *ttl*, ordered by id."""
        return _instances(await self._link.call("heartbeat", ttl=ttl))

    async def delete_history(self, name: str) -> int:
        """Delete all rows of a task; return how many there were."""
        return int(await self._link.call("delete_history", name=name))

    async def lives(self) -> list[Life]:
        """Return from when to when instances were heard of."""
        lives = list(await self._link.call("lives", most=LIVES_KEPT))
        return [Life(id, int(began_at), int(seen_at), note) for id, began_at, seen_at, note in reversed(lives)]

    async def note(self, me: str, text: str) -> bool:
        """Keep with the life of *me* what has happened to it; return True."""
        await self._link.call("note", me=me, note=storable(text))
        return True

    async def deregister(self, me: str) -> None:
        """Record that the instance *me* has left."""
        await self._link.call("deregister", me=me)

    async def prune(self, *, keep: int, age: int) -> int:
        """Delete old rows of the ledger, some at a time; return how many were deleted."""
        await self._link.call("prune_instances", age=age, most=LIVES_KEPT)
        total = 0
        after: str | None = ""
        while after is not None:
            answer = await self._link.call("prune", keep=max(keep, 1), age=age, after=after)
            total, after = total + int(answer["gone"]), answer["reached"]
        return total

    async def _swap(
        self, swaps: Sequence[tuple[TaskRecord | None, TaskRecord | None, Sequence[LedgerRow]]]
    ) -> set[str]:
        """Return the names of the records that were changed."""
        with self._refusing():
            changes = [change_values(*each) for each in swaps]
        return set(await self._link.call("swap", changes=changes, rows_kept=self.rows_kept))

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Refuse values that the store cannot keep."""
        try:
            yield
        except OverflowError as exc:
            raise StoreRefused(self.name, f"OverflowError: {exc}") from None


def _instances(found: Iterable[tuple[str, str, str]]) -> list[Instance]:
    return [Instance(id, info, int(seen_at)) for id, info, seen_at in sorted(found)]
