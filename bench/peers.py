"""Other schedulers, as candidates. Each is installed from PyPI into an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

from bench.clocks import wall_time
from bench.floors import Body, end_runs, first_due

HERE = Path(__file__).resolve().parent
PATIENCE_S = 300.0


class Digonio:
    """DigonIO's `scheduler` (its asyncio form): an asyncio task for each job, which sleeps, runs, and sleeps again."""

    synchronous = False
    runs_every_tick = True
    gives_way = True

    def __init__(self) -> None:
        import scheduler.asyncio  # type: ignore[import-not-found]  # Only where a worker runs it.

        self._scheduler = scheduler.asyncio.Scheduler(tzinfo=UTC)

    def add(self, func: Body, interval_s: float, first_due_s: float) -> Any:
        interval = timedelta(seconds=interval_s)
        # It runs one interval after its start.
        start = wall_time(first_due(interval_s, first_due_s)) - interval
        return self._scheduler.cyclic(interval, func, start=start)

    def remove(self, handle: Any) -> None:
        self._scheduler.delete_job(handle)

    async def start(self) -> None:
        """Do nothing: each job has begun when it was added."""

    async def stop(self) -> None:
        self._scheduler.delete_jobs()
        await end_runs()


def install(who: str, python: str, version: str) -> str:
    """Make the environment of a peer if it is not there yet, and return its interpreter.

    Args:
        python: The interpreter to make it with.
        version: The version of that interpreter: each has an environment of its own.

    Raises:
        subprocess.CalledProcessError: It could not be installed.
    """
    requirements = HERE / "requirements" / f"{who}.txt"
    home = HERE.parent / ".venvs" / f"bench-{who}-{version}"
    installed, stamp = home / "bin" / "python", home / "installed.txt"
    wanted = requirements.read_text()
    if not (stamp.exists() and stamp.read_text() == wanted):
        print(f"bench: installing {requirements.name} into {home}", file=sys.stderr, flush=True)
        call(python, "-m", "venv", "--clear", str(home))
        pip = str(installed), "-m", "pip", "install", "-qq", "--disable-pip-version-check"
        call(*pip, "--require-hashes", "-r", str(requirements))
        stamp.write_text(wanted)
    return str(installed)


def call(*command: str) -> None:
    """Run a command, whose output goes where errors go."""
    subprocess.run(command, check=True, stdout=sys.stderr, timeout=PATIENCE_S)
