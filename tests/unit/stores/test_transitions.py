"""Every transition of a record: case by case, then in any order, late, repeated, and with a clock that jumps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from kaiju_app._core.clock import NEVER
from kaiju_app._core.model import Reason
from kaiju_app.stores._record import LedgerRow, NextTick, StoredHold, TaskRecord, instance_of, scheduler_of
from kaiju_app.stores._transitions import (
    DAY,
    Definition,
    Refusal,
    challenge,
    challenge_hold,
    claim,
    define,
    expire,
    expire_hold,
    finish,
    hold,
    is_active,
    is_due,
    is_expired,
    is_forgettable,
    lost,
    release,
    remove_dead,
    renew,
    renew_hold,
    request_run,
    return_unstarted,
    unhold,
)
from support.records import replace

NOW = 1_000_000
TTL = 100
GRACE = 40

FREE = TaskRecord("task", NOW - 500, "rule", (1,), NOW, NOW, NOW - 10, NOW - 500)
CLAIMED = replace(FREE, rev=NOW, owner="me", fence=NOW, lease_until=NOW + TTL, claimed_at=NOW, claims=1)
EXTRA = replace(
    CLAIMED, next_tick=NOW + 500, next_due=NOW + 500, claims=0, manual_at=NOW - 3, manual_claims=1, manual=True
)
LEASED = StoredHold("they", "why", NOW + TTL)
PAUSE = StoredHold("they", None, NOW + TTL, leased=False)
HELD = replace(FREE, holds={"me#1": LEASED, "you#1": PAUSE})


def changed(old: TaskRecord, new: TaskRecord | None) -> dict[str, Any]:
    """Return the fields that differ, except the rev, which must have grown."""
    assert new is not None
    assert new.rev > old.rev
    names = TaskRecord._fields
    return {name: getattr(new, name) for name in names if name != "rev" and getattr(old, name) != getattr(new, name)}


# --- claims ---


@pytest.mark.parametrize(
    ("values", "due"),
    [
        ({}, True),
        ({"next_due": NOW + 1}, False),
        ({"next_due": NOW + 1, "manual_at": NOW}, True),
        ({"next_tick": NOW - 10**9, "next_due": NOW - 10**9}, True),
        ({"next_tick": NOW - 10**9, "next_due": NOW + 1}, False),
        ({"next_tick": NEVER, "next_due": NEVER}, False),
        ({"next_tick": NEVER, "next_due": NEVER, "manual_at": NOW}, True),
        ({"owner": "you"}, False),
        ({"owner": "you", "manual_at": NOW}, False),
        ({"holds": {"x#1": LEASED}}, False),
        ({"holds": {"x#1": PAUSE}, "manual_at": NOW}, False),
        ({"holds": {"x#1": replace(LEASED, until=0, challenged=True)}}, False),
    ],
)
def test_what_is_due_free_and_not_held_can_be_claimed(values: dict[str, Any], due: bool) -> None:
    old = replace(FREE, **values)

    assert due == is_due(old, NOW) == (claim(old, NOW, "me", TTL) is not None)


def test_a_claim_says_by_whom_since_when_and_until_when() -> None:
    claimed = {"fence": NOW, "owner": "me", "lease_until": NOW + TTL, "claimed_at": NOW}

    assert {**claimed, "claims": 1} == changed(FREE, claim(FREE, NOW, "me", TTL))
    asked = replace(FREE, next_due=NOW + 1, manual_at=NOW)
    assert {**claimed, "manual_claims": 1, "manual": True} == changed(asked, claim(asked, NOW, "me", TTL))


@pytest.mark.parametrize(("due", "started"), [(NOW - 9, NOW), (NOW, NOW), (NOW + 5, NOW + 5)])
def test_a_run_that_is_claimed_ahead_begins_when_it_is_due(due: int, started: int) -> None:
    new = claim(replace(FREE, next_tick=NOW - 9, next_due=due), NOW, "me", TTL, 5)

    assert new is not None
    assert (started, NOW + TTL, False) == (new.claimed_at, new.lease_until, new.manual)


def test_a_claim_tells_when_what_it_is_for_is_due() -> None:
    old = replace(FREE, next_due=NOW + 4)
    tick, extra = claim(old, NOW, "me", TTL, 5), claim(replace(old, manual_at=NOW - 3), NOW, "me", TTL, 3)

    assert tick is not None
    assert (NOW, NOW + 4) == (tick.tick, tick.tick_due)
    assert extra is not None
    assert (NOW - 3, NOW - 3) == (extra.tick, extra.tick_due)


def test_an_extra_run_begins_at_once() -> None:
    new = claim(replace(FREE, next_due=NOW + 6, manual_at=NOW), NOW, "me", TTL, 5)

    assert new is not None
    assert (NOW, True) == (new.claimed_at, new.manual)


def test_of_a_tick_and_an_extra_run_that_are_both_due_the_tick_comes_first() -> None:
    both = claim(replace(FREE, manual_at=NOW - 5), NOW, "me", TTL)

    assert both is not None
    assert (False, NOW, NOW - 5) == (both.manual, both.tick, both.manual_at)


@pytest.mark.parametrize(("due", "ahead", "may"), [(5, 5, True), (5, 4, False), (-5, -5, True), (-4, -5, False)])
def test_a_tick_may_be_claimed_ahead_or_only_when_it_is_overdue(due: int, ahead: int, may: bool) -> None:
    new = claim(replace(FREE, next_tick=NOW - 9, next_due=NOW + due), NOW, "me", TTL, ahead)

    assert may == (new is not None)
    assert new is None or not new.manual


def test_an_extra_run_is_claimed_while_the_next_tick_is_out_of_reach() -> None:
    new = claim(replace(FREE, next_tick=NOW - 9, next_due=NOW - 4, manual_at=NOW), NOW, "me", TTL, -5)

    assert new is not None
    assert (True, NOW, 1, 0) == (new.manual, new.tick, new.delivery, new.claims)


def test_an_extra_run_may_be_claimed_before_a_tick_that_is_due() -> None:
    new = claim(replace(FREE, manual_at=NOW), NOW, "me", TTL, extra=True)

    assert new is not None
    assert (True, NOW, 1, 0) == (new.manual, new.tick, new.delivery, new.claims)
    assert claim(FREE, NOW, "me", TTL, extra=True) is None
    assert claim(replace(HELD, manual_at=NOW), NOW, "me", TTL, extra=True) is None


def test_a_fence_is_larger_than_any_before_also_when_the_clock_was_set_back() -> None:
    new = claim(replace(FREE, rev=NOW + 77), NOW, "me", TTL)

    assert new is not None
    assert NOW + 78 == new.rev == new.fence


# --- mine ---


def following_of(old: TaskRecord) -> NextTick | None:
    return None if old.manual else NextTick(NOW + 9, NOW + 9)


Mine = Callable[[TaskRecord, str, int], object]
MINE: dict[str, Mine] = {
    "renew": lambda old, me, fence: renew(old, NOW, me, fence, TTL),
    "hand_back": lambda old, me, fence: return_unstarted(old, NOW, me, fence),
    "release": lambda old, me, fence: release(old, NOW, me, fence),
    "finish": lambda old, me, fence: finish(old, NOW, me, fence, old.tick, old.schedule, following_of(old)),
}


@pytest.mark.parametrize("what", MINE)
@pytest.mark.parametrize("old", [CLAIMED, EXTRA])
@pytest.mark.parametrize(("me", "fence"), [("you", NOW), ("me", NOW - 1), ("me", NOW + 1)])
def test_only_a_claim_that_stands_can_be_renewed_or_ended(what: str, old: TaskRecord, me: str, fence: int) -> None:
    assert MINE[what](old, me, fence) in (None, Refusal.LOST)
    assert MINE[what](replace(FREE, fence=NOW), "me", NOW) in (None, Refusal.LOST)
    assert isinstance(MINE[what](old, "me", NOW), TaskRecord)


def test_a_renewal_answers_a_challenge() -> None:
    suspect = replace(CLAIMED, challenged=True, lease_until=NOW + 3)

    assert {"lease_until": NOW + 7 + TTL, "challenged": False} == changed(
        suspect, renew(suspect, NOW + 7, "me", NOW, TTL)
    )


FREED = {"owner": None, "lease_until": None, "claimed_at": None}


def test_a_finish_ends_the_tick_and_sets_the_next_one() -> None:
    old = replace(CLAIMED, held_back_by="x")
    new = finish(old, NOW + 5, "me", NOW, NOW, "rule", NextTick(NOW + 60, NOW + 71))

    assert isinstance(new, TaskRecord)
    ended = {"last_done": NOW, "claims": 0, "held_back_by": None, "known_at": NOW + 5}
    assert {**FREED, **ended, "next_tick": NOW + 60, "next_due": NOW + 71} == changed(old, new)


@pytest.mark.parametrize(
    ("following", "next", "due"),
    [
        (NextTick(NOW - 60, NOW - 50), NOW + 1, NOW + 1),
        (NextTick(NOW, NOW), NOW + 1, NOW + 1),
        (NextTick(NOW - 60, NOW + 9), NOW + 1, NOW + 9),
        (NextTick(NOW + 60, NOW + 50), NOW + 60, NOW + 60),
        (NextTick(NEVER, NEVER), NEVER, NEVER),
    ],
)
def test_a_finish_never_goes_back_and_no_tick_is_due_before_its_time(following: NextTick, next: int, due: int) -> None:
    new = finish(CLAIMED, NOW, "me", NOW, NOW, "rule", following)

    assert isinstance(new, TaskRecord)
    assert (next, due, NOW) == (new.next_tick, new.next_due, new.last_done)


@pytest.mark.parametrize("following", [None, NextTick(NOW + 60, NOW + 60)])
def test_a_finish_of_an_extra_run_leaves_the_grid_alone(following: NextTick | None) -> None:
    old = replace(EXTRA, held_back_by="x")
    new = finish(old, NOW + 5, "me", NOW, EXTRA.tick, "another rule", following)

    assert isinstance(new, TaskRecord)
    assert {**FREED, "manual_at": None, "manual_claims": 0, "manual": False, "known_at": NOW + 5} == changed(old, new)


def test_a_finish_by_another_rule_is_refused() -> None:
    assert Refusal.CHANGED is finish(CLAIMED, NOW, "me", NOW, NOW, "another rule", NextTick(NOW + 60, NOW + 60))


# What may happen between a finish and its repetition, and what may have happened instead of it.
ENDED = finish(CLAIMED, NOW, "me", NOW, NOW, "rule", NextTick(NOW + 60, NOW + 60))
DONE_EXTRA = finish(EXTRA, NOW, "me", NOW, EXTRA.tick, "rule", None)
assert isinstance(ENDED, TaskRecord)
assert isinstance(DONE_EXTRA, TaskRecord)


@pytest.mark.parametrize(
    ("stored", "refusal"),
    [
        (ENDED, Refusal.DONE),
        (replace(ENDED, manual_at=NOW + 9), Refusal.DONE),
        (replace(ENDED, next_tick=NOW + 1, next_due=NOW + 1), Refusal.DONE),
        (replace(ENDED, holds={"x#1": LEASED}), Refusal.DONE),
        (claim(ENDED, NOW + 60, "me", TTL), Refusal.LOST),
        (release(CLAIMED, NOW, "me", NOW), Refusal.LOST),
        (return_unstarted(CLAIMED, NOW, "me", NOW), Refusal.LOST),
        (replace(CLAIMED, owner="you"), Refusal.LOST),
        (replace(ENDED, fence=NOW - 1), Refusal.LOST),
    ],
)
def test_a_finish_that_comes_twice_is_told_from_one_that_comes_too_late(stored: TaskRecord, refusal: Refusal) -> None:
    assert refusal is finish(stored, NOW + 60, "me", NOW, NOW, "rule", NextTick(NOW + 60, NOW + 60))


@pytest.mark.parametrize(
    ("stored", "refusal"),
    [
        (DONE_EXTRA, Refusal.DONE),
        (request_run(DONE_EXTRA, NOW), Refusal.DONE),
        (claim(replace(DONE_EXTRA, manual_at=NOW + 9), NOW + 9, "me", TTL), Refusal.LOST),
        (release(EXTRA, NOW, "me", NOW), Refusal.LOST),
        (replace(EXTRA, owner=None, manual=False, last_done=NOW + 499), Refusal.LOST),
        (replace(EXTRA, owner="you"), Refusal.LOST),
    ],
)
def test_a_finish_of_an_extra_run_that_comes_twice_is_told_too(stored: TaskRecord, refusal: Refusal) -> None:
    assert refusal is finish(stored, NOW + 60, "me", NOW, EXTRA.tick, "rule", None)


def test_to_hand_back_takes_the_claim_back_and_to_release_counts_it() -> None:
    assert {**FREED, "claims": 0} == changed(CLAIMED, return_unstarted(CLAIMED, NOW, "me", NOW))
    assert FREED == changed(CLAIMED, release(CLAIMED, NOW, "me", NOW))
    assert {**FREED, "manual": False, "manual_claims": 0} == changed(EXTRA, return_unstarted(EXTRA, NOW, "me", NOW))
    assert {**FREED, "manual": False} == changed(EXTRA, release(EXTRA, NOW, "me", NOW))


def test_an_extra_run_can_be_asked_for_unless_it_would_have_to_wait() -> None:
    assert {"manual_at": NOW} == changed(FREE, request_run(FREE, NOW))
    assert request_run(CLAIMED, NOW) is None
    assert request_run(HELD, NOW) is None
    assert request_run(replace(FREE, manual_at=NOW - 5), NOW) is None


def test_two_extra_runs_asked_for_in_one_microsecond_are_two() -> None:
    first = request_run(FREE, NOW)
    assert first is not None
    claimed = claim(replace(first, next_due=NOW + 5), NOW, "me", TTL)
    assert claimed is not None
    ended = finish(claimed, NOW, "me", claimed.fence, claimed.tick, "rule", None)
    assert isinstance(ended, TaskRecord)
    second = request_run(ended, NOW)
    assert second is not None
    assert first.manual_at != second.manual_at


# --- expired leases ---


def test_a_lease_is_challenged_when_it_is_over_and_taken_away_when_that_is_not_answered() -> None:
    over = NOW + TTL + 1
    assert challenge(CLAIMED, over - 1, GRACE) is None
    assert expire(CLAIMED, over) is None
    assert expire(CLAIMED, over + 10**9) is None
    suspect = challenge(CLAIMED, over, GRACE)
    assert suspect is not None
    assert {"challenged": True, "lease_until": over + GRACE} == changed(CLAIMED, suspect)
    assert challenge(suspect, over + GRACE + 1, GRACE) is None
    assert expire(suspect, over + GRACE) is None
    assert {**FREED} == changed(CLAIMED, expire(suspect, over + GRACE + 1))
    assert challenge(FREE, NOW, GRACE) is None
    assert expire(FREE, NOW) is None


def test_what_the_dead_had_is_taken_away_at_once_and_nothing_else() -> None:
    both = replace(CLAIMED, holds={"me#1": LEASED, "me#2": LEASED, "you#1": LEASED, "me#3": PAUSE})
    theirs = {"you#1": LEASED, "me#3": PAUSE}

    assert {**FREED, "holds": theirs} == changed(both, remove_dead(both, NOW, {"me"}))
    others = replace(both, owner="you")
    assert {"holds": theirs} == changed(others, remove_dead(others, NOW, {"me"}))
    assert {"holds": {key: both.holds[key] for key in ("me#1", "me#2", "me#3")}} == changed(
        both, remove_dead(both, NOW, {"you"})
    )
    assert remove_dead(both, NOW, {"m", "me#1", "they"}) is None
    assert remove_dead(both, NOW, ()) is None
    assert remove_dead(FREE, NOW, {"me"}) is None


def test_the_row_of_a_lost_claim_tells_whose_it_was() -> None:
    row = LedgerRow("task", NOW, 1, NOW, 1, "LOST", None, NOW + 9, started_at=NOW, attempts=1, fence=NOW, instance="me")

    assert row == lost(CLAIMED, NOW + 9)
    assert replace(row, first_tick=NOW - 3, last_tick=NOW - 3, manual=True, reason="deadline") == lost(
        EXTRA, NOW + 9, Reason.DEADLINE
    )
    assert replace(row, jitter=7) == lost(replace(CLAIMED, next_due=NOW + 7), NOW + 9)


# --- holds ---


def test_the_end_of_the_last_hold_tells_that_it_kept_a_tick_back() -> None:
    one = replace(FREE, holds={"me#1": LEASED})
    over = NOW + TTL + 1
    suspect = replace(FREE, holds={"me#1": replace(LEASED, challenged=True)})

    for old, new in (
        (one, unhold(one, NOW, "me#1")),
        (suspect, expire_hold(suspect, over, "me#1")),
        (one, remove_dead(one, NOW, {"me"})),
    ):
        assert {"holds": {}, "held_back_by": "they on me (why)"} == changed(old, new)
    running = replace(CLAIMED, holds=one.holds)
    assert {**FREED, "holds": {}, "held_back_by": "they on me (why)"} == changed(
        running, remove_dead(running, NOW, {"me"})
    )


def test_a_hold_that_began_and_ended_during_a_run_did_not_keep_its_tick_back() -> None:
    """Else nobody would repeat the run if it was lost: a task that was held skips ticks that a retry may run."""
    during = replace(CLAIMED, holds={"me#1": replace(LEASED, since=NOW + 1)})
    assert {"holds": {}} == changed(during, unhold(during, NOW + 2, "me#1"))
    assert {**FREED, "holds": {}} == changed(during, remove_dead(during, NOW + 2, {"me"}))

    before = replace(CLAIMED, claimed_at=NOW + 5, holds={"me#1": replace(LEASED, since=NOW - 1)})
    ahead = changed(before, unhold(before, NOW + 2, "me#1"))
    assert ahead["held_back_by"].startswith("they on me (why)"), "it was claimed ahead, and its run waits for the end"


def test_it_tells_who_held_it_last() -> None:
    both = replace(FREE, holds={"you#1": PAUSE, "me#1": LEASED}, held_back_by="x")
    one = unhold(both, NOW, "me#1")
    assert one is not None
    assert one.held_back_by == "x"
    assert {"holds": {}, "held_back_by": "they"} == changed(one, unhold(one, NOW, "you#1"))
    buried = remove_dead(replace(FREE, holds={"you#2": LEASED, "me#1": LEASED}), NOW, {"me", "you"})
    assert buried is not None
    assert buried.held_back_by == "they on me (why), they on you (why)"
    long = unhold(replace(FREE, holds={"me#1": replace(LEASED, reason="y" * 999)}), NOW, "me#1")
    assert long is not None
    assert long.held_back_by == f"they on me ({'y' * 999})"[:200]


def test_nothing_else_tells_so() -> None:
    later = replace(FREE, holds={"me#1": LEASED}, next_tick=NOW - 9, next_due=NOW + 1)
    assert {"holds": {}} == changed(later, unhold(later, NOW, "me#1"))
    assert {"holds": {}} == changed(later, remove_dead(later, NOW, {"me"}))
    assert {"holds": {"you#1": PAUSE}} == changed(HELD, unhold(HELD, NOW, "me#1"))
    assert FREED == changed(CLAIMED, remove_dead(CLAIMED, NOW, {"me"}))
    assert {"holds": {"x#1": LEASED}} == changed(FREE, hold(FREE, NOW, "x#1", LEASED))


def test_what_was_kept_back_stays_so_until_it_is_over() -> None:
    free, mine = replace(FREE, held_back_by="x"), replace(CLAIMED, held_back_by="x")
    suspect = replace(mine, challenged=True)
    held = replace(free, next_due=NOW + 9, holds={"me#1": LEASED})
    for new in (
        claim(free, NOW, "me", TTL),
        renew(mine, NOW, "me", NOW, TTL),
        return_unstarted(mine, NOW, "me", NOW),
        release(mine, NOW, "me", NOW),
        challenge(mine, NOW + TTL + 1, GRACE),
        expire(suspect, NOW + TTL + 1),
        remove_dead(mine, NOW, {"me"}),
        hold(free, NOW, "x#1", LEASED),
        unhold(held, NOW, "me#1"),
        request_run(free, NOW),
    ):
        assert new is not None
        assert new.held_back_by == "x"


def test_a_hold_is_renewed_and_ended_by_its_key() -> None:
    new = hold(FREE, NOW, "x#1", LEASED)
    assert {"holds": {"x#1": LEASED}} == changed(FREE, new)
    assert {"holds": {**HELD.holds, "x#1": LEASED}} == changed(HELD, hold(HELD, NOW, "x#1", LEASED))
    assert {"holds": {"you#1": PAUSE}} == changed(HELD, unhold(HELD, NOW, "me#1"))
    assert unhold(HELD, NOW, "me#2") is None
    assert renew_hold(HELD, NOW, "me#2", TTL) is None
    suspect = replace(HELD, holds={"me#1": replace(LEASED, challenged=True), "you#1": PAUSE})
    assert {"holds": {"me#1": replace(LEASED, until=NOW + 9 + TTL), "you#1": PAUSE}} == changed(
        suspect, renew_hold(suspect, NOW + 9, "me#1", TTL)
    )


def test_a_hold_lets_a_claim_that_stands_go_on() -> None:
    assert {"holds": {"x#1": LEASED}} == changed(CLAIMED, hold(CLAIMED, NOW, "x#1", LEASED))


def test_a_hold_is_challenged_when_its_lease_is_over_and_taken_away_when_that_is_not_answered() -> None:
    over = NOW + TTL + 1
    assert challenge_hold(HELD, over - 1, "me#1", GRACE) is None
    assert challenge_hold(HELD, over, "me#2", GRACE) is None
    assert expire_hold(HELD, over, "me#1") is None
    assert expire_hold(HELD, over, "me#2") is None
    suspect = challenge_hold(HELD, over, "me#1", GRACE)
    assert suspect is not None
    challenged = replace(LEASED, until=over + GRACE, challenged=True)
    assert {"holds": {"me#1": challenged, "you#1": PAUSE}} == changed(HELD, suspect)
    assert challenge_hold(suspect, over + GRACE + 1, "me#1", GRACE) is None
    assert expire_hold(suspect, over + GRACE, "me#1") is None
    assert {"holds": {"you#1": PAUSE}} == changed(HELD, expire_hold(suspect, over + GRACE + 1, "me#1"))


def test_a_pause_ends_when_its_time_is_over_and_is_never_challenged() -> None:
    over = NOW + TTL + 1
    assert challenge_hold(HELD, over, "you#1", GRACE) is None
    assert expire_hold(HELD, over - 1, "you#1") is None
    assert {"holds": {"me#1": LEASED}} == changed(HELD, expire_hold(HELD, over, "you#1"))
    endless = replace(FREE, holds={"x#1": replace(PAUSE, until=None), "x#2": replace(LEASED, until=None)})
    for key in endless.holds:
        assert expire_hold(endless, 2**62, key) is None
        assert challenge_hold(endless, 2**62, key, GRACE) is None


def test_the_instance_of_a_hold_is_in_its_key_and_its_scheduler_in_that() -> None:
    assert "abc" == instance_of("abc#12") == instance_of("abc#1#2") == instance_of("abc")
    assert "abc" == scheduler_of("abc-2") == scheduler_of("abc")


# --- the rule ---

NEW = Definition("task", "new", (1,), NextTick(NOW - 77, NOW - 70), NextTick(NOW + 30, NOW + 35))


def test_the_first_put_makes_the_record() -> None:
    new = define(None, NOW, NEW)

    assert new is not None
    assert TaskRecord("task", NOW, "new", (1,), NOW - 77, NOW - 70, NOW - 78, NOW) == new


def test_a_task_without_a_tick_to_come_has_a_record_too() -> None:
    new = define(None, NOW, replace(NEW, first=NextTick(NEVER, NEVER)))

    assert new is not None
    assert (NEVER, NEVER) == (new.next_tick, new.next_due)
    assert not is_due(new, NEVER - 1)
    assert define(new, NOW, replace(NEW, schedule="newer")) == replace(
        new, rev=NOW + 1, schedule="newer", next_tick=NOW + 30, next_due=NOW + 35
    )


def test_a_record_keeps_whether_its_next_tick_is_unknown() -> None:
    new = define(None, NOW, replace(NEW, first=NextTick(NOW + 1, NOW + 9, unknown=True)))
    assert new is not None
    assert new.next_unknown

    known = define(new, NOW, replace(NEW, schedule="newer"))
    assert known is not None
    assert not known.next_unknown
    again = define(known, NOW, replace(NEW, schedule="newest", by_rule=NextTick(NOW + 40, NOW + 40, unknown=True)))
    assert again is not None
    assert again.next_unknown


@pytest.mark.parametrize(("next", "due"), [(NOW + 1, NOW + 1), (NOW + 1, NOW + 9), (NEVER, NEVER)])
def test_another_rule_sets_the_coming_tick(next: int, due: int) -> None:
    old = replace(FREE, next_tick=next, next_due=due, claims=3)

    assert {"schedule": "new", "next_tick": NOW + 30, "next_due": NOW + 35, "known_at": NOW, "claims": 0} == changed(
        old, define(old, NOW, NEW)
    )


def test_claims_of_the_same_tick_count_by_another_rule_too() -> None:
    old = replace(FREE, next_tick=NOW + 30, next_due=NOW + 31, claims=3)

    assert {"schedule": "new", "next_due": NOW + 35, "known_at": NOW} == changed(old, define(old, NOW, NEW))


@pytest.mark.parametrize("old", [FREE, replace(FREE, next_tick=NOW - 9, next_due=NOW + 8, claims=2), CLAIMED, EXTRA])
def test_another_rule_leaves_a_tick_that_is_due_or_being_run(old: TaskRecord) -> None:
    assert {"schedule": "new", "known_at": NOW} == changed(replace(old, known_at=0), define(old, NOW, NEW))


def test_another_rule_does_not_bring_back_a_tick_that_ended() -> None:
    old = replace(FREE, next_tick=NOW + 100, next_due=NOW + 100, last_done=NOW + 60)
    new = define(old, NOW, NEW)

    assert new is not None
    assert (NOW + 61, NOW + 61, NOW + 60) == (new.next_tick, new.next_due, new.last_done)


@pytest.mark.parametrize(
    ("version", "spec", "expected"),
    [
        ((0, 9), "new", None),
        ((1,), "rule", None),
        ((1, 1), "rule", {"version": (1, 1), "known_at": NOW}),
        ((1, 1), "new", {"version": (1, 1), "known_at": NOW, "schedule": "new"}),
        ((1,), "new", {"known_at": NOW, "schedule": "new"}),
    ],
)
def test_who_may_change_the_rule_is_decided_by_the_version(
    version: tuple[int, ...], spec: str, expected: dict[str, object] | None
) -> None:
    old = replace(CLAIMED, known_at=NOW)
    new = define(old, NOW + DAY, replace(NEW, version=version, schedule=spec))

    assert expected == (None if new is None else changed(old, new) | {"known_at": NOW})


@pytest.mark.parametrize(("version", "stands"), [((0, 9), True), ((1,), True), ((1, 1), False)])
def test_a_rule_that_is_said_again_replaces_none_of_its_version(version: tuple[int, ...], stands: bool) -> None:
    new = define(FREE, NOW, replace(NEW, version=version), again=True)

    assert stands == (new is None)
    assert define(None, NOW, NEW, again=True) == define(None, NOW, NEW)


def test_that_a_task_is_known_is_said_once_a_day() -> None:
    same = replace(NEW, schedule="rule")
    older = replace(NEW, version=(0,))
    for definition in (same, older):
        assert define(FREE, FREE.known_at + DAY, definition) is None
        assert {"known_at": FREE.known_at + DAY + 1} == changed(FREE, define(FREE, FREE.known_at + DAY + 1, definition))
    another = define(FREE, FREE.known_at + DAY + 1, NEW, again=True)
    assert {"known_at": FREE.known_at + DAY + 1} == changed(FREE, another)


def test_a_record_is_forgotten_when_nobody_has_known_it_for_long_and_nobody_uses_it() -> None:
    later = FREE.known_at + 8 * DAY

    assert is_forgettable(FREE, later, 7 * DAY)
    assert not is_forgettable(FREE, FREE.known_at + 7 * DAY, 7 * DAY)
    assert not is_forgettable(replace(FREE, owner="me"), later, 7 * DAY)
    assert not is_forgettable(replace(FREE, holds={"x#1": PAUSE}), later, 7 * DAY)


# --- what to look at ---


def test_what_no_instance_has_is_not_active() -> None:
    for values in ({"next_due": NOW}, {"manual_at": NOW}):
        assert not is_active(replace(FREE, **values))
    for values in ({"owner": "me"}, {"holds": {"x#1": PAUSE}}):
        assert is_active(replace(FREE, **values))


def test_stale_is_what_is_over() -> None:
    for old in (CLAIMED, HELD, replace(HELD, holds={"x#1": PAUSE}), replace(CLAIMED, challenged=True)):
        assert not is_expired(old, NOW + TTL)
        assert is_expired(old, NOW + TTL + 1)
    assert not is_expired(FREE, 2**62)
    assert not is_expired(replace(FREE, holds={"x#1": replace(PAUSE, until=None)}), 2**62)


# --- in any order ---

INSTANCES = ("a", "b", "c")
ME = st.sampled_from(INSTANCES)
Seen = tuple[TaskRecord, int] | None


class Anybody(RuleBasedStateMachine):
    """Instances that act on current or stale records, and messages that arrive late or twice.

    The model knows, apart from the record, which runs and suspensions go on, what ended, and how often it began.
    """

    seen = Bundle("seen")
    fences = Bundle("fences")
    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.record = FREE
        self.holder: tuple[str, int] | None = None
        self.manual = False
        self.holds: dict[str, StoredHold] = {}
        self.challenged: int | None = None
        self.challenged_holds: dict[str, int] = {}
        self.ended = FREE.last_done
        self.takes = 0
        self.extra_takes = 0
        self.asked = False
        self.fence = 0
        self.number = 0
        self.resumed = False
        self.claims: dict[int, tuple[int, bool]] = {}
        self.over: set[int] = set()

    def swap(self, at: Seen, transition: Callable[[TaskRecord, int], TaskRecord | Refusal | None]) -> TaskRecord | None:
        """Apply a transition as a store does; return the new record if it was stored."""
        old, now = at or (self.record, self.now)
        new = transition(old, now)
        if not isinstance(new, TaskRecord):
            return None
        assert new.rev > old.rev
        assert new.rev >= now
        if old.rev != self.record.rev:
            return None
        assert old == self.record, "a rev stands for one record only"
        self.record = new
        return new

    @rule(target=seen)
    def look(self) -> tuple[TaskRecord, int]:
        return self.record, self.now

    @rule(by=st.integers(1, 2 * TTL))
    def pass_time(self, by: int) -> None:
        self.now += by

    @rule(by=st.sampled_from([-3 * TTL, -7, 5 * TTL]))
    def set_the_clock(self, by: int) -> None:
        self.now += by

    # --- runs ---

    @rule(target=fences, at=st.none() | seen, me=ME, ahead=st.sampled_from([0, 0, 30, -30]))
    def claim(self, at: Seen, me: str, ahead: int) -> object:
        before, now = self.record, (at or (None, self.now))[1]
        new = self.swap(at, lambda old, now: claim(old, now, me, TTL, ahead))
        if new is None:
            return multiple()
        assert self.holder is None, "free"
        assert not self.holds, "not held"
        assert self.asked or before.next_due <= now + ahead, "due"
        assert new.manual == (before.next_due > now + ahead)
        assert new.claimed_at == (now if new.manual else max(now, before.next_due))
        assert new.fence > self.fence
        assert new.fence == new.rev
        assert new.tick > self.ended or new.manual
        self.holder, self.fence, self.manual, self.challenged = (me, new.fence), new.fence, new.manual, None
        self.claims[new.fence] = new.tick, new.manual
        if new.manual:
            assert self.asked
            self.extra_takes += 1
        else:
            self.takes += 1
        return me, new.fence

    def is_holder(self, mine: tuple[str, int]) -> bool:
        return self.holder == mine

    def left(self) -> None:
        self.holder = self.challenged = None

    @rule(at=st.none() | seen, mine=fences)
    def renew(self, at: Seen, mine: tuple[str, int]) -> None:
        new = self.swap(at, lambda old, now: renew(old, now, *mine, TTL))
        if new is not None:
            assert self.is_holder(mine)
            self.challenged = None

    @rule(
        at=st.none() | seen,
        mine=fences,
        me=st.none() | ME,
        further=st.integers(-50, 150),
        jitter=st.sampled_from([0, 0, 40]),
        spec=st.sampled_from("rs"),
    )
    def finish(self, at: Seen, mine: tuple[str, int], me: str | None, further: int, jitter: int, spec: str) -> None:
        before = self.record
        mine = me or mine[0], mine[1]
        spec = before.schedule if spec == "r" else "some other"
        tick, manual = self.claims[mine[1]]

        def transition(old: TaskRecord, now: int) -> TaskRecord | Refusal:
            coming = None if manual else NextTick(old.next_tick + further, old.next_tick + further + jitter)
            return finish(old, now, *mine, tick, spec, coming)

        if at is None:
            found = transition(self.record, self.now)
            assert (found is Refusal.DONE) == (self.fence == mine[1] in self.over), "it is known what was finished"
        new = self.swap(at, transition)
        if new is None:
            return
        assert self.is_holder(mine)
        if self.manual:
            assert (before.next_tick, before.next_due, before.last_done) == (new.next_tick, new.next_due, new.last_done)
            assert (before.claims, before.held_back_by) == (new.claims, new.held_back_by)
            self.extra_takes, self.asked = 0, False
        else:
            assert spec == before.schedule
            assert before.next_tick > self.ended
            assert new.next_tick > before.next_tick
            self.ended, self.takes, self.resumed = before.next_tick, 0, False
        self.over.add(mine[1])
        self.left()

    @rule(at=st.none() | seen, mine=fences)
    def hand_back(self, at: Seen, mine: tuple[str, int]) -> None:
        if self.swap(at, lambda old, now: return_unstarted(old, now, *mine)):
            assert self.is_holder(mine)
            self.takes -= not self.manual
            self.extra_takes -= self.manual
            self.left()

    @rule(at=st.none() | seen, mine=fences)
    def release(self, at: Seen, mine: tuple[str, int]) -> None:
        if self.swap(at, lambda old, now: release(old, now, *mine)):
            assert self.is_holder(mine)
            self.left()

    @rule(at=st.none() | seen)
    def challenge(self, at: Seen) -> None:
        until, now = self.record.lease_until, (at or (None, self.now))[1]
        if self.swap(at, lambda old, now: challenge(old, now, GRACE)):
            assert self.holder is not None
            assert self.challenged is None, "once"
            assert until is not None
            assert until < now, "over"
            self.challenged = now

    @rule(at=st.none() | seen)
    def expire(self, at: Seen) -> None:
        now = (at or (None, self.now))[1]
        if self.swap(at, lambda old, now: expire(old, now)):
            assert self.challenged is not None, "nobody is declared dead at one look"
            assert now > self.challenged + GRACE
            self.left()

    @rule(at=st.none() | seen, dead=st.sets(ME))
    def bury(self, at: Seen, dead: set[str]) -> None:
        if self.swap(at, lambda old, now: remove_dead(old, now, dead)):
            if self.holder is not None and self.holder[0] in dead:
                self.left()
            had = bool(self.holds)
            self.holds = {key: each for key, each in self.holds.items() if not each.leased or key[0] not in dead}
            self.unheld(at, had)

    @rule(at=st.none() | seen)
    def ask(self, at: Seen) -> None:
        if self.swap(at, lambda old, now: request_run(old, now)):
            assert self.holder is None
            assert not self.holds
            assert not self.asked
            self.asked = True

    # --- holds ---

    @rule(target=keys, at=st.none() | seen, me=ME, leased=st.booleans(), ends=st.booleans())
    def hold(self, at: Seen, me: str, leased: bool, ends: bool) -> object:
        self.number += 1
        key = f"{me}#{self.number}"
        now = (at or (None, self.now))[1]
        held = StoredHold(me, None, now + TTL if leased or ends else None, leased)
        if self.swap(at, lambda old, now: hold(old, now, key, held)) is None:
            return multiple()
        self.holds[key] = held
        return key

    @rule(at=st.none() | seen, key=keys)
    def renew_hold(self, at: Seen, key: str) -> None:
        if self.swap(at, lambda old, now: renew_hold(old, now, key, TTL)):
            assert key in self.holds
            self.challenged_holds.pop(key, None)

    @rule(at=st.none() | seen, key=keys)
    def unhold(self, at: Seen, key: str) -> None:
        if self.swap(at, lambda old, now: unhold(old, now, key)):
            del self.holds[key]
            self.unheld(at, True)

    def unheld(self, at: Seen, had: bool) -> None:
        now = (at or (None, self.now))[1]
        self.resumed = self.resumed or (had and not self.holds and self.record.next_due <= now)

    @rule(at=st.none() | seen, key=keys)
    def challenge_hold(self, at: Seen, key: str) -> None:
        held, now = self.record.holds.get(key), (at or (None, self.now))[1]
        if self.swap(at, lambda old, now: challenge_hold(old, now, key, GRACE)):
            assert held is not None
            assert held.until is not None
            assert held.until < now
            assert self.holds[key].leased
            assert key not in self.challenged_holds
            self.challenged_holds[key] = now

    @rule(at=st.none() | seen, key=keys)
    def expire_hold(self, at: Seen, key: str) -> None:
        held, now = self.record.holds.get(key), (at or (None, self.now))[1]
        if self.swap(at, lambda old, now: expire_hold(old, now, key)):
            assert held is not None
            assert held.until is not None
            assert held.until < now
            if self.holds.pop(key).leased:
                assert now > self.challenged_holds[key] + GRACE
            self.unheld(at, True)

    # --- the rule ---

    @rule(
        at=st.none() | seen,
        spec=st.sampled_from(["one", "two"]),
        version=st.integers(0, 3),
        gap=st.integers(1, 150),
        jitter=st.sampled_from([0, 0, 40]),
    )
    def put(self, at: Seen, spec: str, version: int, gap: int, jitter: int) -> None:
        before, now = self.record, (at or (None, self.now))[1]
        coming = NextTick(now + gap, now + gap + jitter)
        definition = Definition("task", spec, (version,), coming, coming)
        new = self.swap(at, lambda old, now: define(old, now, definition))
        if new is None:
            return
        assert new.version >= before.version
        assert is_due(new, now) == is_due(before, now), "a deploy fires no run, and takes none away"
        if version < before.version[0]:
            assert new.schedule == before.schedule
        if (new.next_tick, new.next_due) != (before.next_tick, before.next_due):
            assert self.holder is None
        if new.next_tick != before.next_tick:
            assert new.next_tick > self.ended
            self.takes = 0

    # --- invariants ---

    @invariant()
    def the_record_says_what_happened(self) -> None:
        record = self.record
        assert self.holder == (None if record.owner is None else (record.owner, record.fence))
        assert self.holds.keys() == record.holds.keys()
        assert (self.takes, self.extra_takes, self.asked) == (
            record.claims,
            record.manual_claims,
            record.manual_at is not None,
        )
        assert min(record.claims, record.manual_claims) >= 0
        assert self.resumed == (record.held_back_by is not None)

    @invariant()
    def no_tick_is_due_before_its_time(self) -> None:
        assert self.record.next_tick <= self.record.next_due

    @invariant()
    def a_tick_that_ended_does_not_come_back(self) -> None:
        assert self.ended == self.record.last_done < self.record.next_tick

    @invariant()
    def what_is_free_has_no_lease(self) -> None:
        if self.record.owner is None:
            record = self.record
            assert (None, None, False, False) == (
                record.lease_until,
                record.claimed_at,
                record.challenged,
                record.manual,
            )
        else:
            assert self.record.lease_until is not None
            assert self.record.fence <= self.record.rev


TestAnybody = Anybody.TestCase
TestAnybody.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
TestAnybody.pytestmark = [pytest.mark.timeout(300)]  # Shrinking a failure takes long.
