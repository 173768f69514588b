"""The example with workers, as test_workers runs it: unchanged, but its reports write when they begin and end."""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import uvicorn

from kaiju_app.scheduler import current_run

EXAMPLE = Path(__file__).parents[3] / "examples" / "with_workers.py"
sys.path.insert(0, str(EXAMPLE.parent))

import with_workers  # noqa: E402

app = with_workers.app


def note(event: str) -> None:
    """Append a line in one write, so that lines of several processes do not mix."""
    run = current_run()
    line = [time.monotonic(), os.getpid(), event, run.scheduled_at.isoformat(), run.delivery]
    descriptor = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{json.dumps(line)}\n".encode())
    os.close(descriptor)


async def noted(reports: Any) -> None:
    note("begin")
    try:
        await report(reports)
    finally:
        note("end")


if __name__ == "workers_journal":  # In a worker, which imports it.
    report = with_workers.Reports.report
    with_workers.Reports.report = noted  # type: ignore[method-assign]

if __name__ == "__main__":
    run = uvicorn.run
    uvicorn.run = lambda _, **options: run("workers_journal:app", **options | {"app_dir": str(Path(__file__).parent)})
    runpy.run_path(str(EXAMPLE), run_name="__main__")
