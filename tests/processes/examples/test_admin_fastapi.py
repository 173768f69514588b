"""The shop whose endpoint is behind its own login: eight tasks in as many situations, over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from processes.admin.served import answers, free_port

pytestmark = [pytest.mark.realtime, pytest.mark.timeout(120)]

EXAMPLE = Path(__file__).parents[3] / "examples" / "admin_fastapi.py"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[str]:
    """The address of the shop."""
    port = free_port()
    log = tmp_path / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLE)],
            cwd=tmp_path,
            stdout=output,
            stderr=output,
            env={**os.environ, "PORT": f"{port}"},
        )
        try:
            while not answers(port, "/scheduler/health/live"):
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


@contextmanager
def user(shop: str, name: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{shop}/scheduler", timeout=20) as client:
        assert client.post(f"{shop}/login", params={"user": name}).status_code == 200
        yield client


def until(ask: Callable[[], Any], is_so: Callable[[Any], Any]) -> Any:
    end = time.monotonic() + 30
    while not is_so(found := ask()):
        assert time.monotonic() < end, found
        time.sleep(0.1)
    return found


def test_eight_tasks_behind_the_login_of_the_shop(shop: str) -> None:
    assert httpx.get(f"{shop}/scheduler/api/tasks").status_code == 403
    with user(shop, "olga") as olga, user(shop, "ron") as ron:

        def tasks() -> dict[str, Any]:
            return {each["name"]: each for each in ron.get("/api/tasks").json()["items"]}

        found = until(tasks, lambda found: found["backup"]["overdue"] and found["supplier"]["counts"]["FAILED"])
        assert {*found} == {"rates", "supplier", "images", "compact", "newsletter", "bill", "backup", "nightly"}
        [hold] = found["newsletter"]["holds"]
        assert (found["newsletter"]["state"], hold["holder"]) == ("paused", "marketing")
        assert (found["bill"]["scope"], found["rates"]["scope"]) == ("CLUSTER", "LOCAL")
        assert found["rates"]["counts"]["SUCCEEDED"] >= 2
        ready = httpx.get(f"{shop}/scheduler/health/ready")
        assert (ready.status_code, ready.json()["reasons"]) == (503, ["tasks that have not succeeded in time: 1"])
        failed = ron.get("/api/runs", params={"outcome": "FAILED"}).json()["items"]
        assert {each["task"] for each in failed} == {"backup", "supplier"}
        lag = until(lambda: ron.get("/api/scheduler").json()["loop_lag"], lambda lag: lag and lag["max_s"] > 1)
        assert "admin_fastapi.py" in lag["cause"], lag
        assert "images" in lag["cause"]

        path = f"/api/tasks/{found['bill']['id']}"
        assert ron.post(f"{path}/pause", json={"reason": "audit"}).status_code == 403
        paused = olga.post(f"{path}/pause", json={"reason": "audit"}).json()
        assert paused["holds"][0]["holder"].startswith("olga from 127.0.0.1 on ")
        assert olga.post(f"{path}/run", json={}).status_code == 409
        assert olga.post(f"{path}/resume", json={}).status_code == 200
        asked = until(lambda: olga.post(f"{path}/run", json={"wait_s": 10}), lambda asked: asked.status_code == 200)
        assert asked.json()["outcome"] == "SUCCEEDED"
