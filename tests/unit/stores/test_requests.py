"""A request to end a run: made for the run in progress, and gone with its claim, however that ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kaiju_app.stores._record import NextTick, StoredHold, TaskRecord, end_key, true_holds
from kaiju_app.stores._requests import ask_for_end
from kaiju_app.stores._transitions import expire, finish, release, remove_dead, return_unstarted
from support.records import replace

NOW = 1_000_000
TTL = 100
CLAIMED = TaskRecord(
    "task", NOW, "rule", (1,), NOW, NOW, NOW - 10, NOW - 500,
    owner="me", fence=NOW, lease_until=NOW + TTL, claimed_at=NOW, claims=1,
)  # fmt: skip
PAUSE = StoredHold("they", None, None, leased=False)


def asked(old: TaskRecord = CLAIMED, now: int = NOW) -> TaskRecord | None:
    return ask_for_end(old, now, "they", "why", TTL)


def test_it_is_made_for_the_run_in_progress() -> None:
    new = asked()

    assert new is not None
    assert {end_key(NOW): StoredHold("they", "why", NOW + TTL, leased=False, since=NOW)} == new.holds
    assert {} == true_holds(new.holds)


@pytest.mark.parametrize("values", [{"owner": None}, {"claimed_at": NOW + 1}, {"claimed_at": None}])
def test_it_is_refused_while_no_run_is_in_progress(values: dict[str, object]) -> None:
    assert asked(replace(CLAIMED, **values)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "end",
    [
        lambda old: finish(old, NOW, "me", NOW, NOW, "rule", NextTick(NOW + 9, NOW + 9)),
        lambda old: release(old, NOW, "me", NOW),
        lambda old: return_unstarted(old, NOW, "me", NOW),
        lambda old: expire(replace(old, challenged=True), NOW + 2 * TTL),
        lambda old: remove_dead(old, NOW, ["me"]),
    ],
    ids=["finished", "released", "returned", "expired", "dead"],
)
def test_it_goes_with_the_claim_and_a_pause_stays(end: Callable[[TaskRecord], TaskRecord]) -> None:
    new = asked(replace(CLAIMED, holds={"#pause": PAUSE}))
    assert new is not None
    after = end(new)

    assert after.owner is None
    assert {"#pause": PAUSE} == after.holds
