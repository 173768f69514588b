"""Follows the events of an endpoint: Server-Sent Events, read as they come, and again after the connection is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ._client import Endpoint, Json
from ._status import Ended, Status

SILENCE_S = 40.0  # The endpoint says something every 15 s.
CONNECT_S = 5.0
FIRST_PAUSE_S, LAST_PAUSE_S = 0.5, 5.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened.

    Attributes:
        kind: ``ended``, ``task``, ``gone`` or ``gap``; and of this side ``connected`` and ``lost``.
        text: What the endpoint says of it, as JSON on one line.
        data: The same, decoded; for ``lost`` why.
    """

    kind: str
    text: str
    data: Json


class Lines:
    """The events in a stream of lines, as the HTML standard defines them.

    Attributes:
        last_id: Of the last event that has one.
    """

    def __init__(self) -> None:
        self.last_id = ""
        self._kind = ""
        self._data: list[str] = []

    def feed(self, line: str) -> Event | None:
        """Take the next line; return the event that it ends, if there is one."""
        if line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                self._kind = value
            elif field == "data":
                self._data.append(value)
            elif field == "id":
                self.last_id = value
            return None
        kind, text = self._kind, "\n".join(self._data)
        self._kind, self._data = "", []
        return Event(kind, text, json.loads(text)) if kind and text else None


async def events_of(endpoint: Endpoint) -> AsyncIterator[Event]:
    """Yield what happens, without an end. After a loss of the connection it goes on where it was.

    Raises:
        Ended: There is no endpoint, at the first try; or it refuses, at any.
    """
    import httpx2

    lines, pause_s, has_been = Lines(), FIRST_PAUSE_S, False
    while True:
        try:
            async for event in _connection(endpoint, lines):
                has_been, pause_s = True, FIRST_PAUSE_S
                yield event
            why = "the endpoint has closed the connection"
        except (httpx2.HTTPError, TimeoutError, OSError) as exc:
            ended = endpoint.unreachable(exc)
            if not has_been:
                raise ended from None
            why = str(ended)
        except Ended as ended:
            if not has_been or ended.status is not Status.UNREACHABLE:
                raise
            why = str(ended)
        yield Event("lost", "", why)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LAST_PAUSE_S)


async def _connection(endpoint: Endpoint, lines: Lines) -> AsyncIterator[Event]:
    import httpx2

    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": lines.last_id} if lines.last_id else {})
    limits = httpx2.Timeout(SILENCE_S, connect=CONNECT_S)
    async with endpoint.http.stream("GET", "api/events", headers=headers, timeout=limits) as answer:
        kind = answer.headers.get("content-type", "")
        if answer.status_code != 200 or not kind.startswith("text/event-stream"):
            await answer.aread()
            endpoint.checked(answer.status_code if answer.status_code != 200 else 404, kind, answer.text)
        yield Event("connected", "", None)
        async for line in answer.aiter_lines():
            event = lines.feed(line)
            if event is not None:
                yield event
