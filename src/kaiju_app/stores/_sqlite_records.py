"""What a transaction on an SQLite file can do with the records of an application."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ._record import Record, Row
from ._sql import statements
from ._store import (
    EVERYBODY,
    Changed,
    Claimed,
    Ending,
    Instance,
    Renewed,
    Share,
    Transition,
    by_name,
    chosen,
    claiming,
    ended_by,
    in_order,
    lead_of,
    prolonging,
    refusal,
    renewed,
)
from ._text import record_of, record_to_row, row_of, storable, storable_each
from ._transitions import DAY, Refusal, is_stale

SQL = statements("sqlite.sql")

SMALL_STEP = 1_000_000  # Microseconds by which the clock may have been set back without anybody having to notice.


class SqliteRecords:
    """The records inside a transaction that has begun: so its time is not before any change that it sees.

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

    def find(self, statement: str, **values: Any) -> list[Record]:
        """Return the records that a statement selects."""
        rows = self._execute(statement, **values).fetchall()
        try:
            return [record_of(row) for row in rows]
        except ValueError as exc:
            raise sqlite3.DataError(str(exc)) from exc

    def one(self, name: str) -> Record | None:
        """Return the record of a task, if there is one."""
        return next(iter(self.find("one", name=name)), None)

    def swap(self, old: Record | None, new: Record | None, rows: Sequence[Row], history: int) -> bool:
        """Replace *old* by *new*, if its rev is the stored one, keep *rows*, and of each task the last *history*."""
        if new is not None and old is not None:
            swapped = self._execute("update", old_rev=old.rev, **record_to_row(new))
        elif new is not None:
            swapped = self._execute("insert", **record_to_row(new))
        elif old is not None:
            swapped = self._execute("delete", name=old.name, old_rev=old.rev)
        else:
            raise ValueError("one of old and new must be a record")
        if not swapped.rowcount:
            return False
        for row in rows:
            self._execute("keep", **storable_each(asdict(row)))
            self._execute("trim", name=row.name, history=history)
        return True

    def apply(self, name: str, transition: Transition, history: int, old: Record | None = None) -> Changed:
        """Apply *transition* to the record of a task; *old*: as it was read in this transaction."""
        old = old or self.one(name)
        wanted = transition(old, self.now)
        if wanted is None:
            return Changed(self.now, old, None, done=False)
        new, rows = wanted
        if not self.swap(old, new, rows, history):
            raise sqlite3.DatabaseError(f"the record of task {name!r} changed inside a transaction")
        return Changed(self.now, old, new, done=True)

    # --- runs ---

    def due(
        self, limit: int, ahead: int, skip: Collection[str], share: Share | None, punctual: Collection[str]
    ) -> list[Record]:
        """Return what may be claimed: the oldest up to *limit*, and all extra runs."""
        return self.find("due", limit=limit, **_terms(ahead, skip, share, punctual)) if limit > 0 else []

    def claim(
        self,
        me: str,
        ttl: int,
        limit: int,
        ahead: int,
        skip: Collection[str],
        share: Share | None,
        punctual: Collection[str],
    ) -> list[Record]:
        """Claim what is due; each record is judged once more, by the transition."""
        claimed = []
        found = self.due(limit, ahead, skip, share, punctual)
        for record, reach in chosen(found, self.now, limit, ahead, skip, share, punctual):
            changed = self.apply(record.name, claiming(me, ttl, reach), 0, record)
            if changed.new is not None:
                claimed.append(changed.new)
        return claimed

    def answer(
        self,
        claimed: Sequence[Record],
        ahead: int,
        skip: Collection[str],
        share: Share | None,
        punctual: Collection[str],
    ) -> Claimed:
        """Return what a round of claims brought."""
        (following,) = self._execute("claimable", **_terms(ahead, skip, share, punctual)).fetchone()
        stale = [record for record in self.find("stale") if is_stale(record, self.now)]
        return Claimed(self.now, in_order(claimed), following, stale)

    def renew(self, me: str, runs: Mapping[str, int], holds: Mapping[str, Collection[str]], ttl: int) -> Renewed:
        """Prolong the leases of an instance."""
        after = {}
        for name in sorted(runs.keys() | holds.keys()):
            changed = self.apply(name, prolonging(me, runs.get(name), holds.get(name, ()), ttl), 0)
            if changed.new is not None:
                after[name] = changed.new
        mine = [(name, fence) for name, fence in self._execute("mine", me=me)]
        return renewed(self.now, me, runs, holds, after, mine, self.find("own", me=me))

    def finish(self, me: str, endings: Sequence[Ending], history: int) -> list[Refusal | None]:
        """End the ticks of claims; return for each ending why it was refused, or None."""
        answers: dict[int, Refusal | None] = {}
        for place, ending in by_name(endings):
            changed = self.apply(ending.name, ended_by(me, ending), history)
            answers[place] = None if changed.done else refusal(changed.old, self.now, me, ending)
        return [answers[place] for place in range(len(endings))]

    # --- rows and instances ---

    def history(self, name: str, limit: int) -> list[Row]:
        """Return the last rows of a task, newest last."""
        return [row_of(row) for row in self._execute("history", name=name, limit=max(limit, 0))][::-1]

    def outdated(self, keep: int, age: int, most: int) -> list[int]:
        """Return the ids of rows that have to go, at most *most*."""
        found = [number for (number,) in self._execute("outdated", since=self.now - age, most=most)]
        for (name,) in self._execute("overfull", keep=keep) if len(found) < most else ():
            surplus = self._execute("surplus", name=name, keep=keep, most=most - len(found))
            found += [number for (number,) in surplus]
            if len(found) == most:
                break
        return found

    def discard(self, ids: Sequence[int], age: int) -> int:
        """Delete rows, but for the newest of each task, and instances not heard of; return how many rows went."""
        self._execute("unheard", long_ago=self.now - age)
        return self._execute("discard", ids=json.dumps(ids)).rowcount

    def beat(self, me: str, info: str, ttl: int) -> list[Instance]:
        """Say that an instance lives; return those heard of within *ttl*."""
        self._execute("beat", me=me, info=storable(info))
        self._execute("unheard", long_ago=self.now - DAY)
        return [Instance(*row) for row in self._execute("instances", since=self.now - ttl)]

    def leave(self, me: str) -> None:
        """Forget that an instance lives."""
        self._execute("leave", me=me)

    def has_traces(self, me: str) -> bool:
        """Return whether any record of any application names the instance."""
        return bool(self._execute("traces", me=me).fetchone()[0])

    def _smooth(self) -> None:
        """Wait out a small step back of the clock, so that no record is from the future.

        A large one is followed: otherwise nothing would be due until it is made good.
        """
        (newest,) = self._execute("newest").fetchone()
        if newest is not None and self.now < newest <= self.now + SMALL_STEP:
            self.now = newest

    def _execute(self, statement: str, **values: Any) -> sqlite3.Cursor:
        return self._connection.execute(SQL[statement], {"app": self._app, "now": self.now, **values})


def _terms(ahead: int, skip: Collection[str], share: Share | None, punctual: Collection[str]) -> dict[str, Any]:
    given = share or EVERYBODY
    terms = {"n": given.n, "rank": given.rank, "patience": given.patience, "ahead": ahead, "lead": lead_of(ahead)}
    return terms | {"skip": json.dumps(sorted(skip)), "punctual": json.dumps(sorted(punctual))}
