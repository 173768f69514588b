"""Keeps what has happened to a scheduler and its tasks, within bounds."""

from __future__ import annotations

from collections import deque

from kaiju_app._core.upset import Upset, UpsetKind

MOST = 200  # Of each kind: what happens often must not push out what happens once a month.


class UpsetLog:
    """The latest upsets of one scheduler, in wall-clock microseconds."""

    def __init__(self) -> None:
        self._over: dict[UpsetKind, deque[Upset]] = {kind: deque(maxlen=MOST) for kind in UpsetKind}
        self._going_on: dict[tuple[UpsetKind, str | None], Upset] = {}

    def note(
        self, kind: UpsetKind, since: int | None, until: int, task: str | None = None, who: str | None = None
    ) -> None:
        """Note what is over."""
        self._over[kind].append(Upset(kind, since, until, task, who))

    def begin(self, kind: UpsetKind, since: int | None, task: str | None = None, who: str | None = None) -> None:
        """Note what goes on until ``end()``."""
        self._going_on[kind, task] = Upset(kind, since, None, task, who)

    def end(self, kind: UpsetKind, until: int, task: str | None = None) -> None:
        """Note the end of what ``begin()`` has noted; does nothing if that was not called."""
        upset = self._going_on.pop((kind, task), None)
        if upset is not None:
            self._over[kind].append(upset._replace(until=until))

    def of(self, task: str) -> list[Upset]:
        """Return what has happened to *task* and to all tasks, by kind, oldest first."""
        found = [upset for kind in UpsetKind for upset in (*self._over[kind], *self._open(kind, task))]
        return [upset for upset in found if upset.task in (None, task)]

    def _open(self, kind: UpsetKind, task: str) -> list[Upset]:
        return [upset for key in ((kind, None), (kind, task)) if (upset := self._going_on.get(key)) is not None]
