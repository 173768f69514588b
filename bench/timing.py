"""When the tasks of a workload are due."""

from __future__ import annotations

from time import monotonic

from bench.candidates import Candidate

LEAD_S = 0.3  # Between the start and the first tick: nothing of the start is measured as lateness.
LEAD_PER_TASK_S = 200e-6  # Time to register a task before the first tick; twice what any candidate needs.
GOLDEN = (5**0.5 - 1) / 2


def first_tick(tasks: int) -> float:
    """Choose the first due time far enough ahead for *tasks* to be registered before it."""
    return monotonic() + lead(tasks)


def lead(tasks: int) -> float:
    """Return the seconds that *tasks* may take to register and start."""
    return LEAD_S + tasks * LEAD_PER_TASK_S


def phases(tasks: int) -> list[float]:
    """Spread *tasks* phases over [0, 1), in order.

    Multiples of the golden ratio fill the interval evenly, yet are no multiples of a millisecond: with an equal
    distance of 1 ms, how loops round their timers would meet every task alike, by the chance of the first phase.
    """
    return sorted(number * GOLDEN % 1 for number in range(tasks))


async def start_before(candidate: Candidate, first_tick_s: float) -> None:
    """Start *candidate*; a start that is not over before the first tick would be measured as lateness."""
    await candidate.start()
    if (late_s := monotonic() - first_tick_s) > 0:
        await candidate.stop()  # What it left behind would hide the error.
        raise TimeoutError(f"registering and starting took {late_s:.3f} s too long: raise LEAD_PER_TASK_S")
