"""What happened to all tasks in a window of time, and to the clocks that they follow: the lines of a timeline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

from kaiju_app._core.clock import utc
from kaiju_app._core.upset import Upset, UpsetKind
from kaiju_app.scheduler._window import clock_changes

from ._known import Slices
from ._text import head_of
from ._thinning import grouped
from ._timeline_models import Line, LineKind

MOST = 100
SHARE = 200  # Two equal lines are one if so small a part of the window is between them: nobody could see it.
LEAST_NEAR = 1_000_000

KINDS = {
    UpsetKind.STOPPED: LineKind.STOPPED,
    UpsetKind.BLOCKED: LineKind.BLOCKED,
    UpsetKind.SLEPT: LineKind.SLEPT,
    UpsetKind.CLOCK: LineKind.CLOCK,
    UpsetKind.STORE: LineKind.STORE,
}


REPEATED = {
    LineKind.BLOCKED: "the event loop was blocked",
    LineKind.SLEPT: "the machine slept",
    LineKind.STORE: "the store did not answer",
}
"""What may happen again and again, in words."""


class Life(NamedTuple):
    """An instance: its name for people, when it began, when it was last heard of, and what it has told of itself.

    Attributes:
        left: None if it is alive.
    """

    who: str
    began: int
    left: int | None
    upsets: Sequence[Upset] = ()


class _Found(NamedTuple):
    """A line, or several.

    Attributes:
        number: How many are told as this one.
        lasted: How long it was, in all, of what may happen again; by whom and on which instance, as part of the text.
        more: How many other ones there are near it, of which only the number is told.
    """

    at: int
    until: int | None
    kind: LineKind
    text: str
    number: int = 1
    lasted: int = 0
    who: str = ""
    where: str = ""
    more: int = 0

    def and_again(self, later: _Found) -> _Found:
        """Return both as one."""
        until = None if self.until is None or later.until is None else max(self.until, later.until)
        return self._replace(until=until, number=self.number + later.number, lasted=self.lasted + later.lasted)

    @property
    def words(self) -> str:
        """The text, with how often it has happened."""
        if self.kind not in REPEATED:
            return self.text
        times = f" {self.number} times" if self.number > 1 else ""
        lasted = "" if self.until is None else f" for {self.lasted / 1e6:.3g} s"
        return f"{self.where}{REPEATED[self.kind]}{times}{lasted}{' in all' if times and lasted else ''}{self.who}"


async def lines_of(
    since: int, until: int, upsets: Iterable[Upset], lives: Iterable[Life], zones: Iterable[ZoneInfo]
) -> list[Line]:
    """Return the lines from *since* to *until*, in microseconds, in the order of time."""
    found = [line for upset in upsets if upset.task is None for line in _of_upset(upset)]
    for life in lives:
        found += (line for upset in life.upsets for line in _of_upset(upset, f"instance {life.who}: "))
        found.append(_Found(life.began, None, LineKind.JOINED, f"instance {life.who} was started"))
        if life.left is not None:
            found.append(_Found(life.left, None, LineKind.LEFT, f"instance {life.who} was heard of for the last time"))
    slices = Slices(step=1)
    for zone in sorted(zones, key=str):
        await slices.breathe()
        found += (_Found(at, None, LineKind.DAYLIGHT_SAVING, text) for at, text in clock_changes(zone, since, until))
    near = max(LEAST_NEAR, (until - since) // SHARE)
    return [_line(each) for each in _few(_in_a_row([each for each in found if _meets(each, since, until)], near))]


def _meets(line: _Found, since: int, until: int) -> bool:
    return line.at <= until and (line.at if line.until is None else line.until) >= since


def _in_a_row(found: Iterable[_Found], near: int) -> list[_Found]:
    """Return the lines in the order of time; of equal ones that follow each other, one."""
    ordered: list[_Found] = []
    latest: dict[tuple[str, ...], int] = {}
    for line in sorted(found, key=lambda line: line.at):
        key = line.kind, line.where, line.who
        place = latest.get(key) if line.kind in REPEATED else None
        before = None if place is None else ordered[place]
        if place is not None and before is not None and before.until is not None and line.at - before.until <= near:
            ordered[place] = before.and_again(line)
        else:
            latest[key] = len(ordered)
            ordered.append(line)
    return ordered


def _of_upset(upset: Upset, where: str = "") -> list[_Found]:
    kind, since, until = KINDS.get(upset.kind), upset.since, upset.until
    who = f" {upset.who}" if upset.who else ""  # Such as "by task 'images' at shop.py:48".
    if kind is None:
        return []
    if kind is LineKind.STOPPED:
        stop = [] if since is None else [_Found(since, until, kind, "the scheduler was stopped")]
        return [*stop, *([] if until is None else [_Found(until, None, LineKind.STARTED, "the scheduler was started")])]
    if since is None:
        return []
    if kind is LineKind.CLOCK and until is not None:
        text = f"{where}the wall clock was set by {(until - since) / 1e6:+.3f} s"
        return [_Found(min(since, until), max(since, until), kind, text)]
    return [_Found(since, until, kind, "", 1, 0 if until is None else until - since, who, where)]


def _few(found: Sequence[_Found]) -> list[_Found]:
    """Return about MOST lines at most: of those of one kind that are near, the first with how many more there are."""
    if len(found) <= MOST:
        return list(found)
    few = []
    for kind in LineKind:
        some = [line for line in found if line.kind is kind]
        for first, last in grouped([line.at for line in some], max(1, MOST * len(some) // len(found))):
            more = sum(line.number for line in some[first:last]) - some[first].number
            ends = [line.at if line.until is None else line.until for line in some[first:last]]
            few.append(some[first]._replace(until=max(ends), more=more) if more else some[first])
    return sorted(few, key=lambda line: line.at)


def _line(found: _Found) -> Line:
    until = None if found.until is None else utc(found.until)
    text = f"{found.words}, and {found.more} more of these" if found.more else found.words
    return Line(at=utc(found.at), until=until, kind=found.kind, text=head_of(text), count=found.number + found.more)
