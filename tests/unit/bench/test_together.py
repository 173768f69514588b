"""What is computed from the records of instances that share tasks."""

from __future__ import annotations

import pytest

from bench.together import arguments, summary

pytestmark = pytest.mark.pure


def instance(runs: list[tuple[str, float, float]], cpu_s: float = 0.0, **statements: int) -> dict[str, object]:
    return {"runs": runs, "cpu_s": cpu_s, "asked": {}, "stated": statements}


def test_ticks_that_ran_twice_or_not_at_all_are_told() -> None:
    options = arguments().parse_args(["--tasks=2", "--seconds=2"])
    warm_up = [("a", 100.0, 9.0), ("b", 100.5, 9.0)]
    one = instance([*warm_up, ("a", 101.0, 0.001), ("a", 102.0, 0.002)])
    other = instance([("a", 101.0, 0.003), ("b", 101.5, 0.004), ("a", 103.0, 9.0)])

    figures = summary([one, other], None, options)

    assert (figures["expected"], figures["done"], figures["missing"], figures["duplicates"]) == (4, 3, 1, 1)
    assert figures["late_ms_max"] == 4
    assert figures["runs_by_process"] == [2, 2]


def test_cpu_is_split_into_the_processes_and_the_server() -> None:
    options = arguments().parse_args(["--tasks=1", "--seconds=2"])
    runs = [("a", 100.0, 0.0), ("a", 101.0, 0.0), ("a", 102.0, 0.0)]
    found = [instance(runs, 0.3, SELECT=4), instance([], 0.1, SELECT=2)]

    figures = summary(found, 0.05, options)

    assert figures["cpu_us_a_run"] == 200_000
    assert figures["server_cpu_us_a_run"] == 25_000
    assert figures["statements_a_second"] == 3
    assert summary(found, None, options)["server_cpu_us_a_run"] is None
