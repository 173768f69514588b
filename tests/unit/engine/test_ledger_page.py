"""Queries of the records in memory: the shortcuts leave out nothing."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaiju_app._core.ledger_query import Ending, LedgerQuery, Place
from kaiju_app._engine.entry import TaskEntry
from kaiju_app._engine.ledger import ENDINGS, RunRecord, append, records
from kaiju_app._engine.ledger_page import LocalPage, latest_outcomes, latest_record
from kaiju_app._engine.overtaken import Overtaken

pytestmark = pytest.mark.pure

HISTORY = 4
SOME = [0, 1, 20, 40]  # Codes of endings.

RECORDS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(-5, 5), st.integers(0, 9), st.sampled_from(SOME), st.booleans()),
    max_size=30,
)
QUERIES = st.builds(
    LedgerQuery,
    st.integers(1, 5),
    st.none() | st.sampled_from("ab"),
    st.none() | st.frozensets(st.sampled_from([Ending(*ENDINGS[code]) for code in SOME]), min_size=1),
    st.integers(-9, 15),
    st.builds(
        Place, st.integers(-9, 15), st.sampled_from(["", "a", "b"]), st.booleans(), st.just(1), st.integers(0, 9)
    ),
)


@given(RECORDS, QUERIES)
def test_a_page_has_the_newest_of_the_records_that_are_wanted(
    kept: list[tuple[str, int, int, int, bool]], query: LedgerQuery
) -> None:
    entries = {name: TaskEntry(cast(Any, None), name, print, (), {}, cast(Any, None)) for name in "abc"}
    for name, first, offset, code, manual in kept:
        append(entries[name], RunRecord(first, first, 1, 0, first, first, offset, 1, code, manual, False), 0, HISTORY)

    page = LocalPage(query)
    for entry in entries.values():
        page.look_at(entry)

    every = [
        (Place(record.first + record.offset, name, record.manual, 1, entry.kept - len(found) + place), record)
        for name, entry in entries.items()
        for found in [records(entry)]
        for place, record in enumerate(found, 1)
    ]
    wanted = [each for each in every if query.wants(each[0], Ending(*ENDINGS[each[1].code]))]
    newest_first = sorted(wanted, key=lambda each: each[0], reverse=True)[: query.limit]
    assert newest_first == [(place, record) for place, _, record in page.newest_first()]
    ticks = [place.tick for place, _ in every]
    assert (page.oldest, page.newest) == (min(ticks, default=None), max(ticks, default=None))


@given(RECORDS, st.none() | st.tuples(st.integers(-5, 5), st.integers(0, 3)), st.integers(1, 6))
def test_the_latest_records_are_those_of_all_records(
    kept: list[tuple[str, int, int, int, bool]], overtaken: tuple[int, int] | None, most: int
) -> None:
    entry = TaskEntry(cast(Any, None), "a", print, (), {}, cast(Any, None))
    for _, first, offset, code, manual in kept:
        append(entry, RunRecord(first, first, 1, 0, first, first, offset, 1, code, manual, False), 0, HISTORY)
    if overtaken is not None:
        entry.overtaken = Overtaken(overtaken[0], sum(overtaken), 1, 0, 0, more=False)

    every = records(entry)
    assert latest_record(entry) == (every[-1] if every else None)
    assert latest_outcomes(entry, most) == [record.outcome for record in every[-most:]]


@given(RECORDS, RECORDS, QUERIES)
def test_what_is_known_from_an_earlier_look_changes_no_answer(
    early: list[tuple[str, int, int, int, bool]], late: list[tuple[str, int, int, int, bool]], query: LedgerQuery
) -> None:
    entries = {name: TaskEntry(cast(Any, None), name, print, (), {}, cast(Any, None)) for name in "abc"}
    spans: dict[str, Any] = {}
    for some in (early, late):
        for name, first, offset, code, manual in some:
            append(
                entries[name], RunRecord(first, first, 1, 0, first, first, offset, 1, code, manual, False), 0, HISTORY
            )
        if some is early:
            entries["d"] = entries.pop("c")
            entries["c"] = TaskEntry(cast(Any, None), "c", print, (), {}, cast(Any, None))  # Another one of this name.
        known, unknown = LocalPage(query, spans), LocalPage(query)
        for entry in entries.values():
            if entry is not entries.get("d"):
                known.look_at(entry)
                unknown.look_at(entry)

        assert known.newest_first() == unknown.newest_first()
        assert (known.oldest, known.newest) == (unknown.oldest, unknown.newest)
