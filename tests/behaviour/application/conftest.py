"""Fixtures of the tests of an application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def journal() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "kaiju_app.app")


@pytest.fixture
def quiet(loop: asyncio.AbstractEventLoop) -> Iterator[set[asyncio.Task[Any]]]:
    """asyncio tasks that the test expects to be left at its end. Any other one fails the test."""
    known: set[asyncio.Task[Any]] = set()
    yield known
    loop.run_until_complete(asyncio.sleep(0.001))  # A cancelled task may need one more turn of the loop.
    assert {task for task in asyncio.all_tasks(loop) if not task.done()} == known
