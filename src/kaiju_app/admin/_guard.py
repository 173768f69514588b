"""What every request passes before it is looked at: Host, access, Origin, kind and size of its body."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import unquote

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kaiju_app._core.logs import logger

from ._access import CALLER, Access, Caller, Gate, ThisMachine
from ._hosts import is_host_allowed, is_loopback, is_same_origin
from ._problems import Refused, on_refused
from ._turnstile import Turnstile

log = logger("kaiju_app.admin")

PROBES = ("/health/live", "/health/ready")  # Who asks for these has neither a token nor a name for this host.
STATIC = "/static/"  # With the page at "/": a browser has no token when it asks for these, and they hold no data.
MOST_BODY = 16_384
BODY_S = 10.0  # A client that sends a byte a second holds up nobody else, but keeps a connection.

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Lets those requests through to *app* that may be answered.

    Args:
        allowed: The names of hosts that were given; None if there are none.
        changes: Returns whether a request is for a route that changes something. The others refuse POST by themselves.
    """

    def __init__(
        self, app: ASGIApp, gate: Gate, allowed: frozenset[str] | None, changes: Callable[[Scope], bool]
    ) -> None:
        self._app = app
        self._changes = changes
        self._gate = gate
        self._allowed = allowed
        self._turnstile = Turnstile()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._turnstile.enter()
            scope = normal(scope)
            await self._answer(scope, receive, _with_headers(send, is_cached=_is_page(scope)))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if path_of(scope) not in PROBES:
                request = HTTPConnection(scope)
                if not (self._gate.shows_page and _is_page(scope)):
                    scope[CALLER] = await self._caller(request)
                self._check_host(request)
                if scope["method"] == "POST" and self._changes(scope):
                    receive = await self._checked_body(request, receive)
        except HTTPException as exc:
            answer = await on_refused(Request(scope), exc)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_host(self, request: HTTPConnection) -> None:
        """Refuse a name that this endpoint is not known by: perhaps that of a site that rebinds it (DNS rebinding)."""
        server, peer = request.scope.get("server"), request.client
        hosts = request.headers.getlist("host")
        near = peer is not None and is_loopback(peer.host)
        host = hosts[0] if len(hosts) == 1 else None
        here = server[0] if server and not isinstance(self._gate, ThisMachine) else None
        if not is_host_allowed(host, here, self._allowed, near=near):
            raise Refused(
                421, "Not a name of this endpoint",
                f"The Host {host!r} is not known here: use an address of this machine, or have the application allow "
                "the name, admin(..., allowed_hosts=[...])",
            )  # fmt: skip

    async def _caller(self, request: HTTPConnection) -> Caller:
        """Return who sends *request*, if they may.

        Raises:
            Refused: They may not.
        """
        try:
            access, who = await self._gate.access_of(request)
        except HTTPException:
            raise
        except Exception:
            log.exception("authorize= of admin() failed, so the request was refused: mend it")
            raise Refused(
                500, "Authorization failed", "authorize= of the application has a bug, see its log. Nothing was done"
            ) from None
        caller = Caller(access, who, request.client.host if request.client else "an unknown address")
        needed = Access.OPERATE if request.scope["method"] == "POST" else Access.READ
        if access >= needed:
            return caller
        if access is Access.NONE:
            challenge = self._gate.challenge
            headers = None if challenge is None else {"WWW-Authenticate": challenge}
            raise Refused(403 if challenge is None else 401, "Access denied", self._gate.advice, headers)
        log.warning("%s may read but not operate: %s was refused", caller, request.scope["method"])
        raise Refused(403, "Read only", "You may read but not operate: ask for access to operate")

    async def _checked_body(self, request: HTTPConnection, receive: Receive) -> Receive:
        """Return what gives the body of a POST again, after it was read and found to be one that may change something.

        Raises:
            Refused: It may not: a page of another site can send it, or it is too large or too slow.
        """
        headers, scope = request.headers, request.scope
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if not is_same_origin(origin, site, headers.get("host", ""), str(scope.get("scheme", "http"))):
            detail = "Only pages of this host may change something here, not those of other sites"
            raise Refused(403, "Another origin", detail)
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(415, "Not JSON", "Send the header 'Content-Type: application/json' and a JSON object")
        try:
            async with asyncio.timeout(BODY_S):
                body = await _read(receive)
        except TimeoutError:
            raise Refused(408, "Too slow", f"Send the body within {BODY_S:g} s") from None
        return _again(body, receive)


def normal(scope: Scope) -> Scope:
    """Return the scope of a request with its path as Starlette has it: whole, and with the prefix in ``root_path``.

    Litestar cuts the prefix off the path of what it mounts, and adds a slash.
    """
    path, root = str(scope["path"]).rstrip("/"), str(scope.get("root_path", "")).rstrip("/")
    whole = unquote(bytes(scope.get("raw_path") or b"").decode("latin-1")).rstrip("/")
    if path and not root and whole != path and whole.endswith(path):
        path, root = whole, whole[: -len(path)]
    return {**scope, "path": path if path != root else f"{root}/", "root_path": root}


def path_of(scope: Scope) -> str:
    """Return the path of a request below the place where the endpoint is mounted."""
    return str(scope["path"]).removeprefix(str(scope["root_path"]))


def _is_page(scope: Scope) -> bool:
    path = path_of(scope)
    return scope["method"] == "GET" and (path == "/" or path.startswith(STATIC))


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "Disconnected", "The client went away before it had sent the body")
        body += message.get("body", b"")
        if len(body) > MOST_BODY:
            raise Refused(413, "Too large", f"Send at most {MOST_BODY:,} bytes", {"Connection": "close"})
        if not message.get("more_body"):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives *body* once, then what the client does next."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again


def _with_headers(send: Send, *, is_cached: bool) -> Send:
    """Return what sends an answer with the headers that all have. A file of the page says itself how it is cached."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                if not (is_cached and name in headers):
                    headers[name] = value
        await send(message)

    return guarded
