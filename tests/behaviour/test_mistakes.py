"""Typical mistakes, and what the error tells: the argument, the value, and the way out.

``make mistakes`` prints the table.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from datetime import UTC, datetime, time, timedelta
from typing import Any, NamedTuple

import pytest

import kaiju_app
import kaiju_app.scheduler
import kaiju_app.stores
from kaiju_app import Scheduler, Service

NAIVE = datetime(2027, 1, 1)  # noqa: DTZ001


async def job() -> None: ...


async def two(first: int, second: int = 2) -> None: ...


def plain() -> None: ...


async def numbers() -> Any:
    yield 1


class Mistake(NamedTuple):
    """A mistake; what it is about, the value and the way out, as the error must tell them."""

    code: str
    argument: str
    value: str
    way_out: str


TABLE = [
    # --- when ---
    Mistake("s.schedule_task(job)", "interval_s", "None", "interval_s=60 or trigger=Every(60)"),
    Mistake("s.schedule_task(job, 60, trigger=Every(60))", "interval_s", "60", "interval_s=60 or trigger=Every(60)"),
    Mistake("s.schedule_task(job, 0)", "interval_s", "0", "at least 0.001 seconds"),
    Mistake("s.schedule_task(job, -5)", "interval_s", "-5", "at least 0.001 seconds"),
    Mistake("s.schedule_task(job, '60')", "interval_s", "'60'", "a number of seconds or a timedelta"),
    Mistake("s.schedule_task(job, True)", "interval_s", "True", "a number of seconds or a timedelta"),
    Mistake("s.schedule_task(job, 1e12)", "interval_s", "1000000000000.0", "at most 100 years"),
    Mistake("s.schedule_task(job, minutes=5)", "minutes", "5", "write interval_s=300"),
    Mistake("s.schedule_task(job, seconds=5)", "seconds", "5", "write interval_s=5"),
    Mistake("s.schedule_task(job, hours=2)", "hours", "2", "write interval_s=7200"),
    Mistake("s.schedule_task(job, hour=6)", "hour", "6", "write trigger='0 6 * * mon-fri'"),
    Mistake("s.schedule_task(job, cron='0 6 * * *')", "cron", "'0 6 * * *'", "write trigger='0 6 * * *'"),
    Mistake("s.schedule_task(job, trigger='every 5 minutes')", "trigger", "'every 5 minutes'", "or be one of @hourly"),
    Mistake("s.schedule_task(job, trigger='*/5 * * *')", "trigger", "'*/5 * * *'", "must have 5 fields"),
    Mistake("s.schedule_task(job, trigger='61 * * * *')", "trigger", "'61 * * * *'", "allowed are 0-59"),
    Mistake("s.schedule_task(job, trigger='@reboot')", "trigger", "'@reboot'", "first_run=FirstRun.NOW"),
    Mistake("s.schedule_task(job, trigger='0 0 30 2 *')", "trigger", "'0 0 30 2 *'", "must match at least one day"),
    Mistake("s.schedule_task(job, trigger=60)", "trigger", "60", "write Every(60) or interval_s=60"),
    Mistake("s.schedule_task(job, trigger=timedelta(hours=1))", "trigger", "seconds=3600", "write Every("),
    Mistake("s.schedule_task(job, trigger=Every)", "trigger", "Every", "write Every(...), an object of the class"),
    Mistake("s.schedule_task(job, trigger=NAIVE)", "trigger", "2027", "an aware datetime in At(...)"),
    Mistake("s.schedule_task(job, 60, first_run=NAIVE)", "first_run", "2027", "datetime.now(UTC)"),
    Mistake("s.schedule_task(job, 60, until='2027-01-01')", "until", "'2027-01-01'", "datetime.now(UTC)"),
    Mistake("s.schedule_task(job, 60, timezone='Europe/Berlin')", "timezone", "'Europe/Berlin'", "write trigger=Cron("),
    Mistake("s.schedule_task(job, 60, jitter_s=90)", "jitter_s", "90", "must be less than the gap"),
    Mistake("s.schedule_task(job, 60, jitter=5)", "jitter", "5", "write jitter_s=5"),
    Mistake("Every(minutes=5)", "minutes", "5", "write seconds=300"),
    Mistake("Cron('0 6 * * *', timezone='UTC')", "timezone", "'UTC'", "write tz='UTC'"),
    Mistake("Cron('0 6 * * *', 'Berlin')", "tz", "'Berlin'", "; write 'Europe/Berlin'"),
    Mistake("Scheduler(tz='Tokyo')", "tz", "'Tokyo'", "write 'Asia/Tokyo'"),
    Mistake("At()", "moments", "()", "at least one aware datetime"),
    Mistake("At(NAIVE)", "moments", "2027", "datetime.now(UTC)"),
    Mistake("AnyOf('0 6 * * *')", "triggers[0]", "'0 6 * * *'", "write Cron('0 6 * * *')"),
    Mistake("Except(Every(60), (time(22), time(6)))", "excluded[0][0]", "22", "tzinfo=ZoneInfo('Europe/Berlin')"),
    Mistake("trigger_from_json({'every': 60, 'start': 1})", "start", "{'every': 60", "allowed are every and anchor"),
    # --- what ---
    Mistake("s.schedule_task()", "func", "nothing", "must be given to schedule_task()"),
    Mistake("s.schedule_task(coroutine, 60)", "func", "<coroutine", "pass the function itself"),
    Mistake("s.schedule_task(numbers, 60)", "func", "numbers", "must not be a generator function"),
    Mistake("s.schedule_task(two, 60)", "args and kws", "({},)", "missing a required argument: 'first'"),
    Mistake("s.schedule_task(two, 60, (1, 2, 3))", "args and kws", "(1, 2, 3, {})", "two(first: 'int', second"),
    Mistake("s.schedule_task(two, 60, 'x')", "args", "'x'", "args=(value,)"),
    Mistake("s.schedule_task(two, 60, (), [1])", "kws", "[1]", "a mapping of argument names to values"),
    Mistake("s.schedule_task(two, 60, kwargs={'first': 1})", "kwargs", "{'first': 1}", "write kws={'first': 1}"),
    Mistake("s.schedule_task(job, 60, (), {}, Every(60))", "argument 5", "Every(60)", "the others by name: trigger"),
    Mistake("s.schedule_task(job, 60, id='x')", "id", "'x'", "write name='x'"),
    Mistake("s.schedule_task(job, 60, name='mine')", "name", "'mine'", "remove() it first"),
    Mistake("s.schedule_task(job, 60, name=7)", "name", "7", "must be a non-empty string or None"),
    # --- how ---
    Mistake("s.schedule_task(job, 60, policy='wait')", "policy", "'wait'", "write ExecPolicy.WAIT"),
    Mistake("s.schedule_task(job, 60, missed=False)", "missed", "False", "Missed.ONCE"),
    Mistake("s.schedule_task(job, 60, max_instances=1)", "max_instances", "1", "policy= says"),
    Mistake("s.schedule_task(job, 60, coalesce=True)", "coalesce", "True", "write missed=Missed.ONCE"),
    Mistake("s.schedule_task(job, 60, misfire_grace_time=30)", "misfire_grace_time", "30", "write grace_s=30"),
    Mistake("s.schedule_task(job, 60, missed=Missed.ALL, grace_s=5)", "grace_s", "5", "whose limit is catchup_s"),
    Mistake("s.schedule_task(job, 60, timeout=5)", "timeout", "5", "write max_timeout_s=5"),
    Mistake("s.schedule_task(job, 60, max_timeout_s=None)", "max_timeout_s", "None", "a number of seconds"),
    Mistake("s.schedule_task(job, 60, retry=3)", "retry", "3", "did you mean retry_on or retries?"),
    Mistake("s.schedule_task(job, 60, retries=-1)", "retries", "-1", "an integer of at least 0"),
    Mistake("s.schedule_task(job, 60, retries=1.5)", "retries", "1.5", "an integer of at least 0"),
    Mistake("s.schedule_task(job, 60, retry_on='OSError')", "retry_on", "'OSError'", "a subclass of Exception"),
    Mistake("s.schedule_task(job, 60, retry_on=BaseException)", "retry_on", "BaseException", "a subclass of Exception"),
    Mistake("Backoff(initial_s=10, max_s=5)", "max_s", "5", "give both, as in Backoff("),
    # --- several processes ---
    Mistake("s.schedule_task(job, 60, name='x', scope=Scope.CLUSTER)", "scope", "CLUSTER", "store='sqlite:///sched"),
    Mistake("shared.schedule_task(job, 60, scope=Scope.CLUSTER)", "name", "None", "must be given with Scope.CLUSTER"),
    Mistake("shared.schedule_task(plain, 60, name='x', scope=Scope.CLUSTER)", "overlap_on_loss", "False", "async def"),
    Mistake("s.schedule_task(job, 60, scope='cluster')", "scope", "'cluster'", "write Scope.CLUSTER"),
    Mistake("s.schedule_task(job, 60, overlap_on_loss='no')", "overlap_on_loss", "'no'", "must be True or False"),
    Mistake("Scheduler(timezone='Europe/Berlin')", "timezone", "'Europe/Berlin'", "write tz='Europe/Berlin'"),
    Mistake("Scheduler(max_workers=4)", "max_workers", "4", "write threads=4"),
    Mistake("Scheduler(threads=0)", "threads", "0", "an integer of at least 1"),
    Mistake("Scheduler(store=5)", "store", "5", "sqlite://"),
    Mistake("Scheduler(version='1.4')", "version", "'1.4'", "7 or (1, 4, 2)"),
    Mistake("Scheduler(lease=10)", "lease", "10", "LeaseTiming.for_failover(10)"),
    Mistake("LeaseTiming(ttl=10)", "ttl", "10", "write ttl_s=10"),
    Mistake("SqliteStore(5)", "path", "5", "'scheduler.db'"),
    # --- tasks ---
    Mistake("task.pause(60)", "reason", "60", "pause(for_s=60)"),
    Mistake("task.pause(seconds=60)", "seconds", "60", "write for_s=60"),
    Mistake("task.pause(for_s=0)", "for_s", "0", "None to pause until resume()"),
    Mistake("task.suspend(60)", "reason", "60", "must be text that says why"),
    Mistake("task.cancel(True)", "reason", "True", "must be text that says why"),
    Mistake("task.reschedule(minutes=5)", "minutes", "5", "write interval_s=300"),
    Mistake("task.upcoming(-1)", "n", "-1", "an integer of at least 0"),
    Mistake("task.run_now()", "task", "'mine'", "await scheduler.start()"),
    Mistake("removed.run_now()", "task", "'old'", "schedule it again"),
    Mistake("task.stop", "stop", "ScheduledTask", "task.cancel(reason)"),
    Mistake("s.tasks['mien']", "task", "'mien'", "did you mean mine?"),
    Mistake("s.history('mien')", "task", "'mien'", "did you mean mine?"),
    Mistake("s.history('mine', limit='5')", "limit", "'5'", "an integer of at least 0"),
    Mistake("s.add_job(job)", "add_job", "Scheduler", "write schedule_task(func, interval_s=60)"),
    Mistake("s.remove_job('mine')", "remove_job", "Scheduler", "scheduler.tasks[name].remove()"),
    Mistake("s.scheduled_job", "scheduled_job", "Scheduler", "write @scheduler.every(60)"),
    Mistake("s.shutdown()", "shutdown", "Scheduler", "write await scheduler.stop()"),
    Mistake("s.stop(timeout=5)", "timeout", "5", "write timeout_s=5"),
    Mistake("s.subscribe(5)", "listener", "5", "function"),
    Mistake("s.every(job)", "interval_s", "job", "write @every(60), not @every"),
    Mistake("s.every(60)(Cache.refresh)", "func", "Cache.refresh", "in a Service, write @every of kaiju_app"),
    Mistake("current_run()", "current_run()", "outside a run", "call it in a scheduled function"),
    Mistake("lint([job], datetime.now(UTC))", "tasks", "job", "a Scheduler or a list of its tasks"),
    # --- applications ---
    Mistake("Application()", "name", "nothing", "must be given to Application()"),
    Mistake("Application('shop', services=Cache)", "services", "Cache", "must be a list of services"),
    Mistake("Application('shop', [Cache])", "services", "Cache", "write Cache()"),
    Mistake("Application('shop', tz='UTC')", "tz", "'UTC'", "scheduler=Scheduler(...)"),
    Mistake("Application('shop', optional_services='Cache')", "optional_services", "'Cache'", "a list of names"),
    Mistake("Application('shop').run()", "run", "Application", "write run_app(app)"),
    Mistake("run_app(s)", "app", "Scheduler", "must be an Application"),
    Mistake("service(required='yes')", "required", "'yes'", "must be True or False"),
    Mistake("Health('down')", "errors", "'down'", "Health(errors=[...])"),
    Mistake("kaiju_app.every(60)(job)", "func", "job", "write @scheduler.every"),
    Mistake("Cache().app.scheduler", "app.scheduler", "this service", "services=[...]"),
]


NAMES: dict[str, Any] = {each.__name__: each for each in (datetime, job, numbers, plain, time, timedelta, two)} | {
    name: getattr(module, name)
    for module in (kaiju_app, kaiju_app.scheduler, kaiju_app.stores)
    for name in module.__all__
}
"""What the codes of the table may use."""


class Cache(Service):
    async def refresh(self) -> None: ...


def told(code: str) -> str:
    """Return what the error tells of the mistake in *code*."""
    s = Scheduler()
    task, removed = s.schedule_task(job, 60, name="mine"), s.schedule_task(job, 60, name="old")
    removed.remove()
    coroutine = job()
    names = NAMES | {"s": s, "task": task, "removed": removed, "coroutine": coroutine, "shared": Scheduler("memory://")}
    names |= {"Cache": Cache, "NAIVE": NAIVE, "UTC": UTC, "kaiju_app": kaiju_app}
    try:
        answer = eval(code, names)
        if inspect.iscoroutine(answer):
            asyncio.run(answer)
    except Exception as exc:
        return str(exc)
    finally:
        coroutine.close()
    raise AssertionError(f"no error: {code}")


@pytest.mark.parametrize("mistake", TABLE, ids=[each.code for each in TABLE])
def test_a_mistake_is_told_with_its_argument_its_value_and_the_way_out(mistake: Mistake) -> None:
    text = told(mistake.code)

    assert mistake.argument in text
    assert mistake.value in text
    assert mistake.way_out in text


def test_the_table_has_the_mistakes_that_were_counted() -> None:
    assert len({each.code for each in TABLE}) == len(TABLE) >= 60


if __name__ == "__main__":
    logging.disable()  # It would say that these schedulers are never started.
    for each in TABLE:
        print(f"{each.code}\n    {told(each.code)}")
