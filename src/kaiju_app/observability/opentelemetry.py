"""Traces and metrics for OpenTelemetry; needs the extra ``[opentelemetry]``, and an SDK that sends them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
from opentelemetry.trace import Link, Span, Status, StatusCode, TracerProvider

from kaiju_app.scheduler import CurrentRun, Outcome, Run, ScheduledTask, Scheduler

from ._measures import DURATIONS_S, LATENESSES_S, Measures, Series, check_arguments

NAME = "kaiju_app"
MAX_TASKS = 100
ERRORS = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.LOST)

Observe = Callable[[CallbackOptions], Iterator[Observation]]


class SchedulerTelemetry:
    """Traces the runs of one scheduler from now on, and measures them where a meter provider is given.

    Each run is a trace of its own: a span with the attributes ``task``, ``tick``, ``run_id``, ``attempt``, ``outcome``
    and ``reason``. It is the current span inside the run, so that those of the function are its children. What the
    function raised is recorded. A run that a local ``run_now()`` has asked for has a link to the span that was current
    there.

    The metrics have the names that those for Prometheus have.

    Args:
        tracer_provider: By default the global one.
        meter_provider: None for no metrics.
        max_tasks: How many tasks have metrics of their own, at most: the first ones. The others are counted together.

    Raises:
        InvalidArgument: An argument is wrong.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        max_tasks: int = MAX_TASKS,
    ) -> None:
        check_arguments(scheduler, max_tasks)
        self._tracer = trace.get_tracer(NAME, tracer_provider=tracer_provider)
        self._spans: dict[str, Span] = {}
        self._ends: list[Callable[[], None]] = []
        if meter_provider is not None:
            self._ends.append(Metrics(meter_provider.get_meter(NAME), Measures(scheduler, max_tasks)).close)
        self._ends += scheduler.subscribe_starts(self._began), scheduler.subscribe(self._ended)

    def close(self) -> None:
        """Trace and count no more; runs in progress have a span without an outcome."""
        while self._ends:
            self._ends.pop()()
        while self._spans:
            self._spans.popitem()[1].end()

    def _began(self, run: CurrentRun) -> None:
        asked_by = None if run.asked_in is None else run.asked_in.run(trace.get_current_span).get_span_context()
        links = [Link(asked_by)] if asked_by is not None and asked_by.is_valid else []
        # In an empty context: the scheduler was started in some span that has nothing to do with this run.
        span = self._tracer.start_span(f"task {run.task}", Context(), links=links)
        if span.is_recording():
            span.set_attributes({"task": run.task, "tick": run.scheduled_at.isoformat(), "run_id": run.run_id})
        attach(trace.set_span_in_context(span))  # Its context ends with the run: there is nothing to detach.
        self._spans[run.run_id] = span

    def _ended(self, run: Run) -> None:
        span = None if run.run_id is None else self._spans.pop(run.run_id, None)
        if span is None:
            return
        span.set_attributes({"attempt": run.attempts, "outcome": run.outcome.value})
        if run.reason is not None:
            span.set_attribute("reason", run.reason.value)
        if run.outcome in ERRORS:
            if run.exception is not None:
                span.record_exception(run.exception)
            span.set_status(Status(StatusCode.ERROR, run.error))
        span.end()


class Metrics:
    """The instruments of one meter, which read what was counted."""

    def __init__(self, meter: Meter, measures: Measures) -> None:
        self._measures = measures
        self._durations = meter.create_histogram(
            "kaiju_task_run_duration_seconds", "s", explicit_bucket_boundaries_advisory=DURATIONS_S
        )
        self._latenesses = meter.create_histogram(
            "kaiju_task_lateness_seconds", "s", explicit_bucket_boundaries_advisory=LATENESSES_S
        )
        self._end_of_endings = measures.scheduler.subscribe(self._ended)
        meter.create_observable_counter("kaiju_task_runs_total", [self._runs])
        meter.create_observable_counter("kaiju_task_skips_total", [self._skips])
        gauges: dict[str, Callable[[Series, ScheduledTask[Any]], float | datetime | None]] = {
            "kaiju_task_last_success_timestamp_seconds": lambda series, task: series.last_success,
            "kaiju_task_next_run_timestamp_seconds": lambda series, task: task.next_run_at,
            "kaiju_task_running": lambda series, task: task.running,
            "kaiju_task_held": lambda series, task: task.suspended or not task.enabled,
        }
        for name, value_of in gauges.items():
            meter.create_observable_gauge(name, [self._gauge(value_of)])
        meter.create_observable_gauge("kaiju_task_overdue", [self._overdue])
        meter.create_observable_gauge("kaiju_loop_lag_seconds", [self._lag])
        meter.create_observable_gauge("kaiju_store_up", [self._store_up])

    def close(self) -> None:
        """Count no more."""
        self._end_of_endings()
        self._measures.close()

    def _ended(self, run: Run) -> None:
        if run.duration_s is not None and run.lateness_s is not None:
            labels = {"task": self._measures.label(run.task)}
            self._durations.record(run.duration_s, labels)
            self._latenesses.record(run.lateness_s, labels)

    def _runs(self, _: CallbackOptions) -> Iterator[Observation]:
        self._measures.sweep()
        for label, series, _task in self._measures.series():
            for outcome, number in list(series.runs.items()):
                yield Observation(number, {"task": label, "outcome": outcome.value})

    def _skips(self, _: CallbackOptions) -> Iterator[Observation]:
        for label, series, _task in self._measures.series():
            for reason, number in list(series.skips.items()):
                yield Observation(number, {"task": label, "reason": reason.value})

    def _gauge(self, value_of: Callable[[Series, ScheduledTask[Any]], float | datetime | None]) -> Observe:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for label, series, task in self._measures.series():
                value = None if task is None else value_of(series, task)
                if value is not None:
                    number = value.timestamp() if isinstance(value, datetime) else float(value)
                    yield Observation(number, {"task": label})

        return observe

    def _overdue(self, _: CallbackOptions) -> Iterator[Observation]:
        for label, number in self._measures.overdue().items():
            yield Observation(number, {"task": label})

    def _lag(self, _: CallbackOptions) -> Iterator[Observation]:
        if (told := self._measures.scheduler.loop_lag) is not None:
            for quantile, value in (("0.5", told.p50_s), ("0.99", told.p99_s), ("1", told.max_s)):
                yield Observation(value, {"quantile": quantile})

    def _store_up(self, _: CallbackOptions) -> Iterator[Observation]:
        if (up := self._measures.scheduler.health().store_up) is not None:
            yield Observation(int(up))
