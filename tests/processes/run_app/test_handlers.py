"""run_app(): signal handlers installed earlier, repeated calls, and where it cannot run."""

from __future__ import annotations

import signal

import pytest

from kaiju_app import Application, Service, run_app
from kaiju_app.errors import InvalidArgument, KaijuError, WrongState
from processes.run_app.common import OLD, each_loop

pytestmark = pytest.mark.realtime


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
    """A program may send the signal to itself; this works like any other signal."""
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
