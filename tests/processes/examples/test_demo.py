"""The demo: three processes on one store, one of which is killed and comes back."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.untimed, pytest.mark.timeout(120)]

DEMO = Path(__file__).parents[3] / "examples" / "demo.py"


def test_three_processes_share_a_store_and_one_of_them_comes_back(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with log.open("wb") as output:
        demo = subprocess.Popen([sys.executable, str(DEMO), "--every", "4"], stdout=output, stderr=output)
    try:

        def until(what: str, is_so: object) -> object:
            end = time.monotonic() + 60
            while not (found := is_so()):  # type: ignore[operator]
                assert demo.poll() is None, log.read_text()
                assert time.monotonic() < end, f"{what}: {log.read_text()}"
                time.sleep(0.1)
            return found

        def address() -> str | None:
            match = re.search(r"dashboard: (http://[\d.:]+/)", log.read_text())
            return match and match[1]

        base = str(until("no address", address))
        with httpx.Client(base_url=base, timeout=20) as client:

            def login() -> bool:
                try:
                    answer = client.post("/login?user=olga", headers={"Accept": "text/html"}, follow_redirects=True)
                except httpx.TransportError:
                    return False
                return answer.url.path == "/scheduler/" and "static/app.js" in answer.text

            until("no login", login)
            assert "Log in as olga" in client.get("/").text
            seen: set[str] = set()

            def instances() -> set[str]:
                seen.update(each["id"] for each in client.get("/scheduler/api/instances").json()["items"])
                return seen

            until("three instances", lambda: len(instances()) >= 3)
            until("one is back", lambda: len(instances()) >= 4 and "is back" in log.read_text())
    finally:
        demo.send_signal(signal.SIGINT)
        assert demo.wait(40) == 0, log.read_text()
