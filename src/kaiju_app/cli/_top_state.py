"""What `kaiju top` shows, and what its keys do: plain values, so that a test can press keys without a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ._client import Json

ENTER, ESCAPE, BACKSPACE, UP, DOWN = "enter", "escape", "backspace", "up", "down"
SECTIONS = ("RUNNING NOW", "FAILING AND OVERDUE", "PAUSED", "COMING NEXT", "LAST ENDINGS")
HELD = 2  # The section that is left out when it is empty.
MOST_TYPED = 200


class Row(NamedTuple):
    """A line of a section: a task, a tick that comes, or an ending.

    Attributes:
        key: What stays the same when the screen is drawn again.
    """

    section: int
    key: str
    task_id: str
    name: str
    data: Json


class Action(NamedTuple):
    """Something that an operator wants: ``run``, ``pause``, ``resume`` or ``cancel``."""

    what: str
    row: Row
    reason: str = ""


@dataclass
class State:
    """What the screen shows.

    Attributes:
        scheduler: The document of ``/api/scheduler``; None before the first answer.
        known: The lines of all sections, in order, whatever the filter is.
        link: How news come: ``live``, ``polling``, or why nothing comes.
        chosen: Key of the row that keys act on.
        filter: Text that names contain.
        asks: What the bottom line asks for: ``pause``, ``cancel`` or ``filter``; empty for nothing.
        typed: What was typed there so far.
        message: What the bottom line says.
    """

    scheduler: Json = None
    known: list[Row] = field(default_factory=list)
    link: str = "connecting"
    chosen: str = ""
    filter: str = ""
    asks: str = ""
    typed: str = ""
    message: str = ""
    shows_help: bool = False
    ends: bool = False
    _asked_for: Row | None = None

    def learn(self, documents: Mapping[str, Json]) -> None:
        """Take what the endpoint has answered, by the names of ``QUESTIONS``."""
        self.scheduler = documents["scheduler"]
        self.known = list(rows_of(documents))
        self._choose()

    def _choose(self) -> None:
        if self.rows and self.row is None:  # The task may be in another section now.
            before = self.chosen.split(" ")[1:2]
            again = [each for each in self.rows if [each.task_id] == before]
            self.chosen = (again or self.rows)[0].key

    @property
    def rows(self) -> list[Row]:
        """The lines of all sections that pass the filter."""
        return [each for each in self.known if self.filter.casefold() in each.name.casefold()]

    @property
    def row(self) -> Row | None:
        """The row that keys act on."""
        return next((each for each in self.rows if each.key == self.chosen), None)

    def press(self, key: str) -> Action | None:
        """Take a key; return what it asks for."""
        if self.asks:
            return self._type(key)
        self.message = ""
        if self.shows_help:
            self.shows_help = False
        elif key in ("q", "Q"):
            self.ends = True
        elif key == "?":
            self.shows_help = True
        elif key in ("j", DOWN, "k", UP):
            self._move(1 if key in ("j", DOWN) else -1)
        elif key == "/":
            self.asks, self.typed = "filter", self.filter
        elif key == ESCAPE:
            self.filter = ""
        elif key in ("p", "c", "r", "u"):
            return self._act(key)
        return None

    def _act(self, key: str) -> Action | None:
        row = self.row
        if row is None:
            self.message = "no task is chosen"
            return None
        if key in ("r", "u"):
            return Action("run" if key == "r" else "resume", row)
        self.asks, self.typed, self._asked_for = "pause" if key == "p" else "cancel", "", row
        return None

    def _type(self, key: str) -> Action | None:
        if key == ESCAPE:
            self.asks = self.typed = ""
        elif key == BACKSPACE:
            self.typed = self.typed[:-1]
        elif key == ENTER:
            return self._entered()
        elif len(key) == 1 and key.isprintable() and len(self.typed) < MOST_TYPED:
            self.typed += key
        return None

    def _entered(self) -> Action | None:
        asked, typed, row = self.asks, self.typed.strip(), self._asked_for
        if asked == "filter":
            self.asks, self.filter = "", typed
            self._choose()
            return None
        if not typed:
            self.message = "give a reason, or Esc"
            return None
        self.asks = self.typed = ""
        return None if row is None else Action(asked, row, typed)

    def _move(self, step: int) -> None:
        keys = [each.key for each in self.rows]
        if not keys:
            return
        place = keys.index(self.chosen) + step if self.chosen in keys else 0
        self.chosen = keys[max(0, min(place, len(keys) - 1))]


def rows_of(documents: Mapping[str, Json]) -> Iterable[Row]:
    """Yield the rows of all sections."""
    seen: set[str] = set()
    for task in documents["running"]["items"]:
        yield Row(0, f"0 {task['id']}", task["id"], task["name"], task)
    for task in (*documents["overdue"]["items"], *documents["failing"]["items"]):
        if task["id"] not in seen:
            seen.add(task["id"])
            yield Row(1, f"1 {task['id']}", task["id"], task["name"], task)
    for task in documents["held"]["items"]:
        yield Row(2, f"2 {task['id']}", task["id"], task["name"], task)
    seen = set()
    for tick in documents["upcoming"]["items"]:  # The next tick of each task: the rest is of no use at night.
        if tick["task_id"] not in seen:
            seen.add(tick["task_id"])
            yield Row(3, f"3 {tick['task_id']}", tick["task_id"], tick["task"], tick)
    for run in documents["runs"]["items"]:
        key = f"4 {run['task_id']} {run['scheduled_at']} {run['delivery']} {run['manual']}"
        yield Row(4, key, run["task_id"], run["task"], run)


def shares(wanted: list[int], room: int) -> list[int]:
    """Return how many lines each section gets: what it wants if there is room, else about the same for each."""
    given = [0] * len(wanted)
    while sum(given) < min(room, sum(wanted)):
        place = min((each for each in range(len(wanted)) if given[each] < wanted[each]), key=given.__getitem__)
        given[place] += 1
    return given


def window(place: int, size: int, total: int) -> int:
    """Return the first of *size* rows out of *total* that are shown, so that the one at *place* is among them."""
    return max(0, min(place - size // 2, total - size))
