"""What is counted of the endings of one scheduler's tasks, for those who export it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from threading import Lock
from typing import Any

from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import Outcome, ProblemKind, Reason, Run, ScheduledTask, Scheduler

OTHERS = "(other tasks)"  # The label of tasks without one of their own. Monitoring systems keep each label for long.
DURATIONS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
LATENESSES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0)


def check_arguments(scheduler: Scheduler, max_tasks: int) -> None:
    """Refuse what is no scheduler, or no number of tasks.

    Raises:
        InvalidArgument: One of them is wrong.
    """
    if not isinstance(scheduler, Scheduler):
        raise InvalidArgument("scheduler", scheduler, "must be a Scheduler")
    if isinstance(max_tasks, bool) or not isinstance(max_tasks, int) or max_tasks < 0:
        raise InvalidArgument("max_tasks", max_tasks, "must be an integer of at least 0")


class Histogram:
    """Counts of values by upper bounds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count *value*."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Series:
    """What is known of the tasks with one label.

    Attributes:
        runs: Number of runs by outcome. ``skips``: Number of ticks that did not run, by reason.
        last_success: When the last success ended; None if there was none.
    """

    def __init__(self) -> None:
        self.runs: dict[Outcome, int] = {}
        self.skips: dict[Reason, int] = {}
        self.durations = Histogram(DURATIONS_S)
        self.latenesses = Histogram(LATENESSES_S)
        self.last_success: datetime | None = None


class Measures:
    """Counts the endings of one scheduler's tasks from now on; it may be read in any thread.

    Args:
        max_tasks: How many tasks have a label of their own, at most: the first ones. The others are counted together.

    Raises:
        InvalidArgument: An argument is wrong.
    """

    def __init__(self, scheduler: Scheduler, max_tasks: int) -> None:
        check_arguments(scheduler, max_tasks)
        self.scheduler = scheduler
        self._max_tasks = max_tasks
        self._lock = Lock()
        self._own: dict[str, Series] = {}
        self._others = Series()
        self._gone: set[str] = set()
        self._open: dict[str, tuple[datetime, Reason | None, int]] = {}
        """By task, its open record of skips, and how many of them are counted."""
        self.close = scheduler.subscribe(self._heard)

    def label(self, task: str) -> str:
        """Return the label of a task."""
        return task if task in self._own else OTHERS

    def _heard(self, run: Run) -> None:
        with self._lock:
            series = self._series_of(run.task)
            if run.outcome is Outcome.SKIPPED:
                self._count_skips(run, series)
                return
            series.runs[run.outcome] = series.runs.get(run.outcome, 0) + 1
            if run.duration_s is not None and run.lateness_s is not None:
                series.durations.add(run.duration_s)
                series.latenesses.add(run.lateness_s)
            if run.outcome is Outcome.SUCCEEDED:
                series.last_success = run.finished_at

    def _count_skips(self, run: Run, series: Series) -> None:
        """Count the skips of a record since it was last seen: it is told when it is opened, and when it is closed."""
        first, reason, counted = self._open.pop(run.task, (None, None, 0))
        new = run.count if (first, reason) != (run.scheduled_at, run.reason) else run.count - counted
        if run.reason is not None:
            series.skips[run.reason] = series.skips.get(run.reason, 0) + new
        if run.finished_at is None:
            self._open[run.task] = run.scheduled_at, run.reason, run.count

    def _series_of(self, task: str) -> Series:
        if task not in self._own:
            self._adopt(task)
        return self._own.get(task, self._others)

    def _adopt(self, *more: str) -> None:
        """Give labels to the tasks that the scheduler has, in their order, and to *more*, as far as there are any."""
        if len(self._own) >= self._max_tasks:
            return
        for name in chain(self.scheduler.tasks, more):
            if name not in self._own and name != OTHERS:
                self._own[name] = Series()
                if len(self._own) >= self._max_tasks:
                    return

    # --- what is exported ---

    def series(self) -> Iterator[tuple[str, Series, ScheduledTask[Any] | None]]:
        """Yield each label, what is known of it, and the task that has it; None if that is gone, and for the others."""
        tasks = self.scheduler.tasks
        with self._lock:
            self._adopt()
        for name, series in list(self._own.items()):
            task = tasks.get(name)
            self._count_open_skips(name, series, task)
            if task is None:
                self._gone.add(name)
            yield name, series, task
        yield OTHERS, self._others, None

    def sweep(self) -> None:
        """Drop what ``series()`` has shown of removed tasks: their last runs had to be exported first."""
        with self._lock:
            for name in [each for each in self._gone if each not in self.scheduler.tasks]:
                self._own.pop(name, None)
                self._open.pop(name, None)
            self._gone.clear()

    def _count_open_skips(self, name: str, series: Series, task: ScheduledTask[Any] | None) -> None:
        record = None if task is None or name not in self._open else task.last_run
        with self._lock:
            if record is not None and self._open.get(name, ())[:2] == (record.scheduled_at, record.reason):
                self._count_skips(record, series)

    def overdue(self) -> dict[str, int]:
        """Return the number of overdue tasks by label; 0 for a task of which a success is expected in time."""
        late = [each.task for each in self.scheduler.health().problems if each.kind is ProblemKind.OVERDUE]
        numbers = {OTHERS: 0}
        for name in list(self._own):
            task = self.scheduler.tasks.get(name)
            if task is not None and task.expect_success_within_s is not None:
                numbers[name] = 0
        for task_name in late:
            label = self.label(task_name or "")
            numbers[label] = numbers.get(label, 0) + 1
        return numbers
