"""What the scheduler knows of one task. Idle tasks cost one of these and nothing else."""

from __future__ import annotations

from asyncio import Future
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._claims import Claim
from ._model import Run, Spec

if TYPE_CHECKING:
    from ._run import Host, Running

# Why a tick cannot take the short way: bits of Entry.flags.
DISABLED = 1
HELD = 2  # Has holds of its own.
QUEUED = 4  # A tick waits for a run in progress, or missed ones are being caught up.
WATCHED = 8  # Somebody awaits the end of the run in progress.
FAILING = 16  # The last run failed: the next success is news.
REMOVED = 32
OFF_GRID = 64  # The next tick is an extra first one; those of the rule follow.
HUNG = 128  # The run in progress was asked to end and does not.
SKIPPING = 512  # The latest record tells of skips and may still grow.
RESUMED = 256  # The due tick, or ticks, were kept back by a hold that has ended.
UNEVEN = 1024  # Its gaps vary, or it has jitter or an end: each of its ticks is worked out.
SHARED = 2048  # Several instances agree on who runs it: no ticks are planned here.


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """One reason not to run. Counted by identity: leaving one suspension never ends another."""

    holder: str
    reason: str | None
    since: int
    until: int | None = None

    def __str__(self) -> str:
        return self.holder if self.reason is None else f"{self.holder} ({self.reason})"


class Hot:
    """What every tick touches, side by side: with many tasks, the way to memory is most of what a tick costs."""

    __slots__ = (
        "alarm",
        "args",
        "beside",
        "due",
        "flags",
        "func",
        "host",
        "kept",
        "kws",
        "name",
        "result",
        "ring",
        "run",
        "seq",
        "spec",
    )


class Entry(Hot):
    """One task: what to call, when next, and what is going on. All instants are steady-clock microseconds.

    Attributes:
        host: Who runs it.
        due: The first tick that nothing was decided about yet; FOREVER if there is none.
        seq: Number of the agenda item that will look at ``due``; 0 when parked.
        alarm: Number of the agenda item that will look at the run in progress; 0 for none.
        lift: Number of the agenda item that ends a pause; 0 for none.
        waiting: A tick that is to start as soon as the task is idle.
        backlog: The missed ticks still to be run, oldest first; those up to ``due`` are among them.
        asked: Where the ``run_now()`` whose tick is waiting wants its Run.
        called: Start of the last run before the latest skips; 0 for none.
        ring: The latest records, packed; ``beside``: what few of them have, by place.
        kept: How many records were kept so far, those that the ring has lost included.
        others: How many of them do not tell of a success; ``endings``: the ticks that those tell of, by ending.
    """

    claim: Claim | None = None
    """By whose leave the run in progress runs; of a shared task only."""

    __slots__ = (
        "asked",
        "backlog",
        "called",
        "endings",
        "holds",
        "lift",
        "others",
        "pause",
        "waiters",
        "waiting",
    )

    def __init__(
        self, host: Host, name: str, func: Callable[..., Any], args: tuple[Any, ...], kws: Mapping[str, Any], spec: Spec
    ) -> None:
        self.host = host
        self.name = name
        self.func = func
        self.args = args
        self.kws = kws
        self.spec = spec
        self.flags = 0
        self.due = 0
        self.seq = 0
        self.alarm = 0
        self.lift = 0
        self.run: Running | None = None
        self.waiting: int | None = None
        self.backlog: deque[int] | None = None
        self.asked: Future[Run] | None = None
        self.holds: list[Hold] | None = None
        self.pause: Hold | None = None
        self.waiters: list[Future[Run]] | None = None
        self.called = 0
        self.ring: bytearray | None = None
        self.kept = 0
        self.beside: dict[int, tuple[Any, ...]] | None = None
        self.result: Any = None
        self.others = 0
        self.endings: dict[int, int] | None = None
