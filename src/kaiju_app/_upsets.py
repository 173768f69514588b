"""What can only be seen afterwards: a loop that was blocked, a machine that slept, a wall clock that was set."""

from __future__ import annotations

from datetime import timedelta

from ._clock import Clock, utc
from ._events import log

NOTABLE = 1_000_000  # What is shorter than a second is not worth a line in the log.
FAR_BACK = 10_800_000_000  # Three hours: up to that Debian's cron sees a change of the clocks, beyond it a correction.


class Upsets:
    """Notices such upsets, and tells each of them in one line when what it left behind has been dealt with."""

    __slots__ = ("_asleep", "_awake", "_found", "_run", "_skipped", "_steady")

    def __init__(self, clock: Clock) -> None:
        self._steady = clock.steady
        self._awake = clock.awake
        self._asleep = 0
        self._found: list[str] = []
        self._run = 0
        self._skipped = 0

    @property
    def open(self) -> bool:
        """Whether something was noticed and is not told yet."""
        return bool(self._found)

    def begin(self) -> None:
        """Take for granted what was before."""
        self._asleep = self._all_sleep()
        self._found.clear()
        self._run = self._skipped = 0

    def woken(self, late: int) -> None:
        """Take note that the timer came *late* microseconds late."""
        if late < NOTABLE:
            return
        asleep = self._all_sleep()
        slept, self._asleep = asleep - self._asleep, asleep
        if slept >= NOTABLE:
            self._found.append(f"the machine slept for {_length(slept)}")
        if late - slept >= NOTABLE:
            cause = "the loop was blocked" if self._awake is not None else "the loop was blocked, or the machine slept,"
            self._found.append(f"{cause} for {_length(late - slept)}")

    def stepped(self, step: int, tasks: int, wall: int, *, anew: bool) -> None:
        """Take note that the wall clock was set by *step* and shows *wall* now.

        Args:
            tasks: How many live on it.
            anew: They were planned anew.
        """
        if abs(step) < NOTABLE:
            return
        text = f"the wall clock was set {'forward' if step > 0 else 'back'} by {_length(abs(step))}"
        if not tasks:
            text += " (of no effect on intervals)"
        elif anew:
            text += f", more than 3 hours ({tasks} task(s) with a trigger are planned anew, from {utc(wall)})"
        elif step < 0:
            text += f" ({tasks} task(s) with a trigger: ticks that came already do not come again)"
        self._found.append(text)

    def made_up(self, run: int, skipped: int) -> None:
        """Take note of missed ticks that are *run* or *skipped*."""
        self._run += run
        self._skipped += skipped

    def tell(self) -> None:
        """Say what was noticed, and what became of the ticks."""
        what = " and ".join(self._found)
        if self._run or self._skipped:
            log.warning("%s; of the ticks that were missed %d run now, %d are skipped", what, self._run, self._skipped)
        else:
            log.warning("%s; no tick was missed", what)
        self.begin()

    def _all_sleep(self) -> int:
        return 0 if self._awake is None else self._steady() - self._awake()


def _length(us: int) -> str:
    return str(timedelta(seconds=round(us / 1e6)))
