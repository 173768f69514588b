"""The verbs of a store as transitions, and what follows from the records that they leave behind.

The default of every engine, and memory and SQLite, are made of these; PostgreSQL has them in SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from zlib import crc32

from ._answers import FinishRequest, Renewed
from ._record import LedgerRow, TaskRecord, end_key, instance_of, true_holds
from ._selection import ClaimQuery
from ._transitions import Refusal, claim, finish, is_active, is_mine, renew, renew_hold

# A change is tried again each time another client was faster. This many conflicts in a row are not competition but a
# store that refuses everything.
MOST_CONFLICTS = 100
# After this many conflicts a pause comes first. It differs between clients, as two may run in lockstep, and grows each
# time, as the record may be locked. All pauses together take about two seconds.
AT_ONCE_AGAIN = 3
PAUSE = 1_000
Transition = Callable[[TaskRecord | None, int], tuple[TaskRecord | None, Sequence[LedgerRow]] | None]
"""From a record (None if there is none) and the store's time to the record that replaces it (None deletes it) and the
ledger rows that come with it; or to None, which refuses the change. Pure: it is called again after every conflict, and
in any thread."""


def pause_us(who: str, conflicts: int) -> int:
    """Return how long *who* waits before it tries again; its competitors wait for other times."""
    return crc32(f"{who} {conflicts}".encode()) % (PAUSE * conflicts)


# --- the verbs as transitions ---


def simply(change: Callable[[TaskRecord, int], TaskRecord | None], rows: Sequence[LedgerRow] = ()) -> Transition:
    """Return a transition of an existing record; *rows* are written with it."""
    return anew(lambda old, now: None if old is None else change(old, now), rows)


def anew(change: Callable[[TaskRecord | None, int], TaskRecord | None], rows: Sequence[LedgerRow] = ()) -> Transition:
    """Return a transition that may also make the record; *rows* are written with it."""

    def transition(old: TaskRecord | None, now: int) -> tuple[TaskRecord, Sequence[LedgerRow]] | None:
        new = change(old, now)
        return None if new is None else (new, rows)

    return transition


def claiming(query: ClaimQuery, name: str) -> Transition:
    """Return the transition that claims the record *name*."""
    window = query.claim_window(name)
    return simply(lambda old, now: claim(old, now, query.me, query.ttl, window))


def prolonging(me: str, fence: int | None, keys: Collection[str], ttl: int) -> Transition:
    """Return the transition that renews those of a run and holds of one task that still exist."""

    def prolonged(old: TaskRecord, now: int) -> TaskRecord | None:
        new = old if fence is None else renew(old, now, me, fence, ttl) or old
        for key in sorted(keys):
            new = renew_hold(new, now, key, ttl) or new
        # One write, however many leases it extends.
        return None if new is old else new._replace(rev=max(old.rev + 1, now))

    return simply(prolonged)


def ended_by(me: str, ending: FinishRequest) -> Transition:
    """Return the transition that finishes a claim."""

    def ended(old: TaskRecord, now: int) -> TaskRecord | None:
        new = _finished(old, now, me, ending)
        return new if isinstance(new, TaskRecord) else None

    return simply(ended, ending.rows)


def refusal(old: TaskRecord | None, now: int, me: str, ending: FinishRequest) -> Refusal:
    """Return why an ending was refused by the record *old*."""
    found = None if old is None else _finished(old, now, me, ending)
    return found if isinstance(found, Refusal) else Refusal.LOST


def _finished(old: TaskRecord, now: int, me: str, ending: FinishRequest) -> TaskRecord | Refusal:
    return finish(old, now, me, ending.fence, ending.tick, ending.schedule, ending.following)


# --- answers from records ---


def name_of(old: TaskRecord | None, new: TaskRecord | None) -> str:
    """Return the name of the record that is replaced, made or deleted."""
    one = old or new
    if one is None:
        raise ValueError("one of old and new must be a record")
    return one.name


def renewed(
    now: int,
    me: str,
    runs: Mapping[str, int],
    holds: Mapping[str, Collection[str]],
    after: Mapping[str, TaskRecord],
    mine: Iterable[tuple[str, int]],
    held: Iterable[TaskRecord],
) -> Renewed:
    """Return what an instance still owns, from the records *after* its renewals and all *held* records."""
    kept = {name for name, fence in runs.items() if name in after and is_mine(after[name], me, fence)}
    return Renewed(
        now,
        kept,
        {(name, key) for name, keys in holds.items() for key in keys if name in after and key in after[name].holds},
        sorted(mine),
        {name for name in kept if true_holds(after[name].holds)},
        {(record.name, key) for record in held for key in record.holds if instance_of(key) == me},
        {name for name in kept if end_key(runs[name]) in after[name].holds},
    )


def by_name(endings: Sequence[FinishRequest]) -> list[tuple[int, FinishRequest]]:
    """Return endings with their places, ordered by name: records are always locked in one order."""
    return sorted(enumerate(endings), key=lambda each: (each[1].name, each[1].fence))


def active(records: Iterable[TaskRecord]) -> list[TaskRecord]:
    """Return the records of which an instance has something."""
    return [record for record in records if is_active(record)]
