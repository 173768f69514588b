"""Two applications that use one app name in a store, without knowing each other's tasks."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from behaviour.cluster.common import Made, nothing, share, started
from kaiju_app._cluster.neighbours import SAMPLE, is_same_function
from kaiju_app._core.callables import full_name
from kaiju_app.stores import MemoryStore
from support.reading import warnings_of

HERE = f"{socket.gethostname()}:{os.getpid()}"


async def other() -> None: ...


async def report() -> None: ...


async def test_two_applications_with_one_app_name_are_told_of_on_both_sides_once(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    shop, billing = made(), made()
    share(shop, nothing, 10, "prune")
    share(billing, other, 10, "bill")
    async with started(shop, billing):
        await asyncio.sleep(600)

    first = (
        f"store 'memory', app 'default': this instance ({HERE}) and {HERE} have no task in common. Here: 'prune' "
        f"(behaviour.cluster.common.nothing). There: 'bill' ({__name__}.other). If they are two applications, their "
        f"tasks start late, and of two tasks with the same name only one runs: give each application its own name, as "
        f"Scheduler(app='...') or as app='...' of its Store"
    )
    assert len(warnings_of(caplog)) == 2
    assert first in warnings_of(caplog)


async def test_tasks_of_one_name_but_different_functions_are_told_of(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    shop, billing = made(), made()
    share(shop, nothing, 10, "cleanup")
    share(billing, other, 10, "cleanup")
    async with started(shop, billing):
        await asyncio.sleep(60)

    assert len(warnings_of(caplog)) == 2


async def test_many_instances_are_told_of_in_one_line(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    shops, billings = [made() for _ in range(4)], [made() for _ in range(4)]
    for number in range(20):
        for each in shops:
            share(each, nothing, 100, f"shop{number}")
        for each in billings:
            share(each, other, 100, f"billing{number}")
    async with started(*shops, *billings):
        await asyncio.sleep(60)

    assert len(warnings_of(caplog)) == 8
    assert all(len(each) < 1_000 and " and 2 more" in each for each in warnings_of(caplog))


@pytest.mark.parametrize("others", [1, SAMPLE, 10 * SAMPLE])
async def test_instances_that_share_some_tasks_are_one_application(
    made: Made, caplog: pytest.LogCaptureFixture, others: int
) -> None:
    """As the old release and the new one."""
    old, new = made(), made(version=2)
    for number in range(10 * SAMPLE):
        share(old, nothing, 100, f"task{number}")
        share(new, nothing, 100, f"task{number}")
    for number in range(others):
        share(new, other, 100, f"new{number}")
    async with started(old, new):
        await asyncio.sleep(60)

    assert [] == warnings_of(caplog)


async def test_no_tasks_yet_and_tasks_one_after_the_other_are_no_other_application(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    a, b, watcher = made(), made(), made()
    share(a, nothing, 10, "one")
    async with started(a, b, watcher):
        await asyncio.sleep(60)
        share(b, other, 10, "two")
        await asyncio.sleep(1)
        share(b, nothing, 10, "one")
        await asyncio.sleep(60)

    assert [] == warnings_of(caplog)


async def test_an_instance_started_again_is_no_neighbour_of_itself(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = made()
    task = share(scheduler, nothing, 10, "one")
    async with scheduler:
        await asyncio.sleep(10)
    task.remove()
    share(scheduler, other, 10, "two")
    async with scheduler:
        await asyncio.sleep(60)

    assert [] == warnings_of(caplog)


async def test_what_an_instance_of_another_release_says_is_no_error(
    made: Made, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    a = made()
    share(a, nothing, 10, "one")
    async with a:
        for info in ("{}", '{"tasks": null}', '{"tasks": ["one"]}'):
            await store.heartbeat("stranger", info, 10**9)
            await asyncio.sleep(20)

    assert [] == warnings_of(caplog)


@pytest.mark.parametrize(
    ("name", "another", "same"),
    [
        ("shop.jobs.poll", "shop.jobs.poll", True),
        ("main.poll", "shop.main.poll", True),
        ("shop.main.poll", "main.poll", True),
        ("shop.poll", "billing.poll", False),
        ("oldmain.poll", "main.poll", False),
    ],
)
def test_a_program_is_the_same_however_it_is_started(name: str, another: str, same: bool) -> None:
    assert is_same_function(name, another) is same


def test_a_function_of_the_program_that_runs_has_the_name_that_importers_give_it(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    for path in (tmp_path / "main.py", tmp_path / "shop" / "__main__.py"):
        path.write_text("from kaiju_app._core.callables import full_name\ndef f(): ...\nprint(full_name(f))\n")

    def run(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert [run("main.py"), run("-m", "main"), run("-m", "shop")] == ["main.f", "main.f", "shop.f"]
    assert full_name(report) == f"{__name__}.report"


PROGRAM = """
import asyncio, sys
from kaiju_app.scheduler import LeaseTiming, Scheduler, Scope

async def {name}(): ...

async def main():
    scheduler = Scheduler("sqlite:///s.db", lease=LeaseTiming.for_failover(2))
    scheduler.schedule_task({name}, 1, name="{name}", scope=Scope.CLUSTER)
    async with scheduler:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


@pytest.mark.realtime
def test_two_programs_tell_of_each_other(tmp_path: Path) -> None:
    programs = {}
    for name in ("shop", "billing"):
        (tmp_path / f"{name}.py").write_text(PROGRAM.format(name=name))
        programs[name] = subprocess.Popen(
            [sys.executable, f"{name}.py"], cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    lines = {}
    try:
        for name, program in programs.items():
            assert program.stderr is not None
            lines[name] = program.stderr.readline()
    finally:
        for program in programs.values():
            program.communicate("", timeout=60)

    for name, foreign in (("shop", "billing"), ("billing", "shop")):
        assert re.search(
            rf"this instance \(\S+:{programs[name].pid}\) and \S+:{programs[foreign].pid} have no task in common\. "
            rf"Here: '{name}' \({name}\.{name}\)\. There: '{foreign}' \({foreign}\.{foreign}\)\. ",
            lines[name],
        )
