"""Metrics for Prometheus; needs the extra ``[prometheus]``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from kaiju_app.scheduler import Scheduler

from ._measures import Histogram, Measures

MAX_TASKS = 100


class SchedulerCollector(Collector):
    """The metrics of one scheduler: ``REGISTRY.register(SchedulerCollector(scheduler))``.

    It counts from its creation on, before or after the start of the scheduler, and may be scraped in any thread.

    * ``kaiju_task_runs_total{task,outcome}``, ``kaiju_task_skips_total{task,reason}``
    * ``kaiju_task_run_duration_seconds{task}``, ``kaiju_task_lateness_seconds{task}``: histograms
    * ``kaiju_task_last_success_timestamp_seconds{task}``, ``kaiju_task_next_run_timestamp_seconds{task}``
    * ``kaiju_task_running{task}``, ``kaiju_task_held{task}``, ``kaiju_task_overdue{task}``: 1 or 0
    * ``kaiju_loop_lag_seconds{quantile}``: of the last minute, for 0.5, 0.99 and 1, the maximum
    * ``kaiju_store_up``: 1 or 0; only with a store

    Args:
        scheduler: Each scheduler of a process needs a registry of its own.
        max_tasks: How many tasks have a label of their own, at most: the first ones. The others have the label
            ``(other tasks)`` together, with counters, histograms, and the number of those that are overdue.

    Raises:
        InvalidArgument: An argument is wrong.
    """

    def __init__(self, scheduler: Scheduler, *, max_tasks: int = MAX_TASKS) -> None:
        self._measures = Measures(scheduler, max_tasks)

    def close(self) -> None:
        """Count no more."""
        self._measures.close()

    def describe(self) -> Iterable[Metric]:
        """Return nothing: a registry need not ask for metrics to know their names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        runs = CounterMetricFamily("kaiju_task_runs", "Runs by outcome.", labels=["task", "outcome"])
        skips = CounterMetricFamily("kaiju_task_skips", "Ticks that did not run.", labels=["task", "reason"])
        durations = HistogramMetricFamily("kaiju_task_run_duration_seconds", "From start to end.", labels=["task"])
        lateness = HistogramMetricFamily("kaiju_task_lateness_seconds", "From due to start.", labels=["task"])
        success = GaugeMetricFamily("kaiju_task_last_success_timestamp_seconds", "End of it.", labels=["task"])
        following = GaugeMetricFamily("kaiju_task_next_run_timestamp_seconds", "When it is due.", labels=["task"])
        running = GaugeMetricFamily("kaiju_task_running", "Whether a run is in progress.", labels=["task"])
        held = GaugeMetricFamily("kaiju_task_held", "Whether it is suspended, paused or disabled.", labels=["task"])
        self._measures.sweep()
        for name, series, task in self._measures.series():
            label = _fit(name)
            for outcome, number in list(series.runs.items()):
                runs.add_metric([label, outcome.value], number)
            for reason, number in list(series.skips.items()):
                skips.add_metric([label, reason.value], number)
            _add(durations, label, series.durations)
            _add(lateness, label, series.latenesses)
            if task is None:
                continue
            if series.last_success is not None:
                success.add_metric([label], series.last_success.timestamp())
            if (next_run_at := task.next_run_at) is not None:
                following.add_metric([label], next_run_at.timestamp())
            running.add_metric([label], task.running)
            held.add_metric([label], task.suspended or not task.enabled)
        yield from (runs, skips, durations, lateness, success, following, running, held)
        overdue = GaugeMetricFamily("kaiju_task_overdue", "No success as soon as expected.", labels=["task"])
        for label, number in self._measures.overdue().items():
            overdue.add_metric([_fit(label)], number)
        yield overdue
        yield from self._of_scheduler()

    def _of_scheduler(self) -> Iterator[Metric]:
        scheduler = self._measures.scheduler
        lag = GaugeMetricFamily("kaiju_loop_lag_seconds", "Lateness of timers, last minute.", labels=["quantile"])
        if (told := scheduler.loop_lag) is not None:
            for quantile, value in (("0.5", told.p50_s), ("0.99", told.p99_s), ("1", told.max_s)):
                lag.add_metric([quantile], value)
        yield lag
        store_up = scheduler.health().store_up
        if store_up is not None:
            yield GaugeMetricFamily("kaiju_store_up", "Whether the store answers.", value=store_up)


def _fit(label: str) -> str:
    """Return *label* as it can be encoded: a lone surrogate in the name of a task must not spoil the whole answer."""
    return label.encode("utf-8", "backslashreplace").decode()


def _add(family: HistogramMetricFamily, label: str, histogram: Histogram) -> None:
    totals = accumulate(list(histogram.counts))
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    family.add_metric([label], buckets=list(zip(bounds, totals, strict=True)), sum_value=histogram.sum)
