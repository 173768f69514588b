"""Relates the wall clock to the steady clock, and notices what can only be noticed afterwards.

That is: the loop was blocked, the machine slept, the wall clock was stepped. Each is reported in one log line, once the
ticks that were missed by it are decided.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import timedelta

from kaiju_app._core.clock import Clock, utc
from kaiju_app._core.text import listed
from kaiju_app._core.upset import UpsetKind

from .blocks import Block, Place
from .events import log
from .lag import LagMeter
from .upsets import UpsetLog

MIN_REPORTED = 1_000_000  # Less than a second is not worth a log line.
MIN_NOTICED = 200_000  # Less is not worth asking where the loop was.
MOST_BLOCKS = 100  # Are kept: a program that blocks its loop all the time needs no more to be understood.
MIN_STEP = 1_000  # A wall clock that is off by more than a millisecond was stepped, or slewed for a while.
MOST_NAMED = 3  # Of the tasks that may have blocked the loop.
MAX_READINGS = 10  # Readings of the clocks, at most, until one is quick enough to tell a step from a wait.


class ClockMonitor:
    """Knows how far the wall clock is ahead of the steady clock, and whether it was stepped.

    Attributes:
        offset: Wall clock minus steady clock, in microseconds.
        latest_wall: The latest time that the wall clock has shown since the start, or since tasks were replanned.
        lag: How late the loop gets round to the timers.
        blocks: The latest blocks of the loop of at least a second, oldest first.
        place: Returns where the loop was in the block that has just ended, if somebody saw it. The engine assigns it.
        running_at: Called with a steady time in a block; returns tasks that may be its cause. The engine assigns it.
        on_step: Called with a step and the steady time; it adds the step to ``offset``. The engine assigns it.
        stalled_until: Steady time at which the last stall ended that is worth a log line.
        is_applying: Whether a step is being applied: until that is done, no other one is looked for.
    """

    __slots__ = (
        "_awake",
        "_findings",
        "_run",
        "_skipped",
        "_sleeps",
        "_steady",
        "_upsets",
        "_wall",
        "blocks",
        "is_applying",
        "lag",
        "latest_wall",
        "offset",
        "on_step",
        "place",
        "running_at",
        "stalled_until",
    )

    on_step: Callable[[int, int], None]

    def __init__(self, clock: Clock, upsets: UpsetLog) -> None:
        self._upsets = upsets
        self._steady = clock.steady
        self._wall = clock.wall
        self._awake = clock.awake
        # When each sleep was noticed, and how long the machine had slept by then in all.
        self._sleeps: deque[tuple[int, int]] = deque(maxlen=MOST_BLOCKS)
        self._findings: list[str] = []
        self._run = 0
        self._skipped = 0
        self.offset = clock.wall() - clock.steady()
        self.lag = LagMeter()
        self.blocks: deque[Block] = deque(maxlen=MOST_BLOCKS)
        self.place: Callable[[], Place | None] = _nobody_looked
        self.running_at: Callable[[int], list[str]] = _nothing_known
        self.latest_wall = 0
        self.stalled_until = 0
        self.is_applying = False

    @property
    def has_findings(self) -> bool:
        """Whether something was noticed and is not reported yet."""
        return bool(self._findings)

    def open(self, now: int) -> int:
        """Read both clocks anew; return by how much ``offset`` has changed."""
        offset = self._wall() - now
        change, self.offset = offset - self.offset, offset
        self.latest_wall = now + offset
        self._forget_findings()
        self._sleeps.clear()
        self._sleeps.append((now, self._time_asleep()))
        return change

    def check_wall_clock(self, now: int) -> None:
        """Call ``on_step`` if the wall clock was stepped.

        Reading two clocks one after the other is never exact; that must not move ticks.
        """
        step = self._wall() - now - self.offset
        if -MIN_STEP <= step <= MIN_STEP or self.is_applying:
            return
        for _ in range(MAX_READINGS):  # This process may have been made to wait between the two readings.
            before, wall, after = self._steady(), self._wall(), self._steady()
            if after - before <= MIN_STEP:
                break
        step = wall - before - self.offset
        if not -MIN_STEP <= step <= MIN_STEP:
            self.on_step(step, before)

    # --- what is reported ---

    def on_wake(self, late: int, now: int, set_at: int) -> None:
        """Note that the timer, set at steady time *set_at*, fired *late* microseconds late."""
        self.lag.note(late, now)
        if late >= MIN_NOTICED:
            self._on_late(late, now, set_at, None)

    def on_blocked(self, late: int, task: str, now: int) -> None:
        """Note that a run of *task* has just kept the loop from getting on for *late* microseconds."""
        self.lag.note(late, now)
        self._on_late(late, now, now - late, task)

    def on_late_elsewhere(self, late: int, set_at: int) -> None:
        """Note that a timer of the cluster tasks, set at steady time *set_at*, fired *late* microseconds late.

        The own timer may be set for later.
        """
        if late < MIN_REPORTED:
            return
        now = self._steady()
        end = now + self.offset
        if late - self._slept(late, now, set_at) >= MIN_REPORTED:
            self._upsets.note(UpsetKind.BLOCKED, end - late, end)

    def _slept(self, late: int, now: int, set_at: int) -> int:
        """Return how long the machine has slept since a late timer was set, and note it if it was that.

        Each timer that a sleep has made late tells of it: it ended when the first one fired.
        """
        asleep = self._time_asleep()
        if not self._sleeps or asleep - self._sleeps[-1][1] > MIN_STEP:
            self._sleeps.append((now, asleep))
        woke, since = self._sleeps[-1][0], now - late
        before = next((total for moment, total in reversed(self._sleeps) if moment <= set_at), self._sleeps[0][1])
        slept = asleep - before
        if min(slept, late) >= MIN_REPORTED:
            until = woke if since < woke else now  # The loop's clock may have stood still before the timer was due.
            self._upsets.note(UpsetKind.SLEPT, since + self.offset, until + self.offset)
        return slept

    def _on_late(self, late: int, now: int, set_at: int, task: str | None) -> None:
        place = self.place()
        self.lag.blame(late, place)
        if late < MIN_REPORTED:
            return
        self.stalled_until = now
        slept = self._slept(late, now, set_at)
        end = now + self.offset
        if slept >= MIN_REPORTED:
            self._findings.append(f"the machine slept for {_length(slept)}")
        if late - slept >= MIN_REPORTED:
            cause = "the loop was blocked" if self._awake is not None else "the loop was blocked, or the machine slept,"
            task = task if place is None else place.task or task
            tasks = tuple(self.running_at(now - late // 2)) if task is None and place is None else (task,)
            block = Block(now - (late - slept), now, self.offset, tuple(filter(None, tasks)), task is not None, place)
            self.blocks.append(block)
            self._findings.append(f"{cause} for {_length(late - slept)}{_by(block)}")
            self._upsets.note(UpsetKind.BLOCKED, end - late, end, None, _by(block).strip() or None)

    def on_stepped(self, step: int, tasks: int, wall: int, *, replanned: bool) -> None:
        """Note that the wall clock was stepped by *step* and shows *wall* now.

        Args:
            tasks: How many tasks follow the wall clock.
            replanned: Whether they were planned anew.
        """
        if abs(step) < MIN_REPORTED:
            return
        self._upsets.note(UpsetKind.CLOCK, wall - step, wall)
        self.stalled_until = self._steady()
        text = f"the wall clock was set {'forward' if step > 0 else 'back'} by {_length(abs(step))}"
        if not tasks:
            text += " (intervals of local tasks are not affected)"
        elif replanned:
            text += f", more than 3 hours ({tasks} task(s) with a trigger are planned anew, from {utc(wall)})"
        elif step < 0:
            text += f" ({tasks} task(s) with a trigger: ticks that were handled already are not repeated)"
        self._findings.append(text)

    def on_missed(self, run: int, skipped: int) -> None:
        """Count missed ticks: those that *run* late, and those that are *skipped*."""
        self._run += run
        self._skipped += skipped

    def report(self) -> None:
        """Log what was noticed, and what became of the missed ticks."""
        what = " and ".join(self._findings)
        if self._run or self._skipped:
            log.warning("%s; of the missed ticks, %d run now and %d are skipped", what, self._run, self._skipped)
        else:
            log.warning("%s; no tick was missed", what)
        self._forget_findings()

    def _forget_findings(self) -> None:
        self._findings.clear()
        self._run = self._skipped = 0

    def _time_asleep(self) -> int:
        return 0 if self._awake is None else self._steady() - self._awake()


def _nothing_known(moment: int) -> list[str]:
    return []


def _nobody_looked() -> None:
    return None


def _by(block: Block) -> str:
    if not block.is_certain and block.place is None:
        return _while_running(block.tasks)
    task = f" by task {block.tasks[0]!r}" if block.is_certain else ""
    return task if block.place is None else f"{task} at {block.place}"


def _while_running(tasks: tuple[str, ...]) -> str:
    if len(tasks) < 2:
        return f" while task {tasks[0]!r} was running" if tasks else ""
    return f" while tasks {listed([repr(each) for each in tasks], MOST_NAMED)} were running"


def _length(us: int) -> str:
    return str(timedelta(seconds=round(us / 1e6)))
