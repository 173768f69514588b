"""run_app(): starts that fail, and services that do not end as they should."""

from __future__ import annotations

import signal
from textwrap import dedent

import pytest

from processes.run_app.common import PROMPT_S, each_loop, each_signal

pytestmark = pytest.mark.realtime


@each_loop
def test_a_close_that_hangs_is_given_up_after_its_time_and_named(start, loop):
    program = start(
        """
        serve(shop(Told(name="a"), Hanging(name="b"), Told(name="c"), service_close_timeout_s=0.2))
        """,
        loop,
    )
    program.until("^ready")
    program.signal(signal.SIGTERM)

    assert 1 == program.status()

    assert {"a", "c"} == program.kept()
    assert "returned" not in program.lines
    assert 1 == program.errors().count("application 'shop': service 'b' failed in close: not done within 0.2 s")
    assert "stage.py:" in program.errors(), "where it was"
    assert "Traceback" not in program.errors()


@each_loop
def test_a_close_that_does_not_give_way_is_left_behind_and_named_once(start, loop):
    program = start(
        """
        be_brief()
        serve(shop(Told(name="a"), Stubborn(name="b"), Told(name="c"), service_close_timeout_s=0.2))
        """,
        loop,
    )
    program.until("^ready")
    program.signal(signal.SIGTERM)

    assert 1 == program.status()

    assert {"a", "c"} == program.kept()
    assert 1 == program.errors().count("service 'b'"), program.errors()
    assert "abandoned" in program.errors()
    assert "destroyed" not in program.errors()
    assert "Traceback" not in program.errors()


@each_signal
def test_further_signals_end_a_close_that_does_not_give_way_at_once(start, number):
    program = start('serve(shop(Told(name="a"), Stubborn(name="b"), Told(name="c")))')
    program.until("^ready")
    program.signal(number)
    program.until("^close b")
    program.signal(number)
    program.until("^no b")
    program.signal(number)

    assert program.took_s() < PROMPT_S
    assert 128 + number == program.status()
    assert {"a", "c"} == program.kept()
    assert 1 == program.errors().count("service 'b'"), program.errors()
    assert "destroyed" not in program.errors()


def test_a_close_that_raises_is_told_with_its_traceback_and_the_others_are_closed(start):
    program = start(
        """
        class Broken(Told):
            async def close(self):
                raise OSError("disk is gone")

        serve(shop(Told(name="a"), Broken(name="b"), Told(name="c")))
        """
    )
    program.until("^ready")
    program.signal(signal.SIGTERM)

    assert 1 == program.status()

    assert {"a", "c"} == program.kept()
    assert "application 'shop': service 'b' failed in close: OSError: disk is gone" in program.errors()
    assert 1 == program.errors().count("Traceback")
    assert 'raise OSError("disk is gone")' in program.errors()


FAILURES = {
    "init raises": (
        """
        class Broken(Told):
            async def init(self):
                raise OSError("no such host")
        """,
        "service 'b' failed in init: OSError: no such host. ",
        1,
    ),
    "unhealthy": (
        """
        class Broken(Told):
            async def health(self):
                return kaiju_app.Health(["no space left"])
        """,
        "service 'b' failed in health: no space left. ",
        0,
    ),
    "late": (
        """
        class Broken(Told):
            async def init(self):
                await asyncio.Event().wait()
        """,
        "service 'b' failed in init: not done within 0.3 s. ",
        0,
    ),
    "bad wiring": (
        """
        @dataclass
        class Broken(Told):
            other: Hanging = kaiju_app.service()
        """,
        "application 'shop' cannot start: ",
        0,
    ),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failed_start_ends_with_status_1_and_one_message_although_nobody_set_up_logging(start, kind):
    broken, message, tracebacks = FAILURES[kind]
    program = start(dedent(broken) + 'serve(shop(Told(name="a"), Broken(name="b"), service_start_timeout_s=0.3))\n')

    assert 1 == program.status()

    assert "returned" not in program.lines
    assert program.lines.count("init a") == program.lines.count("closed a")
    assert 1 == program.errors().count("application 'shop'"), program.errors()
    assert message in program.errors()
    assert tracebacks == program.errors().count("Traceback"), program.errors()
    assert "_run_app.py" not in program.errors(), "the cause, not the way through this package"


def test_an_application_that_is_started_already_is_refused_in_words(start):
    program = start(
        """
        app = shop(Told(name="a"))
        new_loop().run_until_complete(app.start())
        serve(app)
        """
    )

    assert 1 == program.status()
    assert "start(): application 'shop' is READY; await stop() first" in program.errors()
