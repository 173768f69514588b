"""run_app(): the first signal stops the program in order."""

from __future__ import annotations

import re
import signal

import pytest

from processes.run_app.common import each_loop, each_signal

pytestmark = pytest.mark.realtime


@each_signal
@each_loop
def test_a_signal_ends_it_in_order_and_the_program_goes_on_behind_it(start, number, loop):
    program = start(
        """
        async def work():
            say("working")
            try:
                await asyncio.Event().wait()
            finally:
                say("work cut")

        app = shop(Told(name="a"), Told(name="b"))
        app.scheduler.schedule_task(work, interval_s=3600)
        serve(app)
        say("afterwards", app.state, [each.state.value for each in app.services])
        """,
        loop,
    )
    program.until("^working")
    program.signal(number)

    assert 0 == program.status(), program.errors()

    assert program.lines == [
        *("init a", "init b", "ready", "working"),
        *("work cut", "close b", "closed b", "close a", "closed a"),
        *("returned", "afterwards CLOSED ['CLOSED', 'CLOSED']"),
    ]
    assert {"a", "b"} == program.kept()
    assert "" == program.errors()


@each_loop
def test_the_first_signal_is_told_with_what_the_next_one_does(start, loop):
    program = start("tell_log()\nserve(shop())", loop)
    program.until("^ready")
    program.signal(signal.SIGTERM)

    assert 0 == program.status(), program.errors()
    assert "INFO application 'shop': SIGTERM, stopping; a second signal cuts it short" in program.lines


@each_signal
def test_a_signal_during_the_start_closes_what_was_started_and_starts_nothing_more(start, number):
    program = start(
        """
        class Slow(Told):
            async def init(self):
                say("slow")
                await asyncio.Event().wait()

        serve(shop(Told(name="a"), Slow(name="b"), Told(name="c")))
        """
    )
    program.until("^slow")
    program.signal(number)

    assert 0 == program.status(), program.errors()

    assert ["init a", "slow", "close a", "closed a", "returned"] == program.lines
    assert "" == program.errors()


def test_a_signal_during_the_first_health_check_closes_that_service_too(start):
    program = start(
        """
        class Slow(Told):
            async def health(self):
                say("asked")
                await asyncio.Event().wait()

        serve(shop(Told(name="a"), Slow(name="b")))
        """
    )
    program.until("^asked")
    program.signal(signal.SIGTERM)

    assert 0 == program.status(), program.errors()

    assert program.lines[3:] == ["close b", "closed b", "close a", "closed a", "returned"]
    assert "" == program.errors()


def test_an_init_that_swallows_the_cancellation_by_a_signal_is_closed_when_it_returns(start):
    program = start(
        """
        class Deaf(Told):
            async def init(self):
                say("deaf")
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass

        serve(shop(Told(name="a"), Deaf(name="b"), Told(name="c")))
        """
    )
    program.until("^deaf")
    program.signal(signal.SIGTERM)

    assert 0 == program.status(), program.errors()
    assert ["init a", "deaf", "close b", "closed b", "close a", "closed a", "returned"] == program.lines


def test_what_an_init_raises_when_a_signal_cuts_it_is_told(start):
    program = start(
        """
        class Broken(Told):
            async def init(self):
                say("init")
                try:
                    await asyncio.Event().wait()
                finally:
                    raise OSError("cannot undo it")

        serve(shop(Told(name="a"), Broken(name="b")))
        """
    )
    program.until("^init$")
    program.signal(signal.SIGTERM)
    program.status()

    assert {"a"} == program.kept()
    assert "cannot undo it" in program.errors()


@each_signal
@each_loop
def test_a_signal_while_the_loop_is_about_to_begin_is_not_lost(start, number, loop):
    """The signal comes in the first turn of the loop."""
    program = start(
        f"""
        def loop_factory():
            loop = new_loop()
            loop.call_soon(signal.raise_signal, {number:d})
            return loop

        run_app(shop(Told(name="a")), loop_factory=loop_factory)
        say("returned")
        """,
        loop,
    )

    assert 0 == program.status(), program.errors()
    assert "returned" == program.lines[-1]
    assert "ready" not in program.lines
    assert program.lines.count("init a") == program.lines.count("closed a")
    assert "" == program.errors()


@each_signal
def test_a_signal_before_the_first_turn_of_the_loop_is_not_lost(start, number):
    """The signal comes when the handlers are installed, but nothing has run yet."""
    program = start(
        f"""
        class Loop(asyncio.SelectorEventLoop):
            def create_task(self, *args, **kws):
                if "raised" not in globals():
                    globals()["raised"] = True
                    signal.raise_signal({number:d})
                return super().create_task(*args, **kws)

        run_app(shop(Told(name="a")), loop_factory=Loop)
        say("returned")
        """
    )

    assert 0 == program.status(), program.errors()
    assert "returned" == program.lines[-1]
    assert "ready" not in program.lines
    assert program.lines.count("init a") == program.lines.count("closed a")
    assert "" == program.errors()


SWEEP = """
    class Plain(Told):
        async def init(self):
            CALLS.append("init")

        async def close(self):
            CALLS.append("close")

    CALLS = []

    def at_turn(loop, turn, number):
        if turn:
            loop.call_soon(at_turn, loop, turn - 1, number)
        else:
            signal.raise_signal(number)

    def sweep(*signals):
        def loop_factory():
            loop = new_loop()
            for turn, number in signals:
                loop.call_soon(at_turn, loop, turn, number)
            return loop

        CALLS.clear()
        began = time.monotonic()
        try:
            run_app(shop(Plain(name="a"), Plain(name="b")), loop_factory=loop_factory)
            status = 0
        except SystemExit as exc:
            status = exc.code
        say(*signals, status, CALLS.count("init") - CALLS.count("close"), time.monotonic() - began > 4)
    """


@each_loop
def test_a_signal_in_any_turn_of_the_loop_during_the_start_ends_it_at_once(start, loop):
    program = start(SWEEP + "\n    for turn in range(30):\n        sweep((turn, signal.SIGTERM))\n", loop)

    assert 0 == program.status(), program.errors()

    strange = [line for line in program.lines if line != "ready" and not line.endswith(" 0 0 False")]
    assert [] == strange, "turn and signal, status, services not closed, and whether it took long"
    assert "" == program.errors()


@each_loop
@pytest.mark.parametrize("apart", [0, 1, 2, 3])
def test_a_second_signal_in_any_turn_skips_no_close(start, loop, apart):
    code = f"\n    for turn in range(40):\n        sweep((turn, signal.SIGINT), (turn + {apart}, signal.SIGTERM))\n"
    program = start("    tell_log()\n" + SWEEP + code, loop)

    assert 0 == program.status(), program.errors()

    told = [line for line in program.lines if line.startswith("(")]
    assert 40 == len(told)
    strange = [line for line in told if not re.search(r" (143|0) 0 False$", line)]
    assert [] == strange, "turns and signals, status, services not closed, and whether it took long"
    assert "" == program.errors()


@each_loop
def test_a_second_signal_between_two_closes_skips_neither(start, loop):
    """close() is called if and only if init() has returned."""
    program = start(
        SWEEP
        + """
    class Last(Plain):
        async def close(self):
            CALLS.append("close")
            at_turn(asyncio.get_running_loop(), TURN, signal.SIGTERM)

    async def end():
        signal.raise_signal(signal.SIGINT)

    for TURN in range(12):
        CALLS.clear()
        app = shop(Plain(name="a"), Plain(name="b"), Plain(name="c"), Last(name="d"))
        app.scheduler.schedule_task(end, interval_s=3600)
        began = time.monotonic()
        try:
            run_app(app, loop_factory=new_loop)
        except SystemExit as exc:
            pass
        say("turn", TURN, CALLS.count("close"), time.monotonic() - began > 4)
    """,
        loop,
    )

    assert 0 == program.status(), program.errors()
    told = [line for line in program.lines if line.startswith("turn")]
    assert [f"turn {turn} 4 False" for turn in range(12)] == told
