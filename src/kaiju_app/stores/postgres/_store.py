"""A store in a PostgreSQL database, for instances on many hosts. Needs the library asyncpg."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from kaiju_app._core.calls import explain_init
from kaiju_app._core.ledger_query import ENDINGS, LedgerQuery
from kaiju_app._core.validate import duration_us, key
from kaiju_app.errors import InvalidArgument, WrongState
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
from kaiju_app.stores._codec import (
    records_from_arrays,
    records_from_json,
    rows_from_json,
    storable,
)
from kaiju_app.stores._dsn import Address
from kaiju_app.stores._record import LedgerRow, TaskRecord, end_key, true_holds
from kaiju_app.stores._selection import ClaimQuery, in_order
from kaiju_app.stores._transitions import Refusal

from ._columns import Names, ending_columns, numbers, swap_columns, texts
from ._connection import Answer, Connection, parts
from ._listener import Listener

TIMEOUT_S = 2.0  # A renewal must not take longer than this, when the next one is due.
CONFLICTS = 10  # After this many, in some hundredths of a second, a record counts as locked.
DELETED_AT_ONCE = 2_000
CONNECTIONS = (asyncpg.Connection, PoolConnectionProxy)


@explain_init()
class PostgresStore(Store):
    """A database that instances on many hosts share: PostgreSQL 13 or newer, also behind a transaction pooler.

    1. The database's clock is the only one that decides.
    2. Claim, renewal and finish are one statement each. A change is a read, and a statement that replaces the record if
       it is unchanged. No statement waits for the lock on a record.
    3. Claims are as durable as the server makes them. After a failover to a standby that lacks the last claims, a tick
       may run twice, and two runs may overlap until the next renewal. Fencing tokens grow all the same, so writes
       guarded by them stay safe. A synchronous standby has all claims.
    4. The tables are created at the first start, in the first schema of the search path.

    Args:
        dsn: ``postgresql://user:password@host:port/database``. Several hosts, options and the environment variables of
            libpq work as asyncpg describes.
        app: The set of instances that share the records.
        listen: Another address of the same database for the connection that listens, if *dsn* is a pooler.
        timeout_s: Seconds after which a statement fails.
        history: How many ledger rows of each task stay when old ones are deleted, once an hour.
        history_age_s: Seconds after which a ledger row is deleted all the same, but for the newest one of its task.

    Raises:
        InvalidArgument: An address or another argument is not valid.
    """

    def __init__(
        self,
        dsn: str,
        *,
        app: str = "default",
        listen: str | None = None,
        timeout_s: float = TIMEOUT_S,
        history: int = ROWS_KEPT,
        history_age_s: float | timedelta = ROWS_AGE_S,
    ) -> None:
        self.keep_rows(history, history_age_s)
        timeout_s = duration_us("timeout_s", timeout_s) / 1e6
        self._link = Connection(Address(dsn), timeout_s)
        listening = self._link if listen is None else Connection(Address(listen, "listen"), timeout_s)
        self._news = Listener(listening, self._notify, app)
        self._names = Names()
        self.app = key("app", app)
        self.name = self._link.address.name

    def look_only(self) -> None:
        """Have ``open()`` make and change no tables."""
        self._link.only_looks = True

    async def open(self) -> None:
        """Open the store; does nothing if it is open.

        Raises:
            InvalidArgument: The server refuses the connection, is too old or lacks the encoding UTF8, or the tables
                were made by a newer version.
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
        answer = await self._call("scan", names=None if names is None else sorted(names), only_active=only_active)
        return Snapshot(answer["now"], records_from_json(answer["records"]))

    async def swap(self, old: TaskRecord | None, new: TaskRecord | None, rows: Sequence[LedgerRow] = ()) -> bool:
        """Replace *old* by *new* and add *rows*, if the rev of *old* is still stored."""
        return bool(await self._swap([swap_columns(self.app, old, new, rows)]))

    async def _change_some(self, transitions: Mapping[str, Transition]) -> dict[str, ChangeResult]:
        """Apply some transitions, in the order of their names."""
        found: dict[str, ChangeResult] = {}
        for conflicts in range(CONFLICTS):
            rest = {name: transition for name, transition in transitions.items() if name not in found}
            if not rest:
                break
            if conflicts:  # A concurrent change is soon done; a client's lock may be held for hours.
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
                swaps.append(swap_columns(self.app, old, *wanted))
        done = await self._swap(swaps) if swaps else set()
        return {name: changed for name, changed in found.items() if not changed.done or name in done}

    async def claim(self, query: ClaimQuery) -> Claimed:
        """Claim what is due, oldest first."""
        part = query.partition
        answer = await self._call(
            "claim", me=query.me, ttl=query.ttl, limit=max(query.limit, 0), ahead=query.ahead, lead=query.lead,
            names=self._names.text(query.names), number=len(query.names), not_ahead=texts(query.not_ahead),
            count=part.count, index=part.index, patience=part.patience,
        )  # fmt: skip
        won, expired = records_from_arrays(answer), records_from_json(answer["expired"])
        return Claimed(answer["now"], in_order(won), answer["next_claim_at"], expired, sorted(answer["missing"]))

    async def renew(self, me: str, runs: Mapping[str, int], holds: Mapping[str, Collection[str]], ttl: int) -> Renewed:
        """Extend the leases of an instance."""
        names = sorted(runs.keys() | holds.keys())
        keys = ["[]" if name not in holds else json.dumps(sorted(holds[name])) for name in names]
        fences = numbers(runs.get(name) for name in names)
        answer = await self._call("renew", me=me, ttl=ttl, names=texts(names), fences=fences, keys=texts(keys))
        parts_of_answer = ("renewed", "own_claims", "own_holds")
        renewed, own_claims, own_holds = (json.loads(answer[part] or "[]") for part in parts_of_answer)
        return Renewed(
            answer["now"],
            {name for name, is_run, _ in renewed if is_run},
            {(name, key) for name, _, keys in renewed for key in keys if key in holds.get(name, ())},
            [(name, fence) for name, fence in own_claims],
            {name for name, is_run, keys in renewed if is_run and true_holds(dict.fromkeys(keys))},
            {(name, key) for name, key in own_holds},
            {name for name, is_run, keys in renewed if is_run and end_key(runs[name]) in keys},
        )

    async def finish(self, me: str, endings: Sequence[FinishRequest]) -> list[Refusal | None]:
        """End the ticks of claims; return for each why it was refused, or None."""
        answers: dict[int, Refusal | None] = {}
        rest = by_name(endings)
        while rest:  # One ending of each task at a time: the second is judged on the result of the first.
            first = {ending.name: place for place, ending in reversed(rest)}
            now = sorted(each for each in rest if first[each[1].name] == each[0])
            rest = [(place, ending) for place, ending in rest if first[ending.name] != place]
            answer = await self._call("finish", me=me, **ending_columns([ending for _, ending in now]))
            for (place, _), verdict in zip(now, answer["verdicts"], strict=True):
                answers[place] = None if verdict == "OK" else Refusal[verdict]
        return [answers[place] for place in range(len(endings))]

    async def forgettable(self, unseen_for: int, limit: int) -> list[str]:
        """Return tasks that no instance has known for longer than *unseen_for*, and that none runs or holds."""
        return list((await self._call("forgettable", unseen_for=unseen_for, limit=limit))["names"])

    async def guard(self, connection: object, claimed: TaskRecord) -> bool:
        """Lock the record of a claim until the user's transaction ends; return whether the claim still stands.

        Raises:
            InvalidArgument: *connection* is not an asyncpg connection to this database in a transaction.
            WrongState: The transaction is REPEATABLE READ or SERIALIZABLE, and the record has changed since it began.
        """
        if not isinstance(connection, CONNECTIONS):
            by_hand = _guard_by_hand(self.app, claimed)
            rule = f"must be an asyncpg connection (SQLAlchemy: driver_connection); otherwise {by_hand}"
            raise InvalidArgument("connection", connection, rule)
        if not connection.is_in_transaction():
            rule = "must be in a transaction: async with connection.transaction(): ...; await run.guard(connection)"
            raise InvalidArgument("connection", connection, rule)
        sql, names = parts("guard")
        values = {"app": self.app, "name": claimed.name, "me": claimed.owner, "fence": claimed.fence}
        try:
            return await connection.fetchval(sql, *(values[name] for name in names)) is not None
        except asyncpg.SerializationError as exc:
            raise WrongState(
                f"task {claimed.name!r}: the record was changed after the transaction had started to read, as by "
                "every renewal, and its isolation level hides such changes from guard(): use "
                "connection.transaction(isolation='read_committed'), or call guard() first"
            ) from exc
        except asyncpg.UndefinedTableError:
            rule = "must be a connection to the database of the scheduler's store, with its tables in the search_path"
            raise InvalidArgument("connection", connection, rule) from None

    async def wait_for_change(self, timeout_s: float) -> None:
        """Return when the server notifies of a change, or after *timeout_s*."""
        await self._news.wait(timeout_s)

    async def history(self, name: str, limit: int) -> list[LedgerRow]:
        """Return the latest rows of a task, at most *limit*, newest last."""
        return rows_from_json((await self._call("history", name=name, limit=max(limit, 0)))["rows"])

    async def runs(self, query: LedgerQuery) -> LedgerPage:
        """Return the rows that *query* asks for."""
        terms = {"endings": query.endings and [each.text for each in query.endings], **query.bounds}
        if query.name is not None:
            answer = await self._call("runs_of_task", name=query.name, **terms)
        else:
            answer = await self._call("runs", every=[each.text for each in ENDINGS], **terms)
        return LedgerPage(rows_from_json(answer["rows"]), answer["oldest"], answer["newest"])

    async def heartbeat(self, me: str, info: str, ttl: int) -> list[Instance]:
        """Record that the instance *me* lives; return those with a heartbeat within *ttl*, ordered by id."""
        answer = await self._call("heartbeat", me=me, info=storable(info), ttl=ttl)
        return [Instance(*each) for each in json.loads(answer["instances"])]

    async def instances(self, ttl: int) -> list[Instance]:
        """Return the instances with a heartbeat within *ttl*, ordered by id."""
        answer = await self._call("instances", ttl=ttl)
        return [Instance(*each) for each in json.loads(answer["instances"] or "[]")]

    async def delete_history(self, name: str) -> int:
        """Delete all rows of a task; return how many there were."""
        return int((await self._call("delete_history", name=name))["deleted"])

    async def lives(self) -> list[Life]:
        """Return from when to when instances were heard of."""
        answer = await self._call("lives", most=LIVES_KEPT)
        return [Life(*each) for each in json.loads(answer["lives"] or "[]")]

    async def lives_near(self, since: int, until: int) -> list[Life]:
        """Return from when to when instances were heard of: those around a span of time."""
        answer = await self._call("lives_near", since=since, until=until, most=LIVES_KEPT)
        return [Life(*each) for each in json.loads(answer["lives"] or "[]")]

    async def note(self, me: str, text: str) -> bool:
        """Keep with the life of *me* what has happened to it; return True."""
        await self._call("note", me=me, note=storable(text))
        return True

    async def deregister(self, me: str) -> None:
        """Record that the instance *me* has left."""
        await self._call("deregister", me=me)

    async def prune(self, *, keep: int, age: int) -> int:
        """Delete old rows of the ledger, some at a time; return how many were deleted."""
        await self._call("prune_instances", age=age)
        await self._call("prune_lives", age=age, most=LIVES_KEPT)
        await self._call("prune_notes")
        total, after, looked_at = 0, "", 1
        while looked_at:
            answer = await self._call("prune", keep=max(keep, 1), age=age, after=after, most=DELETED_AT_ONCE)
            total, after, looked_at = total + answer["gone"], answer["reached"], answer["looked_at"]
        return total

    async def _swap(self, swaps: Sequence[dict[str, Any]]) -> set[str]:
        """Return the names of the records that were changed."""
        answer = await self._call("swap", changes=json.dumps(swaps))
        return set(answer["done"])

    async def _notify(self, what: str) -> None:
        await self._call("notify", what=what)

    async def _call(self, statement: str, **values: Any) -> Answer:
        return await self._link.call(statement, app=self.app, **values)


def _guard_by_hand(app: str, claimed: TaskRecord) -> str:
    claim = app, claimed.name, str(claimed.owner), str(claimed.fence)
    literals = ", ".join("'" + each.replace("'", "''") + "'" for each in claim)
    return (
        f"execute SELECT 1 FROM kaiju_task WHERE (app, name, owner, fence) = ({literals}) FOR NO KEY UPDATE; "
        "no row means that the lease is lost"
    )
