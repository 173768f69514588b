"""Take-over: only a lease that had expired when it was read is taken over, whatever the clock shows by then."""

from __future__ import annotations

import pytest

from kaiju_app._cluster.policy import take_over
from kaiju_app.stores._record import StoredHold, TaskRecord
from support.records import replace
from unit.stores.test_transitions import CLAIMED, GRACE, HELD, NOW, TTL

pytestmark = pytest.mark.pure

LATER = NOW + 1_000_000  # The store's clock was set.
AT = NOW + 10 * TTL
ASKED = StoredHold("they", "why", AT - 1, leased=True, challenged=True)  # Challenged, and the grace is over.
ANSWERING = replace(ASKED, until=AT + 1)


def taken(record: TaskRecord, now: int, at: int = AT, **options: object) -> TaskRecord | None:
    found = take_over(record, at, "observer", GRACE, **options)(record, now)  # type: ignore[arg-type]
    return None if found is None else found[0]


@pytest.mark.parametrize("now", [AT, LATER])
def test_a_hold_whose_grace_was_not_over_when_it_was_seen_stays(now: int) -> None:
    record = replace(HELD, holds={"one#1": ASKED, "two#1": ANSWERING})

    after = taken(record, now)

    assert after is not None
    assert {"two#1": ANSWERING} == after.holds


@pytest.mark.parametrize("now", [AT, LATER])
def test_a_claim_whose_grace_was_not_over_when_it_was_seen_stays(now: int) -> None:
    record = replace(CLAIMED, challenged=True, lease_until=AT + 1, holds={"one#1": ASKED})

    after = taken(record, now)

    assert after is not None
    assert ("me", {}) == (after.owner, after.holds)
    assert taken(replace(record, holds={}), now) is None


def test_what_was_over_is_taken_away() -> None:
    after = taken(replace(CLAIMED, challenged=True, lease_until=AT - 1), LATER)

    assert after is not None
    assert after.owner is None


def test_a_record_that_somebody_has_changed_since_is_left_alone() -> None:
    seen = replace(CLAIMED, challenged=True, lease_until=AT - 1)

    assert take_over(seen, AT, "observer", GRACE)(replace(seen, rev=seen.rev + 1), AT) is None


def test_while_the_clock_is_in_doubt_pauses_end_and_nothing_else() -> None:
    pause = StoredHold("they", None, AT - 1, leased=False)
    record = replace(CLAIMED, challenged=True, lease_until=AT - 1, holds={"one#1": ASKED, "#pause": pause})

    after = taken(record, AT, calm=False)

    assert after is not None
    assert ("me", {"one#1": ASKED}) == (after.owner, after.holds)


def test_of_the_dead_all_is_taken_and_of_the_living_nothing_by_a_clock_that_is_in_doubt() -> None:
    record = replace(CLAIMED, challenged=True, lease_until=AT - 1, holds={"me#1": ANSWERING, "one#1": ASKED})

    after = taken(record, AT, dead=frozenset({"me"}), calm=False)

    assert after is not None
    assert (None, {"one#1": ASKED}) == (after.owner, after.holds)
