"""WHEN, for one task: the ticks of its rule as integers, on the steady clock as it stands to the wall clock.

A rule with one gap for ever is counted in closed form. Any other is asked tick by tick, and never more than a bounded
number of times for one answer, however long nobody has asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple

from ._clock import epoch_us, utc
from ._model import Spec
from ._triggers import Every, Trigger, later, not_later, ticks
from .errors import SearchTooLong

FOREVER = 1 << 62  # A tick that never comes, and the gap to it: 146,000 years.
COUNTED = 10_000  # Ticks of a calendar that are counted one by one; of more it is said that there are more.

SOON = 1_000_000  # A search for a tick is long, and not begun more often than that.

END = epoch_us(datetime.max.replace(tzinfo=UTC))  # Of the calendar: nothing comes after it.
BEGINNING = epoch_us(datetime.min.replace(tzinfo=UTC))


class Counted(NamedTuple):
    """The ticks of a rule from one on, up to some instant, in microseconds since the epoch."""

    first: int
    number: int
    more: bool
    last: int
    following: int


class Rule:
    """A trigger of any kind, asked in microseconds since the epoch and trusted with nothing.

    Attributes:
        trigger: What the user gave.
        failure: What went wrong when it was last asked. The answer was then that there is no tick.
        reached: How far the last search for a next tick came that was given up; None: it was not.
    """

    __slots__ = ("_counted", "failure", "reached", "trigger")

    def __init__(self, trigger: Trigger) -> None:
        self.trigger = trigger
        self.failure: Exception | None = None
        self.reached: int | None = None
        self._counted: Counted | None = None

    def after(self, us: int) -> int:
        """Return the first tick strictly later than *us*; FOREVER if there is none, or none was found."""
        self.reached = None
        if us >= END:
            return FOREVER
        try:
            tick = self.trigger.after(utc(us))
            return FOREVER if tick is None else epoch_us(later(tick, utc(us)))
        except SearchTooLong as exc:
            self.reached = epoch_us(exc.reached)
            return FOREVER
        except Exception as exc:  # The trigger may be anybody's.
            self.failure = exc
            return FOREVER

    def at_or_before(self, us: int) -> int | None:
        """Return the last tick not later than *us*; None if there is none."""
        if us < BEGINNING:
            return None
        us = min(us, END)
        try:
            tick = self.trigger.at_or_before(utc(us))
            return None if tick is None else epoch_us(not_later(tick, utc(us)))
        except SearchTooLong:
            return None
        except Exception as exc:
            self.failure = exc
            return None

    def ticks(self, us: int) -> Iterator[int]:
        """Yield the ticks strictly later than *us*, one by one, as far as they are found."""
        self.reached = None
        if us >= END:
            return
        try:
            for tick in ticks(self.trigger, utc(us)):
                yield epoch_us(tick)
        except SearchTooLong as exc:
            self.reached = epoch_us(exc.reached)
        except Exception as exc:
            self.failure = exc

    def counted(self, first: int, upto: int) -> Counted:
        """Return the ticks from *first*, which is one, up to *upto*, which is not before it: at most COUNTED of them.

        The last answer is kept, and gone on from: many tasks may have one rule, and have missed the same.
        """
        number, last, following = 1, first, FOREVER
        kept = self._counted
        if kept is not None and kept.first == first and kept.last <= upto:
            if upto < kept.following or kept.number == COUNTED:
                return kept._replace(more=upto >= kept.following)
            number, last = kept.number, kept.last
        for tick in self.ticks(last):
            following = tick
            if tick > upto or number == COUNTED:
                break
            number, last, following = number + 1, tick, FOREVER
        found = Counted(first, number, following <= upto, last, following)
        if following < FOREVER:
            self._counted = found
        return found


class Passed(NamedTuple):
    """The ticks from one on that are due by now."""

    number: int
    more: bool
    """Whether there are more than that: they were not all counted."""
    last: int
    gap: int
    """From the last one to the next one of the rule."""
    following: int
    """The first tick that is not due yet; FOREVER if there is none."""


class Grid:
    """The ticks of one task.

    Args:
        spec: Its parameters.
        offset: Wall clock minus steady clock.
        seed: Who it is, for the jitter.
        shared: Every instance has the same ticks, on one wall clock, an interval's too.
    """

    __slots__ = ("offset", "seed", "shared", "spec")

    def __init__(self, spec: Spec, offset: int = 0, seed: tuple[str, str] = ("", ""), *, shared: bool = False) -> None:
        self.spec = spec
        self.offset = offset
        self.seed = seed
        self.shared = shared

    def after(self, moment: int) -> int:
        """Return the first tick after *moment*, which need not be one: of the trigger, or one interval on."""
        spec = self.spec
        if spec.rule is not None:
            return self.clipped(self._asked(moment))
        if spec.trigger is None:
            return self.clipped(moment + spec.gap)
        tick = None if moment + self.offset >= END else spec.trigger.after(utc(moment + self.offset))
        return FOREVER if tick is None else self.clipped(epoch_us(tick) - self.offset)

    def following(self, tick: int) -> int:
        """Return the first tick after *tick*, which is one."""
        return self.clipped(tick + self.spec.gap if self.spec.rule is None else self._asked(tick))

    def before(self, tick: int) -> int:
        """Return the last tick before *tick*, which is not the first one."""
        rule = self.spec.rule
        if rule is None:
            return tick - self.spec.gap
        found = rule.at_or_before(tick + self.offset - 1)
        return tick if found is None else found - self.offset

    def gap(self, tick: int) -> int:
        """Return the distance from *tick*, which is one, to the next one of the rule."""
        if self.spec.rule is None:
            return self.spec.gap
        following = self._asked(tick)
        return FOREVER if following >= FOREVER else following - tick

    def gap_around(self, moment: int) -> int:
        """Return the distance of the ticks before and behind *moment*."""
        rule = self.spec.rule
        if rule is None:
            return self.spec.gap
        last = rule.at_or_before(moment + self.offset)
        return self.gap(moment if last is None else last - self.offset)

    def clipped(self, tick: int) -> int:
        """Return *tick*, or FOREVER if the task, or the calendar, has come to its end before that."""
        until = self.spec.until
        return FOREVER if tick + self.offset > (END if until is None else until) else tick

    def look_again(self, now: int) -> int | None:
        """Return when to ask again what comes after *now*; None if there is nothing, and not only nothing found.

        As far as a search came that was given up, nothing is missed. A new one from half way there comes further.
        """
        rule, until = self.spec.rule, self.spec.until
        if rule is None or rule.reached is None or (until is not None and rule.reached >= until):
            return None
        return now + max(SOON, (rule.reached - self.offset - now) // 2)

    def due(self, tick: int) -> int:
        """Return when *tick* is due: later by its jitter, which always ends before the next tick.

        A hash, so that a run can be explained afterwards, and asking twice gives the same.
        """
        spec = self.spec
        if not spec.jitter or tick >= FOREVER:
            return tick
        label = tick if spec.trigger is None and not self.shared else tick + self.offset
        digest = blake2b(f"{self.seed[0]}\0{self.seed[1]}\0{label}".encode(), digest_size=8).digest()
        gap = self.gap(tick)
        if isinstance(spec.trigger, Every):  # A first tick may stand beside this grid, and nearer to the next one.
            gap -= (tick + self.offset - epoch_us(spec.trigger.anchor)) % gap
        return tick + int.from_bytes(digest) % min(spec.jitter, gap, max(1, END - self.offset - tick))

    def first_due(self, tick: int, moment: int) -> int:
        """Return when, at *moment* or later, a tick is first due; FOREVER if none ever is.

        Args:
            tick: Any tick of the rule.
        """
        spec = self.spec
        if moment >= FOREVER:
            return FOREVER
        if spec.rule is None:
            last: int | None = tick + (moment - tick) // spec.gap * spec.gap
        else:
            last = spec.rule.at_or_before(moment + self.offset)
            last = last if last is None else last - self.offset
        if last is not None and self.clipped(last) == last and self.due(last) >= moment:
            return self.due(last)
        return self.due(self.following(moment if last is None else last))

    def passed(self, first: int, now: int) -> Passed:
        """Return what of the ticks from *first* on, which is due, is due by *now*."""
        spec = self.spec
        upto = now if spec.until is None else min(now, spec.until - self.offset)
        if spec.rule is not None:
            return self._passed_by(spec.rule, first, upto, now)
        number = max(0, upto - first) // spec.gap + 1
        last = first + (number - 1) * spec.gap
        if number > 1 and self.due(last) > now:
            number -= 1
            last -= spec.gap
        return Passed(number, False, last, spec.gap, self.clipped(last + spec.gap))

    def tail(self, first: int, passed: Passed, most: int, since: int) -> Sequence[int]:
        """Return the latest ticks of those that have *passed* from *first* on: at most *most*, none before *since*."""
        rule = self.spec.rule
        if rule is None:
            gap = self.spec.gap
            dropped = min(passed.number, max(0, passed.number - most, -((first - since) // gap)))
            return range(first + dropped * gap, passed.last + 1, gap)
        found: deque[int] = deque(maxlen=most)
        if not passed.more:
            found.append(first)
            for tick in rule.ticks(first + self.offset):
                if tick - self.offset > passed.last:
                    break
                found.append(tick - self.offset)
        else:
            tick = passed.last
            while len(found) < most and tick >= since:
                found.appendleft(tick)
                tick = self.before(tick)
                if tick == found[0]:
                    break
        return [tick for tick in found if tick >= since]

    def _passed_by(self, rule: Rule, first: int, upto: int, now: int) -> Passed:
        offset = self.offset
        sure = max(first, min(upto, now - self.spec.jitter))  # Until here all are due, whatever the jitter of each.
        counted = rule.counted(first + offset, sure + offset)
        number, more, last = counted.number, counted.more, counted.last - offset
        following = counted.following if counted.following >= FOREVER else counted.following - offset
        while not more and following <= upto and self.due(following) <= now:
            if number == COUNTED:
                more = True
            else:
                number, last, following = number + 1, following, self._asked(following)
        if more:
            found = rule.at_or_before(upto + offset)
            last = last if found is None else found - offset
            if self.due(last) > now:
                last = self.before(last)
            following = self._asked(last)
        gap = FOREVER if following >= FOREVER else following - last
        return Passed(number, more, last, gap, self.clipped(following))

    def _asked(self, moment: int) -> int:
        rule = self.spec.rule
        tick = FOREVER if rule is None or moment >= FOREVER else rule.after(moment + self.offset)
        return tick if tick >= FOREVER else tick - self.offset


def in_words(spec: Spec) -> str:
    """Return the rule of *spec* for a log line."""
    until = "" if spec.until is None else f" until {utc(spec.until).isoformat()}"
    return f"{spec.trigger or f'every {spec.gap / 1e6:.15g} s'}{until}"
