"""A plugin of pytest: each test may take a second of the processor, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Generator

import pytest

MOST_S = 1.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail *item* if it takes longer."""
    began_s = time.process_time()
    yield
    took_s = time.process_time() - began_s
    assert took_s < MOST_S, f"{item.name} took {took_s:.2f} s"
