"""What other schedulers do, asked of the libraries themselves, in their environment: ``theirs.py NAME`` prints JSON."""

import asyncio
import itertools
import json
import logging
import sys
import time
from datetime import UTC, datetime, timedelta

NOW = datetime(2027, 1, 1, tzinfo=UTC)  # A Friday.


def apscheduler_zero_is_monday():
    from apscheduler.triggers.cron import CronTrigger

    return CronTrigger.from_crontab("0 0 * * 0", timezone="UTC").get_next_fire_time(None, NOW).isoformat()


def apscheduler_day_and_weekday():
    from apscheduler.triggers.cron import CronTrigger

    return CronTrigger.from_crontab("0 0 13 * fri", timezone="UTC").get_next_fire_time(None, NOW).isoformat()


def apscheduler_first_interval():
    from apscheduler.triggers.interval import IntervalTrigger

    began = datetime.now(UTC)
    first = IntervalTrigger(seconds=60, timezone="UTC").get_next_fire_time(None, began)
    return round((first - began).total_seconds())


def apscheduler_defaults():
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

    async def ask():
        scheduler = AsyncIOScheduler()
        scheduler.start(paused=True)
        job = scheduler.add_job(print, "interval", seconds=60)
        found = job.max_instances, job.coalesce, job.misfire_grace_time
        scheduler.shutdown()
        return found

    return asyncio.run(ask())


def apscheduler_pause_returns_during_the_run():
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

    async def ask():
        scheduler = AsyncIOScheduler()
        at_work, over, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def body():
            at_work.set()
            await over.wait()
            ended.set()

        job = scheduler.add_job(body, "interval", seconds=60, next_run_time=datetime.now(UTC), misfire_grace_time=None)
        scheduler.start()
        await at_work.wait()
        job.pause()
        found = not ended.is_set()
        over.set()
        await ended.wait()  # It was not cancelled either.
        scheduler.shutdown()
        return found

    return asyncio.run(ask())


def apscheduler4_zero_is_sunday():
    from apscheduler.triggers.cron import CronTrigger

    return CronTrigger.from_crontab("0 0 * * 0", start_time=NOW, timezone="UTC").next().isoformat()


def apscheduler4_first_interval():
    from apscheduler.triggers.interval import IntervalTrigger

    return (IntervalTrigger(seconds=60, start_time=NOW).next() - NOW).total_seconds()


def apscheduler4_trigger_has_a_cursor():
    from apscheduler.triggers.interval import IntervalTrigger

    trigger = IntervalTrigger(seconds=60, start_time=NOW)
    return trigger.next() != trigger.next()


def aiocron_overlaps():
    import aiocron

    async def ask():
        now, most = 0, 0

        async def body():
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(2.5)
            now -= 1

        job = aiocron.crontab("* * * * * */1", func=body)
        await asyncio.sleep(4)
        job.stop()
        return most > 1

    return asyncio.run(ask())


def repeat_every_waits_after_the_end():
    from fastapi_utils.tasks import repeat_every

    async def ask():
        starts, third = [], asyncio.Event()

        @repeat_every(seconds=0.2, max_repetitions=3)
        async def body():
            starts.append(time.monotonic())
            if len(starts) == 3:
                third.set()
            await asyncio.sleep(0.2)

        await body()
        await third.wait()
        return min(after - before for before, after in itertools.pairwise(starts)) > 0.39

    return asyncio.run(ask())


def arq_zero_is_monday():
    from arq.cron import next_cron

    return next_cron(NOW, weekday=0, hour=0, minute=0, second=0).isoformat()


def celery_day_and_weekday():
    from celery import Celery
    from celery.schedules import crontab

    rule = crontab(minute=0, hour=0, day_of_month=13, day_of_week="fri", nowfun=lambda: NOW, app=Celery())
    return (NOW + rule.remaining_estimate(NOW)).isoformat()


def celery_zero_is_sunday():
    from celery import Celery
    from celery.schedules import crontab

    rule = crontab(minute=0, hour=0, day_of_week=0, nowfun=lambda: NOW, app=Celery())
    return (NOW + rule.remaining_estimate(NOW)).isoformat()


def celery_first_interval_is_due_at_once():
    from celery import Celery
    from celery.beat import ScheduleEntry

    entry = ScheduleEntry(name="each", task="each", schedule=timedelta(seconds=60), app=Celery())
    return entry.is_due().is_due


def discord_stops_at_an_exception():
    from discord.ext import tasks

    logging.disable(logging.CRITICAL)

    async def ask():
        calls = []

        @tasks.loop(seconds=0.05)
        async def body():
            calls.append(1)
            raise ValueError

        @body.error
        async def ignore(_):
            pass

        task = body.start()
        await asyncio.wait([task])
        return len(calls)

    return asyncio.run(ask())


def kaiju_tasks_and_names():
    from kaiju_scheduler import Scheduler

    async def body():
        """Do nothing."""

    scheduler = Scheduler()
    for _ in range(2):
        scheduler.schedule_task(body, 60, name="one")
    return [type(scheduler.tasks).__name__, *(task.name for task in scheduler.tasks)]


def kaiju_suspend_enables_a_disabled_task():
    from kaiju_scheduler import Scheduler

    async def body():
        """Do nothing."""

    async def ask():
        async with Scheduler() as scheduler:
            task = scheduler.schedule_task(body, 60)
            task.disable()
            async with task.suspend():
                pass
            return task.json_repr()["enabled"], task.json_repr()["called_at"]

    return asyncio.run(ask())


def kaiju_deadline_of_wait():
    from kaiju_scheduler import ExecPolicy, Scheduler

    return Scheduler().schedule_task(print, 60, policy=ExecPolicy.WAIT).max_timeout_s


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))
