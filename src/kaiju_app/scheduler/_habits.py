"""What arguments and methods that other schedulers have are called here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from kaiju_app._core.calls import Habits, renamed_to, units
from kaiju_app.errors import safe_repr

T = TypeVar("T")


def _for_each(table: Mapping[str, T]) -> dict[str, T]:
    """Return the table with a key for each word of a key."""
    return {name: advice for names, advice in table.items() for name in names.split()}


def _renamed(table: Mapping[str, str]) -> Habits:
    return {name: renamed_to(argument) for name, argument in _for_each(table).items()}


def _zone(value: object) -> str:
    return f"write trigger=Cron('0 6 * * *', tz={safe_repr(str(value))}), or give tz to Scheduler()"


def _cron(value: object) -> str:
    return f"write trigger={safe_repr(value)}"


def _at(value: object) -> str:
    return f"write trigger=At({safe_repr(value)})"


NEVER_TWICE = "leave it out: a task never overlaps itself; policy= says what a tick does while a run is in progress"
PARTS_OF_CRON = "write trigger='0 6 * * mon-fri': minute, hour, day, month, day of week"
COALESCE = "write missed=Missed.ONCE, the default, to run once for all missed ticks, or Missed.ALL to run each"
STORE = "write store='sqlite:///scheduler.db' or store='postgresql://user:password@host/database'"

SCHEDULE_TASK: Habits = {
    **units("interval_s"),
    **_renamed(
        {
            "kwargs": "kws",
            "parameters": "args",
            "id job_id task_id": "name",
            "interval every period": "interval_s",
            "function callback job target coro fn": "func",
            "timeout timeout_s deadline time_limit": "max_timeout_s",
            "max_retries attempts max_attempts tries": "retries",
            "retry_delay retry_backoff backoff": "retry_interval_s",
            "misfire_grace_time grace": "grace_s",
            "jitter max_jitter": "jitter_s",
            "next_run_time start_date start_at start": "first_run",
            "end_date end": "until",
            "replace_existing overwrite": "replace",
        }
    ),
    **_for_each(
        {
            "minute hour second day month day_of_week week year": PARTS_OF_CRON,
            "cron crontab schedule": _cron,
            "at run_date": _at,
            "timezone tz": _zone,
            "max_instances max_concurrency": NEVER_TWICE,
            "coalesce catchup": COALESCE,
            "run_immediately now": "write first_run=FirstRun.NOW",
            "jobstore": "write scope=Scope.CLUSTER here, and store= in Scheduler()",
            "executor": "leave it out: a plain function runs in a thread, an async def in the loop",
            "enabled paused": "leave it out, and call task.disable() or await task.pause()",
        }
    ),
}
PAUSE: Habits = {**units("for_s"), **_renamed({"timeout timeout_s duration interval_s": "for_s"})}
STOP: Habits = {**units("timeout_s"), **_renamed({"timeout": "timeout_s"}), "wait": "leave it out: stop() always waits"}

SCHEDULER_CALLS: dict[str, Habits] = {
    "__init__": {
        **_renamed({"timezone": "tz", "url database dsn": "store", "max_workers": "threads", "name": "app"}),
        **_for_each(
            {
                "jobstores redis broker": STORE,
                "executors": "write threads=8, how many plain functions may run at a time",
                "job_defaults tasks jobs": "give each task its options in schedule_task()",
                "loop": "leave it out: start() takes the loop that is running",
                "logger": "leave it out: log records go to the logger kaiju_app.scheduler",
            }
        ),
    },
    "schedule_task": SCHEDULE_TASK,
    "every": SCHEDULE_TASK,
    "cron": SCHEDULE_TASK,
    "task": SCHEDULE_TASK,
    "stop": STOP,
    "history": _renamed({"n count": "limit", "task id": "name"}),
    "runs": _renamed({"n count": "limit", "name id": "task", "outcome status": "outcomes", "reason": "reasons"}),
    "subscribe": _renamed({"callback func function handler fn": "listener"}),
}
TASK_CALLS: dict[str, Habits] = {
    "pause": PAUSE,
    "reschedule": {**SCHEDULE_TASK, "tz": _zone},
    "upcoming": _renamed({"count limit": "n"}),
}

SCHEDULE = "write schedule_task(func, interval_s=60) or schedule_task(func, trigger='0 6 * * mon-fri')"
DECORATE = "write @scheduler.every(60), @scheduler.cron('0 6 * * mon-fri') or @scheduler.task(trigger=...)"
SCHEDULER_METHODS = _for_each(
    {
        "add_job add_task add add_schedule schedule schedule_job add_periodic_task create_task submit": SCHEDULE,
        "scheduled_job job periodic_task repeat scheduled interval": DECORATE,
        "remove_job remove_task remove cancel_job remove_schedule": "write scheduler.tasks[name].remove()",
        "remove_all_jobs clear": "call remove() of each task in list(scheduler.tasks.values())",
        "get_job get_task get": "write scheduler.tasks[name]",
        "get_jobs jobs get_tasks get_schedules print_jobs": "write scheduler.tasks, a mapping by name",
        "shutdown close aclose quit": "write await scheduler.stop()",
        "run run_forever serve start_in_background": "write async with scheduler: or await scheduler.start()",
        "run_now run_task run_job trigger": "write await scheduler.tasks[name].run_now()",
        "pause": "write async with scheduler.suspend(): or await scheduler.tasks[name].pause()",
        "pause_job pause_task": "write await scheduler.tasks[name].pause()",
        "resume resume_job resume_task": "write await scheduler.tasks[name].resume()",
        "reschedule_job modify_job": "write scheduler.tasks[name].reschedule(60), or remove it and schedule it again",
        "add_listener on": "write scheduler.subscribe(listener)",
        "running is_running state": "write scheduler.started",
        "configure": "give the options to Scheduler()",
    }
)
TASK_METHODS = _for_each(
    {
        "run execute fire call trigger_now start": "write await task.run_now()",
        "stop abort kill terminate": "write task.cancel(reason) for the run in progress, task.remove() for the task",
        "delete unschedule close": "write task.remove()",
        "id key": "write task.name",
        "func function callback job": "write task.method",
        "next_run_time next_run next_at": "write task.next_run_at",
        "last_result last_error error exception": "write task.last_run",
        "paused is_paused is_suspended": "write task.suspended or task.state",
        "is_running started active": "write task.running",
        "kwargs": "write task.kws",
        "modify update": "write task.reschedule(60), or remove it and schedule it again",
        "interval": "write task.interval_s",
        "runs": "write task.history()",
        "unpause": "write await task.resume()",
        "join": "write await task.wait()",
    }
)
