"""The metrics that Prometheus scrapes."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from kaiju_app.errors import InvalidArgument
from kaiju_app.observability.prometheus import SchedulerCollector
from kaiju_app.scheduler import Cron, ExecPolicy, FirstRun, Outcome, Scheduler
from support.reading import ZERO, nothing
from support.virtual import VirtualLoop

OTHERS = "(other tasks)"
LABELS = ("task", "outcome", "reason", "le", "quantile")
Samples = dict[tuple[str, ...], float]


async def fail() -> None:
    raise OSError("down")


def samples(text: str) -> Samples:
    """Return the values of an answer to Prometheus by name and labels."""
    return {
        (sample.name, *(sample.labels[label] for label in LABELS if label in sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Scrape:
    """The metrics of a scheduler, as Prometheus would get them."""

    def __init__(self, scheduler: Scheduler, **options: Any) -> None:
        self.registry = CollectorRegistry()
        self.collector = SchedulerCollector(scheduler, **options)
        self.registry.register(self.collector)

    def __call__(self, *names: str) -> Samples:
        """Return the values by name, without the prefix, and labels; only those with one of the *names*, if any."""
        found = samples(generate_latest(self.registry).decode())
        told = {(name.removeprefix("kaiju_task_"), *labels): value for (name, *labels), value in found.items()}
        return {key: value for key, value in told.items() if not names or key[0] in names}


async def test_runs_and_skips_are_counted_by_outcome_and_reason(scheduler: Scheduler) -> None:
    scrape = Scrape(scheduler)
    scheduler.schedule_task(nothing, 10, name="good")
    scheduler.schedule_task(fail, 10, name="bad")
    scheduler.schedule_task(asyncio.sleep, 10, (25,), name="slow", policy=ExecPolicy.SKIP)
    async with scheduler:
        await asyncio.sleep(45)  # slow runs from 0 to 25 and from 30 on.

        assert scrape("runs_total", "skips_total") == {
            ("runs_total", "good", "SUCCEEDED"): 5,
            ("runs_total", "bad", "FAILED"): 5,
            ("runs_total", "slow", "SUCCEEDED"): 1,
            ("skips_total", "slow", "overlap"): 3,
        }


async def test_skips_of_a_record_that_is_open_are_counted_as_they_come(scheduler: Scheduler) -> None:
    scrape = Scrape(scheduler)
    scheduler.schedule_task(asyncio.sleep, 10, (10_000,), name="a", policy=ExecPolicy.SKIP, max_timeout_s=95)
    told = []
    async with scheduler:
        await asyncio.sleep(5)
        for _ in range(12):
            await asyncio.sleep(10)
            told.append(scrape("skips_total").get(("skips_total", "a", "overlap"), 0))
        await asyncio.sleep(1_000)
        skips = scrape("skips_total")["skips_total", "a", "overlap"]

    assert told == [1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 10, 11]  # Each run of 95 s keeps nine ticks from running.
    assert skips == 9 * 11 + 2


async def test_durations_and_lateness_are_histograms(scheduler: Scheduler, loop: VirtualLoop) -> None:
    scrape = Scrape(scheduler)
    scheduler.schedule_task(asyncio.sleep, 100, (0.25,), name="a", first_run=FirstRun.NEXT)
    async with scheduler:
        await asyncio.sleep(250)
        loop.virtual_clock.block(50.5)
        await asyncio.sleep(1)
        found = scrape()

    assert found["run_duration_seconds_count", "a"] == found["run_duration_seconds_bucket", "a", "+Inf"] == 3
    assert found["run_duration_seconds_sum", "a"] == pytest.approx(0.75)
    assert [found["run_duration_seconds_bucket", "a", bound] for bound in ("0.1", "0.25")] == [0, 3]
    assert [found["lateness_seconds_bucket", "a", bound] for bound in ("0.001", "1.0")] == [2, 3]
    assert found["lateness_seconds_sum", "a"] == pytest.approx(0.5)


async def test_gauges_show_the_state_of_each_task(scheduler: Scheduler) -> None:
    scrape = Scrape(scheduler)
    start = ZERO.timestamp()
    scheduler.schedule_task(asyncio.sleep, 100, (20,), name="runs", expect_success_within_s=150)
    paused = scheduler.schedule_task(nothing, 10, name="paused")
    disabled = scheduler.schedule_task(nothing, 10, name="disabled")
    scheduler.schedule_task(nothing, trigger=Cron("0 9 * * *"), name="daily")
    async with scheduler:
        await asyncio.sleep(1)
        await paused.pause()
        disabled.disable()
        gauges = "running", "held", "overdue", "next_run_timestamp_seconds", "last_success_timestamp_seconds"

        assert scrape(*gauges) == {
            **{("running", name): name == "runs" for name in ("runs", "paused", "disabled", "daily")},
            **{("held", name): name in ("paused", "disabled") for name in ("runs", "paused", "disabled", "daily")},
            ("overdue", "runs"): 0,
            ("overdue", OTHERS): 0,
            ("next_run_timestamp_seconds", "runs"): start + 100,
            ("next_run_timestamp_seconds", "daily"): start + 3600 - 5,
            ("last_success_timestamp_seconds", "paused"): start,
            ("last_success_timestamp_seconds", "disabled"): start,
        }


async def test_a_task_that_is_overdue_is_seen_beyond_the_cap_too(scheduler: Scheduler) -> None:
    scrape = Scrape(scheduler, max_tasks=1)
    for name in ("a", "b", "c"):
        scheduler.schedule_task(fail, 10, name=name, expect_success_within_s=15)
    async with scheduler:
        await asyncio.sleep(20)

        assert scrape("overdue") == {("overdue", "a"): 1, ("overdue", OTHERS): 2}


async def test_beyond_the_cap_tasks_are_summed(scheduler: Scheduler) -> None:
    scrape = Scrape(scheduler, max_tasks=2)
    for number in range(5):
        scheduler.schedule_task(nothing, 10, name=f"t{number}")
    async with scheduler:
        await asyncio.sleep(35)
        found = scrape()

    assert {key: value for key, value in found.items() if key[0] == "runs_total"} == {
        ("runs_total", "t0", "SUCCEEDED"): 4,
        ("runs_total", "t1", "SUCCEEDED"): 4,
        ("runs_total", OTHERS, "SUCCEEDED"): 12,
    }
    assert found["run_duration_seconds_count", OTHERS] == 12
    assert {key[1] for key in found if key[0] in ("running", "held", "next_run_timestamp_seconds")} <= {"t0", "t1"}


async def test_a_removed_task_is_exported_once_more_and_gives_its_place_to_another(scheduler: Scheduler) -> None:
    scrape = Scrape(scheduler, max_tasks=1)
    one = scheduler.schedule_task(nothing, 10, name="one", remove_when_over=True, until=None)
    scheduler.schedule_task(nothing, 10, name="two")
    async with scheduler:
        await asyncio.sleep(5)
        one.remove()
        first, second = scrape("runs_total"), scrape("runs_total")
        await asyncio.sleep(10)
        third = scrape("runs_total")

    assert first == {("runs_total", "one", "SUCCEEDED"): 1, ("runs_total", OTHERS, "SUCCEEDED"): 1}
    assert second == {("runs_total", OTHERS, "SUCCEEDED"): 1}
    assert third == {("runs_total", OTHERS, "SUCCEEDED"): 1, ("runs_total", "two", "SUCCEEDED"): 1}


async def test_tasks_that_live_for_one_run_are_counted(scheduler: Scheduler) -> None:
    scrape = Scrape(scheduler, max_tasks=3)
    async with scheduler:
        for number in range(20):
            task = scheduler.schedule_task(nothing, 10, name=f"t{number}")
            await asyncio.sleep(1)
            task.remove()
        found = scrape("runs_total")

    assert sum(found.values()) == 20
    assert found["runs_total", OTHERS, "SUCCEEDED"] == 17


async def test_the_loop_and_the_store_have_metrics_of_their_own(loop: VirtualLoop) -> None:
    scheduler = Scheduler("memory://", clock=loop.virtual_clock)
    scrape = Scrape(scheduler)
    assert {key for key in scrape() if not key[0].startswith("overdue")} >= {
        ("lateness_seconds_count", OTHERS),
    }
    scheduler.schedule_task(nothing, 1)
    async with scheduler:
        await asyncio.sleep(20.5)
        loop.virtual_clock.block(2)
        await asyncio.sleep(1)
        found = scrape("kaiju_loop_lag_seconds", "kaiju_store_up")

    assert found == {
        ("kaiju_loop_lag_seconds", "0.5"): 0,
        ("kaiju_loop_lag_seconds", "0.99"): 1.5,
        ("kaiju_loop_lag_seconds", "1"): 1.5,
        ("kaiju_store_up",): 1,
    }


async def test_any_name_of_a_task_is_a_label(scheduler: Scheduler) -> None:
    names = ['a"b\\c\nd', "<img src=x>", "\N{FIRE}" * 9, OTHERS, "a\ud800b"]
    scrape = Scrape(scheduler)
    for name in names:
        scheduler.schedule_task(nothing, 10, name=name)
    async with scheduler:
        await asyncio.sleep(1)
        found = scrape("runs_total")

    assert set(found.values()) == {1}
    assert {key[1] for key in found} == {*names[:4], "a\\ud800b"}


async def test_after_close_nothing_is_counted(scheduler: Scheduler) -> None:
    scrape = Scrape(scheduler)
    scheduler.schedule_task(nothing, 10, name="a")
    async with scheduler:
        await asyncio.sleep(1)
        scrape.collector.close()
        await asyncio.sleep(100)

        assert scrape("runs_total") == {("runs_total", "a", "SUCCEEDED"): 1}


@pytest.mark.parametrize("wrong", [-1, 1.5, True, None, "9"])
def test_wrong_arguments_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="max_tasks must be an integer of at least 0"):
        SchedulerCollector(Scheduler(), max_tasks=wrong)
    with pytest.raises(InvalidArgument, match="scheduler must be a Scheduler"):
        SchedulerCollector(wrong)


def check_with_promtool(text: str) -> None:
    if promtool := shutil.which("promtool"):
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
        )
        assert (checked.returncode, checked.stdout) == (0, "")


# --- in a real server, whose threads scrape while tasks run ---


@pytest.fixture
def port(scheduler: Scheduler) -> Iterator[int]:
    registry = CollectorRegistry()
    registry.register(SchedulerCollector(scheduler, max_tasks=20))
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.realtime
async def test_a_scrape_in_another_thread_is_right_while_tasks_run(scheduler: Scheduler, port: int) -> None:
    def scrape() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            body: bytes = answer.read()
        return body.decode()

    for number in range(40):
        scheduler.schedule_task(nothing, 0.01, name=f"t{number}")
    texts = []
    async with scheduler:
        for _ in range(10):
            await asyncio.sleep(0.02)
            texts.append(await asyncio.to_thread(scrape))
    texts.append(await asyncio.to_thread(scrape))

    totals = [sum(value for key, value in samples(text).items() if key[0] == "kaiju_task_runs_total") for text in texts]
    assert totals == sorted(totals)
    counts = [task.counts for task in scheduler.tasks.values()]
    done = sum(number for each in counts for outcome, number in each.items() if outcome is not Outcome.SKIPPED)
    assert totals[-1] == done >= 40
    check_with_promtool(texts[-1])
