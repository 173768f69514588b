"""run_app(): what services leave behind."""

from __future__ import annotations

import signal

import pytest

from processes.run_app.common import PROMPT_S, each_loop

pytestmark = pytest.mark.realtime


@each_loop
def test_async_generators_are_closed(start, loop):
    program = start(
        """
        async def rows():
            try:
                while True:
                    yield 1
            finally:
                await asyncio.sleep(0.001)
                say("rows closed")

        class Reading(Told):
            async def init(self):
                self.rows = rows()
                await anext(self.rows)

        serve(shop(Reading(name="a")))
        """,
        loop,
    )
    program.until("^ready")
    program.signal(signal.SIGTERM)

    assert 0 == program.status(), program.errors()
    assert ["closed a", "rows closed", "returned"] == program.lines[-3:]
    assert "" == program.errors()


HANGING_ROWS = """
    async def rows():
        try:
            while True:
                yield 1
        finally:
            say("hanging")
            await asyncio.Event().wait()

    class Reading(Told):
        async def init(self):
            self.rows = rows()
            await anext(self.rows)

    be_brief()
    serve(shop(Reading(name="a")))
    """


def test_an_async_generator_that_does_not_close_does_not_keep_the_program_for_ever(start):
    program = start(HANGING_ROWS)
    program.until("^ready")
    program.signal(signal.SIGTERM)
    program.until("^hanging")

    assert program.took_s() < 3 * PROMPT_S
    assert 0 <= program.status()


def test_a_second_signal_cuts_an_async_generator_that_does_not_close(start):
    program = start(HANGING_ROWS)
    program.until("^ready")
    program.signal(signal.SIGTERM)
    program.until("^hanging")
    program.signal(signal.SIGTERM)

    assert program.took_s() < PROMPT_S
    assert 128 + signal.SIGTERM == program.status()


STRAY = """
    class Straying(Told):
        async def init(self):
            self.mine = asyncio.create_task(stray(), name="stray")

    be_brief()
    serve(shop(Straying(name="a")))
    """


@each_loop
def test_a_task_that_a_service_left_is_cancelled_and_awaited(start, loop):
    program = start(
        """
    async def stray():
        say("straying")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            say("stray ended")
    """
        + STRAY,
        loop,
    )
    program.until("^ready")
    program.signal(signal.SIGTERM)

    assert 0 == program.status(), program.errors()
    assert ["closed a", "stray ended", "returned"] == program.lines[-3:]
    assert "" == program.errors()


@each_loop
def test_a_task_that_a_service_left_and_that_does_not_give_way_is_named_and_left(start, loop):
    program = start(
        """
    async def stray():
        await insist("stray")
    """
        + STRAY,
        loop,
    )
    program.until("^ready")
    program.signal(signal.SIGTERM)

    program.status()
    assert {"a"} == program.kept()
    assert 1 == program.errors().count("stray did not stop when it was cancelled and was abandoned. It was at:\n"), (
        program.errors()
    )
    assert "in insist" in program.errors()
    assert "destroyed" not in program.errors()
    assert 1 == program.status(), "something did not end as it should, of which the log told"


@each_loop
def test_a_second_signal_cuts_short_the_grace_of_a_task_that_a_service_left(start, loop):
    program = start(
        """
    async def stray():
        await insist("stray")
    """
        + STRAY.replace("be_brief()", "be_brief(10)"),
        loop,
    )
    program.until("^ready")
    program.signal(signal.SIGTERM)
    program.until("^no stray")
    program.signal(signal.SIGINT)

    assert program.took_s() < PROMPT_S
    assert 128 + signal.SIGINT == program.status()
    assert {"a"} == program.kept()
    assert "destroyed" not in program.errors()


@each_loop
def test_what_such_a_task_raises_at_the_end_is_told(start, loop):
    program = start(
        """
    async def stray():
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("could not flush")
    """
        + STRAY,
        loop,
    )
    program.until("^ready")
    program.signal(signal.SIGTERM)
    program.status()

    assert 1 == program.errors().count("OSError: could not flush"), program.errors()
