"""A cron expression in words: those of cronsim, and what it does not know or says wrongly."""

from __future__ import annotations

from collections.abc import Iterator

from cronsim.explain import Day, Expression, Field, Sequence, Weekday, ordinal

from ._cron_days import SPECIAL_DAY


def words(parts: list[str]) -> str:
    """Return what the fields *parts* of a valid expression mean."""
    return CronWords(" ".join(parts).upper().split()).explain()


class SpecialDay(Day):
    """The field for the day of month, with ``L-3`` and ``15W``; they are numbers that no day has."""

    def parse(self, value: str) -> Iterator[Sequence]:  # type: ignore[override]
        """Yield what each term means."""
        for term in value.split(","):
            found = SPECIAL_DAY.fullmatch(term)
            if found is None:
                yield from super().parse(term)
            else:
                number = -100 - int(found[1]) if found[1] else 100 + int(found[2])
                yield Sequence(start=number, stop=number, nth=-1)

    def format_nth(self, value: int, nth: int) -> str:
        """Return a day that is not always the same one of its month."""
        if value <= -100:
            return f"the {ordinal(-100 - value)} day before the last day of the month"
        return (
            f"the weekday nearest to day {value - 100} of the month" if value >= 100 else super().format_nth(value, nth)
        )

    def format(self) -> str:
        """Return all days, each by itself."""
        return Field.format(self)


class CronWords(Expression):
    """An expression in words, in which either of two days is told by "or"."""

    def __init__(self, parts: list[str]) -> None:
        day, weekday = parts[-3], parts[-1]
        special = SPECIAL_DAY.search(day) is not None
        super().__init__([*parts[:-3], "*" if special else day, *parts[-2:]])
        self.day_and = day.startswith("*") or weekday.startswith("*")
        if special:
            self.day = SpecialDay(day)
            self.day.single_value = None  # It is no number to be shown.
        elif not self.day_and and (self.day.star or self.dow.star):  # One of them, such as 1-31, matches all days.
            self.day, self.dow = Day("*"), Weekday("*")

    def translate_date(self, allow_every_day: bool) -> str:
        """Return the days, which need not match both fields unless one of these begins with a star."""
        text = super().translate_date(allow_every_day)
        return text if self.day_and else text.replace(f"{self.day} and {self.dow}", f"{self.day} or {self.dow}")
