"""Who may do what: bearer tokens, the authorization of the application, or nothing but this machine."""

from __future__ import annotations

import hmac
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from hashlib import sha256
from typing import cast

from starlette.requests import HTTPConnection, Request

from kaiju_app.errors import InvalidArgument

from ._hosts import is_loopback
from ._text import one_line

CALLER = "kaiju_app.caller"  # Key of the Caller in the scope of a request.
MOST_NAME = 100  # Characters of who acts, as authorize= names them.


class Access(IntEnum):
    """What a request may do.

    Attributes:
        NONE: Nothing but ask for health.
        READ: See everything.
        OPERATE: Also run, pause, resume and cancel.
    """

    NONE = 0
    READ = 1
    OPERATE = 2


class Right(StrEnum):
    """What a caller may do, in words."""

    READ = "read"
    OPERATE = "operate"


Granted = Access | tuple[Access, str]
"""What ``authorize=`` returns: an Access, or one with the name of who asks, for logs and holds."""
Authorize = Callable[[Request], Granted | Awaitable[Granted]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request.

    Attributes:
        who: For people: the role of the token, or what ``authorize=`` says.
        peer: The address that the request comes from, as the server tells it.
    """

    access: Access
    who: str
    peer: str

    def __str__(self) -> str:
        return f"{self.who} from {self.peer}"

    @property
    def rights(self) -> list[Right]:
        """What the caller may do."""
        return [right for right in Right if self.access >= Access[right.name]]


def caller_of(request: Request) -> Caller:
    """Return who sends *request*; the guard has found out."""
    return cast("Caller", request.scope[CALLER])


class Gate:
    """What decides on access.

    Attributes:
        challenge: Value of ``WWW-Authenticate`` in a refusal; None if no credentials would help.
        advice: What to do after a refusal.
        shows_page: Whether anybody may load the dashboard, which holds no data.
    """

    challenge: str | None = None
    advice = ""
    shows_page = True

    async def access_of(self, request: HTTPConnection) -> tuple[Access, str]:
        """Return what *request* may do, and who sends it."""
        raise NotImplementedError


NOBODYS = bytes(sha256().digest_size)  # Compared like any other digest, and that of no token.


class Tokens(Gate):
    """Bearer tokens.

    Digests are compared, in constant time and always both: how long that takes tells nothing of a token, not even how
    long it is.
    """

    challenge = "Bearer"
    advice = "send the header 'Authorization: Bearer ...' with the token that was given to admin()"

    def __init__(self, token: str | None, read_token: str | None) -> None:
        self._operate = NOBODYS if token is None else _digest(token)
        self._read = NOBODYS if read_token is None else _digest(read_token)

    async def access_of(self, request: HTTPConnection) -> tuple[Access, str]:
        """Return what the token of *request* allows."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        digest = _digest(given.strip())
        operates = hmac.compare_digest(digest, self._operate)
        reads = hmac.compare_digest(digest, self._read)
        if scheme.lower() != "bearer" or not (operates or reads):
            return Access.NONE, "nobody"
        return (Access.OPERATE, "token") if operates else (Access.READ, "read_token")


class ByApplication(Gate):
    """The authorization of the application that mounts the endpoint."""

    advice = "the application decides who may: log in there, or ask those who run it"

    def __init__(self, authorize: Authorize) -> None:
        self._authorize = authorize

    async def access_of(self, request: HTTPConnection) -> tuple[Access, str]:
        """Return what ``authorize=`` says of *request*.

        Raises:
            TypeError: It returned something else. Nothing is granted then.
        """
        granted = self._authorize(Request(request.scope))  # Without its body, which is not for this.
        if inspect.isawaitable(granted):
            granted = await granted
        access, who = granted if isinstance(granted, tuple) and len(granted) == 2 else (granted, "authorized")
        if not isinstance(access, Access) or not isinstance(who, str):
            raise TypeError(f"authorize= must return an Access, or (Access, 'name'), and returned {granted!r}")
        return access, one_line(who)[:MOST_NAME] or "authorized"


class ThisMachine(Gate):
    """Everything for this machine, if neither a token nor ``authorize=`` was given, and nothing for others."""

    advice = (
        "without token= or authorize=, admin() answers only requests that come straight from this machine: give it one "
        "of the two, or use a tunnel (ssh -L)"
    )
    shows_page = False

    async def access_of(self, request: HTTPConnection) -> tuple[Access, str]:
        """Return what the address of *request* allows."""
        came_through = any(each in request.headers for each in ("forwarded", "x-forwarded-for", "x-real-ip", "via"))
        peer = request.client.host if request.client else None
        is_near = peer is not None and is_loopback(peer) and not came_through
        return (Access.OPERATE, "this machine") if is_near else (Access.NONE, "nobody")


def gate_of(authorize: Authorize | None, token: str | None, read_token: str | None) -> Gate:
    """Return what decides on access.

    Raises:
        InvalidArgument: An argument is wrong, or they contradict each other.
    """
    for name, value in (("token", token), ("read_token", read_token)):
        if value is not None and (not isinstance(value, str) or not value.isascii() or value != value.strip()):
            raise InvalidArgument(name, _Secret(), "must be text of ASCII characters without spaces around it, or None")
        if value == "":
            raise InvalidArgument(name, value, "must not be empty: is a setting missing? None means no token")
    if token is not None and token == read_token:
        raise InvalidArgument("read_token", _Secret(), "must differ from token, which also allows to operate")
    if authorize is None:
        return ThisMachine() if token is None and read_token is None else Tokens(token, read_token)
    if not callable(authorize):
        raise InvalidArgument("authorize", authorize, "must be a function of a request that returns an Access")
    if token is not None or read_token is not None:
        raise InvalidArgument("authorize", authorize, "must not be given beside a token: let it look at tokens itself")
    return ByApplication(authorize)


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogateescape")).digest()


class _Secret:
    """Stands for a token in an error."""

    def __repr__(self) -> str:
        return "another text"
