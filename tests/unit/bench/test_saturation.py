"""The search for the largest number of tasks, and what is measured at that number."""

from __future__ import annotations

import pytest

from bench.runner import Figures, GivenUp, Job, WorkerFailed, take_turns
from bench.saturation import Largest, Search, saturate

pytestmark = pytest.mark.pure

SEARCH = Search({"interval_s": 0.1, "warm_up_s": 0.5, "window_s": 2.0}, 8_000, 500, 128_000)


class Machine:
    """Keeps up with some number of tasks; gives a job up that is more than twice as large."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.tried: list[tuple[str, str, int]] = []

    def run(self, who: str, job: Job) -> Figures:
        tasks = job.size["tasks"]
        self.tried.append((who, job.loop, tasks))
        if tasks > 2 * self.capacity:
            raise GivenUp(who, job, "not over")
        return {"runs": min(tasks, self.capacity), "expected": tasks, "p99_ms": 1.0, "cpu_s": 1.0}


@pytest.mark.parametrize(("capacity", "found"), [(17_300, 17_000), (2_600, 2_500), (600_000, 128_000), (0, 0)])
def test_the_largest_number_is_found_to_the_resolution(capacity: int, found: int) -> None:
    figures = take_turns({"F4": saturate(SEARCH)}, Machine(capacity).run, [])

    assert figures["F4"]["largest"] == found


def test_what_w2_has_found_is_used_by_its_median() -> None:
    machine = Machine(9_000)
    largest = Largest(machine.run)

    largest.learn("asyncio", {"F4": [{"largest": 9_000}, {"largest": 12_000}, {"largest": 11_000}]})

    assert largest.on("asyncio") == 11_000
    assert machine.tried == []


def test_a_number_that_is_given_comes_before_one_that_is_found() -> None:
    largest = Largest(Machine(9_000).run, given=5_000)
    largest.learn("asyncio", {"F4": [{"largest": 9_000}]})

    assert largest.on("asyncio") == 5_000


def test_without_w2_each_kind_of_loop_is_searched_once() -> None:
    machine = Machine(9_000)
    largest = Largest(machine.run)

    assert [largest.on(loop) for loop in ("asyncio", "uvloop", "asyncio")] == [9_000] * 3
    assert {(who, loop) for who, loop, _ in machine.tried} == {("F4", "asyncio"), ("F4", "uvloop")}
    assert len(set(machine.tried)) == len(machine.tried)


def test_a_machine_that_keeps_up_with_nothing_is_an_error() -> None:
    with pytest.raises(WorkerFailed, match="does not even keep up with 500 tasks"):
        Largest(Machine(0).run).on("asyncio")
