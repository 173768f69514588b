"""Lets requests in a few at a time, so that a burst of them does not hold up the event loop and its tasks."""

from __future__ import annotations

import asyncio
from collections import deque

AT_ONCE = 2  # Requests that begin in one turn of the loop: each takes about 0.3 ms until it waits for something.


class Turnstile:
    """Lets a few requests in during each turn of the loop, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._begun = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def enter(self) -> None:
        """Wait for a turn."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._waiting.clear()
            self._begun, self._loop = 0, loop
        if self._begun >= AT_ONCE or self._waiting:
            turn: asyncio.Future[None] = loop.create_future()
            self._waiting.append(turn)
            await turn
            return
        if not self._begun:
            loop.call_soon(self._next_turn)
        self._begun += 1

    def _next_turn(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < AT_ONCE:
            turn = self._waiting.popleft()
            if not turn.done():  # It may have been cancelled.
                turn.set_result(None)
                self._begun += 1
        if self._begun and self._loop is not None:
            self._loop.call_soon(self._next_turn)
