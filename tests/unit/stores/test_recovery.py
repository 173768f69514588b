"""What a store has lost and an instance still knows."""

from __future__ import annotations

import pytest

from kaiju_app.stores._answers import FinishRequest
from kaiju_app.stores._record import NextTick, StoredHold, TaskRecord
from kaiju_app.stores._recovery import RESTORED, Known, end_lost, hold_again, is_lost, put_back, take_back
from kaiju_app.stores._transitions import claim, expire, finish, is_due
from support.records import replace

NOW, TTL, GRACE = 1_000_000, 10_000, 4_500
BASE = TaskRecord("task", NOW - 900, "{}", (1,), NOW - 10, NOW - 10, NOW - 100, NOW - 900)
CLAIM = claim(BASE, NOW, "me", TTL)
assert CLAIM is not None
CLAIMED: TaskRecord = CLAIM
KNOWN = Known(BASE, NOW - 5, NOW - 100, NextTick(NOW + 50, NOW + 60))
PAUSE = StoredHold("they", "repairs", None, leased=False)
HELD = StoredHold("they", None, NOW + TTL)
ENDING = FinishRequest("task", CLAIMED.fence, CLAIMED.tick, "{}", NextTick(NOW + 90, NOW + 91))


def again(**values: object) -> TaskRecord:
    """Return the record as another instance puts it back."""
    made = put_back(None, NOW, replace(KNOWN, **values), GRACE)  # type: ignore[arg-type]
    assert made is not None
    return made


# --- records ---


def test_a_lost_record_goes_on_and_nobody_claims_it_for_the_grace() -> None:
    made = again()

    assert (NOW + 50, NOW + 60, NOW - 100) == (made.next_tick, made.next_due, made.last_done)
    assert (None, 0, 0) == (made.owner, made.fence, made.claims)
    assert {RESTORED} == made.holds.keys()
    assert (NOW + GRACE, False) == (made.holds[RESTORED].until, made.holds[RESTORED].leased)
    assert not is_due(made, NOW + 10 * TTL)


@pytest.mark.parametrize(("rev", "now", "expected"), [(NOW - 5, NOW, NOW), (NOW + 7, NOW, NOW + 8)])
def test_fences_are_greater_than_any_that_is_known(rev: int, now: int, expected: int) -> None:
    """Even if the clock of the store was set back."""
    assert expected == again(rev=rev).rev


def test_a_pause_comes_back_and_a_suspension_does_not() -> None:
    known = replace(BASE, holds={"#pause": PAUSE, "them#1": HELD})

    assert {RESTORED, "#pause"} == again(record=known).holds.keys()


@pytest.mark.parametrize("until", [NOW - 7, NOW + 7])
def test_a_second_loss_starts_the_grace_anew(until: int) -> None:
    """The hold of the first loss may be in what an instance knows, or in an older copy."""
    before = replace(BASE, holds={RESTORED: StoredHold("the store", None, until, leased=False), "#pause": PAUSE})
    older = replace(before, rev=NOW - 500, last_done=NOW - 300)
    made = [
        again(record=before),
        put_back(older, NOW, KNOWN, GRACE),
        take_back(older, NOW, CLAIMED, TTL, GRACE),
        end_lost(older, NOW, CLAIMED, ENDING, GRACE),
    ]

    assert [NOW + GRACE] * 4 == [each and each.holds[RESTORED].until for each in made]
    assert all(each is not None and each.holds["#pause"] is PAUSE for each in made)


def test_what_lacks_nothing_is_left() -> None:
    assert put_back(replace(BASE, rev=NOW), NOW, KNOWN, GRACE) is None
    assert put_back(replace(BASE, rev=NOW - 5), NOW, KNOWN, GRACE) is None


def test_an_older_copy_is_brought_forward() -> None:
    old = replace(BASE, rev=NOW - 500, next_tick=NOW - 200, next_due=NOW - 200, last_done=NOW - 300, claims=2)

    new = put_back(old, NOW, KNOWN, GRACE)
    assert new is not None
    assert (NOW, NOW + 50, NOW - 100, 0) == (new.rev, new.next_tick, new.last_done, new.claims)
    assert {RESTORED} == new.holds.keys()

    running = put_back(replace(old, owner="them", fence=3), NOW, KNOWN, GRACE)
    assert running is not None
    assert ("them", 3, NOW - 200) == (running.owner, running.fence, running.next_tick)


# --- claims ---


@pytest.mark.parametrize(
    ("old", "lost"),
    [
        (None, True),
        (again(), True),
        (replace(BASE, fence=CLAIMED.fence - 1), True),
        (replace(BASE, fence=CLAIMED.fence - 1, owner="me"), True),
        (replace(BASE, fence=CLAIMED.fence - 1, owner="them"), False),
        (CLAIMED, False),
        (replace(CLAIMED, owner=None), False),  # It was taken away, or has ended.
        (replace(CLAIMED, owner="them", fence=CLAIMED.fence + 1), False),
        (replace(CLAIMED, owner=None, fence=CLAIMED.fence + 1), False),
    ],
)
def test_a_claim_comes_back_only_if_no_other_was_made(old: TaskRecord | None, lost: bool) -> None:
    assert lost is is_lost(old, CLAIMED)
    back = take_back(old, NOW + 7, CLAIMED, TTL, GRACE)
    ended = end_lost(old, NOW + 7, CLAIMED, ENDING, GRACE)

    assert lost is (back is not None) is (ended is not None)
    if back is not None and ended is not None:
        assert ("me", CLAIMED.fence, CLAIMED.tick) == (back.owner, back.fence, back.tick)
        assert (NOW + 7 + TTL, False) == (back.lease_until, back.challenged)
        assert (None, NOW + 90, CLAIMED.tick) == (ended.owner, ended.next_tick, ended.last_done)
        assert back.rev > CLAIMED.rev < ended.rev
        assert RESTORED in back.holds.keys() & ended.holds.keys()


def test_a_lease_that_was_taken_away_does_not_come_back() -> None:
    freed = expire(replace(CLAIMED, challenged=True), NOW + 2 * TTL)

    assert not is_lost(freed, CLAIMED)
    assert take_back(freed, NOW + 2 * TTL, CLAIMED, TTL, GRACE) is None


def test_a_claim_that_came_back_ends_as_any_other() -> None:
    back = take_back(again(), NOW, CLAIMED, TTL, GRACE)
    assert back is not None

    ended = finish(back, NOW + 9, "me", CLAIMED.fence, CLAIMED.tick, "{}", NextTick(NOW + 90, NOW + 91))

    assert isinstance(ended, TaskRecord)
    assert (NOW + 90, None) == (ended.next_tick, ended.owner)


def test_an_ending_by_another_rule_is_not_put_back() -> None:
    assert end_lost(replace(again(), schedule="other"), NOW, CLAIMED, ENDING, GRACE) is None


# --- holds ---


def test_a_hold_comes_back_unless_a_claim_was_made_since() -> None:
    made = again()
    new = hold_again(made, NOW, "me#1", HELD, 7)

    assert new is not None
    assert {RESTORED, "me#1"} == new.holds.keys()
    assert hold_again(replace(made, fence=7), NOW, "me#1", HELD, 7) is not None
    assert hold_again(replace(made, fence=8), NOW, "me#1", HELD, 7) is None
