"""How a tick ended, in the form in which it is kept.

Records are packed into a bytearray for each task: written in place, in a fraction of the time of an object, and nothing
that the garbage collector has to visit. Instants are steady-clock microseconds: adding ``offset`` makes them wall-clock
ones, as the wall clock was when the tick ended.
"""

from __future__ import annotations

from itertools import product
from struct import Struct
from typing import NamedTuple

from ._clock import utc
from ._model import Outcome, Reason, Run

NEVER = -1  # ``started`` of a skip; ``finished`` of a record of skips that may still grow.

ENDINGS: tuple[tuple[Outcome, Reason | None], ...] = tuple(product(Outcome, (None, *Reason)))
CODES = {ending: code for code, ending in enumerate(ENDINGS)}
SUCCESS = CODES[Outcome.SUCCEEDED, None]

PACKED = Struct("=7qih??")  # The first fields of a Record, in their order; all zero: no record.
FIELDS = 11
PLAIN = (None, 1, None)  # The others, of nearly every record.


class Record(NamedTuple):
    """How a tick, or several that were skipped for one reason, ended."""

    first: int
    last: int
    number: int
    jitter: int
    started: int
    finished: int
    offset: int
    attempts: int
    code: int
    manual: bool
    more: bool
    error: str | None = None
    take: int = 1
    fence: int | None = None

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        return ENDINGS[self.code][0]

    @property
    def reason(self) -> Reason | None:
        """Why it was cut or skipped."""
        return ENDINGS[self.code][1]

    @property
    def is_open(self) -> bool:
        """Whether it tells of skips and may still grow."""
        return self.finished == NEVER

    def run(self, task: str, instance: str) -> Run:
        """Return it, as a record of *task*, in the form that the public sees."""
        return Run(
            task=task,
            scheduled_at=utc(self.first + self.offset),
            last_scheduled_at=utc(self.last + self.offset),
            count=self.number,
            more=self.more,
            due=utc(self.first + self.jitter + self.offset),
            started_at=None if self.started == NEVER else utc(self.started + self.offset),
            finished_at=None if self.is_open else utc(self.finished + self.offset),
            outcome=self.outcome,
            reason=self.reason,
            error=self.error,
            attempts=self.attempts,
            take=self.take,
            instance=instance,
            fence=self.fence,
            manual=self.manual,
        )
