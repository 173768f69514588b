"""How a tick ended, in the form in which it is kept.

A record is a tuple of integers: made in a fraction of the time of an object, and nothing that the garbage collector
has to look at again and again. The public Run is built when it is read or when somebody listens. Instants are
steady-clock microseconds: adding ``offset`` makes them wall-clock ones, as the wall clock was when the tick ended.
"""

from __future__ import annotations

from itertools import product

from ._clock import utc
from ._model import Outcome, Reason, Run

NEVER = -1  # ``started`` of a skip; ``finished`` of a record of skips that may still grow.

Record = tuple[int, int, int, int, int, int, int, int, str | None, bool]
"""(ending, first tick, last tick, count, started, finished, offset, attempts, error, manual)"""
WIDTH = 10

ENDINGS: tuple[tuple[Outcome, Reason | None], ...] = tuple(product(Outcome, (None, *Reason)))
CODES = {ending: code for code, ending in enumerate(ENDINGS)}
SUCCESS = CODES[Outcome.SUCCEEDED, None]
SKIPS = frozenset(CODES[Outcome.SKIPPED, reason] for reason in Reason)


def run_of(task: str, record: Record, instance: str) -> Run:
    """Return a *record* of *task* as what the public sees."""
    code, first, last, number, started, finished, offset, attempts, error, manual = record
    outcome, reason = ENDINGS[code]
    return Run(
        task=task,
        scheduled_at=utc(first + offset),
        last_scheduled_at=utc(last + offset),
        count=number,
        due=utc(first + offset),
        started_at=None if started == NEVER else utc(started + offset),
        finished_at=None if finished == NEVER else utc(finished + offset),
        outcome=outcome,
        reason=reason,
        error=error,
        attempts=attempts,
        take=1,
        instance=instance,
        fence=None,
        manual=manual,
    )
