"""The ticks of one task as integers: on the steady clock, given how far the wall clock is from it.

A rule whose gap never changes is computed. Any other rule is searched tick by tick, with a bounded number of steps for
one answer, however much time has passed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from kaiju_app._core.clock import END, NEVER, epoch_us, utc
from kaiju_app._core.text import hash_of

from ._adapter import MAX_COUNTED, NOT_FOUND, DueTicks, Found, TriggerAdapter, gap_to
from ._base import Trigger
from ._every import Every

HASHES = 2**64  # How many hashes of eight bytes there are.


class Parameters(Protocol):
    """The parameters of a task that decide its ticks; durations are microseconds. See ``TaskSpec``."""

    @property
    def trigger(self) -> Trigger | None: ...
    @property
    def rule(self) -> TriggerAdapter | None: ...
    @property
    def gap(self) -> int: ...
    @property
    def jitter(self) -> int: ...
    @property
    def until(self) -> int | None: ...


P = TypeVar("P", bound=Parameters)


class Timeline(ABC, Generic[P]):
    """The ticks of one task.

    Args:
        spec: Its parameters.
        offset: Wall clock minus steady clock.
        seed: Identity of the instance and name of the task; the jitter depends on both.
        shared: All instances have the same ticks, on one wall clock, even for an interval.
    """

    __slots__ = ("offset", "seed", "shared", "spec")

    def __init__(self, spec: P, offset: int, seed: tuple[str, str], shared: bool) -> None:
        self.spec = spec
        self.offset = offset
        self.seed = seed
        self.shared = shared

    @abstractmethod
    def next_after(self, moment: int) -> Found:
        """Return the first tick after *moment*, which need not be a tick; of an interval, one interval later."""

    @abstractmethod
    def next_of_rule(self, tick: int) -> Found:
        """Return the tick of the rule that follows *tick*, even if the task ends before it."""

    @abstractmethod
    def before(self, tick: int) -> Found:
        """Return the last tick before *tick*, which is not the first one; *tick* itself if none was found."""

    @abstractmethod
    def gap_around(self, moment: int) -> int:
        """Return the distance between the last tick until *moment* and the next one."""

    @abstractmethod
    def due_ticks(self, first: int, now: int) -> DueTicks:
        """Return the ticks from *first*, which is due, that are due by *now*."""

    @abstractmethod
    def latest(self, first: int, due: DueTicks, most: int, since: int) -> Sequence[int]:
        """Return the latest of the *due* ticks, which begin with *first*: at most *most*, none before *since*."""

    def one_off_in(self, after: int, until: int) -> Found:
        """Return the first tick later than *after*, up to *until*, that is a moment of an ``At``."""
        return NOT_FOUND

    def next_after_tick(self, tick: int) -> Found:
        """Return the tick of the task that follows *tick*."""
        return self._clipped(self.next_of_rule(tick))

    def gap(self, tick: int) -> int:
        """Return the distance from *tick* to the next tick of the rule; NEVER if there is none."""
        return gap_to(self.next_of_rule(tick), tick)

    def clipped(self, tick: int) -> int:
        """Return *tick*, or NEVER if the task or the calendar ends before it."""
        until = self.spec.until
        return NEVER if tick + self.offset > (END if until is None else until) else tick

    def due(self, tick: int) -> int:
        """Return when *tick* is due: later by its jitter, which always ends before the next tick.

        The jitter is a hash: a run can be explained afterwards, and asking twice gives the same answer.
        """
        spec = self.spec
        if not spec.jitter or tick >= NEVER:
            return tick
        before_the_end = max(1, END - self.offset - tick)
        return tick + self._hash(tick) % min(spec.jitter, self._distance_to_rule(tick), before_the_end)

    def chance(self, tick: int, attempt: int) -> float:
        """Return a number from 0 to 1, a hash as in ``due()``, for the pause after an *attempt* at *tick*."""
        return self._hash(tick, f"\0{attempt}") / HASHES

    def _hash(self, tick: int, more: str = "") -> int:
        # The ticks of a local interval live on the steady clock, all others on the wall clock.
        label = tick if self.spec.trigger is None and not self.shared else tick + self.offset
        return hash_of(f"{self.seed[0]}\0{self.seed[1]}\0{label}{more}")

    def first_due(self, tick: int, moment: int) -> int:
        """Return when, at *moment* or later, a tick is first due; NEVER if none ever is.

        Args:
            tick: Any tick of the rule.
        """
        if moment >= NEVER:
            return NEVER
        last = self._last_until(moment, tick)
        if last is not None and self.clipped(last) == last and (due := self.due(last)) >= moment:
            return due
        return self.due(self.next_after_tick(moment if last is None else last).tick)

    @abstractmethod
    def _distance_to_rule(self, tick: int) -> int:
        """Return the distance from *tick*, which may be an extra first one, to the next tick of the rule."""

    @abstractmethod
    def _last_until(self, moment: int, tick: int) -> int | None:
        """Return the last tick until *moment* of the rule that has this *tick*; None if none was found."""

    def _clipped(self, found: Found) -> Found:
        return found if self.clipped(found.tick) == found.tick else NOT_FOUND


class EvenTimeline(Timeline[P]):
    """The ticks of an interval or an ``Every``: they are computed."""

    __slots__ = ()

    def next_after(self, moment: int) -> Found:
        trigger = self.spec.trigger
        if trigger is None:
            return self.next_after_tick(moment)
        tick = None if moment + self.offset >= END else trigger.after(utc(moment + self.offset))
        return NOT_FOUND if tick is None else Found(self.clipped(epoch_us(tick) - self.offset))

    def next_of_rule(self, tick: int) -> Found:
        return Found(tick + self.spec.gap)

    def next_after_tick(self, tick: int) -> Found:
        return Found(self.clipped(tick + self.spec.gap))

    def before(self, tick: int) -> Found:
        return Found(tick - self.spec.gap)

    def gap(self, tick: int) -> int:
        return self.spec.gap

    def gap_around(self, moment: int) -> int:
        return self.spec.gap

    def due_ticks(self, first: int, now: int) -> DueTicks:
        spec = self.spec
        upto = now if spec.until is None else min(now, spec.until - self.offset)
        number = max(0, upto - first) // spec.gap + 1
        last = first + (number - 1) * spec.gap
        if number > 1 and self.due(last) > now:
            number -= 1
            last -= spec.gap
        return DueTicks(number, False, last, spec.gap, self.next_after_tick(last))

    def latest(self, first: int, due: DueTicks, most: int, since: int) -> Sequence[int]:
        gap = self.spec.gap
        dropped = min(due.number, max(0, due.number - most, -((first - since) // gap)))
        return range(first + dropped * gap, due.last + 1, gap)

    def _distance_to_rule(self, tick: int) -> int:
        gap, trigger = self.spec.gap, self.spec.trigger
        if not isinstance(trigger, Every):
            return gap
        return gap - (tick + self.offset - epoch_us(trigger.anchor)) % gap

    def _last_until(self, moment: int, tick: int) -> int:
        return tick + (moment - tick) // self.spec.gap * self.spec.gap


class SearchedTimeline(Timeline[P]):
    """The ticks of any other trigger: they are searched one by one."""

    __slots__ = ("_rule",)

    def __init__(self, spec: P, rule: TriggerAdapter, offset: int, seed: tuple[str, str], shared: bool) -> None:
        super().__init__(spec, offset, seed, shared)
        self._rule = rule

    def next_after(self, moment: int) -> Found:
        return self.next_after_tick(moment)

    def next_of_rule(self, tick: int) -> Found:
        return NOT_FOUND if tick >= NEVER else self._on_steady_clock(self._rule.next_after(tick + self.offset))

    def one_off_in(self, after: int, until: int) -> Found:
        return self._clipped(self._on_steady_clock(self._rule.one_off_in(after + self.offset, until + self.offset)))

    def before(self, tick: int) -> Found:
        found = self._on_steady_clock(self._rule.at_or_before(tick + self.offset - 1))
        return found._replace(tick=tick) if found.tick >= NEVER else found

    def gap_around(self, moment: int) -> int:
        last = self._last_until(moment, moment)
        return self.gap(moment if last is None else last)

    def due_ticks(self, first: int, now: int) -> DueTicks:
        spec, offset = self.spec, self.offset
        upto = now if spec.until is None else min(now, spec.until - offset)
        certain = max(first, min(upto, now - spec.jitter))  # Until here all are due, whatever the jitter of each.
        counted = self._rule.due_ticks(first + offset, certain + offset)
        number, more, last = counted.number, counted.more, counted.last - offset
        following = self._on_steady_clock(counted.next)
        while not more and following.tick <= upto and self.due(following.tick) <= now:
            if number == MAX_COUNTED:
                more = True
            else:
                number, last, following = number + 1, following.tick, self.next_of_rule(following.tick)
        if more:
            last, following = self._last_due(last, upto, now)
        return DueTicks(number, more, last, gap_to(following, last), self._clipped(following))

    def _last_due(self, last: int, upto: int, now: int) -> tuple[int, Found]:
        """Return the last tick until *upto* that is due by *now*, and the one after it; *last* if none is found."""
        found = self._on_steady_clock(self._rule.at_or_before(upto + self.offset))
        last = last if found.tick >= NEVER else found.tick
        if self.due(last) > now:
            last = self.before(last).tick
        following = self.next_of_rule(last)
        return last, following if following.error is not None else following._replace(error=found.error)

    def latest(self, first: int, due: DueTicks, most: int, since: int) -> Sequence[int]:
        found: deque[int] = deque(maxlen=most)
        if not due.more:
            found.append(first)
            for each in self._rule.ticks(first + self.offset):
                if each.tick - self.offset > due.last:
                    break
                found.append(each.tick - self.offset)
        else:
            tick = due.last
            while len(found) < most and tick >= since:
                found.appendleft(tick)
                tick = self.before(tick).tick
                if tick == found[0]:
                    break
        return [tick for tick in found if tick >= since]

    def _distance_to_rule(self, tick: int) -> int:
        return self.gap(tick)

    def _last_until(self, moment: int, tick: int) -> int | None:
        last = self._on_steady_clock(self._rule.at_or_before(moment + self.offset))
        return None if last.tick >= NEVER else last.tick

    def _on_steady_clock(self, found: Found) -> Found:
        """Return what was *found* on the steady clock; a search that came to the end of the task is complete."""
        if found.tick < NEVER:
            return Found(found.tick - self.offset)
        until, reached = self.spec.until, found.searched_to
        if reached is None:
            return found
        return NOT_FOUND if until is not None and reached >= until else Found(NEVER, None, reached - self.offset)


def timeline_of(spec: P, offset: int = 0, seed: tuple[str, str] = ("", ""), *, shared: bool = False) -> Timeline[P]:
    """Return the ticks of a task; the arguments are those of ``Timeline``."""
    if spec.rule is None:
        return EvenTimeline(spec, offset, seed, shared)
    return SearchedTimeline(spec, spec.rule, offset, seed, shared)


def describe(spec: Parameters) -> str:
    """Return the rule of *spec* for a log line."""
    until = "" if spec.until is None else f" until {utc(spec.until).isoformat()}"
    return f"{spec.trigger or f'every {spec.gap / 1e6:.15g} s'}{until}"
