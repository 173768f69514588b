"""run_app() and ``python -m kaiju_app run`` as a person uses them: processes of their own, and real signals."""

from __future__ import annotations

import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from processes import Watched

from kaiju_app import Application, Service, run_app
from kaiju_app.errors import InvalidArgument, KaijuError, WrongState

pytestmark = pytest.mark.realtime

PROGRAMS = Path(__file__).parent / "programs"
PROMPT_S = 4.0  # Two seconds for what is still to be done and one for threads; less than the usual grace, which is 5 s.

SIGNALS = [signal.SIGINT, signal.SIGTERM]
LOOPS = ["asyncio", "uvloop"]

each_signal = pytest.mark.parametrize("number", SIGNALS, ids=lambda each: each.name)
each_loop = pytest.mark.parametrize("loop", LOOPS)
each_pair = pytest.mark.parametrize(
    ("first", "second"), [(one, two) for one in SIGNALS for two in SIGNALS], ids=lambda each: each.name
)


class Program(Watched):
    """A running program, and how it took its end."""

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def signal_again(self, number: signal.Signals) -> None:
        """Send a signal however soon it comes after the one before."""
        self._signalled = time.monotonic()
        self._process.send_signal(number)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def took_s(self) -> float:
        """Wait for the end; return the seconds since the last signal."""
        self.status()
        return time.monotonic() - self._signalled

    def kept(self) -> set[str]:
        """Return the services whose close() came to its end."""
        return {path.stem for path in self.directory.glob("*.kept")}


Start = Callable[..., Program]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Start]:
    """Start Python with arguments, in an empty directory."""
    launched: list[Program] = []

    def begin(*arguments: str, loop: str = "asyncio") -> Program:
        if loop == "uvloop":
            pytest.importorskip("uvloop")
        environment = {"PYTHONPATH": str(PROGRAMS), "LOOP": loop, "COLUMNS": "120"}
        launched.append(Program(tmp_path, [sys.executable, *arguments], tmp_path, **environment))
        return launched[-1]

    yield begin
    for each in launched:
        each.close()


@pytest.fixture
def start(launch: Start, tmp_path: Path) -> Start:
    """Start a program, given as text, with everything of programs/stage.py at hand."""

    def begin(code: str, loop: str = "asyncio") -> Program:
        (tmp_path / "program.py").write_text("import threading, time\nfrom stage import *\n" + dedent(code))
        return launch("program.py", loop=loop)

    return begin


# --- the first signal ends it in order ---


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
    assert "INFO application 'shop': SIGTERM, so it ends in order; once more cuts that short" in program.lines


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
    """Here it comes in the first turn of the loop."""
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
    """Here it comes when the handlers are in place, but nothing has run yet."""
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


# --- the second one cuts that short ---


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
    assert f"WARNING application 'shop': {second.name} again: cancelling what it waits for" in program.lines
    assert "ERROR application 'shop': service 'b' failed in close: cut short" in program.text
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
    """A person who presses Ctrl-C twice does not know whether the loop has seen the first one yet."""
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
        time.sleep(0.03)  # As fast as a keyboard repeats.

    assert not program.is_running()
    assert program.status() in (128 + number, -number)  # The key may still be down when Python exits.
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
    program.until("ends in order")
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
    program.until("ends in order")
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
    assert "application 'shop': service 'b': init() does not give way: given up" in program.errors()
    assert "destroyed" not in program.errors()


# --- whatever the loop is at ---

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
        say(*signals, status, CALLS.count("init") - CALLS.count("close"), time.monotonic() - began > 1)
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
    """close() is called if, and only if, init() has returned."""
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
        say("turn", TURN, CALLS.count("close"), time.monotonic() - began > 1)
    """,
        loop,
    )

    assert 0 == program.status(), program.errors()
    told = [line for line in program.lines if line.startswith("turn")]
    assert [f"turn {turn} 4 False" for turn in range(12)] == told


# --- what does not end as it should ---


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
    assert "given up" in program.errors()
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


# --- what keeps it from starting ---

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
    assert "_serve.py" not in program.errors(), "the cause, not the way through this package"


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


# --- whoever ends the program from within ---

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
    """What closes then may hang as well."""
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
    program.until("SIGTERM, so it ends in order")
    program.signal(signal.SIGTERM)

    assert program.took_s() < PROMPT_S
    assert program.status() in (3, 128 + signal.SIGTERM)
    assert {"a"} == program.kept()


# --- threads ---

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
    program.until("ends in order")
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

    # A run that outlived the scheduler's grace is a problem that was told; a thread of asyncio's has no such limit.
    assert (0 if kind == "to_thread" else 1) == program.status(), program.errors()
    assert {"a"} == program.kept()
    assert "" == program.errors()


@pytest.mark.parametrize("kind", THREADS)
def test_a_thread_that_ends_within_the_grace_is_in_order(start_thread, kind, tmp_path):
    program = start_thread(kind, grace_s=5)
    program.until("^blocking")
    program.signal(signal.SIGTERM)
    program.until("ends in order")
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
    program.until("ends in order")
    program.signal(signal.SIGTERM)

    assert -signal.SIGTERM == program.status()
    assert "buffered" in program.lines


# --- a loop that is blocked ---


def press(program: Program, number: signal.Signals) -> None:
    """Send the signal as a person does who sees no effect: again and again, but not more than three seconds."""
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
    """Start a program, and return when its loop is blocked."""
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


# --- the handlers that were there before ---

OLD = ["signal.SIG_IGN", "signal.SIG_DFL", "signal.default_int_handler", "mine"]


@pytest.mark.parametrize("old", OLD)
def test_the_old_handlers_are_replaced_for_as_long_as_it_runs(start, old):
    program = start(
        f"""
        def mine(*_):
            say("mine")

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, {old})
        serve(shop(Told(name="a")))
        say([signal.getsignal(number) is {old} or signal.getsignal(number) for number in (2, 15)])
        """
    )
    program.until("^ready")
    program.signal(signal.SIGTERM)

    assert 0 == program.status(), program.errors()
    assert ["returned", "[True, True]"] == program.lines[-2:]
    assert "mine" not in program.lines


ENDINGS = {
    "a failed start": "class Part(Told):\n    async def init(self): raise OSError",
    "sys.exit in init": "class Part(Told):\n    async def init(self): sys.exit(3)",
    "a cut": (
        "class Part(Told):\n    async def close(self):\n"
        "        signal.raise_signal(2)\n        await asyncio.Event().wait()"
    ),
}


@pytest.mark.parametrize("old", ["signal.SIG_IGN", "mine"])
@pytest.mark.parametrize("kind", ENDINGS)
def test_the_old_handlers_are_back_after_an_end_that_is_not_in_order(start, kind, old):
    program = start(
        f"""
def mine(*_):
    say("mine")

{ENDINGS[kind]}

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, {old})
app = shop(Told(name="a"), Part(name="b"))
async def end():
    signal.raise_signal(15)
app.scheduler.schedule_task(end, interval_s=3600)
try:
    serve(app)
except SystemExit as exc:
    say("left")
say([signal.getsignal(number) is {old} or signal.getsignal(number) for number in (2, 15)])
"""
    )

    assert 0 == program.status(), program.errors()
    assert ["left", "[True, True]"] == program.lines[-2:]
    assert "mine" not in program.lines


def test_the_old_handlers_are_back_if_the_loop_cannot_be_made(start):
    program = start(
        """
        def broken():
            raise OSError("too many open files")

        try:
            run_app(shop(), loop_factory=broken)
        except OSError as exc:
            say(exc, signal.getsignal(2) is signal.default_int_handler, signal.getsignal(15) is signal.SIG_DFL)
        """
    )

    assert 0 == program.status(), program.errors()
    assert ["too many open files True True"] == program.lines


# --- again, elsewhere, and where it cannot ---


@each_loop
def test_the_same_application_runs_again(start, loop):
    program = start(
        """
        class Scheduling(Told):
            async def init(self):
                await super().init()
                self.app.scheduler.schedule_task(end, interval_s=3600, name="end")

        async def end():
            signal.raise_signal(signal.SIGTERM)

        app = shop(Scheduling(name="a"))
        for _ in range(3):
            serve(app)
        """,
        loop,
    )

    assert 0 == program.status(), program.errors()
    assert 3 * ["init a", "ready", "close a", "closed a", "returned"] == program.lines
    assert "" == program.errors()


def test_the_same_application_runs_again_after_a_cut(start):
    program = start(
        """
        class Hard(Told):
            async def close(self):
                if not Path("a.kept").exists():
                    Path("a.kept").touch()
                    signal.raise_signal(signal.SIGINT)
                    await asyncio.Event().wait()

        async def end():
            signal.raise_signal(signal.SIGTERM)

        app = shop(Hard(name="a"))
        app.scheduler.schedule_task(end, interval_s=3600, name="end")
        try:
            serve(app)
        except SystemExit as exc:
            say(exc.code)
        serve(app)
        """
    )

    assert 0 == program.status(), program.errors()
    assert "130" in program.lines
    assert "returned" == program.lines[-1]


@each_loop
def test_in_another_thread_it_runs_without_signals_and_sys_exit_in_a_task_ends_it(start, loop):
    program = start(
        """
        async def leave():
            sys.exit(3)

        def body():
            try:
                serve(app)
            except SystemExit as exc:
                say("exit", exc.code)

        app = shop(Told(name="a"))
        app.scheduler.schedule_task(leave, interval_s=3600)
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        say(signal.getsignal(2) is signal.default_int_handler, signal.getsignal(15) is signal.SIG_DFL)
        """,
        loop,
    )

    assert 0 == program.status(), program.errors()
    assert ["exit 3", "True True"] == program.lines[-2:]
    assert {"a"} == program.kept()


def test_a_scheduled_plain_function_that_raises_the_signal_ends_it_in_order(start):
    """A program may end itself: the way is the same as for anybody else."""
    program = start(
        """
        app = shop(Told(name="a"))
        app.scheduler.schedule_task(os.kill, 3600, (os.getpid(), signal.SIGTERM), name="end")
        serve(app)
        """
    )

    assert 0 == program.status(), program.errors()
    assert {"a"} == program.kept()
    assert "" == program.errors()


async def test_inside_a_running_loop_it_is_refused(monkeypatch):
    app = Application("shop")

    with pytest.raises(WrongState, match="use `async with app:` inside it"):
        run_app(app)


@pytest.mark.parametrize("wrong", [None, "shop.main:app", Service(), Application])
def test_what_is_no_application_is_refused(wrong):
    with pytest.raises(InvalidArgument, match="must be an Application") as caught:
        run_app(wrong)

    assert isinstance(caught.value, KaijuError)


# --- what the services leave behind ---


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
    assert 1 == program.errors().count("stray does not give way and is left behind; it is at:\n"), program.errors()
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


# --- very many signals ---

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


# Python itself puts the default handlers back while it exits, so that a signal can still kill it then.
STORM_STATUSES = {0, *(128 + each for each in SIGNALS), *(-each for each in SIGNALS)}


def storm(program: Program, seed: int) -> None:
    """Send five hundred signals, beginning at a random moment."""
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
            say("take", current_run().take)
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


# --- the command line ---

MODULE = "from stage import *\napp = shop(Told(name='a'))\n"


@pytest.mark.parametrize(
    ("file", "text", "place"),
    [
        ("main.py", MODULE, "main:app"),
        ("pkg/main.py", MODULE, "pkg.main:app"),
        ("pkg/__init__.py", MODULE, "pkg:app"),
        ("main.py", MODULE + "class Holder: pass\nholder = Holder()\nholder.app = app\n", "main:holder.app"),
    ],
)
def test_an_application_is_run_from_the_command_line(launch, tmp_path, file, text, place):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / "pkg").mkdir(exist_ok=True)
    (tmp_path / "pkg" / "__init__.py").touch()
    (tmp_path / file).write_text(text)
    program = launch("-m", "kaiju_app", "run", place)
    program.until("^ready")
    program.signal(signal.SIGTERM)

    assert 0 == program.status(), program.errors()

    assert {"a"} == program.kept()
    for line in program.errors().splitlines():
        assert re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d,\d\d\d INFO kaiju_app\.app: application 'shop'", line), line
    assert re.search(r"'shop' is READY after \d\.\d{3} s, services: 1, tasks: 1", program.errors())
    assert "SIGTERM, so it ends in order" in program.errors()
    assert "is CLOSED" in program.errors()


def test_the_logging_of_the_program_is_left_alone(launch, tmp_path):
    begin = "import logging, sys\nlogging.basicConfig(level='WARNING', format='mine: %(message)s')\n"
    (tmp_path / "main.py").write_text(begin + MODULE + "logging.warning('hello')\n")
    program = launch("-m", "kaiju_app", "run", "main:app")
    program.until("^ready")
    program.signal(signal.SIGTERM)

    assert 0 == program.status(), program.errors()
    assert "mine: hello\n" == program.errors()


PLACES = {
    "main": "'main' must be MODULE:NAME, e.g. shop.main:app",
    "main:": "'main:' must be MODULE:NAME",
    ":app": "':app' must be MODULE:NAME",
    "": "'' must be MODULE:NAME",
    "nowhere:app": "there is no module 'nowhere'",
    "nowhere.main:app": "'nowhere.main:app': there is no module 'nowhere",
    "main.deeper:app": "there is no module 'main.deeper' here",
    ".main:app": "'.main:app'",
    "..main:app": "'..main:app'",
    "main..deeper:app": "'main..deeper:app'",
    "main:application": "has no attribute 'application'",
    "main:holder.app": "has no attribute 'holder'",
    "main:app.": "has no attribute ''",
    "main:number": "'main:number' is of type int, not an Application",
    "main:make": "is of type function, not an Application",
    "main.py:app": "there is no module 'main.py' here",
    "./main:app": "'./main:app'",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_is_wrong_ends_with_status_2_and_one_helpful_line(launch, tmp_path, place):
    (tmp_path / "main.py").write_text(MODULE + "number = 7\ndef make(): return app\n")
    program = launch("-m", "kaiju_app", "run", place)

    assert 2 == program.status(), program.errors()

    *usage, line = program.errors().splitlines()
    assert PLACES[place] in line
    assert "Traceback" not in program.errors()
    assert len(usage) < 3
    assert [] == program.lines


IMPORTS = {
    "in the module": {"main.py": "import no_such_driver\n"},
    "in what it imports": {"main.py": "import helper\n", "helper.py": "import no_such_driver\n"},
    "in its package": {"main/__init__.py": "import no_such_driver\n", "main/deeper.py": MODULE},
}


@pytest.mark.parametrize("kind", IMPORTS)
def test_what_goes_wrong_inside_an_import_is_shown_with_its_traceback(launch, tmp_path, kind):
    for file, text in IMPORTS[kind].items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    program = launch("-m", "kaiju_app", "run", "main.deeper:app" if "package" in kind else "main:app")

    assert 1 == program.status(), program.errors()
    assert "Traceback" in program.errors()
    assert "ModuleNotFoundError: No module named 'no_such_driver'" in program.errors()


def test_an_application_that_cannot_start_ends_the_command_with_status_1(launch, tmp_path):
    text = "class Broken(Told):\n    async def init(self):\n        raise OSError('no such host')\n"
    (tmp_path / "main.py").write_text(MODULE + text + "app.add_services(Broken(name='b'))\n")
    program = launch("-m", "kaiju_app", "run", "main:app")

    assert 1 == program.status()
    assert "CRITICAL kaiju_app.app: application 'shop': service 'b' failed in init" in program.errors()
    assert 1 == program.errors().count("Traceback")
    assert {"a"} == program.kept()


def test_the_command_line_does_not_need_uvloop(launch, tmp_path):
    (tmp_path / "uvloop.py").write_text("raise ImportError('not installed here')\n")
    (tmp_path / "main.py").write_text(MODULE)
    program = launch("-m", "kaiju_app", "run", "main:app")
    program.until("^ready")
    program.signal(signal.SIGINT)

    assert 0 == program.status(), program.errors()


def test_a_second_signal_cuts_the_command_short_too(launch, tmp_path):
    (tmp_path / "main.py").write_text(MODULE + "app.add_services(Hanging(name='b'))\n")
    program = launch("-m", "kaiju_app", "run", "main:app")
    program.until("^ready")
    program.signal(signal.SIGINT)
    program.until("^close b")
    program.signal(signal.SIGINT)

    assert 128 + signal.SIGINT == program.status()
    assert {"a"} == program.kept()
    assert "Traceback" not in program.errors()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_the_help_is_for_whoever_types_the_command(launch, arguments):
    program = launch("-m", "kaiju_app", *arguments)

    assert 0 == program.status()

    assert "python -m kaiju_app" in program.text
    assert "run" in program.text
    for word in ("loop_factory", "Args:", "Raises:", "WrongState"):
        assert word not in program.text, "what a caller of run_app() has to know"


def test_without_a_command_the_usage_is_shown_with_status_2(launch):
    program = launch("-m", "kaiju_app")

    assert 2 == program.status()
    assert "usage: python -m kaiju_app" in program.errors()
    assert "Traceback" not in program.errors()
