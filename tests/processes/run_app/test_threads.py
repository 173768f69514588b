"""run_app(): threads, and loops that are blocked."""

from __future__ import annotations

import signal
import time
from textwrap import dedent

import pytest

from processes.run_app.common import PROMPT_S, Program, Start, each_signal

pytestmark = pytest.mark.realtime


THREADS = {
    "a plain function": """
        def block():
            say("blocking")
            while not Path("go").exists():
                time.sleep(0.01)

        app = shop(Told(name="a"), scheduler=Scheduler(cancel_grace_s=GRACE_S))
        app.scheduler.schedule_task(block, interval_s=3600)
        """,
    "a plain function, scheduled in init": """
        def block():
            say("blocking")
            while not Path("go").exists():
                time.sleep(0.01)

        class Scheduling(Told):
            async def init(self):
                self.app.scheduler.schedule_task(block, interval_s=3600)

        app = shop(Scheduling(name="a"), scheduler=Scheduler(cancel_grace_s=GRACE_S))
        """,
    "to_thread": """
        def block():
            say("blocking")
            while not Path("go").exists():
                time.sleep(0.01)

        class Threaded(Told):
            async def init(self):
                self.mine = asyncio.create_task(asyncio.to_thread(block))

        app = shop(Threaded(name="a"))
        """,
}


@pytest.fixture
def start_thread(start: Start) -> Start:
    def begin(kind: str, loop: str = "asyncio", grace_s: float = 0.2) -> Program:
        begin = f"from kaiju_app.scheduler import Scheduler\nGRACE_S = {grace_s}\ntell_log()\n"
        return start(begin + dedent(THREADS[kind]) + "serve(app)\n", loop)

    return begin


@pytest.mark.parametrize(("kind", "loop"), [*((kind, "asyncio") for kind in THREADS), ("to_thread", "uvloop")])
def test_a_thread_that_hangs_is_waited_for_and_told_and_a_second_signal_kills(start_thread, kind, loop):
    program = start_thread(kind, loop)
    program.until("^blocking")
    program.signal(signal.SIGINT)
    told = program.until("waiting for threads").string
    assert "block'" in told or "asyncio.to_thread()" in told
    assert {"a"} == program.kept()
    program.signal(signal.SIGTERM)

    assert program.took_s() < PROMPT_S
    assert -signal.SIGTERM == program.status()
    assert "" == program.errors()


@each_signal
@pytest.mark.parametrize("kind", THREADS)
def test_a_second_signal_kills_it_at_once_while_a_thread_hangs(start_thread, kind, number):
    program = start_thread(kind, grace_s=5)
    program.until("^blocking")
    program.signal(number)
    program.until("a second signal cuts it short")
    program.signal(number)

    assert program.took_s() < PROMPT_S
    assert -number == program.status()
    assert {"a"} == program.kept()
    assert "" == program.errors()


@pytest.mark.parametrize("kind", THREADS)
def test_a_thread_that_ends_while_it_is_waited_for_lets_the_program_end(start_thread, kind, tmp_path):
    program = start_thread(kind)
    program.until("^blocking")
    program.signal(signal.SIGTERM)
    program.until("waiting for threads")
    (tmp_path / "go").touch()

    # A run that outlives the grace of the scheduler is logged as a problem. A thread of asyncio has no such limit.
    assert (0 if kind == "to_thread" else 1) == program.status(), program.errors()
    assert {"a"} == program.kept()
    assert "" == program.errors()


@pytest.mark.parametrize("kind", THREADS)
def test_a_thread_that_ends_within_the_grace_is_in_order(start_thread, kind, tmp_path):
    program = start_thread(kind, grace_s=5)
    program.until("^blocking")
    program.signal(signal.SIGTERM)
    program.until("a second signal cuts it short")
    (tmp_path / "go").touch()

    assert 0 == program.status(), program.errors()
    assert "returned" == program.lines[-1]
    assert "waiting for threads" not in program.text


@each_signal
def test_a_thread_that_hangs_after_a_failed_start_is_told_and_the_signal_that_it_offers_kills(start, number):
    program = start(
        """
        class Broken(Told):
            async def init(self):
                self.mine = asyncio.create_task(asyncio.to_thread(time.sleep, 60))
                await asyncio.sleep(0.05)
                raise OSError("no such host")

        tell_log()
        serve(shop(Told(name="a"), Broken(name="b")))
        """
    )
    assert "a signal kills the process" in program.until("waiting for threads").string
    program.signal(number)

    assert program.took_s() < PROMPT_S
    assert -number == program.status()


@each_signal
def test_a_thread_that_hangs_after_sys_exit_is_told_and_the_signal_that_it_offers_kills(start, number):
    program = start(
        """
        async def leave():
            asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)
            await asyncio.sleep(0.05)
            sys.exit(3)

        tell_log()
        app = shop(Told(name="a"))
        app.scheduler.schedule_task(leave, interval_s=3600)
        serve(app)
        """
    )
    assert "a signal kills the process" in program.until("waiting for threads").string
    program.signal(number)

    assert program.took_s() < PROMPT_S
    assert -number == program.status()


def test_what_was_written_before_a_kill_is_not_lost(start):
    program = start(
        """
        def block():
            say("blocking")
            print("buffered")
            time.sleep(60)

        tell_log()
        app = shop(Told(name="a"))
        app.scheduler.schedule_task(block, interval_s=3600)
        serve(app)
        """
    )
    program.until("^blocking")
    program.signal(signal.SIGTERM)
    program.until("a second signal cuts it short")
    program.signal(signal.SIGTERM)

    assert -signal.SIGTERM == program.status()
    assert "buffered" in program.lines


def press(program: Program, number: signal.Signals) -> None:
    """Send the signal as a user does who sees no effect: again and again, for at most three seconds."""
    for _ in range(10):
        program.signal(number)
        time.sleep(0.3)
        if not program.is_running():
            return


BLOCKED = {
    "sleeping": "time.sleep(60)",
    "computing with care": "while True:\n        try: sum(range(1000))\n        except Exception: pass",
}


def start_blocked(start: Start, kind: str, loop: str) -> Program:
    """Start a program and wait until its loop is blocked."""
    program = start(
        f"""
async def block():
    say("blocking")
    {BLOCKED[kind]}

app = shop(Told(name="a"))
app.scheduler.schedule_task(block, interval_s=3600)
serve(app)
""",
        loop,
    )
    program.until("^blocking")
    return program


each_blockade = pytest.mark.parametrize(
    ("kind", "loop"), [("sleeping", "asyncio"), ("sleeping", "uvloop"), ("computing with care", "asyncio")]
)


@each_blockade
def test_sigint_again_and_again_interrupts_a_loop_that_is_blocked(start, kind, loop):
    program = start_blocked(start, kind, loop)
    press(program, signal.SIGINT)

    assert program.took_s() < PROMPT_S
    assert program.status() in (-signal.SIGINT, 128 + signal.SIGINT), program.errors()
    assert {"a"} == program.kept(), "what can still be kept is"


@each_blockade
def test_sigterm_again_and_again_kills_a_loop_that_is_blocked(start, kind, loop):
    program = start_blocked(start, kind, loop)
    press(program, signal.SIGTERM)

    assert program.took_s() < PROMPT_S
    assert -signal.SIGTERM == program.status(), program.errors()


@each_signal
def test_a_loop_that_blocks_in_a_close_can_be_ended_too(start, number):
    program = start(
        """
        class Blocking(Told):
            async def close(self):
                say("blocking")
                time.sleep(60)

        serve(shop(Blocking(name="a")))
        """
    )
    program.until("^ready")
    program.signal(number)
    program.until("^blocking")
    press(program, number)

    assert program.took_s() < PROMPT_S
    assert program.status() in (-number, 128 + number), program.errors()
