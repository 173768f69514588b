"""A simulated machine: its clocks, by which one process after the other lives."""

from __future__ import annotations

from .plan import MILLION


class Machine:
    """The clocks of one machine.

    Args:
        uptime: Microseconds for which it has been up when the simulation begins.
        ppm: How much faster than real time its clocks run, in millionths.
        wall: What its wall clock shows when the simulation begins, in microseconds since the Unix epoch.
    """

    def __init__(self, uptime: int, ppm: int, wall: int) -> None:
        self._since = 0
        self._steady = uptime
        self._ppm = ppm
        self._offset = wall - uptime

    def steady(self, now: int) -> int:
        """Return microseconds since the machine was booted, at *now* in real time."""
        passed = now - self._since
        return self._steady + passed + passed * self._ppm // MILLION

    def wall(self, now: int) -> int:
        """Return what its wall clock shows at *now* in real time."""
        return self.steady(now) + self._offset

    def when(self, steady: int) -> int:
        """Return the real time at which its steady clock first shows *steady*."""
        return self._since - (self._steady - steady) * MILLION // (MILLION + self._ppm)

    def skew(self, now: int, by: int, ppm: int) -> None:
        """Set the wall clock by *by* microseconds, and let the clocks run *ppm* faster than real time from now on."""
        self._steady, self._since, self._ppm = self.steady(now), now, ppm
        self._offset += by
