"""The loggers of this package, whose records carry as ``extra`` which task they are about: logs can be searched by it.

Every record has every field of FIELDS, None where it does not apply: a format such as ``%(task)s`` never fails.
"""

from __future__ import annotations

import logging
import traceback
from types import TracebackType

from .clock import utc
from .exceptions import traceback_of
from .model import Outcome, Reason
from .text import describe_exception

FIELDS = ("task", "tick", "run_id", "attempt", "outcome", "reason", "delivery", "fence")


def logger(name: str) -> logging.Logger:
    """Return the logger *name*, whose records have all fields."""
    found = logging.getLogger(name)
    found.addFilter(_complete)
    return found


def facts(
    task: str,
    tick: int | None = None,
    attempt: int | None = None,
    outcome: Outcome | None = None,
    reason: Reason | None = None,
    delivery: int | None = None,
    fence: int | None = None,
    run_id: str | None = None,
) -> dict[str, object]:
    """Return the ``extra`` of a record about *task*.

    Args:
        tick: Wall-clock microseconds; in the record it is UTC ISO text.
        attempt: Number of the latest call of the function; 0 before the first one.
    """
    return {
        "task": task,
        "tick": None if tick is None else utc(tick).isoformat(),
        "run_id": run_id,
        "attempt": attempt,
        "outcome": outcome and outcome.value,
        "reason": reason and reason.value,
        "delivery": delivery,
        "fence": fence,
    }


def for_log(exc: BaseException | None) -> tuple[type[BaseException], BaseException, TracebackType | None] | None:
    """Return the ``exc_info`` of a record about *exc*, with a stand-in if *exc* cannot be formatted."""
    if exc is None:
        return None
    info = (type(exc), exc, traceback_of(exc))
    try:
        traceback.format_exception(*info)
    except BaseException:  # Raised by its class. The handlers would lose the whole record.
        return Exception, Exception(describe_exception(exc)), info[2]
    return info


def _complete(record: logging.LogRecord) -> bool:
    for field in FIELDS:
        record.__dict__.setdefault(field, None)
    return True
