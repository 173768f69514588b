"""Three processes share tasks through a store: each endpoint shows, explains and controls what the others do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from processes.admin.members import Member, eventually, members
from processes.group import LEASE
from support.postgres_server import Server

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.timeout(120)]


@dataclass(frozen=True)
class Sharers:
    """Processes that share tasks.

    Args:
        by_lease: The death of a process is noticed by its lease; otherwise by a lock of the operating system.
    """

    members: list[Member]
    by_lease: bool


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def sharers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sharers]:
    """Three processes; they start only once for each store, as that takes longer than the tests."""
    directory = tmp_path_factory.mktemp("members")
    url = f"sqlite:///{directory / 'store.db'}"
    with ExitStack() as stack:
        if by_lease := request.param == "postgres":
            server = stack.enter_context(Server(request.getfixturevalue("programs")))
            server.create_database("members")
            url = server.dsn("members")
        yield Sharers(stack.enter_context(members(directory, url, LEASE)), by_lease)


def test_a_pause_at_one_is_honoured_and_told_at_all_of_them(sharers: Sharers) -> None:
    found = sharers.members
    a, _, c = found
    key = a.task("often")["id"]
    eventually(lambda: len(a.runs("often", outcome="SUCCEEDED")) >= 2, found)

    paused = a.post(f"tasks/{key}/pause", reason="audit of the till").json()
    for each in found:
        eventually(lambda each=each: held_and_idle(each.task("often")), found)
    last = a.runs("often")[0]
    time.sleep(3 * 0.5)  # Three ticks come and go.
    told = [each.task("often") for each in found]
    latest = [each.runs("often")[0] for each in found]
    during = [each.get(f"tasks/{key}/explain") for each in found]
    refused = [each.post(f"tasks/{key}/run") for each in found]
    resumed = c.post(f"tasks/{key}/resume")
    for each in found:
        eventually(lambda each=each: started_after(each, "often", last["run_id"]), found)

    holder = paused["holds"][0]["holder"]
    assert [(holder, "audit of the till")] * 3 == [(hold["holder"], hold["reason"]) for hold in holds_of(told)]
    assert ["paused"] * 3 == [each["state"] for each in told]
    assert [last["run_id"]] * 3 == [each["run_id"] for each in latest]
    assert {"held"} == {cause["kind"] for each in during for cause in each["causes"]}, during
    assert all("audit of the till" in each["sentence"] and holder in each["sentence"] for each in during)
    assert [409] * 3 == [each.status_code for each in refused]
    assert all("audit of the till" in each.text for each in refused)
    assert resumed.json()["holds"] == []


def test_any_process_explains_what_another_one_has_run(sharers: Sharers) -> None:
    found = sharers.members
    a = found[0]
    key = a.task("often")["id"]
    run = eventually(lambda: a.runs("often", outcome="SUCCEEDED"), found)[0]
    told = [each.get(f"tasks/{key}/explain", at=run["scheduled_at"]) for each in found]
    [local] = [each for each in a.get("tasks")["items"] if each["process"] not in (None, process_of(a))][:1]
    elsewhere = a.post(f"tasks/{local['id']}/run")

    assert [("ran", run["run_id"])] * 3 == [(each["fate"], each["run"]["run_id"]) for each in told]
    assert all(run["instance"] in each["sentence"] for each in told), told
    assert local["process"] in elsewhere.json()["detail"]
    assert elsewhere.status_code == 409


def test_any_process_cancels_the_run_of_another_one(sharers: Sharers) -> None:
    found = sharers.members
    a = found[0]
    key = a.task("long")["id"]
    a.post(f"tasks/{key}/run")
    task = eventually(lambda: running(a, "long"), found)
    other = next(each for each in found if str(each.pid) != task["runs_in"].rpartition(":")[2])

    asked = time.monotonic()
    answer = other.post(f"tasks/{key}/cancel", reason="by mistake")
    took_s = time.monotonic() - asked
    runs = [eventually(lambda each=each: ended(each, "long", task["runs_on"]), found) for each in found]

    assert answer.status_code == 200, answer.text
    assert took_s < LEASE.renew_s + LEASE.poll_s + 1  # The second is for a busy machine.
    assert {("CANCELLED", "requested")} == {(each["outcome"], each["reason"]) for each in runs}
    assert {"cancelled by this machine from 127.0.0.1: by mistake"} == {each["error"] for each in runs}


def test_a_killed_process_is_told_and_its_run_taken_over_within_the_bound_of_the_store(sharers: Sharers) -> None:
    """It is the last of these tests: a process is missing afterwards."""
    bound_s = LEASE.failover_s if sharers.by_lease else 2.0  # Of these one second is for a busy machine.
    found = sharers.members
    a = found[0]
    key = a.task("long")["id"]
    a.post(f"tasks/{key}/run")  # Unless the first tick is still in progress.
    task = eventually(lambda: running(a, "long"), found)
    owner = next(each for each in found if str(each.pid) == task["runs_in"].rpartition(":")[2])
    others = [each for each in found if each is not owner]
    if sharers.by_lease:  # They trust the clock of the store only after that.
        time.sleep(LEASE.ttl_s + LEASE.grace_s + LEASE.poll_s)

    owner.process.kill()
    killed = time.time()
    lost = [eventually(lambda each=each: each.runs("long", outcome="LOST"), others)[0] for each in others]
    again = [eventually(lambda each=each: running(each, "long", unlike=task), others) for each in others]
    explained = [each.get(f"tasks/{key}/explain", at=lost[0]["scheduled_at"]) for each in others]
    alive = [eventually(lambda each=each: instances(each, 2), others) for each in others]

    assert lost[0]["run_id"] == lost[1]["run_id"]
    assert [task["runs_on"]] * 2 == [each["instance"] for each in lost]
    assert again[0]["runs_in"] == again[1]["runs_in"]
    assert again[0]["runs_in"].rpartition(":")[2] in {str(each.pid) for each in others}
    assert all(f"instance {task['runs_on']}" in each["sentence"] for each in explained), [
        each["sentence"] for each in explained
    ]
    assert all(task["runs_in"] not in {each["process"] for each in left} for left in alive)
    late_s = [seconds_after(killed, each["finished_at"]) for each in lost]
    assert max(late_s) < bound_s, late_s


def held_and_idle(task: Any) -> bool:
    return bool(task["holds"]) and not task["running"]


def holds_of(tasks: list[Any]) -> list[Any]:
    return [hold for each in tasks for hold in each["holds"]]


def started_after(member: Member, name: str, run_id: str) -> bool:
    run = member.runs(name, outcome="SUCCEEDED")[0]
    return bool(run["run_id"] != run_id)


def running(member: Member, name: str, unlike: Any = None) -> Any:
    task = member.task(name)
    is_other = unlike is None or task["runs_on"] != unlike["runs_on"]
    return task if task["running"] and task["runs_in"] and is_other else None


def ended(member: Member, name: str, instance: str) -> Any:
    return next((each for each in member.runs(name, outcome="CANCELLED") if each["instance"] == instance), None)


def instances(member: Member, number: int) -> Any:
    found = member.get("instances")["items"]
    return found if len(found) == number else None


def process_of(member: Member) -> Any:
    return next(each["process"] for each in member.get("instances")["items"] if each["answers"])


def seconds_after(since: float, moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp() - since
