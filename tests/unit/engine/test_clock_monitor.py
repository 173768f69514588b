"""What timers that are late for one sleep, or for one block, tell of it together."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kaiju_app._core.clock import Clock
from kaiju_app._core.upset import UpsetKind
from kaiju_app._engine.clock_monitor import ClockMonitor
from kaiju_app._engine.upsets import UpsetLog

pytestmark = pytest.mark.pure

S = 1_000_000
HOUR = 3_600 * S
SLEPT, BLOCKED = UpsetKind.SLEPT, UpsetKind.BLOCKED

Timer = tuple[str, int, int, int]
"""Whose it is; when it was set, was due and fired."""

ENGINE = ("engine", 99 * S, 101 * S, HOUR + 100 * S)
COORDINATOR = ("coordinator", 99 * S, 102 * S, HOUR + 100 * S)
STARTER = ("starter", 50 * S, 103 * S, HOUR + 100 * S)
ENGINE_LATER = ("engine", 99 * S, 104 * S, HOUR + 104 * S)
FAR_STARTER = ("starter", 50 * S, HOUR // 2, HOUR + HOUR // 2)


def told(timers: Sequence[Timer], upset: str) -> list[tuple[UpsetKind, int, int]]:
    """Return what is told if the machine sleeps, or the loop is blocked, for an hour from 100 s on."""
    now = 0

    def awake() -> int:
        return now if upset == "block" or now <= 100 * S else max(now - HOUR, 100 * S)

    log = UpsetLog()
    monitor = ClockMonitor(Clock(lambda: now, lambda: now, awake), log)
    monitor.open(0)
    for whose, set_at, due, fired in timers:
        now = fired
        if whose == "engine":
            monitor.on_wake(fired - due, now, set_at)
            if monitor.has_findings:
                monitor.report()
        else:
            monitor.on_late_elsewhere(fired - due, set_at)
    return [(each.kind, each.since or 0, each.until or 0) for each in log.latest((SLEPT, BLOCKED))]


@pytest.mark.parametrize(
    "timers",
    [
        [ENGINE, COORDINATOR],
        [COORDINATOR, STARTER],
        [COORDINATOR, ENGINE_LATER],
        [STARTER, ENGINE, COORDINATOR],
        [COORDINATOR, ENGINE, STARTER, ENGINE_LATER],
        [COORDINATOR, FAR_STARTER],
    ],
)
def test_one_sleep_is_told_once_and_not_as_a_block_whichever_timer_comes_first(timers: Sequence[Timer]) -> None:
    first = min(due for _, _, due, _ in timers)

    assert told(timers, "sleep") == [(SLEPT, first, HOUR + 100 * S)]


def test_a_sleep_before_a_timer_was_set_does_not_hide_a_block() -> None:
    later = ("coordinator", HOUR + 104 * S, HOUR + 105 * S, HOUR + 115 * S)

    assert told([ENGINE, later], "sleep")[1:] == [(BLOCKED, HOUR + 105 * S, HOUR + 115 * S)]


def test_a_timer_that_was_due_long_after_a_sleep_but_set_before_it_was_late_for_no_block() -> None:
    far = ("starter", 50 * S, 2 * HOUR, 3 * HOUR)

    assert told([COORDINATOR, far], "sleep")[1:] == [(SLEPT, 2 * HOUR, 3 * HOUR)]


def test_a_block_that_two_timers_see_is_no_sleep() -> None:
    assert told([ENGINE, COORDINATOR, STARTER], "block") == [(BLOCKED, 101 * S, HOUR + 100 * S)]
