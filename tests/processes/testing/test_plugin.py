"""The pytest plugin in projects of users: each test runs pytest on a project of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

PREAMBLE = """
import asyncio, threading, time
from datetime import UTC, datetime, timedelta
import pytest
from kaiju_app.scheduler import Cron, Outcome, Scheduler

async def nothing(): pass
"""


def run_pytest(folder: Path, test: str, *options: str, passed: int, failed: int = 0) -> str:
    """Run pytest on a project that consists of *test*; return what it printed."""
    (folder / "test_it.py").write_text(PREAMBLE + dedent(test))
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "--strict-markers"]
    done = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, timeout=50)
    said = f"{done.stdout}\n{done.stderr}"
    assert f"{passed} passed" in said, said
    assert (f"{failed} failed" in said) is bool(failed), said
    assert "error" not in done.stdout.splitlines()[-1], said
    return said


ASYNCIO = ("-o", "asyncio_default_fixture_loop_scope=function", "-p", "no:anyio")


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_the_loop_of_pytest_asyncio_is_that_of_the_clock_in_tests_that_have_one(tmp_path: Path, mode: str) -> None:
    pytest.importorskip("pytest_asyncio")
    run_pytest(
        tmp_path,
        """
        import pytest_asyncio

        pytestmark = pytest.mark.asyncio

        @pytest_asyncio.fixture
        async def started(scheduler):  # It does not ask for the clock itself.
            async with scheduler:
                yield scheduler

        async def test_a_day(clock, started):
            task = started.schedule_task(nothing, 3600)
            await clock.advance(86_400)
            assert task.counts[Outcome.SUCCEEDED] == 25 == len(task.history())

        @pytest.mark.virtual_time(datetime(2026, 3, 28, tzinfo=UTC), seed=7)
        @pytest.mark.parametrize("hours", [1, 2])
        async def test_arguments(clock, hours):
            await asyncio.sleep(hours * 3600)
            assert clock.now() == datetime(2026, 3, 28, hours, tzinfo=UTC)

        async def test_an_application(app, clock):
            task = app.scheduler.schedule_task(nothing, 3600)
            async with app:
                await clock.advance(60)
                assert task.counts[Outcome.SUCCEEDED] == 1

        async def test_without():
            before = time.monotonic()
            await asyncio.sleep(0.05)
            assert time.monotonic() - before > 0.04
            assert type(asyncio.get_running_loop()).__module__.startswith("asyncio")

        class TestInAClass:
            async def test_method(self, clock):
                await asyncio.sleep(86_400)
        """,
        *ASYNCIO, "-o", f"asyncio_mode={mode}", passed=6,
    )  # fmt: skip


def test_the_loop_of_anyio_is_that_of_the_clock_if_the_project_says_so(tmp_path: Path) -> None:
    run_pytest(
        tmp_path,
        """
        import anyio

        pytestmark = pytest.mark.anyio

        @pytest.fixture
        def anyio_backend(clock):
            return "asyncio", {"loop_factory": clock.new_loop}

        @pytest.fixture
        async def started(scheduler):
            async with scheduler:
                yield scheduler

        async def test_a_day(clock, started):
            task = started.schedule_task(nothing, 3600)
            with anyio.move_on_after(86_400) as scope:
                await anyio.sleep_forever()
            assert scope.cancelled_caught
            await clock.advance(0)
            assert task.counts[Outcome.SUCCEEDED] == 25
            await anyio.to_thread.run_sync(time.sleep, 0.01)
            assert clock.now() == datetime(2027, 1, 2, tzinfo=UTC)
        """,
        "-p", "no:asyncio", passed=1,
    )  # fmt: skip


def test_a_loop_of_anyio_that_is_not_that_of_the_clock_is_told(tmp_path: Path) -> None:
    said = run_pytest(
        tmp_path,
        """
        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_it(clock, anyio_backend):
            await clock.advance(1)

        def test_other(): pass
        """,
        "-p", "no:asyncio", passed=1, failed=1,
    )  # fmt: skip
    assert 'for anyio write a fixture anyio_backend that returns ("asyncio", {"loop_factory": clock.new_loop})' in said


@pytest.mark.parametrize("library", ["freezegun", "time_machine"])
def test_frozen_time_follows_the_clock_and_does_not_move_it(tmp_path: Path, library: str) -> None:
    pytest.importorskip("pytest_asyncio")
    pytest.importorskip(library)
    run_pytest(
        tmp_path,
        f"""
        import freezegun, time_machine

        def freeze(moment):
            if {library!r} == "freezegun":
                return freezegun.freeze_time(moment)
            return time_machine.travel(moment, tick=False)

        @pytest.mark.asyncio
        async def test_follows(clock, scheduler):
            seen = []

            async def body():
                seen.append((datetime.now(UTC), time.time()))

            scheduler.schedule_task(body, 3600)
            with freeze(clock.now()) as frozen, clock.leading(frozen):
                async with scheduler:
                    await clock.advance(2 * 3600)
            expected = [datetime(2027, 1, 1, hour, tzinfo=UTC) for hour in range(3)]
            assert seen == [(each, each.timestamp()) for each in expected]
            assert datetime.now(UTC).year != 2027

        @pytest.mark.asyncio
        async def test_does_not_move_it(clock):
            with freeze(datetime(2000, 1, 1, tzinfo=UTC)) as frozen:
                await clock.advance(60)
                frozen.move_to(datetime(2050, 1, 1, tzinfo=UTC))
                assert clock.now() == datetime(2027, 1, 1, 0, 1, tzinfo=UTC)
                await asyncio.sleep(60)
            assert clock.now() == datetime(2027, 1, 1, 0, 2, tzinfo=UTC)

        def test_the_wall_clock_of_a_scheduler_is_frozen_without_a_clock():
            async def main():
                async with Scheduler() as scheduler:
                    task = scheduler.schedule_task(nothing, trigger="0 6 * * *")
                    assert task.next_run_at == datetime(2000, 1, 1, 6, tzinfo=UTC)

            with freeze(datetime(2000, 1, 1, tzinfo=UTC)):
                asyncio.run(main())
        """,
        *ASYNCIO, passed=3,
    )  # fmt: skip


def test_the_test_client_of_fastapi_moves_the_clock_through_its_portal(tmp_path: Path) -> None:
    run_pytest(
        tmp_path,
        """
        from contextlib import asynccontextmanager
        from fastapi import FastAPI
        from fastapi.testclient import TestClient

        scheduler = Scheduler()
        counts = {"refreshed": 0}

        @scheduler.every(60)
        async def refresh():
            counts["refreshed"] += 1

        @asynccontextmanager
        async def lifespan(app):
            async with scheduler:
                yield

        app = FastAPI(lifespan=lifespan)

        @app.get("/in-a-thread")
        def in_a_thread():
            time.sleep(0.02)
            return counts

        @app.get("/in-the-loop")
        async def in_the_loop():
            return counts

        @pytest.mark.parametrize("again", range(2))
        def test_rates(clock, again):
            counts["refreshed"] = 0
            with TestClient(app, backend_options={"loop_factory": clock.new_loop}) as client:
                client.portal.call(clock.advance, 0)
                time.sleep(0.02)
                assert client.get("/in-a-thread").json() == {"refreshed": 1}
                client.portal.call(clock.advance, 3600)
                assert client.get("/in-the-loop").json() == {"refreshed": 61}
            assert clock.now() == datetime(2027, 1, 1, 1, tzinfo=UTC)
        """,
        "-p", "no:asyncio", "-W", "ignore", passed=2,
    )  # fmt: skip


PREAMBLE_OF_OTHERS = """
import sys
import pytest

@pytest.fixture
def clock(): return "mine"

@pytest.fixture
def app(): return "also mine"

def test_fixtures_of_the_same_name(clock, app):
    assert (clock, app) == ("mine", "also mine")

def test_what_is_imported():
    loaded = sorted(each for each in sys.modules if each.startswith("kaiju_app"))
    assert loaded == [
        "kaiju_app", "kaiju_app._core", "kaiju_app._core.lazy", "kaiju_app.testing", "kaiju_app.testing.pytest_plugin"
    ]
"""


def test_a_project_that_uses_none_of_its_fixtures_is_not_disturbed(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(PREAMBLE_OF_OTHERS)
    run_pytest(tmp_path, "", "-p", "no:asyncio", "test_other.py", passed=2)


def test_a_plain_test_runs_a_coroutine_itself(tmp_path: Path) -> None:
    run_pytest(
        tmp_path,
        """
        def test_plain(clock, scheduler):
            task = scheduler.schedule_task(nothing, 3600)

            async def main():
                async with scheduler:
                    await asyncio.sleep(86_400)

            clock.run(main())
            assert task.counts[Outcome.SUCCEEDED] in (24, 25)
        """,
        "-p", "no:asyncio", passed=1,
    )  # fmt: skip
