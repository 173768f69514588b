"""The commands that look, against an endpoint at an address."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from kaiju_app._core.text import ACTING
from kaiju_app.cli._onlook import names_in
from kaiju_app.cli._text import clean
from kaiju_app.scheduler import Scheduler, Scope
from kaiju_app.scheduler._hosting import publish_local_tasks
from processes.cli.calls import EVIL, LONG, Called, endpoint, kaiju
from support.reading import nothing

pytestmark = pytest.mark.realtime

DOCUMENTS = {
    ("tasks",): ("get", "/api/tasks"),
    ("tasks", "--state", "running", "--scope", "local", "-q", "e", "--sort", "-name"): ("get", "/api/tasks"),
    ("show", "poll"): ("get", "/api/tasks/{id}"),
    ("runs",): ("get", "/api/runs"),
    ("runs", "stock", "--outcome", "failed", "--from", "-1h", "--to", "now"): ("get", "/api/tasks/{id}/runs"),
    ("upcoming",): ("get", "/api/upcoming"),
    ("upcoming", "nightly purge", "--limit", "3"): ("get", "/api/tasks/{id}/upcoming"),
    ("explain", "nightly purge", "--at", "03:00"): ("get", "/api/tasks/{id}/explain"),
    ("instances",): ("get", "/api/instances"),
}
"""The commands with the routes whose documents they print."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with endpoint() as url:
        yield url


def schema_of(url: str, method: str, path: str, status: str = "200") -> Any:
    described = httpx.get(f"{url}/api/openapi.json").json()
    schema = described["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"]
    return {**schema, "components": described["components"]}


@pytest.mark.parametrize("arguments", DOCUMENTS, ids=" ".join)
def test_json_is_the_document_of_the_endpoint(url: str, arguments: tuple[str, ...]) -> None:
    method, path = DOCUMENTS[arguments]
    found = kaiju(*arguments, "--json", "--url", url)

    assert (found.status, found.err) == (0, "")
    jsonschema_rs.validate(schema_of(url, method, path), found.json)
    assert not ACTING.search(found.out)
    if arguments == ("tasks",):
        assert found.json == httpx.get(f"{url}/api/tasks").json()
        assert clean(EVIL) in {each["name"] for each in found.json["items"]}


@pytest.mark.parametrize("arguments", DOCUMENTS, ids=" ".join)
def test_people_get_lines_of_80_columns_that_cannot_act_on_their_terminal(url: str, arguments: tuple[str, ...]) -> None:
    found = kaiju(*arguments, KAIJU_URL=url)

    assert (found.status, found.err) == (0, "")
    lines = found.out.splitlines()
    assert lines
    assert not ACTING.search(found.out)
    if arguments[0] not in ("explain", "show"):
        assert max(map(len, lines)) <= 80, found.out


def test_tasks_are_a_table_with_states_and_marks(url: str) -> None:
    lines = kaiju("tasks", "--url", url).out.splitlines()

    assert re.split(r"\s{2,}", lines[0]) == ["TASK", "STATE", "NEXT", "LAST", "RECENT"]
    [poll] = [each for each in lines if each.startswith("poll ")]
    assert re.search(r"waiting +in (60 min|1 h) +✓ succeeded (now|\d+ s ago) +✓$", poll)
    [stock] = [each for each in lines if each.startswith("stock ")]
    assert "✗ failed" in stock
    [long] = [each for each in lines if each.startswith("reconcile")]
    name = re.split(r"\s{2,}", long)[0]
    assert LONG.startswith(name.split("…")[0])
    assert LONG.endswith(name.split("…")[1])


def test_a_list_can_be_asked_for_in_parts(url: str) -> None:
    first = kaiju("tasks", "--limit", "3", "--json", "--url", url).json
    rest = kaiju("tasks", "--cursor", first["next"], "--json", "--url", url).json
    said = kaiju("tasks", "--limit", "3", "--url", url).out

    assert len(first["items"]) == 3
    assert len(rest["items"]) == 5
    assert "There are more" in said


def test_show_tells_everything_of_a_task(url: str) -> None:
    said = kaiju("show", "nightly purge", "--url", url, TZ="America/New_York").out

    assert "At 03:00 every day, Europe/Berlin" in said
    assert len(re.findall(r"\d\d:00:00  in \d", said)) == 5
    assert "Ask for new prices." in said
    assert "succeed  /" in said
    assert said.count("America/New_York") == 1


def test_a_task_is_found_by_name_or_by_id(url: str) -> None:
    by_name = kaiju("show", EVIL, "--json", "--url", url).json
    by_id = kaiju("show", by_name["id"], "--json", "--url", url).json
    as_shown = kaiju("show", clean(EVIL), "--json", "--url", url).json

    assert by_name["name"] == by_id["name"] == as_shown["name"] == clean(EVIL)


@pytest.mark.parametrize(
    ("asked", "meant"), [("stok", "'stock'"), ("purge", "'nightly purge'"), ("xyzzy", "`kaiju tasks` lists them")]
)
def test_a_name_that_is_not_found_suggests_the_close_ones(url: str, asked: str, meant: str) -> None:
    found = kaiju("show", asked, "--url", url)

    assert found.status == 1
    assert f"there is no task {asked!r}" in found.err
    assert meant in found.err


def test_explain_answers_in_one_sentence(url: str) -> None:
    found = kaiju("explain", "stock", "--at", "now", "--url", url)

    assert found.status == 0
    assert re.fullmatch(r"task 'stock': .*\.\n", found.out)


def status(found: Called) -> tuple[int, str]:
    return found.status, found.err


@pytest.mark.parametrize(
    ("arguments", "environment", "ends", "says"),
    [
        (["tasks"], {}, 2, "which scheduler? Give --url"),
        (["tasks"], {"KAIJU_URL": "http://127.0.0.1:1", "KAIJU_STORE": "sqlite:///a"}, 2, "are both set"),
        (["tasks", "--url", "http://127.0.0.1:1", "--store", "sqlite:///a"], {}, 2, "not both"),
        (["tasks", "--url", "http://127.0.0.1:1", "--app", "shop"], {}, 2, "--app names a part of a store"),
        (["tasks", "--url", "127.0.0.1:8700"], {}, 2, "must be an address such as"),
        (["tasks", "--url", "http://127.0.0.1:99999"], {}, 2, "must be an address such as"),
        (["tasks", "--url", "http://127.0.0.1:1"], {}, 3, "http://127.0.0.1:1 cannot be reached"),
        (["tasks", "--url", "http://u:secret@127.0.0.1:1"], {}, 3, "http://127.0.0.1:1 cannot be reached"),
        (["tasks", "--url", "http://no-such-host.invalid"], {}, 3, "cannot be reached"),
        (["tasks", "--url", "URL/elsewhere"], {}, 3, "not as an endpoint of kaiju_app"),
        (["tasks", "--url", "URL", "--limit", "0"], {}, 2, "limit"),
        (["tasks", "--url", "URL", "--nonsense"], {}, 2, "--nonsense"),
        (["tasks", "--url", "URL", "--sort", "age"], {}, 2, "sort"),
        (["tasks", "--url", "URL", "--state", "asleep"], {}, 2, "state"),
        (["tasks", "--url", "URL", "--token", "tökén"], {}, 2, "--token is wrong"),
        (["show"], {}, 2, "TASK"),
        (["show", "nothing", "--url", "URL"], {}, 1, "there is no task 'nothing'"),
        (["explain", "poll", "--at", "25:00", "--url", "URL"], {}, 2, "must be a time of day"),
        (["explain", "poll", "--at", "soon", "--url", "URL"], {}, 2, "must be an instant: 03:00, -2h, now"),
        (["upcoming", "poll", "--to", "+2h", "--url", "URL"], {}, 2, "--to works only without TASK"),
        (["nonsense"], {}, 2, "nonsense"),
        ([], {}, 2, "COMMAND"),
    ],
)
def test_the_exit_status_tells_usage_from_refusal_and_from_silence(
    url: str, arguments: list[str], environment: dict[str, str], ends: int, says: str
) -> None:
    found = kaiju(*(each.replace("URL", url) for each in arguments), **environment)

    assert (found.status, found.out) == (ends, "")
    assert says in found.err
    assert "secret" not in found.err
    assert "Traceback" not in found.err


def test_a_token_is_needed_where_the_endpoint_has_one() -> None:
    with endpoint(token="operate", read_token="read") as url:
        without, wrong = kaiju("tasks", "--url", url), kaiju("tasks", "--url", url, "--token", "guess")
        given, known = kaiju("tasks", "--url", url, "--token", "read"), kaiju("tasks", "--url", url, KAIJU_TOKEN="read")

    assert (without.status, wrong.status, given.status, known.status) == (1, 1, 0, 0)
    assert "KAIJU_TOKEN" in without.err
    assert "nightly purge" in given.out
    assert "nightly purge" in known.out


def test_there_are_no_colours_without_a_terminal_unless_they_are_forced(url: str) -> None:
    assert "\x1b" not in kaiju("tasks", "--url", url).out
    forced = kaiju("tasks", "--url", url, FORCE_COLOR="1", TERM="xterm-256color", COLORTERM="truecolor").out
    assert "\x1b[38;2;0;158;115m" in forced
    assert "\x1b" not in kaiju("tasks", "--url", url, FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color").out


# --- with and without the libraries of the extra ---

BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("typer", "rich", "httpx2", "fastapi"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])
sys.meta_path.insert(0, Blocker())
"""
CALL = """
import sys, runpy
sys.argv = ["kaiju", *sys.argv[1:]]
from kaiju_app.cli import main
try:
    main()
finally:
    print(sorted({"typer", "rich", "httpx2", "fastapi", "asyncpg"} & set(sys.modules)), file=sys.stderr)
"""


def process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.slow
@pytest.mark.mechanism
def test_help_needs_no_library_and_the_others_say_which() -> None:
    shown = process(CALL, "--help")
    assert shown.returncode == 0
    assert "explain" in shown.stdout
    assert shown.stderr.strip() == "[]"

    without = process(BLOCKER + CALL, "tasks")
    assert without.returncode == 2
    assert "pip install typer rich httpx2" in without.stderr
    linted = process(BLOCKER + CALL, "lint", "nothing.here:app")
    assert linted.returncode == 2
    assert "there is no module" in linted.stderr


@pytest.mark.slow
def test_a_command_that_asks_an_address_imports_no_server(url: str) -> None:
    done = process(CALL, "tasks", "--json", "--url", url)

    assert json.loads(done.stdout)["items"]
    assert done.stderr.strip() == "['httpx2', 'rich', 'typer']"


@pytest.mark.slow
def test_completion_over_a_store_imports_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = f"sqlite:///{tmp_path}/scheduler.db"

    async def fill() -> None:
        scheduler = Scheduler(store)
        scheduler.schedule_task(nothing, 60, name="nightly purge", scope=Scope.CLUSTER)
        scheduler.schedule_task(nothing, 60, name="of one process")
        async with scheduler:
            publish_local_tasks(scheduler)
            while await names_in(store, "default") != ["nightly purge", "of one process"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    asyncio.run(fill())
    words = {"COMP_WORDS": r"kaiju show nightly\ p", "COMP_CWORD": "2", "_KAIJU_COMPLETE": "complete_bash"}
    for name, value in {**words, "KAIJU_STORE": store}.items():
        monkeypatch.setenv(name, value)
    found = process(CALL)

    assert (found.stdout.strip(), found.stderr.strip()) == (r"nightly\ purge", "['rich', 'typer']")


@pytest.mark.slow
def test_top_offers_no_json_as_it_has_none() -> None:
    assert "--json" not in process(CALL, "top", "--help").stdout
    assert "--json" in process(CALL, "tasks", "--help").stdout
    refused = process(CALL, "top", "--json")
    assert (refused.returncode, "No such option" in refused.stderr) == (2, True)
