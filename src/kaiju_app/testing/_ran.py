"""Assertions about what a task did, whose failures show its ledger."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Self

from kaiju_app._core.validate import aware, integer
from kaiju_app.errors import InvalidArgument, WrongState
from kaiju_app.scheduler import Outcome, Reason, Run

from ._ledger import Told, ledger

MOST_NAMED = 5
NOT_RUNS = (Outcome.SKIPPED, Outcome.LOST)


def ran(task: Told) -> Ran:
    """Return assertions about the runs of *task* that have ended, whatever their outcome.

    Of a ``ScheduledTask`` they are those of this process, of what ``Cluster.task()`` returns those of all instances.

    They can be chained: ``ran(task).times(24).never_overlapped()``.
    """
    return Ran(task)


class Ran:
    """Assertions about what became of the ticks of a task. Each returns this object, so that they can be chained."""

    def __init__(self, task: Told) -> None:
        self._task = task

    def times(self, number: int, outcome: Outcome | None = None) -> Self:
        """Assert that exactly *number* runs have ended with *outcome*; None: with any outcome.

        Raises:
            AssertionError: There were more or fewer.
            InvalidArgument: *number* is not an integer of at least 0.
        """
        __tracebackhide__ = True
        integer("number", number, at_least=0)
        counts = self._task.counts
        found = sum(counts[each] for each in Outcome if each not in NOT_RUNS) if outcome is None else counts[outcome]
        how = "ran" if outcome is None else f"has {outcome.value}"
        self._check(found == number, f"{how} {_times(found)}, not {_times(number)}")
        return self

    def at(self, *moments: datetime) -> Self:
        """Assert that the runs are those of the ticks at *moments*, in this order, and no others.

        Args:
            moments: Aware datetimes, in any time zone.

        Raises:
            AssertionError: A run is missing, or there is one too many.
            InvalidArgument: A moment is naive.
            WrongState: The history does not go back far enough.
        """
        __tracebackhide__ = True
        expected = [aware("moments", moment) for moment in moments]
        found = [run.scheduled_at for run in self._runs()]
        missing = _named([each for each in expected if each not in found])
        needless = _named([each for each in found if each not in expected])
        texts = [f"did not run at {missing}"] if missing else []
        texts += [f"also ran at {needless}"] if needless else []
        self._check(
            found == expected, " and ".join(texts) or f"ran in another order, or more than once: {_named(found)}"
        )
        return self

    def never_overlapped(self) -> Self:
        """Assert that each run had ended before the next one started.

        Raises:
            AssertionError: Two runs were in progress at the same time.
            WrongState: The history does not go back far enough.
        """
        __tracebackhide__ = True
        runs = sorted(self._runs(), key=_started)
        for run, following in pairwise(runs):
            self._check(
                run.finished_at is not None and run.finished_at <= _started(following),
                f"was still running its tick of {run.scheduled_at} when that of {following.scheduled_at} started",
            )
        return self

    def skipped(self, reason: Reason | str, times: int | None = None) -> Self:
        """Assert that *times* ticks were skipped for *reason*; None: at least one.

        Raises:
            AssertionError: No tick was, or another number of them.
            InvalidArgument: There is no such reason.
            WrongState: The history does not go back far enough.
        """
        __tracebackhide__ = True
        try:
            reason = Reason(reason)
        except ValueError:
            known = ", ".join(repr(each.value) for each in Reason)
            raise InvalidArgument("reason", reason, f"must be one of {known}") from None
        found = sum(each.count for each in self._records() if each.outcome is Outcome.SKIPPED and each.reason is reason)
        wanted = "at least once" if times is None else _times(times)
        self._check(
            found > 0 if times is None else found == times,
            f"was skipped {_times(found)} ({reason.value}), not {wanted}",
        )
        return self

    def _runs(self) -> list[Run]:
        return [run for run in self._records() if run.outcome not in NOT_RUNS]

    def _records(self) -> list[Run]:
        """Return all records, or refuse if some are lost."""
        records, total = self._task.history(), sum(self._task.counts.values())
        kept = sum(record.count for record in records)
        if kept < total:
            raise WrongState(
                f"task {self._task.name!r}: its history has {kept} of {total} ticks: write Scheduler(history=10_000) "
                "for the test, or check sooner"
            )
        return records

    def _check(self, fits: bool, text: str) -> None:
        __tracebackhide__ = True
        if not fits:
            raise AssertionError(f"task {self._task.name!r} {text}\n{ledger(self._task)}")


def _started(run: Run) -> datetime:
    return run.due if run.started_at is None else run.started_at


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _named(moments: list[datetime]) -> str:
    shown = ", ".join(str(each) for each in moments[:MOST_NAMED])
    return shown + (f" and {len(moments) - MOST_NAMED} more" if len(moments) > MOST_NAMED else "")
