"""Fixtures of the tests of run_app()."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from processes.run_app.common import PROGRAMS, Program, Start


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Start]:
    """Start Python with arguments in an empty directory."""
    launched: list[Program] = []

    def begin(*arguments: str, loop: str = "asyncio") -> Program:
        if loop == "uvloop":
            pytest.importorskip("uvloop")
        environment = {"PYTHONPATH": str(PROGRAMS), "LOOP": loop, "COLUMNS": "120"}
        launched.append(Program(tmp_path, [sys.executable, *arguments], tmp_path, **environment))
        return launched[-1]

    yield begin
    for each in launched:
        each.close()


@pytest.fixture
def start(launch: Start, tmp_path: Path) -> Start:
    """Start a program, given as text. Everything in programs/stage.py is imported."""

    def begin(code: str, loop: str = "asyncio") -> Program:
        (tmp_path / "program.py").write_text("import threading, time\nfrom stage import *\n" + dedent(code))
        return launch("program.py", loop=loop)

    return begin
