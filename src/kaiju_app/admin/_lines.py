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

KINDS = {
    UpsetKind.STOPPED: LineKind.STOPPED,
    UpsetKind.BLOCKED: LineKind.BLOCKED,
    UpsetKind.SLEPT: LineKind.SLEPT,
    UpsetKind.CLOCK: LineKind.CLOCK,
    UpsetKind.STORE: LineKind.STORE,
}


class Life(NamedTuple):
    """An instance: its name for people, when it began, and when it was last heard of; None if it is alive."""

    who: str
    began: int
    left: int | None


class _Found(NamedTuple):
    at: int
    until: int | None
    kind: LineKind
    text: str


async def lines_of(
    since: int, until: int, upsets: Iterable[Upset], lives: Iterable[Life], zones: Iterable[ZoneInfo]
) -> list[Line]:
    """Return the lines from *since* to *until*, in microseconds, in the order of time."""
    found = [line for upset in upsets if upset.task is None for line in _of_upset(upset)]
    for life in lives:
        found.append(_Found(life.began, None, LineKind.JOINED, f"instance {life.who} was started"))
        if life.left is not None:
            found.append(_Found(life.left, None, LineKind.LEFT, f"instance {life.who} was heard of for the last time"))
    slices = Slices(step=1)
    for zone in sorted(zones, key=str):
        await slices.breathe()
        found += (_Found(at, None, LineKind.DAYLIGHT_SAVING, text) for at, text in clock_changes(zone, since, until))
    return [_line(each) for each in _few([each for each in found if _meets(each, since, until)])]


def _meets(line: _Found, since: int, until: int) -> bool:
    return line.at <= until and (line.at if line.until is None else line.until) >= since


def _of_upset(upset: Upset) -> list[_Found]:
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
        text = f"the wall clock was set by {(until - since) / 1e6:+.3f} s"
        return [_Found(min(since, until), max(since, until), kind, text)]
    lasted = "" if until is None else f" for {(until - since) / 1e6:.3g} s"
    texts = {
        LineKind.BLOCKED: f"the event loop was blocked{lasted}{who}",
        LineKind.SLEPT: f"the machine slept{lasted}",
        LineKind.STORE: f"the store did not answer{lasted}",
    }
    return [_Found(since, until, kind, texts[kind])]


def _few(found: Sequence[_Found]) -> list[_Found]:
    """Return about MOST lines at most: of those of one kind that are near, the first with how many more there are."""
    ordered = sorted(found, key=lambda line: line.at)
    if len(ordered) <= MOST:
        return ordered
    few = []
    for kind in LineKind:
        some = [line for line in ordered if line.kind is kind]
        for first, last in grouped([line.at for line in some], max(1, MOST * len(some) // len(ordered))):
            more = last - first - 1
            ends = [line.at if line.until is None else line.until for line in some[first:last]]
            united = some[first]._replace(until=max(ends), text=f"{some[first].text}, and {more} more of these")
            few.append(united if more else some[first])
    return sorted(few, key=lambda line: line.at)


def _line(found: _Found) -> Line:
    until = None if found.until is None else utc(found.until)
    return Line(at=utc(found.at), until=until, kind=found.kind, text=head_of(found.text))
