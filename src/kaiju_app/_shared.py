"""What the scheduler knows of one task that it shares with other instances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Protocol

from . import _decide
from ._arguments import key
from ._claims import Claim
from ._driver import Driver
from ._entry import SHARED, UNEVEN, Entry
from ._following import Passed, coming, is_unknown
from ._grid import FOREVER, Grid, Rule
from ._model import ExecPolicy, OnLost, Outcome, Reason, Spec
from ._rule_text import check_text, same_ticks, spec_of, text_of
from ._run import Running
from .errors import InvalidArgument
from .stores._record import Coming, Record
from .stores._transitions import Definition


class Crew(Protocol):
    """Who takes note of the endings of shared runs."""

    def over(self, run: Running, outcome: Outcome, reason: Reason | None, exc: BaseException | None) -> None: ...


class Shared(Entry):
    """One shared task; it is the host of its own runs, whose ticks live on the clock of the store.

    Attributes:
        code: The parameters as they were given here; ``spec`` has the rule that the store had last.
        text: The rule of ``code`` as text.
        crew: Who claimed it last.
        offset: Clock of the store minus steady clock, when the run in progress began.
        passed: The ticks before that run's that do not run.
        heard: The record as the store last told it; None: it has told nothing yet.
    """

    __slots__ = ("_read", "claim", "code", "crew", "driver", "heard", "offset", "on_lost", "passed", "text")

    def __init__(
        self,
        driver: Driver,
        name: str,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kws: Mapping[str, Any],
        spec: Spec,
        on_lost: OnLost,
    ) -> None:
        super().__init__(self, name, func, args, kws, spec)
        self.driver = driver
        self.crew: Crew | None = None
        self.code = spec
        self.text = text_of(spec)
        self._read: tuple[str, Spec | None] = self.text, spec
        self.flags = SHARED | UNEVEN
        self.due = FOREVER
        self.on_lost = on_lost
        self.claim: Claim | None = None
        self.offset = 0
        self.passed: Passed | None = None
        self.heard: Record | None = None

    # --- the rule ---

    def spec_of(self, record: Record) -> Spec | None:
        """Return the parameters with the rule that *record* has; None if this version cannot read it."""
        if self._read[0] != record.spec:
            self._read = record.spec, spec_of(record.spec, self.code)
        return self._read[1]

    def ticks(self, spec: Spec, tick: int | None = None) -> Grid:
        """Return the ticks on the clock of the store; with the gap of one of them if it is given."""
        grid = Grid(spec, seed=("", self.name), shared=True)
        if tick is not None and spec.rule is not None and (gap := grid.gap(tick)) != spec.gap:
            grid.spec = _decide.with_gap(spec, gap)
        return grid

    def definer(self, version: tuple[int, ...]) -> Callable[[Record | None, int], Definition]:
        """Return what tells, from a record and the store's time, what this instance says of it; safe in any thread."""
        name, text, spec = self.name, self.text, self.code
        if spec.rule is not None:
            spec = replace(spec, rule=Rule(spec.rule.trigger))  # Of its own, for another thread.
        grid = self.ticks(spec)

        def definition(old: Record | None, now: int) -> Definition:
            first = coming(grid, _decide.first_tick(grid, now)[0], now, now)
            goes_on = old is not None and old.spec != text and same_ticks(old.spec, text)
            following = _going_on(grid, old, now) if old is not None and goes_on else grid.after(now)
            by_rule = coming(grid, following, now, now)
            if old is not None and goes_on and is_unknown(grid, old.next, old.due):
                by_rule = Coming(old.next, old.due)
            return Definition(name, text, version, first, by_rule)

        return definition

    # --- what a run needs of its host ---

    def now(self) -> int:
        """Return the steady time."""
        return self.driver.now()

    def grid(self, entry: Entry, spec: Spec) -> Grid:
        """Return the ticks on the steady clock, as the clock of the store stood when the run began."""
        return Grid(spec, self.offset, ("", self.name), shared=True)

    def pool(self) -> Executor:
        """Return the threads of the scheduler."""
        return self.driver.pool()

    def cut(self, run: Running, cause: Reason) -> None:
        """Ask *run* to end."""
        self.driver.cut(run, cause)

    def succeeded(self, run: Running, result: Any) -> None:
        """Take note of a run whose function returned *result*."""
        self.result = result
        self.ended(run, Outcome.SUCCEEDED, None, None)

    def ended(self, run: Running, outcome: Outcome, reason: Reason | None, exc: BaseException | None) -> None:
        """Take note of how a run ended."""
        if self.crew is not None:  # Else nobody has claimed anything, and nothing runs.
            self.crew.over(run, outcome, reason, exc)


def _going_on(grid: Grid, old: Record, now: int) -> int:
    """Return the tick to come of a task whose ticks are the same as before, but for their jitter and their end."""
    if old.next < FOREVER:
        return grid.clipped(old.next)
    if grid.spec.rule is None and old.floor <= now:  # It had come to its end.
        return grid.passed(old.floor, now).following
    return grid.after(now)


def check_sharing(spec: Spec, name: str | None, overlap_on_loss: bool) -> None:
    """Refuse what cannot be shared.

    Raises:
        InvalidArgument: It has no name, a rule that cannot be kept, or a run that cannot be cut.
    """
    if name is None:
        raise InvalidArgument("name", name, "must be given with Scope.CLUSTER: other instances know the task by it")
    key("name", name)
    check_text(spec.trigger)
    if overlap_on_loss not in (False, True):
        raise InvalidArgument("overlap_on_loss", overlap_on_loss, "must be True or False")
    if overlap_on_loss or not (spec.threaded or spec.policy is ExecPolicy.SHIELD):
        return
    what = "a plain function runs in a thread, which" if spec.threaded else "a run under ExecPolicy.SHIELD"
    raise InvalidArgument(
        "overlap_on_loss",
        overlap_on_loss,
        f"must be True for this task of Scope.CLUSTER: {what} cannot be cut when its lease is lost, and goes on beside "
        "the run that another instance begins. Say that this is understood, and have what it writes checked by "
        "current_run().fence; or make it async def under another policy",
    )
