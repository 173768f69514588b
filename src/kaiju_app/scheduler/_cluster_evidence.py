"""What is known of a cluster task around an instant, for ``explain()``: from the store, and from this process."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kaiju_app._cluster.cluster import Cluster
from kaiju_app._cluster.ledger_rows import run_of
from kaiju_app._cluster.notes import upsets_in
from kaiju_app._cluster.schedule_codec import spec_of
from kaiju_app._core.clock import NEVER
from kaiju_app._core.ledger_query import LedgerQuery, Place
from kaiju_app._core.model import Missed
from kaiju_app._core.upset import Upset, UpsetKind
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.options import DEFAULT_CATCHUP_S, make_spec
from kaiju_app._engine.spec import TaskSpec
from kaiju_app.stores._answers import Life
from kaiju_app.stores._record import LedgerRow, TaskRecord, holds_in, scheduler_of, true_holds
from kaiju_app.triggers._timeline import timeline_of

from ._evidence import Evidence, InProgress, Ticks
from ._explain_causes import NEAR, STALLS
from ._local_evidence import around, ticks_of_rule

SEEN_HERE = {*STALLS, UpsetKind.DISABLED} - {UpsetKind.STOPPED}
ROWS = 100  # Rows before the instant: its own is among the first, and so are those of runs that were in its way.


async def cluster_evidence(engine: Engine, cluster: Cluster, name: str, at: int) -> Evidence | None:
    """Return what is known of a cluster task around *at*, in microseconds of the store's clock; None if it has nothing.

    Raises:
        StoreUnavailable: The store did not answer.
        WrongState: The scheduler is not started.
    """
    coordinator = cluster.runs.coordinator
    client, describe = coordinator.client, coordinator.heartbeat.describe
    page = await client.runs(LedgerQuery(ROWS, name, below=Place(at + NEAR)))
    seen = await client.call_or_raise("scan", client.store.scan([name]), f"the request for task {name!r}")
    record = next(iter(seen.records), None)
    if record is None and page.oldest is None:
        return None
    settling = round(cluster.timing.failover_s * 1e6)
    near = client.store.lives_near(*_span(record, page.rows, at, seen.now, settling))
    lives = await client.call_or_raise("lives", near, "when instances were heard of")
    recent = client.store.instances(3 * client.lease.poll)
    alive = {each.id for each in await client.call_or_raise("instances", recent, "which instances are alive")}
    upsets = [
        *_absences(lives, seen.now),
        *_holds(name, record, seen.now),
        *_held(name, record, page.rows),
        *_of_others(name, lives, alive, engine),
    ]
    upsets += [each for each in engine.upsets.of(name) if each.kind in SEEN_HERE]
    if client.degraded_since is not None:
        upsets.append(Upset(UpsetKind.STORE, client.answered_at + engine.offset, None))
    return Evidence(
        task=name,
        at=at,
        now=seen.now,
        ticks=_ticks(cluster, name, record, at),
        runs=[run_of(row) for row in reversed(page.rows)],
        oldest=page.oldest,
        complete=False,
        running=None if record is None else _running(record, seen.now, describe(scheduler_of(record.owner or ""))),
        waiting=[],
        undecided=None if record is None else _undecided(record, seen.now),
        upsets=upsets,
        shared=True,
        instance=engine.instance,
        instances=len({scheduler_of(each) for each in alive}),
        settling=settling,
    )


def _span(record: TaskRecord | None, rows: Sequence[LedgerRow], at: int, now: int, settling: int) -> tuple[int, int]:
    """Return from when to when something may have delayed the tick at the instant: until what became of it began.

    What keeps a tick that is not decided yet is what there is now.
    """
    ends = [row.finished_at if row.started_at is None else row.started_at for row in rows]
    if record is not None and record.claimed_at is not None:
        ends.append(record.claimed_at)
    undecided = None if record is None else _undecided(record, now)
    if undecided is not None and undecided <= at + NEAR:
        ends.append(now)
    return min(at, now) - NEAR - settling, max([at, *ends]) + NEAR


def _undecided(record: TaskRecord, now: int) -> int | None:
    """Return a time from which on no tick is decided; None if all due ticks are. The end of a run decides for many."""
    if record.next_unknown or record.next_due > now:
        return None
    return record.next_tick if record.owner is None or record.manual else record.next_tick + 1


def _running(record: TaskRecord, now: int, where: str) -> InProgress | None:
    """Return the run in progress; None if there is none, or if its claim was made ahead of its tick."""
    if record.owner is None or record.claimed_at is None or record.claimed_at > now:
        return None
    return InProgress(
        record.tick, record.tick_due, record.claimed_at, f" on instance {where}", record.manual, record.delivery,
        scheduler_of(record.owner),
    )  # fmt: skip


def _holds(name: str, record: TaskRecord | None, now: int) -> list[Upset]:
    """Return the holds of a task; one of which nobody has kept the beginning tells nothing of earlier times."""
    holds = {} if record is None else true_holds(record.holds)
    return [
        Upset(UpsetKind.HELD, now if held.since is None else held.since, None, name, held.describe(key))
        for key, held in holds.items()
    ]


def _held(name: str, record: TaskRecord | None, rows: Sequence[LedgerRow]) -> list[Upset]:
    """Return the holds of a task that are over and have delayed a tick."""
    delayed_by = [row.held_by for row in rows] + [None if record is None else record.delayed_by]
    told = {held for each in delayed_by if each is not None for held in holds_in(each)}
    return [Upset(UpsetKind.HELD, since, until, name, who) for who, since, until in sorted(told)]


def _absences(lives: Sequence[Life], now: int) -> list[Upset]:
    """Return when no instance was heard of, between two of which one was."""
    found: list[Upset] = []
    heard_until: int | None = None
    for life in sorted(lives, key=lambda each: each.began_at):
        if heard_until is not None and life.began_at > heard_until:
            found.append(Upset(UpsetKind.ABSENT, heard_until, life.began_at))
        heard_until = max(life.seen_at, heard_until or life.seen_at)
    return found


def _of_others(name: str, lives: Sequence[Life], alive: Collection[str], engine: Engine) -> list[Upset]:
    """Return what other instances have told of themselves and of the task, and when instances came and left."""
    found: list[Upset] = []
    for life in lives:
        instance = scheduler_of(life.id)
        found.append(Upset(UpsetKind.CAME, life.began_at, life.began_at, None, None, instance))
        if life.id not in alive:
            found.append(Upset(UpsetKind.LEFT, life.seen_at, life.seen_at, None, None, instance))
        if instance != engine.instance:
            told = upsets_in(life, is_alive=life.id in alive)
            found += [each for each in told if each.task in (None, name)]
    return found


def _ticks(cluster: Cluster, name: str, record: TaskRecord | None, at: int) -> Ticks:
    """Return the ticks of the rule that the store has now; of none, if it has none or this version cannot read it."""
    entry = cluster.entries.get(name)
    code = any_spec() if entry is None else entry.code
    spec = None if record is None else spec_of(record.schedule, code)
    if record is None or spec is None:
        return Ticks(None, None, None, None, NEVER)
    timeline = timeline_of(spec, seed=("", name), shared=True)
    if spec.trigger is not None:
        return ticks_of_rule(spec, timeline, at, None)
    anchor, gap, end = record.next_tick if record.next_tick < NEVER else record.last_done, spec.gap, _end(spec)
    last = anchor + (at - anchor) // gap * gap
    ticks = [tick for tick in range(last - gap, last + 3 * gap, gap) if tick <= end]
    return around(at, ticks, [timeline.due(tick) for tick in ticks], gap, None)


def _end(spec: TaskSpec) -> int:
    return NEVER if spec.until is None else spec.until


def any_spec() -> TaskSpec:
    """Return the parameters of a task of which only the rule is known."""
    return make_spec(
        60, None, None, 0, 0, 0, Exception, None, Missed.ONCE, None, DEFAULT_CATCHUP_S, 0, None, False, 3.0
    )  # fmt: skip
