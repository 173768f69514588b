"""What has happened to an instance, such as a blocked loop, as it tells the others: their ticks may be late for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Container
from datetime import UTC, datetime
from types import NoneType
from typing import Any

from kaiju_app._core.clock import epoch_us
from kaiju_app._core.upset import Upset, UpsetKind
from kaiju_app._engine.upsets import UpsetLog
from kaiju_app.stores._answers import Life
from kaiju_app.stores._record import scheduler_of

MOST = 50  # Of the latest that are told, so that a note has less than 20 KB: whoever asks why reads those of all.
MOST_CHARACTERS = 200
TOLD = (UpsetKind.BLOCKED, UpsetKind.SLEPT, UpsetKind.CLOCK, UpsetKind.STORE, UpsetKind.DISABLED)
NAME = {str, NoneType}
CALENDAR = range(epoch_us(datetime.min.replace(tzinfo=UTC)), epoch_us(datetime.max.replace(tzinfo=UTC)) + 1)
LEAST_SHIFT = 100_000  # By less the clocks of two hosts differ, and an answer takes as long: it changes no reason.


class Notes:
    """Tells what has happened to one instance, from the start of its session.

    Args:
        tasks: The cluster tasks of this instance by name, as they come and go: of others nobody else asks.
        wall: Reads the wall clock, which the log of upsets has its times from.
    """

    def __init__(self, upsets: UpsetLog, tasks: Container[str], wall: Callable[[], int]) -> None:
        self._upsets = upsets
        self._tasks = tasks
        self._wall = wall
        self._began = wall()
        self._seen = self._told_at = 0
        self._told = self._text = "[]"

    def news(self, store_now: int | None) -> str | None:
        """Return what to tell, as JSON text; None if nothing has happened since ``told()``.

        Args:
            store_now: What the store's clock shows, by which all times are told; None if that is not known.
        """
        if self._upsets.changes == self._told_at:
            return None
        self._seen = self._upsets.changes
        ahead = 0 if store_now is None else store_now - self._wall()
        shift = ahead if abs(ahead) > LEAST_SHIFT else 0
        latest = [each for each in self._upsets.latest(TOLD, MOST) if self._concerns(each)]
        self._text = json.dumps([_told(each, shift) for each in latest])
        if self._text == self._told:
            self.told()
            return None
        return self._text

    def told(self) -> None:
        """Learn that the store has what ``news()`` has returned."""
        self._told, self._told_at = self._text, self._seen

    def repeat(self) -> None:
        """Have ``news()`` return again what was told."""
        self._told, self._told_at = "[]", -1

    def _concerns(self, upset: Upset) -> bool:
        is_ours = upset.task is None or upset.task in self._tasks
        return is_ours and (upset.until is None or upset.until >= self._began)


def _told(upset: Upset, shift: int) -> list[object]:
    moved = 0 if upset.kind is UpsetKind.CLOCK else shift  # Of a clock that was set, times are what it showed.
    since, until = (each and each + moved for each in (upset.since, upset.until))
    return [upset.kind, since, until, upset.task, upset.who and upset.who[:MOST_CHARACTERS]]


def upsets_in(life: Life, *, is_alive: bool) -> list[Upset]:
    """Return what an instance has told; none of what this version cannot read. What goes on ends with the life."""
    found: list[Upset] = []
    for each in _read(life.note):
        try:
            kind, since, until, task, who = each
            upset = Upset(UpsetKind(kind), since, until, task, who, scheduler_of(life.id))
        except (TypeError, ValueError):  # Of another version.
            continue
        if not (_is_time(since) and _is_time(until) and {type(task), type(who)} <= NAME):
            continue
        found.append(upset if is_alive or until is not None else upset._replace(until=life.seen_at))
    return found


def _is_time(told: object) -> bool:
    """Return whether it is a time that can be shown, or None."""
    return told is None or (type(told) is int and told in CALENDAR)


def _read(note: str) -> list[Any]:
    try:
        found = json.loads(note or "[]")
    except ValueError:
        return []
    return found if isinstance(found, list) else []
