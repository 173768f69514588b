"""DO, with others: what one life of a scheduler shares, between its coordinator and the driver that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ._belonging import Define
from ._claims import Claim, OwnHold
from ._clock import utc
from ._cluster import Coordinator
from ._driver import Driver
from ._entry import DISABLED, HELD, HUNG, REMOVED
from ._events import log, never_runs
from ._following import Closing, Passed, closing, coming, is_unknown, opening
from ._grid import FOREVER, in_words
from ._model import ExecPolicy, Kind, OnLost, Outcome, Reason, Spec
from ._rows import row_of, skips_row
from ._run import Running
from ._runs import recorded
from ._shared import Shared
from ._timing import LeaseTiming
from .stores._record import Record, Row
from .stores._store import Changed, Ending, Store

Wanted = dict[object, Callable[[str, "Membership"], None]]


@dataclass(frozen=True, slots=True)
class Over:
    """A run that is over, as far as what follows depends on it; times are the store's.

    Attributes:
        spec: Its parameters, with the rule of its claim.
        rows: What is kept of it, and of the ticks before it.
    """

    entry: Shared
    spec: Spec
    kind: Kind
    tick: int
    started: int
    now: int
    cut: bool
    hung: bool
    rows: tuple[Row, ...]


class Membership:
    """One life of a scheduler among the instances: what its coordinator asks, and what its runs tell.

    Args:
        entries: The shared tasks by name, as they come and go.
        version: Who may change the rules of tasks: the highest one.
        me: Identity of the instance in this life.
        info: What it says about itself, as JSON text.
        wanted: Who holds all tasks, and those registered meanwhile too.
    """

    def __init__(
        self,
        driver: Driver,
        store: Store,
        entries: Mapping[str, Shared],
        timing: LeaseTiming,
        version: tuple[int, ...],
        me: str,
        info: str,
        wanted: Wanted,
    ) -> None:
        self.driver = driver
        self.holders: dict[OwnHold, Callable[[], None]] = {}
        self.wanted = wanted
        self._entries = entries
        self._version = version
        self._runs: dict[Claim, Running] = {}
        self._over: dict[Claim, Over] = {}
        self._unread: dict[str, str] = {}
        self.coordinator = Coordinator(store, me, self, timing, driver.now, info)

    # --- what a coordinator asks ---

    def knows(self, record: Record) -> bool:
        """Return whether the task may run here at all, by the rule that it has."""
        entry = self._entries.get(record.name)
        if entry is None or self._is_disabled(entry, record):
            return False
        if entry.spec_of(record) is not None:
            return True
        if self._unread.get(entry.name) != record.spec:
            self._unread[entry.name] = record.spec
            log.warning(
                "task %r: is left to others: its rule in the store, of version %s, cannot be read here: %.200s",
                entry.name, told_version(record.version), record.spec,
            )  # fmt: skip
        return False

    def may_start(self, record: Record) -> bool:
        """Return whether nothing here keeps the task from running now."""
        entry = self._entries.get(record.name)
        if entry is None or not self.driver.planning or self.driver.holds or self._is_disabled(entry, record):
            return False
        return not entry.flags & (HELD | REMOVED) and self.driver.alive(entry) is None

    def is_punctual(self, name: str) -> bool:
        """Return whether a crash between claim and tick would skip a tick that nobody has begun."""
        entry = self._entries.get(name)
        return entry is not None and entry.on_lost is OnLost.SKIP

    def definer(self, name: str) -> Define | None:
        """Return what tells what this instance says of a task; None if it is gone."""
        entry = self._entries.get(name)
        return None if entry is None else entry.definer(self._version)

    def registered(self, name: str, changed: Changed) -> None:
        """Learn that the store has heard of a task for the first time from this instance, and what it had."""
        entry, old = self._entries.get(name), changed.old
        if entry is None:
            return
        is_news = entry.heard is None  # It is told again and again, so that the store knows that it is known.
        entry.heard = changed.new if changed.done else old
        if old is not None and old.spec != entry.text:
            self._compare(entry, old)
        elif is_news and entry.heard is not None and entry.heard.next >= FOREVER:
            never_runs(entry, in_words(entry.code), utc(self.driver.now() + self.driver.offset))
        for hold in list(self.wanted.values()):
            hold(name, self)

    def heard(self, record: Record) -> None:
        """Learn what the store has of a task."""
        entry = self._entries.get(record.name)
        if entry is not None:
            entry.heard = record

    def doubtful(self) -> list[str]:
        """Return the tasks of which it was last heard that others run or hold them: that may be over."""
        own = self.coordinator.claims
        found = [entry for entry in self._entries.values() if entry.heard is not None and entry.name not in own]
        return [entry.name for entry in found if entry.heard and (entry.heard.holder is not None or entry.heard.holds)]

    def unhold(self, held: OwnHold) -> None:
        """Let a task run again."""
        self.holders.pop(held, None)
        self.coordinator.unhold(held)
        entry = self._entries.get(held.name)
        if entry is not None and entry.heard is not None:
            holds = {key: each for key, each in entry.heard.holds.items() if key != held.key}
            entry.heard = replace(entry.heard, holds=holds)

    def start(self, claim: Claim) -> None:
        """Begin the run of a claim whose tick is due."""
        record = claim.record
        entry = self._entries[claim.name]
        now = self.driver.now()
        shown = self.coordinator.clock.at_least(now)
        clock = record.due if shown is None else shown
        entry.crew, entry.claim, entry.heard, entry.passed = self, claim, record, None
        entry.offset = clock - now
        spec = entry.spec_of(record) or entry.code
        grid = entry.ticks(spec, record.next)
        if record.manual:
            self._launch(entry, claim, grid.spec, record.tick, Kind.MANUAL, now)
        elif is_unknown(grid, record.next, record.due):
            self._pass(entry, claim, spec, Closing(grid.after(record.due - 1), None), now)
        elif record.take > 1 and entry.on_lost is OnLost.SKIP:  # That it was lost is in the ledger already.
            self._pass(entry, claim, spec, Closing(grid.after(record.next), None), now)
        else:
            found = opening(grid, record.next, clock, resumed=record.kept_back is not None)
            if found.tick is None:
                self._pass(entry, claim, spec, Closing(found.following, found.passed), now)
            else:
                entry.passed = found.passed
                self._launch(entry, claim, entry.ticks(spec, found.tick).spec, found.tick, found.kind, now)

    def lose(self, claim: Claim) -> None:
        """Cut the run, whose lease is over; one that cannot be cut is told."""
        run = self._runs.get(claim)
        if run is None:
            return
        if run.lost is not None:
            run.lost.set()
        if run.spec.policy is not ExecPolicy.SHIELD and not run.spec.threaded:
            self.driver.cut(run, Reason.LEASE)
            return
        log.error(
            "task %r, tick %s: its lease is over and could not be renewed: another instance may run it from now on, "
            "beside this run, which cannot be cut (%s). current_run().check() raises, and its fence is %d",
            run.entry.name, utc(run.tick + run.entry.host.offset).isoformat(),
            "a thread" if run.spec.threaded else "SHIELD", claim.fence,
        )  # fmt: skip

    def regain(self, claim: Claim) -> None:
        """Learn that the lease was renewed after all."""
        run = self._runs.get(claim)
        if run is None or run.cause is Reason.LEASE:
            return
        if run.lost is not None:
            run.lost.clear()
        log.warning("task %r: its lease was renewed after all; the run goes on by right", run.entry.name)

    def unheld(self, held: OwnHold) -> None:
        """Learn that a hold is lost: from now on the task may run."""
        tell = self.holders.pop(held, None)
        if tell is not None:
            tell()

    def follow(self, claim: Claim, record: Record) -> Ending | None:
        """Return the ending of a run again, by the rule that the *record* has meanwhile; None: it has not begun."""
        over = self._over.get(claim)
        if over is None:
            return None
        # One that this version cannot read: whoever gave it goes on from one more tick of the old rule.
        spec = over.entry.spec_of(record) or over.spec
        return _ending(claim, replace(over, spec=spec), record.spec, self.coordinator.me)[0]

    def settled(self, claim: Claim, ending: Ending) -> None:
        """Learn that the store has answered to the *ending* of a run."""
        over, coming = self._over.pop(claim, None), ending.following
        heard = None if over is None else over.entry.heard
        if over is None or heard is None or heard.fence != claim.fence:
            return
        heard = replace(heard, holder=None, until=None, manual=False)
        if coming is None:
            over.entry.heard = replace(heard, asked=None, asked_take=0)
        else:
            over.entry.heard = replace(heard, next=coming.tick, due=coming.due, floor=ending.tick, take=0)

    # --- what runs tell ---

    def over(self, run: Running, outcome: Outcome, reason: Reason | None, exc: BaseException | None) -> None:
        """Take note of a run that is over, and have the store told."""
        entry, claim = run.entry, run.claim
        if not isinstance(entry, Shared) or claim is None:
            raise TypeError(f"task {entry.name!r} is not shared")
        now = self.driver.now()
        # Of an extra run, whoever waits for it hears that it was cut.
        repeats = entry.on_lost is OnLost.RETRY and run.kind is not Kind.MANUAL
        again = outcome is Outcome.LOST or (reason is Reason.SHUTDOWN and repeats)
        kept = recorded(run, Outcome.LOST if again else outcome, reason, exc, now)
        row = row_of(entry.name, kept, self.coordinator.me)
        passed, entry.passed, entry.claim = entry.passed, None, None
        self._runs.pop(claim, None)
        if again:
            self.driver.end(run, kept, exc, now)
            self.coordinator.released(claim, [row])
            return
        offset, hung = entry.offset, bool(entry.flags & HUNG)
        before = self._rows(entry, claim, run.spec, passed, now + offset)
        over = Over(
            entry, run.spec, run.kind, run.tick + offset, run.started + offset, now + offset, run.cause is not None,
            hung, (*before, row),
        )  # fmt: skip
        ending, after = _ending(claim, over, claim.record.spec, self.coordinator.me)
        self._skip(entry, passed, now, _why(claim, passed))
        self.driver.end(run, kept, exc, now)
        self._skip(entry, after, now)
        self._over[claim] = over
        self.coordinator.ended(claim, ending)

    # --- inside ---

    def _is_disabled(self, entry: Shared, record: Record) -> bool:
        is_wanted_here = record.manual and entry.name in self.coordinator.extras
        return bool(entry.flags & DISABLED) and not is_wanted_here

    def _launch(self, entry: Shared, claim: Claim, spec: Spec, tick: int, kind: Kind, now: int) -> None:
        entry.spec = spec
        driver, offset = self.driver, entry.offset
        grid = claim.record.next if kind is Kind.MANUAL else tick
        driver.listen()
        driver.start_run(entry, tick - offset, now, kind, grid - offset, None, spec.gap)
        if entry.run is not None and entry.run.claim is claim:
            self._runs[claim] = entry.run
            if entry.run.task is not None:  # One that is cancelled before it begins cannot say that it is over.
                entry.run.task.add_done_callback(lambda _: driver.alive(entry))

    def _pass(self, entry: Shared, claim: Claim, spec: Spec, found: Closing, now: int) -> None:
        """End a claim without a run."""
        record = claim.record
        entry.claim = None
        rows = self._rows(entry, claim, spec, found.passed, now + entry.offset)
        following = coming(entry.ticks(spec), found.following, record.next, now + entry.offset)
        self._skip(entry, found.passed, now, _why(claim, found.passed))
        self.coordinator.ended(claim, Ending(entry.name, claim.fence, record.tick, record.spec, following, rows))

    def _rows(self, entry: Shared, claim: Claim, spec: Spec, passed: Passed | None, now: int) -> tuple[Row, ...]:
        """Return what the store keeps of ticks before the one that is run, or of all."""
        if passed is None:
            return ()
        me, why = self.coordinator.me, _why(claim, passed)
        return (skips_row(entry.name, passed, now, me, entry.ticks(spec), claim.record.take, why),)

    def _skip(self, entry: Shared, passed: Passed | None, now: int, why: str | None = None) -> None:
        """Keep here, too, that ticks do not run."""
        if passed is not None:
            first, last = passed.first - entry.offset, passed.last - entry.offset
            self.driver.skip(entry, first, last, passed.number, passed.reason, now, more=passed.more, why=why)

    def _compare(self, entry: Shared, old: Record) -> None:
        """Say what becomes of a rule that is not the stored one."""
        other = entry.spec_of(old)
        rules = f"{in_words(entry.code)} here, {old.spec if other is None else in_words(other)} in the store"
        if old.version > self._version:
            log.warning("task %r: follows the rule of version %s: %s", entry.name, told_version(old.version), rules)
        elif old.version == self._version:
            log.warning(
                "task %r: there are two rules of one version, %s: %s. The last one to come stands; raise "
                "Scheduler(version=...) with each release that changes a rule",
                entry.name, told_version(old.version), rules,
            )  # fmt: skip
        else:
            log.info("task %r: has a new rule from version %s on: %s", entry.name, told_version(self._version), rules)


def _ending(claim: Claim, over: Over, text: str, me: str) -> tuple[Ending, Passed | None]:
    """Return how the tick of a run ends that is over, by the rule of this *text*, and what is skipped after it."""
    record = claim.record
    if over.kind is Kind.MANUAL:
        return Ending(record.name, claim.fence, record.tick, text, None, over.rows), None
    grid = over.entry.ticks(over.spec, over.tick)
    found = closing(grid, over.kind, over.tick, over.started, over.now, cut=over.cut, hung=over.hung)
    ticks = over.entry.ticks(over.spec)
    after = () if found.passed is None else (skips_row(record.name, found.passed, over.now, me, ticks),)
    following = coming(ticks, found.following, over.tick, over.now)
    return Ending(record.name, claim.fence, record.tick, text, following, (*over.rows, *after)), found.passed


def _why(claim: Claim, passed: Passed | None) -> str | None:
    """Return who kept ticks back that do not run, in words."""
    suspended = passed is not None and passed.reason is Reason.SUSPENDED
    return f"held by {claim.record.kept_back}" if suspended else None


def told_version(version: tuple[int, ...]) -> str:
    """Return *version* as people write it."""
    return ".".join(map(str, version))
