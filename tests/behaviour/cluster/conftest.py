"""Fixtures of the tests of cluster tasks."""

from __future__ import annotations

from typing import Any

import pytest

from behaviour.cluster.common import Made
from kaiju_app.scheduler import Scheduler
from kaiju_app.stores import MemoryStore
from support.virtual import VirtualLoop


@pytest.fixture
def store(loop: VirtualLoop) -> MemoryStore:
    return MemoryStore(loop.virtual_clock.wall)


@pytest.fixture
def made(loop: VirtualLoop, store: MemoryStore) -> Made:
    """Makes schedulers that share the store."""

    def make(**options: Any) -> Scheduler:
        return Scheduler(options.pop("store", store), clock=loop.virtual_clock, **options)

    return make
