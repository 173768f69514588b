"""The benchmark of instances that share tasks runs and prints its figures. People judge the figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.realtime, pytest.mark.slow]


def test_two_seconds_of_shared_tasks_are_counted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.together", "--tasks", "20", "--processes", "2", "--seconds", "2"]
    figures = tmp_path / "figures.json"

    done = subprocess.run(
        [*command, "--json", str(figures)], cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=50
    )

    written = json.loads(figures.read_text())
    assert "" == done.stderr
    assert json.loads(done.stdout).items() <= written.items()
    assert (written["store"], written["tasks"], written["duplicates"]) == ("sqlite", 20, 0)
    assert done.returncode == bool(written["missing"])


def test_a_process_that_starts_too_late_is_an_error() -> None:
    command = [sys.executable, "-m", "bench.together", "--tasks", "20", "--processes", "1", "--seconds", "1"]

    done = subprocess.run(
        [*command, "--start", "0.01"], cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=50
    )

    assert done.returncode == 1
    assert "s too late; raise --start" in done.stderr
    assert done.stdout == ""
