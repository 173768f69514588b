"""A store in a PostgreSQL database, for instances on many hosts. Needs asyncpg: ``kaiju-app[postgres]``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from kaiju_app._arguments import key
from kaiju_app.errors import InvalidArgument, WrongState

from ._dsn import Address
from ._postgres_link import Answer, Link, parts
from ._postgres_news import News
from ._postgres_text import records_of, row_values, rows_of, values_of
from ._record import Record, Row
from ._store import (
    EVERYBODY,
    Changed,
    Claimed,
    Ending,
    Instance,
    Renewed,
    Seen,
    Share,
    Store,
    Transition,
    by_name,
    in_order,
    lead_of,
    pause_us,
)
from ._text import storable
from ._transitions import Refusal, is_news

TIMEOUT_S = 2.0  # As long as a renewal may take before the next one is due.
CONFLICTS = 10  # So many, and some hundredths of a second, until a record counts as locked.
AT_ONCE = 500  # Changes in one statement.
DELETED_AT_ONCE = 2_000
CONNECTIONS = (asyncpg.Connection, PoolConnectionProxy)


class PostgresStore(Store):
    """A database that instances on many hosts share: PostgreSQL 13 or newer, also behind a pooler of transactions.

    1. The database's clock decides, and no other one.
    2. Claim, renewal and ending are one statement each; a change is a look, and a statement that replaces what was
       seen, if it is still there. Nothing waits for the lock on a record.
    3. Claims are as durable as the server makes them. After a failover to a standby that had not received the last
       ones, a tick may be run twice, and two runs may overlap until the next renewal; fences grow all the same, so that
       what is guarded by them stays safe. A synchronous standby has all of them.
    4. The tables are made at the first start, in the first schema of the search path.

    Args:
        dsn: ``postgresql://user:password@host:port/database``; several hosts, options and the environment variables of
            libpq work as asyncpg describes.
        app: The set of instances that share the records.
        listen: Another address of the same database, for the connection that listens, where *dsn* is that of a pooler.
        timeout_s: Seconds after which a statement is given up.

    Raises:
        InvalidArgument: An address is none, or *app* no name.
    """

    def __init__(
        self, dsn: str, *, app: str = "default", listen: str | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._link = Link(Address(dsn), timeout_s)
        listening = self._link if listen is None else Link(Address(listen, "listen"), timeout_s)
        self._news = News(listening, self._tell, app)
        self.app = key("app", app)
        self.name = self._link.address.name

    async def open(self) -> None:
        """Get ready; without effect on a store that is open.

        Raises:
            InvalidArgument: The server refuses, is too old or has not the encoding UTF8; or the tables were made by a
                newer version.
            StoreUnavailable: It cannot be reached; the store is open all the same, and tries again when it is asked.
        """
        self._news.open()  # Also if the server cannot be reached yet.
        try:
            await self._link.open()
        except InvalidArgument:
            await self.close()
            raise
        await self._news.ready()

    async def close(self) -> None:
        """Let go of the connections; without effect on a store that is closed."""
        await asyncio.gather(self._news.close(), self._link.close())

    async def scan(self, names: Collection[str] | None = None, *, active: bool = False) -> Seen:
        """Return the records of *names*; None: all."""
        answer = await self._ask("scan", names=None if names is None else sorted(names), active=active)
        return Seen(answer["now"], records_of(answer["records"]))

    async def swap(self, old: Record | None, new: Record | None, rows: Sequence[Row] = ()) -> bool:
        """Replace *old* by *new* and keep *rows*, if the rev of *old* is still the stored one."""
        return bool(await self._swap([_Swap(old, new, rows)]))

    async def change_each(self, transitions: Mapping[str, Transition]) -> dict[str, Changed]:
        """Apply transitions to the records of their names, each by itself."""
        names = sorted(transitions)
        found: dict[str, Changed] = {}
        for start in range(0, len(names), AT_ONCE):
            found |= await self._change_some({name: transitions[name] for name in names[start : start + AT_ONCE]})
        return found

    async def _change_some(self, transitions: Mapping[str, Transition]) -> dict[str, Changed]:
        found: dict[str, Changed] = {}
        for conflicts in range(CONFLICTS):
            rest = {name: transition for name, transition in transitions.items() if name not in found}
            if not rest:
                break
            if conflicts:  # Others who change it now are soon done; whoever has locked it may take hours.
                await asyncio.sleep(pause_us(f"{sorted(rest)} {id(self)}", conflicts) / 1e6)
            found |= await self._change_once(rest)
        return found

    async def _change_once(self, transitions: Mapping[str, Transition]) -> dict[str, Changed]:
        """Apply transitions; return those that were refused, or done."""
        seen = await self.scan(transitions.keys())
        stored = {record.name: record for record in seen.records}
        found, swaps = {}, []
        for name, transition in transitions.items():
            old = stored.get(name)
            wanted = transition(old, seen.now)
            found[name] = Changed(seen.now, old, None if wanted is None else wanted[0], done=wanted is not None)
            if wanted is not None:
                swaps.append(_Swap(old, *wanted))
        done = await self._swap(swaps) if swaps else set()
        return {name: changed for name, changed in found.items() if not changed.done or name in done}

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
        """Claim what is due, oldest first."""
        given = share or EVERYBODY
        answer = await self._ask(
            "claim", me=me, ttl=ttl, limit=max(limit, 0), ahead=ahead, lead=lead_of(ahead), skip=sorted(skip),
            n=given.n, rank=given.rank, patience=given.patience, punctual=sorted(punctual),
        )  # fmt: skip
        won, stale = records_of(answer["won"]), records_of(answer["stale"])
        return Claimed(answer["now"], in_order(won), answer["claimable"], stale)

    async def renew(self, me: str, runs: Mapping[str, int], holds: Mapping[str, Collection[str]], ttl: int) -> Renewed:
        """Prolong the leases of an instance."""
        names = sorted(runs.keys() | holds.keys())
        leases = [{"name": name, "fence": runs.get(name), "keys": sorted(holds.get(name, ()))} for name in names]
        answer = await self._ask("renew", me=me, ttl=ttl, names=names, leases=json.dumps(leases))
        renewed, mine, own = (json.loads(answer[part] or "[]") for part in ("renewed", "mine", "own"))
        return Renewed(
            answer["now"],
            {name for name, is_run, _ in renewed if is_run},
            {(name, key) for name, _, keys in renewed for key in keys if key in holds.get(name, ())},
            [(name, fence) for name, fence in mine],
            {name for name, is_run, keys in renewed if is_run and keys},
            {(name, key) for name, key in own},
        )

    async def finish(self, me: str, endings: Sequence[Ending]) -> list[Refusal | None]:
        """End the ticks of claims; return for each ending why it was refused, or None."""
        answers: dict[int, Refusal | None] = {}
        rest = by_name(endings)
        while rest:  # Once: of two endings of one task, the second is about what the first has left.
            first = {ending.name: place for place, ending in reversed(rest)}
            now = sorted(each for each in rest if first[each[1].name] == each[0])
            rest = [(place, ending) for place, ending in rest if first[ending.name] != place]
            endings_now = json.dumps([_ending(*each) for each in now])
            answer = await self._ask("finish", me=me, names=[each.name for _, each in now], endings=endings_now)
            for (place, _), verdict in zip(now, answer["verdicts"], strict=True):
                answers[place] = None if verdict == "OK" else Refusal[verdict]
        return [answers[place] for place in range(len(endings))]

    async def guard(self, connection: object, claimed: Record) -> bool:
        """Keep the record of a claim as it is until a transaction of the user's is over; return whether it stands.

        Raises:
            InvalidArgument: It is no connection of asyncpg, in no transaction, or to another database.
            WrongState: The transaction is REPEATABLE READ or SERIALIZABLE, and the record was changed since it began.
        """
        if not isinstance(connection, CONNECTIONS):
            rule = f"must be one of asyncpg (of SQLAlchemy: driver_connection); otherwise {self._by_hand(claimed)}"
            raise InvalidArgument("connection", connection, rule)
        if not connection.is_in_transaction():
            rule = "must be in a transaction: async with connection.transaction(): ...; await run.guard(connection)"
            raise InvalidArgument("connection", connection, rule)
        sql, names = parts("guard")
        values = {"app": self.app, "name": claimed.name, "me": claimed.holder, "fence": claimed.fence}
        try:
            return await connection.fetchval(sql, *(values[name] for name in names)) is not None
        except asyncpg.SerializationError as exc:
            raise WrongState(
                f"task {claimed.name!r}: guard() came to a record that was changed after the transaction had begun to "
                "read, as each renewal does, and at its isolation level that cannot be seen: use "
                "connection.transaction(isolation='read_committed'), or call guard() first"
            ) from exc
        except asyncpg.UndefinedTableError:
            rule = "must be one to the database of the scheduler's store, with its tables in the search_path"
            raise InvalidArgument("connection", connection, rule) from None

    async def wait(self, timeout_s: float) -> None:
        """Return when the server tells of a change, or after *timeout_s*."""
        await self._news.wait(timeout_s)

    async def history(self, name: str, limit: int) -> list[Row]:
        """Return the last rows of a task, at most *limit*, newest last."""
        return rows_of((await self._ask("history", name=name, limit=max(limit, 0)))["rows"])

    async def beat(self, me: str, info: str, ttl: int) -> list[Instance]:
        """Say that the instance *me* lives; return those heard of within *ttl*, in the order of their ids."""
        answer = await self._ask("beat", me=me, info=storable(info), ttl=ttl)
        return [Instance(*each) for each in json.loads(answer["instances"])]

    async def leave(self, me: str) -> None:
        """Say that the instance *me* is gone."""
        await self._ask("leave", me=me)

    async def tidy(self, *, keep: int, age: int) -> int:
        """Delete old rows of the ledger, some at a time; return how many went."""
        await self._ask("unheard", age=age)
        total, after, looked_at = 0, "", 1
        while looked_at:
            answer = await self._ask("tidy", keep=max(keep, 1), age=age, after=after, most=DELETED_AT_ONCE)
            total, after, looked_at = total + answer["gone"], answer["reached"], answer["looked_at"]
        return total

    def _by_hand(self, claimed: Record) -> str:
        claim = self.app, claimed.name, str(claimed.holder), str(claimed.fence)
        literals = ", ".join("'" + each.replace("'", "''") + "'" for each in claim)
        return (
            f"execute SELECT 1 FROM kaiju_task WHERE (app, name, holder, fence) = ({literals}) FOR NO KEY UPDATE; "
            "no row means that the lease is lost"
        )

    async def _swap(self, swaps: Sequence[_Swap]) -> set[str]:
        """Return the names of those that were done."""
        changes = json.dumps([each.values(self.app) for each in swaps])
        answer = await self._ask("swap", names=[each.name for each in swaps], changes=changes)
        return set(answer["done"])

    async def _tell(self, what: str) -> None:
        await self._ask("tell", what=what)

    async def _ask(self, statement: str, **values: Any) -> Answer:
        return await self._link.ask(statement, app=self.app, **values)


class _Swap:
    """One record that replaces another."""

    def __init__(self, old: Record | None, new: Record | None, rows: Sequence[Row]) -> None:
        one = old or new
        if one is None:
            raise ValueError("one of old and new must be a record")
        self.name = one.name
        self._old, self._new, self._rows = old, new, rows

    def values(self, app: str) -> dict[str, Any]:
        """Return it by the names of the statement's columns."""
        return {
            "name": self.name,
            "old_rev": None if self._old is None else self._old.rev,
            "new": None if self._new is None else values_of(self._new, app),
            "rows": row_values(self._rows),
            "told": is_news(self._old, self._new),
        }


def _ending(place: int, ending: Ending) -> dict[str, Any]:
    coming = ending.following
    return {
        "place": place,
        "name": ending.name,
        "fence": ending.fence,
        "tick": ending.tick,
        "spec": ending.spec,
        "next": None if coming is None else coming.tick,
        "due": None if coming is None else coming.due,
        "rows": row_values(ending.rows),
    }
