"""Who is told: the log, and the listeners. Both hear of a tick after its record is kept; neither can harm a run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from ._clock import utc
from ._entry import FAILING, SHARED, Entry
from ._functions import is_async, is_generator
from ._model import Outcome, Reason, Run
from ._record import NEVER, Record
from ._words import described, shown
from .errors import InvalidArgument

log = logging.getLogger("kaiju_app.scheduler")

TOO_LATE = "the loop has too much to do"
ALL_TOO_LATE = f"no instance was there for them, or the store was not, or {TOO_LATE}"

QUIET = 60_000_000  # A message that repeats itself comes once a minute, with a count: a log is read by people.

Listener = Callable[[Run], object]


def never_runs(entry: Entry, rule: str, now: datetime) -> None:
    """Say that the *rule* of a task that begins, or begins anew, has no tick to come."""
    log.warning(
        "task %r has no tick after %s and does not run: %s; remove it, or give it a later time", entry.name, now, rule
    )


class _Repeated:
    """One message that may come again and again."""

    __slots__ = ("count", "said", "since")

    def __init__(self, now: int) -> None:
        self.since = now
        self.said = now - QUIET
        self.count = 0

    def due(self, now: int) -> bool:
        """Count one more; return whether it is time to say so."""
        self.count += 1
        if now - self.said < QUIET:
            return False
        self.said = now
        return True


class Events:
    """Tells the log and the listeners of one scheduler how ticks ended.

    Args:
        instance: Identity of the scheduler, for the records.
    """

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self._listeners: list[tuple[Listener]] = []
        self._repeated: dict[object, _Repeated] = {}
        self.hushed = False
        """Missed ticks are about to be told by their cause."""

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call *listener* with every Run from now on; return a function that ends this.

        Raises:
            InvalidArgument: *listener* is not a plain function.
        """
        if not callable(listener) or is_async(listener) or is_generator(listener):
            raise InvalidArgument(
                "listener", listener, "must be a plain function; start an asyncio task in it for what takes long"
            )
        handle = (listener,)  # Identity: the same function may be subscribed twice, and each time ended by itself.
        self._listeners = [*self._listeners, handle]

        def unsubscribe() -> None:
            self._listeners = [other for other in self._listeners if other is not handle]
            self._repeated.pop(id(handle), None)

        return unsubscribe

    def are_wanted(self) -> bool:
        """Return whether anybody wants to hear of a plain success; the level of the log may change any time."""
        return bool(self._listeners) or log.isEnabledFor(logging.DEBUG)

    def forget(self, entry: Entry) -> None:
        """Drop what is remembered of a task that is gone."""
        self._repeated.pop(entry, None)
        self._repeated.pop((entry, "rule"), None)

    def ended(self, entry: Entry, record: Record, exc: BaseException | None, now: int) -> None:
        """Tell that a run ended."""
        outcome, reason = record.outcome, record.reason
        if outcome is Outcome.SUCCEEDED:
            self._succeeded(entry, record, now)
        elif reason in (Reason.SHUTDOWN, Reason.REQUESTED):
            log.info("%s: %s", _subject(entry, record), _what(record))
        else:
            self._failed(entry, record, exc, now)
        self._tell(entry, record, now)

    def skipped(self, entry: Entry, record: Record, opened: bool, now: int) -> None:
        """Tell that ticks were skipped; listeners hear of the opening of a record, ``closed()`` tells them its end."""
        reason = record.reason
        if reason is Reason.MISSED or reason is Reason.BACKLOG:
            # For the scheduler, not for each task: what blocks the loop makes all of them late.
            repeated = self._repeat(reason, now)
            if not self.hushed and repeated.due(now):
                log.warning(
                    "%s: skipped (%s) with %d tick(s); %d time(s) in %.3g s, for any task. They could not run in time: "
                    "%s",
                    _subject(entry, record), reason.value, record.number, repeated.count, (now - repeated.since) / 1e6,
                    ALL_TOO_LATE if entry.flags & SHARED else TOO_LATE,
                )  # fmt: skip
        elif opened:
            why = "" if record.error is None else f": {record.error}"
            log.debug("%s: skipped (%s)%s", _subject(entry, record), reason, why)
        if opened:
            self._tell(entry, record, now)

    def closed(self, entry: Entry, record: Record, now: int) -> None:
        """Tell the listeners the last and the number of a record of skips that something else follows."""
        self._tell(entry, record, now)

    def bad_rule(self, entry: Entry, failure: Exception, now: int) -> None:
        """Tell that the trigger of *entry* raised, or said what cannot be."""
        if self._repeat((entry, "rule"), now).due(now):
            log.error(
                "task %r: its trigger, %s, does not say when it runs: %s. It is asked again every minute",
                entry.name, shown(entry.spec.trigger), described(failure), exc_info=failure,
            )  # fmt: skip

    def _succeeded(self, entry: Entry, record: Record, now: int) -> None:
        if entry.flags & FAILING:
            entry.flags &= ~FAILING
            failures = self._repeated.pop(entry, None)
            if failures is not None:
                log.info(
                    "%s: succeeded again after %d run(s) that did not, in %.3g s",
                    _subject(entry, record), failures.count, (now - failures.since) / 1e6,
                )  # fmt: skip
        log.debug("%s: %s", _subject(entry, record), _what(record))

    def _failed(self, entry: Entry, record: Record, exc: BaseException | None, now: int) -> None:
        entry.flags |= FAILING
        failures = self._repeat(entry, now)
        if not failures.due(now):
            return
        if failures.count == 1:
            log.error("%s: %s; the schedule goes on", _subject(entry, record), _what(record), exc_info=exc)
            return
        log.error(
            "%s: %s; %d runs in a row did not succeed, for %.3g s",
            _subject(entry, record), _what(record), failures.count, (now - failures.since) / 1e6,
        )  # fmt: skip

    def _tell(self, entry: Entry, record: Record, now: int) -> None:
        if not self._listeners:
            return
        run = record.run(entry.name, self.instance)
        for handle in self._listeners:
            listener = handle[0]
            try:
                listener(run)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # A listener's bug must not stop the scheduler, nor look like a cancellation.
                if self._repeat(id(handle), now).due(now):
                    log.exception(
                        "listener %s raised for task %r, tick %s; it is called again for the next one",
                        shown(listener), entry.name, run.scheduled_at.isoformat(),
                    )  # fmt: skip

    def _repeat(self, key: object, now: int) -> _Repeated:
        repeated = self._repeated.get(key)
        if repeated is None:
            repeated = self._repeated[key] = _Repeated(now)
        return repeated


def _subject(entry: Entry, record: Record) -> str:
    return f"task {entry.name!r}, tick {utc(record.first + record.offset).isoformat()}"


def _what(record: Record) -> str:
    text = record.outcome.value if record.reason is None else f"{record.outcome.value} ({record.reason.value})"
    if record.started != NEVER:
        text += f" after {(record.finished - record.started) / 1e6:.3g} s"
    if record.attempts > 1:
        text += f" and {record.attempts} attempts"
    return text if record.error is None else f"{text}: {record.error}"
