"""Aligned tables that fit the width of a terminal: what is too long loses its middle, and nothing is wrapped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rich.cells import cell_len
from rich.text import Text

from ._text import clean

GAP = 2
LEAST = 8  # Columns that are left of what can be shortened.
MISSING = "…"

Cell: TypeAlias = Text | str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: What is at its top.
        gives: Whether its texts are shortened if the table is too wide.
        right: Whether they are aligned at their right end.
    """

    title: str
    gives: bool = False
    right: bool = False


def styled(text: object, style: str = "") -> Text:
    """Return *text* in a style of rich, such as a colour, without characters that act on a terminal."""
    return Text(end="", no_wrap=True).append(clean(text), style=style)  # What is appended later has another style.


def shortened(text: str, width: int) -> str:
    """Return *text* in at most *width* columns of a terminal: its beginning and its end, if it has more."""
    if cell_len(text) <= width:
        return text
    if width < 2:
        return MISSING[:width]
    tail = (width - 1) // 2
    return f"{_first(text, width - 1 - tail)}{MISSING}{_first(text[::-1], tail)[::-1]}"


def _first(text: str, width: int) -> str:
    taken = 0
    for place, character in enumerate(text):
        taken += cell_len(character)
        if taken > width:
            return text[:place]
    return text


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], width: int) -> list[Text]:
    """Return the lines of a table that is at most *width* columns wide."""
    cells = [[each if isinstance(each, Text) else styled(each) for each in row] for row in rows]
    wanted = [
        max([cell_len(column.title), *(each[place].cell_len for each in cells)]) for place, column in enumerate(columns)
    ]
    widths = fitting(wanted, [each.gives for each in columns], width - GAP * (len(columns) - 1))
    titles = [styled(each.title, "bold") for each in columns]
    return [_line(each, columns, widths, width) for each in (titles, *cells)]


def fitting(wanted: Sequence[int], gives: Sequence[bool], width: int) -> list[int]:
    """Return the widths of columns that together have *width*, taking from the widest of those that give."""
    widths = list(wanted)
    while sum(widths) > width:
        largest = max((each for each, gives_some in zip(widths, gives, strict=True) if gives_some), default=0)
        if largest <= LEAST:
            break
        widths[max(place for place, each in enumerate(widths) if gives[place] and each == largest)] -= 1
    return widths


def _shortened(cell: Text, width: int) -> Text:
    """Return a cell of one style in at most *width* columns."""
    return styled(shortened(cell.plain, width), str(cell.spans[0].style) if cell.spans else "")


def _line(cells: Sequence[Text], columns: Sequence[Column], widths: Sequence[int], width: int) -> Text:
    line = Text(end="", no_wrap=True)
    last = len(cells) - 1
    for place, (cell, column, room) in enumerate(zip(cells, columns, widths, strict=True)):
        text = cell if cell.cell_len <= room else _shortened(cell, room)
        padding = " " * (room - text.cell_len)
        if column.right:
            line.append(padding)
        line.append_text(text)
        if place < last:
            line.append(("" if column.right else padding) + " " * GAP)
    return cut(line, width)


def cut(line: Text, width: int) -> Text:
    """Return *line* without what does not fit."""
    line.rstrip()
    if line.cell_len > width:
        line.truncate(width, overflow="ellipsis")
    return line
