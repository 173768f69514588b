"""Days that cronsim does not know: ``L-3``, three days before the last, and ``15W``, the weekday nearest the 15th."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date, datetime

from cronsim import CronSim, CronSimError

SATURDAY, SUNDAY = 5, 6

SPECIAL_DAY = re.compile(r"L-(\d+)|(\d+)W")


def local_cron(expression: str, moment: datetime, reverse: bool = False) -> CronSim:
    """Return an iterator of the ticks of *expression* in naive local time, later or earlier than *moment*.

    Raises:
        CronSimError: The expression is invalid.
    """
    cron = DaysCron if SPECIAL_DAY.search(expression) else CronSim
    return cron(expression, moment, reverse)


class DaysCron(CronSim):
    """cronsim with the days that it does not know."""

    def __init__(self, expression: str, moment: datetime, reverse: bool) -> None:
        parts = expression.split()
        terms = parts[-3].split(",")
        known = [term for term in terms if SPECIAL_DAY.fullmatch(term) is None]
        self._terms = [term for term in terms if term not in known]
        day_and = parts[-3].startswith("*") or parts[-1].startswith("*")
        # cronsim needs a day that it knows, and refuses days that no month of the rule has. Every month has an L.
        parts[-3] = ",".join(["L", *known])
        super().__init__(" ".join(parts), moment, reverse)
        self.day_and = day_and
        if "L" not in known:
            self.days.discard(self.LAST)
        for term in self._terms:
            if not 1 <= int(term.strip("LW-")) <= (30 if term.startswith("L") else 31):
                raise CronSimError(term)

    def match_dom(self, d: date) -> bool:
        """Return whether the day of month matches."""
        return super().match_dom(d) or any(day_in(d.year, d.month, term) == d.day for term in self._terms)


def day_in(year: int, month: int, term: str) -> int | None:
    """Return the day that *term* means in a month; None if the month has no such day.

    As in Quartz, the nearest weekday is one of the same month.
    """
    weekday_of_first, last = monthrange(year, month)
    if term.startswith("L"):
        day = last - int(term[2:])
        return day if day >= 1 else None
    day = int(term[:-1])
    if day > last:
        return None
    weekday = (weekday_of_first + day - 1) % 7
    if weekday == SATURDAY:
        return day - 1 if day > 1 else 3
    if weekday == SUNDAY:
        return day + 1 if day < last else day - 2
    return day
