"""``json_repr()`` of tasks and schedulers."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

from behaviour.tasks import job
from kaiju_app.scheduler import Every, ExecPolicy, FirstRun, Scheduler
from support.reading import ZERO, endings
from support.virtual import VirtualLoop


async def test_json_repr_of_the_scheduler_keeps_the_keys_of_the_original(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    task = scheduler.schedule_task(job, 10)
    told = scheduler.json_repr()
    assert (told["started"], told["time"], told["tasks"]) == (False, None, [task.json_repr()])

    async with scheduler:
        await asyncio.sleep(3)
        told = scheduler.json_repr()
        assert (told["started"], told["time"], told["tasks"]) == (True, 8.0, [task.json_repr()])
        assert told["time"] == loop.time()

    assert (scheduler.json_repr()["started"], scheduler.json_repr()["time"]) == (False, None)


async def test_json_repr_of_a_task_keeps_the_keys_of_the_original(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(
        asyncio.sleep, 10, (4,), policy=ExecPolicy.SKIP, max_timeout_s=7, retries=2, retry_interval_s=1.5, name="mine"
    )
    original = {
        "name": "mine",
        "policy": "SKIP",
        "enabled": True,
        "started": False,
        "interval_s": 10.0,
        "max_timeout_s": 7.0,
        "retries": 2,
        "retry_interval_s": 1.5,
        "called_at": None,
    }
    assert {key: task.json_repr()[key] for key in original} == original

    async with scheduler:
        await asyncio.sleep(13)
        assert {key: task.json_repr()[key] for key in original} == {**original, "started": True, "called_at": 15.0}
        await asyncio.sleep(2)
        task.disable()
        assert {key: task.json_repr()[key] for key in original} == {**original, "enabled": False, "called_at": 15.0}


async def test_json_repr_tells_when_the_function_was_called_last_whatever_was_skipped_since(loop: VirtualLoop) -> None:
    """This holds however few records are kept."""
    scheduler = Scheduler(clock=loop.virtual_clock, history=1)
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        task.disable()
        await asyncio.sleep(10)
        task.enable()

        assert endings(task.history()) == [("SKIPPED", "disabled", 1)]
        assert task.json_repr()["called_at"] == 5.0


async def test_json_repr_adds_what_else_is_known(scheduler: Scheduler) -> None:
    results = iter([None, OSError("disk on fire")])

    async def body() -> None:
        result = next(results)
        if result is not None:
            raise result

    task = scheduler.schedule_task(body, trigger=Every(10), first_run=FirstRun.NEXT)
    async with scheduler:
        await asyncio.sleep(16)
        async with task.suspend("migration"):
            told = json.loads(json.dumps(scheduler.json_repr(), allow_nan=False))["tasks"][0]
            assert told["state"] == "suspended"
            assert told["trigger"] == "every 10 s"
            assert told["next_run_at"] is None
            assert told["holds"] == [
                {
                    "holder": f"suspend() in {asyncio.current_task().get_name()}",  # type: ignore[union-attr]
                    "reason": "migration",
                    "since": (ZERO + timedelta(seconds=16)).isoformat(),
                }
            ]
        told = task.json_repr()
        assert told["next_run_at"] == (ZERO + timedelta(seconds=25)).isoformat()
        assert told["holds"] == []
        assert told["counts"] == {
            "SUCCEEDED": 1,
            "FAILED": 1,
            "TIMED_OUT": 0,
            "CANCELLED": 0,
            "SKIPPED": 0,
            "LOST": 0,
        }
        assert [(run["outcome"], run["reason"], run["error"]) for run in told["runs"]] == [  # type: ignore[attr-defined]
            ("SUCCEEDED", None, None),
            ("FAILED", None, "OSError: disk on fire"),
        ]


async def test_json_repr_of_a_run_is_json(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (1,), name="mine")
    async with scheduler:
        await asyncio.sleep(2)
        (run,) = task.history()

        begun, ended = ZERO.isoformat(), (ZERO + timedelta(seconds=1)).isoformat()
        assert json.loads(json.dumps(run.json_repr(), allow_nan=False)) == {
            "task": "mine",
            "scheduled_at": begun,
            "last_scheduled_at": begun,
            "count": 1,
            "more": False,
            "due": begun,
            "started_at": begun,
            "finished_at": ended,
            "outcome": "SUCCEEDED",
            "reason": None,
            "error": None,
            "attempts": 1,
            "delivery": 1,
            "instance": run.instance,
            "fence": None,
            "manual": False,
            "run_id": run.run_id,
            "lateness_s": 0.0,
            "duration_s": 1.0,
        }


async def test_json_repr_tells_the_holds_of_the_scheduler_and_of_each_task(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    await task.pause("lunch")
    async with scheduler.suspend("deploy"):
        told = json.loads(json.dumps(scheduler.json_repr()))

        assert [hold["reason"] for hold in told["tasks"][0]["holds"]] == ["lunch", "deploy"]
        assert [line.endswith(" (deploy)") for line in told["holds"]] == [True]


async def test_json_repr_is_json_whatever_a_task_is_made_of_and_does(scheduler: Scheduler) -> None:
    async def body(*args: Any) -> object:
        if len(args) == 1:
            raise ValueError("\ud800 \x00 \N{SNOWMAN}", object(), float("nan"))
        return object()

    scheduler.schedule_task(body, 10, (object(),), name="\N{SNOWMAN}")
    scheduler.schedule_task(body, 100 * 365 * 86_400)
    scheduler.schedule_task(asyncio.sleep, 10, (1000,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(35)
        told = json.loads(json.dumps(scheduler.json_repr(), allow_nan=False))

        assert [[run["outcome"] for run in task["runs"]] for task in told["tasks"]] == [
            ["FAILED"] * 4,
            ["SUCCEEDED"],
            ["SKIPPED", "TIMED_OUT"],
        ]
