"""The files of the dashboard are in what is installed."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.untimed]

ROOT = Path(__file__).parents[3]


def test_the_wheel_and_the_source_archive_have_all_files_of_the_page(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    static = ROOT / "src" / "kaiju_app" / "admin" / "static"
    files = {f"kaiju_app/admin/static/{each.relative_to(static)}" for each in static.rglob("*") if each.is_file()}
    [wheel], [archive] = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")

    assert "kaiju_app/admin/static/index.html" in files
    assert files <= set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {f"src/{each}" for each in files} | {"docs/dashboard.png"} <= names
