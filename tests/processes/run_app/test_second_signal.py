"""run_app(): further signals cut the stop short."""

from __future__ import annotations

import random
import re
import signal
import time

import pytest

from processes.run_app.common import PROMPT_S, SIGNALS, Program, each_loop, each_signal

pytestmark = pytest.mark.realtime
each_pair = pytest.mark.parametrize(
    ("first", "second"), [(one, two) for one in SIGNALS for two in SIGNALS], ids=lambda each: each.name
)


@each_pair
def test_a_second_signal_cuts_a_hanging_close_and_the_rest_is_closed_in_order(start, first, second):
    program = start('tell_log()\nserve(shop(Told(name="a"), Hanging(name="b"), Told(name="c")))')
    program.until("^ready")
    program.signal(first)
    program.until("^close b")
    program.signal(second)

    assert program.took_s() < PROMPT_S
    assert 128 + second == program.status(), program.errors()

    said = [line for line in program.lines if re.match("close|cut|returned", line)]
    assert ["close c", "closed c", "close b", "cut b", "close a", "closed a"] == said
    assert {"a", "c"} == program.kept()
    assert f"WARNING application 'shop': {second.name} again, cancelling what the stop waits for" in program.lines
    assert "ERROR application 'shop': service 'b' failed in close: cancelled" in program.text
    assert "" == program.errors()


@each_loop
def test_each_further_signal_cuts_the_next_hanging_close(start, loop):
    program = start('serve(shop(Told(name="a"), Hanging(name="b"), Told(name="c"), Hanging(name="d")))', loop)
    program.until("^ready")
    program.signal(signal.SIGTERM)
    program.until("^close d")
    program.signal(signal.SIGTERM)
    program.until("^close b")
    program.signal(signal.SIGINT)

    assert 128 + signal.SIGINT == program.status(), program.errors()

    assert ["close d", "cut d", "close c", "closed c", "close b", "cut b", "close a", "closed a"] == program.lines[5:]
    assert {"a", "c"} == program.kept()
    assert "Traceback" not in program.errors()


@each_loop
def test_two_signals_at_once_cut_short_what_would_hang(start, loop):
    """A user who presses Ctrl-C twice does not know whether the loop has handled the first one yet."""
    program = start(
        """
        async def ask_twice():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)

        app = shop(Told(name="a"), Hanging(name="b"), service_close_timeout_s=60)
        app.scheduler.schedule_task(ask_twice, interval_s=3600)
        serve(app)
        """,
        loop,
    )
    program.until("^ready")

    assert program.took_s() < 2 * PROMPT_S
    assert 128 + signal.SIGINT == program.status()
    assert {"a"} == program.kept()


@each_signal
@each_loop
def test_the_same_signal_again_at_once_is_an_echo_and_cuts_nothing(start, number, loop):
    program = start(
        f"""
        async def end():
            signal.raise_signal({number:d})
            signal.raise_signal({number:d})

        app = shop(Told(name="a"), Told(name="b"))
        app.scheduler.schedule_task(end, interval_s=3600)
        serve(app)
        """,
        loop,
    )

    assert 0 == program.status(), program.errors()
    assert {"a", "b"} == program.kept()
    assert "" == program.errors()


@each_signal
def test_a_key_held_down_is_more_than_an_echo(start, number):
    program = start('serve(shop(Told(name="a"), Hanging(name="b"), service_close_timeout_s=60))')
    program.until("^ready")
    began = time.monotonic()
    while program.is_running() and time.monotonic() - began < PROMPT_S:
        program.signal_again(number)
        time.sleep(0.03)  # The repeat rate of a keyboard.

    assert not program.is_running()
    assert program.status() in (128 + number, -number)  # The key may still be pressed when Python exits.
    assert {"a"} == program.kept()


@each_signal
@each_loop
def test_a_second_signal_cuts_a_shielded_run(start, number, loop):
    program = start(
        """
        async def transfer():
            say("transfer")
            try:
                await asyncio.Event().wait()
            finally:
                say("transfer cut")

        tell_log()
        app = shop(Told(name="a"))
        app.scheduler.schedule_task(transfer, interval_s=3600, policy=kaiju_app.ExecPolicy.SHIELD)
        serve(app)
        """,
        loop,
    )
    program.until("^transfer")
    program.signal(number)
    program.until("a second signal cuts it short")
    program.signal(number)

    assert 128 + number == program.status(), program.errors()

    assert "transfer cut" in program.lines
    assert {"a"} == program.kept()
    assert "'scheduled:transfer'" in program.text
    assert "" == program.errors()


def test_a_shielded_run_that_comes_to_its_end_after_one_signal_is_in_order(start, tmp_path):
    program = start(
        """
        async def transfer():
            say("transfer")
            while not Path("go").exists():
                await asyncio.sleep(0.01)
            say("transferred")

        tell_log()
        app = shop(Told(name="a"))
        app.scheduler.schedule_task(transfer, interval_s=3600, policy=kaiju_app.ExecPolicy.SHIELD)
        serve(app)
        """
    )
    program.until("^transfer")
    program.signal(signal.SIGTERM)
    program.until("a second signal cuts it short")
    (tmp_path / "go").touch()

    assert 0 == program.status(), program.errors()
    said = [line for line in program.lines if re.match("transferred|close|returned", line)]
    assert ["transferred", "close a", "closed a", "returned"] == said


@each_loop
def test_a_post_init_is_cut_by_the_first_signal(start, loop):
    program = start(
        """
        class Warm(Told):
            async def post_init(self):
                say("warming")
                try:
                    await asyncio.Event().wait()
                finally:
                    say("cut")

        serve(shop(Warm(name="a")))
        """,
        loop,
    )
    program.until("^warming")
    program.signal(signal.SIGTERM)

    assert 0 == program.status(), program.errors()
    assert ["cut", "close a", "closed a", "returned"] == [line for line in program.lines if re.match("c|r.*ed", line)]
    assert "" == program.errors()


@each_signal
def test_a_second_signal_cuts_short_the_grace_of_a_post_init_that_does_not_give_way(start, number):
    program = start(
        """
        class Warm(Told):
            async def post_init(self):
                say("warming")
                await insist(self.name)

        serve(shop(Told(name="a"), Warm(name="b")))
        """
    )
    program.until("^warming")
    program.signal(number)
    program.until("^no b")
    program.signal(number)

    assert program.took_s() < PROMPT_S
    assert 128 + number == program.status()
    assert {"a", "b"} == program.kept()


@each_loop
def test_a_second_signal_cuts_short_the_grace_of_a_run_that_does_not_give_way(start, loop):
    program = start(
        """
        async def work():
            say("working")
            await insist("work")

        app = shop(Told(name="a"))
        app.scheduler.schedule_task(work, interval_s=3600)
        serve(app)
        """,
        loop,
    )
    program.until("^working")
    program.signal(signal.SIGINT)
    program.until("^no work")
    program.signal(signal.SIGTERM)

    assert program.took_s() < PROMPT_S
    assert 128 + signal.SIGTERM == program.status()
    assert {"a"} == program.kept()
    assert "destroyed" not in program.errors()
    assert "'scheduled:work'" in program.errors()


def test_a_second_signal_during_the_start_cuts_short_an_init_that_does_not_give_way(start):
    program = start(
        """
        class Deaf(Told):
            async def init(self):
                say("deaf")
                await insist(self.name)

        serve(shop(Told(name="a"), Deaf(name="b")))
        """
    )
    program.until("^deaf")
    program.signal(signal.SIGTERM)
    program.until("^no b")
    program.signal(signal.SIGTERM)

    assert program.took_s() < PROMPT_S
    assert 128 + signal.SIGTERM == program.status()
    assert {"a"} == program.kept()
    assert "application 'shop': service 'b': init() was cancelled, did not stop and was abandoned" in program.errors()
    assert "destroyed" not in program.errors()


STORM = """
    from kaiju_app.scheduler import Scheduler
    import traceback

    def old(number, frame):
        # It may be called before run_app() and after it; inside, only for a loop that is blocked.
        if any(each.name == "_receive" for each in traceback.extract_stack(frame)):
            say("taken for blocked")
            traceback.print_stack(frame)

    class Slow(Told):
        async def init(self):
            await asyncio.sleep(0.03)
            await super().init()

        async def close(self):
            await asyncio.sleep(0.03)
            await super().close()

    async def work():
        await asyncio.sleep(0.001)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, OLD)
    app = shop(Slow(name="a"), Slow(name="b"), scheduler=Scheduler(cancel_grace_s=0.2))
    app.scheduler.schedule_task(work, interval_s=0.01, policy=kaiju_app.ExecPolicy.SKIP)
    app.scheduler.schedule_task(time.sleep, 0.01, (0.001,), policy=kaiju_app.ExecPolicy.SKIP)
    say("up")
    serve(app)
    """


# Python restores the default handlers while it exits, so a signal can still kill it then.
STORM_STATUSES = {0, *(128 + each for each in SIGNALS), *(-each for each in SIGNALS)}


def storm(program: Program, seed: int) -> None:
    """Send five hundred signals, starting at a random moment."""
    drawn = random.Random(seed)
    program.until("^up")
    time.sleep(drawn.uniform(0, 0.25))
    for _ in range(500):
        if not program.is_running():
            break
        program.signal_again(drawn.choice(SIGNALS))
        if drawn.random() < 0.3:
            time.sleep(drawn.choice([0, 0.0001, 0.001, 0.005]))


@each_loop
@pytest.mark.parametrize("seed", range(5))
def test_very_many_signals_end_it_soon_and_are_never_taken_for_a_blocked_loop(start, seed, loop):
    program = start("    OLD = lambda *args: old(*args)\n" + STORM, loop)
    storm(program, seed)

    assert program.took_s() < PROMPT_S
    status = program.status()
    assert status in STORM_STATUSES, (seed, status, program.errors())
    assert "taken for blocked" not in program.lines, (seed, program.errors())


@each_loop
@pytest.mark.parametrize("seed", range(5, 8))
def test_very_many_signals_end_a_program_with_the_usual_handlers_soon(start, seed, loop):
    program = start(
        "    OLD = signal.SIG_DFL\n" + STORM.replace('say("up")', "signal.signal(2, signal.SIG_IGN); say('up')"), loop
    )
    storm(program, seed)

    assert program.took_s() < PROMPT_S
    status = program.status()
    assert status in STORM_STATUSES, (seed, status, program.errors())
    assert "KeyboardInterrupt" not in program.errors(), (seed, program.errors())


@each_loop
def test_a_task_may_end_the_program_by_stopping_its_application(start, loop):
    program = start(
        """
        async def enough():
            await app.stop()
            say("stopped")

        app = shop(Told(name="a"))
        app.scheduler.schedule_task(enough, interval_s=3600)
        serve(app)
        """,
        loop,
    )

    assert 0 == program.status(), program.errors()
    assert {"a"} == program.kept()
    assert "returned" == program.lines[-1]
    assert "" == program.errors()


def test_a_shared_task_that_stops_its_application_has_ended_its_tick(start):
    program = start(
        """
        from kaiju_app.scheduler import Scheduler, Scope, current_run

        async def enough():
            say("take", current_run().delivery)
            await app.stop()
            await asyncio.sleep(0.1)
            say("stopped")

        app = shop(Told(name="a"), scheduler=Scheduler("sqlite:///shared.db"))
        app.scheduler.schedule_task(enough, interval_s=1, name="enough", scope=Scope.CLUSTER)
        serve(app)

        async def ledger():
            async with Scheduler("sqlite:///shared.db") as scheduler:
                for run in await scheduler.history("enough"):
                    say(run.outcome, (await scheduler.inspect())["tasks"][0]["runs_on"])

        asyncio.run(ledger())
        """
    )

    assert 0 == program.status(), program.errors()
    assert ["returned", "SUCCEEDED None"] == program.lines[-2:]
    assert "" == program.errors()
