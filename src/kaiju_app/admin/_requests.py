"""What the endpoint takes. Instants are UTC, durations are seconds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

ISO = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")

MOST_ITEMS = 500
MOST_REASON = 1_000
CENTURY_S = 100 * 366 * 86_400


class Request(BaseModel):
    """The body of a POST: it has no other fields."""

    model_config = ConfigDict(extra="forbid", strict=True)


ReasonText = Annotated[str, Field(min_length=1, max_length=MOST_REASON, description="Shown to people who ask why.")]


class RunRequest(Request):
    """A run now."""

    wait_s: float = Field(0, ge=0, le=30, allow_inf_nan=False, description="Seconds to wait for the end of the run.")


class PauseRequest(Request):
    """A pause."""

    reason: ReasonText
    for_s: float | None = Field(None, ge=0.001, le=CENTURY_S, allow_inf_nan=False, description="Null: until resumed.")


class CancelRequest(Request):
    """The end of a run in progress."""

    reason: ReasonText


class ResumeRequest(Request):
    """The end of a pause: an empty object."""


def _iso(value: object) -> object:
    if isinstance(value, str) and not ISO.match(value):
        raise ValueError("must be an instant such as 2027-03-01T18:00:00Z")  # Pydantic would take a bare number, too.
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_iso)]
