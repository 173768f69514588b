"""Requests that are generated from the description of the endpoint get the answers that it describes, and no others."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from processes.admin.served import served

pytestmark = [pytest.mark.realtime, pytest.mark.timeout(600)]

TOKEN = "operate-0123456789"
OPERATING = ["--header", f"Authorization: Bearer {TOKEN}"]


def generated(port: int, directory: Path, examples: int, *arguments: str) -> int:
    """Send generated requests, check each answer, and return how many there were."""
    address = f"http://127.0.0.1:{port}"
    description = directory / "openapi.json"  # A file: not all who ask get it from the endpoint.
    with urlopen(Request(f"{address}/api/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"})) as answer:
        description.write_bytes(answer.read())
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    assert program is not None
    done = subprocess.run(
        [
            program, "run", str(description), "--url", address, "--checks", "all", "--seed", "1", "--no-color",
            "--max-examples", str(examples), "--max-failures", "5",
            "--exclude-path", "/api/events", *arguments,  # It never ends.
        ],
        capture_output=True, text=True, timeout=500, cwd=directory,
    )  # fmt: skip
    log = (directory / "log.txt").read_text()
    assert done.returncode == 0, done.stdout[-8_000:] + log[-2_000:]
    assert "Exception in ASGI application" not in log
    assert "hunter2" not in done.stdout
    found = re.search(r"(\d+) generated, \1 passed|(\d+) generated, \d+ passed, \d+ skipped", done.stdout)
    assert found is not None, done.stdout[-2_000:]
    return int(found[1] or found[2])


def test_some_generated_requests(tmp_path: Path) -> None:
    with served(tmp_path) as port:
        assert generated(port, tmp_path, 2, "--phases", "coverage,fuzzing") >= 200


@pytest.mark.slow
@pytest.mark.untimed
@pytest.mark.parametrize("kind", ["without a token", "with a token", "token is missing", "with a store"])
def test_thousands_of_generated_requests(tmp_path: Path, kind: str) -> None:
    environment = {"TOKEN": TOKEN} if "token" in kind and "without" not in kind else {}
    if kind == "with a store":
        environment["STORE"] = f"sqlite:///{tmp_path}/scheduler.db"
    with served(tmp_path, **environment) as port:
        sent = generated(port, tmp_path, 50, *(OPERATING if kind == "with a token" else []))

    assert sent >= (1_000 if kind != "token is missing" else 500)
