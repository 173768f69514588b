"""Errors as ``application/problem+json`` (RFC 9457): each says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from kaiju_app.errors import InvalidArgument, KaijuError, StoreUnavailable, TaskBusy, TaskSuspended, UnknownTask

from ._text import harmless

MEDIA_TYPE = "application/problem+json"
MOST_WRONG = 10  # Of the wrong parts of a request that an answer lists.


class Wrong(BaseModel):
    """A part of a request that is wrong."""

    where: str
    what: str


class Problem(BaseModel):
    """Why a request was refused, and what to do."""

    model_config = ConfigDict(extra="forbid")

    title: str
    status: int
    detail: str = Field(description="What to do.")
    errors: list[Wrong] = Field(default=[], description="The parts of the request that are wrong.")


class Refused(HTTPException):
    """A request that is answered with a Problem."""

    def __init__(self, status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, headers=headers)
        self.title = title


def problem(
    status: int, title: str, detail: str, headers: Mapping[str, str] | None = None, errors: list[Wrong] | None = None
) -> Response:
    """Return an answer that says what is wrong."""
    body = Problem(title=title, status=status, detail=harmless(detail), errors=errors or [])
    return JSONResponse(body.model_dump(), status, dict(headers or {}), MEDIA_TYPE)


def refusal_of(exc: KaijuError) -> Refused:
    """Return what to answer when the scheduler refuses a call."""
    if isinstance(exc, UnknownTask):
        return Refused(404, "No such task", f"{exc}. GET api/tasks lists the tasks")
    if isinstance(exc, InvalidArgument):
        return Refused(422, "Wrong argument", str(exc))
    if isinstance(exc, StoreUnavailable):
        return Refused(503, "The store does not answer", str(exc), {"Retry-After": "5"})
    # The exceptions tell programmers what to write; who reads this has a page or a command line.
    if isinstance(exc, TaskBusy):
        return Refused(409, "Busy", f"{exc.what}. Try again when that run has ended")
    if isinstance(exc, TaskSuspended):
        advice = "Resume it if it is paused. Otherwise wait: the code that suspended it ends the suspension"
        return Refused(409, "Suspended", f"{exc.what}. {advice}")
    return Refused(409, "Not now", str(exc))


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the description of the Problems that a route may answer with, as FastAPI takes it."""
    return {each: {"model": Problem, "description": MEANINGS[each]} for each in sorted(statuses)}


async def on_refused(_: Request, exc: Exception) -> Response:
    """Answer a Refused, or an HTTPException of the framework or of ``authorize=``."""
    assert isinstance(exc, HTTPException)
    title = getattr(exc, "title", None) or HTTPStatus(exc.status_code).phrase
    detail = DETAILS.get(exc.status_code, str(exc.detail)) if not isinstance(exc, Refused) else str(exc.detail)
    return problem(exc.status_code, title, detail, exc.headers)


async def on_error_of_scheduler(request: Request, exc: Exception) -> Response:
    """Answer when the scheduler refuses a call."""
    assert isinstance(exc, KaijuError)
    return await on_refused(request, refusal_of(exc))


async def on_invalid(_: Request, exc: Exception) -> Response:
    """Answer a request whose arguments are wrong."""
    assert isinstance(exc, RequestValidationError)
    wrong = [
        Wrong(where=harmless(" ".join(map(str, each["loc"]))), what=harmless(str(each["msg"]))) for each in exc.errors()
    ]
    first = f"{_named(exc.errors()[0]['loc'])}: {wrong[0].what}" if wrong else "the request: see api/openapi.json"
    return problem(422, "The request is wrong", f"Correct {first}", errors=wrong[:MOST_WRONG])


def _named(place: tuple[int | str, ...]) -> str:
    """Return the words for a part of a request, such as ``('query', 'state', 0)``."""
    kind = {"query": "parameter", "body": "field"}.get(str(place[0]), str(place[0]))
    name = ".".join(each for each in place[1:] if isinstance(each, str))
    return f"the {kind} {harmless(name)!r}" if name else f"the {place[0]}"


async def on_bug(_: Request, exc: Exception) -> Response:
    """Answer when this endpoint has a bug; the server logs it."""
    detail = f"This is a bug: see the log of the process for {type(exc).__name__}"
    return problem(500, "Internal error", detail)


MEANINGS = {
    400: "The body could not be read.",
    401: "No valid token.",
    403: "No access, no access to operate, or a page of another origin.",
    404: "There is no such task, or no such page.",
    408: "The body did not come in time.",
    409: "The state of the task does not allow it.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    421: "The endpoint is not known by this Host.",
    422: "An argument is wrong.",
    429: "Too many at a time.",
    500: "authorize= of the application has a bug.",
    503: "The store does not answer.",
}

DETAILS = {
    404: "There is nothing at this address: api/openapi.json lists what there is",
    405: "This address does not know the method: api/openapi.json lists what there is",
    400: "The body could not be read: send a JSON object in UTF-8",
}
