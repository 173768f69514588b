"""Keeps what has happened to a scheduler and its tasks, within bounds."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from kaiju_app._core.upset import Upset, UpsetKind

MOST = 200  # Of each kind: what happens often must not push out what happens once a month.

SEEN_TWICE = (UpsetKind.BLOCKED, UpsetKind.SLEPT)  # By several timers, one of which was to fire earlier.
SAME = 100_000  # Microseconds within which timers notice the end of what was one.


class UpsetLog:
    """The latest upsets of one scheduler, in wall-clock microseconds.

    Attributes:
        changes: How often it has changed.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._over: dict[UpsetKind, deque[Upset]] = {kind: deque(maxlen=MOST) for kind in UpsetKind}
        self._going_on: dict[tuple[UpsetKind, str | None], Upset] = {}

    def note(
        self, kind: UpsetKind, since: int | None, until: int, task: str | None = None, who: str | None = None
    ) -> None:
        """Note what is over."""
        self.changes += 1
        upset, kept = Upset(kind, since, until, task, who), self._over[kind]
        if kind in SEEN_TWICE and kept and (united := _united(kept[-1], upset)) is not None:
            kept.pop()
            upset = united
        kept.append(upset)

    def begin(self, kind: UpsetKind, since: int | None, task: str | None = None, who: str | None = None) -> None:
        """Note what goes on until ``end()``."""
        self.changes += 1
        self._going_on[kind, task] = Upset(kind, since, None, task, who)

    def end(self, kind: UpsetKind, until: int, task: str | None = None) -> None:
        """Note the end of what ``begin()`` has noted; does nothing if that was not called."""
        upset = self._going_on.pop((kind, task), None)
        if upset is not None:
            self.changes += 1
            self._over[kind].append(upset._replace(until=until))

    def of(self, task: str) -> list[Upset]:
        """Return what has happened to *task* and to all tasks, by kind, oldest first."""
        found = [upset for kind in UpsetKind for upset in (*self._over[kind], *self._open(kind, task))]
        return [upset for upset in found if upset.task in (None, task)]

    def latest(self, kinds: Collection[UpsetKind], most: int = 0) -> list[Upset]:
        """Return the latest *most* of these kinds, 0 for all, in the order of their ends: what goes on is last."""
        found = [upset for kind in kinds for upset in self._over[kind]]
        over = sorted(found, key=lambda upset: upset.until or 0)
        return [*over, *(each for each in self._going_on.values() if each.kind in kinds)][-most:]

    def _open(self, kind: UpsetKind, task: str) -> list[Upset]:
        return [upset for key in ((kind, None), (kind, task)) if (upset := self._going_on.get(key)) is not None]


def _united(upset: Upset, later: Upset) -> Upset | None:
    """Return what two timers tell of as one; None if it was not the same."""
    if upset.since is None or later.since is None or upset.until is None or later.until is None:
        return None
    if later.since >= upset.until or abs(later.until - upset.until) > SAME:
        return None
    since, until = min(upset.since, later.since), max(upset.until, later.until)
    return upset._replace(since=since, until=until, who=upset.who or later.who)
