"""The thread in which a store works with its file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from kaiju_app._core.workers import NoThread, Workers, awaitable
from kaiju_app.errors import StoreRefused, StoreUnavailable

T = TypeVar("T")

REFUSALS = (sqlite3.DataError, sqlite3.IntegrityError, OverflowError, UnicodeError)


class Worker:
    """One thread that executes one call after another.

    Args:
        name: The name of the store, for errors.
        timeout_s: Seconds after which a call fails.
    """

    def __init__(self, name: str, timeout_s: float) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._thread: Workers | None = None
        self._process = os.getpid()

    def start(self) -> None:
        """Start the thread; does nothing if it is running."""
        if self._thread is None:
            self._thread = _new_thread()

    async def stop(self, job: Callable[[], None]) -> None:
        """Execute *job* and end the thread; does nothing if it is not running."""
        if self._thread is not None:
            begun = self._submit(job)
            self._thread.close()
            self._thread = None
            await self._answer(begun)

    async def call(self, job: Callable[[], T]) -> T:
        """Return the result of *job*, executed in the thread.

        Raises:
            StoreUnavailable: It failed or took too long.
        """
        begun = self._submit(job)
        try:
            return await self._answer(begun)
        finally:
            begun.cancel()  # If it has not started, it never does.

    def _submit(self, job: Callable[[], T]) -> Future[T]:
        if self._thread is None:
            raise StoreUnavailable(self._name, "it is not open")
        if self._process != os.getpid():  # This is a forked child: the thread stayed in its parent.
            self._process = os.getpid()
            self._thread = _new_thread()
        try:
            return self._thread.submit(job)
        except NoThread as exc:
            raise StoreUnavailable(self._name, str(exc)) from exc

    async def _answer(self, begun: Future[T]) -> T:
        future = awaitable(begun)
        future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # Mark it as retrieved.
        await asyncio.wait([future], timeout=self._timeout_s)
        if not future.done():
            raise StoreUnavailable(self._name, f"no answer within {self._timeout_s:g} s")
        try:
            return future.result()
        except StoreUnavailable:
            raise
        except REFUSALS as exc:
            raise StoreRefused(self._name, str(exc)) from exc
        except (sqlite3.Error, OSError) as exc:
            raise StoreUnavailable(self._name, str(exc)) from exc


def _new_thread() -> Workers:
    return Workers(1, "kaiju-sqlite")
