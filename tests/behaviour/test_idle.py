"""Idle tasks cost memory and nothing else: as many as there are, the loop does not wake for them."""

from __future__ import annotations

import asyncio
import sys
from types import FrameType

from kaiju_app.scheduler import FirstRun, Scheduler
from support.reading import nothing
from support.virtual import VirtualLoop, close_loop


class CountingLoop(VirtualLoop):
    """Counts its turns."""

    turns = 0

    def _run_once(self) -> None:
        self.turns += 1
        super()._run_once()  # type: ignore[misc]


def idle_hour(tasks: int) -> tuple[int, int]:
    """Return the turns of the loop, and the calls in Python, in almost an hour in which none of *tasks* is due."""
    loop = CountingLoop()
    scheduler = Scheduler(clock=loop.virtual_clock)
    for number in range(tasks):
        scheduler.schedule_task(nothing, 3_600, name=f"idle {number}", first_run=FirstRun.NEXT)
    calls = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call"

    async def main() -> int:
        async with scheduler:
            await asyncio.sleep(0)
            begun = loop.turns
            sys.setprofile(count)
            await asyncio.sleep(3_590)
            sys.setprofile(None)
            return loop.turns - begun

    turns = loop.run_until_complete(main())
    close_loop(loop)
    return turns, calls


def test_ten_thousand_idle_tasks_cost_no_turn_of_the_loop_and_no_call_more_than_one() -> None:
    turns, calls = idle_hour(1)
    turns_of_many, calls_of_many = idle_hour(10_000)

    assert turns_of_many == turns < 100, "the scheduler looks at the clock once a minute"
    assert calls_of_many < calls + 100, "not one call for each task"
