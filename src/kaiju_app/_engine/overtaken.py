"""Ticks of one task that later ones have overtaken, because the loop has too much to do."""

from __future__ import annotations


class Overtaken:
    """Overtaken ticks, between which others may have run: counted, not recorded one by one.

    In an overload that would be a record for every run, and make the overload worse. Times are steady-clock
    microseconds; the fields are those of a ``RunRecord``.
    """

    __slots__ = ("first", "jitter", "last", "more", "number", "offset")

    def __init__(self, first: int, last: int, number: int, jitter: int, offset: int, *, more: bool) -> None:
        self.first = first
        self.last = last
        self.number = number
        self.jitter = jitter
        self.offset = offset
        self.more = more

    def add(self, last: int, number: int, offset: int) -> None:
        """Count *number* more ticks, up to *last*, which were overtaken while the wall clock was *offset* ahead."""
        self.last = last + offset - self.offset  # The wall clock may have been stepped in between.
        self.number += number
