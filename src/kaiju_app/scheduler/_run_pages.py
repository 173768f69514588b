"""``Scheduler.runs()``: pages of the ledger, from the memory of this process and from the store."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kaiju_app._core.clock import BEGINNING, epoch_us, utc
from kaiju_app._core.ledger_query import ENDINGS, NEWEST, LedgerQuery, Place
from kaiju_app._core.model import Outcome, Reason, Run, RunPage
from kaiju_app._core.validate import aware, integer
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import CLUSTER
from kaiju_app._engine.ledger_page import LocalPage, Span
from kaiju_app.errors import InvalidArgument

from ._listening import outcomes_of, reasons_of

if TYPE_CHECKING:
    from kaiju_app._cluster.cluster import Cluster

MOST = 1_000  # Records on a page: a page is made in one piece.
SLICE = 1_000  # Microseconds: then the application gets its turn.


def query_of(
    name: str | None,
    outcomes: Outcome | Iterable[Outcome] | None,
    reasons: Reason | Iterable[Reason] | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    cursor: str | None,
) -> LedgerQuery:
    """Return the query with these terms; see ``Scheduler.runs()``.

    Raises:
        InvalidArgument: One of them is wrong.
    """
    some, why = outcomes_of(outcomes), reasons_of(reasons)
    endings = frozenset(
        each for each in ENDINGS if (some is None or each.outcome in some) and (why is None or each.reason in why)
    )
    first = None if since is None else epoch_us(aware("since", since))
    last = None if until is None else epoch_us(aware("until", until))
    if first is not None and last is not None and first > last:
        raise InvalidArgument("until", until, "must not be earlier than since")
    if integer("limit", limit, at_least=1) > MOST:
        rule = f"must be at most {MOST:,}: ask for the next page with cursor=page.next"
        raise InvalidArgument("limit", limit, rule)
    below = min(NEWEST if last is None else Place(last + 1), NEWEST if cursor is None else place_of(cursor))
    is_all = some is None and why is None
    return LedgerQuery(limit, name, None if is_all else endings, BEGINNING if first is None else first, below)


async def page_of(engine: Engine, cluster: Cluster | None, query: LedgerQuery, spans: dict[str, Span]) -> RunPage:
    """Return the records that *query* asks for; *spans* keeps what is known of the records of local tasks.

    Raises:
        StoreUnavailable: The store did not answer.
        WrongState: There is a store to ask, and the scheduler is not started.
    """
    asked = replace(query, limit=query.limit + 1)  # One more tells whether there is another page.
    local = await _local_page(engine, asked, spans)
    found = [(place, record.run(entry.name, engine.instance)) for place, entry, record in local.newest_first()]
    edges = [local.oldest, local.newest]
    if cluster is not None and _may_be_in_store(engine, query.name):
        stored, *more_edges = await _stored_page(cluster, asked)
        found += stored
        edges += more_edges
    found.sort(key=lambda each: each[0], reverse=True)
    page, rest = found[: query.limit], found[query.limit :]
    known = [utc(each) for each in edges if each is not None]
    return RunPage(
        runs=tuple(run for _, run in page),
        next=cursor_of(page[-1][0]) if rest else None,
        oldest=min(known, default=None),
        newest=max(known, default=None),
    )


def _may_be_in_store(engine: Engine, name: str | None) -> bool:
    entry = None if name is None else engine.entries.get(name)
    return entry is None or bool(entry.flags & CLUSTER)


async def _local_page(engine: Engine, query: LedgerQuery, spans: dict[str, Span]) -> LocalPage:
    """Look at the local tasks, in slices of time."""
    if len(spans) > 2 * len(engine.entries) + 1_000:
        spans.clear()
    page = LocalPage(query, spans)
    named = None if query.name is None else engine.entries.get(query.name)
    until = engine.now() + SLICE
    for entry in list(engine.entries.values()) if query.name is None else [named]:
        if entry is None or entry.flags & CLUSTER:
            continue
        page.look_at(entry)
        if engine.now() > until:
            await asyncio.sleep(0)
            until = engine.now() + SLICE
    return page


async def _stored_page(cluster: Cluster, query: LedgerQuery) -> tuple[list[tuple[Place, Run]], int | None, int | None]:
    from kaiju_app._cluster.ledger_rows import run_of

    page = await cluster.runs.coordinator.client.runs(query)
    return [(row.place, run_of(row)) for row in page.rows], page.oldest, page.newest


# --- cursors ---


def cursor_of(place: Place) -> str:
    """Return the text by which the page that begins below *place* can be asked for."""
    import json  # Few programs ask for a page of a ledger that has a next one.

    return urlsafe_b64encode(json.dumps(place, ensure_ascii=False, separators=(",", ":")).encode()).decode()


def place_of(cursor: str) -> Place:
    """Return the place that *cursor* stands for.

    Raises:
        InvalidArgument: It is not the ``next`` of a page.
    """
    try:
        tick, name, manual, delivery, number = _values(cursor)
    except (AttributeError, TypeError, ValueError, RecursionError):  # Also of Unicode, of base64 and of JSON.
        rule = "must be the next of a page that runs() has returned, or None for the first page"
        raise InvalidArgument("cursor", cursor, rule) from None
    return Place(tick, name, manual, delivery, number)


def _values(cursor: str) -> list[Any]:
    import json

    values = json.loads(urlsafe_b64decode(cursor.encode("ascii")))
    kinds = [type(each) for each in values]
    if kinds != [int, str, bool, int, int] or not BEGINNING <= values[0] <= NEWEST.tick or max(values[3:]) >= 1 << 31:
        raise ValueError(values)
    return list(values)
