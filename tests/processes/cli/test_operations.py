"""The commands that change something, against an endpoint at an address."""

from __future__ import annotations

from collections.abc import Iterator

import jsonschema_rs
import pytest

from kaiju_app._core.text import ACTING
from processes.cli.calls import EVIL, endpoint, kaiju
from processes.cli.test_questions import schema_of

pytestmark = pytest.mark.realtime


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with endpoint() as url:
        yield url


def test_a_task_is_paused_with_a_reason_for_some_time_and_resumed(url: str) -> None:
    paused = kaiju("pause", "later", "--reason", "audit \x1b[31m", "--for", "2h", "--url", url)
    held = kaiju("show", "later", "--json", "--url", url).json["holds"]
    refused = kaiju("run-now", "later", "--url", url)
    resumed = kaiju("resume", "later", "--url", url)

    assert (paused.status, resumed.status, resumed.out) == (0, 0, "later: waiting\n")
    assert paused.out.startswith("later: paused, held by this machine from 127.0.0.1, until ")
    assert not ACTING.search(paused.out)
    assert [each["reason"] for each in held] == ["audit \\x1b[31m"]
    assert (refused.status, refused.out) == (1, "")
    assert "audit" in refused.err


def test_a_run_can_be_asked_for_and_waited_for(url: str) -> None:
    asked, waited = kaiju("run-now", "poll", "--url", url), kaiju("run-now", EVIL, "--wait", "20", "--url", url)
    failed = kaiju("run-now", "stock", "--wait", "20s", "--url", url)

    assert (asked.status, waited.status) == (0, 0)
    assert waited.out.startswith("✓ succeeded after ")
    assert failed.status == 1
    assert failed.out.startswith("✗ failed after ")
    assert "RuntimeError: shelf 7 has no label \\x1b[31m" in failed.out


def test_a_run_that_has_not_ended_in_time_is_no_success(url: str) -> None:
    kaiju("cancel", "endless", "--reason", "for the test", "--url", url)
    waited = kaiju("run-now", "endless", "--wait", "100ms", "--url", url)

    assert waited.status == 1
    assert "has not ended within" in waited.out


def test_a_run_is_cancelled_unless_it_is_shielded(url: str) -> None:
    kaiju("run-now", "endless", "--url", url)
    cancelled = kaiju("cancel", "endless", "--reason", "too long", "--url", url)
    refused = kaiju("cancel", "shielded", "--reason", "too long", "--url", url)
    nothing = kaiju("cancel", "later", "--reason", "too long", "--url", url)

    assert (cancelled.status, refused.status, nothing.status) == (0, 1, 1)
    assert cancelled.out.startswith("endless: ")
    assert "its run was asked to end" in cancelled.out
    assert "SHIELD" in refused.err
    assert "No run is in progress" in nothing.err


def test_all_tasks_are_paused_and_resumed(url: str) -> None:
    paused = kaiju("pause", "--all", "--reason", "night", "--url", url)
    states = {each["state"] for each in kaiju("tasks", "--json", "--url", url).json["items"]}
    resumed = kaiju("resume", "--all", "--url", url)

    assert (paused.status, paused.out) == (0, "Paused 8 tasks.\n")
    assert states == {"paused", "running"}
    assert (resumed.status, resumed.out) == (0, "Resumed 8 tasks.\n")


@pytest.mark.parametrize(
    ("arguments", "path", "status"),
    [
        (["run-now", "poll", "--wait", "20"], "/api/tasks/{id}/run", "200"),
        (["run-now", "endless", "--wait", "10ms"], "/api/tasks/{id}/run", "202"),
        (["pause", "later", "--reason", "why"], "/api/tasks/{id}/pause", "200"),
        (["resume", "later"], "/api/tasks/{id}/resume", "200"),
        (["cancel", "endless", "--reason", "why"], "/api/tasks/{id}/cancel", "200"),
        (["pause", "--all", "--reason", "why"], "/api/pause", "200"),
        (["resume", "--all"], "/api/resume", "200"),
    ],
)
def test_json_is_the_document_of_the_endpoint(url: str, arguments: list[str], path: str, status: str) -> None:
    found = kaiju(*arguments, "--json", "--url", url)

    assert found.status == (1 if status == "202" else 0), found.err
    jsonschema_rs.validate(schema_of(url, "post", path, status), found.json)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pause", "poll"], "--reason"),
        (["pause", "--reason", "why"], "give either TASK or --all"),
        (["pause", "poll", "--all", "--reason", "why"], "give either TASK or --all"),
        (["pause", "poll", "--reason", ""], "reason"),
        (["pause", "poll", "--reason", "why", "--for", "soon"], "--for: 'soon' must be a duration"),
        (["pause", "poll", "--reason", "why", "--for", "0"], "for_s"),
        (["resume"], "give either TASK or --all"),
        (["cancel", "poll"], "--reason"),
        (["run-now", "poll", "--wait", "1h"], "must be at most 30 s"),
    ],
)
def test_wrong_usage_is_status_2_and_changes_nothing(url: str, arguments: list[str], says: str) -> None:
    found = kaiju(*arguments, "--url", url)

    assert (found.status, found.out) == (2, "")
    assert says in found.err


def test_who_may_only_read_is_refused() -> None:
    with endpoint(token="operate", read_token="read") as url:
        refused = kaiju("pause", "poll", "--reason", "why", "--url", url, KAIJU_TOKEN="read")
        done = kaiju("pause", "poll", "--reason", "why", "--url", url, KAIJU_TOKEN="operate")

    assert (refused.status, done.status) == (1, 0)
    assert "ask for access to operate" in refused.err
