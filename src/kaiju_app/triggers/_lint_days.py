"""Days of month and days of week in one calendar rule: a day needs to match only one of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ._cron import Cron
from ._cron_days import SPECIAL_DAY, local_cron
from ._cron_syntax import SOME_DAY

WEEK = range(7)


def either_day(rule: Cron) -> Iterator[str]:
    """Yield a sentence if *rule* names days of the month and days of the week without a star."""
    parts = rule.expression.split()
    day, weekday = parts[-3], parts[-1]
    if not (day.startswith("*") or weekday.startswith("*")):
        way_out = _both(rule)
        yield (
            f"{day!r} in the day-of-month field and {weekday!r} in the day-of-week field do not both have to match: "
            f"it matches every day that one of them matches{way_out and f'; for days that match both, write {way_out}'}"
        )


def _both(rule: Cron) -> str:
    """Return a rule for the days that match both fields; empty if there is no short one."""
    parsed = local_cron(rule.expression, SOME_DAY)
    weekdays = {each % 7 for each in parsed.weekdays if isinstance(each, int)}
    others = ",".join(str(each) for each in WEEK if each not in weekdays)
    if any(isinstance(each, tuple) for each in parsed.weekdays) or not others:
        return ""
    *fields, _ = rule.expression.split()
    for number in range(1, 5):
        if parsed.days == {7 * number - back for back in WEEK} and SPECIAL_DAY.search(fields[-2]) is None:
            nth = ",".join(f"{each}#{number}" for each in sorted(weekdays))  # "0 0 8-14 * fri": the second Friday.
            return repr(replace(rule, expression=" ".join([*fields[:-2], "*", fields[-1], nth])))
    plain = replace(rule, expression=" ".join([*fields, "*"]))
    return f"Except({plain!r}, {replace(rule, expression=f'* * * * {others}')!r})"
