"""Fixtures of the tests of behaviour."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from kaiju_app.scheduler import Scheduler


@pytest.fixture
def door() -> Scheduler:
    """A scheduler without a loop."""
    return Scheduler()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What functions in threads wait for. It opens when a test ends, or its thread would keep pytest from ending."""
    gate = threading.Event()
    yield gate
    gate.set()
