"""A virtual loop in which code takes time: each call of a function lasts a fixed number of microseconds.

So an overload is the same on every machine, and so is the price of a late tick.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from support.virtual import VirtualLoop


class CostlyLoop(VirtualLoop):
    """A virtual loop whose clock counts the calls of functions, those written in C included; so does ``calls``."""

    calls = 0

    @contextmanager
    def each_call_takes(self, us: int) -> Iterator[None]:
        """Let each call last *us* microseconds, inside."""

        def count(frame: FrameType, event: str, argument: object) -> None:
            if event in ("call", "c_call"):
                self.calls += 1
                self.virtual_clock._steady += us

        sys.setprofile(count)
        try:
            yield
        finally:
            sys.setprofile(None)
