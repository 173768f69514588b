"""What the README shows is run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kaiju_app.scheduler import ExecPolicy, Scheduler

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.realtime
def test_the_five_minute_start_runs_as_it_is_printed() -> None:
    [script] = [code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "asyncio.run(" in code]

    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script], capture_output=True, text=True, timeout=30
    )

    assert done.stderr == ""
    assert done.returncode == 0
    assert "scheduled:refresh SUCCEEDED" in done.stdout
    assert "prune SUCCEEDED" in done.stdout


def test_the_policies_table_tells_the_default_deadlines() -> None:
    rows = dict(re.findall(r"^\| `(\w+)`.*?\|.*?\| (.*?) \|", README, re.MULTILINE))
    scheduler = Scheduler()
    told = {}
    for policy in ExecPolicy:
        spec = scheduler.schedule_task(print, 10, policy=policy)._entry.spec
        told[policy.value] = f"{spec.limit // spec.gap} intervals" if spec.limit else None

    assert told == {"CANCEL": None, "WAIT": "3 intervals", "SKIP": "3 intervals", "SHIELD": None}
    assert rows == {
        "CANCEL": "the next tick",
        "WAIT": "3 intervals",
        "SKIP": "3 intervals",
        "SHIELD": "none: it is never cancelled",
    }


def test_every_name_that_the_readme_imports_is_public() -> None:
    import kaiju_app.scheduler as public

    names = re.findall(r"from kaiju_app\.scheduler import (.*)", README)

    assert set(", ".join(names).split(", ")) <= set(public.__all__)
