"""What the pages about moving over say of other schedulers is asked of the libraries themselves."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.peers import install

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.untimed, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[3]
THEIRS = Path(__file__).with_name("theirs.py")

ANSWERS = {
    "apscheduler_zero_is_monday": "2027-01-04T00:00:00+00:00",
    "apscheduler_day_and_weekday": "2027-08-13T00:00:00+00:00",
    "apscheduler_first_interval": 60,
    "apscheduler_defaults": [1, True, 1],
    "apscheduler_pause_returns_during_the_run": True,
    "apscheduler4_zero_is_sunday": "2027-01-03T00:00:00+00:00",
    "apscheduler4_first_interval": 0,
    "apscheduler4_trigger_has_a_cursor": True,
    "aiocron_overlaps": True,
    "repeat_every_waits_after_the_end": True,
    "arq_zero_is_monday": "2027-01-04T00:00:00.123456+00:00",
    "celery_day_and_weekday": "2027-08-13T00:00:00+00:00",
    "celery_zero_is_sunday": "2027-01-03T00:00:00+00:00",
    "celery_first_interval_is_due_at_once": False,
    "discord_stops_at_an_exception": 1,
    "kaiju_tasks_and_names": ["list", "one", "one"],
    "kaiju_suspend_enables_a_disabled_task": [True, 0],
    "kaiju_deadline_of_wait": 240,
}


@pytest.mark.parametrize("question", ANSWERS)
def test_the_other_library_does_what_the_page_says(question: str) -> None:
    who = "apscheduler4" if question.startswith("apscheduler4_") else "others"
    python = install(who, sys.executable, platform.python_version())
    done = subprocess.run([python, str(THEIRS), question], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer: Any = json.loads(done.stdout)

    assert answer == ANSWERS[question]


def test_the_pages_name_the_versions_that_are_asked() -> None:
    page = (ROOT / "docs" / "moving" / "index.md").read_text("utf-8")
    pinned = "".join(path.read_text("utf-8") for path in (ROOT / "bench" / "requirements").glob("*.txt"))
    names = {"APScheduler": "apscheduler", "Celery": "celery"}
    named = re.findall(
        r"(APScheduler|aiocron|fastapi-utils|arq|Celery|kaiju-scheduler|discord\.py) (\d[\da-z.]*\w)", page
    )
    assert len(named) == 7
    for name, version in named:
        assert f"{names.get(name, name).replace('.', '-')}=={version} " in pinned, name
    assert "apscheduler==4.0.0a6 " in pinned
