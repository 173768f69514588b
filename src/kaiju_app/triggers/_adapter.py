"""One trigger, asked in integers: what it raises is part of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple, cast

from kaiju_app._core.clock import BEGINNING, END, NEVER, epoch_us, utc
from kaiju_app._core.exceptions import is_a
from kaiju_app.errors import SearchTooLong

from ._base import BaseTrigger

MAX_COUNTED = 10_000  # Due ticks are counted one by one up to here; beyond that the answer is only "more".
SEARCH_PAUSE = 1_000_000  # A stopped search blocked the loop for long: wait at least a second before the next one.


class Found(NamedTuple):
    """The tick that was asked for, or why there is none; in microseconds.

    Attributes:
        tick: NEVER if there is none, or if it could not be found.
        error: What the trigger raised; None if it answered.
        searched_to: How far the search for the next tick came before it was stopped; None if it was not stopped.
    """

    tick: int
    error: BaseException | None = None
    searched_to: int | None = None

    def search_again_at(self, now: int) -> int | None:
        """Return when to repeat a search that was stopped; None if the answer is final.

        There is no tick before ``searched_to``, so nothing is missed. A search that starts halfway there comes further.
        """
        if self.searched_to is None:
            return None
        return now + max(SEARCH_PAUSE, (self.searched_to - now) // 2)


NOT_FOUND = Found(NEVER)


class DueTicks(NamedTuple):
    """The ticks from a given one up to now; in microseconds."""

    number: int
    """At most MAX_COUNTED, unless the gap never changes."""
    more: bool
    """Whether there are more than ``number``."""
    last: int
    gap: int
    """From the last one to the next tick of the rule; NEVER if there is none."""
    next: Found
    """The first tick that is not due yet."""


class TriggerAdapter:
    """A trigger asked in microseconds since the epoch. Equal tasks share one.

    Args:
        trigger: Any trigger: it may raise anything.
    """

    __slots__ = ("_counted", "trigger")

    def __init__(self, trigger: BaseTrigger) -> None:
        self.trigger = trigger
        self._counted: tuple[int, DueTicks] | None = None  # A memo: it changes no answer.

    def next_after(self, us: int) -> Found:
        """Return the first tick strictly later than *us*."""
        if us >= END:
            return NOT_FOUND
        return _found(lambda: self.trigger.after(utc(us)))

    def one_off_in(self, after: int, until: int) -> Found:
        """Return the first tick later than *after*, up to *until*, that is a moment of an ``At``."""
        return _found(lambda: self.trigger.one_off_in(utc(max(after, BEGINNING)), utc(min(until, END))))

    def at_or_before(self, us: int) -> Found:
        """Return the last tick not later than *us*."""
        if us < BEGINNING:
            return NOT_FOUND
        return _found(lambda: self.trigger.at_or_before(utc(min(us, END))))

    def ticks(self, us: int) -> Iterator[Found]:
        """Yield the ticks strictly later than *us*; the last item, whose tick is NEVER, says why no more were found."""
        found, coming = NOT_FOUND, None
        while us < END:
            try:  # Not around the yield: whoever stops asking closes this generator there.
                coming = iter(self.trigger.ticks(utc(us))) if coming is None else coming
                tick = next(coming, None)
                found = NOT_FOUND if tick is None else Found(epoch_us(tick))
            except BaseException as exc:
                found = _failed(exc)
            if found.tick >= NEVER:
                break
            yield found
        yield found

    def due_ticks(self, first: int, upto: int) -> DueTicks:
        """Return the ticks from *first*, which is one, up to *upto*, which is not before it.

        The last answer is kept and continued: many tasks may share a rule and have missed the same ticks.
        """
        number, last = 1, first
        if self._counted is not None and self._counted[0] == first and self._counted[1].last <= upto:
            kept = self._counted[1]
            if upto < kept.next.tick or kept.number == MAX_COUNTED:
                return kept._replace(more=upto >= kept.next.tick)
            number, last = kept.number, kept.last
        following = NOT_FOUND
        for following in self.ticks(last):
            if following.tick > upto or number == MAX_COUNTED:
                break
            number, last = number + 1, following.tick
        found = DueTicks(number, following.tick <= upto, last, gap_to(following, last), following)
        if following.tick < NEVER:
            self._counted = first, found
        return found


def gap_to(following: Found, tick: int) -> int:
    """Return the gap from *tick* to the *following* one; NEVER if there is none."""
    return NEVER if following.tick >= NEVER else following.tick - tick


def _found(ask: Callable[[], datetime | None]) -> Found:
    try:
        tick = ask()
        return NOT_FOUND if tick is None else Found(epoch_us(tick))
    except BaseException as exc:
        return _failed(exc)


def _failed(exc: BaseException) -> Found:
    if is_a(exc, (KeyboardInterrupt, SystemExit)):
        raise exc
    if is_a(exc, SearchTooLong):
        return Found(NEVER, searched_to=epoch_us(cast("SearchTooLong", exc).reached))
    return Found(NEVER, exc)
