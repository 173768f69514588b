"""run_app(): programs that end themselves."""

from __future__ import annotations

import signal
from textwrap import dedent

import pytest

from processes.run_app.common import PROMPT_S, each_loop

pytestmark = pytest.mark.realtime


EXITS = {
    "a task": (
        """
        async def leave():
            sys.exit(3)
        app = shop(Told(name="a"), Told(name="b"))
        app.scheduler.schedule_task(leave, interval_s=3600)
        """,
        {"a", "b"},
    ),
    "a task, later": (
        """
        async def leave():
            await asyncio.sleep(0.01)
            sys.exit(3)
        app = shop(Told(name="a"), Told(name="b"))
        app.scheduler.schedule_task(leave, interval_s=3600)
        """,
        {"a", "b"},
    ),
    "a thread": (
        """
        def leave():
            sys.exit(3)
        app = shop(Told(name="a"), Told(name="b"))
        app.scheduler.schedule_task(leave, interval_s=3600)
        """,
        {"a", "b"},
    ),
    "init": (
        """
        class Leaving(Told):
            async def init(self):
                sys.exit(3)
        app = shop(Told(name="a"), Leaving(name="b"), Told(name="c"))
        """,
        {"a"},
    ),
    "post_init": (
        """
        class Leaving(Told):
            async def post_init(self):
                sys.exit(3)
        app = shop(Told(name="a"), Leaving(name="b"), Told(name="c"))
        """,
        {"a", "b", "c"},
    ),
    "a task of a service": (
        """
        async def leave():
            sys.exit(3)
        class Leaving(Told):
            async def init(self):
                await super().init()
                self.mine = asyncio.create_task(leave())
        app = shop(Told(name="a"), Leaving(name="b"))
        """,
        {"a", "b"},
    ),
}


@pytest.mark.parametrize(("place", "loop"), [*((place, "asyncio") for place in EXITS), ("a task", "uvloop")])
def test_sys_exit_closes_everything_in_order_and_its_status_is_that_of_the_program(start, place, loop):
    code, kept = EXITS[place]
    program = start(dedent(code) + "serve(app)\n", loop)

    assert 3 == program.status(), program.errors()

    closed = [line for line in program.lines if line.startswith("closed")]
    assert sorted(closed, reverse=True) == closed
    assert kept == program.kept()
    assert "returned" not in program.lines


def test_sys_exit_in_init_is_no_unhandled_error(start):
    program = start(dedent(EXITS["init"][0]) + "serve(app)\n")

    assert 3 == program.status(), program.errors()
    assert "" == program.errors()


@each_loop
def test_sys_exit_in_a_close_closes_the_others_and_its_status_is_that_of_the_program(start, loop):
    program = start(
        """
        class Leaving(Told):
            async def close(self):
                sys.exit(3)

        serve(shop(Told(name="a"), Leaving(name="b"), Told(name="c")))
        """,
        loop,
    )
    program.until("^ready")
    program.signal(signal.SIGTERM)

    assert 3 == program.status(), program.errors()
    assert {"a", "c"} == program.kept()
    assert "never retrieved" not in program.errors()


@each_loop
def test_a_keyboard_interrupt_raised_in_a_task_closes_everything_and_ends_python_as_ever(start, loop):
    program = start(
        """
        async def leave():
            raise KeyboardInterrupt

        app = shop(Told(name="a"), Told(name="b"))
        app.scheduler.schedule_task(leave, interval_s=3600)
        serve(app)
        """,
        loop,
    )

    assert -signal.SIGINT == program.status(), program.errors()
    assert {"a", "b"} == program.kept()


def test_signals_still_work_after_sys_exit(start):
    """A close() that follows may hang, too."""
    program = start(
        """
        async def leave():
            sys.exit(3)

        tell_log()
        app = shop(Told(name="a"), Hanging(name="b"))
        app.scheduler.schedule_task(leave, interval_s=3600)
        serve(app)
        """
    )
    program.until("^close b")
    program.signal(signal.SIGTERM)
    program.until("SIGTERM, stopping")
    program.signal(signal.SIGTERM)

    assert program.took_s() < PROMPT_S
    assert program.status() in (3, 128 + signal.SIGTERM)
    assert {"a"} == program.kept()
