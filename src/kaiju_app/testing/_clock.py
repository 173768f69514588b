"""The clock of a test: the time of the loop, of schedulers, and of the wall, as one object."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from kaiju_app._core.clock import Clock, Timer, epoch_us, substituted, utc
from kaiju_app._core.validate import aware, duration_us
from kaiju_app.errors import InvalidArgument, VirtualTimeError

from ._in_use import put_back, put_in_place
from ._loop import VirtualLoop
from ._timers import Timers

T = TypeVar("T")

START = datetime(2027, 1, 1, tzinfo=UTC)  # A Friday. Any date would do.
UPTIME = 5_000_000  # Microseconds for which the machine of the test has been up: less than most intervals.


class Traveller(Protocol):
    """What freezegun and time-machine return for a frozen time."""

    def move_to(self, moment: datetime, /) -> object:
        """Set the frozen time."""


class VirtualClock(Clock):
    """The time of a test. Inside ``with clock:``, every scheduler without a clock of its own lives by it.

    When nothing is left to do at an instant, time jumps to the next timer. So ``await asyncio.sleep(86_400)`` takes no
    time, and neither do timeouts and deadlines. While a plain function of a task or a call of ``asyncio.to_thread()``
    is at work, time stands still.

    ``datetime.now()`` and ``time.time()`` are not affected. ``leading()`` lets freezegun or time-machine follow.

    Args:
        start: Aware datetime that the wall clock shows at first.
        moves_alone: Whether time passes whenever all tasks wait. False: only during ``advance()`` and ``until()``; for
            a loop that is driven from another thread, as the one of a web framework's TestClient.
        seed: Decides the jitter of tasks: it is part of the identity of the schedulers.
        waits_for_threads: Whether time stands still while a thread is at work. False: time passes meanwhile, and
            how much differs from one test run to the next; for a plain function that outlives its deadline.
        patience_s: Real seconds after which a test that makes no progress fails; the error says what it waits for. If
            no timer is set, that is 2 s at most; for code that blocks the loop, it may be twice as long.

    Raises:
        InvalidArgument: *start* is naive, or *patience_s* is negative.
    """

    def __init__(
        self,
        start: datetime = START,
        *,
        moves_alone: bool = True,
        waits_for_threads: bool = True,
        seed: int = 0,
        patience_s: float = 20.0,
    ) -> None:
        super().__init__(self.steady_now, lambda: self._steady + self._offset, self.awake_now)
        self._steady = UPTIME
        self._slept = 0
        self._offset = epoch_us(aware("start", start)) - UPTIME
        self._seed = seed
        self._identities: list[str] = []
        self._timers = Timers(self.steady_now)
        self._loop: VirtualLoop | None = None
        self._travellers: list[Traveller] = []
        self.patience_s = duration_us("patience_s", patience_s) / 1e6
        self.moves_alone = moves_alone
        self.waits_for_threads = waits_for_threads
        self.is_driven_from_outside = not moves_alone
        self.is_paused = False

    def __repr__(self) -> str:
        return f"<VirtualClock at {self.now().isoformat()}>"

    # --- what it shows ---

    def now(self) -> datetime:
        """Return what the wall clock shows, as an aware UTC datetime."""
        return utc(self._steady + self._offset)

    def steady_now(self) -> int:
        """Return microseconds since the machine of the test was booted."""
        return self._steady

    def awake_now(self) -> int:
        """Return microseconds since the machine of the test was booted, without those that it slept."""
        return self._steady - self._slept

    # --- to move it ---

    async def advance(self, seconds: float | timedelta) -> None:
        """Let time pass. Return when everything that is due by then has ended or waits for something.

        Args:
            seconds: How long; 0 lets no time pass, and only runs what is due.

        Raises:
            InvalidArgument: *seconds* is negative.
            VirtualTimeError: It is called in another loop; a thread does not end; or something never lets time pass.
        """
        await _own_loop(self, "advance").reach(self._steady + duration_us("seconds", seconds))

    async def until(self, moment: datetime) -> None:
        """Let time pass until the wall clock shows the aware *moment*; see ``advance()``.

        Raises:
            InvalidArgument: *moment* is naive, or has passed.
        """
        target = epoch_us(aware("moment", moment))
        loop = _own_loop(self, "until")
        if target < self.wall():
            raise InvalidArgument("moment", moment, f"must not be before now, {self.now()}; set_wall() can go back")
        while self.wall() < target:  # Somebody may set the wall clock back meanwhile.
            await loop.reach(target - self._offset)

    def set_wall(self, moment: datetime) -> None:
        """Set the wall clock to the aware *moment*, as an operator or NTP does: no time passes, no timer fires.

        Raises:
            InvalidArgument: *moment* is naive.
        """
        offset = epoch_us(aware("moment", moment)) - self._steady
        self._timers.before_upset()
        self._offset = offset
        self._tell_travellers()

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward by *seconds*, or back if they are negative."""
        self._timers.before_upset()
        self._offset += round(seconds * 1e6)
        self._tell_travellers()

    def block(self, seconds: float | timedelta) -> None:
        """Let time pass without giving the loop back, as code that blocks does.

        Raises:
            InvalidArgument: *seconds* is negative.
        """
        blocked = duration_us("seconds", seconds)
        self._timers.before_upset()
        self.jump(self._steady + blocked)

    def sleep_machine(self, seconds: float | timedelta) -> None:
        """Let the machine sleep. As on Linux, the time of the loop stands still meanwhile.

        Raises:
            InvalidArgument: *seconds* is negative.
        """
        slept = duration_us("seconds", seconds)
        self._timers.before_upset()
        self._slept += slept
        self.jump(self._steady + slept)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let time pass only by ``advance()`` and ``until()`` in the block: for real sockets and processes."""
        before = self.moves_alone, self.is_paused
        self.moves_alone, self.is_paused = False, True
        try:
            yield
        finally:
            self.moves_alone, self.is_paused = before

    @contextmanager
    def leading(self, traveller: Traveller) -> Iterator[None]:
        """Let the frozen time of freezegun or time-machine follow this clock inside the block.

        Args:
            traveller: What ``freeze_time()`` or ``time_machine.travel(..., tick=False)`` returns on entry.
        """
        self._travellers.append(traveller)
        self._tell_travellers()
        try:
            yield
        finally:
            self._travellers.remove(traveller)

    def jump(self, target: int) -> None:
        """Set the steady clock to *target*, unless it is past that already."""
        if target > self._steady:
            self._steady = target
            if self._travellers:
                self._tell_travellers()

    def _tell_travellers(self) -> None:
        for each in self._travellers:
            each.move_to(self.now())

    # --- its loop ---

    def new_loop(self) -> VirtualLoop:
        """Return a new event loop in this time: a loop factory, as for ``asyncio.Runner(loop_factory=clock.new_loop)``.

        Raises:
            VirtualTimeError: The clock is not in use, or it has an open loop already: two loops would both move it.
        """
        if substituted() is not self:
            raise VirtualTimeError(
                "this clock is not in use, so a scheduler would live by real time in its loop: write `with clock:` "
                "around the test, as the fixture `clock` does"
            )
        if self._loop is not None and not self._loop.is_closed():
            raise VirtualTimeError("this clock has a loop already, which is still open: close that loop first")
        self._loop = VirtualLoop(self)
        self._timers.open(self._loop)
        return self._loop

    def run(self, main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
        """Run *main* as ``asyncio.run()`` does, in a new loop in this time, and return its result.

        In that loop time passes by itself, whatever *moves_alone* is. ``with clock:`` around this call is not needed.
        """
        if substituted() is not self:
            with self:
                return self.run(main, debug=debug)
        before = self.moves_alone, self.is_driven_from_outside
        self.moves_alone, self.is_driven_from_outside = True, False
        try:
            with asyncio.Runner(debug=debug, loop_factory=self.new_loop) as runner:
                return runner.run(main)
        finally:
            self.moves_alone, self.is_driven_from_outside = before

    def _join(self, loop: asyncio.AbstractEventLoop, identity: str, timer: Timer) -> str:
        """Let a scheduler start in *loop*; return its identity, the same in every repetition of the test.

        Raises:
            VirtualTimeError: *loop* is not the loop of this clock.
        """
        if getattr(loop, "virtual_clock", None) is not self:
            raise VirtualTimeError(
                f"a scheduler starts in {_kind(loop)}, while its time is that of {self!r}: start it inside the test, "
                "in the loop of this clock. For pytest-asyncio ask for the fixture `clock` in it; for anyio write a "
                'fixture anyio_backend that returns ("asyncio", {"loop_factory": clock.new_loop}); elsewhere use '
                "clock.run(main())"
            )
        if identity not in self._identities:
            identity = f"{self._seed & (1 << 64) - 1:016x}{len(self._identities) + 1:016x}"
            self._identities.append(identity)
        if substituted() is self:
            self._timers.add(timer)
        return identity

    # --- for the whole process ---

    def __enter__(self) -> Self:
        """Give this time to every scheduler without a clock of its own.

        Raises:
            VirtualTimeError: Another clock is in use, or a scheduler is running already.
        """
        put_in_place(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        put_back()


def _own_loop(clock: VirtualClock, call: str) -> VirtualLoop:
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualLoop) and loop.virtual_clock is clock:
        return loop
    raise VirtualTimeError(
        f"clock.{call}() is called in {_kind(loop)}, whose time is not that of this clock. For pytest-asyncio "
        "ask for the fixture `clock` in the test, with the loop scope `function`; for anyio write a fixture "
        'anyio_backend that returns ("asyncio", {"loop_factory": clock.new_loop}); elsewhere use clock.run(main())'
    )


def _kind(loop: object) -> str:
    clock = getattr(loop, "virtual_clock", None)
    return "a loop in real time" if clock is None else f"the loop of another clock, {clock!r}"
