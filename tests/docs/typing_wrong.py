"""Wrong uses of the public API that type checkers must find, each on a line with what they call it; nothing runs it."""

from __future__ import annotations

from datetime import UTC, datetime

import kaiju_app
from kaiju_app import Application, Scheduler, Service, run_app
from kaiju_app.scheduler import (  # attr-defined
    AnyOf,
    At,
    Backoff,
    Cron,
    Every,
    Except,
    ExecPolicy,
    LeaseTiming,
    Outcome,
    Run,
    Schedular,  # reportAttributeAccessIssue
    ScheduledTask,
    current_run,
)


async def count(first: int, second: int = 2) -> int:
    return first + second


def options_of_a_task(scheduler: Scheduler) -> None:
    scheduler.schedule_task(count, "60", (1,))  # call-overload reportArgumentType reportCallIssue
    scheduler.schedule_task(count(1), 60)  # call-overload reportArgumentType reportCallIssue
    scheduler.schedule_task(count, 60, (1,), {}, Cron("0 6 * * *"))  # call-overload reportCallIssue
    scheduler.schedule_task(count, 60, (1,), retry=3)  # call-overload reportCallIssue
    scheduler.schedule_task(count, 60, (1,), seconds=3)  # call-overload reportCallIssue
    scheduler.schedule_task(count, 60, (1,), policy="WAIT")  # call-overload reportArgumentType reportCallIssue
    scheduler.schedule_task(count, 60, (1,), scope="CLUSTER")  # call-overload reportArgumentType reportCallIssue
    scheduler.schedule_task(count, 60, (1,), retries="3")  # call-overload reportArgumentType reportCallIssue
    scheduler.schedule_task(count, 60, (1,), retry_on=[OSError])  # call-overload reportArgumentType reportCallIssue
    scheduler.schedule_task(count, 60, (1,), first_run="now")  # call-overload reportArgumentType reportCallIssue
    scheduler.schedule_task(count, 60, (1,), until="2027-01-01")  # call-overload reportArgumentType reportCallIssue
    scheduler.schedule_task(count, trigger=60)  # call-overload reportArgumentType reportCallIssue
    wrong: ScheduledTask[str] = scheduler.schedule_task(count, 60, (1,))  # arg-type reportAssignmentType


@kaiju_app.Scheduler().every("60")  # arg-type reportArgumentType
async def decorated() -> None: ...


async def uses_of_a_task(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(count, 60, (1,))
    task.result + 1  # operator reportOptionalOperand
    task.run_now().outcome  # attr-defined reportAttributeAccessIssue
    await task.pause(60)  # arg-type reportArgumentType
    await task.pause(for_s="60")  # arg-type reportArgumentType
    task.interval_s = 5  # misc reportAttributeAccessIssue
    task.reschedule(60, Cron("0 6 * * *"))  # call-arg reportCallIssue
    with task.suspend():  # attr-defined reportGeneralTypeIssues
        pass
    async with scheduler.suspend:  # attr-defined reportGeneralTypeIssues
        pass
    run = await task.run_now()
    run.outcome = Outcome.FAILED  # misc reportAttributeAccessIssue
    run.duration_s + 1  # operator reportOptionalOperand
    (await task.wait()).outcome  # union-attr reportOptionalMemberAccess
    scheduler.tasks["poll"] = task  # index reportIndexIssue
    current_run().task_name  # attr-defined reportAttributeAccessIssue


def takes_nothing() -> None: ...


def takes_text(run: str) -> None: ...


def listeners(scheduler: Scheduler) -> None:
    scheduler.subscribe(takes_nothing)  # arg-type reportArgumentType
    scheduler.subscribe(takes_text)  # arg-type reportArgumentType


def triggers() -> None:
    Every("5")  # arg-type reportArgumentType
    Every(5, datetime.now(UTC).isoformat())  # arg-type reportArgumentType
    Cron(5)  # arg-type reportArgumentType
    Cron("0 6 * * *", tz=UTC)  # arg-type reportArgumentType
    At("2027-01-01")  # arg-type reportArgumentType
    AnyOf(60)  # arg-type reportArgumentType
    Except(Every(60), "22:00")  # arg-type reportArgumentType
    Backoff(initial_s="1")  # arg-type reportArgumentType


def schedulers() -> None:
    Scheduler(5)  # arg-type reportArgumentType
    Scheduler(threads="8")  # arg-type reportArgumentType
    Scheduler(lease=10)  # arg-type reportArgumentType
    Scheduler(None, "shop")  # call-arg reportCallIssue
    LeaseTiming(ttl_s="10")  # arg-type reportArgumentType
    ExecPolicy.QUEUE  # attr-defined reportAttributeAccessIssue
    kaiju_app.Aplication  # attr-defined reportAttributeAccessIssue


class Web(Service):
    def init(self) -> None: ...  # override reportIncompatibleMethodOverride


def applications(scheduler: Scheduler, run: Run) -> None:
    Application()  # call-arg reportCallIssue
    Application("shop", Web())  # arg-type reportArgumentType
    run_app(scheduler)  # arg-type reportArgumentType
