"""A scheduler that has no task and looks at a store: for --store, and for the command admin."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from kaiju_app.errors import InvalidArgument, StoreUnavailable
from kaiju_app.stores import store_from_url
from kaiju_app.stores._base import Store
from kaiju_app.stores._onlooker import Onlooker

from ._status import Ended, Status
from ._text import clean

if TYPE_CHECKING:  # Who presses TAB waits for the import of a store, and not for that of a scheduler.
    from kaiju_app.scheduler import Scheduler

HEARD_US = 60_000_000  # Instances that were heard of so long ago are alive, as far as names are concerned.


def onlooker_of(url: str, app: str) -> Onlooker:
    """Return the store that *url* names, as an onlooker sees it.

    Raises:
        Ended: There is no such store.
    """
    if url.startswith("memory:"):
        raise Ended(Status.USAGE, "--store memory:// is in the memory of its process: ask that with --url")
    try:
        return Onlooker(store_from_url(url, app))
    except InvalidArgument as exc:
        raise wrong_store(exc) from None


def wrong_store(exc: InvalidArgument) -> Ended:
    """Return how a command ends whose store can never be used."""
    return Ended(Status.USAGE, clean(f"--{'app' if exc.argument == 'app' else 'store'} {exc.rule}"))


def scheduler_of(store: Store) -> Scheduler:
    """Return a scheduler of this store, to be started. Nothing in it is watched, as it runs nothing."""
    from kaiju_app.scheduler import Scheduler

    return Scheduler(store, watch_loop=False)


@asynccontextmanager
async def opened(url: str, app: str) -> AsyncIterator[Onlooker]:
    """Return the open store that *url* names, as an onlooker sees it.

    Raises:
        Ended: The address is wrong, or the store cannot be reached.
    """
    store = onlooker_of(url, app)
    try:
        try:
            await store.open()
            yield store
        finally:
            await store.close()
    except InvalidArgument as exc:
        raise wrong_store(exc) from None
    except StoreUnavailable as exc:
        raise Ended(Status.UNREACHABLE, clean(exc)) from None


@asynccontextmanager
async def looking_at(url: str, app: str) -> AsyncIterator[Scheduler]:
    """Return a started scheduler that only looks at the store. It would start without the store, and ask again later.

    Raises:
        Ended: The address is wrong, or the store cannot be reached.
    """
    async with opened(url, app) as store, scheduler_of(store) as scheduler:
        yield scheduler


async def names_in(url: str, app: str) -> list[str]:
    """Return the names of the tasks in a store, and of the local tasks of its instances.

    Raises:
        Ended: The address is wrong, or the store cannot be reached.
    """
    async with opened(url, app) as store:
        records = (await store.scan()).records
        instances = await store.heartbeat("", "{}", HEARD_US)
    local = (name for each in instances for name in json.loads(each.info).get("local_tasks") or ())
    return sorted({*(each.name for each in records), *map(str, local)})
