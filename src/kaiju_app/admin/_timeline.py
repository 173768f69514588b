"""What happened to tasks in a window of time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from starlette.responses import Response

from kaiju_app._core.clock import epoch_us, utc
from kaiju_app._core.upset import Upset, UpsetKind
from kaiju_app.errors import StoreUnavailable, WrongState
from kaiju_app.scheduler import Outcome
from kaiju_app.scheduler import _hosting as hosting
from kaiju_app.scheduler import _window as window

from ._api import Api
from ._cursor import cursor_of
from ._endings import MOST_ROWS, Endings
from ._known import Known, Slices
from ._lines import Life, lines_of
from ._listing import Query, Sort, page_of
from ._seen import Seen
from ._text import harmless, name_of
from ._thinning import Band, Bar, Drawn, Mark, begin_of, fit, fits, thin_bars, thin_marks
from ._timeline_models import MOST_UPCOMING, BandItem, BandKind, BarItem, MarkItem, Timeline, TimelineTask
from ._written import written

MOST_BYTES = 300_000
FOR_THE_REST = 10_000  # Of these: what is neither of a task nor a line.
MANY = 600  # Bars, or marks, that are united at once to half as many: a history may have millions.
MOST_TEXT = 200  # Characters of a holder or a reason.
AT_ONCE = 64  # Tasks of which everything is read before it is known whether there is room for more.
BYTES_OF_TASK = 200  # Without its name, its id and its ticks.
BYTES_OF_TICK = 31


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when, and now, in microseconds."""

    since: int
    until: int
    now: int


class Drawing:
    """Collects what is drawn of one task."""

    def __init__(self) -> None:
        self.drawn = Drawn()
        self.was_thinned = False

    def add(self, found: Sequence[window.Ended]) -> None:
        """Add what became of ticks."""
        for each in found:
            if each.outcome is Outcome.SKIPPED:
                self.drawn.marks.append(Mark(each.first, each.last, each.number, each.reason))
                continue
            start = each.first if each.started is None else each.started
            end = max(start, each.last if each.finished is None else each.finished)
            self.drawn.bars.append(
                Bar(start, end, each.first, each.outcome, each.reason, each.number, each.number, each.key)
            )
        if max(len(self.drawn.bars), len(self.drawn.marks)) > MANY:
            self.drawn.bars = thin_bars(self.drawn.bars, MANY // 2)
            self.drawn.marks = thin_marks(self.drawn.marks, MANY // 2)
            self.was_thinned = True


async def timeline(api: Api, endings: Endings, since: datetime, until: datetime, query: Query) -> Response:
    """Return what happened from *since* to *until* to the tasks of a page.

    Raises:
        Refused: The cursor is none of such a list.
    """
    now = api.now
    span = Window(epoch_us(since), epoch_us(until), epoch_us(now))
    seen = await api.store.seen()
    tasks, after = await page_of(api.tasks, seen, query) if since <= until else ([], None)
    slices = Slices(step=1)
    upsets, lives = window.upsets_of(api.scheduler, ""), await _lives(api, seen, span)
    lines = await lines_of(span.since, span.until, upsets, lives, _zones(tasks))
    written_lines = [each.model_dump_json() for each in lines]
    room = MOST_BYTES - FOR_THE_REST - sum(len(each.encode()) + 1 for each in written_lines)
    drawings: list[Drawing] = []
    upcoming, kept_off = list[list[datetime]](), window.bands_of(api.scheduler)
    incomplete: int | None = 0
    while len(drawings) < len(tasks) and fits([each.drawn for each in drawings], room):
        some = tasks[len(drawings) : len(drawings) + AT_ONCE]
        found = [await _here(api, task, span, slices) for task in some]
        if incomplete is not None:  # A store that is away is not asked again.
            more = await _add_stored(endings, some, found, span)
            incomplete = None if more is None else incomplete + more
        for task, drawing in zip(some, found, strict=True):
            await slices.breathe()
            upcoming.append(_upcoming(task, max(since, now), until) if span.now <= span.until else [])
            drawing.drawn.size = _size(task, len(upcoming[-1]))
            drawing.drawn.bands = _bands(task, span, kept_off)
        drawings += found
    number, most = fit([each.drawn for each in drawings], room)
    if number < len(tasks):
        after = cursor_of(Sort.NAME, ("", tasks[number - 1].name, tasks[number - 1].home_id))
    items = []
    for task, drawing, ticks in zip(tasks[:number], drawings, upcoming, strict=False):
        await slices.breathe()
        drawn = drawing.drawn if most is None else drawing.drawn.thinned(most)
        await slices.breathe()
        items.append(_item(task, drawn, ticks).model_dump_json())
    answer = Timeline(
        from_=since,
        to=until,
        now=now,
        tasks=[],
        lines=[],
        next=after,
        partial="; ".join(each for each in (seen.partial, _missing(incomplete)) if each) or None,
        thinned=most is not None or any(each.was_thinned for each in drawings),
    )
    return written(answer, tasks=items, lines=written_lines)


# --- what is known ---


async def _here(api: Api, task: Known, span: Window, slices: Slices) -> Drawing:
    """Return what this process knows of the runs of *task*: all of a local one, of another one what is in progress."""
    drawing = Drawing()
    if task.face is not None and task.record is None:
        for some in window.local_endings(task.face, span.since, span.until):
            drawing.add(some)
            await slices.breathe()
    begun = None if task.face is None else window.begun(task.face)
    if begun is None and task.record is not None and task.record["runs_on"] is not None and task.record["since"]:
        started, tick = (epoch_us(datetime.fromisoformat(task.record[name])) for name in ("since", "tick"))
        begun = window.Begun(started, tick, None) if started <= span.now else None
    if begun is not None and begun.started <= span.until and span.now >= span.since:
        drawing.drawn.bars.append(Bar(begun.started, None, begun.tick, None, None, key=begun.key))
    return drawing


async def _add_stored(
    endings: Endings, tasks: Sequence[Known], drawings: Sequence[Drawing], span: Window
) -> int | None:
    """Add what the store keeps of the runs of *tasks*; return of how many that is not all. None: it did not answer."""
    shared = [(task.record, drawing) for task, drawing in zip(tasks, drawings, strict=True) if task.record is not None]
    try:
        found = await endings.of([record for record, _ in shared], span.since, span.until, span.now)
    except (StoreUnavailable, WrongState):
        return None
    for (_, drawing), (some, _) in zip(shared, found, strict=True):
        drawing.add(some)
    return sum(not is_all for _, is_all in found)


def _missing(incomplete: int | None) -> str | None:
    """Return what cannot be had; None if nothing is missing."""
    if incomplete is None:
        return "the history of shared tasks could not be read: the store did not answer"
    if incomplete:
        return f"of {incomplete} tasks only the latest {MOST_ROWS:,} records are shown: ask for a shorter time"
    return None


async def _lives(api: Api, seen: Seen, span: Window) -> list[Life]:
    alive = {each["id"] for each in seen.instances}
    try:
        lives = await window.lives_of(api.scheduler, span.since, span.until)
    except (StoreUnavailable, WrongState):
        return []
    return [
        Life(seen.process_of(instance) or instance, began, None if instance in alive else left, upsets)
        for instance, began, left, upsets in lives
    ]


def _zones(tasks: Sequence[Known]) -> set[ZoneInfo]:
    return {zone for task in tasks if task.face is not None for zone in window.zones_of_task(task.face)}


def _bands(task: Known, span: Window, kept_off: Mapping[str | None, Sequence[Upset]]) -> list[Band]:
    here = [] if task.face is None else hosting.holds_of(task.face)
    stored = [] if task.record is None else task.record["holds"]
    bands = [
        Band(
            _us(each.get("since")),
            None if each.get("leased") else _us(each.get("until")),  # The end of a lease is not that of the hold.
            BandKind.HELD,
            _short(str(each["holder"])),
            None if each["reason"] is None else _short(str(each["reason"])),
        )
        for each in (*here, *stored)
    ]
    for upset in (*kept_off.get(None, ()), *kept_off.get(task.name, ())) if task.face is not None else ():
        if upset.kind is UpsetKind.DISABLED or (upset.kind is UpsetKind.HELD and upset.until is not None):
            kind = BandKind.DISABLED if upset.kind is UpsetKind.DISABLED else BandKind.HELD
            bands.append(Band(upset.since, upset.until, kind, _short(upset.who or "unknown"), None))
    shown = [
        each
        for each in bands
        if (each.since is None or each.since <= span.until) and (each.until is None or each.until >= span.since)
    ]
    return sorted(shown, key=begin_of)


def _short(text: str) -> str:
    text = harmless(text)
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 3]}..."


def _us(text: object) -> int | None:
    return epoch_us(datetime.fromisoformat(text)) if isinstance(text, str) else None


def _upcoming(task: Known, since: datetime, until: datetime) -> list[datetime]:
    """Return those of the next ticks of *task* that are due from *since* to *until*."""
    if task.face is not None:
        return [each for each in window.ticks_until(task.face, epoch_us(until), MOST_UPCOMING) if each >= since]
    return [each for each in task.upcoming(MOST_UPCOMING, until) if each >= since]


# --- the answer ---


def _size(task: Known, ticks: int) -> int:
    name = json.dumps(name_of(task.name), ensure_ascii=False).encode()
    return BYTES_OF_TASK + len(name) + len(task.id) + BYTES_OF_TICK * ticks


def _item(task: Known, drawn: Drawn, ticks: list[datetime]) -> TimelineTask:
    since = window.kept_since(task.face) if task.face is not None and task.record is None else None
    return TimelineTask(
        task=name_of(task.name),
        task_id=task.id,
        state=task.state,
        bars=[_bar(task.name, each) for each in sorted(drawn.bars, key=lambda bar: bar.start)],
        marks=[_mark(each) for each in sorted(drawn.marks)],
        bands=[_band(each) for each in drawn.bands],
        kept_since=None if since is None else utc(since),
        upcoming=ticks,
    )


def _bar(name: str, bar: Bar) -> BarItem:
    return BarItem(
        start=utc(bar.start),
        end=None if bar.end is None else utc(bar.end),
        tick=None if bar.tick is None else utc(bar.tick),
        outcome=bar.outcome,
        reason=bar.reason,
        count=bar.number,
        worst=bar.worst,
        run_id=window.identity_of(name, bar.key),
    )


def _mark(mark: Mark) -> MarkItem:
    return MarkItem(at=utc(mark.at), until=utc(mark.until), count=mark.number, reason=mark.reason)


def _band(band: Band) -> BandItem:
    return BandItem(
        from_=None if band.since is None else utc(band.since),
        to=None if band.until is None else utc(band.until),
        kind=BandKind(band.kind),
        holder=band.holder,
        reason=band.reason,
        count=band.number,
    )
