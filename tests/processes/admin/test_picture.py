"""The picture of the dashboard in README.md: PICTURE=docs/dashboard.png has this test make it (make picture)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from processes.admin.browser import Tabs, expect
from processes.admin.served import answers, free_port

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.untimed, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[3]
WANTED = os.environ.get("PICTURE")
RUNS = 100 if WANTED else 3  # Of a task that runs every second: so much of the timeline is filled.
MOST_BYTES = 200_000


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[str]:
    """The address of the example shop, when it has run for some time."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    shutil.copy(ROOT / "examples" / "admin_fastapi.py", tmp_path / "shop.py")
    with (tmp_path / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "shop.py"],
            cwd=tmp_path, stdout=log, stderr=log, env={**os.environ, "PORT": str(port), "STORE": "sqlite:///shop.db"},
        )  # fmt: skip
        try:
            while not answers(port, "/scheduler/health/live"):
                assert process.poll() is None, (tmp_path / "log.txt").read_text()
                time.sleep(0.05)
            with httpx.Client(base_url=base) as client:
                client.post("/login", params={"user": "olga"})
                until = time.monotonic() + 30 + 2 * RUNS
                while client.get("/scheduler/api/tasks?q=rates").json()["items"][0]["counts"]["SUCCEEDED"] < RUNS:
                    assert time.monotonic() < until, "the shop does not run its tasks"
                    time.sleep(0.2)
            yield base
        finally:
            process.terminate()
            process.wait(30)


def without_path_of(directory: Path) -> Callable[[Any], None]:
    """Return what answers a request of the page, with another path in the place of this one."""

    def answer(route: Any) -> None:
        found = route.fetch()
        route.fulfill(response=found, body=found.text().replace(str(directory), "/srv/shop"))

    return answer


def test_the_picture_of_the_dashboard_can_be_made(shop: str, tabs: Tabs, tmp_path: Path) -> None:
    page = tabs.open("about:blank", color_scheme="light", viewport={"width": 1200, "height": 940})
    page.request.post(f"{shop}/login?user=olga")  # The login of the shop is all that the page needs.
    page.route(re.compile(r"/api/(scheduler|timeline)"), without_path_of(tmp_path))
    page.goto(f"{shop}/scheduler/#/?span=120000")
    expect(page.locator("[data-timeline]")).to_have_attribute("aria-label", re.compile("rates: .*succeeded"))
    expect(page.get_by_text("the disk is full").first).to_be_visible()
    path = Path(WANTED) if WANTED else tmp_path / "dashboard.png"
    page.screenshot(path=path)

    assert path.read_bytes().startswith(b"\x89PNG")
    assert 10_000 < path.stat().st_size < MOST_BYTES
