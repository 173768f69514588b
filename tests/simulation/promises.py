"""The checks that the journal of a simulation shows no broken promise.

Bodies write what they do, and the store writes what it changed. Each line has the real time, which neither of them can
know. The checks know only what is promised to users, and nothing of how a coordinator works.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kaiju_app._core.model import Outcome
from kaiju_app.stores._record import LedgerRow
from kaiju_app.testing._cluster.journal import Entry, Event
from kaiju_app.testing._cluster.plan import MILLION, Plan, Span, inside, merged, us

SOON_S = 5.0


@dataclass(frozen=True)
class Bounds:
    """What is tolerated, in seconds.

    Args:
        early_s: How long before its tick, by the store's clock, a run may begin.
        jump_s: How long after a backward jump of that clock a run may be early by the size of the jump as well.
        failover_s: How long a due tick may wait for a run while some instance is healthy.
        entry_s: How long a suspension may take to begin while its instance is healthy: the longest run plus a failover.
        calm_s: How long an instance and the store's clock must have been healthy before any time limit applies.
        strict: Check acts in the first turn after a pause, too.
        may_skip: Names of tasks whose ticks may end without ever having begun.
    """

    early_s: float = 0.3
    jump_s: float = 10.0
    failover_s: float = 30.0
    entry_s: float = 60.0
    calm_s: float = 20.0
    strict: bool = False
    may_skip: Collection[str] = ()


def violations(
    journal: Iterable[Entry],
    plan: Plan,
    instances: int,
    bounds: Bounds = Bounds(),
    rows: Iterable[LedgerRow] = (),
) -> list[str]:
    """Return the broken promises, each with the lines of the journal that show it."""
    ordered = sorted(journal, key=lambda entry: entry.at)
    rows = list(rows)
    found: list[str] = []
    tasks = sorted({entry.task for entry in ordered if entry.task})
    crashes = {entry.who: entry.at for entry in ordered if entry.event == "crash"}
    health = Health(plan, instances, us(bounds.calm_s))
    for task in tasks:
        book = TaskJournal(task, [entry for entry in ordered if entry.task == task or not entry.task], crashes)
        ledger = [row for row in rows if row.name == task]
        for check in (acts_by_fence, acts_in_suspensions, claims):
            found += check(book, bounds)
        found += endings(book, bounds, ledger)
        found += early(book, bounds, plan)
        found += failover(book, bounds, plan, health)
        found += entries(book, bounds, health)
        found += orphans(book, bounds, plan, health)
        found += ticks_in_two_rows(book, ledger)
    return found


class TaskJournal:
    """The journal's lines about one task, and the time of each instance's crash."""

    def __init__(self, task: str, lines: list[Entry], crashes: dict[str, int]) -> None:
        self.task = task
        self.lines = lines
        self.crashes = crashes

    def of(self, *events: Event) -> Iterator[Entry]:
        return (entry for entry in self.lines if entry.event in events)

    def report(self, what: str, at: int, before: int = 12, after: int = 6) -> str:
        """Return *what* is wrong, followed by the lines around *at*. Of repeated acts only first and last are shown."""
        place = bisect_right(self.lines, at, key=lambda entry: entry.at)
        shown = [str(entry) for entry in _without_repetition(self.lines[:place])[-before:]]
        shown += [f"{at / MILLION:12.6f} <<<<<"]
        shown += [str(entry) for entry in _without_repetition(self.lines[place:])[:after]]
        return f"{self.task}: {what}\n    " + "\n    ".join(shown)


def _without_repetition(lines: Sequence[Entry]) -> list[Entry]:
    kept: list[Entry] = []
    for entry in lines:
        if len(kept) > 1 and all(each[1:6] == entry[1:6] for each in kept[-2:]):
            kept[-1] = entry
        else:
            kept.append(entry)
    return kept


# --- one at a time ---


def acts_by_fence(book: TaskJournal, bounds: Bounds) -> list[str]:
    """No run acts after one with a higher fence has acted, and no two instances act with the same fence."""
    found, last = [], None
    for entry in book.of("begin", "act"):
        if entry.thaw and not bounds.strict:
            continue
        if last is not None and entry.fence < last.fence:
            what = f"{entry.who} acts by fence {entry.fence}, after {last.who} by {last.fence}"
            found.append(book.report(what, entry.at))
        elif last is not None and entry.fence == last.fence and entry.who != last.who:
            found.append(book.report(f"{entry.who} and {last.who} act by the same fence {entry.fence}", entry.at))
        if last is None or entry.fence > last.fence:
            last = entry
    return found[:1]  # The others are consequences of the first.


def acts_in_suspensions(book: TaskJournal, bounds: Bounds) -> list[str]:
    """No run acts between the first and the last act of the body of a suspension."""
    spans: dict[tuple[str, str], list[int]] = {}
    for entry in book.of("suspended-begin", "act-in-suspension"):
        if not entry.thaw or bounds.strict:
            spans.setdefault((entry.who, entry.note), []).append(entry.at)
    found = []
    for (who, _), acts in spans.items():
        for entry in book.of("begin", "act"):
            if acts[0] < entry.at < acts[-1] and (bounds.strict or not entry.thaw):
                found.append(book.report(f"{entry.who} acts inside the suspended body of {who}", entry.at))
                break
    return found


def claims(book: TaskJournal, _: Bounds) -> list[str]:
    """Every claim has a larger fence than all before, and at most one run begins with it."""
    found, last, begun = [], 0, set()
    claimed: set[int] = set()
    for entry in book.of("claimed", "begin"):
        if entry.event == "claimed":
            if entry.fence <= last:
                found.append(book.report(f"a claim has fence {entry.fence}, after one with {last}", entry.at))
            last = max(last, entry.fence)
            claimed.add(entry.fence)
            continue
        if entry.fence in begun:
            found.append(book.report(f"the claim with fence {entry.fence} begins twice", entry.at))
        if entry.fence not in claimed:
            found.append(book.report(f"a run begins by fence {entry.fence}, which no claim has", entry.at))
        begun.add(entry.fence)
    return found


# --- every tick ---


def endings(book: TaskJournal, bounds: Bounds, rows: Sequence[LedgerRow]) -> list[str]:
    """A tick ends at most once, only after it has begun or was recorded as skipped, and never comes back."""
    found, last, begun = [], 0, set()
    for entry in book.of("begin", "finished"):
        if entry.event == "begin":
            begun.add(entry.tick)
            continue
        skipped = any(
            row.first_tick <= entry.tick <= row.last_tick for row in rows if row.outcome == Outcome.SKIPPED.value
        )
        if entry.tick not in begun and not skipped and book.task not in bounds.may_skip:
            found.append(book.report("a tick has ended that never began", entry.at))
        if entry.note != "manual":
            if entry.tick <= last:
                found.append(book.report("a tick has ended that had ended before, or an earlier one", entry.at))
            last = max(last, entry.tick)
    return found


def ticks_in_two_rows(book: TaskJournal, rows: Iterable[LedgerRow]) -> list[str]:
    """No tick is in two rows of the ledger, except for takes that were lost."""
    ends = sorted(
        (row.first_tick, row.last_tick) for row in rows if not row.manual and row.outcome != Outcome.LOST.value
    )
    return [
        f"{book.task}: the ticks from {later[0]} are in two rows, {earlier} and {later}"
        for earlier, later in pairwise(ends)
        if later[0] <= earlier[1]
    ]


def early(book: TaskJournal, bounds: Bounds, plan: Plan) -> list[str]:
    """No run begins before its tick by the store's clock, except by the size of a recent backward jump."""
    found = []
    for entry in book.of("begin"):
        back = sum(-by for at, by in plan.jumps if by < 0 and at <= entry.at < at + us(bounds.jump_s))
        ahead = entry.tick - entry.store
        if entry.note != "manual" and ahead > us(bounds.early_s) + back:
            found.append(book.report(f"{entry.who} begins {ahead / MILLION:.3f} s too early", entry.at))
    return found


# --- in time ---


class Health:
    """When an instance was healthy enough that a time limit applies to it.

    Args:
        calm: How long it must have been healthy before, in microseconds.
    """

    def __init__(self, plan: Plan, instances: int, calm: int) -> None:
        self._calm = calm
        self._end = us(plan.for_s)
        self._impaired = [plan.impaired(place) for place in range(instances)]
        # An instance that gets no answers goes on claiming: others have to wait for claims that it does not know of.
        unanswered = [span for place in range(instances) for span in plan.cuts(place, "back")]
        # The same holds if an instance is paused or gone when its delayed requests arrive after a cut.
        late = [
            (end, end + MILLION)
            for place in range(instances)
            for _, end in plan.cuts(place, "there")
            if inside(plan.pauses(place), end) or not inside(plan.lives(place), end)
        ]
        self._troubled = merged([*unanswered, *late, *((at, at + 1) for at, _ in plan.jumps)])

    def was_healthy(self, start: int, end: int, place: int | None = None) -> bool:
        """Return whether any instance, or the one in *place*, was healthy from a while before *start* to *end*."""
        start -= self._calm
        if start < 0 or end > self._end or _touches(self._troubled, start, end):
            return False
        return any(
            not _touches(impaired, start, end)
            for impaired in (self._impaired if place is None else [self._impaired[place]])
        )

    def becomes_impaired(self, start: int, end: int) -> bool:
        """Return whether some instance becomes impaired between *start* and *end*."""
        return any(start <= span[0] < end for impaired in self._impaired for span in impaired)


def _touches(spans: Iterable[Span], start: int, end: int) -> bool:
    return any(one < end and start < other for one, other in spans)


def place_of(who: str) -> int:
    return ord(who[0]) - ord("a")


def failover(book: TaskJournal, bounds: Bounds, plan: Plan, health: Health) -> list[str]:
    """A due tick runs within the failover bound, whichever instance has crashed."""
    found, limit = [], us(bounds.failover_s)
    holds = merged(span for _, span in holds_of(book, us(plan.for_s)))
    acts = [entry.at for entry in book.of("begin", "act")]
    # An instance that claims the tick and becomes impaired soon afterwards causes the next failover.
    acts = sorted(
        [*acts, *(entry.at for entry in book.of("claimed") if health.becomes_impaired(entry.at, entry.at + us(SOON_S)))]
    )
    changes = [(entry.at, entry.tick) for entry in book.of("next")]
    for (at, tick), (until, _) in pairwise([*changes, (us(plan.for_s), 0)]):
        due = plan.when_shown(tick, at)
        if due is None or due >= until:
            continue
        held = [span for span in holds if span[0] < until and due < span[1]]
        seen = [moment for moment in acts if due < moment < until]
        moments = sorted({due, until, *seen, *(moment for span in held for moment in span if due < moment < until)})
        for start, end in pairwise(moments):
            is_held = any(one <= start and end <= other for one, other in held)
            if end - start > limit and not is_held and health.was_healthy(start, start + limit):
                what = f"a due tick is not run for {(end - start) / MILLION:.1f} s although an instance is healthy"
                found.append(book.report(what, start))
    return found


def holds_of(book: TaskJournal, until: int) -> Iterator[tuple[str, Span]]:
    """Return each hold, and the span during which it was in the store."""
    since: dict[str, int] = {}
    for entry in book.of("held", "unheld"):
        if entry.event == "held":
            since[entry.note] = entry.at
        else:
            yield entry.note, (since.pop(entry.note), entry.at)
    yield from ((key, (start, until)) for key, start in since.items())


def entries(book: TaskJournal, bounds: Bounds, health: Health) -> list[str]:
    """A suspension begins in time, or gives up."""
    found, limit = [], us(bounds.entry_s)
    ends = defaultdict(list)
    for entry in book.of("suspended-begin", "suspended-end"):
        ends[entry.who, entry.note].append(entry.at)
    for entry in book.of("suspend"):
        end = min((at for at in ends[entry.who, entry.note] if at >= entry.at), default=entry.at + 10 * limit)
        if end - entry.at > limit and health.was_healthy(entry.at, entry.at + limit, place_of(entry.who)):
            found.append(book.report(f"the suspension of {entry.who} does not begin in time", entry.at))
    return found


def orphans(book: TaskJournal, bounds: Bounds, plan: Plan, health: Health) -> list[str]:
    """A hold does not outlive its instance by more than the failover bound."""
    found, limit = [], us(bounds.failover_s)
    for key, (since, until) in holds_of(book, us(plan.for_s)):
        died = book.crashes.get(key.partition("#")[0])
        start = None if died is None else max(died, since)
        if start is not None and until - start > limit and health.was_healthy(start, start + limit):
            found.append(book.report(f"the hold {key} outlives its instance", start + limit))
    return found
