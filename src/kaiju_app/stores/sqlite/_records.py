"""The verbs of the store, inside a transaction on an SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any

from kaiju_app._core.ledger_query import ENDINGS, LedgerQuery, Place
from kaiju_app.stores._answers import ChangeResult, Claimed, FinishRequest, Instance, LedgerPage, Life, Renewed
from kaiju_app.stores._base import LIVES_KEPT
from kaiju_app.stores._cas import Transition, claiming, ended_by, name_of, prolonging, refusal, renewed
from kaiju_app.stores._codec import (
    RECORD,
    arrays_to_text,
    record_from_values,
    record_to_array,
    row_from_values,
    row_to_array,
    storable,
)
from kaiju_app.stores._record import LedgerRow, TaskRecord
from kaiju_app.stores._selection import ClaimQuery, in_order, select
from kaiju_app.stores._sql import statements
from kaiju_app.stores._transitions import DAY, Refusal, is_expired

from ._changes import Pair, changes

SQL = statements("sqlite/queries.sql")

Terms = Mapping[str, Any]
"""What an instance wants to claim, as parameters of statements."""

SMALL_STEP = 1_000_000  # Microseconds by which the clock may step back without effect.


class SqliteRecords:
    """The records inside a transaction that has begun, so that its time is not before any change that it sees.

    Args:
        connection: In the transaction.
        app: The set of instances that share the records.
        clock: Microseconds since the Unix epoch.

    Attributes:
        now: The time of the transaction.
    """

    def __init__(self, connection: sqlite3.Connection, app: str, clock: Callable[[], int]) -> None:
        self._connection = connection
        self._app = app
        self.now = clock()
        self._smooth()

    def find(self, statement: str, **values: Any) -> list[TaskRecord]:
        """Return the records that a statement selects."""
        found = self._execute(statement, **values)
        columns = [column[0] for column in found.description]
        picked = itemgetter(*map(columns.index, RECORD))
        try:
            return [record_from_values(picked(row)) for row in found.fetchall()]
        except ValueError as exc:
            raise sqlite3.DataError(str(exc)) from exc

    def swap(self, old: TaskRecord | None, new: TaskRecord | None, rows: Sequence[LedgerRow], history: int) -> bool:
        """Replace *old* by *new* if its rev is stored, and add *rows*; keep the latest *history* rows of each task."""
        if not self._replace([(old, new)]):
            return False
        self._keep(rows, history)
        return True

    def apply_each(
        self, transitions: Sequence[tuple[str, Transition]], found: Mapping[str, TaskRecord], history: int
    ) -> list[ChangeResult]:
        """Apply transitions to the records of their names, one after the other, in few statements.

        Args:
            found: The records of these names, by name, as they were read in this transaction.
        """
        changed: list[ChangeResult] = []
        stored: dict[str, TaskRecord | None] = {}
        rows: list[LedgerRow] = []
        for name, transition in transitions:
            old = stored.get(name) if name in stored else found.get(name)
            wanted = transition(old, self.now)
            if wanted is not None:
                stored[name] = wanted[0]
                rows += wanted[1]
            changed.append(ChangeResult(self.now, old, None if wanted is None else wanted[0], done=wanted is not None))
        known = [(old, new) for name, new in stored.items() if (old := found.get(name)) is not None and new is not None]
        others = [(found.get(name), new) for name, new in stored.items() if (found.get(name) is None) != (new is None)]
        if self._replace(others) + self._change(known) != len(others) + len(known):
            raise sqlite3.DatabaseError(f"one of the records of {sorted(stored)} changed inside a transaction")
        self._keep(rows, history)
        return changed

    def _replace(self, pairs: Sequence[tuple[TaskRecord | None, TaskRecord | None]]) -> int:
        """Replace each old record by its new one, if its rev is stored; return how many were replaced."""
        records = [[old and old.rev, *record_to_array(new)] for old, new in pairs if new is not None]
        done = self._execute("put", records=arrays_to_text(records)).rowcount if records else 0
        for old, new in pairs:
            if new is None:
                done += self._execute("delete", name=name_of(old, new), old_rev=old and old.rev).rowcount
        return done

    def _change(self, pairs: Sequence[Pair]) -> int:
        """Write what differs; return how many records were still as they had been read."""
        return sum(self._run(sql, **values).rowcount for sql, values in changes(pairs))

    def _keep(self, rows: Sequence[LedgerRow], history: int) -> None:
        if rows:
            self._execute("keep", rows=arrays_to_text([row_to_array(row) for row in rows]))
            self._execute("trim", names=json.dumps(sorted({row.name for row in rows})), history=history)

    def named(self, names: Collection[str]) -> dict[str, TaskRecord]:
        """Return the records of these tasks by name."""
        return {record.name: record for record in self.find("some", names=json.dumps(sorted(names)))}

    # --- runs ---

    def due(self, terms: Terms, limit: int) -> list[TaskRecord]:
        """Return what may be claimed, oldest first, up to *limit*."""
        return self.find("due", limit=limit, **terms) if limit > 0 else []

    def claim(self, query: ClaimQuery, terms: Terms) -> list[TaskRecord]:
        """Claim what is due; the transition judges each record again."""
        found = {record.name: record for record in select(self.due(terms, query.limit), self.now, query)}
        changed = self.apply_each([(name, claiming(query, name)) for name in found], found, 0)
        return [each.new for each in changed if each.new is not None]

    def answer(self, terms: Terms, claimed: Sequence[TaskRecord]) -> Claimed:
        """Return the result of a round of claims."""
        following, missing = self._execute("left", **terms).fetchone()
        expired = [record for record in self.find("expired") if is_expired(record, self.now)]
        lost = [name for (name,) in self._execute("missing", names=terms["names"])] if missing else []
        return Claimed(self.now, in_order(claimed), following, expired, lost)

    def renew(self, me: str, runs: Mapping[str, int], holds: Mapping[str, Collection[str]], ttl: int) -> Renewed:
        """Extend the leases of an instance."""
        names = sorted(runs.keys() | holds.keys())
        prolonged = [(name, prolonging(me, runs.get(name), holds.get(name, ()), ttl)) for name in names]
        changed = self.apply_each(prolonged, self.named(names), 0) if names else []
        after = {each.new.name: each.new for each in changed if each.new is not None}
        mine = [(name, fence) for name, fence in self._execute("own_claims", me=me)]
        return renewed(self.now, me, runs, holds, after, mine, self.find("own_holds", me=me))

    def finish(self, me: str, endings: Sequence[FinishRequest], history: int) -> list[Refusal | None]:
        """End the ticks of claims; return for each why it was refused, or None."""
        transitions = [(ending.name, ended_by(me, ending)) for ending in endings]
        changed = self.apply_each(transitions, self.named({ending.name for ending in endings}), history)
        return [
            None if each.done else refusal(each.old, self.now, me, ending)
            for each, ending in zip(changed, endings, strict=True)
        ]

    def forgettable(self, unseen_for: int, limit: int) -> list[str]:
        """Return tasks that no instance has known for long."""
        return [name for (name,) in self._execute("forgettable", unseen_for=unseen_for, limit=limit)]

    # --- rows and instances ---

    def history(self, name: str, limit: int) -> list[LedgerRow]:
        """Return the latest rows of a task, newest last."""
        return [row_from_values(row) for row in self._execute("history", name=name, limit=max(limit, 0))][::-1]

    def runs(self, query: LedgerQuery) -> LedgerPage:
        """Return the rows that a query asks for."""
        places = self._places(query)[: query.limit]
        found = self._execute("runs", ids=json.dumps([number for _, number in places])) if places else ()
        rows = sorted((row_from_values(row) for row in found), key=lambda row: row.place, reverse=True)
        edges = [self._execute("edges_of_task", name=query.name)] if query.name else [
            self._execute("edges", ending=each.text) for each in ENDINGS
        ]  # fmt: skip
        oldest, newest = zip(*(each.fetchone() for each in edges), strict=True)
        known = [each for each in oldest if each is not None], [each for each in newest if each is not None]
        return LedgerPage(rows, min(known[0], default=None), max(known[1], default=None))

    def _places(self, query: LedgerQuery) -> list[tuple[Place, int]]:
        """Return places and ids of rows, the newest first: those that a query asks for, and maybe some more."""
        if query.name is not None:
            endings = None if query.endings is None else json.dumps([each.text for each in query.endings])
            found = [self._execute("places_of_task", name=query.name, endings=endings, **query.bounds)]
        else:
            found = [self._execute("places", ending=each.text, **query.bounds) for each in query.endings or ENDINGS]
        return sorted(((Place(*key), number) for each in found for number, *key in each), reverse=True)

    def delete_history(self, name: str) -> int:
        """Delete all rows of a task; return how many there were."""
        return self._execute("delete_history", name=name).rowcount

    def outdated(self, keep: int, age: int, most: int) -> list[int]:
        """Return the ids of rows to delete, at most *most*."""
        found = [number for (number,) in self._execute("outdated", since=self.now - age, most=most)]
        for (name,) in self._execute("overfull", keep=keep) if len(found) < most else ():
            surplus = self._execute("surplus", name=name, keep=keep, most=most - len(found))
            found += [number for (number,) in surplus]
            if len(found) == most:
                break
        return found

    def discard(self, ids: Sequence[int], age: int) -> int:
        """Delete rows, except the newest of each task, and silent instances; return how many rows were deleted."""
        self._execute("prune_instances", long_ago=self.now - age)
        self._execute("prune_lives", long_ago=self.now - age, most=LIVES_KEPT)
        self._execute("prune_notes")
        return self._execute("discard", ids=json.dumps(ids)).rowcount

    def heartbeat(self, me: str, info: str, ttl: int) -> list[Instance]:
        """Record that an instance lives; return those with a heartbeat within *ttl*."""
        self._execute("heartbeat", me=me, info=storable(info))
        self._execute("live", me=me)
        self._execute("prune_instances", long_ago=self.now - DAY)
        return self.instances(ttl)

    def instances(self, ttl: int) -> list[Instance]:
        """Return the instances with a heartbeat within *ttl*."""
        return [Instance(*row) for row in self._execute("instances", since=self.now - ttl)]

    def lives(self) -> list[Life]:
        """Return from when to when instances were heard of."""
        return [Life(*row) for row in self._execute("lives", most=LIVES_KEPT)][::-1]

    def lives_near(self, since: int, until: int) -> list[Life]:
        """Return from when to when instances were heard of: those around a span of time."""
        return [Life(*row) for row in self._execute("lives_near", since=since, until=until, most=LIVES_KEPT)]

    def note(self, me: str, text: str) -> None:
        """Keep with the life of an instance what has happened to it."""
        self._execute("note", me=me, note=storable(text))

    def deregister(self, me: str) -> None:
        """Record that an instance has left."""
        self._execute("deregister", me=me)

    def has_traces(self, me: str) -> bool:
        """Return whether any record of any application names the instance."""
        return bool(self._execute("traces", me=me).fetchone()[0])

    def _smooth(self) -> None:
        """Hold the time still after a small step back of the clock, so that no record is from the future.

        A large step is followed: otherwise nothing would be due until the clock has caught up.
        """
        (newest,) = self._execute("newest").fetchone()
        if newest is not None and self.now < newest <= self.now + SMALL_STEP:
            self.now = newest

    def _execute(self, statement: str, **values: Any) -> sqlite3.Cursor:
        return self._run(SQL[statement], **values)

    def _run(self, sql: str, **values: Any) -> sqlite3.Cursor:
        return self._connection.execute(sql, {"app": self._app, "now": self.now, **values})


def claim_terms(query: ClaimQuery) -> Terms:
    """Return the parameters of the statements that *query* leads to. There may be thousands of names in it."""
    part = query.partition
    return {
        "ahead": query.ahead,
        "lead": query.lead,
        "count": part.count,
        "index": part.index,
        "patience": part.patience,
        "names": json.dumps(sorted(query.names)),
        "not_ahead": json.dumps(sorted(query.not_ahead)),
    }
