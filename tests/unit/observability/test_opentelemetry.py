"""Traces and metrics as the SDK of OpenTelemetry would export them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from kaiju_app.errors import InvalidArgument
from kaiju_app.observability.opentelemetry import SchedulerTelemetry
from kaiju_app.scheduler import ExecPolicy, FirstRun, Run, ScheduledTask, Scheduler
from support.reading import ZERO, nothing, stubborn
from support.virtual import VirtualLoop


class Traces:
    """A provider of tracers, and the spans that it would send."""

    def __init__(self) -> None:
        self.provider = TracerProvider()
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        [span] = [each for each in self.spans if each.name == name]
        return span


@pytest.fixture
def traces() -> Traces:
    return Traces()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_run_is_a_span_with_its_facts(scheduler: Scheduler, traces: Traces, reported: list[Run]) -> None:
    SchedulerTelemetry(scheduler, tracer_provider=traces.provider)
    scheduler.schedule_task(nothing, 100, name="refresh")
    async with scheduler:
        await asyncio.sleep(10)

    (span,) = traces.spans
    assert span.name == "task refresh"
    assert span.parent is None
    assert (span.status.status_code, list(span.links), list(span.events)) == (StatusCode.UNSET, [], [])
    assert attributes(span) == {
        "task": "refresh",
        "tick": ZERO.isoformat(),
        "run_id": reported[0].run_id,
        "attempt": 1,
        "outcome": "SUCCEEDED",
    }


async def test_a_failure_is_recorded_with_what_was_raised(scheduler: Scheduler, traces: Traces) -> None:
    async def fail() -> None:
        raise OSError("down")

    SchedulerTelemetry(scheduler, tracer_provider=traces.provider)
    scheduler.schedule_task(fail, 100, name="fails", retries=2, retry_interval_s=1)
    scheduler.schedule_task(asyncio.sleep, 100, (50,), name="slow", max_timeout_s=5)
    async with scheduler:
        await asyncio.sleep(20)

    fails, slow = traces.named("task fails"), traces.named("task slow")
    assert fails.status.status_code is slow.status.status_code is StatusCode.ERROR
    assert (attributes(fails)["outcome"], attributes(fails)["attempt"]) == ("FAILED", 3)
    assert fails.status.description is not None
    assert fails.status.description.startswith("OSError: down")
    (event,) = fails.events
    assert event.attributes is not None
    assert (event.name, event.attributes["exception.message"]) == ("exception", "down")
    assert "in fail" in str(event.attributes["exception.stacktrace"])
    assert (attributes(slow)["outcome"], attributes(slow)["reason"]) == ("TIMED_OUT", "deadline")


async def test_a_run_that_is_ended_on_purpose_is_no_error(scheduler: Scheduler, traces: Traces) -> None:
    SchedulerTelemetry(scheduler, tracer_provider=traces.provider)
    scheduler.schedule_task(asyncio.sleep, 100, (50,), name="slow")
    async with scheduler:
        await asyncio.sleep(20)

    (span,) = traces.spans
    assert (span.status.status_code, list(span.events)) == (StatusCode.UNSET, [])
    assert (attributes(span)["outcome"], attributes(span)["reason"]) == ("CANCELLED", "shutdown")


@pytest.mark.parametrize("threaded", [False, True])
async def test_spans_of_the_function_are_children_of_the_run(
    scheduler: Scheduler, traces: Traces, threaded: bool
) -> None:
    def query() -> None:
        with traces.tracer.start_as_current_span("query"):
            pass

    async def work() -> None:
        await asyncio.sleep(1)
        query()

    SchedulerTelemetry(scheduler, tracer_provider=traces.provider)
    task: ScheduledTask[Any] = scheduler.schedule_task(
        query if threaded else work, 1e6, name="refresh", first_run=FirstRun.NEXT
    )
    with traces.tracer.start_as_current_span("the program"):
        async with scheduler:
            await task.run_now()
    run, child, program = (traces.named(name) for name in ("task refresh", "query", "the program"))

    assert child.parent == run.get_span_context()
    assert run.parent is None
    assert run.context.trace_id != program.context.trace_id


async def test_a_requested_run_is_linked_to_the_span_that_asked_for_it(scheduler: Scheduler, traces: Traces) -> None:
    SchedulerTelemetry(scheduler, tracer_provider=traces.provider)
    task = scheduler.schedule_task(nothing, 1000, name="refresh", first_run=FirstRun.NEXT)
    async with scheduler:
        with traces.tracer.start_as_current_span("POST /refresh") as request:
            await task.run_now()
        await task.run_now()

    first, second = [span for span in traces.spans if span.name == "task refresh"]
    assert [link.context for link in first.links] == [request.get_span_context()]
    assert list(second.links) == []
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_runs_that_outlive_the_telemetry_end_their_spans(scheduler: Scheduler, traces: Traces) -> None:
    telemetry = SchedulerTelemetry(scheduler, tracer_provider=traces.provider)
    scheduler.schedule_task(stubborn, 100, (20,), name="slow", policy=ExecPolicy.SHIELD)
    async with scheduler:
        await asyncio.sleep(1)
        telemetry.close()
        assert [span.name for span in traces.spans] == ["task slow"]
        await asyncio.sleep(250)

    assert len(traces.spans) == 1


def points(reader: InMemoryMetricReader) -> dict[tuple[str, ...], Any]:
    """Return what was measured, by name without its prefix and by the values of the labels."""
    found: dict[tuple[str, ...], Any] = {}
    data = reader.get_metrics_data()
    for resource in () if data is None else data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    labels = map(str, (point.attributes or {}).values())
                    value = getattr(point, "value", None) if hasattr(point, "value") else point
                    found[(metric.name.removeprefix("kaiju_task_"), *labels)] = value
    return found


async def test_metrics_have_the_names_that_prometheus_knows(loop: VirtualLoop) -> None:
    reader = InMemoryMetricReader()
    scheduler = Scheduler("memory://", clock=loop.virtual_clock)
    SchedulerTelemetry(scheduler, meter_provider=MeterProvider([reader]), max_tasks=2)
    scheduler.schedule_task(asyncio.sleep, 10, (0.25,), name="a", expect_success_within_s=100)
    scheduler.schedule_task(asyncio.sleep, 10, (25,), name="b", policy=ExecPolicy.SKIP)
    scheduler.schedule_task(nothing, 10, name="c")
    async with scheduler:
        await asyncio.sleep(45)
        found = points(reader)

    start = ZERO.timestamp()
    duration = found.pop(("run_duration_seconds", "a"))
    assert (duration.count, duration.sum) == (5, pytest.approx(1.25))
    assert duration.explicit_bounds[0] == 0.005
    lateness = {key: found.pop(key).count for key in list(found) if "lateness" in key[0]}
    assert lateness == {
        ("lateness_seconds", "a"): 5,
        ("lateness_seconds", "b"): 1,
        ("lateness_seconds", "(other tasks)"): 5,
    }
    assert {key: value for key, value in found.items() if "duration" not in key[0]} == {
        ("runs_total", "a", "SUCCEEDED"): 5,
        ("runs_total", "b", "SUCCEEDED"): 1,
        ("runs_total", "(other tasks)", "SUCCEEDED"): 5,
        ("skips_total", "b", "overlap"): 3,
        ("last_success_timestamp_seconds", "a"): start + 40.25,
        ("last_success_timestamp_seconds", "b"): start + 25,
        ("next_run_timestamp_seconds", "a"): start + 50,
        ("next_run_timestamp_seconds", "b"): start + 50,
        ("running", "a"): 0,
        ("running", "b"): 1,
        ("held", "a"): 0,
        ("held", "b"): 0,
        ("overdue", "a"): 0,
        ("overdue", "(other tasks)"): 0,
        ("kaiju_loop_lag_seconds", "0.5"): 0,
        ("kaiju_loop_lag_seconds", "0.99"): 0,
        ("kaiju_loop_lag_seconds", "1"): 0,
        ("kaiju_store_up",): 1,
    }


async def test_a_removed_task_is_measured_once_more(scheduler: Scheduler) -> None:
    reader = InMemoryMetricReader()
    SchedulerTelemetry(scheduler, meter_provider=MeterProvider([reader]))
    task = scheduler.schedule_task(nothing, 10, name="a")
    async with scheduler:
        await asyncio.sleep(1)
        task.remove()
        told = [points(reader).get(("runs_total", "a", "SUCCEEDED")) for _ in range(3)]

    assert told == [1, None, None]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="scheduler must be a Scheduler"):
        SchedulerTelemetry(7)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="max_tasks must be an integer of at least 0"):
        SchedulerTelemetry(Scheduler(), max_tasks=-1)
