"""Asks an endpoint over HTTP, and turns what goes wrong into an exit status and a sentence."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from ._status import Ended, Status
from ._text import clean

if TYPE_CHECKING:  # It takes 50 ms, for which nobody who presses TAB waits without need.
    import httpx2

PATIENCE_S = 10.0
MOST_PAGE = 500
PROBLEM = "application/problem+json"
NO_ROUTE = "Not Found"  # The endpoint has nothing at this path; that there is no such task has another title.

Json: TypeAlias = Any
"""A JSON value: what it has is in the OpenAPI description of the endpoint."""
Query: TypeAlias = dict[str, str | int | list[str] | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the endpoint has answered.

    Attributes:
        status: Of HTTP: 202 if a run has not ended yet.
        text: The document as it came.
        data: The same, decoded.
    """

    status: int
    text: str
    data: Json


class Endpoint:
    """An endpoint that can be asked.

    Args:
        http: Knows the address and the token.
        where: The address for people, without secrets.
    """

    def __init__(self, http: httpx2.AsyncClient, where: str) -> None:
        self.http = http
        self.where = where

    async def get(self, path: str, query: Query | None = None) -> Answer:
        """Return the answer to a question.

        Raises:
            Ended: There is no answer, or a refusal.
        """
        given = {name: value for name, value in (query or {}).items() if value not in (None, "", [])}
        return await self._ask("GET", path, PATIENCE_S, params=given)

    async def post(self, path: str, body: dict[str, object], wait_s: float = 0) -> Answer:
        """Have something changed; return the answer.

        Raises:
            Ended: There is no answer, or a refusal.
        """
        return await self._ask("POST", path, PATIENCE_S + wait_s, json=body)

    async def _ask(self, method: str, path: str, patience_s: float, **what: Any) -> Answer:
        import httpx2

        try:
            async with asyncio.timeout(patience_s):
                answer = await self.http.request(method, path, timeout=patience_s, **what)
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError) as exc:
            raise self.unreachable(exc) from None
        return self.checked(answer.status_code, answer.headers.get("content-type", ""), answer.text)

    def unreachable(self, exc: BaseException) -> Ended:
        """Return how a command ends that gets no answer."""
        import httpx2

        what = "it does not answer in time" if isinstance(exc, TimeoutError | httpx2.TimeoutException) else str(exc)
        return Ended(Status.UNREACHABLE, f"{self.where} cannot be reached: {clean(what or type(exc).__name__)}")

    def checked(self, status: int, kind: str, text: str) -> Answer:
        """Return an answer that is none of refusal.

        Raises:
            Ended: It is one, or not from an endpoint of kaiju_app.
        """
        data = _decoded(kind, text)
        if 200 <= status < 300 and data is not None:
            return Answer(status, text, data)
        if kind.startswith(PROBLEM) and isinstance(data, dict) and data.get("title") != NO_ROUTE:
            ends = {422: Status.USAGE, 503: Status.UNREACHABLE}.get(status, Status.FAILED)
            raise Ended(ends, _advice(status, clean(data.get("detail", ""))))
        if status in (401, 403):
            raise Ended(Status.FAILED, f"{self.where} denies access (status {status})")
        raise Ended(
            Status.UNREACHABLE,
            f"{self.where} answers with status {status}, and not as an endpoint of kaiju_app: --url must be the "
            "address that the endpoint is mounted at, such as http://127.0.0.1:8000/scheduler",
        )


def _advice(status: int, detail: str) -> str:
    if status == 401:
        return "the endpoint wants a token: give it as --token, or better in the environment, KAIJU_TOKEN"
    return detail or f"refused with status {status}"


def _decoded(kind: str, text: str) -> Json:
    if "json" not in kind:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def checked_url(url: str) -> str:
    """Return the address of an endpoint, as it is asked.

    Raises:
        Ended: It is none.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address:
        raise Ended(Status.USAGE, f"--url {url!r} must be an address such as http://127.0.0.1:8700")
    return url.rstrip("/").removesuffix("/api/tasks").removesuffix("/api")


def at_url(url: str, token: str | None) -> Endpoint:
    """Return the endpoint at an address.

    Raises:
        Ended: The address or the token is none.
    """
    import httpx2

    base = checked_url(url)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        http = httpx2.AsyncClient(base_url=f"{base}/", headers=headers)
    except (ValueError, httpx2.InvalidURL) as exc:
        raise Ended(Status.USAGE, f"--url or --token is wrong: {clean(exc)}") from None
    shown = urlsplit(base)
    host = shown.netloc.rpartition("@")[2]  # A password may be before it.
    return Endpoint(http, f"{shown.scheme}://{host}{shown.path}")
