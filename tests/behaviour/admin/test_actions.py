"""The endpoint acts on tasks: run, pause, resume, cancel; and says who did it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from behaviour.admin.common import Client, client_of
from behaviour.cluster.common import Journal, Made, share, started
from kaiju_app.admin import Access
from kaiju_app.admin._actions import MOST_WAITING
from kaiju_app.errors import TaskSuspended
from kaiju_app.scheduler import ExecPolicy, Scheduler, Scope
from support.reading import nothing
from support.virtual import VirtualLoop


async def long() -> None:
    await asyncio.sleep(20)


async def act(client: Client, name: str, what: str, body: Any = None, status: int = 200) -> Any:
    return await client.post(f"/api/tasks/{await client.id_of(name)}/{what}", body, status)


async def test_a_run_that_ends_in_time_is_answered_and_another_one_is_asked_for(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(long, 3600, name="long")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(100)
        ended = await act(client, "long", "run", {"wait_s": 30})
        asked = await act(client, "long", "run", {"wait_s": 5}, 202)
        await asyncio.sleep(20)
        latest = task.history()[-1]

    assert (ended["outcome"], ended["manual"], ended["duration_s"]) == ("SUCCEEDED", True, 20)
    assert asked.keys() == {"task", "task_id", "tick"}
    assert latest.manual
    assert asked["tick"] == latest.scheduled_at.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize("body", [{"wait_s": 31}, {"wait_s": -1}, {"wait_s": "5"}, {"wait": 5}, [], "x"])
async def test_a_body_that_is_wrong_is_refused_and_nothing_is_done(scheduler: Scheduler, body: Any) -> None:
    task = scheduler.schedule_task(nothing, 3600, name="one")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(1)
        answer = await client.http.post(f"/api/tasks/{await client.id_of('one')}/run", json=body)

    assert answer.status_code == 422
    assert len(task.history()) == 1


async def test_a_pause_says_who_made_it_where_from_and_why(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kaiju_app.admin")
    task = scheduler.schedule_task(nothing, 60, name="one")

    def authorize(_: object) -> tuple[Access, str]:
        return Access.OPERATE, "alice\n2027-01-15 ERROR forged"

    async with scheduler, client_of(scheduler, authorize=authorize, peer=("10.1.2.3", 9)) as client:
        await asyncio.sleep(1)
        paused = await act(client, "one", "pause", {"reason": "audit\x1b[31m\nof 2027", "for_s": 600})
        refused = await act(client, "one", "run", {}, 409)
        with pytest.raises(TaskSuspended, match="is suspended by alice"):
            await task.run_now()
        resumed = await act(client, "one", "resume")
        assert task.state == resumed["state"] == "waiting"

    [hold] = paused["holds"]
    assert hold["holder"] == r"alice\n2027-01-15 ERROR forged from 10.1.2.3"
    assert hold["reason"] == "audit\\x1b[31m\nof 2027"
    assert "audit" in refused["detail"]
    lines = [record.getMessage() for record in caplog.records]
    assert [line.count("\n") for line in lines] == [0] * 3
    assert "from 10.1.2.3 asked for a pause (for 600 s: " in lines[0]
    assert {record.__dict__["task"] for record in caplog.records} == {"one"}
    assert "and was refused: task 'one' is suspended" in lines[1]


async def test_cancel_ends_the_run_and_its_record_says_who_asked(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(long, 3600, name="long")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(1)
        await act(client, "long", "cancel", {"reason": "too late"})
        await asyncio.sleep(0)
        again = await act(client, "long", "cancel", {"reason": "too late"}, 409)

    assert (task.last_run.outcome, task.last_run.reason) == ("CANCELLED", "requested")  # type: ignore[union-attr]
    assert task.last_run.error == "cancelled by this machine from 127.0.0.1: too late"  # type: ignore[union-attr]
    assert again["title"] == "Nothing to cancel"


async def test_a_shielded_run_is_not_cancelled_and_the_refusal_says_why(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(long, 3600, name="long", policy=ExecPolicy.SHIELD)
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(1)
        refused = await act(client, "long", "cancel", {"reason": "too late"}, 409)
        assert task.running
        await asyncio.sleep(30)

    assert "a SHIELD run cannot be cancelled" in refused["detail"]
    assert task.last_run.outcome == "SUCCEEDED"  # type: ignore[union-attr]


async def test_a_refusal_tells_people_what_to_do_and_not_programmers_what_to_write(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(long, 3600, name="skips", policy=ExecPolicy.SKIP)
    scheduler.schedule_task(long, 3600, name="waits", policy=ExecPolicy.WAIT)
    async with client_of(scheduler) as client:
        stopped = await act(client, "skips", "run", {}, 409)
        async with scheduler:
            await asyncio.sleep(1)
            busy = await act(client, "skips", "run", {}, 409)
            await act(client, "waits", "run", {}, 202)
            queued = await act(client, "waits", "run", {}, 409)
            await task.wait()
            await act(client, "skips", "pause", {"reason": "audit"})
            paused = await act(client, "skips", "run", {}, 409)

    assert [each["detail"] for each in (stopped, busy, queued, paused)] == [
        "The scheduler of this process is stopped: its application has to start it",
        "task 'skips' is busy: a run is in progress and the policy is SKIP. Try again when that run has ended",
        "task 'waits' is busy: a run that was requested before is waiting already. Try again when that run has ended",
        (
            "task 'skips' is suspended by this machine from 127.0.0.1 (audit). Resume it if it is paused. Otherwise "
            "wait: the code that suspended it ends the suspension"
        ),
    ]


async def test_a_refusal_of_another_instance_tells_people_what_to_do(made: Made) -> None:
    a, b = made(), made()
    share(a, long, 3600, "job", policy=ExecPolicy.SKIP)
    async with started(a, b), client_of(b) as client:
        await asyncio.sleep(5)
        busy = await act(client, "job", "run", {"wait_s": 10}, 409)
        await asyncio.sleep(30)
        await act(client, "job", "pause", {"reason": "audit"})
        paused = await act(client, "job", "run", {}, 409)

    assert busy["detail"].startswith("task 'job' is busy: instance ")
    assert busy["detail"].endswith(" runs it. Try again when that run has ended")
    assert "(audit). Resume it if it is paused." in paused["detail"]


async def test_all_tasks_are_paused_and_resumed_at_once(scheduler: Scheduler) -> None:
    for number in range(40):
        scheduler.schedule_task(nothing, 60, name=str(number))
    async with scheduler, client_of(scheduler) as client:
        paused = await client.post("/api/pause", {"reason": "move"})
        states = {task.state for task in scheduler.tasks.values()}
        await asyncio.sleep(1)
        concerned = await client.get("/api/scheduler")
        resumed = await client.post("/api/resume")
        after = {task.state for task in scheduler.tasks.values()}

    assert (paused, states) == ({"tasks": 40, "elsewhere": [], "failed": []}, {"paused"})
    assert (resumed["tasks"], after) == (40, {"waiting"})
    assert (concerned["controlled_here"], concerned["paused"]) == (40, 40)


@pytest.mark.parametrize("scope", Scope)
async def test_a_paused_task_counts_as_paused_while_its_last_run_goes_on(loop: VirtualLoop, scope: Scope) -> None:
    scheduler = Scheduler("memory://", clock=loop.virtual_clock)
    scheduler.schedule_task(long, 3600, name="long", scope=scope)
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(5)
        await client.post("/api/pause", {"reason": "move"})
        await asyncio.sleep(5)
        found = await client.get("/api/scheduler")

    assert (found["states"], found["paused"]) == ({"running": 1}, 1)


async def test_only_so_many_requested_runs_are_waited_for(scheduler: Scheduler) -> None:
    for number in range(MOST_WAITING + 1):
        scheduler.schedule_task(long, 3600, name=str(number))
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(30)
        ids = [each["id"] for each in (await client.get("/api/tasks?limit=500"))["items"]]
        for each in ids[:-1]:
            await client.post(f"/api/tasks/{each}/run", {}, 202)
        refused = await client.post(f"/api/tasks/{ids[-1]}/run", {}, 429)
        await asyncio.sleep(30)
        await client.post(f"/api/tasks/{ids[-1]}/run", {}, 202)

    assert "wait for some of them" in refused["detail"]


# --- with a store ---


async def test_a_shared_task_obeys_any_instance_also_one_that_does_not_have_it(made: Made) -> None:
    journal = Journal(1)
    a, b = made(), made()
    task = share(a, journal.body("a"), 10, "job")
    share(b, nothing, 10, "other")
    async with started(a, b), client_of(a) as at_a, client_of(b) as client:
        await asyncio.sleep(15)
        paused = await act(client, "job", "pause", {"reason": "audit"})
        ran = len(journal.lines)
        await asyncio.sleep(50)
        assert len(journal.lines) == ran
        assert [each["reason"] for each in (await at_a.task("job"))["holds"]] == ["audit"]
        assert task.state == "paused"
        refused = await act(client, "job", "run", {"wait_s": 10}, 409)
        resumed = await act(client, "job", "resume")
        await asyncio.sleep(12)
        asked = await act(client, "job", "run", {"wait_s": 20})
        shown = await client.task("job")

    [hold] = paused["holds"]
    assert (paused["state"], hold["reason"]) == ("paused", "audit")
    assert hold["holder"].startswith("this machine from 127.0.0.1 on ")
    assert "audit" in refused["detail"]
    assert resumed["state"] in ("waiting", "running")
    assert (asked["outcome"], asked["manual"]) == ("SUCCEEDED", True)
    assert shown["recent"][-1] == "SUCCEEDED"


async def test_any_instance_cancels_a_run_of_another_one_and_its_record_says_who_asked(made: Made) -> None:
    a, b = made(), made()
    share(a, long, 30, "job")
    async with started(a, b), client_of(b) as client:
        await asyncio.sleep(5)
        await act(client, "job", "cancel", {"reason": "too late"})
        [run] = await b.history("job")
        again = await act(client, "job", "cancel", {"reason": "x"}, 409)
        share(b, long, 30, "job")
        await asyncio.sleep(60)
        runs = await b.history("job")

    assert (run.outcome, run.reason) == ("CANCELLED", "requested")
    assert run.error == "cancelled by this machine from 127.0.0.1: too late"
    assert run.duration_s == pytest.approx(5, abs=2.5)
    assert again["title"] == "Nothing to cancel"
    assert [each.outcome for each in runs] == ["CANCELLED", "SUCCEEDED"]


async def test_a_shielded_run_of_another_instance_is_not_cancelled_and_the_refusal_says_why(made: Made) -> None:
    a, b = made(), made()
    share(a, long, 3600, "job", policy=ExecPolicy.SHIELD, overlap_on_loss=True)
    async with started(a, b), client_of(b) as client:
        await asyncio.sleep(5)
        refused = await act(client, "job", "cancel", {"reason": "too late"}, 409)
        shown = await client.task("job")
        await asyncio.sleep(30)
        [run] = await b.history("job")

    assert "where its policy is SHIELD: such a run cannot be cancelled" in refused["detail"]
    assert shown["running"]
    assert shown["holds"] == []
    assert run.outcome == "SUCCEEDED"


async def test_a_local_task_of_another_instance_is_acted_on_only_there(made: Made) -> None:
    a, b = made(), made()
    a.schedule_task(nothing, 60, name="mine")
    async with started(a, b), client_of(a), client_of(b) as client:
        await asyncio.sleep(5)
        refused = [
            await act(client, "mine", what, body, 409)
            for what, body in [("pause", {"reason": "x"}), ("resume", {}), ("run", {}), ("cancel", {"reason": "x"})]
        ]
        whole = await client.post("/api/pause", {"reason": "move"})

        assert a.tasks["mine"].state == "waiting"
    assert all("only the endpoint of that process can act on it" in each["detail"] for each in refused)
    assert len(whole["elsewhere"]) == 1
    assert whole["tasks"] == 0


async def test_a_task_that_nobody_has_is_not_found(made: Made) -> None:
    a = made()
    async with a, client_of(a) as client:
        answer = await client.post("/api/tasks/nobody-abc/pause", {"reason": "x"}, 404)

    assert "GET api/tasks lists the tasks" in answer["detail"]
