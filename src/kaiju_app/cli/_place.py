"""Which scheduler a command is about: an endpoint at an address, or a store."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ._client import Endpoint, at_url
from ._environment import STORE, TOKEN, URL, app_of
from ._status import Ended, Status


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command finds its scheduler: *url* or *store* is given.

    Attributes:
        token: Bearer token of the endpoint.
        app: The set of instances that share the records of the store.
    """

    url: str | None
    token: str | None
    store: str | None
    app: str


def place_of(
    url: str | None, token: str | None, store: str | None, app: str | None, environ: Mapping[str, str] = os.environ
) -> Place:
    """Return where the scheduler is. What the command line says counts more than the environment.

    Raises:
        Ended: Neither says it, or one of them says two things.
    """
    if url is None and store is None:
        url, store = environ.get(URL) or None, environ.get(STORE) or None
        if url is not None and store is not None:
            raise Ended(Status.USAGE, f"{URL} and {STORE} are both set: unset one of them, or give --url or --store")
    if url is not None and store is not None:
        raise Ended(Status.USAGE, "give --url or --store, not both")
    if url is None and store is None:
        raise Ended(
            Status.USAGE,
            f"which scheduler? Give --url http://127.0.0.1:8700, or --store sqlite:///scheduler.db, or set {URL} or "
            f"{STORE}",
        )
    if app is not None and store is None:
        raise Ended(Status.USAGE, "--app names a part of a store: give --store as well")
    return Place(url, token or environ.get(TOKEN) or None, store, app_of(app, environ))


@asynccontextmanager
async def reached(place: Place) -> AsyncIterator[Endpoint]:
    """Return the endpoint of *place*.

    Raises:
        Ended: The address is wrong, or the store cannot be reached.
    """
    if place.url is not None:
        endpoint = at_url(place.url, place.token)
        async with endpoint.http:
            yield endpoint
        return
    from ._store import endpoint_of_store

    async with endpoint_of_store(place.store or "", place.app) as endpoint:
        yield endpoint
