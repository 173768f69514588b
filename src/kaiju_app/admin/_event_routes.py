"""The route of those who follow what happens: Server-Sent Events."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Header
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ._api import READING, Api
from ._hub import MOST_FOLLOWERS, Follower, Hub
from ._problems import Refused, answers

SILENCE_S = 15.0  # Then a comment is sent: proxies cut connections on which nothing happens.


class Events(Response):
    """An answer that goes on until its reader goes away, or does not read."""

    media_type = "text/event-stream"

    def __init__(self, hub: Hub, follower: Follower, first: list[bytes]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._hub = hub
        self._follower = follower
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events."""
        follower = self._follower
        follower.task = asyncio.current_task()
        gone = asyncio.ensure_future(_disconnected(receive, follower))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._send(send, b": what happens from now on\n\n" + b"".join(self._first))
            while not gone.done():
                await self._send(send, await self._hub.next(follower, SILENCE_S) or b": nothing\n\n")
        except asyncio.CancelledError:
            if not (follower.is_dropped or gone.done()):
                raise
        finally:
            self._hub.leave(follower)
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone

    async def _send(self, send: Send, text: bytes) -> None:
        self._follower.sending = True
        await send({"type": "http.response.body", "body": text, "more_body": True})
        self._follower.sending = False


async def _disconnected(receive: Receive, follower: Follower) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if follower.task is not None:
        follower.task.cancel()


def event_routes(api: Api) -> APIRouter:
    """Return the route of events."""
    router = APIRouter(responses=READING)
    hub = Hub(api)

    @router.get(
        "/api/events",
        response_class=Response,
        responses={
            **answers(429),
            200: {
                "description": "Events: ended (a run, skips), task (its state, its holds), gone, gap (some are lost).",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
        },
    )
    async def events(last_event_id: Annotated[str | None, Header(max_length=100)] = None) -> Response:
        """Follow what happens on all instances, as Server-Sent Events; Last-Event-ID goes on where one has stopped."""
        if hub.is_full:
            raise Refused(429, "Too many follow", f"{MOST_FOLLOWERS} follow already: try again", {"Retry-After": "10"})
        return Events(hub, *hub.follow(last_event_id))

    return router
