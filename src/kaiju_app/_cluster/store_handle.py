"""The store of one scheduler: opened by the first start, closed when nothing needs it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kaiju_app._core.validate import renamed
from kaiju_app._engine.events import log
from kaiju_app.errors import InvalidArgument, StoreUnavailable
from kaiju_app.stores._base import Store

from .timing import LeaseTiming


class StoreHandle:
    """Opens and closes a store for one user.

    Args:
        is_needed: Returns whether something still goes on that needs the store.
    """

    def __init__(self, store: Store, timing: LeaseTiming, is_needed: Callable[[], bool]) -> None:
        self.store = store
        self._open_s = timing.renew_s
        self._is_needed = is_needed
        self._in_use = False
        self._closing: asyncio.Future[None] | None = None

    async def open(self) -> StoreUnavailable | None:
        """Open the store; return why it is unavailable, if it is. Then each call tries again.

        Raises:
            InvalidArgument: It can never be used, or another scheduler uses it.
        """
        self._in_use = True
        if self._closing is not None and self._closing.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([self._closing])
        try:
            with renamed(path="store"):  # The user has perhaps written a URL, and never heard of a path.
                failure = await self._try_to_open()
            self.store.acquire(self)
        except InvalidArgument:
            self._in_use = False
            raise
        return failure

    async def _try_to_open(self) -> StoreUnavailable | None:
        try:
            async with asyncio.timeout(self._open_s):
                await self.store.open()
        except StoreUnavailable as exc:
            return exc
        except TimeoutError:
            return StoreUnavailable(self.store.name, f"no answer within {self._open_s:g} s")
        return None

    def let_go(self) -> None:
        """Allow ``close_if_unused()`` to close the store."""
        self._in_use = False

    async def close_if_unused(self, until: float | None = None) -> None:
        """Close the store if nothing needs it any more; wait for that until the loop's time *until*; None: no limit."""
        if self._in_use or self._is_needed():
            return
        loop = asyncio.get_running_loop()
        if self._closing is None or self._closing.done() or self._closing.get_loop() is not loop:
            self.store.release(self)
            self._closing = loop.create_task(self._close())
        await asyncio.wait([self._closing], timeout=None if until is None else max(0.0, until - loop.time()))

    async def _close(self) -> None:
        try:
            await self.store.close()
        except StoreUnavailable as exc:
            log.info("%s", exc)

    def reset_after_fork(self) -> None:
        """Leave the store to the process that this one was forked from."""
        self._in_use, self._closing = False, None
        self.store.release(self)
