"""The benchmark runs and prints its tables. People judge the figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import plan
from bench.candidates import PEERS, names

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.timeout(400)]


def test_the_quick_form_measures_every_work_and_judges_nothing(tmp_path: Path) -> None:
    whos = ",".join(name for name in names() if name not in PEERS)  # Tests install nothing.
    written = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench", "--quick", "--who", whos, "--loops", "asyncio,uvloop"]

    done = subprocess.run(
        [*command, "--json", str(written)], cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=380
    )

    assert done.returncode == 0, done.stderr
    document = json.loads(written.read_text())
    measured = {(result["work"], result["loop"]): result for result in document["results"]}
    smallest = {name for name in plan.NAMES if not name.endswith(("-3000", "-6000"))}
    assert {name for name, _ in measured} == smallest
    assert {name for name, loop in measured if loop == "uvloop"} == {"W1", "W2-overload", "W2-recovery"}
    assert all(result["rounds"] for result in measured.values())
    assert not any(result["verdicts"] for result in measured.values())
    (shared,) = measured["W8-postgresql-1000", "asyncio"]["rounds"]["kaiju"]
    assert (shared["expected"], shared["duplicates"]) == (20, 0)
    assert shared["statements"] >= 1
    assert shared["server_us"] >= 0  # The system counts in hundredths of a second: so few runs may take none.
    (stopped,) = measured["W2-recovery", "asyncio"]["rounds"]["kaiju"]
    assert 0.5 < stopped["stop_before"] < 1.5


ALREADY_OVER = """
import asyncio, subprocess, time
from bench import overload

class Slow(subprocess.Popen):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        time.sleep(1)

subprocess.Popen = Slow
asyncio.run(overload.be_stopped(0.5))
"""


def test_a_stop_that_is_over_before_the_first_look_is_noticed() -> None:
    subprocess.run([sys.executable, "-c", ALREADY_OVER], cwd=Path(__file__).parents[3], check=True, timeout=30)
