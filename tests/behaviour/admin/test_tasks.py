"""The endpoint shows tasks: lists with filters, orders and pages; everything of one; what comes."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from behaviour.admin.common import client_of
from behaviour.cluster.common import Made, share, started
from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import Backoff, Cron, ExecPolicy, Scheduler, Scope
from kaiju_app.stores import MemoryStore
from support.reading import ZERO, at, nothing
from support.virtual import VirtualLoop

SHOWN = {
    "<img src=x onerror=alert(1)>": "<img src=x onerror=alert(1)>",
    "a/b": "a/b",
    "a%2Fb": "a%2Fb",
    "..": "..",
    "nul\0nul": "nul\\x00nul",
    "😀" * 250: "😀" * 250,
    "\ud800": "\\ud800",
    "\x1b[31mred\n": "\\x1b[31mred\\n",
    "tab\t \u202e": "tab\\t \\u202e",
}
HOSTILE = list(SHOWN)


async def fail() -> None:
    """Fail, as it should."""
    raise RuntimeError("no \x1b[31mway\x07\nDSN postgresql://me:hunter2@db/x password=hunter3 \u202eevil")


async def long() -> None:
    await asyncio.sleep(1000)


def names(page: Any) -> list[str]:
    return [each["name"] for each in page["items"]]


async def test_a_list_tells_of_each_task_what_a_person_wants_to_know_first(scheduler: Scheduler) -> None:
    scheduler.schedule_task(nothing, 60, name="fine")
    scheduler.schedule_task(fail, 60, name="failing")
    scheduler.schedule_task(long, 3600, name="long", policy=ExecPolicy.SHIELD)
    scheduler.schedule_task(nothing, trigger=Cron("0 6 * * mon-fri", tz="Europe/Berlin"), name="report")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(130)
        await scheduler.tasks["fine"].pause("audit", 600, holder="alice")
        page = await client.get("/api/tasks")
    failing, fine, running, report = page["items"]

    assert (page["next"], page["partial"]) == (None, None)
    assert (fine["state"], fine["next_run_at"], fine["rule"]) == ("paused", None, "every minute")
    [hold] = fine["holds"]
    assert (hold["holder"], hold["reason"]) == ("alice", "audit")
    assert at_of(hold["until"]) - at_of(hold["since"]) == 600
    assert fine["recent"] == ["SUCCEEDED"] * 3
    assert (failing["state"], at_of(failing["next_run_at"])) == ("waiting", 180)
    assert failing["last_run"]["outcome"] == "FAILED"
    assert failing["last_run"]["duration_s"] == 0
    assert failing["counts"]["FAILED"] == 3
    assert (running["state"], running["running"], running["last_run"]) == ("running", True, None)
    assert running["runs_in"] == running["process"]
    assert report["rule"] == "At 06:00 on Monday through Friday, Europe/Berlin (0 6 * * mon-fri)"
    assert all(each["controlled_here"] for each in page["items"])


def at_of(text: str) -> float | None:
    from datetime import datetime

    assert text.endswith("Z")
    return at(datetime.fromisoformat(text))


async def test_no_error_acts_on_a_terminal_and_no_password_leaves(scheduler: Scheduler) -> None:
    scheduler.schedule_task(fail, 60, name="failing")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(1)
        found = [await client.get("/api/tasks"), await client.task("failing")]

    text = json.dumps(found, ensure_ascii=False)
    assert not {"\x1b", "\x07", "\u202e"} & {*text}
    assert "hunter" not in text
    assert found[1]["last_run"]["error"] == r"RuntimeError: no \x1b[31mway\x07"


@pytest.mark.parametrize("name", HOSTILE)
async def test_any_name_has_an_address(scheduler: Scheduler, name: str) -> None:
    scheduler.schedule_task(nothing, 60, name=name)
    async with scheduler, client_of(scheduler) as client:
        [item] = (await client.get("/api/tasks"))["items"]
        found = await client.get(f"/api/tasks/{item['id']}")
        await client.post(f"/api/tasks/{item['id']}/pause", {"reason": "why"})

        assert scheduler.tasks[name].state == "paused"
    assert item["id"] == found["id"]
    assert set(item["id"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert item["name"] == found["name"] == SHOWN[name]


async def test_no_answer_has_a_character_of_a_name_that_acts_on_a_terminal(scheduler: Scheduler) -> None:
    scheduler.schedule_task(fail, 60, name="\x1b[31mred")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(61)
        task = (await client.get("/api/tasks"))["items"][0]["id"]
        asked = await client.post(f"/api/tasks/{task}/run")
        paths = ("runs", "upcoming", "timeline", f"tasks/{task}", f"tasks/{task}/runs", f"tasks/{task}/explain")
        found = [asked, *[await client.get(f"/api/{path}") for path in paths]]
        found.append(await client.get("/api/tasks", params={"q": "\\X1B[31"}))
        found.append(await client.get("/api/tasks", params={"q": "\x1b[31"}))

    for each in found:
        text = json.dumps(each, ensure_ascii=False)
        assert "\\u001b" not in text
        assert r"\\x1b[31mred" in text


async def test_ids_are_the_same_in_every_process_and_differ_for_different_names() -> None:
    from kaiju_app.admin._ids import id_of

    assert id_of("refresh") == "refresh-23gaucema5udyzon"
    assert len({id_of(name) for name in (*HOSTILE, "a-b", "A-B", "a b")}) == len(HOSTILE) + 3


@pytest.fixture
def many(scheduler: Scheduler) -> Scheduler:
    """A scheduler of 25 tasks in several states: each fifth fails, two are paused, one is disabled."""
    for number in range(25):
        func = fail if number % 5 == 0 else nothing
        scheduler.schedule_task(func, 100 + number, name=f"Task {number:02}")
    scheduler.tasks["Task 07"].disable()
    return scheduler


@pytest.mark.parametrize("sort", ["name", "-name", "next_run_at", "-next_run_at", "last_run_at", "-state"])
async def test_pages_put_together_are_the_whole_list_in_its_order(many: Scheduler, sort: str) -> None:
    async with many, client_of(many) as client:
        await asyncio.sleep(130)
        await many.tasks["Task 03"].pause("one")
        whole = names(await client.get(f"/api/tasks?sort={sort}&limit=500"))
        pages: list[str] = []
        cursor = ""
        while cursor is not None:
            page = await client.get(f"/api/tasks?sort={sort}&limit=4{cursor and '&cursor='}{cursor}")
            assert len(page["items"]) <= 4
            pages += names(page)
            cursor = page["next"]
        times = {name: task.next_run_at for name, task in many.tasks.items()}

    assert pages == whole
    assert sorted(whole) == sorted(many.tasks)
    if sort == "name":
        assert whole == sorted(whole)
    if sort.endswith("next_run_at"):
        known = [times[name] for name in whole if times[name] is not None]
        assert known == sorted(known, reverse=sort.startswith("-"))  # type: ignore[type-var]
        assert {whole[-1], whole[-2]} == {"Task 03", "Task 07"}, "what has no time comes last"


async def test_a_page_goes_on_where_the_one_before_ended_while_tasks_come_and_go(many: Scheduler) -> None:
    async with many, client_of(many) as client:
        page = await client.get("/api/tasks?limit=10")
        many.tasks["Task 09"].remove()
        many.tasks["Task 02"].remove()
        many.schedule_task(nothing, 10, name="Task 00a")
        after = await client.get(f"/api/tasks?limit=10&cursor={page['next']}")

    assert names(after) == [f"Task {number}" for number in range(10, 20)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=TASK 1", 10),
        ("q=task 1&outcome=FAILED", 2),
        ("outcome=FAILED", 5),
        ("outcome=FAILED&outcome=SUCCEEDED", 24),
        ("state=paused", 1),
        ("state=paused&state=disabled", 2),
        ("state=waiting&outcome=FAILED&sort=next_run_at", 5),
        ("scope=CLUSTER", 0),
        ("scope=LOCAL", 25),
        ("q=nothing", 0),
    ],
)
async def test_filters(many: Scheduler, query: str, found: int) -> None:
    async with many, client_of(many) as client:
        await asyncio.sleep(1)
        await many.tasks["Task 03"].pause("one")
        page = await client.get(f"/api/tasks?limit=500&{query}")

    assert len(page["items"]) == found


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=0", 422),
        ("limit=501", 422),
        ("limit=many", 422),
        ("state=asleep", 422),
        ("sort=colour", 422),
        ("stat=paused", 422),
        ("cursor=nonsense", 404),
        ("cursor=W10", 404),
        ("sort=-name&cursor=WyJuYW1lIiwiIiwiYSIsIiJd", 404),
        ("cursor=WyJuYW1lIiwiIiwiYSIsIiJd", 200),
    ],
)
async def test_a_list_that_cannot_be_given_is_refused_with_the_place_of_the_mistake(
    many: Scheduler, query: str, status: int
) -> None:
    async with many, client_of(many) as client:
        answer = await client.get(f"/api/tasks?{query}", status)

    if status == 422:
        assert [each["where"].split()[1] for each in answer["errors"]] == [query.split("=")[0]]


class Caller:
    """Can be called."""

    async def __call__(self) -> None:
        """Do what it can."""

    async def method(self) -> None:
        """Do a method."""


async def test_one_task_is_told_with_its_options_and_where_its_function_is(scheduler: Scheduler) -> None:
    pause = Backoff(initial_s=1, factor=2, max_s=60, jitter=0.1)
    scheduler.schedule_task(fail, 60, name="a", retries=2, retry_interval_s=pause, max_timeout_s=30, jitter_s=5)
    scheduler.schedule_task(Caller().method, 60, name="b")
    scheduler.schedule_task(Caller(), 60, name="c")
    async with scheduler, client_of(scheduler) as client:
        a, b, c = [await client.task(name) for name in "abc"]

    assert (a["policy"], a["interval_s"], a["retries"], a["max_timeout_s"], a["jitter_s"]) == ("CANCEL", 60, 2, 30, 5)
    assert a["retry_interval_s"] == pause.json_repr()
    assert a["function"] == "behaviour.admin.test_tasks.fail"
    assert a["defined_at"] == f"{__file__}:{fail.__code__.co_firstlineno}"
    assert a["doc"] == "Fail, as it should."
    assert (b["function"], b["doc"]) == ("behaviour.admin.test_tasks.Caller.method", "Do a method.")
    assert c["function"] == "behaviour.admin.test_tasks.Caller"
    assert (a["missed"], a["on_lost"], a["note"]) == ("ONCE", None, None)


async def priced(shelf: str, *, token: str) -> dict[str, object]:
    return {"shelf": shelf, "token": token, "items": list(range(100))}


VALUES = ("args", "kwargs", "result")


async def test_arguments_and_results_are_shown_only_if_the_task_was_registered_so(scheduler: Scheduler) -> None:
    given = {"args": ("7\x1b[31m",), "kws": {"token": "hunter2"}}
    shows = scheduler.schedule_task(priced, 60, **given, name="shows", show=True)  # type: ignore[arg-type]
    quiet = scheduler.schedule_task(priced, 60, **given, name="quiet")  # type: ignore[arg-type]
    async with client_of(scheduler) as client:
        early = await client.task("shows")
        async with scheduler:
            await asyncio.sleep(1)
            found, hidden = await client.task("shows"), await client.task("quiet")
            everything = [await client.get(path) for path in ("/api/tasks", "/api/runs", "/api/timeline")]

    assert (shows.show, quiet.show) == (True, False)
    assert [early[each] for each in VALUES] == [["'7\\x1b[31m'"], {"token": "***"}, None]
    result = r"{'shelf': '7\x1b[31m', 'token': ***, 'items': [0, 1, 2, 3, 4, 5, 6, 7, ... 92 more]}"
    assert [found[each] for each in VALUES] == [["'7\\x1b[31m'"], {"token": "***"}, result]
    assert [hidden[each] for each in VALUES] == [None] * 3
    assert "hunter" not in json.dumps([found, hidden, everything])


async def test_arguments_and_results_of_a_cluster_task_are_shown_where_it_is_registered_so(made: Made) -> None:
    a, b, c = made(), made(), made()
    share(a, priced, 3600, "job", args=("7",), kws={"token": "hunter2"}, show=True)
    async with started(a):
        await asyncio.sleep(5)
        share(b, priced, 3600, "job", args=("7",), kws={"token": "hunter2"})
        async with started(b, c), client_of(a) as at_a, client_of(b) as at_b, client_of(c) as at_c:
            await asyncio.sleep(5)
            found = [await each.task("job") for each in (at_a, at_b, at_c)]

    assert [found[0]["args"], found[0]["kwargs"]] == [["'7'"], {"token": "***"}]
    assert found[0]["result"].startswith("{'shelf': '7', 'token': ***, ")
    assert [[each[field] for field in VALUES] for each in found[1:]] == [[None] * 3] * 2


async def test_of_a_task_that_is_removed_nothing_is_kept_that_says_it_is_shown(made: Made) -> None:
    scheduler = made()
    share(scheduler, nothing, 60, "job", show=True)
    for number in range(10):
        scheduler.schedule_task(nothing, 60, name=str(number), show=True)
    async with started(scheduler):
        await asyncio.sleep(5)
        for task in list(scheduler.tasks.values()):
            task.remove()

    assert not scheduler._engine.recorder.shown


@pytest.mark.parametrize("wrong", [1, None, "yes"])
async def test_show_is_true_or_false(scheduler: Scheduler, wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="show must be True or False, got"):
        scheduler.schedule_task(nothing, 60, show=wrong)
    assert not scheduler.tasks


async def test_what_comes_is_in_order_for_all_tasks_and_for_one_with_remarks(scheduler: Scheduler) -> None:
    scheduler.schedule_task(nothing, 7, name="seven")
    scheduler.schedule_task(nothing, 5, name="five")
    scheduler.schedule_task(nothing, 5, name="off").disable()
    scheduler.schedule_task(nothing, trigger=Cron("30 2 * * *", tz="Europe/Berlin"), name="nightly")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(1)
        soon = await client.get("/api/upcoming?limit=6")
        until = (ZERO + timedelta(seconds=20)).isoformat()
        short = await client.get("/api/upcoming", params={"to": until})
        all_of_five = await client.get(f"/api/tasks/{await client.id_of('five')}/upcoming?n=3")
        nightly = await client.get(f"/api/tasks/{await client.id_of('nightly')}/upcoming")

    assert [(each["task"], at_of(each["due"])) for each in soon["items"]] == [
        ("five", 5), ("seven", 7), ("five", 10), ("seven", 14), ("five", 15), ("five", 20)
    ]  # fmt: skip
    assert soon["truncated"]
    assert [at_of(each["due"]) for each in short["items"]] == [5, 7, 10, 14, 15, 20]
    assert not short["truncated"]
    assert [at_of(each["due"]) for each in all_of_five["items"]] == [5, 10, 15]
    assert all_of_five["remarks"] == []
    assert len(nightly["items"]) == 10
    assert any("skipped hour" in each["text"] or "02:30" in each["text"] for each in nightly["remarks"]), nightly


# --- with a store ---


async def test_every_instance_shows_the_tasks_of_all_and_who_runs_them(made: Made, store: MemoryStore) -> None:
    a, b = made(version=3), made(version=3)
    share(a, long, 3600, "both")
    share(b, long, 3600, "both")
    share(a, nothing, 10, "only a")
    a.schedule_task(nothing, 10, name="local of a")
    async with started(a, b), client_of(a) as at_a, client_of(b) as at_b:
        await asyncio.sleep(25)
        shown = [{each["name"]: each for each in (await each_.get("/api/tasks"))["items"]} for each_ in (at_a, at_b)]
        instances = (await at_b.get("/api/instances"))["items"]
        scheduler = await at_b.get("/api/scheduler")
        [mine] = [each["id"] for each in instances if each["answers"]]
        remote = await at_b.task("only a")

    assert {*shown[0]} == {*shown[1]} == {"both", "only a", "local of a"}
    both = [each["both"] for each in shown]
    assert both[0]["state"] == both[1]["state"] == "running"
    assert both[0]["runs_on"] == both[1]["runs_on"] in {each["id"] for each in instances}
    assert [each["only a"]["recent"] for each in shown] == [["SUCCEEDED"] * 3] * 2
    assert [each["only a"]["rule"] for each in shown] == ["every 10 s"] * 2
    assert remote["note"].startswith("Only other instances have it")
    assert remote["policy"] is None
    local, elsewhere = (each["local of a"] for each in shown)
    assert (local["controlled_here"], local["state"], local["scope"]) == (True, "waiting", "LOCAL")
    assert (elsewhere["controlled_here"], elsewhere["state"], elsewhere["scope"]) == (False, "unknown", "LOCAL")
    assert elsewhere["instance"] == local["instance"] != mine
    assert elsewhere["id"] != local["id"]
    assert [each["version"] for each in instances] == [[3], [3]]
    assert all(each["since"] and each["heard_at"] and each["pid"] for each in instances)
    assert (scheduler["instances"], scheduler["tasks"]) == (2, 3)
    assert scheduler["states"] == {"running": 1, "waiting": 1, "unknown": 1}
    assert scheduler["store"]["state"] == "ok"
    assert abs(scheduler["store"]["clock_offset_s"]) <= scheduler["store"]["clock_doubt_s"] < 0.1


async def test_while_the_store_is_away_what_is_known_here_is_shown_and_said_to_be_part(
    loop: VirtualLoop, made: Made
) -> None:
    from behaviour.cluster.common import Fragile

    store = Fragile(loop)
    a = made(store=store)
    share(a, nothing, 10, "shared")
    a.schedule_task(nothing, 10, name="local")
    async with a, client_of(a) as client:
        await asyncio.sleep(5)
        store.is_away = True
        await asyncio.sleep(30)
        page = await client.get("/api/tasks")
        ready = await client.get("/health/ready", 503)
        live = await client.get("/health/live")
        refused = await client.post(f"/api/tasks/{await client.id_of('shared')}/pause", {"reason": "x"}, 503)

    assert names(page) == ["local", "shared"]
    assert page["partial"].startswith("only what this instance knows: store 'memory' is unavailable")
    assert ready["reasons"][0].startswith("store memory: unavailable for ")
    assert live["healthy"]
    assert "make it reachable" in refused["detail"]


async def test_a_scheduler_that_is_not_started_shows_its_tasks_and_is_not_alive(scheduler: Scheduler) -> None:
    scheduler.schedule_task(nothing, 60, name="one")
    async with client_of(scheduler) as client:
        page = await client.get("/api/tasks")
        health = await client.get("/health/live", 503)

    assert [each["state"] for each in page["items"]] == ["stopped"]
    assert health == {"healthy": False, "reasons": ["the scheduler is not started"]}


async def test_a_task_that_has_not_succeeded_in_time_is_shown_and_makes_the_process_unready(
    scheduler: Scheduler,
) -> None:
    scheduler.schedule_task(fail, 60, name="secret name", expect_success_within_s=100)
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(90)
        assert not (await client.task("secret name"))["overdue"]
        await client.get("/health/ready")
        await asyncio.sleep(60)
        shown = await client.task("secret name")
        ready = await client.get("/health/ready", 503)
        await client.get("/health/live")

    assert (shown["overdue"], shown["expect_success_within_s"]) == (True, 100)
    assert ready["reasons"] == ["tasks that have not succeeded in time: 1"], "anybody may read it"


async def test_how_long_the_loop_was_blocked_is_told(loop: VirtualLoop, scheduler: Scheduler) -> None:
    async def block() -> None:
        loop.virtual_clock.block(3)

    scheduler.schedule_task(block, 20, name="blocks")
    scheduler.schedule_task(nothing, 1, name="often")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(30)
        lag = (await client.get("/api/scheduler"))["loop_lag"]

    assert lag.keys() == {"p50_s", "p99_s", "max_s", "cause"}
    assert lag["max_s"] >= 2


async def test_an_application_can_be_given_instead_of_its_scheduler(scheduler: Scheduler) -> None:
    from kaiju_app import Application
    from kaiju_app.admin import admin

    app = Application("shop", scheduler=scheduler)
    scheduler.schedule_task(nothing, 60, name="one", scope=Scope.LOCAL)
    async with app, client_of(admin(app)) as client:
        assert names(await client.get("/api/tasks")) == ["one"]


async def test_who_does_not_have_a_task_tells_the_same_of_its_coming_ticks(made: Made) -> None:
    a, b = made(), made()
    share(a, nothing, 600, "plain")
    share(a, nothing, 600, "jittered", jitter_s=200)
    share(a, nothing, 600, "short", until=ZERO + timedelta(minutes=25))
    share(a, nothing, None, "cron", trigger=Cron("*/7 * * * *"))
    async with started(a, b), client_of(a) as at_a, client_of(b) as at_b:
        await asyncio.sleep(25)
        of_all = [await each.get("/api/upcoming?limit=500") for each in (at_a, at_b)]
        of_one = [await each.get(f"/api/tasks/{(await each.task('cron'))['id']}/upcoming?n=5") for each in (at_a, at_b)]

    assert of_all[0] == of_all[1]
    assert [sum(each["task"] == name for each in of_all[1]["items"]) for name in ("plain", "cron", "short")] == [
        6,
        9,
        2,
    ]
    assert of_one[0]["items"] == of_one[1]["items"]
    assert len(of_one[1]["items"]) == 5
